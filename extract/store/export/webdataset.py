"""As webdataset reads them: 000000.tar, 000001.tar, ... with <id>.<backbone>.npy and <id>.json per clip.

Every shard has ``shard_clips`` clips in the order of the export, the last one what is left. A sample's key is what stands before
the first dot, so ids are written as in URLs, with ``.`` as ``%2E``; ``urllib.parse.unquote`` gives the id back, and the JSON has
it as it is: ``clip_id``, ``path``, ``labels``, ``split``, and by network ``keys`` (the store's full keys), ``window_ns`` (R, 2)
and ``valid`` (R,). Where two keys have one network, the full key takes its place. ``shards.json`` is an index as of ``wids``.

Tars are of GNU format, with long names where ids need them, and without times and owners: equal content gives equal bytes.

Source: webdataset (e0953f9), src/webdataset/tariterators.py (base_plus_ext, group_by_keys: suffixes are read in lower case) and
autodecode.py; wids' shard index ``wids-shard-index-v1``.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from extract.plan import canonical_json
from extract.store.export.asked import DType, Tally, cast, look_up, needed_bytes, shards, with_rows, write_bytes
from extract.store.export.naming import key_names
from extract.store.export.report import Exported
from extract.store.export.whole import whole
from extract.store.rows import Rows

if TYPE_CHECKING:
    from extract.store import Store


def export(
    store: Store,
    keys: Sequence[str],
    ids: Sequence[str],
    out: Path,
    *,
    shard_clips: int = 1000,
    dtype: DType | None = None,
) -> Exported:
    """Write shards and their index; a shard that is there is whole, and stays.

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
        samples per shard
    dtype
        of the arrays; None: as stored

    Returns
    -------
    Exported
        `missing` has what no sample holds; a clip without any rows has no sample

    Raises
    ------
    PlanError
        `shard_clips` is below 1
    StoreUnwritable, StoreError
        see `whole` and :meth:`Store.rows`
    """
    there, missing = look_up(store, keys, ids)
    names = key_names(keys)
    needed = needed_bytes(store, there, dtype)
    tally = Tally()
    index = []
    for number, clips in shards(with_rows(store, keys, ids), shard_clips):
        path = out / f"{number:06d}.tar"
        tally.file(_write(store, path, clips, names, dtype, needed - tally.size_bytes))
        index.append({"url": path.name, "nsamples": len(clips), "filesize": path.stat().st_size})
    told = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "name": store.path.name, "shardlist": index}
    tally.file(write_bytes(out / "shards.json", json.dumps(told, indent=1).encode()))
    return tally.exported(missing)


def sample_key(clip_id: str) -> str:
    """The id as the name of a sample: no dot, no slash, ASCII only; ``urllib.parse.unquote`` turns it back."""
    return quote(clip_id, safe="").replace(".", "%2E")


def _write(
    store: Store,
    path: Path,
    clips: Sequence[str],
    names: Mapping[str, str],
    dtype: DType | None,
    needed: int,
) -> int:
    if path.exists():
        return 0
    with whole(path, needed) as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for clip_id in clips:
                rows = {names[key]: store.rows(clip_id, key) for key in names if (clip_id, key) in store}
                for suffix, data in _members(store, clip_id, rows, dtype):
                    member = tarfile.TarInfo(f"{sample_key(clip_id)}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        file.flush()
        os.fsync(file.fileno())  # that it is there must mean that it is whole, also after a power cut
    return path.stat().st_size


def _members(store: Store, clip_id: str, rows: Mapping[str, Rows], dtype: DType | None) -> Iterator[tuple[str, bytes]]:
    for name, each in rows.items():
        array = io.BytesIO()
        np.lib.format.write_array(array, cast(each, dtype), allow_pickle=False)
        yield f"{name}.npy", array.getvalue()
    yield "json", canonical_json(_about(store, clip_id, rows)).encode()


def _about(store: Store, clip_id: str, rows: Mapping[str, Rows]) -> dict[str, Any]:
    clip = store.manifest.get(clip_id)
    return {
        "clip_id": clip_id,
        "path": clip.path if clip else "",
        "labels": list(clip.labels) if clip else [],
        "split": clip.split if clip else "",
        "keys": {name: each.key for name, each in rows.items()},
        "window_ns": {name: each.window_ns.tolist() for name, each in rows.items()},
        "valid": {name: each.valid.astype(bool).tolist() for name, each in rows.items()},
    }
