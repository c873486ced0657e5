"""How many clips have rows, by backbone and split: one byte per clip and key, whatever the store's size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extract.report.subject import Subject, split_names
from extract.store.rows import Remark

STATES = ("left", "rows", "masked", "failed")
LEFT, ROWS, MASKED, FAILED = range(4)


@dataclass(frozen=True, slots=True)
class Tally:
    """Clips by what there is of them: rows, rows that a policy filled or left out, a failure, nothing yet."""

    rows: int = 0
    masked: int = 0
    failed: int = 0
    left: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.rows + self.masked + self.failed + self.left

    @property
    def shares(self) -> tuple[tuple[str, int, float], ...]:
        """State, clips and percent, for a bar."""
        counts = (("rows", self.rows), ("masked", self.masked), ("failed", self.failed), ("left", self.left))
        return tuple((name, count, 100 * count / self.total) for name, count in counts if count)


@dataclass(frozen=True, slots=True)
class KeyCoverage:
    """One key: all clips, and those of each split."""

    key: str
    older: bool
    total: Tally
    splits: tuple[tuple[str, Tally], ...]


@dataclass(frozen=True, slots=True)
class Coverage:
    """The whole store.

    Parameters
    ----------
    clips
        by clip, over every key that is wanted
    keys
        by key
    strangers
        clips with rows or remarks that the manifest does not list
    listed
        whether there is a manifest; without one, clips that are still to be computed cannot be known
    """

    clips: Tally
    keys: tuple[KeyCoverage, ...]
    strangers: int
    listed: bool


def cover(subject: Subject) -> Coverage:
    """Count the clips of a store."""
    ids, strangers = _ids(subject)
    place = {clip_id: i for i, clip_id in enumerate(ids)}
    names, group_of = split_names(subject.clips) if subject.clips else ((), {})
    groups = np.fromiter((group_of[clip.split] for clip in subject.clips.values()), np.int64, len(subject.clips))
    with_rows = {info.key for info in subject.store.keys()}  # noqa: SIM118
    failed, masked = _by_key(subject.failed, place), _by_key(subject.masked, place)
    worst = {state: np.zeros(len(ids), bool) for state in (LEFT, MASKED, FAILED)}
    keys: list[KeyCoverage] = []
    for key in subject.keys:
        state = np.zeros(len(ids), np.uint8)
        if key in with_rows:
            state[_places(subject.store.clips(key), place)] = ROWS
        state[masked.get(key, [])] = MASKED
        lost = failed.get(key, [])
        state[lost] = np.where(state[lost] == LEFT, FAILED, state[lost])
        splits = tuple((name, _tally(state[groups == i])) for i, name in enumerate(names)) if len(names) > 1 else ()
        keys.append(KeyCoverage(key, key in subject.older, _tally(state), splits))
        if key not in subject.older:
            worst = {value: seen | (state == value) for value, seen in worst.items()}
    by_clip = np.where(worst[FAILED], FAILED, np.where(worst[LEFT], LEFT, np.where(worst[MASKED], MASKED, ROWS)))
    clips = _tally(by_clip) if keys else Tally(left=len(ids))
    return Coverage(clips, tuple(keys), strangers, bool(subject.clips))


def _ids(subject: Subject) -> tuple[tuple[str, ...], int]:
    """The clips that count: those of the manifest, or all that are known; and how many the manifest does not list."""
    known = {*subject.store.clip_ids(), *(remark.clip_id for remark in (*subject.failed, *subject.masked))}
    if subject.clips:
        return tuple(subject.clips), len(known - subject.clips.keys())
    return tuple(sorted(known)), 0


def _places(ids: Iterable[str], place: dict[str, int]) -> NDArray[np.int64]:
    found = np.fromiter((place.get(clip_id, -1) for clip_id in ids), np.int64)
    return found[found >= 0]


def _by_key(remarks: Iterable[Remark], place: dict[str, int]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for remark in remarks:
        if remark.clip_id in place:
            found.setdefault(remark.key, []).append(place[remark.clip_id])
    return found


def _tally(state: NDArray[np.integer]) -> Tally:
    left, rows, masked, failed = np.bincount(state, minlength=4).tolist()
    return Tally(rows, masked, failed, left)
