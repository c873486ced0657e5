"""What travels between an engine and its lanes: ids and spans go out, receipts come back; pixels never do."""

from __future__ import annotations

from dataclasses import dataclass, field

from extract.store.rows import Remark
from manifests.clip import Clip


@dataclass(frozen=True, slots=True)
class Todo:
    """One clip, where its file is, and the keys that the store does not have of it."""

    clip: Clip
    path: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """The unit of dispatch, of sealing and of loss.

    `name` depends on the manifest's slice and the plan's keys only, not on what happens to be missing, so that an
    interrupted run and its resumption write the same part.
    """

    name: str
    todos: tuple[Todo, ...]

    @property
    def clip_ids(self) -> tuple[str, ...]:
        """Ids in the order of the manifest."""
        return tuple(todo.clip.clip_id for todo in self.todos)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a lane says of one sealed piece.

    Parameters
    ----------
    chunk, piece
        names of the chunk and of the sealed file
    clip_ids
        every clip the piece says something about, also when that is a failure
    failed, masked
        as they stand in the piece
    size_bytes
        of the sealed file
    seconds
        by stage: ``decode`` (CPU-seconds of the pool), ``wait`` (the models waited for the decoder), ``prepare``, ``model``,
        ``seal``
    notes
        further figures, such as the cosine of a reduced precision to float32 by key
    """

    chunk: str
    piece: str
    clip_ids: tuple[str, ...]
    failed: tuple[Remark, ...] = ()
    masked: tuple[Remark, ...] = ()
    size_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    notes: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a lane returns for a chunk that stands for a task without clips; it must pickle."""

    chunk: str
    value: object


@dataclass(frozen=True, slots=True)
class Progress:
    """One clip left a lane; it is safe only once a receipt names it."""

    chunk: str
    clip_id: str
    failed: bool
