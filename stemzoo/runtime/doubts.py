"""What speaks against a result, in sentences. Owns when they are said of columns, frames and an encoder; NumPy only.

Called by runtime.app, by the report's summary, by analyze and by the server: whoever shows columns says how far to trust them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, List, Optional, Tuple

import numpy as np

from stemzoo.geometry.quality import reasons
from stemzoo.runtime.cutting import first_shown, subimages
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.golden import examples
from stemzoo.types import Analysis, Encoding, SubImages

MISTRUST_FAILED = 0.2
MISTRUST_CONFIDENCE = 0.6
STRANGE = 0.5  # share of the structure around columns that an encoder must explain to be believed; less than analyze.choosing.FITS
LOOKED_AT = 300  # columns


def doubts_of(analysis: Analysis) -> Tuple[str, ...]:
    """Return the reasons not to trust an analysis, a sentence each: of its columns, its frames, and those that it brings along."""
    confidence = np.concatenate([columns.confidence for columns in analysis.columns])
    finite = confidence[np.isfinite(confidence)]
    failed = sum(int((~np.asarray(columns.fit_ok, dtype=bool)).sum()) for columns in analysis.columns)
    said = _of_columns(len(confidence), failed, float(np.median(finite)) if finite.size else None) + _of_frames(analysis)
    return tuple(dict.fromkeys((*said, *analysis.doubts)))


def _of_columns(total: int, failed: int, confidence: Optional[float]) -> Tuple[str, ...]:
    if total == 0:
        return ("No column was found: the frame may show no atomic contrast, or lie outside what the model was trained on.",)
    said = []
    if failed > MISTRUST_FAILED * total:
        said.append(f"{failed / total:.0%} of the fits failed; those positions are the network's own and their errors are wide.")
    if confidence is not None and confidence < MISTRUST_CONFIDENCE:
        said.append(f"Half of the columns have a confidence below {confidence:.2f}; look at the overlay before using the positions.")
    return tuple(said)


def _of_frames(analysis: Analysis) -> Tuple[str, ...]:
    """Return what speaks against single frames, a sentence a sign; of a stack, in how many frames and in which first."""
    said: Dict[str, List[Tuple[int, str]]] = {}
    for index, quality in enumerate(analysis.quality):
        for sign, reason in reasons(quality).items():
            said.setdefault(sign, []).append((analysis.columns[index].frame, reason))
    if len(analysis.frames) == 1:
        return tuple(found[0][1] for found in said.values())
    return tuple(
        f"In {len(found)} of {len(analysis.frames)} frames, first in frame {found[0][0]}: {found[0][1]}" for found in said.values()
    )


def with_strangeness(
    analysis: Analysis, encoder: Encoder, advice: str, pieces: Optional[SubImages] = None, fitted: bool = False
) -> Analysis:
    """Return the analysis, with a doubt where the encoder does not know the structure around the columns of the first frame that has any.

    Args:
        advice: what to do about it, the end of the sentence.
        pieces: the sub-images of all its columns, where they are at hand; else some are cut.
        fitted: whether the encoder was fitted to these very columns.
    """
    seen = _looked_at(analysis, encoder, pieces)
    share = None if seen is None else encoder.knows(*seen)
    if seen is None or share is None or share >= STRANGE:
        return analysis
    would = None if fitted else _in_its_units(encoder, seen[0])
    if would is not None and would >= STRANGE:
        why = f"its intensities are in other units than it was trained on (gain, offset, dwell time), in which it would explain {would:.0%}"
    elif fitted:
        why = "a window of this size does not show it, or there is hardly any"
    else:
        why = "it was trained on other structures, or there is hardly any"
    said = f"{encoder.id.id} explains {share:.0%} of the structure around the columns: {why}. Its angles and latents mean little here"
    said = f"{said}; {advice}"
    return replace(analysis, doubts=(*analysis.doubts, said))


def _looked_at(analysis: Analysis, encoder: Encoder, pieces: Optional[SubImages]) -> Optional[Tuple[SubImages, Encoding]]:
    """Return sub-images of that frame and what the encoder says of them, or None where there are none."""
    shown = first_shown(analysis)
    columns = analysis.columns[shown]
    if analysis.encoding is None or analysis.window_px is None or not len(columns):
        return None
    step = 1 if pieces is not None else max(1, len(columns) // LOOKED_AT)
    encoding = analysis.encoding.rows(slice(0, len(columns), step))
    if pieces is None:
        first = replace(analysis.frames, data=analysis.frames.frame(shown)[np.newaxis])
        alone = replace(analysis, frames=first, columns=(columns.rows(slice(None, None, step)),), encoding=None, quality=())
        pieces = subimages(alone, analysis.window_px, encoder.spec.window_px)
    return pieces, encoding


def _in_its_units(encoder: Encoder, pieces: SubImages) -> Optional[float]:
    """Return which share of the structure the encoder would explain, were the intensities those of the sub-images that it was proved on.

    An encoder that scales all sub-images alike, so that latents may know thickness, knows intensities in the units of its training alone.
    """
    typical = examples(encoder.bundle)
    pieces = pieces.rows(slice(None, None, max(1, len(pieces) // LOOKED_AT)))
    whole = pieces.data[pieces.inside]
    if typical is None or not whole.size or not whole.std() > 0:
        return None
    scaled = (pieces.data - whole.mean()) * (typical.std() / whole.std()) + typical.mean()
    pieces = replace(pieces, data=np.asarray(scaled, dtype=np.float32))
    return encoder.knows(pieces, encoder.encode(pieces))
