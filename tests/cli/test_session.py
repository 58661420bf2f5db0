"""--cores, --threads and --provider: the same options on every command that runs networks on frames, and they reach the networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import typer

from stemzoo.analyze import AnalyzeOptions, Models
from stemzoo.analyze.cluster import ModelRefs
from stemzoo.cli import app
from stemzoo.runtime import bundle
from stemzoo.runtime.session import SessionOptions

COMMANDS = ("analyze", "locate", "encode", "watch", "serve")


def test_every_command_that_runs_networks_declares_the_three_alike() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    declared = {
        name: {o.opts[0]: (o.help, o.default) for o in commands[name].params if o.opts[0] in ("--cores", "--threads", "--provider")}
        for name in COMMANDS
    }
    assert all(declared[name] == declared["watch"] and len(declared[name]) == 3 for name in COMMANDS), declared


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What is asked of onnxruntime and of the system, while it is done or, for cores, left alone."""
    asked: dict[str, list[Any]] = {"sessions": [], "cores": []}
    opened = bundle.open_session

    def open_session(path: Path, options: SessionOptions) -> Any:
        asked["sessions"].append((options.threads, options.providers))
        return opened(path, options)

    monkeypatch.setattr(bundle, "open_session", open_session)
    monkeypatch.setattr("stemzoo.runtime.cores.keep_to", lambda cores: asked["cores"].append(sorted(cores)))
    return asked


@pytest.mark.skipif("TensorrtExecutionProvider" in onnxruntime.get_available_providers(), reason="TensorRT is here")
def test_they_reach_the_networks_and_change_no_result(run: Callable[..., Any], frame: Path, tmp_path: Path, asked: dict[str, Any]) -> None:
    common = (frame, "--pixel-size", 0.2)
    how = ("--threads", 1, "--cores", "0,2-3", "--provider", "tensorrt,cpu")
    table = tmp_path / "plain" / "columns.csv"
    dipole = ("--encoder", "dipole", "--no-report")
    assert run("analyze", *common, *dipole, "--out", table.parent).code == 0
    asked["sessions"].clear()
    for command, more in (("analyze", dipole), ("locate", ()), ("encode", ("--columns", table, *dipole))):
        ran = run(command, *common, *more, "--out", tmp_path / command, *how)
        assert ran.code == 0, ran.err
        assert ran.err.count("note: TensorrtExecutionProvider is not part of this onnxruntime") == 1
        assert asked["cores"].pop() == [0, 2, 3] and asked["cores"] == []
        assert set(asked["sessions"]) == {(1, ("tensorrt", "cpu"))}
        asked["sessions"].clear()
    assert (tmp_path / "analyze" / "columns.csv").read_bytes() == table.read_bytes()


def test_workers_of_a_cluster_are_asked_the_same(zoo_root: Path) -> None:
    for threads, wanted in ((0, 2), (1, 1)):
        models = Models.load(AnalyzeOptions(), "locate", session=SessionOptions(threads=threads, providers=("cuda", "cpu")))
        assert ModelRefs.of(models, 2).session == SessionOptions(threads=wanted, providers=("cuda", "cpu"))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--provider", "abacus"), "execution provider 'abacus' is unknown; wanted one of cpu, cuda"),
        (("--cores", "4000"), "--cores 4000 cannot be had; this process may run on"),
        (("--threads", "-1"), "threads is -1; wanted 0"),
    ],
)
@pytest.mark.parametrize("command", ["analyze", "locate"])
def test_what_cannot_be_had_is_refused(run: Callable[..., Any], frame: Path, command: str, words: tuple[str, str], reason: str) -> None:
    ran = run(command, frame, "--pixel-size", 0.2, *words)
    assert ran.code == 1 and reason in ran.err
