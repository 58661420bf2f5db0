"""A folder of results is whole or not there; what was there before survives every failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from stemzoo.errors import OutputError
from stemzoo.io.outputs import check_folder, folders_for, new_file, new_folder


def _earlier(folder: Path) -> None:
    folder.mkdir()
    (folder / "columns.csv").write_text("old")
    (folder / "latent_3.png").write_text("old")


def test_new_folder_appears_whole_with_its_parents(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a" / "b") as inside:
        (inside / "columns.csv").write_text("new")
        assert not (tmp_path / "a" / "b").exists()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b"]
    assert (tmp_path / "a" / "b" / "columns.csv").read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_nothing_behind(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), new_folder(tmp_path / "a" / "b") as inside:
        (inside / "columns.csv").write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_earlier_result_is_replaced_whole_and_kept_on_failure(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _earlier(out)
    with pytest.raises(RuntimeError), new_folder(out) as inside:
        (inside / "columns.csv").write_text("half")
        raise RuntimeError
    assert (out / "columns.csv").read_text() == "old"
    with new_folder(out) as inside:
        (inside / "columns.csv").write_text("new")
    assert [p.name for p in out.iterdir()] == ["columns.csv"] and (out / "columns.csv").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_file_appears_whole_or_leaves_the_earlier_one(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "table"
    for text in ("earlier", "later"):
        with new_file(path) as part:
            part.write_text(text)
    with pytest.raises(error), new_file(path) as part:
        part.write_text("half")
        raise error
    with (
        pytest.raises(OutputError, match=r"table: cannot be written \(No space left on device\); free some$"),
        new_file(path, "free some") as part,
    ):
        part.write_text("half")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "later" and list(tmp_path.iterdir()) == [path]


def test_foreign_files_are_refused_without_force(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _earlier(out)
    (out / "thesis.tex").write_text("precious")
    with pytest.raises(OutputError, match=r"thesis\.tex.*--force"):
        check_folder(out)
    check_folder(out, force=True)


def test_places_that_cannot_be_written_are_refused_before_computing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        check_folder(tmp_path / "file")
    with pytest.raises(OutputError, match="cannot be written"):
        check_folder(tmp_path / "file" / "below")
    with pytest.raises(OutputError, match="cannot be written"):
        check_folder(Path("/proc/stemzoo"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="the folder you work in"):
        check_folder(Path("."), force=True)


def test_equal_stems_get_folders_of_their_own() -> None:
    names = [p.name for p in folders_for(["a/x.tif", "b/x.tif", "x.dm4"], Path("o"))]
    assert len(set(names)) == 3 and names[2] == "x_dm4"
