"""How lanes share the cores of a machine."""

from __future__ import annotations

import os
from collections.abc import Sequence


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_per_lane(devices: Sequence[str]) -> int:
    """Threads of one operator in each lane: the cores divided, and never one alone.

    oneDNN chooses other kernels for one thread than for several, and their last bits differ; from two on they do not
    (docs/adr/0004-two-threads-at-least.md).
    """
    return max(2, usable_cores() // len(devices))
