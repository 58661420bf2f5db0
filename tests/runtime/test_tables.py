"""columns.csv: the header to the letter, round trips, other people's tables, refusals by line and field."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stemzoo.errors import OutputError, TableError
from stemzoo.runtime.tables import read_columns, write_columns
from stemzoo.types import Analysis, Columns, Encoding, Frames, ModelId

HEADER = "frame,column,y_px,x_px,y_A,x_A,sigma_y_px,sigma_x_px,species,intensity,confidence,fit_ok"


def make(
    counts: tuple[int, ...], pixel_size: float | None = 0.2, latents: int | None = None, classes: tuple[str, ...] = ("Sr", "Fe/O")
) -> Analysis:
    rng = np.random.default_rng(3)
    tables = []
    for t, n in enumerate(counts):
        yx = rng.uniform(0, 60, (n, 2))
        yx = yx[np.lexsort((yx[:, 1], yx[:, 0]))]
        species, fit_ok = rng.integers(0, len(classes), n), rng.random(n) > 0.2
        tables.append(
            Columns(yx, rng.uniform(0.01, 0.1, (n, 2)), species, rng.gamma(2, 1e4, n), rng.random(n), fit_ok, classes, pixel_size, t)
        )
    source = "unknown" if pixel_size is None else "user"
    analysis = Analysis(Frames(rng.random((len(counts), 64, 64)), pixel_size, source), tuple(tables), ModelId("m@1", ""))
    if latents is None:
        return analysis
    n = sum(counts)
    inside = np.arange(n) % 4 != 1
    hole = np.where(inside, 1.0, np.nan)
    frame = np.repeat(np.arange(len(counts)), counts)
    column = np.concatenate([np.arange(count) for count in counts])
    encoding = Encoding(
        rng.uniform(-3, 3, n) * hole,
        hole,
        np.ones(n, int),
        (rng.normal(size=(n, latents)) * hole[:, None]).astype(np.float32),
        frame,
        column,
        inside,
    )
    return replace(analysis, encoding=encoding)


def test_header_and_first_row(tmp_path: Path) -> None:
    path = tmp_path / "columns.csv"
    columns = Columns([[1.5, 2.25]], [[0.01, 0.02]], [1], [12345.678], [0.875], [True], ("Sr", "Fe/O"), 0.2)
    write_columns(path, replace(make((1,)), columns=(columns,)))
    assert path.read_text().splitlines() == [HEADER, "0,0,1.500000,2.250000,0.300000,0.450000,0.010000,0.020000,Fe/O,12345.678,0.875,1"]


def test_unknown_angstrom_and_edge_columns_are_empty(tmp_path: Path) -> None:
    path = tmp_path / "columns.csv"
    write_columns(path, make((3,), None, latents=2))
    lines = [line.split(",") for line in path.read_text().splitlines()]
    assert ",".join(lines[0]) == HEADER + ",angle_rad,z1,z2"
    assert all(line[4:6] == ["", ""] for line in lines[1:])
    assert lines[2][12:] == ["", "", ""] and all(lines[1][12:]) and all(lines[3][12:])
    assert "nan" not in path.read_text()


@pytest.mark.parametrize("latents", [None, 3])
def test_round_trip(tmp_path: Path, latents: int | None) -> None:
    path = tmp_path / "columns.csv"
    analysis = make((40, 0, 25), latents=latents)
    write_columns(path, analysis)
    table = read_columns(path, n_frames=3, pixel_size=0.2)
    assert [len(columns) for columns in table.columns] == [40, 0, 25]
    for found, wanted in zip(table.columns, analysis.columns, strict=True):
        np.testing.assert_allclose(found.yx, wanted.yx, atol=5.1e-7)
        np.testing.assert_allclose(found.sigma, wanted.sigma, atol=5.1e-7)
        np.testing.assert_allclose(found.intensity, wanted.intensity, rtol=1e-7)
        np.testing.assert_allclose(found.confidence, wanted.confidence, rtol=1e-6)
        np.testing.assert_array_equal(found.fit_ok, wanted.fit_ok)
        assert [found.classes[k] for k in found.species] == [wanted.classes[k] for k in wanted.species]
        assert found.frame == wanted.frame and found.pixel_size == 0.2
    if latents is None:
        assert table.angle is None and table.latents is None
    else:
        assert analysis.encoding is not None and table.angle is not None and table.latents is not None
        np.testing.assert_allclose(table.angle, analysis.encoding.angle, atol=1e-6)
        np.testing.assert_allclose(table.latents, analysis.encoding.latents, rtol=1e-6)


def test_names_with_commas_and_quotes(tmp_path: Path) -> None:
    path = tmp_path / "columns.csv"
    write_columns(path, make((30,), classes=('A, "big"', "nan-like")))
    table = read_columns(path)
    assert set(table.columns[0].classes) == {'A, "big"', "nan-like"}


def test_a_table_of_positions_alone(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("\ufeffx_px, y_px, note\r\n10,30,first\r\n 5,20,second\r\n\r\n", encoding="utf-8")
    table = read_columns(path, pixel_size=0.1)
    (columns,) = table.columns
    np.testing.assert_array_equal(columns.yx, [[20, 5], [30, 10]])
    np.testing.assert_array_equal(table.row[0], [1, 0])
    assert columns.fit_ok.all() and columns.classes == ("column",)
    unknown = np.column_stack([columns.sigma, columns.confidence, columns.intensity])
    assert np.isnan(unknown).all(), "nothing is invented: what the table does not say is unknown"


def test_words_for_fit_ok(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("y_px,x_px,fit_ok\n1,1,True\n2,2,false\n3,3,\n")
    np.testing.assert_array_equal(read_columns(path).columns[0].fit_ok, [True, False, True])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty; wanted a header line"),
        ("y_px;x_px\n1;2\n", "line 1: the field y_px is missing; the header has y_px;x_px; separate fields by commas"),
        ("y,x\n1,2\n", "line 1: the field y_px is missing"),
        ("y_px,x_px,y_px\n1,2,3\n", "line 1: the field y_px stands twice"),
        ("y_px,x_px\n1,2\n3\n", "line 3: 1 cells; the header has 2 fields"),
        ("y_px,x_px\n1,2\n3,four\n", "line 3: x_px is 'four'; wanted a number"),
        ("y_px,x_px\n1,2\n,4\n", "line 3: y_px is empty or not finite"),
        ("y_px,x_px\n1,2\n3,inf\n", "line 3: x_px is empty or not finite"),
        ("frame,y_px,x_px\n0,1,2\n2,3,4\n", "line 3: frame is 2; wanted 0 to 1"),
        ("frame,y_px,x_px\n-1,1,2\n", "line 2: frame is -1; wanted 0 to 1"),
        ("frame,y_px,x_px\n0.5,1,2\n", "line 2: frame is 0.5; wanted 0 to 1"),
    ],
)
def test_refusals(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(TableError, match=message):
        read_columns(path, n_frames=2)


def test_binary_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "image.csv").write_bytes(bytes(range(256)))
    with pytest.raises(TableError, match="not a CSV table"):
        read_columns(tmp_path / "image.csv")
    with pytest.raises(TableError, match=r"none.csv: cannot be read \(No such file or directory\)"):
        read_columns(tmp_path / "none.csv")


def test_nothing_is_left_where_writing_fails(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"columns.csv: cannot be written \(No such file or directory\); pass another --out"):
        write_columns(tmp_path / "gone" / "columns.csv", make((3,)))
    (tmp_path / "columns.csv").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_columns(tmp_path / "columns.csv", make((3,)))
    assert [path.name for path in tmp_path.iterdir()] == ["columns.csv"]


def test_no_columns(tmp_path: Path) -> None:
    path = tmp_path / "columns.csv"
    write_columns(path, make((0,), latents=2))
    assert path.read_text() == HEADER + ",angle_rad,z1,z2\n"
    table = read_columns(path, n_frames=1)
    assert len(table.columns[0]) == 0 and table.latents is not None and table.latents.shape == (0, 2)


def test_many_columns_are_quick(tmp_path: Path) -> None:
    path = tmp_path / "columns.csv"
    analysis = make((50_000,), latents=2)
    start = time.process_time()
    write_columns(path, analysis)
    written = time.process_time()
    assert len(read_columns(path).columns[0]) == 50_000
    assert written - start < 1.5 and time.process_time() - written < 3
