"""Reading all rows of a part once, in blocks of bounded size: the digest of each clip's rows, and what their numbers are like."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from extract.store.reader import read_attr, read_range

BLOCK_BYTES = 8 * 2**20
BROKEN = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    IndexError,
    AttributeError,
    MemoryError,
    OverflowError,
)
"""What HDF5 and the libraries around it raise on a damaged file."""
Spans = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Traits:
    """What the numbers of one clip are like.

    Parameters
    ----------
    values, bad
        how many there are; how many of them are NaN or infinite
    constant
        how many valid rows hold one value everywhere; always 0 where a row has only one value
    alike
        whether all valid rows are equal bit by bit
    """

    values: int
    bad: int
    constant: int
    alike: bool


@dataclass(frozen=True, slots=True)
class Looked:
    """One clip's rows, read.

    Parameters
    ----------
    i
        number of the clip
    digest
        as :func:`extract.store.layout.row_digest` gives it; empty where they could not be read
    problem
        why they could not
    window_ns, valid
        (R, 2) int64 and (R,) uint8
    traits
        of the numbers
    """

    i: int
    digest: bytes
    problem: str
    window_ns: NDArray[np.int64]
    valid: NDArray[np.uint8]
    traits: Traits


_NOTHING = Traits(0, 0, 0, False)


def set_problem(dataset: h5py.Dataset) -> str:
    """What is wrong with a dataset that carries its own checksum, read block by block; or nothing."""
    digest = hashlib.sha256()
    for start, stop in _steps(dataset.shape[0], _row_bytes(dataset)):
        digest.update(np.ascontiguousarray(read_range(dataset, start, stop)).tobytes())
    said, found = read_attr(dataset, "sha256"), digest.hexdigest()
    return "" if said == found else f"checksum is {found[:12]}..., the part says {said[:12]}..."


def look(group: h5py.Group, spans: Spans) -> Iterator[Looked]:
    """Read the clips of a key.

    Parameters
    ----------
    group
        of the key
    spans
        (N, 2) half-open ranges of its rows, none empty, all within its datasets
    """
    row_bytes = sum(_row_bytes(group[name]) for name in ("data", "window_ns", "valid", "source_ns"))
    for first, last in _runs(spans, max(1, BLOCK_BYTES // row_bytes)):
        try:
            yield from _block(group, spans, first, last)
        except BROKEN:
            for i in range(first, last):  # one by one, to name the clip
                yield from _alone(group, spans, i)


def _alone(group: h5py.Group, spans: Spans, i: int) -> Iterator[Looked]:
    try:
        yield from list(_block(group, spans, i, i + 1))
    except BROKEN as error:
        yield Looked(i, b"", str(error), np.empty((0, 2), np.int64), np.empty(0, np.uint8), _NOTHING)


def _runs(spans: Spans, most: int) -> Iterator[tuple[int, int]]:
    """Clips whose rows follow each other and are not too many to be read at once; a longer clip is alone."""
    first = 0
    for i in range(1, len(spans) + 1):
        ends = i == len(spans) or spans[i, 0] != spans[i - 1, 1] or spans[i, 1] - spans[first, 0] > most
        if ends:
            yield first, i
            first = i


def _block(group: h5py.Group, spans: Spans, first: int, last: int) -> Iterator[Looked]:
    start, stop = int(spans[first, 0]), int(spans[last - 1, 1])
    window_ns, valid, source_ns = (read_range(group[name], start, stop) for name in ("window_ns", "valid", "source_ns"))
    data = group["data"]
    steps = [(start, stop)] if last - first > 1 else list(_steps(stop - start, _row_bytes(data), start))
    pieces = (read_range(data, *step) for step in steps)
    if last - first == 1:
        folded = _Fold((stop - start, *data.shape[1:]), source_ns.shape)
        for step, piece in zip(steps, pieces, strict=True):
            folded.add(piece, valid[step[0] - start : step[1] - start])
        yield Looked(first, folded.digest(window_ns, valid, source_ns), "", window_ns, valid, folded.traits())
        return
    whole = next(pieces)
    for i in range(first, last):
        rows = slice(int(spans[i, 0]) - start, int(spans[i, 1]) - start)
        folded = _Fold(whole[rows].shape, source_ns[rows].shape)
        folded.add(whole[rows], valid[rows])
        digest = folded.digest(window_ns[rows], valid[rows], source_ns[rows])
        yield Looked(i, digest, "", window_ns[rows], valid[rows], folded.traits())


class _Fold:
    """Digest and traits of one clip, from its data piece by piece."""

    def __init__(self, data_shape: tuple[int, ...], source_shape: tuple[int, ...]) -> None:
        self._total = hashlib.sha256(np.array([*data_shape, *source_shape], "<i8").tobytes())
        self._values = int(np.prod(data_shape, dtype=np.int64))
        self._bad = self._constant = 0
        self._first: NDArray[Any] | None = None
        self._alike = True

    def add(self, data: NDArray[Any], valid: NDArray[np.uint8]) -> None:
        """The next rows, in order."""
        raw = np.ascontiguousarray(data, data.dtype.newbyteorder("<"))
        self._total.update(raw.data)
        flat = raw.reshape(len(raw), -1)
        if not flat.size:
            return
        # minimum and maximum carry every NaN and infinity, without a mask as large as the data
        if not (np.isfinite(flat.min()) and np.isfinite(flat.max())):
            self._bad += int((~np.isfinite(flat)).sum())
        own = flat if valid.all() else flat[valid > 0]
        if not len(own):
            return
        if flat.shape[1] > 1:
            same = own[:, 0] == own[:, 1]  # settles nearly every row
            self._constant += int((own[same] == own[same, :1]).all(axis=1).sum()) if same.any() else 0
        if self._first is None:
            self._first = own[0].copy()
        bits = f"u{own.dtype.itemsize}"
        self._alike = self._alike and bool((own.view(bits) == self._first.view(bits)).all())

    def digest(self, window_ns: NDArray[Any], valid: NDArray[Any], source_ns: NDArray[Any]) -> bytes:
        """The rest of what is hashed; call it once."""
        for array, dtype in ((window_ns, "<i8"), (valid, "|u1"), (source_ns, "<i8")):
            self._total.update(np.ascontiguousarray(array, dtype).data)
        return self._total.digest()

    def traits(self) -> Traits:
        """Of all that was added."""
        return Traits(self._values, self._bad, self._constant, self._first is not None and self._alike)


def _row_bytes(dataset: h5py.Dataset) -> int:
    row: int = int(np.prod(dataset.shape[1:], dtype=np.int64)) * dataset.dtype.itemsize
    return max(1, row)


def _steps(rows: int, row_bytes: int, first: int = 0) -> Iterator[tuple[int, int]]:
    step = max(1, BLOCK_BYTES // row_bytes)
    for start in range(0, rows, step):
        yield first + start, first + min(start + step, rows)
