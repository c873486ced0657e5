"""The numbers behind the figures, against small cases that can be done by hand."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.report import maps
from extract.report.coverage import Tally, cover
from extract.report.histogram import histogram
from extract.report.lanes import event_lanes, lowest, ticks
from extract.report.maps import principal
from extract.report.pictures import heat, narrowed, smaller
from extract.report.runs import read_runs
from extract.report.sample import choose, cosines, look
from extract.report.storage import store_bytes
from extract.report.subject import open_subject
from extract.report.words import cut, in_bytes, in_seconds
from extract.store import Store
from manifests.dense import Event


def test_coverage_counts_every_clip_once(full: Path, made: ModuleType) -> None:
    subject = open_subject(full, read_runs(full)[0])
    told = cover(subject)
    assert told.clips == Tally(rows=50, masked=4, failed=4, left=2)
    by_key = {each.key: each for each in told.keys}
    assert by_key[made.STILL.key].total == Tally(rows=56, masked=0, failed=2, left=2)
    assert by_key[made.MOVING.key].total == Tally(rows=54, masked=0, failed=4, left=2)
    assert by_key[made.SOUND.key].total == Tally(rows=52, masked=4, failed=2, left=2)
    for each in told.keys:
        assert sum(tally.total for _, tally in each.splits) == 60
        assert {name: tally.total for name, tally in each.splits} == {"train": 36, "val": 12, "test": 12}


def test_a_key_that_the_last_run_replaced_does_not_count(full: Path, made: ModuleType) -> None:
    runs, _ = read_runs(full)
    for run in runs:
        run.header = {**run.header, "keys": [made.STILL.key, made.MOVING.key, "vggish@000000000000"]}
    subject = open_subject(full, runs)
    assert subject.older == {made.SOUND.key}
    assert made.SOUND.key not in subject.wanted
    assert cover(subject).clips.left == 56  # the new key has no rows of anyone yet


def test_storage_sums_up(full: Path, made: ModuleType) -> None:
    subject = open_subject(full, ())
    told = store_bytes(subject)
    store = Store(full)
    assert told.size_bytes == sum(path.stat().st_size for path in (full / "parts").glob("*.h5"))
    for each in told.keys:
        sizes = [store[clip_id, each.key].nbytes for clip_id in store.clips(each.key)]
        assert (each.clips, each.size_bytes) == (len(sizes), sum(sizes))
        assert each.stored == pytest.approx(1.0)
    assert dict(told.machine)["device"] == ("cuda (NVIDIA H200)",)
    assert told.keys[0].key == made.STILL.key


def test_runs(full: Path) -> None:
    (last, first), count = read_runs(full)
    assert count == 2
    assert (last.computed, last.deaths, last.lanes, last.wall_s) == (60, 1, 2, 40.0)
    assert last.clips_per_s == pytest.approx(1.5)
    assert sum(share for _, _, share in last.segments) == pytest.approx(100)
    assert {name: seconds for name, seconds, _ in last.segments}["other"] == pytest.approx(80 - 2 * 24.2)
    assert first.wall_s is None
    assert first.ended == ""


@given(st.lists(st.integers(-50, 5000) | st.floats(-1e6, 1e6), min_size=1))
def test_histograms_hold_every_value(values: list[float]) -> None:
    told = histogram(np.array(values, np.float64))
    assert told is not None
    assert told.count == len(values)
    if told.bars:
        assert sum(count for _, _, count, _ in told.bars) == len(values)
        assert max(height for *_, height in told.bars) == 100
        assert len(told.bars) <= 24
        assert told.bars[0][0] <= told.low
        assert told.bars[-1][1] >= told.high


def test_principal_components_are_those_of_the_singular_values() -> None:
    rng = np.random.default_rng(0)
    for shape in ((40, 7), (7, 40)):
        means = (rng.standard_normal(shape) * np.linspace(1, 4, shape[1])).astype(np.float32)
        plane, explained = principal(means)
        centred = means - means.mean(axis=0)
        u, s, _ = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
        expected = (u * s)[:, :2]
        assert np.abs(plane) == pytest.approx(np.abs(expected), abs=1e-3)
        assert explained == pytest.approx(100 * s[:2] ** 2 / (s**2).sum(), abs=1e-3)


def test_principal_components_of_equal_clips() -> None:
    plane, explained = principal(np.ones((3, 1), np.float32))
    assert plane.tolist() == [[0, 0]] * 3
    assert explained == ()


def test_maps_group_by_first_label(full: Path, made: ModuleType) -> None:
    store = Store(full)
    looked = look(store, made.STILL, store.clip_ids())
    drawn = maps.draw(looked, store.manifest, "pca")
    assert drawn is not None
    assert drawn.clips == sum(len(group.points) for group in drawn.groups) == len(store.clips(made.STILL.key))
    assert [group.colour for group in drawn.groups] == [1, 2, 3, 4, 5, 6, 7, 0]
    assert drawn.groups[-1].name == maps.OTHERS
    for group in drawn.groups:
        for x, y, title in group.points:
            assert 0 <= x <= 1000
            assert 0 <= y <= drawn.height
            assert group.colour == 0 or group.name in title


def test_looking_skips_rows_that_a_policy_filled(full: Path, made: ModuleType) -> None:
    store = Store(full)
    looked = look(store, made.SOUND, store.clip_ids())
    silent = {made.clip_id(number) for number in (3, 20, 37, 54)}
    assert not silent & set(looked.ids)
    assert looked.rows > looked.valid_rows
    one = looked.ids[0]
    rows = store.rows(one, made.SOUND.key)
    assert looked.means[0] == pytest.approx(rows.data[rows.valid > 0].mean(axis=0), rel=1e-5)
    assert looked.lag[0] == pytest.approx(1.0)
    assert looked.picture.shape == (10, 10)


def test_sampling_is_bounded_and_the_same_every_time(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(full)
    monkeypatch.setattr("extract.report.sample.CLIPS_MOST", 10)
    assert len(set(choose(store, 3))) == 10
    assert choose(store, 3) == choose(store, 3)
    monkeypatch.setattr("extract.report.sample.POINTS_MOST", 12)
    assert len(choose(store, 3)) == 4


def test_reading_is_bounded(full: Path, made: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(full)
    monkeypatch.setattr("extract.report.sample.READ_BYTES", 5 * 80 * 256 * 4)
    assert len(look(store, made.STILL, store.clips(made.STILL.key)).ends_s) in (5, 6)


def test_cosines() -> None:
    data = np.array([[1, 0], [1, 1], [0, 0], [3, 0]], np.float32)
    table = cosines(data, np.array([True, True, True, False]))
    half = 0.5**0.5
    nan = np.nan
    assert table == pytest.approx(
        np.array([[1, half, nan, nan], [half, 1, nan, nan], [nan] * 4, [nan] * 4]), nan_ok=True
    )
    assert lowest(table) == 0.7
    assert lowest(np.array([[0.9961]])) == 0.995
    assert lowest(np.array([[-0.31]])) == -0.4
    assert lowest(np.array([[np.nan]])) == 0.0


def test_events_that_overlap_have_lines_of_their_own() -> None:
    events = [Event("a", "both", 0, 4, "x"), Event("a", "audio", 2, 6, "y"), Event("a", "visual", 4, 12, "x")]
    heard, seen = event_lanes(events, 10.0)
    assert [[bar.text for bar in track] for track in heard.tracks] == [["x"], ["y"]]
    assert [(bar.left, bar.width) for bar in seen.tracks[0]] == [(0, 40), (40, 60)]  # cut where the axis ends


@pytest.mark.parametrize("seconds", [0.4, 1.0, 7.3, 10.0, 59.9, 60.0])
def test_the_axis_has_a_few_marks(seconds: float) -> None:
    marks = ticks(seconds)
    assert 3 <= len(marks) <= 13
    assert all(0 <= left <= 100 + 1e-6 for _, left in marks)


def test_pictures() -> None:
    assert heat(np.array([[np.nan, 0.0, 1.0]]), 0, 1).startswith("data:image/png;base64,")
    assert heat(np.zeros((0, 0)), 0, 1).startswith("data:image/png")
    assert narrowed(np.arange(10.0)[None], 5).tolist() == [[0.5, 2.5, 4.5, 6.5, 8.5]]
    assert smaller(np.ones((256, 256))).shape == (96, 96)


def test_words() -> None:
    assert [in_bytes(n) for n in (0, 999, 5_400_000, 123_456_789, 2e12)] == [
        "0 bytes",
        "999 bytes",
        "5.4 MB",
        "123 MB",
        "2.00 TB",
    ]
    assert [in_seconds(s) for s in (0.1234, 10, 95.24, 300, 9000)] == ["0.123 s", "10 s", "95.2 s", "5.0 min", "2.5 h"]
    assert cut("abcdef", 4) == "abc…"
