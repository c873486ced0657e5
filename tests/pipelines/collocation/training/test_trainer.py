"""Jobs and lanes: what is asked for is trained once, goes on where it was, and gives the same whatever happens in between."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from extract.errors import PlanError
from pipelines.collocation.clips.opened import open_splits
from pipelines.collocation.clips.shared import share
from pipelines.collocation.collocations import Trial, every
from pipelines.collocation.training import jobs
from pipelines.collocation.training import trainer as training
from pipelines.collocation.training.curves import Curve
from pipelines.collocation.training.learners import make_learners
from pipelines.collocation.training.trainer import LaneTrainer, Means, Stopped
from pipelines.parsing.evaluate import predict, scores
from pipelines.parsing.loaded import load
from pipelines.parsing.task import task_of
from pipelines.parsing.train import train

NAMES = {"audio": ("vggish", "openl3_audio"), "visual": ("resnet152", "vgg19_bn")}
CLASSES = task_of("avvp").classes


@pytest.fixture
def root(pairs_store, tmp_path):
    share(pairs_store, NAMES, "avvp", tmp_path, classes="official")
    return tmp_path


def trials(*seeds, names=NAMES):
    return [Trial(each, seed) for seed in seeds for each in every(names)]


def make(root, config, method="m", **more):
    return LaneTrainer(root, root / method, config, CLASSES, 25, Means(**more))


def told(curves):
    return {trial.name: (curve.val, curve.clips.tolist(), dict(curve.test)) for trial, curve in curves.items()}


def test_a_trial_is_what_a_parser_trained_alone_is(root, pairs_store, tiny, tmp_path):
    """Up to the order of sums: the same scores of val after every epoch, and of test at the best."""
    config = tiny()
    found = make(root, config).train(trials(1), 4, test=True)
    for trial, curve in found.items():
        own = replace(config, seed=1, audio=trial.collocation.audio, visual=trial.collocation.visual)
        loaded = load(own, pairs_store, ("train", "val", "test"))
        rows = []
        (tmp_path / trial.name).mkdir()
        trained = train(own, loaded.splits, CLASSES, tmp_path / trial.name, on_epoch=rows.append)
        assert curve.val == pytest.approx([row["val_segment_type"] for row in rows], abs=0.3)
        assert curve.best_epoch == trained.epoch
        test = scores(predict(trained.model, loaded.splits["test"]), loaded.splits["test"], own)
        assert curve.test == pytest.approx(test, abs=0.5)


def test_clips_are_those_of_the_last_epoch_or_of_the_best_where_test_is_asked(root, tiny):
    config = tiny(epochs=12, lr=0.02, batch=4)
    last = make(root, config, "last").train(trials(0), 12)
    best = make(root, config, "best").train(trials(0), 12, test=True)
    assert any(curve.last < curve.best for curve in best.values())
    for trial in trials(0):
        assert last[trial].clips.mean() == pytest.approx(last[trial].last)
        assert best[trial].clips.mean() == pytest.approx(best[trial].best)
        assert len(best[trial].clips) == 20
        assert not last[trial].test
        assert len(best[trial].test) == 10


def test_epochs_in_two_steps_as_in_one_whatever_the_company(root, tiny):
    """Half of a stack goes on beside trials of another one: bits may differ by the order of sums, scores hardly."""
    whole = make(root, tiny(), "whole").train(trials(0, 1), 4)
    steps = make(root, tiny(), "steps", at_once=3)
    steps.train(trials(0, 1), 2)
    some = [trial for trial in trials(0, 1) if trial.collocation.visual == "resnet152"]
    found = steps.train(some, 4)
    assert list(found) == some
    for trial in some:
        assert found[trial].val == pytest.approx(whole[trial].val, abs=0.5)
        assert len(found[trial].val) == 4
    jobs_done = [json.loads(path.read_text()) for path in (root / "steps" / "jobs").glob("*/done.json")]
    begun_at = sorted((each["rows"][0][0]["epoch"], len(each["rows"])) for each in jobs_done)
    assert begun_at == [(0, 2), (0, 3), (0, 3), (2, 1), (2, 3)], "nothing is trained again from the start"
    again = steps.train(trials(0, 1), 2)
    assert [len(curve.val) for curve in again.values()] == [4 if trial in some else 2 for trial in again]


def test_what_was_asked_before_is_found_on_disk(root, tiny, monkeypatch):
    first = make(root, tiny())
    curves = [told(first.train(trials(0), 2)), told(first.train(trials(0)[:2], 3))]
    monkeypatch.setattr(jobs, "make_learners", None)
    again = make(root, tiny())
    assert [told(again.train(trials(0), 2)), told(again.train(trials(0)[:2], 3))] == curves
    assert again.rows == first.rows
    assert again.wall_s >= first.wall_s > 0


def test_rows(root, tiny):
    said = []
    trainer = LaneTrainer(root, root / "m", tiny(), CLASSES, 25, Means(at_once=3), said.append)
    trainer.train(trials(0, 1), 2)
    trainer.train(trials(0), 3, on="val", settings={"lr": "0.001"})
    text = (root / "m" / "epochs.csv").read_text().splitlines()
    assert text[0] == (
        "collocation,audio,visual,clip,seed,epoch,on,settings,loss,loss_audio,loss_visual,loss_video,val_segment_type,"
        "train_s,val_s"
    )
    assert len(text) == 1 + 8 * 2 + 4 * 3
    assert said == trainer.rows
    assert {(row["collocation"], row["seed"], row["epoch"], row["on"]) for row in trainer.rows} == {
        (trial.collocation.name, trial.seed, epoch, on)
        for on, seeds, epochs in (("train", (0, 1), 2), ("val", (0,), 3))
        for trial in trials(*seeds)
        for epoch in range(epochs)
    }
    assert '"{""lr"": ""0.001""}"' in text[-1]
    assert 0 < trainer.work_s < trainer.wall_s, "a parser of a stack took its share only"


def test_settings_and_the_clips_to_train_on_matter(root, tiny):
    trainer = make(root, tiny())
    plain = trainer.train(trials(0)[:1], 4)
    other = trainer.train(trials(0)[:1], 4, settings={"lr": "0.02"})
    on_val = trainer.train(trials(0)[:1], 4, on="val")
    assert len({curve.last for each in (plain, other, on_val) for curve in each.values()}) == 3
    assert np.isnan(next(iter(on_val.values())).val[:3]).all(), "trained on val, only the last epoch may be scored"
    assert next(iter(on_val.values())).best_epoch == 3


def test_a_fold_is_scored_and_not_trained_on(root, pairs_store, tiny, tmp_path):
    """As a parser that is trained on the other clips of val, and judged on these."""
    trial = trials(0)[0]
    found = make(root, tiny()).train([trial], 4, on="val", fold=(1, 3))[trial]
    own = replace(tiny(select="last"), audio=trial.collocation.audio, visual=trial.collocation.visual)
    val = load(own, pairs_store, ("val",)).splits["val"]
    held = np.arange(1, 20, 3)
    rest = np.setdiff1d(np.arange(20), held)
    (tmp_path / "alone").mkdir()
    alone = train(own, {"train": val.part(rest)}, CLASSES, tmp_path / "alone")
    expected = jobs.clip_headlines(predict(alone.model, val.part(held)), val.part(held), own)
    assert found.clips == pytest.approx(expected, abs=1.0)
    assert len(found.clips) == 7
    assert found.last == pytest.approx(found.clips.mean())


def test_folds_are_kept_apart(root, tiny):
    trainer = make(root, tiny())
    some = [trainer.train(trials(0), 2, on="val", fold=fold) for fold in ((0, 2), (1, 2), None)]
    assert [len(next(iter(each.values())).clips) for each in some] == [0, 0, 0], "only the last epoch is scored"
    some = [trainer.train(trials(0), 4, on="val", fold=fold) for fold in ((0, 2), (1, 2), None)]
    assert [len(next(iter(each.values())).clips) for each in some] == [10, 10, 20]
    assert {row["on"] for row in trainer.rows} == {"val", "val without fold 1 of 2", "val without fold 2 of 2"}


def test_fewer_training_classes(root, tiny):
    few = LaneTrainer(root, root / "few", tiny(), CLASSES, 3, Means())
    curve = few.train(trials(0)[:1], 4)
    assert told(curve) != told(make(root, tiny()).train(trials(0)[:1], 4))


def test_a_clip_slot(pairs_store, tmp_path, tiny):
    names = {**NAMES, "clip": ("r2plus1d_18",)}
    share(pairs_store, names, "avvp", tmp_path, classes="official")
    found = make(tmp_path, tiny()).train(trials(0, names=names), 2, test=True)
    assert next(iter(found)).collocation.name == "vggish+resnet152+r2plus1d_18"
    assert all(len(curve.val) == 2 for curve in found.values())


def test_a_network_that_is_no_stack(root, tiny):
    """MTSM's loss, one parser after the other: in steps as in one, bit for bit."""
    config = tiny(loss="mtsm")
    whole = make(root, config, "whole").train(trials(0)[:2], 3)
    steps = make(root, config, "steps")
    steps.train(trials(0)[:2], 1)
    assert told(steps.train(trials(0)[:2], 3)) == told(whole)


def test_too_many_epochs_and_test_too_late(root, tiny):
    trainer = make(root, tiny())
    with pytest.raises(PlanError, match="a full training has 4"):
        trainer.train(trials(0), 5)
    trainer.train(trials(0), 1)
    for until in (1, 4):
        with pytest.raises(PlanError, match="trained for 1 epochs without test scores"):
            trainer.train(trials(0), until, test=True)
    tested = trainer.train(trials(1), 4, test=True)
    assert told(trainer.train(trials(1), 4, test=True)) == told(tested)


def test_after_tidy_other_rounds_go_on(root, tiny, monkeypatch):
    """Such as those of a larger budget: epochs whose state was removed are trained again, and counted once."""
    whole = make(root, tiny(), "whole").train(trials(0), 4)
    first = make(root, tiny())
    two = first.train(trials(0), 2)
    first.tidy()
    for _ in range(2):
        again = make(root, tiny())
        assert told(again.train(trials(0), 2)) == told(two)
        some = trials(0)[1:3]
        three = again.train(some, 3)
        four = again.train(some, 4)
        for trial in some:
            assert three[trial].val[:2] == two[trial].val
            assert four[trial].val[:3] == three[trial].val
            assert four[trial].val == pytest.approx(whole[trial].val, abs=0.5)
            assert four[trial].clips.mean() == pytest.approx(four[trial].last)
        rows = [(row["collocation"], row["epoch"]) for row in again.rows]
        assert len(rows) == len(set(rows)) == 4 * 2 + 2 * 2
        assert again.work_s == pytest.approx(sum(each.work_s for each in (four | two | four).values()))
        again.tidy()
        monkeypatch.setattr(jobs, "make_learners", None)  # the second time, all is found


def test_names_that_end_like_others(by_hand, tmp_path, tiny):
    """Trials of backbones called ``net`` and ``best.net``, out of one stack into another, and alone; stopped, too."""
    clips = [by_hand.clip(f"{split}{i}", split, ("Speech",), 3) for split in ("train", "val", "test") for i in range(4)]
    events = [by_hand.Event(clip.clip_id, "audio", 0, 2, "Speech") for clip in clips if clip.split != "train"]
    names = {"audio": ("net", "best.net", "clips.net"), "visual": ("see", "my.see")}
    rng = np.random.default_rng(0)
    features = {
        name: {clip.clip_id: rng.standard_normal((3, 5)) for clip in clips} for some in names.values() for name in some
    }
    share(by_hand.write(tmp_path / "s", clips, features, events), names, "avvp", tmp_path, classes="official")
    for config in (tiny(), tiny(loss="mtsm")):
        asks = iter([False])
        stopped = make(tmp_path, config, f"whole-{config.loss}", at_once=9, stopping=lambda asks=asks: next(asks, True))
        with pytest.raises(Stopped):
            stopped.train(trials(0, names=names), 3, test=True)
        assert list((tmp_path / f"whole-{config.loss}" / "jobs").glob("*/state.safetensors"))
        whole = make(tmp_path, config, f"whole-{config.loss}", at_once=9).train(trials(0, names=names), 3, test=True)
        steps = make(tmp_path, config, config.loss)
        steps.train(trials(0, names=names), 1)
        steps.train(trials(0, names=names)[:1], 2)
        found = steps.train(trials(0, names=names), 3)
        for trial, curve in found.items():
            assert curve.val == pytest.approx(whole[trial].val, abs=0.5)


def test_of_epochs_that_score_the_same_the_later_one_is_kept(root, tiny):
    config = tiny(epochs=2, lr=1e-6, loss="mtsm")
    (trial,) = trials(0)[:1]
    trainer = make(root, config)
    curve = trainer.train([trial], 2, test=True)[trial]
    assert curve.val[0] == curve.val[1]
    splits = open_splits(root, list(trial.collocation.slots.values()))
    learners = make_learners([trial], config, splits["train"], splits["val"], CLASSES, root / "alone")
    for epoch in range(2):
        before = learners.weights(trial)
        learners.epoch(epoch)
    kept, after = jobs.best_weights(trainer.best_in[trial], trial), learners.weights(trial)
    assert all(torch.equal(kept[name], each) for name, each in after.items())
    assert not all(torch.equal(before[name], each) for name, each in after.items())


def test_a_curve_without_scores():
    nothing = Curve((float("nan"), float("nan")), np.zeros(0), 0.0)
    assert nothing.best_epoch == 1
    assert np.isnan(nothing.best)
    assert Curve((1.0, 3.0, float("nan"), 3.0, 2.0), np.zeros(0), 0.0).best_epoch == 3


def test_stopped_and_gone_on(root, tiny):
    """Bit for bit what it would have been."""
    whole = told(make(root, tiny(), "whole").train(trials(0), 4, test=True))
    asked = []

    def stopping():
        asked.append(1)
        return len(asked) == 3

    with pytest.raises(Stopped):
        make(root, tiny(), stopping=stopping).train(trials(0), 4, test=True)
    assert list((root / "m" / "jobs").glob("*/state.safetensors"))
    assert told(make(root, tiny()).train(trials(0), 4, test=True)) == whole


@pytest.mark.slow
def test_lanes_give_what_one_gives(root, tiny):
    one = told(make(root, tiny(), "one", at_once=2).train(trials(0), 2, test=True))
    assert told(make(root, tiny(), "more", at_once=2, lanes=2).train(trials(0), 2, test=True)) == one


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_a_cluster_gives_what_one_lane_gives(root, tiny, ray_cluster):
    one = told(make(root, tiny(), "one", at_once=2).train(trials(0), 2, test=True))
    assert told(make(root, tiny(), "more", at_once=2, lanes=2, engine="ray").train(trials(0), 2, test=True)) == one


def _victim(root, config, die_at):
    """Trains, and dies when the file is written for the nth time."""
    torch.set_num_threads(1)
    jobs.SAVE_EVERY_S = 0.0
    real, count = os.replace, [0]

    def replace_(*args, **more):
        count[0] += 1
        if count[0] == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **more)

    os.replace = replace_
    os.rename = replace_
    first = make(root, config, at_once=2)
    first.train(trials(0), 2)
    first.train(trials(0)[1:3], 4)


@pytest.mark.parametrize("die_at", [1, 2, 4, 5, 6, 9])
def test_killed_and_gone_on(root, tiny, die_at):
    whole = make(root, tiny(), "whole", at_once=2)
    expected = [told(whole.train(trials(0), 2)), told(whole.train(trials(0)[1:3], 4))]
    process = multiprocessing.get_context("fork").Process(target=_victim, args=(root, tiny(), die_at))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    again = make(root, tiny(), at_once=2)
    assert [told(again.train(trials(0), 2)), told(again.train(trials(0)[1:3], 4))] == expected
    again.tidy()
    assert not list((root / "m" / "jobs").glob("*/state.safetensors"))
    assert len(json.loads(next((root / "m" / "jobs").glob("*/done.json")).read_text())["rows"]) == 2


def test_the_clock_counts_what_was_done_before(root, tiny, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: now.__setitem__(0, now[0] + 1) or now[0])
    first = make(root, tiny(), at_once=1)
    first.train(trials(0), 1)
    before = first.wall_s
    assert before < now[0], "no time is counted twice"
    idle = make(root, tiny(), at_once=1, lanes=2)
    idle.train(trials(0), 1)
    assert idle.ran_on == first.ran_on == ("cpu: 1 lane of 1",), "what does nothing leaves no trace"
    second = make(root, tiny())
    second.train(trials(0), 1)
    second.train(trials(0), 2)
    assert second.wall_s > before > 0
    assert second.ran_on == ("cpu: 1 lane of 1", f"cpu: 1 lane of {second.means.at_once}")
