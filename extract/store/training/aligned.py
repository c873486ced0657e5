"""Rows of several keys side by side, for batches of clips: read straight into the caller's arrays. Needs numpy only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from threading import Event
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from extract.errors import StoreError
from extract.store.access import stretches
from extract.store.export.report import Missing
from extract.store.rows import DataArray
from extract.store.store import Store
from extract.store.training.read_ahead import ReadAhead
from extract.store.training.row_cache import RowCache
from extract.store.training.seconds import Seconds, seconds_of, windows_of
from extract.store.training.shared import CAN_SHARE, SharedBytes

Int = NDArray[np.int64]
Mask = NDArray[np.bool_]
Pool = Literal["mean"] | None
_ALL_VALID, _SOME_VALID = 1, 2


class AlignedRows:
    """N clips that have rows of all K keys.

    Parameters
    ----------
    store
        read from
    keys
        names of keys, as the store resolves them
    clip_ids
        wanted, in this order
    per_second, pool, dtype
        see :class:`extract.store.dataset.FeatureDataset`
    cache_bytes
        of memory for rows that were read; 0: none

    Raises
    ------
    UnknownName
        the store knows no such key or clip
    StoreError
        no clip has all keys; the rows of a key have no known seconds
    """

    def __init__(
        self,
        store: Store,
        keys: Sequence[str],
        clip_ids: Sequence[str],
        *,
        per_second: bool = True,
        pool: Pool = None,
        dtype: str = "float32",
        cache_bytes: int = 0,
    ) -> None:
        self.store, self.names, self._pool, self._dtype = store, tuple(keys), pool, np.dtype(dtype)
        self.keys = tuple(store.resolve(key) for key in keys)
        if not keys or len(set(self.keys)) < len(keys):
            raise StoreError(f"keys must name at least one feature, and each once; got {', '.join(keys) or 'none'}")
        columns = [store.columns[key] for key in self.keys]
        self.infos = tuple(column.info for column in columns)
        at = np.stack([store.find_all(clip_ids, key) for key in self.keys])
        kept = np.flatnonzero((at >= 0).all(axis=0))
        lacking = np.flatnonzero((at < 0).any(axis=0))
        self._lacking, self._lacks = _encoded(clip_ids, lacking), at[:, lacking] < 0
        if not len(kept):
            raise StoreError(f"none of {len(clip_ids)} clips has rows of {', '.join(self.keys)}; {self._example()}")
        at = at[:, kept]
        self.ids = _encoded(clip_ids, kept)
        self.rows = np.stack([(c.stop - c.start)[i] for c, i in zip(columns, at, strict=True)]).astype(np.int32)
        widest = int(np.argmax([np.prod(info.dims) * np.dtype(info.storage).itemsize for info in self.infos]))
        self.part: NDArray[np.int32] = columns[widest].part[at[widest]]
        self.first_row: Int = columns[widest].start[at[widest]]
        # The longest clip of the store decides, so that all splits of it have the same shapes.
        most = [int((column.stop - column.start).max()) for column in columns]
        self.seconds = tuple(map(self._axis, range(len(keys)), most)) if per_second else None
        order = np.lexsort((self.first_row, self.part))
        self.cache = RowCache(self.infos, self.rows, order, cache_bytes) if cache_bytes else None
        # What is known of each clip's validity, so that most of it is read once and not every epoch.
        self._known = SharedBytes(self.rows.size) if CAN_SHARE else np.zeros(self.rows.size, np.uint8)
        self._scratch: dict[int, DataArray] = {}
        self._ahead: tuple[int, ReadAhead] | None = None

    def _axis(self, k: int, most: int) -> Seconds:
        windows = windows_of(self.infos[k], most)
        shortest = int(np.argmin(self.rows[k]))
        found = self.store.rows(self.ids[shortest].decode(), self.keys[k]).window_ns
        if (found != windows[: len(found)]).any():
            raise StoreError(
                f"the windows of {self.keys[k]} in {self.store.path} are not those of its grid; `extract verify` says which, "
                "per_second=False reads the rows as they are"
            )
        return seconds_of(windows)

    def missing(self) -> tuple[Missing, ...]:
        """The clips that were left out, with each key they lack, and why."""
        failed = {(each.clip_id, each.key): each for each in self.store.failed()} if len(self._lacking) else {}
        found = []
        for i, k in np.argwhere(self._lacks.T).tolist():
            clip_id, key = self._lacking[i].decode(), self.keys[k]
            why = failed.get((clip_id, key))
            said = f"{why.reason} ({why.stage}): {why.message}" if why else "it was not extracted yet"
            found.append(Missing(clip_id, key, said))
        return tuple(found)

    def _example(self) -> str:
        missing = self.missing()
        return f"{missing[0].clip_id!r} lacks {missing[0].key}: {missing[0].why}" if missing else "the list is empty"

    # ---- batches -------------------------------------------------------------------------------------------------

    def span(self, at: Int) -> int:
        """Seconds that the longest of some clips has, or -1 where rows are not counted in seconds."""
        if self.seconds is None:
            return -1
        return max(int(axis.spans(rows).max()) for axis, rows in zip(self.seconds, self.rows[:, at], strict=True))

    def shapes(self, at: Int) -> list[tuple[int, ...]]:
        """What :meth:`read` fills for some clips, by key."""
        found, span = [], self.span(at)
        for k, info in enumerate(self.infos):
            axis: tuple[int, ...] = (int(self.rows[k, at].max()),)
            if self.seconds is not None:
                each = 1 if self._pool else self.seconds[k].per_second
                axis = (span, each) if each > 1 else (span,)
            found.append((len(at), *axis, *info.dims))
        return found

    def read(self, at: Int, out: Sequence[NDArray[Any]]) -> list[Mask]:
        """Read some clips.

        Parameters
        ----------
        at
            (B,) numbers of the clips
        out
            by key, arrays of :meth:`shapes` and the wanted type; filled completely, zero where there is no row

        Returns
        -------
        list of bool arrays
            by key, of the shape of `out` without the dims: which rows are there and were filled by the clip itself
        """
        ids = [raw.decode() for raw in self.ids[at].tolist()]
        valid = [self._read_key(k, at, ids, out[k]) for k in range(len(self.keys))]
        if self.cache is not None:
            slots = self.cache.slot[at]
            self.cache.ready[slots[slots >= 0]] = 1
        return valid

    def read_ahead(self, at: Int) -> Event:
        """Have the rows of some clips brought into the system's memory meanwhile, as far as they are not compressed.

        Returns
        -------
        threading.Event
            set when they are
        """
        done = Event()
        done.set()
        if self._ahead is None or self._ahead[0] != os.getpid():
            self._ahead = os.getpid(), ReadAhead()
        if self.cache is not None:
            slots = self.cache.slot[at]
            at = at[(slots < 0) | (self.cache.ready[slots] == 0)]
        ids = [raw.decode() for raw in self.ids[at].tolist()]
        for key in sorted(self.store.columns.keys() & set(self.keys)):  # their order in a part
            column, found = self.store.columns[key], self.store.find_all(ids, key)
            found = found[found >= 0]
            part, start, stop = column.part[found], column.start[found], column.stop[found]
            order = np.lexsort((start, part))
            part, start, stop = part[order], start[order], stop[order]
            row_bytes = int(np.prod(column.info.dims, dtype=np.int64)) * np.dtype(column.info.storage).itemsize
            for first, last in stretches(part, start, stop):
                offset = int(column.offsets[part[first], 0])
                if offset >= 0:
                    path = self.store.path / "parts" / self.store.index.parts[part[first]].name
                    edges = int(start[first]) * row_bytes, int(stop[last - 1]) * row_bytes
                    done = self._ahead[1].ask(path, offset + edges[0], offset + edges[1])
        return done

    def _read_key(self, k: int, at: Int, ids: Sequence[str], out: NDArray[Any]) -> Mask:
        info, axis = self.infos[k], self.seconds[k] if self.seconds is not None else None
        most = int(self.rows[k, at].max())
        direct = info.storage == self._dtype and not self._pool and (axis is None or axis.even)
        rows = out.reshape(len(at), -1, *info.dims) if direct else self._space(k, (len(at), most, *info.dims))
        valid = self._fill(k, at, ids, rows)
        lead = out.shape[: out.ndim - len(info.dims)]
        if direct:
            return valid.reshape(lead)
        if axis is None:
            np.copyto(out, rows, casting="same_kind")
            return valid
        spread, mask = _spread(axis, lead[1], rows, valid)
        if self._pool:
            weights = mask / np.maximum(mask.sum(axis=2, keepdims=True), 1).astype(np.float32)
            flat = spread.reshape(*spread.shape[:3], -1).astype(np.float32, copy=False)
            np.copyto(out, (weights[:, :, None] @ flat).reshape(out.shape), casting="same_kind")
            return np.asarray(mask.any(axis=2))
        np.copyto(out, spread.reshape(out.shape), casting="same_kind")
        return mask.reshape(lead)

    def _space(self, k: int, shape: tuple[int, ...]) -> DataArray:
        size = int(np.prod(shape))
        if k not in self._scratch or self._scratch[k].size < size:
            self._scratch[k] = np.empty(size, self.infos[k].storage)
        return self._scratch[k][:size].reshape(shape)

    def _fill(self, k: int, at: Int, ids: Sequence[str], rows: DataArray) -> Mask:
        """All rows of one key as they are stored, zero behind the last of each clip; and which are valid."""
        counts = self.rows[k, at].astype(np.int64)
        valid: Mask = np.arange(rows.shape[1]) < counts[:, None]
        for i in np.flatnonzero(counts < rows.shape[1]).tolist():
            rows[i, counts[i] :] = 0
        known = (self._known.array if isinstance(self._known, SharedBytes) else self._known).reshape(
            len(self.keys), -1
        )[k]
        learn = not known[at].all()
        absent = self._from_cache(k, at, rows)
        if learn and len(absent) < len(at):
            absent = np.arange(len(at))
        for first, stop in _runs(absent):
            self.store.fill(ids[first:stop], self.keys[k], rows[first:stop], valid[first:stop] if learn else None)
        if learn:
            known[at] = np.where((valid.sum(axis=1) == counts), _ALL_VALID, _SOME_VALID)
        else:
            for i in np.flatnonzero(known[at] == _SOME_VALID).tolist():
                valid[i, : counts[i]] = self.store.valid(ids[i], self.keys[k])
        if self.cache is not None:
            array, slots = self.cache.arrays()[k], self.cache.slot[at]
            there = absent[slots[absent] >= 0]
            for i, (start, stop) in zip(there.tolist(), self.cache.rows_of(k, slots[there]), strict=True):
                array[start:stop] = rows[i, : stop - start]
        return valid

    def _from_cache(self, k: int, at: Int, rows: DataArray) -> Int:
        """Copy what the cache holds; the places of the clips that it does not."""
        if self.cache is None:
            return np.arange(len(at))
        slots = self.cache.slot[at]
        there = (slots >= 0) & (self.cache.ready[slots] == 1)
        places, array = np.flatnonzero(there), self.cache.arrays()[k]
        for i, (start, stop) in zip(places.tolist(), self.cache.rows_of(k, slots[places]), strict=True):
            rows[i, : stop - start] = array[start:stop]
        return np.flatnonzero(~there)

    def __getstate__(self) -> Mapping[str, Any]:
        """Without the memory that each process has for itself."""
        return {**self.__dict__, "_scratch": {}, "_ahead": None}


def _encoded(clip_ids: Sequence[str], which: Int) -> NDArray[np.bytes_]:
    """Some ids as one array: a million Python strings would be copied page by page into every forked worker."""
    return np.array([clip_ids[i].encode() for i in which.tolist()], np.bytes_)


def _spread(axis: Seconds, seconds: int, rows: DataArray, valid: Mask) -> tuple[DataArray, Mask]:
    """Rows as (clips, seconds, k, dims...), zero where a second has fewer than k."""
    count, most = rows.shape[:2]
    if axis.even and most == seconds * axis.per_second:
        return rows.reshape(count, seconds, axis.per_second, *rows.shape[2:]), valid.reshape(count, seconds, -1)
    spread = np.zeros((count, seconds, axis.per_second, *rows.shape[2:]), rows.dtype)
    mask = np.zeros(spread.shape[:3], bool)
    spread[:, axis.second[:most], axis.slot[:most]] = rows
    mask[:, axis.second[:most], axis.slot[:most]] = valid
    return spread, mask


def _runs(places: Int) -> list[tuple[int, int]]:
    """Consecutive numbers as half-open ranges."""
    if not len(places):
        return []
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    return [(int(run[0]), int(run[-1]) + 1) for run in np.split(places, breaks)]
