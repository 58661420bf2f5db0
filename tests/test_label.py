"""Labelled frames: what was clicked is what training sees; what cannot be true is refused, what is doubtful is said."""

import numpy as np
import pytest
import tifffile

from stemzoo.errors import DatasetError, PixelSizeError, TableError
from stemzoo.io.datasets import Dataset
from stemzoo.io.labels import read_labels
from stemzoo.label import label_frames


@pytest.fixture
def frame(tmp_path):
    path = tmp_path / "frame.npy"
    np.save(path, np.random.default_rng(0).poisson(20, (64, 80)).astype(np.float32))
    return path


@pytest.fixture
def lattice(tmp_path):
    """A frame of 96 px at 0.2 Å/px with columns 9.4 px apart in y and 13.2 px in x, so that exchanged axes miss; and their positions."""
    yx = np.stack(np.meshgrid(np.arange(9.3, 92, 9.4), np.arange(8.6, 92, 13.2), indexing="ij"), -1).reshape(-1, 2)
    y, x = np.mgrid[:96, :96]
    image = 5 + 60 * np.exp(-((y - yx[:, 0, None, None]) ** 2 + (x - yx[:, 1, None, None]) ** 2) / (2 * 2.0**2)).sum(0)
    path = tmp_path / "lattice.tif"
    tifffile.imwrite(path, np.random.default_rng(0).poisson(image).astype(np.float32))
    return path, yx


def _table(tmp_path, text):
    path = tmp_path / "columns.csv"
    path.write_text(text)
    return path


def test_labels_arrive_as_clicked(frame, tmp_path):
    table = _table(tmp_path, "y_px,x_px,species\n40.5,10.25,B\n12.0,70.5,A\n")
    data = Dataset(label_frames([(frame, table)], tmp_path / "d.h5", pixel_size=0.2, material="mine").path)
    yx, species = data.columns(0)
    assert yx.tolist() == [[12.0, 70.5], [40.5, 10.25]]
    assert [data.classes[s] for s in species] == ["A", "B"]
    assert np.array_equal(data.image(0), np.load(frame))
    assert not data.has_expected(0)
    assert data.attributes(0)["pixel_size"] == 0.2


@pytest.mark.parametrize(("slices", "frames"), [((1, 2, 2), [1, 2]), ((2, 2, 2), [0, 3]), ((0, 0, 0), [3, 0])])
def test_imagej_counts_slices_from_one(tmp_path, slices, frames):
    path = tmp_path / "stack.npy"
    np.save(path, np.random.default_rng(0).normal(100, 1, (2, 48, 48)).astype(np.float32))
    rows = "".join(f"{k},{10 + k},20,{number}\n" for k, number in enumerate(slices, 1))
    labelled = read_labels(_table(tmp_path, " ,X,Y,Slice\n" + rows), 0.2)
    assert np.bincount(labelled.frame, minlength=2).tolist() == frames
    assert ("less 1" in labelled.understood) == (min(slices) > 0)


def test_our_own_table_corrected_by_hand(frame, tmp_path):
    header = "frame,column,y_px,x_px,y_A,x_A,sigma_y_px,sigma_x_px,species,intensity,confidence,fit_ok\n"
    by_locate, by_hand = "0,0,12.0,70.5,2.4,14.1,0.05,0.05,column,900,0.99,1\n", "0,,40.5,10.25,,,,,column,,,\n"
    found = label_frames([(frame, _table(tmp_path, header + by_locate + by_hand))], tmp_path / "d.h5", pixel_size=0.2)
    assert Dataset(found.path).columns(0)[0].tolist() == [[12.0, 70.5], [40.5, 10.25]]


def test_a_stack_is_one_scene(tmp_path):
    path = tmp_path / "stack.npy"
    np.save(path, np.random.default_rng(0).poisson(20, (2, 64, 80)).astype(np.float32))
    table = _table(tmp_path, "frame,y_px,x_px\n0,10,20\n1,11,21\n")
    data = Dataset(label_frames([(path, table)], tmp_path / "d.h5", pixel_size=0.2).path)
    assert data.scene(0) == data.scene(1)
    assert data.columns(1)[0].tolist() == [[11.0, 21.0]]
    with pytest.raises(TableError, match="frame"):
        label_frames([(path, _table(tmp_path, "frame,y_px,x_px\n0,10,20\n7,11,21\n"))], tmp_path / "e.h5", pixel_size=0.2)
    with pytest.raises(TableError, match=r"a column of frame 7; .* has the frames 0 to 1"):
        label_frames([(path, _table(tmp_path, "frame,y,x\n0,10,20\n7,11,21\n"))], tmp_path / "e.h5", pixel_size=0.2)


def test_statstem_lands_on_the_columns_and_a_wrong_program_is_noticed(lattice, tmp_path):
    path, yx = lattice
    rows = "\n".join(f"{(x + 1) * 0.2},{(y + 1) * 0.2},1" for y, x in yx)
    found = label_frames([(path, _table(tmp_path, rows))], tmp_path / "d.h5", pixel_size=0.2)
    order = np.lexsort((yx[:, 1], yx[:, 0]))
    assert Dataset(found.path).columns(0)[0] == pytest.approx(yx[order])
    assert len(found.notices) == 1 and not found.doubts
    shifted = "\n".join(f"{x + 1},{y + 1}" for y, x in yx)
    doubtful = label_frames([(path, _table(tmp_path, shifted))], tmp_path / "e.h5", pixel_size=0.2)
    assert "do they count from 1" in doubtful.doubts[0]
    exchanged = "\n".join(f"{y},{x}" for y, x in yx)
    assert "exchange them" in label_frames([(path, _table(tmp_path, exchanged))], tmp_path / "f.h5", pixel_size=0.2).doubts[0]


def test_dead_pixels_are_filled(frame, tmp_path):
    image = np.load(frame)
    image[5:8, 9] = np.nan
    np.save(frame, image)
    data = Dataset(label_frames([(frame, _table(tmp_path, "y_px,x_px\n40,10\n"))], tmp_path / "d.h5", pixel_size=0.2).path)
    assert np.isfinite(data.image(0)).all()
    assert np.array_equal(data.image(0)[np.isfinite(image)], image[np.isfinite(image)])


def test_what_cannot_be_true_is_refused_and_leaves_nothing(frame, tmp_path):
    table = _table(tmp_path, "y_px,x_px\n70.0,12.0\n")
    with pytest.raises(TableError, match="are y and x exchanged"):
        label_frames([(frame, table)], tmp_path / "d.h5", pixel_size=0.2)
    with pytest.raises(PixelSizeError, match="pass --pixel-size"):
        label_frames([(frame, table)], tmp_path / "d.h5")
    with pytest.raises(DatasetError, match="no column for frame 0"):
        label_frames([(frame, _table(tmp_path, "y_px,x_px\n"))], tmp_path / "d.h5", pixel_size=0.2)
    assert not list(tmp_path.glob("*.h5*"))
