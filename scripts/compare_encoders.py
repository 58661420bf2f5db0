"""Hold versions of an encoder of the zoo against each other under new noise and new disorder: the table in docs/encoders.md.

    python scripts/compare_encoders.py rvae-hexagonal model_cards/rvae-hexagonal/v1 runs/cards/rvae-hexagonal/v2

One scene a recipe and seed, the microscope the same, at three scan rotations; 300 counts, columns displaced by 0.05 Å anew each time.
`stemzoo evaluate` turns one image by interpolation instead: there noise and disorder are shared.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from train_encoders import ENCODERS, HELD_BACK_SEED, QUIET, SURE_DEG, View, defining, view_of

from stemzoo.geometry.angles import difference
from stemzoo.geometry.matching import match
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.encoder import Encoder

TURNS = (17.0, 100.0)
SEEDS = (HELD_BACK_SEED + 70, HELD_BACK_SEED + 71)
NEAR_PX = 1.3
OPTICS = {"optics.defocus_nm": 0.0, "optics.astigmatism_nm": 0.0, "optics.coma_nm": 0.0, "optics.source_fwhm": 0.6}
SPECIMEN = {"specimen.displacement": 0.05, "dose.counts_per_column": 300}


def main() -> None:
    """Print the scores of each version on each of the encoder's recipes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=list(ENCODERS))
    parser.add_argument("folders", nargs="+", type=Path)
    options = parser.parse_args()
    for entry in ENCODERS[options.model]["data"]:
        for folder in options.folders:
            error, sigma, sure, same = compared(Encoder(Bundle.load(folder)), entry)
            print(
                f"{entry['recipe']:14s} {folder}: median {np.median(error):.3f}°, 90th percentile of the sure "
                f"{np.quantile(error[sure], 0.9):.2f}°, error / σ {1.4826 * np.median(error / sigma):.2f}, sure {sure.mean():.3f}, "
                f"of the same symmetry {same.mean():.3f}, those sure and wrong by over 8° {np.mean(error[sure & same] > 8):.3f}",
                flush=True,
            )


def compared(encoder: Encoder, entry: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """Return, (n,) each over all turns: |error| and σ of the angle's difference [degrees], both sure, both of the same symmetry."""
    settings = {**QUIET, "defects": defining(entry["recipe"]), **SPECIMEN, **OPTICS}
    parts = []
    for seed in SEEDS:
        first, *turned = (view_of(encoder, entry, seed, {**settings, "frame.rotation_deg": turn}) for turn in (0.0, *TURNS))
        parts += [_pairs(first, view, np.radians(turn)) for turn, view in zip(TURNS, turned, strict=True)]
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def _pairs(first: View, view: View, turn: float) -> tuple[np.ndarray, ...]:
    centre = (np.array(first.frame.image.shape) - 1) / 2
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    pairs = match(view.frame.yx, (first.frame.yx - centre) @ rotation + centre, NEAR_PX)
    kept = view.encoding.inside[pairs.found] & first.encoding.inside[pairs.truth]
    kept &= view.frame.species[pairs.found] == first.frame.species[pairs.truth]
    i, j = pairs.found[kept], pairs.truth[kept]
    after, before = view.encoding, first.encoding
    symmetry = np.maximum(after.symmetry[i], before.symmetry[j])
    error = np.degrees(np.abs(difference(after.angle[i] - turn, before.angle[j], symmetry)))
    sigmas = np.degrees(after.angle_sigma[i]), np.degrees(before.angle_sigma[j])
    return error, np.hypot(*sigmas), np.maximum(*sigmas) < SURE_DEG, after.symmetry[i] == before.symmetry[j]


if __name__ == "__main__":
    main()
