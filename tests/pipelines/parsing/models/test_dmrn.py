"""DMRN: AVEL's streams, fused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from extract.errors import PlanError
from pipelines.parsing.models.avel import AVEL
from pipelines.parsing.models.dmrn import DMRN, SHARED
from pipelines.parsing.weights import begin_with

SMALL = {"classes": 4, "audio": 6, "visual": 5, "regions": 6}


def inputs(seconds: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(2, seconds, 6, generator=generator), torch.rand(2, seconds, 2, 3, 5, generator=generator)


def test_scores_are_those_of_the_official_network(load, golden):
    formula = load("tests_parsing_formula", Path(__file__).with_name("formula.py"))
    network = formula.fill(DMRN())
    with torch.no_grad():
        located = network(formula.formula_input(4, 2, 10, 128), formula.formula_input(5, 2, 10, 7, 7, 512))
    with np.load(golden / "parsing_forward.npz") as wanted:
        np.testing.assert_allclose(located.score, wanted["ave_dmrn"], rtol=0, atol=1e-5)


def test_it_has_the_official_parameters():
    named = {name: tuple(parameter.shape) for name, parameter in DMRN().named_parameters()}
    assert {name.split(".")[0] for name in named} == {*SHARED, "U_v", "U_a", "L2"}
    assert named["U_v.2.weight"] == named["U_a.0.weight"] == (256, 256)
    assert named["L2.weight"] == (29, 256)


@pytest.mark.parametrize("seconds", [1, 20])
def test_any_number_of_seconds(seconds):
    network = DMRN(**SMALL).eval()
    with torch.no_grad():
        located = network(*inputs(seconds))
        again = network(*inputs(seconds))
    assert located.fused.shape == (2, seconds, 256)
    assert located.fused.abs().max() <= 1
    torch.testing.assert_close(located.score.sum(dim=2), torch.ones(2, seconds))
    assert torch.equal(located.score, again.score)


def test_each_modality_is_carried_by_the_other():
    network = DMRN(**SMALL).eval()
    with torch.no_grad():
        for parameter in (*network.U_v.parameters(), *network.U_a.parameters()):
            parameter.zero_()
        audio, visual = inputs()
        heard = network.lstm_audio(audio)[0]
        seen = network.lstm_video(network.attend(audio, visual))[0]
        torch.testing.assert_close(network(audio, visual).fused, (heard.tanh() + seen.tanh()) / 2)


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    network = DMRN(**SMALL)
    network(*inputs()).score[..., 0].log().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_it_starts_from_a_trained_avel():
    torch.manual_seed(0)
    trained, network = AVEL(**{**SMALL, "classes": 9}, supervision="full"), DMRN(**SMALL)
    own = network.L2.weight.clone()
    assert network.start_from(trained.state_dict()) == 7 + 2 * 8
    theirs = trained.state_dict()
    taken = [key for key, value in network.state_dict().items() if key in theirs and torch.equal(value, theirs[key])]
    assert len(taken) == 7 + 2 * 8
    assert torch.equal(network.L2.weight, own)
    with torch.no_grad():
        trained.affine_h.weight.zero_()
    assert network.affine_h.weight.abs().sum() > 0
    with pytest.raises(PlanError, match=r"AVEL has the shape \(512, 7\); DMRN wants \(512, 6\)"):
        network.start_from(AVEL(**{**SMALL, "audio": 7}).state_dict())


def test_a_run_of_dmrn_begins_with_avels_attention_and_streams_only(tmp_path):
    torch.manual_seed(0)
    trained, network = AVEL(**SMALL, supervision="full"), DMRN(**SMALL)
    save_file(trained.state_dict(), tmp_path / "best.safetensors")
    before = network.state_dict()["L2.bias"].clone()
    assert begin_with(network, tmp_path).startswith("begun with 23 of the network's 33 tensors, from ")
    assert torch.equal(network.affine_h.weight, trained.affine_h.weight)
    assert torch.equal(network.L2.bias, before), "AVEL's has the same name and shape, and another place in the network"


def test_weak_supervision_and_wrong_shapes_are_refused():
    with pytest.raises(PlanError, match="full supervision only"):
        DMRN(**SMALL, supervision="weak")
    with pytest.raises(PlanError, match=r"'audio' has the shape \(2, 10, 5\)"):
        DMRN(**SMALL)(torch.zeros(2, 10, 5), inputs()[1])
