"""What every room's tests share: where the experimental frames lie, and the modules of tests/shared, to be imported by their names.

A room's own fixtures live in its folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).parent / "shared"))  # pytest's importlib mode leaves test folders off the path


@pytest.fixture(scope="session")
def real_dir() -> Path:
    """Folder of experimental frames: STEMZOO_REAL, else ../shared/real beside the checkout; the test is skipped without it."""
    folder = Path(os.environ.get("STEMZOO_REAL") or REPOSITORY.parent / "shared" / "real")
    if not folder.is_dir():
        pytest.skip(f"no experimental frames in {folder}; set STEMZOO_REAL")
    return folder
