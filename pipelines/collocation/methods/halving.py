"""Successive halving over collocations and seeds, with a race in every round.

Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", 2016 (the rounds); Maron
and Moore, "Hoeffding races", 1994 (leaving by an interval). A collocation leaves a round for one of two reasons, which are
kept apart: the leader is above it and chance does not explain that, or there is no room for it in the next round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError
from pipelines.collocation.certainty.intervals import DIGITS
from pipelines.collocation.certainty.statistics import Interval, Race, chance_of_seeds, difference, race, verdict, wins
from pipelines.collocation.collocations import Collocation, Trial
from pipelines.collocation.methods.ranking import ranked, row
from pipelines.collocation.methods.schedule import LEAST_EPOCHS, Round, affordable, plan, spread
from pipelines.collocation.training.curves import Curve, Trainer

LEAST_RISE = 1.0
Table = Mapping[str, list[float]]


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """A round as it went: what every collocation in it scored, and why some left."""

    round: Round
    curves: Mapping[str, tuple[Curve, ...]]
    scores: Table
    found: Race
    out: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Search:
    """What does not change from round to round, and the steps so far."""

    trainer: Trainer
    by_name: Mapping[str, Collocation]
    seeds: Sequence[int]
    confidence: float
    looks: int
    steps: list[_Step] = field(default_factory=list)

    def step(self, names: Sequence[str], now: Round, begun: Callable[[Curve], bool]) -> bool:
        """Train and race; whether any collocation has begun to learn."""
        trials = {name: [Trial(self.by_name[name], seed) for seed in self.seeds[: now.seeds]] for name in names}
        curves = self.trainer.train([trial for some in trials.values() for trial in some], now.epochs)
        for trial, curve in curves.items():
            if len(curve.val) != now.epochs:
                raise PlanError(
                    f"{trial.name} has scores of {len(curve.val)} epochs where {now.epochs} were asked for; "
                    "all in a round must be trained alike"
                )
        known = {name: tuple(curves[trial] for trial in some) for name, some in trials.items()}
        scores = {name: [round(each.last, DIGITS) for each in some] for name, some in known.items()}
        clips = {name: _clips(some) for name, some in known.items()}
        found = race(scores, clips, confidence=self.confidence, looks=self.looks)
        self.steps.append(_Step(now, known, scores, found))
        return any(begun(curve) for some in known.values() for curve in some)


def halve(
    trainer: Trainer,
    collocations: Sequence[Collocation],
    seeds: Sequence[int],
    *,
    confidence: float = 0.95,
    budget: float = 1 / 12,
    least_epochs: int = LEAST_EPOCHS,
    least_rise: float = LEAST_RISE,
) -> dict[str, Any]:
    """Find the best collocation with a small part of a traversal's training.

    Parameters
    ----------
    trainer
        trains on the training clips, for the rounds of :func:`pipelines.collocation.methods.schedule.plan`
    collocations, seeds
        each once
    confidence
        of all that intervals say, together
    budget
        the share of the traversal's epochs that may be trained
    least_epochs
        that every collocation is trained before any leaves
    least_rise
        a score has to be so many percent above that of the first epoch before any collocation may leave. Parsers that do
        not yet learn find the same events in all clips; what they score tells how frequent these are, no more

    Returns
    -------
    dict
        ``result.json`` without ``task``, ``metric``, ``train_classes`` and ``wall_s``. ``settled`` is true where the winner
        is above every other collocation, and not by chance, after the epochs of the last round that both were in, whether
        that one left by an interval or by rank; null where that holds and the chance of seeds is unknown. It speaks of scores
        after so many epochs, not after full training

    Raises
    ------
    PlanError
        fewer than two collocations, something twice, or a budget that is too small

    Notes
    -----
    Scores are those of the last epoch, which the scores of clips are of. Rounds in which none has begun to learn are
    prolonged by `least_epochs`, out of the same budget. Of equals at the last place that goes on, all leave; where that would
    leave fewer than two, all stay. What those that leave have not used goes to the rounds that follow. An interval of one
    seed does not know the chance of seeds, so that where more seeds follow, it does not keep any from the next round.

    A collocation that left with one seed is compared with the winner in the end with the chance of seeds that the first
    round with several has found: this holds that fewer epochs do not make that chance larger.
    """
    by_name = {each.name: each for each in collocations}
    if len(by_name) < len(collocations) or len(set(seeds)) < len(seeds):
        raise PlanError("a collocation or a seed is given twice; give each once")
    if not 0 < confidence < 1:
        raise PlanError(f"confidence {confidence:g} must be between 0 and 1, such as 0.95")
    rounds = plan(len(by_name), len(seeds), trainer.epochs, budget=budget, least_epochs=least_epochs)
    left_epochs = affordable(len(by_name), len(seeds), trainer.epochs, budget)
    search = _Search(trainer, by_name, seeds, confidence, len(rounds))
    names, planned, reached, learns = list(by_name), list(rounds), Round(0, 0, 0), False
    while planned:
        now = planned[0]
        left_epochs -= len(names) * (now.work - reached.work)
        learns |= search.step(names, now, lambda curve: curve.last - curve.val[0] >= least_rise)
        reached = now
        if not learns:
            more = Round(len(names), now.seeds, min(now.epochs + least_epochs, trainer.epochs))
            if more == now or len(names) * (more.work - now.work) > left_epochs:
                break
            planned[0] = more
            continue
        names = _leave(search.steps, now.seeds < len(seeds), [each.collocations for each in planned[1:]])
        if len(names) == 1:
            break
        counts = [min(len(names), each.collocations) for each in planned[1:]]
        counts[:1] = [len(names)] if counts else []
        planned = list(spread(counts, len(seeds), trainer.epochs, left_epochs, least_epochs, reached))
    return _result(search, learns)


def _leave(steps: list[_Step], more_seeds: bool, planned: Sequence[int]) -> list[str]:
    """Who goes on; the last of `steps` learns why the others do not."""
    now, found = steps[-1], steps[-1].found
    means = {name: float(np.mean(values)) for name, values in now.scores.items()}
    order = sorted(means, key=lambda name: -means[name])
    place = {name: 1 + sum(value > means[name] for value in means.values()) for name in order}
    # an interval of one seed does not know the chance of seeds: the next round, which has several, is filled
    fill = more_seeds and now.round.seeds == 1 and bool(planned)
    stay = order if fill else [name for name in order if name not in found.out]
    if planned and len(stay) > planned[0]:
        last = means[stay[planned[0] - 1]]
        room = [name for name in stay if means[name] >= last]
        if len(room) > planned[0]:
            above = [name for name in stay if means[name] > last]
            room = above if len(above) > 1 else room
        stay = room
    for name in order:
        if name not in stay:
            now.out[name] = _why(len(steps), found, name, place[name], len(order), by_interval=name in found.out)
    return stay


def _why(number: int, found: Race, name: str, place: int, of: int, *, by_interval: bool) -> str:
    gap = found.behind[name]
    one = "" if gap.seeds else ", chance of seeds not known"
    if by_interval:
        return f"round {number}: {gap.mean:.1f} below {found.leader} ({gap}{one})"
    told = f"{gap.mean:.1f} below {found.leader}"
    return f"round {number}: rank {place} of {of}; {told}, not told apart from it by chance ({gap}{one})"


def _clips(curves: Sequence[Curve]) -> NDArray[Any]:
    """(S, N)."""
    return np.stack([each.clips for each in curves])


def _last(steps: Sequence[_Step], name: str) -> _Step:
    """The last round that a collocation was in."""
    return next(step for step in reversed(steps) if name in step.curves)


def _against(search: _Search, winner: str, name: str) -> Interval:
    """The winner less another one, after the last round that both were in."""
    step = _last(search.steps, name)
    later = search.steps[search.steps.index(step) :]
    chances = (chance_of_seeds(each.scores) for each in later)
    return difference(
        step.scores[winner],
        step.scores[name],
        clips=(_clips(step.curves[winner]), _clips(step.curves[name])),
        chance=next((each for each in chances if each), None),
        confidence=search.confidence,
        comparisons=search.looks * (len(step.curves) - 1),
    )


def _result(search: _Search, learns: bool) -> dict[str, Any]:
    steps, final = search.steps, search.steps[-1]
    stayed = {name: steps.index(_last(steps, name)) for name in search.by_name}
    values = {name: _last(steps, name).scores[name] for name in search.by_name}
    order = sorted(
        values, key=lambda name: (name not in final.curves or name in final.out, -stayed[name], -np.mean(values[name]))
    )
    winner = order[0]
    found = Race(winner, {name: _against(search, winner, name) for name in order[1:]})
    count = wins(values)
    why = {name: text for step in steps for name, text in step.out.items()}
    rows = []
    for name in order:
        step = _last(steps, name)
        curves = step.curves[name]
        rows.append(
            row(
                search.by_name[name],
                values[name],
                tests=[each.test for each in curves if each.test],
                wins=count[name],
                epochs=step.round.work,
                seconds=sum(each.work_s for each in curves),
                out=why.get(name, ""),
            )
        )
    after = f"after {_last(steps, order[1]).round.epochs} of {search.trainer.epochs} epochs"
    return {
        "method": "halving",
        "seeds": list(search.seeds),
        "epochs": search.trainer.epochs,
        "ranking": ranked(rows),
        "winner": winner,
        "runner_up": order[1],
        "settled": found.settled if learns else False,
        "verdict": verdict(found, after) if learns else f"not settled: no score rose {after}",
        "difference": found.behind[order[1]].as_dict(),
        "work_s": sum(each["seconds"] for each in rows),
        "trained_epochs": sum(each["epochs"] for each in rows),
        "finished": True,
        "notes": _notes(search, order, values, learns),
        "rounds": [
            {
                "epochs": step.round.epochs,
                "seeds": list(search.seeds[: step.round.seeds]),
                "in": list(step.curves),
                "leader": step.found.leader,
                "out": step.out,
            }
            for step in steps
        ],
    }


def _notes(search: _Search, order: Sequence[str], values: Table, learns: bool) -> list[str]:
    final = search.steps[-1].round
    notes = [f"scores are those after the last epoch that a collocation was trained, at most {final.epochs}"]
    if not learns:
        notes.append("no collocation learnt anything yet, so none left; give a larger budget")
    top = [
        name for name in order if name in search.steps[-1].curves and np.mean(values[name]) == np.mean(values[order[0]])
    ]
    if len(top) > 1:
        notes.append(f"{', '.join(top)} have the same score; which of them is called the winner is their order")
    if final.seeds == 1:
        notes.append("only one seed was trained, so the chance of seeds is not known")
    return notes
