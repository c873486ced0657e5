"""The decoupled search: settings are searched for one collocation at a time, and collocations are compared on few clips.

Wu et al., "Toward a perceptive pretraining framework for Audio-Visual Video Parsing", Information Sciences, 2022, section
3.3.3, Algorithm 1. Its "train models ... on the validation set" is read as: train on the clips of val with their labels of
clips, and score on their labels of seconds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from extract.errors import PlanError, nearest
from pipelines.collocation.certainty.statistics import race, verdict, wins
from pipelines.collocation.collocations import Collocation, Trial
from pipelines.collocation.methods.ranking import ranked, row
from pipelines.collocation.training.curves import Curve, On, Trainer

Settings = Mapping[str, str]
_Known = dict[tuple[Trial, On, str], Curve]


@dataclass(slots=True)
class _Search:
    """What does not change on the way, and all that was trained."""

    trainer: Trainer
    by_name: Mapping[str, Collocation]
    seeds: Sequence[int]
    points: Sequence[Settings]
    folds: int
    known: _Known = field(default_factory=dict)

    def train(self, trials: Sequence[Trial], on: On, settings: Settings) -> dict[Trial, Curve]:
        found = self.trainer.train(trials, self.trainer.epochs, on=on, settings=settings, test=on == "train")
        self.known |= {(trial, on, label(settings)): curve for trial, curve in found.items()}
        return found

    def optimise(self, incumbent: Collocation) -> dict[str, Curve]:
        """Its curve with each point of the grid, by label, trained on the training clips with the first seed."""
        trial = Trial(incumbent, self.seeds[0])
        return {label(point): self.train([trial], "train", point)[trial] for point in self.points}

    def compare(self, settings: Settings) -> dict[str, list[Curve]]:
        """All collocations' curves per seed, trained on the clips of val."""
        trials = [Trial(each, seed) for each in self.by_name.values() for seed in self.seeds]
        found = self.train(trials, "val", settings) if self.folds == 1 else self.across(trials, settings)
        return {name: [found[Trial(each, seed)] for seed in self.seeds] for name, each in self.by_name.items()}

    def across(self, trials: Sequence[Trial], settings: Settings) -> dict[Trial, Curve]:
        """Curves in which every clip is scored by the parser that was not trained on it."""
        epochs = self.trainer.epochs
        folds = [
            self.trainer.train(trials, epochs, on="val", settings=settings, fold=(number, self.folds))
            for number in range(self.folds)
        ]
        found = {trial: _joined([each[trial] for each in folds]) for trial in trials}
        self.known |= {(trial, "val", label(settings)): curve for trial, curve in found.items()}
        return found

    def spent(self, collocation: Collocation) -> tuple[int, float]:
        """Epochs and seconds that it was trained in all; a fold's epochs count as others."""
        own = [(on, curve) for (trial, on, _), curve in self.known.items() if trial.collocation == collocation]
        epochs = sum(len(curve.val) * (self.folds if on == "val" else 1) for on, curve in own)
        return epochs, sum(curve.work_s for _, curve in own)


def _joined(folds: Sequence[Curve]) -> Curve:
    """The last epoch over all clips, in their order: fold k has every n-th from k on."""
    clips = np.empty(sum(len(each.clips) for each in folds))
    for number, each in enumerate(folds):
        clips[number :: len(folds)] = each.clips
    val = (*[math.nan] * (len(folds[0].val) - 1), float(clips.mean()))
    return Curve(val, clips, sum(each.work_s for each in folds))


def label(settings: Settings) -> str:
    """Such as ``lr=1e-4, batch=32``."""
    return ", ".join(f"{name}={value}" for name, value in settings.items()) or "as given"


def points(grid: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    """All settings of a grid; one that changes nothing where it is empty."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def decouple(
    trainer: Trainer,
    collocations: Sequence[Collocation],
    seeds: Sequence[int],
    *,
    grid: Mapping[str, Sequence[str]],
    start: Collocation | None = None,
    tolerance: float = 0.0,
    folds: int = 1,
) -> dict[str, Any]:
    """Go from collocation to collocation until none is better with the settings that the present one is best with.

    Parameters
    ----------
    trainer
        of full epochs throughout
    collocations, seeds
        each once
    grid
        values of settings, as text
    start
        default: the first of `collocations`
    tolerance
        percent by which another must be better to be moved to
    folds
        of val. 1: as in the paper, trained and scored on the same clips; more: each fold is scored by parsers that were
        trained on the others

    Returns
    -------
    dict
        ``result.json`` without ``task``, ``metric``, ``train_classes`` and ``wall_s``. Its ranking is the last comparison, the
        winner first; the winner has scores on test where the trainer tells them for its best settings (one seed, trained on the
        training clips)

    Raises
    ------
    PlanError
        nothing to choose from, something twice, or a negative tolerance
    UnknownName
        `start` is none of `collocations`

    Notes
    -----
    Settings: trained on the training clips with the first seed, the highest score on val over epochs; of equals the first.
    Collocations: the score after the last epoch, mean over seeds. The best epoch is not used there: with no other clips to
    choose it on, it would be chosen on the labels that it is then scored with.

    No collocation is visited twice. Where the best one was visited before, the search would go in a circle; it ends with that
    one, the best of all by the last comparison. Nothing is trained twice with the same settings.
    """
    _check(collocations, seeds, grid, start, tolerance, folds)
    search = _Search(trainer, {each.name: each for each in collocations}, seeds, list(points(grid)), folds)
    incumbent = (start or collocations[0]).name
    visited: list[str] = []
    path: list[dict[str, Any]] = []
    notes = [
        f"settings are searched with seed {seeds[0]} only",
        (
            "collocations are trained and scored on the same clips of val: other labels of them, not other clips"
            if folds == 1
            else f"collocations are trained on {_clips_of_val(folds)}, and scored on that"
        ),
    ]
    while True:
        visited.append(incumbent)
        tried = search.optimise(search.by_name[incumbent])
        chosen = max(tried, key=lambda name: tried[name].best)
        settings = search.points[list(tried).index(chosen)]
        curves = search.compare(settings)
        scores = {name: float(np.mean([each.last for each in some])) for name, some in curves.items()}
        best = max(scores, key=lambda name: scores[name])
        path.append(
            {
                "incumbent": incumbent,
                "settings": dict(settings),
                "tried": {name: curve.best for name, curve in tried.items()},
                "score": scores[incumbent],
                "best": best,
                "best_score": scores[best],
            }
        )
        if not scores[best] > scores[incumbent] + tolerance:
            break
        if best in visited:
            notes.append(
                f"a cycle: with the best settings of {incumbent}, {best} is better, which was visited before; "
                f"{best} is taken, the best of {', '.join(visited)} with the settings of {incumbent}"
            )
            incumbent = best
            break
        incumbent = best
    if best != incumbent:
        notes.append(f"{best} is better than the winner, but not by more than the tolerance of {tolerance:g}")
    return _result(search, incumbent, settings, curves, {"path": path, "notes": notes})


def _check(
    collocations: Sequence[Collocation],
    seeds: Sequence[int],
    grid: Mapping[str, Sequence[str]],
    start: Collocation | None,
    tolerance: float,
    folds: int,
) -> None:
    if folds < 1:
        raise PlanError(f"folds {folds}: give 1, as the paper, or more")
    names = [each.name for each in collocations]
    if len(names) < 2 or not seeds:
        raise PlanError(f"{len(names)} collocations and {len(seeds)} seeds; a search needs at least 2 and 1")
    if len(set(names)) < len(names) or len(set(seeds)) < len(seeds):
        raise PlanError("a collocation or a seed is given twice; give each once")
    for name, values in grid.items():
        if not values or len(set(values)) < len(values):
            raise PlanError(f"the grid has {list(values)} for {name}; give at least one value, each once")
    if not tolerance >= 0:
        raise PlanError(f"tolerance {tolerance:g} must be 0 or more percent")
    if start is not None and start not in collocations:
        raise nearest(start.name, names, "collocation of this search")


def _clips_of_val(folds: int) -> str:
    return "the clips of val" if folds == 1 else f"the clips of val but for one of {folds} folds at a time"


def _result(
    search: _Search, winner: str, settings: Settings, curves: Mapping[str, list[Curve]], told: Mapping[str, Any]
) -> dict[str, Any]:
    values = {name: [each.last for each in some] for name, some in curves.items()}
    clips = {name: np.stack([each.clips for each in some]) for name, some in curves.items()}
    found = race(values, clips, first=winner)
    order = [winner, *found.behind]
    own_best = next(label(step["settings"]) for step in told["path"] if step["incumbent"] == winner)
    trained = search.known[Trial(search.by_name[winner], search.seeds[0]), "train", own_best]
    count = wins(values)
    rows = []
    for name in order:
        epochs, seconds = search.spent(search.by_name[name])
        rows.append(
            row(
                search.by_name[name],
                values[name],
                tests=[trained.test] if name == winner and trained.test else [],
                wins=count[name],
                epochs=epochs,
                seconds=seconds,
            )
        )
    return {
        "method": "decoupled",
        "seeds": list(search.seeds),
        "epochs": search.trainer.epochs,
        "folds": search.folds,
        "ranking": ranked(rows),
        "winner": winner,
        "runner_up": order[1],
        "settled": found.settled,
        "verdict": verdict(found, f"with {label(settings)}, trained on {_clips_of_val(search.folds)}"),
        "difference": found.behind[order[1]].as_dict(),
        "work_s": sum(each["seconds"] for each in rows),
        "trained_epochs": sum(each["epochs"] for each in rows),
        "finished": True,
        **told,
    }
