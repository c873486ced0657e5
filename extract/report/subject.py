"""What a report is about: a store, its manifest and its labels with times, and what could not be read of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from extract.errors import ExtractError
from extract.report.runs import RunTold, last_header
from extract.store import Store
from extract.store.rows import Remark
from extract.store.runs import holder
from manifests.clip import Clip
from manifests.dense import Event

SPLITS_SHOWN = 6
NO_SPLIT, OTHER_SPLITS = "no split", "other splits"


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A store as the sections of the page see it.

    Parameters
    ----------
    store
        opened leniently: damaged parts are left out
    clips
        of the manifest, by id, in its order; empty where the store keeps none
    events
        labels with times
    failed, masked
        remarks
    keys
        with rows, with remarks, or asked for by the last run; sorted
    older
        those of `keys` that the last run replaced by another key of the same backbone
    header
        of the last run's ledger; empty: none
    holder
        who writes to the store now, or None
    problems
        what could not be read, for a person
    """

    store: Store
    clips: Mapping[str, Clip]
    events: tuple[Event, ...]
    failed: tuple[Remark, ...]
    masked: tuple[Remark, ...]
    keys: tuple[str, ...]
    older: frozenset[str]
    header: Mapping[str, Any]
    holder: Mapping[str, Any] | None
    problems: list[str] = field(default_factory=list)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The keys a complete clip has."""
        return tuple(key for key in self.keys if key not in self.older)


def open_subject(path: Path, runs: tuple[RunTold, ...]) -> Subject:
    """Open a store for a report; whatever of it is unreadable becomes a line in `problems`.

    Raises
    ------
    StoreError
        there is no store at `path`
    """
    store = Store(path, strict=False)
    store.refresh()
    problems = [why for _, why in store.damaged()]
    clips: Mapping[str, Clip] = {}
    events: tuple[Event, ...] = ()
    try:
        clips = store.manifest
    except (ExtractError, OSError) as error:
        problems.append(f"the store's manifest.csv cannot be read: {error}")
    try:
        events = tuple(store.events)
    except (ExtractError, OSError) as error:
        problems.append(f"the store's manifest.dense.csv cannot be read: {error}")
    problems += [told.problem for told in runs if told.problem]
    header = last_header(runs)
    asked = [key for key in header.get("keys", []) if isinstance(key, str)]
    failed, masked = store.failed(), store.masked()
    with_rows = {info.key for info in store.keys()}  # noqa: SIM118 - a Store's keys are features, not a mapping's
    keys = sorted({*with_rows, *(remark.key for remark in (*failed, *masked)), *asked})
    names = {name_of(key) for key in asked}
    older = frozenset(key for key in keys if key not in asked and name_of(key) in names)
    return Subject(store, clips, events, failed, masked, tuple(keys), older, header, _holder(path, problems), problems)


def name_of(key: str) -> str:
    """The backbone's name in a key."""
    return key.partition("@")[0]


def split_names(clips: Mapping[str, Clip]) -> tuple[tuple[str, ...], dict[str, int]]:
    """The splits to show, the largest first, and which of them each split of the manifest belongs to."""
    ordered = [name for name, _ in Counter(clip.split for clip in clips.values()).most_common()]
    shown = [name or NO_SPLIT for name in ordered[:SPLITS_SHOWN]]
    rest = ordered[SPLITS_SHOWN:]
    place = {name: i for i, name in enumerate(ordered[:SPLITS_SHOWN])} | dict.fromkeys(rest, SPLITS_SHOWN)
    return (*shown, OTHER_SPLITS) if rest else tuple(shown), place


def _holder(path: Path, problems: list[str]) -> Mapping[str, Any] | None:
    try:
        return holder(path)
    except OSError as error:
        problems.append(f"whether a run holds the store cannot be told: {error}")
        return None
