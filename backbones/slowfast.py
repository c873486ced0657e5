"""SlowFast 4x16 with ResNet-50 (Feichtenhofer et al. 2019) trained on Kinetics-400: the mean of each pathway's last maps.

Not pytorchvideo's hub entry ``slowfast_r50``, which is the 8x8 network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Literal

from backbones.layouts import Layout, by_layout
from backbones.registry import register
from backbones.spec import Backbone, Frames, State, Weights

if TYPE_CHECKING:
    import torch

VIEW = Frames(
    count=32,
    resize=256,
    crop=256,
    mean=(0.45, 0.45, 0.45),
    std=(0.225, 0.225, 0.225),
    # PySlowFast and pytorchvideo scale floats with torch's interpolate, not antialiased
    interpolation="linear",
)
WINDOW_S = 64 / 30
SAMPLED = "trained on every second of 64 frames at 30 per second"

_WEIGHTS = (
    Weights(
        uri="https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/SLOWFAST_4x16_R50.pyth",
        sha256=None,
        licence="Apache-2.0",
        note="trained on Kinetics-400; PySlowFast's Caffe2 file of the same network, SLOWFAST_4x16_R50.pkl, is a pickle and "
        "is not read",
    ),
)

_PYSLOWFAST = (
    (r"^s1\.pathway0_stem\.", "slow."),
    (r"^s1\.pathway1_stem\.", "fast."),
    (r"^s1\.pathway2_stem\.", "audio."),
    (r"^s(\d)\.pathway0_res(\d+)\.", r"slow.res.\1.\2."),
    (r"^s(\d)\.pathway1_res(\d+)\.", r"fast.res.\1.\2."),
    (r"^s(\d)\.pathway2_res(\d+)\.", r"audio.res.\1.\2."),
    (r"\.branch1\.", ".downsample.0."),
    (r"\.branch1_bn\.", ".downsample.1."),
    (r"\.branch2\.", "."),
    (r"^s(\d)_fuse\.conv_f2s\.", r"fuse.\1.conv."),
    (r"^s(\d)_fuse\.bn(?:_f2s)?\.", r"fuse.\1.bn."),
    (r"^s(\d)_fuse\.(conv|bn)_a2fs_(\d)\.", r"listen.\1.\2\3."),
)
# pytorchvideo's names in those of PySlowFast
_PYTORCHVIDEO = (
    (r"^s(\d)\.multipathway_fusion\.conv_fast_to_slow\.", r"s\1_fuse.conv_f2s."),
    (r"^s(\d)\.multipathway_fusion\.norm\.", r"s\1_fuse.bn."),
    (r"^s1\.multipathway_blocks\.(\d)\.norm\.", r"s1.pathway\1_stem.bn."),
    (r"^s1\.multipathway_blocks\.(\d)\.", r"s1.pathway\1_stem."),
    (r"\.multipathway_blocks\.(\d)\.res_blocks\.(\d+)\.", r".pathway\1_res\2."),
    (r"\.branch1_conv\.", ".branch1."),
    (r"\.branch1_norm\.", ".branch1_bn."),
    (r"\.conv_([abc])\.", r".\1."),
    (r"\.norm_([abc])\.", r".\1_bn."),
)


def _build(output: Literal["both", "slow", "fast"]) -> torch.nn.Module:
    from backbones.nets.slowfast import SlowFast

    return SlowFast(output)


def _renamed(key: str, rules: Iterable[tuple[str, str]]) -> str:
    for pattern, name in rules:
        key = re.sub(pattern, name, key)
    return key


def pyslowfast(state: State) -> State:
    """The names of PySlowFast's checkpoints (SlowFast's and AVSlowFast's) in those of our networks, without the classifier."""
    return {_renamed(key, _PYSLOWFAST): t for key, t in state.items() if not key.startswith("head.projection.")}


def _pytorchvideo(state: State) -> State:
    out: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        if key.startswith("blocks.6.proj."):  # the classifier
            continue
        # its blocks count from 0, the stages from 1
        counted = re.sub(r"^blocks\.(\d)\.(?=multipathway_)", lambda found: f"s{int(found[1]) + 1}.", key)
        out[_renamed(counted, _PYTORCHVIDEO)] = tensor
    return pyslowfast(out)


_LAYOUTS = (
    Layout("pytorchvideo", "blocks.0.multipathway_blocks.0.conv.weight", _pytorchvideo),
    Layout("PySlowFast", "s1.pathway0_stem.conv.weight", pyslowfast),
)


def _adapt(unused: tuple[str, ...], states: tuple[State, ...]) -> State:
    return {key: t for key, t in by_layout(states[0], _LAYOUTS).items() if not key.startswith(unused)}


def _register(
    suffix: str,
    output: Literal["both", "slow", "fast"],
    dims: int,
    unused: tuple[str, ...],
    params: int,
    gmacs: float,
    batch: int,
    note: str,
) -> None:
    register(
        Backbone(
            name=f"slowfast_4x16_r50{suffix}",
            view=VIEW,
            dims=(dims,),
            build=partial(_build, output),
            weights=(_WEIGHTS,),
            adapt=partial(_adapt, unused),
            window_s=WINDOW_S,
            batch=batch,
            params=params,
            gmacs=gmacs,
            paper="Feichtenhofer et al. 2019, SlowFast Networks for Video Recognition",
            note=f"{note}; {SAMPLED}",
        )
    )


_register(
    "", "both", 2304, (), 33_558_216, 36.10, 2, "global means, 2048 of the slow pathway before 256 of the fast one"
)
_register("_slow", "slow", 2048, ("fast.res.5.",), 33_240_008, 35.30, 2, "global mean of the slow pathway")
_register(
    "_fast",
    "fast",
    256,
    ("slow.", "fuse."),
    514_152,
    6.90,
    2,
    "global mean of the fast pathway, which nothing of the slow one flows into",
)
