"""Training: epochs, the choice of one, and a run that goes on where it stopped.

Everything random is a function of the seed and the epoch, so a run that was killed and went on gives the bits of one that
was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from extract.errors import Diverged
from pipelines.parsing import log, run_folder
from pipelines.parsing.config import Config
from pipelines.parsing.cpu import quick
from pipelines.parsing.data import Split
from pipelines.parsing.evaluate import autocast, check_labels, headline, predict, scores
from pipelines.parsing.learning.objective import Objective, make_objective
from pipelines.parsing.networks import build
from pipelines.parsing.weights import (
    begin_with,
    copy_of,
    load_into,
    read_weights,
    restore,
    resume_tensors,
    save_weights,
)

SAVE_EVERY_S = 30.0


@dataclass(slots=True)
class Progress:
    """How far a run is: epochs done, the best of them, its weights and score, and what it began with."""

    done: int = 0
    best_epoch: int = -1
    best: float = -math.inf
    weights: dict[str, Tensor] = field(default_factory=dict)
    begun: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A network with the weights of the chosen epoch; `begun` says what it began with, where that was not random."""

    model: nn.Module
    epoch: int
    epochs: int
    finished: bool
    begun: str = ""


def train(
    config: Config,
    splits: Mapping[str, Split],
    classes: Sequence[str],
    folder: Path,
    *,
    device: str = "cpu",
    save_every_s: float = SAVE_EVERY_S,
    on_epoch: Callable[[Mapping[str, Any]], None] = lambda row: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train in `folder`, or go on there.

    Parameters
    ----------
    config
        of the run; the folder's must be the same
    splits
        ``train``, and the one that chooses the epoch
    classes
        their names, the background included
    folder
        see :mod:`pipelines.parsing.run_folder`
    device
        ``cpu``, ``cuda``
    save_every_s
        seconds of work that a kill may cost
    on_epoch
        is given each row of the log
    stopping
        asked after every epoch; True: save and return

    Raises
    ------
    StoreError
        the split that chooses has no labels with times
    Diverged
        the loss is not finite any more
    StoreUnwritable
        the folder cannot be written
    """
    if config.select != "last":
        check_labels(splits[config.select])
    splits = {name: split.to(device) for name, split in splits.items()}
    with quick(device):
        return _train(config, splits, classes, folder, device, save_every_s, on_epoch, stopping)


def _train(
    config: Config,
    splits: Mapping[str, Split],
    classes: Sequence[str],
    folder: Path,
    device: str,
    save_every_s: float,
    on_epoch: Callable[[Mapping[str, Any]], None],
    stopping: Callable[[], bool],
) -> Trained:
    objective = make_objective(config, splits, classes, folder)
    model = build(config, len(classes), splits["train"].dims)
    begun = begin_with(model, Path(config.init)) if config.init and not (folder / run_folder.RESUME).is_file() else ""
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)
    told = log.Log(folder)
    progress = _resumed(model, optimizer, folder) or Progress(begun=begun)
    told.keep(progress.done)
    saved_at = time.monotonic()
    stopped = False
    while not stopped and not _over(config, progress):
        row = one_epoch(config, objective, model, optimizer, progress.done)
        row |= _judged(config, model, splits, progress)
        told.add(row)
        on_epoch(row)
        progress.done += 1
        stopped = stopping()
        if stopped or _over(config, progress) or time.monotonic() - saved_at >= save_every_s:
            _save(folder, model, optimizer, progress, config)
            saved_at = time.monotonic()
    told.close()
    load_into(model, progress.weights, folder / run_folder.BEST)
    return Trained(model, progress.best_epoch, progress.done, _over(config, progress), progress.begun)


def _over(config: Config, progress: Progress) -> bool:
    """Whether all epochs are done, or too many without a better one."""
    waited = progress.done - 1 - progress.best_epoch
    return progress.done == config.epochs or bool(config.patience and waited >= config.patience)


def rate(config: Config, epoch: int) -> float:
    """Adam's rate in an epoch."""
    return config.lr * config.gamma ** sum(epoch >= milestone for milestone in config.milestones)


def shuffled(config: Config, clips: int, epoch: int) -> Iterator[Tensor]:
    """The numbers of the clips of each step of an epoch; the last step may hold fewer."""
    generator = torch.Generator().manual_seed(epoch_seed(config.seed, epoch))
    yield from torch.split(torch.randperm(clips, generator=generator), config.batch)


def epoch_seed(seed: int, epoch: int) -> int:
    """What everything random of an epoch comes from."""
    return (seed * 1_000_003 + epoch) % 2**63


def one_epoch(
    config: Config, objective: Objective, model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int
) -> dict[str, Any]:
    """Train on every clip once.

    Returns
    -------
    dict
        a row of the log: ``loss`` and its parts as means over the clips, and seconds

    Raises
    ------
    Diverged
        the loss is not finite
    """
    start = time.monotonic()
    model.train()
    torch.manual_seed(epoch_seed(config.seed, epoch))
    for group in optimizer.param_groups:
        group["lr"] = rate(config, epoch)
    device = str(objective.train.weak.device)
    steps = math.ceil(len(objective.train) / config.batch)
    sums: dict[str, Tensor] = {}
    for step, rows in enumerate(shuffled(config, len(objective.train), epoch)):
        with autocast(device, config.precision):
            parts = objective.parts(model, rows.to(device), epoch, epoch + step / steps)
        loss = torch.stack([part.float() for part in parts.values()]).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        for name, part in {"loss": loss, **parts}.items():
            sums[name] = sums.get(name, 0) + part.detach().float() * (len(rows) / len(objective.train))
    row: dict[str, Any] = {"epoch": epoch, "kind": objective.kind(epoch), "lr": rate(config, epoch)}
    row |= {name if name == "loss" else f"loss_{name}": float(value) for name, value in sums.items()}
    if not math.isfinite(row["loss"]):
        raise Diverged(
            f"the loss is {row['loss']} in epoch {epoch}: lower --lr (it is {config.lr}), or use --precision float32"
        )
    row["train_s"] = round(time.monotonic() - start, 4)
    return row


def _judged(config: Config, model: nn.Module, splits: Mapping[str, Split], progress: Progress) -> dict[str, Any]:
    """The scores of the split that chooses; the best weights are kept."""
    if config.select == "last":
        progress.best_epoch, progress.weights = progress.done, copy_of(model)
        return {}
    start = time.monotonic()
    split = splits[config.select]
    found = scores(predict(model, split, precision=config.precision), split, config)
    value = found[headline(config)]
    # as the official loop: of equals, the later one
    if value >= progress.best:
        progress.best, progress.best_epoch, progress.weights = value, progress.done, copy_of(model)
    took = round(time.monotonic() - start, 4)
    return {f"{config.select}_{name}": value for name, value in found.items()} | {f"{config.select}_s": took}


def _save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, config: Config) -> None:
    state = {"config": config.digest(), "done": progress.done, "best_epoch": progress.best_epoch, "best": progress.best}
    state["begun"] = progress.begun
    # one file holds all that going on needs, so that a kill between the two leaves nothing that does not fit
    best = {f"best.{name}": tensor for name, tensor in progress.weights.items()}
    save_weights(folder / run_folder.RESUME, resume_tensors(model, optimizer) | best, state)
    save_weights(folder / run_folder.BEST, progress.weights, {"config": config.digest(), "epoch": progress.best_epoch})


def _resumed(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> Progress | None:
    path = folder / run_folder.RESUME
    if not path.is_file():
        return None
    tensors, told = read_weights(path)
    restore(model, optimizer, tensors, path)
    weights = {name[5:]: tensor for name, tensor in tensors.items() if name.startswith("best.")}
    return Progress(told["done"], told["best_epoch"], told["best"], weights, told["begun"])
