"""The content module as a fixture: with importlib imports, tests cannot import their siblings."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def content() -> ModuleType:
    path = Path(__file__).with_name("content.py")
    spec = importlib.util.spec_from_file_location("store_content", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["store_content"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    """An empty store."""
    from extract.store.catalog import create_store

    create_store(tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def parts(store_path: Path) -> Path:
    return store_path / "parts"
