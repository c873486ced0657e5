"""The decoupled search, with trainers whose scores are tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import PlanError, UnknownName
from pipelines.collocation.collocations import Collocation, Trial
from pipelines.collocation.methods import decoupled
from pipelines.collocation.methods.decoupled import decouple, points
from pipelines.collocation.training.curves import Curve

RATES = ("1e-4", "3e-4", "1e-3")


@pytest.fixture(scope="session")
def sim(load: Callable[[str, Path], ModuleType]) -> ModuleType:
    return load("tests_simulated", Path(__file__).with_name("simulated.py"))


def number(trial: Trial) -> int:
    return int(trial.collocation.visual[1:])


def of_tables(favourite: list[int], val: Any) -> Callable[[Trial, int, str, Mapping[str, str]], float]:
    """On train a collocation is best with its favourite rate, in the middle of training; on val a table tells."""

    def score(trial: Trial, epoch: int, on: str, told: Mapping[str, str]) -> float:
        rate = RATES.index(told["lr"])
        if on == "train":
            far = abs(rate - favourite[number(trial)])
            return 45.0 - far if epoch == 1 else 40.0 + far
        # the best epoch of the worst is the best: who looks at it is misled
        return float(val[rate][number(trial)]) if epoch == 2 else 90.0 - val[rate][number(trial)]

    return score


def test_it_moves_until_nothing_is_better(sim: ModuleType) -> None:
    """0 likes rate 0, where 2 is best; 2 likes rate 1, where 1 is best; 1 likes it too, and is."""
    val = [[50, 51, 53], [50, 54, 52], [60, 0, 0]]
    trainer = sim.Simulated(of_tables([0, 1, 1], val), epochs=3)
    trainer.test = lambda trial, told: {"segment_type": 40.0 + 4 * number(trial) + RATES.index(told["lr"])}
    told = decouple(trainer, sim.collocations(3), [3, 5], grid={"lr": RATES})
    assert [(step["incumbent"], step["settings"], step["best"]) for step in told["path"]] == [
        ("a0+v000", {"lr": "1e-4"}, "a0+v002"),
        ("a0+v002", {"lr": "3e-4"}, "a1+v001"),
        ("a1+v001", {"lr": "3e-4"}, "a1+v001"),
    ]
    assert (told["path"][0]["score"], told["path"][0]["best_score"]) == (50, 53)
    assert told["path"][0]["tried"] == {"lr=1e-4": 45, "lr=3e-4": 44, "lr=1e-3": 43}
    assert (told["winner"], told["runner_up"]) == ("a1+v001", "a0+v002")
    assert [each["score"] for each in told["ranking"]] == [54, 52, 50]
    assert told["difference"]["mean"] == 2
    # three searches of three rates with one seed; all three with two seeds for each of two rates, not three
    assert told["trained_epochs"] == trainer.total == 3 * (3 * 3 + 2 * 3 * 2)
    assert [each["epochs"] for each in told["ranking"]] == [3 * (3 + 2 * 2)] * 3
    assert {until for _, until, _, _ in trainer.calls} == {3}
    assert {trial.seed for trials, _, on, _ in trainer.calls if on == "train" for trial in trials} == {3}
    assert told["ranking"][0]["test"]["segment_type"] == {"mean": 45.0, "std": 0.0, "values": [45.0]}
    assert told["ranking"][1]["test"] == {}
    assert "with lr=3e-4, trained on the clips of val" in told["verdict"]


def test_a_cycle_ends_with_the_best_of_the_last_comparison(sim: ModuleType) -> None:
    trainer = sim.Simulated(of_tables([0, 1], [[50, 51], [51, 50], [0, 0]]), epochs=3)
    trainer.test = lambda trial, told: {"segment_type": RATES.index(told["lr"])}
    told = decouple(trainer, sim.collocations(2), [0], grid={"lr": RATES})
    assert [step["incumbent"] for step in told["path"]] == ["a0+v000", "a1+v001"]
    assert told["winner"] == "a0+v000"
    assert any(note.startswith("a cycle: ") for note in told["notes"])
    assert told["ranking"][0]["score"] == 51
    # of the settings that are its own best, not of the last
    assert told["ranking"][0]["test"]["segment_type"]["mean"] == 0


def test_the_start_and_the_tolerance(sim: ModuleType) -> None:
    trainer = sim.Simulated(of_tables([0, 0, 0], [[50, 50.5, 51]] * 3), epochs=3)
    each = sim.collocations(3)
    stays = decouple(trainer, each, [0], grid={"lr": RATES}, start=each[1], tolerance=0.5)
    assert stays["path"][0]["incumbent"] == stays["winner"] == stays["ranking"][0]["name"] == "a1+v001"
    assert any("not by more than the tolerance of 0.5" in note for note in stays["notes"])
    assert stays["settled"] is False
    moves = decouple(trainer, each, [0], grid={"lr": RATES}, start=each[1], tolerance=0.4)
    assert moves["winner"] == "a0+v002"


def test_equals_do_not_move_it(sim: ModuleType) -> None:
    told = decouple(
        sim.Simulated(of_tables([0, 0], [[50, 50]] * 3), epochs=3), sim.collocations(2), [0], grid={"lr": RATES}
    )
    assert told["winner"] == "a0+v000"
    assert len(told["path"]) == 1


def test_without_a_grid_one_comparison_is_enough(sim: ModuleType) -> None:
    told = decouple(
        sim.Simulated(lambda trial, epoch, on, told: 50.0 + number(trial)), sim.collocations(4), [0], grid={}
    )
    assert told["winner"] == "a1+v003"
    assert told["path"][0]["tried"] == {"as given": 50.0}
    # compared once; the settings of two were "searched"
    assert told["trained_epochs"] == 40 * (4 + 2)


def test_points_of_a_grid() -> None:
    assert list(points({"lr": ["1", "2"], "batch": ["8"]})) == [{"lr": "1", "batch": "8"}, {"lr": "2", "batch": "8"}]
    assert list(points({})) == [{}]


@pytest.mark.parametrize(("spread", "settled"), [(0.5, True), (120.0, False)])
def test_settled_is_told_by_intervals(sim: ModuleType, spread: float, settled: bool) -> None:
    trainer = sim.Simulated(of_tables([0, 0, 0], [[50, 60, 40]] * 3), epochs=3, spread=spread, centred=True)
    told = decouple(trainer, sim.collocations(3), [0, 1, 2], grid={"lr": RATES})
    assert told["settled"] is settled
    assert (told["difference"]["low"] > 0) is settled
    alone = sim.Simulated(of_tables([0, 0, 0], [[50, 60, 40]] * 3), epochs=3, spread=0.5, centred=True)
    assert decouple(alone, sim.collocations(3), [0], grid={"lr": RATES})["settled"] is None


@settings(deadline=None, max_examples=150)
@given(st.integers(2, 6), st.integers(1, 3), st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 2.0]), st.data())
def test_random_tables(
    sim: ModuleType, count: int, seeds: int, rng: int, tolerance: float, data: st.DataObject
) -> None:
    made = np.random.default_rng(rng)
    val, favourite = made.integers(40, 48, (3, count)), made.integers(0, 3, count).tolist()
    trainer = sim.Simulated(of_tables(favourite, val), epochs=3)
    each = sim.collocations(count)
    start = data.draw(st.sampled_from(each))
    told = decouple(trainer, each, list(range(seeds)), grid={"lr": RATES}, start=start, tolerance=tolerance)
    names = [one.name for one in each]
    visited = [step["incumbent"] for step in told["path"]]
    assert visited[0] == start.name
    assert len(set(visited)) == len(visited)
    last = val[RATES.index(told["path"][-1]["settings"]["lr"])]
    of = dict(zip(names, last.tolist(), strict=True))
    cycle = any(note.startswith("a cycle") for note in told["notes"])
    assert cycle or told["winner"] == visited[-1]
    assert of[told["winner"]] >= max(of.values()) - (0 if cycle else tolerance)
    assert of[told["winner"]] >= of[start.name] - tolerance
    assert told["winner"] in visited
    for step, after in zip(told["path"], told["path"][1:], strict=False):
        assert step["best"] == after["incumbent"]
        assert step["best_score"] > step["score"] + tolerance
    for step in told["path"]:
        assert step["settings"] == {"lr": RATES[favourite[names.index(step["incumbent"])]]}
    distinct = {step["settings"]["lr"] for step in told["path"]}
    assert told["trained_epochs"] == trainer.total == 3 * (3 * len(visited) + len(distinct) * count * seeds)
    assert [row["rank"] for row in told["ranking"]] == list(range(1, count + 1))
    assert told["ranking"][0]["name"] == told["winner"]
    assert [row["score"] for row in told["ranking"][1:]] == sorted(
        (of[name] for name in names if name != told["winner"]), reverse=True
    )


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"seeds": [1, 1]}, PlanError, "twice"),
        ({"seeds": []}, PlanError, "0 seeds"),
        ({"count": 1}, PlanError, "1 collocations"),
        ({"grid": {"lr": []}}, PlanError, "for lr"),
        ({"grid": {"lr": ["1", "1"]}}, PlanError, "each once"),
        ({"tolerance": -1.0}, PlanError, "tolerance -1"),
        ({"tolerance": float("nan")}, PlanError, "tolerance nan"),
        ({"start": Collocation("a0", "v00")}, UnknownName, r"a0\+v00.*did you mean .*a0\+v000"),
    ],
)
def test_bad_input(sim: ModuleType, change: dict[str, Any], error: type[Exception], said: str) -> None:
    trainer = sim.Simulated(lambda trial, epoch, on, told: 1.0)
    told = {"seeds": [0, 1], "count": 3, "grid": {"lr": ["1"]}} | change
    with pytest.raises(error, match=said):
        decouple(trainer, sim.collocations(told.pop("count")), told.pop("seeds"), **told)
    assert not trainer.calls


def test_clips_of_folds_come_back_in_their_order() -> None:
    folds = [Curve((np.nan, 1.0), np.array([0.0, 3.0, 6.0]), 1.0), Curve((np.nan, 1.0), np.array([1.0, 4.0]), 2.0)]
    found = decoupled._joined([*folds, Curve((np.nan, 1.0), np.array([2.0, 5.0]), 4.0)])
    assert found.clips.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert found.last == 3
    assert np.isnan(found.val[0])
    assert found.work_s == 7
