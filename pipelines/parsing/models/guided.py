"""Audio-guided visual attention, which all networks of the AVE task begin with."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from extract.errors import PlanError, nearest

Supervision = Literal["weak", "full"]
LSTM_WIDTH = 128
"""Width of each direction of the recurrent layers of all networks."""


class Guided(nn.Module):
    """Looks where the sound says: weighs the regions of each second's picture by what is heard then.

    Parameters
    ----------
    audio, visual
        numbers per second of sound, and per region of a picture
    regions
        of each picture: 49 for a 7 x 7 map
    hidden
        width of the layer in which both meet

    Raises
    ------
    PlanError
        a size is not positive

    Notes
    -----
    Source: Tian et al., "Audio-visual event localization in unconstrained videos" (ECCV 2018); YapengTian/AVE-ECCV18
    (93f843f), ``models.py``. Parameters start as torch does it, uniform within ±1/√inputs; networks that start them
    otherwise say so. As in that code, what the sound adds depends on the region, so the network knows the places of the
    regions and can be used with no other number of them.
    """

    def __init__(self, *, audio: int, visual: int, regions: int, hidden: int = 512) -> None:
        super().__init__()
        for name, size in (("audio", audio), ("visual", visual), ("regions", regions), ("hidden", hidden)):
            if size < 1:
                raise PlanError(f"{name} is {size}; a network of the AVE task needs at least 1")
        self.affine_audio = nn.Linear(audio, hidden)
        self.affine_video = nn.Linear(visual, hidden)
        self.affine_v = nn.Linear(hidden, regions, bias=False)
        self.affine_g = nn.Linear(hidden, regions, bias=False)
        self.affine_h = nn.Linear(regions, 1, bias=False)

    def attention_layers(self) -> tuple[nn.Linear, ...]:
        """The five layers of the attention."""
        return self.affine_audio, self.affine_video, self.affine_v, self.affine_g, self.affine_h

    def attend(self, audio: Tensor, visual: Tensor) -> Tensor:
        """What is seen in each second, at the regions that the sound points to.

        Parameters
        ----------
        audio
            (B, T, A)
        visual
            (B, T, H, W, D) or (B, T, HW, D)

        Returns
        -------
        Tensor
            (B, T, D): averages over the regions, with weights that sum to 1

        Raises
        ------
        PlanError
            a shape does not fit, see :func:`fitting`
        """
        maps = fitting(self, audio, visual, self.affine_audio.in_features).flatten(0, 1)
        # nothing needs the values before these activations again, so both are computed in place
        seen = self.affine_video(maps).relu_()
        heard = self.affine_audio(audio.flatten(0, 1)).relu_()
        both = self.affine_v(seen).add_(self.affine_g(heard).unsqueeze(2)).tanh_()
        weights = self.affine_h(both).squeeze(2).softmax(dim=1)
        attended: Tensor = (weights.unsqueeze(1) @ maps).squeeze(1)
        return attended.reshape(*audio.shape[:2], -1)


def fitting(attention: Guided, audio: Tensor, visual: Tensor, heard: int) -> Tensor:
    """The maps as (B, T, HW, D), without a copy where they lie in one piece, once all shapes are known to fit.

    Parameters
    ----------
    attention
        that the maps are for
    audio, visual
        (B, T, `heard`), and (B, T, H, W, D) or (B, T, HW, D)
    heard
        numbers per second of sound that the network was made for

    Raises
    ------
    PlanError
        a slot has another shape than the network wants; the message names the slot and both shapes
    """
    if audio.ndim != 3 or audio.shape[2] != heard:
        raise PlanError(
            f"slot 'audio' has the shape {tuple(audio.shape)}; this network wants (clips, seconds, {heard}): "
            "give it the features that it was made for, or make one for these"
        )
    regions, seen = attention.affine_g.out_features, attention.affine_video.in_features
    got = tuple(visual.shape)
    maps = visual.flatten(2, 3) if visual.ndim == 5 else visual
    if maps.ndim != 4 or maps.shape[2:] != (regions, seen):
        raise PlanError(
            f"slot 'visual' has the shape {got}; this network wants (clips, seconds, {regions}, {seen}) or, with height "
            f"x width = {regions}, (clips, seconds, height, width, {seen}): give it the maps that it was made for, or "
            "make one for these"
        )
    if maps.shape[:2] != audio.shape[:2]:
        raise PlanError(
            f"slot 'visual' holds {got[0]} clips of {got[1]} seconds; slot 'audio' holds {audio.shape[0]} of "
            f"{audio.shape[1]}: both must hold the same clips and seconds"
        )
    return maps


def bidirectional(inputs: int) -> nn.LSTM:
    """One recurrent layer over the seconds of a clip, both ways, from zero: (B, T, `inputs`) -> (B, T, 256).

    Its parameters start as torch does it, uniform within ±1/√128.
    """
    return nn.LSTM(inputs, LSTM_WIDTH, batch_first=True, bidirectional=True)


def xavier(*layers: nn.Linear) -> None:
    """Xavier-uniform weights; biases stay as they are."""
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)


def supervision_of(name: str) -> Supervision:
    """``weak`` or ``full``.

    Raises
    ------
    UnknownName
        neither
    """
    if name == "weak":
        return "weak"
    if name == "full":
        return "full"
    raise nearest(name, ["weak", "full"], "supervision")
