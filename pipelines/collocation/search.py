"""A search from store to report: methods, one after the other, in one folder."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from extract.errors import PlanError, StoreError, nearest
from extract.store.merge import sweep_tmp
from extract.store.runs import Lock
from pipelines.collocation.clips.shared import Shared, share
from pipelines.collocation.collocations import Collocation, every
from pipelines.collocation.methods.by_transfer import rank_by_transfer
from pipelines.collocation.methods.decoupled import decouple
from pipelines.collocation.methods.halving import halve
from pipelines.collocation.methods.traverse import traverse
from pipelines.collocation.recall.streams import diagnose
from pipelines.collocation.training.trainer import LaneTrainer, Means, OnRow, Stopped
from pipelines.parsing import run_folder
from pipelines.parsing.config import Config
from pipelines.parsing.evaluate import headline
from pipelines.parsing.run import LOCK, in_json

SEARCH = "collocate.json"
RESULT = "result.json"
BUDGET = 1 / 12
METHODS = ("traverse", "decoupled", "halving", "transfer")
GRID: Mapping[str, Sequence[str]] = {"lr": ("1e-4", "3e-4", "1e-3")}
"""What the decoupled method tries for an incumbent, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be searched, and how.

    Parameters
    ----------
    store
        folder of the features
    out
        folder of the search; given again, it goes on
    names
        keys or backbones by slot
    config
        of every training; its features and seed do not count
    methods
        some of `METHODS`, in the order in which to do them
    seeds
        of the trainings
    grid
        settings that the decoupled method tries, see :func:`pipelines.collocation.methods.decoupled.decouple`
    start
        where it starts; empty: at the first collocation
    train_classes
        also traverse with the first so many classes in training clips (Fig. 6 of the paper)
    by
        what transfer ranks by; empty: see :func:`pipelines.collocation.methods.by_transfer.rank_by_transfer`
    confidence
        of all intervals
    budget
        the share of a traversal's epochs that halving may train
    diagnostics
        after traversal, measure how alike the streams of a pair are (Table 1), and ``cos ψ₁`` of what was fused
    """

    store: Path
    out: Path
    names: Mapping[str, tuple[str, ...]]
    config: Config
    methods: tuple[str, ...] = ("halving",)
    seeds: tuple[int, ...] = (0, 1, 2)
    grid: Mapping[str, Sequence[str]] = field(default_factory=lambda: GRID)
    start: str = ""
    train_classes: tuple[int, ...] = ()
    by: str = ""
    confidence: float = 0.95
    budget: float = BUDGET
    diagnostics: bool = True


def search(
    asked: Asked,
    means: Means,
    *,
    on_row: OnRow = lambda row: None,
    on_result: Callable[[Mapping[str, Any]], None] = lambda result: None,
) -> dict[str, dict[str, Any]]:
    """Search with each method; what the folder holds is not done again.

    Parameters
    ----------
    asked
        what
    means
        lanes and devices
    on_row
        told every row of a finished job
    on_result
        told the result of each method

    Returns
    -------
    dict
        results by method, see ``result.json``

    Raises
    ------
    PlanError
        the folder holds another search, a setting does not fit, or nothing is left to compare
    StoreError
        a method needs labels with times of val, and there are none
    StoreBusy
        another process is at this search
    Stopped
        the user asked for it; the same call goes on
    """
    for method in asked.methods:
        if method not in METHODS:
            raise nearest(method, list(METHODS), "method")
    _check_config(asked.config)
    _own(asked.out)
    with Lock(asked.out):
        sweep_tmp(asked.out)
        shared = share(asked.store, asked.names, asked.config.task, asked.out, classes=asked.config.classes)
        _claim(asked, shared, means)
        _check_labels(asked, shared)
        collocations = every(shared.slots)
        found: dict[str, dict[str, Any]] = {}
        for method in asked.methods:
            for classes in _classes(asked, shared, method):
                name = method if classes == len(shared.classes) else f"{method}-{classes}"
                found[name] = _one(asked, shared, means, collocations, method, name, classes, on_row)
                on_result(found[name])
    return found


def _check_config(config: Config) -> None:
    """Refuse settings of one network's training that a search decides for itself."""
    for name, unset in (("init", ""), ("select", "val"), ("patience", 0)):
        if getattr(config, name) != unset:
            raise PlanError(
                f"--{name} {getattr(config, name)} is for `extract parse train`; a search begins with random weights, trains as "
                "long as its method says, and chooses on val"
            )


def _classes(asked: Asked, shared: Shared, method: str) -> list[int]:
    """How many classes to keep, the whole vocabulary first."""
    everything = len(shared.classes)
    for count in asked.train_classes:
        if not 1 <= count <= everything:
            raise PlanError(f"--train-classes {count}: there are {everything} classes; keep 1 to {everything} of them")
    fewer = [count for count in asked.train_classes if count != everything] if method == "traverse" else []
    return [everything, *fewer]


def _one(
    asked: Asked,
    shared: Shared,
    means: Means,
    collocations: Sequence[Collocation],
    method: str,
    name: str,
    classes: int,
    on_row: OnRow,
) -> dict[str, Any]:
    folder = asked.out / name
    run_folder.make_folder(folder)
    told: dict[str, Any] = {
        "task": asked.config.task, "metric": headline(asked.config), "seeds": list(asked.seeds),
        "epochs": asked.config.epochs, "train_classes": classes,
    }  # fmt: skip
    if method == "transfer":
        found = rank_by_transfer(asked.out, collocations, by=asked.by, seed=asked.seeds[0], stopping=means.stopping)
        if not found["finished"]:
            raise Stopped
    else:
        trainer = LaneTrainer(asked.out, folder, replace(asked.config, seed=0), shared.classes, classes, means, on_row)
        found = _trained(asked, trainer, collocations, method)
        found |= {"wall_s": trainer.wall_s, "work_s": trainer.work_s, "finished": True}
        found["notes"] = [*found.get("notes", []), *_lost(trainer.rows)]
        if method == "traverse" and classes == len(shared.classes) and asked.diagnostics:
            found["fused"] = diagnose(
                asked.out, trainer, collocations, asked.seeds[0], found["winner"], means.devices[0]
            )
        trainer.tidy()
    result = told | found
    run_folder.write_json(folder / RESULT, result)
    return result


def _trained(asked: Asked, trainer: LaneTrainer, collocations: Sequence[Collocation], method: str) -> dict[str, Any]:
    if method == "traverse":
        return traverse(trainer, collocations, asked.seeds, confidence=asked.confidence)
    if method == "halving":
        return halve(trainer, collocations, asked.seeds, confidence=asked.confidence, budget=asked.budget)
    start = None
    if asked.start:
        by_name = {each.name: each for each in collocations}
        if asked.start not in by_name:
            raise nearest(asked.start, list(by_name), "collocation to start at")
        start = by_name[asked.start]
    return decouple(trainer, collocations, asked.seeds, grid=asked.grid, start=start)


def _lost(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Trainings that went wrong."""
    lost = {(row["collocation"], row["seed"]): row["epoch"] for row in reversed(rows) if not np.isfinite(row["loss"])}
    return [
        f"the loss of {name} with seed {seed} is not finite from epoch {epoch} on: its score means nothing; lower --lr"
        for (name, seed), epoch in lost.items()
    ]


def _own(out: Path) -> None:
    """Make the folder, or see that it is one of ours."""
    run_folder.make_folder(out)
    names = {each.name for each in out.iterdir()} - {LOCK}
    begun = {SEARCH, "seconds"} & names
    if names and not begun and not all(name.startswith(".") for name in names):
        raise PlanError(f"{out} is not empty and holds no search; give another folder with -o")


def _claim(asked: Asked, shared: Shared, means: Means) -> None:
    path = asked.out / SEARCH
    config = in_json(replace(asked.config, seed=0, audio="", visual="", clip=""))
    if path.is_file():
        there = run_folder.read_json(path)
        for name, value in config.items():
            if there["config"].get(name) != value:
                raise PlanError(
                    f"{asked.out} holds a search with {name} {there['config'].get(name)!r}, and {value!r} is asked for; "
                    "give another folder with -o"
                )
    run_folder.write_json(
        path,
        {
            "task": asked.config.task,
            "store": shared.store,
            "metric": headline(asked.config),
            "slots": {slot: list(names) for slot, names in shared.slots.items()},
            "keys": dict(shared.keys),
            "infos": {name: dict(info) for name, info in shared.infos.items()},
            "config": config,
            "classes": list(shared.classes),
            "seeds": list(asked.seeds),
            "clips": {split: list(count) for split, count in shared.clips.items()},
            "flagged": dict(shared.flagged),
            "notes": list(shared.notes),
            "labels": shared.labels,
            "digest": shared.digest,
            "device": list(means.devices),
            "precision": asked.config.precision,
            "lanes": means.lanes,
            "at_once": means.at_once,
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": np.__version__,
                "threads": torch.get_num_threads(),
            },
        },
    )


def _check_labels(asked: Asked, shared: Shared) -> None:
    needing = [method for method in asked.methods if method != "transfer"]
    if needing and "val" not in shared.timed:
        raise StoreError(
            f"{', '.join(needing)}: ranks by scores on val, and {shared.store} has no labels with times for val; put them beside "
            "the manifest as <stem>.dense.csv (`extract manifest llp|ave` does) and run again, or use --method transfer"
        )


def read_search(out: Path) -> dict[str, Any]:
    """What ``collocate.json`` holds.

    Raises
    ------
    PlanError
        there is none
    """
    path = out / SEARCH
    if not path.is_file():
        raise PlanError(f"{path} is not there; is {out} the folder of a search of `extract collocate`?")
    told: dict[str, Any] = json.loads(json.dumps(run_folder.read_json(path)))
    return told
