"""Labelled frames: what was clicked is what training sees; what cannot be true is refused."""

import numpy as np
import pytest

from stemzoo.errors import DatasetError, PixelSizeError
from stemzoo.io.datasets import Dataset
from stemzoo.label import label_frames


@pytest.fixture
def frame(tmp_path):
    path = tmp_path / "frame.npy"
    np.save(path, np.random.default_rng(0).poisson(20, (64, 80)).astype(np.float32))
    return path


def _table(tmp_path, text):
    path = tmp_path / "columns.csv"
    path.write_text(text)
    return path


def test_labels_arrive_as_clicked(frame, tmp_path):
    table = _table(tmp_path, "y_px,x_px,species\n40.5,10.25,B\n12.0,70.5,A\n")
    data = Dataset(label_frames([(frame, table)], tmp_path / "d.h5", pixel_size=0.2, material="mine"))
    yx, species = data.columns(0)
    assert yx.tolist() == [[12.0, 70.5], [40.5, 10.25]]
    assert [data.classes[s] for s in species] == ["A", "B"]
    assert np.array_equal(data.image(0), np.load(frame))
    assert not data.has_expected(0)
    assert data.attributes(0)["pixel_size"] == 0.2


def test_what_cannot_be_true_is_refused_and_leaves_nothing(frame, tmp_path):
    table = _table(tmp_path, "y_px,x_px\n70.0,12.0\n")
    with pytest.raises(DatasetError, match="are y and x exchanged"):
        label_frames([(frame, table)], tmp_path / "d.h5", pixel_size=0.2)
    with pytest.raises(PixelSizeError, match="pass --pixel-size"):
        label_frames([(frame, table)], tmp_path / "d.h5")
    assert not list(tmp_path.glob("*.h5*"))
