"""Sound to spectrograms, ten seconds at a time: ours against the numpy code that the networks were published with.

python benchmarks/front_ends.py [--rate 44100] [--rounds 9] [--threads 1] [--device cpu] [--clock wall|cpu]

Both sides start from decoded stereo: mean of the channels, to the network's rate, to log-mel examples. Ours takes the
decoder's frames, resamples with soxr, cuts windows and makes their spectrograms on the device. Theirs takes an array of 16-bit
samples, as the wav readers of that code give it, and is resampy's kaiser_best
(version 0.2.2's filter, its loop compiled beforehand) with, for VGGish, what mel_features.py does in numpy, and for OpenL3,
librosa's STFT and mel filters of every window (the front end kapre014). Sides take turns; the fastest of the rounds counts.
The clock ``cpu`` counts what this process itself takes: on a machine that others use too, walls say little.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import av
import librosa
import numpy as np
import torch
from numpy.typing import NDArray

from backbones import registry
from backbones.spec import Sound
from extract.decode.resampy022 import kaiser_best
from extract.decode.sound import Windows
from extract.grid import NS, Grid
from extract.prepare import log_mel, mel_filters

SECONDS = 10
PIECE = 1024  # samples per decoded frame, as AAC has it


@dataclass(frozen=True)
class Case:
    """A front end at a hop, and how its network's own code makes it."""

    backbone: str
    hop_ns: int
    reference: Callable[[NDArray[np.float32], Sound, int], NDArray[np.float64]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=int, default=44_100)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    t = np.arange(SECONDS * options.rate) / options.rate
    sound = 0.4 * np.sin(2 * np.pi * (100 + 150 * t) * t) + 0.05 * np.random.default_rng(0).uniform(-1, 1, len(t))
    pcm = np.rint(np.tile(sound, (2, 1)) * 32_767).astype(np.int16)
    frames = decoded(pcm, options.rate)
    cases = [
        Case("vggish", NS, vggish),
        Case("vggish", 96 * NS // 100, vggish),
        Case("openl3_audio_mel256_env_512", NS, openl3),
        Case("openl3_audio_mel256_env_512", NS // 10, openl3),
    ]
    print(
        f"{SECONDS} s at {options.rate} Hz, {torch.get_num_threads()} thread(s), {options.device}, ms ({options.clock})"
    )
    print(f"{'front end':28} {'hop s':>6} {'rows':>5} {'theirs':>8} {'resampy':>8} {'ours':>8} {'cut':>8} {'ratio':>6}")
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    for case in cases:
        measure(case, pcm, frames, options.rate, options.rounds, options.device, clock)


def measure(
    case: Case,
    pcm: NDArray[np.int16],
    frames: list[av.AudioFrame],
    rate_hz: int,
    rounds: int,
    device: str,
    clock: Callable[[], float],
) -> None:
    (view,) = registry.get(case.backbone).views
    assert isinstance(view, Sound)
    assert view.spectrogram is not None
    hop = case.hop_ns * view.rate_hz // NS
    times: dict[str, list[float]] = {"theirs": [], "resampy": [], "ours": [], "cut": []}
    for round_ in range(rounds + 1):  # the first one compiles and fills caches
        begin = clock()
        mono = (pcm.T / 32768.0).mean(axis=1)
        resampled = kaiser_best(mono.astype(np.float32), rate_hz, view.rate_hz)
        between = clock()
        expected = case.reference(resampled, view, hop)
        theirs = clock()
        rows = cut(frames, view, case.hop_ns)
        after = clock()
        got = log_mel(torch.from_numpy(rows).to(device), view).cpu()
        ours = clock()
        if round_:
            times["theirs"].append(theirs - begin)
            times["resampy"].append(between - begin)
            times["ours"].append(ours - theirs)
            times["cut"].append(after - theirs)
    count = min(len(expected), len(got))
    # resamplers differ near half the rate and at the ends: most values agree, or something else is being measured
    assert np.median(np.abs(got[:count].numpy() - expected[:count])) < 0.05
    best = {name: min(taken) * 1e3 for name, taken in times.items()}
    print(
        f"{case.backbone:28} {case.hop_ns / NS:6.2f} {count:5} {best['theirs']:8.1f} {best['resampy']:8.1f} "
        f"{best['ours']:8.1f} {best['cut']:8.1f} {best['theirs'] / best['ours']:5.1f}x"
    )


def decoded(pcm: NDArray[np.int16], rate_hz: int) -> list[av.AudioFrame]:
    """The sound as an AAC decoder gives it: stereo, planar floats."""
    out = []
    for begin in range(0, pcm.shape[1], PIECE):
        pair = np.ascontiguousarray(pcm[:, begin : begin + PIECE] / np.float32(32_768))
        frame = av.AudioFrame.from_ndarray(pair, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = rate_hz, begin
        out.append(frame)
    return out


def cut(frames: list[av.AudioFrame], view: Sound, hop_ns: int) -> NDArray[np.float32]:
    grid = Grid(NS, hop_ns)
    windows = Windows(view, grid, grid.windows_ns(SECONDS * NS), SECONDS)
    rows = [window for frame in frames for window in windows.push(frame, frame.pts / frame.sample_rate)]
    rows += windows.finish()
    return np.stack([window.samples for window in rows if window.valid])


def vggish(samples: NDArray[np.float32], view: Sound, hop: int) -> NDArray[np.float64]:
    """Frames by strides, numpy's FFT and one matrix product, in float64."""
    spec = view.spectrogram
    assert spec is not None
    signal = samples.astype(np.float64)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi / spec.win_length * np.arange(spec.win_length))
    bank = mel_filters(view.rate_hz, spec)  # made anew for every sound, as officially
    if hop == 96 * spec.hop_length:  # one spectrogram of the whole sound, cut into examples
        cuts = [signal]
    else:  # one spectrogram for each second, as the AVE and LLP code does it
        cuts = [signal[begin : begin + hop] for begin in range(0, len(signal) - view.samples + 1, hop)]
    examples = []
    for part in cuts:
        frames = np.lib.stride_tricks.sliding_window_view(part, spec.win_length)[:: spec.hop_length]
        logs = np.log(np.abs(np.fft.rfft(frames * hann, spec.n_fft)) @ bank + spec.offset)
        examples += [logs[k : k + 96] for k in range(0, len(logs) - 95, 96)]
    return np.stack(examples)


def openl3(samples: NDArray[np.float32], view: Sound, hop: int) -> NDArray[np.float64]:
    """Every window alone: zero-padded, librosa's STFT, HTK mels of the power, square root, decibels below its maximum."""
    spec = view.spectrogram
    assert spec is not None
    bank = mel_filters(view.rate_hz, spec).T
    out = []
    for begin in range(0, len(samples) - view.samples + 1, hop):
        padded = np.pad(samples[begin : begin + view.samples], spec.pad)
        stft = librosa.stft(padded, n_fft=spec.n_fft, hop_length=spec.hop_length, window="hann", center=False)
        mel = np.sqrt(bank @ np.abs(stft) ** 2)
        level = 10 * np.log10(np.maximum(mel, spec.offset))
        out.append(np.maximum(level - level.max(), -spec.db_range).T)
    return np.stack(out)


if __name__ == "__main__":
    main()
