"""Keeping a process to some of the machine's cores."""

import subprocess
import sys

import pytest

from stemzoo.errors import ModelError
from stemzoo.runtime.cores import keep_to, parse_cores, usable_cores


def test_lists_of_cores_are_read():
    assert parse_cores("0, 2-4,3") == {0, 2, 3, 4}
    for text in ("", "x", "3-1", "1,,2", "-1", "0x1"):
        with pytest.raises(ModelError, match=r"names no cores; wanted their numbers, counted from 0"):
            parse_cores(text)


def test_a_core_that_is_not_there_is_refused():
    with pytest.raises(ModelError, match=r"--cores 4095 cannot be had; this process may run on"):
        keep_to([4095])
    assert usable_cores() >= 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
def test_every_thread_stays_on_the_core_and_networks_take_no_more():
    """Threads that were there before, such as BLAS', must not stay on the acquisition's cores."""
    code = """
import os, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
from stemzoo.runtime.cores import keep_to, usable_cores
core = max(os.sched_getaffinity(0))
keep_to([core])
masks = {frozenset(os.sched_getaffinity(int(thread))) for thread in os.listdir("/proc/self/task")}
assert masks == {frozenset([core])}, masks
assert usable_cores() == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True)
