"""What a part looks like on disk. Writing one is a pure function of its logical content: equal content, equal bytes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError
from extract.plan import Storage
from extract.store.hdf5 import create_file, new_group, put_attr, put_set, stamp, text_column
from extract.store.rows import KeyInfo, Remark, Rows
from extract.store.sink import Sink, sealed

SCHEMA = 2
_CHUNK_BYTES = 4 * 2**20
REMARKS = ("failed", "masked")
REMARK_COLUMNS = ("clip", "key", "stage", "error", "message")
INFO_ATTRS = ("identity", "view", "weights", "licence")
ROW_SETS = ("data", "window_ns", "valid", "source_ns")
KEY_SETS = (*ROW_SETS, "span", "clip", "sha256")
_NUMBERS = {"float32": "<f4", "float16": "<f2"}


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
    storage
        type of the numbers
    """

    clip_id: str
    key: str
    dims: tuple[int, ...]
    rows: int
    sources: int
    load: Callable[[], Rows]
    storage: Storage = "float32"

    @property
    def size_bytes(self) -> int:
        """What the entry takes on disk, without its name."""
        number_bytes = np.dtype(self.storage).itemsize
        return self.rows * (number_bytes * int(np.prod(self.dims, dtype=np.int64)) + 17 + 8 * self.sources) + 48


def row_digest(rows: Rows) -> bytes:
    """sha256 (32 bytes) of one clip's rows: shape, data, window_ns, valid, source_ns, little-endian, in that order."""
    digest = hashlib.sha256(np.array([*rows.data.shape, *rows.source_ns.shape], "<i8").tobytes())
    number = rows.data.dtype.newbyteorder("<")
    for array, dtype in ((rows.data, number), (rows.window_ns, "<i8"), (rows.valid, "|u1"), (rows.source_ns, "<i8")):
        digest.update(np.ascontiguousarray(array, dtype).data)
    return digest.digest()


def write_part(
    path: Path,
    infos: Mapping[str, KeyInfo],
    entries: Sequence[Entry],
    failed: Sequence[Remark],
    masked: Sequence[Remark],
    provenance: str,
    compression: str = "none",
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
    compression
        of the data: ``none`` or ``gzip:<1 to 9>``

    Raises
    ------
    PlanError
        no such compression
    StoreUnwritable
        see :func:`extract.store.sink.sealed`
    """
    filters = _filters(compression)
    text = sum(len(remark.message) + 512 for remark in (*failed, *masked))
    needed = sum(entry.size_bytes + 4 * len(entry.clip_id) for entry in entries) + text + 4096 + len(provenance)
    with sealed(path, needed) as sink:
        with create_file(sink) as file:
            file.attrs.create("schema", np.int64(SCHEMA))
            put_attr(file, "provenance", provenance)
            for key, group in groupby(entries, key=lambda entry: entry.key):
                _put_key(new_group(file, key), infos[key], tuple(group), sink, filters)
            for name, remarks in zip(REMARKS, (failed, masked), strict=True):
                _put_remarks(new_group(file, name), remarks)
        stamp(sink, "part", SCHEMA)


def parse_compression(text: str) -> str:
    """``none`` or ``gzip:<level>``; a bare ``gzip`` is level 4.

    Raises
    ------
    PlanError
        anything else
    """
    text = "gzip:4" if text == "gzip" else text
    if not re.fullmatch(r"none|gzip:[1-9]", text):
        raise PlanError(f"no compression is called {text!r}: use none, gzip (level 4), or gzip:1 to gzip:9")
    return text


def _filters(compression: str) -> dict[str, Any]:
    kind, _, level = parse_compression(compression).partition(":")
    return {} if kind == "none" else {"compression": "gzip", "compression_opts": int(level), "shuffle": True}


def _put_key(
    group: h5py.Group, info: KeyInfo, entries: Sequence[Entry], sink: Sink, filters: Mapping[str, Any]
) -> None:
    for name in INFO_ATTRS:
        put_attr(group, name, getattr(info, name))
    stops = np.cumsum([entry.rows for entry in entries], dtype="<i8")
    total, sources = int(stops[-1]), entries[0].sources
    shapes = {"data": (total, *info.dims), "window_ns": (total, 2), "valid": (total,), "source_ns": (total, sources)}
    types = {"data": _NUMBERS[info.storage], "window_ns": "<i8", "valid": "|u1", "source_ns": "<i8"}
    packed = {"data": {"chunks": _chunks(entries[0], shapes["data"]), **filters}} if filters else {}
    sets = {n: group.create_dataset(n, shapes[n], types[n], fill_time="never", **packed.get(n, {})) for n in ROW_SETS}
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
    put_set(group, "span", np.stack([starts, stops], axis=1))
    put_set(group, "clip", text_column([entry.clip_id for entry in entries]))
    put_set(group, "sha256", digests)


def _chunks(first: Entry, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    # One clip is what is read at a time; most clips have as many rows as the first.
    row_bytes = int(np.prod(first.dims, dtype=np.int64)) * np.dtype(first.storage).itemsize
    return (max(1, min(first.rows, _CHUNK_BYTES // row_bytes)), *first.dims) if 0 not in shape else None


def _put_remarks(group: h5py.Group, remarks: Sequence[Remark]) -> None:
    columns = ("clip_id", "key", "stage", "reason", "message")
    for name, field in zip(REMARK_COLUMNS, columns, strict=True):
        put_set(group, name, text_column([getattr(remark, field) for remark in remarks]))
