"""A piece of a search that a lane does: some trials, from one epoch to another, in a folder of its own.

What is done is in ``done.json`` and ``clips.npz``; until then ``state.safetensors`` holds what going on needs, so that a
killed search loses a few minutes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extract.store.merge import sweep_tmp
from pipelines.collocation.clips.opened import fewer_classes, open_splits
from pipelines.collocation.collocations import Trial
from pipelines.collocation.training.curves import Fold, On
from pipelines.collocation.training.learners import Learners, make_learners, of_slots
from pipelines.parsing import run_folder
from pipelines.parsing.config import Config
from pipelines.parsing.data import Split
from pipelines.parsing.evaluate import Predicted, headline, parsed, predict, scores
from pipelines.parsing.metrics import clip_scores
from pipelines.parsing.weights import read_weights, save_weights

DONE = "done.json"
CLIPS = "clips.npz"
STATE = "state.safetensors"
BEST = "best.safetensors"
SAVE_EVERY_S = 120.0
# no trial's name has a slash, for no key of a store has one
_BEST, _CLIPS = "best/", "clips/"


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done.

    Parameters
    ----------
    root, folder
        of the search, and of this job
    trials
        at the same epoch, with equal slots
    start, until
        epochs that they have, and that they are to have
    on
        the clips to train on
    config
        all but seed and features
    classes
        names, the background included
    train_classes
        how many of them training clips keep
    fold
        of val, which is scored and not trained on
    sources
        folders of the jobs that ended where this one starts
    test
        score the best epoch on test, and keep its weights; only from epoch 0 on
    """

    root: Path
    folder: Path
    trials: tuple[Trial, ...]
    start: int
    until: int
    on: On
    config: Config
    classes: tuple[str, ...]
    train_classes: int
    fold: Fold | None = None
    sources: tuple[Path, ...] = ()
    test: bool = False

    @property
    def trained_on(self) -> str:
        """``train``, ``val``, or ``val without fold 1 of 2``."""
        return self.on if self.fold is None else f"{self.on} without fold {self.fold[0] + 1} of {self.fold[1]}"


@dataclass(frozen=True, slots=True, eq=False)
class Done:
    """What came out, in the order of the job's trials.

    Parameters
    ----------
    rows
        of each: a row per epoch from `Job.start` on
    clips
        (N,) of each: the headline score of each val clip after the last epoch; of the best one where test was asked for
    test
        of each: all scores on test; none of a parser that diverged before it was any good
    """

    rows: tuple[tuple[Mapping[str, Any], ...], ...]
    clips: tuple[NDArray[Any], ...]
    test: tuple[Mapping[str, float], ...]


@dataclass(slots=True)
class _Progress:
    """How far a job is; what is best so far is by trial."""

    done: int
    rows: list[list[dict[str, Any]]]
    clips: list[NDArray[Any]]
    best: list[float]
    weights: list[dict[str, Tensor]] = field(default_factory=list)


def advance(job: Job, device: str, stopping: Callable[[], bool]) -> Done | None:
    """Do a job, or find it done; None: it was stopped, and goes on when it is given again."""
    if (job.folder / DONE).is_file():
        return read_done(job.folder)
    run_folder.make_folder(job.folder)
    sweep_tmp(job.folder)
    splits = _splits(job, device)
    train, val = splits[job.on], splits["val"]
    if job.fold is not None:
        train, val = _folded(val, job.fold)
    learners = make_learners(job.trials, job.config, train, val, job.classes, job.folder)
    progress = _begun(job, learners)
    saved_at = time.monotonic()
    while progress.done < job.until:
        _one_epoch(job, learners, val, progress)
        if stopping():
            _save(job, learners, progress)
            return None
        if time.monotonic() - saved_at >= SAVE_EVERY_S:
            _save(job, learners, progress)
            saved_at = time.monotonic()
    return _finish(job, learners, val, splits["test"], progress)


def read_done(folder: Path) -> Done:
    """What a finished job left."""
    told = run_folder.read_json(folder / DONE)
    with np.load(folder / CLIPS) as arrays:
        clips = tuple(arrays[str(number)] for number in range(len(told["rows"])))
    nan = math.nan
    rows = tuple(tuple({n: nan if v is None else v for n, v in row.items()} for row in each) for each in told["rows"])
    tests = tuple({n: nan if v is None else v for n, v in each.items()} for each in told["test"])
    return Done(rows, clips, tests)


def _folded(val: Split, fold: Fold) -> tuple[Split, Split]:
    """What is trained on, and what is scored."""
    number, count = fold
    held = np.arange(len(val)) % count == number
    return val.part(np.flatnonzero(~held)), val.part(np.flatnonzero(held))


def _splits(job: Job, device: str) -> dict[str, Split]:
    names = dict.fromkeys(name for trial in job.trials for name in trial.collocation.slots.values())
    splits = open_splits(job.root, list(names))
    if job.on == "train" and job.train_classes < splits["train"].weak.shape[1]:
        splits["train"] = fewer_classes(splits["train"], job.train_classes)
    return {name: split.to(device) for name, split in splits.items()}


def _one_epoch(job: Job, learners: Learners, val: Split, progress: _Progress) -> None:
    epoch, count = progress.done, len(job.trials)
    start = time.monotonic()
    losses = learners.epoch(epoch)
    trained_s = time.monotonic() - start
    start = time.monotonic()
    # trained on val, an epoch must not be chosen by the labels it is scored with: only the last is
    if job.on == "train" or epoch == job.config.epochs - 1:
        for number, found in enumerate(learners.predict(val)):
            progress.clips[number] = clip_headlines(found, val, job.config)
            if not found.finite:
                # its loss may be finite still, where the last step went wrong
                losses[number]["loss"] = math.nan
        value = [float(clips.mean()) for clips in progress.clips]
    else:
        value = [math.nan] * count
    if job.test:
        _keep_best(job, learners, progress, value)
    scored_s = time.monotonic() - start
    for number, loss in enumerate(losses):
        progress.rows[number].append(
            {
                "epoch": epoch,
                **loss,
                f"val_{headline(job.config)}": value[number],
                "train_s": round(trained_s / count, 5),
                "val_s": round(scored_s / count, 5),
            }
        )
    progress.done += 1


def _keep_best(job: Job, learners: Learners, progress: _Progress, value: Sequence[float]) -> None:
    for number, trial in enumerate(job.trials):
        # of equals, the later one, as the official loop
        if value[number] >= progress.best[number]:
            progress.best[number] = value[number]
            progress.weights[number] = {name: each.cpu() for name, each in learners.weights(trial).items()}


def _finish(job: Job, learners: Learners, val: Split, test: Split, progress: _Progress) -> Done:
    test_scores: list[dict[str, float]] = [{} for _ in job.trials]
    if job.test:
        for number, trial in enumerate(job.trials):
            network = learners.network(trial, progress.weights[number])
            if test.truth is not None or test.event is not None:
                own = of_slots(test, trial)
                found = predict(network, own, precision=job.config.precision)
                test_scores[number] = scores(found, own, job.config) if found.finite else {}
            own = of_slots(val, trial)
            found = predict(network, own, precision=job.config.precision)
            progress.clips[number] = clip_headlines(found, own, job.config)
        save_weights(job.folder / BEST, dict(_named(job.trials, progress.weights)), {})
    if job.until < job.config.epochs:
        _save(job, learners, progress)
    run_folder.write_arrays(job.folder / CLIPS, {str(number): each for number, each in enumerate(progress.clips)})
    run_folder.write_json(job.folder / DONE, {"rows": progress.rows, "test": test_scores})
    if job.until == job.config.epochs:
        (job.folder / STATE).unlink(missing_ok=True)
    return Done(tuple(map(tuple, progress.rows)), tuple(progress.clips), tuple(test_scores))


def clip_headlines(found: Predicted, split: Split, config: Config) -> NDArray[Any]:
    """(N,) percent: the score of each clip whose mean is the headline score; 0 of a parser that diverged."""
    if not found.finite:
        return np.zeros(len(found.ids))
    if found.score is not None:
        assert split.event is not None
        hits: NDArray[Any] = 100.0 * (found.score.argmax(axis=2) == split.event.cpu().numpy()).mean(axis=1)
        return hits
    assert split.truth is not None
    each: NDArray[Any] = 100 * clip_scores(parsed(found, config), split.truth).segment[:, :3].mean(axis=1)
    return each


def _named(trials: Iterable[Trial], weights: Iterable[Mapping[str, Tensor]]) -> Iterable[tuple[str, Tensor]]:
    for trial, each in zip(trials, weights, strict=True):
        yield from ((f"{trial.name}/{name}", tensor) for name, tensor in each.items())


def best_weights(folder: Path, trial: Trial) -> dict[str, Tensor]:
    """The weights of a trial's best epoch, from a job that scored test."""
    return _own(read_weights(folder / BEST)[0], trial)


def _own(tensors: Mapping[str, Tensor], trial: Trial) -> dict[str, Tensor]:
    start = f"{trial.name}/"
    return {name.removeprefix(start): each for name, each in tensors.items() if name.startswith(start)}


def _save(job: Job, learners: Learners, progress: _Progress) -> None:
    best = {f"{_BEST}{name}": each for name, each in _named(job.trials, progress.weights)} if job.test else {}
    clips = {f"{_CLIPS}{number}": torch.from_numpy(each) for number, each in enumerate(progress.clips)}
    told = {"done": progress.done, "rows": progress.rows, "best": progress.best}
    save_weights(job.folder / STATE, learners.tensors() | best | clips, told)


def _begun(job: Job, learners: Learners) -> _Progress:
    count = len(job.trials)
    if (job.folder / STATE).is_file():
        tensors, told = read_weights(job.folder / STATE)
        rest = {name: each for name, each in tensors.items() if not name.startswith((_BEST, _CLIPS))}
        learners.restore(rest)
        clips = [tensors[f"{_CLIPS}{number}"].numpy() for number in range(count)]
        held = {name.removeprefix(_BEST): each for name, each in tensors.items() if name.startswith(_BEST)}
        weights = [_own(held, trial) for trial in job.trials]
        return _Progress(told["done"], told["rows"], clips, told["best"], weights)
    if job.start:
        learners.restore(_gathered(job))
    nothing: list[dict[str, Tensor]] = [{} for _ in range(count)]
    return _Progress(job.start, [[] for _ in range(count)], [np.zeros(0)] * count, [-math.inf] * count, nothing)


def _gathered(job: Job) -> dict[str, Tensor]:
    """What these trials were when earlier jobs ended, in whatever company they were then."""
    found: dict[str, Tensor] = {}
    for folder in dict.fromkeys(job.sources):
        tensors, _ = read_weights(folder / STATE)
        for trial in job.trials:
            found |= {name: each for name, each in tensors.items() if _is_of(name, trial) or name == "step"}
    return found


def _is_of(name: str, trial: Trial) -> bool:
    """Whether a tensor that going on needs is of a trial: ``TRIAL/...``, or ``weight.TRIAL.`` and so on in a stack."""
    return name.startswith(f"{trial.name}/") or name.partition(".")[2].startswith(f"{trial.name}.")
