"""``extract run``: the main job, with its progress, its summary and its exit code."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from extract.commands import options as opts

if TYPE_CHECKING:
    from extract.engine.base import Event
    from extract.job import Job


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path))
@opts.choosing
@opts.bounding
@opts.using
@opts.out
@click.option(
    "--max-failures",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Clips that may fail before the exit code is 1; the store is complete for the others in any case.",
)
def run(manifest: Path, out: Path | None, max_failures: int, **options: Any) -> None:
    """Compute the features of MANIFEST's clips into a store. Run it again to resume: only what is missing is computed.

    Ctrl-C seals what is done. Exit code 0: at most --max-failures clips failed; 1: more did; 130: interrupted.
    """
    from extract import api

    job = api.plan(manifest, opts.choices(options), out)
    sys.exit(carry_out(job, opts.machine(options), max_failures))


def carry_out(job: Job, machine: Any, max_failures: int) -> int:
    """Run a job, show its progress, print its summary; the exit code."""
    from extract import explain, running

    click.echo(f"recipe {job.plan.recipe}: {', '.join(job.plan.keys)}", err=True)
    if any(feature.weights_id.startswith("random:") for feature in job.plan.features):
        click.echo("weights are RANDOM: the features have no meaning; see --weights", err=True)
    absent = explain.missing_lines(job)
    if len(absent) > 1:
        click.echo("\n".join(absent), err=True)
    stop = _Stop(orderly=machine.engine == "ray")
    with stop, _progress(sys.stderr.isatty()) as progress:
        done = running.run(job, machine, on_event=progress.event, on_start=progress.start, stopping=lambda: stop.asked)
    click.echo(explain.summary(done, job.store))
    if not sys.stderr.isatty():
        click.echo(json.dumps({"event": "summary", **asdict(done)}), err=True)
    if done.interrupted:
        click.echo(f"interrupted: what is done is sealed, {done.left} clips are left; the same command resumes")
        return 130
    if done.failed > max_failures:
        click.echo(
            f"{done.failed} clips failed (--max-failures {max_failures}): `extract status {job.store}` says why, "
            f"`extract retry {job.store} --reason R` computes them again"
        )
        return 1
    return 0


class _Stop:
    """Ctrl-C and SIGTERM ask to stop; the second time they end this process at once, and its lanes end with it.

    Parameters
    ----------
    orderly
        the second time still ends the engine, which may take some seconds, and only the third time is at once: a Ray
        cluster started here would leave processes behind
    """

    def __init__(self, orderly: bool) -> None:
        self.asked = False
        self._orderly = orderly
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Stop:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # os.write, because the signal may have come in the middle of a print, which cannot be entered twice
        if not self.asked:
            self.asked = True
            os.write(2, b"\nstopping: sealing what is done (again to leave at once)\n")
        elif self._orderly:
            self._orderly = False
            os.write(2, b"\nleaving: ending the Ray workers; what was sealed is kept (again to leave at once)\n")
            raise KeyboardInterrupt
        else:
            os.write(2, b"\nleft at once: what was sealed is kept; the same command resumes\n")
            os._exit(130)


def _progress(terminal: bool) -> _Bar | _Lines:
    return _Bar() if terminal else _Lines()


class _Bar:
    """One line on a terminal: clips/s, time left, failures."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._failed = 0
        self._seen: set[str] = set()

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def start(self, todo: int, asked: int) -> None:
        from tqdm import tqdm

        # some pseudo-terminals say that they have no size at all, and tqdm would show nothing
        width = {} if os.get_terminal_size(sys.stderr.fileno()).columns else {"ncols": 80, "nrows": 24}
        self._bar = tqdm(
            total=asked, initial=asked - todo, unit="clip", dynamic_ncols=not width, smoothing=0.05, **width
        )

    def event(self, event: Event) -> None:
        from extract.chunk import Progress
        from extract.engine.base import Lost

        if isinstance(event, Progress):
            if event.clip_id in self._seen:  # a worker died, and the clip is done once more
                return
            self._seen.add(event.clip_id)
            self._failed += event.failed
            self._bar.update()
            self._bar.set_postfix_str(f"{self._failed} failed" if self._failed else "", refresh=False)
        elif isinstance(event, Lost):
            self._bar.write(f"a worker died ({event.how}); its clips are tried again", file=sys.stderr)


class _Lines:
    """One JSON line per sealed piece, for logs."""

    def __init__(self) -> None:
        self._done = 0
        self._todo = 0

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        sys.stderr.flush()

    def start(self, todo: int, asked: int) -> None:
        self._todo = todo
        self._say({"event": "start", "todo": todo, "clips": asked})

    def event(self, event: Event) -> None:
        from extract.chunk import Receipt
        from extract.engine.base import Lost

        if isinstance(event, Receipt):
            self._done += len(event.clip_ids)
            self._say(
                {
                    "event": "sealed",
                    "piece": event.piece,
                    "clips": len(event.clip_ids),
                    "done": self._done,
                    "todo": self._todo,
                    "failed": len({r.clip_id for r in event.failed}),
                    "masked": len({r.clip_id for r in event.masked}),
                    "bytes": event.size_bytes,
                    "seconds": {stage: round(seconds, 3) for stage, seconds in event.seconds.items()},
                    **({"notes": event.notes} if event.notes else {}),
                }
            )
        elif isinstance(event, Lost):
            self._say({"event": "lost", "lane": event.lane, "how": event.how})

    @staticmethod
    def _say(what: dict[str, Any]) -> None:
        click.echo(json.dumps(what), err=True)
