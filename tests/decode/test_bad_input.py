"""What is wrong with a file is said by a typed reason with the numbers in it; nothing else ever comes out of a decode."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from backbones.spec import Frames, Sound
from extract.decode import frame_pass
from extract.errors import (
    ClipError,
    NoAudio,
    NotFound,
    NotMedia,
    NoVideo,
    SpanOutside,
    TooLarge,
    Truncated,
    Undecodable,
    ZeroDuration,
)
from extract.grid import NS, Grid
from extract.plan import Limits, Tap
from extract.testing import flip_bytes, make_video, numbered_picture, read_frame_number, truncate

SMALL = Frames(1, (96, 128), None)
PICTURES = Tap(SMALL, Grid(NS // 10, NS // 10))
JPEG = Tap(replace(SMALL, jpeg="mjpeg_200k"), Grid(NS // 8, NS // 8, 80, sampling="ffmpeg_r8", short="stretch"))
SOUND = Tap(Sound(16_000, 15_600), Grid())
OFFICIAL_SOUND = Tap(Sound(16_000, 15_600, resample="moviepy"), Grid(count=10))
EVERYTHING = [PICTURES, JPEG, SOUND, OFFICIAL_SOUND]


def outcome(run, path, taps=tuple(EVERYTHING), *span, **options) -> dict[int, ClipError]:
    """The errors by tap; one that concerns the whole clip stands for all of them."""
    try:
        return run(path, list(taps), *span, **options).errors
    except ClipError as error:
        return dict.fromkeys(range(len(taps)), error)


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
def test_zero_duration(run, shared, name):
    path = shared / "clips/mathiasbynens__small" / name
    errors = outcome(run, path)
    assert isinstance(errors[0], ZeroDuration)
    assert str(errors[0]) == f"{path}: its streams are empty"


# ---- spans -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi", "webm"])
def test_a_span_outside_the_file(run, tmp_path, suffix):
    codecs = {"avi": {"audio": "mp3"}, "webm": {"video": "vp8", "audio": "opus", "rate_hz": 48_000}}.get(suffix, {})
    path = make_video(tmp_path / f"two.{suffix}", width=128, height=96, duration_s=2, **codecs)
    with pytest.raises(SpanOutside, match=r"the clip starts at 30 s and the file ends at (2|2\.\d+) s"):
        run(path, EVERYTHING, 30, 40)


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
def test_truncated_files_are_told_by_what_they_declare(run, ten_seconds, tmp_path, fraction):
    path = truncate(ten_seconds, fraction, to=tmp_path / ten_seconds.name)
    errors = outcome(run, path)
    assert sorted(errors) == [0, 1, 2, 3]
    for error in errors.values():
        assert isinstance(error, NotMedia if fraction < 0.1 and not isinstance(error, Truncated) else Truncated), error
        assert str(path) in str(error)
        if fraction >= 0.3:
            found_s, declared_s = map(float, re.findall(r"([\d.]+) s", str(error))[:2])
            assert found_s == pytest.approx(10 * fraction, abs=1.0)
            assert declared_s == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize(("fraction", "reasons"), [(0.97, {0, 1, 2, 3}), (0.999, {2, 3})])
def test_a_file_that_ends_within_a_packet_is_cut_off_for_certain(run, tmp_path, fraction, reasons):
    """Then little need be missing; and what the decoder says of the last packet is no news."""
    path = truncate(make_video(tmp_path / "a.mp4", width=128, height=96, duration_s=8, faststart=True), fraction)
    errors = outcome(run, path)
    assert set(errors) >= reasons
    assert all(isinstance(error, Truncated) for error in errors.values()), errors


def test_a_span_before_the_cut_is_whole(run, ten_seconds, tmp_path):
    path = truncate(ten_seconds, 0.7, to=tmp_path / ten_seconds.name)
    got = run(path, [PICTURES, SOUND], 1, 4)
    assert not got.errors
    assert got.valid[0].all()
    assert [n for (n,) in got.numbers(read_frame_number)] == [
        n for (n,) in run(ten_seconds, [PICTURES], 1, 4).numbers(read_frame_number)
    ]
    assert isinstance(outcome(run, path, [PICTURES, SOUND], 1, 9)[0], Truncated)


def test_whole_files_are_not_called_truncated(run, ten_seconds):
    assert not run(ten_seconds, EVERYTHING).errors


def test_an_mp4_without_its_index_is_no_media(run, tmp_path):
    """Not ``faststart``: the index is at the end, and gone."""
    path = truncate(make_video(tmp_path / "a.mp4", width=128, height=96, duration_s=4), 0.8)
    with pytest.raises(NotMedia, match="no known demuxer reads it"):
        run(path, EVERYTHING)


@pytest.mark.parametrize("fraction", np.linspace(0.01, 0.995, 14).round(3).tolist())
@pytest.mark.parametrize("suffix", ["mp4", "ts"])
def test_at_any_place_of_the_cut_only_clip_errors_come_out(run, tmp_path, suffix, fraction):
    path = truncate(make_video(tmp_path / f"a.{suffix}", width=64, height=48, duration_s=1), fraction)
    for error in outcome(run, path).values():
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
def test_only_clip_errors_come_out_of_damaged_files(run, fuzzed, tmp_path, seed):
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
        for error in outcome(run, path, tuple(EVERYTHING), start_s, None).values():
            assert str(path) in str(error)


def test_the_frame_a_decoder_gives_up_at_is_named(run, shared):
    path = shared / "clips/dmlc__decord/corrupted.mp4"
    for skip in (True, False):
        errors = outcome(run, path, [PICTURES], skip_unneeded=skip)
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


# ---- memory ----------------------------------------------------------------------------------------------------------

MEASURE = """
import resource, sys
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
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


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
        peaks.append(peak_kib / 1024 if sys.platform == "linux" else peak_kib / 1024**2)
    assert peaks[1] - peaks[0] < 24, "MiB; the longer clip's sound alone is 25 MiB, its pictures are 74"
    assert resource.RUSAGE_SELF is not None
