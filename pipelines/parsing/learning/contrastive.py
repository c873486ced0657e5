"""Noise-contrastive estimation between two streams: a second of one belongs to the same second of the other."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from extract.errors import PlanError


def nce_loss(first: Tensor, second: Tensor, *, temperature: float = 0.2, smoothing: float = 0.1) -> Tensor:
    """How badly each second of one stream picks its own second of the other out of the clip's T.

    Cosines of a second of `first` with all seconds of `second`, divided by the temperature, go through a softmax p. With the
    target q, which is 1 - smoothing for the same second and smoothing / (T - 1) for each other one, a second's loss is
    -log(sum of q p).

    Parameters
    ----------
    first, second
        (B, T, d); the published loss takes what is heard as the first, what is seen as the second, both after the fusion
    temperature
        above 0
    smoothing
        0 or more, below 1

    Returns
    -------
    Tensor
        scalar, float32 (float64 for streams of float64), the mean over B T seconds; never below -log(1 - smoothing) for
        smoothing up to 1 - 1 / T

    Raises
    ------
    PlanError
        streams of different or other shapes, of a single second, or an option out of its range

    Notes
    -----
    Source: MCG-NJU/JoMoLD (a7dc2d5), ``nets/net_audiovisual.py``, LabelSmoothingNCELoss; there T is fixed at 10. The sum is
    inside the logarithm, so this is not the cross-entropy with smoothed labels. Computed as a logsumexp, without autocast.
    """
    check_contrast(temperature, smoothing)
    if first.ndim != 3 or first.shape != second.shape:
        raise PlanError(
            f"the contrastive loss takes two streams (clips, seconds, numbers) of one shape; got {tuple(first.shape)} and "
            f"{tuple(second.shape)}"
        )
    seconds = first.shape[1]
    if seconds < 2:
        raise PlanError(
            "the contrastive loss compares the seconds of a clip and needs at least 2, the features have 1 per clip; set "
            "nce_weight to 0 to leave it out"
        )
    kind = torch.promote_types(first.dtype, torch.float32)
    with torch.autocast(first.device.type, enabled=False):
        cosine = F.normalize(first.to(kind), dim=-1) @ F.normalize(second.to(kind), dim=-1).mT
        target = torch.full((seconds, seconds), smoothing / (seconds - 1), dtype=kind, device=first.device)
        target.fill_diagonal_(1 - smoothing)
        return -((cosine / temperature).log_softmax(dim=-1) + target.log()).logsumexp(dim=-1).mean()


def check_contrast(temperature: float, smoothing: float) -> None:
    """Whether these options can be used.

    Raises
    ------
    PlanError
        they cannot
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise PlanError(f"temperature must be above 0, got {temperature}")
    if not 0 <= smoothing < 1:
        raise PlanError(f"nce_smoothing must be at least 0 and below 1, got {smoothing}")
