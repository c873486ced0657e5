"""The multi-modal time-series max-margin loss (MTSM): sound and picture become alike where the sound is alike in time.

Source: Wu et al., "Toward a perceptive pretraining framework for audio-visual video parsing", Information Sciences 2022,
eq. 2-4. Where the paper leaves something open, :class:`Mtsm` names the choices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from extract.errors import PlanError, nearest
from pipelines.parsing.outputs import AUDIO, VISUAL

Diagonal = Literal["one", "mask", "plus_one"]
Detached = Literal["f", "z"]
First = Literal["audio", "visual", "mean"]
Term = Literal["l1", "l2"]


@dataclass(frozen=True, slots=True)
class Mtsm:
    """How the loss is made: ``weight (l1 + l2_weight l2)``, to be added to HAN's.

    Parameters
    ----------
    weight
        of the whole, at least 0
    l2_weight
        of l2 within it, at least 0: alpha in eq. 4, beta in Table 10
    t_exp
        exponent of the time lag, ``T_ij = 1 / |i - j| ** t_exp``, at least 0: alpha in section 3.1
    diag
        T at i = j, where eq. 2 divides by 0. ``one``: 1, so that sound and picture of one second are drawn together fully,
        as those of neighbouring seconds are. ``mask``: these pairs are left out, also of the mean. ``plus_one``:
        ``T_ij = 1 / (1 + |i - j|) ** t_exp`` for all pairs
    l2_detach
        which side of l2 is only a target. ``f``: the fused streams, as eq. 3 is printed. ``z``: the streams before the
        fusion, as the text says ("pre-fusion features are utilized to constrain the post-fusion features")
    first
        whose own similarity is the target of l1, mode 1 in eq. 2; ``mean``: the mean of both choices
    terms
        ``l1``, ``l2`` or both: M-1, M-2 and M of Table 7

    Raises
    ------
    UnknownName
        a choice that is none of these
    PlanError
        a number out of its range, or no terms
    """

    weight: float = 1.0
    l2_weight: float = 1.0
    t_exp: float = 3.0
    diag: Diagonal = "one"
    l2_detach: Detached = "f"
    first: First = "audio"
    terms: tuple[Term, ...] = ("l1", "l2")

    def __post_init__(self) -> None:
        for name, allowed in (("diag", Diagonal), ("l2_detach", Detached), ("first", First)):
            if getattr(self, name) not in get_args(allowed):
                raise nearest(str(getattr(self, name)), list(get_args(allowed)), f"choice of mtsm.{name}")
        for term in self.terms:
            if term not in get_args(Term):
                raise nearest(term, list(get_args(Term)), "term of mtsm")
        if len(set(self.terms)) != len(self.terms) or not self.terms:
            raise PlanError(f"mtsm.terms must be l1, l2 or both, once each; got {'+'.join(self.terms) or 'none'}")
        for name in ("weight", "l2_weight", "t_exp"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise PlanError(f"mtsm.{name} must be a finite number of at least 0, got {value}")


def mtsm_loss(before: Tensor, after: Tensor, options: Mtsm) -> dict[str, Tensor]:
    """The loss of B clips of T seconds, in float32 also under autocast.

    Parameters
    ----------
    before, after
        (B, T, 2, d): z, the streams that enter the fusion, and f, those that leave it; 0 audio, 1 visual. ``Parsed`` of HAN
        holds both
    options
        which of the loss's readings

    Returns
    -------
    dict
        ``l1`` and ``l2`` as far as they are among the terms, their weights applied: the sum is the loss

    Raises
    ------
    PlanError
        streams of other shapes, or ``diag="mask"`` on clips of one second, which leaves no pair

    Notes
    -----
    sim is the cosine; with a stream of zeros it is 0. l1 is in 0..2; l2, a sum over both modalities, in 0..4. Means are over
    the T x T pairs and over clips. Gradients: l1 reaches z of both modalities through sim(z1, z2) and never m; l2 reaches
    one side only, see ``l2_detach``.
    """
    if before.ndim != 4 or before.shape[2] != 2 or before.shape[:3] != after.shape[:3]:
        raise PlanError(f"mtsm takes streams of (B, T, 2, d), got {tuple(before.shape)} and {tuple(after.shape)}")
    with torch.autocast(before.device.type, enabled=False):
        z = _directions(before)
        inside = z @ z.mT
        parts: dict[str, Tensor] = {}
        if "l1" in options.terms:
            parts["l1"] = options.weight * _align(z, inside.detach(), options)
        if "l2" in options.terms:
            f = _directions(after)
            fused = f @ f.mT
            gap = inside - fused.detach() if options.l2_detach == "f" else inside.detach() - fused
            parts["l2"] = options.weight * options.l2_weight * gap.abs().mean(dim=(2, 3)).sum(dim=1).mean()
    return parts


def _align(z: Tensor, inside: Tensor, options: Mtsm) -> Tensor:
    """l1 of eq. 2; `inside` (B, 2, T, T) holds the similarities within each modality."""
    across = z[:, AUDIO] @ z[:, VISUAL].mT
    lag_s = torch.arange(z.shape[2], device=z.device)
    lag_s = (lag_s[:, None] - lag_s).abs()
    near = (lag_s + 1 if options.diag == "plus_one" else lag_s.clamp(min=1)).float() ** -options.t_exp
    # m is symmetric in i and j, so across serves both choices as it is
    gaps = {name: (near * inside[:, mode] - across).abs() for name, mode in (("audio", AUDIO), ("visual", VISUAL))}
    gap = (gaps["audio"] + gaps["visual"]) / 2 if options.first == "mean" else gaps[options.first]
    if options.diag != "mask":
        return gap.mean()
    if z.shape[2] < 2:
        raise PlanError("mtsm with diag mask compares different seconds, and these clips have one; use diag one")
    return (gap * (lag_s > 0)).sum() / (len(gap) * len(lag_s) * (len(lag_s) - 1))


def _directions(streams: Tensor) -> Tensor:
    """(B, T, 2, d) to (B, 2, T, d) of length 1."""
    return F.normalize(streams.float().transpose(1, 2), dim=3)
