"""AVEL, and the attention that it shares with DMRN and PSP."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from extract.errors import PlanError, UnknownName
from pipelines.parsing.models.avel import AVEL
from pipelines.parsing.models.guided import Guided, fitting

SMALL = {"classes": 4, "audio": 6, "visual": 5, "regions": 6}


@pytest.fixture(scope="module")
def formula(load) -> ModuleType:
    return load("tests_parsing_formula", Path(__file__).with_name("formula.py"))


@pytest.fixture(scope="module")
def wanted(golden):
    with np.load(golden / "parsing_forward.npz") as file:
        return dict(file)


def inputs(*, clips: int = 2, seconds: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return (
        torch.rand(clips, seconds, 6, generator=generator),
        torch.rand(clips, seconds, 2, 3, 5, generator=generator),
    )


@pytest.mark.parametrize(("supervision", "key"), [("weak", "ave_weak_score"), ("full", "ave_full")])
def test_scores_are_those_of_the_official_network(formula, wanted, supervision, key):
    network = formula.fill(AVEL(supervision=supervision))
    with torch.no_grad():
        located = network(formula.formula_input(4, 2, 10, 128), formula.formula_input(5, 2, 10, 7, 7, 512))
    np.testing.assert_allclose(located.score, wanted[key], rtol=0, atol=1e-5)
    assert located.cross is None
    if supervision == "weak":
        np.testing.assert_allclose(network.pool(located.score), wanted["ave_weak_video"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("supervision", ["weak", "full"])
def test_it_has_the_official_parameters(supervision):
    named = {name: tuple(parameter.shape) for name, parameter in AVEL(supervision=supervision).named_parameters()}
    assert sum(int(np.prod(shape)) for shape in named.values()) == 1_335_246
    assert named["affine_video.weight"] == (512, 512)
    assert named["affine_h.weight"] == (1, 49)
    assert named["lstm_video.weight_ih_l0_reverse"] == (512, 512)
    assert named["L1.weight"] == (64, 512)
    assert {name.split(".")[0] for name in named} == {
        *("affine_audio", "affine_video", "affine_v", "affine_g", "affine_h", "lstm_audio", "lstm_video", "L1", "L2")
    }


def test_linear_weights_start_xavier_uniform():
    torch.manual_seed(0)
    network = AVEL()
    for layer in [module for module in network.modules() if isinstance(module, nn.Linear)]:
        edge = (6 / (layer.in_features + layer.out_features)) ** 0.5
        largest = float(layer.weight.detach().abs().max())
        assert 0.9 * edge < largest <= edge, layer


@pytest.mark.parametrize("supervision", ["weak", "full"])
@pytest.mark.parametrize("seconds", [1, 7, 10, 20])
def test_any_number_of_seconds_and_both_forms_of_the_maps(supervision, seconds):
    network = AVEL(**SMALL, supervision=supervision).eval()
    audio, visual = inputs(seconds=seconds)
    with torch.no_grad():
        located = network(audio, visual)
        flat = network(audio, visual.flatten(2, 3))
    assert located.score.shape == (2, seconds, 4)
    assert located.fused.shape == (2, seconds, 512)
    assert torch.equal(located.score, flat.score)
    sums = located.score.sum(dim=2)
    assert torch.allclose(sums, torch.ones(2, seconds)) == (supervision == "full")


def test_a_longer_clip_is_not_cut_into_pieces_of_ten():
    network = AVEL(**SMALL).eval()
    audio, visual = inputs(clips=1, seconds=20)
    with torch.no_grad():
        whole = network(audio, visual).score
        moved = network(torch.cat((audio[:, :19], audio[:, 19:] + 1), dim=1), visual).score
    assert (whole[:, 9] != moved[:, 9]).any()


def test_attention_averages_the_regions_and_follows_the_sound():
    torch.manual_seed(1)
    attention = Guided(audio=6, visual=5, regions=6, hidden=8)
    audio, visual = inputs()
    with torch.no_grad():
        seen = attention.attend(audio, visual)
        other = attention.attend(audio + 1, visual)
        alike = attention.attend(audio, visual[:, :, :1, :1].expand(-1, -1, 2, 3, -1))
    assert (seen <= visual.amax(dim=(2, 3)) + 1e-6).all()
    assert (seen >= visual.amin(dim=(2, 3)) - 1e-6).all()
    assert not torch.allclose(seen, other)
    torch.testing.assert_close(alike, visual[:, :, 0, 0])


def test_attention_equals_the_formula_of_the_paper():
    torch.manual_seed(2)
    attention = Guided(audio=6, visual=5, regions=6, hidden=8)
    audio, visual = inputs(clips=1, seconds=1)
    maps, sound = visual[0, 0].flatten(0, 1), audio[0, 0]
    with torch.no_grad():
        deep = (
            attention.affine_v.weight
            @ (attention.affine_video.weight @ maps.T + attention.affine_video.bias[:, None]).relu()
        )
        told = attention.affine_g.weight @ (attention.affine_audio.weight @ sound + attention.affine_audio.bias).relu()
        wanted = torch.zeros(5)
        scores = torch.stack(
            [(attention.affine_h.weight[0] * (deep[:, place] + told[place]).tanh()).sum() for place in range(6)]
        )
        for share, region in zip(scores.softmax(dim=0), maps, strict=True):
            wanted += share * region
        torch.testing.assert_close(attention.attend(audio, visual)[0, 0], wanted)


def test_maps_are_not_copied():
    audio, visual = inputs()
    network = AVEL(**SMALL)
    assert fitting(network, audio, visual, 6).data_ptr() == visual.data_ptr()
    kept = visual.clone()
    network(audio, visual).score.sum().backward()
    assert torch.equal(visual, kept)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_masked_pool_is_the_pool_of_the_part(data):
    network = AVEL(**SMALL)
    seconds = data.draw(st.integers(1, 12))
    rows = st.lists(st.booleans(), min_size=seconds, max_size=seconds).filter(any)
    where = torch.tensor([data.draw(rows), data.draw(rows)])
    score = torch.randn(2, seconds, 4, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    pooled = network.pool(score, where)
    for clip in range(2):
        torch.testing.assert_close(pooled[clip], network.pool(score[clip : clip + 1, where[clip]])[0])
    torch.testing.assert_close(network.pool(score, torch.ones(2, seconds, dtype=torch.bool)), network.pool(score))


def test_pool_takes_the_largest_and_a_clip_without_seconds_is_not_a_number():
    network = AVEL(**{**SMALL, "classes": 2})
    score = torch.tensor([[[0.0, 1.0], [2.0, -5.0]]])
    torch.testing.assert_close(network.pool(score), torch.tensor([[2.0, 1.0]]).softmax(dim=1))
    assert network.pool(score, torch.zeros(1, 2, dtype=torch.bool)).isnan().all()
    with pytest.raises(PlanError, match="scores seconds"):
        AVEL(**SMALL, supervision="full").pool(score)


@pytest.mark.parametrize("supervision", ["weak", "full"])
def test_gradients_reach_every_parameter(supervision):
    torch.manual_seed(0)
    network = AVEL(**SMALL, supervision=supervision)
    located = network(*inputs(seconds=20))
    out = network.pool(located.score) if supervision == "weak" else located.score
    out[..., 0].log().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_outputs_repeat_bit_for_bit():
    network = AVEL(**SMALL).eval()
    with torch.no_grad():
        assert torch.equal(network(*inputs()).score, network(*inputs()).score)


def test_half_precision_by_autocast():
    network = AVEL(**SMALL).eval()
    with torch.no_grad():
        whole = network(*inputs()).score
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = network(*inputs()).score
    torch.testing.assert_close(half.float(), whole, rtol=0, atol=0.03)


def test_shapes_that_do_not_fit_are_named():
    network = AVEL(**SMALL)
    audio, visual = inputs()
    with pytest.raises(PlanError, match=r"'audio' has the shape \(2, 10, 7\).*wants \(clips, seconds, 6\)"):
        network(torch.zeros(2, 10, 7), visual)
    with pytest.raises(PlanError, match=r"'audio' has the shape \(2, 6\)"):
        network(torch.zeros(2, 6), visual)
    with pytest.raises(PlanError, match=r"'visual' has the shape \(2, 10, 3, 3, 5\).*x width = 6"):
        network(audio, torch.zeros(2, 10, 3, 3, 5))
    with pytest.raises(PlanError, match=r"'visual' has the shape \(2, 10, 6, 4\).*wants \(clips, seconds, 6, 5\)"):
        network(audio, torch.zeros(2, 10, 6, 4))
    with pytest.raises(PlanError, match=r"'visual' has the shape \(2, 10, 5\)"):
        network(audio, torch.zeros(2, 10, 5))
    with pytest.raises(PlanError, match=r"'visual' holds 2 clips of 9 seconds; slot 'audio' holds 2 of 10"):
        network(audio, visual[:, :9])


def test_choices_that_do_not_exist_are_refused():
    with pytest.raises(UnknownName, match="weak"):
        AVEL(**SMALL, supervision="weakly")
    with pytest.raises(PlanError, match="regions is 0"):
        AVEL(**{**SMALL, "regions": 0})
