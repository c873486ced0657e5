"""AVEL: audio-guided attention, one recurrent layer per modality, and a class per second."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from extract.errors import PlanError
from pipelines.parsing.models.guided import LSTM_WIDTH, Guided, Supervision, bidirectional, supervision_of, xavier
from pipelines.parsing.outputs import Located


class AVEL(Guided):
    """The network of the paper that brought the AVE dataset, for weak and for full supervision.

    Parameters
    ----------
    classes
        with the background
    audio, visual
        numbers per second of sound, and per region of a picture
    regions
        of each picture: 49 for a 7 x 7 map
    supervision
        ``weak``: learns from the class of a clip, through :meth:`pool`; ``full``: from the class of each second. The
        parameters are the same: 1 335 246 with the defaults

    Raises
    ------
    UnknownName
        `supervision` is neither
    PlanError
        a size is not positive

    Notes
    -----
    Source: Tian et al., "Audio-visual event localization in unconstrained videos" (ECCV 2018); YapengTian/AVE-ECCV18
    (93f843f), ``att_Net`` of ``models_weakly.py`` and ``models.py``, whose parameter names it has. Linear weights start
    xavier-uniform; biases and the recurrent layers as torch does it. Clips may have any number of seconds.
    """

    def __init__(
        self,
        *,
        classes: int = 29,
        audio: int = 128,
        visual: int = 512,
        regions: int = 49,
        supervision: Supervision = "weak",
    ) -> None:
        super().__init__(audio=audio, visual=visual, regions=regions)
        self.supervision = supervision_of(supervision)
        self.lstm_audio = bidirectional(audio)
        self.lstm_video = bidirectional(visual)
        self.L1 = nn.Linear(4 * LSTM_WIDTH, 64)
        self.L2 = nn.Linear(64, classes)
        xavier(*self.attention_layers(), self.L1, self.L2)

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
            ``score``: with weak supervision any real number, for :meth:`pool`; with full supervision probabilities that
            sum to 1 over the classes, as published. ``fused`` is (B, T, 512), at least 0

        Raises
        ------
        PlanError
            a shape does not fit
        """
        seen = self.attend(audio, visual)
        fused = torch.cat((self.lstm_audio(audio)[0], self.lstm_video(seen)[0]), dim=2).relu()
        score: Tensor = self.L2(self.L1(fused).relu())
        return Located(score.softmax(dim=2) if self.supervision == "full" else score, fused)

    def pool(self, score: Tensor, where: Tensor | None = None) -> Tensor:
        """Probabilities of the classes of a clip, or of a part of one: softmax of the largest score over time.

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
                "AVEL for full supervision scores seconds, not clips; make it with supervision 'weak' to pool"
            )
        if where is not None:
            score = score.masked_fill(~where.unsqueeze(2), float("-inf"))
        return score.max(dim=1).values.softmax(dim=1)
