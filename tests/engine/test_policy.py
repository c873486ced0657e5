"""The crash policy, on simulated machines where anything may die."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil, log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.chunk import Chunk, Progress, Receipt
from extract.engine.base import Event, Finished, Lost, Ready
from extract.engine.drive import drive
from extract.engine.policy import IN_FLIGHT, SPARE_CRASHES, START_DEATHS
from extract.engine.testing import Outcome, fake_chunks
from extract.errors import ExtractError


@dataclass(frozen=True)
class Machine:
    """A simulated machine.

    killers: die whenever they are run. poison: damage their process, which dies at the clip after them.
    together: chance that a death takes each other working lane with it. doom: chance of dying at any clip.
    stillborn: chance of dying at start-up. piece: clips per sealed piece. lossy: receipts are lost with the worker that dies.
    """

    killers: frozenset[str] = frozenset()
    poison: frozenset[str] = frozenset()
    together: float = 0.0
    doom: float = 0.0
    stillborn: float = 0.0
    piece: int = 3
    lossy: bool = False
    forgetful: str = ""
    seed: int = 0


@dataclass
class _SimulatedLane:
    ready: bool = False
    poisoned: bool = False
    queue: list[Chunk] = field(default_factory=list)
    at: int = 0
    piece: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


class SimulatedEngine:
    """One event of chance per `wait`."""

    def __init__(self, machine: Machine, lanes: int) -> None:
        self.machine = machine
        self.chance = random.Random(machine.seed)
        self.places = [_SimulatedLane() for _ in range(lanes)]
        self.disk: list[str] = []
        self.deaths = 0
        self.stopped = False
        self.most_in_flight = 0
        self.runs: list[tuple[str, bool]] = []

    @property
    def lanes(self) -> int:
        return len(self.places)

    def submit(self, chunk: Chunk, lane: int) -> None:
        assert not self.stopped, "nothing is given out after a stop"
        self.places[lane].queue.append(chunk)
        self.most_in_flight = max(self.most_in_flight, len(self.places[lane].queue))

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        pass

    def sealed(self, chunk: Chunk) -> set[str]:
        return set(chunk.clip_ids) & set(self.disk)

    def wait(self, timeout_s: float) -> list[Event]:
        busy = [lane for lane, place in enumerate(self.places) if place.queue]
        assert busy, "waiting for nothing is waiting for ever"
        lane = self.chance.choice(busy)
        events = self._step(lane, alone=len(busy) == 1)
        if any(isinstance(event, Lost) for event in events):
            others = [
                i for i in busy if i != lane and self.places[i].ready and self.chance.random() < self.machine.together
            ]
            events += [event for i in others for event in self._die(i)]
        return events

    def _step(self, lane: int, alone: bool) -> list[Event]:
        place, machine = self.places[lane], self.machine
        if not place.ready:
            if self.chance.random() < machine.stillborn:
                return self._die(lane)
            place.ready = True
            return [Ready(lane)]
        chunk = place.queue[0]
        if self.stopped or place.at == len(chunk.todos):
            events: list[Event] = self._seal(lane)
            del place.queue[0]
            place.at = 0
            if machine.lossy:  # nothing is heard of a chunk until its end
                events, place.events = place.events + events, []
            return [*events, Finished(lane)]
        clip_id = chunk.clip_ids[place.at]
        self.runs.append((clip_id, alone and len(place.queue) == 1))
        if clip_id in machine.killers or place.poisoned or self.chance.random() < machine.doom:
            return self._die(lane)
        place.at += 1
        place.poisoned = clip_id in machine.poison
        place.piece += [clip_id] * (clip_id != machine.forgetful)
        events = [Progress(chunk.name, clip_id, failed=False)]
        events += self._seal(lane) if len(place.piece) >= machine.piece else []
        if machine.lossy:
            place.events += events
            return []
        return events

    def _seal(self, lane: int) -> list[Event]:
        place = self.places[lane]
        piece, place.piece = place.piece, []
        self.disk += piece
        return [Receipt(place.queue[0].name, "piece", tuple(piece))] if piece else []

    def _die(self, lane: int) -> list[Event]:
        self.places[lane] = _SimulatedLane()
        self.deaths += 1
        return [Lost(lane, "signal 11 (SIGSEGV)", "some last words")]


def run(
    engine: SimulatedEngine, chunks: list[Chunk], stopping: Callable[[Outcome], bool] = lambda _: False
) -> tuple[Outcome, str]:
    """Drive to the end: what happened, and the error's message if there was one."""
    outcome, error = Outcome(), ""
    try:
        drive(
            engine,
            chunks,
            sealed=engine.sealed,
            on_event=outcome.events.append,
            on_chunk_done=outcome.done.append,
            record_crash=lambda _, remarks: outcome.crashes.extend(remarks),
            stopping=lambda: stopping(outcome),
        )
    except ExtractError as raised:
        error = str(raised)
    return outcome, error


def crashed(outcome: Outcome) -> set[str]:
    return {remark.clip_id for remark in outcome.crashes}


def ids(chunks: list[Chunk]) -> set[str]:
    return {clip_id for chunk in chunks for clip_id in chunk.clip_ids}


@st.composite
def jobs(draw) -> tuple[list[Chunk], frozenset[str]]:
    """Chunks, and some of their clips."""
    chunks = fake_chunks(draw(st.integers(1, 60)), draw(st.integers(1, 20)))
    return chunks, draw(st.frozensets(st.sampled_from(sorted(ids(chunks))), max_size=12))


lanes_of = st.integers(1, 5)
seeds = st.integers(0, 2**32)


@settings(max_examples=200, deadline=None)
@given(job=jobs(), lanes=lanes_of, seed=seeds, together=st.sampled_from([0.0, 0.0, 0.5, 1.0]), lossy=st.booleans())
def test_killers_crash_and_nobody_else(job, lanes, seed, together, lossy):
    chunks, killers = job
    engine = SimulatedEngine(Machine(killers, together=together, lossy=lossy, seed=seed), lanes)
    outcome, error = run(engine, chunks)
    if len(killers) <= SPARE_CRASHES:
        assert not error
    if error:
        assert "looks like this machine" in error
        assert len(killers) > SPARE_CRASHES
        assert crashed(outcome) <= killers
    else:
        assert crashed(outcome) == killers
        assert sorted(engine.disk) == sorted(ids(chunks) - killers)
        assert sorted(outcome.done) == sorted(chunk.name for chunk in chunks)
    assert engine.most_in_flight <= IN_FLIGHT


@settings(max_examples=150, deadline=None)
@given(job=jobs(), lanes=lanes_of, seed=seeds)
def test_deaths_are_bounded_by_killers_and_log_size(job, lanes, seed):
    chunks, killers = job
    engine = SimulatedEngine(Machine(killers, seed=seed), lanes)
    run(engine, chunks)
    size = max(len(chunk.todos) for chunk in chunks)
    assert engine.deaths <= len(killers) * (ceil(log2(size)) + 1 + 2)


@settings(max_examples=150, deadline=None)
@given(job=jobs(), more=st.data(), lanes=lanes_of, seed=seeds)
def test_a_clip_that_damages_its_process_gets_nobody_convicted(job, more, lanes, seed):
    chunks, killers = job
    killers = frozenset(sorted(killers)[:3])
    poison = more.draw(st.frozensets(st.sampled_from(sorted(ids(chunks))), max_size=5)) - killers
    engine = SimulatedEngine(Machine(killers, poison, seed=seed), lanes)
    outcome, error = run(engine, chunks)
    assert not error
    assert crashed(outcome) == killers
    assert sorted(engine.disk) == sorted(ids(chunks) - killers)


@settings(max_examples=150, deadline=None)
@given(job=jobs(), lanes=lanes_of, seed=seeds, doom=st.floats(0.0, 1.0), stillborn=st.floats(0.0, 0.6))
def test_random_deaths_end_in_a_settled_run_or_an_error(job, lanes, seed, doom, stillborn):
    chunks, killers = job
    engine = SimulatedEngine(Machine(killers, doom=doom, stillborn=stillborn, seed=seed), lanes)
    outcome, error = run(engine, chunks)
    assert sorted(engine.disk) == sorted(set(engine.disk)), "nothing is sealed twice"
    assert not crashed(outcome) & set(engine.disk)
    if not error:
        assert crashed(outcome) | set(engine.disk) == ids(chunks)
        assert sorted(outcome.done) == sorted(chunk.name for chunk in chunks)
    patience = 4 + lanes * 2 * (ceil(log2(max(len(chunk.todos) for chunk in chunks))) + 2)
    settled = len(set(engine.disk)) + len(crashed(outcome))
    assert engine.deaths <= (settled + 1) * (patience + lanes + 1)


@settings(max_examples=200, deadline=None)
@given(job=jobs(), lanes=lanes_of, seed=seeds, after=st.integers(0, 80))
def test_a_stop_drains_convicts_nobody_afterwards_and_a_rerun_ends_the_same(job, lanes, seed, after):
    chunks, killers = job
    killers = frozenset(sorted(killers)[:SPARE_CRASHES])
    engine = SimulatedEngine(Machine(killers, seed=seed), lanes)
    at_stop: list[int] = []

    def stopping(outcome: Outcome) -> bool:
        if len(outcome.events) >= after and not at_stop:
            at_stop.append(len(outcome.crashes))
        return bool(at_stop)

    outcome, error = run(engine, chunks, stopping)
    assert not error
    assert not any(place.queue for place in engine.places)
    if at_stop:
        assert len(outcome.crashes) <= at_stop[0] + 1
    assert all(
        set(chunk.clip_ids) <= set(engine.disk) | crashed(outcome) for chunk in chunks if chunk.name in outcome.done
    )

    settled = set(engine.disk) | crashed(outcome)
    left = [
        Chunk(chunk.name, todos)
        for chunk in chunks
        if (todos := tuple(todo for todo in chunk.todos if todo.clip.clip_id not in settled))
    ]
    again = SimulatedEngine(Machine(killers, seed=seed + 1), lanes)
    more, error = run(again, left)
    assert not error
    assert crashed(outcome) | crashed(more) == killers
    assert sorted(engine.disk + again.disk) == sorted(ids(chunks) - killers)


@pytest.mark.parametrize("lanes", [1, 2, 8])
def test_a_machine_where_everything_dies_is_found_out_soon(lanes):
    chunks = fake_chunks(1000, 64)
    engine = SimulatedEngine(Machine(doom=1.0), lanes)
    _, error = run(engine, chunks)
    assert f"{SPARE_CRASHES + 1} clips killed their worker and 0 were finished" in error
    assert "looks like this machine" in error
    assert "extract retry --reason crash" in error
    assert "some last words" in error
    assert engine.deaths <= 40 * lanes


def test_reruns_get_through_a_folder_where_every_clip_kills():
    left, reruns = ids(fake_chunks(20, 8)), 0
    while left:
        chunks = [
            Chunk(chunk.name, todos)
            for chunk in fake_chunks(20, 8)
            if (todos := tuple(todo for todo in chunk.todos if todo.clip.clip_id in left))
        ]
        outcome, _ = run(SimulatedEngine(Machine(frozenset(left)), 2), chunks)
        assert crashed(outcome)
        left -= crashed(outcome)
        reruns += 1
    assert reruns <= 4


def test_a_lane_that_dies_at_start_up_is_an_error_and_no_crash():
    engine = SimulatedEngine(Machine(stillborn=1.0), 2)
    outcome, error = run(engine, fake_chunks(20, 5))
    assert f"died {START_DEATHS} times in a row while it was starting" in error
    assert "signal 11 (SIGSEGV)" in error
    assert "some last words" in error
    assert not outcome.crashes
    assert engine.deaths <= 2 * START_DEATHS


def test_workers_that_die_without_end_and_settle_nothing_are_an_error():
    """Deaths of nobody's making: idle and starting lanes that die by turns, never three times in a row."""
    from extract.engine.policy import Workload

    work = Workload(fake_chunks(4, 4), 1)

    def one_more_death() -> None:
        given = work.assign()
        assert given
        work.lost(0, "signal 9 (SIGKILL)")  # while starting
        assert work.assign()
        work.ready(0)
        assert work.finished(0)  # of a chunk that it says nothing about
        work.lost(0, "signal 9 (SIGKILL)")  # idle
        work._pending.append(given[0])

    with pytest.raises(ExtractError, match=r"not one clip was finished in between .*fewer --lanes"):
        repeat(one_more_death)


def repeat(call: Callable[[], None]) -> None:
    for _ in range(1000):
        call()


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_folder_of_killers_among_many_good_clips_crashes_one_by_one(lanes):
    chunks = fake_chunks(256, 64)
    killers = frozenset(chunks[1].clip_ids)
    outcome, error = run(SimulatedEngine(Machine(killers), lanes), chunks)
    assert not error
    assert crashed(outcome) == killers


def test_suspects_run_alone_at_the_end():
    engine = SimulatedEngine(Machine(frozenset({"c005"}), seed=3), 3)
    outcome, error = run(engine, fake_chunks(60, 10))
    assert not error
    assert engine.runs[-1] == ("c005", True), "the suspect is the last that ran, and nothing ran beside it"
    (remark,) = outcome.crashes
    assert (remark.key, remark.stage, remark.reason) == ("fake@0", "engine", "crash")
    assert "signal 11 (SIGSEGV)" in remark.message


def test_a_small_job_is_shared_among_the_lanes():
    engine = SimulatedEngine(Machine(), 4)
    given: list[int] = []
    submit = engine.submit
    engine.submit = lambda chunk, lane: (given.append(lane), submit(chunk, lane))[1]  # type: ignore[method-assign]
    run(engine, fake_chunks(64, 64))
    assert set(given) == {0, 1, 2, 3}
    alone = SimulatedEngine(Machine(), 1)
    run(alone, fake_chunks(64, 64))
    assert len([clip for clip, _ in alone.runs]) == 64


def test_a_lane_that_forgets_a_clip_is_an_error():
    outcome, error = run(SimulatedEngine(Machine(forgetful="c003"), 1), fake_chunks(8, 4))
    assert "said nothing about c003" in error
    assert not any(chunk.name in outcome.done for chunk in fake_chunks(8, 4)[:1])


def test_nothing_to_do_is_nothing_done():
    outcome, error = run(SimulatedEngine(Machine(), 1), [])
    assert (outcome.events, outcome.done, error) == ([], [], "")
