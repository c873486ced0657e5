"""Real processes that really die."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from extract.chunk import Progress
from extract.engine import local
from extract.engine.base import Event
from extract.engine.local import LocalEngine, describe_exit
from extract.engine.testing import FakeSpec, check_engine, fake_chunks, open_fake_lane, run_fakes, sealed_in
from extract.errors import ExtractError, PlanError
from extract.testing.processes import alive, wait_until


def pids(folder: Path, word: str = "opened") -> list[int]:
    return [int(path.name.rpartition("-")[2]) for path in folder.glob(f"{word}-*")]


def test_local_engine_keeps_the_contract(make_local, tmp_path):
    check_engine(make_local, tmp_path)


def test_a_death_says_how(make_local, tmp_path):
    deaths = {"c000": "segv", "c001": "kill", "c002": "exit"}
    outcome = run_fakes(make_local(open_fake_lane, FakeSpec(str(tmp_path), deaths), 1), fake_chunks(6, 1), tmp_path)
    how = {remark.clip_id: remark.message.rpartition(": ")[2] for remark in outcome.crashes}
    assert how == {
        "c000": "signal 11 (SIGSEGV)",
        "c001": "signal 9 (SIGKILL), often out of memory",
        "c002": "exit status 3",
    }
    segv = next(death for death in outcome.deaths if "SIGSEGV" in death.how)
    assert "testing.py" in segv.last_words, "the report shows where the process was"


def test_lanes_get_their_devices_and_threads_and_close_in_order(tmp_path):
    engine = LocalEngine(open_fake_lane, FakeSpec(str(tmp_path)), ["cuda:0", "cpu"], threads_per_lane=3)
    run_fakes(engine, fake_chunks(8, 2), tmp_path)
    assert sorted(path.read_text() for path in tmp_path.glob("opened-*")) == ["cpu 3", "cuda:0 3"]
    assert set(pids(tmp_path, "closed")) == set(pids(tmp_path))
    assert not any(map(alive, pids(tmp_path)))


def test_no_more_processes_than_work(make_local, tmp_path):
    run_fakes(make_local(open_fake_lane, FakeSpec(str(tmp_path)), 4), fake_chunks(2, 2), tmp_path)
    assert len(pids(tmp_path)) == 1


def test_start_up_deaths_show_status_and_last_words(make_local, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with pytest.raises(ExtractError, match=r"(?s)exit status 7.*last words of a lane"):
        run_fakes(make_local(open_fake_lane, FakeSpec(str(tmp_path), opening="dies"), 1), fake_chunks(2, 2), tmp_path)
    assert "lane 0: last words of a lane" in caplog.text


def test_a_noisy_lane_does_not_hang(make_local, tmp_path):
    spec = FakeSpec(str(tmp_path), noise_bytes=300_000)
    run_fakes(make_local(open_fake_lane, spec, 1), fake_chunks(6, 6), tmp_path)
    assert len(sealed_in(tmp_path)) == 6


def test_close_ends_a_lane_that_hears_nothing(make_local, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "GRACE_S", 0.3)
    engine = make_local(open_fake_lane, FakeSpec(str(tmp_path), clip_s=1000), 1)
    engine.submit(fake_chunks(1, 1)[0], 0)
    wait_until(lambda: bool(pids(tmp_path)), "the lane to open")
    (pid,) = pids(tmp_path)
    assert alive(pid)
    engine.close()
    assert not alive(pid)


def test_an_exception_in_the_parent_leaves_no_process(make_local, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "GRACE_S", 0.3)

    def fail(event: Event) -> None:
        if isinstance(event, Progress):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_fakes(
            make_local(open_fake_lane, FakeSpec(str(tmp_path), clip_s=0.01), 2),
            fake_chunks(500, 100),
            tmp_path,
            on_event=fail,
        )
    assert pids(tmp_path)
    assert not any(map(alive, pids(tmp_path)))


def test_wrong_arguments_are_refused_before_anything_starts(tmp_path):
    spec = FakeSpec(str(tmp_path))
    with pytest.raises(PlanError, match="at least one lane; got an empty list of devices"):
        LocalEngine(open_fake_lane, spec, [])
    with pytest.raises(PlanError, match="at least one thread; got threads_per_lane=0"):
        LocalEngine(open_fake_lane, spec, ["cpu"], threads_per_lane=0)
    with pytest.raises((AttributeError, TypeError), match="pickle"):
        LocalEngine(lambda spec, _: open_fake_lane(spec, "cpu"), spec, ["cpu"])


def test_exit_statuses_in_words():
    assert describe_exit(0) == "exit status 0"
    assert describe_exit(-signal.SIGABRT) == "signal 6 (SIGABRT)"
    assert describe_exit(-63) == "signal 63"


PARENT = """
    import signal, sys
    from pathlib import Path
    from extract.engine import local
    from extract.engine.testing import FakeSpec, fake_chunks, open_fake_lane, run_fakes
    local.ENTRY = {entry!r}
    stop = []
    signal.signal(signal.SIGINT, lambda *_: stop.append(1))
    spec = FakeSpec({folder!r}, clip_s={clip_s}, piece=10**6)
    engine = local.LocalEngine(open_fake_lane, spec, ["cpu"] * 2)
    outcome = run_fakes(engine, fake_chunks(20_000, 5_000), Path({folder!r}), stopping=lambda _: bool(stop))
    told = sorted(event.clip_id for event in outcome.events if hasattr(event, "clip_id"))
    print(len(told), len(outcome.deaths), flush=True)
"""


def start_parent(folder: Path, clip_s: float, entry: str = local.ENTRY) -> subprocess.Popen[str]:
    script = textwrap.dedent(PARENT).format(folder=str(folder), clip_s=clip_s, entry=entry)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True)


ONLY = {
    "link": "import extract.engine.child as c; c.die_with_parent = lambda pid: None; c.main()",
    "kernel": "import extract.engine.child as c; c._listen = lambda link, inbox, _: inbox.put(link.recv()); c.main()",
}


@pytest.mark.parametrize("entry", [local.ENTRY, *ONLY.values()], ids=["both", *ONLY])
def test_a_killed_parent_leaves_no_orphan(tmp_path, entry):
    """Lanes in the middle of a long clip end with their parent; either of the two ways is enough."""
    with start_parent(tmp_path, 1000, entry) as parent:
        wait_until(lambda: len(pids(tmp_path)) == 2, "two lanes at work")
        lanes = pids(tmp_path)
        time.sleep(0.2)
        assert all(map(alive, lanes))
        parent.kill()
    wait_until(lambda: not any(map(alive, lanes)), "the lanes to end", 2.0)


def test_ctrl_c_reaches_the_parent_only_and_lanes_seal(tmp_path):
    with start_parent(tmp_path, 0.05) as parent:
        wait_until(lambda: len(pids(tmp_path)) == 2, "two lanes at work")
        time.sleep(0.3)
        os.killpg(parent.pid, signal.SIGINT)
        for pid in pids(tmp_path):
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)
        out, _ = parent.communicate(timeout=20)
    told, deaths = map(int, out.split())
    assert parent.returncode == 0
    assert deaths == 0
    assert told == len(sealed_in(tmp_path)) > 0
