"""Stores to report on, as fixtures: with importlib imports, tests cannot import their siblings."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def made() -> ModuleType:
    """tests/report/made.py."""
    spec = importlib.util.spec_from_file_location("report_made", Path(__file__).with_name("made.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["report_made"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def full(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with everything a report can show; see made.make_store. Tests copy it before they change it."""
    folder: Path = made.make_store(tmp_path_factory.mktemp("report") / "store", clips=60)
    return folder
