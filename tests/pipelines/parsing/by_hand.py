"""Stores written part by part, with whatever a test needs to be wrong in them; also for processes of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from extract.grid import NS
from extract.plan import canonical_json, key_of
from extract.store.catalog import create_store
from extract.store.operations.making import put_manifest
from extract.store.part import merge_chunk, seal_piece
from extract.store.rows import KeyInfo, Remark, Rows
from manifests.clip import Clip
from manifests.dense import Event

CHUNK = "0123456789abcdef"
Features = Mapping[str, Mapping[str, NDArray[Any]]]


def clip(clip_id: str, split: str = "train", labels: Sequence[str] = ("Speech",), seconds: int = 10) -> Clip:
    return Clip(clip_id, f"{clip_id}.mp4", 0, seconds * NS, tuple(labels), split)


def info(name: str, dims: tuple[int, ...], per_second: int = 1) -> KeyInfo:
    grid = {"window_ns": NS // per_second, "hop_ns": NS // per_second}
    identity = canonical_json({"backbone": name, "grid": grid, "dims": dims})
    return KeyInfo(key_of(identity), identity, '[{"kind":"Frames"}]', "sha256:abc", "MIT", dims)


def write(
    folder: Path,
    clips: Sequence[Clip],
    features: Features,
    events: Iterable[Event] = (),
    *,
    per_second: Mapping[str, int] | None = None,
    failed: Sequence[tuple[str, str]] = (),
    invalid: Mapping[str, Sequence[int]] | None = None,
) -> Path:
    """A store of one part: arrays by backbone and clip, (rows, *dims) float32.

    `failed` are pairs of clip and backbone that a run could not do; `invalid` are numbers of rows by clip that a policy
    filled. NaN is written as no run does, with right checksums.
    """
    create_store(folder)
    put_manifest(folder, clips, list(events))
    order = [each.clip_id for each in clips]
    per_second, invalid = per_second or {}, invalid or {}
    infos = {
        name: info(name, next(iter(arrays.values())).shape[1:], per_second.get(name, 1))
        for name, arrays in features.items()
    }
    rows = [
        _rows(clip_id, infos[name], data, per_second.get(name, 1), invalid.get(clip_id, ()))
        for name, arrays in features.items()
        for clip_id, data in arrays.items()
    ]
    remarks = [Remark(clip_id, infos[name].key, "open", "not_found", "it is not there") for clip_id, name in failed]
    finite = all(np.isfinite(each.data).all() for each in rows)
    with nullcontext() if finite else mock.patch("extract.store.part.check_rows"):
        seal_piece(folder / "parts", CHUNK, order, list(infos.values()), rows, remarks, [], {"device": "cpu"})
    merge_chunk(folder / "parts", CHUNK, order)
    return folder


def _rows(clip_id: str, info: KeyInfo, data: NDArray[Any], per_second: int, invalid: Sequence[int]) -> Rows:
    start = np.arange(len(data), dtype=np.int64) * (NS // per_second)
    valid = np.ones(len(data), np.uint8)
    valid[list(invalid)] = 0
    window_ns, source_ns = np.stack([start, start + NS // per_second], axis=1), np.full((len(data), 1), -1, np.int64)
    return Rows(clip_id, info.key, data.astype(np.float32), window_ns, valid, source_ns)


def small(
    folder: Path, *, skip: Iterable[tuple[str, str]] = (), labels: Mapping[str, Sequence[str]] | None = None,
    arrays: Mapping[tuple[str, str], NDArray[Any]] | None = None, events: Iterable[Event] | None = None, **more: Any,
) -> Path:  # fmt: skip
    """Twelve clips of three seconds, 6 of train (t0 ...), 3 of val (v0 ...), 3 of test (e0 ...), of Speech and Dog.

    Parameters
    ----------
    skip
        pairs of clip and backbone (``vggish``, ``resnet152``) without rows
    labels, arrays
        other labels by clip; other features by clip and backbone
    events
        labels with times; None: each label of val and test, heard and seen all the time
    """
    names = [f"{split}{i}" for split, count in (("t", 6), ("v", 3), ("e", 3)) for i in range(count)]
    splits = {"t": "train", "v": "val", "e": "test"}
    own = {name: ("Speech",) if i % 2 else ("Dog",) for i, name in enumerate(names)} | dict(labels or {})
    clips = [clip(name, splits[name[0]], own[name], 3) for name in names]
    rng = np.random.default_rng(0)
    features: dict[str, dict[str, NDArray[Any]]] = {}
    skip = set(skip)
    for backbone, size in (("vggish", 4), ("resnet152", 6)):
        drawn = {name: rng.standard_normal((3, size)) for name in names}
        found = {name: (arrays or {}).get((name, backbone), data) for name, data in drawn.items()}
        features[backbone] = {name: data for name, data in found.items() if (name, backbone) not in skip}
    if events is None:
        events = [
            Event(each.clip_id, modality, 0, 3, label)
            for each in clips
            if each.split != "train"
            for modality in ("audio", "visual")
            for label in each.labels
        ]
    return write(folder, clips, features, events, **more)
