"""The stand-in models of the runtime's tests, and datasets of lattices whose columns are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import standins

from stemzoo.io.dataset_writer import DatasetWriter, LabelledFrame
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.segmenter import Segmenter

PIXEL_SIZE = 0.2


@pytest.fixture(scope="session")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    """Finds bright blobs."""
    folder = tmp_path_factory.mktemp("blob")
    standins.save_segmenter(folder / "model.onnx")
    return Segmenter(Bundle.load(folder, standins.ONE_THREAD))


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """Reads in which direction a sub-image is bright; its decoder draws flat patterns."""
    folder = tmp_path_factory.mktemp("dipole")
    standins.save_encoder(folder / "model.onnx")
    standins.save_decoder(folder / "decoder.onnx")
    return Encoder(Bundle.load(folder, standins.ONE_THREAD))


@pytest.fixture
def lattice() -> np.ndarray:
    """Positions of columns, (n, 2) yx px in 96 × 112 px."""
    return np.asarray(standins.square_lattice((96, 112), 15.0))


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[..., Path]:
    """Write a dataset of frames: (material, image, columns) each, and optionally species."""

    def write(*frames: tuple[str, np.ndarray, np.ndarray], species: np.ndarray | None = None) -> Path:
        with DatasetWriter(tmp_path / "held_back.h5", recipe="{}", material="x", seed=0) as writer:
            for material, image, columns in frames:
                kinds = np.zeros(len(columns), dtype=np.int64) if species is None else species
                facts = {"material": material, "counts_per_column": 300.0}
                writer.add(LabelledFrame(image.astype(np.float32), columns, kinds, ("A", "B"), PIXEL_SIZE, attributes=facts))
        return tmp_path / "held_back.h5"

    return write


@pytest.fixture
def draw() -> Callable[..., np.ndarray]:
    """Draw columns: (shape, yx, width_px, seed) to counts."""
    return standins.draw  # type: ignore[no-any-return]
