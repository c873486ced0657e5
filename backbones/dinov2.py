"""DINOv2 (Oquab et al. 2023), with and without registers (Darcet et al. 2023): the class token after the last norm.

The networks were trained up to 518 pixels, a grid of 37 x 37 patches; at 224 pixels they have 16 x 16. The official code
interpolates the position embeddings in every forward; here that is done once, when the weights are read, by the same rule.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from backbones.layouts import Layout, by_layout
from backbones.registry import register
from backbones.spec import Backbone, Frames, State, Weights
from extract.errors import LayoutMismatch

if TYPE_CHECKING:
    import torch

# make_classification_eval_transform of facebookresearch/dinov2 (b8931f7), dinov2/data/transforms.py
VIEW = Frames(count=1, resize=256, crop=224, interpolation="bicubic")
GRID = 16
# added to the grid before the scale is computed: a number meant against rounding, which the trained features have seen since
OFFSET = 0.1


def _build(timm_name: str) -> torch.nn.Module:
    import timm

    from backbones.nets.frames import OneFrame

    return OneFrame(timm.create_model(timm_name, pretrained=False, num_classes=0, img_size=14 * GRID))


def interpolated(patches: torch.Tensor, registers: bool) -> torch.Tensor:
    """Position embeddings of the patches, resampled to 16 x 16 as the official code does it.

    Parameters
    ----------
    patches
        (1, n * n, width): without those of the class token
    registers
        networks with registers use antialiasing and the exact size; the others neither, and a scale of ``(16 + 0.1) / n``

    Returns
    -------
    (1, 256, width) float32

    Raises
    ------
    LayoutMismatch
        they are not those of a square grid

    Notes
    -----
    Source: facebookresearch/dinov2 (b8931f7), ``interpolate_pos_encoding`` in dinov2/models/vision_transformer.py, with the
    settings of dinov2/hub/backbones.py.
    """
    from torch.nn import functional

    side = math.isqrt(patches.shape[1])
    if side * side != patches.shape[1]:
        raise LayoutMismatch(f"{patches.shape[1]} position embeddings of patches do not make a square grid")
    if side == GRID:
        return patches.float()
    maps = patches.float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    if registers:
        maps = functional.interpolate(maps, size=(GRID, GRID), mode="bicubic", antialias=True)
    else:
        scale = (GRID + OFFSET) / side
        maps = functional.interpolate(maps, scale_factor=(scale, scale), mode="bicubic", antialias=False)
    return maps.permute(0, 2, 3, 1).flatten(1, 2)


def _facebook(state: State, registers: bool) -> State:
    out: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        if key == "mask_token":
            continue  # stands for hidden patches in training
        # the giant network's gated layers
        ours = key.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2.")
        out["reg_token" if key == "register_tokens" else ours] = tensor
    if registers and {"cls_token", "pos_embed"} <= out.keys():
        # timm adds the class token's own position to it beforehand
        out["cls_token"] = out["cls_token"] + out["pos_embed"][:, :1]
        out["pos_embed"] = out["pos_embed"][:, 1:]
    return _timm(out, registers)


def _timm(state: State, registers: bool) -> State:
    import torch

    out = {f"net.{key}": tensor for key, tensor in state.items()}
    key = "net.pos_embed"
    if key in out and out[key].ndim == 3:
        first = 0 if registers else 1
        own, patches = out[key].float().tensor_split((first,), dim=1)
        out[key] = torch.cat([own, interpolated(patches, registers)], dim=1)
    return out


def _adapt(states: tuple[State, ...], registers: bool) -> State:
    layouts = (
        Layout("facebookresearch/dinov2", "mask_token", partial(_facebook, registers=registers)),
        Layout("timm", "cls_token", partial(_timm, registers=registers)),
    )
    return by_layout(states[0], layouts)


def _published(letter: str, timm_hub: str, registers: bool) -> tuple[Weights, ...]:
    model = f"dinov2_vit{letter}14"
    return (
        Weights(
            uri=f"https://dl.fbaipublicfiles.com/dinov2/{model}/{model}{'_reg4' * registers}_pretrain.pth",
            sha256=None,
            licence="Apache-2.0",
        ),
        Weights(
            uri=f"https://huggingface.co/timm/{timm_hub}/resolve/main/model.safetensors",
            sha256=None,
            licence="Apache-2.0",
            filename=f"{timm_hub}.safetensors",
            note=f"model.safetensors of huggingface.co/timm/{timm_hub}, saved as {timm_hub}.safetensors",
        ),
    )


for _letter, _size, _dims, _params, _gmacs, _reg_params, _reg_gmacs, _batch in (
    ("s", "small", 384, 21_628_800, 6.12, 21_629_952, 6.23, 10),
    ("b", "base", 768, 85_724_928, 23.16, 85_727_232, 23.54, 10),
    ("l", "large", 1024, 303_227_904, 81.01, 303_230_976, 82.32, 5),
    ("g", "giant", 1536, 1_134_769_664, 299.39, 1_134_774_272, 304.17, 2),
):
    for _registers in (False, True):
        _timm_name = f"vit_{_size}_patch14_{'reg4_' * _registers}dinov2"
        register(
            Backbone(
                name=f"dinov2_vit{_letter}14{'_reg' * _registers}",
                view=VIEW,
                dims=(_dims,),
                build=partial(_build, _timm_name),
                weights=(_published(_letter, f"{_timm_name}.lvd142m", _registers),),
                adapt=partial(_adapt, registers=_registers),
                batch=_batch,
                params=_reg_params if _registers else _params,
                gmacs=_reg_gmacs if _registers else _gmacs,
                paper="Oquab et al. 2023, DINOv2: Learning Robust Visual Features without Supervision"
                + ("; Darcet et al. 2023, Vision Transformers Need Registers" if _registers else ""),
                note="class token after the last norm, at 224 pixels",
            )
        )
