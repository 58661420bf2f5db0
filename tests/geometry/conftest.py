"""Fits about to take their first step, and the path to `simulated`, this room's frames with exact truth: pytest's importlib mode leaves
test folders off the path."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from simulated import lattice, scene

from stemzoo.geometry.jointfit import JointFit
from stemzoo.geometry.neighbours import nearest_distance
from stemzoo.geometry.progress import Starts

Begin = Callable[[str, float, int, float], JointFit]


@pytest.fixture
def begin() -> Begin:
    """Return a function of a lattice's kind, its spacing, the side of a frame [px] and counts of background: a fit, evaluated once."""

    def begun(kind: str, spacing_px: float, size_px: int, background: float) -> JointFit:
        yx, amplitude = lattice(kind, spacing_px, size_px)
        made = scene(yx, 200 * amplitude, 2.5, (size_px, size_px), background)
        starts = made.starts(0)
        starts = starts[np.argsort(starts[:, 0])]
        columns = Starts(np.arange(len(starts)), starts, nearest_distance(starts, 16.0))
        fit = JointFit(made.noisy(0) / 200, np.ones((size_px, size_px), bool), columns, 2.5)
        fit.evaluate(first=True)
        return fit

    return begun
