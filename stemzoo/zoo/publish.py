"""A bundle into a zoo's tree, for good. Owns what a card must say before it is public, and that a published version never changes.

The tree is ready for any static host: copy it there, and its address is a root for STEMZOO_ZOO. `write_deposit` makes the same version
ready for an archive such as Zenodo. Called by stemzoo.release and `stemzoo zoo publish`.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stemzoo.errors import CardError, OutputError
from stemzoo.zoo.card import CARD_FILE, Card, dump_card, read_card
from stemzoo.zoo.check import WEIGHTS_FILE, check_files, check_graphs
from stemzoo.zoo.illustrate import new_pictures
from stemzoo.zoo.index import INDEX_FILE, change, parse_index, write_index
from stemzoo.zoo.whole import whole_file, whole_folder

UNSTATED = ("", "unstated", "todo")
HAND_WRITTEN = ("licence", "citation", "materials", "limits")


def missing(stated: Mapping[str, Any]) -> list[str]:
    """Return which keys that only a person can fill in are still empty in what is stated of a model; of a card, `missing(dict(card))`."""
    return [key for key in HAND_WRITTEN if is_blank(stated.get(key))]


def is_blank(value: Any) -> bool:
    """Return whether a key of a card, a text or texts, says nothing."""
    values = [value] if isinstance(value, str) else list(value or ())
    return not values or any(str(text).strip().casefold() in UNSTATED for text in values)


def publish(bundle: Path, root: Path) -> Path:
    """Return the folder of a bundle's version in the zoo under `root`, copied there whole and listed in its index.json.

    Pictures that the card's prose shows go along, listed with their hashes. Publishing the same bytes again changes nothing but the prose.

    Raises: CardError if the card is not filled in, the bundle is not what it says, or its version is published with other bytes;
    OutputError if `root` cannot be written.
    """
    card, prose = read_card(bundle)
    check_files(card, bundle)
    check_graphs(card, bundle)
    empty = missing(dict(card))
    if empty:
        raise CardError(f"{bundle}: the card of {card.id} says nothing of {', '.join(empty)}; fill that in and export again")
    card = card.model_copy(update={"files": (*card.files, *new_pictures(card, prose, bundle))})
    place = root / card.name / f"v{card.version}"
    _check_new(card, place, root)
    text = dump_card(card, prose)
    if place.is_dir():
        with whole_file(place / CARD_FILE, "--to") as readme:
            readme.write_text(text, encoding="utf-8")
    else:
        with whole_folder(place, "--to") as work:
            for file in card.files:
                shutil.copyfile(bundle / file.name, work / file.name)
            (work / CARD_FILE).write_text(text, encoding="utf-8")
    write_index(root)
    return place


def _check_new(card: Card, place: Path, root: Path) -> None:
    """Raise CardError if the version is published with other bytes, or another version of the name with these weights."""
    index = root / INDEX_FILE
    before = {listed.id: listed.files for listed in parse_index(index.read_bytes(), str(index))} if index.is_file() else {}
    if place.is_dir():
        before[card.id] = read_card(place)[0].files
    problem = change(before.get(card.id, card.files), card.files)
    if problem:
        raise CardError(f"{root}: {card.id} {problem}")
    weights = card.file(WEIGHTS_FILE).sha256
    for name, files in before.items():
        if name != card.id and name.startswith(f"{card.name}@") and any(file.sha256 == weights for file in files):
            raise CardError(f"{root}: {name} has these very weights already; there is nothing new to publish as {card.id}")


def write_deposit(folder: Path, out: Path) -> list[Path]:
    """Write a published version as one archive, with the metadata that Zenodo's upload form and interface take, into the folder `out`.

    The same version gives the same bytes. Returns: the archive and the metadata. Raises: CardError; OutputError if `out` cannot be written.
    """
    card, _ = read_card(folder)
    archive, metadata = out / f"{card.name}-v{card.version}.zip", out / f"{card.name}-v{card.version}.zenodo.json"
    described = {
        "title": f"{card.title} ({card.id}, a model for stemzoo)",
        "upload_type": "software",
        "version": str(card.version),
        "description": f"<p>{card.summary}</p><ul>{''.join(f'<li>{limit}</li>' for limit in card.limits)}</ul>",
        "creators": [{"name": card.citation.split(",")[0].strip()}],
        "license": card.licence.lower(),
        "keywords": ["STEM", "electron microscopy", card.task, *card.materials],
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
            for name in (CARD_FILE, *(listed.name for listed in card.files)):
                file.writestr(zipfile.ZipInfo(f"{card.name}/v{card.version}/{name}"), (folder / name).read_bytes())
        metadata.write_text(json.dumps({"metadata": described}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}); name another --deposit") from None
    return [archive, metadata]
