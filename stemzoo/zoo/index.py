"""index.json, by which a zoo says what it holds. Owns its schema, how it is made of the cards, and what is refused of other people's.

An index is never written by hand: `write_index` makes it, and refuses to let a published version change. What comes from the web is read
by `parse_index`, which believes no name, path or size before it was checked. Called by zoo.web, zoo.publish and `stemzoo zoo`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stemzoo.errors import CardError, ModelError
from stemzoo.schema import Strict, validate
from stemzoo.zoo.card import CARD_FILE, NAME, Card, Digest, File, Sampling, Score, Text, Whole, Window
from stemzoo.zoo.catalog import entries_under
from stemzoo.zoo.contents import SUFFIXES
from stemzoo.zoo.whole import whole_file

INDEX_FILE = "index.json"
SCHEMA = 1
ONE_DOSE = "counts a column"
"""In the name of a dataset: frames of one dose. Scores on such say less of a model than those over all doses."""

MAX_INDEX = 16_000_000  # bytes
MAX_CARD = 1_000_000  # bytes
MAX_FILE = 2**31  # bytes; no ONNX graph in one file can be larger


class CardFile(Strict):
    """The README.md of a version: bytes on the server."""

    sha256: Digest
    size: Annotated[int, Field(ge=1, le=MAX_CARD)]


class Headline(Strict):
    """The one score that a listing shows: of a segmenter its F1 on the most columns, of an encoder the first line of its evaluation."""

    dataset: Text
    metric: Text
    value: float
    n: Whole


class Listed(Strict):
    """What a zoo says of one version: enough to choose it, and to know every byte of it before it is fetched."""

    id: Text
    name: Annotated[str, Field(pattern=NAME)]
    version: Whole
    task: Literal["segmentation", "encoding"]
    title: Text
    summary: Text
    materials: tuple[Text, ...]
    sampling: Sampling
    window: Window | None
    classes: tuple[Text, ...]
    latents: int | None
    parameters: Annotated[int, Field(ge=0)]
    size_bytes: Annotated[int, Field(ge=0)]
    licence: Text
    created: Text
    default: bool
    score: Headline | None
    path: Text
    card: CardFile
    files: Annotated[tuple[File, ...], Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _plain(self) -> Listed:
        if self.id != f"{self.name}@{self.version}":
            raise ValueError(f"id {self.id!r} of {self.name} version {self.version}; wanted {self.name}@{self.version}")
        if self.path != f"{self.name}/v{self.version}":
            raise ValueError(f"path {self.path!r} of {self.id}; wanted {self.name}/v{self.version}")
        names = [file.name.casefold() for file in self.files]
        for file in self.files:
            if not file.name.endswith(SUFFIXES) or file.name.casefold() == CARD_FILE.casefold() or names.count(file.name.casefold()) > 1:
                raise ValueError(f"file {file.name!r} of {self.id}; wanted distinct names ending in {', '.join(SUFFIXES)}")
            if file.size > MAX_FILE:
                raise ValueError(f"{file.name} of {self.id} has {file.size:,} bytes; wanted at most {MAX_FILE:,}")
        if self.size_bytes != sum(file.size for file in self.files):
            raise ValueError(f"size_bytes {self.size_bytes} of {self.id}; its files make {sum(file.size for file in self.files)}")
        return self


class _Models(Strict):
    models: tuple[Listed, ...]


def summary(card: Card) -> dict[str, Any]:
    """Return what a listing says of a model, as JSON types."""
    best = headline(card)
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
        "score": best.model_dump() if best else None,
    }


def headline(card: Card) -> Headline | None:
    """Return the score that a listing shows, or None for a card without evaluation: of a segmenter, the F1 over most columns at all doses,
    if any is."""
    rows: list[Score] = [score for score in card.evaluation if card.task == "encoding" or score.metric.startswith("F1")]
    if not rows:
        return None
    rows = [row for row in rows if ONE_DOSE not in row.dataset] or rows
    row = rows[0] if card.task == "encoding" else max(rows, key=lambda score: score.n)
    return Headline(dataset=row.dataset, metric=row.metric, value=row.value, n=row.n)


def build_index(root: Path) -> dict[str, Any]:
    """Return index.json of the zoo under `root`: each version's summary, its folder below the root, its card and files with hashes.

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
        text = (entry.folder / CARD_FILE).read_bytes()
        models.append(
            {
                **summary(entry.card),
                "path": entry.folder.relative_to(root).as_posix(),
                "card": {"sha256": hashlib.sha256(text).hexdigest(), "size": len(text)},
                "files": [file.model_dump() for file in entry.card.files],
            }
        )
    index = {"schema": SCHEMA, "models": models}
    parse_index(json.dumps(index).encode(), str(root))
    return index


def write_index(root: Path) -> Path:
    """Write index.json into the zoo under `root` and return its path.

    Raises: CardError as `build_index`, if there is no model, and if a version that the zoo's index already lists has other files now.
    """
    path = root / INDEX_FILE
    index = build_index(root)
    if not index["models"]:
        raise CardError(
            f"{root}: holds no model; wanted a zoo, a tree <name>/v<N>/, into which stemzoo zoo publish and stemzoo export put models"
        )
    if path.is_file():
        before = {listed.id: listed.files for listed in parse_index(path.read_bytes(), str(path))}
        for listed in parse_index(json.dumps(index).encode(), str(root)):
            problem = change(before.get(listed.id, listed.files), listed.files)
            if problem:
                raise CardError(f"{path}: {listed.id} {problem}")
    with whole_file(path, "DIR") as temporary:
        temporary.write_text(json.dumps(index, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return path


def change(before: tuple[File, ...], now: tuple[File, ...]) -> str | None:
    """Return how a published version's files are no longer what they were, or None."""
    old, new = ({file.name: file.sha256 for file in files} for files in (before, now))
    for file in sorted(old.keys() | new.keys()):
        if old.get(file) != new.get(file):
            return (
                f"was published with {file} of sha256 {old.get(file, 'none')}, and now has {new.get(file, 'none')}; "
                "a published version never changes: publish the next version"
            )
    return None


def parse_index(content: bytes, where: str) -> tuple[Listed, ...]:
    """Return what an index lists, once every name, path, size and hash in it is of the form it must have.

    Raises: ModelError for an index that is not JSON, of a newer schema, or breaks this one.
    """
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where}: not an index of a zoo ({error}); wanted the JSON that stemzoo zoo index writes") from None
    schema = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise ModelError(f"{where}: its schema is {schema!r}; wanted a number: let stemzoo zoo index write it")
    if schema > SCHEMA:
        raise ModelError(f"{where}: its schema is {schema}; this stemzoo reads up to {SCHEMA}: upgrade stemzoo")
    models = validate(_Models, {key: value for key, value in data.items() if key != "schema"}, where, ModelError).models
    ids = [listed.id for listed in models]
    twice = next((name for name in ids if ids.count(name) > 1), None)
    if twice is not None:
        raise ModelError(f"{where}: lists {twice} twice; let stemzoo zoo index write it")
    return models
