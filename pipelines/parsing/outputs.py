"""What the networks give, and how seconds are pooled into a clip."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

AUDIO, VISUAL = 0, 1
"""Places of the two modalities on every axis of length 2."""


class Parsed(NamedTuple):
    """What an AVVP network gives for B clips of T seconds, C classes and streams of d numbers.

    Parameters
    ----------
    frame
        (B, T, 2, C), 0..1: the probability that a class is heard (0) or seen (1) in a second
    time_logits
        (B, T, 2, C): how much each second counts, before the softmax over time
    modality_logits
        (B, T, 2, C): how much each modality counts, before the softmax over modalities
    before, after
        (B, T, 2, d): the streams that enter the fusion, and those that leave it
    """

    frame: Tensor
    time_logits: Tensor
    modality_logits: Tensor
    before: Tensor
    after: Tensor


class Pooled(NamedTuple):
    """Probabilities of B clips: of either modality (``video``, which may exceed 1), heard, seen; (B, C) each."""

    video: Tensor
    audio: Tensor
    visual: Tensor


class Located(NamedTuple):
    """What an AVE network gives for B clips of T seconds; C counts the background.

    Parameters
    ----------
    score
        (B, T, C) of each second; its largest is the answer
    fused
        (B, T, d): what the scores are computed from
    cross
        (B, T), -1..1: how alike sound and picture are, as a cosine; None where a network does not say
    """

    score: Tensor
    fused: Tensor
    cross: Tensor | None = None


def pool(parsed: Parsed, where: Tensor | None = None, *, renormalise: bool = True) -> Pooled:
    """Attentive multiple-instance pooling of seconds into a clip, or into a part of one.

    Parameters
    ----------
    parsed
        of B clips
    where
        (B, T) bool, at least one True per clip: only these seconds, as if the clip held no others; None: all
    renormalise
        False: weights stay those of the whole clip, so that a part's do not sum to 1

    Returns
    -------
    Pooled
        ``audio`` and ``visual`` are averages over time. ``video`` sums both modalities with weights whose sum over time and
        modalities may be anything in (0, 2), as published: clamp it before a logarithm

    Notes
    -----
    Source: YapengTian/AVVP-ECCV20 (fde5611), ``nets/net_audiovisual.py``; ``where`` is eq. 4 of Zhu et al., "Mixed in time
    and modality".
    """
    logits = parsed.time_logits
    if where is not None and renormalise:
        logits = logits.masked_fill(~where[:, :, None, None], float("-inf"))
    weighted = logits.softmax(dim=1) * parsed.frame
    if where is not None and not renormalise:
        weighted = weighted * where[:, :, None, None]
    video = (weighted * parsed.modality_logits.softmax(dim=2)).sum(dim=(1, 2))
    heard, seen = weighted.sum(dim=1).unbind(dim=1)
    return Pooled(video, heard, seen)
