"""The tables that travel through stemzoo: some of their rows keep together what belongs together, what cannot be is refused by name, and
each says in one line what it holds."""

from __future__ import annotations

import numpy as np
import pytest

from stemzoo.errors import PixelSizeError, ShapeError
from stemzoo.types import COLUMN_FIELDS, ENCODING_FIELDS, SUB_IMAGE_FIELDS, Analysis, Columns, Encoding, Frames, ModelId, SubImages

N = 6
CHOICES = {"slice": slice(1, None, 2), "mask": np.arange(N) % 2 == 1, "numbers": np.array([1, 3, 5])}


def columns(**changed: object) -> Columns:
    """Return six columns whose every value says which of them it belongs to."""
    of = np.arange(N)
    values = {"yx": np.stack([of, of], 1), "sigma": np.stack([of, of], 1), "species": of, "intensity": of, "confidence": of / N}
    return Columns(
        **{**values, "fit_ok": of % 2 == 1, "classes": tuple("abcdef"), "pixel_size": 0.2, "frame": 3, "agreement": of / N, **changed}
    )


def encoding(first: int = 0) -> Encoding:
    """Return six rows that say which they are, counted from `first`."""
    of = first + np.arange(N)
    return Encoding(of / 10, of / 100, 1 + of, np.stack([of, -of], 1).astype(np.float32), of, of, of % 2 == 1)


@pytest.mark.parametrize("chosen", CHOICES.values(), ids=CHOICES)
def test_rows_of_a_table_keep_their_values_together(chosen: slice | np.ndarray) -> None:
    some = columns().rows(chosen)
    assert some.yx[:, 0].tolist() == some.sigma[:, 1].tolist() == some.species.tolist() == some.intensity.tolist() == [1, 3, 5]
    assert some.fit_ok.all() and np.allclose(some.confidence, [1 / 6, 3 / 6, 5 / 6]) and np.array_equal(some.agreement, some.confidence)
    assert (some.classes, some.pixel_size, some.frame) == (tuple("abcdef"), 0.2, 3)
    rows = encoding().rows(chosen)
    assert rows.column.tolist() == rows.frame.tolist() == rows.latents[:, 0].tolist() == [1, 3, 5] and rows.inside.all()
    assert rows.symmetry.tolist() == [2, 4, 6] and np.allclose(rows.angle, 10 * rows.angle_sigma)
    of = np.arange(N)
    images = SubImages(np.ones((N, 4, 4), np.float32) * of[:, None, None], of, of, of % 2 == 1, 0.3).rows(chosen)
    assert images.data[:, 0, 0].tolist() == images.frame.tolist() == images.column.tolist() == [1, 3, 5] and images.inside.all()
    assert images.pixel_size == 0.3


def test_encodings_are_joined_in_order() -> None:
    whole = Encoding.joined([encoding(), Encoding.empty(latents=2), encoding(first=N)])
    assert whole.column.tolist() == list(range(2 * N)) == (-whole.latents[:, 1]).tolist()


@pytest.mark.parametrize("field", [name for name in COLUMN_FIELDS if name != "yx"])
def test_a_column_lacks_no_value(field: str) -> None:
    with pytest.raises(ShapeError, match=rf"Columns\.{field} has shape \(5.*wanted \(6"):
        columns(**{field: getattr(columns(), field)[1:]})


@pytest.mark.parametrize("field", [name for name in ENCODING_FIELDS if name != "latents"])
def test_a_row_of_an_encoding_lacks_no_value(field: str) -> None:
    values = {name: getattr(encoding(), name) for name in ENCODING_FIELDS}
    with pytest.raises(ShapeError, match=rf"Encoding\.{field} has shape \(5,\); wanted \(6,\)"):
        Encoding(**{**values, field: values[field][1:]})


@pytest.mark.parametrize("field", SUB_IMAGE_FIELDS[1:])
def test_a_sub_image_lacks_no_value(field: str) -> None:
    values = {"frame": np.arange(N), "column": np.arange(N), "inside": np.ones(N, bool)}
    with pytest.raises(ShapeError, match=rf"SubImages\.{field} has shape \(5,\); wanted \(6,\)"):
        SubImages(np.zeros((N, 4, 4), np.float32), **{**values, field: values[field][1:]})


def test_what_no_frame_can_be_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"shape \(32, 32\); wanted \(T, H, W\)"):
        Frames(np.zeros((32, 32)))
    with pytest.raises(ShapeError, match="frame is 15×32 px; the smallest that can hold a column is 16×16 px"):
        Frames(np.zeros((1, 15, 32)))
    with pytest.raises(PixelSizeError, match=r"pixel size 0\.2 cannot have the source 'unknown'"):
        Frames(np.zeros((1, 32, 32)), 0.2)
    with pytest.raises(PixelSizeError, match=r"pixel size -0\.2 Å/px is not a positive number"):
        Frames(np.zeros((1, 32, 32)), -0.2, "user")
    with pytest.raises(ShapeError, match="species runs from 0 to 5; wanted indices into"):
        columns(classes=("a", "b"))


def test_columns_of_which_only_the_places_are_known_claim_nothing_else() -> None:
    yx = np.array([[3.0, 1.0], [2.0, 5.0]])
    table = Columns.at(yx, pixel_size=0.2, frame=4)
    assert np.array_equal(table.yx, yx) and (table.pixel_size, table.frame, table.classes) == (0.2, 4, ("column",))
    assert not table.fit_ok.any() and not table.species.any()
    assert all(np.isnan(getattr(table, name)).all() for name in ("sigma", "intensity", "confidence", "agreement"))


def test_each_type_prints_as_one_line() -> None:
    many = 5000
    frames = Frames(np.arange(600.0).reshape(1, 20, 30), 0.25, "user", "a.tif")
    assert repr(frames) == "Frames(a.tif: 1 of 20×30 px float64, 0.25 Å/px (user))"
    assert repr(Frames(np.zeros((3, 20, 30), np.uint8))) == "Frames(array: 3 of 20×30 px uint8, pixel size unknown (unknown))"
    column, ok = np.arange(many), np.arange(many) > 1
    columns = Columns(np.ones((many, 2)), np.full((many, 2), 0.125), column % 2, column, np.ones(many), ok, ("Sr", "Fe"), 0.25)
    assert repr(columns) == "Columns(5000 in frame 0, 2500 Sr, 2500 Fe, 0.25 Å/px, median σ 0.125 px, 2 fits failed)"
    assert repr(Columns.empty()) == "Columns(0 in frame 0, pixel size unknown)"
    unknown = Columns(np.ones((1, 2)), np.full((1, 2), np.nan), [0], [0], [1], [True])
    assert repr(unknown) == "Columns(1 in frame 0, pixel size unknown)", "of errors that a table does not state nothing is said"
    assert repr(Columns.at(np.ones((1, 2)))) == repr(unknown), "what was never fitted did not fail"
    pieces = SubImages(np.zeros((many, 8, 8), np.float32), column, column, ok, 0.25)
    assert repr(pieces) == "SubImages(5000 of 8×8 px, 0.25 Å/px, 4998 inside their frame)"
    angle = np.where(ok, 0.5, np.nan)
    encoding = Encoding(angle, angle, np.ones(many, int), np.zeros((many, 2), np.float32), column, column, ok)
    assert repr(encoding) == "Encoding(5000 columns, 4998 with angle and 2 latents)"
    found = Analysis(frames, (columns,), ModelId("blob@1", "00"), notices=("One.",))
    assert repr(found) == f"Analysis({frames!r}, 5000 columns by blob@1, 1 notices)"
    encoded = Analysis(frames, (columns,), ModelId("blob@1", "00"), encoding, ModelId("dipole@2", "11"))
    assert repr(encoded) == f"Analysis({frames!r}, 5000 columns by blob@1, {encoding!r} by dipole@2, 0 notices)"
