"""Every collocation trained in full: eq. 5 and 6 of Wu et al., "MTSM and collocation" (Information Sciences, 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.collocation.certainty.statistics import race, verdict, wins
from pipelines.collocation.collocations import Collocation, Trial
from pipelines.collocation.methods.ranking import ranked, row
from pipelines.collocation.training.curves import Trainer


def traverse(
    trainer: Trainer, collocations: Sequence[Collocation], seeds: Sequence[int], *, confidence: float = 0.95
) -> dict[str, Any]:
    """Train all collocations with all seeds; val chooses the epoch and ranks, test is reported.

    Parameters
    ----------
    trainer
        of the search
    collocations, seeds
        what to train
    confidence
        of the intervals between the winner and each other one

    Returns
    -------
    dict
        what ``result.json`` holds, without the seconds on the wall
    """
    curves = trainer.train([Trial(each, seed) for seed in seeds for each in collocations], trainer.epochs, test=True)
    by_name = {each.name: [curves[Trial(each, seed)] for seed in seeds] for each in collocations}
    scores = {name: [curve.best for curve in some] for name, some in by_name.items()}
    clips = {name: np.stack([curve.clips for curve in some]) for name, some in by_name.items()}
    found = race(scores, clips, confidence=confidence)
    best = wins(scores)
    order = sorted(collocations, key=lambda each: -float(np.mean(scores[each.name])))
    rows = [
        row(
            each,
            scores[each.name],
            tests=[curve.test for curve in by_name[each.name] if curve.test],
            wins=best[each.name],
            epochs=sum(len(curve.val) for curve in by_name[each.name]),
            seconds=sum(curve.work_s for curve in by_name[each.name]),
        )
        for each in order
    ]
    return {
        "method": "traverse",
        "ranking": ranked(rows),
        "winner": found.leader,
        "runner_up": next(iter(found.behind), ""),
        "settled": found.settled,
        "verdict": verdict(found),
        "difference": next((each.as_dict() for each in found.behind.values()), None),
        "trained_epochs": len(curves) * trainer.epochs,
        "notes": [],
    }
