"""The index of a store as a file beside its parts: a cache, written by whoever changed the parts, that saves opening them all."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from extract.store.hdf5 import SEAL_BYTES, create_file, new_group, parse_seal, put_attr, stamp, text_column
from extract.store.index import NUMBERS, Column, Index, PartFile, Remarks
from extract.store.layout import INFO_ATTRS
from extract.store.reader import read_attr, read_text
from extract.store.rows import KeyInfo
from extract.store.sink import sealed

NAME = "index.h5"
SCHEMA = 1
_ALIGN_BYTES = 64
_COLUMN = ("clip", "part", "start", "stop", "sha256", "offsets")
_REMARKS = (*NUMBERS, "edges", "text")
_log = logging.getLogger(__name__)


def write_index(store_path: Path, index: Index) -> None:
    """Write the index of a store; hold the store's lock.

    Raises
    ------
    StoreUnwritable
        no space, no permission, ...; the store does not need the file
    """
    entries = sum(len(column.clip) for column in index.columns.values())
    needed = index.ids.nbytes + entries * 60 + len(index.parts) * (200 + 32 * len(index.columns)) + 2**16
    with sealed(store_path / NAME, needed) as sink:
        with create_file(sink, _ALIGN_BYTES) as file:
            file.create_dataset("ids", data=index.ids)
            file.create_dataset("words", data=text_column(index.words))
            parts = new_group(file, "parts")
            parts.create_dataset("name", data=text_column([part.name for part in index.parts]))
            parts.create_dataset("seal", data=text_column([part.seal for part in index.parts]))
            for name in ("inode", "size_bytes", "mtime_ns"):
                parts.create_dataset(name, data=np.array([getattr(part, name) for part in index.parts], "<i8"))
            keys = new_group(file, "keys")
            for key, column in index.columns.items():
                group = new_group(keys, key)
                for name in INFO_ATTRS:
                    put_attr(group, name, getattr(column.info, name))
                put_attr(group, "storage", column.info.storage)
                group.attrs["dims"] = np.array(column.info.dims, "<i8")
                group.attrs["sources"] = column.sources
                for name in _COLUMN:
                    group.create_dataset(name, data=getattr(column, name))
            for kind in ("failed", "masked"):
                group = new_group(file, kind)
                for name in _REMARKS:
                    group.create_dataset(name, data=getattr(getattr(index, kind), name))
        stamp(sink, "index", SCHEMA)


def read_index(store_path: Path) -> Index | None:
    """The index of a store, whose arrays stay in the file until they are touched; None where there is none that can be used.

    The file is hashed first: a flipped byte in it would give the wrong rows.
    """
    path = store_path / NAME
    try:
        with path.open("rb") as file:
            return _read(path, file)
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("%s cannot be read (%s): every part is opened instead", path, error.strerror or error)
        return None


def _read(path: Path, file: BinaryIO) -> Index | None:
    # One descriptor for the bytes and for HDF5: a run may put another file under the name at any time.
    size_bytes, seal = os.fstat(file.fileno()).st_size, parse_seal(file.read(SEAL_BYTES), "index")
    raw = np.asarray(np.memmap(file, np.uint8, "r")) if size_bytes else np.empty(0, np.uint8)
    if seal is None or seal != (hashlib.sha256(raw[SEAL_BYTES:].data).hexdigest(), raw.size):
        _log.warning("%s is damaged and not used: every part is opened instead; the next run writes it anew", path)
        return None
    if _schema(raw) != SCHEMA:
        _log.warning("%s is of another version and not used: every part is opened instead", path)
        return None
    with h5py.File(file, "r") as hdf5:
        columns = {key: _column(key, group, raw) for key, group in hdf5["keys"].items()}
        remarks = {kind: Remarks(**{name: _array(hdf5[kind][name], raw) for name in _REMARKS}) for kind in _KINDS}
        names, seals = read_text(hdf5["parts/name"]), read_text(hdf5["parts/seal"])
        stats = [hdf5[f"parts/{name}"][...].tolist() for name in ("inode", "size_bytes", "mtime_ns")]
        ids, words = _array(hdf5["ids"], raw), read_text(hdf5["words"])
    return Index(ids, tuple(map(PartFile, names, *stats, seals)), columns, remarks["failed"], remarks["masked"], words)


_KINDS = ("failed", "masked")


def _schema(raw: NDArray[np.uint8]) -> int:
    return int(raw[:SEAL_BYTES].tobytes().split(b"\n")[1].split()[1])


def _column(key: str, group: h5py.Group, raw: NDArray[np.uint8]) -> Column:
    identity, view, weights, licence = (read_attr(group, name) for name in INFO_ATTRS)
    storage: Any = read_attr(group, "storage")
    info = KeyInfo(key, identity, view, weights, licence, tuple(map(int, group.attrs["dims"])), storage)
    return Column(info, int(group.attrs["sources"]), **{name: _array(group[name], raw) for name in _COLUMN})


def _array(dataset: h5py.Dataset, raw: NDArray[np.uint8]) -> NDArray[Any]:
    if not dataset.size:
        return np.empty(dataset.shape, dataset.dtype)
    at, dtype = dataset.id.get_offset(), np.dtype(dataset.dtype.str)
    array: NDArray[Any] = raw[at : at + dataset.size * dtype.itemsize].view(dtype).reshape(dataset.shape)
    return array
