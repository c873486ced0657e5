"""R(2+1)D (Tran et al. 2018), pooled: 18 layers trained on Kinetics-400 (torchvision's weights, KINETICS400_V1), and 34
layers trained on 65 million Instagram videos (Ghadiyaram et al. 2019), as such or fine-tuned on Kinetics-400.

torchvision's own transform for the smaller one resizes tensors without antialiasing; its view here resizes as PIL does, as the
LLP script did. The views of the larger ones scale as moabitcoin/ig65m-pytorch does, which publishes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backbones.layouts import Layout, by_layout
from backbones.registry import register
from backbones.spec import KINETICS_MEAN, KINETICS_STD, Backbone, Frames, State, Weights

if TYPE_CHECKING:
    import torch

VIEW = Frames(count=16, resize=(128, 171), crop=112, mean=KINETICS_MEAN, std=KINETICS_STD)
# what the LLP 3-D feature was made from: the eight samples of a second, squashed, not cropped
LLP_VIEW = Frames(count=8, resize=(112, 112), crop=None, mean=KINETICS_MEAN, std=KINETICS_STD)


_RELEASE = "https://github.com/moabitcoin/ig65m-pytorch/releases/download/v1.0.0/"


def build_18() -> torch.nn.Module:
    """R(2+1)D-18 of torchvision without its classifier; CMAC's visual network has the same layers."""
    from torch import nn
    from torchvision.models.video import r2plus1d_18

    from backbones.nets.frames import Clip

    net: nn.Module = r2plus1d_18(weights=None)
    net.fc = nn.Identity()
    return Clip(net)


def _build_34() -> torch.nn.Module:
    from torch import nn
    from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, R2Plus1dStem, VideoResNet

    from backbones.nets.frames import Clip

    net: Any = VideoResNet(BasicBlock, [Conv2Plus1D] * 4, [3, 4, 6, 3], R2Plus1dStem)
    # where a stage doubles its channels, VMZ counts the middle ones anew for the second convolution and torchvision does not
    for stage, channels, middle in ((net.layer2, 128, 288), (net.layer3, 256, 576), (net.layer4, 512, 1152)):
        stage[0].conv2[0] = Conv2Plus1D(channels, channels, middle)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps = 1e-3  # Caffe2's
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
        build=build_18,
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

for _count, _gmacs, _trained, _file in (
    (8, 38.09, "", "r2plus1d_34_clip8_ig65m_from_scratch-9bae36ae.pth"),
    (8, 38.09, "_kinetics", "r2plus1d_34_clip8_ft_kinetics_from_ig65m-0aa0550b.pth"),
    (32, 152.36, "", "r2plus1d_34_clip32_ig65m_from_scratch-449a7af9.pth"),
    (32, 152.36, "_kinetics", "r2plus1d_34_clip32_ft_kinetics_from_ig65m-ade133f1.pth"),
):
    register(
        Backbone(
            name=f"r2plus1d_34_{_count}{_trained}",
            view=Frames(
                count=_count,
                resize=(128, 171),
                crop=112,
                mean=KINETICS_MEAN,
                std=KINETICS_STD,
                interpolation="linear",
            ),
            dims=(512,),
            build=_build_34,
            weights=(
                (
                    Weights(
                        uri=_RELEASE + _file,
                        sha256=_file.removesuffix(".pth").rpartition("-")[2],
                        licence="Apache-2.0",
                        note=f"trained on IG-65M{', then on Kinetics-400' if _trained else ''}; Facebook's VMZ model "
                        "(Apache-2.0) as converted by moabitcoin/ig65m-pytorch (MIT)",
                    ),
                ),
            ),
            adapt=_adapt,
            window_s=_count / 30,
            batch=2 if _count == 8 else 1,
            params=63_491_975,
            gmacs=_gmacs,
            paper="Ghadiyaram et al. 2019, Large-scale weakly-supervised pre-training for video action recognition",
            note=f"after global average pooling, before the classifier; trained on {_count} frames in a row at 30 per second",
        )
    )
