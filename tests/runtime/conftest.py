"""The stand-in models as bundles with golden tensors, and a frame for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import standins

from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.types import Frames


@pytest.fixture(scope="session")
def segmenter_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blob") / "v1"
    folder.mkdir()
    standins.save_segmenter(folder / "model.onnx")
    standins.save_golden(folder)
    return folder


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dipole") / "v1"
    folder.mkdir()
    standins.save_encoder(folder / "model.onnx")
    standins.save_decoder(folder / "decoder.onnx")
    standins.save_golden(folder)
    return folder


@pytest.fixture(scope="session")
def segmenter(segmenter_folder: Path) -> Segmenter:
    return Segmenter(Bundle.load(segmenter_folder, standins.ONE_THREAD))


@pytest.fixture(scope="session")
def encoder(encoder_folder: Path) -> Encoder:
    return Encoder(Bundle.load(encoder_folder, standins.ONE_THREAD))


@pytest.fixture
def lattice_frames() -> tuple[Frames, np.ndarray]:
    """One 128 × 160 px frame at 0.2 Å/px with columns 3 Å apart, and where they are."""
    yx = standins.square_lattice((128, 160), 15.0)
    return Frames(standins.draw((128, 160), yx, 2.0, seed=1)[None], standins.SAMPLING, "user", path="lattice"), yx
