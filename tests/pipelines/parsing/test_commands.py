"""``extract parse`` as a person meets it: its words, its exit codes, what it does not import."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from extract.cli import extract as group
from pipelines.parsing.commands import train as train_command
from pipelines.parsing.commands.options import make_config, read_settings
from pipelines.parsing.commands.parse import COMMANDS
from pipelines.parsing.judge import trained

Parse = Callable[..., Any]
QUICK = ("--epochs", 2, "--lr", 3e-3)


@pytest.fixture
def parse(narrow: None, way: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Parse:
    """``parse("train", ...)``: the command in this process."""
    return lambda *args: way.invoke(capsys, monkeypatch, "parse", *args)


def refused(done: Any) -> str:
    """The one line of an error."""
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("extract: ")
    return str(line)


def row_of_test(done: Any) -> list[str]:
    """The row of the test split."""
    (row,) = (line for line in done.stdout.splitlines() if line.startswith("test ("))
    return list(row.split())


# ---- what it imports -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [(), ("train",), ("evaluate",), ("sweep",), ("synthetic",)], ids=" ".join)
def test_help_imports_nothing_heavy(args: tuple[str, ...]) -> None:
    code = (
        "import sys\nfrom extract.cli import main\nsys.argv = ['extract', 'parse', *sys.argv[1:], '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print('IMPORTED', *(name for name in ('torch', 'numpy', 'h5py', 'av', 'ray') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, *args], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    assert done.stdout.splitlines()[-1] == "IMPORTED"


def test_tasks_and_metrics_need_no_torch() -> None:
    code = "import sys, pipelines.parsing.task, pipelines.parsing.metrics\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_every_command_has_help() -> None:
    for name in COMMANDS:
        done = CliRunner().invoke(group, ["parse", name, "--help"])
        assert done.exit_code == 0, (name, done.output)
        assert f"Usage: extract parse {name}" in done.output
    assert all(name in CliRunner().invoke(group, ["parse", "--help"]).output for name in COMMANDS)
    assert CliRunner().invoke(group, ["parse", "trian"]).exit_code == 2


# ---- the whole way ---------------------------------------------------------------------------------------------------


def test_the_whole_way(parse: Parse, tmp_path: Path) -> None:
    """Make a store, train, score again, draw again, score as a checkpoint, and seeds: everything by command."""
    store, run = tmp_path / "s", tmp_path / "r"
    made = parse("synthetic", "--clips", 40, "--rows-per-second", 1, "--clip", "", "-o", store)
    assert made.returncode == 0, made.stderr
    assert "40 clips (train 34, val 2, test 4)" in made.stdout
    next_command = made.stdout.splitlines()[-1].removeprefix("next: extract parse ").split()
    assert next_command[:3] == ["train", "--store", str(store)]
    done = parse(*next_command[:-1], run, *QUICK)
    assert done.returncode == 0, done.stderr
    for words in ("val (2 of 2 clips)", "test (4 of 4 clips)", "selection: best epoch on the validation split (epoch "):
        assert words in done.stdout
    assert done.stdout.splitlines()[-1] == f"page {run / 'page.html'}"
    page = (run / "page.html").read_text()
    again = parse("evaluate", run, "--out", tmp_path / "scores.json")
    assert again.returncode == 0, again.stderr
    assert row_of_test(again) == row_of_test(done)
    told = json.loads((tmp_path / "scores.json").read_text())["test"]
    wanted = json.loads((run / "scores.json").read_text())["test"]
    assert {**told, "epoch": wanted["epoch"], "epochs": 2} == wanted
    (run / "page.html").unlink()
    assert parse("report", run).returncode == 0
    assert (run / "page.html").read_text() == page
    _, model, _ = trained(run)
    torch.save({f"module.{name}": tensor for name, tensor in model.state_dict().items()}, tmp_path / "x.pt")
    foreign = parse("evaluate", "--checkpoint", tmp_path / "x.pt", "--store", store)
    assert foreign.returncode == 0, foreign.stderr
    assert f"note: {tmp_path / 'x.pt'}: " in foreign.stdout
    assert row_of_test(foreign) == row_of_test(done)
    seeds = parse("train", "--store", store, "--seeds", 2, *QUICK, "-o", tmp_path / "many")
    assert seeds.returncode == 0, seeds.stderr
    assert "mean ± std over 2 seeds: 0, 1" in seeds.stdout
    assert (tmp_path / "many" / "page.html").is_file()


def test_ave(parse: Parse, ave_store: Path, tmp_path: Path) -> None:
    args = ("--store", ave_store, "--task", "ave", "--model", "psp", "--epochs", 1)
    done = parse("train", *args, "-o", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    assert "test (6 of 6 clips)" in done.stdout
    assert parse("evaluate", tmp_path / "r").returncode == 0
    mixed = parse("train", *args, "--augment", "cross_instance", "-o", tmp_path / "mixed")
    assert mixed.returncode == 0, mixed.stderr
    assert json.loads((tmp_path / "mixed" / "config.json").read_text())["config"]["schedule"] == [
        "plain", "plain", "temporal",
    ]  # fmt: skip


def test_missing_clips_are_reported(parse: Parse, by_hand: ModuleType, tmp_path: Path) -> None:
    path = by_hand.small(tmp_path / "s", skip=[("e1", "vggish")], failed=[("e1", "vggish")])
    done = parse("train", "--store", path, *QUICK, "-o", tmp_path / "r")
    assert "note: test: 2 of 3 clips; the first that is missing, e1, lacks vggish@" in done.stdout
    assert "not_found (open): it is not there" in done.stdout
    assert "test (2 of 3 clips)" in done.stdout


def test_a_sweep(parse: Parse, avvp_store: Path, tmp_path: Path) -> None:
    args = ("sweep", "--store", avvp_store, "--epochs", 1, "--grid", "lr=1e-4,0.01", "--grid", "heads=2", "--seeds", 2)
    done = parse(*args, "-o", tmp_path / "w")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum(" seed " in line for line in lines) == 4
    assert lines[-1] == f"table {tmp_path / 'w' / 'sweep.csv'}"
    assert lines[-3].startswith("segment_type  val ")
    assert "heads=2" in lines[-3]
    assert parse(*args, "-o", tmp_path / "w").stdout == done.stdout


def test_ctrl_c_stops_after_the_epoch_and_the_same_command_goes_on(
    parse: Parse, avvp_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ("train", "--store", avvp_store, "--epochs", 3, "--lr", 3e-3)
    whole = parse(*args, "-o", tmp_path / "whole")
    before = signal.getsignal(signal.SIGINT)  # nohup and background jobs ignore it
    with monkeypatch.context() as patch:
        patch.setattr(
            train_command, "_say", lambda row: signal.raise_signal(signal.SIGINT) if row["epoch"] == 1 else None
        )
        stopped = parse(*args, "-o", tmp_path / "r")
    assert stopped.returncode == 0
    assert "stopped after epoch 1 of 3; the same command goes on" in stopped.stdout
    assert signal.getsignal(signal.SIGINT) is before
    done = parse(*args, "-o", tmp_path / "r")
    assert done.stdout == whole.stdout.replace(str(tmp_path / "whole"), str(tmp_path / "r"))


# ---- settings --------------------------------------------------------------------------------------------------------


def test_settings_of_the_command_line(parse: Parse, avvp_store: Path, tmp_path: Path) -> None:
    more = ("--loss", "mtsm", "--set", "mtsm.t_exp=2", "--set", "heads=2", "--gate", "none", "--select", "test")
    done = parse("train", "--store", avvp_store, *QUICK, *more, "--clip", "r2plus1d_18", "-o", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    config, _, told = trained(tmp_path / "r")
    assert (config.loss, config.mtsm.t_exp, config.heads, config.gate) == ("mtsm", 2.0, 2, "none")
    assert (config.epochs, config.lr, config.batch) == (2, 3e-3, 16)
    assert set(told["keys"]) == {"audio", "visual", "clip"}
    assert "selection: TEST-SELECTED" in done.stdout
    assert "gate: none: seconds >= 0.5" in done.stdout


def test_published_settings_are_the_defaults() -> None:
    given: dict[str, Any] = {"audio": "", "visual": "", "clip": ""}
    han = make_config(task="avvp", **given)
    assert (han.model, han.audio, han.visual, han.epochs, han.lr) == ("han", "vggish", "resnet152", 40, 3e-4)
    dmrn = make_config(task="ave", model="dmrn", **given)
    assert (dmrn.supervision, dmrn.visual) == ("full", "vgg19_ave")
    jomold = make_config(task="avvp", model="jomold", lr=None, epochs=3, **given)
    assert (jomold.gate, jomold.batch, jomold.epochs) == ("per_modality", 128, 3)
    assert read_settings(("a=1", "b=x=y", "c=")) == {"a": "1", "b": "x=y", "c": ""}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--set", "haeds=2"), "no setting is called 'haeds'; did you mean heads"),
        (("--set", "mtsm.t_expo=2"), "no setting of mtsm is called 't_expo'; did you mean t_exp"),
        (("--set", "heads=two"), "heads='two': must be a value like 1"),
        (("--set", "heads"), "--set 'heads' must be NAME=VALUE, such as heads=2"),
        (("--set", "heads=1", "--set", "heads=2"), "--set gives heads twice; give it once"),
        (("--set", "heads=3"), "3 heads do not divide a width of"),
        (("--audio", "vgish"), "is called 'vgish'; did you mean vggish"),
        (("--audio", "resnet152"), "two slots have the same key, resnet152@"),
        (("--model", "hann"), "no model for the task avvp is called 'hann'; did you mean han"),
        (("--model", "avel"), "no model for the task avvp is called 'avel'"),
        (("--gate", "globall"), "no gate is called 'globall'; did you mean global"),
        (("--supervision", "full"), "supervision full is for ave"),
        (("--lr", "-1"), "lr must be above 0, got -1.0"),
        (("--task", "ave", "--visual", "resnet152"), "no class is called 'Speech'"),
        (("--device", "cuda"), "use --device cpu"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_trained(
    parse: Parse, avvp_store: Path, tmp_path: Path, args: tuple[str, ...], words: str
) -> None:
    if "cuda" in args and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    assert words in refused(parse("train", "--store", avvp_store, *QUICK, *args, "-o", tmp_path / "r"))


def test_what_cannot_be_read(parse: Parse, by_hand: ModuleType, tmp_path: Path) -> None:
    import numpy as np

    broken = np.full((3, 4), np.nan)
    for i, (more, words) in enumerate([
        ({"arrays": {("t1", "vggish"): broken}}, "clip 't1' has NaN or infinite numbers in vggish@"),
        ({"labels": {"v1": ()}}, "clip 'v1' has no labels in"),
        ({"labels": {"v1": ("Barking",)}}, "--classes manifest takes the classes of the manifest"),
        ({"skip": [(f"e{j}", "vggish") for j in range(3)]}, "none of 3 clips has rows of vggish@"),
        ({"events": ()}, "or choose --select last"),
    ]):  # fmt: skip
        path = by_hand.small(tmp_path / f"s{i}", **more)
        assert words in refused(parse("train", "--store", path, *QUICK, "-o", tmp_path / f"r{i}"))
    assert "there is no feature store at" in refused(parse("train", "--store", tmp_path / "no", "-o", tmp_path / "r"))
    own = by_hand.small(tmp_path / "own", labels={"v1": ("Barking",)})
    done = parse("train", "--store", own, "--classes", "manifest", *QUICK, "-o", tmp_path / "own-r")
    assert done.returncode == 0, done.stderr


def test_what_cannot_be_evaluated(parse: Parse, avvp_store: Path, tmp_path: Path) -> None:
    assert parse("train", "--store", avvp_store, *QUICK, "-o", tmp_path / "r").returncode == 0
    for args, words in (
        ((), "give the folder of a run, or --checkpoint FILE with --store"),
        ((tmp_path / "r", "--checkpoint", "x.pt"), "give the folder of a run, or --checkpoint"),
        (("--checkpoint", "x.pt"), "--checkpoint needs --store"),
        (("--checkpoint", "x.pt", "--store", avvp_store), "there is no checkpoint x.pt"),
        ((tmp_path / "r", "--batch", 3), "--batch is for a --checkpoint; a run has its own"),
        ((tmp_path / "r", "--audio", "vggish"), "--audio is for a --checkpoint; a run has its own"),
        ((tmp_path / "r", "--set", "heads=2"), "--set is for a --checkpoint; a run has its own"),
        ((tmp_path / "r", "--split", "tst"), "is called 'tst'; did you mean test"),
        ((tmp_path / "none",), "is not there; is"),
    ):
        assert words in refused(parse("evaluate", *args))


def test_a_grid_of_another_form(parse: Parse, avvp_store: Path, tmp_path: Path) -> None:
    done = parse("sweep", "--store", avvp_store, "--grid", "lr", "-o", tmp_path / "w")
    assert "--grid 'lr' must be NAME=VALUE" in refused(done)
