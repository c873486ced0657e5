from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import ExtractError
from manifests import llp
from manifests.dense import Event
from pipelines.parsing.metrics import Parse, truth_of
from pipelines.parsing.scoring.interference import Ratio, interference, subsets


def oracle(o_a: Any, o_v: Any, g_a: Any, g_v: Any) -> list[tuple[float, int]]:
    """Eq. 8-11 as printed, in the order A_FP_VO, V_FP_AO, A_Leak_V, V_Leak_A; clips of 0/0 are skipped."""
    sums: list[list[float]] = [[], [], [], []]
    for i in range(len(o_a)):
        a, v, ga, gv = (x[i].astype(int) for x in (o_a, o_v, g_a, g_v))
        for ratios, above, below in (
            (sums[0], a * (1 - ga) * v, a * (1 - ga)),
            (sums[1], v * (1 - gv) * a, v * (1 - gv)),
            (sums[2], ga * (1 - gv) * a * v, ga * (1 - gv) * a),
            (sums[3], gv * (1 - ga) * v * a, gv * (1 - ga) * v),
        ):
            if below.sum():
                ratios.append(above.sum() / below.sum())
    return [(100 * sum(ratios) / len(ratios) if ratios else math.nan, len(ratios)) for ratios in sums]


@settings(max_examples=100, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 4)),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_four_ratios_are_those_of_the_paper(shape: Any, density: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted = Parse(*(rng.random((2, *shape)) < 0.4).astype(np.uint8))
    truth = Parse(*(rng.random((2, *shape)) < density).astype(np.uint8))
    got = interference(predicted, truth)
    expected = oracle(*predicted, *truth)
    for ratio, (percent, clips) in zip((got.a_fp_vo, got.v_fp_ao, got.a_leak_v, got.v_leak_a), expected, strict=True):
        assert ratio.percent == pytest.approx(percent, nan_ok=True)
        assert ratio.clips == clips
    assert got.of == shape[0]


def test_a_ratio_is_a_mean_over_the_clips_that_have_one() -> None:
    heard = np.array([[[1], [1], [1], [0]], [[1], [0], [0], [0]], [[0], [0], [0], [0]]], np.uint8)
    seen = np.array([[[1], [0], [0], [0]], [[1], [0], [0], [0]], [[0], [0], [0], [0]]], np.uint8)
    nothing = np.zeros_like(heard)
    got = interference(Parse(heard, seen), Parse(nothing, nothing))
    assert got.a_fp_vo == pytest.approx((200 / 3, 2))
    assert got.v_fp_ao == Ratio(100.0, 2)
    assert got.a_leak_v.clips == 0
    assert math.isnan(got.a_leak_v.percent)
    leak = interference(Parse(heard, seen), Parse(heard, nothing))
    assert leak.a_leak_v == pytest.approx((200 / 3, 2))
    assert leak.a_fp_vo.clips == 0
    flat = leak.as_dict()
    assert flat["a_leak_v"] == leak.a_leak_v.percent
    assert flat["a_leak_v_clips"] == 2
    assert flat["of"] == 3
    assert len(flat) == 9


def test_modalities_that_agree_leak_all_and_those_that_never_meet_leak_nothing() -> None:
    rng = np.random.default_rng(0)
    heard = (rng.random((6, 10, 5)) < 0.5).astype(np.uint8)
    nothing = np.zeros_like(heard)
    same = interference(Parse(heard, heard), Parse(nothing, nothing))
    apart = interference(Parse(heard, 1 - heard), Parse(nothing, nothing))
    assert (same.a_fp_vo.percent, same.v_fp_ao.percent) == (100, 100)
    assert (apart.a_fp_vo.percent, apart.v_fp_ao.percent) == (0, 0)


def test_wrong_input_is_told() -> None:
    zeros = np.zeros((2, 3, 4), np.uint8)
    with pytest.raises(ExtractError, match=r"predicted visual has shape \(2, 3, 5\)"):
        interference(Parse(zeros, np.zeros((2, 3, 5), np.uint8)), Parse(zeros, zeros))
    with pytest.raises(ExtractError, match="predicted audio holds 3"):
        interference(Parse(zeros + 3, zeros), Parse(zeros, zeros))


def test_subsets_compare_the_labels_of_whole_clips() -> None:
    events = [
        Event("same", "audio", 0, 1, "Dog"), Event("same", "visual", 5, 6, "Dog"),
        Event("more", "both", 0, 1, "Dog"), Event("more", "audio", 0, 1, "Cat"),
        Event("apart", "audio", 0, 1, "Dog"), Event("apart", "visual", 0, 1, "Cat"),
        Event("heard", "audio", 0, 1, "Dog"), Event("elsewhere", "audio", 0, 1, "Dog"),
    ]  # fmt: skip
    got = subsets(iter(events), ["same", "more", "apart", "heard", "none"])
    assert got.non_identical.tolist() == [False, True, True, True, False]
    assert got.non_common.tolist() == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("audio", "non_identical"), [("AVVP_eval_audio.pre-2024-04.csv", 663), ("AVVP_eval_audio.csv", 664)]
)
def test_the_subsets_of_the_official_test_clips(shared: Path, audio: str, non_identical: int) -> None:
    folder = shared / "data" / "llp"
    built = llp.clips(folder / "AVVP_dataset_full.csv", audio=folder / audio)
    ids = [clip.clip_id for clip in built.clips if clip.split == "test"]
    of_test = [event for event in built.events if event.clip_id in set(ids)]
    for events in (built.events, of_test):
        got = subsets(events, ids)
        assert (int(got.non_identical.sum()), int(got.non_common.sum())) == (non_identical, 169)
    seconds = truth_of(built.events, ids, llp.LABELS, 10)
    common = (seconds.audio.max(axis=1) & seconds.visual.max(axis=1)).max(axis=1)
    assert int((common == 0).sum()) == 170, "one clip shares only a label whose row holds no second"
