"""The difference of two scores, and what chance there is in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from extract.errors import PlanError

Floats = NDArray[np.float64]
DIGITS = 6  # of a score in percent, behind the point; what is beyond is rounding


@dataclass(frozen=True, slots=True)
class Chance:
    """The variance of a collocation's score between seeds, and on how many degrees of freedom it is known."""

    variance: float
    df: int


def chance_of_seeds(scores: Mapping[str, Sequence[float]]) -> Chance | None:
    """The residual of the two-way analysis of variance, collocation x seed, without what all share in a seed.

    Parameters
    ----------
    scores
        C collocations, each with a score for each of the same S seeds

    Returns
    -------
    Chance
        sum of squares / df, df = (C - 1)(S - 1); None where that is 0
    """
    found = table(scores)
    df = (found.shape[0] - 1) * (found.shape[1] - 1)
    if not df:
        return None
    rest = found - found.mean(axis=0) - found.mean(axis=1, keepdims=True) + found.mean()
    return Chance(float((rest**2).sum() / df), df)


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference of two scores, and between which bounds chance leaves it.

    Parameters
    ----------
    mean, low, high
        percent; the bounds are nan where nothing is known of chance
    confidence
        of this interval, together with all others that it was compared with
    seeds, clips
        whether it has the chance of seeds, and of clips
    """

    mean: float
    low: float
    high: float
    confidence: float
    seeds: bool
    clips: bool

    @property
    def above(self) -> bool:
        """Whether chance does not explain that the one is above the other."""
        return round(self.low, DIGITS) > 0

    def as_dict(self) -> dict[str, float]:
        """The four numbers, for JSON."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "confidence": self.confidence}

    def __str__(self) -> str:
        """Such as ``0.7 to 3.1, 95 %``."""
        if math.isnan(self.low):
            return "nothing is known of chance"
        return f"{self.low:.1f} to {self.high:.1f}, {100 * self.confidence:g} %"


def difference(
    one: Sequence[float],
    other: Sequence[float],
    *,
    clips: tuple[ArrayLike, ArrayLike] | None = None,
    chance: Chance | None = None,
    confidence: float = 0.95,
    comparisons: int = 1,
) -> Interval:
    """One collocation's mean score less another's, with an interval.

    Parameters
    ----------
    one, other
        (S,) scores with the same seeds
    clips
        (S, N) the same of each clip, for both
    chance
        of the seeds, from all collocations of a round; default: from these two where S > 1
    confidence
        of all `comparisons` together (Bonferroni's correction)

    Raises
    ------
    PlanError
        other shapes, or scores that are not finite

    Notes
    -----
    The model: score = collocation + seed + clip + their interactions, seeds and clips drawn at random. What both collocations
    share cancels out in the difference. Its variance V has

    * of the seeds, ``A = 2 chance.variance / S``, on ``chance.df`` degrees of freedom;
    * of the clips, ``B = var over clips of the mean over seeds of the difference / N``, on N - 1;
    * training chance that hits clips one by one is in both, so it is taken off once:
      ``C = mean square of (difference per seed and clip, less its means) / (S N)``, on (S - 1)(N - 1).

    ``V = max(A + B - C, A, B)``; the interval is mean ± t √V, t the quantile of Student's distribution on
    ``V² / (A²/df + B²/df + C²/df)`` degrees of freedom (Satterthwaite). With one seed A is unknown (or, with `chance` from
    elsewhere, C is), with no clips B.

    It holds that all collocations have the same chance of seeds, that clips are independent of one another (several clips of
    one video are not), and that means over them are near enough to normal.
    """
    pair = table({"one": one, "other": other})
    mean = float(pair[0].mean() - pair[1].mean())
    seeds = pair.shape[1]
    chance = chance or chance_of_seeds({"one": one, "other": other})
    parts: list[tuple[float, int]] = []
    if chance is not None:
        parts.append((2 * chance.variance / seeds, chance.df))
    gaps = _gaps(clips, seeds)
    if gaps is not None:
        parts.append((float(gaps.mean(axis=0).var(ddof=1)) / gaps.shape[1], gaps.shape[1] - 1))
    if not parts:
        return Interval(mean, math.nan, math.nan, confidence, seeds=False, clips=False)
    variance, terms = sum(part for part, _ in parts), list(parts)
    if chance is not None and gaps is not None and seeds > 1:
        both, df = _both(gaps)
        variance = max(variance - both, *(part for part, _ in parts))
        terms.append((both, df))
    half = _half(variance, terms, confidence, comparisons)
    return Interval(mean, mean - half, mean + half, confidence, seeds=chance is not None, clips=gaps is not None)


def _half(variance: float, terms: Sequence[tuple[float, int]], confidence: float, comparisons: int) -> float:
    """Half of an interval's width."""
    from scipy.special import stdtrit

    if variance == 0:
        return 0.0
    df = 1 / sum((part / variance) ** 2 / df for part, df in terms)
    return float(stdtrit(df, 1 - (1 - confidence) / (2 * comparisons))) * math.sqrt(variance)


def _both(gaps: Floats) -> tuple[float, int]:
    """The part of the variance that is in the seeds' and in the clips', and its degrees of freedom."""
    rest = gaps - gaps.mean(axis=0) - gaps.mean(axis=1, keepdims=True) + gaps.mean()
    df = (gaps.shape[0] - 1) * (gaps.shape[1] - 1)
    return float((rest**2).sum()) / df / gaps.size, df


def _gaps(clips: tuple[ArrayLike, ArrayLike] | None, seeds: int) -> Floats | None:
    """(S, N) differences by clip; None where they tell nothing."""
    if clips is None:
        return None
    one, other = (np.asarray(each, np.float64) for each in clips)
    if one.ndim != 2 or one.shape != other.shape or len(one) != seeds:
        raise PlanError(
            f"scores by clip have shapes {one.shape} and {other.shape}; both must be (seeds, clips), {seeds} seeds"
        )
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise PlanError("a clip's score is not a finite number; score every clip before comparing")
    return one - other if one.shape[1] > 1 else None


def table(scores: Mapping[str, Sequence[float]]) -> Floats:
    """Scores by collocation and seed.

    Returns
    -------
    array
        (C, S)

    Raises
    ------
    PlanError
        not all have the same seeds, or a score is not finite
    """
    counts = {len(each) for each in scores.values()}
    if len(counts) != 1 or 0 in counts:
        raise PlanError(f"collocations have scores for {sorted(counts)} seeds; all must have the same, at least one")
    for name, each in scores.items():
        if not all(math.isfinite(value) for value in each):
            raise PlanError(f"{name} scores {list(each)}; only finite scores can be compared")
    return np.array(list(scores.values()), np.float64)
