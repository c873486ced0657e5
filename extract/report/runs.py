"""What the ledgers of a store tell: seconds by stage, clips per second, lost workers. Read line by line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RUNS_READ = 20
LANE_STAGES = ("wait", "prepare", "model", "seal")  # what a lane does one after the other; decoding goes on beside it


@dataclass(slots=True, eq=False)
class RunTold:
    """One run as its ledger tells it.

    Parameters
    ----------
    name
        of the ledger
    header
        what the run said before it began; empty where it died before that
    ended
        in UTC; empty: it did not get to its end
    computed
        clips in its receipts
    failed, masked
        remarks in its receipts
    deaths
        workers lost
    seconds
        by stage, over all lanes; ``wall`` where the run ended
    problem
        what is wrong with the ledger; empty: nothing
    """

    name: str
    header: Mapping[str, Any] = field(default_factory=dict)
    ended: str = ""
    computed: int = 0
    failed: int = 0
    masked: int = 0
    deaths: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    problem: str = ""

    @property
    def lanes(self) -> int:
        """Processes that computed."""
        devices = self.header.get("machine", {}).get("devices", ())
        return max(1, len(devices))

    @property
    def wall_s(self) -> float | None:
        """Wall clock of the run; None: it did not get to its end."""
        return self.seconds.get("wall")

    @property
    def clips_per_s(self) -> float | None:
        """Clips that left a lane, per second of wall clock."""
        wall_s = self.wall_s
        return self.computed / wall_s if wall_s else None

    @property
    def segments(self) -> tuple[tuple[str, float, float], ...]:
        """Stage, seconds, and its share of all lanes' time in percent; ``other`` is loading networks and idling."""
        spent = [(stage, self.seconds.get(stage, 0.0)) for stage in LANE_STAGES]
        busy_s = sum(seconds for _, seconds in spent)
        other_s = max(0.0, (self.wall_s or 0.0) * self.lanes - busy_s)
        whole_s = busy_s + other_s
        if not whole_s:
            return ()
        return tuple((stage, seconds, 100 * seconds / whole_s) for stage, seconds in (*spent, ("other", other_s)))


def read_runs(store: Path) -> tuple[tuple[RunTold, ...], int]:
    """The last runs of a store, the last one first, and how many there are in all."""
    paths = sorted((store / "runs").glob("*.jsonl"), key=lambda path: (path.name[:16], path.stat().st_mtime_ns))
    return tuple(_read(path) for path in reversed(paths[-RUNS_READ:])), len(paths)


def last_header(runs: tuple[RunTold, ...]) -> Mapping[str, Any]:
    """What the last run said of itself that got so far; empty where none did."""
    return next((told.header for told in runs if told.header), {})


def _read(path: Path) -> RunTold:
    told = RunTold(path.name)
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if not raw.endswith(b"\n"):
                    break  # the run died while it wrote this line
                _take(told, json.loads(raw), number)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        told.problem = f"the ledger {path.name} cannot be read: {error}"
    return told


def _take(told: RunTold, line: dict[str, Any], number: int) -> None:
    kind = line.pop("line", "")
    if number == 1 and kind != "header":
        raise ValueError("it has no header")
    if kind == "header":
        told.header = line
    elif kind == "receipt":
        told.computed += len(line["clip_ids"])
        told.failed += len(line["failed"])
        told.masked += len(line["masked"])
        for stage, seconds in line["seconds"].items():
            told.seconds[stage] = told.seconds.get(stage, 0.0) + float(seconds)
    elif kind == "note" and "lost" in line:
        told.deaths += 1
    elif kind == "summary":
        told.ended = str(line.get("ended", ""))
        told.seconds["wall"] = float(line.get("seconds", {}).get("wall", 0.0))
