"""A store of many small parts, as a fixture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def many(load: Callable[[str, Path], ModuleType], content: ModuleType) -> ModuleType:
    """tests/store/operations/many.py, which uses `content`."""
    assert content
    return load("store_many", Path(__file__).with_name("many.py"))
