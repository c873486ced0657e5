"""An epoch of `extract parse train` against the published loop over the same clips: python benchmarks/parsing.py

The published loop is ``official_loop.py`` beside this file: a ``.npy`` file per clip and backbone read for every item, 80 x 2048
numbers through the first layer, batches of one and numpy for the scores. Ours reads a store once and goes on from memory. Both
make the same steps of 16 clips over the same clips with the same network and loss, and score the same validation clips after
each epoch; the page cache is warm. The two sides take turns and every time is the best of several. An epoch of LLP is computed
by proportion: 10,000 clips, then 649 for validation.

At the end both sides score clips with the same weights, and what they say must be equal.
"""

from __future__ import annotations

import argparse
import os
import random
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import official_loop as official
import torch
from epoch import FEATURES, clip_name, make_store, numbers, scratch
from official_loop import FOLDERS, Item

from manifests.clip import Clip, write_manifest
from manifests.dense import Event, Modality, dense_path, write_dense
from manifests.llp import CLIP_S, LABELS
from pipelines.parsing.config import Config
from pipelines.parsing.evaluate import parsed, predict, scores
from pipelines.parsing.loaded import Loaded, load
from pipelines.parsing.metrics import clip_scores
from pipelines.parsing.networks import build
from pipelines.parsing.outputs import pool
from pipelines.parsing.presets import published
from pipelines.parsing.run_folder import make_folder
from pipelines.parsing.train import Trained, train

SPLITS = ("train", "val", "test")
LLP_TRAIN, LLP_VAL = 10_000, 649
EPOCHS_A_TURN = 2
SLOTS = {"audio": "vggish", "visual": "resnet152", "clip": "r2plus1d_18"}
UNUSED = {f"hat_encoder.norm{n}.{what}" for n in (1, 2) for what in ("weight", "bias")}


@dataclass(frozen=True)
class Made:
    """The same clips as a store and as files."""

    store: Path
    files: Path
    items: dict[str, list[Item]]
    events: dict[str, dict[str, list[Event]]]


def make(folder: Path, counts: dict[str, int]) -> Made:
    """Random features; one to three classes per clip, each heard, seen or both for some of its seconds."""
    draw = random.Random(0)
    made = Made(folder / "store", folder / "feats", {}, {})
    clips: list[Clip] = []
    for split, count in counts.items():
        made.items[split] = []
        for _ in range(count):
            name, labels = clip_name(len(clips)), tuple(draw.sample(LABELS, draw.choice((1, 1, 2, 2, 3))))
            made.items[split].append(Item(name, labels))
            made.events[name] = {"audio": [], "visual": []}
            clips.append(Clip(name, "none.mp4", labels=labels, split=split))
            for label in labels:
                modalities: list[Modality] = draw.choice(
                    [["audio"], ["visual"], ["audio", "visual"], ["audio", "visual"]]
                )
                for modality in modalities:
                    onset = draw.randrange(CLIP_S)
                    made.events[name][modality].append(
                        Event(name, modality, onset, draw.randrange(onset, CLIP_S) + 1, label)
                    )
    make_store(made.store, len(clips))
    write_manifest(made.store / "manifest.csv", clips)
    write_dense(
        dense_path(made.store / "manifest.csv"),
        (event for each in made.events.values() for some in each.values() for event in some),
    )
    for slot, backbone in SLOTS.items():
        (made.files / FOLDERS[slot]).mkdir(parents=True)
        for number, clip in enumerate(clips):
            np.save(made.files / FOLDERS[slot] / f"{clip.clip_id[:11]}.npy", numbers(number, backbone))
    return made


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


Times = dict[str, float]
"""Seconds by name of the stage."""


def keep_best(best: Times, new: Times) -> None:
    for name, seconds in new.items():
        best[name] = min(best.get(name, seconds), seconds)


def in_two(name: str, loader: Iterable[Any], work: Callable[[Iterable[Any]], Any]) -> Times:
    """Seconds of `work` on the batches, and those of them after the first batch had come.

    Worker processes take as long to begin for few clips as for many.
    """
    came = 0.0

    def batches() -> Iterator[Any]:
        nonlocal came
        for number, batch in enumerate(loader):
            came = came if number else time.perf_counter()
            yield batch

    started = time.perf_counter()
    work(batches())
    ended = time.perf_counter()
    return {name: ended - started, f"{name} starts": came - started, f"{name} goes on": ended - came}


@cache
def published_network() -> tuple[official.Network, torch.optim.Optimizer]:
    """One for the whole process, so that it goes on from epoch to epoch."""
    network = official.Network()
    return network, official.optimiser(network)


def in_its_process(threads: int) -> None:
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore", "This DataLoader will create")


def published_epoch(made: Made, workers: int) -> Times:
    """`workers` for training; for validation the published one, or none where there is none for training."""
    network, optimizer = published_network()
    official.train_step(network, optimizer, next(iter(official.train_loader(made.files, made.items["train"], 0))))
    loader = official.train_loader(made.files, made.items["train"], workers)
    loading = timed(lambda: [None for _ in loader])
    trained = in_two("training", loader, lambda batches: official.train_epoch(network, optimizer, batches))
    return {"loading": loading} | trained | published_evaluation(made, "val", min(workers, 1))


def published_evaluation(made: Made, split: str, workers: int) -> Times:
    items, network = made.items[split], published_network()[0]
    loader = official.evaluation_loader(made.files, items, workers)
    return in_two("validation", loader, lambda batches: official.evaluate(network, batches, items, made.events))


def our_config(precision: str) -> Config:
    settings = published("han", "weak") | {"epochs": EPOCHS_A_TURN, "precision": precision, "select": "val"}
    return Config("avvp", "han", **SLOTS, **settings)  # type: ignore[arg-type]


def our_epoch(config: Config, loaded: Loaded, folder: Path) -> tuple[Times, Trained]:
    """The best epoch of a short run."""
    times: Times = {}

    def keep(row: Any) -> None:
        for name, took in (("training", row["train_s"]), ("validation", row["val_s"])):
            keep_best(times, {name: took, f"{name} starts": 0.0, f"{name} goes on": took})

    make_folder(folder)
    return times, train(config, loaded.splits, loaded.task.classes, folder, on_epoch=keep)


def our_evaluation(config: Config, loaded: Loaded, model: torch.nn.Module) -> float:
    """Seconds from features in memory to the ten numbers, over the test clips."""
    split = loaded.splits["test"]
    return timed(lambda: scores(predict(model, split, precision=config.precision), split, config))


def step_s(times: Times, clips: int) -> float:
    return times["training goes on"] / -(-clips // official.BATCH)


def llp_epoch_s(times: Times, given: argparse.Namespace) -> float:
    """By proportion: 10,000 clips and then 649."""
    stages = ((LLP_TRAIN / given.train, "training"), (LLP_VAL / given.val, "validation"))
    return sum(times[f"{stage} starts"] + share * times[f"{stage} goes on"] for share, stage in stages)


def compare(made: Made, loaded: Loaded, folder: Path, given: argparse.Namespace, threads: int) -> None:
    """A table: what an epoch takes, and what an evaluation takes."""
    torch.set_num_threads(threads)
    theirs: dict[int, Times] = {workers: {} for workers in given.workers}
    ours: dict[str, Times] = {precision: {} for precision in given.precisions}
    models: dict[str, Trained] = {}
    # a process of its own: our side tells its process how to keep memory and how to multiply
    with ProcessPoolExecutor(1, get_context("spawn"), in_its_process, (threads,)) as published:
        for turn in range(given.repeats):
            for workers, times in theirs.items():
                keep_best(times, published.submit(published_epoch, made, workers).result())
            for precision, times in ours.items():
                found, models[precision] = our_epoch(
                    our_config(precision), loaded, folder / f"{threads}-{precision}-{turn}"
                )
                keep_best(times, found)
        last = published.submit(published_evaluation, made, "test", official.EVALUATION_WORKERS).result()
    print(f"\nthreads: {threads}; {given.train} clips, then {given.val} for validation; seconds")
    print(f"{'loop':30}{'training':>10}{'ms a step':>10}{'only loading':>14}{'validation':>12}{'epoch of LLP':>14}")
    for workers, times in theirs.items():
        row(f"published, {workers} workers", times, given)
    for precision, times in ours.items():
        row(f"ours, {precision}", times, given)
        for workers, other in theirs.items():
            print(
                f"  {'times as fast as with':>24} {workers:2} workers:  "
                f"a step {step_s(other, given.train) / step_s(times, given.train):.2f}, "
                f"epoch of LLP {llp_epoch_s(other, given) / llp_epoch_s(times, given):.2f}"
            )
    evaluated = last["validation"]
    said = [f"evaluation of {given.test} clips: published, 1 worker {evaluated:.2f}"]
    for precision, trained in models.items():
        best = min(our_evaluation(our_config(precision), loaded, trained.model) for _ in range(1 + given.repeats))
        said.append(f"ours in {precision} {best:.3f}, {evaluated / best:.0f} times as fast")
    print("; ".join(said), flush=True)


def row(name: str, times: Times, given: argparse.Namespace) -> None:
    loading = f"{times['loading']:14.2f}" if "loading" in times else f"{'':14}"
    print(
        f"{name:30}{times['training']:10.2f}{step_s(times, given.train) * 1e3:10.1f}{loading}{times['validation']:12.3f}"
        f"{llp_epoch_s(times, given):14.1f}"
    )


def check_equal(made: Made, loaded: Loaded, clips: int) -> None:
    """Both networks with one set of random weights, which find about half of everything, and both scores."""
    config, split = our_config("float32"), loaded.splits["test"].part(np.arange(clips))
    model, network = build(config, len(LABELS), loaded.dims).eval(), official.Network()
    told = network.load_state_dict(model.state_dict(), strict=False)
    assert set(told.missing_keys) == UNUSED, told
    assert not told.unexpected_keys, told
    items = made.items["test"][:clips]
    network.eval()
    worst = 0.0
    with torch.inference_mode():
        for number, sample in enumerate(official.evaluation_loader(made.files, items, 0)):
            theirs = network(sample["audio"], sample["visual"], sample["clip"])
            said = model(**{slot: data[number : number + 1] for slot, data in split.features.items()})
            for one, other in zip(theirs, (*pool(said), said.frame), strict=True):
                worst = max(worst, float((one - other).abs().max()))
    each = official.evaluate(network, official.evaluation_loader(made.files, items, 0), items, made.events)
    parse = parsed(predict(model, split), config)
    assert split.truth is not None
    ours = np.stack(clip_scores(parse, split.truth), axis=1)
    total = scores(predict(model, split), split, config)
    apart = max(abs(value - total[name]) for name, value in official.means(each).items())
    share = (parse.audio.mean() + parse.visual.mean()) / 2
    print(
        f"\nequal weights, {clips} clips, {share:.0%} of all cells found: probabilities differ by at most {worst:.1e}, "
        f"F of a clip by {np.abs(each - ours).max():.1e}, the ten scores by {apart:.1e}"
    )
    if worst > 1e-5 or apart > 1e-9:
        raise SystemExit("THE TWO SIDES DIFFER")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, help="where scratch files go, 1.4 MB a clip (default: the temporary folder)"
    )
    parser.add_argument("--train", type=int, default=320, help="clips of an epoch; LLP has 10,000")
    parser.add_argument("--val", type=int, default=64, help="clips for validation; LLP has 649")
    parser.add_argument("--test", type=int, default=1200, help="clips to evaluate; LLP has 1,200")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 2, official.TRAIN_WORKERS])
    parser.add_argument("--precisions", nargs="*", default=["float32", "bfloat16"])
    given = parser.parse_args(arguments)
    with scratch(given.folder) as folder:
        made = make(folder, {"train": given.train, "val": given.val, "test": given.test})
        config = our_config("float32")
        loading = min(timed(lambda: load(config, made.store, SPLITS)) for _ in range(2))
        loaded = load(config, made.store, SPLITS)
        total = given.train + given.val + given.test
        size = total * sum(int(np.prod(shape)) for shape in FEATURES.values()) * 4
        print(f"torch {torch.__version__}, {os.cpu_count()} cores; best of {given.repeats} turns; page cache warm")
        print(
            f"reading a store of {total} clips ({size / 1e9:.2f} GB) and taking means: {loading:.2f} s, once in a run"
        )
        for threads in given.threads:
            compare(made, loaded, folder / "runs", given, threads)
        check_equal(made, loaded, min(given.test, 200))


if __name__ == "__main__":
    main()
