"""How lanes share the cores of a machine."""

from __future__ import annotations

import os
from collections.abc import Sequence


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_per_lane(devices: Sequence[str]) -> int:
    """Threads of one operator in each lane so that all lanes together use each core once."""
    return max(1, usable_cores() // len(devices))
