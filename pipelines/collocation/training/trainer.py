"""Training over lanes: what a method asks for becomes jobs, what was done before is not done again."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import PlanError
from pipelines.collocation.collocations import Trial
from pipelines.collocation.training.curves import NOTHING, Curve, Fold, On
from pipelines.collocation.training.jobs import DONE, STATE, Done, Job, advance, read_done
from pipelines.collocation.training.lanes import run_tasks
from pipelines.parsing import run_folder
from pipelines.parsing.config import Config
from pipelines.parsing.evaluate import headline
from pipelines.parsing.presets import changed

JOBS = "jobs"
EPOCHS = "epochs.csv"
_CLOCK = "clock.json"
OnRow = Callable[[Mapping[str, Any]], None]


class Stopped(Exception):
    """The user asked to stop; what is done is on disk."""


@dataclass(frozen=True, slots=True)
class Means:
    """Where and how the jobs of a search are done.

    Parameters
    ----------
    lanes, devices, engine, address
        see :func:`pipelines.collocation.training.lanes.run_tasks`
    at_once
        how many parsers a lane trains together, at least 1
    stopping
        asked between epochs
    """

    lanes: int = 1
    devices: tuple[str, ...] = ("cpu",)
    engine: str = "local"
    address: str | None = None
    at_once: int = 5
    stopping: Callable[[], bool] = lambda: False

    def __str__(self) -> str:
        lanes = f"{self.lanes} {'lane' if self.lanes == 1 else 'lanes'}"
        return f"{', '.join(self.devices)}: {lanes} of {self.at_once}{' on Ray' if self.engine == 'ray' else ''}"


@dataclass(slots=True)
class _Known:
    """Where a trial is: epochs, the job that it ended in, and its curve so far."""

    done: int
    folder: Path
    curve: Curve


@dataclass(frozen=True, slots=True)
class _Way:
    """How trials are trained, and how far."""

    config: Config
    until: int
    on: On
    fold: Fold | None
    test: bool


@dataclass(slots=True)
class LaneTrainer:
    """The :class:`~pipelines.collocation.training.curves.Trainer` of a search.

    Parameters
    ----------
    root
        folder of the search
    folder
        of the method
    config
        all but seed and features
    classes
        names, the background included
    train_classes
        how many of them training clips keep
    means
        lanes and devices
    on_row
        told every row of a job that was finished

    Notes
    -----
    Jobs have the names of what they do, so that the same questions in the same order find what was done before.
    """

    root: Path
    folder: Path
    config: Config
    classes: tuple[str, ...]
    train_classes: int
    means: Means = field(default_factory=Means)
    on_row: OnRow = lambda row: None
    rows: list[dict[str, Any]] = field(default_factory=list)
    best_in: dict[Trial, Path] = field(default_factory=dict)
    _known: dict[tuple[On, Fold | None, str], dict[Trial, _Known]] = field(default_factory=dict)
    _shown: int = 0
    _since: float = field(default_factory=time.monotonic)

    @property
    def epochs(self) -> int:
        """Of a full training."""
        return self.config.epochs

    def train(
        self,
        trials: Sequence[Trial],
        until: int,
        *,
        on: On = "train",
        settings: Mapping[str, str] = NOTHING,
        test: bool = False,
        fold: Fold | None = None,
    ) -> dict[Trial, Curve]:
        """See :class:`~pipelines.collocation.training.curves.Trainer`.

        Raises
        ------
        Stopped
            before all was done
        PlanError
            more epochs than a full training has, or test scores of trials that were trained without them
        """
        if not 1 <= until <= self.epochs:
            raise PlanError(f"{until} epochs were asked for; a full training has {self.epochs}")
        way = _Way(changed(self.config, settings), until, on, fold, test)
        said = json.dumps(dict(settings), sort_keys=True)
        known = self._known.setdefault((on, fold, said), {})
        jobs = self._jobs(list(dict.fromkeys(trials)), known, way)
        for job, done in zip(jobs, self._do(jobs, known, said), strict=True):
            self._learn(job, done, known, said)
        self._write()
        return {trial: known[trial].curve for trial in trials}

    def _jobs(self, trials: Sequence[Trial], known: Mapping[Trial, _Known], way: _Way) -> list[Job]:
        pending: dict[int, list[Trial]] = {}
        for trial in trials:
            start = known[trial].done if trial in known else 0
            if way.test and start and (start < way.until or self.best_in.get(trial) != known[trial].folder):
                raise PlanError(
                    f"{trial.name} was trained for {start} epochs without test scores; ask for them at first"
                )
            if start < way.until:
                pending.setdefault(start, []).append(trial)
        jobs = []
        for start, some in sorted(pending.items()):
            # a stack takes the rows of a feature once per seed
            some.sort(key=lambda trial: trial.seed)
            for first in range(0, len(some), self.means.at_once):
                group = tuple(some[first : first + self.means.at_once])
                sources = tuple(known[trial].folder for trial in group) if start else ()
                job = self._job(group, start, way, sources)
                if not (job.folder / DONE).is_file() and not all((source / STATE).is_file() for source in sources):
                    # a call that ended removed what going on needs: what it knew stays, the way there is gone again
                    job = self._job(group, 0, way, ())
                jobs.append(job)
        return jobs

    def _job(self, trials: tuple[Trial, ...], start: int, way: _Way, sources: tuple[Path, ...]) -> Job:
        told = [
            [trial.name for trial in trials], start, way.until, way.on, way.test, way.config.digest(), self.train_classes,
            [source.name for source in sources], *(way.fold or ()),
        ]  # fmt: skip
        name = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
        return Job(
            self.root, self.folder / JOBS / name, trials, start, way.until, way.on, way.config, self.classes,
            self.train_classes, way.fold, sources, way.test,
        )  # fmt: skip

    def _do(self, jobs: Sequence[Job], known: Mapping[Trial, _Known], settings: str) -> list[Done]:
        arrived: list[dict[str, Any]] = []
        found = {n: read_done(job.folder) for n, job in enumerate(jobs) if (job.folder / DONE).is_file()}
        left = [number for number in range(len(jobs)) if number not in found]
        means = self.means
        self._since = time.monotonic()
        if left:
            told = run_tasks(
                advance, [jobs[number] for number in left], lanes=min(means.lanes, len(jobs)), devices=means.devices,
                engine=means.engine, address=means.address, stopping=means.stopping,
            )  # fmt: skip
            with closing(told):
                for at, done in told:
                    self._tick()
                    if done is not None:
                        found[left[at]] = done
                        arrived += self._rows(jobs[left[at]], done, known, settings)
                        self._write(arrived)
        if len(found) < len(jobs):
            raise Stopped
        return [found[number] for number in range(len(jobs))]

    def _learn(self, job: Job, done: Done, known: dict[Trial, _Known], settings: str) -> None:
        score = f"val_{headline(job.config)}"
        self.rows += self._rows(job, done, known, settings)
        for trial, every, clips, test in zip(job.trials, done.rows, done.clips, done.test, strict=True):
            before = known[trial].curve if trial in known else Curve((), np.zeros(0), 0.0)
            rows = every[len(before.val) - job.start :]
            work_s = before.work_s + sum(row["train_s"] + row["val_s"] for row in rows)
            val = (*before.val, *(row[score] for row in rows))
            known[trial] = _Known(job.until, job.folder, Curve(val, clips, work_s, test or before.test))
            if job.test:
                self.best_in[trial] = job.folder

    def _rows(self, job: Job, done: Done, known: Mapping[Trial, _Known], settings: str) -> list[dict[str, Any]]:
        """What ``epochs.csv`` gets of a job: the epochs that were not known before."""
        found = []
        for trial, every in zip(job.trials, done.rows, strict=True):
            slots = {"collocation": trial.collocation.name, "audio": "", "visual": "", "clip": ""}
            for row in every[(known[trial].done if trial in known else 0) - job.start :]:
                told = {
                    **slots,
                    **trial.collocation.slots,
                    "seed": trial.seed,
                    "epoch": row["epoch"],
                    "on": job.trained_on,
                }
                found.append({**told, "settings": "" if settings == "{}" else settings, **row})
        return found

    def _write(self, arrived: Sequence[Mapping[str, Any]] = ()) -> None:
        """Write ``epochs.csv``, and tell what just arrived: jobs end in any order, and at the end rows are in order."""
        for row in arrived[self._shown :]:
            self.on_row(row)
        self._shown = len(arrived)
        if self.rows or arrived:
            run_folder.make_folder(self.folder)
            run_folder.write_table(self.folder / EPOCHS, [*self.rows, *arrived])

    def _tick(self) -> None:
        """Add what went by to the clock, which goes on where a killed search left it."""
        now = time.monotonic()
        ran_on = list(dict.fromkeys([*self.ran_on, str(self.means)]))
        run_folder.write_json(self.folder / _CLOCK, {"wall_s": self.wall_s + now - self._since, "ran_on": ran_on})
        self._since = now

    @property
    def wall_s(self) -> float:
        """Seconds that jobs took, side by side, over all calls."""
        return float(self._clock().get("wall_s", 0.0))

    @property
    def ran_on(self) -> tuple[str, ...]:
        """What those jobs were done with, such as ``cpu: 2 lanes of 5``."""
        return tuple(self._clock().get("ran_on", ()))

    def _clock(self) -> Mapping[str, Any]:
        path = self.folder / _CLOCK
        return run_folder.read_json(path) if path.is_file() else {}

    @property
    def work_s(self) -> float:
        """Seconds that jobs took, one after the other."""
        return math.fsum(row["train_s"] + row["val_s"] for row in self.rows)

    def tidy(self) -> None:
        """Remove what only going on needs."""
        for path in (self.folder / JOBS).glob(f"*/{STATE}"):
            path.unlink(missing_ok=True)
