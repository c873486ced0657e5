"""What is too large is refused with the flag that admits it, and nothing grows with the clip."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import pytest

from backbones.spec import Frames, Sound
from extract.errors import (
    TooLarge,
)
from extract.grid import NS, Grid
from extract.plan import Limits, Tap
from extract.testing import make_video

SMALL = Frames(1, (96, 128), None)
PICTURES = Tap(SMALL, Grid(NS // 10, NS // 10))
JPEG = Tap(replace(SMALL, jpeg="mjpeg_200k"), Grid(NS // 8, NS // 8, 80, sampling="ffmpeg_r8", short="stretch"))
SOUND = Tap(Sound(16_000, 15_600), Grid())
OFFICIAL_SOUND = Tap(Sound(16_000, 15_600, resample="moviepy"), Grid(count=10))
EVERYTHING = [PICTURES, JPEG, SOUND, OFFICIAL_SOUND]


# ---- too large -------------------------------------------------------------------------------------------------------


def test_too_many_pixels(run, tmp_path):
    path = make_video(tmp_path / "a.mp4", width=128, height=96, duration_s=1)
    got = run(path, EVERYTHING, limits=Limits(pixels=10_000))
    assert sorted(got.errors) == [0, 1]
    assert isinstance(got.errors[0], TooLarge)
    assert str(got.errors[0]).endswith("128x96 is more than 10,000 pixels per frame; raise --max-pixels to admit it")
    assert got.valid[2].all()
    assert not run(path, EVERYTHING, limits=Limits(pixels=128 * 96)).errors


@pytest.mark.parametrize("suffix", ["mp4", "ts"])
def test_too_long(run, tmp_path, suffix):
    path = make_video(tmp_path / f"a.{suffix}", width=128, height=96, duration_s=4)
    with pytest.raises(TooLarge, match=r"the clip lasts at least [34](\.\d+)? s, more than 3; raise --max-seconds"):
        run(path, EVERYTHING, limits=Limits(seconds=3))
    assert not run(path, [PICTURES], 1, 3.5, limits=Limits(seconds=3)).errors, "a span of it is not"
    assert not run(path, [PICTURES], 2, 999, limits=Limits(seconds=3)).errors, "nor one that only claims to be long"


def test_too_long_without_a_word_in_the_header(run, shared):
    path = shared / "clips/Zulko__moviepy/no_duration.webm"
    with pytest.raises(TooLarge, match=r"the clip lasts at least 4\.\d+ s, more than 4"):
        run(path, [SOUND], limits=Limits(seconds=4))


def test_too_many_frames(run, tmp_path):
    path = make_video(tmp_path / "a.mp4", width=128, height=96, duration_s=2)
    with pytest.raises(TooLarge, match=r"more than 50 frames; raise --max-frames"):
        run(path, EVERYTHING, limits=Limits(frames=50))


def test_two_frames_a_week_apart_are_not_a_week_of_rows(run, tmp_path):
    path = make_video(tmp_path / "week.mkv", width=128, height=96, pts_ms=[0, 7 * 86_400_000], audio=None)
    with pytest.raises(TooLarge, match="the clip lasts"):
        run(path, [Tap(SMALL, Grid())])


@pytest.mark.parametrize("aspect", [Fraction(1, 200), Fraction(200)])
def test_a_hostile_aspect_ratio_does_not_blow_up_the_picture(run, tmp_path, aspect):
    path = make_video(tmp_path / "thin.mp4", width=320, height=240, frames=3, audio=None, sample_aspect_ratio=aspect)
    got = run(path, [Tap(Frames(1, 64, 64), Grid(NS // 30, NS // 30))], limits=Limits(pixels=100_000))
    assert isinstance(got.errors[0], TooLarge)
    assert re.search(r"a resized frame of \d+x\d+ is more than 100,000 pixels; raise --max-pixels", str(got.errors[0]))
    stored = Tap(Frames(1, 64, 64, aspect="storage"), Grid(NS // 30, NS // 30))
    assert not run(path, [stored], limits=Limits(pixels=100_000)).errors


def test_an_aspect_ratio_that_leaves_less_than_a_pixel(run, tmp_path):
    path = make_video(
        tmp_path / "nil.mp4", width=64, height=48, frames=3, audio=None, sample_aspect_ratio=Fraction(1, 200)
    )
    got = run(path, [Tap(Frames(1, 8, 8), Grid(NS // 30, NS // 30))])
    assert not got.errors


# ---- memory ----------------------------------------------------------------------------------------------------------

MEASURE = """
import sys
from backbones.spec import Frames, Sound
from extract.decode.clip import decode
from extract.decode import timeline
from extract.grid import NS, Grid
from extract.plan import Limits, Tap
timeline.KEEP_BYTES = 1_000_000
taps = [Tap(Frames(1, (96, 128), None), Grid()), Tap(Sound(16_000, 15_600), Grid()),
        Tap(Frames(8, (96, 128), None, jpeg="mjpeg_200k"), Grid(count=10, sampling="ffmpeg_r8", short="stretch")),
        Tap(Sound(16_000, 15_600, resample="moviepy"), Grid(count=10))]
rows = sum(len(e.data) for e in decode(sys.argv[1], 0, None, taps, Limits()) if hasattr(e, "data"))
print(rows, *(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc: ru_maxrss begins at the parent's")
def test_memory_does_not_grow_with_the_clip(tmp_path):
    peaks = []
    for seconds in (20, 400):
        path = make_video(
            tmp_path / f"{seconds}.mov",
            width=128,
            height=96,
            fps=5,
            gop=5,
            duration_s=seconds,
            audio="pcm",
            rate_hz=16_000,
        )
        result = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
        rows, peak_kib = map(int, result.stdout.split())
        assert rows == 2 * seconds + 20
        peaks.append(peak_kib / 1024)
    assert peaks[1] - peaks[0] < 24, "MiB; the longer clip's sound alone is 25 MiB, its pictures are 74"
