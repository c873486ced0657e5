"""Labels of a clip as labels of what is heard and what is seen (JoMoLD): the network's losses say which to leave out.

The label of a clip says that an event is heard or seen. HAN learns it for both, which is wrong for some clips. First a network
without cross-attention estimates for each class and modality the share of clips that lack it there (noise.py). Then, in each
batch, the labels that one modality finds hard and the other easy are taken out of the first (:func:`removal`).

Source: Cheng et al., "Joint-modal label denoising for weakly-supervised audio-visual video parsing", ECCV 2022;
MCG-NJU/JoMoLD (a7dc2d5), ``main.py``. Why this one: docs/adr/0018-the-modern-baseline.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from extract.errors import PlanError, nearest
from pipelines.parsing.batch import Batch
from pipelines.parsing.learning.contrastive import check_contrast, nce_loss
from pipelines.parsing.outputs import AUDIO, VISUAL, Parsed, pool

WarmUp = Literal["official", "linear"]
EDGE = 1e-7
"""Probabilities are kept this far from 0 and 1 before a logarithm."""


@dataclass(frozen=True, slots=True)
class Denoising:
    """Options of the estimator and of the training; the defaults are those published.

    Parameters
    ----------
    estimator_epochs, estimator_batch, estimator_lr, estimator_milestones, estimator_gamma
        of the estimator: Adam's rate is multiplied by gamma at the beginning of each milestone (epochs, from 0)
    audio_threshold, visual_threshold
        of :func:`pipelines.parsing.learning.noise.noise_ratios`, relative to a class's mean probability
    warm_up_epochs, warm_up
        see :func:`warmed`
    audio_weight, visual_weight, video_weight, nce_weight
        of the four parts of the training's loss; the estimator's are 1
    temperature, nce_smoothing
        of the contrastive part; see :func:`pipelines.parsing.learning.contrastive.nce_loss`
    smooth_audio, smooth_visual
        s of the target s y + (1 - s) / 2 for a label y that stays
    visual_dropout
        for :class:`pipelines.parsing.models.han.HAN`, both as estimator and as parser

    Raises
    ------
    PlanError
        a number out of its range
    UnknownName
        no such `warm_up`
    """

    estimator_epochs: int = 25
    estimator_batch: int = 128
    estimator_lr: float = 5e-4
    estimator_milestones: tuple[int, ...] = (6, 12, 18, 24)
    estimator_gamma: float = 0.25
    audio_threshold: float = 0.6
    visual_threshold: float = 1.8
    warm_up_epochs: float = 0.9
    warm_up: WarmUp = "official"
    audio_weight: float = 2.0
    visual_weight: float = 1.0
    video_weight: float = 1.0
    nce_weight: float = 1.0
    temperature: float = 0.2
    nce_smoothing: float = 0.1
    smooth_audio: float = 1.0
    smooth_visual: float = 0.9
    visual_dropout: float = 0.5

    def __post_init__(self) -> None:
        whole = ("estimator_epochs", "estimator_batch")
        above = ("estimator_lr", "estimator_gamma", "audio_threshold", "visual_threshold")
        least = ("warm_up_epochs", "audio_weight", "visual_weight", "video_weight", "nce_weight", "visual_dropout")
        for name in (*whole, *above, *least):
            value = getattr(self, name)
            low = 1 if name in whole else 0
            if not math.isfinite(value) or value < low or (name in above and value == 0):
                raise PlanError(f"{name} must be {'above' if name in above else 'at least'} {low}, got {value}")
        for name in ("smooth_audio", "smooth_visual"):
            if not 0 < getattr(self, name) <= 1:
                raise PlanError(f"{name} must be above 0 and at most 1 (1: none), got {getattr(self, name)}")
        if self.visual_dropout >= 1:
            raise PlanError(f"visual_dropout must be below 1, got {self.visual_dropout}")
        if self.warm_up not in get_args(WarmUp):
            raise nearest(self.warm_up, list(get_args(WarmUp)), "warm_up")
        check_contrast(self.temperature, self.nce_smoothing)


class NoiseRatios(NamedTuple):
    """The share of the clips with a label that lack it in the sound, and in the picture; (C,) float64 each, 0..1."""

    audio: NDArray[np.float64]
    visual: NDArray[np.float64]


class Removed(NamedTuple):
    """The labels to leave out, (B, C) bool each."""

    audio: Tensor
    visual: Tensor


class Targets(NamedTuple):
    """What the probabilities of a clip are held to, (B, C) each, 0..1."""

    audio: Tensor
    visual: Tensor


def check_ratios(ratios: NoiseRatios, classes: int) -> None:
    """Whether ratios can be used with a vocabulary.

    Raises
    ------
    PlanError
        they are of another number of classes, or not shares
    """
    for name, values in zip(ratios._fields, ratios, strict=True):
        if values.shape != (classes,):
            raise PlanError(
                f"{name} noise ratios have shape {values.shape}, the task has {classes} classes: estimate them anew"
            )
        if not ((values >= 0) & (values <= 1)).all():
            raise PlanError(
                f"{name} noise ratios must be in 0..1, got {values.min()} to {values.max()}: estimate them anew"
            )


def warmed(options: Denoising, epoch_fraction: float) -> float:
    """The factor of the noise ratios at a time of the training, 0..1.

    Parameters
    ----------
    options
        ``linear``: grows evenly until `warm_up_epochs`. ``official``: 0 in an epoch that begins before `warm_up_epochs`, else
        1. The official program means the former and does the latter: it multiplies the ratios in place, and by 0 first. (For
        more than one epoch of warm-up its product is not quite 0 in the first batches of the later ones.)
    epoch_fraction
        epochs since the start, such as 1.25 for a quarter of the second
    """
    if options.warm_up == "official":
        return float(math.floor(epoch_fraction) >= options.warm_up_epochs)
    return min(1.0, epoch_fraction / options.warm_up_epochs) if options.warm_up_epochs else 1.0


def removal(
    audio_loss: Tensor, visual_loss: Tensor, weak: Tensor, ratios: NoiseRatios, *, factor: float = 1.0
) -> Removed:
    """The labels of a batch that one modality finds hard and the other easy.

    Of the n clips with a class and its visual ratio r, let k be r n without its fraction. A clip's visual label goes where its
    visual loss is among the k largest and its audio loss among the k smallest of the n. For audio labels the other way round.

    Parameters
    ----------
    audio_loss, visual_loss
        (B, C): how far the probability of the class is from the clip's label
    weak
        (B, C), 0 or 1
    ratios
        of C classes
    factor
        of the ratios; see :func:`warmed`

    Returns
    -------
    Removed
        a label may go from both where the two ratios of its class sum to more than 1, as published. Equal losses rank in the
        order of the batch
    """
    labelled = weak > 0.5
    count = labelled.sum(dim=0)
    places = [_places(loss, labelled) for loss in (audio_loss, visual_loss)]
    removed = []
    for own, other, ratio in ((AUDIO, VISUAL, ratios.audio), (VISUAL, AUDIO, ratios.visual)):
        share = torch.as_tensor(ratio * factor, dtype=torch.float64, device=weak.device)
        few = (share * count).floor()
        removed.append(labelled & (places[own] >= count - few) & (places[other] < few))
    return Removed(*removed)


def _places(loss: Tensor, labelled: Tensor) -> Tensor:
    """The place of each labelled clip among those of its class, from 0 at the smallest loss; (B, C)."""
    return loss.masked_fill(~labelled, math.inf).argsort(dim=0, stable=True).argsort(dim=0)


def denoised(
    audio_loss: Tensor,
    visual_loss: Tensor,
    weak: Tensor,
    ratios: NoiseRatios,
    options: Denoising,
    *,
    epoch_fraction: float,
) -> Targets:
    """The labels of a batch for each modality: smoothed where they stay, 0 where removed (not smoothed, as published).

    See :func:`removal` for the first parameters, and :func:`warmed` for the time.
    """
    removed = removal(audio_loss, visual_loss, weak, ratios, factor=warmed(options, epoch_fraction))
    whole = smoothed(weak, options)
    return Targets(whole.audio.masked_fill(removed.audio, 0), whole.visual.masked_fill(removed.visual, 0))


def smoothed(weak: Tensor, options: Denoising) -> Targets:
    """The labels of a batch for each modality, (B, C) float32, none removed: s y + (1 - s) / 2."""
    labels = weak.float()
    return Targets(*(s * labels + (1 - s) / 2 for s in (options.smooth_audio, options.smooth_visual)))


def targets(
    model: nn.Module, batch: Batch, ratios: NoiseRatios, options: Denoising, *, epoch_fraction: float
) -> Targets:
    """The labels of a batch for each modality, ranked by a pass without cross-attention and without gradients.

    Dropout stays on in a network that is being trained, as published. Where nothing can be removed, there is no pass.
    """
    whole = smoothed(batch.weak, options)
    if warmed(options, epoch_fraction) == 0 or not (ratios.audio.any() or ratios.visual.any()):
        return whole
    with torch.no_grad():
        clip = pool(parse(model, batch, cross_attention=False))
    losses = (_cross_entropy(clip.audio, whole.audio), _cross_entropy(clip.visual, whole.visual))
    return denoised(*losses, batch.weak, ratios, options, epoch_fraction=epoch_fraction)


def denoising_loss(
    model: nn.Module, batch: Batch, ratios: NoiseRatios, options: Denoising, *, epoch_fraction: float
) -> dict[str, Tensor]:
    """The loss of a training step.

    Parameters
    ----------
    model
        HAN with `options.visual_dropout`, in training mode
    batch
        of AVVP; the published training has 128 clips in each, and few in a batch leave little to rank
    ratios
        of :func:`pipelines.parsing.learning.noise.estimate`
    epoch_fraction
        epochs since the start, such as 1.25 for a quarter of the second

    Returns
    -------
    dict
        ``audio``, ``visual``, ``video``, ``nce``: scalars, weights included; their sum is the loss. A part of weight 0 is left
        out. ``video`` is held to the labels of the clip, of which none is removed

    Raises
    ------
    PlanError
        ratios of another vocabulary
    """
    check_ratios(ratios, batch.weak.shape[1])
    goals = targets(model, batch, ratios, options, epoch_fraction=epoch_fraction)
    weights = {name: getattr(options, f"{name}_weight") for name in ("audio", "visual", "video", "nce")}
    return loss_parts(parse(model, batch, cross_attention=True), batch.weak, goals, options, weights)


def loss_parts(
    parsed: Parsed, weak: Tensor, goals: Targets, options: Denoising, weights: Mapping[str, float]
) -> dict[str, Tensor]:
    """The parts of the loss whose weight is not 0; see :func:`denoising_loss`."""
    clip = pool(parsed)
    parts = {
        "audio": _cross_entropy(clip.audio, goals.audio).mean(),
        "visual": _cross_entropy(clip.visual, goals.visual).mean(),
        "video": _cross_entropy(clip.video, weak.float()).mean(),
    }
    if weights["nce"]:
        heard, seen = parsed.after.unbind(dim=2)
        parts["nce"] = nce_loss(heard, seen, temperature=options.temperature, smoothing=options.nce_smoothing)
    return {name: weights[name] * part for name, part in parts.items() if weights[name]}


def parse(model: nn.Module, batch: Batch, *, cross_attention: bool) -> Parsed:
    """What a network such as HAN gives for a batch."""
    features = batch.features
    parsed: Parsed = model(features["audio"], features["visual"], features.get("clip"), cross_attention=cross_attention)
    return parsed


def _cross_entropy(probability: Tensor, target: Tensor) -> Tensor:
    """Of each probability. Written out, because torch refuses binary_cross_entropy under CUDA's autocast."""
    kept = probability.float().clamp(EDGE, 1 - EDGE)
    return -(target * kept.log() + (1 - target) * (1 - kept).log())
