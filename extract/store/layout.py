"""What a part looks like on disk. Writing one is a pure function of its logical content: equal content, equal bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from extract.store.rows import KeyInfo, Remark, Rows
from extract.store.sink import Sink, sealed

SCHEMA = 1
REMARKS = ("failed", "masked")
REMARK_COLUMNS = ("clip", "key", "stage", "error", "message")
INFO_ATTRS = ("identity", "view", "weights", "licence")
ROW_SETS = ("data", "window_ns", "valid", "source_ns")
KEY_SETS = (*ROW_SETS, "span", "clip", "sha256")


@dataclass(frozen=True, slots=True)
class Entry:
    """One clip's rows of one key as something to be written: the shape now, the numbers when they are needed.

    Parameters
    ----------
    clip_id, key
        whose rows
    dims
        shape of one row
    rows, sources
        how many rows, and how many source times each has
    load
        gives the rows; called once, while the part is written
    """

    clip_id: str
    key: str
    dims: tuple[int, ...]
    rows: int
    sources: int
    load: Callable[[], Rows]

    @property
    def size_bytes(self) -> int:
        """What the entry takes on disk, without its name."""
        return self.rows * (4 * int(np.prod(self.dims, dtype=np.int64)) + 17 + 8 * self.sources) + 48


def row_digest(rows: Rows) -> bytes:
    """sha256 (32 bytes) of one clip's rows: shape, data, window_ns, valid, source_ns, little-endian, in that order."""
    digest = hashlib.sha256(np.array([*rows.data.shape, *rows.source_ns.shape], "<i8").tobytes())
    for array, dtype in ((rows.data, "<f4"), (rows.window_ns, "<i8"), (rows.valid, "|u1"), (rows.source_ns, "<i8")):
        digest.update(np.ascontiguousarray(array, dtype).data)
    return digest.digest()


def array_digest(array: NDArray[Any]) -> str:
    """sha256 in hex of a whole dataset, as stored."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def write_part(
    path: Path,
    infos: Mapping[str, KeyInfo],
    entries: Sequence[Entry],
    failed: Sequence[Remark],
    masked: Sequence[Remark],
    provenance: str,
) -> None:
    """Write and seal one part; everything is written in the order given.

    Parameters
    ----------
    path
        of the part
    infos
        at least those of the keys in `entries`; a key without an entry leaves no trace
    entries
        all of one key together, of equal dims and sources
    failed, masked
        remarks
    provenance
        JSON list of what the rows were made with

    Raises
    ------
    StoreUnwritable
        see :func:`extract.store.sink.sealed`
    """
    text = sum(len(remark.message) + 512 for remark in (*failed, *masked))
    needed = sum(entry.size_bytes + 4 * len(entry.clip_id) for entry in entries) + text + 4096 + len(provenance)
    with sealed(path, needed) as sink, _create(sink) as file:
        file.attrs.create("schema", np.int64(SCHEMA))
        _put_attr(file, "provenance", provenance)
        for key, group in groupby(entries, key=lambda entry: entry.key):
            _put_key(_group(file, key), infos[key], tuple(group), sink)
        for name, remarks in zip(REMARKS, (failed, masked), strict=True):
            _put_remarks(_group(file, name), remarks)


def _create(sink: Sink) -> h5py.File:
    # Object headers of this format carry times unless told otherwise; fixed bounds keep the bytes independent of HDF5's
    # defaults, and 1.8 is the oldest format whose metadata is checksummed.
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, sink)
    access.set_libver_bounds(h5py.h5f.LIBVER_V18, h5py.h5f.LIBVER_V18)
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    return h5py.File(h5py.h5f.create(b"part", h5py.h5f.ACC_TRUNC, creation, access))


def _group(file: h5py.File, name: str) -> h5py.Group:
    creation = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    creation.set_obj_track_times(False)
    return h5py.Group(h5py.h5g.create(file.id, name.encode(), gcpl=creation))


def _put_attr(node: h5py.Group | h5py.Dataset, name: str, text: str) -> None:
    raw = text.encode()
    dtype = h5py.string_dtype("utf-8", max(1, len(raw)))
    node.attrs.create(name, np.array(raw, dtype=dtype))


def _put_set(group: h5py.Group, name: str, array: NDArray[Any]) -> None:
    dataset = group.create_dataset(name, shape=array.shape, dtype=array.dtype, fill_time="never")
    if array.size:
        dataset[...] = array
    _put_attr(dataset, "sha256", array_digest(array))


def _text(column: Sequence[str]) -> NDArray[np.bytes_]:
    # Fixed length: strings of variable length live in a heap without checksums.
    raw = [text.encode() for text in column]
    return np.array(raw, dtype=h5py.string_dtype("utf-8", max(1, *map(len, raw)) if raw else 1))


def _put_key(group: h5py.Group, info: KeyInfo, entries: Sequence[Entry], sink: Sink) -> None:
    for name in INFO_ATTRS:
        _put_attr(group, name, getattr(info, name))
    stops = np.cumsum([entry.rows for entry in entries], dtype="<i8")
    total, sources = int(stops[-1]), entries[0].sources
    shapes = {"data": (total, *info.dims), "window_ns": (total, 2), "valid": (total,), "source_ns": (total, sources)}
    types = {"data": "<f4", "window_ns": "<i8", "valid": "|u1", "source_ns": "<i8"}
    sets = {n: group.create_dataset(n, shapes[n], types[n], fill_time="never") for n in ROW_SETS}
    digests = np.empty((len(entries), 32), "|u1")
    small: dict[str, list[NDArray[Any]]] = {name: [] for name in ROW_SETS[1:]}
    for i, (entry, stop) in enumerate(zip(entries, stops.tolist(), strict=True)):
        rows = entry.load()
        digests[i] = np.frombuffer(row_digest(rows), "|u1")
        for name, arrays in small.items():
            arrays.append(getattr(rows, name))
        if sets["data"].size:
            sets["data"][stop - entry.rows : stop] = rows.data
        if sink.error is not None:
            raise sink.error
    for name, arrays in small.items():
        if sets[name].size:
            sets[name][...] = np.concatenate(arrays)
    starts = stops - np.array([entry.rows for entry in entries], "<i8")
    _put_set(group, "span", np.stack([starts, stops], axis=1))
    _put_set(group, "clip", _text([entry.clip_id for entry in entries]))
    _put_set(group, "sha256", digests)


def _put_remarks(group: h5py.Group, remarks: Sequence[Remark]) -> None:
    columns = ("clip_id", "key", "stage", "reason", "message")
    for name, field in zip(REMARK_COLUMNS, columns, strict=True):
        _put_set(group, name, _text([getattr(remark, field) for remark in remarks]))
