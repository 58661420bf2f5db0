"""`stemzoo export`, `quantise`, `bundle` and `doctor`: from a checkpoint to a bundle and its variant in eight bits, from bundles to a
folder for the microscope, and whether all is well here. Registered by stemzoo.cli; refusals are raised and printed there.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from stemzoo.cli.options import AsJson
from stemzoo.cli.progress import bars, print_json, readable_bytes

MARKS = {"ok": " ", "absent": "-", "wrong": "!"}
BundleOut = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="The bundle's folder, new or empty; NAME/v2 states name and version.")
]


def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="A checkpoint of `stemzoo train`, or its run folder.")],
    out: BundleOut,
    name: Annotated[str | None, typer.Option("--name", help="The model's name. [default: that of --out or of the run]")] = None,
    version: Annotated[int | None, typer.Option("--model-version", min=1, help="The model's version. [default: 1]")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a bundle of a checkpoint. Card, ONNX graph, weights and golden tensors, once onnxruntime reproduces torch to 1e-4."""
    from stemzoo.export.bundle import export_checkpoint

    stated = {key: value for key, value in (("name", name), ("version", version)) if value is not None}
    card = export_checkpoint(checkpoint, out, stated)
    if as_json:
        print_json({**card.model_dump(mode="json"), "folder": str(out)})
    else:
        typer.echo(f"{card.id} is in {out} ({readable_bytes(card.size_bytes)}); onnxruntime reproduces torch within {card.golden.atol:g}")
        typer.echo(f"Use it: stemzoo analyze FRAME {'--model' if card.task == 'segmentation' else '--encoder'} {out}", err=True)


def quantise(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A segmenter: name, name@version or bundle folder.")],
    scores: Annotated[
        Path,
        typer.Option("--scores", metavar="H5", help="Labelled frames that no training saw: some set ranges, the others are scored."),
    ],
    out: BundleOut,
    as_json: AsJson = False,
) -> None:
    """Make a segmenter compute in eight bits. Less time on a processor; refused where it finds columns less well than before."""
    from stemzoo.quantise import quantise as make

    with bars(f"{model} in eight bits") as progress:
        made = make(model, scores, out, progress=progress)
    if as_json:
        facts = {"model": made.card.id, "folder": str(out), "eight_bits": made.eight.as_dict(), "single_precision": made.single.as_dict()}
        print_json(facts)
        return
    typer.echo(f"{made.card.id} is in {out} ({readable_bytes(made.card.size_bytes)})")
    for title, score in (("single precision", made.single), ("eight bits", made.eight)):
        typer.echo(f"  {title:<17} F1 {score.f1:.4f}, RMSE {score.rmse_pm:.2f} pm on {score.n_frames} frames, {score.n_columns} columns")


def bundle(
    models: Annotated[list[str], typer.Argument(metavar="MODEL…", help="Names, name@version or bundle folders; at least one segmenter.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write, new or empty.")],
    wheels: Annotated[
        list[str] | None, typer.Option("--wheels", metavar="PLATFORM", help="Also NumPy and onnxruntime, e.g. windows-3.8; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a folder for an offline microscope PC. Models, stemzoo.pyz, a page for the operator; it needs NumPy and onnxruntime."""
    from stemzoo.zoo.microscope import make_folder

    cards = make_folder(models, out, wheels or ())
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    if as_json:
        print_json({"folder": str(out), "models": [card.id for card in cards], "size_bytes": size})
        return
    typer.echo(f"{out}: {', '.join(card.id for card in cards)}, {readable_bytes(size)}")
    typer.echo(f"  there: python {out / 'stemzoo.pyz'} verify")


def doctor(
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="NAMES", help="Replay the default models on these, e.g. cuda. [default: cpu]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Try out what is installed. Versions, extras, providers, zoos, cache, default models; exit code 1 if anything is wrong."""
    from stemzoo.doctor import examine
    from stemzoo.runtime.session import parse_providers

    findings = examine(parse_providers(provider))
    wrong = [finding for finding in findings if finding.status == "wrong"]
    if as_json:
        print_json({"ok": not wrong, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            typer.echo(f"{MARKS[finding.status]} {finding.topic:<13}{finding.said}")
    if wrong:
        if not as_json:
            typer.echo(f"{len(wrong)} of {len(findings)} findings are wrong, marked !", err=True)
        raise typer.Exit(1)
