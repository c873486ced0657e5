"""Which clip a clip is mixed with, and where it is split: functions of the seed, the epoch and the clip's number alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError

_GUESSES = 32
_PARTNER, _SPLIT = 1, 2


def partners(
    weak: NDArray[np.bool_], rows: NDArray[np.int64], *, seed: int, epoch: int, classes: Sequence[str] = ()
) -> NDArray[np.int64]:
    """For each clip another one with which it shares no label, any of them with equal probability.

    Parameters
    ----------
    weak
        (N, C) bool: the labels of all clips of the split
    rows
        (B,) int64, 0..N-1: the clips asked for. Asking for all of them once gives the same as asking batch by batch
    seed, epoch
        0 or more
    classes
        names, for the message

    Returns
    -------
    NDArray
        (B,) int64; one row's partner depends on `weak`, the seed, the epoch and that row alone

    Raises
    ------
    PlanError
        every other clip shares a label with one of them, one has no label, or `seed` or `epoch` is negative
    """
    unlabelled = rows[~weak[rows].any(axis=1)]
    if len(unlabelled):
        raise PlanError(
            f"clip {unlabelled[0]} of the split has no label, so no clip is known to differ from it; add one"
        )
    found = np.empty(len(rows), np.int64)
    left = np.arange(len(rows))
    for guess in range(_GUESSES):
        at = rows[left]
        other = _below(len(weak), _PARTNER, seed, epoch, at, guess)
        good = ~(weak[at] & weak[other]).any(axis=1)
        found[left[good]] = other[good]
        left = left[~good]
        if not len(left):
            return found
    sets, which = np.unique(weak[rows[left]], axis=0, return_inverse=True)
    for number, labels in enumerate(sets):
        places = left[which.reshape(-1) == number]  # numpy 2.0 gives (n, 1)
        choice = np.flatnonzero(~(weak & labels).any(axis=1))
        if not len(choice):
            raise PlanError(_lonely(int(rows[places[0]]), labels, len(weak), classes))
        found[places] = choice[_below(len(choice), _PARTNER, seed, epoch, rows[places], _GUESSES)]
    return found


def split_points(
    rows: NDArray[np.int64], seconds: int, *, seed: int, epoch: int, plain: bool = False
) -> NDArray[np.int64]:
    """Before which second of each clip its partner is inserted.

    Parameters
    ----------
    rows
        (B,) int64: the clips
    seconds
        T, of every clip
    seed, epoch
        0 or more
    plain
        also allow 0 and T, which put one clip behind the other

    Returns
    -------
    NDArray
        (B,) int64, uniform in 1..T-1, with `plain` in 0..T

    Raises
    ------
    PlanError
        clips too short to be split, or a negative `seed` or `epoch`
    """
    low, high = (0, seconds) if plain else (1, seconds - 1)
    if high < low or seconds < 1:
        raise PlanError(f"clips of {seconds} s cannot be split; cross-instance augmentation in time needs 2 s or more")
    return low + _below(high - low + 1, _SPLIT, seed, epoch, rows, 0)


def _below(limit: int, purpose: int, seed: int, epoch: int, rows: NDArray[np.int64], guess: int) -> NDArray[np.int64]:
    """A number in 0..limit-1 per row that depends on the arguments alone, by the mixing function of SplitMix64.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, variant 13. numpy's generators
    have a state: they cannot give the number of row 7 without those of rows 0..6, and nor do they promise the same numbers
    in the next version.
    """
    if not (0 <= seed < 2**63 and 0 <= epoch < 2**63):
        raise PlanError(f"seed and epoch must be whole numbers from 0, got {seed} and {epoch}")
    bits = np.zeros(1, np.uint64)
    for number in (purpose, seed, epoch, guess, rows):
        bits = (bits + np.uint64(0x9E3779B97F4A7C15)) ^ np.asarray(number).astype(np.uint64)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits ^= bits >> np.uint64(31)
    return (bits % np.uint64(limit)).astype(np.int64)


def _lonely(row: int, labels: NDArray[np.bool_], clips: int, classes: Sequence[str]) -> str:
    numbers = np.flatnonzero(labels).tolist()
    named = ", ".join(classes[number] for number in numbers) if classes else f"number {', '.join(map(str, numbers))}"
    return (
        f"clip {row} of the split (labels: {named}) has no partner for cross-instance augmentation: each of the other "
        f"{clips - 1:,} clips shares a label with it; train without --augment, or take the clip out of the split"
    )
