"""The shelf module as a fixture: with importlib imports, tests cannot import their siblings."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def shelf() -> ModuleType:
    path = Path(__file__).with_name("shelf.py")
    spec = importlib.util.spec_from_file_location("export_shelf", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["export_shelf"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def llp() -> ModuleType:
    """tests/store/export/llp_clips.py."""
    path = Path(__file__).with_name("llp_clips.py")
    spec = importlib.util.spec_from_file_location("export_llp_clips", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["export_llp_clips"] = module
    spec.loader.exec_module(module)
    return module
