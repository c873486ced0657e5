"""A small store with the clips that layouts stumble over; also imported by the exports' subprocesses."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from extract.plan import canonical_json, key_of
from extract.store import Store
from extract.store.catalog import create_store
from extract.store.part import seal_piece
from extract.store.rows import KeyInfo, Remark, Rows
from manifests.clip import Clip, write_manifest

NS = 1_000_000_000
PICTURES, SOUND = '[{"kind":"Frames"}]', '[{"kind":"Sound"}]'
IDS = ("a.b c", "ü ß_0_10", "-dash", "__x__", "50%", "plain", "failed", "mute")
HOP_NS = {"resnet152": NS // 8, "vgg19_ave": NS // 2}
WINDOW_NS = {"resnet152": NS // 8}  # of vgg19_ave a second: its windows overlap


def info(name: str, dims: tuple[int, ...], view: str, storage: str = "float32", **more: object) -> KeyInfo:
    grid = {"hop_ns": HOP_NS.get(name, NS), "window_ns": WINDOW_NS.get(name, NS)}
    identity = {"backbone": name, "grid": grid, **more}
    identity |= {} if storage == "float32" else {"storage": storage}
    text = canonical_json(identity)
    return KeyInfo(key_of(text), text, view, "sha256:abc", "BSD-3-Clause", dims, storage)


STILL = info("resnet152", (6,), PICTURES)
MOVING = info("r2plus1d_18", (4,), PICTURES)
MAPS = info("vgg19_ave", (2, 2, 3), PICTURES)
HALF = info("clip_vit_b32", (5,), PICTURES, "float16")
HEARD = info("vggish", (3,), SOUND)
JOINT = info("joint", (2,), '[{"kind":"Frames"},{"kind":"Sound"}]')
ALONE = (STILL, MOVING, MAPS, HALF, HEARD)


def rows(clip_id: str, info: KeyInfo, masked: Sequence[int] = ()) -> Rows:
    name = info.key.partition("@")[0]
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{clip_id} {info.key}".encode()).digest()[:4]))
    count = 1 if clip_id == "plain" else 16 if name == "resnet152" else 2
    start = np.arange(count, dtype=np.int64) * HOP_NS.get(name, NS)
    valid = np.ones(count, np.uint8)
    valid[list(masked)] = 0
    data = rng.standard_normal((count, *info.dims), dtype=np.float32).astype(info.storage)
    data[list(masked)] = 0
    window_ns = np.stack([start, start + WINDOW_NS.get(name, NS)], axis=1)
    return Rows(clip_id, info.key, data, window_ns, valid, start[:, None] + 40_000_000)


def make(
    path: Path,
    infos: Sequence[KeyInfo] = ALONE,
    ids: Sequence[str] = IDS,
    paths: Sequence[str] | None = None,
    manifest: bool = True,
) -> Store:
    """A store of `ids`: "failed" has no rows, "mute" has no sound, its second row of ``vggish`` is masked."""
    create_store(path)
    kept = [
        rows(i, k, [1] if i == "mute" and k.key.startswith("vggish") else ())
        for i in ids
        if i != "failed"
        for k in infos
    ]
    failed = [Remark("failed", k.key, "open", "not_found", "failed.mp4 is not there") for k in infos if "failed" in ids]
    # not in the order of the manifest, and in two parts
    for name, some in (("b" * 16, ids[::-1][::2]), ("a" * 16, ids[::-1][1::2])):
        picked = [each for each in kept if each.clip_id in some]
        seal_piece(
            path / "parts", name, some, infos, picked, [f for f in failed if f.clip_id in some], [], {"device": "cpu"}
        )
    if manifest:
        files = paths or [f"videos/{clip_id} v.mp4" for clip_id in ids]
        clips = zip(ids, files, range(len(ids)), strict=True)
        write_manifest(
            path / "manifest.csv",
            [Clip(i, p, labels=("dog", "a b")[: n % 3], split=("train", "test")[n % 2]) for i, p, n in clips],
        )
    return Store(path)


def keys(store: Store) -> tuple[str, ...]:
    return tuple(info.key for info in store.keys())  # noqa: SIM118 - no mapping


def files(folder: Path) -> dict[str, bytes]:
    """Everything below a folder, by name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
