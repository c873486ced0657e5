"""The parent's loop: feeds an engine, follows its events, and applies the crash policy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable

from extract.chunk import Chunk, Receipt
from extract.engine.base import Engine, Event, Failed, Finished, Lost, Ready
from extract.engine.policy import Workload
from extract.errors import ExtractError
from extract.store.rows import Remark

POLL_S = 0.2  # how long `stopping` may go unnoticed
log = logging.getLogger(__name__)


def drive(
    engine: Engine,
    chunks: Iterable[Chunk],
    *,
    sealed: Callable[[Chunk], Collection[str]],
    on_event: Callable[[Event], None],
    on_chunk_done: Callable[[str], None],
    record_crash: Callable[[str, tuple[Remark, ...]], None],
    stopping: Callable[[], bool],
) -> None:
    """Run chunks on an engine until all their clips are settled, or until told to stop.

    Parameters
    ----------
    engine
        fresh; the caller closes it, whatever happens
    chunks
        what to do; names are distinct
    sealed
        clips of that chunk of which the disk holds a sealed piece; asked only when a worker died on it, or was silent on
        a clip
    on_event
        told everything, in order, before it takes effect
    on_chunk_done
        told the name of a chunk when each of its clips is sealed or recorded as a crash: its pieces can be merged
    record_crash
        given the name of a chunk and one remark per key of a clip that killed its worker; must have written them down
        when it returns
    stopping
        asked several times a second; once true, lanes are asked to seal what they have, and the call returns when they
        have

    Raises
    ------
    ExtractError
        a lane could not be opened or could not go on (its own error), or the machine is unwell. Lanes are asked to seal
        what they have first
    """
    work = Workload(chunks, engine.lanes)
    failure: ExtractError | None = None
    stopped = False

    def settle(chunk_name: str, clip_ids: Collection[str]) -> None:
        if work.settle(chunk_name, clip_ids):
            on_chunk_done(chunk_name)

    while True:
        if not stopped and not failure and not stopping():
            try:
                while given := work.assign():
                    engine.submit(*given)
            except ExtractError as error:
                failure = error
        if not stopped and (failure or stopping()):
            engine.stop()
            stopped = True
        if not work.in_flight:
            break
        for event in engine.wait(POLL_S):
            on_event(event)
            match event:
                case Receipt():
                    settle(event.chunk, event.clip_ids)
                case Ready():
                    work.ready(event.lane)
                case Finished():
                    chunk = work.finished(event.lane)
                    if not stopped and work.unsettled(chunk):
                        settle(chunk.name, sealed(chunk))
                    if not stopped and (forgotten := work.unsettled(chunk)):
                        failure = failure or ExtractError(
                            f"lane {event.lane} finished chunk {chunk.name} and said nothing about "
                            f"{', '.join(forgotten)}; please report it. What is sealed is safe."
                        )
                case Failed():
                    failure = failure or event.error
                    work.abandon(event.lane)
                case Lost() if stopped or failure:
                    work.abandon(event.lane)
                case Lost():
                    log.warning("lane %d died: %s", event.lane, event.how)
                    if chunk_at := work.running(event.lane):
                        settle(chunk_at.name, sealed(chunk_at))
                    if verdict := work.lost(event.lane, event.how, event.last_words):
                        name, remarks = verdict
                        record_crash(name, remarks)
                        if work.complete(name):
                            on_chunk_done(name)
    if failure:
        raise failure
