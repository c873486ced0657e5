"""Which source frame a row shows, read from the pixels, for every container, codec, offset and span."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from backbones.spec import Frames, Sound
from extract.decode import clip as clip_module
from extract.decode import frame_pass, timeline
from extract.errors import SpanOutside
from extract.grid import NS, Grid
from extract.plan import Tap
from extract.testing import make_video, read_frame_number, read_time_s, read_track

SMALL = Frames(1, (96, 128), None)
TENTHS = Grid(NS // 10, NS // 10)
CENTERED = Tap(SMALL, TENTHS)
EVERY = Tap(SMALL, Grid(NS // 10, NS // 10, sampling="every"))
OFFICIAL = Tap(SMALL, Grid(NS // 8, NS // 8, 80, sampling="ffmpeg_r8", short="stretch"))

FORMATS = {
    "mp4": {"b_frames": 2},
    "mp4-no-b": {"b_frames": 0},
    "mov": {"b_frames": 2},
    "mkv": {"b_frames": 3},
    "ts": {"b_frames": 2},
    "ts-no-b": {"b_frames": 0},
    "webm-vp8": {"video": "vp8", "audio": "opus"},
    "webm-vp9": {"video": "vp9", "audio": "opus"},
    "mp4-mpeg4": {"video": "mpeg4", "b_frames": 1},
    "avi-h264": {"audio": "mp3"},
    "avi-mpeg4": {"video": "mpeg4", "audio": "mp3"},
    "avi-mjpeg": {"video": "mjpeg", "audio": "pcm"},
}


@dataclass(frozen=True)
class Truth:
    """Each frame's number and time since the start of the presentation, as a plain reader of the file has it."""

    numbers: np.ndarray
    times_s: np.ndarray
    end_s: float
    origin_s: float

    def at(self, time_s: float) -> int:
        """The frame on screen, -1 where there is none."""
        if time_s >= self.end_s or time_s < self.times_s[0]:
            return -1
        return int(self.numbers[np.searchsorted(self.times_s, time_s + 1e-7, side="right") - 1])

    def centered(self, start_s: float, stop_s: float) -> list[list[int]]:
        rows = max(1, round((stop_s - start_s) * 10))
        return [[self.at(start_s + (k + 0.5) / 10) if start_s + k / 10 < self.end_s else -1] for k in range(rows)]


def truth(path: Path, fps: Fraction | int = 30) -> Truth:
    """By PyAV alone; in AVI a frame's place in the order is its time."""
    with av.open(str(path)) as file:
        stream = file.streams.best("video")
        starts = [s.start_time * s.time_base for s in file.streams if s.start_time is not None]
        seen = [
            (f.pts, read_frame_number(np.rot90(f.to_ndarray(format="rgb24"), f.rotation // 90)))
            for f in file.decode(stream)
        ]
        numbers = np.array([number for _, number in seen])
        times = np.array([float(pts * stream.time_base - min(starts)) for pts, _ in seen])
    if path.suffix == ".avi":
        times = np.arange(len(seen)) / float(fps)
    return Truth(numbers, times, times[-1] + 1 / float(fps), float(min(starts)))


def suffix(name: str) -> str:
    return name.split("-", maxsplit=1)[0]


def clip_of(name: str, folder: Path) -> Path:
    options = {"width": 128, "height": 96, "gop": 90, "duration_s": 7, "rate_hz": 48_000}
    return make_video(folder / f"{name}.{suffix(name)}", **{**options, **FORMATS[name]})


@pytest.fixture(scope="module", params=sorted(FORMATS))
def numbered(request, tmp_path_factory) -> tuple[Path, Truth]:
    path = clip_of(request.param, tmp_path_factory.mktemp("formats"))
    return path, truth(path)


# ---- containers, spans -----------------------------------------------------------------------------------------------


def test_a_whole_clip(run, numbered):
    path, known = numbered
    got = run(path, [CENTERED, EVERY, OFFICIAL])
    assert not got.errors
    assert got.opened == 1
    rows = len(got.rows[0])
    assert rows in (70, 71)
    assert got.numbers(read_frame_number)[:70] == known.centered(0, rows / 10)[:70]
    first = [int(known.numbers[np.searchsorted(known.times_s, k / 10 - 1e-7)]) for k in range(70)]
    assert [n for (n,) in got.numbers(read_frame_number, 1)[:70]] == first
    stretched = [n for (n,) in got.numbers(read_frame_number, 2)]
    assert stretched[0] == 0
    assert stretched[-1] >= 203
    assert (np.diff(stretched) >= 0).all()


@pytest.mark.parametrize(("start_s", "stop_s"), [(4.05, 6.02), (0.3, 0.7), (2, 3), (3.0, 3.1), (5.5, 9)])
def test_a_span(run, numbered, start_s, stop_s):
    path, known = numbered
    got = run(path, [CENTERED], start_s, stop_s)
    wanted = known.centered(start_s, min(stop_s, 7.0))
    numbers = got.numbers(read_frame_number)
    assert numbers[: len(wanted)] == wanted
    assert all(n == [-1] for n in numbers[len(wanted) + 1 :])


def test_a_file_too_large_to_keep_is_read_again_with_the_same_outcome(run, numbered, monkeypatch):
    path, _ = numbered
    taps = [CENTERED, Tap(Sound(16_000, 15_600), Grid())]
    spans = [(0, None), (4.2, 5.4)]
    kept = [run(path, taps, *span) for span in spans]
    monkeypatch.setattr(timeline, "KEEP_BYTES", 0)
    for span, before in zip(spans, kept, strict=True):
        after = run(path, taps, *span)
        assert after.opened == 1
        for tap in (0, 1):
            assert (after.rows[tap] == before.rows[tap]).all()
            assert (after.source_ns[tap] == before.source_ns[tap]).all()


def test_what_is_not_needed_is_skipped_without_changing_a_bit(run, numbered):
    path, _ = numbered
    taps = [Tap(SMALL, Grid(NS // 2, NS // 2)), OFFICIAL, Tap(Sound(16_000, 8_000), Grid(NS // 2, NS // 2))]
    for span in ((0, None), (3.3, 5.9)):
        fast, slow = run(path, taps, *span), run(path, taps, *span, skip_unneeded=False)
        for tap in fast.rows:
            assert (fast.rows[tap] == slow.rows[tap]).all()
            assert (fast.valid[tap] == slow.valid[tap]).all()
            assert (fast.source_ns[tap] == slow.source_ns[tap]).all()


def test_sources_are_the_times_of_the_frames_shown(run, numbered):
    path, known = numbered
    got = run(path, [CENTERED], 2, 4)
    for (number,), (ns,) in zip(got.numbers(read_frame_number), got.source_ns[0], strict=True):
        time_s = known.times_s[known.numbers.tolist().index(number)]
        assert ns / NS == pytest.approx(max(0, time_s - 2), abs=2e-6)


def decoded_of(path: Path, run, taps: Iterable[Tap], span, monkeypatch) -> tuple[int, int]:
    """How many video packets were read, and how many frames decoded."""
    count = {"packets": 0, "frames": 0}
    scan, decode = timeline.Packets.scan, clip_module.Survey.decode_video

    def counted_scan(self):
        for packet in scan(self):
            count["packets"] += packet.stream.type == "video"
            yield packet

    def counted_decode(self, packet, before):
        frames = decode(self, packet, before)
        count["frames"] += len(frames)
        return frames

    monkeypatch.setattr(timeline.Packets, "scan", counted_scan)
    monkeypatch.setattr(clip_module.Survey, "decode_video", counted_decode)
    run(path, list(taps), *span)
    monkeypatch.undo()
    return count["packets"], count["frames"]


@pytest.mark.parametrize("name", ["mp4", "mkv", "ts", "webm-vp9", "avi-h264"])
def test_a_span_of_a_long_file_is_searched_for_and_not_decoded_from_zero(run, tmp_path, monkeypatch, name):
    """A key frame every five seconds; the span lies near the end."""
    options = {"width": 96, "height": 72, "fps": 5, "gop": 25, "duration_s": 50, "rate_hz": 48_000, **FORMATS[name]}
    path = make_video(tmp_path / f"long.{suffix(name)}", **options)
    packets, frames = decoded_of(path, run, [CENTERED], (42, 44), monkeypatch)
    assert packets < 180, (
        "of 500: from the key frame at 40 (or 35) s to three seconds past the end, perhaps tried twice"
    )
    assert frames < 100
    got = run(path, [CENTERED], 42, 44)
    assert got.numbers(read_frame_number) == truth(path, 5).centered(42, 44)


def test_skipping_spares_frames(run, tmp_path, monkeypatch):
    path = make_video(tmp_path / "b.mp4", width=128, height=96, b_frames=3, duration_s=4)
    _, frames = decoded_of(path, run, [Tap(SMALL, Grid(NS, NS))], (0, None), monkeypatch)
    assert frames < 80, "of 120"


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
def test_start_offsets(run, tmp_path, kind, video_s, audio_s):
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


# ---- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize(("width", "height"), [(160, 120), (120, 160), (128, 128)])
def test_rotated_files_show_an_upright_picture(run, tmp_path, rotation, width, height):
    path = make_video(tmp_path / "turned.mp4", width=width, height=height, rotation=rotation, duration_s=1, audio=None)
    high, wide = (width, height) if rotation in (90, 270) else (height, width)
    tap = Tap(Frames(1, (high, wide), None), TENTHS)
    got = run(path, [tap])
    assert got.numbers(read_frame_number) == truth(path).centered(0, 1)


@pytest.mark.parametrize("name", ["video_90.mov", "video_180.mov"])
def test_real_rotated_clips_equal_pyavs_picture_turned(run, shared, name):
    path = shared / "clips/dmlc__decord" / name
    with av.open(str(path)) as file:
        frame = next(file.decode(video=0))
        upright = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
    got = run(path, [Tap(Frames(1, upright.shape[:2], None), Grid(NS // 30, NS // 30, 1))])
    assert (got.rows[0][0, 0] == upright).all()


@pytest.mark.parametrize(
    "options",
    [
        {"width": 129, "height": 97, "pix_fmt": "yuv444p"},
        {"width": 131, "height": 99, "video": "mpeg4"},
        {"pix_fmt": "yuv420p10le"},
        {"width": 129, "height": 97, "video": "mjpeg", "suffix": "mkv"},
        {"width": 1280, "height": 96},
    ],
    ids=["odd-444", "odd-420", "ten-bit", "odd-mjpeg", "wide"],
)
def test_sizes_and_depths(run, tmp_path, options):
    options = {"width": 160, "height": 120, "audio": None, "duration_s": 1, **options}
    path = make_video(tmp_path / f"odd.{options.pop('suffix', 'mp4')}", **options)
    got = run(path, [CENTERED, Tap(Frames(1, 64, 64), TENTHS), OFFICIAL])
    assert not got.errors
    assert got.numbers(read_frame_number) == truth(path).centered(0, 1)


def test_sample_aspect_ratio(run, tmp_path):
    """Pixels twice as wide as high: the picture is shown 320 x 120, stored 160 x 120."""
    path = make_video(
        tmp_path / "wide.mp4", width=160, height=120, sample_aspect_ratio=2, duration_s=1, audio=None,
        picture=lambda k, t: np.repeat(np.repeat((np.arange(160) * 255 // 159).astype(np.uint8)[None, :, None], 120, 0), 3, 2),
    )  # fmt: skip
    display, storage = (Tap(Frames(1, 120, 120, aspect=aspect), TENTHS) for aspect in ("display", "storage"))
    got = run(path, [display, storage])
    ramp = np.arange(160) * 255 / 159
    shown = np.interp(np.linspace(50, 109, 120), np.arange(160), ramp)
    assert np.abs(got.rows[0][0, 0, 60, :, 0] - shown).max() < 6, "the middle 60 stored columns fill 120"
    assert np.abs(got.rows[1][0, 0, 60, :, 0] - ramp[20:140]).max() < 6


@pytest.mark.parametrize("rotation", [90, 270])
def test_sample_aspect_ratio_turns_with_the_picture(run, tmp_path, rotation):
    """Also where the sides are equal, so that the size does not tell."""
    path = make_video(
        tmp_path / "turned.mp4", width=160, height=160, sample_aspect_ratio=2, rotation=rotation, duration_s=1, audio=None,
        picture=lambda k, t: np.repeat(np.repeat((np.arange(160) * 255 // 159).astype(np.uint8)[:, None, None], 160, 1), 3, 2),
    )  # fmt: skip
    got = run(path, [Tap(Frames(1, 160, 160), TENTHS)])
    ramp = np.arange(160) * 255 / 159
    shown = np.interp(np.linspace(40, 119, 160), np.arange(160), ramp)
    assert np.abs(got.rows[0][0, 0, :, 80, 0] - shown).max() < 6, "upright it is twice as high as wide"


def test_the_best_of_several_streams(run, tmp_path):
    path = make_video(
        tmp_path / "two.mp4", width=64, height=48, extra_video=[(256, 192)], duration_s=2, rate_hz=44_100,
        extra_audio=[(48_000, 2)],
    )  # fmt: skip
    with av.open(str(path)) as file:
        best = file.streams.best("video").index, file.streams.best("audio").index
    got = run(path, [CENTERED, Tap(Sound(16_000, 16_000), Grid())])
    assert {read_track(row[0]) for row in got.rows[0]} == {[0, 1][best[0]]}
    assert read_time_s(got.rows[1][1], 16_000, track=best[1] - 2) == pytest.approx(1, abs=0.002)


@pytest.mark.parametrize("kind", ["mp4", "mp3"])
def test_cover_art_is_no_video(run, tmp_path, kind):
    path = tmp_path / f"song.{kind}"
    source = make_video(
        tmp_path / "s.mkv", video="mjpeg", width=64, height=48, frames=1, audio="mp3", audio_duration_s=2
    )
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        streams = {s.index: new.add_stream_from_template(s) for s in (old.streams[1], old.streams[0])}
        streams[0].disposition = av.stream.Disposition.attached_pic
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    with av.open(str(path)) as file:
        assert file.streams.video[0].disposition & av.stream.Disposition.attached_pic
    got = run(path, [CENTERED, Tap(Sound(16_000, 15_600), Grid(count=2))])
    assert got.errors[0].reason == "no_video"
    assert got.valid[1].all()


# ---- several views, bounded memory -----------------------------------------------------------------------------------


def test_several_taps_at_once_equal_the_same_taps_alone(run, tmp_path):
    path = make_video(
        tmp_path / "many.mp4", width=160, height=120, duration_s=4, b_frames=2, sample_aspect_ratio=Fraction(4, 3)
    )
    r8 = Grid(NS // 8, NS // 8, 80, sampling="ffmpeg_r8", short="stretch")
    taps = [
        Tap(Frames(1, 64, 56, jpeg="mjpeg_200k", aspect="storage"), r8),
        Tap(Frames(8, (48, 48), None, jpeg="mjpeg_200k"), Grid(count=10, sampling="ffmpeg_r8", short="stretch")),
        Tap(Frames(1, 64, 56), r8),
        Tap(Frames(4, 64, 48), Grid()),
        Tap(Frames(16, (40, 50), None, interpolation="bicubic"), Grid(NS, NS // 2)),
        Tap(Frames(3, 64, 56), Grid(2 * NS, NS // 4, 5, sampling="every", stride=7)),
        Tap(Frames(5, 64, 56), Grid(NS, NS, 6, sampling="linspace", short="repeat_last")),
        Tap(Sound(16_000, 15_600), Grid()),
        Tap(Sound(16_000, 15_600, resample="moviepy"), Grid(count=10)),
        Tap(Sound(48_000, 96_000), Grid(2 * NS, NS // 2)),
    ]
    together = run(path, taps)
    for position, tap in enumerate(taps):
        alone = run(path, [tap])
        assert (alone.rows[0] == together.rows[position]).all(), tap
        assert (alone.valid[0] == together.valid[position]).all()
        assert (alone.source_ns[0] == together.source_ns[position]).all()


def test_two_views_of_sound_or_jpeg_do_not_see_each_other_fail(run, tmp_path):
    path = make_video(tmp_path / "brief.mp4", width=64, height=48, duration_s=2)
    strict = Tap(Sound(16_000, 15_600), Grid(count=10, short="error"))
    got = run(
        path, [strict, Tap(Sound(16_000, 15_600), Grid(count=10)), Tap(SMALL, Grid(count=10, short="error")), CENTERED]
    )
    assert {i: e.reason for i, e in got.errors.items()} == {0: "too_short", 2: "too_short"}
    assert str(path) in str(got.errors[0])
    assert got.valid[1].tolist() == [1, 1] + [0] * 8
    assert got.valid[3].all()


def test_only_sound_or_only_pictures_are_decoded_when_only_they_are_asked_for(run, tmp_path, monkeypatch):
    path = make_video(tmp_path / "both.mp4", width=64, height=48, duration_s=2)
    monkeypatch.setattr(frame_pass.FramePass, "feed", lambda *_: pytest.fail("video was decoded"))
    run(path, [Tap(Sound(16_000, 15_600), Grid())])


def test_blocks_are_bounded_and_rows_of_a_large_view_come_one_by_one(tmp_path):
    path = make_video(tmp_path / "big.mp4", width=128, height=96, duration_s=3, audio=None)
    tap = Tap(Frames(16, 480, 480), Grid(NS // 4, NS // 4))
    blocks = [e for e in clip_module.decode(str(path), 0, None, [tap], clip_module.Limits()) if hasattr(e, "data")]
    assert [len(b.data) for b in blocks] == [1] * 12
    tap = Tap(Frames(1, 224, 224), Grid(NS // 30, NS // 30))
    blocks = [e for e in clip_module.decode(str(path), 0, None, [tap], clip_module.Limits()) if hasattr(e, "data")]
    assert [len(b.data) for b in blocks] == [56, 34]


def test_a_jpeg_view_needs_the_rule_that_defines_its_sequence(run, tmp_path):
    from extract.errors import PlanError

    with pytest.raises(PlanError, match="ffmpeg_r8 only"):
        run(tmp_path / "any.mp4", [Tap(Frames(1, 64, 64, jpeg="mjpeg_200k"), TENTHS)])
