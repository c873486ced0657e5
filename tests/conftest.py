"""Fixtures shared by the whole suite."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips, annotations and goldens beside the checkout; only this project's machines have it."""
    folder = ROOT.parent / "shared"
    if not (folder / "DESIGN.md").is_file():
        pytest.skip("no ../shared beside this checkout: real clips and official goldens are not distributed")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """Small arrays made for this project, which travel with it."""
    return ROOT / "tests" / "golden"
