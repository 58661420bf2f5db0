"""A small simulated dataset and a network of a few thousand weights."""

from pathlib import Path

import pytest

from stemzoo.simulation import simulate_dataset
from stemzoo.training import SegmenterConfig

RECIPES = Path(__file__).parents[2] / "datasets"


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    return simulate_dataset(RECIPES / "srtio3.toml", 5, tmp_path_factory.mktemp("data") / "srtio3.h5", seed=1)


@pytest.fixture(scope="session")
def dimmer(tmp_path_factory):
    """The frames of `dataset` once more, at a tenth of the dose."""
    path = tmp_path_factory.mktemp("data") / "dimmer.h5"
    return simulate_dataset(RECIPES / "srtio3.toml", 5, path, seed=1, settings={"dose.counts_per_column": 100.0})


@pytest.fixture
def config(dataset):
    return SegmenterConfig(
        datasets=(str(dataset),),
        widths=(8, 16, 16),
        batch=4,
        steps=4,
        steps_per_epoch=2,
        validation_patches=4,
        validation_fraction=0.2,
        workers=0,
        patch_px=64,
    )
