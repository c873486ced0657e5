"""HAN against the official forward pass, against nn.MultiheadAttention, and what must hold for any sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from extract.errors import PlanError, UnknownName
from pipelines.parsing.models.han import HAN
from pipelines.parsing.outputs import AUDIO, VISUAL, pool

SMALL: dict[str, Any] = {"classes": 5, "audio": 6, "visual": 7, "clip": 4, "width": 16, "feedforward": 12}


@pytest.fixture(scope="module")
def formula(load: Callable[[str, Path], ModuleType]) -> ModuleType:
    return load("tests_parsing_formula", Path(__file__).with_name("formula.py"))


def small(seed: int = 0, **more: Any) -> HAN:
    torch.manual_seed(seed)
    return HAN(**SMALL | more).eval()


def inputs(seconds: int = 10, clips: int = 3, rows: int = 1, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    return (
        torch.randn(clips, seconds, 6, generator=drawn),
        torch.randn(clips, seconds * rows, 7, generator=drawn),
        torch.randn(clips, seconds, 4, generator=drawn),
    )


# ---- the official forward pass ---------------------------------------------------------------------------------------


def test_equals_the_official_network(formula: ModuleType, golden: Path) -> None:
    expected = np.load(golden / "parsing_forward.npz")
    network = formula.fill(HAN())
    with torch.no_grad():
        parsed = network(
            formula.formula_input(1, 2, 10, 128),
            formula.formula_input(2, 2, 80, 2048),
            formula.formula_input(3, 2, 10, 512),
        )
    pooled = pool(parsed)
    for key, ours in {"global": pooled.video, "a": pooled.audio, "v": pooled.visual, "frame": parsed.frame}.items():
        np.testing.assert_allclose(ours.numpy(), expected[f"han_{key}"], rtol=0, atol=1e-5, err_msg=key)


def test_has_the_official_names_and_sizes() -> None:
    attention = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    linear = ("fc_prob", "fc_frame_att", "fc_av_att", "fc_a", "fc_v", "fc_st", "fc_fusion")
    inside = ("linear1", "linear2", "norm1", "norm2")
    layer = "hat_encoder.layers.0"
    names = {f"{name}.{part}" for name in linear for part in ("weight", "bias")}
    names |= {f"{layer}.{name}.{part}" for name in inside for part in ("weight", "bias")}
    names |= {f"{layer}.{name}.{part}" for name in ("self_attn", "cm_attn") for part in attention}
    network = HAN()
    assert set(network.state_dict()) == names
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_569_675


def _slow_layer(network: HAN, number: int, heads: int, query: Tensor, other: Tensor) -> Tensor:
    """One stream through one layer, with torch's own attention, as the paper writes it."""
    layer = network.hat_encoder.layers[str(number)]
    width = query.shape[2]
    added = torch.zeros_like(query)
    for ours, memory in ((layer.self_attn, query), (layer.cm_attn, other)):
        attention = nn.MultiheadAttention(width, heads, batch_first=True).eval()
        attention.load_state_dict(ours.state_dict())
        added = added + attention(query, memory, memory)[0]
    middle = F.layer_norm(query + added, (width,), layer.norm1.weight, layer.norm1.bias)
    inner = layer.linear2(layer.linear1(middle).relu())
    return F.layer_norm(middle + inner, (width,), layer.norm2.weight, layer.norm2.bias)


@pytest.mark.parametrize("seconds", [1, 10, 20])
@pytest.mark.parametrize(("layers", "heads", "compat"), [(1, 1, "official"), (2, 2, "chained"), (3, 4, "official")])
@torch.no_grad()
def test_equals_torch_attention(seconds: int, layers: int, heads: int, compat: str) -> None:
    network = small(layers=layers, heads=heads, encoder_compat=compat)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            parameter.uniform_(-0.3, 0.3)
    audio, visual, clip = inputs(seconds, rows=8)
    heard = network.fc_a(audio)
    assert network.fc_st is not None
    frames = network.fc_v(visual).reshape(3, seconds, 8, 16).mean(dim=2)
    seen = network.fc_fusion(torch.cat((frames, network.fc_st(clip)), dim=-1))
    parsed = network(audio, visual, clip)
    torch.testing.assert_close(parsed.before, torch.stack((heard, seen), dim=2))
    for number in range(layers) if compat == "chained" else [layers - 1]:
        heard, seen = (
            _slow_layer(network, number, heads, heard, seen),
            _slow_layer(network, number, heads, seen, heard),
        )
    after = torch.stack((heard, seen), dim=2)
    torch.testing.assert_close(parsed.after, after)
    torch.testing.assert_close(parsed.frame, network.fc_prob(after).sigmoid())
    torch.testing.assert_close(parsed.time_logits, network.fc_frame_att(after))
    torch.testing.assert_close(parsed.modality_logits, network.fc_av_att(after))


# ---- options ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_official_layers_count_by_the_last_one_only() -> None:
    chained, official = small(layers=2, encoder_compat="chained"), small(layers=2)
    state = chained.state_dict()
    official.load_state_dict({name: state[name] for name in official.state_dict()})
    one = small(layers=1)
    one.load_state_dict({name: state[name.replace("layers.0", "layers.1")] for name in one.state_dict()})
    given = inputs()
    torch.testing.assert_close(official(*given).frame, one(*given).frame, rtol=0, atol=0)
    assert not torch.allclose(official(*given).frame, chained(*given).frame, atol=1e-3)


@torch.no_grad()
def test_frames_may_be_pooled_before() -> None:
    network = small()
    audio, visual, clip = inputs(rows=8)
    pooled = visual.reshape(3, 10, 8, 7).mean(dim=2)
    torch.testing.assert_close(network(audio, visual, clip), network(audio, pooled, clip))


@torch.no_grad()
def test_without_a_clip_feature_it_is_the_network_whose_fusion_ignores_it() -> None:
    joined, alone = small(), small(clip=None)
    joined.fc_fusion.weight[:, 16:] = 0
    state = {name: tensor for name, tensor in joined.state_dict().items() if not name.startswith("fc_st")}
    alone.load_state_dict(state | {"fc_fusion.weight": joined.fc_fusion.weight[:, :16]})
    audio, visual, clip = inputs()
    torch.testing.assert_close(alone(audio, visual), joined(audio, visual, clip))


@torch.no_grad()
def test_without_cross_attention_no_stream_reads_the_other() -> None:
    network = small(layers=2, heads=2, encoder_compat="chained")
    audio, visual, clip = inputs()
    apart = network(audio, visual, clip, cross_attention=False).frame
    changed = network(audio, visual + 1, clip, cross_attention=False).frame
    torch.testing.assert_close(apart[:, :, AUDIO], changed[:, :, AUDIO])
    assert not torch.allclose(apart[:, :, VISUAL], changed[:, :, VISUAL], atol=1e-3)
    crossed = network(audio, visual + 1, clip).frame
    assert not torch.allclose(network(audio, visual, clip).frame[:, :, AUDIO], crossed[:, :, AUDIO], atol=1e-3)
    for layer in network.hat_encoder.layers.values():
        layer.cm_attn.out_proj.weight.zero_()
        layer.cm_attn.out_proj.bias.zero_()
    torch.testing.assert_close(network(audio, visual, clip).frame, apart)


# ---- dropout ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_dropout_acts_in_training_only() -> None:
    network, given = small(dropout=0.3), inputs()
    rest = network(*given).frame
    torch.testing.assert_close(network(*given).frame, rest, rtol=0, atol=0)
    network.train()
    first = network(*given).frame
    assert not torch.allclose(first, rest, atol=1e-3)
    assert not torch.allclose(first, network(*given).frame, atol=1e-3)
    torch.testing.assert_close(small(dropout=0.0).train()(*given).frame, rest)


@torch.no_grad()
def test_attention_weights_are_dropped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    network, given = small(dropout=0.3), inputs()
    monkeypatch.setattr(F, "dropout", lambda values, *_, **__: values)
    assert not torch.allclose(network.train()(*given).frame, network.eval()(*given).frame, atol=1e-3)


@torch.no_grad()
def test_visual_dropout_touches_the_visual_heads_only() -> None:
    network, given = small(dropout=0.0, visual_dropout=0.5), inputs()
    rest, trained = network(*given), network.train()(*given)
    for name in ("frame", "time_logits", "modality_logits"):
        before, after = getattr(rest, name), getattr(trained, name)
        torch.testing.assert_close(after[:, :, AUDIO], before[:, :, AUDIO])
        assert not torch.allclose(after[:, :, VISUAL], before[:, :, VISUAL], atol=1e-3)
    torch.testing.assert_close(trained.after, rest.after)


# ---- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [{}, {"layers": 2}, {"layers": 2, "encoder_compat": "chained", "heads": 2}, {"clip": None, "visual_dropout": 0.1}],
)
def test_gradients_reach_every_parameter(more: dict[str, Any]) -> None:
    network = small(**more).train()
    audio, visual, clip = inputs()
    pooled = pool(network(audio, visual, None if network.clip is None else clip))
    sum(part.square().sum() for part in pooled).backward()
    without = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().max() > 0
    ]
    assert without == []


@torch.no_grad()
def test_starts_as_torch_attention_does() -> None:
    network = small(width=64, heads=4)
    attention = network.hat_encoder.layers["0"].self_attn
    bound = (6 / (64 + 3 * 64)) ** 0.5
    assert bound * 0.98 < float(attention.in_proj_weight.abs().max()) <= bound
    assert bound / 3**0.5 * 0.95 < float(attention.in_proj_weight.std()) < bound / 3**0.5 * 1.05
    assert 0.95 / 8 < float(attention.out_proj.weight.abs().max()) <= 1 / 8
    assert not attention.in_proj_bias.any()
    assert not attention.out_proj.bias.any()


def test_bfloat16_autocast_is_close_and_gives_float32() -> None:
    network, given = small(layers=2, heads=2, encoder_compat="chained"), inputs(20)
    exact = network(*given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = network(*given)
    assert {part.dtype for part in rough} == {torch.float32}
    torch.testing.assert_close(rough.frame, exact.frame, rtol=0, atol=0.02)
    assert not torch.equal(rough.frame, exact.frame)
    pool(rough).video.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


# ---- what holds for any clip -----------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(7)), seed=st.integers(0, 2**31))
@torch.no_grad()
def test_seconds_have_no_order(order: list[int], seed: int) -> None:
    network = small(layers=2, heads=2, encoder_compat="chained")
    audio, visual, clip = inputs(7, seed=seed)
    moved = network(audio[:, order], visual[:, order], clip[:, order])
    torch.testing.assert_close(moved.frame, network(audio, visual, clip).frame[:, order], rtol=1e-4, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(clips=st.integers(1, 5), seconds=st.integers(1, 12), rows=st.sampled_from([1, 8]), seed=st.integers(0, 2**31))
@torch.no_grad()
def test_clips_do_not_see_each_other(clips: int, seconds: int, rows: int, seed: int) -> None:
    network = small()
    audio, visual, clip = inputs(seconds, clips, rows, seed)
    together = network(audio, visual, clip)
    alone = network(audio[-1:], visual[-1:], clip[-1:])
    for part, own in zip(together, alone, strict=True):
        torch.testing.assert_close(part[-1:], own, rtol=1e-4, atol=1e-5)


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("audio", "visual", "clip", "words"),
    [
        ((3, 10, 5), (3, 10, 7), (3, 10, 4), "takes 6 audio numbers per second, the feature has 5"),
        ((3, 10, 6), (3, 80, 8), (3, 10, 4), "takes 7 visual numbers per second, the feature has 8"),
        ((3, 10, 6), (3, 10, 7), (3, 10, 9), "takes 4 clip numbers per second, the feature has 9"),
        ((3, 10, 6), (3, 20, 7), (3, 10, 4), "visual must have 10 or 80 rows for each, got 3 clips of 20 rows"),
        ((3, 10, 6), (2, 80, 7), (3, 10, 4), "visual must have 10 or 80 rows for each, got 2 clips of 80 rows"),
        ((3, 10, 6), (3, 10, 7), (3, 80, 4), "clip must have 10 rows for each, got 3 clips of 80 rows"),
        ((10, 6), (3, 10, 7), (3, 10, 4), r"audio features are \(clips, seconds, 6\); got \(10, 6\)"),
        (
            (3, 10, 6),
            (3, 10, 7, 7, 7),
            (3, 10, 4),
            r"visual features are \(clips, seconds, 7\); got \(3, 10, 7, 7, 7\)",
        ),
        ((3, 10, 6), (3, 10, 7), None, "takes a clip feature of 4 numbers per second and was given none"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    audio: tuple[int, ...], visual: tuple[int, ...], clip: tuple[int, ...] | None, words: str
) -> None:
    with pytest.raises(PlanError, match=words):
        small()(torch.zeros(audio), torch.zeros(visual), None if clip is None else torch.zeros(clip))


def test_a_clip_feature_too_many_is_refused() -> None:
    with pytest.raises(PlanError, match="built without a clip feature"):
        small(clip=None)(*inputs())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"heads": 3}, "3 heads do not divide a width of 16"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"visual_dropout": -0.1}, "visual_dropout must be at least 0 and below 1, got -0.1"),
    ],
)
def test_options_out_of_range_are_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanError, match=words):
        small(**more)


def test_an_unknown_encoder_is_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean chained"):
        small(encoder_compat="chain")
