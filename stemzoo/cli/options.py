"""The options that several files of commands share, so that each has one name, one meaning and one help. An option of a single file is
declared there; a command gives the default.
"""

from __future__ import annotations

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
SegmenterName = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="Segmenter: name, name@version or a bundle's folder. [default: the zoo's]")
]
EncoderName = Annotated[
    str,
    typer.Option(
        "--encoder",
        metavar="NAME",
        help="Encoder: name, name@version, a folder, auto (the zoo's that fits the file, if one does) or none.",
    ),
]
PixelSize = Annotated[float | None, typer.Option("--pixel-size", metavar="Å", help="Å per pixel; overrides the file's.")]
Window = Annotated[str | None, typer.Option("--window", metavar="LENGTH", help="Extent of the sub-images, e.g. 12Å or 48px.")]
FrameRange = Annotated[str | None, typer.Option("--frames", metavar="A:B", help="Frames of a stack, counted from 0, B left out.")]
Threshold = Annotated[
    float | None, typer.Option("--threshold", metavar="P", help="Lowest accepted probability. [default: the model's own]")
]
Report = Annotated[bool, typer.Option("--report/--no-report", help="Draw figures and report.html.")]
Force = Annotated[bool, typer.Option("--force", help="Write into --out even if it holds other files; those stay.")]
Dask = Annotated[
    str | None,
    typer.Option(
        "--dask",
        metavar="CLUSTER",
        help="Work on a Dask cluster: local, local:N, tcp://host:port, slurm or slurm:N (needs stemzoo[dask]).",
    ),
]
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="A name (its newest version), name@2, or a bundle's folder.")]
Limits = Annotated[list[str] | None, typer.Option("--limit", metavar="TEXT", help="Where it fails; once for each.")]
