"""Reading features by clip, by time, in batches or as one dense array."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from extract.errors import StoreError
from extract.grid import NS
from extract.store.access import Changed, Files, read_data, read_small, stretches
from extract.store.catalog import Catalog
from extract.store.rows import DataArray, Rows

T = TypeVar("T")
Window = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Location:
    """Where the rows of one clip lie.

    Parameters
    ----------
    part
        the file
    first_row, rows
        of the key's datasets in it
    offset_bytes
        of the clip's data in the file; None where they are compressed
    """

    part: Path
    first_row: int
    rows: int
    offset_bytes: int | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Some clips, with the rows and the validity of each, by key."""

    ids: tuple[str, ...]
    data: dict[str, list[DataArray]]
    valid: dict[str, list[NDArray[np.bool_]]]


class Store(Catalog):
    """The features of a manifest, by clip id and key.

    A store may be pickled, forked and read while a run writes to it: the rows of a clip never change, only the file they
    lie in. Every process opens the parts for itself, when it first reads from them; threads of one process take turns.

    Parameters
    ----------
    path, strict
        see :class:`extract.store.catalog.Catalog`

    Examples
    --------
    >>> store = Store("features/llp")                                            # doctest: +SKIP
    >>> store["BjCEufrlXm4_20_30", "resnet152"].shape                            # doctest: +SKIP
    (80, 2048)
    >>> store.read("BjCEufrlXm4_20_30", "vggish", window=(2.0, 5.0)).shape       # doctest: +SKIP
    (3, 128)
    >>> data, valid = store.to_dense(store.split_ids("val"), "vggish")           # doctest: +SKIP
    """

    def __init__(self, path: str | Path, *, strict: bool = True) -> None:
        super().__init__(path, strict=strict)
        self._files = Files(self.path / "parts")

    def __getitem__(self, item: tuple[str, str]) -> DataArray:
        """``store[clip_id, key]``: (R, *dims), of the type they are stored in; raises what :meth:`rows` does."""
        return self.read(*item)

    def read(self, clip_id: str, key: str, window: Window | None = None) -> DataArray:
        """The data of one clip, (R, *dims); see :meth:`rows`."""
        name = self.resolve(key)
        return self._steady(lambda: self._data(*self._span(clip_id, name, window)))

    def valid(self, clip_id: str, key: str, window: Window | None = None) -> NDArray[np.bool_]:
        """(R,) bool: which rows the clip itself filled; the others were filled by a policy. See :meth:`rows`."""
        name = self.resolve(key)
        return self._steady(lambda: self._small(*self._span(clip_id, name, window), "valid").astype(bool))

    def rows(self, clip_id: str, key: str, window: Window | None = None) -> Rows:
        """The rows of one clip, with windows, validity and source times; only they are read.

        Parameters
        ----------
        clip_id, key
            which; the key in full, or a backbone's name where that is unique
        window
            seconds from the clip's start: only rows whose own window starts in ``[window[0], window[1])``, so that
            stretches that follow each other neither lose a row nor give one twice

        Raises
        ------
        UnknownName
            the store knows no such key or clip
        StoreError
            the clip failed (the message says why), or `window` is none
        """
        name = self.resolve(key)

        def read() -> Rows:
            span = self._span(clip_id, name, window)
            small: list[Any] = [self._small(*span, each) for each in ("window_ns", "valid", "source_ns")]
            return Rows(clip_id, name, self._data(*span), *small)

        return self._steady(read)

    def location(self, clip_id: str, key: str) -> Location:
        """Where the rows of one clip lie; raises what :meth:`rows` does."""
        name = self.resolve(key)
        _, at, start, stop = self._span(clip_id, name, None)
        column = self.columns[name]
        number = int(column.part[at])
        data = int(column.offsets[number, 0])
        row_bytes = int(np.prod(column.info.dims, dtype=np.int64)) * np.dtype(column.info.storage).itemsize
        offset = data + start * row_bytes if data >= 0 else None
        return Location(self.path / "parts" / self.index.parts[number].name, start, stop - start, offset)

    # ---- many clips ----------------------------------------------------------------------------------------------

    def file_order(self, clip_ids: Sequence[str], key: str) -> list[str]:
        """The ids in the order of their rows on disk, part after part; raises what :meth:`rows` does."""
        name = self.resolve(key)
        column, at = self.columns[name], self._find_all(clip_ids, name)
        order = np.lexsort((column.start[at], column.part[at]))
        return [clip_ids[i] for i in order.tolist()]

    def batches(self, keys: Sequence[str], clip_ids: Sequence[str] | None = None, size: int = 64) -> Iterator[Batch]:
        """Many clips, read in the order in which the first key has them on disk.

        Parameters
        ----------
        keys
            whose rows
        clip_ids
            of which clips, in any order; None: of all that have every key
        size
            clips per batch; the last one may hold fewer
        """
        if not keys or size < 1:
            raise StoreError(f"a batch needs at least one key and one clip, got {len(keys)} keys and size {size}")
        names = [self.resolve(key) for key in keys]
        if clip_ids is None:
            clip_ids = sorted(set.intersection(*(set(self.clips(name)) for name in names)))
        order = self.file_order(clip_ids, names[0])
        for start in range(0, len(order), size):
            ids = order[start : start + size]
            read = [self._steady(lambda name=name, ids=ids: self._lists(ids, name)) for name in names]  # type: ignore[misc]
            data = dict(zip(keys, (each[0] for each in read), strict=True))
            yield Batch(tuple(ids), data, dict(zip(keys, (each[1] for each in read), strict=True)))

    def to_dense(self, clip_ids: Sequence[str], key: str) -> tuple[DataArray, NDArray[np.bool_]]:
        """The rows of many clips as one array.

        Returns
        -------
        data : (N, R, *dims)
            in the order of `clip_ids`; R is the largest number of rows among them, what a clip lacks of it is zero
        valid : (N, R) bool
            False for rows that a policy filled, and for those that the clip does not have

        Raises
        ------
        UnknownName, StoreError
            as :meth:`rows`, for the first clip without rows
        """
        name = self.resolve(key)
        column, at = self.columns[name], self._find_all(clip_ids, name)
        most = int((column.stop - column.start)[at].max()) if len(at) else 0
        data = np.zeros((len(at), most, *column.info.dims), column.info.storage)
        valid = np.zeros((len(at), most), bool)
        self.fill(clip_ids, name, data, valid)
        return data, valid

    def fill(self, clip_ids: Sequence[str], key: str, data: DataArray, valid: NDArray[np.bool_] | None = None) -> None:
        """Read the rows of many clips into arrays that are there already, without a copy in between.

        Parameters
        ----------
        clip_ids, key
            which
        data
            (N, R, *dims), C-contiguous, of the stored type, R at least each clip's rows; what a clip lacks is left as it is
        valid
            (N, R) bool; likewise; None: not wanted
        """
        name = self.resolve(key)
        info = self.columns[name].info
        if data.dtype != info.storage or not data.flags.c_contiguous or data.shape[2:] != info.dims:
            raise StoreError(
                f"{name} cannot be read into {data.dtype} of shape {data.shape}: it takes a C-contiguous array (clips, rows, "
                f"{', '.join(map(str, info.dims))}) of {info.storage}"
            )
        self._steady(lambda: self._fill(clip_ids, name, data, valid))

    def _fill(self, clip_ids: Sequence[str], name: str, data: DataArray, valid: NDArray[np.bool_] | None) -> None:
        at = self._find_all(clip_ids, name)
        column = self.columns[name]
        part, start, stop = column.part[at], column.start[at], column.stop[at]
        rows = stop - start
        if (rows > data.shape[1]).any():
            i = int(np.flatnonzero(rows > data.shape[1])[0])
            raise StoreError(f"clip {clip_ids[i]!r} has {rows[i]} rows of {name}, the array takes {data.shape[1]}")
        counts, order = rows.tolist(), np.lexsort((start, part))
        for first, last in stretches(part[order], start[order], stop[order]):
            places = order[first:last].tolist()
            number, begin, end = int(part[places[0]]), int(start[places[0]]), int(stop[places[-1]])
            outs = [data[place, : counts[place]] for place in places]
            read_data(self._files, self.index.parts[number], column, number, begin, outs)
            if valid is not None:
                flags = self._small(name, int(at[places[0]]), begin, end, "valid").astype(bool)
                for place in places:
                    valid[place, : counts[place]], flags = flags[: counts[place]], flags[counts[place] :]

    def _lists(self, clip_ids: Sequence[str], name: str) -> tuple[list[DataArray], list[NDArray[np.bool_]]]:
        """Data and validity of each clip; clips that follow each other on disk are read at once."""
        column, at = self.columns[name], self._find_all(clip_ids, name)
        part, start, stop = column.part[at], column.start[at], column.stop[at]
        order = np.lexsort((start, part))
        data: dict[int, DataArray] = {}
        valid: dict[int, NDArray[np.bool_]] = {}
        for first, last in stretches(part[order], start[order], stop[order]):
            places = order[first:last].tolist()
            span = name, int(at[places[0]]), int(start[places[0]]), int(stop[places[-1]])
            numbers, flags = self._data(*span), self._small(*span, "valid").astype(bool)
            for place in places:
                rows = slice(int(start[place]) - span[2], int(stop[place]) - span[2])
                data[place], valid[place] = numbers[rows], flags[rows]
        return [data[i] for i in range(len(at))], [valid[i] for i in range(len(at))]

    # ---- one stretch of one part ---------------------------------------------------------------------------------

    def _span(self, clip_id: str, name: str, window: Window | None) -> tuple[str, int, int, int]:
        """Key, number of the entry, first row and end."""
        at = self.find(clip_id, name)
        if at < 0:
            raise self.absent(clip_id, name)
        column = self.columns[name]
        start, stop = int(column.start[at]), int(column.stop[at])
        if window is None:
            return name, at, start, stop
        if not window[0] <= window[1]:
            raise StoreError(f"window {window} is none: it must be (start, stop) in seconds, start <= stop")
        starts = self._small(name, at, start, stop, "window_ns")[:, 0]
        first, last = np.searchsorted(starts, [round(second * NS) for second in window]).tolist()
        return name, at, start + first, start + last

    def _data(self, name: str, at: int, start: int, stop: int) -> DataArray:
        column = self.columns[name]
        number = int(column.part[at])
        out = np.empty((stop - start, *column.info.dims), column.info.storage)
        read_data(self._files, self.index.parts[number], column, number, start, [out])
        return out

    def _small(self, name: str, at: int, start: int, stop: int, which: str) -> NDArray[Any]:
        column = self.columns[name]
        number = int(column.part[at])
        return read_small(self._files, self.index.parts[number], column, number, start, stop, which)

    def _find_all(self, clip_ids: Sequence[str], name: str) -> NDArray[np.int64]:
        if name not in self.columns:  # its last part went since the name was resolved
            raise self.absent(clip_ids[0], name)
        at = self.find_all(clip_ids, name)
        if (at < 0).any():
            raise self.absent(clip_ids[int(np.flatnonzero(at < 0)[0])], name)
        return at

    def _steady(self, read: Callable[[], T]) -> T:
        """Read, and look at the store again where a run has put other files under the names meanwhile."""
        with self.alone():
            for _ in range(8):
                try:
                    return read()
                except Changed:
                    self.refresh()
        raise StoreError(f"{self.path} changes faster than it can be read; is something rewriting it?")

    def close(self) -> None:
        """Close the parts that this process has open; reading opens them again."""
        with self.alone():
            self._files.close()
