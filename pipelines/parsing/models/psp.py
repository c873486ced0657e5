"""PSP: positive sample propagation, each second of one modality gathers what agrees with it in the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from extract.errors import PlanError
from pipelines.parsing.models.guided import (
    LSTM_WIDTH,
    Guided,
    Supervision,
    bidirectional,
    fitting,
    supervision_of,
    xavier,
)
from pipelines.parsing.outputs import Located

NARROW, WIDE = LSTM_WIDTH, 2 * LSTM_WIDTH
"""Widths of the streams before and after the recurrent layers."""

THRESHOLDS: dict[Supervision, float] = {"weak": 0.095, "full": 0.099}
"""What a connection must exceed to stay, as published for clips of 10 seconds."""


class PSP(nn.Module):
    """Attention, one recurrent layer per modality, positive sample propagation, and a class per second.

    Parameters
    ----------
    classes
        with the background
    audio, visual
        numbers per second of sound, and per region of a picture
    regions
        of each picture: 49 for a 7 x 7 map
    supervision
        ``weak``: learns from the classes of a clip, through :meth:`pool`; ``full``: from the class of each second. They
        are two networks: their parameters differ
    threshold
        0..1: connections that are not stronger are cut; None: the published one, 0.095 (weak) or 0.099 (full)
    threshold_seconds
        length of the clips that the threshold was chosen for. In clips of T seconds it is
        ``threshold * threshold_seconds / T``, so that a second that agrees alike with all others stays connected at any
        T (above 1, all is cut); None: the same at any T
    dropout
        0..1, while training, after each activation of the propagation

    Raises
    ------
    UnknownName
        `supervision` is neither
    PlanError
        a size is not positive, or the threshold is outside 0..1

    Notes
    -----
    Source: Zhou et al., "Positive sample propagation along the audio-visual event line" (CVPR 2021);
    jasongief/PSP_CVPR_2021 (ddd20f3), ``weakly_model.py`` and ``fully_model.py``, whose parameter names it has.

    With the defaults 1 253 902 parameters (weak) and 1 548 657 (full). The official networks count 1 254 251 and
    1 667 251, because they also hold parameters that nothing uses: temperature, W1 and W2 (weak, 349 in all), linear_v,
    v_classify, a_classify, L3 and L4 (full, 118 594).

    The weights of the attention, of the propagation, and of L1 and L2 start xavier-uniform; the recurrent layers, biases,
    and linear_v, W3, fa and fv as torch does it. That code knows clips of 10 seconds only; `threshold_seconds` is ours
    and changes nothing there.
    """

    def __init__(
        self,
        *,
        classes: int = 29,
        audio: int = 128,
        visual: int = 512,
        regions: int = 49,
        supervision: Supervision = "weak",
        threshold: float | None = None,
        threshold_seconds: int | None = 10,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.supervision = supervision_of(supervision)
        self.threshold = THRESHOLDS[self.supervision] if threshold is None else threshold
        if not 0 <= self.threshold < 1:
            raise PlanError(f"the threshold of PSP is {self.threshold}; it must lie in 0..1, below 1")
        if threshold_seconds is not None and threshold_seconds < 1:
            raise PlanError(f"threshold_seconds is {threshold_seconds}; it must be at least 1, or None")
        self.threshold_seconds = threshold_seconds
        self.audio = audio
        full = self.supervision == "full"
        heard = NARROW if full else audio
        self.attention = Guided(audio=heard, visual=visual, regions=regions)
        if full:
            self.fa = _reduction(audio)
            self.fv = _reduction(visual)
        else:
            self.linear_v = nn.Linear(visual, NARROW)
            self.W3 = nn.Linear(classes, 1, bias=False)
        self.lstm_a_v = nn.ModuleDict({"lstm_audio": bidirectional(heard), "lstm_video": bidirectional(NARROW)})
        self.psp = Propagation(WIDE, project=full, dropout=dropout)
        self.L1 = nn.Linear(WIDE, 64, bias=False)
        self.L2 = nn.Linear(64, classes, bias=False)
        xavier(*self.attention.attention_layers(), self.L1, self.L2)

    def forward(self, audio: Tensor, visual: Tensor) -> Located:
        """A score of each class in each second.

        Parameters
        ----------
        audio
            (B, T, A)
        visual
            (B, T, H, W, D) or (B, T, HW, D)

        Returns
        -------
        Located
            ``score`` is any real number. With weak supervision it is the one after the temporal weight, a factor in
            0.5..1 of each second: the official code takes the class of a second from it, which a positive factor does not
            change, and :meth:`pool` the classes of a clip, which it does. ``fused`` is (B, T, 256). ``cross``, with full
            supervision only, is the cosine of both streams of a second, -1..1; the official loss cuts it at 0 and
            normalises it over time itself

        Raises
        ------
        PlanError
            a shape does not fit
        """
        maps = fitting(self.attention, audio, visual, self.audio)
        full = self.supervision == "full"
        heard = self.fa(audio) if full else audio
        seen = self.attention.attend(heard, maps)
        seen = self.fv(seen) if full else self.linear_v(seen)
        heard = self.lstm_a_v["lstm_audio"](heard)[0]
        seen = self.lstm_a_v["lstm_video"](seen)[0]
        heard, seen = self.psp(heard, seen, self.threshold_at(audio.shape[1]))
        fused = (heard + seen) / 2
        score: Tensor = self.L2(self.L1(fused).relu())
        if full:
            return Located(score, fused, functional.cosine_similarity(heard, seen, dim=2))
        return Located(score * self.W3(score).relu().sigmoid(), fused)

    def threshold_at(self, seconds: int) -> float:
        """The threshold in clips of that many seconds."""
        return self.threshold if self.threshold_seconds is None else self.threshold * (self.threshold_seconds / seconds)

    def pool(self, score: Tensor, where: Tensor | None = None) -> Tensor:
        """Probabilities of the classes of a clip, or of a part of one: softmax of the mean score over time.

        Parameters
        ----------
        score
            (B, T, C), of a network for weak supervision
        where
            (B, T) bool, at least one True per clip (else its row is NaN): only these seconds; None: all

        Returns
        -------
        Tensor
            (B, C), sums to 1 over the classes

        Raises
        ------
        PlanError
            the network is for full supervision
        """
        if self.supervision == "full":
            raise PlanError(
                "PSP for full supervision scores seconds, not clips; make it with supervision 'weak' to pool"
            )
        if where is None:
            return score.mean(dim=1).softmax(dim=1)
        kept = where.unsqueeze(2)
        return (score.masked_fill(~kept, 0).sum(dim=1) / kept.sum(dim=1)).softmax(dim=1)


class Propagation(nn.Module):
    """Adds to each second of one modality the seconds of the other that agree with it most.

    Parameters
    ----------
    width
        d, of both streams
    project
        True, for full supervision: connections that stay are normalised again, and each stream passes a layer before the
        normalisation; False, for weak supervision: neither
    dropout
        0..1, while training

    Notes
    -----
    All linear weights start xavier-uniform. One normalisation serves both streams.
    """

    def __init__(self, width: int, *, project: bool, dropout: float) -> None:
        super().__init__()
        self.project = project
        self.v_L1 = nn.Linear(width, width, bias=False)
        self.v_L2 = nn.Linear(width, width, bias=False)
        self.a_L1 = nn.Linear(width, width, bias=False)
        self.a_L2 = nn.Linear(width, width, bias=False)
        xavier(self.v_L1, self.v_L2, self.a_L1, self.a_L2)
        if project:
            self.v_fc = nn.Linear(width, width, bias=False)
            self.a_fc = nn.Linear(width, width, bias=False)
            xavier(self.v_fc, self.a_fc)
        self.dropout = nn.Dropout(dropout)
        self.layer_norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, heard: Tensor, seen: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
        """(B, T, d) and (B, T, d), sound and picture, to the same of the same shapes."""
        v1, v2 = self._layer(self.v_L1, seen), self._layer(self.v_L2, seen)
        a1, a2 = self._layer(self.a_L1, heard), self._layer(self.a_L2, heard)
        agreement = (v2 @ a1.transpose(1, 2)).relu() / v2.shape[2] ** 0.5
        to_picture = connections(agreement, threshold, renormalise=self.project)
        to_sound = connections(agreement.transpose(1, 2), threshold, renormalise=self.project)
        seen = seen + to_picture.to(a2.dtype) @ a2
        heard = heard + to_sound.to(v1.dtype) @ v1
        if self.project:
            seen, heard = self._layer(self.v_fc, seen), self._layer(self.a_fc, heard)
        return self.layer_norm(heard), self.layer_norm(seen)

    def _layer(self, linear: nn.Linear, stream: Tensor) -> Tensor:
        dropped: Tensor = self.dropout(linear(stream).relu())
        return dropped


def connections(agreement: Tensor, threshold: float, *, renormalise: bool) -> Tensor:
    """How much each second takes from each second of the other modality.

    Parameters
    ----------
    agreement
        (B, T, T), at least 0
    threshold
        0..1: shares of a row that are not larger become 0
    renormalise
        True: what stays of a row sums to 1 again; False: it keeps its share of the whole row

    Returns
    -------
    Tensor
        (B, T, T), 0..1, at least float32; rows of zeros where nothing agrees or nothing stays
    """
    wide = agreement.to(torch.promote_types(agreement.dtype, torch.float32))
    shares = wide / (wide.sum(dim=2, keepdim=True) + 1e-8)
    kept = shares.masked_fill(shares <= threshold, 0)
    return kept / (kept.sum(dim=2, keepdim=True) + 1e-8) if renormalise else kept


def _reduction(inputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, WIDE, bias=False), nn.Linear(WIDE, NARROW, bias=False))
