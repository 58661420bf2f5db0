"""The zoo of stand-ins and the frames of the command line's tests, and a small stack with a blank frame."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import standins

_SPEC = importlib.util.spec_from_file_location("stemzoo_cli_conftest", Path(__file__).resolve().parents[1] / "cli" / "conftest.py")
assert _SPEC is not None and _SPEC.loader is not None
_CLI = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = _CLI  # dataclasses look themselves up
_SPEC.loader.exec_module(_CLI)
zoo_root, only_this_zoo, truth, frame, run = _CLI.zoo_root, _CLI.only_this_zoo, _CLI.truth, _CLI.frame, _CLI.run


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """Nine frames of 64 × 72 px at 0.2 Å/px, columns 3 Å apart; frame 4 is blank."""
    frames = np.stack([standins.draw((64, 72), standins.square_lattice((64, 72), 15.0) + k / 7, 2.0, seed=k) for k in range(9)])
    frames[4] = 3
    np.save(tmp_path / "stack.npy", frames.astype(np.float32))
    return tmp_path / "stack.npy"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two frames a batch, so that a small stack has several."""
    monkeypatch.setattr("stemzoo.analyze.plan.BATCH_FRAMES", 2)
