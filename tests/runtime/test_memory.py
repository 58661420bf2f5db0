"""Arrays of a frame's size are not taken from the system anew each time."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from stemzoo.runtime.memory import keep_freed

{call}
def frame():
    parts = [np.ones(400_000, np.float32) for _ in range(6)]
    return sum(float(part[-1]) for part in parts)

frame()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    frame()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_of_one_frame_serves_the_next() -> None:
    def pages(call: str) -> int:
        return int(subprocess.run([sys.executable, "-c", FAULTS.format(call=call)], check=True, capture_output=True, text=True).stdout)

    assert pages("keep_freed()") < 0.05 * pages("")
