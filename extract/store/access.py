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
_BUFFERS = 1024  # IOV_MAX of Linux and macOS
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

    Parameters
    ----------
    folder
        of the parts
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._raw: OrderedDict[PartFile, int] = OrderedDict()
        self._hdf5: OrderedDict[PartFile, tuple[ExitStack, h5py.File]] = OrderedDict()
        self._pid = os.getpid()

    def raw(self, part: PartFile) -> int:
        """A descriptor of the part.

        Raises
        ------
        Changed
            the file is gone, or another one than the index knows
        """
        if (fd := self._raw.get(part)) is not None:
            self._raw.move_to_end(part)
            return fd
        path = self.folder / part.name
        fd = _open(path)
        if not part.same(os.fstat(fd), path):
            os.close(fd)
            raise Changed
        self._raw[part] = fd
        while len(self._raw) > OPEN_FILES:
            os.close(self._raw.popitem(last=False)[1])
        return fd

    def hdf5(self, part: PartFile) -> h5py.File:
        """The part as an HDF5 file; raises what :meth:`raw` does."""
        if self._pid != os.getpid():
            self._hdf5.clear()
            self._pid = os.getpid()
        if (found := self._hdf5.get(part)) is not None:
            self._hdf5.move_to_end(part)
            return found[1]
        path = self.folder / part.name
        stack = ExitStack()
        try:
            file = stack.enter_context(open_part(path))
            if not part.is_at(path):
                raise FileNotFoundError(path)
        except FileNotFoundError:
            stack.close()
            raise Changed from None
        self._hdf5[part] = (stack, file)
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
    files: Files, part: PartFile, column: Column, number: int, start: int, outs: Sequence[NDArray[np.generic]]
) -> None:
    """Read the data of rows from `start` on into arrays of (rows, dims...), which take what follows each other in the part.

    Parameters
    ----------
    outs
        of the stored type, each C-contiguous

    Raises
    ------
    Changed
        see :meth:`Files.raw`
    DamagedPart
        the file ends before its rows do
    """
    outs = [out for out in outs if out.size]
    if not outs:
        return
    offset = int(column.offsets[number, 0])
    if offset >= 0:
        _read_into(files, part, outs, offset + start * (outs[0].nbytes // len(outs[0])))
        return
    with reading(files.folder / part.name):
        data = files.hdf5(part)[column.info.key]["data"]
        for out in outs:
            data.read_direct(out, np.s_[start : start + len(out)])
            start += len(out)


def read_small(
    files: Files, part: PartFile, column: Column, number: int, start: int, stop: int, name: str
) -> NDArray[np.generic]:
    """Rows ``[start, stop)`` of ``window_ns``, ``valid`` or ``source_ns``; raises what :func:`read_data` does."""
    dtype, width = _TYPES[name], _WIDTH[name] or column.sources
    shape = (stop - start,) if name == "valid" else (stop - start, width)
    offset = int(column.offsets[number, ROW_SETS.index(name)])
    if offset < 0:
        with reading(files.folder / part.name):
            return read_range(files.hdf5(part)[column.info.key][name], start, stop)
    out = np.empty(shape, dtype)
    if out.size:
        _read_into(files, part, [out], offset + start * width * dtype.itemsize)
    return out


def _read_into(files: Files, part: PartFile, outs: Sequence[NDArray[np.generic]], at: int) -> None:
    fd = files.raw(part)
    rest = [out.reshape(-1).view(np.uint8).data for out in outs]
    try:
        while rest:
            done = os.preadv(fd, rest[:_BUFFERS], at)
            if not done:
                raise DamagedPart(
                    f"{files.folder / part.name} ends before its rows do; delete it and run again, its clips are computed anew"
                )
            at += done
            while rest and done >= rest[0].nbytes:
                done -= rest.pop(0).nbytes
            if done:
                rest[0] = rest[0][done:]
    except OSError as error:
        raise StoreError(f"cannot read {files.folder / part.name}: {error.strerror}") from error


def stretches(part: NDArray[np.int32], start: NDArray[np.int64], stop: NDArray[np.int64]) -> Sequence[tuple[int, int]]:
    """Where spans that follow each other on disk begin and end, as half-open ranges of their numbers."""
    if not len(part):
        return []
    breaks = np.flatnonzero((part[1:] != part[:-1]) | (start[1:] != stop[:-1])) + 1
    return list(itertools.pairwise([0, *breaks.tolist(), len(part)]))
