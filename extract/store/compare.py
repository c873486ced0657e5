"""Do two stores hold the same features? Row by row: cosine, largest difference, equal bits, and where it is worst."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError
from extract.grid import NS
from extract.store.matching import Matched, match_clips, pair_keys
from extract.store.rows import Rows
from extract.store.store import Store

# 1 - cosine of all rows in bins of equal ratio: a percentile needs no list of them, and is right within 1 %.
_EDGES = np.concatenate([[0.0], np.geomspace(1e-17, 2.1, 4096)])


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows whose window starts in one second of the clip: how many have a cosine, and its mean."""

    second: int
    rows: int
    cosine_mean: float


@dataclass(frozen=True, slots=True)
class Worst:
    """A clip and its worst row: cosine, the second it starts in, and the largest difference of any number of the clip."""

    clip_a: str
    clip_b: str
    cosine: float
    second: int
    max_abs: float


@dataclass(frozen=True, slots=True)
class KeyComparison:
    """How the rows of two keys agree.

    Parameters
    ----------
    key_a, key_b
        in the first store, in the second
    matched
        how clips were matched: ``id``, or ``id, or first 11 characters``
    clips
        compared
    only_a, only_b
        clips with rows in one store only
    other_counts
        clips with different numbers of rows; of those, rows with equal windows were compared
    no_window
        clips without a single common window: nothing of them was compared
    rows
        compared
    unmatched
        rows without a partner of the same window, in clips that were compared
    invalid
        rows left out because a policy filled them, in one store or both
    both_zero, one_zero
        rows that are zero in both stores, or in one alone: they have no cosine
    one_zero_clips
        some of the clips with the latter
    equal
        rows with equal bits
    cosine_mean, cosine_min, cosine_p1
        over the rows that have one; the first percentile, of the distance from 1, within 1 %. None: no row has one
    max_abs, max_abs_clip
        largest difference of two numbers, and the clip it is in
    segments
        by second
    worst
        clips by the cosine of their worst row, the worst first
    """

    key_a: str
    key_b: str
    matched: str
    clips: int
    only_a: int
    only_b: int
    other_counts: int
    no_window: int
    rows: int
    unmatched: int
    invalid: int
    both_zero: int
    one_zero: int
    one_zero_clips: tuple[str, ...]
    equal: int
    cosine_mean: float | None
    cosine_min: float | None
    cosine_p1: float | None
    max_abs: float
    max_abs_clip: str
    segments: tuple[Segment, ...]
    worst: tuple[Worst, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two stores beside each other: their folders, the pairs of keys, and the keys that have no partner."""

    a: Path
    b: Path
    pairs: tuple[KeyComparison, ...]
    alone_a: tuple[str, ...]
    alone_b: tuple[str, ...]


def compare(a: Path, b: Path, *, keys: Mapping[str, str] | None = None, worst: int = 10) -> Comparison:
    """Compare the features of two stores; both are read once, clip by clip, and neither is changed.

    Parameters
    ----------
    a, b
        folders of the stores; they may be one, with `keys`
    keys
        by key or backbone's name in `a`, that in `b`. None: every backbone that both have
    worst
        so many clips are named per pair

    Returns
    -------
    Comparison
        what was found

    Raises
    ------
    StoreError
        a store is not there; they have no backbone in common; a backbone has several keys, so that one must be named
    UnknownName
        no such key
    PlanError
        rows of a named pair have different shapes
    """
    first, second = Store(a), Store(b)
    pairs, alone_a, alone_b = pair_keys(first, second, keys)
    dims = [{info.key: info.dims for info in store.keys()} for store in (first, second)]  # noqa: SIM118
    for key_a, key_b in pairs:
        if dims[0][key_a] != dims[1][key_b]:
            raise PlanError(
                f"rows of {key_a} have shape {dims[0][key_a]}, rows of {key_b} {dims[1][key_b]}: they cannot be compared; "
                "name the pairs that can with --keys"
            )
    found = tuple(_compare(first, second, *pair, worst) for pair in pairs)
    return Comparison(Path(a), Path(b), found, alone_a, alone_b)


def _compare(a: Store, b: Store, key_a: str, key_b: str, worst: int) -> KeyComparison:
    matched = match_clips(a.clips(key_a), b.clips(key_b))
    tally = _Tally(worst)
    for clip_a in a.file_order(list(matched.partners), key_a):
        rows = a.rows(clip_a, key_a)
        for clip_b in matched.partners[clip_a]:
            tally.clip(rows, b.rows(clip_b, key_b))
    return tally.result(key_a, key_b, matched)


class _Tally:
    """Sums over rows; its size does not grow with the number of clips."""

    def __init__(self, worst: int) -> None:
        self.clips = self.other_counts = self.no_window = self.rows = self.unmatched = self.invalid = 0
        self.both_zero = self.one_zero = self.equal = 0
        self.one_zero_clips: list[str] = []
        self.max_abs, self.max_abs_clip = 0.0, ""
        self._worst = worst
        self._heap: list[tuple[float, int, Worst]] = []
        self._bins = np.zeros(len(_EDGES), np.int64)
        self._largest = 0.0
        self._sums, self._counts = np.zeros(0), np.zeros(0, np.int64)

    def clip(self, a: Rows, b: Rows) -> None:
        """Count one clip's rows in."""
        in_a, in_b = _common(a.window_ns, b.window_ns)
        self.other_counts += len(a.window_ns) != len(b.window_ns)
        if not len(in_a):
            self.no_window += 1
            return
        self.clips += 1
        self.unmatched += len(a.window_ns) + len(b.window_ns) - 2 * len(in_a)
        valid = (a.valid[in_a] == 1) & (b.valid[in_b] == 1)
        self.invalid += int((~valid).sum())
        in_a, in_b = in_a[valid], in_b[valid]
        if not len(in_a):
            return
        x, y = (_flat(rows.data[places]) for rows, places in ((a, in_a), (b, in_b)))
        self._rows(a.clip_id, b.clip_id, x, y, a.window_ns[in_a, 0] // NS)

    def _rows(self, clip_a: str, clip_b: str, x: NDArray[Any], y: NDArray[Any], second: NDArray[np.int64]) -> None:
        self.rows += len(x)
        equal = (x.view(np.uint32) == y.view(np.uint32)).all(axis=1)
        self.equal += int(equal.sum())
        x, y = x.astype(np.float64), y.astype(np.float64)
        largest = float(np.abs(x - y).max(initial=0.0))
        if largest > self.max_abs:
            self.max_abs, self.max_abs_clip = largest, clip_a
        norm_x, norm_y = (_norm(rows) for rows in (x, y))
        self.both_zero += int(((norm_x == 0) & (norm_y == 0)).sum())
        one_zero = int(((norm_x == 0) != (norm_y == 0)).sum())
        self.one_zero += one_zero
        if one_zero and len(self.one_zero_clips) < self._worst:
            self.one_zero_clips.append(clip_a)
        some = (norm_x > 0) & (norm_y > 0)
        if some.any():
            # half the squared distance of the unit vectors: 1 less the product loses all digits where they nearly agree
            gap = x[some] / norm_x[some, None] - y[some] / norm_y[some, None]
            distance = np.where(equal[some], 0.0, 0.5 * np.einsum("ij,ij->i", gap, gap))
            self._distances(clip_a, clip_b, distance, second[some], largest)

    def _distances(
        self, clip_a: str, clip_b: str, distance: NDArray[np.float64], second: NDArray[np.int64], largest: float
    ) -> None:
        self._bins += np.bincount(np.searchsorted(_EDGES, distance), minlength=len(_EDGES))
        self._largest = max(self._largest, float(distance.max()))
        more = int(second.max()) + 1 - len(self._sums)
        if more > 0:
            self._sums, self._counts = np.pad(self._sums, (0, more)), np.pad(self._counts, (0, more))
        np.add.at(self._sums, second, distance)
        np.add.at(self._counts, second, 1)
        if not distance.any() and not largest:
            return
        at = int(distance.argmax())
        told = Worst(clip_a, clip_b, 1 - float(distance[at]), int(second[at]), largest)
        entry = (float(distance[at]), -self.clips, told)
        if len(self._heap) < self._worst:
            heapq.heappush(self._heap, entry)
        elif self._worst:
            heapq.heappushpop(self._heap, entry)

    def result(self, key_a: str, key_b: str, matched: Matched) -> KeyComparison:
        """Everything counted so far."""
        rows = int(self._counts.sum())
        p1 = None
        if rows:
            # of 300 rows the third lowest cosine, by the upper edge of the bin that its distance is in
            at = int(np.searchsorted(np.cumsum(self._bins), rows - -(-rows // 100) + 1))
            p1 = 1 - min(float(_EDGES[at]), self._largest)
        there = np.flatnonzero(self._counts).tolist()
        return KeyComparison(
            key_a=key_a,
            key_b=key_b,
            matched=matched.how,
            clips=self.clips,
            only_a=matched.only_a,
            only_b=matched.only_b,
            other_counts=self.other_counts,
            no_window=self.no_window,
            rows=self.rows,
            unmatched=self.unmatched,
            invalid=self.invalid,
            both_zero=self.both_zero,
            one_zero=self.one_zero,
            one_zero_clips=tuple(self.one_zero_clips),
            equal=self.equal,
            cosine_mean=1 - float(self._sums.sum()) / rows if rows else None,
            cosine_min=1 - self._largest if rows else None,
            cosine_p1=p1,
            max_abs=self.max_abs,
            max_abs_clip=self.max_abs_clip,
            segments=tuple(
                Segment(second, int(self._counts[second]), 1 - float(self._sums[second] / self._counts[second]))
                for second in there
            ),
            worst=tuple(entry[2] for entry in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)),
        )


def _common(a: NDArray[np.int64], b: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places of equal windows, (n,) in each; windows of one clip are distinct."""
    if np.array_equal(a, b):
        return np.arange(len(a)), np.arange(len(a))
    place = {window: i for i, window in enumerate(map(tuple, b.tolist()))}
    pairs = [(i, place[window]) for i, window in enumerate(map(tuple, a.tolist())) if window in place]
    both = np.array(pairs, np.intp).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _flat(data: NDArray[Any]) -> NDArray[np.float32]:
    """(rows, values) float32; float16 is widened, which changes no number."""
    return np.ascontiguousarray(data.reshape(len(data), -1), np.float32)


def _norm(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    norm: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return norm
