"""Small stores with easy features, narrow networks, and what two runs of a parser must have in common."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from pipelines.parsing import networks
from pipelines.parsing.config import WIDTH, Config
from pipelines.parsing.models.han import HAN
from pipelines.parsing.synthetic.make import make_synthetic
from pipelines.parsing.synthetic.stand_ins import StandIn

HERE = Path(__file__).parent
EASY: dict[str, Any] = {"strength": 20.0, "confusion": 0.0, "background": 0.0}
SECONDS = ("train_s", "val_s", "test_s")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Torch with one thread; training's wish for deterministic operators ends with the test."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """HAN with streams of 32 numbers instead of 512, in every run of this test that asks for no other width."""

    def build(**options: Any) -> HAN:
        return HAN(**options | ({"width": 32, "feedforward": 32} if options["width"] == WIDTH else {}))

    monkeypatch.setattr(networks, "HAN", build)


@pytest.fixture(scope="session")
def formula(load: Callable[[str, Path], ModuleType]) -> ModuleType:
    """formula.py: weights and inputs that need no file."""
    return load("tests_parsing_formula", HERE / "models" / "formula.py")


@pytest.fixture(scope="session")
def by_hand(load: Callable[[str, Path], ModuleType]) -> ModuleType:
    """by_hand.py: stores with whatever must be wrong in them."""
    return load("tests_parsing_by_hand", HERE / "by_hand.py")


@pytest.fixture(scope="session")
def avvp_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 clips (76, 5 and 9) of 25 classes, with features of 24, 32 and 20 numbers per second; see only."""
    folder = tmp_path_factory.mktemp("avvp") / "s"
    ear, eye = StandIn("vggish", "audio", (24,), **EASY), StandIn("resnet152", "visual", (32,), **EASY)
    motion = StandIn("r2plus1d_18", "visual", (20,), **EASY)
    make_synthetic(folder, clips=90, audio=[ear], visual=[eye], clip=motion)
    return folder


@pytest.fixture(scope="session")
def ave_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 clips (48, 6 and 6) of 28 classes, with maps of 7 x 7 x 16 numbers per second; see only."""
    folder = tmp_path_factory.mktemp("ave") / "s"
    ear, eye = StandIn("vggish", "audio", (24,), **EASY), StandIn("vgg19_ave", "visual", (7, 7, 16), **EASY)
    make_synthetic(folder, "ave", clips=60, audio=[ear], visual=[eye])
    return folder


@pytest.fixture
def config() -> Callable[..., Config]:
    """``config(task, model, ...)``: three quick epochs."""

    def config(task: Any = "avvp", model: Any = "", **more: Any) -> Config:
        visual = {"avvp": "resnet152", "ave": "vgg19_ave"}[task]
        quick = {"audio": "vggish", "visual": visual, "epochs": 3, "batch": 16, "lr": 3e-3}
        return Config(task, model or {"avvp": "han", "ave": "avel"}[task], **quick | more)

    return config


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, Any]]:
    """The files of a run as bytes, and its log without the seconds; what says when or where is left out."""

    def contents(folder: Path) -> dict[str, Any]:
        found: dict[str, Any] = {
            path.name: path.read_bytes()
            for path in folder.iterdir()
            if path.is_file() and path.suffix != ".csv" and path.name != "lock"
        }
        with (folder / "log.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        found["log.csv"] = [{name: value for name, value in row.items() if name not in SECONDS} for row in rows]
        found["classes.csv"] = (folder / "classes.csv").read_text()
        return found

    return contents
