"""A shuffled epoch over LLP's features from a store, against the same numbers as a .npy file per clip: python benchmarks/epoch.py

The .npy side does what the official loaders do: three np.load per item, torch.from_numpy, torch's own collate. Both sides
alternate in one process; every time is the best of several. Both sum what they read, and the sums must be equal.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from extract.grid import NS, Grid
from extract.plan import canonical_json, key_of
from extract.store.catalog import create_store, save_index
from extract.store.dataset import FeatureDataset, collate
from extract.store.layout import Entry, write_part
from extract.store.rows import KeyInfo, Rows
from extract.store.training.sampling import ShardSampler
from manifests.clip import Clip, write_manifest

FEATURES = {"resnet152": (80, 2048), "r2plus1d_18": (10, 512), "vggish": (10, 128)}
PART_CLIPS = 64


def info(name: str, storage: str = "float32") -> KeyInfo:
    rows, dim = FEATURES[name]
    hop_ns = 10 * NS // rows
    identity: dict[str, Any] = {"backbone": name, "grid": {"window_ns": hop_ns, "hop_ns": hop_ns, "count": rows}}
    if storage != "float32":
        identity["storage"] = storage
    text = canonical_json(identity)
    return KeyInfo(key_of(text), text, "[]", "random:0", "none", (dim,), storage)  # type: ignore[arg-type]


def numbers(clip: int, name: str) -> np.ndarray:
    """Like features behind a ReLU: not negative, about half of them zero."""
    rng = np.random.default_rng([clip, list(FEATURES).index(name)])
    return np.maximum(rng.standard_normal(FEATURES[name], dtype=np.float32), 0)


def clip_name(clip: int) -> str:
    return f"clip{clip:07}_0_10"


def make_store(
    path: Path,
    clips: int,
    names: Iterable[str] = FEATURES,
    storage: str = "float32",
    compression: str = "none",
    make: Callable[[int, str], np.ndarray] = numbers,
) -> None:
    create_store(path)
    infos = [info(name, storage) for name in sorted(names)]
    for first in range(0, clips, PART_CLIPS):
        some = range(first, min(first + PART_CLIPS, clips))
        entries = []
        for each in infos:
            name = each.key.split("@")[0]
            rows, windows = (
                FEATURES[name][0],
                Grid(NS * 10 // FEATURES[name][0], NS * 10 // FEATURES[name][0], FEATURES[name][0]),
            )

            def load(clip: int, each: KeyInfo = each, name: str = name, grid: Grid = windows) -> Rows:
                span = grid.windows_ns(0)
                ones, source = np.ones(len(span), np.uint8), span[:, :1].copy()
                return Rows(clip_name(clip), each.key, make(clip, name).astype(each.storage), span, ones, source)

            entries += [
                Entry(
                    clip_name(clip), each.key, each.dims, rows, 1, lambda clip=clip, load=load: load(clip), each.storage
                )
                for clip in some
            ]
        write_part(
            path / "parts" / f"{first:016x}.h5", {each.key: each for each in infos}, entries, (), (), "[]", compression
        )
    write_manifest(path / "manifest.csv", [Clip(clip_name(clip), "none.mp4", split="train") for clip in range(clips)])
    save_index(path)


def make_npy(folder: Path, clips: int) -> None:
    for name in FEATURES:
        (folder / name).mkdir(parents=True)
        for clip in range(clips):
            np.save(folder / name / f"{clip_name(clip)}.npy", numbers(clip, name))


class PerClipFiles(Dataset[dict[str, Any]]):
    """What AVVP-ECCV20's LLP_dataset does for each item."""

    def __init__(self, folder: Path, clips: int) -> None:
        self.folder, self.ids = folder, [clip_name(clip) for clip in range(clips)]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name = self.ids[index]
        return {each: torch.from_numpy(np.load(self.folder / each / f"{name}.npy")) for each in FEATURES}


def evict(folder: Path, drop: bool) -> None:
    """Take the folder's files out of the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)
    if drop:
        Path("/proc/sys/vm/drop_caches").write_text("3")


def epoch(loader: Iterable[dict[str, Any]]) -> tuple[float, int]:
    """Seconds for all batches, and how many clips there were; each batch is let go before the next."""
    started, clips = time.perf_counter(), 0
    for batch in loader:
        clips += len(batch["vggish"])
    return time.perf_counter() - started, clips


def total(loader: Iterable[dict[str, Any]]) -> list[float]:
    sums = np.zeros(len(FEATURES))
    for batch in loader:
        sums += [float(batch[name].to(torch.float64).sum()) for name in FEATURES]
    return sums.tolist()


def bare(folder: Path) -> float:
    """Seconds for reading the store's files one after the other: what no epoch over a cold cache can beat."""
    started, buffer = time.perf_counter(), bytearray(2**20)
    for path in sorted(folder.glob("parts/*.h5")):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - started


def loaders(files: PerClipFiles, data: FeatureDataset, batch: int, workers: int) -> dict[str, Callable[[], DataLoader]]:
    return {
        "npy": lambda: DataLoader(files, batch, shuffle=True, num_workers=workers),
        "plain": lambda: DataLoader(data, batch, shuffle=True, num_workers=workers, collate_fn=collate),
        "shards": lambda: DataLoader(data, batch, sampler=ShardSampler(data), num_workers=workers, collate_fn=collate),
    }


@contextmanager
def scratch(folder: Path | None) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="extract-bench-", dir=folder))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where 2.8 GB of scratch files go (default: the temporary folder)")
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--batch", type=int, nargs="*", default=[16, 64])
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 2])
    parser.add_argument("--warm", action="store_true", help="only the warm cache")
    parser.add_argument("--keep-caches", action="store_true", help="never write to /proc/sys/vm/drop_caches")
    args = parser.parse_args()
    drop = not args.keep_caches and os.access("/proc/sys/vm/drop_caches", os.W_OK)
    with scratch(args.folder) as folder:
        make_store(folder / "store", args.clips)
        make_npy(folder / "npy", args.clips)
        os.sync()
        files, data = PerClipFiles(folder / "npy", args.clips), FeatureDataset(folder / "store", list(FEATURES))
        how = "posix_fadvise DONTNEED on every file" + (", then /proc/sys/vm/drop_caches" if drop else "")
        print(
            f"{args.clips} clips; cold: {how}; best of {args.repeat}; torch {torch.__version__}, {os.cpu_count()} cores"
        )
        print("cache batch workers   .npy s  store shuffled s   ratio  store by shards s   ratio bare read s")
        for cold in (False,) if args.warm else (True, False):
            for batch in args.batch:
                for workers in args.workers:
                    sides = loaders(files, data, batch, workers)
                    best = dict.fromkeys(sides, float("inf"))
                    floor = float("inf")
                    for _ in range(args.repeat):
                        if cold:
                            evict(folder, drop)
                        floor = min(floor, bare(folder / "store"))
                        for name, loader in sides.items():
                            if cold:
                                evict(folder, drop)
                            seconds, clips = epoch(loader())
                            assert clips == args.clips
                            best[name] = min(best[name], seconds)
                    print(
                        f"{'cold' if cold else 'warm':5} {batch:5} {workers:7} {best['npy']:8.2f} {best['plain']:17.2f} "
                        f"{best['npy'] / best['plain']:7.2f} {best['shards']:18.2f} {best['npy'] / best['shards']:7.2f} "
                        f"{floor:10.2f}",
                        flush=True,
                    )
        ours, theirs = total(DataLoader(data, 16, collate_fn=collate)), total(DataLoader(files, 16))
        print("sums are equal" if np.allclose(ours, theirs, rtol=1e-12) else f"SUMS DIFFER: {ours} {theirs}")


if __name__ == "__main__":
    main()
