"""What a dataset holds, counted: frames, columns, classes, doses, samplings. Called by `stemzoo data inspect`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stemzoo.errors import DatasetError
from stemzoo.io.datasets import Dataset


@dataclass(frozen=True)
class Summary:
    """What is inside a dataset, as `stemzoo data inspect` prints it.

    Args:
        schema_version: of the file.
        n_scenes: pieces of specimen; frames of one scene stay together when a dataset is divided.
        n_simulated: frames that hold their expectation, whose noise is drawn anew in training.
        columns_by_class, frames_by_material: class and material balance.
        pixel_size: smallest and largest [Å/px].
        dose, counts_per_column: smallest and largest [e⁻/Å², electrons]; None where no frame states it.
    """

    path: str
    schema_version: int
    material: str
    n_frames: int
    n_scenes: int
    n_simulated: int
    n_columns: int
    columns_by_class: dict[str, int]
    frames_by_material: dict[str, int]
    pixel_size: tuple[float, float]
    dose: tuple[float, float] | None
    counts_per_column: tuple[float, float] | None
    shapes: list[tuple[int, int]]


def inspect(path: str | Path) -> Summary:
    """Return counts, doses, sampling and class balance of a dataset; every frame is visited, no image is read.

    Raises: DatasetError for an unreadable file, or a species outside its list of classes.
    """
    dataset = Dataset(path)
    by_class = np.zeros(len(dataset.classes), dtype=np.int64)
    materials: Counter[str] = Counter()
    spans: dict[str, tuple[float, float]] = {}
    scenes, shapes, simulated = set(), set(), 0
    for index in range(len(dataset)):
        facts = dataset.attributes(index)
        by_class += _count(dataset, index)
        materials[str(facts.get("material", ""))] += 1
        scenes.add(dataset.scene(index))
        shapes.add(dataset.shape(index))
        simulated += dataset.has_expected(index)
        for key in ("pixel_size", "dose", "counts_per_column"):
            _widen(spans, key, facts)
    return Summary(
        str(path),
        dataset.version,
        dataset.material,
        len(dataset),
        len(scenes),
        simulated,
        int(by_class.sum()),
        dict(zip(dataset.classes, by_class.tolist(), strict=True)),
        dict(materials),
        spans["pixel_size"],
        spans.get("dose"),
        spans.get("counts_per_column"),
        sorted(shapes),
    )


def _count(dataset: Dataset, index: int) -> np.ndarray:
    _, species = dataset.columns(index)
    if len(species) and not 0 <= species.min() <= species.max() < len(dataset.classes):
        raise DatasetError(
            f"{dataset.path}: frame {dataset.ids[index]} has species {species.min()} to {species.max()}; "
            f"the file lists {len(dataset.classes)} classes: make it again"
        )
    return np.bincount(species, minlength=len(dataset.classes))


def _widen(spans: dict[str, tuple[float, float]], key: str, facts: dict[str, Any]) -> None:
    if key in facts:
        low, high = spans.get(key, (float("inf"), float("-inf")))
        spans[key] = (min(low, float(facts[key])), max(high, float(facts[key])))
