"""Fixtures of the report's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def made(load: Callable[[str, Path], ModuleType]) -> ModuleType:
    """searches.py."""
    return load("tests_collocation_searches", Path(__file__).with_name("searches.py"))


@pytest.fixture(scope="session")
def full(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search with every method; not to be changed."""
    folder: Path = made.make_search(tmp_path_factory.mktemp("searches") / "full")
    return folder
