"""Pictures of a card: files in the bundle's folder that its prose shows, listed with their hashes.

Only for a version that is not published yet: a picture is one of its files, and those never change. Called by zoo.publish,
evaluate.gallery and the scripts that make the zoo.
"""

from __future__ import annotations

import re
from pathlib import Path

from stemzoo.errors import CardError
from stemzoo.zoo.card import CARD_FILE, Card, File, dump_card, read_card
from stemzoo.zoo.check import sha256_of
from stemzoo.zoo.contents import check_content


def add_picture(folder: Path, picture: str, section: str) -> Card:
    """Return the card of the bundle in `folder` once it lists the picture and its prose ends with `section`.

    Args: picture: name of a PNG or JPEG that lies in `folder`. section: Markdown that shows it.
    Raises: CardError if the picture is missing or none, not shown, or listed already.
    """
    card, prose = read_card(folder)
    if any(file.name == picture for file in card.files):
        raise CardError(f"{folder}: the card of {card.id} lists {picture} already; a version's files never change")
    prose = f"{prose.rstrip()}\n\n{section}"
    added = new_pictures(card, prose, folder)
    if picture not in [file.name for file in added]:
        raise CardError(f"{folder / picture}: not there, or not shown by its section; wanted the file, and ![…]({picture}) in the prose")
    card = card.model_copy(update={"files": (*card.files, *added)})
    (folder / CARD_FILE).write_text(dump_card(card, prose), encoding="utf-8")
    return card


def new_pictures(card: Card, prose: str, folder: Path) -> list[File]:
    """Return listings of the pictures in `folder` that the prose shows and the card does not list. Raises: CardError if one is none."""
    listed = {file.name for file in card.files}
    shown = dict.fromkeys(re.findall(r"!\[[^\]]*\]\(([\w.-]+\.(?:png|jpg))\)", prose))
    found = [folder / name for name in shown if name not in listed and (folder / name).is_file()]
    for path in found:
        check_content(path)
    return [File(name=path.name, sha256=sha256_of(path), size=path.stat().st_size) for path in found]
