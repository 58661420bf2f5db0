"""What there is to choose from: the models on this machine and those that the zoos of the web list, filtered and ranked.

Called by `stemzoo zoo list` and `search`, and by `show` for a model that was not fetched.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemzoo.errors import ModelError
from stemzoo.zoo.card import CARD_FILE, Card, read_card
from stemzoo.zoo.catalog import entries, own_root, resolve, split_name
from stemzoo.zoo.index import summary
from stemzoo.zoo.settings import cache_root, web_roots


@dataclass(frozen=True)
class Wish:
    """What a model must be like; what is None does not matter.

    Args:
        words: each must occur in id, title, summary or materials.
        task: `segmentation` or `encoding`. material: as on the cards, case aside. licence: SPDX, case aside.
        sampling: Å/px that the model was trained on.
        local: only models that are on this machine; no zoo of the web is asked.
    """

    words: tuple[str, ...] = ()
    task: str | None = None
    material: str | None = None
    sampling: float | None = None
    licence: str | None = None
    local: bool = False

    def fits(self, model: dict[str, Any]) -> bool:
        """Return whether a model's summary fits."""
        text = " ".join([model["id"], model["title"], model["summary"], *model["materials"]]).casefold()
        return (
            all(word.casefold() in text for word in self.words)
            and self.task in (None, model["task"])
            and (self.material is None or self.material.casefold() in [name.casefold() for name in model["materials"]])
            and (self.licence is None or self.licence.casefold() == model["licence"].casefold())
            and (self.sampling is None or model["sampling"]["min"] <= self.sampling <= model["sampling"]["max"])
        )


def listing(wish: Wish, note: Callable[[str], None] = lambda text: None) -> list[dict[str, Any]]:
    """Return the summary of every model version that fits, by name, newest first, as JSON types.

    Each says where it is: `held` is `directory`, `cache` or `own` (it came with the package) for a model on this machine, `web` for one
    that `stemzoo zoo pull` would fetch; `root` names the zoo. `note` is told of zoos that cannot be asked.

    Raises: CardError, ModelError for a zoo that is damaged.
    """
    found: dict[str, dict[str, Any]] = {}
    for entry in entries():
        held = {cache_root(): "cache", own_root(): "own"}.get(entry.root, "directory")
        found[entry.card.id] = {**summary(entry.card), "held": held, "root": str(entry.root)}
    if not wish.local and web_roots():
        from stemzoo.zoo.fetch import offers

        for offer in offers(note):
            listed = offer.listed.model_dump(mode="json", exclude={"path", "card", "files"})
            found.setdefault(offer.listed.id, {**listed, "held": "web", "root": str(offer.root)})
    chosen = [model for model in found.values() if wish.fits(model)]
    return sorted(chosen, key=lambda model: (model["name"], -model["version"]))


def ranked(models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return models with the most specialised first: those for the fewest materials, then the newest of each name."""
    return sorted(models, key=lambda model: (len(model["materials"]), model["name"], -model["version"]))


def look(name: str, note: Callable[[str], None] = lambda text: None) -> tuple[Card, str, Path | None, str]:
    """Return card, prose, folder and zoo of a model; for one that only a zoo of the web has, its card alone is fetched and folder is None.

    Raises: ModelError, CardError.
    """
    try:
        folder = resolve(name)
        return *read_card(folder), folder, str(folder)
    except ModelError:
        if not web_roots() or "/" in name:
            raise
    from stemzoo.zoo.fetch import offers
    from stemzoo.zoo.web import download

    stem, version = split_name(name)
    found = [offer for offer in offers(note) if offer.listed.name == stem and version in (None, offer.listed.version)]
    if not found:
        resolve(name)  # says what there is
    offer = max(found, key=lambda offer: offer.listed.version)
    with tempfile.TemporaryDirectory() as folder_name:
        place = Path(folder_name) / offer.listed.path
        place.mkdir(parents=True)
        download(offer.root, f"{offer.listed.path}/{CARD_FILE}", place, offer.listed.card.sha256, offer.listed.card.size)
        return *read_card(place), None, str(offer.root)
