"""Export of the layout llp against writing the same files with plain open and write: python benchmarks/export.py [clips]

Both write the same bytes into as many files of the same names, one after the other, in turn, into fresh folders; the raw side
has its bytes in memory already. The ratio is the best of each side over the best of the other, from one run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from extract.plan import canonical_json, key_of
from extract.store import Store
from extract.store.catalog import create_store, save_index
from extract.store.export import export
from extract.store.part import merge_chunk, seal_piece
from extract.store.rows import KeyInfo, Rows
from manifests.clip import Clip, write_manifest

CHUNK = 64
SHAPES = {"vggish": (10, 128), "resnet152": (80, 2048), "r2plus1d_18": (10, 512)}


def make_store(path: Path, clips: int) -> None:
    """An LLP-shaped store of random numbers, with its manifest."""
    create_store(path)
    rng = np.random.default_rng(0)
    infos = {}
    for name, shape in SHAPES.items():
        identity = canonical_json({"backbone": name})
        infos[name] = KeyInfo(key_of(identity), identity, "[]", "random:0", "none", shape[1:])
    ids = [f"clip{i:07d}_0_10" for i in range(clips)]
    for first in range(0, clips, CHUNK):
        order, rows = ids[first : first + CHUNK], []
        for clip in order:
            for name, shape in SHAPES.items():
                start = np.arange(shape[0], dtype=np.int64) * (10_000_000_000 // shape[0])
                windows = np.stack([start, start + 10_000_000_000 // shape[0]], axis=1)
                data = rng.random(shape, np.float32)
                rows.append(Rows(clip, infos[name].key, data, windows, np.ones(shape[0], np.uint8), start[:, None]))
        seal_piece(path / "parts", f"{first:016x}", order, tuple(infos.values()), rows, [], [], {})
        merge_chunk(path / "parts", f"{first:016x}", order)
    write_manifest(
        path / "manifest.csv", [Clip(clip, f"{clip}.mp4", labels=("Speech",), split="train") for clip in ids]
    )
    save_index(path)


def write_raw(folder: Path, names: list[str], content: dict[str, list[bytes]]) -> int:
    """The same files: every array is written as often as there are clips."""
    size = 0
    for kind in content:
        (folder / kind).mkdir(parents=True)
    for i, name in enumerate(names):
        for kind, arrays in content.items():
            raw = arrays[i % len(arrays)]
            with open(f"{folder}/{kind}/{name}", "wb", buffering=0) as file:
                file.write(raw)
            size += len(raw)
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="?", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to work; default: the system's temporary folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        base = Path(temporary)
        make_store(base / "store", args.clips)
        walls: dict[str, list[float]] = {"export": [], "raw": []}
        content: dict[str, list[bytes]] = {}
        names: list[str] = []
        # os.sync is what `export` ends with; it is taken out of both, because it measures the disk and not the export.
        os.sync()
        sync, os.sync = os.sync, lambda: None
        for _ in range(args.rounds):
            started = time.perf_counter()
            done = export(Store(base / "store"), "llp", base / "out")
            walls["export"].append(time.perf_counter() - started)
            if not content:
                for kind in sorted((base / "out" / "feats").iterdir()):
                    paths = sorted(kind.iterdir())
                    names = [path.name for path in paths]
                    content[kind.name] = [path.read_bytes() for path in paths[:CHUNK]]
            shutil.rmtree(base / "out")
            sync()
            started = time.perf_counter()
            size = write_raw(base / "raw", names, content)
            walls["raw"].append(time.perf_counter() - started)
            shutil.rmtree(base / "raw")
            sync()
        export_s, raw_s = min(walls["export"]), min(walls["raw"])
        print(f"{args.clips} clips, {done.files} files, {done.size_bytes / 1e6:,.0f} MB (raw {size / 1e6:,.0f} MB)")
        print(f"export {done.size_bytes / export_s / 1e6:,.0f} MB/s, raw {size / raw_s / 1e6:,.0f} MB/s")
        print(f"export / raw speed: {raw_s / export_s:.2f} (best of {args.rounds}; to reach: 0.5)")


if __name__ == "__main__":
    main()
