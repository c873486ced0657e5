"""For those who write an engine: a fake lane that needs no models, and the test that every engine passes."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from extract.chunk import Chunk, Progress, Receipt
from extract.engine.base import Engine, Event, Lane, Lost, OpenLane, make_chunks
from extract.engine.drive import drive
from extract.errors import DeviceUnavailable, ExtractError, StoreUnwritable
from extract.store.rows import Remark
from manifests.clip import Clip

Death = Literal["segv", "kill", "exit", "once"]
Opened = Literal["ok", "refused", "bug", "dies"]


@dataclass(frozen=True, slots=True)
class FakeSpec:
    """What a fake lane does.

    Parameters
    ----------
    folder
        where it "seals": one empty file per clip, named by its id
    deaths
        how it dies, by the id of the clip it dies on; ``once``: of SIGKILL, the first time only
    opening
        ``refused``: raises DeviceUnavailable; ``bug``: raises ValueError; ``dies``: exits with status 7
    piece
        clips per sealed piece
    clip_s
        seconds per clip
    noise_bytes
        written to stderr per clip
    full_at
        id of the clip at which the disk is full: raises StoreUnwritable
    """

    folder: str
    deaths: Mapping[str, Death] = field(default_factory=dict)
    opening: Opened = "ok"
    piece: int = 3
    clip_s: float = 0.0
    noise_bytes: int = 0
    full_at: str = ""


def open_fake_lane(spec: FakeSpec, device: str) -> Lane:
    """Open a fake lane on any device; a file ``opened-<process id>`` in its folder holds the device and its threads."""
    note = f"{device} {os.environ.get('OMP_NUM_THREADS', '')}"
    (Path(spec.folder) / f"opened-{os.getpid()}").write_text(note)
    match spec.opening:
        case "refused":
            raise DeviceUnavailable(f"no device {device!r} on this machine")
        case "bug":
            raise ValueError("a fake bug while opening")
        case "dies":
            os.write(2, b"last words of a lane\n")
            os._exit(7)
        case "ok":
            return FakeLane(spec)


@dataclass(frozen=True, slots=True)
class FakeLane:
    """A lane that seals ids."""

    spec: FakeSpec

    def run(self, chunk: Chunk, stopping: Callable[[], bool]) -> Iterator[Receipt | Progress]:
        """As Lane.run."""
        piece: list[str] = []
        for clip_id in chunk.clip_ids:
            if stopping():
                break
            time.sleep(self.spec.clip_s)
            os.write(2, b"." * self.spec.noise_bytes)
            self._die(clip_id)
            if clip_id == self.spec.full_at:
                raise StoreUnwritable("no space left for a part")
            piece.append(clip_id)
            yield Progress(chunk.name, clip_id, failed=False)
            if len(piece) == self.spec.piece:
                yield self._seal(chunk, piece)
                piece = []
        if piece:
            yield self._seal(chunk, piece)

    def close(self) -> None:
        """As Lane.close; a file ``closed-<process id>`` tells of it."""
        (Path(self.spec.folder) / f"closed-{os.getpid()}").touch()

    def _seal(self, chunk: Chunk, piece: list[str]) -> Receipt:
        for clip_id in piece:
            with (Path(self.spec.folder) / f"{clip_id}.sealed").open("a") as file:
                file.write(f"{chunk.name}\n")
        return Receipt(chunk.name, f"{chunk.name}-{piece[0]}", tuple(piece))

    def _die(self, clip_id: str) -> None:
        match self.spec.deaths.get(clip_id):
            case "segv":
                # A real one: a signal sent to the process may reach another thread, and this one would go on sealing.
                ctypes.string_at(0)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                os._exit(3)
            case "once":
                marker = Path(self.spec.folder) / f"{clip_id}.died"
                if not marker.exists():
                    marker.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            case None:
                pass


def fake_chunks(count: int, size: int, key: str = "fake@0") -> list[Chunk]:
    """Chunks of `size` of the clips ``c000``, ``c001``, ..."""
    clips = [Clip(f"c{number:03}", f"c{number:03}.mp4") for number in range(count)]
    return make_chunks(clips, {clip.clip_id: clip.path for clip in clips}, [key], lambda _: (), size)


@dataclass(slots=True)
class Outcome:
    """What became of a run with fake lanes."""

    events: list[Event] = field(default_factory=list)
    crashes: list[Remark] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    @property
    def deaths(self) -> list[Lost]:
        """The workers that died."""
        return [event for event in self.events if isinstance(event, Lost)]


def sealed_in(folder: Path) -> dict[str, int]:
    """How often each clip was sealed by fake lanes, by id."""
    return {path.stem: len(path.read_text().split()) for path in sorted(folder.glob("*.sealed"))}


def run_fakes(
    engine: Engine,
    chunks: Sequence[Chunk],
    folder: Path,
    *,
    stopping: Callable[[Outcome], bool] = lambda _: False,
    on_event: Callable[[Event], None] = lambda _: None,
) -> Outcome:
    """Drive an engine of fake lanes to the end, and close it."""
    outcome = Outcome()

    def sealed(chunk: Chunk) -> Collection[str]:
        return set(chunk.clip_ids) & set(sealed_in(folder))

    def follow(event: Event) -> None:
        outcome.events.append(event)
        on_event(event)

    with closing(engine):
        drive(
            engine,
            chunks,
            sealed=sealed,
            on_event=follow,
            on_chunk_done=outcome.done.append,
            record_crash=lambda _, remarks: outcome.crashes.extend(remarks),
            stopping=lambda: stopping(outcome),
        )
    return outcome


MakeEngine = Callable[[OpenLane[FakeSpec], FakeSpec, int], Engine]


def check_engine(make: MakeEngine, folder: Path) -> None:
    """Check that an engine keeps its contract, with real deaths of its workers.

    Parameters
    ----------
    make
        ``(open_lane, spec, lanes) -> Engine``
    folder
        empty, seen under this path by the lanes

    Raises
    ------
    AssertionError
        says what the engine got wrong
    """
    for check in (_check_plain, _check_deaths, _check_stop, _check_refusals):
        place = folder / check.__name__.removeprefix("_check_")
        place.mkdir()
        check(make, place)


def _check_plain(make: MakeEngine, folder: Path) -> None:
    chunks = fake_chunks(40, 8)
    engine = make(open_fake_lane, FakeSpec(str(folder)), 2)
    assert engine.lanes == 2, "an engine has as many lanes as it was made with"
    outcome = run_fakes(engine, chunks, folder)
    every = {clip_id: 1 for chunk in chunks for clip_id in chunk.clip_ids}
    assert sealed_in(folder) == every, "every clip is sealed exactly once when nothing dies"
    named = [clip_id for event in outcome.events if isinstance(event, Receipt) for clip_id in event.clip_ids]
    assert sorted(named) == sorted(every), "every receipt arrives, once"
    told = [event.clip_id for event in outcome.events if isinstance(event, Progress)]
    assert sorted(told) == sorted(every), "all progress arrives, once"
    assert sorted(outcome.done) == sorted(chunk.name for chunk in chunks), "every chunk is done, once"
    assert not outcome.deaths, "no worker died"
    engine.close()


def _check_deaths(make: MakeEngine, folder: Path) -> None:
    chunks = fake_chunks(24, 8)
    deaths: dict[str, Death] = {"c003": "segv", "c012": "kill", "c013": "once", "c023": "exit"}
    outcome = run_fakes(make(open_fake_lane, FakeSpec(str(folder), deaths), 2), chunks, folder)
    assert [r.clip_id for r in sorted(outcome.crashes, key=lambda r: r.clip_id)] == ["c003", "c012", "c023"], (
        f"the clips that always kill are crashes, and no others: {outcome.crashes}"
    )
    every = {clip_id for chunk in chunks for clip_id in chunk.clip_ids}
    assert set(sealed_in(folder)) == every - {"c003", "c012", "c023"}, "all other clips are sealed"
    assert sorted(outcome.done) == sorted(chunk.name for chunk in chunks), "every chunk is done, once"
    assert all(death.how for death in outcome.deaths), "each death says how"


def _check_stop(make: MakeEngine, folder: Path) -> None:
    engine = make(open_fake_lane, FakeSpec(str(folder), clip_s=0.05, piece=100), 2)
    begun = lambda outcome: any(isinstance(event, Progress) for event in outcome.events)  # noqa: E731
    outcome = run_fakes(engine, fake_chunks(2000, 500), folder, stopping=begun)
    told = {event.clip_id for event in outcome.events if isinstance(event, Progress)}
    assert told, "something was begun"
    assert set(sealed_in(folder)) == told, "a stop seals what is done, and nothing is begun after it"
    assert len(told) < 500, "a stop is seen within a chunk"


def _check_refusals(make: MakeEngine, folder: Path) -> None:
    expected: list[tuple[FakeSpec, type[ExtractError], str]] = [
        (FakeSpec(str(folder), opening="refused"), DeviceUnavailable, "no device"),
        (FakeSpec(str(folder), opening="bug"), ExtractError, "ValueError: a fake bug while opening"),
        (FakeSpec(str(folder), opening="dies"), ExtractError, "while it was starting"),
        (FakeSpec(str(folder), full_at="c001"), StoreUnwritable, "no space left"),
    ]
    for spec, kind, words in expected:
        try:
            run_fakes(make(open_fake_lane, spec, 1), fake_chunks(4, 2), folder)
        except ExtractError as error:
            raised: ExtractError | None = error
        else:
            raised = None
        assert type(raised) is kind, f"{spec} must end in {kind.__name__}, not in {raised!r}"
        assert words in str(raised), f"the error keeps its message: {raised}"
