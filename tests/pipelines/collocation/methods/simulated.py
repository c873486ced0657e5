"""Trainers whose curves are known functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pipelines.collocation.collocations import Collocation, Trial
from pipelines.collocation.training.curves import NOTHING, Curve, Fold, On

Score = Callable[[Trial, int, On, Mapping[str, str]], float]


def collocations(count: int) -> list[Collocation]:
    return [Collocation(f"a{number % 2}", f"v{number:03}") for number in range(count)]


class Simulated:
    """``score(trial, epoch, on, settings)`` is what a trial scores; clips lie around it with a deviation of their own."""

    def __init__(
        self,
        score: Score,
        *,
        epochs: int = 40,
        clips: int = 60,
        spread: float = 0.0,
        rng: int = 0,
        centred: bool = False,
    ) -> None:
        self.epochs = epochs
        self.score = score
        self.calls: list[tuple[list[Trial], int, On, dict[str, str]]] = []
        self.trained: Counter[tuple[Trial, On, str]] = Counter()
        self.rng, self.clips, self.spread, self.centred = rng, clips, spread, centred
        self.test: Callable[[Trial, Mapping[str, str]], dict[str, float]] = lambda trial, settings: {}

    @property
    def total(self) -> int:
        """Epochs trained in all."""
        return sum(self.trained.values())

    def train(
        self,
        trials: Sequence[Trial],
        until: int,
        *,
        on: On = "train",
        settings: Mapping[str, str] = NOTHING,
        test: bool = False,
        fold: Fold | None = None,
    ) -> dict[Trial, Curve]:
        assert 1 <= until <= self.epochs
        assert len(set(trials)) == len(trials)
        self.calls.append((list(trials), until, on, dict(settings)))
        found = {}
        for trial in trials:
            key = (trial, on, str(sorted(settings.items())))
            assert self.trained[key] <= until, "a round goes back"
            self.trained[key] = until
            around = np.random.default_rng([self.rng, trial.seed, int(trial.collocation.visual[1:])])
            clips = around.normal(0, self.spread, self.clips) if self.spread else np.zeros(self.clips)
            # centred: the same clips for all, as far as the mean goes
            clips = clips - clips.mean() if self.centred else clips
            level = 0.0 if self.centred else clips.mean()
            val = tuple(float(self.score(trial, epoch, on, settings) + level) for epoch in range(until))
            found[trial] = Curve(
                val, val[-1] - level + clips, 0.5 * until, self.test(trial, settings) if on == "train" else {}
            )
        return found
