"""CLIP's image towers: against OpenAI's own code, and from every layout their weights are published in."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from backbones import registry
from backbones.nets.clip import ImageTower
from backbones.sources import Source
from backbones.spec import Backbone
from backbones.state import fit
from backbones.weights import materialise
from extract.errors import LayoutMismatch

NAMES = ("clip_vit_l14", "clip_vit_l14_l2", "clip_vit_b32", "clip_vit_b32_l2")
SMALL = {"patch": 32, "width": 64, "depth": 2, "dims": 48}


def openai_shapes(patch: int, width: int, depth: int, dims: int) -> dict[str, tuple[int, ...]]:
    """Keys of openai/CLIP's VisionTransformer inside its CLIP."""
    top = {
        "class_embedding": (width,),
        "positional_embedding": ((224 // patch) ** 2 + 1, width),
        "proj": (width, dims),
        "conv1.weight": (width, 3, patch, patch),
    }
    norms = {f"{place}.{leaf}": (width,) for place in ("ln_pre", "ln_post") for leaf in ("weight", "bias")}
    block = {
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width),
        "attn.out_proj.bias": (width,),
        "mlp.c_fc.weight": (4 * width, width),
        "mlp.c_fc.bias": (4 * width,),
        "mlp.c_proj.weight": (width, 4 * width),
        "mlp.c_proj.bias": (width,),
        **{f"ln_{n}.{leaf}": (width,) for n in (1, 2) for leaf in ("weight", "bias")},
    }
    blocks = {f"transformer.resblocks.{i}.{key}": shape for i in range(depth) for key, shape in block.items()}
    return {f"visual.{key}": shape for key, shape in (top | norms | blocks).items()}


# ---- against OpenAI's code ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(golden_weights: ModuleType) -> dict[str, torch.Tensor]:
    return golden_weights.torch_state("clip_vit_b32", openai_shapes(32, 768, 12, 512))


@pytest.fixture(scope="module")
def expected(golden: Path) -> np.ndarray:
    """VisionTransformer of openai/CLIP (d05afc4, clip/model.py) in float32 on weights and pictures of golden_weights."""
    with np.load(golden / "clip.npz", allow_pickle=False) as file:
        return file["clip_vit_b32"]


def test_the_network_is_openais(base, expected, golden_weights):
    backbone = registry.get("clip_vit_b32")
    module = backbone.build().eval().requires_grad_(False)
    fit(module, backbone.adapt((base,)), "golden")
    frames = torch.from_numpy(golden_weights.unit("clip_vit_b32/image", (2, 3, 224, 224)).astype(np.float32))
    with torch.inference_mode():
        rows = module(frames.unsqueeze(1)).numpy()
        module.unit = True
        unit = module(frames.unsqueeze(1)).numpy()
    assert np.abs(rows - expected).max() <= 1e-4 * np.abs(expected).max()  # the exact GELU is 1e-2 away
    np.testing.assert_allclose(unit, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=0, atol=1e-5)


def test_the_input_is_openais():
    """Compose of clip/clip.py: Resize(224, BICUBIC), CenterCrop(224), ToTensor, Normalize."""
    (view,) = registry.get("clip_vit_l14").views
    assert (view.count, view.resize, view.crop, view.interpolation) == (1, 224, 224, "bicubic")
    assert view.mean == (0.48145466, 0.4578275, 0.40821073)
    assert view.std == (0.26862954, 0.26130258, 0.27577711)
    assert {registry.get(name).view for name in NAMES} == {view}


# ---- declarations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_declared_size(name):
    backbone = registry.get(name)
    with torch.device("meta"):
        module = backbone.build().eval().requires_grad_(False)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        rows = module(torch.empty(1, 1, 3, 224, 224, device="meta"))
    assert rows.shape[1:] == backbone.dims
    assert sum(parameter.numel() for parameter in module.parameters()) == backbone.params
    assert counter.get_total_flops() / 2e9 == pytest.approx(backbone.gmacs, rel=1e-3)


@pytest.mark.parametrize("name", ["clip_vit_l14", "clip_vit_b32"])
def test_the_published_digest_is_the_directory(name):
    first = registry.get(name).weights[0][0]
    assert first.uri.split("/")[-2] == first.sha256
    assert len(first.sha256) == 64
    assert registry.get(f"{name}_l2").weights == registry.get(name).weights


def test_the_large_networks_keys_are_all_known():
    backbone = registry.get("clip_vit_l14")
    with torch.device("meta"):
        state = {key: torch.empty(shape) for key, shape in openai_shapes(14, 1024, 24, 768).items()}
        wanted = backbone.build().state_dict()
    adapted = backbone.adapt((state,))
    assert {k: t.shape for k, t in adapted.items()} == {k: t.shape for k, t in wanted.items()}


# ---- layouts, on a small tower -----------------------------------------------------------------------------------------


def small_tower(unit: bool = False) -> ImageTower:
    import timm

    net = timm.create_model(
        "vit_base_patch32_clip_quickgelu_224",
        embed_dim=SMALL["width"],
        depth=SMALL["depth"],
        num_heads=1,
        num_classes=0,
    )
    return ImageTower(net, SMALL["width"], SMALL["dims"], unit)


@pytest.fixture(scope="module")
def small() -> Backbone:
    return replace(registry.get("clip_vit_b32"), build=small_tower, dims=(SMALL["dims"],))


@pytest.fixture(scope="module")
def published(golden_weights: ModuleType) -> dict[str, torch.Tensor]:
    """OpenAI's layout in float16, with the text tower."""
    text = {
        "positional_embedding": (77, 64),
        "text_projection": (64, SMALL["dims"]),
        "token_embedding.weight": (100, 64),
        "transformer.resblocks.0.attn.in_proj_weight": (192, 64),
        "transformer.resblocks.0.ln_1.weight": (64,),
        "ln_final.weight": (64,),
        "ln_final.bias": (64,),
    }
    state = golden_weights.torch_state("small", openai_shapes(**SMALL) | text) | {"logit_scale": torch.tensor(2.6)}
    return {key: tensor.half() for key, tensor in state.items()}


def as_timm(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    names = (
        ("visual.", ""),
        ("conv1", "patch_embed.proj"),
        ("transformer.resblocks", "blocks"),
        ("ln_pre", "norm_pre"),
        ("ln_post", "norm"),
        ("ln_", "norm"),
        ("in_proj_", "qkv."),
        ("out_proj", "proj"),
        ("c_fc", "fc1"),
        ("c_proj", "fc2"),
    )
    out = {}
    for key, tensor in state.items():
        if key.startswith("visual."):
            renamed = functools.reduce(lambda told, pair: told.replace(*pair), names, key)
            out[renamed] = tensor.float()
    out["cls_token"] = out.pop("class_embedding").view(1, 1, -1)
    out["pos_embed"] = out.pop("positional_embedding").unsqueeze(0)
    out["head.weight"] = out.pop("proj").T.contiguous()
    return out | {"head.bias": torch.zeros(SMALL["dims"])}


def as_transformers(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    names = (
        (r"^visual\.class_embedding", "vision_model.embeddings.class_embedding"),
        (r"^visual\.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
        (r"^visual\.conv1", "vision_model.embeddings.patch_embedding"),
        (r"^visual\.ln_pre", "vision_model.pre_layrnorm"),
        (r"^visual\.ln_post", "vision_model.post_layernorm"),
        (r"^visual\.transformer\.resblocks", "vision_model.encoder.layers"),
        (r"\.attn\.out_proj", ".self_attn.out_proj"),
        (r"\.ln_", ".layer_norm"),
        (r"\.mlp\.c_fc", ".mlp.fc1"),
        (r"\.mlp\.c_proj", ".mlp.fc2"),
    )
    out = {}
    for key, tensor in state.items():
        if not key.startswith("visual."):
            continue
        if ".in_proj_" in key:
            stem, leaf = key.split(".attn.in_proj_")
            stem = stem.replace("visual.transformer.resblocks", "vision_model.encoder.layers")
            for each, part in zip("qkv", tensor.float().chunk(3), strict=True):
                out[f"{stem}.self_attn.{each}_proj.{leaf}"] = part.clone()
            continue
        renamed = functools.reduce(lambda told, pair: re.sub(*pair, told), names, key)
        out[renamed] = tensor.float()
    out["visual_projection.weight"] = out.pop("visual.proj").T.contiguous()
    out["vision_model.embeddings.position_ids"] = torch.arange(50).unsqueeze(0)
    return out | {"text_model.final_layer_norm.bias": torch.zeros(64), "logit_scale": torch.tensor(2.6)}


def script(state: dict[str, torch.Tensor], path: Path) -> None:
    """A TorchScript archive with those parameters, as OpenAI's files are."""
    root = nn.Module()
    for key, tensor in state.items():
        place, (*parts, leaf) = root, key.split(".")
        for part in parts:
            if not hasattr(place, part):
                place.add_module(part, nn.Module())
            place = getattr(place, part)
        place.register_parameter(leaf, nn.Parameter(tensor, requires_grad=False))
    for name, value in (("input_resolution", 224), ("context_length", 77), ("vocab_size", 100)):
        root.register_buffer(name, torch.tensor(value))
    torch.jit.script(root).save(path)


WRITERS: dict[str, Callable[[dict[str, torch.Tensor], Path], None]] = {
    "ViT-B-32.pt": script,
    "clip-vit-base-patch32.safetensors": lambda state, path: save_file(as_transformers(state), path),
    "vit_base_patch32_clip_224.openai.safetensors": lambda state, path: save_file(as_timm(state), path),
    "vit_base_patch32_clip_224.openai.open_clip.safetensors": lambda state, path: save_file(dict(state), path),
}


def test_every_published_file_is_tried(small):
    assert [weights.filename for weights in small.weights[0]] == list(WRITERS)


@pytest.fixture(scope="module")
def rows_of_openais_layout(small, published) -> torch.Tensor:
    module = small.build().eval().requires_grad_(False)
    fit(module, small.adapt((published,)), "small")
    with torch.inference_mode():
        return module(torch.ones(2, 1, 3, 224, 224).cumsum(4) / 200)


@pytest.mark.parametrize("file", WRITERS)
def test_every_layout_gives_the_same_network(file, small, published, rows_of_openais_layout, tmp_path):
    WRITERS[file](published, tmp_path / file)
    module = materialise(small, Source("folder", folder=tmp_path), allow_unverified=True)
    with torch.inference_mode():
        assert torch.equal(module(torch.ones(2, 1, 3, 224, 224).cumsum(4) / 200), rows_of_openais_layout)


def test_another_tower_is_refused(small, published, tmp_path):
    wrong = {**as_timm(published), "blocks.2.norm1.weight": torch.zeros(64)}
    del wrong["norm_pre.bias"]
    source, file = Source("folder", folder=tmp_path), tmp_path / "vit_base_patch32_clip_224.openai.safetensors"
    save_file(wrong, file)
    with pytest.raises(
        LayoutMismatch, match=r"1 missing: net\.norm_pre\.bias; 1 unknown: net\.blocks\.2\.norm1\.weight"
    ):
        materialise(small, source, allow_unverified=True)
    save_file({"conv1.weight": torch.zeros(1)}, file)
    with pytest.raises(
        LayoutMismatch, match=r"layout of OpenAI and open_clip \(with the key visual\.proj\) .* keys are conv1\.weight"
    ):
        materialise(small, source, allow_unverified=True)
    save_file({**as_timm(published), "head.bias": torch.ones(SMALL["dims"])}, file)
    with pytest.raises(LayoutMismatch, match=r"head\.bias is not zero"):
        materialise(small, source, allow_unverified=True)


# ---- rows --------------------------------------------------------------------------------------------------------------


def test_rows_do_not_depend_on_how_many_there_are():
    """Without filling up, the last rows of five to seven differ in the projection."""
    module = small_tower().eval().requires_grad_(False)
    tokens = torch.randn(7, 64, generator=torch.Generator().manual_seed(0))
    module.net = nn.Identity()
    with torch.inference_mode():
        whole = module(tokens.unsqueeze(1))
        for row in range(7):
            assert torch.equal(whole[row], module(tokens[row].view(1, 1, -1))[0]), row
