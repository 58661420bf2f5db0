"""Tables of other programs: the same columns come back in the same pixels, whatever the names, the unit and the origin."""

import numpy as np
import pytest

from stemzoo.errors import PixelSizeError, TableError
from stemzoo.io.labels import read_labels

YX = np.array([[10.25, 30.5], [12.0, 7.75], [40.5, 21.0], [50.125, 2.5], [51.5, 33.25], [60.0, 60.0]])
SIZE = 0.2  # Å/px


def _table(tmp_path, text):
    path = tmp_path / "columns.csv"
    path.write_text(text)
    return path


def _lines(names, *columns, delimiter=","):
    rows = [delimiter.join(str(value) for value in row) for row in zip(*columns, strict=True)]
    return "\n".join(([delimiter.join(names)] if names else []) + rows) + "\n"


def test_atomap_as_its_guide_saves_it(tmp_path):
    path = tmp_path / "datafile.csv"
    sigma = np.full(6, 3.1)
    np.savetxt(path, (YX[:, 1], YX[:, 0], sigma, sigma, sigma), delimiter=",")
    labels = read_labels(path, SIZE)
    assert labels.yx == pytest.approx(YX)
    assert "the first pixel at 0" in labels.understood
    np.savetxt(path, np.stack([YX[:, 1], YX[:, 0]], axis=1))  # sublattice.atom_positions, spaces
    assert read_labels(path, SIZE).yx == pytest.approx(YX)


def test_statstem_counts_pixels_from_one_in_angstrom(tmp_path):
    kinds = [1, 2, 1, 2, 1, 1]
    x, y = (YX[:, 1] + 1) * SIZE, (YX[:, 0] + 1) * SIZE
    for names in ([], ["coordinates_1", "coordinates_2", "coordinates_3"]):
        labels = read_labels(_table(tmp_path, _lines(names, x, y, kinds)), SIZE)
        assert labels.yx == pytest.approx(YX)
        assert labels.species[:2] == ("type 1", "type 2")
        assert "the first pixel at 1" in labels.understood
    labels = read_labels(_table(tmp_path, _lines([], x, y)), SIZE, "statstem")
    assert labels.yx == pytest.approx(YX)
    with pytest.raises(PixelSizeError, match="positions in å, but the frame has no pixel size; pass --pixel-size"):
        read_labels(_table(tmp_path, _lines([], x, y, kinds)), None)


def test_imagej_results_with_a_number_in_front(tmp_path):
    text = _lines([" ", "X", "Y", "Slice"], range(1, 7), YX[:, 1], YX[:, 0], [0, 0, 1, 1, 1, 2])
    labels = read_labels(_table(tmp_path, text), SIZE)
    assert labels.yx == pytest.approx(YX)
    assert labels.frame.tolist() == [0, 0, 1, 1, 1, 2]
    assert set(labels.species) == {"column"}


@pytest.mark.parametrize(
    ("names", "factor"),
    [(["x (nm)", "y (nm)"], SIZE / 10), (["x_A", "y_A"], SIZE), (["x [Å]", "y [Å]"], SIZE), (["x_position", "y_position"], 1.0)],
)
def test_units_are_read_from_the_names(tmp_path, names, factor):
    labels = read_labels(_table(tmp_path, _lines(names, YX[:, 1] * factor, YX[:, 0] * factor)), SIZE)
    assert labels.yx == pytest.approx(YX)


@pytest.mark.parametrize("delimiter", [";", "\t", " "])
def test_any_separator_will_do_and_the_decimal_comma_too(tmp_path, delimiter):
    text = _lines(["row", "col", "element"], YX[:, 0], YX[:, 1], list("ABABAB"), delimiter=delimiter)
    labels = read_labels(_table(tmp_path, text.replace(".", ",") if delimiter == ";" else text), SIZE)
    assert labels.yx == pytest.approx(YX)
    assert labels.species[1] == "B"


def test_of_two_units_the_pixel_is_taken(tmp_path):
    text = _lines(["x (px)", "y (px)", "x (nm)", "y (nm)"], YX[:, 1], YX[:, 0], YX[:, 1] * 0.5, YX[:, 0] * 0.5)
    assert read_labels(_table(tmp_path, text), SIZE).yx == pytest.approx(YX)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty; wanted the positions of columns"),
        ("a,b\n1,2\n", "line 1: no field for y among a, b; call it y_px"),
        ("x,y\n1,2\n3\n", "line 3: 1 cells; line 1 has 2"),
        ("x,y\n1,two\n", "line 2: y is 'two'; wanted a number"),
        ("x,y\n1,nan\n", "line 2: y is 'nan'; wanted a number"),
        ("x (nm),y (px)\n1,2\n", "y is in px and x in nm; export both in px"),
        ("x,pos_x,y\n1,2,3\n", "'x' and 'pos_x' both name x; keep one of them"),
        ("1,2,3.5\n4,5,6.5\n" * 4, "3 numbers a line without names; .* or which program wrote them with --program"),
    ],
)
def test_what_leaves_a_doubt_is_refused(tmp_path, text, said):
    with pytest.raises(TableError, match=said):
        read_labels(_table(tmp_path, text), SIZE)


def test_a_matlab_file_is_refused_with_the_way_out(tmp_path):
    path = tmp_path / "output.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file\xff\xfe\x00\x01" * 20)
    with pytest.raises(TableError, match="not text; export the positions as CSV, in MATLAB by writematrix"):
        read_labels(path, SIZE)
    with pytest.raises(TableError, match="cannot be read"):
        read_labels(tmp_path / "none.csv", SIZE)
