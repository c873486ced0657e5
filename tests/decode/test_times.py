"""Which source frame a row shows where times are odd: variable rates, offsets, gaps, ends, AVI."""

from __future__ import annotations

from itertools import islice

import av
import numpy as np
import pytest
from PIL import Image

from backbones.spec import Frames, Sound
from extract.errors import SpanOutside
from extract.grid import NS, Grid
from extract.plan import Tap
from extract.testing import make_video, read_frame_number, read_time_s

SMALL = Frames(1, (96, 128), None)
TENTHS = Grid(NS // 10, NS // 10)
CENTERED = Tap(SMALL, TENTHS)
EVERY = Tap(SMALL, Grid(NS // 10, NS // 10, sampling="every"))
OFFICIAL = Tap(SMALL, Grid(NS // 8, NS // 8, 80, sampling="ffmpeg_r8", short="stretch"))

# ---- times -----------------------------------------------------------------------------------------------------------


def test_variable_rate(run, tmp_path):
    pts_ms = np.cumsum([0, *np.random.default_rng(3).choice([20, 40, 130, 900], 60)]).tolist()
    for kind in ("mp4", "mkv"):
        path = make_video(tmp_path / f"vfr.{kind}", width=128, height=96, fps=25, pts_ms=pts_ms, audio=None)
        got = run(path, [CENTERED])
        assert len(got.rows[0]) == 145, "14.54 s; an encoder's duration of a frame before the last reaches further"
        wanted = [int(np.searchsorted(pts_ms, k * 100 + 50, side="right") - 1) for k in range(len(got.rows[0]))]
        shown = [n for (n,) in got.numbers(read_frame_number)]
        assert shown[: len(shown) - 1] == wanted[: len(shown) - 1]
        assert got.valid[0][:-1].all()


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
@pytest.mark.parametrize(("video_s", "audio_s"), [(0, 0), (1.5, 0), (0, 1.5), (10, 10), (10.5, 10)])
def test_start_offsets(truth, run, tmp_path, kind, video_s, audio_s):
    """Time counts from the earlier of the two."""
    path = make_video(
        tmp_path / f"late.{kind}", width=128, height=96, duration_s=3, video_start_s=video_s, audio_start_s=audio_s
    )
    got = run(path, [CENTERED, Tap(Sound(16_000, 8_000), Grid(NS // 2, NS // 2))])
    origin = min(video_s, audio_s)
    known = truth(path)
    assert known.times_s[0] == pytest.approx(video_s - origin, abs=0.03)
    assert got.numbers(read_frame_number)[:30] == known.centered(0, 3)
    late = round((video_s - origin) * 10)
    assert not got.valid[0][:late].any()
    assert got.valid[0][late + 1 : late + 30].all()
    sound = (got.valid[1] == 1).nonzero()[0]
    assert sound[0] == round((audio_s - origin) * 2)
    for row in sound:
        if got.rows[1][row].any():
            heard_s = read_time_s(got.rows[1][row], 16_000)
            assert abs((heard_s - known.origin_s - row / 2 + 6) % 12 - 6) < 0.002


def test_what_is_on_screen_when_a_span_begins_belongs_to_it(run, tmp_path):
    """One picture a second: a span from 1.5 s on begins with the picture of second 1."""
    path = make_video(tmp_path / "slides.mp4", width=128, height=96, fps=1, frames=6, audio=None)
    got = run(path, [CENTERED, EVERY], 1.5, 3.0)
    assert got.numbers(read_frame_number) == [[1]] * 5 + [[2]] * 10
    assert got.valid[0].all()
    assert got.source_ns[0][0, 0] == 0, "shown from the start on"
    assert [n for (n,) in got.numbers(read_frame_number, 1)] == [-1] * 5 + [2] + [-1] * 9, "none appears before 2.0 s"


def test_the_last_frame_of_a_span_stays_until_the_file_shows_another(run, tmp_path):
    path = make_video(tmp_path / "gap.mkv", width=128, height=96, pts_ms=[0, 100, 200, 4000, 4100], audio=None)
    got = run(path, [CENTERED], 0, 3)
    assert got.valid[0].all()
    assert got.numbers(read_frame_number)[5:] == [[2]] * 25


def test_a_span_reaching_beyond_the_end(run, tmp_path):
    path = make_video(tmp_path / "short.mp4", width=128, height=96, duration_s=2)
    got = run(path, [Tap(SMALL, Grid(NS, NS, 10)), Tap(Sound(16_000, 15_600), Grid(count=10))], 1, 11)
    assert got.valid[0].tolist() == [1] + [0] * 9
    assert got.valid[1].tolist() == [1] + [0] * 9
    again = run(path, [Tap(SMALL, Grid(NS, NS, 10, short="repeat_last"))], 1, 11)
    assert [n for (n,) in again.numbers(read_frame_number)] == [45] + [59] * 9
    stretched = run(path, [Tap(SMALL, Grid(NS, NS, 10, short="stretch"))], 1, 11)
    assert stretched.valid[0].all()
    assert [n for (n,) in stretched.numbers(read_frame_number)] == [31, 34, 37, 40, 43, 46, 49, 52, 55, 58]


def test_a_span_between_the_sound_and_the_pictures(run, tmp_path):
    path = make_video(tmp_path / "sound_first.mkv", width=128, height=96, duration_s=3, video_start_s=2)
    got = run(path, [CENTERED, Tap(Sound(16_000, 8_000), Grid(NS // 2, NS // 2))], 0.5, 1.5)
    assert isinstance(got.errors[0], SpanOutside)
    assert got.valid[1].all()
    assert read_time_s(got.rows[1][0], 16_000) == pytest.approx(0.5, abs=0.002)


def test_windows_are_as_many_as_the_clip_holds(run, tmp_path):
    path = make_video(tmp_path / "five.mp4", width=128, height=96, duration_s=5)
    assert len(run(path, [Tap(SMALL, Grid())]).rows[0]) == 5
    assert len(run(path, [Tap(SMALL, Grid())], 1, 3.6).rows[0]) == 3
    assert len(run(path, [Tap(SMALL, Grid())], 4, 99).rows[0]) == 1, "not beyond the file"


# ---- H.264 in AVI ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("video", ["h264", "mpeg4", "mjpeg"])
def test_avi_shows_its_kth_frame_at_k_over_fps(run, tmp_path, video):
    """FFmpeg dates H.264 and B-frames in AVI a frame late; the container itself counts frames, and so do we."""
    path = make_video(tmp_path / "a.avi", video=video, width=128, height=96, fps=10, duration_s=3, audio="pcm")
    got = run(path, [Tap(SMALL, Grid(NS // 10, NS // 10, 30, sampling="every"))])
    assert [n for (n,) in got.numbers(read_frame_number)] == list(range(30))
    assert (got.source_ns[0][:, 0] == np.arange(30) * NS // 10).all()
    assert got.valid[0].all()


@pytest.mark.parametrize("name", ["S001C001P001R001A001_rgb.avi", "test.avi"])
def test_avi_with_b_frames_keeps_the_decoders_order(run, shared, name):
    """FFmpeg's times of these two are not even ascending."""
    path = shared / "clips/open-mmlab__mmaction2" / name
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        stream.codec_context.thread_count = 1
        pictures = [Image.fromarray(f.to_ndarray(format="rgb24")) for f in islice(file.decode(stream), 40)]
        fps = float(stream.average_rate)
    got = run(path, [Tap(SMALL, Grid(round(NS / fps), round(NS / fps), len(pictures)))])
    assert got.valid[0].all()
    for k in range(0, len(pictures), 3):
        assert (got.rows[0][k, 0] == np.asarray(pictures[k].resize((128, 96), Image.Resampling.BILINEAR))).all(), k


def test_frames_that_avi_leaves_out_leave_the_one_before_on_screen(run, shared):
    """Chunks 1 and 2 of this file are empty: "show the last one once more"."""
    path = shared / "clips/androidx__media/sample.avi"
    got = run(path, [Tap(SMALL, Grid(NS * 1001 // 24_000, NS * 1001 // 24_000, 6))])
    times = np.rint(got.source_ns[0][:, 0] / (NS * 1001 / 24_000)).astype(int)
    assert times.tolist() == [0, 0, 0, 3, 4, 5]
