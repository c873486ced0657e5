"""ResNet-18 to -152 trained on ImageNet (He et al. 2016), pooled: torchvision's first weights, IMAGENET1K_V1.

ResNet-152 with these weights is the 2-D feature of LLP (there taken from pretrainedmodels, which serves the same trained
weights in an older serialisation).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from backbones.layouts import Layout, by_layout
from backbones.registry import register
from backbones.spec import Backbone, Frames, State, Weights

if TYPE_CHECKING:
    import torch

VIEW = Frames(count=1, resize=256, crop=224)
_HOST = "https://download.pytorch.org/models/"
_LICENCE = "BSD-3-Clause"
_NOTE = "trained on ImageNet, whose images are for non-commercial research"


def _build(depth: int) -> torch.nn.Module:
    import torchvision
    from torch import nn

    from backbones.nets.frames import OneFrame

    net: nn.Module = getattr(torchvision.models, f"resnet{depth}")(weights=None)
    net.fc = nn.Identity()
    return OneFrame(net)


def _without_classifier(state: State) -> State:
    heads = ("fc.", "last_linear.")
    return {f"net.{key}": tensor for key, tensor in state.items() if not key.startswith(heads)}


def _adapt(states: tuple[State, ...]) -> State:
    return by_layout(states[0], (Layout("torchvision", "layer1.0.conv1.weight", _without_classifier),))


def _file(name: str) -> Weights:
    digest = name.removesuffix(".pth").rpartition("-")[2]
    return Weights(uri=_HOST + name, sha256=digest, licence=_LICENCE, note=_NOTE)


for _depth, _dims, _params, _gmacs, _files in (
    (18, 512, 11_176_512, 1.81, ("resnet18-f37072fd.pth", "resnet18-5c106cde.pth")),
    (34, 512, 21_284_672, 3.66, ("resnet34-b627a593.pth", "resnet34-333f7ec4.pth")),
    (50, 2048, 23_508_032, 4.09, ("resnet50-0676ba61.pth", "resnet50-19c8e357.pth")),
    (101, 2048, 42_500_160, 7.80, ("resnet101-63fe2227.pth", "resnet101-5d3b4d8f.pth")),
    (152, 2048, 58_143_808, 11.51, ("resnet152-394f9c45.pth", "resnet152-b121ed2d.pth")),
):
    register(
        Backbone(
            name=f"resnet{_depth}",
            view=VIEW,
            dims=(_dims,),
            build=partial(_build, _depth),
            weights=(tuple(_file(name) for name in _files),),
            adapt=_adapt,
            batch=10,
            params=_params,
            gmacs=_gmacs,
            paper="He et al. 2016, Deep Residual Learning for Image Recognition",
            note="after global average pooling, before the classifier",
        )
    )
