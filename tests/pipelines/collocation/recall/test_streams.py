"""What trained parsers make of features: the numbers are those of networks run by hand."""

from __future__ import annotations

import csv
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch

from pipelines.collocation.clips.opened import open_splits
from pipelines.collocation.clips.shared import share
from pipelines.collocation.collocations import Trial, every
from pipelines.collocation.recall import streams
from pipelines.collocation.recall.recall import of_raw, of_streams
from pipelines.collocation.recall.streams import diagnose
from pipelines.collocation.training.jobs import BEST, best_weights
from pipelines.collocation.training.learners import network_of, of_slots
from pipelines.collocation.training.trainer import LaneTrainer, Means
from pipelines.collocation.transfer.estimators import cos_psi
from pipelines.parsing.outputs import AUDIO, VISUAL
from pipelines.parsing.synthetic.make import make_synthetic
from pipelines.parsing.synthetic.stand_ins import StandIn
from pipelines.parsing.task import task_of
from pipelines.parsing.weights import read_weights, save_weights

NAMES = {"audio": ("vggish", "openl3_audio"), "visual": ("resnet152",), "clip": ("r2plus1d_18",)}
CLASSES = task_of("avvp").classes


@pytest.fixture
def trained(pairs_store, tmp_path, tiny):
    """A traversal of two collocations with two seeds."""
    share(pairs_store, NAMES, "avvp", tmp_path, classes="official")
    trainer = LaneTrainer(tmp_path, tmp_path / "traverse", tiny(epochs=2), CLASSES, 25, Means(at_once=3))
    trainer.train([Trial(each, seed) for seed in (0, 1) for each in every(NAMES)], 2, test=True)
    return trainer


def by_hand_of(trainer, trial, splits, name):
    network = network_of(trial, best_weights(trainer.best_in[trial], trial), trainer.config, splits["train"]).eval()
    with torch.inference_mode():
        return network(**of_slots(splits[name], trial).features)


def rows_of(out):
    with (out / "recall.csv").open() as file:
        return list(csv.DictReader(file))


def in_text(rows):
    return [{name: str(value) for name, value in asdict(row).items()} for row in rows]


def test_numbers_are_those_of_networks_run_by_hand(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "AT_ONCE", 7)
    found = diagnose(tmp_path, trained, every(NAMES), 1, every(NAMES)[1].name, "cpu")
    splits = open_splits(tmp_path, [name for some in NAMES.values() for name in some])
    for each in every(NAMES):
        train, val = (by_hand_of(trained, Trial(each, 1), splits, name).after.numpy() for name in ("train", "val"))
        for stream, at in (("audio", AUDIO), ("visual", VISUAL)):
            source, target = (part[:, :, at].reshape(-1, 16) for part in (train, val))
            expected = cos_psi(source, target, batch=16 * 10, seed=1)
            assert found[each.name][f"cos_psi_fused_{stream}"] == pytest.approx(expected, abs=1e-4)
    assert len({value for each in found.values() for value in each.values()}) == 4
    winner = Trial(every(NAMES)[1], 1)
    before = np.concatenate([by_hand_of(trained, winner, splits, name).before.numpy() for name in ("val", "test")])
    heard, seen = (
        np.concatenate([getattr(splits[name].truth, kind) for name in ("val", "test")]) > 0
        for kind in ("audio", "visual")
    )
    expected = of_streams("openl3_audio", "resnet152", before[:, :, AUDIO], before[:, :, VISUAL], heard, seen)
    rows = rows_of(tmp_path)
    told = in_text(expected)
    for row, wanted in zip(rows, told, strict=False):
        assert float(row.pop("recall")) == pytest.approx(float(wanted.pop("recall")), abs=1.0)
    assert rows[: len(told)] == told
    raw = []
    for slot, name in (
        ("audio", "vggish"),
        ("visual", "resnet152"),
        ("visual", "r2plus1d_18"),
        ("audio", "openl3_audio"),
    ):
        both = np.concatenate([splits[split].features[name].numpy() for split in ("val", "test")])
        raw += in_text(of_raw(slot, name, both, heard if slot == "audio" else seen))
    assert rows[len(told) :] == raw


def test_a_parser_that_diverged_has_no_cosine(trained, tmp_path):
    lost, kept = every(NAMES)
    path = trained.best_in[Trial(lost, 0)] / BEST
    tensors, told = read_weights(path)
    start = f"{Trial(lost, 0).name}/"
    save_weights(
        path, {n: torch.full_like(t, math.nan) if n.startswith(start) else t for n, t in tensors.items()}, told
    )
    found = diagnose(tmp_path, trained, every(NAMES), 0, kept.name, "cpu")
    assert all(math.isnan(value) for value in found[lost.name].values())
    assert all(0 <= value <= 1 for value in found[kept.name].values())


def test_training_clips_are_drawn_from_all_of_the_manifest(trained, tmp_path, monkeypatch):
    train = open_splits(tmp_path, ["vggish"])["train"]
    some = streams._some(train, 16)
    at = [train.ids.index(clip_id) for clip_id in some.ids]
    assert len(at) == 16
    assert at == sorted(set(at))
    assert at[-1] >= 36
    assert streams._some(train, 1000).ids == train.ids
    whole = diagnose(tmp_path, trained, every(NAMES), 0, "", "cpu")
    monkeypatch.setattr(streams, "TRAIN_CLIPS", 16)
    few = diagnose(tmp_path, trained, every(NAMES), 0, "", "cpu")
    assert all(few[name] != whole[name] for name in whole)
    assert {row["kind"] for row in rows_of(tmp_path)} == {"within"}, "no collocation is called so"


def test_too_few_clips_have_no_cosine(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "TRAIN_CLIPS", 15)
    found = diagnose(tmp_path, trained, every(NAMES), 0, every(NAMES)[0].name, "cpu")
    assert all(math.isnan(value) for each in found.values() for value in each.values())


def test_ave_has_one_stream_and_no_recall(tmp_path, tiny):
    make_synthetic(
        tmp_path / "s", "ave", sizes={"train": 24, "val": 16, "test": 16},
        audio=[StandIn("vggish", "audio", (12,))], visual=[StandIn("vgg19_ave", "visual", (7, 7, 6))],
    )  # fmt: skip
    names = {"audio": ("vggish",), "visual": ("vgg19_ave",)}
    found = share(tmp_path / "s", names, "ave", tmp_path, classes="official")
    config = tiny(task="ave", model="avel", epochs=1, width=512)
    trainer = LaneTrainer(tmp_path, tmp_path / "traverse", config, found.classes, len(found.classes), Means())
    trainer.train([Trial(each, 0) for each in every(names)], 1, test=True)
    told = diagnose(tmp_path, trainer, every(names), 0, "vggish+vgg19_ave", "cpu")
    assert set(told["vggish+vgg19_ave"]) == {"cos_psi_fused"}
    assert 0 <= told["vggish+vgg19_ave"]["cos_psi_fused"] <= 1
    assert not (tmp_path / "recall.csv").exists()
