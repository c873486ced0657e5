"""A search from store to report: every method, what is refused, and what a second call finds."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from extract.errors import PlanError, StoreBusy, StoreError, UnknownName
from extract.store.runs import Lock
from pipelines.collocation.asked import METHODS, Asked, collocations_of
from pipelines.collocation.clips.shared import share
from pipelines.collocation.search import search
from pipelines.collocation.training import jobs
from pipelines.collocation.training.trainer import Means, Stopped
from pipelines.parsing.config import Config
from pipelines.parsing.synthetic.make import make_synthetic
from pipelines.parsing.synthetic.stand_ins import StandIn
from pipelines.parsing.task import task_of

NAMES = {"audio": ("vggish", "openl3_audio"), "visual": ("resnet152", "vgg19_bn")}


@pytest.fixture
def asked(pairs_store, tmp_path, tiny):
    """``asked(**more)``: 2 x 2 collocations, two seeds, 24 epochs."""

    def make(**more):
        values = {"names": NAMES, "methods": ("halving",), "seeds": (0, 1)}
        if "decoupled" in more.get("methods", ()):
            values["grid"] = {"lr": ("3e-3", "1e-2")}
        config = tiny(**{"epochs": 24} | more.pop("settings", {}))
        return Asked(**{"store": pairs_store, "out": tmp_path / "o", "config": config} | values | more)

    return make


def result(asked, method):
    return json.loads((asked.out / method / "result.json").read_text())


@pytest.mark.slow
def test_every_method_in_one_folder(asked):
    """The networks that perceive something are found by training; numbers are where the contract has them."""
    every = asked(methods=METHODS, train_classes=(25, 5))
    found = search(every, Means())
    assert list(found) == ["traverse", "traverse-5", "decoupled", "halving", "transfer"]
    names = {f"{audio}+{visual}" for audio in NAMES["audio"] for visual in NAMES["visual"]}
    for name, each in found.items():
        assert result(every, name) == json.loads(json.dumps(each))
        assert {row["name"] for row in each["ranking"]} == names
        assert [row["rank"] for row in each["ranking"]] == [1, 2, 3, 4]
        assert each["winner"] == each["ranking"][0]["name"]
        assert each["finished"]
        assert each["wall_s"] > 0
    truth = found["traverse"]
    assert truth["winner"] == "vggish+resnet152"
    assert truth["settled"] in (True, False)
    assert truth["train_classes"] == 25
    assert found["traverse-5"]["train_classes"] == 5
    assert truth["trained_epochs"] == 4 * 2 * 24
    assert truth["ranking"][0]["test"]["segment_type"]["values"]
    assert truth["ranking"][0]["score"] == pytest.approx(np.mean(truth["ranking"][0]["values"]))
    assert set(truth["fused"]) == names
    assert all(0 <= value <= 1 for each in truth["fused"].values() for value in each.values())
    assert found["halving"]["trained_epochs"] <= truth["trained_epochs"] / 12
    assert found["decoupled"]["path"][0]["incumbent"] == "vggish+resnet152"
    assert found["transfer"]["trained_epochs"] == 0
    assert {"logme_seconds", "h_score_seconds", "cka_seconds", "cos_psi_audio"} <= set(
        found["transfer"]["estimates"][truth["winner"]]
    )
    rows = list(csv.DictReader((every.out / "traverse" / "epochs.csv").open()))
    assert len({(row["collocation"], row["seed"], row["epoch"]) for row in rows}) == len(rows) == 4 * 2 * 24
    recall = list(csv.DictReader((every.out / "recall.csv").open()))
    assert {row["kind"] for row in recall} == {"within", "across"}
    assert {row["reading"] for row in recall} == {"shares a label", "equal labels"}
    assert not list(every.out.rglob("state.safetensors"))
    told = json.loads((every.out / "collocate.json").read_text())
    assert told["clips"] == {"train": [40, 40], "val": [20, 20], "test": [20, 20]}
    assert told["slots"] == {slot: list(some) for slot, some in NAMES.items()}


def test_given_again_nothing_is_trained(asked, monkeypatch):
    once = asked(methods=("halving", "decoupled"))
    first = search(once, Means())
    monkeypatch.setattr(jobs, "make_learners", None)
    again = search(once, Means())
    for name in first:
        assert {**again[name], "wall_s": 0} == {**first[name], "wall_s": 0}


def test_decoupled_with_folds(asked):
    found = search(asked(methods=("decoupled",), folds=4, seeds=(0,)), Means())["decoupled"]
    assert len(found["ranking"]) == 4
    steps = len({json.dumps(step["settings"]) for step in found["path"]})
    assert found["trained_epochs"] == 24 * (2 * len(found["path"]) + 4 * 4 * steps)
    assert found["folds"] == 4
    assert "but for one of 4 folds at a time, and scored on that" in found["notes"][1]


@pytest.mark.parametrize("folds", [0, 21])
def test_no_such_folds(asked, folds):
    with pytest.raises(PlanError, match=f"--folds {folds}: give 1 to 20, the clips of val"):
        search(asked(methods=("decoupled",), folds=folds), Means())


def test_a_method_more_in_the_same_folder(asked):
    search(asked(methods=("transfer",)), Means())
    search(asked(methods=("halving",)), Means())
    assert {path.parent.name for path in asked().out.glob("*/result.json")} == {"transfer", "halving"}


def test_fewer_classes_have_folders_of_their_own(asked):
    """They are not in what the paper compares, so nothing is diagnosed there."""
    one = asked(methods=("traverse",), train_classes=(5,), seeds=(0,), settings={"epochs": 1})
    found = search(one, Means())
    assert list(found) == ["traverse", "traverse-5"]
    for name, classes in (("traverse", 25), ("traverse-5", 5)):
        assert result(one, name) == json.loads(json.dumps(found[name]))
        assert found[name]["train_classes"] == classes
    assert "fused" in found["traverse"]
    assert "fused" not in found["traverse-5"]
    whole, few = ([row["score"] for row in each["ranking"]] for each in found.values())
    assert whole != few


def test_three_slots(asked):
    found = search(asked(names={**NAMES, "clip": ("r2plus1d_18",)}, methods=("halving", "transfer")), Means())
    for each in found.values():
        assert {row["clip"] for row in each["ranking"]} == {"r2plus1d_18"}
        assert each["winner"].endswith("+r2plus1d_18")
    assert "cos_psi_clip" in found["transfer"]["estimates"][found["transfer"]["winner"]]


@pytest.mark.parametrize("model", ["avel", "psp"])
def test_ave(tmp_path, model):
    store = tmp_path / "s"
    easy = {"strength": 20.0, "confusion": 0.0, "background": 0.0}
    make_synthetic(
        store, "ave", sizes={"train": 32, "val": 16, "test": 16},
        audio=[StandIn("vggish", "audio", (24,), **easy)],
        visual=[StandIn("vgg19_ave", "visual", (7, 7, 16), **easy), StandIn("resnet152", "visual", (7, 7, 16), strength=0.0)],
    )  # fmt: skip
    names = {"audio": ("vggish",), "visual": ("vgg19_ave", "resnet152")}
    config = Config("ave", model, audio="", visual="", epochs=2, batch=16, lr=1e-3)
    found = search(Asked(store, tmp_path / "o", names, config, ("traverse", "transfer"), seeds=(0,)), Means())
    assert found["traverse"]["metric"] == "accuracy"
    assert {row["name"] for row in found["traverse"]["ranking"]} == {"vggish+vgg19_ave", "vggish+resnet152"}
    assert 0 <= found["traverse"]["ranking"][0]["test"]["accuracy"]["mean"] <= 100
    assert found["transfer"]["winner"] == "vggish+vgg19_ave"
    assert not (tmp_path / "o" / "recall.csv").exists(), "AVE's networks have no streams of their own"


# ---- what is not ranked, and what is refused ---------------------------------------------------------------------------


def test_a_backbone_with_nan_is_flagged_and_the_others_are_ranked(by_hand, tmp_path, tiny):
    rows = {(f"{split}{i}", "resnet152"): np.full((3, 6), np.nan) for split, count in (("t", 6),) for i in range(count)}
    store = by_hand.small(tmp_path / "s", arrays=rows)
    names = {"audio": ("vggish",), "visual": ("resnet152",)}
    with pytest.raises(PlanError, match=r"no backbone is left for the slot visual \(resnet152: NaN .* of train\)"):
        search(Asked(store, tmp_path / "o", names, tiny()), Means())


def test_a_clip_slot_whose_only_backbone_is_flagged_is_not_left_out(by_hand, tmp_path, tiny, monkeypatch):
    rows = {("t1", "resnet152"): np.full((3, 6), np.nan)}
    store = by_hand.small(tmp_path / "s", arrays=rows)
    shared = share(store, {"audio": ("vggish",), "clip": ("resnet152",)}, "avvp", tmp_path / "o", classes="official")
    with pytest.raises(PlanError, match=r"no backbone is left for the slot clip \(resnet152: NaN"):
        collocations_of(shared)


def test_without_labels_of_val_only_transfer(by_hand, tmp_path, tiny):
    store = by_hand.small(tmp_path / "s", events=[])
    names = {"audio": ("vggish",), "visual": ("resnet152",)}
    with pytest.raises(StoreError, match=r"decoupled, halving: ranks by scores on val, and .* --method transfer"):
        search(Asked(store, tmp_path / "o", names, tiny(), ("decoupled", "halving", "transfer")), Means())


def test_labels_of_test_are_not_those_of_val(by_hand, tmp_path, tiny):
    events = [by_hand.Event(f"e{i}", kind, 0, 2, "Dog") for i in range(3) for kind in ("audio", "visual")]
    store = by_hand.small(tmp_path / "s", events=events)
    names = {"audio": ("vggish",), "visual": ("resnet152",)}
    with pytest.raises(StoreError, match=r"traverse: ranks by scores on val"):
        search(Asked(store, tmp_path / "o", names, tiny(), ("traverse",)), Means())


def test_transfer_by_labels_of_seconds(asked):
    assert (
        search(asked(methods=("transfer",), by="logme_gain_seconds"), Means())["transfer"]["by"] == "logme_gain_seconds"
    )


def test_transfer_without_labels_of_val(pairs_store, tmp_path, tiny, asked):
    """LogME of clips ranks where nothing is known of seconds."""
    import shutil

    store = tmp_path / "s"
    shutil.copytree(pairs_store, store)
    for path in store.glob("*dense*"):
        path.unlink()
    found = search(asked(store=store, methods=("transfer",)), Means())["transfer"]
    assert found["by"] == "logme_clips"
    assert found["winner"] == "vggish+resnet152"


@pytest.mark.parametrize(
    ("more", "error", "text"),
    [
        ({"methods": ("travers",)}, UnknownName, "did you mean traverse"),
        ({"settings": {"init": "x"}}, PlanError, "--init x is for `extract parse train`"),
        ({"settings": {"select": "test"}}, PlanError, "--select test is for"),
        ({"settings": {"patience": 3}}, PlanError, "--patience 3 is for"),
        ({"methods": ("transfer",), "by": "logme"}, UnknownName, "did you mean logme_"),
        ({"methods": ("decoupled",), "start": "vggish+resnet"}, UnknownName, "did you mean vggish\\+resnet152"),
        ({"names": {"audio": ("vggish",), "visual": ("resnet1",)}}, UnknownName, "did you mean resnet152"),
        ({"methods": ("traverse", "halving"), "seeds": (0,), "budget": 0.01}, PlanError, "give --budget of at least"),
        ({"methods": ("traverse", "decoupled"), "grid": {"lrr": ("1",)}}, UnknownName, "did you mean lr"),
        ({"methods": ("traverse",), "train_classes": (0,)}, PlanError, "--train-classes 0: there are 25 classes"),
        ({"methods": ("traverse", "transfer"), "by": "logme"}, UnknownName, "did you mean logme_"),
        ({"methods": ("decoupled",), "grid": {"epochs": ("2", "4")}}, PlanError, "--grid epochs: all trainings of a search"),
        ({"methods": ("decoupled",), "grid": {"lr": ("1", "1")}}, PlanError, "--grid lr=1,1: give at least one value, each"),
        ({"methods": ("decoupled",), "grid": {"lr": ()}}, PlanError, "--grid lr=: give at least one value"),
        ({"methods": ()}, PlanError, "--method names no method"),
        ({"grid": {"lr": ("1",)}}, PlanError, "--grid is for decoupled, and --method is halving; add decoupled, or leave"),
        ({"start": "vggish+resnet152"}, PlanError, "--start is for decoupled"),
        ({"folds": 2}, PlanError, "--folds is for decoupled"),
        ({"train_classes": (20,)}, PlanError, "--train-classes is for traverse"),
        ({"by": "logme_clips"}, PlanError, "--by is for transfer"),
        ({"budget": 0.5, "methods": ("traverse", "transfer")}, PlanError, "--budget is for halving, .* traverse,transfer"),
        ({"seeds": (0, 1, 0)}, PlanError, r"the seeds are \[0, 1, 0\]; give at least one, each once"),
        ({"seeds": ()}, PlanError, r"the seeds are \[\]"),
        ({"confidence": 1.0}, PlanError, "confidence 1 must be between 0 and 1"),
    ],
)  # fmt: skip
def test_refused(asked, more, error, text):
    with pytest.raises(error, match=text):
        search(asked(**more), Means())
    assert not {path.name for path in asked().out.glob("*")} - {"lock", "seconds"}, "no method has begun"


@pytest.mark.parametrize("method", ["halving", "decoupled"])
def test_one_collocation_is_for_traversal(asked, method):
    alone = {"audio": ("vggish",), "visual": ("resnet152",)}
    with pytest.raises(PlanError, match=rf"{method}: vggish\+resnet152 is the only collocation; .* --method traverse"):
        search(asked(names=alone, methods=("traverse", method)), Means())


def test_the_networks_for_ave_take_no_clip_slot(asked):
    one = asked(methods=("transfer",), names={**NAMES, "clip": ("r2plus1d_18",)})
    with pytest.raises(PlanError, match="take no features in the slot clip"):
        search(replace(one, config=Config("ave", "avel", "", "")), Means())
    assert not one.out.exists()


def test_classes_that_no_training_clip_has(by_hand, tmp_path, tiny):
    last = task_of("avvp").classes[-1]
    store = by_hand.small(tmp_path / "s", labels={f"t{i}": (last,) for i in range(6)})
    names = {"audio": ("vggish",), "visual": ("resnet152",)}
    with pytest.raises(PlanError, match="no training clip has one of the first 2 classes"):
        search(Asked(store, tmp_path / "o", names, tiny(), ("traverse",), train_classes=(25, 2)), Means())
    assert not (tmp_path / "o" / "traverse").exists()


def test_what_is_refused_leaves_the_search_as_it_was(asked):
    search(asked(methods=("transfer",)), Means())
    before = (asked().out / "collocate.json").read_bytes()
    with pytest.raises(PlanError, match="give --budget of at least"):
        search(asked(seeds=(7,), budget=0.01), Means())
    assert (asked().out / "collocate.json").read_bytes() == before


def test_clips_that_were_read_anew_and_are_others(asked):
    one = asked(methods=("transfer",))
    search(one, Means())
    path = one.out / "collocate.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"digest": "of others"}))
    with pytest.raises(PlanError, match="holds a search of other clips or features; give another folder with -o"):
        search(one, Means())


def test_features_and_seed_of_the_configuration_do_not_count(asked, monkeypatch):
    one = asked(methods=("halving",), settings={"epochs": 2}, budget=1.0)
    first = search(one, Means())["halving"]
    monkeypatch.setattr(jobs, "make_learners", None)
    other = replace(one, config=replace(one.config, audio="vggish", visual="resnet152", clip="r2plus1d_18", seed=3))
    assert search(other, Means())["halving"]["ranking"] == first["ranking"]


def test_without_what_is_seen_there_is_no_table_1_and_all_the_rest(by_hand, tmp_path, tiny):
    """Diagnostics that cannot be done lose no training."""
    events = [by_hand.Event(f"{split}{i}", "audio", 0, 2, "Dog") for split in "ve" for i in range(3)]
    store = by_hand.small(tmp_path / "s", events=events)
    names = {"audio": ("vggish",), "visual": ("resnet152",)}
    asked = Asked(store, tmp_path / "o", names, tiny(epochs=1), ("traverse",), seeds=(0,))
    found = search(asked, Means())["traverse"]
    (note,) = found["notes"]
    assert note.startswith("Table 1 and cos psi of what was fused are missing: streams of vggish+resnet152, visual to")
    assert note.endswith("no second has a label; recall needs labels of seconds")
    assert "fused" not in found
    assert result(asked, "traverse")["winner"] == "vggish+resnet152"


@pytest.mark.parametrize(("epochs", "batch"), [(3, 8), (1, 64)])
def test_a_loss_that_is_not_finite_is_noted(asked, epochs, batch):
    """Also where it was the last step that went wrong, before which the loss was finite."""
    settings = {"epochs": epochs, "batch": batch, "lr": 1e30}
    one = asked(methods=("traverse",), settings=settings, diagnostics=False)
    told = search(one, Means())["traverse"]
    notes = told["notes"]
    assert {value for row in told["ranking"] for value in row["values"]} == {0.0}
    assert not any(row["test"] for row in told["ranking"])
    found = [
        re.match(r"the loss of (\S+ with seed [01]) is not finite from epoch ([012]) on, where", note) for note in notes
    ]
    assert all(found)
    assert len({each[1] for each in found}) == len(found) == 8
    rows = list(csv.DictReader((one.out / "traverse" / "epochs.csv").open()))
    assert {each[2] for each in found} == {min(row["epoch"] for row in rows if row["loss"] == "nan")}
    assert search(one, Means())["traverse"]["notes"] == notes


def test_halving_goes_on_with_a_larger_budget(asked):
    """In a folder whose state was removed when the first search ended."""
    small = search(asked(), Means())["halving"]
    assert not list(asked().out.rglob("state.safetensors"))
    large = search(asked(budget=0.3), Means())["halving"]
    fresh = search(asked(budget=0.3, out=asked().out.with_name("fresh")), Means())["halving"]
    assert large["trained_epochs"] > small["trained_epochs"]
    assert [row["name"] for row in large["ranking"]] == [row["name"] for row in fresh["ranking"]]
    for row, same in zip(large["ranking"], fresh["ranking"], strict=True):
        assert row["values"] == pytest.approx(same["values"], abs=0.5)
    rows = list(csv.DictReader((asked().out / "halving" / "epochs.csv").open()))
    assert len({(row["collocation"], row["seed"], row["epoch"]) for row in rows}) == len(rows)


def test_what_a_kill_left_half_written_is_removed(asked):
    one = asked(methods=("transfer",))
    for folder in ("seconds", "transfer"):
        (one.out / folder).mkdir(parents=True)
        (one.out / folder / ".vggish.train.npy.123.tmp").write_bytes(b"x")
    search(one, Means())
    assert not list(one.out.rglob("*.tmp"))


def test_transfer_of_too_few_clips_is_refused_before_anything_is_trained(by_hand, tmp_path, tiny):
    store = by_hand.small(tmp_path / "s")
    names = {"audio": ("vggish",), "visual": ("resnet152",)}
    with pytest.raises(PlanError, match=r"transfer: .* batches of 16 clips, and val has 3; leave it out of --method"):
        search(Asked(store, tmp_path / "o", names, tiny(), ("traverse", "transfer")), Means())
    assert not (tmp_path / "o" / "traverse").exists()


def test_another_search_s_folder(asked):
    search(asked(methods=("transfer",)), Means())
    other = asked(methods=("transfer",))
    with pytest.raises(PlanError, match=r"holds a search with lr 0\.003, and 0\.1 is asked for; give another folder"):
        search(replace(other, config=replace(other.config, lr=0.1)), Means())


def test_a_foreign_folder(asked):
    one = asked()
    one.out.mkdir()
    (one.out / "thesis.tex").write_text("mine")
    with pytest.raises(PlanError, match="is not empty and holds no search"):
        search(one, Means())
    assert [path.name for path in one.out.iterdir()] == ["thesis.tex"]


def test_two_at_once(asked):
    one = asked(methods=("transfer",))
    one.out.mkdir()
    with Lock(one.out), pytest.raises(StoreBusy):
        search(one, Means())


@pytest.mark.parametrize("method", ["halving", "transfer"])
def test_stopped_and_gone_on(asked, method, tmp_path):
    whole = search(asked(methods=(method,), out=tmp_path / "whole"), Means())[method]
    one = asked(methods=(method,))
    asks = iter([False, True])
    with pytest.raises(Stopped):
        search(one, Means(stopping=lambda: next(asks, True)))
    found = search(one, Means())[method]
    times = ("wall_s", "work_s")
    assert [row["values"] for row in found["ranking"]] == [row["values"] for row in whole["ranking"]]
    assert {name for name in found if name not in times} == {name for name in whole if name not in times}
