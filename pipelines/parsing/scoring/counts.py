"""What a parse holds, and how much of it is right: counts of seconds and of events, per clip and class. numpy only."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.errors import ExtractError

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Parse(NamedTuple):
    """Which events of N clips are heard and which are seen, per second: what was predicted, or what is true.

    Parameters
    ----------
    audio, visual
        (N, T, C) uint8, 0 or 1
    """

    audio: NDArray[np.uint8]
    visual: NDArray[np.uint8]

    def of(self, clips: NDArray[Any]) -> Parse:
        """The parse of some clips: (N,) bool, or their numbers."""
        return Parse(self.audio[clips], self.visual[clips])


class Counts(NamedTuple):
    """Per clip and class, (N, C) int64: found and there; found; there."""

    hits: NDArray[np.int64]
    predicted: NDArray[np.int64]
    present: NDArray[np.int64]

    def f(self) -> Floats:
        """F of each clip and class, (N, C), 0..1; nan where nothing is there and nothing was found."""
        whole = self.predicted + self.present
        f: Floats = np.divide(2 * self.hits, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
        return f


def checked(predicted: Parse, truth: Parse) -> tuple[Bools, Bools, Bools, Bools]:
    """The four arrays of a prediction and its truth, as bool.

    Returns
    -------
    tuple
        predicted audio and visual, true audio and visual, (N, T, C) each

    Raises
    ------
    ExtractError
        an array is not (N, T, C), has another shape than the others or holds anything but 0 and 1, or there is no clip
    """
    arrays = {
        "predicted audio": np.asarray(predicted.audio),
        "predicted visual": np.asarray(predicted.visual),
        "true audio": np.asarray(truth.audio),
        "true visual": np.asarray(truth.visual),
    }
    shape = arrays["true audio"].shape
    for name, array in arrays.items():
        if array.ndim != 3:
            raise ExtractError(f"{name} has shape {array.shape}; it must be (clips, seconds, classes)")
        if array.shape != shape:
            raise ExtractError(
                f"{name} has shape {array.shape} and true audio {shape}; all four must be the same clips, seconds and "
                "classes"
            )
        other = array[(array != 0) & (array != 1)]
        if other.size:
            raise ExtractError(f"{name} holds {other[0]}; a parse is 0 or 1: use binarise() on probabilities first")
    if 0 in shape:
        raise ExtractError(f"there is nothing to score: {shape[0]} clips, {shape[1]} seconds, {shape[2]} classes")
    audio, visual, true_audio, true_visual = (array.astype(np.bool_) for array in arrays.values())
    return audio, visual, true_audio, true_visual


def seconds(predicted: Bools, truth: Bools) -> Counts:
    """Count seconds; both (N, T, C)."""
    return Counts((predicted & truth).sum(axis=1), predicted.sum(axis=1), truth.sum(axis=1))


def events(predicted: Bools, truth: Bools) -> Counts:
    """Count events: runs of seconds without a gap, which agree where their intersection is half of their union or more.

    Parameters
    ----------
    predicted, truth
        (N, T, C)

    Notes
    -----
    Source: ``extract_event`` and ``event_wise_metric`` of YapengTian/AVVP-ECCV20 (fde5611), ``utils/eval_metrics.py``,
    which compare every event with every other. Here it is enough to look at each run of seconds that are both predicted
    and true: it is the intersection of exactly one event of either side, and every intersection is such a run. An event
    agrees with at most one other, for two would each cover half of it, and the gap between them is not covered.
    """
    clips, length, classes = truth.shape
    found, there = _line(predicted), _line(truth)
    found_start, found_stop = _runs(found)
    there_start, there_stop = _runs(there)
    start, stop = _runs(found & there)
    one = np.searchsorted(found_start, start, side="right") - 1
    other = np.searchsorted(there_start, start, side="right") - 1
    shared = stop - start
    union = found_stop[one] - found_start[one] + there_stop[other] - there_start[other] - shared

    def per_class(starts: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(starts // (length + 1), minlength=clips * classes).reshape(clips, classes)

    return Counts(per_class(start[2 * shared >= union]), per_class(found_start), per_class(there_start))


def _line(parse: Bools) -> Bools:
    """All timelines end to end, with one second of nothing before each and after the last: no run crosses over."""
    clips, length, classes = parse.shape
    line = np.zeros(clips * classes * (length + 1) + 1, np.bool_)
    line[:-1].reshape(clips, classes, length + 1)[:, :, 1:] = parse.transpose(0, 2, 1)
    return line


def _runs(line: Bools) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    edges = np.flatnonzero(line[1:] != line[:-1]) + 1
    return edges[0::2], edges[1::2]
