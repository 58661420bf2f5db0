"""`stemzoo watch` and `stemzoo serve` from the command line, with the zoo's own segmenter."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from stemzoo.cli import main

ROOT = Path(__file__).resolve().parents[2]


def test_watch_writes_results_and_says_what_became_of_each(tmp_path, frame, capsys):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", frame)
    (tmp_path / "in" / "b.npy").write_bytes(b"cut short")
    words = ["watch", tmp_path / "in", "--out", tmp_path / "out", "--pixel-size", "0.2", "--encoder", "none", "--once", "--settle", "0.1"]
    words += ["--poll", "0.05", "--retries", "0"]
    assert main([*map(str, words), "--json"]) == 1
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [line["event"] for line in lines] == ["start", "begin", "done", "begin", "failed", "stop"]
    assert lines == [json.loads(line) for line in (tmp_path / "out" / "watch.jsonl").read_text().splitlines()]
    assert 35 <= lines[2]["columns"] <= 45 and lines[2]["seconds"]["network"] > 0
    assert len((tmp_path / "out" / "a" / "columns.csv").read_text().splitlines()) == 1 + lines[2]["columns"]
    assert not (tmp_path / "out" / "a" / "report.html").exists()
    assert "1 files failed, the other 1 are done" in printed.err
    assert main([*map(str, words)]) == 0, "nothing is left to do"
    assert "0 done, 0 failed" in capsys.readouterr().err


def test_watch_says_of_each_result_what_it_rests_on(tmp_path, frame, capsys):
    """Whoever stands at the microscope sees whether there are angles, whose, how well columns are known, and what speaks against it."""
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", frame)
    blank = np.random.default_rng(0).poisson(9, (96, 96)).astype(np.float32)
    np.save(tmp_path / "in" / "blank.npy", blank)
    words = ["watch", tmp_path / "in", "--out", tmp_path / "out", "--encoder", "rvae-sr3fe2o7", "--once", "--settle", "0.1"]
    assert main([*map(str, words), "--threshold", "0.5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = [json.loads(line) for line in (tmp_path / "out" / "watch.jsonl").read_text(encoding="utf-8").splitlines()]
    one, two = (record for record in told if record["event"] == "done")
    run = json.loads((tmp_path / "out" / "a" / "run.json").read_text(encoding="utf-8"))
    assert (one["sigma_px"], one["notices"]) == (run["summary"]["sigma_px"], run["notices"]) and one["pixel_size"] is None
    error = f"median error {one['sigma_px']:.3g} px"
    assert (
        lines[0].startswith(f"a.npy: {one['columns']} columns, {error}, ") and "pixel size unknown, angles from rvae-sr3fe2o7@" in lines[0]
    )
    assert [line for line in lines if line.startswith("  ")] == [f"  warning: {doubt}" for doubt in (*one["doubts"], *two["doubts"])]
    assert any("No column was found" in doubt for doubt in two["doubts"])


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_watch_goes_on_where_its_output_cannot_encode_a_name(tmp_path, frame, form):
    """Output to a file or a pipe has the code page of Windows, in which there is no σ."""
    (tmp_path / "in").mkdir()
    for name in ("Å σ.npy", "b.npy"):
        np.save(tmp_path / "in" / name, frame)
    command = [sys.executable, "-m", "stemzoo", "watch", "in", "--out", "out", "--pixel-size", "0.2", "--encoder", "none", "--once", *form]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    out = done.stdout.decode("cp1252")
    if form:
        assert [json.loads(line).get("file") for line in out.splitlines()][1:5] == ["Å σ.npy"] * 2 + ["b.npy"] * 2
    else:
        assert [line.split(":")[0] for line in out.splitlines()] == ["Å \\u03c3.npy", "b.npy"]


def test_a_command_that_cannot_run_is_said_on_the_screen(tmp_path, frame, capsys):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", frame)
    words = ["watch", tmp_path / "in", "--out", tmp_path / "out", "--pixel-size", "0.2", "--encoder", "none", "--once", "--settle", "0.1"]
    assert main([*map(str, words), "--on-result", "no-such-program {out}"]) == 0
    assert "on-result: a.npy: cannot be run (No such file or directory): no-such-program" in capsys.readouterr().err
    np.save(tmp_path / "in" / "b.npy", frame)
    assert main([*map(str, words), "--on-result", f"{sys.executable} -c 'raise SystemExit(3)'"]) == 0
    assert "on-result: b.npy: ended with exit code 3" in capsys.readouterr().err
    assert main([*map(str, words), "--on-result", " "]) == 1, "refused before any file is touched"
    assert "names no program" in capsys.readouterr().err


def test_serve_refuses_other_machines_without_a_token(capsys):
    pytest.importorskip("fastapi")
    assert main(["serve", "--host", "0.0.0.0"]) == 1
    assert "can be reached from other machines" in capsys.readouterr().err


def test_serve_answers_and_ends_well(frame):
    pytest.importorskip("fastapi")
    command = [sys.executable, "-m", "stemzoo", "serve", "--port", "0", "--encoder", "none"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        url = server.stdout.readline().strip()
        with urllib.request.urlopen(url + "health", timeout=60) as answer:
            assert json.load(answer)["status"] == "ok"
        with urllib.request.urlopen(url + "live/events", timeout=60) as page:  # a page that is left open
            assert page.readline().startswith(b"data: ")
            server.send_signal(signal.SIGINT)
            out, err = server.communicate(timeout=60)
            assert page.read() == b"\n", "it is told the end, not cut off"
    finally:
        server.kill()
    assert (server.returncode, out, err) == (0, "", "")


def test_watch_shows_its_results_on_a_page_and_keeps_to_a_core(tmp_path, frame):
    pytest.importorskip("fastapi")
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", frame)
    words = ["watch", tmp_path / "in", "--out", tmp_path / "out", "--pixel-size", "0.2", "--encoder", "none", "--settle", "0.1"]
    words += ["--page", "0", "--cores", "0", "--provider", "openvino"]
    command = [sys.executable, "-m", "stemzoo", *map(str, words)]
    watch = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        said = []
        while not (said and said[-1].startswith("page: ")):
            said.append(watch.stderr.readline().strip())
            assert said[-1], said
        if hasattr(os, "sched_getaffinity"):
            assert os.sched_getaffinity(watch.pid) == {0}
        done = watch.stdout.readline()
        assert done.startswith("a.npy: 4"), done
        url = said[-1].removeprefix("page: ")
        with urllib.request.urlopen(url + "live/frames", timeout=60) as answer:
            (news,) = json.load(answer)
        assert (news["name"], news["state"], news["columns"]) == ("a.npy", "done", int(done.split()[1]))
        with urllib.request.urlopen(f"{url}live/frames/{news['id']}", timeout=60) as answer:
            assert len(json.load(answer)["frames"][0]["columns"]["y_px"]) == news["columns"]
        watch.send_signal(signal.SIGINT)
        _, rest = watch.communicate(timeout=60)
    finally:
        watch.kill()
    assert watch.returncode == 0 and "1 done, 0 failed" in rest
    if "OpenVINO" not in " ".join(__import__("onnxruntime").get_available_providers()):
        assert any("OpenVINOExecutionProvider is not part of this onnxruntime" in line for line in said)


def test_providers_and_cores_that_are_none_are_refused(tmp_path, capsys):
    for words, reason in (
        (["--provider", "abacus"], "execution provider 'abacus' is unknown; wanted one of cpu, cuda"),
        (["--cores", "4000"], "--cores 4000 cannot be had; this process may run on"),
    ):
        assert main(["watch", str(tmp_path), "--out", str(tmp_path / "out"), *words]) == 1
        assert reason in capsys.readouterr().err
