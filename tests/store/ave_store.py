"""Small AVE stores and official data folders; also imported by subprocesses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import h5py
import numpy as np

from extract.plan import canonical_json, key_of
from extract.store.catalog import create_store
from extract.store.part import merge_chunk, seal_piece
from extract.store.rows import KeyInfo, Remark, Rows
from manifests import ave
from manifests.built import Built
from manifests.clip import write_manifest
from manifests.dense import write_dense

NS = 1_000_000_000
LINES = (
    "Church bell&-aaaaaaaaa_&good&6&8",
    "Male speech, man speaking&bbbbbbbbbbb&good&0&10",
    "Bark&-aaaaaaaaa_&good&0&4",
    "Mandolin&ccccccccccc&good&0&0",
    "Bark&ddddddddddd&good&9&10",
)
ORDERS = {"train": [4, 0, 2], "val": [3], "test": [1]}


def info(backbone: str, dims: tuple[int, ...], **more: object) -> KeyInfo:
    identity = canonical_json({"backbone": backbone, **more})
    return KeyInfo(key_of(identity), identity, "[]", "sha256:abc", "MIT", dims)


AUDIO = info("vggish", (128,))
VISUAL = info("vgg19_ave", (7, 7, 512))


def official(folder: Path, lines: Sequence[str] = LINES, orders: dict[str, list[int]] = ORDERS) -> Path:
    """A data folder like the official one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Annotations.txt").write_text("".join(f"{line}\n" for line in lines))
    for split, order in orders.items():
        with h5py.File(folder / f"{split}_order.h5", "w") as file:
            file["order"] = np.array(order, np.int64)
    return folder


def make_rows(clip_id: str, key: KeyInfo, count: int = 10) -> Rows:
    """Equal for all clips of one video."""
    seed = int.from_bytes(hashlib.sha256(f"{clip_id[:11]} {key.key}".encode()).digest()[:4])
    data = np.random.default_rng(seed).standard_normal((count, *key.dims), dtype=np.float32)
    start = np.arange(count, dtype=np.int64) * NS
    return Rows(
        clip_id,
        key.key,
        data,
        np.stack([start, start + NS], axis=1),
        np.ones(count, np.uint8),
        np.zeros((count, 1), np.int64),
    )


def store(
    path: Path,
    clip_ids: Iterable[str],
    keys: Sequence[KeyInfo] = (AUDIO, VISUAL),
    built: Built | None = None,
    without: Iterable[tuple[str, str]] = (),
    failed: Sequence[Remark] = (),
    counts: dict[tuple[str, str], int] | None = None,
) -> Path:
    """A store with rows of those clips under all keys but the pairs in `without`, and the lists of `built`."""
    create_store(path)
    ids, left_out, counts = list(clip_ids), set(without), counts or {}
    order = list(dict.fromkeys([*ids, *(remark.clip_id for remark in failed)]))
    rows = [
        make_rows(clip, key, counts.get((clip, key.key), 10))
        for key in keys
        for clip in ids
        if (clip, key.key) not in left_out
    ]
    seal_piece(path / "parts", "chunk", order, keys, rows, failed, (), {})
    merge_chunk(path / "parts", "chunk", order)
    if built is not None:
        write_manifest(path / "manifest.csv", built.clips)
        write_dense(path / "manifest.dense.csv", built.events)
    return path


def full(path: Path, data: Path, **more: object) -> Path:
    """A store of all rows of a data folder, with its lists."""
    built = ave.clips(data / "Annotations.txt")
    return store(path, [clip.clip_id for clip in built.clips], built=built, **more)


def arrays(data: Path) -> dict[str, np.ndarray]:
    """Every dataset of an exported folder, by file name."""
    found = {}
    for path in sorted(data.glob("*.h5")):
        with h5py.File(path, "r") as file:
            (name,) = file
            found[path.name] = file[name][...]
    return found
