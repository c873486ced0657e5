"""What comes of every file in ../shared/clips, which are odd in every way that real ones are.

Each line was checked by hand against CLIPS.md: numbers of frames, lengths, and what is missing. Rows are the ten seconds of
an LLP clip: a picture row is valid where something is on screen during its second, a row of sound where all 0.975 s of it
is there but for gaps of a quarter, and moviepy's row also where its last twentieth of a second was made up.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from backbones.spec import Frames, Sound
from extract.decode.media import open_media
from extract.decode.survey import Survey
from extract.errors import ClipError
from extract.grid import NS, Grid
from extract.plan import Limits, Tap

VIEW = Frames(1, (48, 64), None)
PICTURES = Tap(VIEW, Grid(count=10))
SOUND = Tap(Sound(16_000, 15_600), Grid(count=10))
OFFICIAL_SOUND = Tap(Sound(16_000, 15_600, resample="moviepy"), Grid(count=10))
OFFICIAL_PICTURES = Tap(
    replace(VIEW, jpeg="mjpeg_200k", aspect="storage"),
    Grid(NS // 8, NS // 8, 80, sampling="ffmpeg_r8", short="stretch"),
)


class Expected(NamedTuple):
    """Frames on the timeline, length in s; valid rows of ten (or the reason) of pictures, sound, moviepy's sound."""

    frames: int | None
    length_s: float
    pictures: int | str
    sound: int | str
    moviepy: int | str


def mute(frames: int, length_s: float, pictures: int) -> Expected:
    return Expected(frames, length_s, pictures, "no_audio", "no_audio")


def blind(length_s: float, sound: int, moviepy: int | None = None) -> Expected:
    return Expected(None, length_s, "no_video", sound, sound if moviepy is None else moviepy)


# a str: the reason why nothing can be had of the file at all
CLIPS: dict[str, Expected | str] = {
    # --- Eventual-Inc__Daft: the video starts 33 ms after the sound
    "Eventual-Inc__Daft/sample_video.mp4": Expected(290, 9.845, 10, 9, 9),
    # --- the real LLP clip
    "YapengTian__AVVP-ECCV20/BjCEufrlXm4.mp4": Expected(300, 10.028, 10, 10, 10),
    # --- Zulko__moviepy
    "Zulko__moviepy/big_buck_bunny_0_30.webm": Expected(720, 30.022, 10, 10, 10),
    "Zulko__moviepy/big_buck_bunny_432_433.webm": Expected(24, 1.008, 1, 1, 1),
    "Zulko__moviepy/bitmap.mp4": mute(5, 5.0, 5),  # one pixel, one frame a second
    "Zulko__moviepy/chaplin.mp4": Expected(241, 9.640, 10, 9, 9),
    "Zulko__moviepy/fire2.mp4": Expected(25, 2.416, 3, 2, 2),  # 0.155 s of its sound is missing near the start
    "Zulko__moviepy/no_duration.webm": Expected(74, 4.938, 5, 4, 4),
    "Zulko__moviepy/smpte-2997.mp4": Expected(251, 10.048, 10, 10, 10),
    "Zulko__moviepy/transparent.webm": Expected(150, 5.0, 5, 4, 5),  # its sound ends at 4.943 s
    "Zulko__moviepy/video_with_failing_audio.mp4": Expected(280, 11.234, 10, 10, 10),
    # --- _audio: sound alone, and pictures that are no videos
    "_audio/blank.png": "forbidden_format",
    "_audio/chirp_1s.wav": blind(1.0, 1),
    "_audio/chirp_44k.wav": blind(2.0, 2),
    "_audio/chirp_mono.wav": blind(2.0, 2),
    "_audio/chirp_stereo.wav": blind(2.0, 2),
    "_audio/daisy.jpg": "forbidden_format",
    "_audio/empty.wav": Expected(None, 0.0, "no_video", "zero_duration", "zero_duration"),
    "_audio/real_32k_mono_7s.wav": blind(7.0, 7),
    "_audio/real_44k_stereo_10s.wav": blind(10.020, 10),
    "_audio/short.wav": blind(0.001, 0),
    "_audio/silence.wav": blind(2.0, 2),
    "_audio/smol.png": "forbidden_format",
    "_audio/torchvggish_test.wav": blind(4.0, 4),
    # --- androidx__media
    "androidx__media/bbb_176x144_128kbps_15fps_h263.3gp": mute(15, 1.0, 1),
    "androidx__media/bbb_1ch_16kHz_aac.mp4": blind(1.0, 1),
    "androidx__media/bbb_800x640_768kbps_30fps_avc_2b_firstpts_10_sec.mp4": mute(120, 4.0, 4),  # first time is 10 s
    "androidx__media/bbb_800x640_768kbps_30fps_vp9.mp4": mute(120, 4.0, 4),
    "androidx__media/edit_list_positive_shift.mp4": Expected(270, 10.005, 9, 10, 10),  # no picture in the first second
    "androidx__media/hlg10-color-test.mp4": Expected(9, 0.3, 1, 0, 0),
    "androidx__media/internal_emulator_transformer_output_270_rotated.mp4": Expected(149, 4.972, 5, 4, 4),
    "androidx__media/long_1080p_videoonly_lowbitrate.mp4": mute(10_883, 362.767, 10),
    "androidx__media/sample.avi": Expected(96, 4.087, 5, 4, 4),  # 98 chunks, two of them empty
    "androidx__media/sample.mkv": Expected(30, 1.072, 1, 1, 1),
    "androidx__media/sample_12_5fps_720p_1s.mp4": Expected(13, 1.04, 2, 1, 1),
    "androidx__media/sample_android_slow_motion.mp4": mute(7, 0.525, 1),
    "androidx__media/sample_av1.mkv": mute(30, 1.0, 1),
    "androidx__media/sample_edit_list.mp4": Expected(77, 2.568, 3, 2, 2),  # 86 stored, 9 before the edit
    "androidx__media/sample_fragmented.mp4": Expected(30, 1.068, 2, 1, 1),
    "androidx__media/sample_h264_mpeg_audio.ts": Expected(3, 0.104, 1, 0, 0),
    "androidx__media/sample_mdat_too_long.mp4": Expected(30, 1.067, 2, 1, 1),
    "androidx__media/sample_no_bframes.mp4": Expected(30, 1.089, 2, 1, 1),
    "androidx__media/sample_partially_fragmented.mp4": Expected(30, 1.156, 2, 1, 1),  # the first box knows of 4 frames
    "androidx__media/sample_rotate_and_reflect.mp4": Expected(30, 1.067, 2, 1, 1),
    "androidx__media/sample_shorter_audio.mp4": Expected(72, 1.2, 2, 0, 0),
    "androidx__media/sample_vvc.mp4": mute(120, 5.0, 5),
    "androidx__media/sample_with_increasing_timestamps_320w_240h.mp4": Expected(932, 15.536, 10, 10, 10),
    "androidx__media/sample_with_opus_audio.mkv": blind(0.054, 0),
    "androidx__media/silent-black-10s.mp4": Expected(300, 10.0, 10, 10, 10),
    "androidx__media/testvid_1022ms.mp4": Expected(30, 1.022, 2, 1, 1),
    # --- datajuicer__data-juicer
    "datajuicer__data-juicer/video1.mp4": Expected(282, 11.75, 10, 10, 10),
    "datajuicer__data-juicer/video2.mp4": Expected(556, 23.167, 10, 10, 10),
    "datajuicer__data-juicer/video4.mp4": Expected(673, 22.5, 10, 10, 10),
    # --- dmlc__decord
    "dmlc__decord/corrupted.mp4": Expected(50, 5.0, "undecodable", "no_audio", "no_audio"),
    "dmlc__decord/unordered.mov": mute(4, 0.125, 1),
    "dmlc__decord/video_180.mov": mute(3, 0.1, 1),
    "dmlc__decord/video_90.mov": mute(3, 0.1, 1),
    # --- imageio__imageio-binaries
    "imageio__imageio-binaries/cockatoo.mp4": Expected(280, 14.0, 10, 10, 10),
    "imageio__imageio-binaries/realshort.mp4": Expected(36, 1.199, 2, 1, 1),
    # --- lhotse-speech__lhotse: sound in 5.1
    "lhotse-speech__lhotse/big_buck_bunny_small.mp4": Expected(132, 5.312, 6, 5, 5),
    # --- mathiasbynens__small: the smallest files that are valid at all
    "mathiasbynens__small/AudioVideoInterleave.avi": Expected(None, 0.0, "zero_duration", "no_audio", "no_audio"),
    "mathiasbynens__small/FlashVideo.flv": "not_media",
    "mathiasbynens__small/Mpeg4.mp4": "not_media",
    "mathiasbynens__small/WindowsMediaVideo.wmv": Expected(None, 0.0, "zero_duration", "no_audio", "no_audio"),
    "mathiasbynens__small/mp4-with-audio.mp4": blind(0.046, 0),
    "mathiasbynens__small/webm.webm": mute(1, 0.0, 1),  # one frame without a duration
    # --- open-mmlab__mmaction2
    "open-mmlab__mmaction2/S001C001P001R001A001_rgb.avi": mute(103, 3.433, 4),
    "open-mmlab__mmaction2/demo.mp4": mute(280, 10.0, 10),
    "open-mmlab__mmaction2/part_0.mp4": mute(32, 1.1, 2),
    "open-mmlab__mmaction2/test.avi": Expected(164, 6.56, 7, 6, 6),
    "open-mmlab__mmaction2/test.mp4": mute(300, 10.0, 10),
    # --- pytorch__torchcodec
    "pytorch__torchcodec/av1_video.mkv": mute(125, 5.0, 5),
    "pytorch__torchcodec/bt709_full_range.mp4": mute(30, 1.0, 1),
    "pytorch__torchcodec/h264_10bits.mp4": mute(30, 1.0, 1),
    "pytorch__torchcodec/h265_10bits.mp4": mute(30, 1.0, 1),
    "pytorch__torchcodec/h265_video.mp4": mute(10, 1.0, 1),
    "pytorch__torchcodec/nasa_13013.mp4": Expected(
        390, 13.056, 10, 10, 10
    ),  # the larger of two videos; CLIPS.md has the other
    # --- sindresorhus__file-type
    "sindresorhus__file-type/fixture-corrupt.mkv": "not_media",
    "sindresorhus__file-type/fixture-mjpeg.mov": Expected(15, 1.5, 2, 1, 1),
    "sindresorhus__file-type/fixture-null.webm": mute(36, 4.244, 5),
    "sindresorhus__file-type/fixture.avi": Expected(1, 0.092, 1, 0, 0),
    "sindresorhus__file-type/fixture.mkv": Expected(1, 0.092, 1, 0, 0),
    "sindresorhus__file-type/fixture.mpg": mute(19, 1.333, 2),
    "sindresorhus__file-type/fixture.webm": Expected(1, 0.091, 1, 0, 0),
    "sindresorhus__file-type/fixture2.mpg": mute(419, 14.014, 10),
}

LONG = "androidx__media/long_1080p_videoonly_lowbitrate.mp4"


def test_the_table_covers_every_file(shared):
    there = {str(p.relative_to(shared / "clips")) for p in (shared / "clips").glob("*/*") if p.is_file()}
    assert there == set(CLIPS)


@pytest.mark.parametrize("name", sorted(CLIPS))
def test_what_comes_of_it(run, shared, name):
    expected, path = CLIPS[name], shared / "clips" / name
    if isinstance(expected, str):
        with pytest.raises(ClipError) as caught:
            run(path, [PICTURES, SOUND])
        assert caught.value.reason == expected
        assert str(path) in str(caught.value)
        return
    survey = Survey(lambda: open_media(str(path)), str(path), 0, None, Limits())
    assert (None if survey.timeline is None else len(survey.timeline.ticks)) == expected.frames
    assert survey.clip_ns / NS == pytest.approx(expected.length_s, abs=0.0006)
    got = run(path, [PICTURES, SOUND, OFFICIAL_SOUND])
    assert got.opened == 1, "its packets promised the truth"
    for tap, outcome in enumerate((expected.pictures, expected.sound, expected.moviepy)):
        if isinstance(outcome, str):
            assert got.errors[tap].reason == outcome
            assert str(path) in str(got.errors[tap])
        else:
            assert int(got.valid[tap].sum()) == outcome
            assert got.rows[tap].shape[0] == 10


WITH_PICTURES = sorted(name for name, e in CLIPS.items() if isinstance(e, Expected) and isinstance(e.pictures, int))


@pytest.mark.parametrize("name", [n for n in WITH_PICTURES if n != LONG])
def test_skipping_what_is_not_needed_changes_no_bit(run, shared, name):
    """Two seconds of every clip, every fourth frame or so, and all of the official ones through the same decoder."""
    path = shared / "clips" / name
    taps = [Tap(VIEW, Grid(NS // 5, NS // 5, 6)), Tap(VIEW, Grid(NS // 2, NS // 2, 3, sampling="linspace"))]
    span = (0.4, 1.6) if CLIPS[name].length_s > 2 else (0, None)
    fast, slow = run(path, taps, *span), run(path, taps, *span, skip_unneeded=False)
    assert fast.errors.keys() == slow.errors.keys()
    for tap in fast.rows:
        assert (fast.rows[tap] == slow.rows[tap]).all()
        assert (fast.source_ns[tap] == slow.source_ns[tap]).all()


@pytest.mark.parametrize("name", [n for n in WITH_PICTURES if n != LONG and CLIPS[n].frames <= 74])
def test_official_pictures_fill_all_rows_of_any_clip(run, shared, name):
    got = run(shared / "clips" / name, [OFFICIAL_PICTURES])
    assert not got.errors
    assert got.valid[0].all()
    assert (np.diff(got.source_ns[0][:, 0]) >= 0).all()


@pytest.mark.slow
def test_six_minutes_of_1080p_the_official_way(run, shared):
    got = run(shared / "clips" / LONG, [OFFICIAL_PICTURES, Tap(VIEW, Grid())])
    assert got.valid[0].all()
    assert got.source_ns[0][-1, 0] > 362 * NS
    assert len(got.rows[1]) == 363
    assert got.valid[1].all()


def test_six_minutes_of_1080p_are_not_decoded_for_ten_seconds(run, shared):
    """The tap is complete after ten seconds, and a span near the end begins at its key frame."""
    path: Path = shared / "clips" / LONG
    assert run(path, [PICTURES], 350, 352).valid[0].tolist() == [1, 1] + [0] * 8
