"""What is left to do, which lane does it, and what a worker's death says about the clips it had. No input or output.

The crash policy. A chunk that ran while its worker died is halved, without what it had sealed; a chunk that only waited
behind it goes back whole. A clip that is left alone is a *suspect*, no more: the process may have been damaged by an
earlier clip, or killed for memory that others took. Suspects run last, one at a time, while no lane does anything else.
One that dies like that has its last trial on a fresh process, which never ran another clip; after it the verdict is
`Crash`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from math import ceil, log2

from extract.chunk import Chunk
from extract.errors import Crash, ExtractError
from extract.store.rows import Remark

IN_FLIGHT = 2  # chunks per lane, so that a lane never waits for the way to the parent and back
START_DEATHS = 3  # of one lane in a row, before it was ready
SPARE_CRASHES = 4  # clips that may crash beyond the number of clips that were finished
SMALLEST_SHARE = 4  # clips; sharing out fewer costs more in sealing than it gains


@dataclass(slots=True)
class _LaneState:
    flying: list[Chunk] = field(default_factory=list)
    ready: bool = False
    fresh: bool = True
    start_deaths: int = 0


class Workload:
    """The state of a run between an engine's events.

    Parameters
    ----------
    chunks
        what to do
    lanes
        how many there are
    """

    def __init__(self, chunks: Iterable[Chunk], lanes: int) -> None:
        self._pending = list(chunks)
        self._suspects: deque[Chunk] = deque()
        self._lanes = [_LaneState() for _ in range(lanes)]
        self._trial: int | None = None
        self._open = {chunk.name: set(chunk.clip_ids) for chunk in self._pending}
        self._sealed = 0
        self._crashed: list[str] = []
        self._deaths_in_a_row = 0
        self._unwell: ExtractError | None = None
        # Enough for each lane to halve its way, on every other death, from the largest chunk down to one clip.
        largest = max((len(chunk.todos) for chunk in self._pending), default=1)
        self._patience = 4 + lanes * 2 * (ceil(log2(largest)) + 2)

    # ---- giving out ----

    @property
    def in_flight(self) -> bool:
        """Whether any lane has a chunk."""
        return any(lane.flying for lane in self._lanes)

    def running(self, lane: int) -> Chunk | None:
        """The chunk that lane is at, if its models are loaded and it has one."""
        state = self._lanes[lane]
        return state.flying[0] if state.ready and state.flying else None

    def assign(self) -> tuple[Chunk, int] | None:
        """The next chunk and the lane to give it to; None: wait, or done if nothing is in flight.

        Raises
        ------
        ExtractError
            the machine is unwell: a lane died at start-up again and again, workers die and nothing is finished, or more
            clips crash than are finished
        """
        if self._unwell:
            raise self._unwell
        if self._trial is not None:
            return None
        if self._suspects and self._time_for_suspects():
            if self.in_flight:
                return None
            lane = max(range(len(self._lanes)), key=lambda i: self._lanes[i].fresh)
            chunk = self._suspects.popleft()
            self._trial = lane
        elif self._pending:
            lane = min(range(len(self._lanes)), key=lambda i: len(self._lanes[i].flying))
            if len(self._lanes[lane].flying) == IN_FLIGHT:
                return None
            chunk = self._pick()
        else:
            return None
        self._lanes[lane].flying.append(chunk)
        return chunk, lane

    def _time_for_suspects(self) -> bool:
        # Last, unless nothing else gets done: where every clip of a neighbourhood kills, only verdicts are progress.
        return not self._pending or self._deaths_in_a_row >= (self._patience // 2 if self._sealed else 1)

    def _pick(self) -> Chunk:
        # Where workers die, the smallest piece and the oldest one by turns: the one finds the culprit, the other finds
        # out whether anything works. Whichever of them is the right one, something is settled after few deaths.
        sizes = [len(chunk.todos) for chunk in self._pending]
        at = sizes.index(min(sizes)) if self._deaths_in_a_row % 2 else 0
        chunk = self._pending.pop(at)
        if len(self._lanes) > 1:
            share = max(SMALLEST_SHARE, ceil(sum(sizes) / (2 * len(self._lanes))))
            if len(chunk.todos) > share:
                self._pending.insert(at, _piece(chunk, share, None))
                chunk = _piece(chunk, 0, share)
        return chunk

    # ---- what happened ----

    def ready(self, lane: int) -> None:
        """The lane's models are loaded."""
        self._lanes[lane].ready = True
        self._lanes[lane].start_deaths = 0

    def settle(self, name: str, clip_ids: Collection[str]) -> bool:
        """These clips of the chunk of that name are sealed; returns whether that completes the chunk."""
        before = len(self._open[name])
        self._open[name].difference_update(clip_ids)
        news = before - len(self._open[name])
        if news:
            self._sealed += news
            self._deaths_in_a_row = 0
        return news > 0 and not self._open[name]

    def finished(self, lane: int) -> Chunk:
        """The lane is through with its oldest chunk: returns it."""
        state = self._lanes[lane]
        state.fresh = False
        if self._trial == lane:
            self._trial = None
        return state.flying.pop(0)

    def unsettled(self, chunk: Chunk) -> tuple[str, ...]:
        """Clips of that chunk that no receipt has named yet."""
        return tuple(clip_id for clip_id in chunk.clip_ids if clip_id in self._open[chunk.name])

    def abandon(self, lane: int) -> None:
        """The lane is gone and its chunks are not wanted any more: the run is being stopped."""
        self._lanes[lane] = _LaneState()

    def lost(self, lane: int, how: str, last_words: str = "") -> tuple[str, tuple[Remark, ...]] | None:
        """The lane's process died; what the running chunk had sealed must have been settled before.

        Returns
        -------
        (chunk name, remarks) or None
            the verdict, if there is one: one `Crash` remark per missing key of the clip
        """
        state, running = self._lanes[lane], self.running(lane)
        self._lanes[lane] = _LaneState(start_deaths=state.start_deaths + (not state.ready))
        on_trial = self._trial == lane
        if on_trial:
            self._trial = None
        waiting = state.flying[running is not None :]
        if on_trial:
            self._suspects.extendleft(waiting)
        else:
            self._pending[:0] = waiting
        verdict = self._judge(running, state.fresh, how, on_trial) if running else None
        if verdict is None:
            self._deaths_in_a_row += 1
        self._examine(lane, how, last_words)
        return verdict

    def _judge(self, chunk: Chunk, fresh: bool, how: str, on_trial: bool) -> tuple[str, tuple[Remark, ...]] | None:
        left = self._open[chunk.name]
        chunk = replace(chunk, todos=tuple(todo for todo in chunk.todos if todo.clip.clip_id in left))
        if len(chunk.todos) > 1:
            half = len(chunk.todos) // 2
            self._pending += [_piece(chunk, 0, half), _piece(chunk, half, None)]
        elif chunk.todos and on_trial and fresh:
            (todo,) = chunk.todos
            left.discard(todo.clip.clip_id)
            self._crashed.append(todo.clip.clip_id)
            self._deaths_in_a_row = 0
            story = f"the worker process died on this clip, twice or more, the last time alone and fresh: {how}"
            return chunk.name, tuple(Remark(todo.clip.clip_id, key, "engine", Crash.reason, story) for key in todo.keys)
        elif chunk.todos and on_trial:
            self._suspects.appendleft(chunk)
        elif chunk.todos:
            self._suspects.append(chunk)
        return None

    def complete(self, name: str) -> bool:
        """Whether every clip of the chunk of that name is settled."""
        return not self._open[name]

    def _examine(self, lane: int, how: str, last_words: str) -> None:
        end = f"\nThe end of its stderr:\n{last_words}" if last_words else ""
        if self._lanes[lane].start_deaths >= START_DEATHS:
            self._unwell = ExtractError(
                f"lane {lane} died {START_DEATHS} times in a row while it was starting, before it had seen a clip "
                f"({how}). Too little memory for the models and a broken installation are the usual causes: try fewer "
                f"--lanes, then `extract backbones check NAME`.{end}"
            )
        elif self._deaths_in_a_row > self._patience:
            self._unwell = ExtractError(
                f"{self._deaths_in_a_row} workers died one after the other and not one clip was finished in between "
                f"(the last one: {how}). That is not one bad clip but this machine: look for its memory (try fewer "
                f"--lanes), its disk and whoever ends its processes. What is sealed is safe; the same command goes on "
                f"from there.{end}"
            )
        elif len(self._crashed) > SPARE_CRASHES + self._sealed:
            self._unwell = ExtractError(
                f"{len(self._crashed)} clips killed their worker and {self._sealed} were finished: "
                f"{_some(self._crashed)} (the last one: {how}). That looks like this machine or its installation rather "
                f"than the clips. They are recorded as failed with the reason {Crash.reason!r}, and the same command "
                f"goes on with the others; `extract retry --reason {Crash.reason}` does them again.{end}"
            )


def _piece(chunk: Chunk, start: int, stop: int | None) -> Chunk:
    """Part of a chunk, under its name: whatever comes of it is merged there."""
    return replace(chunk, todos=chunk.todos[start:stop])


def _some(names: list[str]) -> str:
    more = len(names) - 5
    return ", ".join(names[:5]) + (f" and {more} more" if more > 0 else "")
