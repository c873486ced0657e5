"""What the published networks minimise: HAN's multiple-instance losses, and those of the AVE networks.

Every function returns the loss in parts, by name; their sum is the loss. All of it is computed in float32, under autocast
too. NaN stays NaN (torch's own binary cross-entropy stops the whole CUDA process on one), so that a training loop can say
when it happened.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from extract.errors import PlanError, nearest
from pipelines.parsing.batch import Batch
from pipelines.parsing.outputs import Located, Pooled

Target = Literal["label", "prob"]
CLAMP = 1e-7
"""Probabilities stay this far from 0 and 1 before HAN's logarithms."""
SIMILARITY_WEIGHT = 100.0
"""Of PSP's similarity loss, against its cross-entropy."""

_TRAINED_WITH = {"avel": ("weak", "full"), "dmrn": ("full",), "psp": ("weak", "full")}
_LOWEST_LOG = -100.0


def mil_loss(
    pooled: Pooled, weak: Tensor, *, smooth_audio: float = 1.0, smooth_visual: float = 0.9
) -> dict[str, Tensor]:
    """HAN's loss: binary cross-entropy of what is heard, what is seen, and both together, against the clip's labels.

    Parameters
    ----------
    pooled
        (B, C) each
    weak
        (B, C), multi-hot
    smooth_audio, smooth_visual
        how much of a label is believed in that modality, in (0, 1]: the target is ``s y + (1 - s) / 2``; 1: all of it

    Returns
    -------
    dict
        ``audio``, ``visual``, ``video``: means over clips and classes

    Raises
    ------
    PlanError
        a smoothing outside (0, 1]

    Notes
    -----
    Source: YapengTian/AVVP-ECCV20 (fde5611), ``main_avvp.py``. Probabilities are clamped to 1e-7..1 - 1e-7
    first; ``video`` may exceed 1, so its clamp is needed, and where it acts the gradient is 0.
    """
    return {
        "audio": clamped_cross_entropy(pooled.audio, smoothed(weak, smooth_audio)),
        "visual": clamped_cross_entropy(pooled.visual, smoothed(weak, smooth_visual)),
        "video": clamped_cross_entropy(pooled.video, weak),
    }


def smoothed(weak: Tensor, smooth: float) -> Tensor:
    """Labels of which only the share `smooth` is believed, in float32: ``s y + (1 - s) / 2``.

    Raises
    ------
    PlanError
        `smooth` is outside (0, 1]
    """
    if not 0 < smooth <= 1:
        raise PlanError(f"label smoothing must be above 0 and at most 1 (1: none), got {smooth}")
    return smooth * weak.float() + (1 - smooth) / 2


def clamped_cross_entropy(probability: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross-entropy of probabilities clamped to 1e-7..1 - 1e-7, as HAN is trained with."""
    return _cross_entropy(probability.float().clamp(CLAMP, 1 - CLAMP), target.float())


def location_loss(
    model: str, supervision: str, located: Located, video: Tensor | None, batch: Batch, *, target: str = "label"
) -> dict[str, Tensor]:
    """The loss of an AVE network: :func:`weak_loss` or :func:`full_loss`.

    Parameters
    ----------
    model
        ``avel``, ``dmrn`` or ``psp``
    supervision
        ``weak`` or ``full``; dmrn knows ``full`` only
    located, video
        what the network gives, and what its ``pool`` makes of ``located.score``; `video` is read for ``weak`` only
    batch
        labels of the clips, and the class of each second where it is needed
    target
        see :func:`weak_loss`

    Raises
    ------
    UnknownName
        no such model, supervision or target
    PlanError
        the model is not trained with this supervision, or labels it needs are not there
    """
    if supervision == "full":
        return full_loss(model, located, batch.event)
    if supervision != "weak":
        raise nearest(supervision, ["weak", "full"], "supervision")
    if video is None:
        raise PlanError(f"weak supervision of {model} needs the output of whole clips: give model.pool(located.score)")
    return weak_loss(model, video, batch.weak, batch.event, target=target)


def weak_loss(
    model: str, video: Tensor, weak: Tensor, event: Tensor | None = None, *, target: str = "label"
) -> dict[str, Tensor]:
    """The loss of AVEL or PSP against labels of clips.

    Parameters
    ----------
    model
        ``avel``: multi-label soft margin loss; ``psp``: binary cross-entropy
    video
        (B, C), what ``model.pool`` gives: a softmax over classes
    weak
        (B, C), multi-hot
    event
        (B, T) int64, the class of each second; read for ``prob`` only
    target
        ``label``: the clip's labels. ``prob``: the share of the clip's seconds that each class fills, the background
        included. AVEL was published with ``label``; PSP with ``prob``, which tells the network how many seconds the event
        lasts and so uses labels of seconds. The default is ``label`` for both: weak supervision that sees no more than
        weak labels. Scores of PSP with ``prob`` and with ``label`` are not comparable

    Returns
    -------
    dict
        ``video``

    Raises
    ------
    UnknownName
        no such model or target
    PlanError
        dmrn, or ``prob`` without `event`

    Notes
    -----
    Source: YapengTian/AVE-ECCV18 (93f843f), ``weak_supervised_main.py``; AVEL's loss expects logits and is given
    probabilities there, and so here. jasongief/PSP_CVPR_2021 (ddd20f3), ``weakly_supervised_main.py``.
    """
    _check(model, "weak")
    if target not in get_args(Target):
        raise nearest(target, list(get_args(Target)), "target of weak supervision")
    wanted = weak.float() if target == "label" else shares(_needed(event, "target prob"), video.shape[-1])
    if model == "avel":
        return {"video": F.multilabel_soft_margin_loss(video.float(), wanted)}
    return {"video": _cross_entropy(video.float(), wanted)}


def full_loss(model: str, located: Located, event: Tensor | None) -> dict[str, Tensor]:
    """The loss of AVEL, DMRN or PSP against the class of each second.

    Parameters
    ----------
    model
        ``avel`` and ``dmrn``: multi-label soft margin loss. ``psp``: cross-entropy, and 100 times the mean square between
        ``located.cross`` (negative ones as 0, divided by their sum over time) and 1/k on the k seconds with an event
    located
        ``score`` (B, T, C): a softmax over classes for avel and dmrn, logits for psp; ``cross`` (B, T), for psp: the
        similarity of sound and picture, normalised over time or not
    event
        (B, T) int64; C - 1 is the background

    Returns
    -------
    dict
        ``segment``, and of psp ``similarity``

    Raises
    ------
    UnknownName
        no such model
    PlanError
        no `event`, or no ``located.cross`` for psp

    Notes
    -----
    Source: YapengTian/AVE-ECCV18 (93f843f), ``supervised_main.py``; jasongief/PSP_CVPR_2021 (ddd20f3), ``measure.py`` and
    ``dataloader.py``. A clip of background alone has 1/T in every second, as published. The published loader never clears
    its array of 1/k, so that clips also carry marks of earlier batches; here they do not.
    """
    _check(model, "full")
    labels = _needed(event, "supervision full")
    score = located.score.float()
    if model != "psp":
        return {"segment": F.multilabel_soft_margin_loss(score, F.one_hot(labels, score.shape[-1]).float())}
    if located.cross is None:
        raise PlanError("the loss of psp needs the similarity of sound and picture: located.cross is None")
    alike = F.normalize(located.cross.float().relu(), p=1.0, dim=1, eps=1e-8)
    similarity = F.mse_loss(alike, _event_shares(labels, score.shape[-1] - 1))
    return {
        "segment": F.cross_entropy(score.flatten(0, 1), labels.flatten()),
        "similarity": SIMILARITY_WEIGHT * similarity,
    }


def shares(event: Tensor, classes: int) -> Tensor:
    """The share of a clip's seconds that each class fills: (B, T) int64 to (B, `classes`) float32; rows sum to 1."""
    return F.one_hot(event, classes).float().mean(dim=1)


def _event_shares(event: Tensor, background: int) -> Tensor:
    """(B, T): 1/k on the k seconds with an event; 1/T where a clip has none."""
    found = event != background
    found = found | ~found.any(dim=1, keepdim=True)
    return found.float() / found.sum(dim=1, keepdim=True)


def _cross_entropy(probability: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross-entropy; logarithms are at least -100, as torch's."""
    never, always = probability == 0, probability == 1
    yes = probability.masked_fill(never, 1.0).log().masked_fill(never, _LOWEST_LOG).clamp(min=_LOWEST_LOG)
    no = (-probability).masked_fill(always, 0.0).log1p().masked_fill(always, _LOWEST_LOG)
    return -(target * yes + (1 - target) * no).mean()


def _needed(event: Tensor | None, what: str) -> Tensor:
    if event is None:
        raise PlanError(
            f"{what} needs the class of each second, and this split has no labels with times; use supervision weak with "
            "target label, or import the labels with their times"
        )
    return event


def _check(model: str, supervision: str) -> None:
    if model not in _TRAINED_WITH:
        raise nearest(model, list(_TRAINED_WITH), "AVE network")
    if supervision not in _TRAINED_WITH[model]:
        raise PlanError(f"{model} is trained with supervision {' or '.join(_TRAINED_WITH[model])}, not {supervision}")
