"""VGG-19 trained on ImageNet (Simonyan & Zisserman 2015), with and without batch normalisation: torchvision's weights.

``vgg19_bn`` with its last layer taken away is the visual feature of the MTSM paper, and what the LLP script makes with
``--model vgg19_bn``: 4096 values after the second ReLU of the classifier. What the AVE features were made with are other
weights, see ``vgg19_ave``.
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
PAPER = "Simonyan & Zisserman 2015, Very Deep Convolutional Networks for Large-Scale Image Recognition"

_FC7 = "after the ReLU of the second fully connected layer (fc7), before the classifier"
_POOL5 = (
    "maps of the last pooling, channels last (height, width, channels), as AVE's are; torchvision gives (512, 7, 7)"
)


def _build_fc7(name: str) -> torch.nn.Module:
    import torchvision

    from backbones.nets.vgg import Fc7

    return Fc7(getattr(torchvision.models, name)(weights=None, init_weights=False))


def _build_pool5(name: str) -> torch.nn.Module:
    import torchvision

    from backbones.nets.vgg import Pool5

    return Pool5(getattr(torchvision.models, name)(weights=None, init_weights=False))


def _adapt(name: str, mark: str, head: str, states: tuple[State, ...]) -> State:
    """`mark` is a key of this variant only; the layers of the published file that begin with `head` are not used."""

    def without_head(state: State) -> State:
        return {key: tensor for key, tensor in state.items() if not key.startswith(head)}

    return by_layout(states[0], (Layout(f"torchvision's {name}", mark, without_head),))


for _name, _file, _mark, _norms in (
    ("vgg19", "vgg19-dcbb9e9d.pth", "features.2.weight", 0),
    ("vgg19_bn", "vgg19_bn-c79401a0.pth", "features.1.running_mean", 11_008),
):
    for _suffix, _dims, _build, _head, _params, _gmacs, _note in (
        ("", (4096,), _build_fc7, "classifier.6.", 139_570_240, 19.63, _FC7),
        ("_pool5", (7, 7, 512), _build_pool5, "classifier.", 20_024_384, 19.51, _POOL5),
    ):
        register(
            Backbone(
                name=_name + _suffix,
                view=VIEW,
                dims=_dims,
                build=partial(_build, _name),
                weights=(
                    (
                        Weights(
                            uri=f"https://download.pytorch.org/models/{_file}",
                            sha256=_file.removesuffix(".pth").rpartition("-")[2],
                            licence="BSD-3-Clause",
                            note="trained on ImageNet, whose images are for non-commercial research",
                        ),
                    ),
                ),
                adapt=partial(_adapt, _name, _mark, _head),
                batch=10,
                params=_params + _norms,
                gmacs=_gmacs,
                paper=PAPER,
                note=_note,
            )
        )
