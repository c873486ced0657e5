"""Small deterministic content for the store's tests; also imported by their subprocesses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from extract.plan import canonical_json, key_of
from extract.store.part import seal_piece
from extract.store.rows import KeyInfo, Remark, Rows

CHUNK = "0123456789abcdef"
ORDER = ("zeta_0_10", "-alpha_5_15", "beta", "gamma_ä", "delta", "epsilon", "eta", "theta")
PROVENANCE = {"h5py": "3.16.0", "device": "cpu"}


def info(name: str, dims: tuple[int, ...], **more: object) -> KeyInfo:
    identity = canonical_json({"backbone": name, **more})
    return KeyInfo(key_of(identity), identity, '[{"kind":"Frames"}]', "sha256:abc", "BSD-3-Clause", dims)


STILL = info("resnet152", (6,))
JOINT = info("joint", (2, 4))
SOUND = info("vggish", (3,))
KEYS = (STILL, JOINT, SOUND)
SOURCES = {STILL.key: 1, JOINT.key: 4, SOUND.key: 1}


def make_rows(clip_id: str, info: KeyInfo, count: int | None = None) -> Rows:
    seed = int.from_bytes(hashlib.sha256(f"{clip_id} {info.key}".encode()).digest()[:4])
    rng = np.random.default_rng(seed)
    count = count or int(rng.integers(1, 5))
    start = np.arange(count, dtype=np.int64) * 1_000_000_000
    return Rows(
        clip_id,
        info.key,
        rng.standard_normal((count, *info.dims), dtype=np.float32),
        np.stack([start, start + 1_000_000_000], axis=1),
        rng.integers(0, 2, count).astype(np.uint8),
        rng.integers(-1, 10**10, (count, SOURCES.get(info.key, 1))),
    )


def make_records() -> list[tuple[str, Rows | Remark]]:
    """What a whole chunk holds: rows, a failed clip, a failed feature, masked sound; kind and content."""
    records: list[tuple[str, Rows | Remark]] = []
    for clip_id in ORDER:
        for key in KEYS:
            if clip_id == "delta":
                records.append(("failed", Remark(clip_id, key.key, "open", "not_found", f"{clip_id}.mp4 is not there")))
            elif clip_id == "eta" and key is SOUND:
                records.append(("failed", Remark(clip_id, key.key, "audio", "undecodable", "after 3 frames: ü")))
            else:
                records.append(("rows", make_rows(clip_id, key)))
                if key is SOUND and clip_id in ("beta", "theta"):
                    records.append(("masked", Remark(clip_id, key.key, "audio", "no_audio", "no audio stream")))
    return records


def seal(folder: Path, records: Iterable[tuple[str, Rows | Remark]], provenance: dict[str, str] = PROVENANCE) -> Path:
    records = list(records)
    kinds = {kind: [item for name, item in records if name == kind] for kind in ("rows", "failed", "masked")}
    return seal_piece(folder, CHUNK, ORDER, KEYS, kinds["rows"], kinds["failed"], kinds["masked"], provenance)


def undisturbed(folder: Path) -> bytes:
    """The bytes of the chunk, sealed at once."""
    folder.mkdir()
    return seal(folder, make_records()).read_bytes()
