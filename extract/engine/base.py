"""What every engine has in common: the lane it places, the events it reports, and how a manifest becomes chunks."""

from __future__ import annotations

import hashlib
import itertools
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from extract import errors
from extract.chunk import Answer, Chunk, Progress, Receipt, Todo
from extract.errors import ExtractError, PlanError
from extract.plan import canonical_json
from manifests.clip import Clip, uncollected

SpecT = TypeVar("SpecT")
SpecT_contra = TypeVar("SpecT_contra", contravariant=True)

# ---- the lane ------------------------------------------------------------------------------------------------------


class Lane(Protocol):
    """One process on one device, with its models loaded."""

    def run(self, chunk: Chunk, stopping: Callable[[], bool]) -> Iterator[Receipt | Progress | Answer]:
        """Work through a chunk.

        Yields one `Progress` per clip and one `Receipt` per sealed piece; together the receipts name every clip of the
        chunk. When `stopping()` turns true, what is done is sealed and the rest is left. A lane that runs tasks without
        clips yields one `Answer` per chunk instead.
        """
        ...

    def close(self) -> None:
        """Let go of models and threads."""
        ...


class OpenLane(Protocol[SpecT_contra]):
    """Loads a lane from its spec onto a device; called inside the worker. Both must pickle by reference."""

    def __call__(self, spec: SpecT_contra, device: str, /) -> Lane: ...


# ---- what an engine reports ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """The lane's models are loaded."""

    lane: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The lane is through with the oldest chunk it was given."""

    lane: int


@dataclass(frozen=True, slots=True)
class Lost:
    """The lane's process died, and with it every chunk it was given and had not finished.

    Parameters
    ----------
    how
        for a person: ``signal 11 (SIGSEGV)``, ``exit status 3``
    last_words
        the end of what it wrote to stderr, as far as the engine can see it
    """

    lane: int
    how: str
    last_words: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """The lane raised an error that concerns the whole run, and is gone.

    Parameters
    ----------
    kind
        name of the error's class in extract.errors
    message
        for a person
    """

    lane: int
    kind: str
    message: str

    @classmethod
    def of(cls, lane: int, error: BaseException) -> Failed:
        """The event for an error caught in a lane: ours keep class and message, others come with their traceback."""
        if isinstance(error, ExtractError):
            known = next(kind for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind)
            return cls(lane, known.__name__, str(error))
        story = "".join(traceback.format_exception(error)).rstrip()
        return cls(lane, "ExtractError", f"lane {lane} stopped on an error nobody foresaw; please report it:\n{story}")

    @property
    def error(self) -> ExtractError:
        """The error to raise in the parent, of the class that was raised in the lane."""
        error = getattr(errors, self.kind)(self.message)
        assert isinstance(error, ExtractError)
        return error


Event = Receipt | Progress | Answer | Ready | Finished | Lost | Failed


class Engine(Protocol):
    """Places lanes and carries chunks to them.

    A lane runs the chunks it was given one after the other, in the order given. It starts at the first one, and again
    at the first one after its death. After `Lost` or `Failed` nothing more comes from what it had been given.
    """

    @property
    def lanes(self) -> int:
        """How many lanes there are; they are numbered from 0."""
        ...

    def submit(self, chunk: Chunk, lane: int) -> None:
        """Give a chunk to a lane, without waiting."""
        ...

    def wait(self, timeout_s: float) -> list[Event]:
        """What happened since the last call; returns at the first event, or with none after `timeout_s` seconds."""
        ...

    def stop(self) -> None:
        """Ask every lane to seal what it has and to finish its chunks early."""
        ...

    def close(self) -> None:
        """End all lanes, by force where needed. May be called twice."""
        ...


# ---- chunks --------------------------------------------------------------------------------------------------------


def slice_clips(clips: Sequence[Clip], keys: Sequence[str], size: int) -> dict[str, tuple[Clip, ...]]:
    """Cut a manifest into fixed slices and name them.

    Parameters
    ----------
    clips
        the whole manifest, in its order
    keys
        of the plan, in any order
    size
        clips per slice, >= 1; the last one may be shorter

    Returns
    -------
    dict
        clips of each slice by its name, in the order of the manifest. The name is the first 16 hex digits of the sha256
        of the canonical JSON of ``[clip ids, sorted keys]``: it does not depend on what the store already has

    Raises
    ------
    PlanError
        `size` is below 1
    """
    _check_size(size)
    slices = [tuple(clips[start : start + size]) for start in range(0, len(clips), size)]
    return {_name(part, keys): part for part in slices}


def make_chunks(
    clips: Sequence[Clip],
    paths: Mapping[str, str],
    keys: Sequence[str],
    done: Callable[[str], Collection[str]],
    size: int,
) -> list[Chunk]:
    """What is missing, in chunks: ``manifest x keys - done``.

    Parameters
    ----------
    clips, keys, size
        as for `slice_clips`
    paths
        file of each clip, by clip id
    done
        the keys that need nothing any more, by clip id

    Returns
    -------
    list of Chunk
        one per slice that misses something, under the slice's name, in the order of the manifest; a todo's keys are in
        the order of `keys`
    """
    lacks = np.zeros((len(clips), len(keys)), dtype=np.bool_)
    for i, clip in enumerate(clips):
        have = frozenset(done(clip.clip_id))
        lacks[i] = [key not in have for key in keys]
    return cut_chunks(clips, paths, keys, lacks, size)


def cut_chunks(
    clips: Sequence[Clip], paths: Mapping[str, str], keys: Sequence[str], lacks: NDArray[np.bool_], size: int
) -> list[Chunk]:
    """What is missing, in chunks, as `make_chunks` gives them.

    Parameters
    ----------
    clips, paths, keys, size
        as for `make_chunks`; `paths` only of clips that miss something
    lacks
        (clips, keys): True where a key is to be computed
    """
    _check_size(size)
    chunks = []
    combinations: dict[tuple[str, ...], tuple[str, ...]] = {}
    with uncollected():
        for start in range(0, len(clips), size):
            lacking = lacks[start : start + size]
            if not lacking.any():
                continue
            part, todos = clips[start : start + size], []
            for clip, row in zip(part, lacking.tolist(), strict=True):
                if missing := tuple(itertools.compress(keys, row)):
                    todos.append(Todo(clip, paths[clip.clip_id], combinations.setdefault(missing, missing)))
            chunks.append(Chunk(_name(part, keys), tuple(todos)))
    return chunks


def _check_size(size: int) -> None:
    if size < 1:
        raise PlanError(f"a chunk holds at least one clip; got a chunk size of {size}")


def _name(clips: Sequence[Clip], keys: Sequence[str]) -> str:
    content = canonical_json([[clip.clip_id for clip in clips], sorted(keys)])
    return hashlib.sha256(content.encode()).hexdigest()[:16]
