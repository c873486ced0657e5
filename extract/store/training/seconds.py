"""Rows by second: which second of its clip a row belongs to."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extract.errors import StoreError
from extract.grid import NS, Grid
from extract.store.rows import KeyInfo


@dataclass(frozen=True, slots=True, eq=False)
class Seconds:
    """Where the rows of a key lie on an axis of seconds. A row belongs to the second that holds the centre of its window.

    Parameters
    ----------
    second, slot
        (R,) int64 of each row: its second, and its place among the rows of that second
    per_second
        k: the most rows that any second holds
    even
        whether every second before the last holds exactly k rows, so that rows lie as ``(seconds, k)`` as they are
    """

    second: NDArray[np.int64]
    slot: NDArray[np.int64]
    per_second: int
    even: bool

    def spans(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Seconds that so many rows reach; at least one row each."""
        return np.asarray(self.second[rows - 1] + 1)


def windows_of(info: KeyInfo, rows: int) -> NDArray[np.int64]:
    """The first windows of a key by its identity, (rows, 2) int64.

    Raises
    ------
    StoreError
        the identity names no grid
    """
    grid = json.loads(info.identity).get("grid")
    if not grid:
        raise StoreError(
            f"the identity of {info.key} names no grid, so its rows have no known seconds; read it with per_second=False"
        )
    return Grid(grid["window_ns"], grid["hop_ns"], rows).windows_ns(0)


def seconds_of(windows_ns: NDArray[np.int64]) -> Seconds:
    """The axis of seconds under windows in order of time, (R, 2)."""
    second = windows_ns.sum(axis=1) // (2 * NS)
    slot = np.arange(len(second)) - np.searchsorted(second, second)
    most = int(slot.max()) + 1
    place = np.arange(len(second))
    return Seconds(second, slot, most, bool((second == place // most).all()))
