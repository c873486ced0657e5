"""Upright, in the right shape, from the best stream, the same beside other views, in blocks of bounded size."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from backbones.spec import Frames, Sound
from extract.decode import clip as clip_module
from extract.decode import frame_pass
from extract.grid import NS, Grid
from extract.plan import Tap
from extract.testing import make_video, read_frame_number, read_time_s, read_track

SMALL = Frames(1, (96, 128), None)
TENTHS = Grid(NS // 10, NS // 10)
CENTERED = Tap(SMALL, TENTHS)
EVERY = Tap(SMALL, Grid(NS // 10, NS // 10, sampling="every"))
OFFICIAL = Tap(SMALL, Grid(NS // 8, NS // 8, 80, sampling="ffmpeg_r8", short="stretch"))

# ---- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize(("width", "height"), [(160, 120), (120, 160), (128, 128)])
def test_rotated_files_show_an_upright_picture(truth, run, tmp_path, rotation, width, height):
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
def test_sizes_and_depths(truth, run, tmp_path, options):
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


# ---- pictures in float32 ---------------------------------------------------------------------------------------------

LINEAR = Frames(1, (96, 128), None, interpolation="linear")
OPENL3 = Frames(2, "openl3", 224, interpolation="linear")


def test_linear_views_are_float32_and_blank_rows_too(run, tmp_path):
    path = make_video(tmp_path / "brief.mp4", width=160, height=120, duration_s=2, audio=None)
    large = Frames(16, (480, 480), None, interpolation="linear")  # every row is a block, whose type the fixture checks
    got = run(path, [Tap(LINEAR, Grid(count=4)), Tap(SMALL, Grid(count=4)), Tap(large, Grid(count=3))])
    assert got.valid[0].tolist() == [1, 1, 0, 0]
    assert np.abs(got.rows[0] - got.rows[1]).mean() < 8, "in the unit of bytes"
    assert (got.rows[0] % 1 > 0).any(), "nothing is rounded"
    assert got.numbers(lambda picture: read_frame_number(np.rint(picture).astype(np.uint8))) == got.numbers(
        read_frame_number, tap=1
    )


def test_openl3_fails_alone_where_the_picture_is_too_small(run, tmp_path):
    path = make_video(tmp_path / "small.mp4", width=240, height=180, duration_s=2)
    sound = Tap(Sound(16_000, 15_600), Grid())
    got = run(path, [Tap(OPENL3, Grid()), CENTERED, sound])
    assert {i: e.reason for i, e in got.errors.items()} == {0: "too_small"}
    assert str(got.errors[0]).startswith(f"{path}: a picture of 240x180 is smaller than the 224x224 pixels")
    alone = run(path, [CENTERED, sound])
    assert (got.rows[1] == alone.rows[0]).all()
    assert (got.rows[2] == alone.rows[1]).all()
    assert run(path, [Tap(OPENL3, Grid())]).errors[0].reason == "too_small"
    jpegs = Tap(replace(OPENL3, jpeg="mjpeg_200k"), OFFICIAL.grid)
    got = run(path, [jpegs, OFFICIAL])
    assert set(got.errors) == {0}
    assert len(got.rows[1]) == 80


def test_nothing_is_decoded_for_a_view_that_failed(run, tmp_path, monkeypatch):
    path = make_video(tmp_path / "small.mp4", width=160, height=120, duration_s=4, audio=None)
    decoded = []
    convert = frame_pass.ToRgb.__call__
    monkeypatch.setattr(
        frame_pass.ToRgb, "__call__", lambda self, frame: (decoded.append(frame.pts), convert(self, frame))[1]
    )
    assert run(path, [Tap(OPENL3, Grid())]).errors[0].reason == "too_small"
    assert len(decoded) == 1


def test_openl3_of_a_video(run, tmp_path):
    path = make_video(tmp_path / "usual.mp4", width=320, height=240, duration_s=2, audio=None)
    got = run(path, [Tap(OPENL3, Grid()), Tap(Frames(2, (240, 320), None), Grid())])
    for row, frames in zip(got.rows[0], got.rows[1], strict=True):
        for picture, frame in zip(row, frames, strict=True):
            cut = frame[8:232, 48:272].astype(np.float32)
            assert np.abs(picture - cut * (255 / cut.max())).max() < 1e-3


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
        Tap(Frames(5, 64, 56, interpolation="linear"), Grid(NS, NS, 6, sampling="linspace", short="repeat_last")),
        Tap(Frames(5, 64, 56, interpolation="cv2_linear"), Grid(count=3, sampling="interval", short="stretch")),
        Tap(Frames(1, (60, 80), None, interpolation="linear", jpeg="mjpeg_200k"), r8),
        Tap(Frames(1, (60, 80), None, interpolation="cv2_linear", jpeg="mjpeg_200k"), r8),
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
    floats = Tap(Frames(1, 224, 224, interpolation="linear"), Grid(NS // 30, NS // 30))
    blocks = [e for e in clip_module.decode(str(path), 0, None, [floats], clip_module.Limits()) if hasattr(e, "data")]
    assert [len(b.data) for b in blocks] == [14] * 6 + [6], "bounded in bytes: a quarter of the rows"


def test_a_jpeg_view_needs_the_rule_that_defines_its_sequence(run, tmp_path):
    from extract.errors import PlanError

    for grid in (TENTHS, Grid(count=10, sampling="interval", short="stretch")):
        with pytest.raises(PlanError, match="ffmpeg_r8 only"):
            run(tmp_path / "any.mp4", [Tap(Frames(1, 64, 64, jpeg="mjpeg_200k"), grid)])
