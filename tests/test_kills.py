"""SIGKILL at any moment, then the same command again: the store of an undisturbed run, byte for byte."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from extract.store.catalog import create_store
from extract.store.verify import verify

KILLS = {1: 17, 2: 9}  # by lanes
LISTED = 48


@pytest.mark.slow
def test_a_kill_before_any_step_on_the_disk(way: ModuleType, media: Path, tmp_path: Path) -> None:
    listed = way.manifest(tmp_path / "m.csv", media, ["c00", "mute", "c01"])
    script = [sys.executable, "-P", str(Path(way.__file__).with_name("killing.py")), str(listed), str(tmp_path)]
    done = subprocess.run(script, capture_output=True, text=True, env=way.environment(), timeout=200, check=False)
    assert not done.returncode, done.stderr
    first, *kills = map(json.loads, done.stdout.splitlines())
    assert first["parts"] == 2
    assert len(kills) == first["steps"] > 50
    for kill in kills:
        assert kill["killed"], kill
        assert kill["finished"], kill
        assert kill["equal"], f"other bytes after {kill}"
        assert not kill["again"], f"computed what was sealed: {kill}"
    had = [kill["had"] for kill in kills]
    assert set(had) == {0, 1, 2, 3}, "kills hit every stage"
    assert had == sorted(had), "what is sealed once is never lost"


@pytest.mark.slow
@pytest.mark.parametrize("lanes", KILLS)
def test_kills_of_the_real_command_at_random_moments(way: ModuleType, media: Path, tmp_path: Path, lanes: int) -> None:
    listed = way.manifest(tmp_path / "m.csv", media, ["c00", "c01", "mute", "c02"], times=LISTED // 4)
    command = [*way.run_args(listed, tmp_path / "whole", "--chunk", 4, backbones=("tiny_frames", "tiny_sound"))]
    assert way.cli(*command).returncode == 0
    whole = way.parts(tmp_path / "whole")
    chance = random.Random(lanes)
    kills = rounds = hits = 0
    while kills < KILLS[lanes] or not rounds:
        store = tmp_path / f"s{rounds}"
        rounds += 1
        args = way.run_args(listed, store, "--chunk", 4, "--seal-seconds", 0.1, "--lanes", lanes)
        args[args.index(",".join(way.TRIO))] = "tiny_frames,tiny_sound"
        finished = False
        while not finished:
            create_store(store)
            before = way.settled(store)
            safe = {clip for clip, keys in before.items() if len(keys) == 2}
            mark = f"{tmp_path}-{kills}"
            process = way.start(*args, mark=mark)
            if kills < KILLS[lanes]:
                # half of them anywhere from the first moment on, half of them where sealing and merging goes on
                if chance.random() < 0.3:
                    time.sleep(chance.uniform(0.0, 1.2))
                elif way.lines_until(process, "sealed", chance.randint(1, 3))[-1]["event"] == "sealed":
                    time.sleep(chance.uniform(0.0, 0.05))
                kills += 1
                os.killpg(process.pid, signal.SIGKILL)
            _, stderr = process.communicate(timeout=60)
            finished = process.returncode == 0
            assert finished or process.returncode == -signal.SIGKILL, stderr
            assert not way.alive(mark), "a lane outlived the run"
            after = way.settled(store)
            assert all(after[clip] >= keys for clip, keys in before.items()), "something sealed was lost"
            hits += len(after) > len(before) and not finished
            if way.ledgers(store) and process.returncode == 0 and len(safe) < LISTED:
                assert safe.isdisjoint(clip for ids in way.receipts(store) for clip in ids), "computed twice"
        assert way.parts(store) == whole
        assert verify(store) == []
    assert kills >= KILLS[lanes]
    assert hits >= 3, "some kills hit a run that had sealed something"
