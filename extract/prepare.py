"""From what the decoder delivers to what a network eats, on the network's device: frames to floats, samples to spectrograms."""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from backbones.spec import Frames, LogMel, Sound

BANDS_PER_PRODUCT = 32


def frames_to_tensor(
    frames: NDArray[np.uint8] | NDArray[np.float32],
    view: Frames,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Divide levels by 255 and standardise them by the view's mean and deviation.

    The same float32 operations in the same order as torchvision's ToTensor and Normalize: ``(x / 255 - mean) / std``.

    Parameters
    ----------
    frames
        (n, t, h, w, 3) RGB, resized and cropped as `view` says: uint8, or for the interpolation ``linear`` also float32 in the
        same unit, 255 being white (the rule ``openl3`` goes down to -255). They are left as they are
    view
        whose mean and std apply
    device, dtype
        of the result; pixels travel to the device as they are, and the arithmetic is float32 whatever `dtype` is

    Returns
    -------
    (n, t, 3, h, w) tensor
        laid out in memory as (n, t, h, w, 3): channels-last for image and clip networks without another copy
    """
    kinds = ("uint8", "float32") if view.interpolation == "linear" else ("uint8",)
    if frames.dtype.name not in kinds or frames.ndim != 5 or frames.shape[-1] != 3:
        raise ValueError(f"frames must be (n, t, h, w, 3) {' or '.join(kinds)}, got {frames.shape} {frames.dtype}")
    if frames.shape[1:4] != (view.count, *view.height_width):
        raise ValueError(f"the view wants {view.count} frames of {view.height_width} pixels, got {frames.shape[1:4]}")
    n, t, h, w, _ = frames.shape
    # one row of pixels at a time keeps the inner loop long: a mean that repeats every three values is three times slower
    pixels = torch.from_numpy(np.require(frames, requirements=["C", "W"])).view(n, t, h, w * 3).to(device)
    mean = torch.tensor(view.mean, dtype=torch.float32, device=device).repeat(w)
    std = torch.tensor(view.std, dtype=torch.float32, device=device).repeat(w)
    # a copy in every case: floats on the CPU would still be the caller's own memory
    scaled = pixels.to(torch.float32, copy=True).div_(255).sub_(mean).div_(std)
    return scaled.to(dtype).view(n, t, h, w, 3).permute(0, 1, 4, 2, 3)


def log_mel(samples: torch.Tensor, sound: Sound) -> torch.Tensor:
    """The spectrogram that `sound.spectrogram` describes, batched, on the device of `samples`.

    Parameters
    ----------
    samples
        (n, sound.samples) float32 in [-1, 1]
    sound
        with a spectrogram

    Returns
    -------
    (n, frames, bands) float32
        as `sound.input_shape` says; in nats (``ln``, ``ln_max``) or decibels
    """
    spec = sound.spectrogram
    if spec is None:
        raise ValueError("this view is the waveform itself: it has no spectrogram")
    if samples.ndim != 2 or samples.shape[1] != sound.samples or samples.dtype != torch.float32:
        raise ValueError(f"samples must be (n, {sound.samples}) float32, got {tuple(samples.shape)} {samples.dtype}")
    if samples.device.type != "cpu":
        return _log_mel(samples, sound, spec)
    # one by one, because the spectra of one window fit into a core's caches; on one core, because threads that share steps of
    # microseconds wait for each other wherever anything else runs, and round by how many they are
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return torch.cat([_log_mel(window, sound, spec) for window in torch.split(samples, 1)])
    finally:
        torch.set_num_threads(threads)


def _log_mel(samples: torch.Tensor, sound: Sound, spec: LogMel) -> torch.Tensor:
    frames, _ = sound.input_shape
    if spec.pcm16:
        samples = (samples.clamp(-1.0, 1.0) * 32767.0).trunc() / 32767.0
    if sound.samples < spec.repeat_to:
        samples = samples.repeat(1, spec.repeat_to // sound.samples)
        samples = functional.pad(samples, (0, spec.repeat_to - samples.shape[1]))
    if spec.scale != 1.0:
        samples = samples * spec.scale
    if spec.preemphasis:
        samples = torch.cat([samples[:, :1], samples[:, 1:] - spec.preemphasis * samples[:, :-1]], dim=1)
    if sum(spec.pad):
        mode = "constant" if spec.pad_mode == "zeros" else "reflect"
        samples = functional.pad(samples, spec.pad, mode=mode)
    cut = samples.unfold(1, spec.win_length, spec.hop_length)[:, :frames]
    if spec.window == "hann":
        cut = cut * _hann(spec.win_length, samples.device)
    spectrum: torch.Tensor = torch.fft.rfft(cut, n=spec.n_fft)
    magnitude: torch.Tensor = spectrum.abs() if spec.power == 1 else spectrum.real.square() + spectrum.imag.square()
    if spec.n_mels:
        # one product per window, on any device, so that its bits do not depend on where in the batch it stands
        banks = _banks(sound.rate_hz, spec, samples.device)
        bands = [torch.bmm(magnitude[..., at], bank.expand(len(magnitude), -1, -1)) for at, bank in banks]
        magnitude = torch.cat(bands, 2)[..., : spec.n_mels]
    if spec.mel_sqrt:
        magnitude = magnitude.sqrt()
    if spec.log == "ln":
        return magnitude.add_(spec.offset).log_()
    if spec.log == "ln_max":
        return magnitude.clamp_(min=spec.offset).log_()
    level = magnitude.clamp_(min=spec.offset).log10_().mul_(10.0)
    if spec.log == "db":
        level = (level - level.amax((1, 2), keepdim=True)).clamp_(min=-spec.db_range)
    return level


def mel_filters(rate_hz: int, spec: LogMel) -> NDArray[np.float64]:
    """The filter bank of a spectrogram.

    Returns
    -------
    (n_fft // 2 + 1, n_mels) float64
        ``triangles='hz'``: librosa's; ``'mel'``: VGGish's (tensorflow/models, mel_features.py), whose triangles are straight
        lines over mel, not over hertz; the zero-frequency row, which the official code clears, is zero of itself;
        ``'bins'``: those of python_speech_features 0.6 (get_filterbanks), whose edges are whole bins: where bands are narrower
        than bins, filters stay empty
    """
    if spec.triangles == "hz":
        import librosa

        with warnings.catch_warnings():
            # some published front ends have bands narrower than a bin, which stay empty; the networks were trained so
            warnings.filterwarnings("ignore", message="Empty filters detected")
            bank = librosa.filters.mel(
                sr=rate_hz,
                n_fft=spec.n_fft,
                n_mels=spec.n_mels,
                fmin=spec.f_min_hz,
                fmax=spec.f_max_hz,
                htk=spec.mel_scale == "htk",
                norm=spec.mel_norm,
                dtype=np.float64,
            )
        return np.array(bank.T, dtype=np.float64)
    if spec.mel_scale != "htk" or spec.mel_norm is not None:
        raise ValueError(f"triangles over {spec.triangles} are defined for the HTK scale without normalisation")
    if spec.triangles == "bins":
        return _triangles_over_bins(rate_hz, spec)

    def mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(1127.0 * np.log1p(hertz / 700.0))

    bins = mel(np.linspace(0.0, rate_hz / 2, spec.n_fft // 2 + 1))[:, None]
    low, high = mel(np.array([spec.f_min_hz, spec.f_max_hz]))
    edges = np.linspace(low, high, spec.n_mels + 2)
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles: NDArray[np.float64] = np.maximum(0.0, np.minimum(rise, fall))
    return triangles


def _triangles_over_bins(rate_hz: int, spec: LogMel) -> NDArray[np.float64]:
    low, high = 2595.0 * np.log10(1.0 + np.array([spec.f_min_hz, spec.f_max_hz]) / 700.0)
    hertz = 700.0 * (10.0 ** (np.linspace(low, high, spec.n_mels + 2) / 2595.0) - 1.0)
    edges = np.floor((spec.n_fft + 1) * hertz / rate_hz)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bins = np.arange(spec.n_fft // 2 + 1)[:, None]
    # a slope without a width covers no bin: what it is divided by does not matter
    rise = (bins - left) / np.maximum(centre - left, 1)
    fall = (right - bins) / np.maximum(right - centre, 1)
    triangles: NDArray[np.float64] = np.where(bins < centre, rise, fall) * ((left <= bins) & (bins < right))
    return triangles


@lru_cache(maxsize=32)
def _banks(rate_hz: int, spec: LogMel, device: torch.device) -> tuple[tuple[slice, torch.Tensor], ...]:
    """The filter bank in groups of neighbouring bands, each with the bins that they hear: most of the bank is zeros."""
    bank = mel_filters(rate_hz, spec).astype(np.float32)
    groups = []
    # whole groups: left-over columns are multiplied in a slower way
    bank = np.pad(bank, ((0, 0), (0, -spec.n_mels % BANDS_PER_PRODUCT)))
    for bands in np.split(bank, bank.shape[1] // BANDS_PER_PRODUCT, axis=1):
        heard = np.flatnonzero(bands.any(axis=1))
        at = slice(int(heard[0]), int(heard[-1]) + 1) if len(heard) else slice(0, 1)
        groups.append((at, torch.from_numpy(np.ascontiguousarray(bands[at])).to(device)))
    return tuple(groups)


@lru_cache(maxsize=32)
def _hann(length: int, device: torch.device) -> torch.Tensor:
    window = torch.hann_window(length, periodic=True, dtype=torch.float64)
    return window.to(device, torch.float32)
