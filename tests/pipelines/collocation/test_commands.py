"""``extract collocate`` as a person meets it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

from extract.store import Store
from pipelines.collocation.commands.collocate import _settings
from pipelines.parsing.commands.options import make_config

QUICK = ("--epochs", 24, "--seeds", 1, "--batch", 8, "--lr", 3e-3, "--set", "width=16", "--device", "cpu")
PAIRS = ("--audio", "vggish,openl3_audio", "--visual", "resnet152,vgg19_bn")


@pytest.fixture
def collocate(way, capsys, monkeypatch):
    """``collocate("--store", store, ...)``: the command in this process."""
    return lambda *args: way.invoke(capsys, monkeypatch, "collocate", *args)


def refused(done) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stderr.splitlines()[-1]


def undated(page) -> str:
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "", page.read_text())


def test_a_search_and_its_report(collocate, pairs_store, tmp_path):
    out = tmp_path / "o"
    done = collocate(
        "--store", pairs_store, *PAIRS, *QUICK, "--method", "transfer,halving", "--budget", 0.25, "-o", out
    )
    assert not done.returncode, done.stderr
    assert "transfer: vggish+resnet152 has the highest logme_clips" in done.stdout
    assert "next: extract parse train --store" in done.stdout
    assert f"page {out / 'page.html'}" in done.stdout
    told = json.loads((out / "halving" / "result.json").read_text())
    assert told["trained_epochs"] <= 4 * 24 / 4
    page = undated(out / "page.html")
    (out / "page.html").unlink()
    again = collocate("report", out)
    assert not again.returncode, again.stderr
    assert undated(out / "page.html") == page
    assert "vggish+resnet152" in again.stdout


@pytest.fixture
def given(collocate, monkeypatch):
    """``given(...)``: what the command asks of the search, which does not begin."""
    from pipelines.collocation import search
    from pipelines.collocation.training.trainer import Stopped

    def tell(*words):
        told = []

        def stop(*args, **more):
            told.extend(args)
            raise Stopped

        monkeypatch.setattr(search, "search", stop)
        done = collocate("--store", "s", "-o", "o", "--audio", "a", "--visual", "b,c", "--device", "cpu", *words)
        assert not done.returncode, done.stderr
        assert done.stdout.strip() == "stopped; the same command goes on"
        return told

    return tell


def test_every_option_arrives(given):
    asked, means = given(
        "--clip", "e", "--method", "decoupled,transfer", "--seeds", 2, "--seed", 5, "--grid", "lr=1,2", "--start", "a+b",
        "--train-classes", "20,15", "--by", "cka_seconds", "--confidence", 0.9, "--budget", 0.5, "--lanes", 3,
        "--at-once", 7, "--epochs", 9, "--lr", 0.5, "--loss", "mtsm",
    )  # fmt: skip
    assert asked.names == {"audio": ("a",), "visual": ("b", "c"), "clip": ("e",)}
    assert (asked.methods, asked.seeds, asked.start, asked.by) == (
        ("decoupled", "transfer"),
        (5, 6),
        "a+b",
        "cka_seconds",
    )
    assert (asked.grid, asked.train_classes) == ({"lr": ("1", "2")}, (20, 15))
    assert (asked.confidence, asked.budget) == (0.9, 0.5)
    assert (asked.config.epochs, asked.config.lr, asked.config.loss) == (9, 0.5, "mtsm")
    assert (means.lanes, means.at_once, means.devices, means.engine) == (3, 7, ("cpu",), "local")


def test_defaults(given):
    asked, means = given()
    assert (asked.methods, asked.seeds) == (("halving",), (0, 1, 2))
    assert (asked.grid, asked.budget, asked.confidence) == ({"lr": ("1e-4", "3e-4", "1e-3")}, 1 / 12, 0.95)
    assert (asked.config.epochs, asked.config.milestones) == (40, (10, 20, 30)), "HAN as published"
    assert (means.lanes, means.at_once, means.devices) == (1, 5, ("cpu",))


def test_on_gpus_there_is_a_lane_on_each(monkeypatch):
    import torch

    from pipelines.collocation.commands.collocate import _means

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    means = _means("auto", None, None, "local", None)
    assert (means.devices, means.lanes, means.at_once) == (("cuda:0", "cuda:1"), 2, 32)
    assert _means("cuda:1", None, None, "local", None).devices == ("cuda:1",)
    assert _means("cuda", None, 4, "ray", None).devices == ("cuda",)
    assert _means("auto", None, None, "ray", None).devices == ("cpu",)
    assert _means("cuda", None, 4, "ray", None).at_once == 4


def test_the_printed_command_trains_the_winner(collocate, way, capsys, monkeypatch, pairs_store, tmp_path):
    done = collocate("--store", pairs_store, *PAIRS, *QUICK, "--method", "transfer", "-o", tmp_path / "o")
    line = next(line for line in done.stdout.splitlines() if line.startswith("next: extract "))
    words = line.removeprefix("next: extract ").split()
    words[words.index("-o") + 1] = str(tmp_path / "r")
    words[words.index("--epochs") + 1] = "1"
    trained = way.invoke(capsys, monkeypatch, *words)
    assert not trained.returncode, trained.stderr
    config = json.loads((tmp_path / "r" / "config.json").read_text())["config"]
    assert (config["width"], config["batch"], config["lr"]) == (16, 8, 3e-3), "as in the search"


def test_the_printed_command_names_what_was_given(collocate, pairs_store, tmp_path):
    """A key where a key was given, for its backbone may have several in the store; words that a shell takes apart, quoted."""
    key = next(key for key in Store(pairs_store).columns if key.startswith("vggish@"))
    words = ("--audio", key, "--visual", "resnet152", *QUICK, "--method", "transfer", "-o", tmp_path / "o")
    spaced = tmp_path / "two words"
    spaced.symlink_to(pairs_store)
    done = collocate("--store", spaced, *words)
    line = next(line for line in done.stdout.splitlines() if line.startswith("next: extract "))
    told = shlex.split(line.removeprefix("next: "))
    assert told == [
        "extract", "parse", "train", "--store", str(spaced), "--task", "avvp", "--audio", key, "--visual", "resnet152",
        "--epochs", "24", "--batch", "8", "--lr", "0.003", "--set", "width=16", "-o", "runs/vggish+resnet152",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "result", "expected"),
    [
        ({}, {}, {}),
        ({"model": "jomold", "lr": 5e-4}, {}, {"model": "jomold"}),
        ({"augment": "cross_instance"}, {}, {"augment": "cross_instance"}),
        ({"settings": ("heads=2", "mtsm.t_exp=2")}, {}, {"heads": "2", "mtsm.t_exp": "2.0"}),
        ({"lr": 1e-3}, {"path": [{"settings": {"lr": "1"}}, {"settings": {"lr": "1e-4"}}]}, {"lr": "0.0001"}),
    ],
)
def test_settings_of_the_printed_command(given, result, expected):
    """What is published of a model need not be told; the decoupled method has found some."""
    config = make_config("avvp", "a", "v", "", **given)
    assert _settings(config, result) == expected


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "--store is missing"),
        (("--store", "s"), "--out is missing"),
        (("--store", "s", "-o", "o"), "--audio is missing"),
        (("--store", "s", "-o", "o", "--audio", "a"), "--visual is missing"),
        (("--store", "s", "-o", "o", "--audio", "a,a", "--visual", "b"), "--audio 'a,a' names something twice"),
        (("--store", "s", "-o", "o", "--audio", "a", "--visual", "b", "--train-classes", "x"), "must be numbers of classes"),
        (("--store", "s", "-o", "o", "--audio", "a", "--visual", "b", "--grid", "lr"), "--grid 'lr' must be NAME=VALUE"),
        (("--store", "s", "-o", "o", "--audio", "a", "--visual", "b", "--model", "avel"), "model"),
        (("--store", "s", "-o", "o", "--audio", "a", "--visual", "b", "--method", ","), "--method names no method"),
    ],
)  # fmt: skip
def test_refused(collocate, args, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert text in refused(collocate(*args))
    assert not (tmp_path / "o").exists()


def test_no_search_to_report_on(collocate, tmp_path):
    assert "collocate" in refused(collocate("report", tmp_path))


def test_budget_too_small_says_what_is_enough(collocate, pairs_store, tmp_path):
    said = refused(collocate("--store", pairs_store, *PAIRS, *QUICK, "--epochs", 4, "-o", tmp_path / "o"))
    assert "give --budget of at least 0.5, or traverse" in said


@pytest.mark.slow
def test_ctrl_c_stops_and_the_same_command_goes_on(pairs_store, tmp_path):
    out = tmp_path / "o"
    words = ["collocate", "--store", pairs_store, *PAIRS, *QUICK, "--epochs", 3000, "--method", "traverse", "-o", out]
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from extract.cli import main; sys.argv = ['extract', *sys.argv[1:]]; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    until = time.monotonic() + 60
    while not list(out.glob("traverse/jobs/*")):
        assert time.monotonic() < until
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    told, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert told.strip() == "stopped; the same command goes on"
    assert list(out.glob("traverse/jobs/*/state.safetensors"))
