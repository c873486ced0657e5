"""From what the decoder delivers to what a network eats, on the network's device: frames to floats, samples to spectrograms."""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from backbones.spec import Frames, LogMel, Sound


def frames_to_tensor(
    frames: NDArray[np.uint8], view: Frames, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Scale pixels to [0, 1] and standardise them by the view's mean and deviation.

    The same float32 operations in the same order as torchvision's ToTensor and Normalize: ``(x / 255 - mean) / std``.

    Parameters
    ----------
    frames
        (n, t, h, w, 3) uint8 RGB, resized and cropped as `view` says
    view
        whose mean and std apply
    device, dtype
        of the result; pixels travel to the device as bytes, and the arithmetic is float32 whatever `dtype` is

    Returns
    -------
    (n, t, 3, h, w) tensor
        laid out in memory as (n, t, h, w, 3): channels-last for image and clip networks without another copy
    """
    if frames.dtype != np.uint8 or frames.ndim != 5 or frames.shape[-1] != 3:
        raise ValueError(f"frames must be (n, t, h, w, 3) uint8, got {frames.shape} {frames.dtype}")
    if frames.shape[1:4] != (view.count, *view.height_width):
        raise ValueError(f"the view wants {view.count} frames of {view.height_width} pixels, got {frames.shape[1:4]}")
    n, t, h, w, _ = frames.shape
    # one row of pixels at a time keeps the inner loop long: a mean that repeats every three values is three times slower
    pixels = torch.from_numpy(np.require(frames, requirements=["C", "W"])).view(n, t, h, w * 3).to(device)
    mean = torch.tensor(view.mean, dtype=torch.float32, device=device).repeat(w)
    std = torch.tensor(view.std, dtype=torch.float32, device=device).repeat(w)
    scaled = pixels.to(torch.float32).div_(255).sub_(mean).div_(std)
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
        as `sound.input_shape` says; in nats (``ln``) or decibels
    """
    spec = sound.spectrogram
    if spec is None:
        raise ValueError("this view is the waveform itself: it has no spectrogram")
    if samples.ndim != 2 or samples.shape[1] != sound.samples or samples.dtype != torch.float32:
        raise ValueError(f"samples must be (n, {sound.samples}) float32, got {tuple(samples.shape)} {samples.dtype}")
    frames, _ = sound.input_shape
    if sum(spec.pad):
        mode = "constant" if spec.pad_mode == "zeros" else "reflect"
        samples = functional.pad(samples, spec.pad, mode=mode)
    cut = samples.unfold(1, spec.win_length, spec.hop_length)[:, :frames]
    spectrum: torch.Tensor = torch.fft.rfft(cut * _window(spec, samples.device), n=spec.n_fft)
    magnitude: torch.Tensor = spectrum.abs() if spec.power == 1 else spectrum.real.square() + spectrum.imag.square()
    if spec.n_mels:
        bank = _bank(sound.rate_hz, spec, samples.device)
        # one product per window, so that a window's bits do not depend on where in the batch it stands
        magnitude = torch.bmm(magnitude, bank.expand(len(magnitude), -1, -1))
    if spec.mel_sqrt:
        magnitude = magnitude.sqrt()
    if spec.log == "ln":
        return magnitude.add_(spec.offset).log_()
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
        lines over mel, not over hertz; the zero-frequency row, which the official code clears, is zero of itself
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
        raise ValueError("triangles over mel are defined for the HTK scale without normalisation")

    def mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(1127.0 * np.log1p(hertz / 700.0))

    bins = mel(np.linspace(0.0, rate_hz / 2, spec.n_fft // 2 + 1))[:, None]
    low, high = mel(np.array([spec.f_min_hz, spec.f_max_hz]))
    edges = np.linspace(low, high, spec.n_mels + 2)
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles: NDArray[np.float64] = np.maximum(0.0, np.minimum(rise, fall))
    return triangles


@lru_cache(maxsize=32)
def _bank(rate_hz: int, spec: LogMel, device: torch.device) -> torch.Tensor:
    bank = np.ascontiguousarray(mel_filters(rate_hz, spec), dtype=np.float32)
    return torch.from_numpy(bank).to(device)


@lru_cache(maxsize=32)
def _window(spec: LogMel, device: torch.device) -> torch.Tensor:
    window = torch.hann_window(spec.win_length, periodic=True, dtype=torch.float64)
    return window.to(device, torch.float32)
