"""Which processor cores this process may use, so that an acquisition beside it keeps its own. Owns asking for them and keeping to them.

Called by runtime.session for the number of threads, and by the command lines for `--cores`.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from contextlib import suppress
from typing import Any, FrozenSet, Iterable, List

from stemzoo.errors import ModelError


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    return len(_allowed())


def parse_cores(text: str) -> FrozenSet[int]:
    """Return the cores that `text` names, counted from 0. Raises: ModelError if it is no list of cores.

    >>> sorted(parse_cores("0,2-4"))
    [0, 2, 3, 4]
    """
    found: List[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?", part)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise ModelError(f"--cores {text!r} names no cores; wanted their numbers, counted from 0, as in --cores 1 or --cores 2,4-7")
        found.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    return frozenset(found)


def keep_to(cores: Iterable[int]) -> None:
    """Keep this process, with the threads that it has and will have, to `cores`, counted from 0.

    Raises: ModelError where a core is not there, or where the system pins no process (macOS).
    """
    wanted, allowed = frozenset(cores), _allowed()
    if not wanted or wanted - allowed:
        raise ModelError(f"--cores {_text(wanted)} cannot be had; this process may run on {_text(allowed)}")
    if hasattr(os, "sched_setaffinity"):
        for thread in os.listdir("/proc/self/task") if os.path.isdir("/proc/self/task") else ["0"]:
            with suppress(ProcessLookupError):  # it ended meanwhile
                os.sched_setaffinity(int(thread), wanted)
    elif sys.platform == "win32":
        kernel = _kernel()
        if not kernel.SetProcessAffinityMask(kernel.GetCurrentProcess(), ctypes.c_size_t(sum(1 << core for core in wanted))):
            raise ModelError(f"--cores {_text(wanted)}: Windows refused (error {ctypes.get_last_error()}); pass --threads 1 instead")
    else:
        raise ModelError(f"--cores {_text(wanted)}: {sys.platform} pins no process to cores; pass --threads 1 instead")


def _allowed() -> FrozenSet[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    if sys.platform == "win32":
        kernel = _kernel()
        process, system = ctypes.c_size_t(), ctypes.c_size_t()
        if kernel.GetProcessAffinityMask(kernel.GetCurrentProcess(), ctypes.byref(process), ctypes.byref(system)):
            return frozenset(core for core in range(8 * ctypes.sizeof(process)) if process.value >> core & 1) or frozenset((0,))
    return frozenset(range(os.cpu_count() or 1))


def _kernel() -> Any:
    """Return Windows' kernel32, its process handles as wide as they are."""
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined,unused-ignore]
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    kernel.GetProcessAffinityMask.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t)]
    kernel.SetProcessAffinityMask.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return kernel


def _text(cores: Iterable[int]) -> str:
    return ",".join(map(str, sorted(cores))) or "none"
