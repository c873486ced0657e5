"""Tasks in this process and in real lanes that really die."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from extract.chunk import Answer
from extract.engine import local
from extract.engine.base import Failed, Finished, Lost
from extract.errors import ExtractError, PlanError, StoreError, UnknownName
from extract.testing.processes import alive, wait_until
from pipelines.collocation.training import lanes
from pipelines.collocation.training.lanes import run_tasks

FOLDER = Path(__file__).parent


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("lane_works")


@pytest.fixture
def tasks(works: ModuleType, tmp_path: Path) -> Callable[..., list[Any]]:
    """``tasks(n, seconds, fates={number: fate})``"""

    def make(count: int, seconds: float = 0.0, fates: dict[int, str] | None = None) -> list[Any]:
        return [works.Task(i, str(tmp_path), seconds, (fates or {}).get(i, "")) for i in range(count)]

    return make


def pids(folder: Path, number: int | str = "*") -> set[int]:
    return {int(path.name.rpartition("-")[2]) for path in folder.glob(f"begun-{number}-*")}


# ---- placing ---------------------------------------------------------------------------------------------------------


def test_one_lane_is_this_process_and_keeps_the_order(works, tasks):
    results = list(run_tasks(works.work, tasks(5), devices=("cuda:0", "cpu")))
    assert [number for number, _ in results] == [0, 1, 2, 3, 4]
    assert {told.pid for _, told in results} == {os.getpid()}
    assert {told.device for _, told in results} == {"cuda:0"}


def test_two_lanes_find_the_same_and_live_as_long_as_there_is_work(works, tasks, tmp_path):
    alone = {number: told.square for number, told in run_tasks(works.work, tasks(12))}
    found = dict(run_tasks(works.work, tasks(12, 0.05), lanes=2))
    assert {number: told.square for number, told in found.items()} == alone == {i: i * i for i in range(12)}
    used = {told.pid for told in found.values()}
    assert len(used) == 2
    assert os.getpid() not in used
    assert not any(map(alive, used))


def test_the_next_free_lane_takes_the_next_task(works, tasks, tmp_path):
    results = list(run_tasks(works.work, tasks(8, 0.0, {0: "until 6"}), lanes=2))
    assert [number for number, _ in results if number] == list(range(1, 8))
    assert results.index(min(results)) >= 5, "results come as they finish"
    assert len({told.pid for number, told in results if 0 < number < 7}) == 1
    assert dict(results)[0].pid != dict(results)[1].pid


def test_devices_go_round_and_no_more_processes_than_tasks(works, tasks):
    found = dict(run_tasks(works.work, tasks(3), lanes=8, devices=("cuda:0", "cpu"), threads=3))
    assert [found[i].device for i in range(3)] == ["cuda:0", "cpu", "cuda:0"]
    assert len({told.pid for told in found.values()}) == 3
    assert {told.threads for told in found.values()} == {"3 3"}


def test_cores_are_divided_among_lanes(works, tasks, monkeypatch):
    for cores, expected in ((8, "2 2"), (2, "1 1")):
        monkeypatch.setattr(lanes, "usable_cores", lambda cores=cores: cores)
        # of the lanes asked for: the threads, and with them the bits, do not change when few tasks are left
        ((_, told),) = run_tasks(works.work, tasks(1), lanes=3)
        assert told.threads == expected


def test_torch_in_a_lane_has_the_threads(works):
    torch_work = importlib.import_module("torch_work")
    # more than this machine may have cores: of the environment alone MKL would take fewer
    assert list(run_tasks(torch_work.threads_of, [0], lanes=2, threads=5)) == [(0, (5, "5"))]


def test_threads_of_this_process_are_given_back(works):
    import torch

    before = torch.get_num_threads()
    given = before + 1
    assert [found for _, found in run_tasks(works.here, [0, 1])] == [before, before]
    running = run_tasks(works.here, [0, -1], threads=given)
    assert next(running) == (0, given)
    assert torch.get_num_threads() == before, "between results"
    with pytest.raises(ValueError, match="negative"):
        next(running)
    assert torch.get_num_threads() == before


def test_without_tasks_nothing_starts(works, monkeypatch):
    monkeypatch.setattr(local, "LocalEngine", None)
    for lanes_ in (1, 4):
        assert list(run_tasks(works.work, [], lanes=lanes_)) == []


def test_wrong_arguments_are_refused_at_once(works):
    with pytest.raises(PlanError, match="at least one lane; got lanes=0"):
        run_tasks(works.work, [], lanes=0)
    with pytest.raises(PlanError, match="at least one thread; got threads=0"):
        run_tasks(works.work, [], threads=0)
    with pytest.raises(PlanError, match="empty list of devices"):
        run_tasks(works.work, [], devices=())
    with pytest.raises(UnknownName, match="no engine is called 'rai'; did you mean ray"):
        run_tasks(works.work, [], engine="rai")


# ---- deaths and errors -----------------------------------------------------------------------------------------------


def test_a_task_whose_lane_died_is_done_by_a_new_one(works, tasks, tmp_path):
    found = dict(run_tasks(works.work, tasks(6, 0.05, {2: "kill once"}), lanes=2))
    assert {number: told.square for number, told in found.items()} == {i: i * i for i in range(6)}
    assert len(pids(tmp_path, 2)) == 2
    assert len(pids(tmp_path)) == 3
    assert all(len(pids(tmp_path, i)) == 1 for i in range(6) if i != 2), "others are not done again"


@pytest.mark.parametrize(
    ("fate", "how"), [("kill", r"signal 9 \(SIGKILL\), often out of memory"), ("exit", "exit status 3")]
)
def test_a_task_that_kills_two_lanes_is_named(works, tasks, tmp_path, fate, how):
    with pytest.raises(ExtractError) as caught:
        list(run_tasks(works.work, tasks(3, 0.0, {2: fate}), lanes=2))
    assert type(caught.value) is ExtractError
    assert caught.match(rf"two lanes died during task 2, Task\(number=2, .*: {how}, then {how}. Use fewer lanes")
    assert not any(map(alive, pids(tmp_path)))


def test_finished_results_are_out_before_the_error_and_tasks_are_cut_short(works, tasks, tmp_path):
    long = works.Task(2, str(tmp_path), fate="segv", padding="x" * 1000)
    running = run_tasks(works.work, [*tasks(2), long], lanes=2)
    assert sorted([next(running)[0], next(running)[0]]) == [0, 1]
    with pytest.raises(ExtractError, match=r"(?s) …: signal 11 \(SIGSEGV\), then signal 11 .*in meet") as caught:
        next(running)
    assert len(str(caught.value).splitlines()[0]) < 500


def test_errors_keep_their_class_or_bring_their_traceback(works, tasks, tmp_path):
    for many in (1, 2):
        with pytest.raises(StoreError, match=r"^clip c7 is not in the store$"):
            list(run_tasks(works.work, tasks(3, 0.0, {1: "ours"}), lanes=many))
    with pytest.raises(ExtractError, match=r"(?s)lane \d.*Traceback.*in meet.*ValueError: nobody foresaw this"):
        list(run_tasks(works.work, tasks(3, 0.0, {1: "bug"}), lanes=2))
    with pytest.raises(ExtractError, match=r"(?s)Traceback.*unpicklable"):
        list(run_tasks(works.unpicklable, [0], lanes=2))
    with pytest.raises(ValueError, match="nobody foresaw"):
        list(run_tasks(works.work, tasks(3, 0.0, {1: "bug"})))
    assert not any(alive(pid) for pid in pids(tmp_path) if pid != os.getpid())


class Scripted:
    """An engine of two lanes whose events are written down."""

    lanes = 2

    def __init__(self, *events: list[Any]) -> None:
        self.events = iter(events)
        self.given: list[tuple[str, int]] = []
        self.closed = False

    def submit(self, chunk: Any, lane: int) -> None:
        self.given.append((chunk.name, lane))

    def wait(self, timeout_s: float) -> list[Any]:
        assert timeout_s <= 0.2
        return next(self.events)

    def stop(self) -> None:
        self.given.append(("stop", -1))

    def close(self) -> None:
        self.closed = True


def test_a_lane_that_dies_after_its_answer_or_idle_costs_nothing():
    engine = Scripted(
        [Answer("0", "a")], [Lost(0, "late")], [Answer("1", "b"), Finished(1), Lost(1, "idle")], [Lost(0, "idle")]
    )
    assert list(lanes._apart(lambda: engine, ["x", "y"], lambda: False)) == [(0, "a"), (1, "b")]
    assert engine.given == [("0", 0), ("1", 1)]
    assert engine.closed


def test_what_came_with_an_error_is_yielded_before_it():
    engine = Scripted([Failed(1, "StoreError", "full"), Answer("0", "a"), Finished(0), Failed(0, "PlanError", "no")])
    running = lanes._apart(lambda: engine, ["x", "y", "z"], lambda: False)
    assert next(running) == (0, "a")
    with pytest.raises(StoreError, match=r"^full$"):
        next(running)
    assert engine.given == [("0", 0), ("1", 1)]
    assert engine.closed


def test_a_task_is_given_again_to_the_lane_that_died():
    engine = Scripted([Answer("0", "a"), Finished(0), Lost(1, "died")], [Answer("1", "b"), Finished(1)])
    assert list(lanes._apart(lambda: engine, ["x", "y"], lambda: False)) == [(0, "a"), (1, "b")]
    assert engine.given == [("0", 0), ("1", 1), ("1", 1)]


def test_a_lane_that_dies_after_the_stop_is_left():
    said = iter([False, False, True])
    engine = Scripted([Finished(0), Answer("0", "a")], [Lost(1, "died")])
    assert list(lanes._apart(lambda: engine, ["x", "y", "z"], lambda: next(said))) == [(0, "a")]
    assert engine.given == [("0", 0), ("1", 1), ("stop", -1)]


# ---- stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [1, 2])
def test_stopping_ends_what_runs_and_begins_nothing(works, tasks, tmp_path, many):
    def stopping() -> bool:
        return len(pids(tmp_path, "1")) > 0

    quick, *long = tasks(6, 60.0)
    quick = works.Task(0, quick.folder, 0.1)
    begun_s = time.monotonic()
    results = dict(run_tasks(works.work, [quick, *long], lanes=many, stopping=stopping))
    assert time.monotonic() - begun_s < 10
    assert results[1].stopped, "a running task returns early, and its result is not lost"
    begun = {int(path.name.split("-")[1]) for path in tmp_path.glob("begun-*")}
    assert begun == set(results)
    assert begun <= {0, 1, 2}


def test_a_stop_before_the_beginning_begins_nothing(works, tasks, tmp_path):
    for many in (1, 2):
        assert list(run_tasks(works.work, tasks(3), lanes=many, stopping=lambda: True)) == []
    assert not pids(tmp_path)


def test_an_interrupt_or_a_loop_that_is_left_leaves_no_process(works, tasks, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "GRACE_S", 0.5)

    def stopping() -> bool:
        if len(pids(tmp_path)) == 2:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        list(run_tasks(works.work, tasks(2, 0.0, {0: "deaf", 1: "deaf"}), lanes=2, stopping=stopping))
    with closing(run_tasks(works.work, tasks(3, 0.0, {1: "deaf"}), lanes=2)) as running:
        assert next(running)[0] == 0
    lanes_ = pids(tmp_path)
    assert len(lanes_) >= 3
    assert not any(map(alive, lanes_))


PARENT = """
    import signal, sys
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
    sys.path.insert(0, {here!r})
    from lane_works import Task, work
    from pipelines.collocation.training.lanes import run_tasks
    tasks = [Task(i, {folder!r}, 1000.0, {fate!r}) for i in range(4)]
    list(run_tasks(work, tasks, lanes=2))
"""


def start_parent(folder: Path, fate: str = "") -> subprocess.Popen[str]:
    script = textwrap.dedent(PARENT).format(here=str(FOLDER), folder=str(folder), fate=fate)
    command = [sys.executable, "-c", script]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def test_a_killed_parent_leaves_no_orphan(tmp_path):
    with start_parent(tmp_path, "deaf") as parent:
        wait_until(lambda: len(pids(tmp_path)) == 2, "two lanes at work")
        assert all(map(alive, pids(tmp_path)))
        parent.kill()
    wait_until(lambda: not any(map(alive, pids(tmp_path))), "the lanes to end", 2.0)


def test_ctrl_c_lets_running_tasks_save(tmp_path):
    with start_parent(tmp_path) as parent:
        wait_until(lambda: len(pids(tmp_path)) == 2, "two lanes at work")
        os.killpg(parent.pid, signal.SIGINT)
        for pid in pids(tmp_path):
            os.kill(pid, signal.SIGINT)
        _, said = parent.communicate(timeout=20)
    assert parent.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in said
    assert sorted(path.name for path in tmp_path.glob("saved-*")) == ["saved-0", "saved-1"]
    assert not any(map(alive, pids(tmp_path)))
