"""Freed memory kept for the next frame instead of handed back to the system. Owns `keep_freed`; called by runtime.session."""

from __future__ import annotations

import numpy as np

LARGEST = (32 << 20) - (64 << 10)  # bytes, about the largest block that glibc learns from


def keep_freed() -> None:
    """Let this process keep up to 64 MB of the memory that it frees, where the C library is glibc; elsewhere nothing happens.

    glibc takes blocks beyond a threshold from the system one by one, gives each back when it is freed, and the system clears every page
    anew. The threshold rises to the largest block so freed, and what is kept to twice that: one that is never written to tells it at once.
    Source: mallopt(3), M_MMAP_THRESHOLD.
    """
    np.empty(LARGEST, np.uint8)
