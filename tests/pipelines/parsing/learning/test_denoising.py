"""JoMoLD's label denoising against literal restatements of its rules, and on clips whose noise is planted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from extract.errors import PlanError, UnknownName
from pipelines.parsing.batch import Batch
from pipelines.parsing.learning.contrastive import nce_loss
from pipelines.parsing.learning.denoising import (
    Denoising,
    NoiseRatios,
    Removed,
    check_ratios,
    denoised,
    denoising_loss,
    removal,
    smoothed,
    targets,
    warmed,
)
from pipelines.parsing.learning.noise import estimate, estimator_loss
from pipelines.parsing.models.han import HAN
from pipelines.parsing.outputs import Parsed, pool

FAST = Denoising(estimator_epochs=12, estimator_lr=5e-3)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# ---- options ---------------------------------------------------------------------------------------------------------


def test_defaults_are_those_published() -> None:
    options = Denoising()
    assert (options.visual_threshold, options.audio_threshold, options.warm_up_epochs) == (1.8, 0.6, 0.9)
    assert (options.audio_weight, options.visual_weight, options.video_weight, options.nce_weight) == (2, 1, 1, 1)
    assert (options.temperature, options.nce_smoothing, options.visual_dropout) == (0.2, 0.1, 0.5)
    assert (options.smooth_audio, options.smooth_visual) == (1.0, 0.9)
    assert (options.estimator_epochs, options.estimator_batch, options.estimator_lr) == (25, 128, 5e-4)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("estimator_epochs", 0, "at least 1"),
        ("estimator_lr", 0.0, "above 0"),
        ("visual_threshold", -1.0, "above 0"),
        ("audio_threshold", math.nan, "above 0"),
        ("nce_weight", -0.5, "at least 0"),
        ("warm_up_epochs", -1.0, "at least 0"),
        ("smooth_visual", 1.1, "at most 1"),
        ("visual_dropout", 1.0, "below 1"),
        ("temperature", 0.0, "above 0"),
        ("nce_smoothing", 1.0, "below 1"),
    ],
)
def test_an_option_out_of_its_range_is_named(name: str, value: float, told: str) -> None:
    with pytest.raises(PlanError, match=f"^{name} must be .*{told}"):
        Denoising(**{name: value})


def test_an_unknown_warm_up_is_refused() -> None:
    with pytest.raises(UnknownName, match="linear"):
        Denoising(warm_up="liner")  # type: ignore[arg-type]


# ---- removal ---------------------------------------------------------------------------------------------------------


def test_the_example_of_the_papers_figure() -> None:
    """Six clips with Cooking, ratios 50 % visual and 18 % audio: visual labels of clips 2 and 4 go, the audio one of 6."""
    visual = torch.tensor([[1.1], [0.8], [0.4], [0.5], [0.3], [0.1]])
    audio = torch.tensor([[0.6], [0.2], [0.45], [0.15], [0.7], [0.9]])
    gone = removal(audio, visual, torch.ones(6, 1), NoiseRatios(np.array([0.18]), np.array([0.5])))
    assert (gone.visual[:, 0].nonzero()[:, 0] + 1).tolist() == [2, 4]
    assert (gone.audio[:, 0].nonzero()[:, 0] + 1).tolist() == [6]


def _removal_by_lists(audio: Tensor, visual: Tensor, weak: Tensor, ratios: NoiseRatios) -> Removed:
    gone = {"audio": torch.zeros_like(weak, dtype=torch.bool), "visual": torch.zeros_like(weak, dtype=torch.bool)}
    for c in range(weak.shape[1]):
        clips = [b for b in range(len(weak)) if weak[b, c] == 1]
        by_audio = sorted(clips, key=lambda b: float(audio[b, c]))
        by_visual = sorted(clips, key=lambda b: float(visual[b, c]))
        few = int(ratios.visual[c] * len(clips))
        if few > 0:
            gone["visual"][sorted(set(by_audio[:few]) & set(by_visual[-few:])), c] = True
        few = int(ratios.audio[c] * len(clips))
        if few > 0:
            gone["audio"][sorted(set(by_audio[-few:]) & set(by_visual[:few])), c] = True
    return Removed(**gone)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    clips=st.integers(1, 40),
    classes=st.integers(1, 5),
    levels=st.sampled_from([3, 1000]),
    share=st.sampled_from([0.1, 0.5, 1.0]),
)
def test_removal_equals_its_definition_with_lists(
    seed: int, clips: int, classes: int, levels: int, share: float
) -> None:
    random = np.random.default_rng(seed)
    weak = torch.from_numpy((random.random((clips, classes)) < share).astype(np.float32))
    audio, visual = (torch.from_numpy(random.integers(0, levels, (clips, classes)) / 7) for _ in range(2))
    ratios = NoiseRatios(*random.choice([0, 0.3, 0.5, 0.9, 1.0], (2, classes)))
    found, wanted = removal(audio, visual, weak, ratios), _removal_by_lists(audio, visual, weak, ratios)
    assert torch.equal(found.audio, wanted.audio)
    assert torch.equal(found.visual, wanted.visual)
    assert not (found.audio | found.visual)[weak == 0].any()
    none = removal(audio, visual, weak, ratios, factor=0.0)
    assert not (none.audio | none.visual).any()


def test_clips_without_a_label_do_not_rank() -> None:
    """Their losses, however large or small, change nothing."""
    random = np.random.default_rng(5)
    audio, visual = (torch.from_numpy(random.random((20, 3))) for _ in range(2))
    weak = torch.from_numpy((random.random((20, 3)) < 0.6).astype(np.float32))
    ratios = NoiseRatios(np.full(3, 0.5), np.full(3, 0.6))
    before = removal(audio, visual, weak, ratios)
    after = removal(torch.where(weak > 0, audio, 9e9), torch.where(weak > 0, visual, -9e9), weak, ratios)
    assert before.visual.any()
    assert before.audio.any()
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


# ---- warm-up and targets ---------------------------------------------------------------------------------------------


def test_the_official_warm_up_is_that_of_the_official_program() -> None:
    """It starts each epoch from the ratios, and keeps the smaller of them and of them times the progress, in place."""
    steps, options = 79, Denoising()
    for epoch in range(3):
        ratio = 0.5
        for step in range(steps):
            ratio = min(ratio, ratio * (epoch * steps + step) / (0.9 * steps))
            assert 0.5 * warmed(options, epoch + step / steps) == ratio


def test_the_linear_warm_up_grows_evenly() -> None:
    options = Denoising(warm_up="linear", warm_up_epochs=2)
    assert [warmed(options, at) for at in (0.0, 0.5, 1.0, 2.0, 7.0)] == [0, 0.25, 0.5, 1, 1]
    assert all(warmed(Denoising(warm_up=kind, warm_up_epochs=0), 0.0) == 1 for kind in ("linear", "official"))


def test_a_removed_label_is_0_and_the_others_are_smoothed() -> None:
    weak = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    loss = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    ratios = NoiseRatios(np.array([0.5, 0.5]), np.array([0.5, 0.5]))
    early = denoised(loss, 1 - loss, weak, ratios, Denoising(), epoch_fraction=0.99)
    later = denoised(loss, 1 - loss, weak, ratios, Denoising(), epoch_fraction=1.0)
    assert torch.equal(early.audio, weak)
    torch.testing.assert_close(early.visual, torch.tensor([[0.95, 0.05], [0.95, 0.05]]))
    assert torch.equal(later.audio, torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    torch.testing.assert_close(later.visual, torch.tensor([[0.0, 0.05], [0.95, 0.05]]))


# ---- the loss of a step ----------------------------------------------------------------------------------------------


class StandIn(nn.Module):
    """Gives back its features as streams and logits; counts who reads whom."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.calls: list[tuple[bool, bool]] = []

    def forward(
        self, audio: Tensor, visual: Tensor, clip: Tensor | None = None, *, cross_attention: bool = True
    ) -> Parsed:
        self.calls.append((cross_attention, torch.is_grad_enabled()))
        stream = torch.stack((audio, visual), dim=2) * self.scale + 0.3 * cross_attention
        return Parsed(stream.sigmoid(), stream.sin(), stream.cos(), stream, stream)


def _batch(clips: int = 16, seconds: int = 4, classes: int = 3) -> Batch:
    draw = torch.Generator().manual_seed(3)
    audio, visual = torch.randn(2, clips, seconds, classes, generator=draw)
    weak = (torch.rand(clips, classes, generator=draw) < 0.7).float()
    return Batch(torch.arange(clips), {"audio": audio, "visual": visual}, weak)


def _half(classes: int = 3) -> NoiseRatios:
    return NoiseRatios(np.full(classes, 0.4), np.full(classes, 0.5))


def _bce(probability: np.ndarray, target: np.ndarray) -> np.ndarray:
    p = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    return -(target * np.log(p) + (1 - target) * np.log(1 - p))


def test_the_loss_is_that_of_its_definition() -> None:
    model, batch, options = StandIn(), _batch(), Denoising()
    parts = denoising_loss(model, batch, _half(), options, epoch_fraction=1.5)
    assert model.calls == [(False, False), (True, True)]

    weak = batch.weak.numpy()
    apart = pool(model(**batch.features, cross_attention=False))
    audio, visual = _bce(apart.audio.detach().numpy(), weak), _bce(apart.visual.detach().numpy(), 0.9 * weak + 0.05)
    gone = _removal_by_lists(torch.from_numpy(audio), torch.from_numpy(visual), batch.weak, _half())
    assert gone.audio.any()
    assert gone.visual.any()
    parsed = model(**batch.features)
    clip = pool(parsed)
    heard = np.where(gone.audio, 0, weak)
    seen = np.where(gone.visual, 0, 0.9 * weak + 0.05)
    wanted = {
        "audio": 2 * _bce(clip.audio.detach().numpy(), heard).mean(),
        "visual": _bce(clip.visual.detach().numpy(), seen).mean(),
        "video": _bce(clip.video.detach().numpy(), weak).mean(),
        "nce": nce_loss(parsed.after[:, :, 0], parsed.after[:, :, 1]).item(),
    }
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(wanted, rel=1e-5)
    torch.stack(list(parts.values())).sum().backward()
    assert model.scale.grad is not None
    assert model.scale.grad != 0


def test_nothing_is_ranked_while_nothing_can_be_removed() -> None:
    model, batch = StandIn(), _batch()
    early = targets(model, batch, _half(), Denoising(), epoch_fraction=0.5)
    clean = targets(model, batch, NoiseRatios(np.zeros(3), np.zeros(3)), Denoising(), epoch_fraction=5.0)
    assert model.calls == []
    for found in (early, clean):
        assert all(torch.equal(*pair) for pair in zip(found, smoothed(batch.weak, Denoising()), strict=True))


def test_a_part_of_weight_0_is_left_out_and_weights_scale_the_others() -> None:
    model, batch = StandIn(), _batch()
    options = Denoising(audio_weight=4, nce_weight=0, video_weight=0)
    some = denoising_loss(model, batch, _half(), options, epoch_fraction=1.0)
    whole = denoising_loss(model, batch, _half(), Denoising(), epoch_fraction=1.0)
    assert list(some) == ["audio", "visual"]
    assert some["audio"].item() == pytest.approx(2 * whole["audio"].item())
    assert list(estimator_loss(model, batch, options)) == ["audio", "visual", "video"]
    assert model.calls[-1] == (False, True)


def test_losses_are_the_same_under_autocast() -> None:
    model, batch = StandIn(), _batch()
    plain = denoising_loss(model, batch, _half(), Denoising(), epoch_fraction=2.0)
    with torch.autocast("cpu", torch.bfloat16):
        cast = denoising_loss(model, batch, _half(), Denoising(), epoch_fraction=2.0)
    for name, part in plain.items():
        assert part.dtype == cast[name].dtype == torch.float32
        assert torch.equal(part, cast[name])


def test_ratios_of_another_vocabulary_are_refused() -> None:
    with pytest.raises(PlanError, match=r"audio noise ratios have shape \(25,\), the task has 3 classes"):
        denoising_loss(StandIn(), _batch(), _half(25), Denoising(), epoch_fraction=0.0)
    with pytest.raises(PlanError, match=r"visual noise ratios must be in 0\.\.1, got nan"):
        check_ratios(NoiseRatios(np.zeros(2), np.array([0, math.nan])), 2)


# ---- planted noise ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planted:
    """N clips of 6 seconds and 8 classes; of the labels, three in ten are not seen and one in ten is not heard."""

    features: dict[str, Tensor]
    weak: Tensor
    unheard: Tensor
    unseen: Tensor

    def batches(self, epoch: int) -> Iterator[Batch]:
        for rows in torch.from_numpy(np.random.default_rng(100 + epoch).permutation(len(self.weak))).split(64):
            yield Batch(rows, {slot: data[rows] for slot, data in self.features.items()}, self.weak[rows])

    def planted(self) -> NoiseRatios:
        labels = self.weak.numpy().sum(0)
        return NoiseRatios(self.unheard.numpy().sum(0) / labels, self.unseen.numpy().sum(0) / labels)


@pytest.fixture(scope="module")
def planted() -> Planted:
    clips, classes, seconds, dims = 600, 8, 6, 16
    draw = np.random.default_rng(0)
    weak = np.zeros((clips, classes), np.float32)
    for row in weak:
        row[draw.choice(classes, draw.integers(1, 3), replace=False)] = 1
    chance = draw.random((clips, classes))
    absent = {"audio": (chance > 0.9) & (weak > 0), "visual": (chance < 0.3) & (weak > 0)}
    features = {}
    for slot, missing in absent.items():
        look = draw.normal(size=(classes, dims))
        look *= 3 / np.linalg.norm(look, axis=1, keepdims=True)
        onset, length = draw.integers(0, 3, (clips, 1, classes)), draw.integers(3, 6, (clips, 1, classes))
        at = np.arange(seconds)[None, :, None]
        there = (at >= onset) & (at < onset + length) & ((weak > 0) & ~missing)[:, None]
        noise = 0.6 * draw.normal(size=(clips, seconds, dims))
        features[slot] = torch.from_numpy((there @ look + noise).astype(np.float32))
    return Planted(
        features, torch.from_numpy(weak), torch.from_numpy(absent["audio"]), torch.from_numpy(absent["visual"])
    )


def _han(seed: int) -> HAN:
    torch.manual_seed(seed)
    return HAN(classes=8, audio=16, visual=16, clip=None, width=32, feedforward=32, visual_dropout=0.5)


@pytest.fixture(scope="module")
def estimated(planted: Planted) -> NoiseRatios:
    return estimate(_han(0), planted.batches, FAST)


def test_the_estimated_ratios_are_near_the_planted(planted: Planted, estimated: NoiseRatios) -> None:
    truth = planted.planted()
    np.testing.assert_allclose(estimated.visual, truth.visual, atol=0.08)
    np.testing.assert_allclose(estimated.audio, truth.audio, atol=0.08)
    assert abs(estimated.visual.mean() - truth.visual.mean()) < 0.03


def test_the_same_seed_gives_the_same_ratios(planted: Planted, estimated: NoiseRatios) -> None:
    again = estimate(_han(0), planted.batches, FAST)
    np.testing.assert_array_equal(again, estimated)
    assert not np.array_equal(estimate(_han(1), planted.batches, replace(FAST, estimator_epochs=3)), estimated)


def _train(planted: Planted, ratios: NoiseRatios, watch: Callable[[Removed, Tensor], None] | None = None) -> HAN:
    model = _han(7)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for epoch in range(8):
        batches = list(planted.batches(epoch))
        for step, batch in enumerate(batches):
            at = epoch + step / len(batches)
            if watch and epoch:
                found = targets(model, batch, ratios, FAST, epoch_fraction=at)
                watch(Removed((found.audio == 0) & (batch.weak > 0), found.visual == 0), batch.rows)
            parts = denoising_loss(model, batch, ratios, FAST, epoch_fraction=at)
            optimiser.zero_grad()
            torch.stack(list(parts.values())).sum().backward()
            optimiser.step()
    return model.eval()


def test_removed_labels_are_mostly_the_planted(planted: Planted, estimated: NoiseRatios) -> None:
    tally = {"audio": [0, 0], "visual": [0, 0]}

    def watch(removed: Removed, rows: Tensor) -> None:
        for name, absent in (("audio", planted.unheard), ("visual", planted.unseen)):
            gone = getattr(removed, name)
            tally[name][0] += int((gone & absent[rows]).sum())
            tally[name][1] += int(gone.sum())

    clean = _train(planted, estimated, watch)
    assert tally["visual"][1] > 200
    assert tally["visual"][0] / tally["visual"][1] > 0.75  # by chance: 0.3
    assert tally["audio"][1] > 5
    assert tally["audio"][0] / tally["audio"][1] > 0.6  # by chance: 0.1

    noisy = _train(planted, NoiseRatios(np.zeros(8), np.zeros(8)))
    with torch.no_grad():
        seen, seen_noisy = (pool(model(**planted.features)).visual for model in (clean, noisy))
    there = (planted.weak > 0) & ~planted.unseen
    assert float(seen[planted.unseen].mean()) < float(seen_noisy[planted.unseen].mean()) - 0.05
    assert abs(float(seen[there].mean()) - float(seen_noisy[there].mean())) < 0.03


def test_the_best_epoch_counts_and_the_later_of_equal_ones(planted: Planted) -> None:
    options = replace(FAST, estimator_epochs=4)
    told: list[tuple[int, bool]] = []
    states: list[Tensor] = []
    scores = iter([3.0, 5.0, 5.0, 1.0])

    def score(model: nn.Module) -> float:
        assert not model.training
        states.append(model.get_parameter("fc_prob.weight").detach().clone())
        return next(scores)

    model = _han(2)
    found = estimate(
        model, planted.batches, options, score=score, tell=lambda epoch, means: told.append((epoch, model.training))
    )
    assert told == [(epoch, True) for epoch in range(4)]
    assert torch.equal(model.fc_prob.weight, states[2])
    assert not torch.equal(states[2], states[3])
    three = estimate(_han(2), planted.batches, replace(options, estimator_epochs=3))
    np.testing.assert_array_equal(found, three)


def test_an_estimator_that_cannot_learn_says_so(planted: Planted) -> None:
    with pytest.raises(PlanError, match="training split is empty"):
        estimate(_han(0), lambda epoch: iter(()), FAST)
    broken = replace(planted, features={slot: data * math.inf for slot, data in planted.features.items()})
    with pytest.raises(PlanError, match="not finite in epoch 1"):
        estimate(_han(0), broken.batches, FAST)
