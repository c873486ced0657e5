"""DINOv2: against its own code, from both layouts its weights are published in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from backbones import registry
from backbones.dinov2 import interpolated
from backbones.nets.frames import OneFrame
from backbones.sources import Source
from backbones.spec import Backbone
from backbones.state import fit
from backbones.weights import materialise
from extract.errors import LayoutMismatch

SIZES = {"s": (384, 12), "b": (768, 12), "l": (1024, 24), "g": (1536, 40)}
NAMES = tuple(f"dinov2_vit{letter}14{tail}" for letter in SIZES for tail in ("", "_reg"))


def facebook_shapes(width: int, depth: int, registers: bool, gated: bool) -> dict[str, tuple[int, ...]]:
    """Keys of facebookresearch/dinov2's DinoVisionTransformer at 518 pixels."""
    top = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + 37 * 37, width),
        "mask_token": (1, width),
        "patch_embed.proj.weight": (width, 3, 14, 14),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    } | ({"register_tokens": (1, 4, width)} if registers else {})
    layers = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
    layers |= (
        {"mlp.w12": (8192, width), "mlp.w3": (width, 4096)}
        if gated
        else {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
    )
    block = {f"{layer}.weight": shape for layer, shape in layers.items()}
    block |= {f"{layer}.bias": shape[:1] for layer, shape in layers.items()}
    block |= {f"norm{n}.{leaf}": (width,) for n in (1, 2) for leaf in ("weight", "bias")}
    block |= {f"ls{n}.gamma": (width,) for n in (1, 2)}
    return top | {f"blocks.{i}.{key}": shape for i in range(depth) for key, shape in block.items()}


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    letter, registers = name[len("dinov2_vit")], name.endswith("_reg")
    return facebook_shapes(*SIZES[letter], registers, letter == "g")


def one_block(letter: str, registers: bool) -> Backbone:
    """The giant network has layers of its own, and is too large for a test; layouts need no more than a block."""
    import timm

    def build() -> OneFrame:
        size = {"s": "small", "g": "giant"}[letter]
        name = f"vit_{size}_patch14_{'reg4_' * registers}dinov2"
        return OneFrame(timm.create_model(name, depth=1, num_classes=0, img_size=224))

    return replace(registry.get(f"dinov2_vit{letter}14{'_reg' * registers}"), build=build)


# ---- against the official code -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arrays(golden: Path) -> dict[str, np.ndarray]:
    """Rows and interpolated position embeddings of facebookresearch/dinov2 (b8931f7) on weights of golden_weights.

    The giant networks with one block; of the embeddings the first four channels.
    """
    with np.load(golden / "dinov2.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def frames(golden_weights: ModuleType) -> torch.Tensor:
    pictures = golden_weights.unit("dinov2/image", (2, 3, 224, 224)).astype(np.float32)
    return torch.from_numpy(pictures).unsqueeze(1)


@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov2_vits14_reg", "dinov2_vitg14", "dinov2_vitg14_reg"])
def test_the_network_is_the_official_one(name, arrays, frames, golden_weights):
    registers, giant = name.endswith("_reg"), "vitg" in name
    backbone = one_block("g", registers) if giant else registry.get(name)
    shapes = facebook_shapes(1536, 1, registers, gated=True) if giant else shapes_of(name)
    module = backbone.build().eval().requires_grad_(False)
    fit(module, backbone.adapt((golden_weights.torch_state(name, shapes),)), "golden")
    with torch.inference_mode():
        rows = module(frames).numpy()
    assert np.abs(rows - arrays[name]).max() <= 1e-4 * np.abs(arrays[name]).max()


@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov2_vits14_reg"])
def test_position_embeddings_are_interpolated_by_the_official_rule(name, arrays, golden_weights):
    from timm.layers import resample_abs_pos_embed

    registers = name.endswith("_reg")
    (whole,) = golden_weights.torch_state(name, {"pos_embed": (1, 1370, 384)}).values()
    ours = interpolated(whole[:, 1:], registers)[0, :, :4].numpy()
    official = arrays[f"{name}/pos"][1:]
    np.testing.assert_allclose(ours, official, rtol=0, atol=1e-6)
    timms = resample_abs_pos_embed(whole, [16, 16])[0, 1:, :4].numpy()
    # timm resamples every network as the official code does those with registers
    assert np.allclose(timms, official, rtol=0, atol=1e-6) is registers


def test_embeddings_that_are_no_square():
    with pytest.raises(LayoutMismatch, match="1368 position embeddings"):
        interpolated(torch.zeros(1, 1368, 8), False)
    same = torch.randn(1, 256, 8)
    assert torch.equal(interpolated(same, False), same)


def test_the_input_is_the_official_one():
    """make_classification_eval_transform: Resize(256, BICUBIC), CenterCrop(224), ImageNet's mean and deviation."""
    (view,) = registry.get("dinov2_vitb14").views
    assert (view.count, view.resize, view.crop, view.interpolation) == (1, 256, 224, "bicubic")
    assert {registry.get(name).view for name in NAMES} == {view}


# ---- declarations and layouts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_declared_size_and_published_keys(name):
    backbone = registry.get(name)
    with torch.device("meta"):
        module = backbone.build().eval().requires_grad_(False)
        state = {key: torch.empty(shape) for key, shape in shapes_of(name).items()}
    adapted = backbone.adapt((state,))
    assert {k: t.shape for k, t in adapted.items()} == {k: t.shape for k, t in module.state_dict().items()}
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        rows = module(torch.empty(1, 1, 3, 224, 224, device="meta"))
    assert rows.shape[1:] == backbone.dims
    assert sum(parameter.numel() for parameter in module.parameters()) == backbone.params
    assert counter.get_total_flops() / 2e9 == pytest.approx(backbone.gmacs, rel=1e-3)


def as_timm(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As timm publishes them: at 518 pixels, the class token of networks with registers with its position added."""
    out = {key.replace("w12", "fc1").replace("w3", "fc2"): tensor for key, tensor in state.items()}
    del out["mask_token"]
    if "register_tokens" in out:
        out["reg_token"] = out.pop("register_tokens")
        out["cls_token"] = out["cls_token"] + out["pos_embed"][:, :1]
        out["pos_embed"] = out["pos_embed"][:, 1:].contiguous()
    return out


@pytest.mark.parametrize("registers", [False, True])
def test_both_files_give_the_same_network(registers, frames, golden_weights, tmp_path):
    backbone = one_block("s", registers)
    state = golden_weights.torch_state("files", facebook_shapes(384, 1, registers, gated=False))
    facebook, timm = (weights.filename for weights in backbone.weights[0])
    rows = []
    for file in (facebook, timm):
        folder = tmp_path / file
        folder.mkdir()
        if file == facebook:
            torch.save(state, folder / file)
        else:
            save_file(as_timm(state), folder / file)
        module = materialise(backbone, Source("folder", folder=folder), allow_unverified=True)
        with torch.inference_mode():
            rows.append(module(frames[:1]))
    assert facebook == f"dinov2_vits14{'_reg4' * registers}_pretrain.pth"
    assert timm == f"vit_small_patch14_{'reg4_' * registers}dinov2.lvd142m.safetensors"
    assert torch.equal(*rows)


def test_another_network_is_refused(golden_weights, tmp_path):
    backbone = one_block("s", False)
    source, file = Source("folder", folder=tmp_path), tmp_path / "dinov2_vits14_pretrain.pth"
    torch.save(golden_weights.torch_state("wrong", facebook_shapes(384, 2, True, gated=False)), file)
    with pytest.raises(LayoutMismatch, match=r"unknown: net\.\S+, net\.blocks\.1\.\S+, net\.blocks\.1\.\S+, …"):
        materialise(backbone, source, allow_unverified=True)
    torch.save({"conv1.weight": torch.zeros(1)}, file)
    with pytest.raises(LayoutMismatch, match=r"layout of facebookresearch/dinov2 \(with the key mask_token\) or timm"):
        materialise(backbone, source, allow_unverified=True)
