"""An epoch of `extract parse train` against the published loop over the same clips: python benchmarks/parsing.py

The published loop is ``official_loop.py`` beside this file: a ``.npy`` file per clip and backbone read for every item, 80 x 2048
numbers through the first layer, batches of one and numpy for the scores. Ours reads a store once and goes on from memory. Both
make the same steps of 16 clips over the same clips with the same network and loss, and score the same validation clips after
each epoch; the page cache is warm. The two sides take turns and every time is the best of several. An epoch holds its
validation, whose share is that of LLP (649 clips after 10,000).

At the end both sides score clips with the same weights, and what they say must be equal.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from pipelines.parsing.config import Config, published
from pipelines.parsing.evaluate import parsed, predict, scores
from pipelines.parsing.loaded import Loaded, load
from pipelines.parsing.metrics import clip_scores
from pipelines.parsing.networks import build
from pipelines.parsing.outputs import pool
from pipelines.parsing.train import train

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
    made = Made(folder / "store", folder / "feats", {}, defaultdict(lambda: {"audio": [], "visual": []}))
    clips: list[Clip] = []
    for split, count in counts.items():
        made.items[split] = []
        for _ in range(count):
            name, labels = clip_name(len(clips)), tuple(draw.sample(LABELS, draw.choice((1, 1, 2, 2, 3))))
            made.items[split].append(Item(name, labels))
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


@contextmanager
def torch_as_it_comes() -> Iterator[None]:
    """Settings that our side makes for its process must neither hold the other side up nor help it."""
    strict, fp32 = torch.are_deterministic_algorithms_enabled(), torch.backends.mkldnn.matmul.fp32_precision
    torch.use_deterministic_algorithms(False)
    torch.backends.mkldnn.matmul.fp32_precision = "none"
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict)
        torch.backends.mkldnn.matmul.fp32_precision = fp32


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


Times = dict[str, float]
"""Seconds by name of the stage."""


def keep_best(best: Times, new: Times) -> None:
    for name, seconds in new.items():
        best[name] = min(best.get(name, seconds), seconds)


@dataclass(frozen=True)
class OfficialSide:
    """A network that goes on from epoch to epoch."""

    made: Made
    network: official.Network
    optimizer: torch.optim.Optimizer

    def loading(self, workers: int) -> Times:
        """The training clips through the loader, and nothing done with them."""
        loader = official.train_loader(self.made.files, self.made.items["train"], workers)
        return {"loading": timed(lambda: [None for _ in loader])}

    def epoch(self, workers: int) -> Times:
        """`workers` for training; for validation the published one, or none where there is none for training."""
        loader = official.train_loader(self.made.files, self.made.items["train"], workers)
        with torch_as_it_comes():
            trained = timed(lambda: official.train_epoch(self.network, self.optimizer, loader))
        return {"training": trained, "validation": self.evaluation("val", min(workers, 1))}

    def evaluation(self, split: str, workers: int) -> float:
        items = self.made.items[split]
        loader = official.evaluation_loader(self.made.files, items, workers)
        with torch_as_it_comes():
            return timed(lambda: official.evaluate(self.network, loader, items, self.made.events))


def our_config(precision: str) -> Config:
    settings = published("han", "weak") | {"epochs": EPOCHS_A_TURN, "precision": precision, "select": "val"}
    return Config(task="avvp", model="han", **SLOTS, **settings)


def our_epoch(config: Config, loaded: Loaded, folder: Path) -> Times:
    """The best epoch of a short run."""
    times: Times = {}

    def keep(row: Any) -> None:
        keep_best(times, {"training": row["train_s"], "validation": row["val_s"]})

    train(config, loaded.splits, len(loaded.task.classes), folder, on_epoch=keep)
    return times


def our_evaluation(config: Config, loaded: Loaded, model: torch.nn.Module) -> float:
    """Seconds from features in memory to the ten numbers, over the test clips."""
    split = loaded.splits["test"]
    return timed(lambda: scores(predict(model, split, precision=config.precision), split, config))


def step_s(times: Times, clips: int) -> float:
    return times["training"] / -(-clips // official.BATCH)


def whole(times: Times) -> float:
    return times["training"] + times["validation"]


def compare(made: Made, loaded: Loaded, folder: Path, given: argparse.Namespace) -> None:
    """One table per number of threads."""
    config = {precision: our_config(precision) for precision in given.precisions}
    clips = given.train
    for threads in given.threads:
        torch.set_num_threads(threads)
        network = official.Network()
        side = OfficialSide(made, network, official.optimiser(network))
        theirs: dict[int, Times] = {workers: {} for workers in given.workers}
        ours: dict[str, Times] = {precision: {} for precision in given.precisions}
        for turn in range(given.repeats):
            for workers, times in theirs.items():
                keep_best(times, side.epoch(workers) | side.loading(workers))
            for precision, times in ours.items():
                keep_best(times, our_epoch(config[precision], loaded, folder / f"{threads}-{precision}-{turn}"))
        print(
            f"\n{threads} thread{'s' if threads > 1 else ''}; {clips} clips, then {given.val} for validation; seconds"
        )
        print(f"{'loop':30}{'training':>10}{'ms a step':>10}{'only loading':>14}{'validation':>12}{'epoch':>8}")
        for workers, times in theirs.items():
            row(f"published, {workers} workers", times, clips)
        for precision, times in ours.items():
            row(f"ours, {precision}", times, clips)
            for workers, other in theirs.items():
                print(
                    f"  {'times as fast as with':>24} {workers:2} workers{'':3}"
                    f"training {other['training'] / times['training']:.2f}, "
                    f"validation {other['validation'] / times['validation']:.1f}, epoch {whole(other) / whole(times):.2f}"
                )
        evaluation(side, loaded, config, given)


def row(name: str, times: Times, clips: int) -> None:
    loading = f"{times['loading']:14.2f}" if "loading" in times else f"{'':14}"
    print(
        f"{name:30}{times['training']:10.2f}{step_s(times, clips) * 1e3:10.1f}{loading}{times['validation']:12.3f}"
        f"{whole(times):8.2f}"
    )


def evaluation(side: OfficialSide, loaded: Loaded, configs: dict[str, Config], given: argparse.Namespace) -> None:
    theirs = side.evaluation("test", official.EVALUATION_WORKERS)
    print(f"evaluation of {given.test} clips: published, 1 worker {theirs:.2f}", end="")
    for precision, config in configs.items():
        model = build(config, len(LABELS), loaded.dims)
        model.load_state_dict(side.network.state_dict(), strict=False)
        best = min(our_evaluation(config, loaded, model) for _ in range(1 + given.repeats))
        print(f"; ours in {precision} {best:.3f}, {theirs / best:.0f} times as fast", end="")
    print(flush=True)


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
        f"\nequal weights, {clips} clips: probabilities differ by at most {worst:.1e}, F of a clip by {np.abs(each - ours).max():.1e}, "
        f"the ten scores by {apart:.1e} (Type@AV of segments {total['segment_type']:.3f}; {share:.0%} of all cells found)"
    )
    if worst > 1e-5 or apart > 1e-9:
        raise SystemExit("THE TWO SIDES DIFFER")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, help="where scratch files go, 1.4 MB a clip (default: the temporary folder)"
    )
    parser.add_argument("--train", type=int, default=480, help="clips of an epoch; LLP has 10,000")
    parser.add_argument("--val", type=int, help="clips for validation (default: LLP's share, 649 of 10,000)")
    parser.add_argument("--test", type=int, default=1200, help="clips to evaluate; LLP has 1,200")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 2, official.TRAIN_WORKERS])
    parser.add_argument("--precisions", nargs="*", default=["float32", "bfloat16"])
    given = parser.parse_args(arguments)
    given.val = given.val or max(1, round(given.train * LLP_VAL / LLP_TRAIN))
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
        compare(made, loaded, folder / "runs", given)
        check_equal(made, loaded, min(given.test, 200))


if __name__ == "__main__":
    main()
