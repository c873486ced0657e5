"""Very Deep PolyNet trained on ImageNet (Zhang et al. 2017), pooled: one of the five visual networks of the MTSM paper.

The features of Cadene's pretrainedmodels with its ``last_linear`` taken away. Its published accuracy was measured on frames
squashed to 378 x 378; what its transform does otherwise, and what is fed here, keeps their aspect.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from backbones.layouts import Layout, by_layout
from backbones.registry import register
from backbones.spec import Backbone, Frames, State, Weights

if TYPE_CHECKING:
    import torch

VIEW = Frames(count=1, resize=378, crop=331)
ORDERS = 3

_ZIP = "https://github.com/osmr/imgclsmob/releases/download/v0.0.96/polynet-0452-6a1b295d.pth.zip"
_NOTE = "trained on ImageNet, whose images are for non-commercial research"
_EXPIRED = f"the certificate of its host expired in 2022: download it with a browser; {_NOTE}"
_UNZIP = (
    "published as a .zip: unzip it and keep the .pth, whose sha1 is its digest here; "
    f"converted from polynet-f71d82a5.pth; {_NOTE}"
)


Rule = tuple[str, str | Callable[[re.Match[str]], str]]


def _from_zero(match: re.Match[str]) -> str:
    return f"{match[1]}{int(match[2]) - 1}"


def _mixed(match: re.Match[str]) -> str:
    """A poly-3 and a two-way module make one unit there; unit 0 is the reduction."""
    stage, unit, kind = match.groups()
    return f"stage_{'bc'[int(stage) - 2]}.{2 * (int(unit) - 1) + (kind == 'twoway')}.{kind}."


# names of a file to ours, by one rule after the other; a star stands for every order of a poly-3 module
_CADENE: tuple[Rule, ...] = (
    (r"^stem\.conv1\.", "stem."),
    (r"^stem\.conv1_branch\.", "stem.3.1."),
    (r"^stem\.conv2_short\.", "stem.4.0."),
    (r"^stem\.conv2_long\.", "stem.4.1."),
    (r"^stem\.conv2_branch\.", "stem.5.1."),
    (r"^(reduction_[ab])\.path", r"\1."),
    (r"\.blocks\.(\d)\.path", r".branches.\1.0."),
    (r"\.blocks\.(\d)\.conv2d\.", r".branches.\1.1."),
    (r"\.conv2d_blocks\.(\d)\.", r".branches.\1.1."),
    (r"\.path0_1x1\.", ".path0.0."),
    (r"\.path0_1x[37]\.", ".path0.1."),
    (r"\.path0_[37]x1\.", ".path0.2."),
    (r"\.path([\d.]+)\.bn_blocks\.(\d)\.", r".branches.\2.0.\1.bn."),
    (r"\.path([\d.]+)\.conv\.", r".branches.*.0.\1.conv."),
)
_PYTORCHCV: tuple[Rule, ...] = (
    (r"^features\.", ""),
    (r"\b(unit|branch|conv)(\d+)\b", _from_zero),
    (r"^init_block\.conv", "stem."),
    (r"^init_block\.block1\.branches\.branch1\.conv\.", "stem.3.1."),
    (r"^init_block\.block2\.branches\.", "stem.4."),
    (r"^init_block\.block3\.branches\.branch1\.conv\.", "stem.5.1."),
    (r"^stage2\.unit0\.branches\.branch1\.conv_list\.conv0\.", "reduction_a.1."),
    (r"^stage2\.unit0\.branches\.", "reduction_a."),
    (r"^stage3\.unit0\.branches\.", "reduction_b."),
    (r"^stage1\.unit(\d)\.", r"stage_a.\1."),
    (r"^stage([23])\.unit(\d+)\.(poly|twoway)\.", _mixed),
    (r"\.twoway\.res_blocks\.(\d)\.branches\.", r".branches.\1.0."),
    (r"\.twoway\.res_blocks\.(\d)\.conv\.", r".branches.\1.1."),
    (r"\.poly\.res_blocks\.(\d)\.", r".branches.\1.1."),
    (r"\bbranch(\d)\.conv_list\.conv(\d)\.", r"\1.\2."),
    (r"\bbranch(\d)\.conv\.(conv|bn)\.", r"\1.\2."),
    (r"\bbranch(\d)\.", r"\1."),
    (r"\.poly\.pre_block\.branches\.([\d.]+)\.bns\.(\d)\.", r".branches.\2.0.\1.bn."),
    (r"\.poly\.pre_block\.branches\.([\d.]+)\.conv\.", r".branches.*.0.\1.conv."),
)


def _build() -> torch.nn.Module:
    from backbones.nets.frames import OneFrame
    from backbones.nets.polynet import PolyNet

    return OneFrame(PolyNet())


def _renamed(state: State, rules: tuple[Rule, ...], classifier: str) -> State:
    out: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        if name.startswith(classifier):
            continue
        ours = name
        for pattern, replacement in rules:
            ours = re.sub(pattern, replacement, ours)
        out |= {f"net.{ours.replace('*', str(order))}": tensor for order in range(ORDERS if "*" in ours else 1)}
    return out


_LAYOUTS = (
    Layout("pretrainedmodels", "stem.conv1.0.conv.weight", lambda state: _renamed(state, _CADENE, "last_linear.")),
    Layout(
        "pytorchcv",
        "features.init_block.conv1.conv.weight",
        lambda state: _renamed(state, _PYTORCHCV, "output."),
    ),
)


def _adapt(states: tuple[State, ...]) -> State:
    return by_layout(states[0], _LAYOUTS)


register(
    Backbone(
        name="polynet",
        view=VIEW,
        dims=(2048,),
        build=_build,
        weights=(
            (
                Weights(
                    uri="https://data.lip6.fr/cadene/pretrainedmodels/polynet-f71d82a5.pth",
                    sha256="f71d82a5",
                    licence="BSD-3-Clause",
                    note=_EXPIRED,
                ),
                Weights(
                    uri=_ZIP,
                    sha256=None,
                    licence="MIT",
                    filename="polynet-0452-6a1b295d.pth",
                    note=_UNZIP,
                    checksum="sha1:6a1b295dad3f261b48e845f1b283e4eef3ab5a0b",
                ),
            ),
        ),
        adapt=_adapt,
        batch=5,
        params=93_317_600,
        gmacs=34.70,
        paper="Zhang et al. 2017, PolyNet: A Pursuit of Structural Diversity in Very Deep Networks",
        note="after global average pooling, before the classifier",
    )
)
