"""Windows of sound: placed by their timestamps, resampled as asked, and exact about what is not there."""

from __future__ import annotations

import wave
from dataclasses import replace
from pathlib import Path

import av
import librosa
import numpy as np
import pytest
import soxr

from backbones.spec import Sound
from backbones.vggish import VIEW
from extract.decode.sound_rules import MOVIEPY_HZ, Buffer
from extract.errors import PlanError, TooShort
from extract.grid import NS, Grid
from extract.plan import Tap
from extract.testing import make_video, read_clicks_s, read_time_s, timed_sound
from extract.testing.pieces import cut, in_pieces, planes, windows_of

LLP = "clips/YapengTian__AVVP-ECCV20/BjCEufrlXm4.mp4"
SECOND = Sound(16_000, 15_600)
WHOLE = Sound(16_000, 16_000)
MOVIEPY = replace(SECOND, resample="moviepy")
ROWS = replace(SECOND, resample="resampy_rows")
INDEXED = Sound(16_000, 32_000, resample="indexed")
ONE = Grid(10 * NS, 10 * NS, 1)


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
