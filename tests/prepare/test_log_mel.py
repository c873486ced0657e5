from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones import openl3
from backbones.known import SINE_1KHZ
from backbones.spec import LogMel, Sound
from backbones.vggish import VIEW
from extract.prepare import log_mel, mel_filters

SPEC = VIEW.spectrogram


def windows(samples: np.ndarray, hop: int, count: int) -> torch.Tensor:
    cut = [samples[place * hop : place * hop + VIEW.samples] for place in range(count)]
    return torch.from_numpy(np.stack(cut).astype(np.float32))


@pytest.fixture(scope="module")
def arrays(golden: Path) -> dict[str, np.ndarray]:
    with np.load(golden / "vggish.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files if key != "pool4_nhwc"}


# ---- VGGish --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "hop"), [("examples", 15_360), ("examples_per_second", 16_000)])
def test_vggish_against_the_official_code(arrays, key, hop):
    got = log_mel(windows(arrays["wav_int16"] / 32768, hop, 3), VIEW).numpy()
    assert got.shape == (3, 96, 64)
    assert np.abs(got - arrays[key]).max() <= 5e-5


def test_vggish_filters_against_the_official_code(arrays):
    filters = mel_filters(16_000, SPEC)
    assert np.abs(filters - arrays["mel_matrix"]).max() <= 1e-12
    assert not filters[0].any()


def test_vggish_on_the_llp_clip_whose_official_log_mel_is_known(golden):
    with np.load(golden / "vggish_llp.npz", allow_pickle=False) as file:
        pcm, official = file["pcm_16k_stereo"], file["log_mel"]
    got = log_mel(windows((pcm / 32768).mean(axis=1), 16_000, 10), VIEW).numpy()
    assert np.abs(got - official).max() <= 5e-5


def test_silence_and_a_sine():
    silent = log_mel(torch.zeros(1, VIEW.samples), VIEW)
    assert torch.allclose(silent, torch.tensor(0.01).log().expand(1, 96, 64), atol=1e-6)
    time_s = torch.arange(VIEW.samples, dtype=torch.float64) / VIEW.rate_hz
    sine = log_mel((2 * torch.pi * 1000 * time_s).sin().float()[None], VIEW)
    assert (sine - torch.tensor(SINE_1KHZ)).abs().max() < 1e-3


def test_a_window_is_independent_of_its_neighbours_and_its_place():
    samples = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (10, VIEW.samples)).astype(np.float32))
    together = log_mel(samples, VIEW)
    for place in range(10):
        alone = torch.zeros_like(samples)
        alone[0] = samples[place]
        assert torch.equal(log_mel(alone, VIEW)[0], together[place])


def test_bits_do_not_depend_on_the_number_of_threads():
    before = torch.get_num_threads()
    try:
        for sound in (VIEW, openl3.view("mel256", "kapre014")):
            samples = torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (2, sound.samples)).astype(np.float32))
            made = []
            for threads in (1, 2, 3, 8):
                torch.set_num_threads(threads)
                made.append(log_mel(samples, sound))
            assert all(torch.equal(made[0], other) for other in made[1:])
    finally:
        torch.set_num_threads(before)


# ---- other front ends ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("front", ["kapre014", "kapre", "librosa"])
@pytest.mark.parametrize("representation", ["linear", "mel128", "mel256"])
def test_openl3(shared, representation, front):
    goldens = shared / "goldens"
    with np.load(goldens / "openl3_audio_input.npz", allow_pickle=False) as file:
        samples = torch.from_numpy(file["windows_center_hop05"])
    with np.load(goldens / f"openl3_audio_{representation}.npz", allow_pickle=False) as file:
        expected = file[f"spec_{front}"].transpose(0, 2, 1)
    got = log_mel(samples, openl3.view(representation, front)).numpy()
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 0.1
    assert np.abs(got - expected).mean() <= 1e-3


def test_clap_against_torchaudio():
    transforms = pytest.importorskip("torchaudio.transforms")
    samples = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (2, 48_000)).astype(np.float32))
    samples[1, 20_000:30_000] = 0.0
    spec = LogMel(1024, 1024, 480, 64, 50.0, 14_000.0, log="db_abs", pad=(512, 512), pad_mode="reflect")
    theirs = transforms.MelSpectrogram(48_000, 1024, 1024, 480, 50.0, 14_000.0, n_mels=64, norm=None, mel_scale="htk")
    expected = transforms.AmplitudeToDB("power")(theirs(samples)).transpose(1, 2)
    got = log_mel(samples, Sound(48_000, 48_000, spec))
    assert got.shape == expected.shape == (2, 101, 64)
    assert (got - expected).abs().max() < 2e-3
    assert got.min() == -100.0


def test_avslowfast_against_librosa():
    librosa = pytest.importorskip("librosa")
    samples = np.random.default_rng(0).uniform(-1, 1, 32_000).astype(np.float32)
    spec = LogMel(512, 512, 256, 80, 0.0, 8000.0, mel_norm="slaney", offset=1e-8)
    power = librosa.feature.melspectrogram(
        y=samples, sr=16_000, n_fft=512, hop_length=256, center=False, n_mels=80, htk=True, norm="slaney", fmax=8000
    )
    got = log_mel(torch.from_numpy(samples)[None], Sound(16_000, 32_000, spec))[0].numpy()
    assert got.shape == (124, 80)
    assert np.abs(got - np.log(power.T + 1e-8)).max() < 1e-3


# python_speech_features 0.6 in GDT's configuration: spec/backbones.md, section 2 (CMAC). 1024 is 32768 / sqrt(n_fft): samples as
# whole numbers, powers divided by n_fft
GDT = LogMel(
    n_fft=1024,
    win_length=480,
    hop_length=240,
    n_mels=257,
    f_min_hz=0.0,
    f_max_hz=12_000.0,
    triangles="bins",
    window="rectangular",
    preemphasis=0.97,
    scale=1024.0,
    log="ln_max",
    offset=float(np.finfo(np.float64).eps),
)


def test_logfbank_of_python_speech_features(golden):
    with np.load(golden / "cmac_logfbank.npz", allow_pickle=False) as file:
        samples, expected = file["wav_int16"] / 32768, file["logfbank_257x99"][0].T
    got = log_mel(torch.from_numpy(samples.astype(np.float32))[None], Sound(24_000, 24_000, GDT))[0].numpy()
    assert got.shape == expected.shape == (99, 257)
    assert np.abs(got - expected).max() / 17.89 <= 1e-4 * np.abs((expected - 1.93) / 17.89).max()
    nothing = np.float32(np.log(np.finfo(np.float64).eps))
    empty = mel_filters(24_000, GDT).sum(axis=0) == 0
    assert empty.sum() == 38, "257 filters on 513 bins"
    assert (got[:, empty] == nothing).all()
    assert (log_mel(torch.zeros(1, 24_000), Sound(24_000, 24_000, GDT)) == nothing.item()).all()


def test_triangles_over_bins():
    spec = LogMel(32, 32, 16, 3, 0.0, 8000.0, triangles="bins")
    mel = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 5)
    edges = (33 * 700 * (10 ** (mel / 2595) - 1) / 16_000).astype(int)
    filters = mel_filters(16_000, spec)
    assert filters.shape == (17, 3)
    for band, (left, centre, right) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        assert filters[centre, band] == 1.0
        assert filters[left, band] == 0.0 or left == centre
        assert not filters[:left, band].any()
        assert not filters[right:, band].any()
        assert np.allclose(np.diff(filters[left : centre + 1, band]), 1 / (centre - left))
        assert np.allclose(np.diff(filters[centre:right, band]), -1 / (right - centre))


def test_preemphasis_and_scale_come_before_the_frames():
    samples = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (2, 24_000)).astype(np.float32))
    plain = Sound(24_000, 24_000, replace(GDT, preemphasis=0.0, scale=1.0))
    done = samples.clone()
    done[:, 1:] -= 0.97 * samples[:, :-1]
    assert (done[:, 0] == samples[:, 0]).all()
    expected = log_mel(done * 1024, plain)
    assert (log_mel(samples, Sound(24_000, 24_000, GDT)) - expected).abs().max() < 1e-3
    one = replace(plain, spectrogram=replace(plain.spectrogram, scale=3.0))
    louder = log_mel(samples, one) - log_mel(samples, plain)
    filled = mel_filters(24_000, GDT).any(axis=0)
    assert (louder[..., filled] - 2 * np.log(3)).abs().max() < 1e-3


def test_ln_max_is_a_floor_and_ln_an_addition():
    spec = LogMel(512, 512, 256, 40, 0.0, 8000.0, offset=0.5)
    samples = torch.zeros(1, 1024)
    samples[0, 600] = 1.0  # a power of one in every bin of the frames that hear it
    added, floor = (
        log_mel(samples, Sound(16_000, 1024, replace(spec, log=log, window="rectangular"))).exp()
        for log in ("ln", "ln_max")
    )
    assert torch.allclose(floor, (added - 0.5).clamp(min=0.5), atol=1e-5)
    assert floor.min() == 0.5
    assert floor.max() > 0.5


def test_db_is_relative_to_each_windows_own_maximum():
    sound = openl3.view("linear", "kapre")
    loud = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (1, 48_000)).astype(np.float32))
    loud[0, :24_000] = 0.0
    both = log_mel(torch.cat([loud, loud / 4]), sound)
    assert both.amax((1, 2)).tolist() == [0.0, 0.0]
    assert both.min() == -80.0
    assert (both[0] - both[1]).abs().max() < 0.1
    assert not log_mel(torch.zeros(1, 48_000), sound).any()


# ---- wrong input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (torch.zeros(2, 16_000), r"must be \(n, 15600\) float32, got \(2, 16000\)"),
        (torch.zeros(15_600), r"got \(15600,\)"),
        (torch.zeros(1, 15_600, dtype=torch.float64), r"got \(1, 15600\) torch\.float64"),
    ],
)
def test_other_tensors_are_refused(samples, said):
    with pytest.raises(ValueError, match=said):
        log_mel(samples, VIEW)


def test_a_waveform_view_has_no_spectrogram():
    with pytest.raises(ValueError, match="it has no spectrogram"):
        log_mel(torch.zeros(1, 100), Sound(16_000, 100))


@pytest.mark.parametrize("triangles", ["mel", "bins"])
def test_triangles_over_mel_and_bins_have_one_scale(triangles):
    for other in ({"mel_scale": "slaney"}, {"mel_norm": "slaney"}):
        with pytest.raises(ValueError, match=f"triangles over {triangles} are defined for the HTK scale"):
            mel_filters(16_000, replace(SPEC, triangles=triangles, **other))
