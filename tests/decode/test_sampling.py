"""Which frames a row shows: every rule and policy, against its definition spelt out slowly, and against ffmpeg's counts."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backbones.spec import Frames
from extract.decode.sampling import ffmpeg_r8_slots, intervals, rounded_linspace, select
from extract.errors import TooShort
from extract.grid import NS, Grid
from extract.plan import Tap
from extract.testing import make_video, read_frame_number

RULES = ("centered", "every", "linspace")
POLICIES = ("stretch", "repeat_last", "zeros")
MS = 1_000_000


def steady(fps: float, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Times and durations of a constant rate, as containers store them."""
    count = round(seconds * fps)
    pts = np.rint(np.arange(count + 1) * (NS / fps)).astype(np.int64)
    return pts[:-1], np.diff(pts)


def choose(grid: Grid, per_row: int, pts, duration, clip_ns: int | None = None):
    pts, duration = np.asarray(pts, np.int64), np.asarray(duration, np.int64)
    length = int(pts[-1] + duration[-1]) if clip_ns is None else clip_ns
    windows = grid.windows_ns(length)
    return select(grid, per_row, windows, pts, duration), windows


@st.composite
def frames(draw):
    """Frames of a variable rate, with gaps, duplicates excluded; the first may be late."""
    steps = draw(st.lists(st.integers(1, 3000), min_size=1, max_size=60))
    start = draw(st.sampled_from([0, 0, 0, 7, 1400]))
    pts = (start + np.cumsum([0, *steps[:-1]])) * MS
    return pts.astype(np.int64), np.asarray(steps, np.int64) * MS


@st.composite
def grids(draw, rules=RULES, policies=POLICIES):
    return Grid(
        window_ns=draw(st.integers(20, 2500)) * MS,
        hop_ns=draw(st.integers(20, 2500)) * MS,
        count=draw(st.none() | st.integers(1, 40)),
        sampling=draw(st.sampled_from(rules)),
        stride=draw(st.integers(1, 4)),
        short=draw(st.sampled_from(policies)),
    )


# ---- what holds of every rule ----------------------------------------------------------------------------------------


@given(frames(), grids(), st.integers(1, 9))
def test_indices_are_frames_in_order_and_blank_rows_are_blank_altogether(clip, grid, per_row):
    chosen, windows = choose(grid, per_row, *clip)
    assert chosen.index.shape == (len(windows), per_row)
    assert chosen.valid.shape == (len(windows),)
    assert chosen.valid.dtype == np.uint8
    assert (chosen.slots == np.arange(len(clip[0]))).all()
    blank = chosen.index < 0
    assert (blank.all(axis=1) == blank.any(axis=1)).all()
    shown = chosen.index[~blank.any(axis=1)]
    assert ((shown >= 0) & (shown < len(clip[0]))).all()
    assert (np.diff(shown, axis=1) >= 0).all(), "time goes on within a row"
    assert (np.diff(shown[:, 0]) >= 0).all(), "and from row to row"
    assert not chosen.valid[blank.any(axis=1)].any()
    assert (chosen.source == chosen.index).all()


@given(frames(), grids(policies=("stretch",)), st.integers(1, 9))
def test_stretch_leaves_no_row_out_and_spans_the_clip(clip, grid, per_row):
    chosen, windows = choose(grid, per_row, *clip)
    assert chosen.valid.all()
    assert (chosen.index >= 0).all()
    if grid.sampling == "linspace":
        assert chosen.index[0, 0] == 0
        assert len(windows) * per_row == 1 or chosen.index[-1, -1] == len(clip[0]) - 1


@given(frames(), grids(policies=("repeat_last", "zeros")), st.integers(1, 9))
def test_policies_mark_the_same_rows_and_fill_only_those(clip, grid, per_row):
    """What is valid is the rule's matter; what fills the rest is the policy's."""
    from dataclasses import replace

    zeros, _ = choose(replace(grid, short="zeros"), per_row, *clip)
    again, _ = choose(replace(grid, short="repeat_last"), per_row, *clip)
    assert (zeros.valid == again.valid).all()
    good = zeros.valid.astype(bool)
    assert (zeros.index[good] == again.index[good]).all()
    assert (zeros.index[~good] == -1).all()
    assert (again.index >= 0).all()
    strict = replace(grid, short="error")
    if good.all():
        assert (choose(strict, per_row, *clip)[0].index == zeros.index).all()
    else:
        with pytest.raises(TooShort, match=f"row {int(np.argmax(~good))} asks for frames in"):
            choose(strict, per_row, *clip)


# ---- centered --------------------------------------------------------------------------------------------------------


@given(frames(), grids(rules=("centered",), policies=("zeros",)), st.integers(1, 6))
def test_centered_shows_what_is_on_screen_at_the_middle_of_each_cell(clip, grid, per_row):
    pts, duration = clip
    chosen, windows = choose(grid, per_row, pts, duration)
    until = np.append(pts[1:], pts[-1] + duration[-1])
    for row, (begin, end) in enumerate(windows):
        cells = [
            (begin + (end - begin) * j // per_row, begin + (end - begin) * (j + 1) // per_row) for j in range(per_row)
        ]
        covered = [any(p < b and u > a for p, u in zip(pts, until, strict=True)) for a, b in cells]
        assert chosen.valid[row] == all(covered), "valid exactly where each cell shows something"
        if not all(covered):
            continue
        for (a, b), got in zip(cells, chosen.index[row], strict=True):
            middle = (a + b) // 2
            on_screen = [i for i, (p, u) in enumerate(zip(pts, until, strict=True)) if p <= middle < u]
            assert got == (on_screen[0] if on_screen else (0 if middle < pts[0] else len(pts) - 1))


def test_centered_on_ten_seconds_of_thirty_frames_by_hand():
    chosen, _ = choose(Grid(NS // 8, NS // 8, 80), 1, *steady(30, 10))
    assert chosen.valid.all()
    assert chosen.index[:4, 0].tolist() == [1, 5, 9, 13]  # frames on screen at 62.5, 187.5, 312.5, 437.5 ms
    eight, _ = choose(Grid(NS, NS, 10), 8, *steady(30, 10))
    assert (eight.index.ravel() == chosen.index.ravel()).all()


def test_a_frame_stays_on_screen_through_a_gap():
    chosen, _ = choose(Grid(NS, NS, 5), 1, [0, NS // 2, 4 * NS], [NS // 2, NS // 2, NS])
    assert chosen.index[:, 0].tolist() == [1, 1, 1, 1, 2]
    assert chosen.valid.all()


def test_a_late_first_frame_leaves_the_rows_before_it_invalid():
    chosen, _ = choose(Grid(NS, NS, 4), 1, [2 * NS, 3 * NS], [NS, NS])
    assert chosen.index[:, 0].tolist() == [-1, -1, 0, 1]
    assert chosen.valid.tolist() == [0, 0, 1, 1]
    first, _ = choose(Grid(NS, NS, 4, short="repeat_last"), 1, [2 * NS, 3 * NS], [NS, NS])
    assert first.index[:, 0].tolist() == [0, 0, 0, 1]
    assert first.valid.tolist() == [0, 0, 1, 1]


# ---- every -----------------------------------------------------------------------------------------------------------


@given(frames(), grids(rules=("every",), policies=("zeros",)), st.integers(1, 6))
def test_every_takes_the_first_frame_in_the_window_and_each_strideth_after_it(clip, grid, per_row):
    pts, duration = clip
    chosen, windows = choose(grid, per_row, pts, duration)
    for row, (begin, end) in enumerate(windows):
        inside = [i for i, p in enumerate(pts) if begin <= p < end]
        wanted = [inside[0] + k * grid.stride for k in range(per_row)] if inside else []
        valid = bool(wanted) and wanted[-1] < len(pts)
        assert chosen.valid[row] == valid
        assert chosen.index[row].tolist() == (wanted if valid else [-1] * per_row)


# ---- linspace --------------------------------------------------------------------------------------------------------


@given(st.integers(1, 2000), st.integers(1, 400))
def test_rounded_linspace_is_numpys(n, count):
    assert rounded_linspace(n, count).tolist() == [int(np.round(x)) for x in np.linspace(0, n - 1, count)]


def test_rounded_linspace_rounds_halves_to_even():
    assert rounded_linspace(4, 3).tolist() == [0, 2, 3]  # 1.5 -> 2
    assert rounded_linspace(6, 3).tolist() == [0, 2, 5]  # 2.5 -> 2
    assert sorted(set(range(82)) - set(rounded_linspace(82, 80).tolist())) == [20, 61]
    assert len(set(rounded_linspace(78, 80).tolist())) == 78
    assert rounded_linspace(40, 80).tolist() == sorted([*range(40)] * 2)
    assert rounded_linspace(1, 80).tolist() == [0] * 80


@given(frames(), grids(rules=("linspace",), policies=("zeros",)), st.integers(1, 6))
def test_linspace_spreads_over_the_frames_that_appear_in_the_window(clip, grid, per_row):
    pts, duration = clip
    chosen, windows = choose(grid, per_row, pts, duration)
    until = np.append(pts[1:], pts[-1] + duration[-1])
    for row, (begin, end) in enumerate(windows):
        inside = [i for i, p in enumerate(pts) if begin <= p < end]
        standing = [i for i, (p, u) in enumerate(zip(pts, until, strict=True)) if p <= begin < u]
        if inside:
            steps = np.linspace(0, 1, per_row) if per_row > 1 else np.zeros(1)
            wanted = [int(np.rint(inside[0] + s * (inside[-1] - inside[0]))) for s in steps]
        else:
            wanted = standing * per_row
        assert chosen.valid[row] == bool(wanted)
        assert chosen.index[row].tolist() == (wanted or [-1] * per_row)


# ---- ffmpeg_r8 -------------------------------------------------------------------------------------------------------

R8 = Grid(NS // 8, NS // 8, 80, sampling="ffmpeg_r8", short="stretch")


@pytest.mark.parametrize(
    ("fps", "seconds", "count"),
    [(30, 10.0, 82), (24, 10.0, 82), (25, 10.0, 82), (60, 10.0, 82), (8, 10.0, 80), (30, 9.0, 74), (30, 10.2, 83)],
)
def test_counts_that_ffmpeg_writes(fps, seconds, count):
    assert len(ffmpeg_r8_slots(*steady(fps, seconds))) == count


@pytest.mark.parametrize("fps", [5, 6, 7, 8])
def test_slow_clips_give_no_more_than_eight_a_second(fps):
    assert len(ffmpeg_r8_slots(*steady(fps, 10))) == 80


@pytest.mark.parametrize("fps", [20, 23.976, 24, 25, 29.97, 30, 50, 60])
def test_nine_point_six_seconds_give_77_to_79(fps):
    assert 77 <= len(ffmpeg_r8_slots(*steady(fps, 9.6))) <= 79


def test_the_first_three_slots_are_packed_and_later_ones_early():
    pts, duration = steady(30, 10)
    slots = ffmpeg_r8_slots(pts, duration)
    assert slots[:6].tolist() == [0, 1, 3, 7, 10, 14]
    early_s = np.arange(len(slots))[3:80] / 8 - pts[slots[3:80]] / NS
    assert early_s.min() > 0.13
    assert early_s.max() < 0.18


def test_the_shipped_llp_clip_frame_by_frame(shared):
    """The 82 JPEGs that the authors published came from exactly these frames."""
    import av

    official = json.loads((shared / "data/llp/frames_BjCEufrlXm4/frame_map.json").read_text())["jpeg_to_source_frame"]
    with av.open(str(shared / "clips/YapengTian__AVVP-ECCV20/BjCEufrlXm4.mp4")) as file:
        stream = file.streams.video[0]
        times = sorted((p.pts, p.duration) for p in file.demux(stream) if p.size)
        pts, duration = (
            np.array([round(t * stream.time_base * NS) for t in column], np.int64)
            for column in zip(*times, strict=True)
        )
    assert ffmpeg_r8_slots(pts, duration).tolist() == official
    chosen, _ = choose(R8, 1, pts, duration)
    assert chosen.source[:, 0].tolist() == [official[k] for k in range(82) if k not in (20, 61)]
    assert chosen.valid.all()


@given(frames())
def test_slots_ascend_within_the_clip(clip):
    slots = ffmpeg_r8_slots(*clip)
    assert (np.diff(slots) >= 0).all()
    assert len(slots) == 0 or (slots[0] >= 0 and slots[-1] <= len(clip[0]) - 1)


def rint(x: float) -> int:
    return int(np.rint(x))


def by_the_rule(pts_s, duration_s) -> list[int]:
    """The rule of ``-r 8`` step by step, as spec section 1.2 states what ffmpeg 5.1.9 was measured to do."""
    written: list[int] = []
    repeated = [0, 0, 0]
    for i, (p, d) in enumerate(zip(pts_s, duration_s, strict=True)):
        lasts = rint(8 * d) if rint(8 * d) > 0 else min(8 * d, 1)
        early, late = 8 * p - len(written), 8 * p - len(written) + lasts
        if early < 0 and late > 0:
            early = 0
        copies, of_previous = 1, 0
        if late < -1.1:
            copies = 0
        elif late > 1.1:
            copies = rint(late)
            of_previous = rint(early - 0.6) if early > 1.1 else 0
        written += [max(i - 1, 0)] * min(of_previous, copies)
        written += [i] * (copies - min(of_previous, copies))
        repeated = [min(of_previous, copies), *repeated[:2]]
    return written + [len(pts_s) - 1] * sorted(repeated)[1]


@settings(max_examples=400)
@given(frames(), st.none() | st.sampled_from([1, 33, 41, 125, 1000]))
def test_the_rule_on_gaps_and_variable_rates(clip, nominal_ms):
    pts, duration = clip
    if nominal_ms is not None:  # as containers have it that know one duration for all frames
        duration = np.full_like(duration, nominal_ms * MS)
    assert ffmpeg_r8_slots(pts, duration).tolist() == by_the_rule((pts / NS).tolist(), (duration / NS).tolist())


@pytest.mark.parametrize(
    ("pts_s", "slots"),
    [
        # one frame per second: the pictures before a gap's end are copies of the frame before
        ([0, 1, 2], [0] * 8 + [1] * 8 + [2] * 8),
        ([0, 0.5], [0] * 8 + [1] * 4),
        ([0], [0] * 8),
    ],
)
def test_slides(pts_s, slots):
    pts = np.asarray(pts_s) * NS
    got = ffmpeg_r8_slots(pts.astype(np.int64), np.full(len(pts), NS)).tolist()
    assert got == by_the_rule(pts_s, [1.0] * len(pts_s))
    assert got == slots


@given(frames(), st.integers(1, 9))
def test_eighty_rows_of_any_clip_are_a_rounded_linspace_over_its_slots(clip, per_row):
    pts, duration = clip
    slots = ffmpeg_r8_slots(pts, duration)
    assume(len(slots))
    chosen, _ = choose(R8, per_row, pts, duration)
    positions = rounded_linspace(len(slots), 80 * per_row)
    assert (chosen.index.ravel() == positions).all()
    assert (chosen.source.ravel() == slots[positions]).all()
    assert chosen.valid.all()


@given(frames(), st.integers(1, 20))
def test_one_frame_per_row_is_valors_linspace_over_the_jpegs(clip, rows):
    """VALOR's images: ``np.round(np.linspace(0, N - 1, 10))`` of the N pictures that ``ffmpeg -r 8`` writes."""
    pts, duration = clip
    slots = ffmpeg_r8_slots(pts, duration)
    assume(len(slots))
    grid = Grid(NS, NS, rows, sampling="ffmpeg_r8", short="stretch")
    chosen, _ = choose(grid, 1, pts, duration)
    assert chosen.index[:, 0].tolist() == np.round(np.linspace(0, len(slots) - 1, rows)).astype(int).tolist()


def test_valors_ten_of_82_jpegs_by_hand():
    chosen, _ = choose(Grid(count=10, sampling="ffmpeg_r8", short="stretch"), 1, *steady(30, 10))
    assert chosen.index[:, 0].tolist() == [0, 9, 18, 27, 36, 45, 54, 63, 72, 81]


# ---- interval --------------------------------------------------------------------------------------------------------


@given(frames(), st.integers(1, 20), st.integers(1, 20))
def test_interval_is_aves_loop(clip, rows, per_row):
    pts, duration = clip
    grid = Grid(NS, NS, rows, sampling="interval", short="stretch")
    if len(pts) < rows:
        with pytest.raises(TooShort, match=f"^{len(pts)} frames do not give {rows} rows one each"):
            choose(grid, per_row, pts, duration)
        return
    chosen, windows = choose(grid, per_row, pts, duration)
    interval = int(len(pts) / rows)
    official = [[int(row * interval + (i / per_row) * interval) for i in range(per_row)] for row in range(rows)]
    assert chosen.index.tolist() == official
    assert (chosen.source == chosen.index).all()
    assert chosen.valid.all()
    assert windows.tolist() == [[k * NS, (k + 1) * NS] for k in range(rows)], "rows keep their nominal windows"


@given(st.integers(1, 3000), st.integers(1, 60), st.integers(1, 32))
def test_interval_stays_in_the_clip_and_in_its_row(n, rows, per_row):
    assume(n >= rows)
    index, interval = intervals(n, rows, per_row), n // rows
    assert index[0, 0] == 0
    assert (np.diff(index.ravel()) >= 0).all()
    assert (index // interval == np.arange(rows)[:, None]).all(), "no row shows a frame of the next"
    assert index[-1, -1] < rows * interval <= n, "the remainder is left out"


def test_interval_on_ten_seconds_of_thirty_frames_by_hand():
    chosen, _ = choose(Grid(count=10, sampling="interval", short="stretch"), 16, *steady(30, 10))
    assert chosen.index[0].tolist() == [0, 1, 3, 5, 7, 9, 11, 13, 15, 16, 18, 20, 22, 24, 26, 28]
    assert (chosen.index == chosen.index[0] + 30 * np.arange(10)[:, None]).all()


@pytest.mark.parametrize(("begin", "start", "stop"), [(0, 0, 57), (10, 10, 44), (9.5, 10, 44)])
def test_interval_through_the_decoder(run, tmp_path, begin, start, stop):
    """57 frames in five rows: eleven each, and two left out; in a span only what appears within it counts, not what stands."""
    path = make_video(tmp_path / "clip.mp4", width=160, height=120, fps=25, frames=57, b_frames=2, audio=None)
    view = Frames(4, (96, 128), None, interpolation="cv2_linear")
    tap = Tap(view, Grid(count=5, sampling="interval", short="stretch"))
    got = run(path, [tap], begin / 25, None if stop == 57 else stop / 25)
    interval = (stop - start) // 5
    wanted = [[start + int(row * interval + (i / 4) * interval) for i in range(4)] for row in range(5)]
    assert got.numbers(read_frame_number) == wanted
    assert got.valid[0].tolist() == [1] * 5
    assert got.windows_ns[0].tolist() == [[k * NS, (k + 1) * NS] for k in range(5)]
    assert got.source_ns[0].tolist() == [[round((k - begin) * NS / 25) for k in row] for row in wanted]


def test_interval_needs_a_frame_per_row(run, tmp_path):
    path = make_video(tmp_path / "brief.mp4", width=160, height=120, frames=4, audio=None)
    tap = Tap(Frames(1, (96, 128), None), Grid(count=5, sampling="interval", short="stretch"))
    error = run(path, [tap]).errors[0]
    assert error.reason == "too_short"
    assert str(error).startswith(f"{path}: 4 frames do not give 5 rows one each")


def test_a_single_frame_fills_everything():
    for rule in (*RULES, "ffmpeg_r8"):
        grid = Grid(NS, NS, 10, sampling=rule, short="stretch")
        chosen, _ = choose(grid, 1, [0], [NS // 30])
        assert (chosen.source == 0).all(), rule
        assert chosen.valid.all(), rule
    alone, _ = choose(Grid(NS, NS, 3), 2, [0], [NS // 30])
    assert alone.valid.tolist() == [0, 0, 0], "33 ms do not cover two cells of half a second"
    assert choose(Grid(NS, NS, 3), 1, [0], [NS // 30])[0].valid.tolist() == [1, 0, 0]


def test_the_message_for_short_clips_has_the_numbers_and_the_choices():
    with pytest.raises(TooShort) as caught:
        choose(Grid(NS, NS, 10, short="error"), 1, *steady(25, 4))
    assert str(caught.value) == (
        "row 4 asks for frames in [4, 5) s, the clip shows frames in [0, 4) s; "
        "policies that fill such rows: repeat_last, zeros, stretch"
    )
