"""What is wrong with a file is said by a typed reason with the numbers in it; nothing else ever comes out of a decode."""

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
    NotFound,
    NotMedia,
    NoVideo,
    SpanOutside,
    Undecodable,
    ZeroDuration,
)
from extract.grid import NS, Grid
from extract.plan import Tap
from extract.testing import flip_bytes, make_video

SMALL = Frames(1, (96, 128), None)
PICTURES = Tap(SMALL, Grid(NS // 10, NS // 10))
JPEG = Tap(replace(SMALL, jpeg="mjpeg_200k"), Grid(NS // 8, NS // 8, 80, sampling="ffmpeg_r8", short="stretch"))
SOUND = Tap(Sound(16_000, 15_600), Grid())
OFFICIAL_SOUND = Tap(Sound(16_000, 15_600, resample="moviepy"), Grid(count=10))
EVERYTHING = [PICTURES, JPEG, SOUND, OFFICIAL_SOUND]


# ---- streams that are not there --------------------------------------------------------------------------------------


def test_what_cannot_be_opened_concerns_the_whole_clip(run, tmp_path):
    with pytest.raises(NotFound):
        run(tmp_path / "gone.mp4", EVERYTHING)
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(NotMedia):
        run(tmp_path / "empty.mp4", EVERYTHING)


def test_a_mute_clip_keeps_its_pictures(run, tmp_path):
    path = make_video(tmp_path / "mute.mp4", width=128, height=96, audio=None)
    got = run(path, EVERYTHING)
    assert sorted(got.errors) == [2, 3]
    assert isinstance(got.errors[2], NoAudio)
    assert str(got.errors[2]) == f"{path}: no audio stream"
    assert got.valid[0].all()
    assert got.valid[1].all()


def test_a_blind_clip_keeps_its_sound(run, tmp_path):
    path = make_video(tmp_path / "blind.mp4", video=None)
    got = run(path, EVERYTHING)
    assert sorted(got.errors) == [0, 1]
    assert isinstance(got.errors[0], NoVideo)
    assert str(got.errors[0]) == f"{path}: no video stream"
    assert got.valid[2].all()


@pytest.mark.parametrize("name", ["AudioVideoInterleave.avi", "WindowsMediaVideo.wmv"])
def test_zero_duration(outcome, shared, name):
    path = shared / "clips/mathiasbynens__small" / name
    errors = outcome(path)
    assert isinstance(errors[0], ZeroDuration)
    assert str(errors[0]) == f"{path}: its streams are empty"


# ---- spans -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi", "webm"])
def test_a_span_outside_the_file(run, tmp_path, suffix):
    codecs = {"avi": {"audio": "mp3"}, "webm": {"video": "vp8", "audio": "opus", "rate_hz": 48_000}}.get(suffix, {})
    path = make_video(tmp_path / f"two.{suffix}", width=128, height=96, duration_s=2, **codecs)
    with pytest.raises(SpanOutside, match=r"the clip starts at 30 s and the file ends at (2|2\.\d+) s"):
        run(path, EVERYTHING, 30, 40)


# ---- damaged ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("fuzz")
    options = {"width": 64, "height": 48, "frames": 12, "gop": 6}
    return [
        make_video(folder / "a.mp4", **options),
        make_video(folder / "b.mp4", faststart=True, rotation=90, **options),
        make_video(folder / "c.mkv", **options),
        make_video(folder / "d.ts", **options),
        make_video(folder / "e.avi", video="mpeg4", audio="mp3", **options),
        make_video(folder / "f.webm", video="vp9", audio="opus", rate_hz=48_000, **options),
        make_video(folder / "g.mov", video="mjpeg", audio="pcm", **options),
    ]


@pytest.mark.parametrize("seed", range(28))
def test_only_clip_errors_come_out_of_damaged_files(outcome, fuzzed, tmp_path, seed):
    """Five kinds of damage to each of the files, 140 files in all; a random span for some."""
    rng = np.random.default_rng(seed)
    source = fuzzed[seed % len(fuzzed)]
    data = np.frombuffer(source.read_bytes(), np.uint8)
    path = tmp_path / source.name
    for damage in range(5):
        bad = data.copy()
        if damage == 0:  # anywhere, a little
            bad[rng.integers(0, len(bad), 8)] ^= rng.integers(1, 256, 8).astype(np.uint8)
        elif damage == 1:  # in the header or the index
            place = rng.integers(0, min(len(bad), 1500), 3) * rng.choice([1, -1])
            bad[place] = rng.integers(0, 256, 3)
        elif damage == 2:  # a hole
            first = int(rng.integers(0, len(bad) - 600))
            bad = np.delete(bad, slice(first, first + int(rng.integers(1, 600))))
        elif damage == 3:  # a part of something else
            first = int(rng.integers(0, len(bad) - 400))
            bad[first : first + 400] = rng.integers(0, 256, 400)
        else:
            path.write_bytes(data.tobytes())
            flip_bytes(path, 0.3, 0.9, every=int(rng.integers(3, 200)))
            bad = np.frombuffer(path.read_bytes(), np.uint8)
        path.write_bytes(bad.tobytes())
        start_s = float(rng.choice([0, 0, 0.15]))
        for error in outcome(path, tuple(EVERYTHING), start_s, None).values():
            assert str(path) in str(error)


def test_the_frame_a_decoder_gives_up_at_is_named(outcome, shared):
    path = shared / "clips/dmlc__decord/corrupted.mp4"
    for skip in (True, False):
        errors = outcome(path, [PICTURES], skip_unneeded=skip)
        assert isinstance(errors[0], Undecodable)
        assert re.search(r"corrupted\.mp4: undecodable after (\d+) of 50 frames \(.+\)$", str(errors[0])), errors[0]


def test_sound_that_cannot_be_decoded_leaves_the_pictures(run, tmp_path):
    source = make_video(tmp_path / "s.mkv", width=128, height=96, duration_s=3, b_frames=0)
    path = tmp_path / "noise.mkv"
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        streams = {s.index: new.add_stream_from_template(s) for s in old.streams}
        for packet in old.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "audio" and packet.pts * packet.time_base > 1.5:
                broken = av.Packet(np.random.default_rng(0).bytes(packet.size))
                broken.pts, broken.dts, broken.time_base, broken.duration = (
                    packet.pts, packet.dts, packet.time_base, packet.duration,
                )  # fmt: skip
                broken.stream = streams[packet.stream.index]
                new.mux(broken)
                continue
            packet.stream = streams[packet.stream.index]
            new.mux(packet)
    got = run(path, [PICTURES, SOUND])
    assert isinstance(got.errors[1], Undecodable)
    assert re.search(r"the audio is undecodable after 1\.5\d\d s of sound \(", str(got.errors[1]))
    assert got.valid[0].all()
