"""One HDF5 file that shows a whole store without copying its rows, for MATLAB, Julia and plain h5py.

``/<backbone>/data`` is (rows, *dims); rows ``span(i, 1)`` to ``span(i, 2)``, half-open and counted from 0, are those of
``clip(i)``; ``labels`` and ``split`` are as in the manifest. The rows stay in the store's parts, which the file finds by
paths relative to itself, so that store and view move together. A view shows the store as it was: once the store is
packed or grows it is outdated, and rows whose part is gone read as NaN (-1 and 255 in the other datasets), as HDF5 does
not report a missing file. :func:`outdated` tells; making the view again sets it right.

HDF5 keeps every part open that it has read from, and does not report either that the system allows no more open files:
those rows are NaN as well. So a view has at most as many parts as the usual limit (``ulimit -n``: 1024) allows.

MATLAB counts from 1 and turns the axes round: ``s = h5read(f, '/vggish/span', [1 i], [2 1])``, then
``h5read(f, '/vggish/data', [1 s(1)+1], [Inf s(2)-s(1)])``. A Python process that also reads a compressed store with
:class:`extract.store.Store` opens the view with ``h5py.File(path, locking=False)``, as the store opens its parts.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from extract.errors import StoreError
from extract.store.hdf5 import new_group, put_attr, text_column
from extract.store.index import Column, Index, age_ranks
from extract.store.layout import INFO_ATTRS, ROW_SETS
from extract.store.operations.contents import first_of, places
from extract.store.operations.making import quiet
from extract.store.reader import read_attr
from extract.store.sink import Sink, sealed
from extract.store.store import Store

KIND = "extract view"
SCHEMA = 1
_FILL = {"data": np.nan, "window_ns": -1, "valid": 255, "source_ns": -1}
_TYPES = {"window_ns": "<i8", "valid": "|u1", "source_ns": "<i8"}
_MAPPING_BYTES = 400
MOST_PARTS = 1000


@dataclass(frozen=True, slots=True)
class View:
    """What a view shows: rows by name of the group, and the size of the file itself."""

    rows: dict[str, int]
    size_bytes: int


def write_view(store_path: Path, out: Path) -> View:
    """Make the view of a store, or make it anew.

    Parameters
    ----------
    store_path
        folder of the store; it may be read-only
    out
        of the view; a file that is there is replaced if it is a view

    Raises
    ------
    StoreError
        `out` is something else, the store has no rows, or too many parts
    StoreBusy, StoreUnwritable, DamagedPart
        a run holds the store; no space; the store is damaged
    """
    if out.exists() and not _is_view(out):
        raise StoreError(f"{out} is there and is no view of a store; choose another -o")
    if not out.parent.is_dir():
        raise StoreError(f"{out.parent} is no folder; make it first, or choose another -o")
    quiet(store_path)
    store = Store(store_path)
    index = store.index
    if not index.columns:
        raise StoreError(f"{store_path} has no rows to show; `extract run` computes some")
    if len(index.parts) > MOST_PARTS:
        raise StoreError(
            f"{store_path} has {len(index.parts)} parts; a view keeps all of them open, so it takes at most {MOST_PARTS}: make "
            f"them fewer first: `extract store pack {store_path}`, if need be with a larger --part-bytes"
        )
    shown = _shown(store, index)
    for stale in out.parent.glob(f".{out.name}.*.tmp"):
        stale.unlink(missing_ok=True)
    needed = sum(_needed(index, column) for column in shown.values()) + 2**14
    with sealed(out, needed) as sink, _create(sink) as file:
        file.attrs["schema"] = np.int64(SCHEMA)
        for name, text in (
            ("kind", KIND),
            ("store", _relative(store_path, out)),
            ("store_digest", store.digest()),
            ("parts_digest", parts_digest(index)),
        ):
            put_attr(file, name, text)
        for name, column in shown.items():
            group = new_group(file, name)
            put_attr(group, "key", column.info.key)
            for each in INFO_ATTRS:
                put_attr(group, each, getattr(column.info, each))
            _put_rows(group, store, index, column, out)
            _put_clips(group, store, index, column)
    return View({name: int((column.stop - column.start).sum()) for name, column in shown.items()}, out.stat().st_size)


def outdated(view_path: Path, store_path: Path | None = None) -> str:
    """Why a view no longer shows its store, or an empty text.

    Parameters
    ----------
    view_path
        of the view
    store_path
        the store that it should show; None: the one that it finds

    Raises
    ------
    StoreError
        it is no view
    """
    if not _is_view(view_path):
        raise StoreError(f"{view_path} is no view of a store; `extract store view STORE -o {view_path}` makes one")
    with h5py.File(view_path, "r", locking=False) as file:
        where, content, parts = (read_attr(file, name) for name in ("store", "store_digest", "parts_digest"))
    found = view_path.resolve().parent / where
    if store_path is not None and found.resolve() != store_path.resolve():
        return f"it shows {found}, not {store_path}"
    if not (found / "parts").is_dir():
        return f"there is no store at {found}; store and view must be moved together"
    store = Store(found)
    if parts_digest(store.index) == parts:
        return ""
    if store.digest() == content:
        return f"the rows of {found} lie in other files now; make the view again"
    return f"{found} holds other rows now; make the view again"


def parts_digest(index: Index) -> str:
    """sha256 in hex of the names, sizes and seals of a store's parts."""
    lines = sorted(f"{part.name}\n{part.size_bytes}\n{part.seal}\n" for part in index.parts)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _is_view(path: Path) -> bool:
    try:
        with h5py.File(path, "r", locking=False) as file:
            return "kind" in file.attrs and read_attr(file, "kind") == KIND
    except (OSError, TypeError, UnicodeDecodeError):  # no HDF5 file, or another's attribute
        return False


def _create(sink: Sink) -> h5py.File:
    # Virtual datasets came with HDF5 1.10. Without times, and within fixed bounds, equal stores give equal bytes.
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, sink)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    return h5py.File(h5py.h5f.create(b"view", h5py.h5f.ACC_TRUNC, creation, access))


def _shown(store: Store, index: Index) -> dict[str, Column]:
    """Columns by the name of their group: each clip once, part after part, the parts in the order of the manifest."""
    listed = list(store.manifest)
    place = places(index, listed)
    backbones = [key.split("@")[0] for key in index.columns]
    names = np.argsort(np.argsort(np.array([part.name for part in index.parts], dtype=str)))
    shown = {}
    for key, every in sorted(index.columns.items()):
        column = every.take(first_of(every, -age_ranks(index.parts)))
        first = np.full(len(index.parts), len(listed), np.int64)
        np.minimum.at(first, column.part, place[column.clip])
        order = np.lexsort((column.start, names[column.part], first[column.part]))
        backbone = key.split("@")[0]
        shown[backbone if backbones.count(backbone) == 1 else key] = column.take(order)
    return shown


def _put_rows(group: h5py.Group, store: Store, index: Index, column: Column, out: Path) -> None:
    """Virtual datasets over the parts, and the spans of the clips in them."""
    counts = column.stop - column.start
    stops = np.cumsum(counts)
    total = int(stops[-1])
    group.create_dataset("span", data=np.stack([stops - counts, stops], axis=1).astype("<i8"))
    held = np.zeros(len(index.parts), np.int64)  # rows of this key in each part, also of clips that are not shown
    every = index.columns[column.info.key]
    np.maximum.at(held, every.part, every.stop)
    breaks = np.flatnonzero((column.part[1:] != column.part[:-1]) | (column.start[1:] != column.stop[:-1])) + 1
    firsts, lasts = np.append(0, breaks), np.append(breaks, len(counts)) - 1
    shapes: Mapping[str, tuple[int, ...]] = {
        "data": column.info.dims,
        "window_ns": (2,),
        "valid": (),
        "source_ns": (column.sources,),
    }
    types = {"data": np.dtype(column.info.storage).newbyteorder("<"), **_TYPES}
    for name in ROW_SETS:
        shape = shapes[name]
        if 0 in shape:  # HDF5 has no mappings of nothing
            group.create_dataset(name, shape=(total, *shape), dtype=types[name])
            continue
        layout = h5py.VirtualLayout((total, *shape), types[name])
        layout.dcpl.set_obj_track_times(False)
        for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
            part = int(column.part[first])
            path = _relative(store.path / "parts" / index.parts[part].name, out)
            # '%' begins a pattern of file names in HDF5
            source = h5py.VirtualSource(
                path.replace("%", "%%"),
                f"{column.info.key}/{name}".replace("%", "%%"),
                (int(held[part]), *shape),
                types[name],
            )
            begin = int(stops[first] - counts[first])
            layout[begin : int(stops[last])] = source[int(column.start[first]) : int(column.stop[last])]
        group.create_virtual_dataset(name, layout, fillvalue=_FILL[name])


def _put_clips(group: h5py.Group, store: Store, index: Index, column: Column) -> None:
    ids = index.text(column.clip)
    _put_text(group, "clip", ids)
    if store.manifest:
        clips = [store.manifest.get(clip_id) for clip_id in ids]
        _put_text(group, "labels", [";".join(clip.labels) if clip else "" for clip in clips])
        _put_text(group, "split", [clip.split if clip else "" for clip in clips])


def _put_text(group: h5py.Group, name: str, texts: Sequence[str]) -> None:
    column = text_column(texts)
    group.create_dataset(name, data=column)


def _relative(path: Path, out: Path) -> str:
    return os.path.relpath(path.resolve(), out.parent.resolve())


def _needed(index: Index, column: Column) -> int:
    """Bytes that a group takes, about."""
    parts = len(np.unique(column.part))
    return len(column.clip) * (16 + 3 * index.ids.dtype.itemsize) + parts * len(ROW_SETS) * _MAPPING_BYTES
