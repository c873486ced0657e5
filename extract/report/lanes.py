"""The lines of a contact sheet: labels with times, validity of rows, cosines, and the axis itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from extract.grid import NS
from extract.report.pictures import heat, smaller
from extract.report.sample import ROWS_COMPARED, cosines, hop_s
from extract.store.rows import Rows
from manifests.dense import Event

LOWS = (0.999, 0.998, 0.995, 0.99, 0.98, 0.95)
MARKS = 12


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of the time axis: `kind` names its look, `left` and `width` are percent of the axis."""

    text: str
    kind: str
    left: float
    width: float
    title: str


@dataclass(frozen=True, slots=True)
class Lane:
    """A line of the sheet with stretches on it; `track` stacks those that overlap, from 0."""

    name: str
    tracks: tuple[tuple[Bar, ...], ...]


@dataclass(frozen=True, slots=True)
class KeyLane:
    """The rows of one key of a clip.

    Parameters
    ----------
    name, rows, valid_rows
        backbone, rows, and those of them that the clip filled
    validity
        stretches of valid and masked rows
    strip, strip_left, strip_width
        cosine of each row to the one before it, as a picture, and where it lies in percent
    square, low, compared
        (R, R) cosines as a picture, the cosine of its darkest colour, and its R; no picture for a single row
    missing
        why there are no rows; empty: there are
    """

    name: str
    rows: int = 0
    valid_rows: int = 0
    validity: tuple[Bar, ...] = ()
    strip: str = ""
    strip_left: float = 0.0
    strip_width: float = 0.0
    square: str = ""
    low: float = 0.0
    compared: int = 0
    missing: str = ""


def ticks(axis_s: float) -> tuple[tuple[float, float], ...]:
    """Second and percent of each mark of the axis: about ten of them."""
    step = next((step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10) if axis_s / step <= MARKS), 10)
    return tuple((i * step, 100 * i * step / axis_s) for i in range(int(axis_s / step + 1e-9) + 1))


def event_lanes(events: Sequence[Event], axis_s: float) -> tuple[Lane, ...]:
    """Labels with times, in a lane for what is heard and one for what is seen."""
    colours = {label: i % 7 + 1 for i, label in enumerate(dict.fromkeys(event.label for event in events))}
    lanes = []
    for name, modalities in (("heard", ("audio", "both")), ("seen", ("visual", "both"))):
        tracks: list[list[Bar]] = []
        ends: list[float] = []
        for event in sorted(events, key=lambda event: (event.onset_s, event.offset_s, event.label)):
            if event.modality not in modalities or event.onset_s >= axis_s:
                continue
            bar = _bar(event.label, f"c{colours[event.label]}", event.onset_s, event.offset_s, axis_s)
            track = next((i for i, end in enumerate(ends) if end <= event.onset_s), len(tracks))
            if track == len(tracks):
                tracks.append([])
                ends.append(0.0)
            tracks[track].append(bar)
            ends[track] = event.offset_s
        if tracks:
            lanes.append(Lane(name, tuple(map(tuple, tracks))))
    return tuple(lanes)


def _bar(text: str, kind: str, start_s: float, stop_s: float, axis_s: float) -> Bar:
    stop = min(stop_s, axis_s)
    return Bar(
        text, kind, 100 * start_s / axis_s, 100 * (stop - start_s) / axis_s, f"{text}: {start_s:g} to {stop_s:g} s"
    )


def key_lane(name: str, rows: Rows | None, missing: str, axis_s: float, squared: bool) -> KeyLane:
    if rows is None:
        return KeyLane(name, missing=missing)
    starts, valid = rows.window_ns[:, 0] / NS, rows.valid > 0
    inside = starts < axis_s
    hop = hop_s(rows) if len(starts) > 1 else float(rows.window_ns[0, 1]) / NS
    validity = _validity(starts[inside], valid[inside], hop, axis_s)
    lane = KeyLane(name, len(valid), int(valid.sum()), validity)
    if len(valid) < 2:
        return lane
    data = rows.data[:ROWS_COMPARED].reshape(min(len(valid), ROWS_COMPARED), -1).astype(np.float32, copy=False)
    table = cosines(data, valid[:ROWS_COMPARED] & np.isfinite(data).all(axis=1))
    if not np.isfinite(table).any():
        return lane
    low = lowest(table)
    strip = np.concatenate([[np.nan], np.diagonal(table, 1)])[inside[:ROWS_COMPARED]]
    return KeyLane(
        name,
        len(valid),
        int(valid.sum()),
        validity,
        heat(strip[None], low, 1.0),
        100 * float(starts[0]) / axis_s,
        100 * len(strip) * hop / axis_s,
        heat(smaller(table), low, 1.0) if squared else "",
        low,
        len(table),
    )


def lowest(table: NDArray[np.float64]) -> float:
    """The cosine that a picture shows darkest: its smallest, rounded down, the finer the nearer it is to 1."""
    finite = table[np.isfinite(table)]
    if not finite.size:
        return 0.0
    smallest = float(finite.min())
    return next((low for low in LOWS if low <= smallest), round(float(np.floor(smallest * 10) / 10), 1))


def _validity(starts: NDArray[np.float64], valid: NDArray[np.bool_], hop: float, axis_s: float) -> tuple[Bar, ...]:
    """Neighbouring rows of one kind as one stretch."""
    edges = [0, *(np.flatnonzero(np.diff(valid)) + 1).tolist(), len(valid)]
    bars = []
    for start, stop in pairwise(edges):
        kind, text = ("valid", "valid") if valid[start] else ("filled", "masked")
        bars.append(_bar(text, kind, float(starts[start]), float(starts[stop - 1]) + hop, axis_s))
    return tuple(bars)
