"""A search from store to report: methods, one after the other, in one folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from extract.errors import PlanError
from extract.store.merge import sweep_tmp
from extract.store.runs import Lock
from pipelines.collocation.asked import Asked, check, check_settings, collocations_of
from pipelines.collocation.clips.shared import Shared, share
from pipelines.collocation.collocations import Collocation
from pipelines.collocation.folder import RESULT, claim, own
from pipelines.collocation.methods.by_transfer import rank_by_transfer
from pipelines.collocation.methods.decoupled import decouple
from pipelines.collocation.methods.halving import halve
from pipelines.collocation.methods.traverse import traverse
from pipelines.collocation.recall.streams import diagnose
from pipelines.collocation.training.trainer import LaneTrainer, Means, OnRow, Stopped
from pipelines.parsing import run_folder
from pipelines.parsing.evaluate import headline


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
    check_settings(asked)
    own(asked.out)
    with Lock(asked.out):
        sweep_tmp(asked.out)
        shared = share(asked.store, asked.names, asked.config.task, asked.out, classes=asked.config.classes)
        collocations = collocations_of(shared)
        start = check(asked, shared, collocations)
        claim(asked, shared, means)
        found: dict[str, dict[str, Any]] = {}
        for method in asked.methods:
            for classes in _classes(asked, shared, method):
                name = method if classes == len(shared.classes) else f"{method}-{classes}"
                found[name] = _one(asked, shared, means, collocations, method, name, classes, start, on_row)
                on_result(found[name])
    return found


def _classes(asked: Asked, shared: Shared, method: str) -> list[int]:
    """How many classes to keep, the whole vocabulary first."""
    everything = len(shared.classes)
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
    start: Collocation | None,
    on_row: OnRow,
) -> dict[str, Any]:
    folder = asked.out / name
    run_folder.make_folder(folder)
    sweep_tmp(folder)
    told: dict[str, Any] = {
        "task": asked.config.task, "metric": headline(asked.config), "seeds": list(asked.seeds),
        "epochs": asked.config.epochs, "train_classes": classes,
    }  # fmt: skip
    if method == "transfer":
        found = rank_by_transfer(asked.out, collocations, by=asked.by, seed=asked.seeds[0], stopping=means.stopping)
        if not found["finished"]:
            raise Stopped
    else:
        # the same whatever features the configuration names, for jobs are found by it
        config = replace(asked.config, seed=0, audio="", visual="", clip="")
        trainer = LaneTrainer(asked.out, folder, config, shared.classes, classes, means, on_row)
        found = _trained(asked, trainer, collocations, method, start)
        found |= {"wall_s": trainer.wall_s, "work_s": trainer.work_s, "ran_on": list(trainer.ran_on), "finished": True}
        found["notes"] = [*found.get("notes", []), *_lost(trainer.rows)]
        if method == "traverse" and classes == len(shared.classes) and asked.diagnostics:
            # the lanes of a cluster may have GPUs that this machine has not
            device = means.devices[0] if means.engine == "local" else "cpu"
            try:
                found["fused"] = diagnose(asked.out, trainer, collocations, asked.seeds[0], found["winner"], device)
            except PlanError as error:
                found["notes"].append(f"Table 1 and cos psi of what was fused are missing: {error}")
        trainer.tidy()
    result = told | found
    run_folder.write_json(folder / RESULT, result)
    return result


def _trained(
    asked: Asked, trainer: LaneTrainer, collocations: Sequence[Collocation], method: str, start: Collocation | None
) -> dict[str, Any]:
    if method == "traverse":
        return traverse(trainer, collocations, asked.seeds, confidence=asked.confidence)
    if method == "halving":
        return halve(trainer, collocations, asked.seeds, confidence=asked.confidence, budget=asked.budget)
    return decouple(trainer, collocations, asked.seeds, grid=asked.grid, start=start, folds=asked.folds)


def _lost(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Trainings that went wrong."""
    lost = {(row["collocation"], row["seed"]): row["epoch"] for row in reversed(rows) if not np.isfinite(row["loss"])}
    return [
        f"the loss of {name} with seed {seed} is not finite from epoch {epoch} on, where it scores 0; lower --lr"
        for (name, seed), epoch in lost.items()
    ]
