"""`stemzoo data`: draft a recipe, simulate it, label real frames, merge, inspect and validate datasets. Each command calls one function."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stemzoo.cli.options import AsJson, PixelSize
from stemzoo.cli.progress import bar, print_json, say

if TYPE_CHECKING:
    from stemzoo.io.labels import Program

data_app = typer.Typer(help="Datasets: draft, simulate, label, merge, inspect, validate.", no_args_is_help=True, rich_markup_mode=None)
MOST_FINDINGS = 20
DatasetOut = Annotated[Path, typer.Option("--out", metavar="H5", help="The dataset to write.")]


@data_app.command("simulate", epilog="Example: stemzoo data simulate sr3fe2o7 --frames 64 --out sr3fe2o7.h5")
def simulate(
    recipe: Annotated[
        Path,
        typer.Argument(
            metavar="TOML",
            help="The recipe: structure, zone axis, optics, sampling, dose, seed; or the name of one that comes with stemzoo.",
        ),
    ],
    frames: Annotated[int, typer.Option("--frames", metavar="N", help="Number of frames.")],
    out: DatasetOut,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Another seed than the recipe's.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Another value, e.g. dose.counts_per_column=300; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Simulate frames with exact truth from a recipe."""
    from stemzoo.io.inventory import inspect
    from stemzoo.simulation import simulate_dataset

    with bar(f"simulate {recipe.stem}", "simulate") as tick:
        path = simulate_dataset(recipe, frames, out, seed, tick, _settings(settings or []))
    summary = inspect(path)
    if as_json:
        print_json({"dataset": str(path), "frames": summary.n_frames, "columns": summary.n_columns})
    else:
        print(f"{path}: {summary.n_frames} frames, {summary.n_columns} columns")


@data_app.command("recipe", epilog="Example: stemzoo data recipe rutile.cif --zone 0,0,1 --out rutile.toml")
def recipe(
    cif: Annotated[Path, typer.Argument(metavar="CIF", help="The crystal structure.")],
    zone: Annotated[str, typer.Option("--zone", metavar="h,k,l", help="Lattice direction along the beam, e.g. 1,1,0.")],
    out: Annotated[Path, typer.Option("--out", metavar="TOML", help="The recipe to write.")],
    as_json: AsJson = False,
) -> None:
    """Draft a recipe from a crystal structure. Edit it, then simulate it (needs stemzoo[train])."""
    from stemzoo.simulation.draft import draft_recipe

    notices = draft_recipe(cif, _zone(zone), out)
    if as_json:
        print_json({"recipe": str(out), "notices": notices})
        return
    print(out)
    for notice in notices:
        print(f"  {notice}")


@data_app.command("label", epilog="Example: stemzoo data label frame.dm4 columns.csv --out labelled.h5")
def label(
    frame: Annotated[Path, typer.Argument(metavar="FRAME", help="A microscope file, one frame or a stack.")],
    columns: Annotated[
        Path, typer.Argument(metavar="COLUMNS.csv", help="Its columns: from stemzoo locate, atomap, StatSTEM, ImageJ or by hand.")
    ],
    out: DatasetOut,
    pixel_size: PixelSize = None,
    material: Annotated[str, typer.Option("--material", metavar="NAME", help="What the frame shows.")] = "",
    program: Annotated[
        str | None,
        typer.Option("--program", metavar="NAME", help="What wrote the table, where its names leave a doubt: atomap, statstem or imagej."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a dataset of a real frame and the columns known in it."""
    from stemzoo.io.inventory import inspect
    from stemzoo.label import label_frames

    labelled = label_frames([(frame, columns)], out, pixel_size=pixel_size, material=material, program=_program(program))
    summary = inspect(labelled.path)
    if as_json:
        facts = {"dataset": str(out), "frames": summary.n_frames, "columns": summary.n_columns}
        print_json({**facts, "notices": labelled.notices, "doubts": labelled.doubts})
        return
    say(labelled.doubts, ())
    print(f"{out}: {summary.n_frames} frames, {summary.n_columns} columns")
    for notice in labelled.notices:
        print(f"  {notice}")


@data_app.command("merge", epilog="Example: stemzoo data merge a.h5 b.h5 --out both.h5")
def merge_datasets(
    datasets: Annotated[list[Path], typer.Argument(metavar="H5…", help="Datasets, simulated or labelled, of any schema version.")],
    out: DatasetOut,
    as_json: AsJson = False,
) -> None:
    """Make one dataset of several. An image that stands in more than one is written once."""
    from stemzoo.io.merge import merge

    with bar(f"merge {len(datasets)} datasets", "merge") as tick:
        merged = merge(datasets, out, tick)
    if as_json:
        print_json({"dataset": str(out), "frames": merged.n_frames, "repeated": merged.n_repeated})
    else:
        repeated = f"; {merged.n_repeated} stood twice and were written once" if merged.n_repeated else ""
        print(f"{out}: {merged.n_frames} frames{repeated}")


@data_app.command("validate", epilog="Example: stemzoo data validate train.h5 held_back.h5")
def validate(
    datasets: Annotated[
        list[Path],
        typer.Argument(metavar="H5…", help="A dataset, or one to train on and others held back, which may share no frame and no specimen."),
    ],
    as_json: AsJson = False,
) -> None:
    """Check that datasets are in order. Their schema, that truth lies on intensity, that nothing leaks from training to validation."""
    from dataclasses import asdict

    from stemzoo.errors import DatasetError
    from stemzoo.validate import validate_datasets

    with bar(f"validate {len(datasets)} datasets", "validate") as tick:
        verdict = validate_datasets(datasets, tick)
    if as_json:
        print_json(asdict(verdict))
    for finding in verdict.findings[:MOST_FINDINGS] if not as_json else ():
        print(f"{finding.kind:<8}{finding.text}")
    if verdict.findings:
        first = verdict.findings[0]
        raise DatasetError(f"{len(verdict.findings)} findings in {verdict.n_frames} frames; the first ({first.kind}): {first.text}")
    if not as_json:
        print(
            f"{', '.join(map(str, datasets))}: {verdict.n_frames} frames, {verdict.n_columns} columns; schema, truth and leaks are in order"
        )
        print(f"  agreement with the intensity {verdict.on:.3f} (1 is full, 0 is chance), off by {verdict.offset_px:.2f} px at most")


@data_app.command("inspect", epilog="Example: stemzoo data inspect sr3fe2o7.h5 --sheet sr3fe2o7.png")
def inspect_dataset(
    dataset: Annotated[Path, typer.Argument(metavar="H5", help="A dataset.")],
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="PNG", help="Also draw a contact sheet of up to 12 frames with their columns.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a dataset holds. How many frames and columns, at which doses, samplings and classes."""
    from dataclasses import asdict

    from stemzoo.io.inventory import inspect
    from stemzoo.report.sheet import draw_sheet

    summary = inspect(dataset)
    if sheet is not None:
        draw_sheet(dataset, sheet)
    if as_json:
        print_json({**asdict(summary), "sheet": None if sheet is None else str(sheet)})
        return
    shapes = ", ".join(f"{height}×{width}" for height, width in summary.shapes)
    rows = [("frames", f"{summary.n_frames} of {shapes} px"), ("scenes", str(summary.n_scenes))]
    rows += [("simulated", f"{summary.n_simulated}, noise drawn anew in training"), ("columns", str(summary.n_columns))]
    rows += [(f"  {name}", f"{count} ({count / max(summary.n_columns, 1):.0%})") for name, count in summary.columns_by_class.items()]
    rows += [(f"  {name or 'unnamed'}", f"{count} frames") for name, count in summary.frames_by_material.items()]
    rows.append(("pixel size", _span(summary.pixel_size, "Å/px")))
    rows.append(("dose", _span(summary.dose, "e⁻/Å²")))
    rows.append(("counts a column", _span(summary.counts_per_column, "")))
    print(f"{summary.path}: {summary.material}")
    for name, value in rows:
        print(f"  {name:<18}{value}")
    if sheet is not None:
        print(f"  contact sheet     {sheet}")


def _zone(text: str) -> tuple[int, int, int]:
    """Return three indices from `h,k,l`."""
    try:
        h, k, l = (int(part) for part in text.replace(" ", ",").split(",") if part)  # noqa: E741
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no zone axis; wanted three whole numbers, e.g. 1,1,0", param_hint="--zone") from None
    return h, k, l


def _program(name: str | None) -> Program | None:
    """Return the name of a program that writes tables of columns."""
    from typing import get_args

    from stemzoo.io.labels import Program

    known = {program: program for program in get_args(Program)}
    if name is not None and name.lower() not in known:
        raise typer.BadParameter(f"{name!r} is no program known here; wanted {', '.join(known)}", param_hint="--program")
    return None if name is None else known[name.lower()]


def _settings(texts: list[str]) -> dict[str, object]:
    """Return `KEY=VALUE` texts as settings; a value is read as TOML, or else taken as text."""
    import tomllib

    settings: dict[str, object] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{text!r} is no setting; wanted KEY=VALUE, e.g. frame.sampling=0.2", param_hint="--set")
        try:
            settings[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            settings[key] = value
    return settings


def _span(limits: tuple[float, float] | None, unit: str) -> str:
    if limits is None:
        return "not stated"
    low, high = limits
    return f"{low:.4g} {unit}".strip() if low == high else f"{low:.4g} to {high:.4g} {unit}".strip()
