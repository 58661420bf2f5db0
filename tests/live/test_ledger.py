"""The ledger: what is finished stays so over restarts and torn lines; two files never share a folder."""

import errno
import json
import os

import pytest

from stemzoo.live.folder import Version
from stemzoo.live.ledger import Ledger

ONE, TWO = Version(100, 1), Version(120, 2)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "watch.jsonl"


def test_finished_files_are_known_after_a_restart(path):
    ledger = Ledger(path)
    ledger.write("begin", "a.npy", ONE, out="a")
    ledger.write("done", "a.npy", ONE, out="a", columns=3)
    ledger.write("begin", "b.npy", ONE, out="b")
    ledger.close()
    again = Ledger(path)
    assert again.finished("a.npy", ONE)
    assert not again.finished("a.npy", TWO), "a file that grew is another version"
    assert not again.finished("b.npy", ONE)
    assert again.entries["b.npy"].begun == 1 and again.unfinished() == {"b.npy": ONE}


def test_a_line_cut_short_is_dropped_and_the_next_one_is_whole(path):
    ledger = Ledger(path)
    ledger.write("done", "a.npy", ONE, out="a")
    ledger.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"event": "done", "file": "b.npy", "si')
    again = Ledger(path)
    assert again.damaged == 1 and again.finished("a.npy", ONE) and "b.npy" not in again.entries
    again.write("done", "c.npy", TWO, out="c")
    lines = path.read_bytes().splitlines()
    assert [json.loads(line)["file"] for line in lines] == ["a.npy", "c.npy"]


def test_a_damaged_line_in_the_middle_costs_only_itself(path):
    line = '{{"event": "{}", "file": "{}", "size": 100, "mtime_ns": 1}}\n'
    path.write_bytes(line.format("done", "a.npy").encode() + b"\x00\xff\n" + line.format("failed", "b").encode() + b"[]\n")
    ledger = Ledger(path)
    assert ledger.damaged == 2
    assert ledger.finished("a.npy", ONE) and ledger.finished("b", ONE)


def test_a_full_disk_leaves_no_half_line(path, monkeypatch):
    ledger = Ledger(path)
    ledger.write("done", "a.npy", ONE, out="a")
    before, write = path.read_bytes(), os.write

    def full(handle, data):
        if len(data) > 10:
            return write(handle, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as scope:
        scope.setattr(os, "write", lambda handle, data: full(handle, data) if full.calls.pop() else full(handle, b""))
        full.calls = [False, True]
        with pytest.raises(OSError, match="No space"):
            ledger.write("done", "b.npy", ONE, out="b")
    assert path.read_bytes() == before and "b.npy" not in ledger.entries
    ledger.write("done", "b.npy", ONE, out="b")
    assert Ledger(path).finished("b.npy", ONE)


def test_two_files_of_one_stem_get_two_folders_for_good(path):
    ledger = Ledger(path)
    for file, out in (
        ("x.npy", "x"),
        ("x.tif", "x_tif"),
        ("sub/x.tif", "sub/x"),
        ("x_tif.npy", "x_tif_npy"),
        ("watch.jsonl.npy", "watch.jsonl_npy"),
    ):
        assert ledger.folder_for(file) == out
        ledger.write("begin", file, ONE, out=out)
    again = Ledger(path)
    assert again.folder_for("x.tif") == "x_tif" and again.folder_for("x.npy") == "x"


def test_failed_files_are_taken_up_again_when_asked(path):
    ledger = Ledger(path)
    ledger.write("failed", "a.npy", ONE, why="cut short")
    assert ledger.finished("a.npy", ONE)
    assert ledger.forget_failures() == 1 and not ledger.finished("a.npy", ONE)
