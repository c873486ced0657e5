"""Configurations: published ones, from text, through JSON, and those that cannot be."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from extract.errors import ExtractError, PlanError, UnknownName
from pipelines.parsing.config import MODELS, Config
from pipelines.parsing.learning.denoising import Denoising
from pipelines.parsing.learning.mtsm import Mtsm
from pipelines.parsing.models import han as models
from pipelines.parsing.networks import build
from pipelines.parsing.presets import as_dict, changed, changes, from_dict, published

HAN = Config("avvp", "han", "vggish", "resnet152")
PSP = Config("ave", "psp", "vggish", "vgg19_ave")
ALL = [
    (task, model, supervision)
    for task, models in MODELS.items()
    for model in models
    for supervision in (("weak",) if task == "avvp" else ("full",) if model == "dmrn" else ("weak", "full"))
]


@pytest.mark.parametrize(("task", "model", "supervision"), ALL)
def test_published_settings_make_a_configuration(task: Any, model: Any, supervision: Any) -> None:
    for augment in ("",) if model in ("jomold", "dmrn") or supervision == "full" else ("", "cross_instance"):
        told = published(model, supervision, augment)
        made = Config(task, model, "a", "v", supervision=supervision, augment=augment, **told)  # type: ignore[arg-type]
        assert {"epochs", "batch", "lr"} <= set(told)
        assert from_dict(json.loads(json.dumps(as_dict(made)))) == made


def test_through_json_with_everything_changed() -> None:
    other = replace(
        HAN, clip="r2plus1d_18", seed=3, milestones=(1, 2), schedule=("temporal",), augment="cross_instance", loss="mtsm",
        mtsm=Mtsm(t_exp=2.0, terms=("l1",)), denoising=Denoising(estimator_milestones=(3,)), precision="bfloat16",
    )  # fmt: skip
    assert from_dict(json.loads(json.dumps(as_dict(other)))) == other
    with pytest.raises(PlanError, match=r"fields this version does not know: knew; it is of a newer one"):
        from_dict(as_dict(HAN) | {"knew": 1})


def test_the_digest_is_of_every_field() -> None:
    others: dict[str, Any] = {
        "audio": "x", "visual": "x", "clip": "x", "classes": "manifest", "seed": 1, "epochs": 1, "batch": 1, "lr": 1.0,
        "milestones": (1,), "gamma": 0.5, "layers": 2, "heads": 2, "dropout": 0.0, "encoder_compat": "chained",
        "smooth_audio": 0.5, "smooth_visual": 0.5, "loss": "mtsm", "mtsm": Mtsm(t_exp=2.0), "augment": "cross_instance",
        "schedule": ("plain",), "renormalise": False, "target": "prob", "denoising": Denoising(temperature=0.3),
        "init": "x", "gate": "none", "select": "test", "patience": 1, "precision": "bfloat16", "model": "jomold",
        "width": 256,
    }  # fmt: skip
    assert set(others) == {each.name for each in fields(Config)} - {"task", "supervision"}
    digests = {HAN.digest(), *(replace(HAN, **{name: value}).digest() for name, value in others.items())}
    assert len(digests) == 1 + len(others)
    assert replace(PSP, supervision="full").digest() != PSP.digest()


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("heads=2", "heads", 2),
        ("width=128", "width", 128),
        ("lr=1e-4", "lr", 1e-4),
        ("encoder_compat=chained", "encoder_compat", "chained"),
        ("renormalise=False", "renormalise", False),
        ("milestones=10+20", "milestones", (10, 20)),
        ("milestones=", "milestones", ()),
        ("schedule=plain+temporal", "schedule", ("plain", "temporal")),
        ("mtsm.t_exp=2", "mtsm", Mtsm(t_exp=2.0)),
        ("mtsm.terms=l2", "mtsm", Mtsm(terms=("l2",))),
        ("mtsm.diag=mask", "mtsm", Mtsm(diag="mask")),
        ("denoising.estimator_epochs=3", "denoising", Denoising(estimator_epochs=3)),
        ("clip=r2plus1d_18", "clip", "r2plus1d_18"),
    ],
)
def test_settings_as_text(text: str, name: str, value: Any) -> None:
    setting, _, given = text.partition("=")
    assert changed(HAN, {setting: given}) == replace(HAN, **{name: value})


def test_several_settings_are_taken_together() -> None:
    """AVE's augmentation needs a schedule without swaps: neither setting stands in the way of the other."""
    both = {"augment": "cross_instance", "schedule": "plain+temporal"}
    for settings in (both, dict(reversed(both.items()))):
        assert changed(PSP, settings) == replace(PSP, augment="cross_instance", schedule=("plain", "temporal"))
    two = changed(HAN, {"mtsm.t_exp": "2", "mtsm.weight": "0.5"})
    assert two.mtsm == Mtsm(t_exp=2.0, weight=0.5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"haeds": "2"}, "no setting is called 'haeds'; did you mean heads"),
        ({"mtsm.t_expo": "2"}, "no setting of mtsm is called 't_expo'; did you mean t_exp"),
        ({"heads": "two"}, "heads='two': must be a value like 1"),
        ({"lr": "fast"}, "lr='fast': must be a value like 0.0003"),
        ({"renormalise": "maybe"}, "renormalise='maybe': must be true or false"),
        ({"milestones": "10,20"}, "milestones='10,20': must be a value like 0"),
        ({"lr.x": "1"}, "lr.x: lr has no settings of its own; give lr=VALUE"),
        ({"mtsm.diag": "nought"}, "nought"),
        ({"denoising.warm_up": "oficial"}, "did you mean official"),
        ({"gate": "globl"}, "no gate is called 'globl'; did you mean global"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_that_are_none(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ExtractError) as error:
        changed(HAN, settings)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"task": "avvpp"}, "no task is called 'avvpp'"),
        ({"model": "avel"}, "no model for the task avvp is called 'avel'; known: han, jomold"),
        ({"supervision": "full"}, "supervision full is for ave"),
        ({"task": "ave", "model": "dmrn"}, "dmrn is trained with supervision full only"),
        ({"task": "ave", "model": "avel", "loss": "mtsm"}, "the loss mtsm is defined on HAN's streams"),
        ({"model": "jomold", "augment": "cross_instance"}, "cross_instance augmentation is for weakly supervised"),
        ({"task": "ave", "model": "psp", "supervision": "full", "augment": "cross_instance"}, "weakly supervised"),
        ({"task": "ave", "model": "avel", "clip": "r2plus1d_18"}, "no features in the slot clip"),
        ({"augment": "cross_instance", "schedule": ("plain", "temporl")}, "a schedule is made of"),
        ({"schedule": ()}, "got nothing"),
        ({"task": "ave", "model": "avel", "augment": "cross_instance"}, "a swap of modalities has no labels"),
        ({"width": 0}, "width must be at least 1, got 0"),
        *(
            (
                {"task": "ave", "model": model, "supervision": "full", "width": 256},
                f"han and jomold, got 256 for {model};",
            )
            for model in MODELS["ave"]
        ),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"patience": -1}, "patience must be at least 0, got -1"),
        ({"lr": 0.0}, "lr must be above 0, got 0.0"),
        ({"lr": float("nan")}, "lr must be above 0, got nan"),
        ({"select": "tets"}, "no select is called 'tets'; did you mean test"),
        ({"precision": "float16"}, "no precision is called 'float16'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_together(given: dict[str, Any], words: str) -> None:
    with pytest.raises((PlanError, UnknownName)) as error:
        Config(**{"task": "avvp", "model": "han", "audio": "a", "visual": "v"} | given)
    assert words in str(error.value)


def test_configurations_from_before_there_was_a_width() -> None:
    """They are those of the published width, and keep the digest that their weights were saved with."""
    for made, digest in ((HAN, "e0a736f8867e"), (PSP, "e124cbd5cbdc")):
        told = as_dict(made)
        assert told.pop("width") == 512
        assert from_dict(told) == made
        assert made.digest() == digest


def test_a_configuration_that_is_not_whole_is_refused() -> None:
    told = as_dict(HAN)
    del told["model"], told["visual"]
    with pytest.raises(PlanError, match=r"the configuration has no model, visual; the run must be made again"):
        from_dict(told)


@pytest.mark.parametrize("model", ["han", "jomold"])
def test_the_width_is_that_of_streams_and_of_the_layer_inside_blocks(model: Any) -> None:
    sizes = {"audio": 3, "visual": 4}
    small = build(replace(HAN, model=model, width=24, heads=3), 5, sizes)
    assert isinstance(small, models.HAN)
    assert small.fc_a.weight.shape == (24, 3)
    wanted = models.HAN(classes=5, **sizes, clip=None, width=24, feedforward=24, heads=3).state_dict()
    assert {name: weight.shape for name, weight in small.state_dict().items()} == {
        name: weight.shape for name, weight in wanted.items()
    }
    published = build(replace(HAN, model=model), 5, sizes).state_dict()
    assert published["hat_encoder.layers.0.linear1.weight"].shape == (512, 512)
    with pytest.raises(PlanError, match="3 heads do not divide a width of 25"):
        build(replace(HAN, model=model, width=25, heads=3), 5, sizes)


def test_slots_without_a_key_are_none() -> None:
    assert HAN.names == {"audio": "vggish", "visual": "resnet152"}
    assert replace(HAN, clip="c").names == {"audio": "vggish", "visual": "resnet152", "clip": "c"}


def test_settings_lead_from_one_configuration_to_another() -> None:
    other = replace(
        HAN, lr=1.1e-7, milestones=(1, 2), schedule=("temporal",), renormalise=False, width=256, gate="none", clip="c",
        mtsm=Mtsm(t_exp=2.0, terms=("l1",)), denoising=Denoising(estimator_milestones=(3,)),
    )  # fmt: skip
    told = changes(other, HAN)
    assert changed(HAN, told) == other
    assert {"lr": "1.1e-07", "milestones": "1+2", "mtsm.t_exp": "2.0", "renormalise": "False"}.items() <= told.items()
    assert changes(HAN, HAN) == {}
