"""Windows of sound: placed by their timestamps, resampled as asked, and exact about what is not there."""

from __future__ import annotations

import wave
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import librosa
import numpy as np
import pytest
import soxr

from backbones.spec import Sound
from backbones.vggish import VIEW
from extract.decode.resampy022 import kaiser_best
from extract.decode.sound import Windows
from extract.decode.sound_rules import MOVIEPY_HZ, Buffer
from extract.errors import PlanError, TooLarge, TooShort
from extract.grid import NS, Grid
from extract.plan import Tap
from extract.testing import make_video, read_clicks_s, read_time_s, timed_sound

LLP = "clips/YapengTian__AVVP-ECCV20/BjCEufrlXm4.mp4"
SECOND = Sound(16_000, 15_600)
WHOLE = Sound(16_000, 16_000)
MOVIEPY = replace(SECOND, resample="moviepy")


def planes(samples: np.ndarray, format_: str, layout: str, rate_hz: int, pts: int | None) -> av.AudioFrame:
    """(channels, n) floats in [-1, 1] as a frame of that format."""
    kind = format_.rstrip("p")
    x = {
        "u8": lambda s: np.rint(s * 127 + 128).astype(np.uint8),
        "s16": lambda s: np.rint(s * 32_767).astype(np.int16),
        "s32": lambda s: np.rint(s * (2**31 - 1)).astype(np.int32),
        "flt": lambda s: s.astype(np.float32),
        "dbl": lambda s: s.astype(np.float64),
    }[kind](samples.astype(np.float64))
    x = x if format_.endswith("p") else x.T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(x), format=format_, layout=layout)
    frame.sample_rate, frame.pts = rate_hz, pts
    return frame


def cut(windows: Windows, pieces) -> list:
    """Push (frame, at_s) pairs and finish."""
    out = [w for frame, at_s in pieces for w in windows.push(frame, at_s)]
    return [*out, *windows.finish()]


def in_pieces(x: np.ndarray, rate_hz: int, size: int = 1024, start_s: float = 0.0, dated: bool = True):
    for k in range(0, x.shape[1], size):
        yield (
            planes(x[:, k : k + size], "fltp", "mono" if len(x) == 1 else "stereo", rate_hz, k),
            (start_s + k / rate_hz if dated else None),
        )


def windows_of(view: Sound, grid: Grid, length_s: float) -> Windows:
    return Windows(view, grid, grid.windows_ns(round(length_s * NS)), length_s)


# ---- the official sound ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def official_wav(shared) -> np.ndarray:
    """What moviepy 1.0.3 wrote of the LLP clip: (160480,) in [-1, 1], mean of its two channels."""
    with wave.open(str(shared / "data/derived/BjCEufrlXm4_moviepy103_16k.wav")) as file:
        assert (file.getframerate(), file.getnchannels()) == (16_000, 2)
        pcm = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2)
    return pcm.mean(axis=1) / 32_768


def test_moviepys_samples(run, shared, official_wav):
    got = run(shared / LLP, [Tap(replace(WHOLE, resample="moviepy"), Grid(count=10))])
    ours = got.rows[0].ravel()
    steps = np.abs(ours - official_wav[: len(ours)]) * 32_768
    assert got.valid[0].all()
    # FFmpeg 5.1 decoded AAC for the wav; other versions round 16 of 160,000 samples the other way
    assert (steps > 0).sum() <= 24
    assert steps.max() <= 1.0


def test_the_official_log_mel_from_the_mp4_to_the_last_band(run, shared):
    import torch

    from extract.prepare import log_mel

    view = replace(VIEW, resample="moviepy")
    got = run(shared / LLP, [Tap(view, Grid(count=10))])
    with np.load(shared / "data/derived/BjCEufrlXm4_vggish_logmel.npz", allow_pickle=False) as file:
        official = file["official"]
    ours = log_mel(torch.from_numpy(got.rows[0]), view).numpy()
    assert ours.shape == official.shape == (10, 96, 64)
    difference = np.abs(ours - official)
    # all but the 16 samples above is exact; where they fall into silence, one bit shows
    assert np.quantile(difference, 0.995) <= 1e-4
    assert difference.max() <= 5e-3
    assert len({(row, frame) for row, frame, _ in np.argwhere(difference > 1e-4)}) <= 40
    assert len({(row, frame) for row, frame, _ in np.argwhere(difference > 1e-3)}) <= 4


def test_moviepy_repeats_the_last_sample_up_to_the_declared_length():
    """Its file lasts as long as the container says; such a row is not valid."""
    x = np.full((2, MOVIEPY_HZ * 3 // 2), 0.5)
    got = cut(windows_of(replace(WHOLE, resample="moviepy"), Grid(count=3), 2.0), in_pieces(x, MOVIEPY_HZ))
    assert [w.valid for w in got] == [1, 0, 0]
    assert np.abs(got[1].samples - 0.5).max() < 1e-4, "what moviepy would have written is there all the same"
    assert not got[2].samples.any()
    assert got[2].source_ns == -1


def test_moviepy_clips_and_decimates_without_a_filter():
    n = np.arange(3 * MOVIEPY_HZ)
    x = np.tile(np.sin(2 * np.pi * 10_000 * n / MOVIEPY_HZ), (2, 1))
    (first, *_) = cut(windows_of(replace(WHOLE, resample="moviepy"), Grid(count=2), 3.0), in_pieces(x, MOVIEPY_HZ))
    spectrum = np.abs(np.fft.rfft(first.samples * np.hanning(16_000)))
    assert spectrum.argmax() == pytest.approx(6_000, abs=2), "10 kHz is folded to 6 kHz"
    assert first.samples.max() == pytest.approx(0.99, abs=1e-3)


# ---- the right sound -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_streaming_equals_resampling_at_once(rate_hz):
    x = np.random.default_rng(1).uniform(-0.5, 0.5, (1, rate_hz * 4 + 77)).astype(np.float32)
    whole = soxr.resample(x[0], rate_hz, 16_000, quality="HQ")
    got = cut(windows_of(WHOLE, Grid(NS, NS // 2), 4.0), in_pieces(x, rate_hz, 1000))
    for w in got:
        if w.valid:
            assert np.abs(w.samples - whole[w.row * 8_000 :][:16_000]).max() < 2e-6
    assert [w.valid for w in got] == [1] * 7
    assert [w.source_ns for w in got] == [k * NS // 2 for k in range(7)]


def test_the_resampler_is_librosas_default(run, tmp_path):
    path = make_video(tmp_path / "a.mov", video=None, audio="pcm", rate_hz=44_100, channels=2, audio_duration_s=3)
    with av.open(str(path)) as file:
        x = np.concatenate([f.to_ndarray().reshape(-1, 2) for f in file.decode(audio=0)]).T / 32_768
    wanted = librosa.resample(librosa.to_mono(x.astype(np.float32)), orig_sr=44_100, target_sr=16_000)
    got = run(path, [Tap(WHOLE, Grid(count=3))]).rows[0].ravel()
    assert np.abs(got - wanted[:48_000]).max() < 1e-5


def test_a_rate_that_needs_no_resampling_is_taken_as_it_is():
    x = np.random.default_rng(2).uniform(-1, 1, (1, 48_000)).astype(np.float32)
    got = cut(windows_of(WHOLE, Grid(count=3), 3.0), in_pieces(x, 16_000, 777))
    assert (np.concatenate([w.samples for w in got]) == x[0]).all()


@pytest.mark.parametrize("format_", ["u8", "u8p", "s16", "s16p", "s32", "flt", "fltp", "dbl"])
@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
def test_formats_and_layouts_are_averaged_to_mono(format_, layout):
    channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    x = np.random.default_rng(3).uniform(-0.9, 0.9, (channels, 16_000))
    frame = planes(x, format_, layout, 16_000, 0)
    (got,) = cut(windows_of(WHOLE, Grid(count=1), 1.0), [(frame, 0.0)])
    assert np.abs(got.samples - x.mean(axis=0)).max() < {"u8": 0.012, "s1": 1e-4}.get(format_[:2], 1e-6)


# ---- every row resampled alone ---------------------------------------------------------------------------------------

ROWS = replace(SECOND, resample="resampy_rows")


def by_definition(x: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """resampy 0.2.2's kaiser_best as a formula: a sinc of 64 zero crossings under a Kaiser window, upwards only."""
    assert to_hz > from_hz
    rolloff, zeros, beta = 0.9475937167399596, 64, 14.769656459379492
    at = np.arange(len(x) * to_hz // from_hz) * (from_hz / to_hz)
    distance = np.abs(at[:, None] - np.arange(len(x)))
    inside = np.clip(distance / zeros, 0, 1)
    window = np.i0(beta * np.sqrt(1 - inside**2)) / np.i0(beta)
    return (rolloff * np.sinc(rolloff * distance) * window * (distance < zeros)) @ x


def test_kaiser_best_is_that_of_resampy_022():
    x = np.random.default_rng(4).uniform(-1, 1, 400).astype(np.float32)
    got = kaiser_best(x, 44_100, 48_000)
    assert got.dtype == np.float32
    assert len(got) == 435
    # its table has 512 entries between two zero crossings, and straight lines between them
    assert np.abs(got - by_definition(x, 44_100, 48_000)).max() < 2e-5


def test_rows_against_resampy_022_itself(shared):
    with np.load(shared / "goldens/openl3_real_weights_regression.npz", allow_pickle=False) as file:
        chirp, expected = file["chirp_int16"] / 32_768, file["chirp_48k_resampy022"]
    view = Sound(48_000, 96_000, resample="resampy_rows")
    (got,) = cut(windows_of(view, Grid(2 * NS, 2 * NS, 1), 2.0), in_pieces(chirp[None], 44_100))
    assert got.samples.shape == expected.shape
    assert np.abs(got.samples - expected).max() <= 1e-6


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 48_000])
def test_rows_know_nothing_of_what_is_around_them(rate_hz):
    x = np.random.default_rng(5).uniform(-0.5, 0.5, (2, 4 * rate_hz)).astype(np.float32)
    other = x.copy()
    other[:, : 2 * rate_hz] *= -0.3
    other[:, 3 * rate_hz :] = 0.9
    view = replace(WHOLE, resample="resampy_rows")
    rows, others = (cut(windows_of(view, Grid(), 4.0), in_pieces(y, rate_hz, 777)) for y in (x, other))
    assert [w.valid for w in rows] == [1] * 4
    assert [w.source_ns for w in rows] == [k * NS for k in range(4)]
    assert (rows[2].samples == others[2].samples).all()
    mono = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    for w in rows:
        alone = kaiser_best(mono[w.row * rate_hz : (w.row + 1) * rate_hz], rate_hz, 16_000)
        assert (w.samples == alone).all()
    straight = cut(windows_of(WHOLE, Grid(), 4.0), in_pieces(x, rate_hz))
    assert np.abs(straight[2].samples - rows[2].samples)[100:-100].max() < 0.5, "the same sound"
    assert np.abs(straight[2].samples - rows[2].samples)[[0, -1]].max() > 0.01, "cut off at both ends"


def test_rows_begin_at_the_files_own_samples():
    """0.3 s at 11,025 Hz are 3,307.5 samples."""
    x = np.random.default_rng(6).uniform(-0.5, 0.5, (1, 3 * 11_025)).astype(np.float32)
    view = Sound(16_000, 4_000, resample="resampy_rows")
    got = cut(windows_of(view, Grid(3 * NS // 10, 3 * NS // 10, 10), 3.0), in_pieces(x, 11_025, 500))
    for w in got:
        begin, end = (round(Fraction(3 * row * 11_025, 10)) for row in (w.row, w.row + 1))
        assert (w.samples == kaiser_best(x[0, begin:end], 11_025, 16_000)[:4_000]).all()


def test_a_row_in_which_the_sound_ends_is_filled_with_zeros_as_aves_script_does():
    rate_hz = 44_100
    x = np.random.default_rng(8).uniform(-0.5, 0.5, (1, int(2.4 * rate_hz))).astype(np.float32)
    whole = np.pad(x[0], (0, 4 * rate_hz))
    rows = cut(windows_of(ROWS, Grid(count=4), 2.4), in_pieces(x, rate_hz, 777))
    assert [w.valid for w in rows] == [1, 1, 0, 0]
    assert [w.source_ns for w in rows] == [0, NS, 2 * NS, -1]
    for w in rows:
        alone = kaiser_best(whole[w.row * rate_hz : (w.row + 1) * rate_hz], rate_hz, 16_000)
        assert (w.samples == alone[:15_600]).all()
    repeated = cut(windows_of(ROWS, Grid(count=4, short="repeat_last"), 2.4), in_pieces(x, rate_hz, 777))
    assert (repeated[2].samples == rows[1].samples).all(), "another policy never pads"


def test_rows_at_the_right_rate_are_taken_as_they_are():
    x = np.random.default_rng(7).uniform(-1, 1, (1, 48_000)).astype(np.float32)
    got = cut(windows_of(ROWS, Grid(count=3), 3.0), in_pieces(x, 16_000, 777))
    assert all((w.samples == x[0, w.row * 16_000 :][:15_600]).all() for w in got)


@pytest.mark.parametrize(("seconds", "valid"), [(9.97, 0), (9.975, 1), (12.0, 1)])
@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_the_last_row_may_end_early_as_officially(seconds, valid, rate_hz):
    x = np.random.default_rng(8).uniform(-1, 1, (1, int(np.ceil(seconds * rate_hz)))).astype(np.float32)
    got = cut(windows_of(ROWS, Grid(count=10), 10.0), in_pieces(x, rate_hz, 4000))
    assert [w.valid for w in got] == [1] * 9 + [valid]
    if valid:
        source = x[0, 9 * rate_hz : 10 * rate_hz]
        assert (got[-1].samples == kaiser_best(source, rate_hz, 16_000)[:15_600]).all()


def test_rows_need_windows_as_long_as_they_are():
    with pytest.raises(
        PlanError,
        match=r"one of 0\.96 s does not give the 15600 samples at 16000 Hz .* windows of at least 0\.975 s do",
    ):
        windows_of(ROWS, Grid(96 * NS // 100, 96 * NS // 100), 3.0)


def test_rows_of_a_file(run, tmp_path):
    path = make_video(tmp_path / "a.mov", video=None, audio="pcm", rate_hz=44_100, channels=2, audio_duration_s=5)
    with av.open(str(path)) as file:
        x = np.concatenate([f.to_ndarray().reshape(-1, 2) for f in file.decode(audio=0)]).mean(axis=1) / 32_768
    got = run(path, [Tap(ROWS, Grid(count=2))], 2, 4).rows[0]
    for row in range(2):
        official = kaiser_best(x[(2 + row) * 44_100 : (3 + row) * 44_100].astype(np.float32), 44_100, 16_000)
        assert (got[row] == official[:15_600]).all()


# ---- a whole clip in one row -------------------------------------------------------------------------------------------

INDEXED = Sound(16_000, 32_000, resample="indexed")
ONE = Grid(10 * NS, 10 * NS, 1)


def valors(sound: np.ndarray, samples: int) -> np.ndarray:
    """The index rule of VALOR's clap_preprocess.py."""
    return sound[np.round(np.linspace(0, len(sound) - 1, samples)).astype(np.int32)]


@pytest.mark.parametrize("seconds", [0.5, 1.99, 2.0, 2.03, 7.7])
@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_the_whole_sound_at_its_nearest_samples(seconds, rate_hz):
    x = np.random.default_rng(9).uniform(-0.5, 0.5, (1, round(seconds * rate_hz))).astype(np.float32)
    (got,) = cut(windows_of(INDEXED, ONE, seconds), in_pieces(x, rate_hz))
    wanted = librosa.resample(x[0], orig_sr=rate_hz, target_sr=16_000) if rate_hz != 16_000 else x[0]
    assert (got.valid, got.source_ns) == (1, 0)
    assert np.abs(got.samples - valors(wanted, 32_000)).max() < 2e-6
    if seconds == 2.0:
        assert np.abs(got.samples - wanted).max() < 2e-6, "nothing to stretch"


def test_the_number_of_samples_is_rounded_up_as_librosa_does():
    x = np.random.default_rng(10).uniform(-0.5, 0.5, (1, 44_101)).astype(np.float32)
    wanted = librosa.resample(x[0], orig_sr=44_100, target_sr=16_000)
    assert len(wanted) == 16_001
    (got,) = cut(windows_of(INDEXED, ONE, 1.0), in_pieces(x, 44_100))
    assert np.abs(got.samples - valors(wanted, 32_000)).max() < 2e-6


def test_a_clip_within_a_file_is_stretched_alone(run, tmp_path):
    path = make_video(tmp_path / "p.mov", video=None, audio="pcm", rate_hz=16_000, audio_duration_s=8)
    whole = run(path, [Tap(Sound(16_000, 8 * 16_000), Grid(8 * NS, 8 * NS, 1))]).rows[0][0]
    for start_s, stop_s in ((2, 5), (6, None)):
        got = run(path, [Tap(INDEXED, ONE)], start_s, stop_s)
        sound = whole[start_s * 16_000 : None if stop_s is None else stop_s * 16_000]
        assert (got.rows[0][0] == valors(sound, 32_000)).all()


@pytest.mark.parametrize("count", [None, 2])
def test_one_row_per_clip(count):
    with pytest.raises(PlanError, match=r"one row of a clip's whole sound: Grid\.count must be 1, it asks for"):
        windows_of(INDEXED, Grid(count=count), 4.0)


def test_clips_too_long_to_be_squeezed(run, tmp_path):
    path = make_video(tmp_path / "l.mov", video=None, audio="pcm", rate_hz=8_000, audio_duration_s=13)
    taps = [Tap(INDEXED, ONE), Tap(WHOLE, Grid())]
    got = run(path, taps)
    assert isinstance(got.errors[0], TooLarge)
    assert str(got.errors[0]).endswith(
        "its sound lasts more than 12 s, and 12 s are the most that is squeezed into one row of 2 s; "
        "give the clip a start and an end"
    )
    assert got.valid[1].all(), "the other views of the clip are there"
    assert not run(path, taps, 0, 12).errors


def test_a_clip_whose_sound_is_mostly_a_gap():
    x = np.full((1, 16_000), 0.5)
    pieces = [*in_pieces(x, 16_000), *in_pieces(x, 16_000, start_s=3.0)]
    (got,) = cut(windows_of(INDEXED, ONE, 4.0), pieces)
    assert (got.valid, got.source_ns) == (0, -1)
    with pytest.raises(TooLarge, match="lasts more than 12 s"):
        cut(windows_of(INDEXED, ONE, 4.0), [*in_pieces(x, 16_000), *in_pieces(x, 16_000, start_s=3600.0)])


# ---- placed by time --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"suffix": "mp4"},
        {"suffix": "mp4", "rate_hz": 48_000, "channels": 1},
        {"suffix": "mkv", "audio": "opus", "rate_hz": 48_000},
        {"suffix": "webm", "audio": "opus", "rate_hz": 16_000, "video": "vp8"},
        {"suffix": "mkv", "audio": "mp3"},
        {"suffix": "mov", "audio": "pcm", "rate_hz": 8_000},
        {"suffix": "ts", "rate_hz": 22_050},
        {"suffix": "avi", "audio": "pcm"},
    ],
    ids=lambda o: "-".join(str(v) for v in o.values()),
)
@pytest.mark.parametrize(("start_s", "stop_s"), [(0, None), (2.5, 4.5), (3.21, 5.3)])
def test_what_is_heard_when(run, tmp_path, options, start_s, stop_s):
    options = {"width": 64, "height": 48, "duration_s": 6, "fps": 10, **options}
    path = make_video(tmp_path / f"timed.{options.pop('suffix')}", **options)
    with av.open(str(path)) as file:
        starts = [float(s.start_time * s.time_base) for s in file.streams if s.start_time is not None]
        # ts and mkv date the priming of the codec, so that their presentation begins before time 0 of make_video
        zero = file.streams.video[0]
        early_s = float(zero.start_time * zero.time_base) - min(starts)
    got = run(path, [Tap(Sound(16_000, 8_000), Grid(NS // 2, NS // 2))], start_s, stop_s)
    rows = np.flatnonzero(got.valid[0])
    assert len(rows) >= 4
    for row in rows:
        off_s = read_time_s(got.rows[0][row], 16_000) - (start_s + row / 2 - early_s)
        assert abs((off_s + 6) % 12 - 6) < 0.002


def test_a_span_equals_the_same_windows_of_the_whole(run, tmp_path):
    path = make_video(tmp_path / "p.mov", video=None, audio="pcm", rate_hz=16_000, audio_duration_s=8)
    whole = run(path, [Tap(WHOLE, Grid(count=8))]).rows[0]
    span = run(path, [Tap(WHOLE, Grid(count=3))], 4, 7).rows[0]
    assert (span == whole[4:7]).all()


def test_sound_that_starts_late_leaves_rows_invalid_and_the_rest_in_place(run, tmp_path):
    path = make_video(
        tmp_path / "late.mkv", width=64, height=48, duration_s=5, audio_start_s=2.25, audio_duration_s=2.75
    )
    got = run(path, [Tap(SECOND, Grid(count=5)), Tap(replace(SECOND, resample="moviepy"), Grid(count=5))])
    assert got.valid[0].tolist() == [0, 0, 0, 1, 1]
    assert not got.rows[0][:3].any()
    assert read_time_s(got.rows[0][3], 16_000) == pytest.approx(3, abs=0.025)
    assert got.valid[1].tolist() == [1, 1, 0, 0, 0], (
        "ffmpeg's raw sound begins with its first sample, whenever it is heard"
    )
    assert read_time_s(got.rows[1][0], 16_000) == pytest.approx(2.25, abs=0.025)


def test_a_gap_is_silence_in_its_place_and_not_valid():
    x = timed_sound(np.arange(96_000) / 16_000)[None]
    pieces = [(f, s) for f, s in in_pieces(x, 16_000, 1000) if not 2.3 <= s < 4.1]
    got = cut(windows_of(WHOLE, Grid(count=6), 6.0), pieces)
    assert [w.valid for w in got] == [1, 1, 0, 0, 1, 1], "row 4 lacks an eighth, row 2 two thirds"
    gap = np.r_[37_000:66_000]
    heard = x[0].copy()
    heard[gap] = 0
    for w in got:
        if w.valid:
            assert (w.samples == heard[w.row * 16_000 :][:16_000]).all()
        else:
            assert not w.samples.any()
            assert w.source_ns == -1
    with pytest.raises(
        TooShort, match=r"row 2 asks for 1 s of sound from 2 s on; there is none from 2\.3125 s to 4\.125 s"
    ):
        cut(windows_of(WHOLE, Grid(count=6, short="error"), 6.0), pieces)
    again = cut(windows_of(WHOLE, Grid(count=6, short="repeat_last"), 6.0), pieces)
    assert all((w.samples == x[0, 16_000:32_000]).all() and w.source_ns == NS for w in again[2:4])
    joined = cut(windows_of(replace(WHOLE, resample="moviepy"), Grid(count=6), 6.0), pieces)
    assert [w.valid for w in joined] == [1, 1, 1, 1, 0, 0], "moviepy's ffmpeg runs the pieces together"


def test_overlaps_are_heard_once_and_jitter_is_no_gap():
    x = timed_sound(np.arange(48_000) / 16_000)[None]
    jittery = [(f, s + (-1) ** i * 0.003 * (i > 0)) for i, (f, s) in enumerate(in_pieces(x, 16_000, 1000))]
    got = cut(windows_of(WHOLE, Grid(count=3), 3.0), jittery)
    assert (np.concatenate([w.samples for w in got]) == x[0]).all()
    twice = [*in_pieces(x[:, :24_000], 16_000, 1000), *in_pieces(x[:, 16_000:], 16_000, 1000, start_s=1.0)]
    got = cut(windows_of(WHOLE, Grid(count=3), 3.0), twice)
    assert (np.concatenate([w.samples for w in got]) == x[0]).all()


def test_frames_without_a_time_follow_the_one_before():
    x = timed_sound(np.arange(32_000) / 16_000)[None]
    got = cut(windows_of(WHOLE, Grid(count=2), 2.0), in_pieces(x, 16_000, dated=False))
    assert (np.concatenate([w.samples for w in got]) == x[0]).all()


def test_hours_of_gap_take_no_memory(monkeypatch):
    longest = 0
    append = Buffer.append

    def noting(self, piece):
        nonlocal longest
        append(self, piece)
        longest = max(longest, self.stop - self.start)

    monkeypatch.setattr(Buffer, "append", noting)
    x = np.full((1, 16_000), 0.5)
    pieces = [*in_pieces(x, 16_000), *in_pieces(x, 16_000, start_s=3 * 3600.0)]
    got = cut(windows_of(WHOLE, Grid(), 3 * 3600.0 + 1), pieces)
    assert len(got) == 3 * 3600 + 1
    assert sum(w.valid for w in got) == 2
    assert longest < 60 * 16_000


# ---- too short, absent -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", [SECOND, MOVIEPY, ROWS], ids=["soxr", "moviepy", "rows"])
def test_policies_for_short_sound(run, tmp_path, view):
    path = make_video(tmp_path / "short.mov", width=64, height=48, duration_s=4, audio="pcm", audio_duration_s=2.5)
    zeros = run(path, [Tap(view, Grid(count=4))])
    assert zeros.valid[0].tolist() == [1, 1, 0, 0]
    again = run(path, [Tap(view, Grid(count=4, short="repeat_last"))])
    assert again.valid[0].tolist() == [1, 1, 0, 0]
    if view is not MOVIEPY:
        assert not zeros.rows[0][3:].any()
        assert zeros.rows[0][2].any() == (view is ROWS), "AVE's way keeps what there is of the row"
        assert (again.rows[0][2:] == again.rows[0][1]).all()
        assert again.source_ns[0][:, 0].tolist() == [0, NS, NS, NS]
        strict = run(path, [Tap(view, Grid(count=4, short="error"))])
        assert str(strict.errors[0]).endswith(
            "row 2 asks for 0.975 s of sound from 2 s on; it lasts until 2.5 s; policies that fill such rows: repeat_last, zeros"
        )


@pytest.mark.parametrize(("seconds", "valid"), [(9.97, 0), (9.975, 1), (12.0, 1)])
def test_the_official_limit_of_the_tenth_second(seconds, valid):
    x = np.zeros((1, round(seconds * 16_000)))
    got = cut(windows_of(SECOND, Grid(count=10), 10.0), in_pieces(x, 16_000, 4000))
    assert got[-1].valid == valid
    assert len(got) == 10


def test_no_sound_at_all_gives_rows_by_policy():
    assert [w.valid for w in windows_of(SECOND, Grid(count=2), 2.0).finish()] == [0, 0]
    assert [w.valid for w in windows_of(MOVIEPY, Grid(count=2), 2.0).finish()] == [0, 0]
    assert [w.valid for w in windows_of(ROWS, Grid(count=2), 2.0).finish()] == [0, 0]
    (silent,) = windows_of(INDEXED, ONE, 2.0).finish()
    assert (silent.valid, silent.source_ns, silent.samples.any()) == (0, -1, False)
    with pytest.raises(TooShort, match=r"row 0 asks for 2 s of sound from 0 s on; it lasts until 0 s"):
        list(windows_of(INDEXED, replace(ONE, short="error"), 2.0).finish())


def test_sound_far_shorter_than_its_container_says():
    """moviepy would repeat the last sample for minutes; here nothing but that sample is kept of it."""
    x = timed_sound(np.arange(5 * MOVIEPY_HZ) / MOVIEPY_HZ)[None]
    got = cut(windows_of(MOVIEPY, Grid(count=60), 60.0), in_pieces(np.repeat(x, 2, 0), MOVIEPY_HZ))
    assert [w.valid for w in got] == [1] * 5 + [0] * 55
    assert len({w.samples.tobytes() for w in got[6:]}) == 1


def test_sound_cannot_be_stretched():
    with pytest.raises(PlanError, match="sound cannot be stretched"):
        windows_of(SECOND, Grid(count=10, short="stretch"), 10.0)


# ---- formats that change ---------------------------------------------------------------------------------------------


def test_channels_and_formats_may_change_in_mid_stream():
    x = timed_sound(np.arange(3 * 44_100) / 44_100)[None]
    both = [
        (planes(x[:, :44_100], "fltp", "mono", 44_100, 0), 0.0),
        (planes(np.repeat(x[:, 44_100:88_200], 2, 0), "s16", "stereo", 44_100, 44_100), 1.0),
        (planes(np.repeat(x[:, 88_200:], 6, 0), "fltp", "5.1", 44_100, 88_200), 2.0),
    ]
    for view in (WHOLE, replace(WHOLE, resample="moviepy")):
        got = cut(windows_of(view, Grid(count=3), 3.0), both)
        assert [w.valid for w in got] == [1, 1, 1]
        for w in got:
            assert read_time_s(w.samples, 16_000) == pytest.approx(w.row, abs=0.002)


def test_a_rate_that_changes_is_named():
    from extract.errors import Undecodable

    x = np.zeros((1, 44_100))
    both = [*in_pieces(x, 44_100), *in_pieces(x, 22_050, start_s=1.0)]
    with pytest.raises(Undecodable, match="the sample rate changes from 44100 to 22050 Hz after 1 s"):
        cut(windows_of(WHOLE, Grid(count=3), 3.0), both)
    assert [w.valid for w in cut(windows_of(replace(WHOLE, resample="moviepy"), Grid(count=3), 3.0), both)] == [1, 1, 1]


def test_clicks_stay_where_they_are(run, tmp_path):
    path = make_video(tmp_path / "c.mp4", width=64, height=48, duration_s=4, rate_hz=48_000)
    got = run(path, [Tap(Sound(48_000, 4 * 48_000), Grid(4 * NS, NS, 1))])
    assert np.abs(read_clicks_s(got.rows[0][0], 48_000) - np.arange(4)).max() < 0.001


def folder_of_wavs(shared: Path) -> Path:
    return shared / "clips/_audio"


@pytest.mark.parametrize("name", ["real_44k_stereo_10s.wav", "real_32k_mono_7s.wav", "torchvggish_test.wav"])
def test_real_sound_against_librosa(run, shared, name):
    path = folder_of_wavs(shared) / name
    x, _ = librosa.load(path, sr=16_000)
    got = run(path, [Tap(WHOLE, Grid())])
    ours = got.rows[0][got.valid[0] == 1].ravel()
    assert len(ours) >= len(x) - 16_000
    assert np.abs(ours - x[: len(ours)]).max() < 1e-4
