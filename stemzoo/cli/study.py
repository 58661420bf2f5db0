"""`stemzoo study`: questions to a frame whose answer is one figure. torch is imported inside the commands, so that help answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stemzoo.cli.options import AsJson, Force, FrameRange, PixelSize
from stemzoo.cli.progress import bars, print_json, say

study_app = typer.Typer(help="Questions to a frame, each answered by one figure.", no_args_is_help=True, rich_markup_mode=None)


@study_app.command("window", epilog="Example: stemzoo study window frame.dm4 --out window_study")
def window(
    file: Annotated[str, typer.Argument(metavar="FRAME", help="A frame or a stack.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for study.png and study.csv.")],
    sizes: Annotated[
        str | None,
        typer.Option(
            "--sizes", metavar="LIST", help="Windows to try, e.g. 6Å,9Å,12Å or 30px,45px. [default: by column spacing and lattice]"
        ),
    ] = None,
    columns: Annotated[Path | None, typer.Option("--columns", metavar="CSV", help="The columns; located first where left out.")] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="The segmenter that locates the columns.")] = None,
    latents: Annotated[int, typer.Option("--latents", metavar="N", help="Latents of the encoders that are fitted.")] = 2,
    symmetry: Annotated[
        int | None,
        typer.Option("--symmetry", metavar="N", help="Order that they take every column for: 1, 2, 3, 4 or 6. [default: each kind's own]"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of their training.")] = 0,
    pixel_size: PixelSize = None,
    frames: FrameRange = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Say which size of sub-images suits the structure. Small encoders are fitted to several; all maps are shown side by side."""
    from stemzoo.analyze import AnalyzeOptions, study_window

    options = AnalyzeOptions(
        model,
        fit_encoder=True,
        latents=latents,
        symmetry=symmetry,
        seed=seed,
        pixel_size=pixel_size,
        frames=frames,
        report=False,
        force=force,
    )
    with bars(Path(file).name) as progress:
        found = study_window(file, out, options, sizes=sizes, columns=columns, progress=progress)
    if as_json:
        facts = {"out": str(out), "proposed_px": found.proposed.window_px, "sizes": found.rows}
        print_json({**facts, "doubts": found.doubts, "notices": found.notices})
        return
    say(found.doubts, found.notices)
    for row in found.rows:
        mark = "  ← proposed" if row["window_px"] == found.proposed.window_px else ""
        print(f"{row['title']:>24}  score {row['score']:.2f}  stability {row['stability']:.2f}  fidelity {row['fidelity']:.2f}{mark}")
    print(f"  {out / 'study.png'}")
