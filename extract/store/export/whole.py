"""Files of an export: each is there whole or not at all, and one that is there is not written again."""

from __future__ import annotations

import io
import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from extract.store.sink import unwritable

TEMPORARY = re.compile(r"\.extract-[0-9]+-[0-9]+\.tmp")
_count = itertools.count()


@contextmanager
def whole(path: Path, needed: int) -> Iterator[BinaryIO]:
    """Write `path` so that it is there whole or not at all, whatever dies when; a file that is there is replaced.

    Nothing is synced to the disk here: an export has too many files for that, and writes what is absent when it is
    given again.

    Parameters
    ----------
    path
        where the file shall appear; its folder must be there
    needed
        bytes that have still to be written, for the message

    Yields
    ------
    BinaryIO
        open for writing and reading; an exception in the block leaves nothing behind

    Raises
    ------
    StoreUnwritable
        no space, no permission, read-only, ...
    """
    temporary = _temporary(path)
    try:
        file = open(temporary, "x+b")  # noqa: SIM115 - closed before the rename
    except OSError as error:
        raise unwritable(path, needed, error) from error
    try:
        try:
            with file:
                yield file
            os.rename(temporary, path)
        except FileNotFoundError:
            raise  # not of this file: something that the block reads is gone
        except OSError as error:
            raise unwritable(path, needed, error) from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_npy(path: str | Path, array: NDArray[Any], needed: int | None = None) -> int:
    """Write an array as ``numpy.save`` does (.npy version 1.0, C order), unless a file of that size is there.

    A file of the right size is taken for whole and right: only :func:`whole` and this function write into an export,
    and its ``export.json`` says that it is the same export of the same store.

    Parameters
    ----------
    path
        of the file; its folder must be there
    array
        of a plain number type; its byte order is kept
    needed
        bytes that the export has still to write, for the message; None: those of this file

    Returns
    -------
    int
        bytes written; 0: it was there

    Raises
    ------
    StoreUnwritable
        no space, no permission, read-only, ...
    """
    header = npy_header(array.shape, array.dtype)
    size = len(header) + array.nbytes
    if is_there(path, size):
        return 0
    temporary = _temporary(path)
    try:
        fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise unwritable(Path(path), needed or size, error) from error
    try:
        try:
            _write(fd, header, np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError as error:
        _discard(temporary)
        raise unwritable(Path(path), needed or size, error) from error
    except BaseException:
        _discard(temporary)
        raise
    return size


def is_there(path: str | Path, size: int) -> bool:
    """Whether there is a file of exactly `size` bytes."""
    try:
        return os.stat(path).st_size == size
    except FileNotFoundError:
        return False


def npy_size(shape: tuple[int, ...], dtype: DTypeLike) -> int:
    """Bytes that a .npy file of that shape takes."""
    dtype = np.dtype(dtype)
    return len(npy_header(shape, dtype)) + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


@lru_cache(maxsize=4096)
def npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """What stands before the numbers of a .npy file of version 1.0 in C order; see numpy.lib.format."""
    buffer = io.BytesIO()
    told = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, told)
    return buffer.getvalue()


def sweep(folder: Path) -> int:
    """Delete the temporary files that killed exports left in `folder` and below; how many there were."""
    found = [Path(at, name) for at, _, names in os.walk(folder) for name in names if TEMPORARY.fullmatch(name)]
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def _temporary(path: str | Path) -> str:
    # Without the name of the file: names of 255 bytes, the longest there are, have no room for more.
    return os.path.join(os.path.dirname(path), f".extract-{os.getpid()}-{next(_count)}.tmp")


def _discard(temporary: str) -> None:
    Path(temporary).unlink(missing_ok=True)


def _write(fd: int, header: bytes, data: memoryview) -> None:
    done = os.writev(fd, (header, data))
    while done < len(header):
        done += os.write(fd, header[done:])
    done -= len(header)
    while done < len(data):
        done += os.write(fd, data[done:])
