"""Sealed parts: pieces of a chunk, merged into one file that is the same however often the run was interrupted.

Files of a store's ``parts/`` folder: ``<chunk>.<16 hex>.piece.h5`` while a chunk is under way, ``<chunk>.h5`` once it
is complete, ``.<name>.<pid>.tmp`` while either is written.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from extract.plan import canonical_json, key_of
from extract.store.layout import Entry, write_part
from extract.store.merge import drop_remarks, merge_chunk, sweep_tmp
from extract.store.reader import PartContent, PartIndex, index_part, read_part
from extract.store.rows import KeyInfo, Remark, Rows

__all__ = [
    "PartContent",
    "PartIndex",
    "check_rows",
    "drop_remarks",
    "index_part",
    "merge_chunk",
    "read_part",
    "seal_piece",
    "sweep_tmp",
]

_CHUNK = re.compile(r"[A-Za-z0-9_-]{1,64}")


def seal_piece(
    folder: Path,
    chunk_name: str,
    order: Sequence[str],
    keys: Sequence[KeyInfo],
    rows: Iterable[Rows],
    failed: Iterable[Remark],
    masked: Iterable[Remark],
    provenance: Mapping[str, Any],
    compression: str = "none",
) -> Path:
    """Seal some clips of a chunk.

    Equal content gives equal bytes, whatever the order it is handed over in, the process and the time.

    Parameters
    ----------
    folder
        ``parts/`` of the store
    chunk_name
        of the chunk
    order
        every clip id of the chunk, in the manifest's order
    keys
        what is known of the keys, at least of those in `rows`
    rows
        at most one per (clip, key); not copied
    failed
        at most one per (clip, key), and none where there are rows
    masked
        at most one per (clip, key, stage, reason)
    provenance
        JSON-able, equal on one machine: versions, device; no times, hosts or process ids; empty: nothing was computed
    compression
        of the data: ``none`` or ``gzip:<1 to 9>``; it changes no number

    Returns
    -------
    Path
        of the piece, durable

    Raises
    ------
    ValueError
        the content contradicts itself; the message names clip and key
    StoreUnwritable
        no space, no permission, ...
    """
    rows, failed, masked = tuple(rows), tuple(failed), tuple(masked)
    if not _CHUNK.fullmatch(chunk_name):
        raise ValueError(f"a chunk's name is 1 to 64 letters, digits, '-' or '_', got {chunk_name!r}")
    place = {clip_id: i for i, clip_id in enumerate(order)}
    if len(place) != len(order):
        raise ValueError(f"chunk {chunk_name}: `order` holds an id twice")
    infos = {info.key: info for info in keys}
    if len(infos) != len(keys):
        raise ValueError(f"chunk {chunk_name}: `keys` holds a key twice")
    for clip_id in (*(each.clip_id for each in rows), *(each.clip_id for each in (*failed, *masked))):
        if clip_id not in place:
            raise ValueError(f"clip {clip_id!r} is not in chunk {chunk_name}")
    _check_content(infos, rows, failed, masked)
    for each in (*failed, *masked):
        _check_text(each.clip_id, each.key, each.stage, each.reason)

    def rank(item: Rows | Remark) -> tuple[int, str]:
        return place[item.clip_id], item.key

    path = folder / f"{chunk_name}.{_content_id(rows, failed, masked)}.piece.h5"
    write_part(
        path,
        infos,
        [_entry(each, infos[each.key]) for each in sorted(rows, key=lambda each: (each.key, place[each.clip_id]))],
        sorted(map(_printable, failed), key=rank),
        sorted(map(_printable, masked), key=lambda each: (*rank(each), each.stage, each.reason)),
        canonical_json([provenance] if provenance else []),
        compression,
    )
    return path


def check_rows(rows: Rows, info: KeyInfo) -> None:
    """Refuse rows that a part must not hold, so that a lane can blame the one clip.

    Raises
    ------
    ValueError
        wrong type or shape, NaN or infinity, a window that is none; the message names clip and key
    """
    where = f"clip {rows.clip_id!r}, {rows.key}"
    _check_text(rows.clip_id)
    count = rows.data.shape[0] if rows.data.ndim else 0
    if not count:
        raise ValueError(f"{where}: no rows")
    shapes = {"data": (count, *info.dims), "window_ns": (count, 2), "valid": (count,)}
    shapes["source_ns"] = (count, rows.source_ns.shape[1] if rows.source_ns.ndim == 2 else 1)
    types: dict[str, Any] = {
        "data": np.dtype(info.storage),
        "window_ns": np.int64,
        "valid": np.uint8,
        "source_ns": np.int64,
    }
    for name, shape in shapes.items():
        array = getattr(rows, name)
        if array.shape != shape:
            raise ValueError(f"{where}: {name} must have shape {shape}, has {array.shape}")
        if array.dtype != types[name]:
            raise ValueError(f"{where}: {name} must be {np.dtype(types[name]).name}, is {array.dtype}")
    # Minimum and maximum carry every NaN and infinity, without a mask as large as the data.
    if rows.data.size and not (np.isfinite(rows.data.min()) and np.isfinite(rows.data.max())):
        raise ValueError(
            f"{where}: {int((~np.isfinite(rows.data)).sum())} of {rows.data.size} values are NaN or infinite"
        )
    if (rows.window_ns[:, 0] < 0).any() or (rows.window_ns[:, 0] >= rows.window_ns[:, 1]).any():
        raise ValueError(f"{where}: window_ns must hold 0 <= start < stop")
    if rows.valid.max() > 1:
        raise ValueError(f"{where}: valid must be 0 or 1, holds {rows.valid.max()}")


def _check_content(
    infos: Mapping[str, KeyInfo], rows: Sequence[Rows], failed: Sequence[Remark], masked: Sequence[Remark]
) -> None:
    for info in infos.values():
        _check_text(info.key, info.identity, info.view, info.weights, info.licence)
        if key_of(info.identity) != info.key or "/" in info.key:
            raise ValueError(f"key {info.key!r} is not the key of its identity, which is {key_of(info.identity)!r}")
    sources: dict[str, int] = {}
    for each in rows:
        if each.key not in infos:
            raise ValueError(f"clip {each.clip_id!r}: rows of {each.key}, of which `keys` says nothing")
        check_rows(each, infos[each.key])
        times = each.source_ns.shape[1]
        if sources.setdefault(each.key, times) != times:
            raise ValueError(
                f"clip {each.clip_id!r}, {each.key}: {times} source times per row, others {sources[each.key]}"
            )
    there = [(each.clip_id, each.key) for each in rows]
    _once("rows", there)
    _once("failures", [(each.clip_id, each.key) for each in failed])
    _once("remarks on masked rows", [(each.clip_id, each.key, each.stage, each.reason) for each in masked])
    both = sorted({(each.clip_id, each.key) for each in failed} & set(there))
    if both:
        raise ValueError(f"clip {both[0][0]!r}, {both[0][1]}: rows and a failure at once")


def _once(what: str, names: Sequence[tuple[str, ...]]) -> None:
    seen: set[tuple[str, ...]] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"clip {name[0]!r}, {name[1]}: {what} given twice")
        seen.add(name)


def _check_text(*texts: str) -> None:
    for text in texts:
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError(f"{text!r} cannot be stored: it holds a NUL or half a surrogate pair")


def _printable(remark: Remark) -> Remark:
    # A message may quote a broken file name; losing the remark over that would hide the failure itself.
    message = remark.message.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
    return Remark(remark.clip_id, remark.key, remark.stage, remark.reason, message)


def _content_id(rows: Sequence[Rows], failed: Sequence[Remark], masked: Sequence[Remark]) -> str:
    ids = [["rows", each.clip_id, each.key] for each in rows]
    ids += [["failed", each.clip_id, each.key] for each in failed]
    ids += [["masked", each.clip_id, each.key, each.stage, each.reason] for each in masked]
    return hashlib.sha256(json.dumps(sorted(ids)).encode()).hexdigest()[:16]


def _entry(rows: Rows, info: KeyInfo) -> Entry:
    return Entry(
        rows.clip_id, rows.key, info.dims, rows.data.shape[0], rows.source_ns.shape[1], lambda: rows, info.storage
    )
