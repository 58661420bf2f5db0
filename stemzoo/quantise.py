"""A segmenter to its variant in eight bits, offered only where that finds the columns as well as single precision does.

Some frames of a labelled dataset set the ranges of the activations, the others are scored with both; what they gave goes onto the variant's
card. torch's room is loaded when asked. Called by `stemzoo quantise` and the scripts that write the zoo.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stemzoo.errors import DatasetError, ExportError, ModelError
from stemzoo.evaluate import GROUPINGS, Score, frame_scores, summarise
from stemzoo.evaluate.run import frame_of
from stemzoo.geometry.cleaning import clean
from stemzoo.geometry.resample import rescale
from stemzoo.io.datasets import Dataset
from stemzoo.runtime.bundle import MODEL_FILE, Bundle
from stemzoo.runtime.scale import Scale
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.types import Frames
from stemzoo.zoo import resolve

if TYPE_CHECKING:
    from stemzoo.zoo.card import Card

RANGES = 8
"""Frames that set the ranges of the activations."""

MOST_F1_LOST = 0.002
MOST_RMSE = 1.02
"""What eight bits may cost on the scored frames: of the F1, and as a factor of the position's root mean square error."""

LIMITS = (
    "Where a column is barely seen, eight bits may decide otherwise than single precision.",
    "Between releases of onnxruntime its map differs by up to 0.07 and positions by up to a hundredth of a pixel: for tables that must "
    "agree to the last digit, take single precision.",
)

Tick = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Quantised:
    """A variant in eight bits with its scores and those of the model that it was made of, on the same frames."""

    card: Card
    single: Score
    eight: Score


def quantise(
    model: str,
    dataset: Path,
    folder: Path,
    stated: Mapping[str, Any] | None = None,
    *,
    title: str | None = None,
    progress: Tick | None = None,
) -> Quantised:
    """Return the variant in eight bits of a segmenter, written to `folder` as a bundle.

    Args:
        model: its name in the zoo, or a bundle's folder.
        dataset: labelled frames that no training saw, from 2 × `RANGES` on; the first set ranges, the others are scored.
        folder: must not exist yet, or be empty.
        stated: keys of the card; by default the variant is called `<name>-int8`, version 1.
        title: what the card calls the dataset; its file's name if None.
        progress: called with (what is scored, frames done, frames in all).
    Raises: DatasetError for too few frames; ExportError if the scores fall by more than the limits above, and nothing is written;
        ModelError, CardError, OutputError.
    """
    from stemzoo.export.bundle import check_free
    from stemzoo.export.eightbits import in_eight_bits, quantise_graph, write_in_eight_bits

    check_free(folder)
    source = resolve(model)
    segmenter, data = Segmenter(Bundle.load(source)), Dataset(dataset)
    if segmenter.ensemble:
        raise ModelError(f"{segmenter.spec.id} is an ensemble; wanted a single network, such as each of its members was exported from")
    if in_eight_bits(source / MODEL_FILE):
        raise ModelError(
            f"{segmenter.spec.id} computes in eight bits already; wanted a segmenter in single precision: take this one as it is, or name "
            "the one that it was made of"
        )
    if len(data) < 2 * RANGES:
        raise DatasetError(f"{dataset}: holds {len(data)} frames; wanted {2 * RANGES} or more, {RANGES} for ranges and others to score")
    frames = [as_the_network_sees(frame_of(data, index), segmenter) for index in range(RANGES)]
    name = segmenter.spec.id.split("@")[0]
    card = segmenter.spec.card
    draft = {
        "name": f"{name}-int8",
        "version": 1,
        "title": f"{card['title']}, in eight bits",
        "summary": f"{segmenter.spec.id} in eight bits from the first convolution on: the same columns in less time. {card['summary']}",
        "limits": (*card["limits"], *LIMITS),
        "evaluation": (),
        **(stated or {}),
    }
    with tempfile.TemporaryDirectory() as work:
        graph = Path(work) / MODEL_FILE
        quantise_graph(source / MODEL_FILE, graph, frames)
        write_in_eight_bits(Path(work) / "trial", source, graph, draft)
        single = _score(segmenter, dataset, "single precision", len(data), progress)
        eight = _score(Segmenter(Bundle.load(Path(work) / "trial")), dataset, "eight bits", len(data), progress)
        lost, wider = single.f1 - eight.f1, eight.rmse_pm / single.rmse_pm
        if not (lost <= MOST_F1_LOST and wider <= MOST_RMSE):
            raise ExportError(
                f"{segmenter.spec.id}: on {dataset} its F1 falls from {single.f1:.4f} to {eight.f1:.4f} in eight bits and its RMSE grows "
                f"{wider:.3f}-fold; at most {MOST_F1_LOST} and {MOST_RMSE} are allowed; use single precision"
            )
        where = f"{title or dataset.name}, {single.n_frames} frames"
        rows = [*draft["evaluation"], *_rows(where, eight, "in eight bits"), *_rows(where, single, segmenter.spec.id)]
        return Quantised(write_in_eight_bits(folder, source, graph, {**draft, "evaluation": rows}), single, eight)


def as_the_network_sees(frames: Frames, segmenter: Segmenter) -> np.ndarray:
    """Return a frame (T = 1) with a pixel size, cleaned and at the network's sampling: (h, w), sides cut to multiples of its stride."""
    image, _ = rescale(clean(frames.frame(0))[0], Scale(frames.pixel_size, frames.pixel_size_source).factor(segmenter.spec))
    height, width = (length // segmenter.spec.stride_px * segmenter.spec.stride_px for length in image.shape)
    return np.ascontiguousarray(image[:height, :width])


def _score(segmenter: Segmenter, dataset: Path, title: str, n_frames: int, progress: Tick | None) -> Score:
    tick = None if progress is None else (lambda done, total: progress(title, done, total - RANGES))
    return summarise(frame_scores(segmenter, dataset, progress=tick, only=range(RANGES, n_frames)), GROUPINGS["material"])[0]


def _rows(where: str, score: Score, computed: str) -> list[dict[str, Any]]:
    """Return a score as lines of a card's evaluation; `computed` says by what."""
    common = {"dataset": where, "role": "held back", "n": max(score.n_columns, 1)}
    return [
        {**common, "metric": f"F1 at 0.5 Å, {computed}", "value": score.f1, "interval": score.f1_interval},
        {**common, "metric": f"position RMSE [pm], {computed}", "value": score.rmse_pm, "interval": score.rmse_pm_interval},
    ]
