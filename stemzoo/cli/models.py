"""`stemzoo zoo …` and `stemzoo export`: parse, call one public function, print. Registered by stemzoo.cli.

Listings go to stdout, as a table or with --json as one JSON object; refusals are raised and printed by stemzoo.cli.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from stemzoo.errors import ModelError

zoo_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The registry of models: list, show, verify, index.")

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Task = Annotated[str | None, typer.Option("--task", metavar="TASK", help="Only models for segmentation, or for encoding.")]
Name = Annotated[str, typer.Argument(metavar="MODEL", help="A name (its newest version), name@2, or a bundle's folder.")]


@zoo_app.command("list", epilog="Example: stemzoo zoo list --task encoding")
def list_models(task: Task = None, as_json: Json = False) -> None:
    """List every model version: task, sampling range, size, materials."""
    from stemzoo.zoo.catalog import entries, summary

    if task not in (None, "segmentation", "encoding"):
        raise typer.BadParameter(f"{task!r}; wanted segmentation or encoding", param_hint="--task")
    models = [summary(entry.card) for entry in entries() if task in (None, entry.card.task)]
    if as_json:
        typer.echo(json.dumps({"models": models}, ensure_ascii=False))
        return
    rows = [("model", "task", "Å/px", "window", "size", "materials", "")]
    rows += [
        (
            model["id"],
            model["task"],
            f"{model['sampling']['min']:g}–{model['sampling']['max']:g}",
            f"{model['window']['angstrom']:g} Å" if model["window"] else "–",
            _bytes(model["size_bytes"]),
            ", ".join(model["materials"]),
            "default" if model["default"] else "",
        )
        for model in models
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if not models:
        typer.echo("No model found; name a zoo in STEMZOO_ZOO.", err=True)


@zoo_app.command("show", epilog="Example: stemzoo zoo show adf-unet")
def show(name: Name, as_json: Json = False) -> None:
    """Show a model's card."""
    from stemzoo.zoo import read_card, resolve

    folder = resolve(name)
    card, prose = read_card(folder)
    if as_json:
        typer.echo(json.dumps({**card.model_dump(mode="json"), "folder": str(folder)}, ensure_ascii=False))
        return
    facts: dict[str, Any] = {
        "model": card.id,
        "task": card.task,
        "folder": folder,
        "materials": ", ".join(card.materials),
        "sampling": f"{card.sampling.min:g}–{card.sampling.max:g} Å/px, nominal {card.sampling.nominal:g}",
        "classes": ", ".join(card.classes),
        "window": f"{card.window.px} px, {card.window.angstrom:g} Å" if card.window else "",
        "latents": card.latents if card.latents is not None else "",
        "parameters": f"{card.parameters:,}",
        "size": _bytes(card.size_bytes),
        "licence": card.licence,
        "created": card.created,
    }
    for key, value in facts.items():
        if value != "":
            typer.echo(f"{key:<11}{value}")
    typer.echo(f"\n{prose.rstrip()}")


@zoo_app.command("verify", epilog="Example: stemzoo zoo verify adf-unet")
def verify(name: Name, as_json: Json = False) -> None:
    """Check a model's files and replay its golden tensors."""
    from stemzoo.runtime.bundle import Bundle
    from stemzoo.runtime.bundle import verify as replay
    from stemzoo.zoo import read_card, resolve
    from stemzoo.zoo.check import check_files, check_metadata

    folder = resolve(name)
    card, _ = read_card(folder)
    check_files(card, folder)
    bundle = Bundle.load(folder)
    check_metadata(card, dict(bundle.spec.card), str(bundle.session.path))
    result = replay(bundle)
    if as_json:
        checks = [{"array": check.array, "n": check.n, "n_differ": check.n_differ, "worst": check.worst} for check in result.checks]
        typer.echo(json.dumps({"id": result.id, "sha256": result.sha256, "ok": result.ok, "provider": result.provider, "checks": checks}))
    if not result.ok:
        raise ModelError(result.summary())
    if not as_json:
        for notice in result.notices:
            typer.echo(notice, err=True)
        typer.echo(f"{len(card.files)} files of {card.id} are what its card lists")
        typer.echo(result.summary())


@zoo_app.command("index", epilog="Example: stemzoo zoo index model_cards")
def index(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A zoo: a tree <name>/v<N>/.")], as_json: Json = False) -> None:
    """Write a zoo's index.json from its cards."""
    from stemzoo.zoo.catalog import build_index, write_index

    if not folder.is_dir():
        raise ModelError(f"{folder}: no such directory; wanted a zoo, a tree <name>/v<N>/")
    path = write_index(folder)
    if as_json:
        typer.echo(json.dumps(build_index(folder), ensure_ascii=False))
    else:
        typer.echo(f"{path}: {len(build_index(folder)['models'])} models")


def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="A checkpoint of `stemzoo train`, or its run folder.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The bundle's folder, new or empty; NAME/v2 states name and version.")],
    name: Annotated[str | None, typer.Option("--name", help="The model's name. [default: that of --out or of the run]")] = None,
    version: Annotated[int | None, typer.Option("--model-version", min=1, help="The model's version. [default: 1]")] = None,
    as_json: Json = False,
) -> None:
    """Make a bundle of a checkpoint: card, ONNX graph, weights and golden tensors, once onnxruntime reproduces torch to 1e-4."""
    from stemzoo.export.bundle import export_checkpoint

    stated = {key: value for key, value in (("name", name), ("version", version)) if value is not None}
    card = export_checkpoint(checkpoint, out, stated)
    if as_json:
        typer.echo(json.dumps({**card.model_dump(mode="json"), "folder": str(out)}, ensure_ascii=False))
    else:
        typer.echo(f"{card.id} is in {out} ({_bytes(card.size_bytes)}); onnxruntime reproduces torch within {card.golden.atol:g}")
        typer.echo(f"Use it: stemzoo analyze FRAME {'--model' if card.task == 'segmentation' else '--encoder'} {out}", err=True)


def _bytes(size: int) -> str:
    """Return a size as a reader takes it in."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def bundle(
    models: Annotated[list[str], typer.Argument(metavar="MODEL…", help="Names, name@version or bundle folders; at least one segmenter.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write, new or empty.")],
    as_json: Json = False,
) -> None:
    """Make a folder for an offline microscope PC: models, stemzoo.pyz, a page for the operator; it needs NumPy and onnxruntime only."""
    from stemzoo.zoo.folder import make_folder

    cards = make_folder(models, out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    if as_json:
        typer.echo(json.dumps({"folder": str(out), "models": [card.id for card in cards], "size_bytes": size}))
        return
    typer.echo(f"{out}: {', '.join(card.id for card in cards)}, {_bytes(size)}")
    typer.echo(f"  there: python {out / 'stemzoo.pyz'} verify")
