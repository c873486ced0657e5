"""Kills a run before each of its steps on the disk in turn, and runs it again: one process that forks a victim per kill.

Arguments: manifest, folder to work in. Prints one JSON line per kill. Run by tests/test_kills.py.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS = ("open", "fsync", "rename", "replace", "unlink", "ftruncate", "write")
NEVER = 1 << 30

spec = importlib.util.spec_from_file_location("tests_way", Path(__file__).with_name("way.py"))
assert spec
assert spec.loader
way = importlib.util.module_from_spec(spec)
sys.modules["tests_way"] = way
spec.loader.exec_module(way)


def victim(manifest: Path, store: Path, before: int) -> int:
    """Run in a forked child that kills itself before its `before`-th step; how many steps it took, -1 if it was killed."""
    out, into = os.pipe()
    if not (pid := os.fork()):
        steps = 0

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def step(*args: Any, **named: Any) -> Any:
                nonlocal steps
                steps += 1
                if steps == before:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **named)

            return step

        write = os.write
        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        done = run(manifest, store)
        write(into, str(-2 if done.left else steps).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as told:
        said = told.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return -1
    return int(said)


def run(manifest: Path, store: Path) -> Any:
    from extract import api
    from extract.job import Choices
    from extract.running import Machine

    # pieces of one clip, so that there is much to merge
    return api.run(
        manifest,
        Choices(backbones=("tiny_frames", "tiny_sound"), weights="random:0"),
        Machine(chunk=2, seal_s=0.0, torch_threads=1),
        store,
    )


def main(manifest: Path, folder: Path) -> None:
    import extract.engine.local
    from extract.store.catalog import create_store

    extract.engine.local.LocalEngine = way.InlineEngine
    # everything is imported and used once before any fork; with one thread per operator torch starts no others
    run(manifest, folder / "warm")
    total = victim(manifest, folder / "whole", NEVER)
    whole = way.parts(folder / "whole")
    print(json.dumps({"steps": total, "parts": len(whole)}), flush=True)
    for before in range(1, total + 1):
        store = folder / f"s{before}"
        killed = victim(manifest, store, before)
        create_store(store)
        have = {clip for clip, keys in way.settled(store).items() if len(keys) == 2}
        steps = victim(manifest, store, NEVER)
        again = [clip for ids in way.receipts(store) for clip in ids] if len(have) < 3 else []
        word = {
            "before": before,
            "killed": killed == -1,
            "finished": steps > 0,
            "had": len(have),
            "again": sorted(have & set(again)),
            "equal": way.parts(store) == whole,
        }
        print(json.dumps(word), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
