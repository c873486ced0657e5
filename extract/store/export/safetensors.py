"""One tensor per clip and network in 000000.safetensors, 000001.safetensors, ... and clips.csv, which says where a clip is.

Tensors are called ``<clip_id>/<backbone>``, each with ``<clip_id>/<backbone>/valid`` (R,) bool and ``.../window_ns`` (R, 2)
int64. Where two keys have one network, the full key takes its place. The files' metadata has one entry, ``features``: JSON with
the key, identity, weights and licence of every network. ``clips.csv`` has the columns clip_id, split, labels (separated by
``;``), file.

A shard has `shard_clips` clips, or fewer: it ends before its numbers take more than 128 MiB, because the library that writes it
has them in memory three times; a clip that is larger has a shard of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError
from extract.plan import canonical_json
from extract.store.export.asked import DType, Tally, cast, infos, look_up, needed_bytes, row_bytes, write_csv
from extract.store.export.naming import key_names
from extract.store.export.report import Exported
from extract.store.export.whole import whole
from extract.store.rows import KeyInfo

if TYPE_CHECKING:
    from extract.store import Store

SHARD_BYTES = 128 * 2**20


def export(
    store: Store,
    keys: Sequence[str],
    ids: Sequence[str],
    out: Path,
    *,
    shard_clips: int = 1000,
    dtype: DType | None = None,
) -> Exported:
    """Write shards and the list of clips; a shard that is there is whole, and stays.

    Parameters
    ----------
    store
        to export from
    keys
        full keys
    ids
        clips, in the order of the shards
    out
        folder
    shard_clips
        clips per shard, at most
    dtype
        of the rows; None: as stored

    Returns
    -------
    Exported
        `missing` has what no shard holds

    Raises
    ------
    PlanError
        `shard_clips` is below 1
    StoreUnwritable, StoreError
        see `whole` and :meth:`Store.rows`
    """
    if shard_clips < 1:
        raise PlanError(f"--shard-clips must be at least 1, got {shard_clips}")
    there, missing = look_up(store, keys, ids)
    names = key_names(keys)
    known = infos(store, keys)
    about = {"features": canonical_json({names[key]: _about(info) for key, info in known.items()})}
    needed = needed_bytes(store, there, dtype)
    tally = Tally()
    for number, clips in enumerate(_shards(store, known, ids, dtype, shard_clips)):
        path = out / _name(number)
        tally.file(_write(store, path, clips, names, dtype, about, needed - tally.size_bytes))
    listed = partial(_listed, store, known, ids, dtype, shard_clips)
    tally.file(write_csv(out / "clips.csv", ("clip_id", "split", "labels", "file"), listed))
    return tally.exported(missing)


def _shards(
    store: Store, known: Mapping[str, KeyInfo], ids: Sequence[str], dtype: DType | None, shard_clips: int
) -> Iterator[list[str]]:
    # What is asked for and how long it is decide alone, so that an export that is given again cuts as before.
    size = np.zeros(len(ids), np.int64)
    for key, info in known.items():
        entry = store.find_all(ids, key)
        size += np.where(entry >= 0, store.counts(key)[entry] * row_bytes(info, dtype), 0)
    shard: list[str] = []
    filled = 0
    for clip_id, clip_bytes in zip(ids, size.tolist(), strict=True):
        if shard and (len(shard) == shard_clips or filled + clip_bytes > SHARD_BYTES):
            yield shard
            shard, filled = [], 0
        if clip_bytes:
            shard.append(clip_id)
            filled += clip_bytes
    if shard:
        yield shard


def _write(
    store: Store,
    path: Path,
    clips: Sequence[str],
    names: Mapping[str, str],
    dtype: DType | None,
    about: dict[str, str],
    needed: int,
) -> int:
    if path.exists():
        return 0
    from safetensors.numpy import save

    tensors: dict[str, NDArray[Any]] = {}
    for clip_id in clips:
        for key, name in names.items():
            if (clip_id, key) in store:
                rows = store.rows(clip_id, key)
                tensors[f"{clip_id}/{name}"] = np.ascontiguousarray(cast(rows, dtype))
                tensors[f"{clip_id}/{name}/valid"] = rows.valid.astype(bool)
                tensors[f"{clip_id}/{name}/window_ns"] = np.ascontiguousarray(rows.window_ns)
    data = save(tensors, about)
    del tensors
    with whole(path, max(needed, len(data))) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # that it is there must mean that it is whole, also after a power cut
    return len(data)


def _name(number: int) -> str:
    return f"{number:06d}.safetensors"


def _listed(
    store: Store, known: Mapping[str, KeyInfo], ids: Sequence[str], dtype: DType | None, shard_clips: int
) -> Iterator[tuple[str, str, str, str]]:
    for number, clips in enumerate(_shards(store, known, ids, dtype, shard_clips)):
        for clip_id in clips:
            clip = store.manifest.get(clip_id)
            yield clip_id, clip.split if clip else "", ";".join(clip.labels) if clip else "", _name(number)


def _about(info: KeyInfo) -> dict[str, Any]:
    return {
        "key": info.key,
        "identity": json.loads(info.identity),
        "weights": info.weights,
        "licence": info.licence,
    }
