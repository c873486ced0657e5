"""Freed memory is kept for the next batch.

glibc gives large blocks back to the kernel as soon as they are freed, and the kernel clears every page again before the next
batch may write it: a tenth to a quarter of the time of networks with large maps (docs/adr/0014-freed-memory-is-kept.md).
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Tell this process's allocator so; False where it cannot be told (another libc, another system)."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
