"""Collocations ranked without training, by what their features tell (eq. 7 and 8 of the paper, and stronger estimators)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import PlanError, nearest
from pipelines.collocation.clips.opened import open_splits
from pipelines.collocation.collocations import Collocation
from pipelines.collocation.methods.ranking import ranked, row
from pipelines.collocation.transfer.of_slots import of_slots
from pipelines.collocation.transfer.summary import Summary, summarise
from pipelines.parsing.data import Split

RANKS_BY = "logme_clips"
"""Of the estimators the one that found planted pairs most often (docs/results.md); it needs labels of clips only."""


def estimators(slots: Iterable[str], timed: bool) -> tuple[str, ...]:
    """What can be ranked by, with labels of seconds or without."""
    levels = ("clips", "seconds") if timed else ("clips",)
    supervised = [f"{kind}_{level}" for level in levels for kind in ("logme", "h_score", "logme_gain")]
    return (*(f"cos_psi_{slot}" for slot in slots), "cos_psi_concatenated", *supervised, "cka_seconds")


def rank_by_transfer(
    root: Path,
    collocations: Sequence[Collocation],
    *,
    by: str = "",
    seed: int = 0,
    stopping: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Rank by an estimator of transfer; all estimators are told.

    Parameters
    ----------
    root
        folder of the search
    collocations
        to rank
    by
        the estimator; empty: `RANKS_BY`
    seed
        of what is drawn
    stopping
        asked between backbones

    Returns
    -------
    dict
        what ``result.json`` holds

    Raises
    ------
    UnknownName
        there is no such estimator
    PlanError
        a feature has nothing to estimate from
    """
    start = time.monotonic()
    names = list(dict.fromkeys(name for each in collocations for name in each.slots.values()))
    splits = open_splits(root, names)
    summaries: dict[str, Summary] = {}
    took: dict[str, float] = {}
    for name in names:
        if stopping():
            return {"finished": False}
        begun = time.monotonic()
        summaries[name] = _summary(splits["train"], splits["val"], name, seed)
        took[name] = time.monotonic() - begun
    estimates, seconds = {}, {}
    for each in collocations:
        begun = time.monotonic()
        found = of_slots({slot: summaries[name] for slot, name in each.slots.items()})
        estimates[each.name] = {one.name: one.value for one in found}
        shared = sum(
            took[name] / sum(name in other.slots.values() for other in collocations) for name in each.slots.values()
        )
        seconds[each.name] = time.monotonic() - begun + shared
    known = estimates[collocations[0].name]
    chosen = by or RANKS_BY
    if chosen not in known:
        raise nearest(chosen, list(known), "estimator of transfer")
    order = sorted(collocations, key=lambda each: -estimates[each.name][chosen])
    rows = [
        row(each, [estimates[each.name][chosen]], wins=int(each is order[0]), epochs=0, seconds=seconds[each.name])
        for each in order
    ]
    wall_s = time.monotonic() - start
    return {
        "method": "transfer",
        "ranking": ranked(rows),
        "winner": order[0].name,
        "runner_up": order[1].name if len(order) > 1 else "",
        "settled": None,
        "verdict": f"{order[0].name} has the highest {chosen}; nothing was trained, so this is a guess",
        "difference": None,
        "wall_s": wall_s,
        "work_s": wall_s,
        "trained_epochs": 0,
        "by": chosen,
        "estimates": estimates,
        "finished": True,
        "notes": [],
    }


def _summary(train: Split, val: Split, name: str, seed: int) -> Summary:
    truth = None
    if val.truth is not None:
        truth = (val.truth.audio, val.truth.visual)
    elif val.event is not None:
        # the background, which comes last, is no class of its own here
        classes = np.arange(val.weak.shape[1] - 1)
        happens = val.event.numpy()[:, :, None] == classes
        truth = (happens, happens[:, :, :0])
    rows = [split.features[name].flatten(2).numpy() for split in (train, val)]
    if any(len(each) < 16 for each in rows):
        raise PlanError(
            f"transfer needs at least 16 clips in train and val; there are {len(rows[0])} and {len(rows[1])}"
        )
    return summarise(rows[0], rows[1], train.weak.numpy(), val.weak.numpy(), truth, seed=seed, what=name)
