"""Reading rows out of parts: straight from the file where numbers lie in one piece, through HDF5 where they are compressed."""

from __future__ import annotations

import itertools
import os
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from extract.errors import DamagedPart, StoreError
from extract.store.index import Column, PartFile
from extract.store.layout import ROW_SETS
from extract.store.reader import open_part, read_range, reading

OPEN_FILES = 128  # half of what the smallest usual limit (256) allows
_WIDTH = {"window_ns": 2, "valid": 1, "source_ns": None}
_TYPES: dict[str, np.dtype[Any]] = {
    "window_ns": np.dtype("<i8"),
    "valid": np.dtype("|u1"),
    "source_ns": np.dtype("<i8"),
}


class Changed(Exception):
    """A part is not what the index says of it any more: look at the store again."""


class Files:
    """Parts kept open by one process; those used least recently are closed first.

    A file that was opened stays what it was, whatever a run puts under its name. `pread` has no position, so processes
    forked from this one may share the descriptors; HDF5's handles may not be shared and are opened in each.
    """

    def __init__(self) -> None:
        self._raw: OrderedDict[tuple[Path, PartFile], int] = OrderedDict()
        self._hdf5: OrderedDict[tuple[Path, PartFile], tuple[ExitStack, h5py.File]] = OrderedDict()
        self._pid = os.getpid()

    def raw(self, path: Path, part: PartFile) -> int:
        """A descriptor of the part.

        Raises
        ------
        Changed
            the file is gone, or another one than the index knows
        """
        name = (path, part)
        if (fd := self._raw.get(name)) is not None:
            self._raw.move_to_end(name)
            return fd
        fd = _open(path)
        if not part.same(os.fstat(fd), path):
            os.close(fd)
            raise Changed
        self._raw[name] = fd
        while len(self._raw) > OPEN_FILES:
            os.close(self._raw.popitem(last=False)[1])
        return fd

    def hdf5(self, path: Path, part: PartFile) -> h5py.File:
        """The part as an HDF5 file; raises what :meth:`raw` does."""
        if self._pid != os.getpid():
            self._hdf5.clear()
            self._pid = os.getpid()
        name = (path, part)
        if (found := self._hdf5.get(name)) is not None:
            self._hdf5.move_to_end(name)
            return found[1]
        stack = ExitStack()
        try:
            file = stack.enter_context(open_part(path))
            if not part.is_at(path):
                raise FileNotFoundError(path)
        except FileNotFoundError:
            stack.close()
            raise Changed from None
        self._hdf5[name] = (stack, file)
        while len(self._hdf5) > OPEN_FILES:
            self._hdf5.popitem(last=False)[1][0].close()
        return file

    def close(self) -> None:
        """Close everything."""
        while self._raw:
            os.close(self._raw.popitem()[1])
        if self._pid == os.getpid():
            while self._hdf5:
                self._hdf5.popitem()[1][0].close()

    def __del__(self) -> None:
        if self._raw or self._hdf5:
            self.close()


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Changed from None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error


def read_data(
    files: Files,
    path: Path,
    part: PartFile,
    column: Column,
    number: int,
    start: int,
    stop: int,
    out: NDArray[Any],
) -> None:
    """Read the data of rows ``[start, stop)`` of a part into `out`, which has their shape and type and lies in one piece.

    Raises
    ------
    Changed
        see :meth:`Files.raw`
    DamagedPart
        the file ends before its rows do
    """
    if not out.size:
        return
    offset = int(column.offsets[number, 0])
    if offset < 0:
        with reading(path):
            files.hdf5(path, part)[column.info.key]["data"].read_direct(out, np.s_[start:stop])
        return
    row_bytes = out.nbytes // (stop - start)
    _read_into(files.raw(path, part), out, offset + start * row_bytes, path)


def read_small(
    files: Files, path: Path, part: PartFile, column: Column, number: int, start: int, stop: int, name: str
) -> NDArray[Any]:
    """Rows ``[start, stop)`` of ``window_ns``, ``valid`` or ``source_ns``; raises what :func:`read_data` does."""
    dtype, width = _TYPES[name], _WIDTH[name] or column.sources
    shape = (stop - start,) if name == "valid" else (stop - start, width)
    offset = int(column.offsets[number, ROW_SETS.index(name)])
    if offset < 0:
        with reading(path):
            return read_range(files.hdf5(path, part)[column.info.key][name], start, stop)
    out: NDArray[Any] = np.empty(shape, dtype)
    if out.size:
        _read_into(files.raw(path, part), out, offset + start * width * dtype.itemsize, path)
    return out


def _read_into(fd: int, out: NDArray[Any], at: int, path: Path) -> None:
    rest = out.reshape(-1).view(np.uint8).data
    try:
        while rest:
            done = os.preadv(fd, [rest], at)
            if not done:
                raise DamagedPart(
                    f"{path} ends before its rows do; delete it and run again, its clips are computed anew"
                )
            rest, at = rest[done:], at + done
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error


def stretches(part: NDArray[np.int32], start: NDArray[np.int64], stop: NDArray[np.int64]) -> Sequence[tuple[int, int]]:
    """Where spans that follow each other on disk begin and end, as half-open ranges of their numbers."""
    if not len(part):
        return []
    breaks = np.flatnonzero((part[1:] != part[:-1]) | (start[1:] != stop[:-1])) + 1
    return list(itertools.pairwise([0, *breaks.tolist(), len(part)]))
