"""Names to bundle folders. Owns the order of the zoo roots, what a name means, and the listing that `zoo list` and index.json share.

Roots, first hit wins: the directories in STEMZOO_ZOO, the cache (STEMZOO_CACHE), the zoo that came with the package. A root is a tree
`<name>/v<N>/`. Resolving a name reads folder names only; `entries` reads the cards. Called by the CLI and by anyone who loads a model by
name.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemzoo.errors import CardError, ModelError

if TYPE_CHECKING:
    from stemzoo.zoo.card import Card

INDEX_SCHEMA = 1
MODEL_FILE = "model.onnx"


@dataclass(frozen=True)
class Entry:
    """A model version in a zoo: its card, its folder and the root it was found under."""

    card: Card
    folder: Path
    root: Path


def roots() -> list[Path]:
    """Return the directories of every zoo, in the order in which names are looked up.

    Raises: ModelError if STEMZOO_ZOO names a directory that does not exist.
    """
    stated = os.environ.get("STEMZOO_ZOO", "")
    if "://" in stated:
        raise ModelError(
            f"STEMZOO_ZOO is {stated!r}; wanted directories, separated by {os.pathsep!r}: copy or mount a zoo of the web first"
        )
    named = [Path(text).expanduser() for text in re.split(rf"[,{re.escape(os.pathsep)}]", stated) if text.strip()]
    for root in named:
        if not root.is_dir():
            raise ModelError(
                f"STEMZOO_ZOO names {root}, which is not a directory; set it to existing zoo directories, separated by {os.pathsep!r}"
            )
    return [*named, *(root for root in (cache_root(), own_root()) if root.is_dir())]


def cache_root() -> Path:
    """Return where fetched models lie, whether or not it exists yet."""
    stated = os.environ.get("STEMZOO_CACHE")
    if stated:
        return Path(stated).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("stemzoo", appauthor=False)) / "models"


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
        if stated:
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
        raise ModelError(f"{text}: no bundle there; wanted a folder that holds {MODEL_FILE}, or a name from stemzoo zoo list")
    known: dict[str, dict[int, Path]] = {}
    for root in roots():
        for known_name, version, path in versions(root):
            known.setdefault(known_name, {}).setdefault(version, path)
    stem, at, number = text.partition("@")
    if stem not in known:
        near = difflib.get_close_matches(stem, known, n=3, cutoff=0.5) or sorted(name for name in known if stem and stem in name)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(sorted(known)) or 'none'}"
        raise ModelError(f"unknown model {text!r}; {hint} (stemzoo zoo list shows all)")
    if not at:
        return known[stem][max(known[stem])]
    if not number.isdigit() or int(number) not in known[stem]:
        have = ", ".join(f"{stem}@{version}" for version in sorted(known[stem]))
        raise ModelError(f"unknown version {text!r}; there is {have}")
    return known[stem][int(number)]


def entries() -> list[Entry]:
    """Return every model version of every zoo, by name, newest first; where two roots hold one id, the first root's.

    Raises: CardError for a card that breaks the schema.
    """
    found: dict[str, Entry] = {}
    for root in roots():
        for entry in entries_under(root):
            found.setdefault(entry.card.id, entry)
    return sorted(found.values(), key=lambda entry: (entry.card.name, -entry.card.version))


def entries_under(root: Path) -> list[Entry]:
    """Return every model version of one zoo, by name, newest first. Raises: CardError for a card that breaks the schema."""
    from stemzoo.zoo.card import read_card

    return [Entry(read_card(folder)[0], folder, root) for _, _, folder in versions(root)]


def default(task: str) -> Path:
    """Return the bundle folder of the default model for `task`: the newest version whose card says so.

    Raises: ModelError if no zoo has one.
    """
    chosen = [entry for entry in entries() if entry.card.task == task and entry.card.default]
    if not chosen:
        raise ModelError(f"no zoo has a default model for {task}; name one (stemzoo zoo list shows all)")
    return chosen[0].folder


def summary(card: Card) -> dict[str, Any]:
    """Return what a listing says of a model, as JSON types."""
    return {
        "id": card.id,
        "name": card.name,
        "version": card.version,
        "task": card.task,
        "title": card.title,
        "summary": card.summary,
        "materials": list(card.materials),
        "sampling": card.sampling.model_dump(),
        "window": card.window.model_dump() if card.window else None,
        "classes": list(card.classes),
        "latents": card.latents,
        "parameters": card.parameters,
        "size_bytes": card.size_bytes,
        "licence": card.licence,
        "created": card.created.isoformat(),
        "default": card.default,
    }


def build_index(root: Path) -> dict[str, Any]:
    """Return index.json of the zoo under `root`: each version's summary, its files with hashes and its folder below the root.

    Raises: CardError if a card breaks the schema, or if a file that a card lists is missing or of another size.
    """
    models = []
    for entry in entries_under(root):
        for file in entry.card.files:
            path = entry.folder / file.name
            size = path.stat().st_size if path.is_file() else None
            if size != file.size:
                raise CardError(
                    f"{path}: {'missing' if size is None else f'{size} bytes'}; the card of {entry.card.id} lists {file.size} bytes"
                )
        files = [file.model_dump() for file in entry.card.files]
        models.append({**summary(entry.card), "path": entry.folder.relative_to(root).as_posix(), "files": files})
    return {"schema": INDEX_SCHEMA, "models": models}


def write_index(root: Path) -> Path:
    """Write index.json into the zoo under `root` and return its path. Raises: CardError as build_index."""
    path = root / "index.json"
    temporary = path.with_name(f".index.json.{os.getpid()}.part")
    temporary.write_text(json.dumps(build_index(root), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path
