"""Noise ratios from given probabilities, and their file. The estimator itself: test_denoising.py, on planted noise."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from extract.errors import PlanError
from pipelines.parsing.learning.denoising import Denoising, NoiseRatios
from pipelines.parsing.learning.noise import load_ratios, noise_ratios, save_ratios


def _ratios_clip_by_clip(prob: np.ndarray, weak: np.ndarray, threshold: float, smooth: float) -> list[float]:
    """As the official program: labels smoothed, times the probability, over the mean, counted where below the threshold."""
    target = smooth * weak + (1 - smooth) * 0.5
    mean = [float(np.mean([row[c] for row in prob])) for c in range(weak.shape[1])]
    noisy, there = [0] * weak.shape[1], [0] * weak.shape[1]
    for n in range(len(weak)):
        for c in range(weak.shape[1]):
            if weak[n, c] != 0:
                there[c] += 1
                if prob[n, c] * target[n, c] / mean[c] < threshold:
                    noisy[c] += 1
    return [a / b if b else 0.0 for a, b in zip(noisy, there, strict=True)]


@pytest.mark.parametrize("seed", range(5))
def test_ratios_equal_a_count_clip_by_clip(seed: int) -> None:
    random = np.random.default_rng(seed)
    weak = (random.random((300, 7)) < 0.2).astype(np.float32)
    weak[:, 6] = 0
    heard, seen = random.beta(0.5, 1.0, (2, 300, 7))
    options = Denoising(audio_threshold=0.9, visual_threshold=1.3, smooth_visual=0.8)
    found = noise_ratios(heard, seen, weak, options)
    np.testing.assert_array_equal(found.audio, _ratios_clip_by_clip(heard, weak, 0.9, 1.0))
    np.testing.assert_array_equal(found.visual, _ratios_clip_by_clip(seen, weak, 1.3, 0.8))
    assert found.audio[6] == found.visual[6] == 0
    assert found.audio[:6].min() > 0.1
    assert found.audio[:6].max() < 0.9


def test_the_visual_threshold_is_relative_to_the_mean_and_to_the_smoothed_label() -> None:
    weak = np.array([[1], [1], [0], [0]])
    seen = np.array([[0.74], [0.78], [0.04], [0.04]])  # mean 0.4: the bar is at 1.8 / 0.95 * 0.4 = 0.758
    assert noise_ratios(seen, seen, weak, Denoising()).visual == [0.5]
    assert noise_ratios(seen, seen, weak, Denoising(smooth_visual=1.0)).visual == [0.0]


def test_a_class_of_most_clips_counts_as_missing_from_all_pictures() -> None:
    weak = np.ones((10, 1))
    assert noise_ratios(np.full((10, 1), 0.99), np.full((10, 1), 0.99), weak, Denoising()) == ([0.0], [1.0])


def test_wrong_probabilities_are_refused() -> None:
    good, weak = np.full((4, 2), 0.5), np.ones((4, 2))
    with pytest.raises(PlanError, match="one shape"):
        noise_ratios(good[:3], good, weak, Denoising())
    with pytest.raises(PlanError, match="at least one clip"):
        noise_ratios(good[:0], good[:0], weak[:0], Denoising())
    with pytest.raises(PlanError, match="0 or 1"):
        noise_ratios(good, good, weak * 0.5, Denoising())
    with pytest.raises(PlanError, match="visual probabilities go from nan"):
        noise_ratios(good, good * math.nan, weak, Denoising())
    with pytest.raises(PlanError, match=r"audio probabilities go from 1\.5"):
        noise_ratios(good * 3, good, weak, Denoising())
    noise_ratios(np.full((4, 2), 1.000001), good, weak, Denoising())


def test_ratios_are_written_once_and_read_back(tmp_path: Path) -> None:
    ratios = NoiseRatios(np.array([0.1, 0.2, 1 / 3]), np.array([0.0, 1.0, 0.5]))
    path = tmp_path / "noise_ratios.npz"
    save_ratios(path, ratios)
    back = load_ratios(path, 3)
    np.testing.assert_array_equal(back, ratios)
    with pytest.raises(PlanError, match="not overwritten"):
        save_ratios(path, ratios)
    with pytest.raises(PlanError, match=r"\(3,\), the task has 25 classes"):
        load_ratios(path, 25)


def test_what_is_no_file_of_ratios_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "noise_ratios.npz"
    with pytest.raises(PlanError, match="no file of noise ratios"):
        load_ratios(path, 3)
    for content in (b"", b"PK\3\4 torn", b"text"):
        path.write_bytes(content)
        with pytest.raises(PlanError, match="no file of noise ratios"):
            load_ratios(path, 3)
    np.savez(path, audio=np.zeros(3))
    with pytest.raises(PlanError, match="visual"):
        load_ratios(path, 3)
    np.savez(path, audio=np.zeros(3), visual=np.array([0, 2.0, 0]))
    with pytest.raises(PlanError, match="visual noise ratios must be in"):
        load_ratios(path, 3)
