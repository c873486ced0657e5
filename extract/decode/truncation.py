"""Whether a stream ends earlier than its container declares."""

from __future__ import annotations

from typing import Any

import numpy as np

from extract.decode.media import to_ns
from extract.decode.timeline import Promise
from extract.errors import Truncated
from extract.grid import NS

UNTIDY_NS = NS // 4  # what the streams of intact files may lack; 78 real ones lack 0.1 s at most
CUT_NS = NS // 20


def cut_off(
    path: str,
    stream: Any,
    declared_ns: int | None,
    found_ns: int,
    stop_ns: int | None,
    promised: list[Promise],
    is_cut: bool,
) -> Truncated | None:
    """The error of a stream that lacks its end, or None.

    Parameters
    ----------
    path, stream
        of what
    declared_ns, found_ns
        its end as its container says, if it does, and as its packets say
    stop_ns
        where the clip ends; what lies behind does not matter. None: at the end of the file
    promised
        the video frames
    is_cut
        the file certainly ends within a packet, so that less may be missing without a doubt
    """
    if declared_ns is None:
        return None
    allowed_ns = CUT_NS if is_cut else UNTIDY_NS
    if stream.type == "video" and not is_cut:
        # the last frame may stay on screen for as long as any other: not every container tells its duration
        allowed_ns = max(allowed_ns, _longest_gap_ns(promised, stream))
    due_ns = declared_ns if stop_ns is None else min(declared_ns, stop_ns)
    if due_ns - found_ns <= allowed_ns:
        return None
    return Truncated(
        f"{path}: the {stream.type} stream ends at {found_ns / NS:.3f} s, its container declares "
        f"{declared_ns / NS:.3f} s; the file is probably cut off, download it again"
    )


def _longest_gap_ns(promised: list[Promise], stream: Any) -> int:
    """Longest time between two frames; without two, nothing can be said and it is endless."""
    ticks = np.sort(np.asarray([p.pts for p in promised if p.pts is not None], dtype=np.int64))
    if len(ticks) < 2:
        return int(np.iinfo(np.int64).max)
    return to_ns(int(np.diff(ticks).max()), stream.time_base)
