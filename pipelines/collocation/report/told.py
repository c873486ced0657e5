"""What the folder of a collocation search tells, as its report sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.collocation.collocations import Collocation

METHODS = ("traverse", "halving", "decoupled", "transfer")
"""The most trustworthy one first."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and standard deviation over seeds, and the value of each."""

    mean: float
    std: float
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """A collocation in a ranking.

    Parameters
    ----------
    rank
        from 1
    collocation
        its backbones
    score
        what the method ranks by, higher first; of transfer it is no percentage
    test
        percent by metric; empty where test was not asked for
    wins
        seeds in which it was the best of those trained with that seed
    epochs, seconds
        trained in all, and its share of the work
    out
        why it left, of halving; empty otherwise
    """

    rank: int
    collocation: Collocation
    score: Spread
    test: Mapping[str, Spread]
    wins: int
    epochs: int
    seconds: float
    out: str

    @property
    def name(self) -> str:
        """Of the collocation."""
        return self.collocation.name


@dataclass(frozen=True, slots=True)
class Difference:
    """Winner minus runner-up, with an interval of confidence."""

    mean: float
    low: float
    high: float
    confidence: float


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A round of decoupled.

    Parameters
    ----------
    incumbent
        the collocation whose hyper-parameters were chosen
    settings, score
        those that were chosen, and its score with them
    tried
        scores by what was tried, such as ``lr=1e-4``
    best, best_score
        of all collocations under `settings`
    """

    incumbent: str
    settings: Mapping[str, Any]
    tried: Mapping[str, float]
    score: float
    best: str
    best_score: float


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """A round of halving: who was trained up to so many epochs with which seeds, who led, and who left and why."""

    epochs: int
    seeds: tuple[int, ...]
    names: tuple[str, ...]
    leader: str
    out: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What a method found; see ``result.json``.

    Parameters
    ----------
    folder
        its name, such as ``traverse-20``
    train_classes
        classes that the training clips keep; 0: not said
    ranking
        by rank
    estimates, fused
        by collocation and estimator: told from features alone, and from what trained networks fused
    folds
        of val, of decoupled; 1: trained and judged on the same clips
    ran_on
        devices, lanes and parsers at once, in words; several where it went on with others
    rows, train_s, val_s
        of ``epochs.csv``: rows, and seconds of training and of scoring; 0 without it
    """

    folder: str
    method: str
    metric: str
    seeds: tuple[int, ...]
    epochs: int
    train_classes: int
    ranking: tuple[Ranked, ...]
    winner: str
    runner_up: str
    settled: bool | None
    verdict: str
    difference: Difference | None
    wall_s: float
    work_s: float
    trained_epochs: int
    finished: bool
    notes: tuple[str, ...]
    path: tuple[Step, ...]
    rounds: tuple[Round, ...]
    by: str
    estimates: Mapping[str, Mapping[str, float]]
    fused: Mapping[str, Mapping[str, float]]
    folds: int
    ran_on: tuple[str, ...]
    rows: int
    train_s: float
    val_s: float

    @property
    def by_name(self) -> dict[str, Ranked]:
        """Collocations of the ranking."""
        return {each.name: each for each in self.ranking}


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """The folder of a search.

    Parameters
    ----------
    path
        as it was given
    slots
        short names by slot
    keys, infos
        by short name: key in the store, and what the store knows of it
    clips
        by split: those that all backbones have, and those that were asked for
    flagged
        by short name: why it is not ranked
    results
        a result per method, the most trustworthy first
    fewer
        traversals whose training clips keep fewer classes, the most classes first
    ran_on
        device, precision and lanes, in words
    recall
        rows of ``recall.csv``
    """

    path: str
    task: str
    store: str
    metric: str
    slots: Mapping[str, tuple[str, ...]]
    keys: Mapping[str, str]
    infos: Mapping[str, Mapping[str, Any]]
    config: Mapping[str, Any]
    seeds: tuple[int, ...]
    clips: Mapping[str, tuple[int, int]]
    flagged: Mapping[str, str]
    notes: tuple[str, ...]
    labels: str
    ran_on: tuple[tuple[str, str], ...]
    versions: Mapping[str, Any]
    results: tuple[Result, ...]
    fewer: tuple[Result, ...]
    recall: tuple[Mapping[str, str], ...]

    @property
    def lead(self) -> Result | None:
        """The most trustworthy method that ranked something."""
        return next((each for each in self.results if each.ranking), None)

    def of(self, method: str) -> Result | None:
        """What a method found."""
        return next((each for each in self.results if each.method == method), None)
