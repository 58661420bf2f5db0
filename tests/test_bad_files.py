"""Damaged files of every kind are refused, not stumbled over: those that once broke a reader, and new ones drawn by Hypothesis."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[1]
BAD = sorted((ROOT / "tests" / "data" / "bad").iterdir())


def _fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stemzoo_fuzz", ROOT / "scripts" / "fuzz.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(ROOT / "scripts"))  # where its seeds are
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    return module


FUZZ = _fuzz()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    """Valid bytes of each kind."""
    return dict(FUZZ.seeds(tmp_path_factory.mktemp("seeds")))


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.name)
def test_a_file_that_once_broke_a_reader_is_refused(path: Path, tmp_path: Path) -> None:
    assert FUZZ.attempt(path.name.split("-")[0], path.read_bytes(), tmp_path) is None


@pytest.mark.parametrize("name", list(FUZZ.TARGETS))
def test_valid_files_are_read(name: str, corpus: dict[str, list[bytes]], tmp_path: Path) -> None:
    """Else the fuzzer would only see refusals."""
    if name in ("dm4", "ser"):
        pytest.importorskip("rsciio")
    suffix, reader = FUZZ.TARGETS[name]
    path = tmp_path / f"input{suffix}"
    path.write_bytes(corpus[name][0])
    reader(path)


@pytest.mark.parametrize("name", list(FUZZ.TARGETS))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(seed=st.integers(0, 2**32), noise=st.binary(max_size=400))
def test_damaged_files_are_refused(name: str, corpus: dict[str, list[bytes]], tmp_path: Path, seed: int, noise: bytes) -> None:
    rng = random.Random(seed)
    data = FUZZ.mutate(rng.choice(corpus[name]), rng) if corpus[name] else noise
    for text in (data, noise):
        error = FUZZ.attempt(name, text, tmp_path)
        assert error is None, f"{type(error).__name__}: {error}"
