"""Progress on stderr, and what commands print. Called by the command files only."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

Progress = Callable[[str, int, int], None]


@contextmanager
def bars(title: str) -> Iterator[Progress | None]:
    """Give a callable `(stage, done, total)` that draws one bar a stage on stderr; None where stderr is not a terminal.

    The first bar moves and counts the seconds from the beginning: the first frame, which may be all there is, can take a minute.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Display

    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Display(*columns, console=Console(stderr=True), transient=True) as display:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = display.add_task(stage, total=total) if tasks else first
            display.update(tasks[stage], description=stage, completed=done, total=total)

        display.console.print(title, style="bold", highlight=False)
        first = display.add_task("at work", total=None)
        yield show


@contextmanager
def bar(title: str, stage: str) -> Iterator[Callable[[int, int], None] | None]:
    """As `bars`, for work of one stage: give a callable `(done, total)`."""
    with bars(title) as progress:
        yield progress and partial(progress, stage)


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on stdout; NaN, which JSON lacks, becomes null."""
    print(json.dumps(_plain(value), indent=1))


def say(doubts: Iterable[str], notices: Iterable[str]) -> None:
    """Print on stderr what speaks against a result, and what is merely to be known."""
    for kind, sentences in (("warning", doubts), ("note", notices)):
        for sentence in sentences:
            print(f"{kind}: {sentence}", file=sys.stderr)


def readable_bytes(size: int) -> str:
    """Return a size as a reader takes it in."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value != value:
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
