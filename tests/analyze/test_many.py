"""Many inputs: retries, a rerun that does only what changed, and a Dask cluster that gives what one process gives."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemzoo.analyze import NONE, AnalyzeOptions, Here, Models, Outcome, Request, run
from stemzoo.analyze.many import Job, LostError
from stemzoo.errors import ReadError, StemzooError
from stemzoo.io.read_results import read_results

OPTIONS = AnalyzeOptions(pixel_size=0.2, report=False, encoder=NONE)


class Unlucky(Here):
    """This process, with some jobs lost on the way."""

    def __init__(self, lost: Callable[[Job], bool]) -> None:
        super().__init__(Models.load(OPTIONS, "analyze"))
        self.lost, self.kinds = lost, deque[tuple[str, int]]()

    def next(self) -> tuple[Job, Any]:
        job, result = super().next()
        self.kinds.append((job.kind, job.number))
        return (job, LostError("the worker died each time")) if self.lost(job) else (job, result)


def _run(pool: Here, *requests: Request, retries: int = 1) -> tuple[list[Outcome], list[str]]:
    outcomes: list[Outcome] = []
    errors: list[str] = []
    run(requests, pool, outcomes.append, lambda _, error: errors.append(str(error)), retries=retries)
    return outcomes, errors


def test_a_batch_that_cannot_be_computed_becomes_failed_frames_until_the_next_run(stack: Path, tmp_path: Path) -> None:
    request = Request(str(stack), tmp_path / "out", "analyze", OPTIONS, unchanged=True)
    pool = Unlucky(lambda job: job.kind == "work" and job.number == 1)
    (outcome,), errors = _run(pool, request)
    assert not errors and pool.kinds.count(("work", 1)) == 2
    assert [failure.frame for failure in outcome.failures if not failure.lasting] == [2, 3]
    again = Unlucky(lambda job: False)
    (outcome,), _ = _run(again, request)
    assert [failure.frame for failure in outcome.failures] == [4] and not outcome.unchanged
    assert [len(c) > 0 for c in read_results(tmp_path / "out" / "analysis.h5").columns] == [k != 4 for k in range(9)]
    (outcome,), _ = _run(again, request)
    assert outcome.unchanged


def test_a_passing_fault_is_tried_again_and_a_lasting_one_listed(frame: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stemzoo.analyze import many

    begin, tries = many.begin, []

    def away(request: Request, *rest: Any) -> Any:
        tries.append(request.path)
        if tries.count(request.path) == 1:
            raise ReadError(f"{request.path}: the share was away")
        return begin(request, *rest)

    monkeypatch.setattr(many, "begin", away)
    bad = tmp_path / "bad.npy"
    bad.write_bytes(b"")
    requests = [Request(str(path), tmp_path / path.stem, "locate", OPTIONS) for path in (frame, bad)]
    outcomes, errors = _run(Here(Models.load(OPTIONS, "locate")), *requests)
    assert [outcome.input for outcome in outcomes] == [str(frame)] and len(errors) == 1 and "is empty" in errors[0]
    assert tries.count(str(frame)) == 2 and tries.count(str(bad)) == 2 and not (tmp_path / "bad").exists()


def test_a_rerun_does_what_is_missing_or_changed(run: Callable[..., Any], frame: Path, stack: Path, tmp_path: Path) -> None:
    words = ("locate", frame, stack, "--pixel-size", 0.2, "--out", tmp_path / "out", "--json")

    def unchanged(*more: object) -> list[bool]:
        ran = run(*words, *more)
        assert ran.code == 0, ran.err
        return [result["unchanged"] for result in ran.json["results"]]

    assert unchanged() == [False, False]
    assert unchanged() == [True, True]
    data = np.load(stack)
    data[0, 0, 0] += 1
    np.save(stack, data)
    assert unchanged() == [True, False]
    (tmp_path / "out" / "lattice" / "columns.csv").unlink()
    assert unchanged() == [False, True]
    assert unchanged("--threshold", 0.4) == [False, False]
    assert unchanged("--threshold", 0.4, "--again") == [False, False]


def test_inputs_may_be_patterns(run: Callable[..., Any], frame: Path, tmp_path: Path) -> None:
    for k in range(3):
        (tmp_path / f"copy{k}.tif").write_bytes(frame.read_bytes())
    ran = run("locate", tmp_path / "copy*.tif", "--pixel-size", 0.2, "--out", tmp_path / "out", "--json")
    assert [Path(result["input"]).name for result in ran.json["results"]] == ["copy0.tif", "copy1.tif", "copy2.tif"]


def test_zarr_is_read_lazily_and_gives_the_same(stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(tmp_path / "stack.zarr", data=np.load(stack), chunks=(1, 64, 72))
    array.attrs["pixel_size"] = 0.2
    monkeypatch.setattr("stemzoo.io.zarr.EAGER_BYTES", 1)
    requests = [Request(str(path), tmp_path / path.suffix[1:], "locate", OPTIONS) for path in (stack, tmp_path / "stack.zarr")]
    outcomes, errors = _run(Here(Models.load(OPTIONS, "locate")), *requests)
    assert not errors and outcomes[0].summary.columns == outcomes[1].summary.columns > 0
    assert (tmp_path / "npy" / "columns.csv").read_bytes() == (tmp_path / "zarr" / "columns.csv").read_bytes()


@pytest.mark.parametrize("address", ["nowhere", "local:0", "tcp:host"])
def test_an_address_that_is_none_is_refused(run: Callable[..., Any], frame: Path, address: str) -> None:
    pytest.importorskip("distributed")
    ran = run("locate", frame, "--pixel-size", 0.2, "--dask", address)
    assert ran.code == 1 and f"--dask '{address}' is no cluster" in ran.err


@pytest.mark.slow
def test_two_workers_give_what_one_process_gives(run: Callable[..., Any], frame: Path, stack: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    bad = tmp_path / "bad.npy"
    bad.write_bytes(b"\x93NUMPY")
    words = (frame, stack, bad, "--pixel-size", 0.2, "--no-report", "--json")
    assert run("analyze", *words, "--out", tmp_path / "here").code == 1
    ran = run("analyze", *words, "--out", tmp_path / "there", "--dask", "local:2")
    assert ran.code == 1 and [Path(failure["input"]).name for failure in ran.json["failures"]] == ["bad.npy"]
    for name in ("lattice", "stack"):
        assert (tmp_path / "here" / name / "columns.csv").read_bytes() == (tmp_path / "there" / name / "columns.csv").read_bytes()
    facts = json.loads((tmp_path / "there" / "stack" / "run.json").read_text())
    assert [failure["frame"] for failure in facts["failed_frames"]] == [4]
    assert not any(isinstance(value, StemzooError) for value in facts.values())
