"""oneDNN picks other kernels for one thread than for several, and their last bits differ.

With one thread per lane, `--lanes 2` on two cores stored other bytes than `--lanes 1`
(docs/adr/0004-two-threads-at-least.md).
"""

from __future__ import annotations

import pytest

from extract.engine import cores


@pytest.mark.parametrize(("usable", "lanes", "threads"), [(1, 1, 2), (2, 2, 2), (8, 2, 4), (8, 8, 2), (64, 1, 64)])
def test_a_lane_never_has_one_thread(monkeypatch: pytest.MonkeyPatch, usable: int, lanes: int, threads: int) -> None:
    monkeypatch.setattr(cores, "usable_cores", lambda: usable)
    assert cores.threads_per_lane(["cpu"] * lanes) == threads
