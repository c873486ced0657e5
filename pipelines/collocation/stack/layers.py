"""HAN's arithmetic for K parsers at once: weights and streams have the parser as their first axis.

The definition is :mod:`pipelines.parsing.models.han`; the tests hold the two equal. Nothing here mixes parsers: products
are one per parser, and everything else goes number by number or along a parser's own axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.parsing.outputs import Parsed

Drop = Callable[[Tensor], Tensor]
HEADS = ("fc_prob", "fc_frame_att", "fc_av_att")
_STEPS = 2**16


@dataclass(frozen=True, slots=True)
class Shape:
    """What K parsers have in common.

    Parameters
    ----------
    heads
        of attention
    layers
        numbers of the encoder's layers, as in the names of their parameters
    """

    heads: int
    layers: tuple[str, ...]


class Dropout:
    """Masks of K parsers: each parser's are drawn from its own seed, so they do not depend on the others in the stack.

    On the CPU a parser gets the masks that :func:`pipelines.parsing.models.dropout.drop` draws for it alone after
    ``torch.manual_seed`` with the same seed: 16 random bits per number, four numbers to a draw, one site after another. On
    other devices the rule is the same, and the masks are others than torch's own.

    Parameters
    ----------
    seeds
        K of them
    share
        of the numbers that become 0, to the nearest 1/65536; the others grow by 1 / (1 - share)
    device
        where the masks are needed
    """

    def __init__(self, seeds: Sequence[int], share: float, device: torch.device) -> None:
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self._dropped, self._device = round(share * _STEPS), device

    def __call__(self, values: Tensor) -> Tensor:
        """Drop numbers of (K, ...); the gradient passes where they are kept."""
        if not self._dropped:
            return values
        count = values[0].numel()
        drawn = torch.empty(len(values), math.ceil(count / 4), dtype=torch.int64, device=self._device)
        for row, generator in zip(drawn, self._generators, strict=True):
            row.random_(-(2**63), None, generator=generator)
        kept = drawn.view(torch.int16)[:, :count] >= self._dropped - _STEPS // 2
        return values * kept.view(values.shape).to(values.dtype).mul_(_STEPS / (_STEPS - self._dropped))


def nothing_dropped(values: Tensor) -> Tensor:
    """In place of :class:`Dropout` where nothing is trained."""
    return values


def project(rows: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    """The first layers of G parsers that read the same rows, as one product.

    Parameters
    ----------
    rows
        (B, T, d)
    weight, bias
        (G, width, d), (G, width)

    Returns
    -------
    tuple
        G of (B, T, width)
    """
    told = F.linear(rows, weight.flatten(0, 1), bias.flatten())
    return told.view(*rows.shape[:2], *bias.shape).unbind(2)


def linear(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(K, ..., m) from values (K, ..., n), weights (K, n, m) and biases (K, m): each parser's own product.

    Weights lie the other way round than in nn.Linear, for only so their gradient comes out in their own layout; in the
    other one torch copies it.
    """
    flat = torch.baddbmm(bias[:, None], values.flatten(1, -2), weight)
    return flat.view(*values.shape[:-1], -1)


def turned(weight: Tensor) -> Tensor:
    """A matrix as :func:`linear` takes it from one of nn.Linear, and back; vectors stay."""
    return weight.T if weight.ndim == 2 else weight


def parse(weights: Mapping[str, Tensor], heard: Tensor, seen: Tensor, shape: Shape, drop: Drop) -> Parsed:
    """From the first layers to probabilities.

    Parameters
    ----------
    weights
        by HAN's names, (K, ...) each; matrices as :func:`linear` takes them
    heard
        (K, B, T, width): the audio slot after its first layer
    seen
        (K, B, T, width) of the visual slot; (K, B, T, 2 width) where a clip-level one is joined to it
    shape
        of the parsers
    drop
        :class:`Dropout`, or :func:`nothing_dropped`

    Returns
    -------
    Parsed
        as HAN gives it, with K as another first axis: ``frame`` is (K, B, T, 2, C)
    """
    before = torch.stack((heard, _through(weights, "fc_fusion", seen)), dim=1)
    after = before
    for number in shape.layers:
        after = _layer(weights, f"hat_encoder.layers.{number}", after, shape, drop)
    weight, bias = (torch.cat([weights[f"{head}.{kind}"] for head in HEADS], dim=-1) for kind in ("weight", "bias"))
    event, time, modality = _by_second(linear(after, weight, bias)).chunk(len(HEADS), dim=-1)
    return Parsed(event.sigmoid(), time, modality, _by_second(before), _by_second(after))


def _layer(weights: Mapping[str, Tensor], name: str, streams: Tensor, shape: Shape, drop: Drop) -> Tensor:
    """(K, 2, B, T, width) of the same."""
    added = drop(_attention(weights, f"{name}.self_attn", streams, shape, drop, crossed=False))
    added = added + drop(_attention(weights, f"{name}.cm_attn", streams, shape, drop, crossed=True))
    streams = _norm(weights, f"{name}.norm1", streams + added)
    inner = drop(F.relu(_through(weights, f"{name}.linear1", streams)))
    return _norm(weights, f"{name}.norm2", streams + drop(_through(weights, f"{name}.linear2", inner)))


def _attention(
    weights: Mapping[str, Tensor], name: str, streams: Tensor, shape: Shape, drop: Drop, *, crossed: bool
) -> Tensor:
    projected = linear(streams, weights[f"{name}.in_proj_weight"], weights[f"{name}.in_proj_bias"])
    by_head = projected.view(*streams.shape[:-1], 3, shape.heads, -1)
    query, key, value = by_head.permute(4, 0, 1, 2, 5, 3, 6)
    if crossed:
        key, value = key.flip(1), value.flip(1)
    scores = query @ (key.transpose(-1, -2) * key.shape[-1] ** -0.5)
    mixed = drop(scores.softmax(dim=-1)) @ value
    return _through(weights, f"{name}.out_proj", mixed.transpose(-3, -2).reshape(streams.shape))


def _through(weights: Mapping[str, Tensor], name: str, values: Tensor) -> Tensor:
    return linear(values, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _norm(weights: Mapping[str, Tensor], name: str, values: Tensor) -> Tensor:
    weight, bias = (weights[f"{name}.{kind}"][:, None, None, None].to(values.dtype) for kind in ("weight", "bias"))
    return torch.addcmul(bias, F.layer_norm(values, values.shape[-1:]), weight)


def _by_second(streams: Tensor) -> Tensor:
    """(K, 2, B, T, n) as (K, B, T, 2, n), in float32 at least."""
    return streams.permute(0, 2, 3, 1, 4).to(torch.promote_types(streams.dtype, torch.float32))
