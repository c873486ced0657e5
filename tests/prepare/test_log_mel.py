from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

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


# ---- other front ends ----------------------------------------------------------------------------------------------------


def openl3(n_mels: int, front: str) -> Sound:
    """OpenL3's spectrograms: spec/backbones.md, section 3."""
    if n_mels == 0:
        return Sound(48_000, 48_000, LogMel(512, 512, 242, 0, 0.0, 24_000.0, power=1, log="db"))
    spec = LogMel(2048, 2048, 242, n_mels, 0.0, 24_000.0, mel_norm="slaney", log="db", frames=199)
    spec = {
        "kapre014": replace(spec, mel_scale="htk", power=2, mel_sqrt=True, pad=(982, 982)),
        "kapre": replace(spec, mel_scale="slaney", power=1, pad=(0, 1964)),
        "librosa": replace(spec, mel_scale="slaney", power=1, pad=(1024, 1024)),
    }[front]
    return Sound(48_000, 48_000, spec)


@pytest.mark.parametrize("front", ["kapre014", "kapre", "librosa"])
@pytest.mark.parametrize(("representation", "n_mels"), [("linear", 0), ("mel128", 128), ("mel256", 256)])
def test_openl3(shared, representation, n_mels, front):
    goldens = shared / "goldens"
    with np.load(goldens / "openl3_audio_input.npz", allow_pickle=False) as file:
        samples = torch.from_numpy(file["windows_center_hop05"])
    with np.load(goldens / f"openl3_audio_{representation}.npz", allow_pickle=False) as file:
        expected = file[f"spec_{front}"].transpose(0, 2, 1)
    got = log_mel(samples, openl3(n_mels, front)).numpy()
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


def test_db_is_relative_to_each_windows_own_maximum():
    sound = openl3(0, "kapre")
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


def test_triangles_over_mel_are_vggishs_only():
    with pytest.raises(ValueError, match="defined for the HTK scale"):
        mel_filters(16_000, replace(SPEC, mel_scale="slaney"))
