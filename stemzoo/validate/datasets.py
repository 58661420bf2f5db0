"""What is wrong with datasets before a training finds out: frame by frame, then between frames. Called by `stemzoo data validate`.

One frame is in memory at a time, whatever the size of the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from stemzoo.errors import DatasetError
from stemzoo.io.datasets import Dataset, digest
from stemzoo.io.units import PLAUSIBLE
from stemzoo.validate.placement import doubt, place

MIN_SEPARATION = 0.2
"""Columns nearer than this [Å] are one column that stands twice."""


@dataclass(frozen=True)
class Finding:
    """Something wrong: `kind` is schema, truth or leak; `text` is one sentence that names file, frame and way out."""

    kind: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """What the datasets were found to be.

    Args:
        on: mean agreement of columns with the intensity, 1 at best; NaN where frames hold too few columns to tell.
        offset_px: largest mean offset of intensity from truth in any frame; NaN likewise.
        findings: empty where all is well.
    """

    n_frames: int
    n_columns: int
    on: float
    offset_px: float
    findings: tuple[Finding, ...]


def validate_datasets(paths: Sequence[str | Path], progress: Callable[[int, int], None] | None = None) -> Verdict:
    """Check one dataset, or several of which no two may share a frame or a scene: the first is trained on, the others are held back.

    Raises: DatasetError for a file that cannot be opened as a dataset; damage to single frames is a finding.
    """
    if not paths:
        raise DatasetError("nothing to validate; wanted one or more datasets")
    datasets = [Dataset(path) for path in paths]
    if len({dataset.path.resolve() for dataset in datasets}) < len(datasets):
        raise DatasetError(
            f"{', '.join(str(path) for path in paths)}: a file is named twice; name training and held-back datasets once each"
        )
    total, done, columns = sum(len(dataset) for dataset in datasets), 0, 0
    findings: list[Finding] = []
    shares, offsets = [], []
    seen = _Seen()
    for number, dataset in enumerate(datasets):
        for index in range(len(dataset)):
            where = f"{dataset.path}: frame {dataset.ids[index]}"
            try:
                findings += [Finding("schema", f"{where} {text}") for text in _schema(dataset, index)]
                yx, _ = dataset.columns(index)
                columns += len(yx)
                name = "expected" if dataset.has_expected(index) else "image"
                size = float(dataset.attributes(index)["pixel_size"])
                placement = place(dataset.window(index, (0, 0), dataset.shape(index), name), yx, size)
                findings += [Finding("truth", f"{where}: {text}") for text in [doubt(placement)] if text]
                shares.append(placement.on)
                offsets.append(float(np.hypot(*placement.offset_px)))
                findings += [Finding("leak", f"{where} {text}") for text in seen.again(number, dataset, index)]
            except DatasetError as failure:
                findings.append(Finding("schema", str(failure)))
            done += 1
            if progress is not None:
                progress(done, total)
    told = np.isfinite(shares)
    on = float(np.mean(np.array(shares)[told])) if told.any() else float("nan")
    worst = float(np.max(np.array(offsets)[told])) if told.any() else float("nan")
    return Verdict(total, columns, on, worst, tuple(findings))


def _schema(dataset: Dataset, index: int) -> Iterator[str]:
    """What is wrong with one frame by itself."""
    with dataset.reading(index) as group:
        missing = [name for name in ("image", "columns", "species") if name not in group]
        shapes = {name: tuple(group[name].shape) for name in group}
    if missing:
        raise DatasetError(f"{dataset.path}: frame {dataset.ids[index]} lacks {', '.join(missing)}; make it again")
    if len(shapes["image"]) != 2:
        raise DatasetError(f"{dataset.path}: frame {dataset.ids[index]} has an image of shape {shapes['image']}; wanted (H, W)")
    n = shapes["columns"][0] if shapes["columns"] else 0
    wanted = {"columns": (n, 2), "species": (n,), "counts": (n,), "expected": shapes["image"]}
    for name, shape in wanted.items():
        if name in shapes and shapes[name] != shape:
            raise DatasetError(f"{dataset.path}: frame {dataset.ids[index]} has {name} of shape {shapes[name]}; wanted {shape}")
    size = float(dataset.attributes(index)["pixel_size"])
    if not PLAUSIBLE[0] <= size <= PLAUSIBLE[1]:
        yield f"has a pixel size of {size:g} Å; wanted {PLAUSIBLE[0]:g} to {PLAUSIBLE[1]:g} Å/px: is it in nm?"
    image = dataset.image(index)
    if not np.isfinite(image).all():
        yield f"has {int((~np.isfinite(image)).sum())} pixels that are NaN or infinite; label or simulate it again"
    elif image.min() == image.max():
        yield f"is constant ({image.flat[0]:g}); there is nothing to learn from it"
    if digest(image) != dataset.content(index):
        yield "is not what was written: its pixels no longer have the sha256 in `content`; copy the file again or make it again"
    if "expected" in shapes:
        expected = dataset.window(index, (0, 0), (image.shape[0], image.shape[1]), "expected")
        if not np.isfinite(expected).all() or expected.min() < 0:
            yield "has expected electrons that are negative or not finite; make it again"
    yx, species = dataset.columns(index)
    if len(species) and not 0 <= species.min() <= species.max() < len(dataset.classes):
        yield f"has species {species.min()} to {species.max()}; the file lists {len(dataset.classes)} classes: make it again"
    if not np.isfinite(yx).all():
        raise DatasetError(f"{dataset.path}: frame {dataset.ids[index]} has columns at NaN or infinity; label or simulate it again")
    outside = ((yx < -0.5) | (yx > np.array(image.shape) - 0.5)).any(axis=1)
    if outside.any():
        y, x = yx[outside][0]
        yield f"has {int(outside.sum())} columns outside its {image.shape[0]}×{image.shape[1]} px, the first at y {y:.1f}, x {x:.1f}"
    twice = cKDTree(yx).query_pairs(MIN_SEPARATION / size, output_type="ndarray") if len(yx) else np.zeros((0, 2), int)
    if len(twice):
        y, x = yx[twice[0, 0]]
        yield f"has {len(twice)} pairs of columns nearer than {MIN_SEPARATION} Å, the first at y {y:.1f}, x {x:.1f}; delete one of each"


class _Seen:
    """Contents and scenes met so far, and in which file."""

    def __init__(self) -> None:
        self._contents: dict[str, tuple[int, str]] = {}
        self._scenes: dict[str, tuple[int, str]] = {}

    def again(self, number: int, dataset: Dataset, index: int) -> Iterator[str]:
        """Note a frame; yield what it repeats of an earlier frame and must not."""
        content, scene = dataset.content(index), dataset.scene(index)
        here = f"{dataset.path.name}:{dataset.ids[index]}"
        if content in self._contents:
            earlier, where = self._contents[content]
            way_out = (
                "merge the files, which keeps one" if earlier != number else "rewrite the file with stemzoo data merge, which keeps one"
            )
            yield f"is the same image as {where}; {way_out}"
        elif scene in self._scenes and self._scenes[scene][0] != number:
            what = "was simulated from the recipe and seed of" if scene.startswith("recipe ") else "comes from the microscope file of"
            way_out = "simulate one of them with another --seed" if scene.startswith("recipe ") else "keep a file's frames in one dataset"
            yield f"{what} {self._scenes[scene][1]}; {way_out}"
        self._contents.setdefault(content, (number, here))
        self._scenes.setdefault(scene, (number, here))
