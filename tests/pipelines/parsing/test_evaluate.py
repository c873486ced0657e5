"""Scores: of a run again, of a checkpoint, under another gate, on other features; and that training is worth it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from extract.errors import ExtractError, LayoutMismatch, PlanError, StoreError, UnknownName
from pipelines.parsing import evaluate, metrics
from pipelines.parsing.config import Config
from pipelines.parsing.evaluate import Predicted, check_labels, everything, headline, predict, scores
from pipelines.parsing.judge import evaluate_checkpoint, evaluate_run, trained
from pipelines.parsing.loaded import Loaded, load
from pipelines.parsing.networks import build
from pipelines.parsing.run import run
from pipelines.parsing.synthetic.make import make_synthetic
from pipelines.parsing.synthetic.stand_ins import StandIn

pytestmark = pytest.mark.usefixtures("narrow")
Make = Callable[..., Config]
EASY: dict[str, Any] = {"strength": 20.0, "confusion": 0.0, "background": 0.0}
HOW = ("selection", "epoch", "epochs")


@pytest.fixture
def loaded(avvp_store: Path, config: Make) -> Loaded:
    return load(config(), avvp_store, ["val", "test"])


def saved(folder: Path, split: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "scores.json").read_text())[split]
    return told


def same(told: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Equal, but for nan, which JSON has as null."""
    text = json.dumps(told).replace("NaN", "null")
    return bool(json.loads(text) == wanted)


# ---- learning --------------------------------------------------------------------------------------------------------


def test_han_learns_far_above_the_trivial(config: Make, tmp_path: Path) -> None:
    """On clips whose features show plainly what is in them, from labels of clips only."""
    ear, eye = StandIn("vggish", "audio", (48,), **EASY), StandIn("resnet152", "visual", (64,), **EASY)
    make_synthetic(tmp_path / "s", clips=600, audio=[ear], visual=[eye], clip="")
    options = config(epochs=8, batch=32, lr=2e-3, width=64)
    ran = run(options, tmp_path / "s", tmp_path / "r")
    truth = load(options, tmp_path / "s", ["test"]).splits["test"].truth
    assert truth is not None
    nothing = np.zeros_like(truth.audio)
    speech = nothing.copy()
    speech[:, :, 0] = 1
    for name, trivial in (("nothing", nothing), ("Speech everywhere", speech)):
        other = metrics.score(metrics.Parse(trivial, trivial), truth).as_dict()
        for metric, value in other.items():
            margin = ran.scores["test"][metric] - value
            assert margin > (12 if "audio_visual" in metric else 20), f"{metric}: {name} is only {margin:.1f} below"


# ---- a run again -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "split"),
    [
        ({}, "test"),
        ({}, "val"),
        ({"clip": "r2plus1d_18", "layers": 2}, "test"),
        ({"precision": "bfloat16"}, "test"),
        ({"width": 48}, "test"),
    ],
)
def test_scores_of_a_run_again_are_those_of_the_run(
    avvp_store: Path, config: Make, tmp_path: Path, more: dict[str, Any], split: str
) -> None:
    run(config(**more), avvp_store, tmp_path / "r")
    for store in (None, avvp_store):
        told, notes = evaluate_run(tmp_path / "r", store=store, split=split)
        wanted = saved(tmp_path / "r", split)
        assert not notes
        assert told["selection"] == wanted["selection"]
        assert same({n: v for n, v in told.items() if n not in HOW}, {n: v for n, v in wanted.items() if n not in HOW})


@pytest.mark.parametrize(("model", "supervision"), [("avel", "weak"), ("dmrn", "full"), ("psp", "full")])
def test_of_ave_too(ave_store: Path, config: Make, tmp_path: Path, model: Any, supervision: Any) -> None:
    run(config("ave", model, supervision=supervision, epochs=1), ave_store, tmp_path / "r")
    told, _ = evaluate_run(tmp_path / "r")
    assert told["accuracy"] == saved(tmp_path / "r", "test")["accuracy"]


def test_predictions_on_disk_score_the_same(avvp_store: Path, loaded: Loaded, config: Make, tmp_path: Path) -> None:
    run(config(), avvp_store, tmp_path / "r")
    with np.load(tmp_path / "r" / "predictions_test.npz") as file:
        found = metrics.Probabilities(*(file[name] for name in metrics.Probabilities._fields))
    assert {array.dtype for array in found} == {np.dtype(np.float32)}
    truth = loaded.splits["test"].truth
    assert truth is not None
    again = metrics.score(metrics.binarise(found), truth).as_dict()
    assert again == {name: saved(tmp_path / "r", "test")[name] for name in again}


def test_another_gate(avvp_store: Path, config: Make, tmp_path: Path) -> None:
    run(config(epochs=1), avvp_store, tmp_path / "r")
    told = {gate: evaluate_run(tmp_path / "r", gate=gate)[0] for gate in ("", "global", "per_modality", "none")}
    assert told[""] == told["global"] or "nan" in str(told[""])
    assert told["per_modality"]["gate"] == "per_modality: audio >= 0.5, visual >= 0.5, seconds >= 0.5"
    assert len({told[gate]["segment_event"] for gate in ("global", "per_modality", "none")}) > 1
    with pytest.raises(UnknownName, match=r"no gate is called 'globl'; did you mean global"):
        evaluate_run(tmp_path / "r", gate="globl")


def test_features_of_other_dims_are_refused(avvp_store: Path, config: Make, tmp_path: Path) -> None:
    ear, eye = StandIn("vggish", "audio", (23,)), StandIn("resnet152", "visual", (32,))
    make_synthetic(tmp_path / "s", clips=12, audio=[ear], visual=[eye], clip="")
    run(config(epochs=1), avvp_store, tmp_path / "r")
    with pytest.raises(PlanError) as error:
        evaluate_run(tmp_path / "r", store=tmp_path / "s")
    assert str(error.value) == (
        "the network reads 24 numbers per second in the slot audio, the store's key gives 23: choose another --audio, or train "
        "anew"
    )


def test_other_features_of_the_same_dims_are_told(avvp_store: Path, config: Make, tmp_path: Path) -> None:
    ear, eye = StandIn("vggish", "audio", (24,), strength=1.0), StandIn("resnet152", "visual", (32,))
    make_synthetic(tmp_path / "s", clips=60, seed=1, audio=[ear], visual=[eye], clip="")
    run(config(epochs=1), avvp_store, tmp_path / "r")
    told, notes = evaluate_run(tmp_path / "r", store=tmp_path / "s")
    assert (told["clips"], told["of"]) == (6, 6)
    assert [note.partition("@")[0] for note in notes] == [
        "audio: the run was trained on vggish", "visual: the run was trained on resnet152",
    ]  # fmt: skip
    assert all(note.endswith("other features") for note in notes)


def test_over_fewer_clips(by_hand: ModuleType, config: Make, tmp_path: Path) -> None:
    run(config(epochs=1), by_hand.small(tmp_path / "s"), tmp_path / "r")
    told, notes = evaluate_run(tmp_path / "r", store=by_hand.small(tmp_path / "less", skip=[("e0", "vggish")]))
    assert (told["clips"], told["of"]) == (2, 3)
    assert notes[0].startswith("test: 2 of 3 clips; the first that is missing, e0, lacks vggish@")
    with pytest.raises(StoreError, match="no labels with times for the split test"):
        evaluate_run(tmp_path / "r", store=by_hand.small(tmp_path / "bare", events=()))
    with pytest.raises(UnknownName, match="no split of"):
        evaluate_run(tmp_path / "r", split="dev")


def test_the_vocabulary_is_that_of_the_run(by_hand: ModuleType, config: Make, tmp_path: Path) -> None:
    """Not that of the store it is scored on."""
    train = by_hand.small(tmp_path / "s", labels={"t0": ("Zebra", "Dog")})
    run(config(epochs=1, classes="manifest"), train, tmp_path / "r")
    told, _ = evaluate_run(tmp_path / "r", store=by_hand.small(tmp_path / "other", labels={"t0": ("Ant",)}))
    assert told["clips"] == 3
    with pytest.raises(ExtractError, match="no class is called 'Ant'"):
        evaluate_run(tmp_path / "r", store=by_hand.small(tmp_path / "ants", labels={"e0": ("Ant",)}))


def test_a_folder_that_holds_no_trained_network(avvp_store: Path, config: Make, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"config\.json is not there; is .* the folder of a run of"):
        trained(tmp_path)
    run(config(epochs=1), avvp_store, tmp_path / "a")
    run(config(epochs=1, seed=1), avvp_store, tmp_path / "b")
    best = tmp_path / "a" / "best.safetensors"
    best.write_bytes((tmp_path / "b" / "best.safetensors").read_bytes())
    with pytest.raises(PlanError, match=r"best\.safetensors is of another run than .*config\.json; train again"):
        evaluate_run(tmp_path / "a")
    best.unlink()
    with pytest.raises(PlanError, match="the folder of a finished run"):
        evaluate_run(tmp_path / "a")


# ---- checkpoints of others -------------------------------------------------------------------------------------------


def official(model: nn.Module) -> dict[str, torch.Tensor]:
    """As the official program saves HAN: parallel, and with modules that no output depends on."""
    plain = nn.TransformerEncoderLayer(32, 1, 32)
    unused = {f"audio_encoder.layers.0.{name}": tensor for name, tensor in plain.state_dict().items()}
    unused |= {f"cmt_encoder.layers.0.{name}": tensor for name, tensor in plain.state_dict().items()}
    return {f"module.{name}": tensor for name, tensor in (model.state_dict() | unused).items()}


@pytest.mark.parametrize("clip", ["", "r2plus1d_18"])
def test_an_official_checkpoint(avvp_store: Path, config: Make, tmp_path: Path, clip: str) -> None:
    """Saved as the official program does, it scores as the run whose weights it holds."""
    run(config(clip=clip, lr=0.01), avvp_store, tmp_path / "r")
    _, model, _ = trained(tmp_path / "r")
    torch.save(official(model), tmp_path / "MMIL_Net.pt")
    told, notes = evaluate_checkpoint(tmp_path / "MMIL_Net.pt", config(clip=clip, seed=9), avvp_store)
    wanted = saved(tmp_path / "r", "test")
    assert "selection" not in told
    assert same(told, {name: value for name, value in wanted.items() if name not in HOW})
    assert "tensors of" in notes[-1]
    assert "without effect" in notes[-1]


def test_a_checkpoint_that_does_not_fit(avvp_store: Path, config: Make, tmp_path: Path) -> None:
    torch.save(official(build(config(), 25, {"audio": 128, "visual": 32})), tmp_path / "x.pt")
    with pytest.raises(LayoutMismatch, match="the checkpoint takes 128 audio numbers, the store's key gives 24"):
        evaluate_checkpoint(tmp_path / "x.pt", config(), avvp_store)


# ---- the parts -------------------------------------------------------------------------------------------------------


def test_predictions_do_not_depend_on_how_many_are_made_at_once(
    loaded: Loaded, config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(config(), 25, loaded.dims)
    whole = predict(model, loaded.splits["test"])
    monkeypatch.setattr(evaluate, "AT_ONCE", 2)
    pieces = predict(model, loaded.splits["test"])
    assert whole.probabilities is not None
    assert pieces.probabilities is not None
    assert whole.ids == pieces.ids == loaded.splits["test"].ids
    for one, other in zip(whole.probabilities, pieces.probabilities, strict=True):
        assert np.abs(one - other).max() < 1e-6
    assert not model.training


def test_everything_is_of_the_right_clips(loaded: Loaded, config: Make) -> None:
    """Scores of a subset are those of its clips alone."""
    split = loaded.splits["test"]
    found = predict(build(config(), 25, loaded.dims), split)
    assert found.probabilities is not None
    assert split.differing is not None
    told = everything(found, split, config(gate="none"), "labels")
    for name, chosen in split.differing._asdict().items():
        rows = np.flatnonzero(chosen)
        part = split.part(rows)
        some = Predicted(part.ids, metrics.Probabilities(*(each[rows] for each in found.probabilities)))
        alone = scores(some, part, config(gate="none"))
        assert told[name] == {"clips": len(rows), **alone}
    assert told["interference"]["of"] == told["clips"] == 9


def test_a_split_that_cannot_be_scored(loaded: Loaded, config: Make) -> None:
    split = replace(loaded.splits["test"], truth=None)
    with pytest.raises(StoreError, match=r"no labels with times for the split test.*dense\.csv"):
        check_labels(split)
    with pytest.raises(StoreError, match="nothing can be scored"):
        scores(predict(build(config(), 25, loaded.dims), split), split, config())


def test_the_number_that_chooses(config: Make) -> None:
    assert headline(config()) == "segment_type"
    assert headline(config("ave")) == "accuracy"
