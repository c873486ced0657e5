"""`extract run` against the sum of its bare forwards: is decoding hidden behind compute?

python benchmarks/run_vs_forward.py [--clips 12] [--recipe llp] [--precision float32] [--device cpu]

The bare forwards run on prepared tensors in the same batches and threads, before and after the run; the faster counts.
The run is timed from the moment its lane is ready to its last receipt, and as a whole.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from extract import running
from extract.bench import stages
from extract.chunk import Receipt
from extract.demo import make_demo
from extract.engine.base import Event, Ready
from extract.engine.cores import threads_per_lane
from extract.job import Choices, make_job


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--recipe", default="llp")
    parser.add_argument("--backbones", default="")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--decode-threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_demo(folder / "clips", folder / "bench.csv", clips=options.clips, seconds=10, seed=0, progress=False)
        names = tuple(filter(None, options.backbones.split(",")))
        choices = Choices(recipe=options.recipe, weights="random:0", precision=options.precision, backbones=names)
        job = make_job(folder / "bench.csv", choices, folder / "store")
        torch.set_num_threads(threads_per_lane([options.device]))
        taps = job.plan.taps(job.plan.keys)
        views = stages.decode_and_prepare(next(iter(job.paths.values())), job.plan, taps, options.device)
        steps = [
            stages.forward(model, [views[taps.index(tap)] for tap in job.plan.taps([key])])
            for key, model in stages.loaded(job.plan, "random:0", options.device, options.batch).items()
        ]
        for step in steps:
            step()
        before = sum(stages.best(step, 3).wall_s for step in steps)
        times: dict[str, float] = {}

        def note(event: Event) -> None:
            if isinstance(event, Ready):
                times.setdefault("ready", time.perf_counter())
            elif isinstance(event, Receipt):
                times["last"] = time.perf_counter()

        started = time.perf_counter()
        machine = running.Machine(devices=(options.device,), decode_threads=options.decode_threads, batch=options.batch)
        summary = running.run(job, machine, on_event=note)
        whole = time.perf_counter() - started
        after = sum(stages.best(step, 3).wall_s for step in steps)
        bare = min(before, after) * options.clips
        lane = times["last"] - times["ready"]
        print(f"{options.clips} clips, {len(steps)} networks, {options.precision} on {options.device}")
        print(f"bare forwards      {bare:8.2f} s  (per clip {before:.3f} before, {after:.3f} after the run)")
        print(f"lane, ready to end {lane:8.2f} s  = {lane / bare:.3f} x bare")
        print(f"whole run          {whole:8.2f} s  = {whole / bare:.3f} x bare")
        print("stages             " + ", ".join(f"{stage} {s:.2f}" for stage, s in summary.seconds.items()))
        print(*(f"{key}: {value:.6f}" for key, value in summary.notes.items()), sep="\n")


if __name__ == "__main__":
    main()
