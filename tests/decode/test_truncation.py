"""Files that lack their end are told by what they declare, and only those."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from backbones.spec import Frames, Sound
from extract.errors import (
    NoAudio,
    NotMedia,
    NoVideo,
    SpanOutside,
    Truncated,
    Undecodable,
)
from extract.grid import NS, Grid
from extract.plan import Limits, Tap
from extract.testing import make_video, read_frame_number, truncate

SMALL = Frames(1, (96, 128), None)
PICTURES = Tap(SMALL, Grid(NS // 10, NS // 10))
JPEG = Tap(replace(SMALL, jpeg="mjpeg_200k"), Grid(NS // 8, NS // 8, 80, sampling="ffmpeg_r8", short="stretch"))
SOUND = Tap(Sound(16_000, 15_600), Grid())
OFFICIAL_SOUND = Tap(Sound(16_000, 15_600, resample="moviepy"), Grid(count=10))
EVERYTHING = [PICTURES, JPEG, SOUND, OFFICIAL_SOUND]


# ---- truncated -------------------------------------------------------------------------------------------------------

CUT = {
    "mp4": {"faststart": True},
    "mov": {"faststart": True, "audio": "pcm"},
    "mkv": {},
    "webm": {"video": "vp8", "audio": "opus", "rate_hz": 48_000},
    "avi": {"video": "mpeg4", "audio": "pcm"},
}


@pytest.fixture(scope="module", params=sorted(CUT))
def ten_seconds(request, tmp_path_factory) -> Path:
    return make_video(
        tmp_path_factory.mktemp("cut") / f"ten.{request.param}",
        **{"width": 128, "height": 96, "duration_s": 10, "fps": 15, "gop": 45, **CUT[request.param]},
    )


@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95])
def test_truncated_files_are_told_by_what_they_declare(outcome, ten_seconds, tmp_path, fraction):
    path = truncate(ten_seconds, fraction, to=tmp_path / ten_seconds.name)
    errors = outcome(path)
    assert sorted(errors) == [0, 1, 2, 3]
    for error in errors.values():
        assert isinstance(error, NotMedia if fraction < 0.1 and not isinstance(error, Truncated) else Truncated), error
        assert str(path) in str(error)
        if fraction >= 0.3:
            found_s, declared_s = map(float, re.findall(r"([\d.]+) s", str(error))[:2])
            assert found_s == pytest.approx(10 * fraction, abs=1.0)
            assert declared_s == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize(("fraction", "reasons"), [(0.97, {0, 1, 2, 3}), (0.999, {2, 3})])
def test_a_file_that_ends_within_a_packet_is_cut_off_for_certain(outcome, tmp_path, fraction, reasons):
    """Then little need be missing; and what the decoder says of the last packet is no news."""
    path = truncate(make_video(tmp_path / "a.mp4", width=128, height=96, duration_s=8, faststart=True), fraction)
    errors = outcome(path)
    assert set(errors) >= reasons
    assert all(isinstance(error, Truncated) for error in errors.values()), errors


def test_a_span_before_the_cut_is_whole(run, outcome, ten_seconds, tmp_path):
    path = truncate(ten_seconds, 0.7, to=tmp_path / ten_seconds.name)
    got = run(path, [PICTURES, SOUND], 1, 4)
    assert not got.errors
    assert got.valid[0].all()
    assert [n for (n,) in got.numbers(read_frame_number)] == [
        n for (n,) in run(ten_seconds, [PICTURES], 1, 4).numbers(read_frame_number)
    ]
    assert isinstance(outcome(path, [PICTURES, SOUND], 1, 9)[0], Truncated)


def test_whole_files_are_not_called_truncated(run, ten_seconds):
    assert not run(ten_seconds, EVERYTHING).errors


def test_an_mp4_without_its_index_is_no_media(run, tmp_path):
    """Not ``faststart``: the index is at the end, and gone."""
    path = truncate(make_video(tmp_path / "a.mp4", width=128, height=96, duration_s=4), 0.8)
    with pytest.raises(NotMedia, match="no known demuxer reads it"):
        run(path, EVERYTHING)


@pytest.mark.parametrize("fraction", np.linspace(0.01, 0.995, 14).round(3).tolist())
@pytest.mark.parametrize("suffix", ["mp4", "ts"])
def test_at_any_place_of_the_cut_only_clip_errors_come_out(outcome, tmp_path, suffix, fraction):
    path = truncate(make_video(tmp_path / f"a.{suffix}", width=64, height=48, duration_s=1), fraction)
    for error in outcome(path).values():
        assert isinstance(error, (Truncated, Undecodable, NotMedia, NoVideo, NoAudio, SpanOutside)), error


def test_durations_that_are_only_estimates_are_not_believed(run, tmp_path):
    """Bare AAC: FFmpeg takes the bit rate of its silent beginning for that of the whole, and is wrong by ten times."""

    def half_silent(t_s):
        return np.where(t_s < 2, 0, np.random.default_rng(0).normal(size=len(t_s)) * 0.3).astype(np.float32)

    source = make_video(tmp_path / "s.mp4", video=None, audio_duration_s=4, sound=half_silent)
    path = tmp_path / "bare.aac"
    with av.open(str(source)) as old, av.open(str(path), "w", format="adts") as new:
        stream = new.add_stream_from_template(old.streams.audio[0])
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    with av.open(str(path)) as file:
        assert file.duration > 10_000_000
    got = run(path, [SOUND], limits=Limits(seconds=5))
    assert not got.errors
    assert got.valid[0].all()
    assert len(got.rows[0]) == 4
