"""Engines to test with: processes, and actors of the Ray cluster that all tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from extract.engine.base import Engine
from extract.engine.local import LocalEngine


@pytest.fixture
def make_local() -> Callable[[Any, Any, int], Engine]:
    return lambda open_lane, spec, lanes: LocalEngine(open_lane, spec, ["cpu"] * lanes)


@pytest.fixture
def make_ray(ray_cluster: None) -> Callable[[Any, Any, int], Engine]:
    from extract.engine.ray import RayEngine

    return RayEngine
