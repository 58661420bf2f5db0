"""The command line as it is: every command with its options, for tests that hold what is said of it against it."""

from __future__ import annotations

from typing import Any

import typer

from stemzoo.cli import app


def options() -> dict[tuple[str, ...], set[str]]:
    """Return the options of each command and group by its words, `("zoo", "list")`; the root's words are none."""
    found: dict[tuple[str, ...], set[str]] = {}

    def visit(command: Any, words: tuple[str, ...]) -> None:
        found[words] = {"--help", "-h", "--debug", *(option for param in command.params for option in (*param.opts, *param.secondary_opts))}
        for name, below in getattr(command, "commands", {}).items():
            visit(below, (*words, name))

    visit(typer.main.get_command(app), ())
    return found


def commands() -> list[str]:
    """Return every command, groups left out: `zoo list`."""
    known = options()
    return [" ".join(words) for words in known if not any(other[: len(words)] == words for other in known.keys() - {words})]
