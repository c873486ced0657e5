"""Training: the same bits again, whatever interrupts it; which epoch is chosen; when it stops."""

from __future__ import annotations

import csv
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from extract.errors import PlanError, StoreError, StoreUnwritable
from pipelines.parsing import run as running
from pipelines.parsing import train as training
from pipelines.parsing.config import MODELS, Config
from pipelines.parsing.learning.denoising import Denoising
from pipelines.parsing.loaded import Loaded, load
from pipelines.parsing.presets import as_dict
from pipelines.parsing.run import run
from pipelines.parsing.train import Trained, rate, shuffled, train

pytestmark = pytest.mark.usefixtures("narrow")
HERE = Path(__file__).parent
Make = Callable[..., Config]
Contents = Callable[[Path], dict[str, Any]]
MIXED: dict[str, Any] = {
    "augment": "cross_instance", "schedule": ("plain", "modality", "temporal"), "loss": "mtsm", "milestones": (1,),
}  # fmt: skip
QUICK = Denoising(estimator_epochs=2, estimator_batch=32, estimator_milestones=())
ALL: list[tuple[Any, Any, Any]] = [
    (task, model, supervision)
    for task, models in MODELS.items()
    for model in models
    for supervision in (("weak",) if task == "avvp" else ("full",) if model == "dmrn" else ("weak", "full"))
]


def log_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def loaded(avvp_store: Path, config: Make) -> Loaded:
    return load(config(), avvp_store, ["train", "val", "test"])


@pytest.fixture
def do(loaded: Loaded, tmp_path: Path) -> Callable[..., Trained]:
    """``do(config, "name")``: train in that folder."""

    def do(config: Config, name: str = "r", **more: Any) -> Trained:
        (tmp_path / name).mkdir(exist_ok=True)
        return train(config, loaded.splits, loaded.task.classes, tmp_path / name, **more)

    return do


def saying(values: list[float]) -> Callable[..., dict[str, float]]:
    """In place of `scores`: these, one per epoch."""
    left: Iterator[float] = iter(values)
    return lambda *args: {"segment_type": next(left)}


# ---- the same bits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, MIXED, {"model": "jomold", "denoising": QUICK}], ids=["plain", "mixed", "jomold"])
def test_two_runs_give_the_same_bytes(
    avvp_store: Path, config: Make, contents: Contents, tmp_path: Path, more: dict[str, Any]
) -> None:
    for i, name in enumerate("ab"):
        torch.manual_seed(i)
        torch.rand(i)
        run(config(**more), avvp_store, tmp_path / name)
    one, other = contents(tmp_path / "a"), contents(tmp_path / "b")
    wanted = {
        "best.safetensors",
        "scores.json",
        "predictions_test.npz",
        "predictions_val.npz",
        "log.csv",
        "config.json",
    }
    assert set(one) >= wanted
    assert one == other
    run(config(**more | {"seed": 1}), avvp_store, tmp_path / "c")
    assert contents(tmp_path / "c")["best.safetensors"] != one["best.safetensors"]


@pytest.mark.parametrize(("model", "supervision"), [("avel", "weak"), ("dmrn", "full"), ("psp", "full")])
def test_two_runs_of_ave_give_the_same_bytes(
    ave_store: Path, config: Make, contents: Contents, tmp_path: Path, model: Any, supervision: Any
) -> None:
    for name in "ab":
        run(config("ave", model, supervision=supervision, epochs=2), ave_store, tmp_path / name)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize(
    ("more", "every", "stages"),
    [(MIXED, 13, {0, 1, 2, 3}), ({"model": "jomold", "denoising": QUICK, "epochs": 2}, 19, {0, 1, 2})],
    ids=["mixed", "jomold"],
)
def test_killed_and_given_again_it_ends_with_the_same_bytes(
    avvp_store: Path,
    config: Make,
    contents: Contents,
    way: ModuleType,
    tmp_path: Path,
    more: Any,
    every: int,
    stages: Any,
) -> None:
    """SIGKILL before a step on the disk: of config, log, weights, what goes on, predictions, scores."""
    fields = json.dumps(as_dict(config(**more)))
    script = [sys.executable, "-P", str(HERE / "killing.py"), str(avvp_store), str(tmp_path), fields, str(every)]
    done = subprocess.run(script, capture_output=True, text=True, env=way.environment(), timeout=200, check=False)
    assert not done.returncode, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert {epochs for _, epochs in told["kills"]} == stages, "kills hit every stage"
    whole = contents(tmp_path / "whole")
    for before, _ in told["kills"]:
        assert contents(tmp_path / f"killed-{before}") == whole, f"other bytes after a kill before step {before}"


@pytest.mark.parametrize("after", [1, 2])
def test_stopped_and_given_again_it_ends_with_the_same_bytes(
    avvp_store: Path, config: Make, contents: Contents, tmp_path: Path, after: int
) -> None:
    whole = run(config(**MIXED), avvp_store, tmp_path / "whole")
    epochs: list[int] = []
    stopped = run(
        config(**MIXED), avvp_store, tmp_path / "r",
        on_epoch=lambda row: epochs.append(row["epoch"]), stopping=lambda: len(epochs) == after,
    )  # fmt: skip
    assert (stopped.epochs, stopped.finished) == (after, False)
    assert json.loads((tmp_path / "r" / "scores.json").read_text())["test"]["epochs"] == after
    again = run(config(**MIXED), avvp_store, tmp_path / "r", on_epoch=lambda row: epochs.append(row["epoch"]))
    assert again.finished
    assert epochs == [0, 1, 2], "no epoch was trained twice"
    assert contents(tmp_path / "r") == contents(tmp_path / "whole")
    assert again.scores == whole.scores or "nan" in str(whole.scores)


def test_a_finished_run_given_again_trains_nothing(
    avvp_store: Path, config: Make, contents: Contents, tmp_path: Path
) -> None:
    run(config(), avvp_store, tmp_path / "r")
    before = contents(tmp_path / "r")
    again = run(config(), avvp_store, tmp_path / "r", on_epoch=lambda row: pytest.fail("trained again"))
    assert again.finished
    assert contents(tmp_path / "r") == before


def test_a_kill_costs_as_much_as_it_may(do: Callable[..., Trained], config: Make, tmp_path: Path) -> None:
    """Saved at the end of the epoch in which the time is up; the log's later rows are made again."""
    times: list[int] = []

    def die(row: Any) -> None:
        times.append(row["epoch"])
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    for save_every_s, again in ((0.0, [0, 1, 2, 2]), (1e9, [0, 1, 2, 0, 1, 2])):
        times.clear()
        name = f"r{save_every_s}"
        with pytest.raises(KeyboardInterrupt):
            do(config(), name, on_epoch=die, save_every_s=save_every_s)
        do(config(), name, on_epoch=lambda row: times.append(row["epoch"]))
        assert times == again
        assert [row["epoch"] for row in log_of(tmp_path / name)] == ["0", "1", "2"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of TensorBoard's own thread
@pytest.mark.parametrize("leave", [0, 4096, 8192, 16384, 131_072, 327_680, 450_560])
def test_a_full_disk_is_told_and_the_same_command_goes_on(
    avvp_store: Path, config: Make, contents: Contents, small_disk: Callable[[str], Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, leave: int,
) -> None:  # fmt: skip
    """Met in the configuration, TensorBoard's file, the log, and both files of weights."""
    monkeypatch.setattr(running, "train", functools.partial(train, save_every_s=0))
    run(config(), avvp_store, tmp_path / "whole")
    disk = small_disk("3m")
    free = os.statvfs(disk)
    (disk / "filler").write_bytes(b"x" * (free.f_bavail * free.f_frsize - leave))
    with pytest.raises(StoreUnwritable, match=r"the disk is full; free some space.*give the same command again"):
        run(config(), avvp_store, disk / "r")
    (disk / "filler").unlink()
    run(config(), avvp_store, disk / "r")
    assert contents(disk / "r") == contents(tmp_path / "whole")
    assert not list((disk / "r").glob(".*.tmp"))


# ---- which epoch -----------------------------------------------------------------------------------------------------


def test_of_equal_epochs_the_later_one_counts(
    do: Callable[..., Trained], config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for values, best in (([3.0, 5.0, 5.0], 2), ([5.0, 4.0, 3.0], 0), ([1.0, 5.0, 4.0], 1), ([0.0, 0.0, 0.0], 2)):
        monkeypatch.setattr(training, "scores", saying(values))
        assert do(config(), f"r{values}").epoch == best


def test_the_weights_are_those_of_the_chosen_epoch(
    do: Callable[..., Trained], config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = do(config(epochs=1, select="last"), "one")
    monkeypatch.setattr(training, "scores", saying([5.0, 4.0, 3.0]))
    first = do(config(), "three")
    assert first.epoch == 0
    for name, tensor in load_file(tmp_path / "three" / "best.safetensors").items():
        assert torch.equal(tensor, last.model.state_dict()[name])
        assert torch.equal(tensor, first.model.state_dict()[name]), "the network that is given back has them"


@pytest.mark.parametrize("select", ["val", "test", "last"])
def test_selection(
    do: Callable[..., Trained], config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, select: Any
) -> None:
    looked: list[str] = []

    def spied(predicted: Any, split: Any, config: Config) -> dict[str, float]:
        looked.append(split.name)
        return {"segment_type": {"val": -1.0, "test": 1.0}[split.name] * len(looked)}

    monkeypatch.setattr(training, "scores", spied)
    told = do(config(select=select))
    assert set(looked) == ({select} if select != "last" else set())
    assert told.epoch == {"val": 0, "test": 2, "last": 2}[select]
    columns = {name.partition("_")[0] for name in log_of(tmp_path / "r")[0] if name.endswith("_type")}
    assert columns == ({select} - {"last"})


def test_the_split_that_chooses_needs_labels_with_times(loaded: Loaded, config: Make, tmp_path: Path) -> None:
    splits = {**loaded.splits, "val": replace(loaded.splits["val"], truth=None)}
    with pytest.raises(StoreError, match=r"no labels with times for the split val.*or choose --select last"):
        train(config(), splits, loaded.task.classes, tmp_path)
    assert train(config(epochs=1, select="last"), splits, loaded.task.classes, tmp_path).epoch == 0


def test_patience(do: Callable[..., Trained], config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs without a better one end it; equals count as better. Given again, it has ended."""
    values = [1.0, 3.0, 3.0, 2.0, 1.0, 9.0]
    monkeypatch.setattr(training, "scores", saying(values))
    patient = config(epochs=6, patience=2)
    told = do(patient)
    assert (told.epoch, told.epochs, told.finished) == (2, 5, True)
    monkeypatch.setattr(training, "scores", saying(values[5:]))
    again = do(patient, on_epoch=lambda row: pytest.fail("trained on"))
    assert (again.epoch, again.epochs, again.finished) == (2, 5, True)
    monkeypatch.setattr(training, "scores", saying(values))
    assert do(config(epochs=6), "never").epochs == 6


def test_the_best_epoch_and_patience_outlive_a_stop(
    do: Callable[..., Trained], config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped one epoch after the best, it still has its weights and score, and has waited for one epoch."""
    patient, values = config(epochs=9, patience=3), [3.0, 1.0, 1.0, 1.0]
    monkeypatch.setattr(training, "scores", saying(values))
    do(patient, "whole")
    monkeypatch.setattr(training, "scores", saying(values))
    asked: list[None] = []
    assert not do(patient, stopping=lambda: asked.append(None) or len(asked) == 2).finished
    told = do(patient)
    assert (told.epoch, told.epochs, told.finished) == (0, 4, True)
    for name in ("best.safetensors", "resume.safetensors"):
        assert (tmp_path / "r" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


# ---- rates, order, numbers -------------------------------------------------------------------------------------------


def test_milestones_and_gamma(do: Callable[..., Trained], config: Make, tmp_path: Path) -> None:
    steps = config(epochs=5, milestones=(1, 3), gamma=0.5)
    assert [rate(steps, epoch) for epoch in range(5)] == [3e-3, 1.5e-3, 1.5e-3, 7.5e-4, 7.5e-4]
    do(steps)
    rows = log_of(tmp_path / "r")
    assert [float(row["lr"]) for row in rows] == [rate(steps, epoch) for epoch in range(5)]
    do(config(epochs=5), "same")
    same = log_of(tmp_path / "same")
    assert [row["loss"] == other["loss"] for row, other in zip(rows, same, strict=True)] == [True, *4 * [False]]


def test_every_epoch_has_every_clip_once_in_another_order(config: Make) -> None:
    orders = [torch.cat(list(shuffled(config(seed=seed), 76, epoch))) for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order.tolist()) == list(range(76)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 4
    assert [len(rows) for rows in shuffled(config(), 76, 0)] == [16, 16, 16, 16, 12]


def test_the_log_of_a_mixed_run(do: Callable[..., Trained], config: Make, tmp_path: Path) -> None:
    do(config(**MIXED))
    rows = log_of(tmp_path / "r")
    assert [row["kind"] for row in rows] == ["plain", "modality", "temporal"]
    for row in rows:
        parts = {name: float(row[name]) for name in row if name.startswith("loss_") and row[name]}
        assert sum(parts.values()) == pytest.approx(float(row["loss"]), rel=1e-5)
        assert ("loss_l1" in parts) == (row["kind"] == "plain")
        assert ("loss_outer_video" in parts) == (row["kind"] == "temporal")
        assert 0 <= float(row["val_segment_type"]) <= 100


@pytest.mark.parametrize(("task", "model", "supervision"), ALL)
def test_every_model_learns(
    avvp_store: Path, ave_store: Path, config: Make, tmp_path: Path, task: Any, model: Any, supervision: Any
) -> None:
    store = avvp_store if task == "avvp" else ave_store
    ran = run(config(task, model, supervision=supervision, denoising=QUICK, lr=1e-3), store, tmp_path / "r")
    losses = [float(row["loss"]) for row in log_of(tmp_path / "r")]
    # the part of JoMoLD's labels that are removed from the second epoch on makes its first one another loss
    if model == "jomold":
        losses = losses[1:]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]
    metric = "segment_type" if task == "avvp" else "accuracy"
    assert all(0 <= ran.scores[split][metric] <= 100 for split in ("val", "test"))


def test_a_loss_that_is_no_number_is_told(do: Callable[..., Trained], config: Make, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"the loss is nan in epoch \d: lower --lr \(it is inf\)"):
        do(config(lr=float("inf")))
    assert not (tmp_path / "r" / "best.safetensors").exists()


def test_bfloat16_is_near_float32(do: Callable[..., Trained], config: Make, tmp_path: Path) -> None:
    for name in ("float32", "bfloat16"):
        do(config(precision=name), name)
    one, other = log_of(tmp_path / "float32"), log_of(tmp_path / "bfloat16")
    for row, near in zip(one, other, strict=True):
        assert float(near["loss"]) == pytest.approx(float(row["loss"]), rel=0.03)
        assert near["loss"] != row["loss"], "it was computed otherwise"
    assert all(
        tensor.dtype == torch.float32 for tensor in load_file(tmp_path / "bfloat16" / "best.safetensors").values()
    )


def test_it_may_begin_with_the_weights_of_another(do: Callable[..., Trained], config: Make, tmp_path: Path) -> None:
    first = do(config(select="last"), "first")
    still = do(config(init=str(tmp_path / "first"), epochs=1, lr=1e-12, select="last"), "still")
    for name, tensor in first.model.state_dict().items():
        assert torch.allclose(tensor, still.model.state_dict()[name], atol=1e-6)
    own = len(first.model.state_dict())
    file = tmp_path / "first" / "best.safetensors"
    assert still.begun == (
        f"begun with {own} of the network's {own} tensors, from {file} (sha256 {sha256(file.read_bytes()).hexdigest()[:12]})"
    )
    again = do(config(init=str(tmp_path / "first"), epochs=1, lr=1e-12, select="last"), "still")
    assert (first.begun, again.begun) == ("", still.begun), "a run remembers what it began with"
    with pytest.raises(PlanError, match=r"--init .*nowhere: there is no file"):
        do(config(init=str(tmp_path / "nowhere")), "none")
