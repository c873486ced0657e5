"""How a store of very many clips opens, answers and resumes: python benchmarks/store_scale.py [--clips 1000000] [--folder DIR]

Its parts are real ones with simulated rows: 64 clips each, the three backbones of LLP, one row of four numbers per clip and
backbone, 2 in 100 clips failed and 2 in 100 masked, so that a million clips take gigabytes and not terabytes; what is timed here
never reads more than a clip's rows. Every figure is that of a process of its own. With --folder the store is kept and used again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

CHUNK = 64
DIMS = (4,)
FAILS, MASKS = 50, 40  # every so many clips
LOOKUPS = 2000
OPEN_PARTS = 8
ASKED = {
    "open": "2 s, 500 MB",
    "status": "5 s",
    "status_json": "5 s",
    "todo": "10 s",
    "lookup": "300 us",
}
SAID = {
    "open": "opening, and one lookup",
    "unindexed": "the same after `index.h5` was lost",
    "status": "`extract status`, with the start of Python",
    "status_json": "`extract status --json`",
    "todo": "todo list of a rerun with nothing left, from the manifest on",
    "absent": "looking for all the clips' files (there is none), as a run does",
    "digest": "digest of the content",
    "lookup": "a random (clip, backbone), its part open",
}


# ---- making the store ----------------------------------------------------------------------------------------------


def make(folder: Path, count: int) -> None:
    """A manifest and a store that is complete for it."""
    from extract import running
    from extract.engine.base import slice_clips
    from extract.job import Choices, make_job
    from extract.lane import key_info
    from extract.store.catalog import create_store, save_index
    from extract.store.runs import Ledger, Lock
    from manifests.clip import Clip, write_manifest

    rng = random.Random(0)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    labels = ("Speech", "Car", "Cheering", "Dog", "Cat")
    clips = []
    for number in range(count):
        video, start = "".join(rng.choices(letters, k=11)), rng.randrange(300)
        clip_id = f"{video}_{start}_{start + 10}"
        split = "test" if number % 10 == 0 else "train"
        clips.append(Clip(clip_id, f"{video}.mp4", labels=tuple(rng.sample(labels, 2)), split=split))
    write_manifest(folder / "m.csv", clips)
    job = make_job(folder / "m.csv", Choices(weights="random:0", recipe="llp"), folder / "store")
    infos = [replace(key_info(feature), dims=DIMS) for feature in job.plan.features]
    create_store(job.store)
    slices = slice_clips(job.listed, job.plan.keys, CHUNK)
    work = [(name, tuple(clip.clip_id for clip in part)) for name, part in slices.items()]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        made = pool.imap_unordered(partial(make_part, job.store / "parts", infos), work, chunksize=16)
        for number, _ in enumerate(made, 1):
            if number % 1000 == 0:
                print(f"{number} of {len(work)} parts", file=sys.stderr, flush=True)
    with Lock(job.store):
        shutil.copyfile(folder / "m.csv", job.store / "manifest.csv")
        ledger = Ledger.start(job.store, running.header(job, running.Machine()))
        ledger.finish({"computed": count})
        save_index(job.store)


def make_part(parts: Path, infos: Sequence[object], work: tuple[str, tuple[str, ...]]) -> None:
    """One part of 64 clips; a clip's rows depend on its id alone."""
    from extract.store.layout import Entry, write_part
    from extract.store.rows import KeyInfo, Remark, Rows

    name, clip_ids = work
    known = {info.key: info for info in infos if isinstance(info, KeyInfo)}
    entries, failed, masked = [], [], []

    def load(clip_id: str, key: str) -> Rows:
        seed = int.from_bytes(clip_id.encode()[:8], "little") % 2**20
        window_ns = np.array([[0, 10**9]], np.int64)
        numbers = np.full((1, *DIMS), seed, np.float32)
        return Rows(clip_id, key, numbers, window_ns, np.ones(1, np.uint8), np.zeros((1, 1), np.int64))

    for key in sorted(known):
        for clip_id in clip_ids:
            number = sum(clip_id.encode())
            if number % FAILS == 0:
                failed.append(Remark(clip_id, key, "open", "not_found", f"/videos/{clip_id[:11]}.mp4 is not there"))
                continue
            if number % MASKS == 0 and key.startswith("vggish"):
                masked.append(Remark(clip_id, key, "audio", "no_audio", "the file has no audio stream"))
            entries.append(Entry(clip_id, key, DIMS, 1, 1, partial(load, clip_id, key)))
    place = {clip_id: i for i, clip_id in enumerate(clip_ids)}
    failed.sort(key=lambda each: (place[each.clip_id], each.key))
    write_part(parts / f"{name}.h5", known, entries, failed, masked, "[]")


# ---- what each process does ----------------------------------------------------------------------------------------


def timed(what: Callable[[], object]) -> float:
    started = time.perf_counter()
    what()
    return time.perf_counter() - started


def some_lookups(store: Path) -> list[tuple[str, str]]:
    """Clips of some parts, in random order, each under a random key."""
    from extract.store import Store

    opened = Store(store)
    keys = [info.key for info in opened.keys()]  # noqa: SIM118
    order = opened.file_order(opened.clips(keys[0]), keys[0])
    rng = random.Random(0)
    starts = [rng.randrange(len(order)) // CHUNK * CHUNK for _ in range(OPEN_PARTS)]
    clips = [clip for start in starts for clip in order[start : start + CHUNK // 2]]
    return [(rng.choice(clips), rng.choice(keys)) for _ in range(LOOKUPS)]


def measure_open(folder: Path) -> dict[str, float]:
    from extract.store import Store

    clip_id = (folder / "store" / "manifest.csv").read_text()[:200].split("\n")[1].split(",")[0]

    def look() -> None:
        store = Store(folder / "store")
        key = store.resolve("vggish")
        assert (clip_id, key) in store or any(each.clip_id == clip_id for each in store.failed())
        if (clip_id, key) in store:
            store[clip_id, key]

    return {"seconds": timed(look)}


def measure_todo(folder: Path) -> dict[str, float]:
    from extract.job import Choices, make_job
    from extract.todo import forget_outdated, merge_leftovers, missing_chunks

    def todo() -> None:
        job = make_job(folder / "m.csv", Choices(weights="random:0"), folder / "store")
        assert forget_outdated(job) == 0
        chunks = missing_chunks(job, CHUNK)
        assert not chunks
        merge_leftovers(job, CHUNK, chunks)

    return {"seconds": timed(todo)}


def measure_absent(folder: Path) -> dict[str, float]:
    from extract.job import Choices, make_job

    job = make_job(folder / "m.csv", Choices(weights="random:0"), folder / "store")
    return {"seconds": timed(lambda: job.missing)}


def measure_digest(folder: Path) -> dict[str, float]:
    from extract.store import Store

    store = Store(folder / "store")
    store.keys()
    return {"seconds": timed(store.digest)}


def measure_lookup(folder: Path) -> dict[str, float]:
    from extract.store import Store

    lookups, store = some_lookups(folder / "store"), Store(folder / "store")
    for item in lookups:
        store[item]
    return {"seconds": timed(lambda: [store[item] for item in lookups]) / len(lookups)}


MEASURES = {
    "open": measure_open,
    "unindexed": measure_open,
    "todo": measure_todo,
    "absent": measure_absent,
    "digest": measure_digest,
    "lookup": measure_lookup,
}


# ---- the table -----------------------------------------------------------------------------------------------------


def apart(name: str, folder: Path) -> tuple[float, float]:
    """Seconds and the peak of memory (MB) of a measurement in a process of its own."""
    words = ["-m", "extract", "status", str(folder / "store"), *(["--json"] if name == "status_json" else [])]
    own = [__file__, "--measure", name, "--folder", str(folder)]
    started = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, *(words if name.startswith("status") else own)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    told = child.stdout.read()
    _, code, used = os.wait4(child.pid, 0)
    wall = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(code)
    if child.returncode:
        raise SystemExit(f"{name} ended with exit code {child.returncode}")
    return wall if name.startswith("status") else json.loads(told)["seconds"], used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=20_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", choices=[*MEASURES, "make"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure == "make":
        make(options.folder, options.clips)
        return
    if options.measure:
        print(json.dumps(MEASURES[options.measure](options.folder)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = (options.folder or Path(name)).absolute()
        made = folder / "made.json"
        if not made.exists():
            folder.mkdir(parents=True, exist_ok=True)
            # in a process of its own: the peak memory of a process is never said to be below that of its parent
            words = [__file__, "--measure", "make", "--folder", str(folder), "--clips", str(options.clips)]
            seconds = timed(lambda: subprocess.run([sys.executable, *words], check=True))
            made.write_text(json.dumps({"clips": options.clips, "seconds": round(seconds)}))
        clips = json.loads(made.read_text())["clips"]
        parts = len(list((folder / "store" / "parts").glob("*.h5")))
        print(f"{clips:,} clips x 3 backbones in {parts:,} parts ({made.read_text()})\n")
        print("| what | measured | peak memory | asked of 1,000,000 clips |\n|---|---|---|---|", flush=True)
        index = folder / "store" / "index.h5"
        for what, words in SAID.items():
            if what == "unindexed":
                index.rename(folder / "index.h5")
            try:
                seconds, peak_mb = apart(what, folder)
            finally:
                if what == "unindexed":
                    (folder / "index.h5").rename(index)
            figure = f"{seconds * 1e6:.0f} us" if what == "lookup" else f"{seconds:.2f} s"
            print(f"| {words} | {figure} | {peak_mb:.0f} MB | {ASKED.get(what, '')} |", flush=True)


if __name__ == "__main__":
    main()
