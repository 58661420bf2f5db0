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
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=60)
    finally:
        server.kill()
    assert (server.returncode, out, err) == (0, "", "")
