"""Several datasets to one, chunk by chunk as they lie on disk, so that no file need fit into memory. Called by `stemzoo data merge`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stemzoo.errors import DatasetError
from stemzoo.io.dataset_writer import DatasetWriter
from stemzoo.io.datasets import Dataset


@dataclass(frozen=True)
class Merged:
    """The dataset written, its number of frames, and how many images stood twice and were written once."""

    path: Path
    n_frames: int
    n_repeated: int


def merge(paths: Sequence[str | Path], out: str | Path, progress: Callable[[int, int], None] | None = None) -> Merged:
    """Write the frames of all `paths` to the dataset `out`, whole or not at all; an image that stands twice is written once.

    Classes of the same name become one. Each frame keeps its attributes, so its scene is still known. Files of an older schema come out in
    today's.
    Raises: DatasetError for an unreadable file, or an `out` that is one of `paths`; OutputError if `out` cannot be written.
    """
    if not paths:
        raise DatasetError("nothing to merge; wanted one or more datasets")
    datasets = [Dataset(path) for path in paths]
    if Path(out).resolve() in {dataset.path.resolve() for dataset in datasets}:
        raise DatasetError(f"{out}: is one of the datasets to merge; name another --out")
    materials = dict.fromkeys(dataset.material for dataset in datasets if dataset.material)
    recipes = json.dumps([{"file": dataset.path.name, "recipe": dataset.recipe} for dataset in datasets])
    total, done, seen = sum(len(dataset) for dataset in datasets), 0, set()
    with DatasetWriter(out, recipe=recipes, material=", ".join(materials), seed=0) as writer:
        for dataset in datasets:
            for index in range(len(dataset)):
                content = dataset.content(index)
                if content not in seen:
                    seen.add(content)
                    writer.adopt(dataset, index)
                done += 1
                if progress is not None:
                    progress(done, total)
            dataset.close()
        n_frames = len(writer)
    return Merged(Path(out), n_frames, total - n_frames)
