"""The hybrid attention network (HAN) of audio-visual video parsing, published as MMIL_Net."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extract.errors import PlanError, nearest
from pipelines.parsing.models.dropout import drop
from pipelines.parsing.outputs import Parsed

EncoderCompat = Literal["official", "chained"]
POOLED_ROWS = 8
"""Rows per second of the published visual features: one per frame at 8 frames a second."""


class HAN(nn.Module):
    """Says for every second which classes are heard and which are seen.

    Audio and visual features become two streams of `width` numbers per second; layers of self- and cross-attention with one
    set of weights for both streams mix them; three linear heads give probabilities and the two poolings.

    Parameters
    ----------
    classes
        C
    audio, visual
        numbers per second (or per frame) of the features
    clip
        numbers per second of a third feature, joined to the visual stream (R(2+1)D in the paper); None: there is none. The
        fusion then takes the projected visual numbers alone, `width` instead of 2 `width`: the published network with
        the columns of the third feature cut off
    width, layers, heads, feedforward, dropout
        of the encoder
    encoder_compat
        ``official``: every layer of the published encoder reads the streams that enter the first, so only the last one
        counts. It is the only one built here, under its published number. ``chained``: each layer reads the one before
    visual_dropout
        probability of dropping a number of the visual stream before the heads (0.5 in JoMoLD)

    Raises
    ------
    PlanError
        a number out of its range, or a `width` that `heads` do not divide
    UnknownName
        no such `encoder_compat`

    Notes
    -----
    Source: Tian, Li, Xu, "Unified multisensory perception: weakly-supervised audio-visual video parsing", ECCV 2020;
    YapengTian/AVVP-ECCV20 (fde5611), ``nets/net_audiovisual.py``. Parameters have its names; its modules that no output
    depends on are absent (:mod:`pipelines.parsing.models.published` lists them). They start as torch starts the published
    modules: nn.Linear and nn.LayerNorm by their defaults, attention by Xavier's uniform rule for the three projections
    together, the default for the output's weight, and zero biases. The published encoder starts all layers with equal
    weights; here each has its own.
    """

    def __init__(
        self,
        *,
        classes: int = 25,
        audio: int = 128,
        visual: int = 2048,
        clip: int | None = 512,
        width: int = 512,
        layers: int = 1,
        heads: int = 1,
        feedforward: int = 512,
        dropout: float = 0.1,
        encoder_compat: EncoderCompat = "official",
        visual_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = {"classes": classes, "audio": audio, "visual": visual, "clip": 1 if clip is None else clip}
        _check(
            {**sizes, "width": width, "layers": layers, "heads": heads, "feedforward": feedforward},
            {"dropout": dropout, "visual_dropout": visual_dropout},
        )
        if width % heads:
            raise PlanError(f"{heads} heads do not divide a width of {width}; choose heads that do")
        if encoder_compat not in get_args(EncoderCompat):
            raise nearest(encoder_compat, list(get_args(EncoderCompat)), "encoder_compat")
        self.audio, self.visual, self.clip = audio, visual, clip
        self.layers, self.encoder_compat, self.visual_dropout = layers, encoder_compat, visual_dropout
        self.fc_prob = nn.Linear(width, classes)
        self.fc_frame_att = nn.Linear(width, classes)
        self.fc_av_att = nn.Linear(width, classes)
        self.fc_a = nn.Linear(audio, width)
        self.fc_v = nn.Linear(visual, width)
        self.fc_st = None if clip is None else nn.Linear(clip, width)
        self.fc_fusion = nn.Linear(width if clip is None else 2 * width, width)
        numbers = range(layers) if encoder_compat == "chained" else [layers - 1]
        self.hat_encoder = _Encoder({number: _Layer(width, heads, feedforward, dropout) for number in numbers})

    def forward(
        self, audio: Tensor, visual: Tensor, clip: Tensor | None = None, *, cross_attention: bool = True
    ) -> Parsed:
        """Parse B clips of T seconds.

        Parameters
        ----------
        audio
            (B, T, audio)
        visual
            (B, T, visual), or (B, 8 T, visual): the mean of each 8 rows is taken first, which commutes with the projection
        clip
            (B, T, clip) where the network was built with one
        cross_attention
            False: no stream reads the other one (JoMoLD's estimator of noise)

        Returns
        -------
        Parsed
            in float32 also under autocast, for the losses need it

        Raises
        ------
        PlanError
            shapes that do not fit each other or the network, or a clip feature too many or too few
        """
        self._fits(audio, visual, clip)
        if visual.shape[1] != audio.shape[1]:
            visual = visual.reshape(*audio.shape[:2], POOLED_ROWS, self.visual).mean(dim=2)
        seen = self.fc_v(visual)
        if self.fc_st is not None:
            seen = torch.cat((seen, self.fc_st(clip)), dim=-1)
        before = torch.stack((self.fc_a(audio), self.fc_fusion(seen)))
        after = self.hat_encoder(before, cross_attention)
        heads = (self.fc_prob, self.fc_frame_att, self.fc_av_att)
        weight = torch.cat([head.weight for head in heads])
        bias = torch.cat([head.bias for head in heads])
        logits = F.linear(self._drop_visual(after), weight, bias)
        event, time, modality = _by_second(logits).chunk(len(heads), dim=-1)
        return Parsed(event.sigmoid(), time, modality, _by_second(before), _by_second(after))

    def _drop_visual(self, streams: Tensor) -> Tensor:
        if not (self.training and self.visual_dropout):
            return streams
        heard, seen = streams.unbind()
        return torch.stack((heard, drop(seen, self.visual_dropout, True)))

    def _fits(self, audio: Tensor, visual: Tensor, clip: Tensor | None) -> None:
        given = {"audio": audio, "visual": visual} | ({} if clip is None else {"clip": clip})
        if self.clip is None and clip is not None:
            raise PlanError(
                "the network was built without a clip feature and was given one: leave it out, or build with it"
            )
        if self.clip is not None and clip is None:
            raise PlanError(
                f"the network takes a clip feature of {self.clip} numbers per second and was given none; "
                "give it, or build the network with clip=None"
            )
        for name, tensor in given.items():
            wanted = getattr(self, name)
            if tensor.ndim != 3:
                raise PlanError(f"{name} features are (clips, seconds, {wanted}); got {tuple(tensor.shape)}")
            if tensor.shape[2] != wanted:
                raise PlanError(
                    f"the network takes {wanted} {name} numbers per second, the feature has {tensor.shape[2]}; "
                    "choose the feature that it was trained on, or train anew"
                )
        clips, seconds = audio.shape[:2]
        rows = {"visual": (seconds, POOLED_ROWS * seconds), "clip": (seconds,)}
        for name, allowed in rows.items():
            if name in given and (given[name].shape[0] != clips or given[name].shape[1] not in allowed):
                raise PlanError(
                    f"audio has {clips} clips of {seconds} seconds; {name} must have {' or '.join(map(str, allowed))} rows for "
                    f"each, got {given[name].shape[0]} clips of {given[name].shape[1]} rows"
                )


class _Encoder(nn.Module):
    """Layers in the order of their numbers; streams are (2, B, T, width)."""

    def __init__(self, layers: dict[int, _Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({str(number): layer for number, layer in layers.items()})

    def forward(self, streams: Tensor, cross_attention: bool) -> Tensor:
        for layer in self.layers.values():
            streams = layer(streams, cross_attention)
        return streams


class _Layer(nn.Module):
    """Self- and cross-attention added to each stream, then two linear layers; normalised after each sum.

    Both streams go through every product at once, for they share the weights.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = _Attention(width, heads, dropout)
        self.cm_attn = _Attention(width, heads, dropout)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = dropout

    def forward(self, streams: Tensor, cross_attention: bool) -> Tensor:
        added = self._drop(self.self_attn(streams, crossed=False))
        if cross_attention:
            added = added + self._drop(self.cm_attn(streams, crossed=True))
        streams = self.norm1(streams + added)
        inner = self._drop(F.relu(self.linear1(streams)))
        normed: Tensor = self.norm2(streams + self._drop(self.linear2(inner)))
        return normed

    def _drop(self, values: Tensor) -> Tensor:
        return drop(values, self.dropout, self.training)


class _Attention(nn.Module):
    """The parameters of nn.MultiheadAttention, for two streams at once that attend to themselves or to each other."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, streams: Tensor, crossed: bool) -> Tensor:
        """(2, B, T, width) of (2, B, T, width); `crossed`: keys and values are those of the other stream."""
        projected = F.linear(streams, self.in_proj_weight, self.in_proj_bias)
        by_head = projected.view(*streams.shape[:-1], 3, self.heads, -1)
        query, key, value = by_head.permute(3, 0, 1, 4, 2, 5)
        if crossed:
            key, value = key.flip(0), value.flip(0)
        # for ten seconds, plain products take less time than torch's fused attention
        scores = query @ (key.transpose(-1, -2) * key.shape[-1] ** -0.5)
        mixed = drop(scores.softmax(dim=-1), self.dropout, self.training) @ value
        out: Tensor = self.out_proj(mixed.transpose(2, 3).reshape(streams.shape))
        return out


def _by_second(streams: Tensor) -> Tensor:
    """(2, B, T, n) as (B, T, 2, n), in float32 at least."""
    return streams.permute(1, 2, 0, 3).to(torch.promote_types(streams.dtype, torch.float32))


def _check(counts: dict[str, int], shares: dict[str, float]) -> None:
    for name, count in counts.items():
        if count < 1:
            raise PlanError(f"{name} must be at least 1, got {count}")
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise PlanError(f"{name} must be at least 0 and below 1, got {share}")
