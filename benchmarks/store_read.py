"""Reading a store whole, against the same bytes raw; one clip at random; storage choices: python benchmarks/store_read.py

Raw means preadv of the same part files, once into one buffer that is used again and once into memory of its own for every
block, as a reader must that hands its blocks over. The page cache is warm.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from epoch import FEATURES, info, make_store, scratch

from extract.store import Store

BLOCK = 64  # clips per batch


def best(run: Callable[[], object], repeat: int) -> float:
    seconds = []
    for _ in range(repeat):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def rounds(sides: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """The best of each side; sides take turns."""
    found = dict.fromkeys(sides, float("inf"))
    for _ in range(repeat):
        for name, run in sides.items():
            found[name] = min(found[name], best(run, 1))
    return found


def blocks_of(store: Store, keys: list[str]) -> list[tuple[Path, int, int]]:
    """File, offset and bytes of every block that `batches` reads: of each key, BLOCK clips that follow each other."""
    found = []
    for ids in (store.clip_ids()[i : i + BLOCK] for i in range(0, len(store), BLOCK)):
        for key in keys:
            first, last = store.location(ids[0], key), store.location(ids[-1], key)
            row = np.dtype("f4").itemsize * int(np.prod(store.columns[key].info.dims))
            assert first.part == last.part
            assert first.offset_bytes is not None
            assert last.offset_bytes is not None
            found.append((first.part, first.offset_bytes, last.offset_bytes + last.rows * row - first.offset_bytes))
    return found


def raw(blocks: list[tuple[Path, int, int]], again: bool) -> None:
    buffer = np.empty(max(size for _, _, size in blocks), np.uint8)
    opened: dict[Path, int] = {}
    for path, offset, size in blocks:
        if path not in opened:
            opened[path] = os.open(path, os.O_RDONLY)
        out = buffer[:size] if again else np.empty(size, np.uint8)
        assert os.preadv(opened[path], [out], offset) == size
    for fd in opened.values():
        os.close(fd)


def raw_at_once(blocks: list[tuple[Path, int, int]]) -> None:
    """Into one array, as `to_dense` does."""
    out, at = np.empty(sum(size for _, _, size in blocks), np.uint8), 0
    for path, offset, size in blocks:
        fd = os.open(path, os.O_RDONLY)
        assert os.preadv(fd, [out[at : at + size]], offset) == size
        os.close(fd)
        at += size


def sequential(path: Path, repeat: int) -> None:
    store = Store(path)
    keys = [store.resolve(name) for name in FEATURES]
    blocks = blocks_of(store, keys)
    size = sum(size for _, _, size in blocks)
    ids = store.clip_ids()

    def batches() -> None:
        for batch in store.batches(keys, size=BLOCK):
            assert batch.data

    sides: dict[str, Callable[[], object]] = {
        "raw, one buffer": lambda: raw(blocks, True),
        "raw, own memory": lambda: raw(blocks, False),
        "store.batches": batches,
        "raw, one array": lambda: [raw_at_once(blocks[i :: len(keys)]) for i in range(len(keys))],
        "store.to_dense": lambda: [store.to_dense(ids, key) for key in keys],
    }
    found = rounds(sides, repeat)
    for name, seconds in found.items():
        print(f"{name:17} {size / seconds / 1e9:6.2f} GB/s")
    print(f"store.batches is {found['raw, own memory'] / found['store.batches']:.2f} of raw, own memory (asked: >= 0.8), "
          f"{found['raw, one buffer'] / found['store.batches']:.2f} of raw, one buffer")  # fmt: skip
    print(
        f"store.to_dense is {found['raw, one array'] / found['store.to_dense']:.2f} of raw, one array (asked: >= 0.8)"
    )


def at_random(path: Path, clips: int) -> None:
    store = Store(path)
    rng = np.random.default_rng(0)
    for name in FEATURES:
        key = store.resolve(name)
        ids = [store.clips(key)[i] for i in rng.integers(0, clips, 400)]
        for clip_id in ids:  # opens the parts
            store.read(clip_id, key)
        ms = np.array([best(partial(store.read, clip_id, key), 1) * 1e3 for clip_id in ids])
        print(
            f"random clip of {name:12} {np.median(ms):.3f} ms median, {np.quantile(ms, 0.9):.3f} ms in nine of ten "
            "(asked: <= 0.3)"
        )


def smooth(clip: int, name: str) -> np.ndarray:
    """Numbers like those of a network's pooled ReLU features: not negative, a third of them zero, each dimension with a size
    of its own, rows of one clip much alike, and a spread of sizes over orders of magnitude (log-normal)."""
    rows, dim = FEATURES[name]
    size = np.random.default_rng([list(FEATURES).index(name)]).lognormal(-1, 1, dim)
    rng = np.random.default_rng([clip, list(FEATURES).index(name)])
    scene, change = rng.standard_normal(dim), rng.standard_normal((rows, dim)) * 0.4
    return np.maximum((scene + change + 0.43) * size, 0).astype(np.float32)


def read_all(store: Store, ids: Sequence[str], key: str) -> None:
    for clip_id in ids:
        store.read(clip_id, key)


def choices(folder: Path, clips: int, repeat: int) -> None:
    rows, dim = FEATURES["resnet152"]
    print(f"{clips} clips of resnet152 ({rows} x {dim}), made to have the statistics of pooled ReLU features:")
    print("storage  compression   bytes per clip  of float32   read GB/s of float32   cosine, least")
    asked = [smooth(clip, "resnet152") for clip in range(clips)]
    for storage in ("float32", "float16"):
        for compression in ("none", "gzip:1", "gzip:4"):
            path = folder / f"{storage}-{compression.replace(':', '')}"
            make_store(path, clips, ["resnet152"], storage, compression, smooth)
            store, key = Store(path), info("resnet152", storage).key
            ids = store.clips(key)
            seconds = best(partial(read_all, store, ids, key), repeat)
            size = store.size_bytes() / clips
            cosine = min(
                _cosine(store.read(i, key).astype("f8"), a.astype("f8")) for i, a in zip(ids, asked, strict=True)
            )
            plain = rows * dim * 4
            print(
                f"{storage:8} {compression:12} {size:15,.0f} {size / plain:11.3f} {clips * plain / seconds / 1e9:11.2f} "
                f"{1 - cosine:>18.1e} below 1"
            )


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where 1.4 GB of scratch files go (default: the temporary folder)")
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    with scratch(args.folder) as folder:
        make_store(folder / "store", args.clips)
        print(f"{args.clips} clips x {', '.join(FEATURES)}; blocks of {BLOCK} clips; best of {args.repeat}")
        sequential(folder / "store", args.repeat)
        at_random(folder / "store", args.clips)
        choices(folder, min(args.clips, 128), args.repeat)


if __name__ == "__main__":
    main()
