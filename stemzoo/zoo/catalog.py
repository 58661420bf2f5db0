"""Names to bundle folders. Owns the order of the zoo roots and what a name means.

Roots, first hit wins: the directories that STEMZOO_ZOO and the configuration file name, the cache, the zoo that came with the package. A
root is a tree `<name>/v<N>/`. Resolving a name reads folder names only and never touches the network: a model of the web is fetched by
`stemzoo zoo pull` alone. `entries` reads the cards. Called by the CLI and by anyone who loads a model by name.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stemzoo.errors import ModelError
from stemzoo.zoo.settings import cache_root, named_roots, web_roots

if TYPE_CHECKING:
    from stemzoo.zoo.card import Card

MODEL_FILE = "model.onnx"


@dataclass(frozen=True)
class Entry:
    """A model version in a zoo: its card, its folder and the root it was found under."""

    card: Card
    folder: Path
    root: Path


def roots() -> list[Path]:
    """Return the directories of every zoo, in the order in which names are looked up.

    Raises: ModelError if a directory that the user named does not exist.
    """
    named = [root for root in named_roots() if isinstance(root, Path)]
    return [*named, *(root for root in (cache_root(), own_root()) if root.is_dir())]


def own_root() -> Path:
    """Return the zoo that came with the package: inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    wheel = package / "_model_cards"
    return wheel if wheel.is_dir() else package.parent / "model_cards"


def versions(root: Path) -> list[tuple[str, int, Path]]:
    """Return (name, version, folder) of each `<name>/v<N>` under `root` that holds a card, by name, newest first. Reads folder names
    only."""
    found = []
    for card in root.glob("*/v*/README.md"):
        stated = re.fullmatch(r"v([1-9]\d*)", card.parent.name)
        if stated and not card.parent.parent.name.startswith("."):
            found.append((card.parent.parent.name, int(stated[1]), card.parent))
    return sorted(found, key=lambda item: (item[0], -item[1]))


def resolve(name: str | Path) -> Path:
    """Return the bundle folder of `name` (its newest version), `name@2` (that one) or a path to a folder.

    Raises: ModelError if there is none, with the near names.
    """
    text = str(name)
    folder = Path(text).expanduser()
    if isinstance(name, Path) or os.sep in text or "/" in text or text in (".", "..") or (folder / MODEL_FILE).is_file():
        if (folder / MODEL_FILE).is_file():
            return folder
        _refuse_run(text, folder)
        raise ModelError(f"{text}: no bundle there; wanted a folder that holds {MODEL_FILE}, or a name from stemzoo zoo list")
    known = _held()
    stem, wanted = split_name(text)
    if stem not in known:
        _refuse_run(text, folder)
        raise ModelError(f"unknown model {text!r}; {near_names(stem, known)} (stemzoo zoo list shows all){_elsewhere(text)}")
    if wanted is None:
        return next(iter(known[stem].values()))[0]
    if wanted not in known[stem]:
        have = ", ".join(f"{stem}@{version}" for version in sorted(known[stem]))
        raise ModelError(f"unknown version {text!r}; there is {have}{_elsewhere(text)}")
    return known[stem][wanted][0]


def _refuse_run(text: str, folder: Path) -> None:
    """Say of a folder that training left what makes a model of it. Raises: ModelError."""
    if (folder / "checkpoints").is_dir():
        raise ModelError(
            f"{text}: a run of stemzoo train, not a model yet; make it one with stemzoo export {text} --out {text.rstrip('/')}-model"
        )


def split_name(text: str) -> tuple[str, int | None]:
    """Return name and version of `name@2`; None for the newest version, 0, which no model has, for a version that is no number."""
    stem, at, number = text.partition("@")
    return stem, (int(number) if number.isdigit() else 0) if at else None


def near_names(stem: str, known: Iterable[str]) -> str:
    """Return which name may have been meant, or all there are."""
    names = sorted(set(known))
    near = difflib.get_close_matches(stem, names, n=3, cutoff=0.5) or [name for name in names if stem and stem in name]
    return f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(names) or 'none'}"


def _elsewhere(text: str) -> str:
    """Return how to look for a model in the zoos of the web, if any are named: nothing here asks them."""
    return f"; if a zoo of the web has it: stemzoo zoo pull {text}" if text and web_roots() else ""


def entries() -> list[Entry]:
    """Return every model version of every zoo, by name, newest first; where two roots hold one id, the first root's.

    Raises: CardError for a card that breaks the schema.
    """
    return [_entry(*place) for held in _held().values() for place in held.values()]


def newest() -> list[Entry]:
    """Return the newest version of every model of every zoo, by name. Raises: CardError for a card that breaks the schema."""
    return [_entry(*next(iter(held.values()))) for held in _held().values()]


def _held() -> dict[str, dict[int, tuple[Path, Path]]]:
    """Return the folder of each version of each model and the root it is under, by name, newest first; the first root's where two hold
    one. Reads folder names only: a card takes milliseconds."""
    known: dict[str, dict[int, tuple[Path, Path]]] = {}
    for root in roots():
        for name, version, folder in versions(root):
            known.setdefault(name, {}).setdefault(version, (folder, root))
    return {name: dict(sorted(held.items(), reverse=True)) for name, held in sorted(known.items())}


def _entry(folder: Path, root: Path) -> Entry:
    from stemzoo.zoo.card import read_card

    return Entry(read_card(folder)[0], folder, root)


def entries_under(root: Path) -> list[Entry]:
    """Return every model version of one zoo, by name, newest first. Raises: CardError for a card that breaks the schema."""
    return [_entry(folder, root) for _, _, folder in versions(root)]


def default(task: str) -> Path:
    """Return the bundle folder of the default model for `task`: the first by name, and of it the newest, whose card says so.

    Raises: ModelError if no zoo has one; CardError for a card that breaks the schema, if it is come upon before.
    """
    for held in _held().values():
        for place in held.values():
            card = _entry(*place).card
            if card.task == task and card.default:
                return place[0]
    raise ModelError(f"no zoo has a default model for {task}; name one (stemzoo zoo list shows all)")
