"""Kills a training run before some of its steps on the disk, and gives it again: one process that forks a victim per kill.

Arguments: store, folder to work in, and as JSON the fields of the configuration, and every how many steps to kill. Leaves
``whole``, which nobody disturbed, and ``killed-N``. Prints one JSON line: how many steps there are, and for each kill its
number and the epochs that were done. Run by test_train.py.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pipelines.parsing import run as running
from pipelines.parsing import run_folder
from pipelines.parsing.presets import from_dict
from pipelines.parsing.train import train
from pipelines.parsing.weights import read_weights

STEPS = ("open", "pwrite", "fsync", "rename")
NEVER = 1 << 30


def victim(work: Callable[[], Any], before: int) -> int:
    """Work in a forked child that kills itself before its `before`-th step; how many steps it took, -1 if it was killed."""
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
        work()
        write(into, str(steps).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as told:
        said = told.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return -1
    return int(said)


def main(store: Path, folder: Path, fields: dict[str, Any], every: int) -> None:
    torch.set_num_threads(1)
    running.train = functools.partial(train, save_every_s=0)  # type: ignore[assignment]
    config = replace(from_dict(fields), width=16)

    def work(name: str) -> Callable[[], Any]:
        return lambda: running.run(config, store, folder / name, device="cpu")

    # everything is imported and used once before any fork; with one thread per operator torch starts no others
    work("warm")()
    total = victim(work("whole"), NEVER)
    kills = []
    for before in range(1, total + 1, every):
        name = f"killed-{before}"
        assert victim(work(name), before) == -1
        resume = folder / name / run_folder.RESUME
        done = read_weights(resume)[1]["done"] if resume.exists() else 0
        assert victim(work(name), NEVER) > 0
        kills.append([before, done])
    print(json.dumps({"steps": total, "kills": kills}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4]))
