"""How many epochs and seeds the rounds of a search by halving have, and that they keep within a budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from extract.errors import PlanError

LEAST_EPOCHS = 2
ONE_IN = 2.5
MOST_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Round:
    """Collocations that are brought to the same epoch with the same seeds.

    Parameters
    ----------
    collocations
        at most so many take part
    seeds
        so many of the first
    epochs
        that each has been trained when the round ends, in this round and before
    """

    collocations: int
    seeds: int
    epochs: int

    @property
    def work(self) -> int:
        """Epochs that one collocation has been trained in all when the round ends."""
        return self.seeds * self.epochs


def plan(
    collocations: int, seeds: int, epochs: int, *, budget: float = 1 / 12, least_epochs: int = LEAST_EPOCHS
) -> tuple[Round, ...]:
    """The rounds of a search.

    Parameters
    ----------
    collocations, seeds, epochs
        what a traversal would train
    budget
        the share of the traversal's epochs that may be trained
    least_epochs
        that every collocation is trained before any leaves

    Returns
    -------
    tuple of Round
        of 2.5 collocations one goes on, until two are left; fewer of many, so that there are at most four rounds. Two or
        three have two. Rounds that the budget does not cover are left out. Epochs and seeds never fall, and one of them rises
        from each round to the next. With 10 collocations, 3 seeds and 40 epochs: 10 x 1 seed x 4 epochs, 4 x 2 x 6, 2 x 3 x 8,
        which is 96 of 1,200 epochs

    Raises
    ------
    PlanError
        fewer than two collocations, or the budget is too small
    """
    if collocations < 2 or seeds < 1:
        raise PlanError(f"{collocations} collocations and {seeds} seeds; a search needs at least 2 and 1")
    if not 0 < budget <= 1:
        raise PlanError(f"budget {budget:g} must be a share of the traversal's epochs, above 0 and at most 1")
    if not 2 <= least_epochs <= epochs:
        raise PlanError(f"{epochs} epochs, of which every collocation gets {least_epochs}; give --epochs 2 or more")
    rounds = spread(sizes(collocations), seeds, epochs, affordable(collocations, seeds, epochs, budget), least_epochs)
    if not rounds:
        raise PlanError(
            f"{budget:.3g} of {seeds} seeds x {epochs} epochs is less than {least_epochs} epochs for each collocation; "
            f"give --budget of at least {least_epochs / (seeds * epochs):.3g}, or traverse"
        )
    return rounds


def affordable(collocations: int, seeds: int, epochs: int, budget: float) -> int:
    """Epochs in the budget; a product that is whole but for rounding counts as whole."""
    return math.floor(budget * collocations * seeds * epochs + 1e-9)


def sizes(collocations: int) -> tuple[int, ...]:
    """How many collocations take part in each round at most."""
    one_in = max(ONE_IN, (collocations / 2) ** (1 / (MOST_ROUNDS - 1)))
    found = [collocations]
    while found[-1] > 2 or len(found) == 1:
        found.append(max(2, math.ceil(collocations / one_in ** len(found) - 1e-9)))
    return tuple(found)


def spread(
    counts: Sequence[int], seeds: int, epochs: int, budget: int, least_epochs: int, reached: Round = Round(0, 0, 0)
) -> tuple[Round, ...]:
    """Give a budget to rounds; earlier ones get somewhat more of it than later ones, as most leave there and on the least.

    Parameters
    ----------
    counts
        collocations in each round
    budget
        epochs that may be trained from here on
    reached
        seeds and epochs that those of the first round have already

    Returns
    -------
    tuple of Round
        those in which something is trained; none where the budget does not cover the first
    """
    rounds: list[Round] = []
    for index, count in enumerate(counts):
        left = len(counts) - index
        # 6 : 5 : 4 for three rounds; of the epochs that are left, this round's share
        weights = [1 + rest / left for rest in range(left, 0, -1)]
        work = reached.work + math.floor(budget * weights[0] / sum(weights)) // count
        most = max(reached.seeds, round(seeds * (index + 1) / len(counts)), 1)
        found = _within(count, work, reached, most, epochs, least_epochs)
        if found is None and not index:
            # all are in the first round, so that without it there is none: it gets no more than it must
            until = min(epochs, max(reached.epochs + 1, least_epochs))
            found = _within(count, reached.work + budget // count, reached, most, until, least_epochs)
            if found is None:
                return ()
        if found is not None:
            budget -= count * (found.work - reached.work)
            rounds.append(found)
            reached = found
    return tuple(rounds)


def _within(count: int, work: int, reached: Round, most: int, epochs: int, least_epochs: int) -> Round | None:
    """As many seeds as leave each at least a tenth of all epochs, or else the fewest; nothing where no epoch is won."""
    found = None
    for seeds in range(max(reached.seeds, 1), most + 1):
        until = min(epochs, work // seeds)
        enough = max(reached.epochs, least_epochs, 0 if found is None else math.ceil(epochs / 10))
        if until >= enough and seeds * until > reached.work:
            found = Round(count, seeds, until)
    return found
