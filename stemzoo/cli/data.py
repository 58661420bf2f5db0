"""`stemzoo data`: simulate a dataset from a recipe, and look inside one. Each command calls one function of simulation, io or report."""

from __future__ import annotations

from pathlib import Path

import typer

from stemzoo.cli.progress import bars, print_json

data_app = typer.Typer(help="Datasets: simulate one from a recipe, see what is inside.", no_args_is_help=True, rich_markup_mode=None)
SHEET_FRAMES = 12
JSON = typer.Option(False, "--json", help="Print one JSON object on stdout.")


@data_app.command("simulate", epilog="Example: stemzoo data simulate datasets/sr3fe2o7.toml --frames 64 --out sr3fe2o7.h5")
def simulate(
    recipe: Path = typer.Argument(..., metavar="TOML", help="The recipe: structure, zone axis, optics, sampling, dose, seed."),
    frames: int = typer.Option(..., "--frames", metavar="N", help="Number of frames."),
    out: Path = typer.Option(..., "--out", metavar="H5", help="The dataset to write."),
    seed: int | None = typer.Option(None, "--seed", metavar="N", help="Another seed than the recipe's."),
    as_json: bool = JSON,
) -> None:
    """Simulate frames with exact truth from a recipe."""
    from stemzoo.io.datasets import inspect
    from stemzoo.simulation import simulate_dataset

    with bars(f"simulate {recipe.stem}") as progress:
        tick = None if progress is None else (lambda done, total: progress("simulate", done, total))
        path = simulate_dataset(recipe, frames, out, seed, progress=tick)
    summary = inspect(path)
    if as_json:
        print_json({"dataset": str(path), "frames": summary.n_frames, "columns": summary.n_columns})
    else:
        print(f"{path}: {summary.n_frames} frames, {summary.n_columns} columns")


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

    from stemzoo.io.datasets import inspect

    summary = inspect(dataset)
    if sheet is not None:
        _draw_sheet(dataset, sheet)
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


def _draw_sheet(dataset: Path, path: Path) -> None:
    """Draw up to twelve frames spread over the dataset."""
    from stemzoo.io.datasets import Dataset
    from stemzoo.report.sheet import SheetFrame, write_sheet

    data, frames = Dataset(dataset), []
    for index in sorted({round(k * (len(data) - 1) / (SHEET_FRAMES - 1)) for k in range(SHEET_FRAMES)}):
        facts, (yx, species) = data.attributes(index), data.columns(index)
        counts = f", {float(facts['counts_per_column']):.0f} counts" if "counts_per_column" in facts else ""
        title = f"{facts.get('material', '')}  {float(facts['pixel_size']):.3f} Å{counts}"
        frames.append(SheetFrame(data.image(index), yx, species, title))
    write_sheet(frames, path)


def _span(limits: tuple[float, float] | None, unit: str) -> str:
    if limits is None:
        return "not stated"
    low, high = limits
    return f"{low:.4g} {unit}".strip() if low == high else f"{low:.4g} to {high:.4g} {unit}".strip()
