"""A store whose rows have seconds: ragged clips, a hop that does not divide a second, masked rows, labels, events."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from extract.grid import NS, Grid
from extract.plan import canonical_json, key_of
from extract.store.catalog import create_store
from extract.store.part import seal_piece
from extract.store.rows import KeyInfo, Remark, Rows
from manifests.clip import Clip, write_manifest
from manifests.dense import Event, dense_path, write_dense

GRIDS = {
    "pictures": (Grid(NS // 8, NS // 8), (5,), "float32"),
    "sound": (Grid(), (3,), "float32"),
    "drift": (Grid(960_000_000, 960_000_000), (2, 2), "float32"),
    "half": (Grid(NS // 2, NS // 2), (4,), "float16"),
}
SECONDS = (3.0, 2.3, 15.0, 3.0, 1.0, 14.2, 3.0, 3.0, 2.0, 3.0, 3.0, 3.0)  # one clip each
IDS = tuple(f"abcdefghij{chr(97 + i)}_{i}_{i + 10}" for i in range(len(SECONDS)))
FAILED, MASKED = IDS[3], IDS[6]
LABELS = ("Dog", "Speech", "Cat")


def info(name: str) -> KeyInfo:
    grid, dims, storage = GRIDS[name]
    grid_json = {"window_ns": grid.window_ns, "hop_ns": grid.hop_ns, "count": None}
    more = {"storage": storage} if storage != "float32" else {}
    text = canonical_json({"backbone": name, "grid": grid_json, **more})
    return KeyInfo(key_of(text), text, "[]", "random:0", "none", dims, storage)


def rows_of(clip_id: str, name: str) -> Rows:
    grid, dims, storage = GRIDS[name]
    windows = grid.windows_ns(round(SECONDS[IDS.index(clip_id)] * NS))
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{clip_id}{name}".encode()).digest()[:4]))
    valid = rng.integers(0, 2, len(windows)).astype(np.uint8) if clip_id == MASKED else np.ones(len(windows), np.uint8)
    data = rng.standard_normal((len(windows), *dims)).astype(storage)
    return Rows(clip_id, info(name).key, data, windows, valid, windows[:, :1].copy())


def make(path: Path, *, compression: str = "none", manifest: bool = True) -> Path:
    """Three pieces of four clips."""
    create_store(path)
    infos = [info(name) for name in GRIDS]
    for first in range(0, len(IDS), 4):
        ids = IDS[first : first + 4]
        rows = [rows_of(i, name) for i in ids for name in GRIDS if (i, name) != (FAILED, "sound")]
        failed = [Remark(FAILED, info("sound").key, "audio", "undecodable", "after 3 frames")] if FAILED in ids else []
        seal_piece(path / "parts", f"chunk{first}", ids, infos, rows, failed, [], {}, compression)
    if manifest:
        splits = ["train" if i % 3 else "val" for i in range(len(IDS))]
        clips = [
            Clip(clip_id, "x.mp4", labels=(LABELS[i % 3], *LABELS[i % 3 + 1 : 2 * (i % 2)]), split=splits[i])
            for i, clip_id in reversed(list(enumerate(IDS)))
        ]
        write_manifest(path / "manifest.csv", clips)
        events = [
            Event(IDS[0], "audio", 0, 2, "Dog"),
            Event(IDS[0], "visual", 1, 3, "Dog"),
            Event(IDS[1], "audio", 1, 9, "Speech"),
            Event(IDS[0], "audio", 2, 3, "Speech"),
        ]
        write_dense(dense_path(path / "manifest.csv"), events)
    return path


def second_by_second(clip_id: str, name: str, seconds: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Slowly, row by row: what a dataset must give."""
    rows = rows_of(clip_id, name)
    data, valid = np.zeros((seconds, each, *rows.data.shape[1:]), np.float32), np.zeros((seconds, each), bool)
    filled = [0] * seconds
    for row, (start, stop), ok in zip(rows.data, rows.window_ns.tolist(), rows.valid, strict=True):
        second = (start + stop) // 2 // NS
        data[second, filled[second]] = row
        valid[second, filled[second]] = ok
        filled[second] += 1
    return data, valid
