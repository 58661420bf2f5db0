"""Frames of a recipe by number and seed, and HDF5 datasets of them. Called by the CLI and `scripts/`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stemzoo.errors import RecipeError
from stemzoo.io.dataset_writer import DatasetWriter, LabelledFrame
from stemzoo.simulation.frame import SimulatedFrame, simulate_series
from stemzoo.simulation.loading import load, parts


def draw_frames(
    path: str | Path, n_frames: int, seed: int | None = None, settings: Mapping[str, Any] | None = None
) -> Iterator[SimulatedFrame]:
    """Yield `n_frames` frames of the recipe at `path`, a mixture's parts by their weights; scene i hangs on `seed` and i alone.

    A recipe with a `[series]` gives several frames a scene, one after the other; all with the same `facts["seed"]`, which names the
    scene.

    `settings` are laid over the recipe by dotted key, as in `recipe.load`.
    """
    chosen = parts(path, settings)
    weights = np.array([weight for _, weight in chosen])
    root = load(path, settings).seed if seed is None else seed
    # Stratified: each part gets its share of frames to within one, in a shuffled order.
    share = np.floor(np.cumsum(weights / weights.sum()) * n_frames + 0.5).astype(int)
    which = np.searchsorted(share, np.arange(n_frames), side="right")
    np.random.default_rng([root, 1]).shuffle(which)
    made = 0
    for index in range(n_frames):
        for frame in simulate_series(chosen[which[index]][0], np.random.default_rng([root, 0, index])):
            frame.facts["seed"] = f"{root}:{index}"
            yield frame
            made += 1
            if made == n_frames:
                return


def simulate_dataset(
    path: str | Path,
    n_frames: int,
    out: str | Path,
    seed: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Write `n_frames` frames of the recipe at `path` to the HDF5 dataset `out`, whole or not at all.

    `settings` are laid over the recipe by dotted key, e.g. {"dose.counts_per_column": 300, "frame.sampling": 0.2}.

    Raises: RecipeError, StructureError from the recipe; OutputError if `out` cannot be written.
    """
    if n_frames < 1:
        raise RecipeError(f"{path}: {n_frames} frames asked for; wanted at least 1")
    recipe = load(path, settings)
    used = recipe.seed if seed is None else seed
    with DatasetWriter(out, recipe=recipe.model_dump_json(), material=recipe.material, seed=used) as writer:
        for index, frame in enumerate(draw_frames(path, n_frames, seed, settings)):
            writer.add(
                LabelledFrame(
                    image=frame.image,
                    columns=frame.yx,
                    species=frame.species,
                    classes=frame.classes,
                    pixel_size=frame.pixel_size,
                    expected=frame.expected,
                    counts=frame.counts,
                    attributes={**frame.facts, "dose": frame.dose, "recipe": recipe.material},
                )
            )
            if progress is not None:
                progress(index + 1, n_frames)
    return Path(out)
