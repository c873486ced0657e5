"""A store of many small parts with a manifest, labels, splits, failures and masked rows; also imported by subprocesses."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from extract.store.catalog import create_store, save_index
from extract.store.part import merge_chunk, seal_piece
from extract.store.rows import Remark
from extract.store.runs import Lock
from manifests.clip import Clip, write_manifest
from manifests.dense import Event, dense_path, write_dense

SPLITS = ("train", "val", "test", "")


def load_content() -> ModuleType:
    spec = importlib.util.spec_from_file_location("store_content", Path(__file__).parents[1] / "content.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["store_content"] = module
    spec.loader.exec_module(module)
    return module


content = sys.modules.get("store_content") or load_content()
STILL, SOUND = content.STILL, content.SOUND


def ids(count: int) -> list[str]:
    # an order that no sorting by name gives
    return [f"{i:03d}_clip" for i in sorted(range(count), key=lambda i: i * 2654435761 % 2**32)]


def records(clip_id: str, keys: Any = (STILL, SOUND)) -> list[tuple[str, Any]]:
    """Rows of most; every seventh clip failed, every fifth has masked sound."""
    number, found = int(clip_id[:3]), []
    for key in keys:
        if number % 7 == 3:
            found.append(("failed", Remark(clip_id, key.key, "open", "not_found", f"{clip_id}.mp4 is not there")))
            continue
        found.append(("rows", content.make_rows(clip_id, key)))
        if key is SOUND and number % 5 == 2:
            found.append(("masked", Remark(clip_id, key.key, "audio", "no_audio", "no audio stream")))
    return found


def seal_chunk(folder: Path, name: str, clips: list[str], items: Any = None, *, merge: bool = True, **provenance: str):
    items = [each for clip in clips for each in records(clip)] if items is None else items
    kinds = {kind: [item for each, item in items if each == kind] for kind in ("rows", "failed", "masked")}
    keys = {content.STILL.key: STILL, SOUND.key: SOUND, content.JOINT.key: content.JOINT}
    piece = seal_piece(
        folder, name, clips, list(keys.values()), kinds["rows"], kinds["failed"], kinds["masked"], provenance
    )
    return merge_chunk(folder, name, clips) if merge else piece


def make(path: Path, count: int = 24, per_part: int = 4, only: Any = None, **provenance: str) -> Path:
    """A store of `count` clips; `only`: numbers of the chunks that it has."""
    create_store(path)
    listed = ids(count)
    write_manifest(path / "manifest.csv", clips(listed))
    write_dense(
        dense_path(path / "manifest.csv"), [Event(clip, "both", 0, 1 + int(clip[:3]) % 9, "dog") for clip in listed]
    )
    for i in range(0, count, per_part):
        if only is None or i // per_part in only:
            # names of chunks are digests: they do not sort like the manifest
            seal_chunk(path / "parts", f"{(i * 2654435761) % 2**32:016x}", listed[i : i + per_part], **provenance)
    with Lock(path):
        save_index(path)
    return path


def clips(listed: list[str]) -> list[Clip]:
    return [
        Clip(clip, f"{clip}.mp4", labels=("dog", "ünïcode") if i % 2 else (), split=SPLITS[i % 4])
        for i, clip in enumerate(listed)
    ]


def tree(folder: Path, but: tuple[str, ...] = ("lock", "index.h5")) -> dict[str, bytes]:
    """Every file below a folder, by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in but
    }


def rows_of(store: Any) -> dict[tuple[str, str], bytes]:
    found = {}
    for info in store.keys():  # noqa: SIM118
        for clip in store.clips(info.key):
            rows = store.rows(clip, info.key)
            arrays = (rows.data, rows.window_ns, rows.valid, rows.source_ns)
            found[clip, info.key] = b"".join(array.tobytes() for array in arrays)
    return found
