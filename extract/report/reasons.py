"""Failures and masked clips by reason, with a few examples of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from extract.errors import ClipError
from extract.report.subject import name_of
from extract.report.words import cut
from extract.store.rows import Remark

EXAMPLES = 3
CLIPS_SHOWN = 8
MESSAGE_CHARS = 400


@dataclass(frozen=True, slots=True)
class Reason:
    """What happened to some clips for one reason.

    Parameters
    ----------
    name, meaning
        of the reason; the meaning is empty for a reason this version does not know
    clips
        how many
    backbones
        names of those concerned
    examples
        clip id, stage and message of a few, with different messages where there are
    shown, more
        ids of the first other clips, and how many more there are
    """

    name: str
    meaning: str
    clips: int
    backbones: tuple[str, ...]
    examples: tuple[tuple[str, str, str], ...]
    shown: tuple[str, ...]
    more: int


def by_reason(remarks: Iterable[Remark]) -> tuple[Reason, ...]:
    """Remarks by reason, the one of most clips first."""
    meanings = {cls.reason: _first_line(cls.__doc__) for cls in ClipError.__subclasses__()}
    groups: dict[str, list[Remark]] = {}
    for remark in remarks:
        groups.setdefault(remark.reason, []).append(remark)
    found = [_reason(name, meanings.get(name, ""), group) for name, group in groups.items()]
    return tuple(sorted(found, key=lambda reason: (-reason.clips, reason.name)))


def _reason(name: str, meaning: str, remarks: list[Remark]) -> Reason:
    clips = sorted({remark.clip_id for remark in remarks})
    told: dict[str, Remark] = {}
    for remark in remarks:  # one per clip first: the message of a file that is not there differs by its path only
        if len(told) == EXAMPLES:
            break
        if remark.clip_id not in told and remark.message not in {each.message for each in told.values()}:
            told[remark.clip_id] = remark
    others = [clip_id for clip_id in clips if clip_id not in told]
    return Reason(
        name,
        meaning,
        len(clips),
        tuple(sorted({name_of(remark.key) for remark in remarks})),
        tuple((each.clip_id, each.stage, cut(each.message, MESSAGE_CHARS)) for each in told.values()),
        tuple(others[:CLIPS_SHOWN]),
        max(0, len(others) - CLIPS_SHOWN),
    )


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().split("\n")[0]
