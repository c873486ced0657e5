"""The rules that make rows of sound otherwise: every row resampled alone, a whole clip in one row."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import librosa
import numpy as np
import pytest

from backbones.spec import Sound
from extract.decode.resampy022 import kaiser_best
from extract.errors import PlanError, TooLarge
from extract.grid import NS, Grid
from extract.plan import Tap
from extract.testing import make_video
from extract.testing.pieces import cut, in_pieces, windows_of

LLP = "clips/YapengTian__AVVP-ECCV20/BjCEufrlXm4.mp4"
SECOND = Sound(16_000, 15_600)
WHOLE = Sound(16_000, 16_000)
MOVIEPY = replace(SECOND, resample="moviepy")


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
