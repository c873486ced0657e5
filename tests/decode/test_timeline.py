"""Streams whose packets do not tell the whole truth: sizes that change, hidden frames, missing beginnings, no times."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from backbones.spec import Frames, Sound
from extract.decode import frame_pass
from extract.errors import (
    TooLarge,
    Undecodable,
)
from extract.grid import NS, Grid
from extract.plan import Limits, Tap
from extract.testing import make_video, numbered_picture, read_frame_number

SMALL = Frames(1, (96, 128), None)
PICTURES = Tap(SMALL, Grid(NS // 10, NS // 10))
JPEG = Tap(replace(SMALL, jpeg="mjpeg_200k"), Grid(NS // 8, NS // 8, 80, sampling="ffmpeg_r8", short="stretch"))
SOUND = Tap(Sound(16_000, 15_600), Grid())
OFFICIAL_SOUND = Tap(Sound(16_000, 15_600, resample="moviepy"), Grid(count=10))
EVERYTHING = [PICTURES, JPEG, SOUND, OFFICIAL_SOUND]


# ---- changes in mid-stream -------------------------------------------------------------------------------------------


def changing(path: Path, sizes: list[tuple[int, int]]) -> Path:
    """MJPEG in Matroska, ten frames of each size at 10 frames per second."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = *sizes[0], "yuvj420p"
        k = 0
        for width, height in sizes:
            encoder = av.CodecContext.create("mjpeg", "w")
            encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = (
                width,
                height,
                "yuvj420p",
                Fraction(1, 10),
            )
            encoder.options = {"qmin": "2", "qmax": "4"}
            for _ in range(10):
                frame = av.VideoFrame.from_ndarray(numbered_picture(width, height)(k, 0.0), format="rgb24")
                frame = frame.reformat(format="yuvj420p")
                frame.pts, frame.time_base = k, Fraction(1, 10)
                for packet in encoder.encode(frame):
                    packet.stream = stream
                    out.mux(packet)
                k += 1
    return path


def test_a_picture_that_changes_its_size_in_mid_stream(run, tmp_path):
    path = changing(tmp_path / "grows.mkv", [(160, 120), (320, 240), (96, 160)])
    got = run(path, [PICTURES, JPEG, Tap(Frames(1, 64, 64), Grid(NS // 10, NS // 10))])
    assert not got.errors
    assert [n for (n,) in got.numbers(read_frame_number)] == list(range(30))
    jpeg = [n for (n,) in got.numbers(read_frame_number, 1)]
    assert jpeg[0] == 0
    assert jpeg[-1] == 29


def test_a_picture_that_grows_beyond_the_limit(run, tmp_path):
    path = changing(tmp_path / "grows.mkv", [(160, 120), (320, 240)])
    got = run(path, [PICTURES], limits=Limits(pixels=30_000))
    assert isinstance(got.errors[0], TooLarge)
    assert str(got.errors[0]).endswith("a frame of 320x240 is more than 30,000 pixels; raise --max-pixels to admit it")


def test_a_stream_that_begins_amid_a_group_of_pictures(run, tmp_path):
    """As recordings off the air do: what comes before the first key frame cannot be decoded, and is not an error."""
    source = make_video(tmp_path / "s.ts", width=128, height=96, duration_s=4, gop=30, b_frames=2)
    data = source.read_bytes()
    path = tmp_path / "cut.ts"
    path.write_bytes(data[: 188 * 3] + data[len(data) // 376 * 188 :])  # the tables, and the second half
    got = run(path, [PICTURES])
    assert not got.errors
    shown = [n for (n,) in got.numbers(read_frame_number) if n >= 0]
    assert shown[0] in (60, 61, 62, 90, 91, 92)
    assert (np.diff(shown[:-1]) == 3).all()


def remuxed(source: Path, path: Path, change) -> Path:
    """The packets of `source` after `change(k, packet)` (None: left out), k counting those of the video."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        streams = {s.index: new.add_stream_from_template(s) for s in old.streams}
        k = -1
        for packet in old.demux():
            if packet.size == 0:
                continue
            k += packet.stream.type == "video"
            kept = change(k, packet) if packet.stream.type == "video" else packet
            if kept is not None:
                kept.stream = streams[packet.stream.index]
                new.mux(kept)
    return path


@pytest.mark.parametrize("suffix", ["webm", "mkv"])
def test_frames_that_a_codec_hides(run, tmp_path, suffix):
    """VP8 and its heirs have packets without a picture (alternative references): times come from decoding then."""
    source = make_video(tmp_path / f"s.{suffix}", video="vp8", audio=None, width=128, height=96, duration_s=3)

    def hide(k, packet):
        if k != 41:
            return packet
        data = bytearray(bytes(packet))
        data[0] &= ~0x10  # show_frame, RFC 6386 section 9.1
        hidden = av.Packet(bytes(data))
        hidden.pts, hidden.dts, hidden.time_base, hidden.duration = (
            packet.pts,
            packet.dts,
            packet.time_base,
            packet.duration,
        )
        return hidden

    path = remuxed(source, tmp_path / f"hidden.{suffix}", hide)
    got = run(path, [Tap(replace(SMALL, count=4), Grid(NS, NS, 3, sampling="every", stride=7))])
    assert got.opened == 2
    assert got.numbers(read_frame_number) == [[0, 7, 14, 21], [30, 37, 45, 52], [60, 67, 74, 81]]


def test_packets_before_the_first_key_frame_do_no_harm(run, tmp_path):
    source = make_video(tmp_path / "s.mkv", video="vp8", width=128, height=96, duration_s=3, gop=30, audio=None)
    path = remuxed(source, tmp_path / "cut.mkv", lambda k, packet: packet if k > 0 else None)
    got = run(path, [PICTURES])
    assert not got.errors
    assert got.opened == 1
    shown = [n for (n,) in got.numbers(read_frame_number) if n >= 0]
    assert 30 <= shown[0] <= 32
    assert shown[-1] >= 87


def test_frames_shown_before_the_first_key_frame_but_stored_after_it_do_no_harm(run, tmp_path):
    """An open group of pictures, as broadcasts have: its first B-frames need the group before, which is cut off."""
    source = tmp_path / "open.mkv"
    with av.open(str(source), "w") as out:
        options = {"x264-params": "open-gop=1:keyint=30:min-keyint=30:bframes=3:b-adapt=0:scenecut=0:rc-lookahead=0"}
        stream = out.add_stream("libx264", rate=30, options={"preset": "veryfast", **options})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for k in range(90):
            frame = av.VideoFrame.from_ndarray(numbered_picture(128, 96)(k, 0.0), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 30)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    path = remuxed(source, tmp_path / "cut.mkv", lambda k, packet: packet if k >= 12 else None)
    got = run(path, [Tap(SMALL, Grid(NS // 30, NS // 30, sampling="every"))])
    assert not got.errors
    assert got.opened == 1
    shown = [n for (n,) in got.numbers(read_frame_number) if n >= 0]
    assert shown[0] == 30
    assert shown[-1] == 89


def test_a_bare_stream_has_the_times_of_its_rate(run, tmp_path):
    source = make_video(tmp_path / "s.mp4", width=128, height=96, fps=25, duration_s=4, audio=None, b_frames=0)
    path = tmp_path / "bare.h264"
    with av.open(str(source)) as old, av.open(str(path), "w", format="h264") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    got = run(path, [Tap(SMALL, Grid(NS // 5, NS // 5))])
    assert len(got.rows[0]) == 20
    assert [n for (n,) in got.numbers(read_frame_number)] == [2 + 5 * k for k in range(20)]
    span = run(path, [Tap(SMALL, Grid(NS // 5, NS // 5))], 2, 3)
    assert [n for (n,) in span.numbers(read_frame_number)] == [52 + 5 * k for k in range(5)]


def test_a_promise_that_the_decoder_breaks_twice_is_an_error(run, tmp_path, monkeypatch):
    path = make_video(tmp_path / "a.mp4", width=128, height=96, duration_s=1, audio=None)

    def always(self):
        raise frame_pass.MismatchError

    monkeypatch.setattr(frame_pass.FramePass, "close", always)
    with pytest.raises(Undecodable, match="decoding it twice gives different frames"):
        run(path, [PICTURES])


def test_a_broken_promise_voids_what_was_given_and_starts_anew(run, tmp_path, monkeypatch):
    path = make_video(tmp_path / "a.mp4", width=128, height=96, duration_s=2)
    whole = run(path, [PICTURES, SOUND])
    take, calls = frame_pass.FramePass._take, []

    def once(self, frame, position):
        calls.append(position)
        if len(calls) == 15:
            raise frame_pass.MismatchError
        yield from take(self, frame, position)

    monkeypatch.setattr(frame_pass.FramePass, "_take", once)
    again = run(path, [PICTURES, SOUND])
    assert again.opened == 2
    for tap in (0, 1):
        assert (again.rows[tap] == whole.rows[tap]).all()
