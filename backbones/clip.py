"""CLIP (Radford et al. 2021): OpenAI's ViT-L/14 and ViT-B/32 image towers, after the projection.

Both were trained with QuickGELU; the same weights in a network with the exact GELU give other features. The names with
``_l2`` divide every row by its norm, as comparisons with texts and VALOR's features do.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from backbones.layouts import Layout, by_layout
from backbones.registry import register
from backbones.spec import Backbone, Frames, State, Weights
from extract.errors import LayoutMismatch

if TYPE_CHECKING:
    import torch

# clip/clip.py of openai/CLIP
VIEW = Frames(
    count=1,
    resize=224,
    crop=224,
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    interpolation="bicubic",
)

_OPENAI_TEXT = ("transformer.", "token_embedding.", "ln_final.")
_OPENAI_OTHERS = frozenset(
    {"positional_embedding", "text_projection", "logit_scale", "input_resolution", "context_length", "vocab_size"}
)
_OPENAI_NAMES = (
    (r"visual\.proj$", "projection.weight"),
    (r"visual\.class_embedding$", "net.cls_token"),
    (r"visual\.positional_embedding$", "net.pos_embed"),
    (r"visual\.conv1\.", "net.patch_embed.proj."),
    (r"visual\.ln_pre\.", "net.norm_pre."),
    (r"visual\.ln_post\.", "net.norm."),
    (r"visual\.transformer\.resblocks\.(\d+)\.attn\.in_proj_", r"net.blocks.\1.attn.qkv."),
    (r"visual\.transformer\.resblocks\.(\d+)\.attn\.out_proj\.", r"net.blocks.\1.attn.proj."),
    (r"visual\.transformer\.resblocks\.(\d+)\.ln_", r"net.blocks.\1.norm"),
    (r"visual\.transformer\.resblocks\.(\d+)\.mlp\.c_fc\.", r"net.blocks.\1.mlp.fc1."),
    (r"visual\.transformer\.resblocks\.(\d+)\.mlp\.c_proj\.", r"net.blocks.\1.mlp.fc2."),
)

_TRANSFORMERS_TEXT = ("text_model.", "text_projection.")
# position_ids are 0, 1, 2, …: older versions of transformers saved them
_TRANSFORMERS_OTHERS = frozenset({"logit_scale", "vision_model.embeddings.position_ids"})
_TRANSFORMERS_NAMES = (
    (r"visual_projection\.", "projection."),
    (r"vision_model\.embeddings\.class_embedding$", "net.cls_token"),
    (r"vision_model\.embeddings\.position_embedding\.weight$", "net.pos_embed"),
    (r"vision_model\.embeddings\.patch_embedding\.", "net.patch_embed.proj."),
    (r"vision_model\.pre_layrnorm\.", "net.norm_pre."),  # their spelling
    (r"vision_model\.post_layernorm\.", "net.norm."),
    (r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.qkv\.", r"net.blocks.\1.attn.qkv."),
    (r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.out_proj\.", r"net.blocks.\1.attn.proj."),
    (r"vision_model\.encoder\.layers\.(\d+)\.layer_norm", r"net.blocks.\1.norm"),
    (r"vision_model\.encoder\.layers\.(\d+)\.mlp\.", r"net.blocks.\1.mlp."),
)


def _build(timm_name: str, width: int, dims: int, unit: bool) -> torch.nn.Module:
    import timm

    from backbones.nets.clip import ImageTower

    return ImageTower(timm.create_model(timm_name, pretrained=False, num_classes=0), width, dims, unit)


def _openai(state: State) -> State:
    image = {k: t for k, t in state.items() if k not in _OPENAI_OTHERS and not k.startswith(_OPENAI_TEXT)}
    out = _renamed(image, _OPENAI_NAMES)
    out["projection.weight"] = out["projection.weight"].T  # there it multiplies from the right
    return out


def _transformers(state: State) -> State:
    import torch

    image = {k: t for k, t in state.items() if k not in _TRANSFORMERS_OTHERS and not k.startswith(_TRANSFORMERS_TEXT)}
    for query in [key for key in image if ".self_attn.q_proj." in key]:
        three = [query.replace(".q_proj.", f".{each}_proj.") for each in "qkv"]
        if all(key in image for key in three):
            image[query.replace(".q_proj.", ".qkv.")] = torch.cat([image.pop(key) for key in three])
    return _renamed(image, _TRANSFORMERS_NAMES)


def _renamed(state: State, names: tuple[tuple[str, str], ...]) -> dict[str, torch.Tensor]:
    """What no pattern matches keeps its name, so that it is reported."""
    out: dict[str, torch.Tensor] = {}
    for key, tensor in state.items():
        ours = next((re.sub(pattern, name, key) for pattern, name in names if re.match(pattern, key)), key)
        # timm keeps them as a batch of one sequence, the class token a sequence of one
        axes = {"net.cls_token": (0, 0), "net.pos_embed": (0,)}.get(ours, ())
        for axis in axes:
            tensor = tensor.unsqueeze(axis)  # noqa: PLW2901
        out[ours] = tensor
    return out


def _timm(state: State) -> State:
    bias = state.get("head.bias")
    if bias is not None and bool(bias.any()):
        raise LayoutMismatch(
            "head.bias is not zero: this head is a classifier, not CLIP's projection, which has no bias"
        )
    return {
        "projection.weight" if key == "head.weight" else f"net.{key}": tensor
        for key, tensor in state.items()
        if key != "head.bias"
    }


_LAYOUTS = (
    Layout("OpenAI and open_clip", "visual.proj", _openai),
    Layout("transformers", "visual_projection.weight", _transformers),
    Layout("timm", "norm_pre.weight", _timm),
)


def _adapt(states: tuple[State, ...]) -> State:
    return by_layout(states[0], _LAYOUTS)


def _published(sha256: str, openai: str, hub: str, timm_hub: str) -> tuple[Weights, ...]:
    def converted(repository: str, file: str, filename: str) -> Weights:
        return Weights(
            uri=f"https://huggingface.co/{repository}/resolve/main/{file}",
            sha256=None,
            licence="MIT" if repository.startswith("openai/") else "Apache-2.0",
            filename=filename,
            note=f"{file} of huggingface.co/{repository}, saved as {filename}",
        )

    return (
        Weights(
            uri=f"https://openaipublic.azureedge.net/clip/models/{sha256}/{openai}",
            sha256=sha256,
            licence="MIT",
            note="a TorchScript archive in float16; its text tower is left out, and its code is not run",
        ),
        converted(f"openai/{hub}", "model.safetensors", f"{hub}.safetensors"),
        converted(f"timm/{timm_hub}", "model.safetensors", f"{timm_hub}.safetensors"),
        converted(f"timm/{timm_hub}", "open_clip_model.safetensors", f"{timm_hub}.open_clip.safetensors"),
    )


for _name, _timm_name, _width, _dims, _params, _gmacs, _batch, _weights in (
    (
        "clip_vit_l14",
        "vit_large_patch14_clip_quickgelu_224",
        1024,
        768,
        303_966_208,
        81.01,
        5,
        _published(
            "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
            "ViT-L-14.pt",
            "clip-vit-large-patch14",
            "vit_large_patch14_clip_224.openai",
        ),
    ),
    (
        "clip_vit_b32",
        "vit_base_patch32_clip_quickgelu_224",
        768,
        512,
        87_849_216,
        4.41,
        10,
        _published(
            "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
            "ViT-B-32.pt",
            "clip-vit-base-patch32",
            "vit_base_patch32_clip_224.openai",
        ),
    ),
):
    for _unit in (False, True):
        register(
            Backbone(
                name=f"{_name}_l2" if _unit else _name,
                view=VIEW,
                dims=(_dims,),
                build=partial(_build, _timm_name, _width, _dims, _unit),
                weights=(_weights,),
                adapt=_adapt,
                batch=_batch,
                params=_params,
                gmacs=_gmacs,
                paper="Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision",
                note="image embedding after the projection" + (", divided by its norm" if _unit else ""),
            )
        )
