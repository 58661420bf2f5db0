"""How large a sub-image should be: small encoders fitted at several sizes, and a score for each. Called by `stemzoo study window` and by
`analyze --fit-encoder --window auto`.

A window that holds the motif gives angles and latents that two trainings agree on and that explain the sub-images; one too small sees a
single column, whatever surrounds it, and one too large sees what latents cannot hold. The score of a size is the product of two shares:
how well one training's angles and latents follow from another's, and how much of what can be explained at all the encoder explains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stemzoo.analyze.options import Progress
from stemzoo.errors import DatasetError, FrameError, ShapeError, needs_extra
from stemzoo.geometry.cleaning import clean
from stemzoo.geometry.lattice import find_lattice
from stemzoo.runtime import cutting
from stemzoo.runtime.structure import disc, explainable, explained
from stemzoo.types import Analysis, Encoding

SPACINGS = (1.6, 2.2, 2.8, 3.6, 4.5)  # candidate windows, in nearest-neighbour distances; the lattice periods join them
QUICK = (2.2, 2.8, 3.6)
SAMPLES = (20, 40)
LEARNED_FROM = 1200  # sub-images; evenly drawn where there are more
STEPS = 150
TIE = 0.02  # of sizes whose scores differ by less, the smaller is proposed


@dataclass(frozen=True, slots=True)
class Size:
    """One size of sub-image and what an encoder makes of it.

    Args:
        window_px: extent, in pixels of the frame. spacings: the same in nearest-neighbour distances.
        score: `stability` times `fidelity`. stability: agreement of two trainings, 0 to 1. fidelity: share of what 16 principal components
            explain that the encoder explains, 0 to 1. explained: share of the sub-images' variance.
        sigma_deg: median stated error of the angle. symmetry: most frequent order.
        encoding: of every column, by the first training.
        pattern: (S, S) what the decoder draws at the median latents.
    """

    window_px: float
    spacings: float
    score: float
    stability: float
    fidelity: float
    explained: float
    sigma_deg: float
    symmetry: int
    encoding: Encoding
    pattern: np.ndarray


def candidates(analysis: Analysis, spacings: Sequence[float] = SPACINGS) -> tuple[float, ...]:
    """Return the windows [px] to try: multiples of the column spacing, and once and twice the lattice's periods, none twice.

    Raises: FrameError if no frame holds two columns.
    """
    spacing = cutting.window_for(analysis, 1.0)
    sizes = [factor * spacing for factor in spacings]
    lattice = find_lattice(clean(analysis.frames.frame(0))[0])
    if lattice is not None:
        periods = np.linalg.norm(lattice.vectors_px, axis=1)
        sizes += [factor * period for factor in (1.0, 2.0) for period in periods if sizes[0] <= factor * period <= 1.15 * sizes[-1]]
    most = min(analysis.frames.shape) / 2
    chosen: list[float] = []
    for size in sorted(size for size in sizes if size <= most):
        if not chosen or size > 1.12 * chosen[-1]:
            chosen.append(float(size))
    if not chosen:
        raise FrameError(
            f"{analysis.frames.path}: {min(analysis.frames.shape)} px hold no window of {sizes[0]:.0f} px to study; pass one in px"
        )
    return tuple(chosen)


def study(
    analysis: Analysis,
    sizes: Sequence[float],
    *,
    latents: int = 2,
    seed: int = 0,
    symmetry: int | None = None,
    progress: Progress | None = None,
) -> tuple[Size, ...]:
    """Return each of the sizes [px] with its score. A size at which too few windows lie inside the frame is left out.

    Args: latents, seed, symmetry: of the encoders that are fitted, as in `AnalyzeOptions`.

    Raises: DatasetError if none is left; ModelError where the extra `train` is not installed.
    """
    spacing = cutting.window_for(analysis, 1.0)
    studied: list[Size] = []
    last: Exception | None = None
    for number, window in enumerate(sizes):
        try:
            studied.append(_size(analysis, window, spacing, {"latents": latents, "seed": seed, "symmetry": symmetry}))
        except (DatasetError, ShapeError) as error:
            last = error
        if progress is not None:
            progress("study window", number + 1, len(sizes))
    if not studied:
        raise DatasetError(f"{analysis.frames.path}: no window of {', '.join(f'{size:.0f}' for size in sizes)} px can be studied: {last}")
    return tuple(studied)


def best(studied: Sequence[Size]) -> Size:
    """Return the size with the highest score; of those that tie, the smallest."""
    highest = max(size.score for size in studied)
    return min((size for size in studied if size.score >= highest - TIE), key=lambda size: size.window_px)


def propose(analysis: Analysis, *, latents: int = 2, seed: int = 0, symmetry: int | None = None, progress: Progress | None = None) -> Size:
    """Return the window for an encoder that is to be fitted to these columns. Arguments and errors as `candidates` and `study`."""
    sizes = candidates(analysis, QUICK)
    return best(study(analysis, sizes, latents=latents, seed=seed, symmetry=symmetry, progress=progress))


def _size(analysis: Analysis, window: float, spacing: float, chosen: dict[str, int | None]) -> Size:
    with needs_extra("train", "a study fits encoders and"):
        from stemzoo.training.encoding_config import EncoderConfig
        from stemzoo.training.fitting import draw_with, encode_with, fit_encoder
    pieces = cutting.subimages(analysis, window, min(max(round(window), SAMPLES[0]), SAMPLES[1]))
    rows = np.flatnonzero(pieces.inside)
    rows = rows[:: max(len(rows) // LEARNED_FROM, 1)][:LEARNED_FROM]
    learned = pieces.rows(rows)
    config = EncoderConfig.model_validate({**chosen, "width": 48, "epochs": 1, "min_steps": STEPS})
    tasks = [fit_encoder(learned, config.model_copy(update={"seed": config.seed + k})) for k in range(2)]
    one, two = (encode_with(task, pieces) for task in tasks)
    seen = disc(pieces.window_px)
    images = np.asarray(pieces.data[rows][:, seen], dtype=np.float64)
    drawn = draw_with(tasks[0], one.latents[rows], one.angle[rows])[:, seen]
    share, ceiling = float(explained(images, drawn).mean()), float(explainable(images).mean())
    fidelity = min(share / max(ceiling, share, 1e-9), 1.0)
    stability = agreement(one, two, rows)
    middle = np.median(one.latents[rows], axis=0, keepdims=True)
    return Size(
        window_px=float(window),
        spacings=float(window / spacing),
        score=stability * fidelity,
        stability=stability,
        fidelity=fidelity,
        explained=share,
        sigma_deg=float(np.degrees(np.median(one.angle_sigma[rows]))),
        symmetry=int(np.bincount(np.asarray(one.symmetry[rows], dtype=np.int64)).argmax()),
        encoding=one,
        pattern=draw_with(tasks[0], middle, np.zeros(1))[0],
    )


def agreement(one: Encoding, two: Encoding, rows: np.ndarray) -> float:
    """Return how well one training's latents and angles follow from the other's, 0 to 1.

    Latents of two trainings agree up to any smooth map, of which a quadratic is fitted, both ways; angles up to one turn for each order of
    symmetry. Where a column has another order in the second training its angle counts as unknown.

    Args: rows: numbers (n,) of the rows that are compared, the same columns in both.
    """
    shares = []
    for known, wanted in ((one.latents[rows], two.latents[rows]), (two.latents[rows], one.latents[rows])):
        scaled = (known - known.mean(axis=0)) / np.maximum(known.std(axis=0), 1e-9)
        columns = [np.ones(len(scaled)), *scaled.T, *(scaled[:, i] * scaled[:, j] for i in range(scaled.shape[1]) for j in range(i + 1))]
        design = np.stack(columns, axis=1)
        left = wanted - design @ np.linalg.lstsq(design, wanted, rcond=None)[0]
        shares.append(1 - float(left.var(axis=0).sum() / max(wanted.var(axis=0).sum(), 1e-12)))
    same = np.asarray(one.symmetry[rows]) == np.asarray(two.symmetry[rows])
    turned = np.zeros(len(rows), dtype=complex)
    for order in np.unique(one.symmetry[rows]):
        mine = same & (one.symmetry[rows] == order)
        vectors = np.exp(1j * order * (one.angle[rows] - two.angle[rows])[mine])
        turned[mine] = vectors * np.exp(-1j * np.angle(vectors.sum())) if mine.any() else 0
    return float(np.clip(np.mean(shares), 0, 1) * np.clip(turned.real.mean(), 0, 1))
