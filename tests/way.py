"""The whole way in tests: small manifests, runs in this process, and the real command in another one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from extract.engine.base import Event, Failed, Finished, Ready
from extract.testing import make_video
from manifests.clip import Clip, write_manifest

PLUGINS = Path(__file__).with_name("plugins")
TRIO = ("tiny_frames", "tiny_clips", "tiny_sound")
MARK = "EXTRACT_TEST_RUN"  # in the environment of everything a test starts


# ---- media -----------------------------------------------------------------------------------------------------------


def magenta(k: int, t_s: float) -> np.ndarray:
    """A picture that the harmful tiny networks take offence at."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :, (0, 2)] = 235
    return picture


def make_media(folder: Path) -> Path:
    """Clips ``c00`` to ``c05`` of two to four seconds, ``mute`` without sound, and ``harm``, which shows magenta."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(6):
        make_video(folder / f"c{i:02}.mp4", width=64, height=48, fps=10, duration_s=2 + i % 3, gop=5)
    make_video(folder / "mute.mp4", width=64, height=48, fps=10, duration_s=2, audio=None)
    make_video(folder / "harm.mp4", width=64, height=48, fps=10, duration_s=2, picture=magenta)
    return folder


def manifest(path: Path, media: Path, names: Sequence[str] = (), *, times: int = 1) -> Path:
    """A manifest of whole seconds of those files; with `times` each is listed so often, under different ids."""
    names = names or [f"c{i:02}" for i in range(6)]
    seconds = {f"c{i:02}": 2 + i % 3 for i in range(6)}
    clips = [
        Clip(name if not turn else f"{name}_{turn}", str(media / f"{name}.mp4"), 0, seconds.get(name, 2) * 10**9)
        for turn in range(times)
        for name in names
    ]
    write_manifest(path, clips)
    return path


# ---- stores ----------------------------------------------------------------------------------------------------------


def parts(store: Path) -> dict[str, bytes]:
    """Every file of ``parts/``, hidden ones too, with its content."""
    return {path.name: path.read_bytes() for path in sorted((store / "parts").iterdir())}


def stamps(store: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of change of every file of ``parts/``: equal stamps mean untouched files."""
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in sorted((store / "parts").iterdir())}


def ledgers(store: Path) -> list[list[dict[str, Any]]]:
    """Every run's lines, the oldest run first."""
    paths = sorted((store / "runs").glob("*.jsonl"), key=lambda path: (path.name[:16], path.stat().st_mtime_ns))
    return [[json.loads(line) for line in path.read_text().splitlines()] for path in paths]


def receipts(store: Path) -> list[list[str]]:
    """The clips of the last run's receipts, one list per sealed piece."""
    return [line["clip_ids"] for line in ledgers(store)[-1] if line["line"] == "receipt"]


# ---- an engine without processes -------------------------------------------------------------------------------------


class InlineEngine:
    """Lanes in this process, in turn; it takes what LocalEngine takes."""

    def __init__(
        self, open_lane: Any, spec: Any, devices: Sequence[str], *, threads_per_lane: int | None = None
    ) -> None:
        self._open = lambda device: open_lane(spec, device)
        self._devices = devices
        self._lanes: list[Any] = [None] * len(devices)
        self._todo: list[deque[Any]] = [deque() for _ in devices]
        self._stop = False

    @property
    def lanes(self) -> int:
        return len(self._devices)

    def submit(self, chunk: Any, lane: int) -> None:
        self._todo[lane].append(chunk)

    def wait(self, timeout_s: float) -> list[Event]:
        busy = max(range(self.lanes), key=lambda lane: len(self._todo[lane]))
        return list(self._work(busy)) if self._todo[busy] else []

    def _work(self, lane: int) -> Iterator[Event]:
        try:
            if self._lanes[lane] is None:
                self._lanes[lane] = self._open(self._devices[lane])
                yield Ready(lane)
            chunk = self._todo[lane].popleft()
            if not self._stop:
                yield from self._lanes[lane].run(chunk, lambda: self._stop)
            yield Finished(lane)
        except Exception as error:  # noqa: BLE001 - as a lane's process does
            self._todo[lane].clear()
            yield Failed.of(lane, error)

    def stop(self) -> None:
        self._stop = True

    def close(self) -> None:
        for lane in filter(None, self._lanes):
            lane.close()


# ---- the real command ------------------------------------------------------------------------------------------------


def settled(store: Path) -> dict[str, set[str]]:
    """Keys that need nothing any more, by clip id: there are rows, or a remark says why there are none."""
    from extract.store import Store

    opened = Store(store)
    keys = {clip_id: set(found) for clip_id, found in opened.have().items()}
    for remark in (*opened.failed(), *opened.masked()):
        keys.setdefault(remark.clip_id, set()).add(remark.key)
    return keys


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "EXTRACT_PLUGINS": str(PLUGINS), "PYTHONUNBUFFERED": "1", **more}


def command(*args: Any) -> list[str]:
    return [sys.executable, "-m", "extract", *map(str, args)]


@dataclass(frozen=True)
class Ended:
    """What a command in this process came to."""

    returncode: int
    stdout: str
    stderr: str


def invoke(capsys: Any, monkeypatch: Any, *args: Any) -> Ended:
    """``extract ARGS`` in this process: with the fixture `tiny` in the blink of an eye."""
    from extract.cli import main

    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["extract", *map(str, args)])
    try:
        main()
    except SystemExit as end:
        told = capsys.readouterr()
        return Ended(int(end.code or 0), told.out, told.err)


def cli(*args: Any, timeout_s: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``extract ARGS`` to its end."""
    return subprocess.run(
        command(*args), capture_output=True, text=True, timeout=timeout_s, env=environment(**env), check=False
    )


def run_args(manifest: Path, store: Path, *more: Any, backbones: Sequence[str] = TRIO) -> list[Any]:
    return [
        "run",
        manifest,
        "--out",
        store,
        "--backbones",
        ",".join(backbones),
        "--weights",
        "random:0",
        "--threads",
        1,
        *more,
    ]


def start(*args: Any, mark: str) -> subprocess.Popen[str]:
    """Start ``extract ARGS`` as the leader of a process group of its own, as a shell does."""
    return subprocess.Popen(
        command(*args),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**{MARK: mark}),
        start_new_session=True,
    )


def interrupt(process: subprocess.Popen[str], number: int = signal.SIGINT) -> None:
    """What a terminal's Ctrl-C does: a signal to the whole foreground group."""
    os.killpg(process.pid, number)


def lines_until(process: subprocess.Popen[str], event: str, count: int = 1) -> list[dict[str, Any]]:
    """Read its stderr up to the `count`-th JSON line of that event, or up to its summary if that comes before."""
    assert process.stderr
    seen = []
    for line in process.stderr:
        if line.startswith("{"):
            seen.append(json.loads(line))
            count -= seen[-1]["event"] == event
            if not count or seen[-1]["event"] == "summary":
                return seen
    raise AssertionError(f"it ended before it said {event!r}: {seen}")


def events(stderr: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]


def alive(mark: str, within_s: float = 5.0) -> list[str]:
    """Command lines of processes with that mark which are still there after a while."""
    end_s = time.monotonic() + within_s
    while True:
        found = [line for pid in os.listdir("/proc") if pid.isdigit() and (line := _marked(int(pid), mark))]
        if not found or time.monotonic() > end_s:
            return found
        time.sleep(0.05)


def _marked(pid: int, mark: str) -> str:
    try:
        if f"{MARK}={mark}\0".encode() not in Path(f"/proc/{pid}/environ").read_bytes():
            return ""
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""  # it has ended meanwhile, or is no business of ours
