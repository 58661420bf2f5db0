"""`stemzoo train`: segmenters and encoders, through Lightning. torch is imported inside the commands, so that help answers at once.

Options left out take the configuration's own values; `--config` names a TOML with the rest.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stemzoo.cli.options import AsJson
from stemzoo.cli.progress import bars, print_json, say
from stemzoo.cli.train_settings import (
    angstrom,
    configuration,
    devices_of,
    folder_and_before,
    like_parent,
    torch_loaded,
    weights_of,
    with_replay,
)
from stemzoo.errors import DatasetError, ModelError

if TYPE_CHECKING:
    from stemzoo.training import Run

train_app = typer.Typer(help="Train a segmenter or an rVAE encoder (needs stemzoo[train]).", no_args_is_help=True, rich_markup_mode=None)
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="RUN", help="The run's folder: configuration, log, checkpoints. Required, but with --resume that run's."),
]
Config = Annotated[Path | None, typer.Option("--config", metavar="TOML", help="Settings; what is given on the command line wins.")]
Resume = Annotated[
    Path | None,
    typer.Option(
        "--resume",
        metavar="RUN",
        help="Continue an interrupted run, by its folder or a checkpoint in it, as it was told; what is given beside goes before that.",
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="Seed of the run.")]
Devices = Annotated[str | None, typer.Option("--devices", metavar="N", help="Number of devices, or auto.")]
NumNodes = Annotated[int | None, typer.Option("--num-nodes", metavar="N", help="Number of machines.")]
Strategy = Annotated[str | None, typer.Option("--strategy", metavar="NAME", help="Lightning's strategy, e.g. ddp.")]


@train_app.command("segmenter", epilog="Example: stemzoo train segmenter sr3fe2o7.h5 --out run --steps 2000")
def segmenter(
    datasets: Annotated[
        list[Path] | None, typer.Argument(metavar="H5…", help="Datasets from stemzoo data. Required, but for --resume.")
    ] = None,
    out: Out = None,
    config: Config = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="MODEL", help="Fine-tune a model of the zoo, a bundle's folder or a checkpoint.")
    ] = None,
    replay: Annotated[
        str,
        typer.Option(
            "--replay",
            metavar="H5|auto|none",
            help="With --from: what must not be forgotten, a dataset mixed into every batch; auto simulates the zoo's mixture.",
        ),
    ] = "auto",
    resume: Resume = None,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", help="Optimiser steps.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", metavar="N", help="Patches a step.")] = None,
    seed: Seed = None,
    devices: Devices = None,
    num_nodes: NumNodes = None,
    strategy: Strategy = None,
    precision: Annotated[str | None, typer.Option("--precision", metavar="NAME", help="32-true, bf16-mixed or 16-mixed.")] = None,
    accumulate: Annotated[
        int | None, typer.Option("--accumulate", metavar="N", help="Parts that a batch is computed in, where memory is short.")
    ] = None,
    ensemble: Annotated[
        int | None,
        typer.Option(
            "--ensemble", metavar="N", help="Train N networks with a seed each, to be exported as one model; again: those not finished."
        ),
    ] = None,
    member: Annotated[int | None, typer.Option("--member", metavar="K", help="Of an ensemble, train this one alone (0 to N-1).")] = None,
    as_json: AsJson = False,
) -> None:
    """Train a network that finds columns. ^C keeps the last checkpoint."""
    out, before = folder_and_before(resume, out, "H5…", bool(datasets))
    with torch_loaded():
        from stemzoo.training import SegmenterConfig, train_ensemble, train_segmenter

    chosen = {
        "datasets": [str(path) for path in datasets or ()] or None,
        "steps": steps,
        "batch": batch,
        "seed": seed,
        "devices": devices_of(devices),
        "num_nodes": num_nodes,
        "strategy": strategy,
        "precision": precision,
        "accumulate": accumulate,
    }
    settings, weights, progress = configuration(config, SegmenterConfig, chosen, before), weights_of(start), sys.stderr.isatty()
    if weights is not None:
        settings = with_replay(like_parent(settings, weights), replay, out, weights)
    if ensemble is None:
        if member is not None:
            raise ModelError(f"--member {member} is one of an ensemble; say of how many: --ensemble N")
        _finish(train_segmenter(settings, out, resume=resume, start=weights, progress=progress), as_json)
        _go_on(out, "--model", as_json)
        return
    if resume is not None:
        raise ModelError("--resume: an ensemble goes on where it was by itself; leave it out")
    for run in train_ensemble(settings, out, ensemble, member, start=weights, progress=progress):
        _finish(run, as_json)
    if member is None:
        _go_on(out, "--model", as_json)


@train_app.command("rvae", epilog="Example: stemzoo train rvae sr3fe2o7.h5 --window 8Å --out run")
def rvae(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="H5|FILE…", help="Datasets, which give a run; or one frame or stack, which gives a bundle. Required, but for --resume."
        ),
    ] = None,
    out: Out = None,
    config: Config = None,
    window: Annotated[
        str | None, typer.Option("--window", metavar="LENGTH", help="Extent of the sub-images: Å; for a frame also px.")
    ] = None,
    latents: Annotated[int | None, typer.Option("--latents", metavar="N", help="Number of latents. [default: 2]")] = None,
    symmetry: Annotated[
        int | None,
        typer.Option("--symmetry", metavar="N", help="Order that every column is taken for: 1, 2, 3, 4 or 6. [default: each kind's own]"),
    ] = None,
    columns: Annotated[
        Path | None, typer.Option("--columns", metavar="CSV", help="For a frame: its columns; located first where left out.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="For a frame: the segmenter that locates its columns.")
    ] = None,
    pixel_size: Annotated[
        float | None, typer.Option("--pixel-size", metavar="Å", help="For a frame: Å per pixel; overrides the file's.")
    ] = None,
    resume: Resume = None,
    epochs: Annotated[int | None, typer.Option("--epochs", metavar="N", help="Passes over the datasets.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", metavar="N", help="Sub-images a step.")] = None,
    seed: Seed = None,
    devices: Devices = None,
    num_nodes: NumNodes = None,
    strategy: Strategy = None,
    as_json: AsJson = False,
) -> None:
    """Train an rVAE encoder: angle and latents of local structure. ^C keeps the last checkpoint."""
    out, before = folder_and_before(resume, out, "H5|FILE…", bool(inputs))
    inputs = inputs or []
    if not all(_is_dataset(path) for path in inputs):
        if len(inputs) > 1:
            raise DatasetError(f"{', '.join(inputs)}: not all are datasets; an encoder is trained on datasets, or on one frame")
        runs = {"--resume": resume, "--devices": devices, "--num-nodes": num_nodes, "--strategy": strategy}
        given = [name for name, value in runs.items() if value is not None]
        if given:
            raise ModelError(f"{', '.join(given)}: for training on datasets; an encoder is fitted to one frame in memory, on one device")
        fitting = {"latents": latents, "symmetry": symmetry, "epochs": epochs, "batch": batch, "seed": seed}
        _fit_frame(inputs[0], out, config, fitting, window, columns, model, pixel_size, as_json)
        return
    located = {"--columns": columns, "--model": model, "--pixel-size": pixel_size}
    given = [name for name, value in located.items() if value is not None]
    if given:
        raise ModelError(f"{', '.join(given)}: for an encoder of a frame's own columns; a dataset brings columns and pixel sizes along")
    with torch_loaded():
        from stemzoo.training.encoder_run import train_encoder
        from stemzoo.training.encoding_config import EncoderConfig

    chosen = {
        "datasets": inputs or None,
        "window": angstrom(window),
        "latents": latents,
        "symmetry": symmetry,
        "epochs": epochs,
        "batch": batch,
        "seed": seed,
        "devices": devices_of(devices),
        "num_nodes": num_nodes,
        "strategy": strategy,
    }
    settings = configuration(config, EncoderConfig, chosen, before)
    _finish(train_encoder(settings, out, resume=resume, progress=sys.stderr.isatty()), as_json)
    _go_on(out, "--encoder", as_json)


def _fit_frame(
    path: str,
    out: Path,
    config: Path | None,
    chosen: dict[str, Any],
    window: str | None,
    columns: Path | None,
    model: str | None,
    pixel_size: float | None,
    as_json: bool,
) -> None:
    """Fit an encoder to one frame, in memory, and write it as a bundle: as long as `analyze --fit-encoder` does, unless told otherwise."""
    with torch_loaded():
        from stemzoo.training.encoding_config import EncoderConfig
    from stemzoo.analyze import AnalyzeOptions, fit_file
    from stemzoo.analyze.fitting import MOST_STEPS

    length = {"min_steps": 1} if chosen["epochs"] else {"max_steps": MOST_STEPS} if config is None else {}
    settings = configuration(config, EncoderConfig, chosen | length)
    options = AnalyzeOptions(
        model,
        fit_encoder=True,
        latents=settings.latents,
        seed=settings.seed,
        pixel_size=pixel_size,
        window=window,
        symmetry=settings.symmetry,
    )
    with bars(f"fit an encoder to {Path(path).name}") as progress:
        outcome = fit_file(path, out, options, columns, settings, progress)
    if as_json:
        print_json({"bundle": str(out), "doubts": outcome.summary.doubts, "notices": outcome.notices})
        return
    say(outcome.summary.doubts, outcome.notices)
    print(f"{out}: use it with stemzoo analyze {path} --encoder {out}")


def _is_dataset(path: str) -> bool:
    from stemzoo.io.datasets import SUFFIXES, Dataset

    if Path(path).suffix.lower() not in SUFFIXES:
        return False
    if not Path(path).is_file():
        raise DatasetError(f"{path}: no such dataset; make one with stemzoo data simulate")
    try:
        Dataset(path)
    except DatasetError as error:
        if "no stemzoo dataset" in str(error):
            return False
        raise
    return True


def _finish(run: Run, as_json: bool) -> None:
    """Print what a run left behind; after ^C say how to go on and exit with 1."""
    if as_json:
        facts = {"folder": run.folder, "best": run.best, "last": run.last, "scores": run.scores, "seconds": run.seconds}
        print_json({**facts, "interrupted": run.interrupted, **({"memory": asdict(run.memory)} if run.memory else {})})
    elif not run.interrupted:
        print(f"{run.folder}: {', '.join(f'{name} {value:.4g}' for name, value in run.scores.items())}, {run.seconds:.0f} s")
        print(f"  {run.best}")
        if run.memory:
            print(f"{'warning: ' if run.memory.forgot else '  '}{run.memory}", file=sys.stderr if run.memory.forgot else sys.stdout)
    if run.interrupted:
        kept = f"the checkpoint is kept: go on with --resume {run.folder}"
        print(f"interrupted; {kept if run.last.exists() else 'nothing was learned that could be kept'}", file=sys.stderr)
        raise typer.Exit(1)


def _go_on(out: Path, option: str, as_json: bool) -> None:
    """Say what comes after a finished run: to try its network, and to publish it."""
    if not as_json:
        print(f"Try it: stemzoo export {out} --out {out}-model; stemzoo analyze FRAME {option} {out}-model", file=sys.stderr)
        print(f"Publish it: stemzoo zoo publish {out} --to ZOO --name NAME --scores HELD_BACK.h5", file=sys.stderr)
