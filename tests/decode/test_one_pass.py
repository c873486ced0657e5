"""Which source frame a row shows, read from the pixels, for every container, codec and span."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbones.spec import Frames, Sound
from extract.decode import clip as clip_module
from extract.decode import timeline
from extract.grid import NS, Grid
from extract.plan import Tap
from extract.testing import make_video, read_frame_number

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


def suffix(name: str) -> str:
    return name.split("-", maxsplit=1)[0]


def clip_of(name: str, folder: Path) -> Path:
    options = {"width": 128, "height": 96, "gop": 90, "duration_s": 7, "rate_hz": 48_000}
    return make_video(folder / f"{name}.{suffix(name)}", **{**options, **FORMATS[name]})


@pytest.fixture(scope="module", params=sorted(FORMATS))
def numbered(truth, request, tmp_path_factory) -> tuple[Path, Any]:
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
def test_a_span_of_a_long_file_is_searched_for_and_not_decoded_from_zero(truth, run, tmp_path, monkeypatch, name):
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
