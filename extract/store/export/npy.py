"""One .npy file per clip and network, with index.csv and the times and validity of every row.

::

    index.csv               clip_id,key,file,first_row,rows,masked
    <backbone>/<id>.npy     (R, *dims), as numpy.save writes it; as stored unless another dtype is asked for
    <backbone>.window_ns.npy    (sum of R, 2) int64, half-open, from each clip's start
    <backbone>.valid.npy        (sum of R,) uint8; 0: a policy filled the row

Clips stand in index.csv in the order of the export; the rows of one are ``[first_row, first_row + rows)`` of the two
arrays, and ``masked`` of them were filled by a policy. Where two keys have one network, the full key takes its place. In
file names ``%``, ``/`` and a leading ``.`` are written as in URLs, so ``urllib.parse.unquote`` gives the id back.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import nearest
from extract.store.export.asked import DType, Tally, cast, look_up, make_folder, needed_bytes
from extract.store.export.naming import key_names
from extract.store.export.report import Exported
from extract.store.export.whole import is_there, npy_header, npy_size, whole, write_npy

if TYPE_CHECKING:
    from extract.store import Store

INDEX = "index.csv"
HEADER = ("clip_id", "key", "file", "first_row", "rows", "masked")
DTYPES = ("float32", "float16")
_ESCAPES = str.maketrans({"%": "%25", "/": "%2F"})


def export(store: Store, keys: Sequence[str], ids: Sequence[str], out: Path, *, dtype: DType | None = None) -> Exported:
    """Write a folder of .npy files per key.

    Parameters
    ----------
    store, keys, ids, out
        see `extract.store.export`
    dtype
        ``float32`` or ``float16``; None: as stored

    Raises
    ------
    StoreError
        a number is too large for float16
    """
    if dtype is not None and dtype not in DTYPES:
        raise nearest(str(dtype), list(DTYPES), "type of number")
    there, missing = look_up(store, keys, ids)
    folders, tally = key_names(keys), Tally()
    needed = needed_bytes(store, there, dtype)
    for key in keys:
        _write_key(store, key, there[key], out / folders[key], dtype, tally, needed)
    with whole(out / INDEX, 0) as raw:
        file = TextIOWrapper(raw, "utf-8", newline="")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for key in keys:
            writer.writerows(_index(store, key, there[key], out / folders[key]))
        file.detach()
    tally.file((out / INDEX).stat().st_size)
    return tally.exported(missing)


def file_name(clip_id: str) -> str:
    """The name of a clip's file: safe in every folder, and no two ids share one."""
    escaped = clip_id.translate(_ESCAPES)
    return ("%2E" + escaped[1:] if escaped.startswith(".") else escaped) + ".npy"


def _write_key(
    store: Store, key: str, ids: Sequence[str], folder: Path, dtype: DType | None, tally: Tally, needed: int
) -> None:
    make_folder(folder)
    first = _first_rows(store, key, ids)
    rows_of = dict(zip(ids, first.tolist(), strict=False))
    total = int(first[-1])
    with (
        _column(folder, "window_ns", (total, 2), "<i8", tally) as windows,
        _column(folder, "valid", (total,), "|u1", tally) as valid,
    ):
        for clip in store.file_order(ids, key):
            rows = store.rows(clip, key)
            data = cast(rows, dtype)
            tally.file(write_npy(folder / file_name(clip), data, max(needed - tally.size_bytes, data.nbytes)))
            windows(rows_of[clip], rows.window_ns)
            valid(rows_of[clip], rows.valid)


def _first_rows(store: Store, key: str, ids: Sequence[str]) -> NDArray[np.int64]:
    """(N + 1,) the first row of each clip where all stand one after the other; the last one is their number."""
    counts = dict(zip(store.clips(key), store.counts(key).tolist(), strict=True))
    return np.cumsum([0, *(counts[clip] for clip in ids)], dtype=np.int64)


@contextmanager
def _column(
    folder: Path, name: str, shape: tuple[int, ...], dtype: str, tally: Tally
) -> Iterator[Callable[[int, NDArray[Any]], None]]:
    """Write ``<folder>.<name>.npy``: what is yielded puts rows at their place, or does nothing if the file is there."""
    path = folder.with_name(f"{folder.name}.{name}.npy")
    header, size = npy_header(shape, np.dtype(dtype)), npy_size(shape, dtype)
    if is_there(path, size):
        tally.file(0)
        yield lambda first, rows: None
        return
    row_bytes = (size - len(header)) // max(shape[0], 1)
    with whole(path, size) as file:
        fd = file.fileno()

        def put(first: int, rows: NDArray[Any]) -> None:
            _pwrite(fd, np.ascontiguousarray(rows, dtype).tobytes(), len(header) + first * row_bytes)

        _pwrite(fd, header, 0)
        yield put
    tally.file(size)


def _pwrite(fd: int, data: bytes, at: int) -> None:
    while data:
        done = os.pwrite(fd, data, at)
        data, at = data[done:], at + done


def _index(store: Store, key: str, ids: Sequence[str], folder: Path) -> Iterator[tuple[str, str, str, int, int, int]]:
    first = _first_rows(store, key, ids)
    # The numbers of one clip are looked at a time, and the file may be larger than the memory.
    valid = np.load(folder.with_name(f"{folder.name}.valid.npy"), mmap_mode="r") if first[-1] else np.empty(0, np.uint8)
    for clip, start, stop in zip(ids, first[:-1].tolist(), first[1:].tolist(), strict=True):
        masked = int(np.count_nonzero(valid[start:stop] == 0))
        yield clip, key, f"{folder.name}/{file_name(clip)}", start, stop - start, masked
