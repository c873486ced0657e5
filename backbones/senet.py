"""SENet-154 trained on ImageNet (Hu et al. 2018), pooled: one of the five visual networks of the MTSM paper.

The network is timm's ``legacy_senet154``, which is that of Cadene's pretrainedmodels with the same keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backbones.layouts import Layout, by_layout
from backbones.registry import register
from backbones.spec import Backbone, Frames, State, Weights

if TYPE_CHECKING:
    import torch

VIEW = Frames(count=1, resize=256, crop=224)
_NOTE = "trained on ImageNet, whose images are for non-commercial research"


def _build() -> torch.nn.Module:
    import timm

    from backbones.nets.frames import OneFrame

    return OneFrame(timm.create_model("legacy_senet154", pretrained=False, num_classes=0))


def _without_classifier(state: State) -> State:
    return {f"net.{key}": tensor for key, tensor in state.items() if not key.startswith("last_linear.")}


def _adapt(states: tuple[State, ...]) -> State:
    layout = Layout("pretrainedmodels and timm", "layer1.0.se_module.fc1.weight", _without_classifier)
    return by_layout(states[0], (layout,))


register(
    Backbone(
        name="senet154",
        view=VIEW,
        dims=(2048,),
        build=_build,
        weights=(
            (
                Weights(
                    uri="https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
                    "legacy_senet154-e9eb9fe6.pth",
                    sha256="e9eb9fe6",
                    licence="Apache-2.0",
                    note=f"timm's copy of senet154-c7b49a05.pth, not compared tensor by tensor; {_NOTE}",
                ),
                Weights(
                    uri="http://data.lip6.fr/cadene/pretrainedmodels/senet154-c7b49a05.pth",
                    sha256="c7b49a05",
                    licence="BSD-3-Clause",
                    note=f"the Caffe model of hujie-frank/SENet, converted; {_NOTE}",
                ),
            ),
        ),
        adapt=_adapt,
        batch=20,
        params=113_039_984,
        gmacs=20.69,
        paper="Hu et al. 2018, Squeeze-and-Excitation Networks",
        note="after global average pooling, before the classifier",
    )
)
