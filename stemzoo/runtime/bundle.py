"""A model folder to a model that can run and can prove itself. Owns the bundle's file names, ModelSpec and the golden replay.

A bundle is one folder: README.md (card), model.onnx, weights.safetensors, golden.npz and, for encoders, decoder.onnx. The card's facts
travel inside model.onnx as JSON under `stemzoo_card`, so that nothing here needs YAML. Called by segmenter, encoder, the CLI and
stemzoo.zoo's users.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

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
        _check_listed(folder, MODEL_FILE, digest)
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
            _check_listed(self.folder, DECODER_FILE, sha256_of(path))
            self._decoder = open_session(path, self.options)
        return self._decoder

    def require(self, task: str) -> None:
        """Raise ModelError unless the model is made for `task`."""
        if self.spec.task != task:
            option = "--model" if task == "segmentation" else "--encoder"
            raise ModelError(
                f"{self.spec.id} is a model for {self.spec.task}; wanted one for {task}; pass another to {option} (stemzoo zoo list shows "
                "tasks)"
            )


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


def _check_listed(folder: Path, name: str, digest: str) -> None:
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


@dataclass(frozen=True)
class GoldenCheck:
    """One output of the golden replay: how many of its `n` elements differ beyond tolerance, and the worst of them."""

    array: str
    n: int
    n_differ: int
    worst: float
    worst_index: Tuple[int, ...]


@dataclass(frozen=True)
class Verification:
    """What the golden replay of a bundle found; `provider` is the execution provider that ran it."""

    id: str
    sha256: str
    provider: str
    checks: Tuple[GoldenCheck, ...]
    notices: Tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every element lies within tolerance."""
        return all(check.n_differ == 0 for check in self.checks)

    def summary(self) -> str:
        """Return one sentence: what was compared, how many elements differ and where the worst is."""
        total = sum(check.n for check in self.checks)
        bad = [check for check in self.checks if check.n_differ]
        if not bad:
            worst = max((check.worst for check in self.checks), default=0.0)
            return f"{self.id}: {total} golden elements agree on {self.provider} (largest difference {worst:.2g})"
        worst_check = max(bad, key=lambda check: check.worst)
        count = sum(check.n_differ for check in bad)
        return (
            f"{self.id}: {count} of {total} golden elements differ on {self.provider}; the worst by {worst_check.worst:.3g}, "
            f"in {worst_check.array} at {worst_check.worst_index}; pull or copy the bundle again"
        )


def verify(bundle: Bundle) -> Verification:
    """Replay golden.npz through the bundle's networks and report element by element.

    Angles are compared modulo 2π/symmetry. Raises: ModelError if golden.npz or a listed file is missing or damaged.
    """
    for name in (GOLDEN_FILE, WEIGHTS_FILE, DECODER_FILE):
        if (bundle.folder / name).is_file():
            _check_listed(bundle.folder, name, sha256_of(bundle.folder / name))
    golden = _read_golden(bundle.folder / GOLDEN_FILE)
    checks: List[GoldenCheck] = []
    notices = list(bundle.session.notices)
    for prefix in ("", "decoder_"):
        cases = _cases(golden, prefix)
        if not cases:
            continue
        session = bundle.decoder if prefix else bundle.session
        for case in cases:
            inputs = {name: golden[f"{prefix}input_{name}_{case}"] for name in session.inputs if f"{prefix}input_{name}_{case}" in golden}
            found = session.run(inputs)
            wanted = {
                name: golden[f"{prefix}output_{name}_{case}"] for name in session.outputs if f"{prefix}output_{name}_{case}" in golden
            }
            if not wanted:
                raise ModelError(f"{bundle.folder / GOLDEN_FILE}: holds no output for case {case} of {sorted(session.outputs)}")
            for name, array in wanted.items():
                checks.append(compare(f"{prefix}{name}_{case}", found[name], array, bundle.spec, wanted.get("symmetry")))
    if not checks:
        raise ModelError(
            f"{bundle.folder / GOLDEN_FILE}: holds no input_…/output_… arrays, only {sorted(golden)[:6]}; export the model again"
        )
    return Verification(bundle.spec.id, bundle.sha256, bundle.session.provider, tuple(checks), tuple(notices))


def _read_golden(path: Path) -> Dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise ModelError(f"{path}: missing, so the model cannot prove itself; pull or copy the bundle again") from error
    except Exception as error:
        raise ModelError(f"{path}: cannot be read ({type(error).__name__}: {error}); pull or copy the bundle again") from error


def _cases(golden: Mapping[str, np.ndarray], prefix: str) -> List[str]:
    """Return the case numbers k of `<prefix>input_<name>_<k>`, in order."""
    start = f"{prefix}input_"
    return sorted({name.rsplit("_", 1)[1] for name in golden if name.startswith(start)})


def compare(name: str, found: np.ndarray, wanted: np.ndarray, spec: ModelSpec, symmetry: Optional[np.ndarray] = None) -> GoldenCheck:
    """Return how `found` differs from `wanted` at the spec's tolerances; every element differs where the shapes do.

    Source: numpy.isclose's rule, |found − wanted| ≤ atol + rtol·|wanted|, with NaN equal to NaN.
    """
    if found.shape != wanted.shape:
        return GoldenCheck(name, int(wanted.size), int(max(wanted.size, 1)), float("inf"), ())
    first, second = np.asarray(found, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        difference = first - second
    if name.split("_")[0] == "angle" and not name.startswith("angle_sigma") and symmetry is not None:
        period = 2 * np.pi / np.maximum(symmetry, 1)
        difference = difference - period * np.round(difference / period)
    same = (np.isnan(first) & np.isnan(second)) | (first == second)
    difference = np.where(same, 0.0, np.where(np.isnan(difference), np.inf, np.abs(difference)))
    differs = difference > spec.golden_atol + spec.golden_rtol * np.abs(np.where(np.isfinite(second), second, 0.0))
    if not difference.size:
        return GoldenCheck(name, 0, 0, 0.0, ())
    worst = np.unravel_index(int(np.argmax(difference)), difference.shape)
    return GoldenCheck(name, int(difference.size), int(differs.sum()), float(difference[worst]), tuple(int(i) for i in worst))
