"""Stores to export, as fixtures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Load = Callable[[str, Path], ModuleType]


@pytest.fixture(scope="session")
def shelf(load: Load) -> ModuleType:
    """tests/store/export/shelf.py."""
    return load("export_shelf", Path(__file__).with_name("shelf.py"))


@pytest.fixture(scope="session")
def llp(load: Load) -> ModuleType:
    """tests/store/export/llp_clips.py."""
    return load("export_llp_clips", Path(__file__).with_name("llp_clips.py"))
