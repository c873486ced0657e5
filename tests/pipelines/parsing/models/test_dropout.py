"""Dropout from 16 random bits is dropout."""

import pytest
import torch
import torch.nn.functional as F

from pipelines.parsing.models.dropout import drop


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_drops_its_share_and_keeps_the_mean(share, dtype):
    torch.manual_seed(0)
    given = torch.full((1000, 1001), 2.0, dtype=dtype)
    dropped = drop(given, share, True)
    zeros = float((dropped == 0).double().mean())
    assert zeros == pytest.approx(share, abs=4 * (share * (1 - share) / given.numel()) ** 0.5 + 2**-16)
    left = dropped[dropped != 0].unique()
    assert len(left) == 1
    assert float(left) == pytest.approx(2 / (1 - share), rel=1e-2 if dtype == torch.bfloat16 else 1e-3)


def test_gradients_pass_where_numbers_pass():
    torch.manual_seed(0)
    given = torch.ones(100, 7, requires_grad=True)
    dropped = drop(given, 0.3, True)
    dropped.sum().backward()
    assert torch.equal(given.grad, dropped.detach())


def test_every_place_is_dropped_alike():
    torch.manual_seed(0)
    kept = torch.stack([drop(torch.ones(8), 0.5, True) > 0 for _ in range(4000)]).double()
    assert kept.mean(0).sub(0.5).abs().max() < 0.04
    assert torch.corrcoef(kept.T).sub(torch.eye(8)).abs().max() < 0.08


def test_one_seed_gives_the_same_bits_twice_and_another_call_others():
    torch.manual_seed(3)
    first, second = (drop(torch.ones(99), 0.5, True) for _ in range(2))
    torch.manual_seed(3)
    assert torch.equal(drop(torch.ones(99), 0.5, True), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("share", "training"), [(0.5, False), (0.0, True)])
def test_nothing_is_dropped_without_reason(share, training):
    given = torch.randn(5, 3)
    assert torch.equal(drop(given, share, training), F.dropout(given, share, training))


def test_shares_nearer_than_the_steps_to_all_or_nothing_are_left_to_torch():
    given = torch.ones(1000)
    assert torch.equal(drop(given, 1e-9, True), given)
    assert float(drop(given, 1 - 1e-9, True).sum()) == 0
