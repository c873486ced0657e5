"""Plain HDF5 files: no times in them, no heaps, a seal at their beginning."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from extract.store.sink import Sink

SEAL_BYTES = 512  # the smallest user block that HDF5 allows
_CACHE_BYTES = 16 * 2**20
_SEAL = re.compile(rb"extract ([a-z]+)\nschema ([0-9]{1,4})\nsha256 ([0-9a-f]{64})\nbytes ([0-9]{1,18})\n")


def stamp(sink: Sink, kind: str, schema: int) -> None:
    """Write the seal of a finished file: what it is, the digest of everything after it, its size."""
    size_bytes = sink.seek(0, os.SEEK_END)
    seal = seal_text(kind, schema, sink.digest(SEAL_BYTES), size_bytes)
    sink.seek(0)
    sink.write(memoryview(seal))


def seal_text(kind: str, schema: int, sha256: str, size_bytes: int) -> bytes:
    """The first 512 bytes of a file, which ``head`` shows."""
    text = f"extract {kind}\nschema {schema}\nsha256 {sha256}\nbytes {size_bytes}\n"
    return text.encode().ljust(SEAL_BYTES - 1) + b"\n"


def parse_seal(head: bytes, kind: str) -> tuple[str, int] | None:
    """Digest and size out of the first 512 bytes of a file; None where they are no seal of that kind."""
    said = _SEAL.match(head)
    if said is None or said[1].decode() != kind:
        return None
    sha256, size_bytes = said[3].decode(), int(said[4])
    return (sha256, size_bytes) if head == seal_text(kind, int(said[2]), sha256, size_bytes) else None


def array_digest(array: NDArray[Any]) -> str:
    """sha256 in hex of a whole dataset, as stored."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def create_file(sink: Sink, align_bytes: int = 1) -> h5py.File:
    """A new HDF5 file that is written to a sink, with room for a seal before it; equal content gives equal bytes.

    Parameters
    ----------
    sink
        see :func:`extract.store.sink.sealed`
    align_bytes
        datasets begin at multiples of it
    """
    # Object headers of this format carry times unless told otherwise; fixed bounds keep the bytes independent of HDF5's
    # defaults, and 1.8 is the oldest format whose metadata is checksummed.
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, sink)
    access.set_libver_bounds(h5py.h5f.LIBVER_V18, h5py.h5f.LIBVER_V18)
    access.set_cache(0, 521, _CACHE_BYTES, 1.0)
    access.set_alignment(1, align_bytes)
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    creation.set_userblock(SEAL_BYTES)
    return h5py.File(h5py.h5f.create(b"part", h5py.h5f.ACC_TRUNC, creation, access))


def new_group(file: h5py.File, name: str) -> h5py.Group:
    """A new group without times."""
    creation = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    creation.set_obj_track_times(False)
    return h5py.Group(h5py.h5g.create(file.id, name.encode(), gcpl=creation))


def put_attr(node: h5py.Group | h5py.Dataset, name: str, text: str) -> None:
    """A text attribute of fixed length."""
    raw = text.encode()
    dtype = h5py.string_dtype("utf-8", max(1, len(raw)))
    node.attrs.create(name, np.array(raw, dtype=dtype))


def put_set(group: h5py.Group, name: str, array: NDArray[Any]) -> None:
    """A dataset with its checksum."""
    dataset = group.create_dataset(name, shape=array.shape, dtype=array.dtype, fill_time="never")
    if array.size:
        dataset[...] = array
    put_attr(dataset, "sha256", array_digest(array))


def text_column(column: Sequence[str]) -> NDArray[np.bytes_]:
    """Texts as an array of fixed-length UTF-8."""
    # Fixed length: strings of variable length live in a heap without checksums.
    raw = [text.encode() for text in column]
    return np.array(raw, dtype=h5py.string_dtype("utf-8", max(1, *map(len, raw)) if raw else 1))
