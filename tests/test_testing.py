"""What make_video writes is read back with PyAV alone: nothing here goes through the project's own decoder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from extract import testing as made


@dataclass
class Decoded:
    numbers: list[int]
    times_s: list[float]
    sound: np.ndarray
    sound_start_s: float | None
    rotation: set[int]
    key_frames: list[int]
    types: list[str]


def decode(path: Path, video: int = 0, audio: int = 0) -> Decoded:
    out = Decoded([], [], np.zeros(0, np.float32), None, set(), [], [])
    blocks = []
    with av.open(str(path)) as file:
        streams = [*file.streams.video[video : video + 1], *file.streams.audio[audio : audio + 1]]
        for frame in file.decode(*streams):
            if isinstance(frame, av.VideoFrame):
                upright = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                out.numbers.append(made.read_frame_number(np.ascontiguousarray(upright)))
                out.times_s.append(float(frame.pts * frame.time_base))
                out.rotation.add(frame.rotation)
                out.types.append(av.video.frame.PictureType(frame.pict_type).name)
                if frame.key_frame:
                    out.key_frames.append(len(out.numbers) - 1)
            else:
                if out.sound_start_s is None:
                    out.sound_start_s = float(frame.pts * frame.time_base)
                block = frame.to_ndarray()
                if not frame.format.is_planar:
                    block = block.reshape(-1, frame.layout.nb_channels).T
                blocks.append(block / (32768 if block.dtype == np.int16 else 1))
    if blocks:
        out.sound = np.concatenate(blocks, axis=1)
    return out


# ---- what was asked for is in the file -------------------------------------------------------------------------------

FORMATS = {
    "h264.mp4": {},
    "mpeg4.mp4": {"video": "mpeg4", "b_frames": 2, "audio": "mp3"},
    "vp9.mp4": {"video": "vp9", "audio": "opus", "rate_hz": 48_000},
    "mjpeg.mov": {"video": "mjpeg", "audio": "pcm"},
    "h264.mkv": {"audio": "mp3", "rate_hz": 48_000},
    "vp8.webm": {"video": "vp8", "audio": "opus", "rate_hz": 48_000, "channels": 1},
    "vp9.webm": {"video": "vp9", "audio": "opus", "rate_hz": 24_000},
    "mpeg4.avi": {"video": "mpeg4", "audio": "mp3"},
    "mjpeg.avi": {"video": "mjpeg", "audio": "pcm", "rate_hz": 16_000},
    "h264.ts": {},
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_container_gives_back_its_frames_and_its_sound(tmp_path: Path, name: str) -> None:
    path = made.make_video(tmp_path / name, **FORMATS[name])
    back = decode(path)
    assert back.numbers == list(range(60))
    steps = np.diff(back.times_s)
    assert np.abs(steps - 1 / 30).max() < 0.0011
    with av.open(str(path)) as file:
        rate = file.streams.audio[0].rate
        assert file.streams.audio[0].codec_context.channels == FORMATS[name].get("channels", 2)
        assert rate == (48_000 if FORMATS[name].get("audio") == "opus" else FORMATS[name].get("rate_hz", 44_100))
        assert file.streams.video[0].codec_context.name.startswith(FORMATS[name].get("video", "h264"))
    # what the pictures and the sound say about themselves agrees with the times they are shown and heard
    picture_offset = back.times_s[0]
    sound_offset = (back.sound_start_s - made.read_time_s(back.sound[0], rate) + 6) % 12 - 6
    slack = 0.026 if name == "mpeg4.avi" else 0.0015  # avi cannot say that mp3 begins with 25 ms of priming
    assert abs(sound_offset - picture_offset) < slack
    clicks = back.sound_start_s + made.read_clicks_s(back.sound[0], rate)[:2] - sound_offset
    assert clicks == pytest.approx([0.0, 1.0], abs=0.002)


def test_sizes_rates_and_lengths(tmp_path: Path) -> None:
    path = made.make_video(
        tmp_path / "a.mp4", width=160, height=120, fps=Fraction(24000, 1001), duration_s=3, sample_aspect_ratio=2,
        rate_hz=16_000, channels=1, audio_duration_s=1.5, pix_fmt="yuv420p10le", gop=12,
    )  # fmt: skip
    with av.open(str(path)) as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        assert (video.width, video.height, video.pix_fmt) == (160, 120, "yuv420p10le")
        assert video.average_rate == Fraction(24000, 1001)
        assert video.frames == 72
        assert video.sample_aspect_ratio == 2
        assert (audio.rate, audio.codec_context.channels) == (16_000, 1)
        assert float(audio.duration * audio.time_base) == pytest.approx(1.5, abs=1024 / 16_000)
    back = decode(path)
    assert back.numbers == list(range(72))
    assert back.key_frames == [0, 12, 24, 36, 48, 60]
    assert 24_000 <= back.sound.shape[1] < 24_000 + 1024 + 1


@pytest.mark.parametrize(("b_frames", "expected"), [(0, "IPPPPPPP"), (1, "IBPBPBPP"), (2, "IBBPBBPP")])
def test_b_frames_are_really_there(tmp_path: Path, b_frames: int, expected: str) -> None:
    path = made.make_video(tmp_path / "a.mp4", b_frames=b_frames, frames=8, audio=None)
    back = decode(path)
    assert "".join(back.types) == expected
    assert back.numbers == list(range(8))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_variable_frame_rate(tmp_path: Path, name: str) -> None:
    at_ms = [0, 100, 110, 300, 333, 900]
    back = decode(made.make_video(tmp_path / name, pts_ms=at_ms))
    assert back.numbers == list(range(6))
    assert back.times_s == pytest.approx(np.array(at_ms) / 1000)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_start_offsets(tmp_path: Path, name: str) -> None:
    path = made.make_video(tmp_path / name, video_start_s=0.5, audio_start_s=0.25)
    back = decode(path)
    assert back.times_s[0] == pytest.approx(0.5, abs=0.001)
    assert back.numbers[0] == 0
    assert back.sound_start_s == pytest.approx(0.25, abs=0.025)  # priming of 1024 samples, to the ms
    assert made.read_time_s(back.sound[0], 44_100) == pytest.approx(back.sound_start_s, abs=0.0015)


@pytest.mark.parametrize(("name", "rotation"), [("a.mp4", 90), ("a.mp4", 180), ("a.mov", 270), ("fast.mp4", 90)])
def test_a_player_turns_a_rotated_file_upright(tmp_path: Path, name: str, rotation: int) -> None:
    path = made.make_video(tmp_path / name, rotation=rotation, frames=5, faststart=name == "fast.mp4")
    back = decode(path)
    assert back.numbers == list(range(5))
    assert {(-turn) % 360 for turn in back.rotation} == {rotation}
    with av.open(str(path)) as file:
        assert (file.streams.video[0].width, file.streams.video[0].height) == (320, 240)


def test_several_streams(tmp_path: Path) -> None:
    path = made.make_video(
        tmp_path / "a.mkv", frames=30, extra_video=[(640, 480)], extra_audio=[(48_000, 1), (22_050, 2)]
    )
    with av.open(str(path)) as file:
        assert [(v.width, v.height) for v in file.streams.video] == [(320, 240), (640, 480)]
        assert [(a.rate, a.codec_context.channels) for a in file.streams.audio] == [
            (44_100, 2),
            (48_000, 1),
            (22_050, 2),
        ]
        frame = next(file.decode(video=1)).to_ndarray(format="rgb24")
        assert made.read_track(frame) == 1
    second = decode(path, video=1, audio=1)
    assert second.numbers == list(range(30))
    assert made.read_time_s(second.sound[0], 48_000, track=1) == pytest.approx(0, abs=0.001)
    with pytest.raises(ValueError, match="not from timed_sound"):
        made.read_time_s(second.sound[0], 48_000, track=0)


def test_one_kind_of_stream_only(tmp_path: Path) -> None:
    with av.open(str(made.make_video(tmp_path / "v.mp4", audio=None, frames=3))) as file:
        assert [s.type for s in file.streams] == ["video"]
    with av.open(str(made.make_video(tmp_path / "a.mp4", video=None))) as file:
        assert [s.type for s in file.streams] == ["audio"]


def test_ones_own_pictures_and_sound(tmp_path: Path) -> None:
    seen = []

    def picture(k: int, t_s: float) -> np.ndarray:
        seen.append((k, t_s))
        return np.full((48, 64, 3), 40 * k, np.uint8)

    path = made.make_video(
        tmp_path / "a.mkv", width=64, height=48, frames=5, fps=10, video_start_s=1, picture=picture, audio="pcm",
        rate_hz=8000, sound=lambda t_s: np.stack([0.5 * (t_s >= 0.25), -0.5 * (t_s >= 0.25)], axis=1),
    )  # fmt: skip
    assert seen == [(0, 1.0), (1, 1.1), (2, 1.2), (3, 1.3), (4, 1.4)]
    with av.open(str(path)) as file:
        means = [frame.to_ndarray(format="rgb24").mean() for frame in file.decode(video=0)]
    assert means == pytest.approx([0, 40, 80, 120, 160], abs=3)
    with av.open(str(path)) as file:
        heard = np.concatenate([f.to_ndarray().reshape(-1, 2) for f in file.decode(audio=0)]) / 32768
    assert np.flatnonzero(heard[:, 0])[0] == 2000
    assert (heard[2000:] == [0.5, -0.5]).all()


@pytest.mark.parametrize("name", ["h264.mp4", "h264.mkv", "h264.ts", "vp9.webm", "mpeg4.avi", "mjpeg.mov"])
def test_same_arguments_same_bytes(tmp_path: Path, name: str) -> None:
    written = {made.make_video(tmp_path / name, **FORMATS[name], frames=20).read_bytes() for _ in range(5)}
    assert len(written) == 1
    assert made.make_video(tmp_path / name, **FORMATS[name], frames=21).read_bytes() not in written


# ---- the marks -------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(number=st.integers(0, made.FRAME_NUMBERS - 1), track=st.integers(0, 7))
def test_a_frame_number_survives_squash_and_centre_crop(number: int, track: int) -> None:
    whole = made.numbered_picture(320, 240, track)(number, 0.0)
    image = Image.fromarray(whole)
    squashed = np.asarray(image.resize((112, 112), Image.Resampling.BILINEAR))
    assert made.read_frame_number(squashed) == number
    assert made.read_track(squashed) == track
    cropped = np.asarray(image.resize((341, 256), Image.Resampling.BILINEAR).crop((58, 16, 282, 240)))
    assert made.read_frame_number(cropped, made.centre_crop_shows(320, 240)) == number


def test_a_frame_number_survives_the_centre_crop_of_a_wide_picture() -> None:
    whole = Image.fromarray(made.numbered_picture(640, 360)(12_345, 0.0))
    crop = np.asarray(whole.resize((455, 256), Image.Resampling.BILINEAR).crop((115, 16, 339, 240)))
    assert made.read_frame_number(crop, made.centre_crop_shows(640, 360)) == 12_345


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_a_picture_without_a_mark_reads_as_nothing(shade: int) -> None:
    with pytest.raises(ValueError, match="no frame mark can be read in this picture of 320x240"):
        made.read_frame_number(np.full((240, 320, 3), shade, np.uint8))


def test_a_mirrored_picture_does_not_read() -> None:
    picture = made.numbered_picture(320, 240)(77, 0.0)
    with pytest.raises(ValueError, match="no frame mark"):
        made.read_frame_number(np.ascontiguousarray(picture[:, ::-1]))


def test_a_mark_cut_off_is_said_so() -> None:
    with pytest.raises(ValueError, match="lies outside this picture"):
        made.read_frame_number(made.numbered_picture(320, 240)(1, 0.0)[:, 160:], (0.5, 0.0, 1.0, 1.0))


@settings(max_examples=40, deadline=None)
@given(start=st.floats(0, 11.999), rate=st.sampled_from([8000, 16_000, 22_050]), track=st.integers(0, 3))
def test_sound_tells_its_time(start: float, rate: int, track: int) -> None:
    samples = made.timed_sound(start + np.arange(int(0.5 * rate)) / rate, track)
    error = made.read_time_s(samples, rate, track) - start
    assert abs((error + 6) % 12 - 6) <= 0.001


def test_silence_tells_no_time() -> None:
    with pytest.raises(ValueError, match=r"correlation 0\.00"):
        made.read_time_s(np.zeros(16_000), 16_000)
    with pytest.raises(ValueError, match=r"n >= 4800 \(0.3 s\), got shape \(100,\)"):
        made.read_time_s(np.zeros(100), 16_000)


# ---- damage ----------------------------------------------------------------------------------------------------------


def frames_until_error(path: Path) -> tuple[int, bool]:
    n = 0
    try:
        with av.open(str(path)) as file:
            for _ in file.decode(video=0):
                n += 1
    except av.FFmpegError:
        return n, True
    return n, False


def test_a_truncated_file_opens_only_with_its_index_in_front(tmp_path: Path) -> None:
    fast = made.make_video(tmp_path / "fast.mp4", faststart=True)
    slow = made.make_video(tmp_path / "slow.mp4")
    assert frames_until_error(made.truncate(slow, 0.6, to=tmp_path / "s.mp4")) == (0, True)
    read, _ = frames_until_error(made.truncate(fast, 0.6, to=tmp_path / "f.mp4"))
    assert 20 < read < 50
    assert frames_until_error(fast) == (60, False)
    size = fast.stat().st_size
    made.truncate(fast, 0.25)
    assert fast.stat().st_size == size // 4


def test_flipped_bytes_break_the_decoding(tmp_path: Path) -> None:
    path = made.make_video(tmp_path / "a.mp4", audio=None)
    broken = made.flip_bytes(path, 0.3, 0.5, every=10, to=tmp_path / "b.mp4")
    before, after = (np.frombuffer(p.read_bytes(), np.uint8) for p in (path, broken))
    changed = np.flatnonzero(before != after)
    assert changed[0] == int(len(before) * 0.3)
    assert changed[-1] < int(len(before) * 0.5)
    assert (np.diff(changed) == 10).all()
    assert (after[changed] == 255 - before[changed]).all()
    read, failed = frames_until_error(broken)
    assert failed
    assert read < 60


@pytest.mark.parametrize("kind", made.NOT_MEDIA)
def test_what_is_not_media_does_not_open(tmp_path: Path, kind: str) -> None:
    with pytest.raises(av.FFmpegError):
        av.open(str(made.not_media(tmp_path / "clip.mp4", kind)))


@pytest.mark.parametrize(
    ("kind", "name", "target", "frames"),
    [("concat", "clip.mp4", "t.mp4", 60), ("hls", "clip.m3u8", "t.ts", 60), ("image2", "clip.mp4", "t.mp4", 1)],
)
def test_a_careless_reader_follows_the_hostile_files(
    tmp_path: Path, kind: str, name: str, target: str, frames: int
) -> None:
    """The attack is real: FFmpeg left alone reads something else than it was handed."""
    other = made.make_video(tmp_path / target)
    path = made.hostile_playlist(tmp_path / name, other, kind)
    assert path.stat().st_size < 300
    assert frames_until_error(path) == (frames, False)


@pytest.mark.parametrize("kind", made.HOSTILE)
def test_every_hostile_file_can_be_written(tmp_path: Path, kind: str) -> None:
    other = made.make_video(tmp_path / "t.mp4", frames=2)
    path = made.hostile_playlist(tmp_path / "clip.mp4", other, kind)
    assert path.parent == tmp_path
    assert path.is_file()


# ---- wrong inputs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"video": "h265"}, "video must be one of h264, mpeg4, vp8, vp9, mjpeg or None, got 'h265'"),
        ({"audio": "flac"}, "audio must be one of aac, opus, mp3, pcm or None, got 'flac'"),
        ({"video": None, "audio": None}, "needs at least one stream"),
        ({"width": 0}, "must be >= 1, got 0x240"),
        ({"width": 33}, "needs even sides, got 33x240; pix_fmt='yuv444p' takes odd ones"),
        ({"fps": 0}, "fps must be > 0, got 0"),
        ({"frames": 0}, "at least one frame"),
        ({"frames": 3, "duration_s": 1}, "one of duration_s, frames and pts_ms"),
        ({"pts_ms": [0, 40, 40]}, "increasing, got (0, 40, 40)"),
        ({"pts_ms": []}, "at least one frame"),
        ({"b_frames": -1}, "b_frames must be >= 0"),
        ({"video": "vp9", "b_frames": 1}, "0 for vp9, got 1"),
        ({"gop": 0}, "gop must be >= 1, got 0"),
        ({"rotation": 45}, "rotation must be 0, 90, 180 or 270, got 45"),
        ({"container": "mkv", "rotation": 90}, "mp4 and mov only, got 'mkv'"),
        ({"sample_aspect_ratio": 0}, "sample_aspect_ratio must be > 0, got 0"),
        ({"video_start_s": -1}, "video_start_s must be >= 0, got -1.0"),
        ({"audio_start_s": -0.5}, "audio_start_s must be >= 0, got -0.5"),
        ({"rate_hz": 4000}, "rate_hz must be 8000..96000, got 4000"),
        ({"audio": "opus"}, "opus takes a rate_hz of 8000, 12000, 16000, 24000, 48000, got 44100"),
        ({"channels": 6}, "channels must be 1 or 2, got 6"),
        ({"audio_duration_s": 0}, "leaves no sample"),
        ({"container": "ogg"}, "container must be one of mp4, mov, mkv, webm, avi, ts, got 'ogg'"),
        ({"container": "webm"}, "webm takes vp8, vp9, got 'h264'"),
        ({"container": "avi", "video": "mpeg4", "b_frames": 2, "audio": None}, "avi stores no times"),
        ({"container": "avi", "video": "mpeg4", "pts_ms": [0, 50], "audio": None}, "avi stores no times"),
        ({"container": "avi", "audio": "mp3", "audio_start_s": 1}, "avi stores no times: no audio_start_s"),
        ({"container": "mkv", "faststart": True}, "faststart is for mp4 and mov, got 'mkv'"),
        ({"picture": lambda k, t: np.zeros((8, 8, 3), np.uint8)}, "picture(0) must be uint8 of the track's size"),
        ({"sound": lambda t: np.zeros((len(t), 3))}, "sound must give (4096,) or (4096, 2), got (4096, 3)"),
    ],
)
def test_wrong_options_are_refused_with_the_reason(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        made.make_video(tmp_path / "a.mp4", **options)


def test_wrong_damage_is_refused(tmp_path: Path) -> None:
    path = made.not_media(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match=r"fraction must lie between 0 and 1, got 1\.5"):
        made.truncate(path, 1.5)
    with pytest.raises(ValueError, match=r"0 <= start < stop <= 1, got 0\.5 and 0\.5"):
        made.flip_bytes(path, 0.5, 0.5)
    with pytest.raises(ValueError, match="every must be >= 1, got 0"):
        made.flip_bytes(path, every=0)
    with pytest.raises(ValueError, match="kind must be one of empty, text, html, noise, zeros, got 'music'"):
        made.not_media(path, "music")
    with pytest.raises(ValueError, match="kind must be one of hls, hls_concat, concat, sdp, image2, got 'rtsp'"):
        made.hostile_playlist(path, path, "rtsp")
    with pytest.raises(ValueError, match="there is no file to point at"):
        made.hostile_playlist(path, tmp_path / "none.mp4")
    with pytest.raises(ValueError, match=r"frame number must be 0\.\.65535, got 65536"):
        made.numbered_picture(64, 48)(65_536, 0.0)
    with pytest.raises(ValueError, match=r"track must be 0\.\.7, got 8"):
        made.numbered_picture(64, 48, track=8)
    with pytest.raises(ValueError, match=r"track must be 0\.\.3, got 4"):
        made.timed_sound(np.zeros(3), track=4)
    with pytest.raises(ValueError, match=r"kept must be in \(0, 1\], got 2"):
        made.centre_crop_shows(320, 240, 2)
    with pytest.raises(ValueError, match=r"must be \(height, width, 3\) uint8, got \(4, 4\) float64"):
        made.read_frame_number(np.zeros((4, 4)))
