"""A store whose report has something to show in every section: clusters, failures, masked rows, splits, runs, media."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from extract.plan import canonical_json, key_of
from extract.store.catalog import create_store
from extract.store.part import merge_chunk, seal_piece
from extract.store.rows import KeyInfo, Remark, Rows
from extract.testing import make_video
from manifests.clip import Clip, write_manifest
from manifests.dense import Event, dense_path, write_dense

LABELS = (
    "Speech", "Car", "Dog", "Cheering", "Cat", "Violin_fiddle", "Fire_alarm", "Chainsaw", "Motorcycle", "Clapping",
)  # fmt: skip
EVIL = "<script>alert(1)</script>&\"'"
NS = 1_000_000_000
CHUNK = 50


def info(name: str, dims: tuple[int, ...], hop_ns: int, weights: str, view: dict[str, object]) -> KeyInfo:
    grid = {"window_ns": NS, "hop_ns": hop_ns, "count": None, "short": "zeros"}
    identity = canonical_json(
        {"backbone": name, "views": [view], "grid": grid, "weights": weights, "precision": "float32"}
    )
    licence = "none (random weights)" if weights.startswith("random") else "BSD-3-Clause"
    return KeyInfo(key_of(identity), identity, canonical_json([view]), weights, licence, dims)


STILL = info(
    "resnet152", (256,), NS // 8, "sha256:b121ed2d", {"kind": "Frames", "count": 1, "resize": 256, "crop": 224}
)
MOVING = info(
    "r2plus1d_18", (64,), NS, "sha256:91a641e6", {"kind": "Frames", "count": 8, "resize": [128, 171], "crop": 112}
)
SOUND = info("vggish", (32,), NS, "random:0", {"kind": "Sound", "rate_hz": 16_000, "samples": 15_600})
INFOS = (STILL, MOVING, SOUND)
HOPS = {STILL.key: NS // 8, MOVING.key: NS, SOUND.key: NS}


def clip_id(number: int) -> str:
    return f"vid{number:05d}_{number % 40}_{number % 40 + 10}"


def rows_of(name: str, label: int, seconds: int, key: KeyInfo, silent: bool) -> Rows:
    rng = np.random.default_rng([label * 7919 + len(key.key), int.from_bytes(name.encode()) % 2**32])
    centre = np.random.default_rng([label, key.dims[0]]).standard_normal(key.dims) * (1.0 if label % 4 else 0.4)
    hop = HOPS[key.key]
    count = max(1, seconds * NS // hop)
    walk = np.cumsum(rng.standard_normal((count, *key.dims)) * 0.12, axis=0) + rng.standard_normal(key.dims) * 0.5
    data = np.maximum(centre + walk, 0).astype(np.float32)
    valid = np.ones(count, np.uint8)
    if silent:
        data[:], valid[:] = 0, 0
    elif seconds < 10:
        valid[-max(1, count // 6) :] = 0
    start = np.arange(count, dtype=np.int64) * hop
    window_ns = np.stack([start, start + NS], axis=1)
    return Rows(name, key.key, data, window_ns, valid, np.where(valid[:, None] > 0, window_ns[:, :1], -1))


def make_store(path: Path, clips: int = 300, media: int = 2) -> Path:
    """A store of so many clips and three backbones; the first `media` clips have files."""
    create_store(path)
    media_folder = path.parent / "media"
    media_folder.mkdir(exist_ok=True)
    listed: list[Clip] = []
    events: list[Event] = []
    rng = np.random.default_rng(1)
    ids = [clip_id(number) for number in range(clips)]
    receipts = []
    for first in range(0, clips, CHUNK):
        rows: list[Rows] = []
        failed: list[Remark] = []
        masked: list[Remark] = []
        chunk = ids[first : first + CHUNK]
        for number, name in enumerate(chunk, first):
            label = int(rng.choice(len(LABELS), p=np.array([20, 15, 12, 10, 8, 8, 6, 5, 4, 12]) / 100))
            seconds = 10 if number % 9 else int(rng.integers(3, 10))
            split = ("train", "train", "train", "val", "test")[number % 5]
            also = (LABELS[(label + 3) % len(LABELS)],) if number % 3 == 0 else ()
            file = f"../media/{name}.mp4"
            listed.append(Clip(name, file, 0, seconds * NS, (LABELS[label], *also), split))
            events.append(Event(name, "audio", 0, max(1, seconds // 2), LABELS[label]))
            events.append(Event(name, "visual", 1, seconds, LABELS[label]))
            events += [Event(name, "both", seconds // 3, seconds // 3 + 1, each) for each in also]
            if number < media:
                make_video(media_folder / f"{name}.mp4", width=160, height=120, fps=10, duration_s=seconds, gop=10)
            if number % 29 == 13:
                failed += [
                    Remark(name, key.key, "open", "not_found", f"/data/videos/{name}.mp4: no such file")
                    for key in INFOS
                ]
                continue
            if number % 47 == 5:
                failed += [
                    Remark(
                        name,
                        MOVING.key,
                        "decode",
                        "undecodable",
                        f"{name}.mp4: undecodable after {number} frames of 300",
                    )
                ]
            silent = number % 17 == 3
            if silent:
                masked.append(Remark(name, SOUND.key, "audio", "no_audio", f"{name}.mp4: no audio stream"))
            if number > clips * 0.95:
                continue  # the run did not get there
            lost = {remark.key for remark in failed if remark.clip_id == name}
            rows += [
                rows_of(name, label, seconds, key, silent and key is SOUND) for key in INFOS if key.key not in lost
            ]
        sealed = seal_piece(
            path / "parts", f"{first:016x}", chunk, INFOS, rows, failed, masked,
            {"device": "cuda (NVIDIA H200)", "python": "3.11.9", "torch": "2.11.0", "av": "18.1.0"},
        )  # fmt: skip
        size_bytes = sealed.stat().st_size
        merge_chunk(path / "parts", f"{first:016x}", chunk)
        receipts.append(
            {"line": "receipt", "chunk": f"{first:016x}", "piece": sealed.name, "clip_ids": chunk, "failed": [], "masked": [],
             "size_bytes": size_bytes,
             "seconds": {"decode": 31.0, "wait": 4.1, "prepare": 2.2, "model": 17.5, "seal": 0.4}, "notes": {}}
        )  # fmt: skip
    manifest = path.parent / "manifests" / "made.csv"
    manifest.parent.mkdir(exist_ok=True)
    for target in (manifest, path / "manifest.csv"):
        write_manifest(target, listed)
        write_dense(dense_path(target), events)
    header = {
        "line": "header", "started": "2026-11-20T09:12:44Z", "manifest": str(manifest.absolute()), "manifest_sha256": "ab" * 32,
        "clips": clips, "asked": clips, "recipe": "llp", "keys": [key.key for key in INFOS],
        "choices": {"recipe": "llp", "weights": "official"}, "host": "node7",
        "machine": {"engine": "local", "devices": ["cuda:0", "cuda:1"]}, "versions": {"torch": "2.11.0", "av": "18.1.0"},
    }  # fmt: skip
    write_ledger(path, "20261120T091244Z-aaaa", [header, *receipts[:2]])
    end = {
        "line": "summary",
        "ended": "2026-11-21T10:02:11Z",
        "computed": clips,
        "seconds": {"wall": 20.0 * len(receipts)},
    }
    lost = {"line": "note", "lost": "killed by signal 9", "lane": 1}
    write_ledger(path, "20261121T093000Z-bbbb", [{**header, "started": "2026-11-21T09:30:00Z"}, *receipts, lost, end])
    return path


def write_ledger(store: Path, name: str, lines: list[dict[str, object]]) -> Path:
    path = store / "runs" / f"{name}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
