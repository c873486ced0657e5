"""``timm:NAME``: names, inputs as timm makes them, published files, and a whole run."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from backbones import registry, testing
from backbones.sources import Source
from backbones.spec import Weights
from backbones.timm_zoo import _published, _view, resolve
from backbones.weights import materialise, weights_id
from extract.errors import LayoutMismatch, PlanError, UnknownName

RESNET, VIT = "timm:test_resnet.r160_in1k", "timm:test_vit.r160_in1k"


# ---- names -------------------------------------------------------------------------------------------------------------


def test_the_tag_is_part_of_the_name():
    backbone = registry.get("timm:resnet10t")
    assert backbone.name == "timm:resnet10t.c3_in1k"
    assert registry.get(backbone.name) is backbone
    assert registry.get("timm:resnet10t.c3_in1k") is backbone
    assert (backbone.dims, backbone.params, backbone.modality) == ((512,), 4_922_488, "visual")


def test_networks_that_nobody_trained_have_no_tag_and_no_weights():
    backbone = registry.get("timm:eca_nfnet_l3")
    assert backbone.name == "timm:eca_nfnet_l3"
    assert backbone.weights == ()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm:resnet5", "no model 'resnet5'; did you mean timm:resnet5"),
        ("timm:ResNet50", "no model 'ResNet50'; did you mean .*timm:resnet50"),
        ("timm:", r"no model ''; see timm\.list_models"),
        ("timm:resnet10t.none", "no weights 'none' of resnet10t; there are: c3_in1k"),
        ("tim:resnet50", "no backbone is called 'tim:resnet50'"),
    ],
)
def test_unknown_names(name, said):
    with pytest.raises(UnknownName, match=said):
        registry.get(name)


def test_the_family_is_not_listed_and_timm_not_imported():
    code = (
        "import sys, json; from backbones import registry; names = registry.names(); import backbones.timm_zoo;"
        "print(json.dumps([[n for n in names if ':' in n], 'timm' in sys.modules, 'torch' in sys.modules]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == [[], False, False]


def test_a_family_is_registered_once():
    registry.register_family("timm", resolve)
    with pytest.raises(PlanError, match="two families of backbones are called 'timm'"):
        registry.register_family("timm", registry.get)


def test_it_travels_to_a_fresh_process_by_name():
    data = pickle.dumps(registry.get("timm:test_resnet"))
    assert len(data) < 100
    code = f"import pickle; print(pickle.loads(bytes.fromhex('{data.hex()}')).name)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == f"{RESNET}\n"


# ---- inputs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        "resnet10t.c3_in1k",  # centre, bicubic
        "legacy_seresnet18.in1k",  # centre, bilinear
        "vit_base_patch16_siglip_256.webli",  # squash to the size itself
        "vit_small_patch14_dinov2.lvd142m",  # centre, nothing around
        "tf_efficientnetv2_s.in1k",  # means of one half
    ],
)
def test_pictures_are_timms_bit_for_bit(model):
    from extract.decode.pictures import resized
    from extract.prepare import frames_to_tensor

    config = timm.data.resolve_data_config({}, pretrained_cfg=timm.models.get_pretrained_cfg(model).to_dict())
    view = _view(model, config)
    picture = np.random.default_rng(0).integers(0, 256, (321, 413, 3), dtype=np.uint8)
    theirs = timm.data.create_transform(**config, is_training=False)(Image.fromarray(picture))
    ours = frames_to_tensor(resized(picture, view, Fraction(1))[None, None], view)
    assert torch.equal(ours[0, 0], theirs)


def test_a_squash_with_a_margin_is_cropped():
    config = {"input_size": (3, 224, 224), "crop_mode": "squash", "crop_pct": 0.9, "interpolation": "bicubic"}
    view = _view("made", {**config, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)})
    assert (view.resize, view.crop) == ((248, 248), 224)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"crop_mode": "border"}, "cropped by the rule 'border'"),
        ({"interpolation": "random"}, "resized by the rule 'random'"),
        ({"interpolation": "lanczos"}, "resized by the rule 'lanczos'"),
        ({"input_size": (1, 224, 224)}, "pictures of 1 channels"),
        ({"input_size": (3, 224, 192)}, "resized to 256 x 219 and cropped to 224 x 192"),
    ],
)
def test_what_cannot_be_made_exactly_is_refused(change, said):
    config = {"input_size": (3, 224, 224), "crop_mode": "center", "crop_pct": 0.875, "interpolation": "bicubic"}
    with pytest.raises(PlanError, match=f"timm:made cannot be fed exactly as timm does it, .*{said}"):
        _view("made", {**config, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), **change})


def test_a_network_whose_pictures_have_borders_is_refused():
    with pytest.raises(PlanError, match=r"timm:deepseek_vit_412m\.\w+ cannot be fed exactly .* rule 'border'"):
        registry.get("timm:deepseek_vit_412m")


# ---- weights -----------------------------------------------------------------------------------------------------------


def test_published_files():
    first, second = registry.get("timm:resnet10t").weights[0]
    assert first.filename == "resnet10t_176_c3-f3215ab1.pth"
    assert (first.sha256, first.licence) == ("f3215ab1", "apache-2.0")
    assert second == Weights(
        uri="https://huggingface.co/timm/resnet10t.c3_in1k/resolve/main/model.safetensors",
        sha256=None,
        licence="apache-2.0",
        filename="resnet10t.c3_in1k.safetensors",
        note="model.safetensors of huggingface.co/timm/resnet10t.c3_in1k, saved as resnet10t.c3_in1k.safetensors",
    )
    assert weights_id(registry.get("timm:resnet10t"), Source("official")) == "sha256:f3215ab1"


def test_files_of_other_kinds_are_left_out():
    """Weights of JAX are converted by timm's own loaders only; its hub has them converted."""
    full = "vit_tiny_patch16_224.augreg_in21k"
    stated = timm.models.get_pretrained_cfg(full)
    assert stated.url.endswith(".npz")
    assert [weights.filename for weights in _published(full, stated)[0]] == [f"{full}.safetensors"]


@pytest.fixture(scope="module")
def whole() -> dict[str, dict[str, torch.Tensor]]:
    """What timm itself would save, classifiers and all."""
    torch.manual_seed(0)
    return {name: timm.create_model(name.removeprefix("timm:")).state_dict() for name in (RESNET, VIT)}


def saved(name: str, state: dict[str, torch.Tensor], folder: Path) -> torch.nn.Module:
    save_file(state, folder / f"{name.removeprefix('timm:')}.safetensors")
    return materialise(registry.get(name), Source("folder", folder=folder), allow_unverified=True, folded=False)


@pytest.mark.parametrize("name", [RESNET, VIT])
@pytest.mark.parametrize("headless", [False, True])
def test_rows_are_timms_before_the_classifier(name, headless, whole, tmp_path):
    reference = timm.create_model(name.removeprefix("timm:"), num_classes=0).eval()
    kept = {key: tensor for key, tensor in whole[name].items() if key in reference.state_dict()}
    assert len(kept) < len(whole[name])
    reference.load_state_dict(kept)
    module = saved(name, kept if headless else whole[name], tmp_path)
    frames = torch.randn(2, 1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(module(frames), reference(frames[:, 0]), rtol=0, atol=1e-5)


def test_what_timm_converts_is_converted_by_timm(whole, tmp_path):
    """Its oldest transformers cut patches by a matrix, which its filter turns into a convolution."""
    other = dict(whole[VIT])
    other["patch_embed.proj.weight"] = other["patch_embed.proj.weight"].flatten(1)
    module = saved(VIT, other, tmp_path)
    for key, tensor in module.net.state_dict().items():
        assert torch.equal(tensor, whole[VIT][key]), key


def test_an_incomplete_file_is_refused_where_timm_takes_it(tmp_path):
    """timm loads this family without insisting; what is missing would be left to chance."""
    name = "timm:dla46x_c.in1k"
    state = timm.create_model("dla46x_c").state_dict()
    del state["base_layer.0.weight"]
    with pytest.raises(LayoutMismatch, match=r"lacks 1 tensors of timm's dla46x_c\.in1k: base_layer\.0\.weight"):
        saved(name, state, tmp_path)


def test_another_network_is_refused(whole, tmp_path):
    with pytest.raises(
        LayoutMismatch,
        match=r"test_vit\.r160_in1k\.safetensors .*expected the layout of timm's .*Missing key.*cls_token",
    ):
        saved(VIT, whole[RESNET], tmp_path)


# ---- running -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [RESNET, VIT])
def test_conformance(name):
    for result in testing.check(name, Source("random")):
        assert result.passed is not False, f"{result.name}: {result.detail}"


@pytest.mark.usefixtures("tiny")
def test_a_run_from_the_command_line(way: ModuleType, media: Path, tmp_path: Path, capsys, monkeypatch):
    from extract.store.catalog import Store

    manifest = way.manifest(tmp_path / "m.csv", media, ["c00"])
    args = way.run_args(manifest, tmp_path / "store", backbones=["timm:resnet10t.c3_in1k", "timm:test_vit"])
    assert way.invoke(capsys, monkeypatch, *args).returncode == 0
    store = Store(tmp_path / "store")
    infos = store.keys()
    assert [info.key.split("@")[0] for info in infos] == ["timm:resnet10t.c3_in1k", VIT]
    assert store["c00", "timm:resnet10t.c3_in1k"].shape == (2, 512)
    assert store["c00", VIT].shape == (2, 64)
    again = way.invoke(capsys, monkeypatch, *args)
    assert '"computed": 0' in again.stderr
    status = way.invoke(capsys, monkeypatch, "status", tmp_path / "store")
    assert "timm:resnet10t.c3_in1k@" in status.stdout
