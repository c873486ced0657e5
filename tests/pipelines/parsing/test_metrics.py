from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import ExtractError, ManifestError, PlanError, UnknownName
from manifests import ave, llp
from manifests.dense import Event, read_dense, write_dense
from pipelines.parsing.metrics import (
    GATES,
    Level,
    Parse,
    Probabilities,
    Scores,
    accuracy,
    binarise,
    clip_scores,
    describe_gate,
    label_digest,
    label_version,
    per_class,
    score,
    truth_of,
)

OLD, NEW = "AVVP_eval_audio.pre-2024-04.csv", "AVVP_eval_audio.csv"
ORDER = [0, 1, 3, 2]  # the golden's event comes before its audio-visual


# ---- the rules of the specification, one clip, class and second at a time --------------------------------------------


def oracle(pred_a: Any, pred_v: Any, gt_a: Any, gt_v: Any) -> tuple[list[float], list[float]]:
    """Segment and event F of one clip, (T, C) each, in the order audio, visual, audio-visual, event."""
    pred_av, gt_av = pred_a * pred_v, gt_a * gt_v
    levels = []
    for count in (oracle_seconds, oracle_events):
        audio, visual, both = ([], [], [])
        for c in range(gt_a.shape[1]):
            audio.append(count(pred_a[:, c], gt_a[:, c]))
            visual.append(count(pred_v[:, c], gt_v[:, c]))
            both.append(count(pred_av[:, c], gt_av[:, c]))
        pooled = [(a[0] + v[0], a[1] + v[1], a[2] + v[2]) for a, v in zip(audio, visual, strict=True)]
        levels.append([oracle_f(counts) for counts in (audio, visual, both, pooled)])
    return levels[0], levels[1]


def oracle_seconds(pred: Any, gt: Any) -> tuple[int, int, int]:
    tp = fp = fn = 0
    for p, g in zip(pred, gt, strict=True):
        tp += p == 1 and g == 1
        fp += p == 1 and g == 0
        fn += p == 0 and g == 1
    return tp, fp, fn


def oracle_events(pred: Any, gt: Any) -> tuple[int, int, int]:
    found, there = oracle_runs(pred), oracle_runs(gt)

    def agrees(one: set[int], others: list[set[int]]) -> bool:
        return any(2 * len(one & other) >= len(one | other) for other in others)

    tp = sum(agrees(one, there) for one in found)
    return tp, len(found) - tp, sum(not agrees(one, found) for one in there)


def oracle_runs(row: Any) -> list[set[int]]:
    runs: list[set[int]] = []
    for t, value in enumerate(row):
        if value == 1 and t > 0 and row[t - 1] == 1:
            runs[-1].add(t)
        elif value == 1:
            runs.append({t})
    return runs


def oracle_f(by_class: list[tuple[int, int, int]]) -> float:
    f = [2 * tp / (2 * tp + fp + fn) for tp, fp, fn in by_class if tp + fp != 0 or tp + fn != 0]
    return sum(f) / len(f) if f else 1.0


@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 23), st.integers(1, 6)),
    density=st.sampled_from([0.05, 0.3, 0.5, 0.8, 1.0]),
    flips=st.sampled_from([0.0, 0.1, 0.5]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_clip_scores_as_by_the_rules_read_literally(shape: Any, density: float, flips: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = Parse(*(rng.random((2, *shape)) < density).astype(np.uint8))
    predicted = Parse(*(np.asarray(truth) ^ (rng.random((2, *shape)) < flips)).astype(np.uint8))
    expected = np.array([oracle(*clip) for clip in zip(*predicted, *truth, strict=True)])
    got = clip_scores(predicted, truth)
    np.testing.assert_allclose(got.segment, expected[:, 0], atol=1e-12)
    np.testing.assert_allclose(got.event, expected[:, 1], atol=1e-12)


# ---- the official evaluation -----------------------------------------------------------------------------------------


def _against_official(path: Path) -> int:
    cases = np.load(path)
    pred_a, pred_v, gt_a, gt_v = (cases[name].transpose(0, 2, 1) for name in ("pred_a", "pred_v", "gt_a", "gt_v"))
    predicted, truth = Parse(pred_a, pred_v), Parse(gt_a, gt_v)
    got = clip_scores(predicted, truth)
    np.testing.assert_allclose(got.segment, cases["segment"][:, ORDER], rtol=0, atol=1e-9)
    np.testing.assert_allclose(got.event, cases["event"][:, ORDER], rtol=0, atol=1e-9)
    scored = score(predicted, truth)
    assert scored.segment.audio == pytest.approx(100 * cases["segment"][:, 0].mean(), abs=1e-9)
    assert scored.event.event == pytest.approx(100 * cases["event"][:, 2].mean(), abs=1e-9)
    return len(gt_a)


def test_forty_cases_of_the_official_evaluation(golden: Path) -> None:
    assert _against_official(golden / "avvp_metric.npz") == 40


def test_every_case_of_the_official_evaluation(shared: Path) -> None:
    assert _against_official(shared / "data" / "derived" / "avvp_metric_golden.npz") == 100


@pytest.fixture(scope="module")
def official(shared: Path) -> Callable[[str], Any]:
    """By audio CSV: events, ids by split, and weak labels by id."""
    folder = shared / "data" / "llp"
    read: dict[str, Any] = {}

    def of(audio: str) -> Any:
        if audio not in read:
            built = llp.clips(folder / "AVVP_dataset_full.csv", audio=folder / audio)
            ids = {split: [c.clip_id for c in built.clips if c.split == split] for split in ("val", "test")}
            weak = {clip.clip_id: clip.labels for clip in built.clips}
            read[audio] = SimpleNamespace(events=built.events, ids=ids, weak=weak)
        return read[audio]

    return of


def _trivial(name: str, truth: Parse, weak: Any) -> Parse:
    nothing = np.zeros_like(truth.audio)
    everything = np.broadcast_to(weak[:, None], truth.audio.shape)
    speech = nothing.copy()
    speech[:, :, llp.LABELS.index("Speech")] = 1
    return {
        "empty": Parse(nothing, nothing),
        "weak_full": Parse(everything, everything),
        "speech_audio": Parse(speech, nothing),
        "oracle": truth,
        "oracle_gated_by_weak": Parse(truth.audio * everything, truth.visual * everything),
    }[name]


def test_every_locked_score_of_trivial_predictions(shared: Path, official: Any) -> None:
    locked = json.loads((shared / "data" / "derived" / "avvp_baseline_scores.json").read_text())
    names = {"A": "audio", "V": "visual", "AV": "audio_visual", "Type": "type", "Event": "event"}
    levels = {"seg": "segment", "ev": "event"}
    for case, expected in locked.items():
        split, audio, name = case.split("|")
        labels = official(audio)
        ids = labels.ids[split]
        truth = truth_of(labels.events, ids, llp.LABELS, 10)
        weak = np.array([[label in labels.weak[i] for label in llp.LABELS] for i in ids], np.uint8)
        got = score(_trivial(name, truth, weak), truth).as_dict()
        assert got["segment_type"] == pytest.approx(np.mean([got[f"segment_{names[n]}"] for n in ("A", "V", "AV")]))
        for key, value in expected.items():
            level, part = key.split("_")
            assert got[f"{levels[level]}_{names[part]}"] == pytest.approx(value, abs=1e-6), (case, key)
    assert len(locked) == 2 * 2 * 5


def test_a_test_split_takes_well_under_a_second() -> None:
    import time

    rng = np.random.default_rng(0)
    truth, predicted = (Parse(*(rng.random((2, 1200, 10, 25)) < 0.2).astype(np.uint8)) for _ in range(2))
    began = time.process_time()
    score(predicted, truth)
    assert time.process_time() - began < 1


# ---- small cases by hand ---------------------------------------------------------------------------------------------


def _one(audio: str, visual: str | None = None) -> Parse:
    rows = [np.array([[[int(second)] for second in text]], np.uint8) for text in (audio, visual or "0" * len(audio))]
    return Parse(rows[0], rows[1])


@pytest.mark.parametrize(
    ("predicted", "truth", "f"),
    [
        ("1100000000", "1111000000", 1.0),  # exactly half
        ("1100000000", "1111100000", 0.0),
        ("0111111111", "1111111111", 1.0),
        ("1101100000", "1111100000", 0.0),  # a gap splits: 2/5 and 2/5
        ("1101110000", "1111110000", 2 / 3),  # 2/6 and 3/6
        ("0000000011", "0000000001", 1.0),  # ends with the clip
        ("1", "1", 1.0),
    ],
)
def test_events_agree_from_half_of_their_union(predicted: str, truth: str, f: float) -> None:
    assert clip_scores(_one(predicted), _one(truth)).event[0, 0] == pytest.approx(f)


def test_nothing_found_of_nothing_is_a_perfect_clip_and_type_is_the_mean_of_its_parts() -> None:
    got = score(_one("1100", "0000"), _one("1111", "0000"), gate="g", labels="l")
    assert got == Scores(got.segment, Level(100, 100, 100, 100), 1, "g", "l")
    assert got.segment.audio == got.segment.event == pytest.approx(200 / 3)
    assert got.segment.visual == got.segment.audio_visual == 100
    assert got.segment.type == pytest.approx((200 / 3 + 200) / 3)
    assert list(got.as_dict()) == [
        f"{level}_{name}"
        for level in ("segment", "event")
        for name in ("audio", "visual", "audio_visual", "type", "event")
    ]
    assert got.as_dict()["segment_audio"] == got.segment.audio


def test_each_class_is_averaged_over_the_clips_in_which_it_counts() -> None:
    truth = Parse(np.zeros((3, 4, 3), np.uint8), np.zeros((3, 4, 3), np.uint8))
    predicted = Parse(np.zeros_like(truth.audio), np.zeros_like(truth.audio))
    truth.audio[0, :, 0] = truth.audio[1, :2, 0] = truth.visual[0, :, 0] = 1
    predicted.audio[0, :2, 0] = predicted.audio[2, :, 1] = 1
    rows = per_class(predicted, truth, ("a", "b", "c"))
    assert rows[0][:3] == ("a", 2, 1)
    assert rows[0][3:] == pytest.approx([100 / 3, 0, 0, 50, 0, 0])
    assert rows[1][:3] == ("b", 0, 0)
    assert rows[1].segment_audio == 0
    assert math.isnan(rows[1].segment_visual)
    assert all(math.isnan(value) for value in rows[2][3:])


def test_accuracy_counts_every_second() -> None:
    truth = np.array([[0, 28, 28], [3, 3, 28]])
    assert accuracy(np.array([[0, 28, 1], [3, 0, 28]]), truth) == pytest.approx(400 / 6)
    assert accuracy(truth, truth) == 100


def test_the_majority_class_of_ave(shared: Path) -> None:
    built = ave.clips(shared / "data" / "ave" / "Annotations.txt")
    ids = [clip.clip_id for clip in built.clips if clip.split == "test"]
    heard = truth_of(built.events, ids, ave.LABELS, 10).audio
    truth = np.where(heard.any(axis=2), heard.argmax(axis=2), 28)
    assert accuracy(np.full_like(truth, 28), truth) == pytest.approx(17.79, abs=0.005)
    assert label_version(built.events).startswith("official (AVE) (")


# ---- gates -----------------------------------------------------------------------------------------------------------


def _probabilities() -> Probabilities:
    frame = np.array([[[[0.5, 0.9], [0.9, 0.4999]], [[0.2, 0.6], [0.3, 0.45]]]], np.float32)
    return Probabilities(frame, *(np.array([row], np.float32) for row in ([0.5, 0.4], [0.45, 0.9], [0.2, 0.9])))


def test_each_gate_asks_another_probability_and_equal_passes() -> None:
    p = _probabilities()
    heard, seen = [[1, 1], [0, 1]], [[1, 0], [0, 0]]
    np.testing.assert_array_equal(binarise(p, "none").audio[0], heard)
    np.testing.assert_array_equal(binarise(p, "none").visual[0], seen)
    np.testing.assert_array_equal(binarise(p).audio[0], [[1, 0], [0, 0]])
    np.testing.assert_array_equal(binarise(p).visual[0], seen)
    np.testing.assert_array_equal(binarise(p, "per_modality").audio[0], [[0, 1], [0, 1]])
    np.testing.assert_array_equal(binarise(p, "per_modality").visual[0], [[0, 0], [0, 0]])
    assert binarise(p).audio.dtype == np.uint8
    cmpae = binarise(p, "per_modality", frame_threshold=0.25, audio_threshold=0.45, visual_threshold=[0.2, 0.95])
    np.testing.assert_array_equal(cmpae.audio[0], [[1, 1], [0, 1]])
    np.testing.assert_array_equal(cmpae.visual[0], [[1, 0], [1, 0]])
    by_class = binarise(p, "none", frame_threshold=[0.95, 0.45])
    np.testing.assert_array_equal(by_class.visual[0], [[0, 1], [0, 1]])
    assert set(GATES) == {"global", "per_modality", "none"}


def test_a_gate_is_told_in_one_line() -> None:
    assert describe_gate() == "global: video >= 0.5, seconds >= 0.5"
    assert describe_gate("none", frame_threshold=0.3) == "none: seconds >= 0.3"
    assert (
        describe_gate("per_modality", audio_threshold=0.45)
        == "per_modality: audio >= 0.45, visual >= 0.5, seconds >= 0.5"
    )
    one, other = (describe_gate("per_modality", visual_threshold=[0.2, t, 0.7]) for t in (0.3, 0.4))
    assert "visual >= 0.2..0.7 by class (" in one
    assert one != other


@pytest.mark.parametrize(
    ("gate", "options", "error", "words"),
    [
        ("globl", {}, UnknownName, "did you mean global"),
        ("global", {"frame_threshold": 1.01}, PlanError, "frame_threshold 1.01 is outside 0..1"),
        ("global", {"video_threshold": math.nan}, PlanError, "outside 0..1"),
        ("global", {"frame_threshold": "high"}, PlanError, "'high' is not a number"),
        ("global", {"audio_threshold": 0.4}, PlanError, "does not look at audio_threshold"),
        ("none", {"video_threshold": 0.4}, PlanError, "does not look at video_threshold"),
        ("per_modality", {"visual_threshold": [0.1, 0.2, 0.3]}, PlanError, "3 numbers and there are 2 classes"),
        ("per_modality", {"visual_threshold": [[0.1]]}, PlanError, r"shape \(1, 1\)"),
        ("per_modality", {"audio_threshold": []}, PlanError, "one per class"),
    ],
)
def test_wrong_gates_are_told(gate: Any, options: Any, error: type[ExtractError], words: str) -> None:
    with pytest.raises(error, match=words):
        binarise(_probabilities(), gate, **options)


def test_wrong_probabilities_are_told() -> None:
    p = _probabilities()
    broken = p.frame.copy()
    broken[0, 1, 0, 1] = math.nan
    for wrong, words in (
        (p._replace(frame=broken), "1 of 8 frame probabilities are NaN, the first of clip 0"),
        (p._replace(frame=p.frame * 4), "outside 0..1; logits need a sigmoid"),
        (p._replace(video=np.full((1, 2), np.inf)), "video probabilities hold inf"),
        (p._replace(frame=p.frame[:, :, 0]), "must be .clips, seconds, 2, classes"),
        (p._replace(audio=p.audio[:, :1]), r"audio probabilities have shape \(1, 1\)"),
        (p._replace(visual=p.visual.astype(int)), "must be floating point"),
    ):
        with pytest.raises(ExtractError, match=words):
            binarise(wrong)
    assert binarise(p._replace(video=np.array([[1.6, 0.1]]))).audio.any(), "the published sum may exceed 1"


def test_wrong_parses_are_told() -> None:
    good = _one("1100")
    for predicted, words in (
        (_one("110"), r"predicted audio has shape \(1, 3, 1\) and true audio \(1, 4, 1\)"),
        (Parse(good.audio, good.visual[0]), "must be .clips, seconds, classes"),
        (Parse(good.audio * 2, good.visual), "predicted audio holds 2"),
        (Parse(good.audio, np.full((1, 4, 1), math.nan)), "predicted visual holds nan"),
        (Parse(good.audio, np.full((1, 4, 1), 0.7)), "use binarise"),
    ):
        with pytest.raises(ExtractError, match=words):
            score(predicted, good)
    with pytest.raises(ExtractError, match="nothing to score: 0 clips"):
        score(good.of(np.array([False])), good.of(np.array([False])))
    with pytest.raises(ExtractError, match="2 names were given for 1 classes"):
        per_class(good, good, ("a", "b"))


def test_wrong_classes_of_seconds_are_told() -> None:
    truth = np.zeros((2, 3), int)
    for predicted, words in (
        (np.zeros((2, 3)), "use argmax"),
        (np.zeros((2, 3, 29), int), "use argmax"),
        (np.zeros((2, 4), int), r"\(2, 4\) and the true ones \(2, 3\)"),
        (truth - 1, "hold -1"),
    ):
        with pytest.raises(ExtractError, match=words):
            accuracy(predicted, truth)
    with pytest.raises(ExtractError, match="nothing to score"):
        accuracy(truth[:0], truth[:0])


# ---- labels ----------------------------------------------------------------------------------------------------------

EVENTS = (Event("b", "visual", 0, 2, "Dog"), Event("a", "audio", 1, 3, "Cat"), Event("a", "both", 2, 4, "Dog"))


def test_events_become_seconds() -> None:
    truth = truth_of((*EVENTS, Event("elsewhere", "audio", 90, 99, "Whale")), ["a", "b", "c"], ["Cat", "Dog"], 4)
    np.testing.assert_array_equal(truth.audio[0].T, [[0, 1, 1, 0], [0, 0, 1, 1]])
    np.testing.assert_array_equal(truth.visual[0].T, [[0, 0, 0, 0], [0, 0, 1, 1]])
    np.testing.assert_array_equal(truth.visual[1].T, [[0, 0, 0, 0], [1, 1, 0, 0]])
    assert not truth.audio[1:].any()
    assert truth.audio.dtype == np.uint8


def test_wrong_labels_are_told() -> None:
    for event, words in (
        (Event("a", "audio", 0, 1, "Dgo"), "clip a: no class is called 'Dgo'; did you mean Dog"),
        (Event("a", "audio", 3, 5, "Dog"), "goes from 3 to 5 s; it must lie within 0..4 s"),
        (Event("a", "audio", -1, 2, "Dog"), "from -1 to 2"),
        (Event("a", "audio", 2, 2, "Dog"), "at least one second"),
    ):
        with pytest.raises(ManifestError, match=words):
            truth_of([event], ["a"], ["Dog"], 4)
    with pytest.raises(ManifestError, match="the clip id 'a' is there twice"):
        truth_of(EVENTS, ["a", "b", "a"], ["Cat", "Dog"], 4)
    with pytest.raises(ManifestError, match="the class 'Dog' is there twice"):
        truth_of(EVENTS, ["a"], ["Dog", "Dog"], 4)
    with pytest.raises(PlanError, match="clips of 0 seconds"):
        truth_of(EVENTS, ["a"], ["Cat", "Dog"], 0)


def test_a_digest_names_a_set_of_events(tmp_path: Path) -> None:
    digest = label_digest(EVENTS)
    assert len(digest) == 12
    assert digest == label_digest(reversed(EVENTS)) == label_digest(iter(EVENTS))
    for other in (EVENTS[:2], (*EVENTS, EVENTS[0]), (*EVENTS[:2], Event("a", "both", 2, 3, "Dog"))):
        assert label_digest(other) != digest
    write_dense(tmp_path / "x.dense.csv", EVENTS)
    assert label_digest(read_dense(tmp_path / "x.dense.csv")) == digest
    assert label_version(iter(EVENTS)) == f"not an official set ({digest}: 3 events of 2 clips)"


@pytest.mark.parametrize(("audio", "when"), [(NEW, "since"), (OLD, "until")])
def test_the_official_versions_are_known(official: Any, audio: str, when: str) -> None:
    labels = official(audio)
    whole = label_version(labels.events)
    assert whole == f"official, {when} 2024-04-16 ({label_digest(labels.events)})"
    of = {s: [e for e in labels.events if e.clip_id in set(labels.ids[s])] for s in ("val", "test")}
    assert label_version(of["test"]).startswith(f"official, {when} 2024-04-16, test clips (")
    assert label_version(of["val"]).startswith("official, val clips (")
    assert label_version(labels.events[1:]).startswith("not an official set (")


def test_scores_need_no_torch() -> None:
    code = "import sys; import pipelines.parsing.scoring.interference; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
