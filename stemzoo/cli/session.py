"""How networks are run, as far as the command line may say it: `--cores`, `--threads` and `--provider`, the same for every command.

Owns the three options and what they mean for this process. Called by cli.analysis and cli.live; stemzoo.pyz, which has no typer, declares
options of the same names in runtime.app.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stemzoo.runtime.session import SessionOptions

Cores = Annotated[
    str | None, typer.Option("--cores", metavar="LIST", help="Stay on these cores, counted from 0, e.g. 1 or 2,4-7; the others stay free.")
]
Threads = Annotated[int, typer.Option("--threads", metavar="N", help="Threads of the networks; 0 takes as many as there are cores.")]
Provider = Annotated[
    str | None, typer.Option("--provider", metavar="NAMES", help="Run networks on, e.g. openvino; several in order, then the CPU.")
]


def session_of(cores: str | None, threads: int, provider: str | None) -> SessionOptions:
    """Keep this process to the cores asked for, and return how its networks are run. Raises: ModelError for what cannot be had."""
    from stemzoo.runtime.cores import keep_to, parse_cores
    from stemzoo.runtime.session import SessionOptions, parse_providers

    options = SessionOptions(threads=threads, providers=parse_providers(provider))
    if cores is not None:
        keep_to(parse_cores(cores))
    return options
