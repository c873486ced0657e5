"""Runs from store to scores: whose folder it is, what is in it, what is missing, and several seeds."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import pytest

from extract.errors import LayoutMismatch, PlanError, StoreBusy, StoreError
from extract.store.runs import Lock
from manifests.dense import Event
from pipelines.parsing.config import Config
from pipelines.parsing.judge import trained
from pipelines.parsing.loaded import load
from pipelines.parsing.page.told import read_run
from pipelines.parsing.page.words import over_seeds, shown
from pipelines.parsing.page.write import write_page
from pipelines.parsing.run import class_rows, run, run_seeds, summary
from pipelines.parsing.run_folder import read_json, read_table, write_json
from pipelines.parsing.weights import load_into, read_weights, save_weights

pytestmark = pytest.mark.usefixtures("narrow")
Make = Callable[..., Config]


def no_json(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def strict(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=no_json)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- whose folder ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"lr": 1e-3}, "config: lr is 0.003 there and 0.001 here"),
        ({"width": 40}, "config: width is 512 there and 40 here"),
        ({"seed": 4}, "config: seed is 0 there and 4 here"),
        ({"loss": "mtsm"}, "config: loss is 'mil' there and 'mtsm' here"),
        ({"clip": "r2plus1d_18"}, "config: clip is '' there and 'r2plus1d_18' here"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_configuration_is_refused(
    avvp_store: Path, config: Make, tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    run(config(epochs=1), avvp_store, tmp_path / "r")
    before = tree(tmp_path / "r")
    with pytest.raises(PlanError) as error:
        run(config(epochs=1, **more), avvp_store, tmp_path / "r")
    assert f"{tmp_path / 'r'} holds a run with other {words}; give another folder with -o" in str(error.value)
    assert tree(tmp_path / "r") == before


@pytest.mark.parametrize("more", [{}, {"width": 40}])
def test_a_run_from_before_there_was_a_width_goes_on(
    avvp_store: Path, config: Make, tmp_path: Path, more: dict[str, Any]
) -> None:
    """And its weights are still those of its config.json; a run of another width is still another one."""
    run(config(), avvp_store, tmp_path / "whole")
    run(config(), avvp_store, tmp_path / "r", stopping=lambda: True)
    told = strict(tmp_path / "r" / "config.json")
    del told["config"]["width"]
    write_json(tmp_path / "r" / "config.json", told)
    if more:
        with pytest.raises(PlanError, match="other config: width is 512 there and 40 here"):
            run(config(**more), avvp_store, tmp_path / "r")
        return
    assert run(config(), avvp_store, tmp_path / "r").finished
    assert trained(tmp_path / "r")[0] == config()
    for name in ("best.safetensors", "resume.safetensors", "scores.json"):
        assert (tmp_path / "r" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_other_features_labels_and_clips_are_refused(by_hand: ModuleType, config: Make, tmp_path: Path) -> None:
    quick = config(epochs=1)
    run(quick, by_hand.small(tmp_path / "s"), tmp_path / "r")
    before = tree(tmp_path / "r")
    other = {
        "labels: 'not an official set": {
            "events": [Event("v0", "audio", 0, 1, "Dog"), Event("e0", "both", 0, 1, "Dog")]
        },
        "clips: train is [6, 6] there and [5, 6] here": {"skip": [("t0", "vggish")]},
    }
    for i, (words, wrong) in enumerate(other.items()):
        with pytest.raises(PlanError, match="holds a run with other") as error:
            run(quick, by_hand.small(tmp_path / f"s{i}", **wrong), tmp_path / "r")
        assert words in str(error.value)
    wide = {
        (f"{split}{i}", "vggish"): np.zeros((3, 5)) for split, n in (("t", 6), ("v", 3), ("e", 3)) for i in range(n)
    }
    with pytest.raises(
        PlanError, match=r"holds a run with other keys: audio is 'vggish@.*' there and 'vggish@.*' here"
    ):
        run(quick, by_hand.small(tmp_path / "wide", arrays=wide), tmp_path / "r")
    assert tree(tmp_path / "r") == before


@pytest.mark.parametrize("name", ["notes.txt", "config.json", ".hidden", "log.csv"])
def test_a_folder_of_something_else_is_refused(avvp_store: Path, config: Make, tmp_path: Path, name: str) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / name).write_text('{"mine": 1}')
    for start in (run, lambda *args: run_seeds(*args, 2)):
        with pytest.raises(PlanError, match=r"is not empty and holds no run.*; give another folder with -o"):
            start(config(), avvp_store, tmp_path / "r")
    assert tree(tmp_path / "r") == {name: b'{"mine": 1}'}


def test_a_folder_in_which_nothing_was_trained_yet_is_free(by_hand: ModuleType, config: Make, tmp_path: Path) -> None:
    """So that the advice of the error can be followed; also what a kill left of the first file is no obstacle."""
    path = by_hand.small(tmp_path / "s", events=())
    with pytest.raises(StoreError, match="choose --select last"):
        run(config(), path, tmp_path / "r")
    (tmp_path / "r" / ".config.json.123.tmp").write_text("{")
    ran = run(config(select="last"), path, tmp_path / "r")
    assert ran.finished
    assert not list((tmp_path / "r").glob(".*"))


def test_one_process_at_a_time(avvp_store: Path, config: Make, tmp_path: Path) -> None:
    run(config(epochs=1), avvp_store, tmp_path / "r")
    with Lock(tmp_path / "r"), pytest.raises(StoreBusy, match=r"r is held by process \d+ on .*: wait for it to end"):
        run(config(epochs=1), avvp_store, tmp_path / "r")


# ---- what is in it ---------------------------------------------------------------------------------------------------


def test_the_files_of_a_run(avvp_store: Path, config: Make, tmp_path: Path) -> None:
    loaded = load(config(), avvp_store, ["train", "val", "test"])
    ran = run(config(), avvp_store, tmp_path / "r")
    told = strict(tmp_path / "r" / "config.json")
    assert (told["task"], told["model"], told["supervision"], told["seed"]) == ("avvp", "han", "weak", 0)
    assert told["keys"] == dict(loaded.keys)
    assert told["dims"] == {"audio": 24, "visual": 32}
    assert told["infos"]["audio"]["weights"] == "random:synthetic:0"
    assert (told["seconds"], told["clips"]) == (10, {"train": [76, 76], "val": [5, 5], "test": [9, 9]})
    assert told["versions"]["threads"] == 1
    with np.load(tmp_path / "r" / "predictions_test.npz") as file:
        assert file["ids"].tolist() == list(loaded.splits["test"].ids)
        assert file["frame"].shape == (9, 10, 2, 25)
        assert file["video"].shape == file["audio"].shape == file["visual"].shape == (9, 25)
        assert 0 <= file["frame"].min() <= file["frame"].max() <= 1
    scores = strict(tmp_path / "r" / "scores.json")
    assert set(scores) == {"val", "test"}
    test = scores["test"]
    assert (test["clips"], test["of"], test["epoch"], test["epochs"]) == (9, 9, ran.epoch, 3)
    assert test["gate"] == "global: video >= 0.5, seconds >= 0.5"
    assert test["labels"] == loaded.labels
    assert test["non_identical"]["clips"] >= test["non_common"]["clips"] > 0
    rows = list(csv.DictReader((tmp_path / "r" / "classes.csv").open(newline="")))
    assert [row["label"] for row in rows] == list(loaded.task.classes)
    assert (tmp_path / "r" / "tensorboard").is_dir()
    assert write_page(tmp_path / "r", read_run(tmp_path / "r")).stat().st_size > 10_000


@pytest.mark.parametrize(
    ("select", "words"),
    [("val", "best epoch on the validation split"), ("test", "TEST-SELECTED"), ("last", "last epoch")],
)
def test_every_score_says_how_its_epoch_was_chosen(
    avvp_store: Path, config: Make, tmp_path: Path, select: Any, words: str
) -> None:
    ran = run(config(epochs=1, select=select), avvp_store, tmp_path / "r")
    scores = strict(tmp_path / "r" / "scores.json")
    assert all(scores[split]["selection"].startswith(words) for split in ("val", "test"))
    assert f"selection: {words}" in shown(ran.scores)


def test_what_no_clip_counts_for_is_null(by_hand: ModuleType, config: Make, tmp_path: Path) -> None:
    """Everything is heard and seen at once, so nothing can leak: nan in memory, null in JSON, a stroke on the terminal."""
    ran = run(config(epochs=1), by_hand.small(tmp_path / "s"), tmp_path / "r")
    told = strict(tmp_path / "r" / "scores.json")["test"]["interference"]
    assert (told["a_leak_v"], told["a_leak_v_clips"]) == (None, 0)
    assert math.isnan(ran.scores["test"]["interference"]["a_leak_v"])
    text = shown(ran.scores)
    assert "A_Leak_V - (N 0)" in text
    assert shown(strict(tmp_path / "r" / "scores.json")) == text
    assert write_page(tmp_path / "r", read_run(tmp_path / "r")).exists()


def test_subsets_of_equal_size_have_a_row_each() -> None:
    def told(value: float) -> dict[str, Any]:
        numbers = dict.fromkeys(("segment_audio", "segment_visual", "segment_event"), value)
        return {**numbers, "clips": 9, "of": 9, "non_identical": {"clips": 4, **dict.fromkeys(numbers, value + 1)}}

    rows = [line.split("|") for line in shown({"val": told(10.0), "test": told(20.0)}).splitlines()]
    assert [(row[0].strip(), row[1].split()[0]) for row in rows if "(" in row[0]] == [
        ("val (9 of 9 clips)", "10.0"),
        ("val, non-identical labels (4)", "11.0"),
        ("test (9 of 9 clips)", "20.0"),
        ("test, non-identical labels (4)", "21.0"),
    ]


def test_json_is_strict_at_any_depth(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [1.5, float("nan"), {"b": (float("nan"), "ü", None, True)}]})
    assert strict(tmp_path / "x.json") == {"a": [1.5, None, {"b": [None, "ü", None, True]}]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "y.json", {"a": math.inf})


def test_scores_rest_on_fewer_clips_and_say_so(by_hand: ModuleType, config: Make, tmp_path: Path) -> None:
    path = by_hand.small(tmp_path / "s", skip=[("t2", "vggish"), ("e1", "resnet152")])
    ran = run(config(epochs=1), path, tmp_path / "r")
    assert (ran.scores["test"]["clips"], ran.scores["test"]["of"]) == (2, 3)
    assert "test (2 of 3 clips)" in shown(ran.scores)
    assert [note.partition(";")[0] for note in ran.notes] == ["train: 5 of 6 clips", "test: 2 of 3 clips"]
    with np.load(tmp_path / "r" / "predictions_test.npz") as file:
        assert file["ids"].tolist() == ["e0", "e2"]


def test_without_labels_with_times_nothing_is_scored(by_hand: ModuleType, config: Make, tmp_path: Path) -> None:
    ran = run(config(epochs=1, select="last"), by_hand.small(tmp_path / "s", events=()), tmp_path / "r")
    assert ran.scores == {}
    assert strict(tmp_path / "r" / "scores.json") == {}
    assert "nothing was scored" in shown(ran.scores)
    assert not (tmp_path / "r" / "classes.csv").exists()


def test_with_labels_of_val_only(by_hand: ModuleType, config: Make, tmp_path: Path) -> None:
    """The table of classes is that of val, also after the run went on."""
    path = by_hand.small(
        tmp_path / "s", events=[Event("v0", "both", 0, 3, "Dog"), Event("v1", "audio", 0, 2, "Speech")]
    )
    tables = []
    for name, stop in (("r", True), ("r", False), ("whole", False)):
        ran = run(config(lr=0.05), path, tmp_path / name, stopping=lambda stop=stop: stop)
        assert set(ran.scores) == {"val"}
        tables.append((tmp_path / name / "classes.csv").read_text())
    assert tables[1] == tables[2]
    assert tables[0] != tables[1]


def test_ave(ave_store: Path, config: Make, tmp_path: Path) -> None:
    ran = run(config("ave", "avel", epochs=1), ave_store, tmp_path / "r")
    told = strict(tmp_path / "r" / "scores.json")["test"]
    assert set(told) == {"accuracy", "clips", "of", "labels", "selection", "epoch", "epochs"}
    assert "Accuracy" in shown(ran.scores)
    with np.load(tmp_path / "r" / "predictions_test.npz") as file:
        said = file["score"].argmax(axis=2)
    split = load(config("ave", "avel"), ave_store, ["test"]).splits["test"]
    assert split.event is not None
    truth = split.event.numpy()
    assert told["accuracy"] == pytest.approx(100 * (said == truth).mean())
    rows = read_table(tmp_path / "r" / "classes.csv")
    assert len(rows) == 29
    for number, row in enumerate(rows):
        hit = ((said == number) & (truth == number)).sum()
        for name, total in (("recall", (truth == number).sum()), ("precision", (said == number).sum())):
            assert float(row[name]) == pytest.approx(100 * hit / total) if total else row[name] == "nan"
    assert sum(int(row["seconds"]) for row in rows) == truth.size


def test_class_rows_of_ave_by_hand(ave_store: Path, config: Make) -> None:
    from pipelines.parsing.evaluate import Predicted

    options = config("ave", "avel")
    split = load(options, ave_store, ["test"]).splits["test"]
    assert split.event is not None
    right = np.eye(29, dtype=np.float32)[split.event.numpy()]
    classes = [str(number) for number in range(29)]
    for row in class_rows(Predicted(split.ids, score=right), split, options, classes):
        assert row["recall"] == 100 if row["seconds"] else math.isnan(row["recall"])
    nothing = np.zeros_like(right)
    nothing[..., 28] = 1
    rows = class_rows(Predicted(split.ids, score=nothing), split, options, classes)
    assert rows[28]["recall"] == 100
    assert rows[28]["precision"] == pytest.approx(100 * (split.event == 28).float().mean().item())


# ---- seeds -----------------------------------------------------------------------------------------------------------


def test_several_seeds(avvp_store: Path, config: Make, tmp_path: Path) -> None:
    told = run_seeds(config(epochs=1, seed=3), avvp_store, tmp_path / "r", 3)
    assert told["seeds"] == [3, 4, 5]
    assert strict(tmp_path / "r" / "seeds.json") == told
    each = [strict(tmp_path / "r" / f"seed-{seed}" / "scores.json")["test"] for seed in (3, 4, 5)]
    values = [one["segment_type"] for one in each]
    found = told["test"]["segment_type"]
    assert found["values"] == values
    assert found["mean"] == pytest.approx(sum(values) / 3)
    assert found["std"] == pytest.approx(math.sqrt(sum((value - found["mean"]) ** 2 for value in values) / 2))
    assert len(set(values)) > 1
    alone = run(config(epochs=1, seed=4), avvp_store, tmp_path / "alone")
    assert alone.scores["test"]["segment_type"] == values[1]
    text = over_seeds(told)
    assert text.endswith("mean ± std over 3 seeds: 3, 4, 5")
    assert f"{found['mean']:.1f}±{found['std']:.1f}" in text
    more = run_seeds(config(epochs=1, seed=3), avvp_store, tmp_path / "r", 4)
    assert more["test"]["segment_type"]["values"][:3] == values
    assert write_page(tmp_path / "r", read_run(tmp_path / "r")).exists()


def test_summary_by_hand() -> None:
    scores = [{"val": {"x": 1.0, "clips": 3, "gate": "g"}}, {"val": {"x": 4.0, "clips": 3, "gate": "g"}}]
    assert summary(scores) == {"val": {"x": {"mean": 2.5, "std": pytest.approx(math.sqrt(4.5)), "values": [1.0, 4.0]}}}
    assert summary(scores[:1])["val"]["x"] == {"mean": 1.0, "std": 0.0, "values": [1.0]}


def test_seeds_do_not_go_into_the_folder_of_one_run(avvp_store: Path, config: Make, tmp_path: Path) -> None:
    run(config(epochs=1), avvp_store, tmp_path / "one")
    with pytest.raises(PlanError, match="holds no runs of several seeds"):
        run_seeds(config(epochs=1), avvp_store, tmp_path / "one", 2)
    run_seeds(config(epochs=1), avvp_store, tmp_path / "two", 2)
    with pytest.raises(PlanError, match="holds no run; give another folder"):
        run(config(epochs=1), avvp_store, tmp_path / "two")


# ---- files that are damaged ------------------------------------------------------------------------------------------


def test_damaged_files(avvp_store: Path, config: Make, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"scores\.json is not there; is .* the folder of a run"):
        read_json(tmp_path / "scores.json")
    for text in ("{", "[1]"):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(PlanError, match=r"x\.json (is no JSON|holds no JSON object).*the run must be made again"):
            read_json(tmp_path / "x.json")
    run(config(epochs=1), avvp_store, tmp_path / "r")
    resume = tmp_path / "r" / "resume.safetensors"
    resume.write_bytes(resume.read_bytes()[:-100])
    with pytest.raises(PlanError, match=r"resume\.safetensors is damaged or no safetensors file"):
        run(config(epochs=1), avvp_store, tmp_path / "r")
    with pytest.raises(PlanError, match=r"is not there; is .* the folder of a finished run"):
        read_weights(tmp_path / "none.safetensors")


def test_weights_of_another_network(avvp_store: Path, config: Make, tmp_path: Path) -> None:
    from pipelines.parsing.networks import build

    one = build(config(), 25, {"audio": 24, "visual": 32})
    path = tmp_path / "x.safetensors"
    save_weights(path, one.state_dict(), {"b": [1, 2], "a": "ü"})
    tensors, told = read_weights(path)
    assert told == {"b": [1, 2], "a": "ü"}
    with pytest.raises(LayoutMismatch, match=r"fc_a\.weight has the shape \(32, 24\), the network takes \(32, 23\)"):
        load_into(build(config(), 25, {"audio": 23, "visual": 32}), tensors, path)
    with pytest.raises(
        LayoutMismatch, match=r"shape \(25, 32\), the network takes \(25, 40\): .* or with another width"
    ):
        load_into(build(config(width=40), 25, {"audio": 24, "visual": 32}), tensors, path)
    two = replace(config(), layers=2, encoder_compat="chained")
    with pytest.raises(LayoutMismatch, match=r"it lacks hat_encoder\.layers\.1\."):
        load_into(build(two, 25, {"audio": 24, "visual": 32}), tensors, path)
