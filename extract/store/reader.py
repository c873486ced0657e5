"""Reading a part: its index (who is in it), one clip's rows, or everything."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from extract.errors import DamagedPart, StoreError
from extract.plan import Storage
from extract.store.hdf5 import SEAL_BYTES, parse_seal
from extract.store.layout import (
    INFO_ATTRS,
    KEY_SETS,
    REMARK_COLUMNS,
    REMARKS,
    ROW_SETS,
    SCHEMA,
)
from extract.store.rows import KeyInfo, Remark, Rows

READABLE = (1, SCHEMA)
_STORAGES: dict[str, Storage] = {"<f4": "float32", "<f2": "float16"}


@dataclass(frozen=True, slots=True, eq=False)
class KeyIndex:
    """Who is under one key of a part.

    Parameters
    ----------
    info
        of the key
    clips
        N clip ids, in the order of their rows
    span
        (N, 2) int64, half-open row ranges
    sha256
        (N, 32) uint8, digest of each clip's rows
    sources
        source times per row
    offsets
        where in the file ``data``, ``window_ns``, ``valid`` and ``source_ns`` begin; None: compressed
    """

    info: KeyInfo
    clips: tuple[str, ...]
    span: NDArray[np.int64]
    sha256: NDArray[np.uint8]
    sources: int
    offsets: tuple[int | None, ...]


@dataclass(frozen=True, slots=True, eq=False)
class PartIndex:
    """What a part says, without its numbers: `keys` by name, remarks, the `provenance` as a JSON list, how it is written."""

    path: Path
    keys: dict[str, KeyIndex]
    failed: tuple[Remark, ...]
    masked: tuple[Remark, ...]
    provenance: str
    compression: str
    schema: int


@dataclass(frozen=True, slots=True, eq=False)
class PartContent:
    """Everything a part holds; `rows` by ``(clip_id, key)``."""

    index: PartIndex
    rows: dict[tuple[str, str], Rows]


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever HDF5 raises on a broken part inside the block into an error that names the part."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        if not path.exists():  # merged by a run while HDF5 opened it, which has many words for that
            raise FileNotFoundError(errno.ENOENT, "merged or deleted meanwhile", str(path)) from error
        if isinstance(error, OSError) and error.errno is not None:
            raise StoreError(f"cannot read {path}: {error}") from error
        raise DamagedPart(
            f"{path} cannot be read: {error}; delete it and run again, its clips are computed anew"
        ) from error


@contextmanager
def open_part(path: Path) -> Iterator[h5py.File]:
    """Open a part for reading.

    Raises
    ------
    FileNotFoundError
        it is not there (any more)
    StoreError
        the system does not let us read it
    DamagedPart
        it is no HDF5 file, no part, or of another schema
    """
    with reading(path):
        # Parts never change once visible, so no lock is needed, and some network file systems have none.
        file = h5py.File(path, "r", locking=False)
    with file:
        with reading(path):
            schema = file.attrs.get("schema")
            if schema is None:
                raise DamagedPart(f"{path} is no part of a feature store: it has no schema; move it out of parts/")
            if int(schema) not in READABLE:
                raise DamagedPart(
                    f"{path} has schema {schema}, this version reads {min(READABLE)} to {max(READABLE)}: use the version "
                    "of extract that wrote it, or a newer one, whose `extract store convert` rewrites it"
                )
        yield file


@dataclass(frozen=True, slots=True)
class Seal:
    """What the first bytes of a part say: digest of all that follows, and the size of the file."""

    sha256: str
    size_bytes: int


def read_seal(path: Path) -> Seal | None:
    """The seal of a part, read without HDF5; None for a part of schema 1, which has none.

    Raises
    ------
    FileNotFoundError
        it is not there (any more)
    StoreError
        the system does not let us read it
    DamagedPart
        the file begins like neither
    """
    with reading(path), open(path, "rb") as file:
        return _seal(path, file)


def _seal(path: Path, file: BinaryIO) -> Seal | None:
    head = file.read(SEAL_BYTES)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return None
    said = parse_seal(head, "part")
    if said is None:
        raise DamagedPart(f"{path} does not begin with the seal of a part; delete it and run again")
    return Seal(*said)


def seal_problem(path: Path) -> str:
    """What is wrong with a part as a file, byte by byte: its size, or the digest of everything after the seal; or nothing.

    A part of schema 1 has no seal, so nothing can be said of it here. Raises what :func:`read_seal` does.
    """
    with reading(path), open(path, "rb") as file:
        seal = _seal(path, file)
        if seal is None:
            return ""
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes != seal.size_bytes:
            return f"has {size_bytes:,} bytes, its seal says {seal.size_bytes:,}"
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return (
        ""
        if found == seal.sha256
        else f"its bytes have the digest {found[:12]}..., its seal says {seal.sha256[:12]}..."
    )


def index_part(path: Path) -> PartIndex:
    """Read who is in a part; its numbers are not touched.

    Raises
    ------
    FileNotFoundError, StoreError, DamagedPart
        see :func:`open_part`
    """
    with open_part(path) as file, reading(path):
        return _index(path, file)


def read_part(path: Path) -> PartContent:
    """Read a whole part into memory. Digests are not compared: see :func:`extract.store.verify.verify_part`."""
    with open_part(path) as file, reading(path):
        index = _index(path, file)
        rows = {
            (clip, key): read_rows(file, clip, key, *map(int, entry.span[i]))
            for key, entry in index.keys.items()
            for i, clip in enumerate(entry.clips)
        }
    return PartContent(index, rows)


def read_rows(file: h5py.File, clip_id: str, key: str, start: int, stop: int) -> Rows:
    """Read the rows ``[start, stop)`` of a key, which are those of `clip_id`."""
    group = file[key]
    data, window_ns, valid, source_ns = (read_range(group[name], start, stop) for name in ROW_SETS)
    return Rows(clip_id, key, data, window_ns, valid, source_ns)


def read_range(dataset: h5py.Dataset, start: int, stop: int) -> NDArray[Any]:
    """Rows ``[start, stop)`` of a dataset; also where a row is empty, which HDF5 itself does not read."""
    if 0 in dataset.shape[1:]:
        return np.empty((stop - start, *dataset.shape[1:]), dataset.dtype)
    array: NDArray[Any] = dataset[start:stop]
    return array


def read_text(dataset: h5py.Dataset) -> tuple[str, ...]:
    """A column of fixed-length UTF-8."""
    return tuple(raw.decode() for raw in dataset[...].tolist()) if dataset.shape[0] else ()


def read_attr(node: h5py.Group | h5py.Dataset, name: str) -> str:
    """A text attribute."""
    return bytes(node.attrs[name]).decode()


def read_info(group: h5py.Group, key: str) -> KeyInfo:
    """What is stored once per key."""
    identity, view, weights, licence = (read_attr(group, name) for name in INFO_ATTRS)
    data = group["data"]
    storage: Storage | None = _STORAGES.get(data.dtype.str)
    if storage is None:
        raise DamagedPart(
            f"{group.file.filename}: {key} holds numbers of type {data.dtype}, must be float32 or float16"
        )
    return KeyInfo(key, identity, view, weights, licence, tuple(map(int, data.shape[1:])), storage)


def read_remarks(group: h5py.Group) -> tuple[Remark, ...]:
    """The remarks of ``/failed`` or ``/masked``."""
    return tuple(Remark(*row) for row in zip(*(read_text(group[name]) for name in REMARK_COLUMNS), strict=True))


def _index(path: Path, file: h5py.File) -> PartIndex:
    keys = {key: _key_index(path, key, file[key]) for key in file if key not in REMARKS}
    failed, masked = (read_remarks(file[name]) for name in REMARKS)
    provenance, schema = read_attr(file, "provenance"), int(file.attrs["schema"])
    filters = {_compression(file[key]["data"]) for key in keys} or {"none"}
    if len(filters) > 1:
        raise DamagedPart(f"{path}: its keys are compressed differently ({', '.join(sorted(filters))}); run again")
    return PartIndex(path, keys, failed, masked, provenance, filters.pop(), schema)


def _compression(data: h5py.Dataset) -> str:
    return f"gzip:{data.compression_opts}" if data.compression == "gzip" else "none"


def _key_index(path: Path, key: str, group: h5py.Group) -> KeyIndex:
    missing = [name for name in KEY_SETS if name not in group]
    if missing:
        raise DamagedPart(f"{path}: {key} lacks {', '.join(missing)}; delete the part and run again")
    clips, span, sha256 = read_text(group["clip"]), group["span"][...], group["sha256"][...]
    rows = {group[name].shape[0] for name in ROW_SETS}
    if len(rows) != 1 or span.shape != (len(clips), 2) or sha256.shape != (len(clips), 32):
        raise DamagedPart(f"{path}: the datasets of {key} do not fit each other; `extract verify` says where")
    if not spans_tile(span, rows.pop()):
        raise DamagedPart(f"{path}: the spans of {key} do not tile its rows; `extract verify` says where")
    # a dataset without a single number has no place in the file; nothing is ever read of it
    offsets = tuple(None if group[name].chunks else group[name].id.get_offset() or 0 for name in ROW_SETS)
    return KeyIndex(read_info(group, key), clips, span, sha256, int(group["source_ns"].shape[1]), offsets)


def spans_tile(span: NDArray[np.int64], rows: int) -> bool:
    """Whether half-open spans (N, 2) follow each other without gap or overlap from 0 to `rows`, none of them empty."""
    edges = np.concatenate([[0], span[:, 1]])
    return bool((span[:, 0] == edges[:-1]).all() and (np.diff(edges) > 0).all() and edges[-1] == rows)
