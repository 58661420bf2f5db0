"""Watching a folder: what is whole is analysed, once and in order; what is not waits, is tried again, and is listed in the end."""

import errno
import fcntl
import json
import os
import shutil
import sys
import threading
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from stemzoo.errors import OutputError, ReadError
from stemzoo.live import output
from stemzoo.live import watch as module
from stemzoo.live.folder import Folder
from stemzoo.live.watch import Watcher, WatchOptions

FAST = WatchOptions(settle_s=0.06, poll_s=0.02, retry_s=0.02, retries=2, once=True)


@pytest.fixture
def place(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path


class Analyst:
    """Stands for the analysis: reads a file that must say `whole`, and keeps count."""

    def __init__(self):
        self.seen = []

    def __call__(self, source, out):
        self.seen.append(source.name)
        text = source.read_text()
        if not text.startswith("whole"):
            raise ReadError(f"{source}: is cut short")
        out.mkdir(parents=True, exist_ok=True)
        (out / "columns.csv").write_text(text)
        return {"columns": len(text), "doubts": []}


def put(place, name, text="whole", age=0.0):
    path = place / "in" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    if age:
        os.utime(path, (time.time() - age,) * 2)
    return path


def watch(place, analyst, options=FAST, **asked):
    return Watcher(place / "in", place / "out", analyst, options).run(**asked)


def ledger(place, event=None):
    records = [json.loads(line) for line in (place / "out" / "watch.jsonl").read_text().splitlines()]
    return [record for record in records if event in (None, record["event"])]


def test_files_are_done_oldest_first_and_never_twice(place):
    for name, age in (("c.npy", 10), ("a.npy", 30), ("b.tif", 20)):
        put(place, name, age=age)
    put(place, "note.txt")
    put(place, ".hidden.npy")
    put(place, "d.npy.part")
    analyst = Analyst()
    assert watch(place, analyst).done == 3
    assert analyst.seen == ["a.npy", "b.tif", "c.npy"]
    assert [record["why"] for record in ledger(place, "ignored")] == ["files with suffix .txt are not read"]
    put(place, "e.npy")
    watch(place, analyst)
    assert analyst.seen == ["a.npy", "b.tif", "c.npy", "e.npy"]


def test_a_file_that_grew_is_done_again_in_the_same_folder(place):
    put(place, "a.npy")
    analyst = Analyst()
    watch(place, analyst)
    put(place, "a.npy", "whole and more")
    watch(place, analyst)
    assert analyst.seen == ["a.npy", "a.npy"]
    assert (place / "out" / "a" / "columns.csv").read_text() == "whole and more"


def test_a_growing_file_is_left_alone_until_it_rests(place):
    path = put(place, "a.npy", "who")
    folder = Folder(place / "in", settle_s=1.0)
    assert folder.scan(0.0) == ([], [], 1)
    assert folder.scan(0.9) == ([], [], 1)
    path.write_text("whole")
    assert folder.scan(1.1) == ([], [], 1)
    assert folder.scan(2.0) == ([], [], 1)
    assert [found.file for found in folder.scan(2.2)[0]] == ["a.npy"]
    path.unlink()
    rest, gone, moving = folder.scan(2.3)
    assert (rest, moving) == ([], 0) and [found.file for found in gone] == ["a.npy"]


def test_an_unreadable_file_is_tried_again_then_listed_and_holds_nobody_up(place):
    put(place, "bad.npy", "who", age=60)
    put(place, "good.npy")
    analyst = Analyst()
    tally = watch(place, analyst, replace(FAST, retry_s=0.4))  # longer than a busy machine stands still
    assert tally.done == 1 and list(tally.failed) == ["bad.npy"]
    assert analyst.seen[:2] == ["bad.npy", "good.npy"] and analyst.seen.count("bad.npy") == 3
    assert "cut short" in ledger(place, "failed")[0]["why"]
    assert watch(place, analyst).failed == {}, "a restart does not try it again"
    put(place, "bad.npy", "whole", age=60)
    assert watch(place, analyst, again=True).done == 1


def test_a_truncated_file_that_is_completed_later_is_done(place):
    path = put(place, "a.npy", "who")
    analyst = Analyst()
    timer = threading.Timer(0.12, lambda: path.write_text("whole"))
    timer.start()
    tally = watch(place, analyst, replace(FAST, retries=6))
    assert tally.done == 1 and not tally.failed


def test_a_retry_does_not_wait_for_the_end_of_a_backlog(place):
    path = put(place, "a.npy", "who", age=60)
    for number in range(8):
        put(place, f"b{number}.npy")
    analyst = Analyst()

    def slow(source, out):
        if source.name == "b1.npy":
            path.write_text("whole")
            os.utime(path, (time.time() - 60,) * 2)
        time.sleep(0.04)
        return analyst(source, out)

    assert watch(place, slow, replace(FAST, retries=9)).done == 9
    assert analyst.seen[-1] != "a.npy" and analyst.seen.count("b7.npy") == 1


def test_a_locked_file_waits_for_its_writer(place):
    path = put(place, "a.npy", age=5)
    put(place, "b.npy")
    holder = path.open("r+")
    fcntl.flock(holder, fcntl.LOCK_EX)
    analyst = Analyst()
    threading.Timer(0.3, holder.close).start()
    tally = watch(place, analyst, replace(FAST, retries=30, retry_s=0.05))
    assert tally.done == 2 and analyst.seen == ["b.npy", "a.npy"]
    assert len([r for r in ledger(place, "retry") if "held by another program" in r["why"]]) == 1, "said once, not at each look"


def test_a_file_that_goes_away_is_noted(place):
    put(place, "a.npy", "who")
    analyst = Analyst()

    def lose(source, out):
        source.unlink()
        return analyst(source, out)

    tally = watch(place, lose)
    assert tally.gone == 1 and tally.done == 0 and not tally.failed
    assert ledger(place, "gone")[0]["file"] == "a.npy"


def test_a_file_that_goes_away_while_nobody_watches_is_noted(place):
    path = put(place, "a.npy")
    put(place, "finished.npy", age=9)

    def die(source, out):
        if source.name == "a.npy":
            raise KeyboardInterrupt
        return Analyst()(source, out)

    with pytest.raises(KeyboardInterrupt):
        watch(place, die)
    path.unlink()
    (place / "in" / "finished.npy").unlink()
    assert watch(place, Analyst()).gone == 1
    assert [record["file"] for record in ledger(place, "gone")] == ["a.npy"]
    assert watch(place, Analyst()).gone == 0, "noted once"


def test_a_huge_file_is_refused_unread(place):
    with put(place, "a.npy").open("r+b") as file:
        file.truncate(3_000_000)
    analyst = Analyst()
    tally = watch(place, analyst, replace(FAST, max_mb=2))
    assert "3 MB; --max-mb is 2" in tally.failed["a.npy"] and analyst.seen == []


def test_a_full_disk_is_waited_for_and_nothing_is_dropped(place):
    put(place, "a.npy", age=9)
    put(place, "b.npy")
    analyst, said = Analyst(), []
    full = iter([True, True, False])

    def analyse(source, out):
        if source.name == "a.npy" and next(full, False):
            raise OutputError(f"{out} cannot be written") from OSError(errno.ENOSPC, "No space left on device")
        return analyst(source, out)

    watcher = Watcher(place / "in", place / "out", analyse, FAST, said.append)
    assert watcher.run().done == 2
    assert analyst.seen == ["a.npy", "b.npy"], "the order stays"
    assert [record["event"] for record in said if "blocked" in record["event"]] == ["blocked", "unblocked"] * 2


def test_too_little_room_is_waited_for_before_anything_is_begun(place, monkeypatch):
    put(place, "a.npy")
    usage = namedtuple("usage", "free")
    free = iter([0, 0, 0])
    monkeypatch.setattr(output.shutil, "disk_usage", lambda path: usage(next(free, 1 << 40)))
    analyst, said = Analyst(), []
    assert Watcher(place / "in", place / "out", analyst, FAST, said.append).run().done == 1
    assert said[1]["event"] == "blocked" and said[2]["event"] == "unblocked"


def test_a_file_that_kills_the_process_is_given_up(place):
    put(place, "a.npy")

    def die(source, out):
        raise KeyboardInterrupt

    for _ in range(module.CRASHES):
        with pytest.raises(KeyboardInterrupt):
            watch(place, die)
    tally = watch(place, Analyst())
    assert "the process ended 3 times" in tally.failed["a.npy"]


def test_halves_of_a_killed_run_are_removed_and_a_second_watcher_is_refused(place):
    (place / "out" / ".a.xyz.part").mkdir(parents=True)
    (place / "out" / "mine").mkdir()
    first = Watcher(place / "in", place / "out", Analyst(), FAST)
    assert sorted(path.name for path in (place / "out").iterdir() if path.is_dir()) == ["mine"]
    with pytest.raises(OutputError, match="another stemzoo watch"):
        Watcher(place / "in", place / "out", Analyst(), FAST)
    first.run()
    Watcher(place / "in", place / "out", Analyst(), FAST).run()


def test_folders_below_are_entered_when_asked_but_never_the_results(place):
    put(place, "a.npy")
    put(place, "sub/a.npy")
    analyst = Analyst()
    options = replace(FAST, recursive=True)
    Watcher(place / "in", place / "in" / "out", analyst, options).run()
    shutil.copy(place / "in" / "a.npy", place / "in" / "out" / "b.npy")
    Watcher(place / "in", place / "in" / "out", analyst, options).run()
    assert len(analyst.seen) == 2
    assert (place / "in" / "out" / "sub" / "a" / "columns.csv").exists()


def test_the_command_gets_each_result_and_cannot_stop_the_watch(place):
    script = place / "hook.py"
    script.write_text(
        "import sys, json; open(sys.argv[2], 'a').write(json.loads(sys.stdin.readline())['input'] + ' ' + sys.argv[1] + '\\n'); sys.exit(3)"
    )
    put(place, "a b.npy")
    heard = place / "heard.txt"
    watch(place, Analyst(), replace(FAST, on_result=f"{sys.executable} {script} {{out}} {heard}"))
    assert heard.read_text().split("\n")[0] == f"{place / 'in' / 'a b.npy'} {place / 'out' / 'a b'}"
    assert ledger(place, "done")[0]["on_result"] == 3
    put(place, "c.npy")
    watch(place, Analyst(), replace(FAST, on_result="no-such-program-at-all {out}"))
    assert "cannot be run" in ledger(place, "done")[-1]["on_result"]
    put(place, "d.npy")
    watch(place, Analyst(), replace(FAST, on_result=f"{sys.executable} -c 'import time; time.sleep(9)'", hook_s=0.2))
    assert ledger(place, "done")[-1]["on_result"] == "killed after 0.2 s"


def test_a_folder_that_is_away_is_waited_for(place):
    put(place, "a.npy")
    analyst, said = Analyst(), []
    os.rename(place / "in", place / "away")
    (place / "in").mkdir()
    watcher = Watcher(place / "in", place / "out", analyst, replace(FAST, once=True), said.append)
    (place / "in").rmdir()
    threading.Timer(0.15, lambda: os.rename(place / "away", place / "in")).start()
    assert watcher.run().done == 1
    assert sum("cannot be listed" in record.get("why", "") for record in said) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"settle_s": 0}, "--settle is 0"),
        ({"poll_s": float("nan")}, "--poll is nan"),
        ({"max_mb": -1}, "--max-mb is -1"),
        ({"retries": -1}, "--retries is -1"),
        ({"on_result": ""}, "names no program"),
        ({"on_result": "tell 'it"}, "--on-result .* no closing quotation; wanted a program"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(OutputError, match=message):
        WatchOptions(**options)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ReadError, match="no such folder"):
        Watcher(tmp_path / "none", tmp_path / "out", Analyst())
    assert not Path(tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="their file systems hold Unicode alone")
def test_a_name_in_an_older_encoding_is_done_and_known_again(place):
    """Bytes that are no UTF-8, as on a share from before Unicode, used to end the watcher."""
    old = os.fsdecode(b"Gr\xf6\xdfe.npy")
    put(place, old, age=9)
    put(place, "next.npy", age=8)
    script, told = place / "tell.py", place / "told"
    script.write_text(f"import json, sys; print(ascii(json.load(sys.stdin)['input'][-9:]), file=open({str(told)!r}, 'a'))")
    analyst = Analyst()
    done = watch(place, analyst, replace(FAST, on_result=f"{sys.executable} {script}"))
    assert done.done == 2 and analyst.seen == [old, "next.npy"]
    assert told.read_text().splitlines() == [ascii(old), "'/next.npy'"]
    assert watch(place, analyst).done == 0, "the ledger knows it by its name"
