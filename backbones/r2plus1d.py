"""R(2+1)D-18 trained on Kinetics-400 (Tran et al. 2018), pooled: torchvision's weights, KINETICS400_V1.

torchvision's own transform for this network resizes tensors without antialiasing; views here resize as PIL does, as the LLP
script did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backbones.layouts import Layout, by_layout
from backbones.registry import register
from backbones.spec import KINETICS_MEAN, KINETICS_STD, Backbone, Frames, State, Weights

if TYPE_CHECKING:
    import torch

VIEW = Frames(count=16, resize=(128, 171), crop=112, mean=KINETICS_MEAN, std=KINETICS_STD)
# what the LLP 3-D feature was made from: the eight samples of a second, squashed, not cropped
LLP_VIEW = Frames(count=8, resize=(112, 112), crop=None, mean=KINETICS_MEAN, std=KINETICS_STD)


def _build() -> torch.nn.Module:
    from torch import nn
    from torchvision.models.video import r2plus1d_18

    from backbones.nets.frames import Clip

    net: nn.Module = r2plus1d_18(weights=None)
    net.fc = nn.Identity()
    return Clip(net)


def _without_classifier(state: State) -> State:
    return {f"net.{key}": tensor for key, tensor in state.items() if not key.startswith("fc.")}


def _adapt(states: tuple[State, ...]) -> State:
    return by_layout(states[0], (Layout("torchvision", "layer1.0.conv1.0.0.weight", _without_classifier),))


register(
    Backbone(
        name="r2plus1d_18",
        view=VIEW,
        dims=(512,),
        build=_build,
        weights=(
            (
                Weights(
                    uri="https://download.pytorch.org/models/r2plus1d_18-91a641e6.pth",
                    sha256="91a641e6",
                    licence="BSD-3-Clause",
                    note="trained on Kinetics-400",
                ),
            ),
        ),
        adapt=_adapt,
        batch=2,
        params=31_300_125,
        gmacs=40.52,
        paper="Tran et al. 2018, A Closer Look at Spatiotemporal Convolutions for Action Recognition",
        note="after global average pooling, before the classifier; 20.3 GMAC on the eight frames of LLP",
    )
)
