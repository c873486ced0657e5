"""What an export says of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Missing:
    """One clip that an export could not write as its layout wants it.

    Parameters
    ----------
    clip_id, key
        whose rows; an empty key: all that were asked for
    why
        for a person
    """

    clip_id: str
    key: str
    why: str


@dataclass(frozen=True, slots=True)
class Exported:
    """The outcome of an export.

    Parameters
    ----------
    files
        written now
    kept
        there already, whole, of an earlier export that was interrupted
    size_bytes
        of `files`
    missing
        what could not be written; the layout says what stands in its place
    notes
        sentences for the user
    """

    files: int
    kept: int
    size_bytes: int
    missing: tuple[Missing, ...] = ()
    notes: tuple[str, ...] = ()
