"""An encoder held against truth: what its decoder explains, what its latents know of the species, how its angles follow a turn. No torch.

Columns are taken where the dataset says they are, so that nothing of a segmenter enters. Each frame is also turned by known angles, by
interpolation, and every column's angle there must differ by just that. Called by `stemzoo evaluate`, stemzoo.release and tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import affine_transform

from stemzoo.errors import DatasetError
from stemzoo.evaluate.run import frame_of
from stemzoo.geometry.angles import difference
from stemzoo.geometry.subimages import cut
from stemzoo.io.datasets import Dataset
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.structure import disc, explained
from stemzoo.types import Columns, Encoding, Frames, SubImages

TURNS = (17.0, 40.0, 100.0)
"""Known turns [degrees], counter-clockwise as displayed; none is near a multiple of a common symmetry."""
SURE = 10.0
"""A stated σ below this [degrees] is an angle that one may use."""
DRAWS = 400
LEAST = 20
"""Columns of a species that a linear probe needs."""


@dataclass(frozen=True)
class EncodedFrame:
    """What an encoder makes of the true columns of one frame, n of them.

    Args:
        material: of the frame.
        encoding, subimages: n rows; a window over the frame's edge is flagged `inside=False`.
        species: (n,) int64, index into the dataset's classes.
        explained: (n,) share of the sub-image's variance that the decoder's pattern explains; NaN where there is no angle or no decoder.
        error: (m,) rad, difference of angles between the frame and its turns, less the turn, modulo the symmetry; m over all turns.
        sigma: (m,) rad, stated for that difference; `surest`: (m,) rad, the larger of the two stated σ.
        moved: (m,) distance of the latents over their spread in the frame.
    """

    material: str
    encoding: Encoding
    subimages: SubImages
    species: np.ndarray
    explained: np.ndarray
    error: np.ndarray
    sigma: np.ndarray
    surest: np.ndarray
    moved: np.ndarray


@dataclass(frozen=True)
class EncoderScore:
    """Scores over a group of frames; the 95 % interval is bootstrapped over frames.

    Args:
        group: what the frames have in common.
        n_frames, n_columns: frames, and columns whose window lies inside.
        explained: median share of a sub-image's variance that the decoder explains; NaN without a decoder.
        species: accuracy of a linear probe of the latents on columns that it did not learn from; NaN with fewer than two species.
        angle_deg, angle_interval: median error of a difference of angles under a known turn [degrees], modulo the symmetry.
        sure: share of columns with a stated σ below `SURE`; `sure_p90_deg`: the 90th percentile of their error.
        z_spread: robust spread of error / stated σ; 1 if σ means what it says.
        moved: median change of the latents under a turn over their spread in a frame.
    """

    group: str
    n_frames: int
    n_columns: int
    explained: float
    species: float
    angle_deg: float
    angle_interval: tuple[float, float]
    sure: float
    sure_p90_deg: float
    z_spread: float
    moved: float

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def encoded_frames(
    encoder: Encoder, dataset: str | Path, *, turns: Sequence[float] = TURNS, progress: Callable[[int, int], None] | None = None
) -> Iterator[EncodedFrame]:
    """Yield what the encoder makes of each frame of a labelled dataset. Raises: DatasetError, ModelError."""
    data = Dataset(dataset)
    for index in range(len(data)):
        yield encode_frame(encoder, frame_of(data, index), *data.columns(index), str(data.attributes(index).get("material", "")), turns)
        if progress is not None:
            progress(index + 1, len(data))


def encode_frame(
    encoder: Encoder, frame: Frames, yx: np.ndarray, species: np.ndarray, material: str, turns: Sequence[float] = TURNS
) -> EncodedFrame:
    """Return what the encoder makes of the columns at `yx`, (n, 2) px, of one frame, and of the frame turned by `turns` degrees."""
    subimages, encoding = _encode(encoder, frame, yx)
    latents = encoding.latents[encoding.inside]
    span = np.linalg.norm(latents - latents.mean(axis=0), axis=1).mean() if len(latents) else np.nan
    compared = [_turned(encoder, frame, yx, encoding, turn) for turn in turns]
    error, sigma, surest, moved = (np.concatenate(parts) for parts in zip(*compared, strict=True)) if compared else [np.zeros(0)] * 4
    share = _explained(encoder, subimages, encoding)
    return EncodedFrame(material, encoding, subimages, species, share, error, sigma, surest, moved / max(float(span), 1e-12))


def _encode(encoder: Encoder, frame: Frames, yx: np.ndarray) -> tuple[SubImages, Encoding]:
    if frame.pixel_size is None:
        raise DatasetError(f"{frame.path}: no pixel size; an encoder's window is in Å")
    subimages = cut(frame, Columns.at(yx), encoder.spec.window_angstrom / frame.pixel_size, encoder.spec.window_px)
    return subimages, encoder.encode(subimages)


def _turned(encoder: Encoder, frame: Frames, yx: np.ndarray, before: Encoding, turn: float) -> tuple[np.ndarray, ...]:
    """Return error, σ, larger σ and distance of the latents of the columns whose window is in the frame before and after a turn."""
    angle = np.radians(turn)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = (np.array(frame.shape) - 1) / 2
    image = affine_transform(frame.frame(0), rotation, centre - rotation @ centre, order=3, mode="reflect")
    turned = Frames(image[None].astype(np.float32), frame.pixel_size, frame.pixel_size_source, frame.path)
    places = (yx - centre) @ rotation + centre
    _, after = _encode(encoder, turned, places)
    # A turned window reaches as far as its corners; all of it must have been in the frame.
    reach = encoder.spec.window_angstrom / (frame.pixel_size or 1.0) / np.sqrt(2)
    whole = ((yx >= reach) & (yx <= np.array(frame.shape) - 1 - reach)).all(axis=1)
    kept = np.flatnonzero(whole & before.inside & after.inside)
    sigmas = before.angle_sigma[kept], after.angle_sigma[kept]
    symmetry = np.maximum(before.symmetry[kept], after.symmetry[kept])
    return (
        difference(after.angle[kept] - angle, before.angle[kept], symmetry),
        np.hypot(*sigmas),
        np.maximum(*sigmas),
        np.linalg.norm(after.latents[kept] - before.latents[kept], axis=1),
    )


def _explained(encoder: Encoder, subimages: SubImages, encoding: Encoding) -> np.ndarray:
    share = np.full(len(subimages), np.nan)
    rows = np.flatnonzero(encoding.inside & np.isfinite(encoding.angle))
    if len(rows) and encoder.decodes:
        seen = disc(subimages.window_px)
        drawn = encoder.decode(encoding.latents[rows], encoding.angle[rows])
        share[rows] = explained(subimages.data[rows][:, seen], drawn[:, seen])
    return share


def summarise_encoding(frames: Sequence[EncodedFrame]) -> list[EncoderScore]:
    """Return the scores of all frames together, then of each material by name, where there is more than one."""
    groups: dict[str, list[EncodedFrame]] = {}
    for frame in frames:
        groups.setdefault(frame.material, []).append(frame)
    scores = [_score("all", list(frames))]
    return scores + [_score(name, groups[name]) for name in sorted(groups)] if len(groups) > 1 else scores


def _score(group: str, frames: list[EncodedFrame]) -> EncoderScore:
    errors = [np.degrees(np.abs(frame.error)) for frame in frames]
    error, surest = np.concatenate(errors), np.degrees(np.concatenate([frame.surest for frame in frames]))
    z = np.concatenate([frame.error / frame.sigma for frame in frames])
    picks = np.random.default_rng(0).integers(0, len(frames), (DRAWS, len(frames)))
    draws = [_median(np.concatenate([errors[k] for k in pick])) for pick in picks]
    sure = surest < SURE
    return EncoderScore(
        group,
        len(frames),
        int(sum(frame.encoding.inside.sum() for frame in frames)),
        _median(np.concatenate([frame.explained for frame in frames])),
        _probe(frames),
        _median(error),
        _interval(draws, _median(error)),
        float(sure.mean()) if len(sure) else float("nan"),
        float(np.quantile(error[sure], 0.9)) if sure.any() else float("nan"),
        1.4826 * _median(np.abs(z)),
        _median(np.concatenate([frame.moved for frame in frames])),
    )


def _median(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _interval(draws: Sequence[float], value: float) -> tuple[float, float]:
    low, high = np.nanpercentile(draws, [2.5, 97.5]) if np.isfinite(value) else (value, value)
    return min(float(low), value), max(float(high), value)


def _probe(frames: Sequence[EncodedFrame]) -> float:
    """Return the accuracy of logistic regression on half of the columns, drawn at random, learnt from the rest; NaN with fewer than two
    species. (Every other one will not do: in a crystal species may alternate.)"""
    from sklearn.linear_model import LogisticRegression

    known = [frame.encoding.inside & np.isfinite(frame.encoding.angle) for frame in frames]
    latents = np.concatenate([frame.encoding.latents[keep] for frame, keep in zip(frames, known, strict=True)])
    species = np.concatenate([frame.species[keep] for frame, keep in zip(frames, known, strict=True)])
    names, counts = np.unique(species, return_counts=True)
    common = np.isin(species, names[counts >= LEAST])
    order = np.random.default_rng(0).permutation(np.flatnonzero(common))
    learnt, asked = order[::2], order[1::2]
    if len(np.unique(species[learnt])) < 2:
        return float("nan")
    return float(LogisticRegression(max_iter=500).fit(latents[learnt], species[learnt]).score(latents[asked], species[asked]))
