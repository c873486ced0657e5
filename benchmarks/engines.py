"""Ray against the local engine on one machine, on the same clips, one after the other; start-up apart.

python benchmarks/engines.py [--clips 64] [--backbones resnet18,vggish] [--rounds 2]

Timed from the moment the first lane is ready to the last receipt; the best of the rounds counts. Also says whether both
stores hold the same content.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Literal

from extract import running
from extract.chunk import Receipt
from extract.demo import make_demo
from extract.engine.base import Event, Ready
from extract.job import Choices, make_job
from extract.store.catalog import Store


def timed(
    manifest: Path, store: Path, backbones: tuple[str, ...], engine: Literal["local", "ray"]
) -> tuple[float, float]:
    """Seconds from ready to the last receipt, and of the whole run."""
    times: dict[str, float] = {}

    def note(event: Event) -> None:
        if isinstance(event, Ready):
            times.setdefault("ready", time.perf_counter())
        elif isinstance(event, Receipt):
            times["last"] = time.perf_counter()

    job = make_job(manifest, Choices(weights="random:0", backbones=backbones), store)
    started = time.perf_counter()
    running.run(job, running.Machine(engine=engine), on_event=note)
    return times["last"] - times["ready"], time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--backbones", default="resnet18,vggish")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    names = tuple(options.backbones.split(","))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_demo(folder / "clips", folder / "bench.csv", clips=options.clips, seconds=10, seed=0, progress=False)
        lanes: dict[str, list[float]] = {"local": [], "ray": []}
        digests = set()
        for number in range(options.rounds):
            for engine in ("local", "ray"):
                store = folder / f"{engine}{number}"
                lane, whole = timed(folder / "bench.csv", store, names, engine)
                lanes[engine].append(lane)
                digests.add(Store(store).digest())
                print(f"{engine:6} ready to end {lane:7.2f} s, whole run {whole:7.2f} s", flush=True)
        print(
            f"ray / local, ready to end: {min(lanes['ray']) / min(lanes['local']):.3f}; {len(digests)} distinct content(s)"
        )


if __name__ == "__main__":
    main()
