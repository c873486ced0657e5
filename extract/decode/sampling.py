"""Which source frames a row is made from: named rules, pure numpy, no media.

All times are int64 nanoseconds from the clip's start. A frame is on screen from its own time until the next frame's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extract.errors import TooShort
from extract.grid import NS, Grid

Int = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Selection:
    """The answer of a rule.

    Parameters
    ----------
    index
        (R, t) position in `slots` of each sampled frame; -1: nothing, the row is to be zeros
    valid
        (R,) uint8; 0: the policy for short clips filled this row
    slots
        (N,) source frame behind each position. The identity, except for rules that repeat or drop frames first
        (``ffmpeg_r8``: one entry per JPEG that ffmpeg would write)
    """

    index: Int
    valid: NDArray[np.uint8]
    slots: Int

    @property
    def source(self) -> Int:
        """(R, t) source frame of each sample, -1 where there is none."""
        return np.where(self.index < 0, -1, self.slots[np.maximum(self.index, 0)])


def select(grid: Grid, per_row: int, windows_ns: Int, pts_ns: Int, duration_ns: Int) -> Selection:
    """Apply the grid's sampling rule and its policy for short clips.

    Parameters
    ----------
    grid
        names the rule and the policy
    per_row
        frames per row, t
    windows_ns
        (R, 2) the rows' windows
    pts_ns, duration_ns
        (N,) when each frame appears, ascending, N >= 1; and the duration its container gives it (only `ffmpeg_r8` and
        the last frame's end depend on it)

    Raises
    ------
    TooShort
        the clip ends before its windows do, and the policy is ``error``; or it has fewer frames than rows, and the rule is
        ``interval``
    """
    total = len(windows_ns) * per_row
    end_ns = np.append(pts_ns[1:], pts_ns[-1] + max(int(duration_ns[-1]), 1))
    if grid.sampling == "ffmpeg_r8":
        slots = ffmpeg_r8_slots(pts_ns, duration_ns)
        return Selection(rounded_linspace(len(slots), total).reshape(-1, per_row), _ones(windows_ns), slots)
    slots = np.arange(len(pts_ns), dtype=np.int64)
    if grid.sampling == "interval":
        return Selection(intervals(len(slots), len(windows_ns), per_row), _ones(windows_ns), slots)
    if grid.short == "stretch":
        if grid.sampling == "linspace":
            return Selection(rounded_linspace(len(slots), total).reshape(-1, per_row), _ones(windows_ns), slots)
        windows_ns = _stretched(windows_ns, int(pts_ns[0]), int(end_ns[-1]))
    if grid.sampling == "centered":
        index = _centered(per_row, windows_ns, pts_ns, end_ns)
    elif grid.sampling == "linspace":
        index = _linspace(per_row, windows_ns, pts_ns, end_ns)
    else:
        index = _every(per_row, grid.stride, windows_ns, pts_ns)
    return _fill(grid, index, windows_ns, pts_ns, end_ns, slots)


def rounded_linspace(n: int, count: int) -> Int:
    """`count` positions spread over ``0 .. n-1``, both ends included, halves rounded to even (numpy's round)."""
    return np.rint(np.linspace(0, n - 1, count)).astype(np.int64)


def intervals(n: int, rows: int, per_row: int) -> Int:
    """The frames of AVE's official visual features: each row gets as many, and the remainder at the clip's end is left out.

    With ``interval = n // rows``, sample i of row l is frame ``int(l * interval + (i / per_row) * interval)``.

    Parameters
    ----------
    n
        frames of the clip
    rows, per_row
        rows of the grid, and frames per row

    Returns
    -------
    (rows, per_row) int64
        ascending positions in ``0 .. n-1``

    Raises
    ------
    TooShort
        there are fewer frames than rows; the official code would show the first frame everywhere
    """
    interval = n // rows
    if interval == 0:
        raise TooShort(
            f"{n} frames do not give {rows} rows one each, which the sampling rule interval needs; "
            "the rule linspace spreads few frames over many rows"
        )
    shares = np.arange(per_row) / per_row
    return (np.arange(rows)[:, None] * interval + shares * interval).astype(np.int64)


def ffmpeg_r8_slots(pts_ns: Int, duration_ns: Int) -> Int:
    """Source frame of each picture that ``ffmpeg -i CLIP -r 8 %06d.jpg`` writes.

    The constant-frame-rate rule of the ffmpeg program (fftools, 4.x to 5.x), as measured against ffmpeg 5.1.9 on clips of 5 to
    60 frames per second: pictures appear up to 0.17 s early and the first three are packed.

    Parameters
    ----------
    pts_ns, duration_ns
        (N,) time and nominal duration of each frame

    Returns
    -------
    (M,) int64
        ascending positions in ``0 .. N-1``; a 10 s clip of 30 frames per second gives M = 82
    """
    slots: list[int] = []
    history = [0, 0, 0]
    for i, (pts, duration) in enumerate(zip((8 * pts_ns) / NS, (8 * duration_ns) / NS, strict=True)):
        span = np.rint(duration) if np.rint(duration) > 0 else min(duration, 1.0)
        ahead = pts - len(slots)
        reach = ahead + span
        if ahead < 0 < reach:
            ahead = 0.0
        copies, before = 1, 0
        if reach < -1.1:
            copies = 0
        elif reach > 1.1:
            copies = int(np.rint(reach))
            if ahead > 1.1:
                before = int(np.rint(ahead - 0.6))
        before = min(before, copies)
        slots += [max(i - 1, 0)] * before + [i] * (copies - before)
        history = [before, history[0], history[1]]
    slots += [len(pts_ns) - 1] * sorted(history)[1]
    return np.asarray(slots, dtype=np.int64)


def _ones(windows_ns: Int) -> NDArray[np.uint8]:
    return np.ones(len(windows_ns), dtype=np.uint8)


def _stretched(windows_ns: Int, first_ns: int, last_ns: int) -> Int:
    """The windows scaled so that together they span exactly what the clip shows."""
    nominal = int(windows_ns[-1, 1] - windows_ns[0, 0])
    scale = (last_ns - first_ns) / nominal
    scaled: Int = first_ns + np.rint((windows_ns - windows_ns[0, 0]) * scale).astype(np.int64)
    return scaled


def _cells(per_row: int, windows_ns: Int) -> tuple[Int, Int]:
    """Start and stop, (R, t), of the equal cells a window is cut into."""
    length = windows_ns[:, 1:] - windows_ns[:, :1]
    j = np.arange(per_row, dtype=np.int64)
    return windows_ns[:, :1] + length * j // per_row, windows_ns[:, :1] + length * (j + 1) // per_row


def _centered(per_row: int, windows_ns: Int, pts_ns: Int, end_ns: Int) -> Int:
    """The frame on screen at the middle of each cell, or else the nearest one shown at all during the cell."""
    start, stop = _cells(per_row, windows_ns)
    middle = (start + stop) // 2
    index = np.clip(np.searchsorted(pts_ns, middle, side="right") - 1, 0, len(pts_ns) - 1)
    shown = (pts_ns[index] < stop) & (np.maximum(end_ns[index], pts_ns[index] + 1) > start)
    return np.where(shown, index, -1)


def _linspace(per_row: int, windows_ns: Int, pts_ns: Int, end_ns: Int) -> Int:
    """Rounded linspace over the frames that appear in the window, or the one still on screen if none appears."""
    first = np.searchsorted(pts_ns, windows_ns[:, 0], side="left")
    last = np.searchsorted(pts_ns, windows_ns[:, 1], side="left") - 1
    steps = np.linspace(0.0, 1.0, per_row) if per_row > 1 else np.zeros(1)
    index = np.rint(first[:, None] + steps * (last - first)[:, None]).astype(np.int64)
    standing = np.maximum(last, 0)
    lasting = (pts_ns[standing] <= windows_ns[:, 0]) & (end_ns[standing] > windows_ns[:, 0])
    still = np.where(lasting, standing, -1)[:, None]
    return np.where((last >= first)[:, None], index, still)


def _every(per_row: int, stride: int, windows_ns: Int, pts_ns: Int) -> Int:
    """The first frame that appears in the window and every `stride`-th after it, beyond the window if need be."""
    first = np.searchsorted(pts_ns, windows_ns[:, 0], side="left")
    none = np.searchsorted(pts_ns, windows_ns[:, 1], side="left") <= first
    index = first[:, None] + stride * np.arange(per_row, dtype=np.int64)
    return np.where(none[:, None] | (index >= len(pts_ns)), -1, index)


def _fill(grid: Grid, index: Int, windows_ns: Int, pts_ns: Int, end_ns: Int, slots: Int) -> Selection:
    """What the policy makes of samples that fall where the clip shows nothing."""
    short = np.any(index < 0, axis=1)
    valid = np.where(short, 0, 1).astype(np.uint8)
    if grid.short == "error" and short.any():
        row = int(np.argmax(short))
        raise TooShort(
            f"row {row} asks for frames in [{windows_ns[row, 0] / NS:g}, {windows_ns[row, 1] / NS:g}) s, the clip shows "
            f"frames in [{pts_ns[0] / NS:g}, {end_ns[-1] / NS:g}) s; policies that fill such rows: repeat_last, zeros, stretch"
        )
    if grid.short in ("repeat_last", "stretch"):
        middle = (_cells(index.shape[1], windows_ns)[0] + _cells(index.shape[1], windows_ns)[1]) // 2
        nearest = np.clip(np.searchsorted(pts_ns, middle, side="right") - 1, 0, len(pts_ns) - 1)
        # a row that begins with frames of the clip (rule `every`) goes on with its last one, not with an earlier one
        index = np.maximum.accumulate(np.where(index < 0, nearest, index), axis=1)
        if grid.short == "stretch":
            valid = _ones(windows_ns)
    else:
        index = np.where(short[:, None], -1, index)
    return Selection(index, valid, slots)
