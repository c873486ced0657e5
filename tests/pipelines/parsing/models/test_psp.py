"""PSP, weak and full, and the rule by which connections are cut."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import PlanError, UnknownName
from pipelines.parsing.models.psp import PSP, Propagation, connections

SMALL = {"classes": 4, "audio": 6, "visual": 5, "regions": 6}
BOTH = pytest.mark.parametrize("supervision", ["weak", "full"])


@pytest.fixture(scope="module")
def formula(load) -> ModuleType:
    return load("tests_parsing_formula", Path(__file__).with_name("formula.py"))


@pytest.fixture(scope="module")
def wanted(golden):
    with np.load(golden / "parsing_forward.npz") as file:
        return dict(file)


def inputs(seconds: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(2, seconds, 6, generator=generator), torch.rand(2, seconds, 2, 3, 5, generator=generator)


def official(formula: ModuleType) -> tuple[torch.Tensor, torch.Tensor]:
    return formula.formula_input(4, 2, 10, 128), formula.formula_input(5, 2, 10, 7, 7, 512)


def open_gate(network: PSP) -> PSP:
    """Lets the temporal weight differ from 0.5: where its layer gives a negative number, it neither varies nor learns."""
    with torch.no_grad():
        network.W3.weight.copy_(network(*inputs()).score.mean(dim=(0, 1)))
    return network


def test_weak_scores_are_those_of_the_official_network(formula, wanted):
    network = formula.fill(PSP(supervision="weak"))
    with torch.no_grad():
        located = network(*official(formula))
        pooled = network.pool(located.score)
    np.testing.assert_allclose(located.score, wanted["psp_weak_score"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(pooled, wanted["psp_weak_video"], rtol=0, atol=1e-5)
    assert located.cross is None


def test_full_scores_are_those_of_the_official_network(formula, wanted):
    network = formula.fill(PSP(supervision="full"))
    with torch.no_grad():
        located = network(*official(formula))
    np.testing.assert_allclose(located.score, wanted["psp_full_out"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(located.fused, wanted["psp_full_fusion"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(located.cross, wanted["psp_full_cross"], rtol=0, atol=1e-5)


@BOTH
def test_the_official_parameters_that_are_used(supervision):
    unused = {
        "weak": {"temperature": 29, "W1": 256, "W2": 64},
        "full": {"linear_v": 512 * 128 + 128, "classify": 2 * (256 * 64 + 64 * 28), "L3": 256 * 64 + 64, "L4": 130},
    }
    counts = {"weak": 1_254_251, "full": 1_667_251}
    named = dict(PSP(supervision=supervision).named_parameters())
    assert (
        sum(parameter.numel() for parameter in named.values()) + sum(unused[supervision].values())
        == counts[supervision]
    )
    only = {
        "weak": {"linear_v.weight", "linear_v.bias", "W3.weight"},
        "full": {"fa.0.weight", "fa.1.weight", "fv.0.weight", "fv.1.weight", "psp.v_fc.weight", "psp.a_fc.weight"},
    }
    either = {"attention.affine_h.weight", "lstm_a_v.lstm_video.weight_hh_l0", "psp.v_L1.weight", "psp.layer_norm.bias"}
    other = "full" if supervision == "weak" else "weak"
    assert only[supervision] | either | {"L1.weight", "L2.weight"} <= set(named)
    assert not only[other] & set(named)


@BOTH
@pytest.mark.parametrize("seconds", [1, 10, 20])
def test_any_number_of_seconds_and_both_forms_of_the_maps(supervision, seconds):
    network = PSP(**SMALL, supervision=supervision).eval()
    audio, visual = inputs(seconds)
    with torch.no_grad():
        located = network(audio, visual)
        flat = network(audio, visual.flatten(2, 3))
    assert located.score.shape == (2, seconds, 4)
    assert located.fused.shape == (2, seconds, 256)
    assert torch.equal(located.score, flat.score)
    if supervision == "full":
        assert located.cross.shape == (2, seconds)
        assert located.cross.abs().max() <= 1 + 1e-6


def test_connections_by_hand():
    agreement = torch.tensor([[[6.0, 3.0, 1.0], [2.0, 2.0, 0.0], [0.0, 0.0, 0.0]]])
    cut = connections(agreement, 0.2, renormalise=False)
    torch.testing.assert_close(cut, torch.tensor([[[0.6, 0.3, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]]))
    again = connections(agreement, 0.2, renormalise=True)
    torch.testing.assert_close(again, torch.tensor([[[2 / 3, 1 / 3, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]]))
    columns = connections(agreement.transpose(1, 2), 0.2, renormalise=False)
    torch.testing.assert_close(columns, torch.tensor([[[0.75, 0.25, 0.0], [0.6, 0.4, 0.0], [1.0, 0.0, 0.0]]]))


def test_a_connection_as_strong_as_the_threshold_is_cut():
    agreement = torch.tensor([[[1.0, 3.0], [1.0, 3.0]]])
    assert (connections(agreement, 0.25, renormalise=False)[0, :, 0] == 0).all()
    assert (connections(agreement, 0.2499, renormalise=False)[0, :, 0] == 0.25).all()


@BOTH
def test_weak_keeps_the_shares_and_full_normalises_them(supervision):
    """One second of picture agrees 3 : 1 with two of sound; the weaker is cut."""
    project = supervision == "full"
    block = Propagation(2, project=project, dropout=0.0)
    with torch.no_grad():
        for layer in (block.v_L1, block.v_L2, block.a_L1, block.a_L2, *((block.v_fc, block.a_fc) if project else ())):
            layer.weight.copy_(torch.eye(2))
        block.layer_norm = torch.nn.Identity()
        seen = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        heard = torch.tensor([[[3.0, 0.0], [1.0, 2.0]]])
        after_heard, after_seen = block(heard, seen, 0.3)
    # agreement: rows (3, 1) and (0, 2); shares of the picture (3/4, 1/4), (0, 1); of the sound (1, 0), (1/3, 2/3)
    share = 1.0 if project else 0.75
    torch.testing.assert_close(after_seen, seen + torch.tensor([[[3 * share, 0.0], [1.0, 2.0]]]))
    torch.testing.assert_close(after_heard, heard + torch.tensor([[[1.0, 0.0], [1 / 3, 2 / 3]]]))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), seconds=st.integers(1, 20), threshold=st.floats(0, 0.3))
def test_shares_never_exceed_a_whole(seed, seconds, threshold):
    agreement = torch.randn(2, seconds, seconds, generator=torch.Generator().manual_seed(seed)).relu()
    cut = connections(agreement, threshold, renormalise=False)
    sums = connections(agreement, threshold, renormalise=True).sum(dim=2)
    assert ((cut == 0) | (cut > threshold)).all()
    assert (cut.sum(dim=2) <= 1 + 1e-5).all()
    assert ((sums == 0) | ((sums - 1).abs() < 1e-5)).all()


@BOTH
def test_the_threshold_follows_the_length_of_the_clip(supervision):
    published = {"weak": 0.095, "full": 0.099}[supervision]
    network = PSP(**SMALL, supervision=supervision)
    assert network.threshold_at(10) == published
    assert network.threshold_at(20) == published / 2
    assert PSP(**SMALL, supervision=supervision, threshold_seconds=None).threshold_at(20) == published
    assert PSP(**SMALL, supervision=supervision, threshold=0.02).threshold_at(10) == 0.02
    for seconds in (10, 20):
        even = connections(torch.ones(1, seconds, seconds), network.threshold_at(seconds), renormalise=False)
        torch.testing.assert_close(even.sum(dim=2), torch.ones(1, seconds))


@BOTH
def test_the_threshold_is_used(supervision):
    torch.manual_seed(0)
    network = PSP(**SMALL, supervision=supervision).eval()
    with torch.no_grad():
        all_kept = network(*inputs()).fused
        network.threshold = 0.12
        some = network(*inputs()).fused
    assert not torch.allclose(all_kept, some)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_masked_pool_is_the_pool_of_the_part(data):
    network = PSP(**SMALL)
    seconds = data.draw(st.integers(1, 12))
    rows = st.lists(st.booleans(), min_size=seconds, max_size=seconds).filter(any)
    where = torch.tensor([data.draw(rows), data.draw(rows)])
    score = torch.randn(2, seconds, 4, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    pooled = network.pool(score, where)
    for clip in range(2):
        torch.testing.assert_close(pooled[clip], network.pool(score[clip : clip + 1, where[clip]])[0])
    torch.testing.assert_close(network.pool(score, torch.ones(2, seconds, dtype=torch.bool)), network.pool(score))


def test_pool_is_the_softmax_of_the_mean():
    network = PSP(**{**SMALL, "classes": 2})
    score = torch.tensor([[[0.0, 1.0], [2.0, -5.0]]])
    torch.testing.assert_close(network.pool(score), torch.tensor([[1.0, -2.0]]).softmax(dim=1))
    assert network.pool(score, torch.zeros(1, 2, dtype=torch.bool)).isnan().all()
    with pytest.raises(PlanError, match="scores seconds"):
        PSP(**SMALL, supervision="full").pool(score)


def test_the_temporal_weight_changes_no_answer():
    torch.manual_seed(0)
    network = open_gate(PSP(**SMALL).eval())
    with torch.no_grad():
        located = network(*inputs())
        plain = network.L2(network.L1(located.fused).relu())
    ratio = located.score / plain
    assert torch.equal(located.score.argmax(dim=2), plain.argmax(dim=2))
    assert ((ratio > 0.4999) & (ratio < 1.0001)).all()
    torch.testing.assert_close(ratio.amax(dim=2), ratio.amin(dim=2))
    assert ratio.std() > 0


@BOTH
def test_gradients_reach_every_parameter(supervision):
    torch.manual_seed(0)
    network = PSP(**SMALL, supervision=supervision)
    if supervision == "weak":
        open_gate(network)
    located = network(*inputs(20))
    if supervision == "weak":
        network.pool(located.score)[:, 0].log().sum().backward()
    else:
        (located.score[..., 0].sum() + located.cross.square().sum()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@BOTH
def test_dropout_only_while_training(supervision):
    network = PSP(**SMALL, supervision=supervision)
    with torch.no_grad():
        assert not torch.equal(network(*inputs()).score, network(*inputs()).score)
        network.eval()
        assert torch.equal(network(*inputs()).score, network(*inputs()).score)
        without = PSP(**SMALL, supervision=supervision, dropout=0.0)
        assert torch.equal(without(*inputs()).score, without(*inputs()).score)


@BOTH
def test_half_precision_by_autocast(supervision):
    network = PSP(**SMALL, supervision=supervision, threshold=0.0).eval()
    with torch.no_grad():
        whole = network(*inputs()).score
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = network(*inputs()).score
    torch.testing.assert_close(half.float(), whole, rtol=0, atol=0.05)


@BOTH
def test_wrong_shapes_are_named_as_they_were_given(supervision):
    network = PSP(**SMALL, supervision=supervision)
    audio, visual = inputs()
    with pytest.raises(PlanError, match=r"'audio' has the shape \(2, 10, 7\).*wants \(clips, seconds, 6\)"):
        network(torch.zeros(2, 10, 7), visual)
    with pytest.raises(PlanError, match=r"'visual' has the shape \(2, 10, 2, 2, 5\)"):
        network(audio, torch.zeros(2, 10, 2, 2, 5))
    with pytest.raises(PlanError, match="holds 1 clips of 10 seconds"):
        network(audio, visual[:1])


def test_choices_that_do_not_exist_are_refused():
    with pytest.raises(UnknownName, match="full"):
        PSP(**SMALL, supervision="fully")
    with pytest.raises(PlanError, match=r"threshold of PSP is 1\.5"):
        PSP(**SMALL, threshold=1.5)
    with pytest.raises(PlanError, match="threshold_seconds is 0"):
        PSP(**SMALL, threshold_seconds=0)
