"""Modules beside the tests as fixtures, and empty stores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Load = Callable[[str, Path], ModuleType]


@pytest.fixture(scope="session")
def content(load: Load) -> ModuleType:
    """tests/store/content.py."""
    return load("store_content", Path(__file__).with_name("content.py"))


@pytest.fixture(scope="session")
def ave_store(load: Load) -> ModuleType:
    """tests/store/ave_store.py."""
    return load("ave_store", Path(__file__).with_name("ave_store.py"))


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    """An empty store."""
    from extract.store.catalog import create_store

    create_store(tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def parts(store_path: Path) -> Path:
    return store_path / "parts"
