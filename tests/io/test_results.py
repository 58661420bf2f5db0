"""analysis.h5 gives back what was written, and viewers find their way through it."""

from __future__ import annotations

import dataclasses
import multiprocessing
import re
import resource
from pathlib import Path

import h5py
import numpy as np
import pytest

from stemzoo.errors import OutputError, ReadError
from stemzoo.io import results
from stemzoo.io.read_results import read_results
from stemzoo.io.results import write_results
from stemzoo.types import COLUMN_FIELDS, ENCODING_FIELDS, Analysis, Columns, Encoding, Frames, ModelId


def analysis(n_frames: int = 2, pixel_size: float | None = 0.2) -> Analysis:
    """Return a small analysis with `7 + t` columns in frame t, two latents, one failed fit."""
    rng = np.random.default_rng(0)
    data = rng.random((n_frames, 40, 48)).astype(np.float32)
    source = "unknown" if pixel_size is None else "user"
    frames = Frames(data, pixel_size, source, "a/b.dm4", "12" * 32, {"energy_kev": 200}, ("The unit was missing.",))
    tables = []
    for t in range(n_frames):
        n = 7 + t
        ok = np.arange(n) != 2
        found = Columns(rng.random((n, 2)) * 40, rng.random((n, 2)), np.arange(n) % 2, rng.random(n), rng.random(n), ok, ("Sr", "Fe"))
        tables.append(dataclasses.replace(found, pixel_size=pixel_size, frame=t, agreement=np.arange(n) % 4 / 3))
    n = sum(len(c) for c in tables)
    frame = np.repeat(np.arange(n_frames), [len(c) for c in tables])
    number = np.concatenate([np.arange(len(c)) for c in tables])
    angle = rng.uniform(-3, 3, n)
    angle[1] = np.nan
    encoding = Encoding(angle, np.full(n, np.nan), np.full(n, 2), rng.random((n, 2)).astype(np.float32), frame, number, np.arange(n) > 1)
    return Analysis(
        frames,
        tuple(tables),
        ModelId("s@1", "a" * 64),
        encoding,
        ModelId("e@2", "b" * 64),
        0.9,
        16.5,
        ("Ω notice",),
        {"network": 0.5},
        "0.1.0",
        0.21,
    )


@pytest.mark.parametrize("pixel_size", [0.2, None])
def test_round_trip_keeps_every_number(tmp_path: Path, pixel_size: float | None) -> None:
    written = analysis(pixel_size=pixel_size)
    write_results(tmp_path / "analysis.h5", written)
    read = read_results(tmp_path / "analysis.h5")
    for a, b in zip(written.columns, read.columns, strict=True):
        for name in COLUMN_FIELDS:
            assert np.array_equal(getattr(a, name), getattr(b, name)), name
        assert (a.classes, a.pixel_size, a.frame) == (b.classes, b.pixel_size, b.frame)
    assert read.encoding is not None and written.encoding is not None
    for name in ENCODING_FIELDS:
        assert np.array_equal(getattr(written.encoding, name), getattr(read.encoding, name), equal_nan=True), name
    assert np.array_equal(read.frames.frame(0), written.frames.frame(0))
    for name in ("segmenter", "encoder", "sampling_factor", "window_px", "notices", "seconds", "version", "sampling"):
        assert getattr(written, name) == getattr(read, name), name
    for name in ("pixel_size", "pixel_size_source", "path", "sha256", "metadata", "notices"):
        assert getattr(written.frames, name) == getattr(read.frames, name), name


def test_later_frames_are_a_reference_to_the_input(tmp_path: Path) -> None:
    write_results(tmp_path / "analysis.h5", analysis(n_frames=3))
    read = read_results(tmp_path / "analysis.h5")
    assert len(read.frames) == 3
    with pytest.raises(ReadError, match=r"frame 2 is not kept .* a/b\.dm4"):
        read.frames.frame(2)


def test_a_viewer_following_nexus_lands_on_the_frame_and_its_axes(tmp_path: Path) -> None:
    written = analysis()
    probability = np.linspace(0, 1, 20 * 24, dtype=np.float32).reshape(20, 24)
    write_results(tmp_path / "analysis.h5", written, probability)
    with h5py.File(tmp_path / "analysis.h5") as file:
        group: h5py.Group = file
        while "default" in group.attrs:
            group = group[group.attrs["default"]]
        assert group.attrs["NX_class"] == "NXdata"
        signal, axes = group[group.attrs["signal"]], [group[name] for name in group.attrs["axes"]]
        assert signal.shape == (40, 48) == tuple(len(a) for a in axes)
        assert axes[1][-1] == pytest.approx(47 * 0.2) and axes[1].attrs["units"] == "angstrom"
        coarse = file["entry/probability"]
        assert coarse["x"][0] == pytest.approx(0.5 * 0.2) and coarse["x"][-1] == pytest.approx(46.5 * 0.2)
        for name in ("angle", "latent_1", "latent_2"):
            scatter = file[f"entry/maps/{name}"]
            lengths = {len(scatter[key]) for key in (scatter.attrs["signal"], *scatter.attrs["axes"])}
            assert scatter.attrs["NX_class"] == "NXdata" and lengths == {7}
        assert np.allclose(file["entry/maps/angle/x"][()], written.columns[0].yx[:, 1] * 0.2)
        assert file["entry/columns/y_px"].attrs["units"] == "px"


def test_unknown_pixel_size_gives_px_axes_and_empty_angstrom(tmp_path: Path) -> None:
    write_results(tmp_path / "analysis.h5", analysis(pixel_size=None))
    with h5py.File(tmp_path / "analysis.h5") as file:
        assert file["entry/frame/x"].attrs["units"] == "px" and file["entry/frame/x"][3] == 3
        assert np.isnan(file["entry/columns/x_A"][()]).all()


def test_a_file_from_before_ensembles_says_nothing_of_agreement(tmp_path: Path) -> None:
    write_results(tmp_path / "analysis.h5", analysis())
    with h5py.File(tmp_path / "analysis.h5", "a") as file:
        del file["entry/columns/agreement"]
    assert all(np.isnan(columns.agreement).all() for columns in read_results(tmp_path / "analysis.h5").columns)


def test_frame_without_columns_round_trips(tmp_path: Path) -> None:
    empty = dataclasses.replace(analysis(1), columns=(Columns.empty(("Sr",), 0.2),), encoding=None, encoder=None)
    write_results(tmp_path / "analysis.h5", empty)
    assert len(read_results(tmp_path / "analysis.h5").columns[0]) == 0


def test_nothing_is_left_where_writing_fails(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=re.escape(str(tmp_path / "missing"))):
        write_results(tmp_path / "missing" / "analysis.h5", analysis())
    broken = dataclasses.replace(analysis(), seconds={"x": object()})  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        write_results(tmp_path / "analysis.h5", broken)
    assert list(tmp_path.iterdir()) == []


def test_refusals_name_the_file_and_what_was_wanted(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"none\.h5.*wanted analysis\.h5"):
        read_results(tmp_path / "none.h5")
    text = tmp_path / "text.h5"
    text.write_text("no")
    with pytest.raises(ReadError, match="cannot be read as HDF5"):
        read_results(text)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(ReadError, match="not an analysis"):
        read_results(tmp_path / "other.h5")
    write_results(tmp_path / "a.h5", analysis())
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["entry/columns/sigma_y_px"]
    with pytest.raises(ReadError, match="damaged"):
        read_results(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file.attrs["stemzoo_schema"] = 99
    with pytest.raises(ReadError, match="schema 99"):
        read_results(tmp_path / "a.h5")


def test_a_table_that_cannot_lie_in_its_file_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    write_results(tmp_path / "a.h5", analysis())
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["entry/columns/y_px"]
        file["entry/columns"].create_dataset("y_px", shape=(10**10,), dtype="f8")
    with pytest.raises(ReadError, match=r"y_px claims 80000000000 bytes"):
        read_results(tmp_path / "a.h5")


def _write_under_limits(folder: Path, whole: int) -> None:
    for limit in range(2000, whole, whole // 40):  # of any file's size, in bytes: a write beyond fails as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        with pytest.raises(OutputError, match=r"analysis.h5: cannot be written \(File too large\)"):
            write_results(folder / "analysis.h5", analysis())
        assert not list(folder.iterdir())


def test_a_disk_that_fills_up_is_refused_and_does_not_end_the_process(tmp_path: Path) -> None:
    write_results(tmp_path / "analysis.h5", analysis())
    whole = (tmp_path / "analysis.h5").stat().st_size
    (tmp_path / "analysis.h5").unlink()
    child = multiprocessing.get_context("spawn").Process(target=_write_under_limits, args=(tmp_path, whole))
    child.start()
    child.join()
    assert child.exitcode == 0


def test_more_columns_than_memory_takes_are_begun_only_where_the_disk_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "IN_MEMORY", 0)
    path = tmp_path / "analysis.h5"
    write_results(path, analysis())
    assert read_results(path).columns[0].yx == pytest.approx(analysis().columns[0].yx)
    monkeypatch.setattr(results, "BYTES_A_COLUMN", 1 << 60)
    with pytest.raises(OutputError, match=r"cannot be written \(no space left on device: .* wanted, .* free\)"):
        write_results(path, analysis())
