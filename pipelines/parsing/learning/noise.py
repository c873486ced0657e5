"""How noisy the labels of clips are for each modality, by a network without cross-attention: JoMoLD's first stage.

See denoising.py for the second one and for the source.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from extract.errors import Diverged, PlanError
from pipelines.parsing.batch import Batch
from pipelines.parsing.learning.denoising import Denoising, NoiseRatios, check_ratios, loss_parts, parse, smoothed
from pipelines.parsing.outputs import pool

ROUNDING = 1e-5
"""An average of float32 probabilities over time may exceed 1 by less than this."""


def estimate(
    model: nn.Module,
    batches: Callable[[int], Iterable[Batch]],
    options: Denoising,
    *,
    score: Callable[[nn.Module], float] | None = None,
    tell: Callable[[int, dict[str, float]], None] | None = None,
) -> NoiseRatios:
    """Train the noise estimator and read the ratios off its probabilities on the training set.

    Parameters
    ----------
    model
        a new HAN with `options.visual_dropout`; it is trained in place
    batches
        an epoch's number to its batches of `options.estimator_batch` clips, every clip of the training set once
    score
        of a network without cross-attention on validation clips; the epoch with the largest counts, the later of equal ones.
        Published: F of audio, event-level. None: the last epoch counts
    tell
        called after every epoch with its number and the mean of each part of the loss

    Returns
    -------
    NoiseRatios
        the same for the same seed of torch and the same batches

    Raises
    ------
    PlanError
        the loss is not finite (:class:`Diverged`), or there are no clips
    """
    optimiser = torch.optim.Adam(model.parameters(), lr=options.estimator_lr)
    schedule = torch.optim.lr_scheduler.MultiStepLR(
        optimiser, list(options.estimator_milestones), options.estimator_gamma
    )
    best: tuple[float, dict[str, Any]] | None = None
    for epoch in range(options.estimator_epochs):
        model.train()
        steps = []
        for batch in batches(epoch):
            parts = estimator_loss(model, batch, options)
            optimiser.zero_grad(set_to_none=True)
            torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            steps.append({name: part.detach() for name, part in parts.items()})
        means = _means(steps, epoch)
        schedule.step()
        if tell:
            tell(epoch, means)
        if score:
            model.eval()
            value = score(model)
            if best is None or value >= best[0]:
                best = value, copy.deepcopy(model.state_dict())
    if best:
        model.load_state_dict(best[1])
    heard, seen, weak = _probabilities(model, batches(options.estimator_epochs))
    if not (np.isfinite(heard).all() and np.isfinite(seen).all()):
        raise Diverged("the noise estimator's probabilities are not finite; lower denoising.estimator_lr")
    return noise_ratios(heard, seen, weak, options)


def estimator_loss(model: nn.Module, batch: Batch, options: Denoising) -> dict[str, Tensor]:
    """The loss of a step of the estimator: the same four parts, without cross-attention or removal.

    All have weight 1, but for the contrastive part where `options.nce_weight` is 0: it is left out here, too.
    """
    parsed = parse(model, batch, cross_attention=False)
    weights = {"audio": 1.0, "visual": 1.0, "video": 1.0, "nce": float(options.nce_weight > 0)}
    return loss_parts(parsed, batch.weak, smoothed(batch.weak, options), options, weights)


def noise_ratios(
    audio_prob: NDArray[Any], visual_prob: NDArray[Any], weak: NDArray[Any], options: Denoising
) -> NoiseRatios:
    """How often a label is missing from each modality, by the estimator's probabilities on the training set.

    A clip with the label lacks it in a modality where its probability, times the target of a label that stays, is below the
    threshold times the mean of that probability over all N clips, with the label or without.

    Parameters
    ----------
    audio_prob, visual_prob
        (N, C), 0..1: that a class is heard or seen anywhere in a clip (:class:`pipelines.parsing.outputs.Pooled`)
    weak
        (N, C), 0 or 1
    options
        its thresholds and smoothing

    Returns
    -------
    NoiseRatios
        0 for a class that no clip has

    Raises
    ------
    PlanError
        shapes that differ, no clips, or numbers out of their ranges

    Notes
    -----
    The official program takes the mean of the means of its batches, which counts the clips of a smaller last batch for more;
    here every clip counts the same. The factor for a label that stays (1 for audio, 0.95 for visual with the published
    smoothing) is official, so the visual threshold of 1.8 is in effect 1.8 / 0.95. Thresholds are relative to the mean: of a
    class in more than about half of all clips, nearly every visual label counts as missing. That is Speech in LLP: 0.994 in
    the file of MengyuanChen21/CVPR2023-CMPAE (73345f7), where the other classes have 0.03 to 0.26.
    """
    heard, seen = np.asarray(audio_prob, np.float64), np.asarray(visual_prob, np.float64)
    labels = np.asarray(weak)
    if labels.ndim != 2 or not len(labels) or heard.shape != labels.shape or seen.shape != labels.shape:
        raise PlanError(
            "noise ratios need probabilities and labels of one shape (clips, classes) with at least one clip; got audio "
            f"{heard.shape}, visual {seen.shape}, labels {labels.shape}"
        )
    if not np.isin(labels, (0, 1)).all():
        raise PlanError("noise ratios need labels that are 0 or 1; others are given")
    ratios = []
    for name, probability in (("audio", heard), ("visual", seen)):
        if not ((probability >= 0) & (probability <= 1 + ROUNDING)).all():
            raise PlanError(
                f"the noise estimator's {name} probabilities go from {probability.min()} to {probability.max()}; they must be "
                "in 0..1: lower denoising.estimator_lr if it diverged"
            )
        stays = (1 + getattr(options, f"smooth_{name}")) / 2
        low = probability * stays < getattr(options, f"{name}_threshold") * probability.mean(axis=0)
        ratios.append((low & (labels == 1)).sum(axis=0) / np.maximum(labels.sum(axis=0), 1))
    return NoiseRatios(*ratios)


def save_ratios(path: Path, ratios: NoiseRatios) -> None:
    """Write ``noise_ratios.npz`` as the official program does: arrays ``audio`` and ``visual``.

    Raises
    ------
    PlanError
        the file exists
    """
    try:
        with path.open("xb") as file:
            np.savez(file, audio=ratios.audio, visual=ratios.visual)
    except FileExistsError:
        raise PlanError(f"{path} exists and is not overwritten; move it away, or read it instead") from None


def load_ratios(path: Path, classes: int) -> NoiseRatios:
    """Read ``noise_ratios.npz``, ours or an official one.

    Raises
    ------
    PlanError
        it cannot be read, or does not fit the number of classes
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            ratios = NoiseRatios(*(np.asarray(file[name], np.float64) for name in NoiseRatios._fields))
    except (OSError, EOFError, KeyError, ValueError, TypeError, BadZipFile) as error:
        raise PlanError(f"{path} is no file of noise ratios with arrays audio and visual: {error}") from error
    check_ratios(ratios, classes)
    return ratios


def _means(steps: Sequence[dict[str, Tensor]], epoch: int) -> dict[str, float]:
    if not steps:
        raise PlanError("the noise estimator was given no clips: the training split is empty")
    means = {name: float(torch.stack([step[name] for step in steps]).mean()) for name in steps[0]}
    if not all(math.isfinite(value) for value in means.values()):
        raise Diverged(
            f"the noise estimator's loss is not finite in epoch {epoch + 1}: {means}; lower denoising.estimator_lr, or look for "
            "extreme values in the features"
        )
    return means


def _probabilities(
    model: nn.Module, batches: Iterable[Batch]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Heard, seen and labels, (N, C) each."""
    model.eval()
    heard, seen, weak = [], [], []
    with torch.no_grad():
        for batch in batches:
            clip = pool(parse(model, batch, cross_attention=False))
            heard.append(clip.audio.float().cpu())
            seen.append(clip.visual.float().cpu())
            weak.append(batch.weak.float().cpu())
    return torch.cat(heard).numpy(), torch.cat(seen).numpy(), torch.cat(weak).numpy()
