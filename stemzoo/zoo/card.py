"""A model card to a typed object and back. Owns the schema of the front matter, its cross-checks, and README.md's two parts.

The front matter is the only source of what is known of a model; the same facts, without `files`, travel as JSON inside model.onnx.
Called by zoo.catalog, export.bundle, the CLI and the test over every card.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, model_validator

from stemzoo.errors import CardError
from stemzoo.schema import Strict, validate
from stemzoo.zoo.hub import KEYS, hub_keys

CARD_FILE = "README.md"
NAME = r"^[a-z0-9]+(-[a-z0-9]+)*$"


def _check_digest(value: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError("wanted a sha256, 64 hexadecimal digits")
    return value


def _check_file_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value) or ".." in value:
        raise ValueError("wanted a plain file name inside the bundle's folder")
    return value


Digest = Annotated[str, AfterValidator(_check_digest)]
FileName = Annotated[str, AfterValidator(_check_file_name)]
Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
Whole = Annotated[int, Field(ge=1)]


class Sampling(Strict):
    """Sampling that the model was trained on [Å/px]; a frame outside is brought to `nominal`."""

    min: Positive
    max: Positive
    nominal: Positive

    @model_validator(mode="after")
    def _ordered(self) -> Sampling:
        if not self.min <= self.nominal <= self.max:
            raise ValueError(f"min {self.min}, nominal {self.nominal}, max {self.max} Å/px; wanted min ≤ nominal ≤ max")
        return self


class Window(Strict):
    """Extent of an encoder's sub-images, in its own pixels and in Å."""

    px: Annotated[int, Field(ge=4)]
    angstrom: Positive


class File(Strict):
    """One file of the bundle; `size` in bytes."""

    name: FileName
    sha256: Digest
    size: Annotated[int, Field(ge=0)]


class Golden(Strict):
    """The test tensors and how closely they must be reproduced."""

    file: FileName = "golden.npz"
    atol: Positive = 1e-4
    rtol: Annotated[float, Field(ge=0)] = 1e-4


class Training(Strict):
    """Where the weights come from."""

    recipes: tuple[str, ...] = ()
    seed: int | None = None
    hours: Annotated[float, Field(ge=0)] | None = None
    hardware: str | None = None
    steps: Annotated[int, Field(ge=0)] | None = None
    versions: dict[str, str] = Field(default_factory=dict)


class Calibration(Strict):
    """What a segmenter's probability at a maximum amounts to: `confidence`, the share of such maxima that are columns, by `probability`.

    Between the knots it is interpolated, beyond them constant. Fitted on simulated frames that no training saw.
    """

    probability: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=2)]
    confidence: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _rising(self) -> Calibration:
        if len(self.probability) != len(self.confidence):
            raise ValueError(f"{len(self.probability)} probabilities for {len(self.confidence)} confidences; wanted as many of each")
        for name, values in (("probability", self.probability), ("confidence", self.confidence)):
            if list(values) != sorted(values):
                raise ValueError(f"{name} {values} falls; wanted rising values")
        return self


class Score(Strict):
    """One line of the evaluation: a metric on a dataset, its 95 % interval and how many columns, sub-images or frames it rests on."""

    dataset: Text
    role: Text
    metric: Text
    value: float
    interval: tuple[float, float] | None = None
    n: Whole

    @model_validator(mode="after")
    def _inside(self) -> Score:
        if self.interval is not None and not self.interval[0] <= self.value <= self.interval[1]:
            raise ValueError(f"value {self.value} of {self.metric} lies outside its interval {self.interval}")
        return self


class Card(Strict):
    """Front matter of a bundle's README.md. Units are Å and Å/px unless the name says px."""

    id: Text
    name: Annotated[str, Field(pattern=NAME, description="small letters, digits and single hyphens, e.g. rutile-unet")]
    version: Whole
    task: Literal["segmentation", "encoding"]
    title: Text
    summary: Text
    materials: Annotated[tuple[Text, ...], Field(min_length=1)]
    licence: Text
    citation: Text
    created: datetime.date
    parent: Digest | None = None
    sampling: Sampling
    window: Window | None = None
    classes: tuple[Text, ...] = ()
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    min_separation: Positive | None = None
    calibration: Calibration | None = None
    receptive_px: Annotated[int, Field(ge=0)] | None = None
    stride_px: Whole | None = None
    latents: Annotated[int, Field(ge=0)] | None = None
    symmetry: Whole | None = None
    gauge: str | None = None
    normalisation: Text
    parameters: Annotated[int, Field(ge=0)]
    files: tuple[File, ...] = ()
    golden: Golden = Golden()
    training: Training = Training()
    evaluation: tuple[Score, ...] = ()
    limits: tuple[Text, ...] = ()
    default: bool = False

    @property
    def size_bytes(self) -> int:
        """Bytes of all files of the bundle, the card aside."""
        return sum(file.size for file in self.files)

    def file(self, name: str) -> File:
        """Return the listing of file `name`. Raises: CardError if the card lists none."""
        for file in self.files:
            if file.name == name:
                return file
        raise CardError(f"{self.id}: the card lists no file {name}; it lists {', '.join(f.name for f in self.files) or 'none'}")

    def to_metadata(self) -> str:
        """Return the card without `files` as JSON, for the graph's `stemzoo_card`."""
        return json.dumps(self.model_dump(mode="json", exclude={"files"}), ensure_ascii=False, sort_keys=True)


NEEDED = {
    "segmentation": ("classes", "threshold", "min_separation", "receptive_px", "stride_px"),
    "encoding": ("window", "latents", "gauge"),
}


def make_card(data: Mapping[str, Any], where: str) -> Card:
    """Return the card in `data`, once its fields agree with each other.

    Raises: CardError naming the key, the value got and what was wanted; an unknown key with the nearest right one.
    """
    card = validate(Card, data, where, CardError)
    problem = _disagreement(card)
    if problem:
        raise CardError(f"{where}: {problem}")
    return card


def _disagreement(card: Card) -> str | None:
    """Return what does not fit together on a card, or None."""
    if card.id != f"{card.name}@{card.version}":
        return f"id is {card.id!r}; name and version make it {card.name}@{card.version}"
    missing = [key for key in NEEDED[card.task] if getattr(card, key) in (None, (), "")]
    if missing:
        return f"a model for {card.task} needs {', '.join(missing)}"
    other = "encoding" if card.task == "segmentation" else "segmentation"
    foreign = [key for key in NEEDED[other] if getattr(card, key) not in (None, ())]
    if foreign:
        return f"{', '.join(foreign)} does not belong on the card of a model for {card.task}"
    for what, values in (("classes", card.classes), ("files", tuple(file.name for file in card.files))):
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            return f"{what} names {twice[0]!r} twice"
    return None


@lru_cache(maxsize=64)
def parse_card(text: str, where: str) -> tuple[Card, str]:
    """Return the card in a README's front matter and the prose below it; of the same text, the same card.

    Raises: CardError naming the line or the key, the value got and what was wanted.
    """
    match = re.match(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)(.*)\Z", text, re.DOTALL | re.MULTILINE)
    if match is None:
        raise CardError(f"{where}: has no front matter; wanted a first line ---, the card in YAML, and a closing line ---")
    try:
        data = yaml.load(match[1], Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError) as error:
        # All but the first are of values that YAML takes for a date or a number which is none, such as 2026-13-01.
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 2}" if mark is not None else ""
        raise CardError(f"{where}{line}: the front matter is not YAML ({getattr(error, 'problem', None) or error})") from None
    if not isinstance(data, dict):
        raise CardError(f"{where}: the front matter is a {type(data).__name__}; wanted keys and values")
    repeated = {key: data.pop(key) for key in KEYS if key in data}
    card = make_card(data, where)
    wanted = hub_keys(card.task, card.licence)
    wrong = [key for key, value in repeated.items() if value != wanted.get(key)]
    if wrong:
        raise CardError(f"{where}: {wrong[0]} is {repeated[wrong[0]]!r}; the rest of the card makes it {wanted.get(wrong[0])!r}")
    return card, match[2].lstrip("\r\n")


def read_card(folder: Path) -> tuple[Card, str]:
    """Return the card and the prose of the bundle in `folder`.

    Raises: CardError if README.md is missing, breaks the schema, or lies in a folder `<name>/v<N>` of another name or version.
    """
    path = folder / CARD_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(f"{path}: cannot be read ({error}); a bundle's folder holds its card as {CARD_FILE}") from error
    card, prose = parse_card(text, str(path))
    folder = folder.resolve()
    stated = re.fullmatch(r"v(\d+)", folder.name)
    if stated and (int(stated[1]) != card.version or folder.parent.name != card.name):
        raise CardError(
            f"{path}: the card says {card.id}; its folder {folder.parent.name}/{folder.name} wants {folder.parent.name}@{stated[1]}"
        )
    return card, prose


def dump_card(card: Card, prose: str) -> str:
    """Return the text of README.md: front matter in the schema's order and for the Hub, then the prose."""
    data = {key: value for key, value in card.model_dump(mode="python").items() if value is not None and value != ()}
    front_matter = yaml.dump(
        _plain({**data, **hub_keys(card.task, card.licence)}), Dumper=yaml.SafeDumper, sort_keys=False, allow_unicode=True, width=120
    )
    return f"---\n{front_matter}---\n\n{prose.strip()}\n"


def _plain(value: Any) -> Any:
    """Return `value` with tuples as lists, which YAML has, and without keys that say nothing."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
