"""What the methods of the search know of training: trials go in, curves come out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from pipelines.collocation.collocations import Trial

On = Literal["train", "val"]
Fold = tuple[int, int]
"""Which fold is held back, from 0, of how many: every n-th clip, from that one on."""
NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """What is known of a trial so far.

    Parameters
    ----------
    val
        the headline score on val, in percent, after each epoch; nan where it was not asked: trained on val, only the last
        epoch is scored, since an epoch must not be chosen by the labels it is scored with
    clips
        (N,) the same of each clip of val, after the last epoch; after the best one where test was asked for
    work_s
        seconds that training and scoring took, its share where several were trained at once
    test
        all scores on test with the weights of the best epoch; empty where they were not asked for
    """

    val: tuple[float, ...]
    clips: NDArray[Any]
    work_s: float
    test: Mapping[str, float] = field(default_factory=dict)

    @property
    def best(self) -> float:
        """The highest of `val`."""
        return self.val[self.best_epoch]

    @property
    def best_epoch(self) -> int:
        """Of equals the later one, as the official loop has it; the last where no score is known."""
        known = [epoch for epoch, value in enumerate(self.val) if not math.isnan(value)]
        return max(known, key=lambda epoch: (self.val[epoch], epoch), default=len(self.val) - 1)

    @property
    def last(self) -> float:
        """The score after the last epoch."""
        return self.val[-1]


class Trainer(Protocol):
    """Trains collocations, and remembers what it has trained."""

    @property
    def epochs(self) -> int:
        """Of a full training."""
        ...

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
        """Bring every trial to `until` epochs, and tell all their curves.

        Parameters
        ----------
        trials
            with seeds of their own; one that was trained before, with the same `on` and `settings`, goes on from there
        until
            epochs, at most `epochs`
        on
            the clips to train on, with the labels of clips; scores are always those of val's labels of seconds
        settings
            in place of the search's own, see :func:`pipelines.parsing.presets.changed`
        test
            also score the best epoch on test
        fold
            with ``on="val"``: train on the clips of val that are not in this fold, and score those that are
        """
        ...
