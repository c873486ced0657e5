"""Engines to test with: processes, and a Ray cluster that all Ray tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from extract.engine.base import Engine
from extract.engine.local import LocalEngine


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20, logging_level=40, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def make_local() -> Callable[[Any, Any, int], Engine]:
    return lambda open_lane, spec, lanes: LocalEngine(open_lane, spec, ["cpu"] * lanes)


@pytest.fixture
def make_ray(ray_cluster: None) -> Callable[[Any, Any, int], Engine]:
    from extract.engine.ray import RayEngine

    return RayEngine
