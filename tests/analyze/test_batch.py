"""Files in batches: the same numbers however they are cut, frames that fail alone, and runs that go on where they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stemzoo.analyze import AnalyzeOptions, Outcome, analyze_file, locate_file
from stemzoo.analyze.batch import work
from stemzoo.analyze.journal import Journal
from stemzoo.errors import FrameError, ReadError
from stemzoo.io.read_results import read_results
from stemzoo.runtime.doubts import doubts_of
from stemzoo.types import Quality

OPTIONS = AnalyzeOptions(encoder="dipole", pixel_size=0.2, report=False)


def test_batches_give_what_one_batch_gives(stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = analyze_file(str(stack), tmp_path / "cut", OPTIONS)
    monkeypatch.setattr("stemzoo.analyze.plan.BATCH_FRAMES", 100)
    whole = analyze_file(str(stack), tmp_path / "whole", OPTIONS)
    assert (tmp_path / "cut" / "columns.csv").read_bytes() == (tmp_path / "whole" / "columns.csv").read_bytes()
    assert cut.summary == whole.summary and cut.notices == whole.notices
    a, b = (read_results(tmp_path / name / "analysis.h5") for name in ("cut", "whole"))
    assert all(np.array_equal(x.yx, y.yx) for x, y in zip(a.columns, b.columns, strict=True))
    assert a.encoding is not None and b.encoding is not None and np.array_equal(a.encoding.latents, b.encoding.latents, equal_nan=True)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_blank_frame_is_listed_and_the_others_are_there(stack: Path, tmp_path: Path) -> None:
    outcome = locate_file(str(stack), tmp_path / "out", OPTIONS)
    assert [(f.frame, f.lasting) for f in outcome.failures] == [(4, True)] and "frame 4 is constant" in outcome.failures[0].reason
    assert any("1 of 9 frames failed" in notice for notice in outcome.notices)
    frames = np.loadtxt(tmp_path / "out" / "columns.csv", delimiter=",", skiprows=1, usecols=0)
    assert set(frames) == {0, 1, 2, 3, 5, 6, 7, 8}
    np.save(tmp_path / "blank.npy", np.ones((3, 32, 32)))
    with pytest.raises(FrameError, match=r"blank.npy: frame 0 is constant"):
        locate_file(str(tmp_path / "blank.npy"), tmp_path / "none", OPTIONS)
    assert not (tmp_path / "none").exists() and not Journal(tmp_path / "none").folder.exists()


def test_a_run_that_was_broken_off_computes_only_what_is_missing(stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []

    def dies(plan, stage, number, models, progress=None):  # type: ignore[no-untyped-def]
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(number)
        return work(plan, stage, number, models, progress)

    with monkeypatch.context() as scope:
        scope.setattr("stemzoo.analyze.many.work", dies)
        with pytest.raises(KeyboardInterrupt):
            locate_file(str(stack), tmp_path / "out", OPTIONS)
    journal = Journal(tmp_path / "out")
    assert not (tmp_path / "out").exists() and len(list(journal.folder.glob("*.npz"))) == 3
    journal.path("analyze", 1).write_bytes(b"damaged")
    stamps = {k: journal.path("analyze", k).stat().st_mtime_ns for k in (0, 2)}
    seen: list[str] = []
    monkeypatch.setattr(Journal, "remove", lambda self: seen.append("removed"))
    locate_file(str(stack), tmp_path / "out", OPTIONS)
    assert seen == ["removed"] and {k: journal.path("analyze", k).stat().st_mtime_ns for k in (0, 2)} == stamps
    monkeypatch.undo()
    monkeypatch.setattr("stemzoo.analyze.plan.BATCH_FRAMES", 2)


def test_parts_of_other_options_are_not_taken(stack: Path, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out")
    journal.begin("of another run")
    journal.path("analyze", 0).write_bytes(b"something")
    assert locate_file(str(stack), tmp_path / "out", OPTIONS).summary.frames == 9
    assert not journal.folder.exists()


def test_a_stack_cut_short_while_it_is_read_loses_only_its_end(stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stemzoo.io.npy.EAGER_BYTES", 1)
    size = stack.stat().st_size
    first: list[int] = []

    def cuts(plan, stage, number, models, progress=None):  # type: ignore[no-untyped-def]
        if number == 2 and not first:
            first.append(number)
            with stack.open("r+b") as file:
                file.truncate(size // 2)
        return work(plan, stage, number, models, progress)

    monkeypatch.setattr("stemzoo.analyze.many.work", cuts)
    with pytest.raises(ReadError, match="was changed while it was analysed"):
        locate_file(str(stack), tmp_path / "out", OPTIONS)


def test_a_fitted_encoder_sees_every_batch(stack: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    options = AnalyzeOptions(pixel_size=0.2, report=False, fit_encoder=True, window="18px")
    outcome = analyze_file(str(stack), tmp_path / "out", options)
    assert outcome.encoder is not None and (tmp_path / "out" / "encoder" / "model.onnx").is_file()
    table = np.genfromtxt(tmp_path / "out" / "columns.csv", delimiter=",", names=True)
    assert np.isfinite(table["angle_rad"]).any() and set(table["frame"]) == {0, 1, 2, 3, 5, 6, 7, 8}


def test_an_outcome_says_what_was_done_with_what(stack: Path, tmp_path: Path) -> None:
    outcome: Outcome = locate_file(str(stack), tmp_path / "out", OPTIONS)
    assert outcome.segmenter.id == "blob@1" and outcome.files == ("columns.csv", "run.json") and outcome.options["pixel_size"] == "0.2"


def test_signs_that_a_frame_should_not_be_trusted_survive_the_batches(stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undecided = Quality(undecided=0.9)
    monkeypatch.setattr("stemzoo.runtime.pipeline.judge", lambda *of: undecided)
    outcome = analyze_file(str(stack), tmp_path / "out", OPTIONS)
    assert any("In 8 of 8 frames, first in frame 0: 90%" in doubt for doubt in outcome.summary.doubts)
    again = read_results(tmp_path / "out" / "analysis.h5")
    assert doubts_of(again) == outcome.summary.doubts, "the page of `watch` shows what is read again"
