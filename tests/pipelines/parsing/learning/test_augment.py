"""Cross-instance augmentation against eq. 2-7 of its paper."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extract.errors import PlanError, UnknownName
from pipelines.parsing.batch import Batch
from pipelines.parsing.learning.augment import (
    Spliced,
    epoch_kind,
    modality_loss,
    splice,
    spliced_location_loss,
    swap,
    temporal_loss,
)
from pipelines.parsing.learning.losses import full_loss, weak_loss
from pipelines.parsing.models.avel import AVEL
from pipelines.parsing.models.han import HAN
from pipelines.parsing.models.psp import PSP
from pipelines.parsing.outputs import Located, Parsed

CLASSES = 4


def marked(clip: int, clips: int = 3, seconds: int = 4, *, event: bool = False) -> Batch:
    """Every number says whose it is: 1000 slot + 100 clip + 10 row + second; maps have their place as a fraction."""
    base = 100 * clip + 10 * torch.arange(clips)[:, None] + torch.arange(seconds)
    visual = (2000 + base)[..., None, None, None] + torch.arange(12).view(2, 2, 3) / 100
    features = {"audio": (1000 + base)[..., None].float(), "visual": visual, "clip": (3000 + base)[..., None].float()}
    weak = torch.zeros(clips, CLASSES)
    weak[:, clip] = 1
    return Batch(torch.arange(clips), features, weak, base if event else None)


def parsed(seed: int, clips: int = 3, seconds: int = 8) -> Parsed:
    draw = torch.Generator().manual_seed(seed)
    frame, time, modality = torch.randn(3, clips, seconds, 2, CLASSES, generator=draw)
    return Parsed(frame.sigmoid().requires_grad_(), time, modality, torch.empty(0), torch.empty(0))


# ---- schedule ------------------------------------------------------------------------------------------------------


def test_the_schedule_goes_round() -> None:
    cycle = ["plain", "plain", "modality", "temporal"]
    assert [epoch_kind(epoch) for epoch in range(60)] == cycle * 15
    assert [epoch_kind(epoch, ("plain", "temporal")) for epoch in range(3)] == ["plain", "temporal", "plain"]


def test_schedules_that_are_none() -> None:
    with pytest.raises(UnknownName, match="kind of epoch is called 'temporel'; did you mean temporal"):
        epoch_kind(0, ("plain", "temporel"))
    with pytest.raises(PlanError, match="needs a schedule"):
        epoch_kind(0, ())
    with pytest.raises(PlanError, match=r"got .* and -1"):
        epoch_kind(-1)


# ---- splice: eq. 2 and 3 -------------------------------------------------------------------------------------------


def test_a_splice_lies_as_in_equation_2() -> None:
    first, second = marked(0, event=True), marked(1, event=True)
    spliced = splice(first, second, torch.tensor([1, 3, 2]))
    assert spliced.features["audio"][..., 0].tolist() == [
        [1000, 1100, 1101, 1102, 1103, 1001, 1002, 1003],
        [1010, 1011, 1012, 1110, 1111, 1112, 1113, 1013],
        [1020, 1021, 1120, 1121, 1122, 1123, 1022, 1023],
    ]
    assert spliced.inserted.int().tolist() == [
        [0, 1, 1, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 1, 1, 1, 0],
        [0, 0, 1, 1, 1, 1, 0, 0],
    ]
    assert spliced.event is not None
    assert spliced.event[0].tolist() == [0, 100, 101, 102, 103, 1, 2, 3]


@settings(deadline=None)
@given(st.integers(1, 7), st.data())
def test_splices_of_any_slot_and_place(seconds: int, data: st.DataObject) -> None:
    at = data.draw(st.lists(st.integers(0, seconds), min_size=3, max_size=3))
    first, second = marked(0, seconds=seconds), marked(2, seconds=seconds)
    spliced = splice(first, second, torch.tensor(at))
    assert spliced.event is None
    for slot, found in spliced.features.items():
        outer, inner = first.features[slot], second.features[slot]
        for row, place in enumerate(at):
            expected = torch.cat((outer[row, :place], inner[row], outer[row, place:]))
            assert torch.equal(found[row], expected)
    assert torch.equal(spliced.features["audio"][..., 0] % 1000 >= 200, spliced.inserted)
    assert spliced.inserted.sum(1).tolist() == [seconds] * 3
    assert torch.equal(spliced.weak, first.weak)
    assert torch.equal(spliced.weak_inserted, second.weak)


def test_batches_that_cannot_be_mixed() -> None:
    first, second = marked(0), marked(1)
    for place in ([0, 5, 1], [-1, 0, 0], [1, 1]):
        with pytest.raises(PlanError, match=r"a place in 0\.\.4 for each of 3 clips; got"):
            splice(first, second, torch.tensor(place))
    fewer = Batch(second.rows, {"audio": second.features["audio"]}, second.weak)
    for other in (fewer, marked(1, seconds=5), marked(1, clips=2)):
        for mix in (lambda x, y: splice(x, y, torch.tensor([1, 1, 1])), swap):
            with pytest.raises(PlanError, match="slots, seconds and dims are the same"):
                mix(first, other)


# ---- swap: eq. 5 and 6 ---------------------------------------------------------------------------------------------


def test_a_swap_takes_the_sound_of_the_first() -> None:
    first, second = marked(0), marked(1)
    swapped = swap(first, second)
    assert set(swapped.features) == {"audio", "visual", "clip"}
    assert swapped.features["audio"] is first.features["audio"]
    assert swapped.features["visual"] is second.features["visual"]
    assert swapped.features["clip"] is second.features["clip"]
    assert torch.equal(swapped.weak_audio, first.weak)
    assert torch.equal(swapped.weak_visual, second.weak)


def test_clips_of_ave_are_not_swapped() -> None:
    with pytest.raises(PlanError, match="AVE clips cannot be swapped"):
        swap(marked(0, event=True), marked(1, event=True))


# ---- HAN's losses: eq. 4 and 7 -------------------------------------------------------------------------------------


def entropy(probability: Tensor, target: Tensor) -> Tensor:
    kept = probability.clamp(1e-7, 1 - 1e-7)
    return -(target * kept.log() + (1 - target) * (1 - kept).log()).mean()


def literal_temporal(given_: Parsed, spliced: Spliced, renormalise: bool) -> Tensor:
    """Eq. 4 clip by clip: cut a clip's own seconds out, pool them, compare."""
    total = torch.zeros(())
    for row in range(len(spliced.weak)):
        for inside, weak in ((False, spliced.weak[row]), (True, spliced.weak_inserted[row])):
            own = torch.tensor([t for t, flag in enumerate(spliced.inserted[row].tolist()) if flag is inside])
            weights = (
                given_.time_logits[row, own].softmax(0) if renormalise else given_.time_logits[row].softmax(0)[own]
            )
            weighted = weights * given_.frame[row, own]
            audio, visual = weighted.sum(0)
            video = (weighted * given_.modality_logits[row, own].softmax(1)).sum((0, 1))
            loss = entropy(audio, weak) + entropy(visual, 0.9 * weak + 0.05) + entropy(video, weak)
            total = total + loss / len(spliced.weak)
    return total


@pytest.mark.parametrize("renormalise", [True, False])
@pytest.mark.parametrize("at", [[1, 2, 3], [0, 4, 2]])
def test_the_temporal_loss_is_equation_4(at: list[int], renormalise: bool) -> None:
    spliced = splice(marked(0), marked(1), torch.tensor(at))
    given_ = parsed(0)
    parts = temporal_loss(given_, spliced, renormalise=renormalise)
    assert list(parts) == [
        f"{group}_{name}" for group in ("outer", "inserted") for name in ("audio", "visual", "video")
    ]
    total = torch.stack(list(parts.values())).sum()
    literal = literal_temporal(given_, spliced, renormalise)
    torch.testing.assert_close(total, literal, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(*(torch.autograd.grad(each, given_.frame)[0] for each in (total, literal)))


def test_renormalising_is_another_loss_and_the_default() -> None:
    spliced, given_ = splice(marked(0), marked(1), torch.tensor([1, 2, 3])), parsed(1)
    default = temporal_loss(given_, spliced)
    assert default == temporal_loss(given_, spliced, renormalise=True)
    assert all(default[name] != part for name, part in temporal_loss(given_, spliced, renormalise=False).items())


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.lists(st.integers(1, 3), min_size=3, max_size=3))
def test_a_clip_is_pooled_without_the_seconds_of_the_other(seed: int, at: list[int]) -> None:
    spliced = splice(marked(0), marked(1), torch.tensor(at))
    given_ = parsed(seed)
    time_logits = given_.time_logits.clone().requires_grad_()
    parts = temporal_loss(given_._replace(time_logits=time_logits), spliced)
    for group, own in (("outer", ~spliced.inserted), ("inserted", spliced.inserted)):
        loss = parts[f"{group}_audio"] + parts[f"{group}_visual"] + parts[f"{group}_video"]
        for gradient in torch.autograd.grad(loss, (given_.frame, time_logits), retain_graph=True):
            touched = gradient.abs().amax((2, 3)) > 0
            assert torch.equal(touched, own)


def test_smoothing_is_per_modality() -> None:
    spliced, given_ = splice(marked(0), marked(1), torch.tensor([1, 2, 3])), parsed(2)
    usual = temporal_loss(given_, spliced)
    other = temporal_loss(given_, spliced, smooth_audio=0.8, smooth_visual=1.0)
    assert {name for name in usual if usual[name] != other[name]} == {
        f"{group}_{name}" for group in ("outer", "inserted") for name in ("audio", "visual")
    }


def test_the_modality_loss_is_equation_7() -> None:
    swapped, given_ = swap(marked(0), marked(1)), parsed(3, seconds=4)
    parts = modality_loss(given_, swapped)
    weighted = given_.time_logits.softmax(1) * given_.frame
    assert list(parts) == ["audio", "visual"]
    torch.testing.assert_close(parts["audio"], entropy(weighted[:, :, 0].sum(1), swapped.weak_audio))
    torch.testing.assert_close(parts["visual"], entropy(weighted[:, :, 1].sum(1), 0.9 * swapped.weak_visual + 0.05))
    for part, modality in (("audio", 0), ("visual", 1)):
        (gradient,) = torch.autograd.grad(parts[part], given_.frame, retain_graph=True)
        assert (gradient.abs().amax((0, 1, 3)) > 0).tolist() == [modality == 0, modality == 1]
    assert modality_loss(given_, swapped, smooth_audio=0.8)["audio"] != parts["audio"]
    assert modality_loss(given_, swapped, smooth_visual=1.0)["visual"] != parts["visual"]


def test_han_takes_splices_and_swaps() -> None:
    draw = torch.Generator().manual_seed(0)

    def batch(clip: int) -> Batch:
        features = {slot: torch.rand(3, 10, dims, generator=draw) for slot, dims in (("audio", 5), ("visual", 7))}
        return Batch(torch.arange(3), features, torch.eye(CLASSES)[[clip] * 3])

    torch.manual_seed(0)
    network = HAN(classes=CLASSES, audio=5, visual=7, clip=None, width=8, feedforward=8).eval()
    spliced, swapped = splice(batch(0), batch(1), torch.tensor([1, 5, 9])), swap(batch(0), batch(1))
    parts = temporal_loss(network(**spliced.features), spliced) | modality_loss(network(**swapped.features), swapped)
    assert len(parts) == 8
    torch.stack(list(parts.values())).sum().backward()
    gradients = [each.grad for each in network.parameters()]
    assert all(each is not None and each.isfinite().all() for each in gradients)


# ---- AVE -----------------------------------------------------------------------------------------------------------


def ave(model: type[AVEL | PSP], at: list[int]) -> tuple[Spliced, Located, Callable[..., Tensor]]:
    """Three splices of clips of class 0 and 1 with background 3, scores for them, and a network's pooling."""
    draw = torch.Generator().manual_seed(0)

    def batch(clip: int) -> Batch:
        event = torch.where(torch.rand(3, 10, generator=draw) < 0.3 + 0.4 * clip, clip, 3)
        return Batch(torch.arange(3), {"audio": torch.zeros(3, 10, 1)}, torch.eye(CLASSES)[[clip] * 3], event)

    network = model(classes=CLASSES, audio=1, visual=1, regions=1, supervision="weak")
    spliced = splice(batch(0), batch(1), torch.tensor(at))
    score = torch.randn(3, 20, CLASSES, generator=draw, requires_grad=True)
    return spliced, Located(score, score), network.pool


@pytest.mark.parametrize(("model", "name"), [(AVEL, "avel"), (PSP, "psp")])
@pytest.mark.parametrize("target", ["label", "prob"])
def test_weak_losses_of_ave_are_those_of_either_clip_alone(model: type[AVEL | PSP], name: str, target: str) -> None:
    spliced, located, pooling = ave(model, [1, 5, 9])
    parts = spliced_location_loss(name, "weak", located, pooling, spliced, target=target)
    assert list(parts) == ["outer_video", "inserted_video"]
    assert spliced.event is not None
    for group, inside, weak in (("outer", False, spliced.weak), ("inserted", True, spliced.weak_inserted)):
        own = spliced.inserted == inside
        score = torch.stack([row[keep] for row, keep in zip(located.score, own, strict=True)])
        event = torch.stack([row[keep] for row, keep in zip(spliced.event, own, strict=True)])
        expected = weak_loss(name, pooling(score), weak, event, target=target)["video"]
        torch.testing.assert_close(parts[f"{group}_video"], expected)
        (gradient,) = torch.autograd.grad(parts[f"{group}_video"], located.score, retain_graph=True)
        assert not gradient[~own].any()
        assert gradient[own].any()


def test_full_supervision_reads_the_spliced_seconds() -> None:
    spliced, located, pooling = ave(PSP, [1, 5, 9])
    located = located._replace(cross=torch.rand(3, 20))
    parts = spliced_location_loss("psp", "full", located, pooling, spliced)
    assert parts == full_loss("psp", located, spliced.event)
    assert list(parts) == ["segment", "similarity"]


def test_what_ave_cannot_do() -> None:
    spliced, located, pooling = ave(AVEL, [1, 5, 9])
    with pytest.raises(UnknownName, match="no supervision is called 'week'; did you mean weak"):
        spliced_location_loss("avel", "week", located, pooling, spliced)
    blind = Spliced(spliced.features, spliced.inserted, spliced.weak, spliced.weak_inserted)
    assert len(spliced_location_loss("psp", "weak", located, pooling, blind)) == 2
    with pytest.raises(PlanError, match="target prob needs the class of each second"):
        spliced_location_loss("psp", "weak", located, pooling, blind, target="prob")
    with pytest.raises(PlanError, match="supervision full needs the class of each second"):
        spliced_location_loss("psp", "full", located, pooling, blind)
