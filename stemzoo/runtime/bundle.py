"""A model folder to a model that can run. Owns the bundle's file names, ModelSpec and which files the card vouches for.

A bundle is one folder: README.md (card), model.onnx, weights.safetensors, golden.npz and, for encoders, decoder.onnx. The card's facts
travel inside model.onnx as JSON under `stemzoo_card`, so that nothing here needs YAML. Called by segmenter, encoder, the CLI and
stemzoo.zoo's users.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, Optional, Tuple, Union

import numpy as np

from stemzoo.errors import ModelError
from stemzoo.runtime.session import Session, SessionOptions, open_session
from stemzoo.types import ModelId

MODEL_FILE = "model.onnx"
DECODER_FILE = "decoder.onnx"
GOLDEN_FILE = "golden.npz"
CARD_FILE = "README.md"
WEIGHTS_FILE = "weights.safetensors"
METADATA_KEY = "stemzoo_card"
TASKS = ("segmentation", "encoding")
_NEEDED = {"segmentation": ("classes", "receptive_px", "stride_px"), "encoding": ("window", "latents")}


@dataclass(frozen=True)
class ModelSpec:
    """What the instrument layer must know of a model, from the card inside its graph.

    Args:
        id: `name@version`.
        task: `segmentation` or `encoding`.
        sampling: (min, max, nominal) Å/px that the model was trained on.
        classes: names of the species (segmentation).
        threshold: lowest probability of an accepted column (segmentation).
        min_separation: closest accepted pair [Å] (segmentation).
        calibration: probabilities at a maximum, rising, and the confidences they amount to; empty where they are the same (segmentation).
        receptive_px: how far an input pixel reaches, the overlap of tiles [network px] (segmentation).
        stride_px: height and width of the input must be multiples of it (segmentation).
        window_px: side S of the sub-images (encoding).
        window_angstrom: their extent [Å] (encoding).
        latents: number Z of latents (encoding).
        symmetry: order of the rotational symmetry where the card states one for all sub-images (encoding).
        golden_atol, golden_rtol: tolerances of the golden replay.
        card: the whole card, as it stands in the graph.
    """

    id: str
    task: str
    sampling: Tuple[float, float, float]
    classes: Tuple[str, ...] = ()
    threshold: float = 0.5
    min_separation: float = 0.8
    calibration: Tuple[Tuple[float, ...], Tuple[float, ...]] = ((), ())
    receptive_px: int = 0
    stride_px: int = 1
    window_px: int = 0
    window_angstrom: float = 0.0
    latents: int = 0
    symmetry: Optional[int] = None
    golden_atol: float = 1e-4
    golden_rtol: float = 1e-4
    card: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def nominal(self) -> float:
        """Sampling that a frame outside the trained range is brought to [Å/px]."""
        return self.sampling[2]

    def confidence(self, probability: np.ndarray) -> np.ndarray:
        """Return the probability that a column is there, float32, for the map's probability at its maxima, same shape."""
        stated, found = self.calibration
        calibrated = np.interp(probability, stated, found) if stated else probability
        return np.asarray(calibrated, dtype=np.float32)

    @classmethod
    def from_card(cls, card: Mapping[str, Any], where: str) -> ModelSpec:
        """Return the spec in a card; fields this version does not know are kept in `card` and otherwise ignored.

        Raises: ModelError that names the field which is missing or cannot be read.
        """
        task = card.get("task")
        if task not in TASKS:
            raise ModelError(f"{where}: its card has task {task!r}; wanted one of {', '.join(TASKS)}; export the model again")
        missing = [name for name in ("id", "sampling", *_NEEDED[str(task)]) if card.get(name) is None]
        if missing:
            raise ModelError(f"{where}: its card lacks {', '.join(missing)}, which a model for {task} needs; export the model again")
        window: Mapping[str, Any] = card.get("window") or {}
        golden: Mapping[str, Any] = card.get("golden") or {}
        sampling: Mapping[str, Any] = card["sampling"]
        calibration: Mapping[str, Any] = card.get("calibration") or {"probability": (), "confidence": ()}
        try:
            spec = cls(
                id=str(card["id"]),
                task=str(task),
                sampling=(float(sampling["min"]), float(sampling["max"]), float(sampling["nominal"])),
                classes=tuple(str(name) for name in card.get("classes") or ()),
                threshold=_number(card, "threshold", 0.5),
                min_separation=_number(card, "min_separation", 0.8),
                calibration=(
                    tuple(float(value) for value in calibration["probability"]),
                    tuple(float(value) for value in calibration["confidence"]),
                ),
                receptive_px=int(card.get("receptive_px") or 0),
                stride_px=int(card.get("stride_px") or 1),
                window_px=int(window["px"]) if window else 0,
                window_angstrom=float(window["angstrom"]) if window else 0.0,
                latents=int(card.get("latents") or 0),
                symmetry=None if card.get("symmetry") is None else int(card["symmetry"]),
                golden_atol=_number(golden, "atol", 1e-4),
                golden_rtol=_number(golden, "rtol", 1e-4),
                card=dict(card),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"{where}: a field of its card cannot be read ({type(error).__name__}: {error}); export the model again"
            ) from error
        stated, found = spec.calibration
        if len(stated) != len(found) or list(stated) != sorted(stated):
            raise ModelError(
                f"{where}: its card calibrates {len(stated)} probabilities by {len(found)} confidences; wanted as many of each, rising; "
                "export the model again"
            )
        low, high, nominal = spec.sampling
        if not 0 < low <= nominal <= high:
            raise ModelError(
                f"{where}: its card has sampling min {low}, nominal {nominal}, max {high} Å/px; wanted 0 < min ≤ nominal ≤ max"
            )
        return spec


def _number(card: Mapping[str, Any], name: str, default: float) -> float:
    value = card.get(name)
    return default if value is None else float(value)


class Bundle:
    """An opened model folder.

    Attributes:
        folder: where it lies.
        spec: what the card says of it.
        sha256: of model.onnx.
        session: the network.
    """

    def __init__(self, folder: Path, spec: ModelSpec, sha256: str, session: Session, options: SessionOptions) -> None:
        self.folder = folder
        self.spec = spec
        self.sha256 = sha256
        self.session = session
        self.options = options
        self._decoder: Optional[Session] = None

    @classmethod
    def load(cls, folder: Union[str, Path], options: Optional[SessionOptions] = None) -> Bundle:
        """Open the bundle in `folder`.

        Raises: ModelError if the folder or its model.onnx is missing or damaged, carries no card, or is not the file that README.md lists.
        """
        folder = Path(folder)
        options = options or SessionOptions()
        if not folder.is_dir():
            raise ModelError(f"{folder}: no such bundle folder; wanted a folder that holds {MODEL_FILE}")
        path = folder / MODEL_FILE
        if not path.is_file():
            held = ", ".join(sorted(item.name for item in folder.iterdir())[:8]) or "nothing"
            raise ModelError(f"{folder}: not a bundle: it holds {held}; wanted {MODEL_FILE}, {GOLDEN_FILE} and {CARD_FILE}")
        digest = sha256_of(path)
        check_listed(folder, MODEL_FILE, digest)
        session = open_session(path, options)
        return cls(folder, spec_of(session), digest, session, options)

    def __reduce__(self) -> Tuple[Any, ...]:
        return Bundle.load, (self.folder, self.options)

    @property
    def id(self) -> ModelId:
        """The model's name, version and hash, as results record them."""
        return ModelId(self.spec.id, self.sha256)

    @property
    def decoder(self) -> Session:
        """The decoder's network, opened at first use. Raises: ModelError where the bundle has none."""
        if self._decoder is None:
            path = self.folder / DECODER_FILE
            if not path.is_file():
                raise ModelError(
                    f"{self.folder}: {self.spec.id} has no {DECODER_FILE}; patterns can only be decoded by an encoder's bundle"
                )
            check_listed(self.folder, DECODER_FILE, sha256_of(path))
            self._decoder = open_session(path, self.options)
        return self._decoder

    def require(self, task: str) -> None:
        """Raise ModelError unless the model is made for `task`."""
        if self.spec.task != task:
            option = "--model" if task == "segmentation" else "--encoder"
            raise ModelError(f"{self.spec.id} is a model for {self.spec.task}; wanted one for {task}; pass another to {option}")


def spec_of(session: Session) -> ModelSpec:
    """Return the spec in an open network. Raises: ModelError if it carries no readable card."""
    text = session.metadata.get(METADATA_KEY)
    if text is None:
        raise ModelError(f"{session.path}: the graph carries no {METADATA_KEY} metadata; wanted a model written by stemzoo export")
    try:
        card = json.loads(text)
    except json.JSONDecodeError as error:
        raise ModelError(f"{session.path}: its {METADATA_KEY} metadata is not JSON ({error}); export the model again") from error
    if not isinstance(card, dict):
        raise ModelError(
            f"{session.path}: its {METADATA_KEY} metadata is a {type(card).__name__}; wanted an object; export the model again"
        )
    return ModelSpec.from_card(card, str(session.path))


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, hex, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def check_listed(folder: Path, name: str, digest: str) -> None:
    """Raise ModelError if the folder's card lists a hash for `name` and it is another one.

    Only the digests in the front matter are looked at, as text: the instrument layer has no YAML.
    """
    card = folder / CARD_FILE
    if not card.is_file():
        return
    front_matter = card.read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0]
    if name in front_matter and "sha256:" in front_matter and digest not in front_matter:
        raise ModelError(
            f"{folder / name}: its sha256 is {digest}, which {CARD_FILE} does not list; the file changed after publication: pull or copy "
            "the bundle again"
        )
