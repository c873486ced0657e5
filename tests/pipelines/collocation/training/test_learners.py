"""Parsers under one roof: a stack or one after the other, each trial keeps what is its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.collocation.clips.opened import open_splits
from pipelines.collocation.clips.shared import share
from pipelines.collocation.collocations import Collocation, Trial
from pipelines.collocation.training import learners as learners_module
from pipelines.collocation.training.learners import make_learners, of_slots, stackable
from pipelines.parsing.config import Config
from pipelines.parsing.evaluate import predict
from pipelines.parsing.learning.denoising import Denoising
from pipelines.parsing.networks import build
from pipelines.parsing.task import task_of

CLASSES = task_of("avvp").classes
TRIALS = [
    Trial(Collocation("vggish", "resnet152"), 0),
    Trial(Collocation("openl3_audio", "vgg19_bn"), 1),
    Trial(Collocation("vggish", "vgg19_bn"), 0),
]
KINDS = ({}, {"loss": "mtsm"})


@pytest.fixture
def splits(pairs_store, tmp_path):
    names = {"audio": ("vggish", "openl3_audio"), "visual": ("resnet152", "vgg19_bn")}
    share(pairs_store, names, "avvp", tmp_path, classes="official")
    return open_splits(tmp_path, [name for some in names.values() for name in some])


@pytest.fixture
def make(splits, tiny, tmp_path):
    """``make(**settings)``: learners of the three trials."""

    def build(trials=TRIALS, **more):
        return make_learners(trials, tiny(**more), splits["train"], splits["val"], CLASSES, tmp_path / "job")

    return build


def columns(found):
    return [np.concatenate([part.ravel() for part in each.probabilities]) for each in found]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (Config("avvp", "han", "", ""), True),
        (Config("avvp", "han", "", "", heads=2, layers=2, precision="bfloat16"), True),
        (Config("avvp", "han", "", "", loss="mtsm"), False),
        (Config("avvp", "han", "", "", augment="cross_instance"), False),
        (Config("avvp", "jomold", "", ""), False),
        (Config("ave", "avel", "", ""), False),
    ],
)  # fmt: skip
def test_what_is_a_stack(config, expected):
    assert stackable(config) is expected


def test_a_split_by_slot(splits):
    own = of_slots(splits["val"], TRIALS[1])
    assert list(own.features) == ["audio", "visual"]
    assert own.features["audio"] is splits["val"].features["openl3_audio"]
    assert own.features["visual"] is splits["val"].features["vgg19_bn"]


@pytest.mark.parametrize("more", KINDS)
def test_a_trial_s_network_says_what_its_learner_says(make, splits, more):
    learners = make(**more)
    rows = learners.epoch(0)
    assert [set(row) for row in rows] == [{"loss", *(each for each in rows[0] if each.startswith("loss_"))}] * 3
    assert len({row["loss"] for row in rows}) == 3
    own = columns(learners.predict(splits["val"]))
    for trial, expected in zip(TRIALS, own, strict=True):
        network = learners.network(trial, learners.weights(trial))
        found = columns([predict(network, of_slots(splits["val"], trial))])[0]
        assert found == pytest.approx(expected, abs=1e-5)
    assert np.abs(own[0] - own[2]).max() > 1e-3


@pytest.mark.parametrize("more", KINDS)
def test_weights_are_a_copy(make, more):
    learners = make(**more)
    before = learners.weights(TRIALS[0])
    kept = {name: each.clone() for name, each in before.items()}
    learners.epoch(0)
    assert all(torch.equal(before[name], kept[name]) for name in kept)
    assert any(not torch.equal(each, kept[name]) for name, each in learners.weights(TRIALS[0]).items())


@pytest.mark.parametrize("more", KINDS)
def test_gone_on_from_its_tensors(make, splits, more):
    """Bit for bit, moments and all."""
    one = make(**more)
    one.epoch(0)
    tensors = one.tensors()
    assert all(any(trial.name in name for trial in TRIALS) or name == "step" for name in tensors)
    other = make(**more)
    other.restore(tensors)
    assert other.epoch(1) == one.epoch(1)
    for mine, its in zip(columns(one.predict(splits["val"])), columns(other.predict(splits["val"])), strict=True):
        assert np.array_equal(mine, its)


@pytest.mark.parametrize("more", KINDS)
def test_the_rate_falls_at_a_milestone(make, more):
    learners = make(milestones=(1,), gamma=0.0, **more)
    start = learners.weights(TRIALS[0])
    learners.epoch(0)
    before = learners.weights(TRIALS[0])
    learners.epoch(1)
    after = learners.weights(TRIALS[0])
    assert any(not torch.equal(start[name], before[name]) for name in before)
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("more", KINDS)
def test_seeds_are_the_trials_own(make, more):
    first, second = (make([*TRIALS[:1], Trial(TRIALS[0].collocation, seed)], **more) for seed in (1, 2))
    rows = [each.epoch(0) for each in (first, second)]
    assert rows[0][0]["loss"] == pytest.approx(rows[1][0]["loss"], rel=1e-5)
    assert rows[0][1]["loss"] != pytest.approx(rows[1][1]["loss"], rel=1e-5)


@pytest.mark.parametrize("more", [*KINDS, {"model": "jomold"}])
def test_all_go_on_where_a_loss_is_not_finite(make, splits, more):
    """Also after a resume."""
    learners = make(lr=1e30, **more)
    rows = [learners.epoch(epoch) for epoch in range(3)][-1]
    assert len(rows) == 3
    assert not any(np.isfinite(row["loss"]) for row in rows)
    other = make(lr=1e30, **more)
    other.restore(learners.tensors())
    for each in (learners, other):
        assert not any(np.isfinite(found).all() for found in columns(each.predict(splits["val"])))


def test_one_that_diverges_takes_none_with_it(make, splits, monkeypatch):
    train = learners_module.one_epoch
    monkeypatch.setattr(learners_module, "one_epoch", lambda config, *rest: train(bad(config), *rest))

    def bad(config):
        return replace(config, lr=1e30) if config.seed == 1 else config

    learners = make(loss="mtsm")
    rows = [learners.epoch(epoch) for epoch in range(3)][-1]
    assert [bool(np.isfinite(row["loss"])) for row in rows] == [True, False, True]
    assert [bool(np.isfinite(found).all()) for found in columns(learners.predict(splits["val"]))] == [True, False, True]


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_noise_estimator_that_diverges_leaves_a_parser_without_scores(make, splits, epochs):
    learners = make(model="jomold", denoising=Denoising(estimator_lr=1e30, estimator_epochs=epochs))
    assert [np.isnan(row["loss"]) for row in learners.epoch(0)] == [True] * 3
    assert not any(np.isfinite(found).any() for found in columns(learners.predict(splits["val"])))


@pytest.mark.parametrize(
    ("model", "supervision"), [("avel", "weak"), ("avel", "full"), ("dmrn", "full"), ("psp", "weak"), ("psp", "full")]
)
def test_no_network_for_ave_makes_numbers_of_what_was_given_up(model, supervision):
    """PSP drops what is below a threshold, and NaN is not above one."""
    network = build(Config("ave", model, "a", "v", supervision=supervision), 29, {"audio": 8, "visual": 16})
    features = {"audio": torch.randn(2, 10, 8), "visual": torch.randn(2, 10, 7, 7, 16)}
    network.eval()
    assert network(**features).score.isfinite().all()
    learners_module._give_up(network)
    assert network(**features).score.isnan().all()
