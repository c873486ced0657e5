"""Partners and split points: what they may be, and what they depend on."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from extract.errors import PlanError
from pipelines.parsing.learning.augment import partners, split_points


def labelled(seed: int, clips: int, classes: int = 6) -> NDArray[np.bool_]:
    """One or two labels per clip; the first clips make sure that everyone has a partner."""
    draw = np.random.default_rng(seed)
    weak = np.zeros((clips, classes), bool)
    weak[np.arange(clips), draw.integers(0, classes, clips)] = True
    weak[np.arange(clips), draw.integers(0, classes, clips)] = True
    weak[:classes] = np.eye(classes, dtype=bool)
    return weak


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(6, 60), st.integers(0, 2**62), st.integers(0, 1000), st.randoms())
def test_partners_are_disjoint_and_the_same_in_any_company(
    draw: int, clips: int, seed: int, epoch: int, shuffle: Random
) -> None:
    weak = labelled(draw, clips)
    rows = np.arange(clips)
    found = partners(weak, rows, seed=seed, epoch=epoch)
    assert found.dtype == np.int64
    assert found.shape == (clips,)
    assert not (weak & weak[found]).any()
    order = rows.tolist()
    shuffle.shuffle(order)
    some = np.array(order[: clips // 2 + 1])
    assert np.array_equal(partners(weak, some, seed=seed, epoch=epoch), found[some])
    one = [int(partners(weak, rows[i : i + 1], seed=seed, epoch=epoch)[0]) for i in some.tolist()]
    assert one == found[some].tolist()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**62), st.integers(0, 1000))
def test_partners_and_splits_differ_between_epochs_and_seeds(seed: int, epoch: int) -> None:
    weak, rows = labelled(0, 200), np.arange(200)
    here = partners(weak, rows, seed=seed, epoch=epoch)
    cut = split_points(rows, 10, seed=seed, epoch=epoch)
    for other in ({"seed": seed, "epoch": epoch + 1}, {"seed": seed + 1, "epoch": epoch}):
        assert (partners(weak, rows, **other) != here).mean() > 0.8
        assert (split_points(rows, 10, **other) != cut).mean() > 0.6


def test_every_disjoint_clip_is_as_likely() -> None:
    weak = np.zeros((12, 3), bool)
    weak[:4, 0] = weak[4:10, 1] = weak[10:, 2] = True
    rows = np.arange(12)
    drawn = np.array([partners(weak, rows, seed=5, epoch=epoch) for epoch in range(4000)])
    for row in range(12):
        choice = np.flatnonzero(~(weak & weak[row]).any(1))
        counts = np.bincount(drawn[:, row], minlength=12)
        assert counts.sum() == counts[choice].sum()
        expected = 4000 / len(choice)
        assert ((counts[choice] - expected) ** 2 / expected).sum() < 35  # chi-square, 9 degrees of freedom: p < 1e-4


def test_rare_partners_are_found_and_are_as_likely() -> None:
    weak = np.zeros((5000, 2), bool)
    weak[:, 0] = True
    weak[[7, 99, 4321]] = [False, True]
    rows = np.arange(5000)
    found = partners(weak, rows, seed=0, epoch=0)
    common = weak[:, 0]
    counts = np.bincount(found[common], minlength=5000)
    assert np.flatnonzero(counts).tolist() == [7, 99, 4321]
    assert counts[[7, 99, 4321]].min() > 4997 / 3 - 5 * 34
    assert common[found[~common]].all()
    some = rows[::7]
    assert np.array_equal(partners(weak, some, seed=0, epoch=0), found[some])


def test_numbers_do_not_change_with_versions() -> None:
    weak, rows = np.eye(5, dtype=bool)[np.arange(40) % 5], np.array([0, 1, 2, 39, 17])
    assert partners(weak, rows, seed=1, epoch=2).tolist() == [32, 9, 5, 35, 10]
    assert split_points(rows, 10, seed=1, epoch=2).tolist() == [6, 5, 2, 4, 1]


def test_a_clip_without_a_partner_is_named_with_its_labels() -> None:
    weak = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1]], bool)
    assert partners(weak, np.array([1, 2]), seed=0, epoch=0).tolist() == [2, 1]
    with pytest.raises(PlanError, match=r"clip 0 of the split \(labels: Speech, Dog\) .* each of the other 2 clips"):
        partners(weak, np.arange(3), seed=0, epoch=0, classes=("Speech", "Dog", "Cat"))
    with pytest.raises(PlanError, match=r"labels: number 0, 1\)"):
        partners(weak, np.arange(3), seed=0, epoch=0)


def test_a_clip_without_labels_is_refused() -> None:
    weak = np.array([[1, 0], [0, 1], [0, 0]], bool)
    assert partners(weak, np.array([0, 1]), seed=0, epoch=0).shape == (2,)
    with pytest.raises(PlanError, match="clip 2 of the split has no label"):
        partners(weak, np.arange(3), seed=0, epoch=0)


@settings(deadline=None)
@given(st.integers(2, 30), st.integers(0, 2**62), st.integers(0, 1000))
def test_split_points_leave_a_second_on_either_side(seconds: int, seed: int, epoch: int) -> None:
    rows = np.arange(400)
    found = split_points(rows, seconds, seed=seed, epoch=epoch)
    assert found.dtype == np.int64
    assert found.min() >= 1
    assert found.max() <= seconds - 1
    plain = split_points(rows, seconds, seed=seed, epoch=epoch, plain=True)
    assert plain.min() >= 0
    assert plain.max() <= seconds
    assert np.array_equal(split_points(rows[::-3], seconds, seed=seed, epoch=epoch), found[::-3])


def test_split_points_reach_all_their_range() -> None:
    rows = np.arange(9000)
    counts = np.bincount(split_points(rows, 10, seed=0, epoch=0), minlength=11)
    assert counts[[0, 10]].tolist() == [0, 0]
    assert ((counts[1:10] - 1000) ** 2 / 1000).sum() < 32  # chi-square, 8 degrees of freedom: p < 1e-4
    assert set(split_points(rows, 10, seed=0, epoch=0, plain=True)) == set(range(11))
    assert split_points(rows[:3], 2, seed=0, epoch=0).tolist() == [1, 1, 1]


def test_partners_say_nothing_about_splits() -> None:
    weak, rows = np.eye(10, dtype=bool)[np.arange(9000) % 10], np.arange(9000)
    both = np.stack([partners(weak, rows, seed=0, epoch=0), split_points(rows, 10, seed=0, epoch=0)])
    assert abs(np.corrcoef(both)[0, 1]) < 0.05


@pytest.mark.parametrize(("seconds", "plain"), [(1, False), (0, False), (0, True)])
def test_clips_too_short_to_split(seconds: int, plain: bool) -> None:
    with pytest.raises(PlanError, match=f"clips of {seconds} s cannot be split"):
        split_points(np.arange(2), seconds, seed=0, epoch=0, plain=plain)


@pytest.mark.parametrize("wrong", [{"seed": -1, "epoch": 0}, {"seed": 0, "epoch": -1}, {"seed": 2**64, "epoch": 0}])
def test_seeds_and_epochs_count_from_0(wrong: dict[str, int]) -> None:
    with pytest.raises(PlanError, match="whole numbers from 0"):
        partners(np.eye(3, dtype=bool), np.arange(3), **wrong)
    with pytest.raises(PlanError, match="whole numbers from 0"):
        split_points(np.arange(3), 10, **wrong)
