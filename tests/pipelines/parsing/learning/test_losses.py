"""The published losses against what their definitions say, term by term."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from extract.errors import PlanError, UnknownName
from pipelines.parsing.batch import Batch
from pipelines.parsing.learning.losses import full_loss, location_loss, mil_loss, shares, smoothed, weak_loss
from pipelines.parsing.outputs import Located, Pooled


def pooled(seed: int = 0, clips: int = 4, classes: int = 5) -> tuple[Pooled, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    video, audio, visual = torch.rand(3, clips, classes, generator=draw)
    return Pooled(2 * video, audio, visual), (torch.rand(clips, classes, generator=draw) < 0.4).float()


def cross_entropy(probability: float, target: float) -> float:
    return -(target * math.log(probability) + (1 - target) * math.log(1 - probability))


def literal_mil(probabilities: Tensor, weak: Tensor, smooth: float) -> float:
    total = 0.0
    for row, labels in zip(probabilities.tolist(), weak.tolist(), strict=True):
        for probability, label in zip(row, labels, strict=True):
            kept = min(max(probability, 1e-7), 1 - 1e-7)
            total += cross_entropy(kept, smooth * label + (1 - smooth) * 0.5)
    return total / probabilities.numel()


# ---- HAN ---------------------------------------------------------------------------------------------------------


def test_mil_loss_is_three_cross_entropies() -> None:
    given_, weak = pooled()
    given_ = Pooled(given_.video.clamp(max=0.99), given_.audio, given_.visual)
    parts = mil_loss(given_, weak)
    assert list(parts) == ["audio", "visual", "video"]
    assert parts["audio"].item() == pytest.approx(literal_mil(given_.audio, weak, 1.0), rel=1e-5)
    assert parts["visual"].item() == pytest.approx(literal_mil(given_.visual, weak, 0.9), rel=1e-5)
    assert parts["video"].item() == pytest.approx(literal_mil(given_.video, weak, 1.0), rel=1e-5)


def test_mil_loss_smooths_what_it_is_told_to() -> None:
    given_, weak = pooled(1)
    parts = mil_loss(given_, weak, smooth_audio=0.8, smooth_visual=1.0)
    assert parts["audio"].item() == pytest.approx(literal_mil(given_.audio, weak, 0.8), rel=1e-5)
    assert parts["visual"].item() == pytest.approx(literal_mil(given_.visual, weak, 1.0), rel=1e-5)
    torch.testing.assert_close(smoothed(torch.tensor([1.0, 0.0]), 0.9), torch.tensor([0.95, 0.05]))


def test_probabilities_are_clamped_where_the_sum_over_modalities_leaves_their_range() -> None:
    video = torch.tensor([[1.7, 1.7, 0.0, 0.5]], requires_grad=True)
    half = torch.full((1, 4), 0.5)
    loss = mil_loss(Pooled(video, half, half), torch.tensor([[1.0, 0.0, 1.0, 1.0]]))["video"]
    near = torch.tensor(1 - 1e-7, dtype=torch.float32).item()  # 1 - 1e-7 has no float32 of its own
    terms = [-math.log(near), -math.log(1 - near), -math.log(1e-7), math.log(2)]
    assert loss.item() == pytest.approx(sum(terms) / 4, rel=1e-5)
    loss.backward()
    assert video.grad is not None
    assert video.grad[0].tolist() == pytest.approx([0, 0, 0, -0.5])


def test_mil_loss_equals_torchs_on_clamped_probabilities_with_its_gradient() -> None:
    given_, weak = pooled(2)
    ours, theirs = (given_.video.clone().requires_grad_() for _ in range(2))
    loss = mil_loss(Pooled(ours, given_.audio, given_.visual), weak)["video"]
    official = nn.BCELoss()(theirs.clamp(1e-7, 1 - 1e-7), weak)
    loss.backward()
    official.backward()
    torch.testing.assert_close(loss, official)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_mil_loss_is_float32_under_autocast() -> None:
    given_, weak = pooled(3)
    halved = Pooled(*(each.bfloat16() for each in given_))
    with torch.autocast("cpu", torch.bfloat16):
        parts = mil_loss(halved, weak.bfloat16())
    full = mil_loss(Pooled(*(each.float() for each in halved)), weak)
    for name, part in parts.items():
        assert part.dtype == torch.float32
        assert part.item() == full[name].item()


def test_nan_stays_nan() -> None:
    given_, weak = pooled(4)
    given_.audio[1, 2] = math.nan
    parts = mil_loss(given_, weak)
    assert parts["audio"].isnan()
    assert parts["visual"].isfinite()


@pytest.mark.parametrize("smooth", [0.0, -0.1, 1.1, math.nan])
def test_smoothing_outside_its_range_is_refused(smooth: float) -> None:
    given_, weak = pooled()
    with pytest.raises(PlanError, match="label smoothing must be above 0 and at most 1"):
        mil_loss(given_, weak, smooth_visual=smooth)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 1.0))
def test_mil_loss_is_least_where_probabilities_are_the_targets(seed: int, smooth: float) -> None:
    given_, weak = pooled(seed)
    best = Pooled(weak, weak, smoothed(weak, smooth))
    here, least = (mil_loss(each, weak, smooth_visual=smooth) for each in (given_, best))
    for name in here:
        assert 0 <= least[name] <= here[name] + 1e-6


# ---- AVE, weak ---------------------------------------------------------------------------------------------------


def clips(seed: int = 0, seconds: int = 10) -> tuple[Tensor, Batch]:
    """Logits (3, T, 4) and labels of three clips; class 3 is the background."""
    score = torch.randn(3, seconds, 4, generator=torch.Generator().manual_seed(seed))
    event = torch.full((3, seconds), 3)
    event[0, 2:6] = 1
    event[1, :] = 0
    return score, Batch(torch.arange(3), {}, torch.eye(4)[[1, 0, 2]], event)


def test_avel_is_given_probabilities_by_a_loss_for_logits() -> None:
    score, batch = clips()
    video = score.amax(1).softmax(1)
    parts = location_loss("avel", "weak", Located(score, score), video, batch)
    total = 0.0
    for row, labels in zip(video.tolist(), batch.weak.tolist(), strict=True):
        for number, label in zip(row, labels, strict=True):
            total += cross_entropy(1 / (1 + math.exp(-number)), label)
    assert list(parts) == ["video"]
    assert parts["video"].item() == pytest.approx(total / 12, rel=1e-6)
    assert parts["video"].item() == pytest.approx(nn.MultiLabelSoftMarginLoss()(video, batch.weak).item())


def test_psp_reads_labels_of_clips_unless_the_published_target_is_asked_for() -> None:
    score, batch = clips(1)
    video = score.mean(1).softmax(1)
    honest = location_loss("psp", "weak", Located(score, score), video, batch)
    assert honest["video"].item() == pytest.approx(nn.BCELoss()(video, batch.weak).item(), rel=1e-6)
    assert honest == location_loss("psp", "weak", Located(score, score), video, batch, target="label")
    published = location_loss("psp", "weak", Located(score, score), video, batch, target="prob")
    wanted = torch.tensor([[0, 0.4, 0, 0.6], [1, 0, 0, 0], [0, 0, 0, 1]])
    assert published["video"].item() == pytest.approx(nn.BCELoss()(video, wanted).item(), rel=1e-6)


def test_only_the_published_target_tells_how_long_an_event_lasts() -> None:
    score, batch = clips(2)
    video = score.mean(1).softmax(1)
    assert batch.event is not None
    longer = batch.event.clone()
    longer[0, 2:9] = 1
    for target, same in (("label", True), ("prob", False)):
        losses = [weak_loss("psp", video, batch.weak, event, target=target)["video"] for event in (batch.event, longer)]
        assert (losses[0].item() == losses[1].item()) == same


def test_psp_weak_survives_probabilities_of_exactly_0_and_1() -> None:
    logits = torch.tensor([[200.0, 0, 0, -200], [200.0, 0, 0, 0]], requires_grad=True)
    video, weak = logits.softmax(1), torch.eye(4)[[0, 1]]
    assert {0.0, 1.0} <= set(video.flatten().tolist())
    loss = weak_loss("psp", video, weak)["video"]
    assert loss.item() == pytest.approx(nn.BCELoss()(video, weak).item())
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 6), min_size=5, max_size=5), min_size=1, max_size=6))
def test_shares_are_counts_of_seconds(event: list[list[int]]) -> None:
    found = shares(torch.tensor(event), 7)
    assert found.sum(1).tolist() == pytest.approx([1.0] * len(event))
    for clip, row in zip(event, found.tolist(), strict=True):
        assert row == pytest.approx([clip.count(number) / 5 for number in range(7)])


# ---- AVE, full ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["avel", "dmrn"])
def test_full_supervision_of_avel_and_dmrn_is_the_same_loss_per_second(model: str) -> None:
    score, batch = clips(3)
    score = score.softmax(2)
    parts = location_loss(model, "full", Located(score, score), None, batch)
    assert batch.event is not None
    wanted = nn.functional.one_hot(batch.event, 4).float()
    assert list(parts) == ["segment"]
    assert parts["segment"].item() == pytest.approx(nn.MultiLabelSoftMarginLoss()(score, wanted).item(), rel=1e-6)


def literal_psp(score: Tensor, cross: Tensor, event: Tensor) -> tuple[float, float]:
    segment = similarity = 0.0
    for row, alike, seconds in zip(score.double(), cross.tolist(), event.tolist(), strict=True):
        for logits, number in zip(row, seconds, strict=True):
            segment -= logits.log_softmax(0)[number].item()
        marked = [t for t, number in enumerate(seconds) if number != 3] or list(range(len(seconds)))
        positive = [max(each, 0.0) for each in alike]
        for t, each in enumerate(positive):
            similarity += (each / (sum(positive) + 1e-8) - (1 / len(marked) if t in marked else 0)) ** 2
    return segment / event.numel(), 100 * similarity / event.numel()


def test_full_supervision_of_psp() -> None:
    score, batch = clips(4)
    cross = torch.rand(3, 10, generator=torch.Generator().manual_seed(5)) * 2 - 1
    assert batch.event is not None
    parts = location_loss("psp", "full", Located(score, score, cross), None, batch)
    segment, similarity = literal_psp(score, cross, batch.event)
    assert list(parts) == ["segment", "similarity"]
    assert parts["segment"].item() == pytest.approx(segment, rel=1e-6)
    assert parts["similarity"].item() == pytest.approx(similarity, rel=1e-5)


def test_similarities_may_come_normalised_or_not_and_all_below_0() -> None:
    score, batch = clips(4)
    cross = torch.rand(3, 10, generator=torch.Generator().manual_seed(6)) * 2 - 1
    positive = cross.relu() / cross.relu().sum(1, keepdim=True)
    raw, done = (full_loss("psp", Located(score, score, each), batch.event)["similarity"] for each in (cross, positive))
    torch.testing.assert_close(raw, done)
    below = (-cross.abs()).requires_grad_()
    loss = full_loss("psp", Located(score, score, below), batch.event)["similarity"]
    assert loss.item() == pytest.approx(100 * (4 / 16 + 10 / 100 + 10 / 100) / 30, rel=1e-5)
    loss.backward()
    assert below.grad is not None
    assert below.grad.isfinite().all()


# ---- what cannot be ------------------------------------------------------------------------------------------------


def test_what_cannot_be_is_said() -> None:
    score, batch = clips()
    video, located = score.mean(1).softmax(1), Located(score, score)
    blind = Batch(batch.rows, {}, batch.weak)
    with pytest.raises(UnknownName, match="did you mean avel"):
        location_loss("avell", "weak", located, video, batch)
    with pytest.raises(UnknownName, match="known: full, weak"):
        location_loss("avel", "semi", located, video, batch)
    with pytest.raises(UnknownName, match="no target of weak supervision is called 'probs'; did you mean prob"):
        location_loss("psp", "weak", located, video, batch, target="probs")
    with pytest.raises(PlanError, match="dmrn is trained with supervision full, not weak"):
        location_loss("dmrn", "weak", located, video, batch)
    with pytest.raises(PlanError, match=r"target prob needs the class of each second.*target label"):
        location_loss("psp", "weak", located, video, blind, target="prob")
    with pytest.raises(PlanError, match="supervision full needs the class of each second"):
        location_loss("avel", "full", located, None, blind)
    with pytest.raises(PlanError, match=r"located\.cross is None"):
        location_loss("psp", "full", located, None, batch)
    with pytest.raises(PlanError, match=r"give model\.pool"):
        location_loss("psp", "weak", located, None, batch)
