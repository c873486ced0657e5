"""Checkpoints in the official layouts, made here, into our networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from extract.errors import LayoutMismatch, WeightsError, WeightsMissing
from pipelines.parsing.models.avel import AVEL
from pipelines.parsing.models.dmrn import DMRN
from pipelines.parsing.models.han import HAN
from pipelines.parsing.models.psp import PSP
from pipelines.parsing.models.published import load_published

SMALL: dict[str, Any] = {"classes": 5, "audio": 6, "visual": 7, "clip": 4, "width": 16, "feedforward": 12}
PSP_DEAD = {
    "weak": {"temperature": (1, 29), "W1.weight": (1, 256), "W2.weight": (1, 64)},
    "full": {
        "linear_v.weight": (128, 512),
        "linear_v.bias": (128,),
        "v_classify.L1.weight": (64, 256),
        "v_classify.L2.weight": (28, 64),
        "a_classify.L1.weight": (64, 256),
        "a_classify.L2.weight": (28, 64),
        "L3.weight": (64, 256),
        "L3.bias": (64,),
        "L4.weight": (2, 64),
        "L4.bias": (2,),
    },
}


def han(**more: Any) -> HAN:
    return HAN(**SMALL | more)


def official_han(width: int = 16, feedforward: int = 12, layers: int = 1, **more: Any) -> dict[str, Tensor]:
    """What torch.save(model.state_dict()) of the official repository holds: our names, and those of its unused modules."""
    sizes = SMALL | {"width": width, "feedforward": feedforward, "encoder_compat": "chained", "layers": layers}
    state = dict(HAN(**sizes | more).state_dict())
    plain = nn.TransformerEncoderLayer(width, 1, feedforward)
    for name in ("audio_encoder", "visual_encoder"):
        unused = nn.TransformerEncoder(plain, 1, enable_nested_tensor=False).state_dict()
        state |= {f"{name}.{key}": tensor for key, tensor in unused.items()}
    state |= {f"cmt_encoder.layers.0.{key}": tensor for key, tensor in plain.state_dict().items()}
    for name in ("cmt_encoder", "hat_encoder"):
        for norm in ("norm1", "norm2"):
            state |= {f"{name}.{norm}.weight": torch.ones(width), f"{name}.{norm}.bias": torch.zeros(width)}
    return state


def saved(folder: Path, content: Any, name: str = "MMIL_Net.pt") -> Path:
    torch.save(content, folder / name)
    return folder / name


def same(network: nn.Module, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


# ---- what fits -------------------------------------------------------------------------------------------------------


def test_the_published_han_loads(tmp_path: Path) -> None:
    state = official_han(512, 512, classes=25, audio=128, visual=2048, clip=512)
    assert sum(tensor.numel() for tensor in state.values()) == 9_307_723
    network = HAN()
    told = load_published(network, saved(tmp_path, state))
    assert same(network, state)
    assert (told.tensors, told.numbers, len(told.dropped)) == (30, 4_569_675, len(state) - 30)
    assert {name.split(".")[0] for name in told.dropped} == {
        "audio_encoder",
        "visual_encoder",
        "cmt_encoder",
        "hat_encoder",
    }
    assert "30 tensors of 4,569,675 numbers; left out" in str(told)


@pytest.mark.parametrize("wrapped", ["plain", "parallel", "state_dict", "safetensors", "double", "old"])
def test_every_container_gives_the_same(tmp_path: Path, wrapped: str) -> None:
    state = official_han()
    if wrapped == "safetensors":
        path = tmp_path / "best.safetensors"
        save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, path)
    elif wrapped == "old":
        path = tmp_path / "MMIL_Net.pt"
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        content: dict[str, Any] = {
            "plain": state,
            "parallel": {f"module.{name}": tensor for name, tensor in state.items()},
            "state_dict": {"epoch": 3, "state_dict": state},
            "double": {name: tensor.double() for name, tensor in state.items()},
        }
        path = saved(tmp_path, content[wrapped])
    network = han()
    load_published(network, path)
    assert same(network, state)
    assert network.fc_a.weight.dtype == torch.float32


def test_only_the_last_of_two_official_layers_is_taken(tmp_path: Path) -> None:
    state = official_han(layers=2)
    path = saved(tmp_path, state)
    network = han(layers=2)
    told = load_published(network, path)
    assert same(network, state)
    assert any(name.startswith("hat_encoder.layers.0.") for name in told.dropped)
    chained = han(layers=2, encoder_compat="chained")
    told = load_published(chained, path)
    assert same(chained, state)
    assert not any(name.startswith("hat_encoder.layers.") for name in told.dropped)


@pytest.mark.parametrize("network", [AVEL(supervision="weak"), AVEL(supervision="full"), DMRN()])
def test_ave_networks_load_and_drop_nothing(tmp_path: Path, network: nn.Module) -> None:
    state = {name: torch.rand_like(tensor) for name, tensor in network.state_dict().items()}
    told = load_published(network, saved(tmp_path, state, "AV_att.pt"))
    assert same(network, state)
    assert told.dropped == ()
    assert "left out" not in str(told)


@pytest.mark.parametrize(("supervision", "total"), [("weak", 1_254_251), ("full", 1_667_251)])
def test_psp_drops_what_its_supervision_does_not_use(tmp_path: Path, supervision: Any, total: int) -> None:
    network = PSP(supervision=supervision)
    state = {name: torch.rand_like(tensor) for name, tensor in network.state_dict().items()}
    dead = {name: torch.zeros(shape) for name, shape in PSP_DEAD[supervision].items()}
    assert sum(tensor.numel() for tensor in (state | dead).values()) == total
    told = load_published(network, saved(tmp_path, state | dead))
    assert same(network, state)
    assert set(told.dropped) == set(dead)


# ---- what does not ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        (
            {"visual": 2048},
            (
                r"1 of another shape: fc_v.weight \(16, 2048\) instead of \(16, 7\); the checkpoint takes 2048 visual "
                r"numbers, the store's key gives 7: train anew or choose --visual resnet152"
            ),
        ),
        ({"audio": 128}, "takes 128 audio numbers, the store's key gives 6: train anew or choose --audio vggish"),
        ({"visual": 9}, "takes 9 visual numbers, the store's key gives 7: .* --visual with a feature of 9 numbers"),
        (
            {"clip": None},
            r"2 missing: fc_st\.weight, fc_st\.bias; .*the checkpoint takes no clip feature: leave --clip out",
        ),
        ({"classes": 8}, "knows 8 classes, the task has 5: train anew or choose the --classes"),
        ({"layers": 3}, r"has 3 layer.s., the network 1: choose --set layers=3"),
        ({"feedforward": 24}, "linear1.weight .*give HAN the options that the checkpoint was trained with"),
    ],
)
def test_a_misfit_says_what_and_what_to_do(tmp_path: Path, sizes: dict[str, Any], words: str) -> None:
    path = saved(tmp_path, official_han(**sizes))
    network = han()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(LayoutMismatch, match=words) as caught:
        load_published(network, path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert same(network, before)


def test_a_clip_feature_that_the_store_lacks_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path, official_han(clip=512))
    with pytest.raises(LayoutMismatch, match="takes a clip feature of 512 numbers besides: choose --clip r2plus1d_18"):
        load_published(han(clip=None), path)


def test_too_few_official_layers_are_named(tmp_path: Path) -> None:
    with pytest.raises(LayoutMismatch, match=r"has 1 layer.s., the network 2: choose --set layers=1"):
        load_published(han(layers=2), saved(tmp_path, official_han()))


def test_the_last_layer_alone_does_not_make_a_chain(tmp_path: Path) -> None:
    path = saved(tmp_path, han(layers=2).state_dict())
    with pytest.raises(LayoutMismatch, match="holds the last layer only: choose --set encoder_compat=official"):
        load_published(han(layers=2, encoder_compat="chained"), path)


def test_a_parameter_nobody_knows_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, official_han() | {"fc_extra.weight": torch.ones(2)})
    with pytest.raises(LayoutMismatch, match=r"1 unknown: fc_extra\.weight"):
        load_published(han(), path)


def test_psp_of_the_other_supervision_is_named(tmp_path: Path) -> None:
    weak = PSP(supervision="weak").state_dict()
    dead = {name: torch.zeros(shape) for name, shape in PSP_DEAD["weak"].items()}
    with pytest.raises(LayoutMismatch, match=r"was trained with weak supervision, .* choose --supervision weak"):
        load_published(PSP(supervision="full"), saved(tmp_path, weak | dead))
    with pytest.raises(LayoutMismatch, match=r"was trained with full supervision, .* choose --supervision full"):
        load_published(PSP(supervision="weak"), saved(tmp_path, PSP(supervision="full").state_dict()))


def test_another_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(LayoutMismatch, match="it is of another network than AVEL: choose --model"):
        load_published(AVEL(), saved(tmp_path, official_han()))


def test_a_whole_pickled_network_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"Python objects besides tensors.*weights_only=False\)\.state_dict\(\), NEW"
    ) as caught:
        load_published(AVEL(), saved(tmp_path, AVEL(), "AV_att.pt"))
    assert "\n" not in str(caught.value)


def test_a_diverged_checkpoint_is_refused(tmp_path: Path) -> None:
    state = official_han()
    state["fc_v.bias"][3] = torch.nan
    with pytest.raises(WeightsError, match=r"NaN or infinity in fc_v\.bias: its training diverged"):
        load_published(han(), saved(tmp_path, state))


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "MMIL_Net.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"MMIL_Net\.pt"):
        load_published(han(), path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"there is no checkpoint .*nowhere\.pt"):
        load_published(han(), tmp_path / "nowhere.pt")
