"""`stemzoo data`: draft a recipe, simulate it, label real frames, look inside a dataset. Each command calls one function."""

from __future__ import annotations

from pathlib import Path

import typer

from stemzoo.cli.progress import bars, print_json

data_app = typer.Typer(
    help="Datasets: draft a recipe, simulate it, label real frames, see what is inside.", no_args_is_help=True, rich_markup_mode=None
)
JSON = typer.Option(False, "--json", help="Print one JSON object on stdout.")


@data_app.command("simulate", epilog="Example: stemzoo data simulate datasets/sr3fe2o7.toml --frames 64 --out sr3fe2o7.h5")
def simulate(
    recipe: Path = typer.Argument(..., metavar="TOML", help="The recipe: structure, zone axis, optics, sampling, dose, seed."),
    frames: int = typer.Option(..., "--frames", metavar="N", help="Number of frames."),
    out: Path = typer.Option(..., "--out", metavar="H5", help="The dataset to write."),
    seed: int | None = typer.Option(None, "--seed", metavar="N", help="Another seed than the recipe's."),
    settings: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="Another value, e.g. dose.counts_per_column=300; repeatable."
    ),
    as_json: bool = JSON,
) -> None:
    """Simulate frames with exact truth from a recipe."""
    from stemzoo.io.inventory import inspect
    from stemzoo.simulation import simulate_dataset

    with bars(f"simulate {recipe.stem}") as progress:
        tick = None if progress is None else (lambda done, total: progress("simulate", done, total))
        path = simulate_dataset(recipe, frames, out, seed, tick, _settings(settings))
    summary = inspect(path)
    if as_json:
        print_json({"dataset": str(path), "frames": summary.n_frames, "columns": summary.n_columns})
    else:
        print(f"{path}: {summary.n_frames} frames, {summary.n_columns} columns")


@data_app.command("recipe", epilog="Example: stemzoo data recipe rutile.cif --zone 0,0,1 --out rutile.toml")
def recipe(
    cif: Path = typer.Argument(..., metavar="CIF", help="The crystal structure."),
    zone: str = typer.Option(..., "--zone", metavar="h,k,l", help="Lattice direction along the beam, e.g. 1,1,0."),
    out: Path = typer.Option(..., "--out", metavar="TOML", help="The recipe to write."),
    as_json: bool = JSON,
) -> None:
    """Draft a recipe from a crystal structure; edit it, then simulate it (needs stemzoo[train])."""
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
    frame: Path = typer.Argument(..., metavar="FRAME", help="A microscope file, one frame or a stack."),
    columns: Path = typer.Argument(..., metavar="COLUMNS.csv", help="Its columns: y_px and x_px at least; frame and species if there are."),
    out: Path = typer.Option(..., "--out", metavar="H5", help="The dataset to write."),
    pixel_size: float | None = typer.Option(None, "--pixel-size", metavar="Å", help="Å per pixel; overrides the file's."),
    material: str = typer.Option("", "--material", metavar="NAME", help="What the frame shows."),
    as_json: bool = JSON,
) -> None:
    """Make a dataset of a real frame and the columns known in it."""
    from stemzoo.io.inventory import inspect
    from stemzoo.label import label_frames

    summary = inspect(label_frames([(frame, columns)], out, pixel_size=pixel_size, material=material))
    if as_json:
        print_json({"dataset": str(out), "frames": summary.n_frames, "columns": summary.n_columns})
    else:
        print(f"{out}: {summary.n_frames} frames, {summary.n_columns} columns")


@data_app.command("inspect", epilog="Example: stemzoo data inspect sr3fe2o7.h5 --sheet sr3fe2o7.png")
def inspect_dataset(
    dataset: Path = typer.Argument(..., metavar="H5", help="A dataset."),
    sheet: Path | None = typer.Option(
        None, "--sheet", metavar="PNG", help="Also draw a contact sheet of up to 12 frames with their columns."
    ),
    as_json: bool = JSON,
) -> None:
    """Say how many frames and columns a dataset holds, at which doses, samplings and classes."""
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
    rows = [("frames", f"{summary.n_frames} of {shapes} px"), ("columns", str(summary.n_columns))]
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
