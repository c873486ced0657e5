"""A store of many small parts, as a fixture."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def many(content: ModuleType) -> ModuleType:
    """tests/store/operations/many.py, which uses `content`."""
    spec = importlib.util.spec_from_file_location("store_many", Path(__file__).with_name("many.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["store_many"] = module
    spec.loader.exec_module(module)
    return module
