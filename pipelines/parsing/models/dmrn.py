"""DMRN: AVEL's attention and recurrent layers, and a residual fusion of both modalities."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from extract.errors import PlanError
from pipelines.parsing.models.guided import LSTM_WIDTH, Guided, Supervision, bidirectional, supervision_of, xavier
from pipelines.parsing.outputs import Located

SHARED = ("affine_audio", "affine_video", "affine_v", "affine_g", "affine_h", "lstm_audio", "lstm_video")
"""Layers that it has in common with AVEL."""


class DMRN(Guided):
    """The dual multimodal residual network, for full supervision.

    Parameters
    ----------
    classes
        with the background
    audio, visual
        numbers per second of sound, and per region of a picture
    regions
        of each picture: 49 for a 7 x 7 map
    supervision
        ``full``; there is no other

    Raises
    ------
    UnknownName
        no such supervision
    PlanError
        `supervision` is ``weak``, or a size is not positive

    Notes
    -----
    Source: Tian et al., "Audio-visual event localization in unconstrained videos" (ECCV 2018); YapengTian/AVE-ECCV18
    (93f843f), ``TBMRF_Net`` of ``models_fusion.py`` with one block, whose parameter names it has. The weights of the
    classes start xavier-uniform, all else as torch does it. The published network did not start so: it was an AVEL for
    full supervision, trained on (README of that code). See :meth:`start_from`.
    """

    def __init__(
        self,
        *,
        classes: int = 29,
        audio: int = 128,
        visual: int = 512,
        regions: int = 49,
        supervision: Supervision = "full",
    ) -> None:
        super().__init__(audio=audio, visual=visual, regions=regions)
        if supervision_of(supervision) == "weak":
            raise PlanError("DMRN is made for full supervision only; choose 'full', or AVEL or PSP for 'weak'")
        self.lstm_audio = bidirectional(audio)
        self.lstm_video = bidirectional(visual)
        width = 2 * LSTM_WIDTH
        self.U_v = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))
        self.U_a = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))
        self.L2 = nn.Linear(width, classes)
        xavier(self.L2)

    def start_from(self, trained: Mapping[str, Tensor]) -> int:
        """Takes attention and recurrent layers from an AVEL, as the published DMRN was trained; how many tensors.

        Parameters
        ----------
        trained
            weights of an AVEL with the same sizes of audio, visual and regions; its classes may differ

        Raises
        ------
        PlanError
            a size differs
        """
        found = {key: value for key, value in trained.items() if key.split(".")[0] in SHARED}
        mine = self.state_dict()
        for key, value in found.items():
            if value.shape != mine[key].shape:
                raise PlanError(
                    f"{key} of AVEL has the shape {tuple(value.shape)}; DMRN wants {tuple(mine[key].shape)}: train AVEL "
                    "on the same features"
                )
        self.load_state_dict(mine | found)
        return len(found)

    def forward(self, audio: Tensor, visual: Tensor) -> Located:
        """A probability of each class in each second.

        Parameters
        ----------
        audio
            (B, T, A)
        visual
            (B, T, H, W, D) or (B, T, HW, D)

        Returns
        -------
        Located
            ``score`` sums to 1 over the classes, as published; ``fused`` is (B, T, 256), -1..1

        Raises
        ------
        PlanError
            a shape does not fit
        """
        seen = self.lstm_video(self.attend(audio, visual))[0]
        heard = self.lstm_audio(audio)[0]
        merged = (self.U_v(seen) + self.U_a(heard)) / 2
        fused = ((heard + merged).tanh() + (seen + merged).tanh()) / 2
        return Located(self.L2(fused).softmax(dim=2), fused)
