"""Halving over collocations and seeds, with trainers whose curves are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import PlanError
from pipelines.collocation.certainty.statistics import race
from pipelines.collocation.collocations import Trial
from pipelines.collocation.methods.halving import halve
from pipelines.collocation.methods.schedule import Round, affordable, plan, spread

SMALL = st.integers(2, 12)


@pytest.fixture(scope="session")
def sim(load: Callable[[str, Path], ModuleType]) -> ModuleType:
    return load("tests_simulated", Path(__file__).with_name("simulated.py"))


def number(trial: Trial) -> int:
    return int(trial.collocation.visual[1:])


def noisy(
    truth: np.ndarray[Any, Any], of_seed: float, of_epoch: float, rng: int = 0
) -> Callable[[Trial, int, str, Mapping[str, str]], float]:
    """Curves that rise to the truth at the same pace."""
    made = np.random.default_rng(rng)
    chance = made.normal(0, of_seed, (len(truth), 12, 1)) + made.normal(0, of_epoch, (len(truth), 12, 400))

    def score(trial: Trial, epoch: int, on: str, told: Mapping[str, str]) -> float:
        return truth[number(trial)] * (1 - 0.8 * 0.7**epoch) + chance[number(trial), trial.seed, epoch]

    return score


# ---- the schedule ----------------------------------------------------------------------------------------------------


def test_the_schedule_of_the_paper_s_collocations() -> None:
    assert plan(10, 3, 40) == (Round(10, 1, 4), Round(4, 2, 6), Round(2, 3, 8))


@given(st.integers(2, 500), st.integers(1, 10), st.integers(1, 300), st.floats(0.01, 1), st.integers(2, 5))
def test_schedules_keep_within_their_budget(count: int, seeds: int, epochs: int, budget: float, least: int) -> None:
    most = affordable(count, seeds, epochs, budget)
    try:
        rounds = plan(count, seeds, epochs, budget=budget, least_epochs=least)
    except PlanError:
        assert epochs < least or most < least * count
        return
    assert rounds[0].collocations == count
    spent = sum(now.collocations * (now.work - before.work) for before, now in pairwise((Round(0, 0, 0), *rounds)))
    assert spent <= most <= budget * count * seeds * epochs + 1e-6
    assert len(rounds) <= 4
    assert all(least <= each.epochs <= epochs and 1 <= each.seeds <= seeds for each in rounds)
    for before, now in pairwise(rounds):
        assert 2 <= now.collocations <= before.collocations
        assert now.epochs >= before.epochs
        assert now.seeds >= before.seeds
        assert now.work > before.work


def test_all_are_in_the_first_of_what_is_left() -> None:
    """Three are left, and a budget for one of them: no round of two is made up."""
    assert spread((3, 2), 2, 20, 2, 2, Round(3, 1, 4)) == ()
    assert spread((3, 2), 2, 20, 3, 2, Round(3, 1, 4)) == (Round(3, 1, 5),)


@given(SMALL, st.integers(1, 4), st.integers(4, 60))
def test_most_of_a_budget_is_used(count: int, seeds: int, epochs: int) -> None:
    rounds = plan(count, seeds, epochs, budget=1.0)
    assert rounds[-1].epochs * rounds[-1].seeds >= epochs * seeds * 0.6


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: plan(1, 3, 40), "1 collocations"),
        (lambda: plan(10, 0, 40), "0 seeds"),
        (lambda: plan(10, 3, 1), "1 epochs"),
        (lambda: plan(10, 3, 40, least_epochs=1), "gets 1"),
        (lambda: plan(10, 1, 20), "budget of at least 0.1,"),
        (lambda: plan(10, 3, 40, budget=0), "budget 0 must be"),
        (lambda: plan(10, 3, 40, budget=1.1), "budget 1.1 must be"),
    ],
)
def test_impossible_schedules(call: Callable[[], object], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        call()


# ---- the search ------------------------------------------------------------------------------------------------------


def test_a_clear_winner_is_settled_with_few_epochs(sim: ModuleType) -> None:
    truth = np.array([50, 30, 64, 31, 29, 33, 35, 28, 26, 30.0])
    trainer = sim.Simulated(noisy(truth, 0.1, 0.05), spread=2)
    told = halve(trainer, sim.collocations(10), [0, 1, 2])
    assert (told["winner"], told["runner_up"], told["settled"]) == ("a0+v002", "a0+v000", True)
    # one seed does not settle, the second does, and what was planned for the third is not trained
    assert [(len(each["in"]), each["epochs"], each["seeds"]) for each in told["rounds"]] == [
        (10, 4, [0]),
        (4, 6, [0, 1]),
    ]
    assert told["trained_epochs"] == trainer.total == 40 + 4 * 8
    assert told["verdict"].startswith("a0+v002 wins: ")
    assert "of 40 epochs" in told["verdict"]
    assert told["rounds"][0]["leader"] == "a0+v002"
    assert told["rounds"][0]["out"]["a0+v008"].startswith("round 1: ")
    assert told["rounds"][0]["out"]["a0+v008"].endswith(" 95 %, chance of seeds not known)")
    assert told["rounds"][1]["out"]["a0+v000"].startswith("round 2: 1")
    assert told["ranking"][1]["out"] == told["rounds"][1]["out"]["a0+v000"]
    assert told["ranking"][0]["wins"] == 2
    assert told["ranking"][0]["seconds"] == 0.5 * told["ranking"][0]["epochs"]
    assert told["difference"]["low"] > 0


def test_leaving_by_rank_settles_nothing(sim: ModuleType) -> None:
    """v005 leaves by rank in the first round, within chance of the winner; that the last one is far off does not matter."""
    truth = np.full(10, 50.0)
    truth[0], truth[5] = 53, 20
    trainer = sim.Simulated(noisy(truth, 0.8, 0.3), spread=6)
    told = halve(trainer, sim.collocations(10), [0, 1, 2])
    assert told["settled"] is False
    assert told["verdict"].startswith("not settled: ")
    assert told["verdict"].count(" of 40 epochs") == 1
    outs = [why for each in told["rounds"] for why in each["out"].values()]
    by_rank = [why for why in outs if ": rank " in why]
    assert by_rank
    assert all("not told apart from it by chance" in why for why in by_rank)
    assert len(by_rank) < len(outs), "the worst leaves by an interval"
    assert ": rank " not in told["rounds"][0]["out"]["a1+v005"]


def test_a_late_look_can_settle_who_left_by_rank(sim: ModuleType) -> None:
    """With one seed nothing is said of seeds; the second round tells how much chance there was in the first."""
    truth = np.linspace(60, 30, 10)
    told = halve(sim.Simulated(noisy(truth, 0.05, 0.0), spread=0.01), sim.collocations(10), [0, 1, 2])
    assert all(why.endswith("chance of seeds not known)") for why in told["rounds"][0]["out"].values())
    assert told["settled"] is True
    unsure = halve(sim.Simulated(noisy(truth, 6.0, 0.0), spread=0.01), sim.collocations(10), [0, 1, 2])
    assert all(why.endswith("chance of seeds not known)") for why in unsure["rounds"][0]["out"].values())
    assert unsure["settled"] is False


def test_one_seed_cannot_settle(sim: ModuleType) -> None:
    told = halve(sim.Simulated(noisy(np.array([60.0, 30, 20]), 0, 0), spread=2), sim.collocations(3), [4])
    assert told["settled"] is None
    assert "chance of seeds is not known" in told["verdict"]
    assert told["seeds"] == [4]
    assert [each["seeds"] for each in told["rounds"]] == [[4]]


def test_intervals_share_the_confidence_of_all_rounds(sim: ModuleType) -> None:
    """What leaves and what is told in the end: 3 looks, among those in the round."""
    trainer = sim.Simulated(noisy(np.linspace(52, 48, 10), 0.4, 0.2), spread=8)
    each = sim.collocations(10)
    told = halve(trainer, each, [0, 1, 2])
    again = sim.Simulated(noisy(np.linspace(52, 48, 10), 0.4, 0.2), spread=8)
    found = {}
    for now in told["rounds"]:
        by_name = {one.name: [Trial(one, seed) for seed in now["seeds"]] for one in each if one.name in now["in"]}
        curves = again.train([trial for some in by_name.values() for trial in some], now["epochs"])
        scores = {name: [curves[trial].last for trial in some] for name, some in by_name.items()}
        clips = {name: np.stack([curves[trial].clips for trial in some]) for name, some in by_name.items()}
        found = race(scores, clips, looks=3)
        assert found.leader == now["leader"]
        for name, why in now["out"].items():
            assert f" below {found.leader}" in why
            assert f"({found.behind[name]}" in why
    last = found.behind[told["runner_up"]]
    assert (told["difference"]["low"], told["difference"]["high"]) == pytest.approx((last.low, last.high), abs=1e-4)


def test_scores_are_of_the_last_epoch(sim: ModuleType) -> None:
    """One is far above all others, but not when a round ends."""

    def score(trial: Trial, epoch: int, on: str, told: Mapping[str, str]) -> float:
        peak = 30 if number(trial) == 4 and epoch == 2 else 0
        return 10.0 + 2 * epoch - number(trial) + peak

    told = halve(sim.Simulated(score, spread=1), sim.collocations(10), [0, 1, 2])
    assert (told["rounds"][0]["epochs"], told["winner"]) == (4, "a0+v000")


def test_what_has_learnt_may_fall_back(sim: ModuleType) -> None:
    """A round that is prolonged has the same collocations and seeds as the one before; none is."""

    def score(trial: Trial, epoch: int, on: str, told: Mapping[str, str]) -> float:
        return 10.0 - 0.01 * number(trial) + (5 if 0 < epoch < 4 else 0)

    told = halve(sim.Simulated(score, spread=20, centred=True), sim.collocations(10), [0, 1, 2])
    assert [(each["epochs"], len(each["in"])) for each in told["rounds"]] == [(4, 10), (6, 4), (8, 2)]


def test_equals_are_not_told_apart_by_their_order(sim: ModuleType) -> None:
    """Risen, and all the same: nobody leaves."""
    trainer = sim.Simulated(lambda trial, epoch, on, told: 10.0 + 3 * epoch)
    told = halve(trainer, sim.collocations(10), [0, 1, 2])
    assert all(each["out"] == {} for each in told["rounds"])
    assert told["settled"] is False
    assert "have the same score" in " ".join(told["notes"])
    assert trainer.total <= 100


def test_equals_at_the_last_place_leave_together(sim: ModuleType) -> None:
    """Three learn; four would go on, and the fourth place is shared by seven."""

    def score(trial: Trial, epoch: int, on: str, told: Mapping[str, str]) -> float:
        return 5.0 + (epoch * (3 + 0.01 * number(trial)) if number(trial) in (2, 6, 9) else 0)

    trainer = sim.Simulated(score, spread=40, centred=True)
    told = halve(trainer, sim.collocations(10), [0, 1, 2])
    assert sorted(told["rounds"][1]["in"]) == ["a0+v002", "a0+v006", "a1+v009"]
    assert len(told["rounds"][0]["out"]) == 7
    assert all(": rank 4 of 10; " in why for why in told["rounds"][0]["out"].values())


@pytest.mark.parametrize("until", [3, 6, 8])
def test_before_any_learns_none_leaves(sim: ModuleType, until: int) -> None:
    """The first epochs' scores say the opposite of the truth, and differ without any chance."""

    def score(trial: Trial, epoch: int, on: str, told: Mapping[str, str]) -> float:
        early = 20.0 - number(trial) if number(trial) else 2.0
        return early if epoch < until else 60.0 - 5 * number(trial)

    trainer = sim.Simulated(score, clips=100, spread=0.5)
    told = halve(trainer, sim.collocations(10), [0, 1, 2])
    assert told["winner"] == "a0+v000"
    for each in told["rounds"]:
        assert each["out"] == {} or each["epochs"] > until
    assert trainer.total <= 100


def test_a_budget_that_ends_before_any_learns(sim: ModuleType) -> None:
    trainer = sim.Simulated(lambda trial, epoch, on, told: 7.0 + 0.3 * number(trial))
    told = halve(trainer, sim.collocations(10), [0, 1, 2])
    assert told["settled"] is False
    assert told["verdict"] == "not settled: no score rose after 10 of 40 epochs"
    assert trainer.total == 100
    assert "give a larger budget" in " ".join(told["notes"])
    assert all(each["out"] == {} for each in told["rounds"])


@settings(deadline=None, max_examples=60)
@given(
    SMALL,
    st.integers(1, 4),
    st.integers(6, 60),
    st.floats(0.1, 1),
    st.sampled_from([0.0, 0.5, 4.0]),
    st.integers(0, 12),
    st.integers(0, 1000),
)
def test_results_fit_together(
    sim: ModuleType, count: int, seeds: int, epochs: int, budget: float, chance: float, silent: int, rng: int
) -> None:
    truth = np.random.default_rng(rng).integers(40, 50, count).astype(float)
    rising = noisy(truth, chance, chance, rng)

    def score(trial: Trial, epoch: int, on: str, told: Mapping[str, str]) -> float:
        return 4.0 if epoch < silent else rising(trial, epoch, on, told)

    trainer = sim.Simulated(score, epochs=epochs, clips=20, spread=chance)
    collocations = sim.collocations(count)
    try:
        told = halve(trainer, collocations, range(seeds), budget=budget)
    except PlanError:
        assert affordable(count, seeds, epochs, budget) < 2 * count
        assert not trainer.calls
        return
    assert told["trained_epochs"] == trainer.total <= budget * count * seeds * epochs + 1e-6
    rows, rounds = told["ranking"], told["rounds"]
    assert [each["rank"] for each in rows] == list(range(1, count + 1))
    assert {each["name"] for each in rows} == {each.name for each in collocations}
    assert (rows[0]["name"], rows[1]["name"]) == (told["winner"], told["runner_up"])
    assert rows[0]["out"] == ""
    stayed = {name: index for index, each in enumerate(rounds) for name in each["in"]}
    assert [stayed[each["name"]] for each in rows] == sorted(stayed.values(), reverse=True)
    for before, now in pairwise(rounds):
        assert set(now["in"]) == set(before["in"]) - set(before["out"])
        assert len(now["in"]) >= 2
    for each in rounds:
        assert each["leader"] not in each["out"]
        assert each["epochs"] >= 2
        if each["epochs"] <= silent:
            assert each["out"] == {}
    gap = rows[0]["score"] - rows[1]["score"]
    if stayed[rows[1]["name"]] == len(rounds) - 1:
        assert told["difference"]["mean"] == pytest.approx(gap, abs=1e-5)
    assert told["settled"] in ((True, False) if len(rows[0]["values"]) > 1 else (None, False))
    # what runs again tells the same
    assert (
        halve(sim.Simulated(score, epochs=epochs, clips=20, spread=chance), collocations, range(seeds), budget=budget)
        == told
    )


def test_settled_is_seldom_wrong(sim: ModuleType) -> None:
    """Seeds, epochs and clips differ at random: who is settled is hardly ever worse than another by the truth."""
    wrong = settled = right = 0
    for rng in range(120):
        truth = 50 + np.random.default_rng(rng).normal(0, 2, 4)
        trainer = sim.Simulated(noisy(truth, 0.4, 0.2, rng), spread=5, clips=200, rng=rng)
        told = halve(trainer, sim.collocations(4), [0, 1, 2, 3], budget=0.5)
        best = sim.collocations(4)[int(np.argmax(truth))].name
        settled += told["settled"]
        right += told["winner"] == best
        wrong += told["settled"] and told["winner"] != best
    assert wrong <= 4
    assert settled >= 15
    assert right >= 90


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seeds": [0, 0]}, "twice"),
        ({"count": 1}, "1 collocations"),
        ({"confidence": 1.0}, "confidence 1 must"),
        ({"budget": 0.01}, "budget of at least"),
    ],
)
def test_bad_input(sim: ModuleType, change: dict[str, Any], said: str) -> None:
    trainer = sim.Simulated(lambda trial, epoch, on, told: 1.0)
    told = {"seeds": [0, 1], "count": 4} | change
    with pytest.raises(PlanError, match=said):
        halve(trainer, sim.collocations(told.pop("count")), told.pop("seeds"), **told)
    assert not trainer.calls


def test_a_trial_that_is_ahead_of_its_round_is_refused(sim: ModuleType) -> None:
    trainer = sim.Simulated(lambda trial, epoch, on, told: 1.0 * epoch)
    inner = trainer.train
    trainer.train = lambda trials, until: inner(trials, min(until + 2, 40))
    with pytest.raises(PlanError, match="scores of 6 epochs where 4 were asked for"):
        halve(trainer, sim.collocations(10), [0, 1, 2])
