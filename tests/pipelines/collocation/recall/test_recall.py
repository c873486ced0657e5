"""Recall@1 against loops, on planted neighbours, whatever is compared at once, and on bad input."""

from __future__ import annotations

import math
import re
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import PlanError, UnknownName
from pipelines.collocation.recall import neighbours
from pipelines.collocation.recall.recall import COLUMNS, Labelled, Recall, Row, of_raw, of_streams, recall_at_1

READINGS, SCOPES = ("shares a label", "equal labels"), ("all", "other clips")
sizes = st.tuples(st.integers(2, 5), st.integers(1, 5), st.integers(3, 9), st.integers(1, 4))


def drawn(seed: int, n: int, t: int, d: int, c: int) -> Labelled:
    rng = np.random.default_rng(seed)
    labels = rng.random((n, t, c)) < 0.4
    labels[:2, 0] |= ~labels[:2, 0].any(axis=1, keepdims=True)
    return rng.standard_normal((n, t, d)).astype(np.float32), labels


def by_loops(one: Labelled, other: Labelled | None) -> dict[tuple[str, str], float]:
    """As it is told in words: one second after the other, in double precision."""
    found = one if other is None else other
    hits: dict[tuple[str, str], list[bool]] = {(reading, scope): [] for reading in READINGS for scope in SCOPES}
    clips, seconds = one[0].shape[:2]
    everywhere = [(i, t) for i in range(clips) for t in range(seconds)]
    for i, t in everywhere:
        mine = set(np.flatnonzero(one[1][i, t]))
        for scope in SCOPES:
            best, best_at = -math.inf, None
            for j, s in everywhere:
                itself = other is None and (i, t) == (j, s)
                a, b = (rows.astype(np.float64) for rows in (one[0][i, t], found[0][j, s]))
                lengths = np.linalg.norm(a) * np.linalg.norm(b)
                if itself or (scope == "other clips" and i == j) or not found[1][j, s].any() or not lengths:
                    continue
                if (cosine := float(a @ b / lengths)) > best:
                    best, best_at = cosine, (j, s)
            if mine:
                its = set(np.flatnonzero(found[1][best_at])) if best_at else set()
                hits["shares a label", scope].append(bool(mine & its))
                hits["equal labels", scope].append(mine == its)
    return {key: 100 * sum(each) / len(each) for key, each in hits.items()}


def percents(found: tuple[Recall, ...]) -> dict[tuple[str, str], float]:
    assert len({each.segments for each in found}) == 1
    return {(each.reading, each.scope): each.recall for each in found}


@given(st.integers(0, 2**32 - 1), sizes, st.booleans(), st.integers(1, 30))
@settings(max_examples=80, deadline=None)
def test_recall_is_that_of_loops(seed: int, size: tuple[int, int, int, int], across: bool, queries: int) -> None:
    one = drawn(seed, *size)
    other = drawn(seed + 1, *size) if across else None
    found = recall_at_1(one, other, queries=queries)
    assert percents(found) == pytest.approx(by_loops(one, other))
    assert found[0].segments == one[1].any(axis=2).sum()


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=30, deadline=None)
def test_copies_and_zeros_are_as_in_loops(seed: int, across: bool) -> None:
    """Each vector is one of three, times a power of two, which leaves its direction exactly as it is; or zero."""
    rng = np.random.default_rng(seed)
    one = drawn(seed, 4, 4, 300, 3)
    some = (
        one[0][0, :3][rng.integers(0, 3, (4, 4))]
        * 2.0 ** rng.integers(-3, 3, (4, 4, 1))
        * (rng.random((4, 4, 1)) < 0.8)
    )
    one = some.astype(np.float32), one[1]
    other = (one[0][::-1].copy(), drawn(seed + 1, 4, 4, 300, 3)[1]) if across else None
    assert percents(recall_at_1(one, other, queries=3)) == pytest.approx(by_loops(one, other))


# ---- planted ---------------------------------------------------------------------------------------------------------


def planted() -> Labelled:
    """Three clips of two seconds. Seconds of a clip are alike; a's first is more like b, b like c, c like b."""
    angles = np.radians(np.array([[0.0, -5], [30, 33], [50, 52]]))
    features = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    sets = [[{0}, {0, 1}], [{1}, {1}], [{1, 2}, {0}]]
    labels = np.array([[[c in each for c in range(3)] for each in clip] for clip in sets])
    return features, labels


def test_planted_within() -> None:
    # all: (0,0)<->(0,1) share; (1,0)<->(1,1) equal; (2,0)<->(2,1) neither
    # other clips: (0,0)->(1,0) no; (0,1)->(1,0) share; (1,0) and (1,1)->(2,0) share;
    # (2,0)->(1,1) share; (2,1)->(1,1) no
    found = percents(recall_at_1(planted()))
    assert found == pytest.approx(
        {
            ("shares a label", "all"): 100 * 4 / 6,
            ("equal labels", "all"): 100 * 2 / 6,
            ("shares a label", "other clips"): 100 * 4 / 6,
            ("equal labels", "other clips"): 0,
        }
    )


def test_planted_across() -> None:
    features, labels = planted()
    turned = labels[:, :, [1, 2, 0]]
    # all: each finds its own second, whose labels are turned: of {0}->{2}, {0,1}->{2,0}, {1}->{0}, {1,2}->{0,1}, two share
    found = percents(recall_at_1((features, labels), (features, turned)))
    assert found["shares a label", "all"] == pytest.approx(100 * 2 / 6)
    assert found["equal labels", "all"] == 0
    same = percents(recall_at_1((features, labels), (features, labels)))
    assert same["equal labels", "all"] == 100
    assert same["shares a label", "other clips"] == pytest.approx(100 * 4 / 6)


def test_seconds_without_a_label_neither_look_nor_are_found() -> None:
    features, labels = planted()
    labels = labels.copy()
    labels[1] = False
    found = recall_at_1((features, labels))
    assert {each.segments for each in found} == {4}
    # (0,0) and (0,1) find (2,0): {1, 2}; (2,0) and (2,1) find (0,0): {0}
    assert percents(found)["shares a label", "other clips"] == pytest.approx(100 * 2 / 4)
    heard = labels.copy()
    heard[0] = True
    across = recall_at_1((features, heard), (features, planted()[1] & (np.arange(3) < 2)[:, None, None]))
    assert {each.segments for each in across} == {4}


def test_a_second_of_zeros_misses_and_is_never_found() -> None:
    features, labels = planted()
    features = features.copy()
    labels = np.ones_like(labels)
    # all others point away from the first clip
    features[0] = [[-1.0, -1.0], [0.0, 0.0]]
    found = percents(recall_at_1((features, labels)))
    assert found["equal labels", "all"] == pytest.approx(100 * 5 / 6)
    features[1:] = 0
    assert set(percents(recall_at_1((features, labels))).values()) == {0.0}


def test_of_equally_similar_seconds_the_first_counts() -> None:
    vector = np.random.default_rng(0).standard_normal(700)
    features = np.tile(vector, (40, 10, 1))
    labels = np.zeros((40, 10, 2), bool)
    labels[:, :, 1] = True
    labels[0, 0] = labels[1, 0] = [True, False]
    # within all clips (0,0) is found by all but itself, which finds (0,1); among others, clip 0 finds (1,0)
    found = percents(recall_at_1((features, labels), queries=37))
    assert found["equal labels", "all"] == pytest.approx(100 * 1 / 400)
    assert found["equal labels", "other clips"] == pytest.approx(100 * 2 / 400)


@pytest.mark.parametrize("scale", [1e-300, 1e-25, 1.0, 1e25, 1e300])
def test_length_does_not_matter(scale: float) -> None:
    features, labels = planted()
    assert percents(recall_at_1((features * scale, labels))) == percents(recall_at_1((features, labels)))


def test_what_is_compared_at_once_changes_nothing() -> None:
    one, other = drawn(1, 60, 10, 96, 5), drawn(2, 60, 10, 96, 5)
    for there in (None, other):
        found = [recall_at_1(one, there, queries=queries) for queries in (1, 7, 256, 100_000)]
        assert all(each == found[0] for each in found)


def test_few_seconds_are_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    first = neighbours._first

    def noted(alike: neighbours.Floats) -> neighbours.Ints:
        shapes.append(alike.shape)
        return first(alike)

    monkeypatch.setattr(neighbours, "_first", noted)
    recall_at_1(drawn(1, 90, 10, 4, 3))
    assert len(shapes) == 2 * math.ceil(drawn(1, 90, 10, 4, 3)[1].any(axis=2).sum() / neighbours.QUERIES)
    assert {rows for rows, _ in shapes[:-2]} == {neighbours.QUERIES}


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_rows_of_raw_features() -> None:
    features, labels = planted()
    rows = of_raw("visual", "resnet152", features, labels.astype(np.uint8))
    assert COLUMNS == (
        "kind", "direction", "audio", "visual", "features", "reading", "scope", "recall", "segments"
    )  # fmt: skip
    assert [tuple(asdict(row).values())[:-2] for row in rows] == [
        ("within", "visual to visual", "", "resnet152", "raw", reading, scope)
        for scope in SCOPES
        for reading in READINGS
    ]
    assert [(row.recall, row.segments) for row in rows] == [
        (each.recall, each.segments) for each in recall_at_1((features, labels))
    ]
    (first, *_) = of_raw("audio", "vggish", features, labels)
    assert (first.audio, first.visual, first.direction) == ("vggish", "", "audio to audio")


def test_rows_of_streams() -> None:
    audio, visual = drawn(3, 5, 4, 8, 3), drawn(4, 5, 4, 8, 3)
    rows = of_streams("vggish", "resnet152", audio[0], visual[0], audio[1], visual[1])
    assert {(row.audio, row.visual, row.features) for row in rows} == {("vggish", "resnet152", "streams")}
    known: dict[tuple[str, ...], Row] = {(row.direction, row.kind, row.reading, row.scope): row for row in rows}
    assert len(known) == len(rows) == 6 * 4
    expected = {
        ("audio to audio", "within"): (audio, None),
        ("visual to visual", "within"): (visual, None),
        ("audio to visual", "across"): (audio, visual),
        ("visual to audio", "across"): (visual, audio),
    }
    for (direction, kind), (one, other) in expected.items():
        for each in recall_at_1(one, other):
            row = known[direction, kind, each.reading, each.scope]
            assert (row.recall, row.segments) == (each.recall, each.segments)
    both = {"within": ("audio to audio", "visual to visual"), "across": ("audio to visual", "visual to audio")}
    for row in (row for row in rows if row.direction == "mean"):
        first, second = (known[direction, row.kind, row.reading, row.scope] for direction in both[row.kind])
        assert row.recall == pytest.approx((first.recall + second.recall) / 2)
        assert row.segments == first.segments + second.segments


# ---- bad input -------------------------------------------------------------------------------------------------------


def test_refusals() -> None:
    features, labels = planted()
    none, single = np.zeros_like(labels), labels & (np.arange(3) == 1)[:, None, None]
    bad = features.copy()
    bad[1, 1, 0] = np.nan
    cases = {
        "vggish: 1 of 12 values are NaN or infinite": (bad, labels),
        "vggish: features have the shape (6, 2); it must be (N, T, d)": (features.reshape(6, 2), labels),
        "vggish: labels have the shape (3, 1, 3); it must be (3, 2)": (features, labels[:, :1]),
        "vggish: labels hold values other than 0 and 1": (features, labels * 2),
        "vggish: no second has a label": (features, none),
        "vggish: 1 clips have seconds with labels to be found": (features, single),
    }
    for said, (rows, marks) in cases.items():
        with pytest.raises(PlanError, match=re.escape(said)):
            of_raw("audio", "vggish", rows, marks)
    with pytest.raises(PlanError, match=r"features are \(3, 2, 2\) and \(3, 2, 1\); both must be of the same shape"):
        recall_at_1((features, labels), (features[..., :1], labels))
    with pytest.raises(PlanError, match=r"streams of a\+b, audio to visual: labels are \(3, 2, 3\) and \(3, 2, 2\)"):
        of_streams("a", "b", features, features, labels, np.ones((3, 2, 2)))
    with pytest.raises(PlanError, match="queries is 0; it must be at least 1"):
        recall_at_1((features, labels), queries=0)
    with pytest.raises(UnknownName, match="clip"):
        of_raw("clip", "r2plus1d", features, labels)  # type: ignore[arg-type]
