"""Rows kept in memory, as many clips as a budget holds, shared with forked and spawned workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extract.errors import StoreError
from extract.store.rows import DataArray, KeyInfo
from extract.store.training.shared import CAN_SHARE, SharedBytes

_ALIGN = 64


@dataclass(frozen=True, slots=True)
class Cached:
    """How much of a dataset its cache holds.

    Parameters
    ----------
    clips, fit, total
        clips that are in memory now, that the budget has room for, and of the dataset
    used_bytes, budget_bytes
        memory taken, all of it from the beginning, and what was allowed
    """

    clips: int
    fit: int
    total: int
    used_bytes: int
    budget_bytes: int


class RowCache:
    """Rows of the clips that come first on disk, in their stored type. A clip's place is fixed from the beginning.

    Processes that share it need no lock: two that fill one clip write the same bytes, and it counts as there only afterwards.

    Parameters
    ----------
    infos
        K keys
    rows
        (K, N) int, rows of each clip
    order
        (N,) numbers of the clips in the order of their rows on disk
    budget_bytes
        taken at most

    Raises
    ------
    StoreError
        the budget does not hold one clip, or this system cannot share memory
    """

    def __init__(
        self, infos: Sequence[KeyInfo], rows: NDArray[np.int32], order: NDArray[np.int64], budget_bytes: int
    ) -> None:
        if not CAN_SHARE:
            raise StoreError("cache_bytes needs memory that workers share, which is there on Linux only; use 0")
        row_bytes = [int(np.prod(info.dims, dtype=np.int64)) * np.dtype(info.storage).itemsize for info in infos]
        along = rows[:, order].astype(np.int64)
        needed = np.cumsum(np.array(row_bytes, np.int64) @ along + 1) + _ALIGN * len(infos)
        self.fit = int(np.searchsorted(needed, budget_bytes, side="right"))
        if not self.fit:
            raise StoreError(f"cache_bytes={budget_bytes} does not hold one clip: the first takes {needed[0]} bytes")
        self.budget_bytes = budget_bytes
        self.slot = np.full(len(order), -1, np.int64)
        self.slot[order[: self.fit]] = np.arange(self.fit)
        self._edges = np.concatenate([np.zeros((len(infos), 1), np.int64), along[:, : self.fit].cumsum(axis=1)], axis=1)
        self._infos = tuple(infos)
        self.memory = SharedBytes(int(needed[self.fit - 1]))

    @property
    def ready(self) -> NDArray[np.uint8]:
        """(fit,) which slots are filled; 1 may be written only after their rows."""
        return self.memory.array[: self.fit]

    def arrays(self) -> list[DataArray]:
        """By key, all rows there is room for, (rows, dims...)."""
        found, at = [], self.fit
        for info, edges in zip(self._infos, self._edges, strict=True):
            at += -at % _ALIGN
            shape = (int(edges[-1]), *info.dims)
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(info.storage).itemsize
            found.append(self.memory.array[at : at + size].view(info.storage).reshape(shape))
            at += size
        return found

    def rows_of(self, key: int, slots: NDArray[np.int64]) -> list[tuple[int, int]]:
        """First row and end of some slots in the array of a key."""
        edges = self._edges[key]
        return list(zip(edges[slots].tolist(), edges[slots + 1].tolist(), strict=True))

    def holds(self) -> Cached:
        """What is in it now."""
        return Cached(int(self.ready.sum()), self.fit, len(self.slot), len(self.memory.array), self.budget_bytes)
