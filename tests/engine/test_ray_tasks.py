"""Tasks of pipelines.collocation.training.lanes on a real local Ray cluster; what is not about Ray is in its own tests."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from extract.errors import ExtractError, PlanError, StoreError
from extract.testing.processes import alive, wait_until
from pipelines.collocation.training.lanes import run_tasks

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]
FOLDER = Path(__file__).parents[1] / "pipelines" / "collocation" / "training"


@pytest.fixture
def works(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    from ray import cloudpickle

    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("lane_works")
    # the cluster is older than this path
    cloudpickle.register_pickle_by_value(module)
    yield module
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture
def tasks(works: ModuleType, tmp_path: Path) -> Callable[..., list[Any]]:
    def make(count: int, seconds: float = 0.0, fates: dict[int, str] | None = None) -> list[Any]:
        return [works.Task(i, str(tmp_path), seconds, (fates or {}).get(i, "")) for i in range(count)]

    return make


def pids(folder: Path, number: int | str = "*") -> set[int]:
    return {int(path.name.rpartition("-")[2]) for path in folder.glob(f"begun-{number}-*")}


def test_ray_finds_the_same_also_where_a_lane_dies(works, tasks, tmp_path):
    alone = {number: told.square for number, told in run_tasks(works.work, tasks(8))}
    for path in tmp_path.glob("begun-*"):
        path.unlink()
    found = dict(run_tasks(works.work, tasks(8, 0.05, {5: "kill once"}), lanes=2, engine="ray", threads=1))
    assert {number: told.square for number, told in found.items()} == alone
    assert {(told.device, told.threads) for told in found.values()} == {("cpu", "1 1")}
    assert len(pids(tmp_path)) == 3
    assert len(pids(tmp_path, 5)) == 2
    assert os.getpid() not in pids(tmp_path)


def test_a_task_that_kills_two_lanes_is_named(works, tasks):
    running = run_tasks(works.work, tasks(2, 0.0, {1: "kill"}), lanes=2, engine="ray", threads=1)
    assert next(running)[0] == 0
    with pytest.raises(ExtractError, match=r"two lanes died during task 1, Task\(number=1, .*: its Ray worker died: "):
        next(running)


def test_errors_keep_their_class_or_bring_their_traceback(works, tasks):
    with pytest.raises(StoreError, match=r"^clip c7 is not in the store$"):
        list(run_tasks(works.work, tasks(2, 0.0, {1: "ours"}), engine="ray", threads=1))
    with pytest.raises(ExtractError, match=r"(?s)lane 0.*Traceback.*ValueError: nobody foresaw this"):
        # one lane of Ray is a lane too, not this process
        list(run_tasks(works.work, tasks(2, 0.0, {1: "bug"}), engine="ray", threads=1))


def test_stopping_ends_what_runs_and_begins_nothing(works, tasks, tmp_path):
    ran = run_tasks(
        works.work, tasks(6, 60.0), lanes=2, engine="ray", threads=1, stopping=lambda: len(pids(tmp_path)) == 2
    )
    assert {number: told.stopped for number, told in ran} == {0: True, 1: True}
    assert len(pids(tmp_path)) == 2


def test_what_a_cluster_cannot_give_is_refused(works, tasks):
    assert next(run_tasks(works.work, tasks(1), lanes=8, engine="ray", threads=1))[0] == 0, "no more lanes than tasks"
    with pytest.raises(ExtractError, match="3 lanes need 6 CPU, and the Ray cluster has 2 CPU"):
        next(run_tasks(works.work, tasks(3), lanes=3, engine="ray", threads=2))
    with pytest.raises(ExtractError, match="2 lanes need 2 GPU, and the Ray cluster has 2 CPU and 0 GPU"):
        next(run_tasks(works.work, tasks(2), lanes=2, engine="ray", threads=1, devices=["cuda"]))
    with pytest.raises(PlanError, match="all on CPUs or all on GPUs; got the devices cpu, cuda:0"):
        run_tasks(works.work, tasks(2), lanes=2, engine="ray", devices=["cpu", "cuda:0"])


def test_without_ray_it_says_what_to_install(works, tasks, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "extract.engine.ray", raising=False)
    with pytest.raises(PlanError, match=r"pip install 'ray>=2.50', or use --engine local"):
        run_tasks(works.work, tasks(2), engine="ray")


PARENT = """
    import sys
    sys.path.insert(0, {here!r})
    from lane_works import Task, work
    from pipelines.collocation.training.lanes import run_tasks
    tasks = [Task(i, {folder!r}, 1000.0, "deaf") for i in range(2)]
    list(run_tasks(work, tasks, lanes=2, engine="ray", threads=1))
"""


@pytest.mark.slow
def test_a_killed_parent_leaves_no_orphan_in_a_cluster_of_its_own(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(FOLDER)}
    script = textwrap.dedent(PARENT).format(here=str(FOLDER), folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", script], env=environment, start_new_session=True) as parent:
        wait_until(lambda: len(pids(tmp_path)) == 2 or parent.poll() is not None, "two lanes at work", 60.0)
        assert all(map(alive, pids(tmp_path)))
        parent.kill()
    assert len(pids(tmp_path)) == 2
    wait_until(lambda: not any(map(alive, pids(tmp_path))), "the lanes to end", 20.0)
