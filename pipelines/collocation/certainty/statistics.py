"""How sure a ranking of collocations is, and how well two rankings agree.

Two things are left to chance. The seeds': trained again, a collocation scores differently. The clips': on other clips, too.
An :class:`Interval` has both where they are known, and says which.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from extract.errors import PlanError
from pipelines.collocation.certainty.intervals import Chance, Interval, chance_of_seeds, difference, table

__all__ = [
    "Agreement",
    "Chance",
    "Interval",
    "Race",
    "agreement",
    "chance_of_seeds",
    "difference",
    "race",
    "verdict",
    "wins",
]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well a ranking agrees with another.

    Parameters
    ----------
    tau, p
        Kendall's tau-b and the p-value of its two-sided test; nan where fewer than two are ranked or all of one side are tied
    n
        names that both have with a finite value
    same_winner
        ``hits == 1``
    hits
        the rank, in the one, of the other's winner. What is tied counts as standing before it, so that a ranking that tells
        nothing apart does not hit; of several winners, the one that stands first. 0 where ``n`` is 0
    """

    tau: float
    p: float
    n: int
    same_winner: bool
    hits: int


def agreement(one: Mapping[str, float], other: Mapping[str, float]) -> Agreement:
    """Compare two rankings, higher values first; `other` is the one that is held to be true."""
    from scipy.stats import kendalltau

    names = [name for name in one if name in other and math.isfinite(one[name]) and math.isfinite(other[name])]
    tau = p = math.nan
    hits = 0
    if len(names) > 1:
        found = kendalltau([one[name] for name in names], [other[name] for name in names])
        tau, p = float(found.statistic), float(found.pvalue)
    if names:
        top = max(other[name] for name in names)
        hits = min(sum(one[each] >= one[name] for each in names) for name in names if other[name] == top)
    return Agreement(tau, p, len(names), hits == 1, hits)


def wins(values: Mapping[str, Sequence[float]]) -> dict[str, int]:
    """In how many seeds each is the best; of equals, all are.

    Parameters
    ----------
    values
        a score per seed; those trained with the first seeds only have fewer, and are compared in these
    """
    best = [
        max(each[seed] for each in values.values() if len(each) > seed)
        for seed in range(max(map(len, values.values()), default=0))
    ]
    return {name: sum(value == best[seed] for seed, value in enumerate(each)) for name, each in values.items()}


@dataclass(frozen=True, slots=True)
class Race:
    """How the best of some collocations stands to each of the others.

    Parameters
    ----------
    leader
        the highest mean, of equals the first; or the one that was asked for
    behind
        the leader less each other one, the nearest first
    """

    leader: str
    behind: Mapping[str, Interval]

    @property
    def out(self) -> tuple[str, ...]:
        """Those that the leader is above, and not by chance."""
        return tuple(name for name, each in self.behind.items() if each.above)

    @property
    def settled(self) -> bool | None:
        """Whether all others are out; None where they are and an interval does not know the chance of seeds."""
        if len(self.out) < len(self.behind):
            return False
        return True if all(each.seeds for each in self.behind.values()) else None


def race(
    scores: Mapping[str, Sequence[float]],
    clips: Mapping[str, ArrayLike] | None = None,
    *,
    confidence: float = 0.95,
    looks: int = 1,
    chance: Chance | None = None,
    first: str = "",
) -> Race:
    """Which collocations are worse than the best, and not by chance.

    Parameters
    ----------
    scores
        C collocations, each with a score for each of the same S seeds
    clips
        (S, N) the same of each clip
    looks
        how often the search does this before it ends
    chance
        of the seeds; default: from all `scores` where S > 1
    first
        compare the others with this one, whether or not it is the best

    Returns
    -------
    Race
        each interval has the confidence ``1 - (1 - confidence) / ((C - 1) looks)`` for itself (Bonferroni). Whichever leads,
        one that is truly the best is put out with a probability of at most (1 - confidence) / 2 in all looks together: it
        errs only where one of C - 1 others is above it, at one end of the interval. Where C falls from look to look, that is
        an approximation, as those left were chosen by the same scores

    Raises
    ------
    PlanError
        as :func:`difference`, or nothing to compare
    """
    if not scores:
        raise PlanError("there are no scores to compare; give at least one collocation")
    means = dict(zip(scores, table(scores).mean(axis=1).tolist(), strict=True))
    chance = chance or chance_of_seeds(scores)
    order = sorted(means, key=lambda name: (name != first, -means[name]))
    leader, comparisons = order[0], looks * max(len(order) - 1, 1)
    behind = {
        name: difference(
            scores[leader],
            scores[name],
            clips=None if clips is None else (clips[leader], clips[name]),
            chance=chance,
            confidence=confidence,
            comparisons=comparisons,
        )
        for name in order[1:]
    }
    return Race(leader, behind)


def verdict(found: Race, after: str = "") -> str:
    """One plain sentence on who wins.

    Parameters
    ----------
    found
        its first other one is the runner-up
    after
        what the scores are of, such as ``after 8 of 40 epochs``
    """
    name, after = found.leader, f" {after}" if after else ""
    if not found.behind:
        return f"{name} is the only one{after}"
    second, gap = next(iter(found.behind.items()))
    by = f"{gap.mean:.1f} ({gap}) above {second}{after}"
    if found.settled:
        return f"{name} wins: {by}"
    if found.settled is None:
        return f"{name} is ahead: {by}; with one seed, the chance of seeds is not known"
    rest = [each for each, interval in found.behind.items() if not interval.above]
    if rest[0] != second:
        more = f" and {len(rest) - 1} more" if len(rest) > 1 else ""
        return f"not settled: {name} is {by}, but chance explains that it is above {rest[0]}{more}"
    if math.isnan(gap.low):
        return f"not settled: {name} is {by}"
    return f"not settled: {name} is {by}, and chance explains it"
