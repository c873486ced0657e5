"""The chance in a comparison, and how two rankings agree."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.errors import PlanError
from pipelines.collocation.certainty.statistics import (
    Chance,
    Interval,
    Race,
    agreement,
    chance_of_seeds,
    difference,
    race,
    verdict,
    wins,
)

VALUES = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 9).map(float), max_size=8)


def test_agreement_of_a_known_case() -> None:
    one = {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0, "only here": 9.0}
    other = {"b": 4.0, "a": 3.0, "c": 2.0, "d": 1.0, "only there": 9.0}
    found = agreement(one, other)
    # 5 of 6 pairs agree, 1 does not
    assert found.tau == pytest.approx(4 / 6)
    assert (found.n, found.hits, found.same_winner) == (4, 2, False)


@pytest.mark.parametrize(
    ("one", "n", "hits"),
    [
        ({}, 0, 0),
        ({"a": 1.0}, 1, 1),
        ({"a": 1.0, "b": math.nan}, 1, 1),
        # what ties all has not found the winner
        ({"a": 1.0, "b": 1.0, "c": 1.0}, 3, 3),
    ],
)
def test_no_correlation_where_nothing_is_ranked(one: dict[str, float], n: int, hits: int) -> None:
    found = agreement(one, {"a": 3.0, "b": 2.0, "c": 1.0})
    assert math.isnan(found.tau)
    assert math.isnan(found.p)
    assert (found.n, found.hits, found.same_winner) == (n, hits, hits == 1)


def test_any_of_several_winners_is_a_hit() -> None:
    assert agreement({"a": 1.0, "b": 2.0, "c": 0.0}, {"a": 5.0, "b": 5.0, "c": 1.0}).hits == 1


@given(VALUES, VALUES)
def test_tau_is_that_of_counted_pairs(one: dict[str, float], other: dict[str, float]) -> None:
    names = sorted(set(one) & set(other))
    signs = [
        (np.sign(one[a] - one[b]), np.sign(other[a] - other[b])) for i, a in enumerate(names) for b in names[i + 1 :]
    ]
    below = math.sqrt(sum(x != 0 for x, _ in signs) * sum(y != 0 for _, y in signs))
    found = agreement(one, other)
    if below:
        assert found.tau == pytest.approx(sum(x * y for x, y in signs) / below)
        assert 0 <= found.p <= 1
    else:
        assert math.isnan(found.tau)
    assert found.n == len(names)
    assert agreement(one, one).hits in (0, *range(1, len(one) + 1))
    assert (found.hits == 0) == (not names)


def test_wins_count_ties_for_all_and_missing_seeds_for_none() -> None:
    assert wins({"a": [3, 1, 2], "b": [3, 2], "c": [1]}) == {"a": 2, "b": 2, "c": 0}
    assert wins({}) == {}


def test_chance_of_seeds_is_the_residual_of_the_table() -> None:
    # what a seed adds to all is no chance between them
    assert chance_of_seeds({"a": [1, 5, 2], "b": [3, 7, 4]}) == Chance(pytest.approx(0.0), 2)
    # residuals of +-1/2 in all four cells
    assert chance_of_seeds({"a": [1, 2], "b": [1, 0]}) == Chance(1.0, 1)
    assert chance_of_seeds({"a": [1], "b": [2]}) is None
    assert chance_of_seeds({"a": [1, 2]}) is None


def test_difference_of_clips_alone_is_students_interval() -> None:
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(1)
    one, other = rng.normal(52, 20, 40), rng.normal(50, 20, 40)
    found = difference([one.mean()], [other.mean()], clips=(one[None], other[None]), confidence=0.9)
    known = ttest_rel(one, other).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((known.low, known.high))
    assert (found.seeds, found.clips) == (False, True)


def test_difference_of_seeds_alone_is_students_interval() -> None:
    from scipy.stats import ttest_rel

    one, other = [51.0, 52.5, 50.1], [50.0, 50.2, 49.9]
    found = difference(one, other)
    known = ttest_rel(one, other).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((known.low, known.high))
    assert (found.seeds, found.clips) == (True, False)


def test_chance_of_a_round_makes_it_narrower_and_comparisons_wider() -> None:
    pair = ([51.0, 52.0], [50.0, 50.5])
    alone, pooled = difference(*pair), difference(*pair, chance=Chance(0.06, 9))
    assert pooled.high - pooled.low < (alone.high - alone.low) / 4
    several = difference(*pair, chance=Chance(0.06, 9), comparisons=9)
    assert several.low < pooled.low < several.mean == pooled.mean < pooled.high < several.high


def test_nothing_is_known_of_chance() -> None:
    found = difference([52.0], [50.0])
    assert found.mean == 2
    assert math.isnan(found.low)
    assert not found.above
    # one clip has no variance
    assert not difference([52.0], [50.0], clips=([[52.0]], [[50.0]])).clips


@pytest.mark.parametrize(
    ("collocations", "seeds", "deviations", "upto"),
    [
        (4, 2, (1.0, 5.0, 5.0), 0.98),
        (10, 3, (0.2, 10.0, 20.0), 0.99),
        (2, 3, (1.0, 5.0, 5.0), 0.98),
        (4, 5, (2.0, 0.0, 0.1), 0.98),
        (10, 2, (0.0, 10.0, 0.0), 0.98),
        (4, 1, (0.0, 10.0, 10.0), 0.98),
    ],
)
def test_intervals_hold_the_truth(collocations: int, seeds: int, deviations: tuple[float, ...], upto: float) -> None:
    """About 95 of 100; more where most of the chance is in seeds and clips together, which counts for the larger of both."""
    rng, hit, runs, clips = np.random.default_rng(7), 0, 600, 80
    of_seed, of_clip, of_both = deviations
    for _ in range(runs):
        # what all share: seeds and clips that are hard for all
        shared = rng.normal(0, 3, (1, seeds, 1)) + rng.normal(0, 20, (1, 1, clips))
        values = (
            shared + rng.normal(0, of_seed, (collocations, seeds, 1)) + rng.normal(0, of_clip, (collocations, 1, clips))
        )
        values = values + rng.normal(0, of_both, (collocations, seeds, clips))
        scores = {str(number): each.mean(axis=1).tolist() for number, each in enumerate(values)}
        chance = chance_of_seeds(scores)
        found = difference(scores["0"], scores["1"], clips=(values[0], values[1]), chance=chance)
        hit += found.low <= 0 <= found.high
    assert 0.92 <= hit / runs <= upto


def test_a_race_rarely_puts_an_equal_out() -> None:
    rng, wrong, runs = np.random.default_rng(3), 0, 300
    for _ in range(runs):
        clips = {str(number): rng.normal(0, 8, (3, 50)) + rng.normal(0, 1, (3, 1)) for number in range(8)}
        found = race({name: each.mean(axis=1).tolist() for name, each in clips.items()}, clips)
        wrong += bool(found.out)
    assert wrong / runs <= 0.07


def test_race() -> None:
    scores = {"low": [40.0, 41.0, 40.5], "b": [50.9, 51.2, 51.0], "a": [51.0, 51.4, 51.1]}
    found = race(scores)
    assert (found.leader, list(found.behind), found.out, found.settled) == ("a", ["b", "low"], ("low",), False)
    far = race({"a": [60.0, 60.1], "b": [50.0, 50.2], "c": [20.0, 20.0]})
    assert (far.out, far.settled) == (("b", "c"), True)
    assert race({"a": [1.0]}).settled is True
    assert race({"a": [1.0], "b": [2.0]}).settled is False
    clips = {"a": np.full((1, 9), 50.0), "b": np.full((1, 9), 40.0)}
    assert race({"a": [50.0], "b": [40.0]}, clips).settled is None
    assert race(scores, first="low").leader == "low"


def test_rounding_is_no_difference() -> None:
    assert race({"a": [50.00000000001, 50.00000000001], "b": [50.0, 50.0]}).out == ()
    assert race({"a": [50.1, 50.1], "b": [50.0, 50.0]}).out == ("b",)


def test_more_looks_and_more_others_make_wider_intervals() -> None:
    scores = {"a": [51.0, 52.0, 51.2], "b": [50.0, 50.1, 50.9]}
    once, often = race(scores).behind["b"], race(scores, looks=4).behind["b"]
    assert often.low < once.low
    chance = Chance(0.3, 4)
    more = race(scores | {"c": [40.0, 40.0, 40.0]}, chance=chance).behind["b"]
    assert more.low < race(scores, chance=chance).behind["b"].low
    assert more.low == pytest.approx(difference(scores["a"], scores["b"], chance=chance, comparisons=2).low)


@given(
    st.dictionaries(
        st.sampled_from("abcdef"), st.lists(st.floats(0, 100), min_size=2, max_size=2), min_size=1, max_size=6
    )
)
def test_equals_never_go_out_and_the_best_leads(scores: dict[str, list[float]]) -> None:
    found = race(scores)
    means = {name: float(np.mean(each)) for name, each in scores.items()}
    assert means[found.leader] == max(means.values())
    assert {found.leader, *found.behind} == set(scores)
    assert all(means[name] < means[found.leader] for name in found.out)
    assert all(each.low <= each.mean <= each.high for each in found.behind.values())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: race({}), "no scores"),
        (lambda: race({"a": [1.0], "b": [1.0, 2.0]}), r"\[1, 2\] seeds"),
        (lambda: race({"a": [math.nan], "b": [1.0]}), "a scores"),
        (lambda: difference([], []), r"\[0\] seeds"),
        (lambda: difference([1.0], [2.0], clips=([1.0], [2.0])), "shapes"),
        (lambda: difference([1.0], [2.0], clips=([[1.0, 2.0]], [[2.0, math.inf]])), "finite"),
    ],
)
def test_what_cannot_be_compared(call: object, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        call()  # type: ignore[operator]


def interval(mean: float, low: float, *, seeds: bool = True) -> Interval:
    return Interval(mean, low, 2 * mean - low, 0.95, seeds=seeds, clips=True)


@pytest.mark.parametrize(
    ("behind", "sentence"),
    [
        ({"b": interval(1.9, 0.7)}, "a wins: 1.9 (0.7 to 3.1, 95 %) above b after 8 of 40 epochs"),
        (
            {"b": interval(0.4, -0.5)},
            "not settled: a is 0.4 (-0.5 to 1.3, 95 %) above b after 8 of 40 epochs, and chance explains it",
        ),
        (
            {"b": interval(1.9, 0.7), "c": interval(2, -1), "d": interval(3, -1)},
            (
                "not settled: a is 1.9 (0.7 to 3.1, 95 %) above b after 8 of 40 epochs, "
                "but chance explains that it is above c and 1 more"
            ),
        ),
        (
            {"b": interval(1.9, 0.7, seeds=False)},
            "a is ahead: 1.9 (0.7 to 3.1, 95 %) above b after 8 of 40 epochs; with one seed, the chance of seeds is not known",
        ),
        (
            {"b": interval(1.9, math.nan)},
            "not settled: a is 1.9 (nothing is known of chance) above b after 8 of 40 epochs",
        ),
        ({}, "a is the only one after 8 of 40 epochs"),
    ],
)
def test_verdicts(behind: dict[str, Interval], sentence: str) -> None:
    assert verdict(Race("a", behind), "after 8 of 40 epochs") == sentence
