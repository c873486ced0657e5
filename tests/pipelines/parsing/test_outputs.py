"""Pooling of seconds into a clip: what it is for whole clips, for parts, and how parts add up."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipelines.parsing.outputs import AUDIO, VISUAL, Parsed, pool

B, T, C = 3, 5, 4


def parsed(seconds: int = T, seed: int = 0) -> Parsed:
    torch.manual_seed(seed)
    frame, time, modality = (torch.randn(B, seconds, 2, C, dtype=torch.float64) for _ in range(3))
    stream = torch.zeros(B, seconds, 2, 1)
    return Parsed(frame.sigmoid(), time, modality, stream, stream)


def part(told: Parsed, where: Tensor) -> Parsed:
    """The seconds of `where`, as many in each clip, as if there were no others."""
    return Parsed(*(each[where].view(B, -1, *each.shape[2:]) for each in told))


def test_by_hand() -> None:
    told = parsed()
    found = pool(told)
    for modality, name in ((AUDIO, "audio"), (VISUAL, "visual")):
        weight = told.time_logits[:, :, modality].exp()
        wanted = (weight * told.frame[:, :, modality]).sum(dim=1) / weight.sum(dim=1)
        assert torch.allclose(getattr(found, name), wanted)
    share = told.modality_logits.exp() / told.modality_logits.exp().sum(dim=2, keepdim=True)
    time = told.time_logits.exp() / told.time_logits.exp().sum(dim=1, keepdim=True)
    assert torch.allclose(found.video, (share * time * told.frame).sum(dim=(1, 2)))


def test_a_part_is_pooled_as_if_it_were_all() -> None:
    told = parsed()
    where = torch.tensor([[1, 1, 0, 0, 0], [0, 1, 0, 0, 1], [0, 0, 0, 1, 1]], dtype=torch.bool)
    for found, wanted in zip(pool(told, where), pool(part(told, where)), strict=True):
        assert torch.allclose(found, wanted)


def test_parts_with_the_weights_of_the_whole_add_up_to_it() -> None:
    told, where = parsed(), torch.rand(B, T) > 0.5
    halves = [pool(told, each, renormalise=False) for each in (where, ~where)]
    for one, other, whole in zip(*halves, pool(told), strict=True):
        assert torch.allclose(one + other, whole)
    everywhere = torch.ones(B, T, dtype=torch.bool)
    for found, wanted in zip(pool(told, everywhere), pool(told), strict=True):
        assert torch.equal(found, wanted)


def test_an_average_of_a_constant_is_that() -> None:
    told = parsed()._replace(frame=torch.full((B, T, 2, C), 0.25, dtype=torch.float64))
    found = pool(told)
    assert found.audio.sub(0.25).abs().max() < 1e-12
    assert found.visual.sub(0.25).abs().max() < 1e-12


def test_video_may_exceed_one_and_stays_below_two() -> None:
    """As published: of a class that is surely heard in one second and surely seen in another."""
    sure = torch.full((1, 2, 2, 1), 50.0)
    opposite = torch.tensor([[[[50.0], [-50.0]], [[-50.0], [50.0]]]])
    told = Parsed(torch.ones(1, 2, 2, 1), opposite, opposite, sure, sure)
    assert pool(told).video.item() == pytest.approx(2)
