"""A small store with two audio and two visual networks, easy to learn from, and what runs on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from pipelines.parsing.config import Config
from pipelines.parsing.synthetic.make import make_synthetic
from pipelines.parsing.synthetic.stand_ins import StandIn

EASY: dict[str, Any] = {"strength": 20.0, "confusion": 0.0, "background": 0.0}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Torch with one thread; training's wish for deterministic operators ends with the test."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)


@pytest.fixture(scope="session")
def by_hand(load: Callable[[str, Path], ModuleType]) -> ModuleType:
    """by_hand.py of the parsers' tests: stores with whatever must be wrong in them."""
    return load("tests_parsing_by_hand", Path(__file__).parents[1] / "parsing" / "by_hand.py")


@pytest.fixture(scope="session")
def pairs_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 clips (40, 20 and 20): vggish and openl3_audio, resnet152 and vgg19_bn, and r2plus1d_18; see only.

    The second of each pair perceives nothing.
    """
    folder = tmp_path_factory.mktemp("pairs") / "s"
    make_synthetic(
        folder,
        sizes={"train": 40, "val": 20, "test": 20},
        audio=[StandIn("vggish", "audio", (24,), **EASY), StandIn("openl3_audio", "audio", (16,), strength=0.0)],
        visual=[StandIn("resnet152", "visual", (32,), **EASY), StandIn("vgg19_bn", "visual", (20,), strength=0.0)],
        clip=StandIn("r2plus1d_18", "visual", (12,), **EASY),
    )
    return folder


@pytest.fixture
def tiny() -> Callable[..., Config]:
    """``tiny(**more)``: a narrow HAN for four quick epochs."""

    def make(**more: Any) -> Config:
        values: dict[str, Any] = {"task": "avvp", "model": "han", "audio": "", "visual": "", "epochs": 4, "lr": 3e-3}
        return Config(**values | {"width": 16, "batch": 8} | more)

    return make
