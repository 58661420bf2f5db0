"""Models from the zoos of the web into the cache. Owns what may be fetched, who fetches when several want it, and that it lands whole.

`pull` is the only thing in stemzoo that brings a model over the network. Called by `stemzoo zoo pull|list|search|show`.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from stemzoo.errors import CardError, ModelError, OutputError
from stemzoo.zoo.card import CARD_FILE, Card, parse_card, read_card
from stemzoo.zoo.catalog import near_names, roots, split_name, versions
from stemzoo.zoo.check import check_files, check_graphs
from stemzoo.zoo.index import Listed, change
from stemzoo.zoo.settings import WebRoot, cache_root, offline, web_roots
from stemzoo.zoo.web import Unreachable, address, download, read_index, work_root

Note = Callable[[str], None]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Offer:
    """A version that a zoo of the web lists."""

    listed: Listed
    root: WebRoot


@dataclass(frozen=True)
class Pulled:
    """What a pull ended with: the version's card and folder, where it came from, and whether anything had to be fetched."""

    card: Card
    folder: Path
    source: str
    fetched: bool


def offers(note: Note) -> list[Offer]:
    """Return what the zoos of the web list, in their order. A zoo that cannot be asked is left out, and `note` is told why.

    Raises: ModelError for a zoo whose index is refused.
    """
    found = []
    for root in web_roots():
        try:
            found += [Offer(listed, root) for listed in read_index(root, note)]
        except Unreachable as error:
            note(str(error))
    return found


def pull(name: str, *, progress: Progress | None = None, note: Note = lambda text: None) -> Pulled:
    """Return `name` (its newest version anywhere) or `name@2` as a folder on this machine, fetched if no directory holds it yet.

    Every zoo that lists the same version with the same hashes is a mirror of the first that does.

    Raises: ModelError if no zoo has it, if what a server gives is not what the index lists, or if the network is forbidden; CardError if
    the card and the files disagree; OutputError if the cache cannot be written. After a refusal nothing of it is left in the cache.
    """
    stem, wanted = split_name(name)
    here = {version: folder for root in reversed(roots()) for known, version, folder in versions(root) if known == stem}
    offered = offers(note)
    listed = [offer for offer in offered if offer.listed.name == stem]
    numbers = {offer.listed.version for offer in listed} | here.keys()
    if not numbers:
        known = {offer.listed.name for offer in offered} | {known for root in roots() for known, *_ in versions(root)}
        where = ", ".join(str(root) for root in web_roots()) or "no zoo of the web (STEMZOO_ZOO names none)"
        raise ModelError(f"unknown model {name!r}; {near_names(stem, known)}; asked: {where}")
    version = wanted if wanted is not None else max(numbers)
    if version not in numbers:
        have = ", ".join(f"{stem}@{number}" for number in sorted(numbers))
        raise ModelError(f"unknown version {name!r}; there is {have}")
    found = [offer for offer in listed if offer.listed.version == version]
    if version in here and (not found or _is_here(found[0], here[version])):
        return Pulled(read_card(here[version])[0], here[version], str(here[version]), False)
    if offline():
        raise ModelError(f"{stem}@{version} is in {found[0].root}, and STEMZOO_OFFLINE forbids fetching it; unset it and pull again")
    same = [offer for offer in found if (offer.listed.files, offer.listed.card) == (found[0].listed.files, found[0].listed.card)]
    for other in found:
        if other not in same:
            note(f"{other.root} lists {stem}@{version} with other bytes than {found[0].root}, and is not asked for it")
    return _fetch(same, progress, note)


def _is_here(offer: Offer, folder: Path) -> bool:
    """Return whether a directory holds what is offered, whole; False for a damaged copy in the cache, which may be fetched again.

    Raises: CardError if it holds another model under that name and version, or is damaged where it cannot be replaced.
    """
    try:
        card, _ = read_card(folder)
        problem = change(card.files, offer.listed.files)
        if problem is None:
            check_files(card, folder)
    except CardError:
        if not folder.is_relative_to(cache_root()):
            raise
        return False
    if problem:
        raise CardError(f"{offer.root}: {card.id} lies in {folder} with other bytes: it {problem}")
    return True


def _fetch(mirrors: list[Offer], progress: Progress | None, note: Note) -> Pulled:
    """Fetch one version from the first mirror that gives it; one process does it, and those that wait find it done."""
    listed = mirrors[0].listed
    place = cache_root() / listed.name / f"v{listed.version}"
    try:
        (work_root() / "locks").mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache_root()).free
        if free < listed.size_bytes:
            raise OutputError(f"{cache_root()}: {free:,} bytes free; {listed.id} needs {listed.size_bytes:,}; name another STEMZOO_CACHE")
        with FileLock(work_root() / "locks" / f"{listed.id}.lock"):
            if place.is_dir() and _is_here(mirrors[0], place):
                return Pulled(read_card(place)[0], place, str(place), False)
            source = _from_any(mirrors, place, progress, note)
    except OSError as error:
        raise OutputError(f"{cache_root()}: cannot be written ({error.strerror or error}); name another cache in STEMZOO_CACHE") from None
    return Pulled(read_card(place)[0], place, str(source), True)


def _from_any(mirrors: list[Offer], place: Path, progress: Progress | None, note: Note) -> WebRoot:
    for number, offer in enumerate(mirrors):
        try:
            _from_one(offer, place, progress)
        except (ModelError, CardError) as error:
            if number + 1 == len(mirrors):
                raise
            note(f"{error}; trying {mirrors[number + 1].root}")
            continue
        return offer.root
    raise AssertionError("an offer has a root")


def _from_one(offer: Offer, place: Path, progress: Progress | None) -> None:
    """Fetch a version into a folder beside its place, check it there, and rename it. A refusal removes the folder; a broken connection, or
    the end of the process, leaves it to be continued."""
    listed = offer.listed
    # Named by the bytes it will hold, so that halves of other bytes are never continued.
    staging = work_root() / f"{listed.id}-{listed.card.sha256[:12]}"
    staging.mkdir(parents=True, exist_ok=True)
    wanted = {CARD_FILE: (listed.card.sha256, listed.card.size), **{file.name: (file.sha256, file.size) for file in listed.files}}
    for path in staging.iterdir():
        if path.name.removesuffix(".part") not in wanted:
            path.unlink()
    try:
        for name, (sha256, size) in wanted.items():
            tick = (
                None if progress is None else (lambda done, total, name=name: progress(f"{name} [kB]", -(-done // 1000), -(-total // 1000)))
            )
            download(offer.root, f"{listed.path}/{name}", staging, sha256, size, tick)
            if name == CARD_FILE:
                card = _card_of(offer, staging / CARD_FILE)
        check_files(card, staging)
        check_graphs(card, staging)
    except Unreachable:
        raise
    except (ModelError, CardError):
        shutil.rmtree(staging)
        raise
    place.parent.mkdir(parents=True, exist_ok=True)
    staging.chmod(0o755)
    if place.exists():
        damaged = work_root() / uuid.uuid4().hex
        os.replace(place, damaged)
        shutil.rmtree(damaged)
    os.replace(staging, place)


def _card_of(offer: Offer, path: Path) -> Card:
    """Return the fetched card, once it says of the files what the index says. Raises: CardError."""
    where = address(offer.root, f"{offer.listed.path}/{CARD_FILE}")
    try:
        card, _ = parse_card(path.read_text(encoding="utf-8"), where)
    except UnicodeDecodeError as error:
        raise CardError(f"{where}: not text ({error})") from None
    if card.id != offer.listed.id:
        raise CardError(f"{where}: the card says {card.id}; the zoo's index says {offer.listed.id}: nothing was kept")
    ours, theirs = ({file.name: (file.sha256, file.size) for file in files} for files in (card.files, offer.listed.files))
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            said, listed = (values[0] if (values := table.get(name)) else "no such file" for table in (ours, theirs))
            raise CardError(f"{where}: for {name} the card says {said}, the zoo's index {listed}: nothing was kept")
    return card
