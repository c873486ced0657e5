"""How a store stands: coverage by key and split, what failed and why, who is writing to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from extract.store.catalog import Catalog
from extract.store.rows import Remark
from extract.store.runs import holder
from extract.todo import headers
from manifests.clip import read_splits

SCHEMA = 1
EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class Split:
    """Coverage of one split.

    Parameters
    ----------
    clips
        of the manifest that are in it
    rows
        by key: those of them that have rows; every key of the store is named
    """

    clips: int
    rows: dict[str, int]


@dataclass(frozen=True, slots=True)
class Status:
    """How a store stands.

    Parameters
    ----------
    store
        its folder
    clips
        in the manifest of its last run; None: no run is recorded
    keys
        by key: clips with ``rows``, ``masked``, ``failed``
    splits
        by name, in the order of the store's own copy of the manifest; ``""``: clips without a split. Empty where there is no
        copy
    reasons, masked_reasons
        clips by reason, the most frequent first
    examples
        the first ids, by reason of failure; at most ten each
    size_bytes, parts
        of all files in ``parts/`` that can be read, and how many those are
    runs
        ledgers
    running
        who holds the store now: pid, host, started; None: nobody
    damaged
        what is wrong with the files in ``parts/`` that cannot be read
    """

    store: Path
    clips: int | None
    keys: dict[str, dict[str, int]]
    splits: dict[str, Split]
    reasons: dict[str, int]
    masked_reasons: dict[str, int]
    examples: dict[str, tuple[str, ...]]
    size_bytes: int
    parts: int
    runs: int
    running: dict[str, Any] | None
    damaged: tuple[str, ...]


def status(store: Path) -> Status:
    """How a store stands; works on any store, also while a run writes to it.

    Raises
    ------
    StoreError
        there is none at that path
    ManifestError
        its copy of the manifest is broken
    """
    catalog = Catalog(store, strict=False)
    last = next(headers(store), None)
    return Status(
        store=store,
        clips=None if last is None else last["clips"],
        keys=catalog.tally(),
        splits=_splits(catalog),
        reasons=catalog.reasons("failed"),
        masked_reasons=catalog.reasons("masked"),
        examples=catalog.examples("failed", EXAMPLES),
        size_bytes=catalog.size_bytes(),
        parts=len(catalog.parts()),
        runs=len(list((store / "runs").glob("*.jsonl"))),
        running=holder(store),
        damaged=tuple(why for _, why in catalog.damaged()),
    )


def as_json(found: Status, failures: Sequence[Remark] | None = None) -> dict[str, Any]:
    """What ``extract status --json`` prints.

    Parameters
    ----------
    found
        how the store stands
    failures
        every failure, where they were asked for

    Returns
    -------
    dict
        The fields of :class:`Status` under their names, and ``schema``, now 1: fields may be added under the same number;
        one that goes or changes its meaning raises it. ``store`` is text, as given; a split is
        ``{"clips": 4143, "rows": {"resnet152@...": 4100}}``. With `failures` also ``failures``: a list of ``clip_id``,
        ``key``, ``stage``, ``reason``, ``message``
    """
    told = {"schema": SCHEMA, **asdict(found), "store": str(found.store)}
    return told if failures is None else {**told, "failures": [asdict(each) for each in failures]}


def _splits(catalog: Catalog) -> dict[str, Split]:
    path = catalog.path / "manifest.csv"
    if not path.is_file():
        return {}
    split_of = read_splits(path)
    clips = Counter(split_of.values())
    number: dict[str | None, int] = {split: i for i, split in enumerate(clips)}
    unlisted = len(number)
    known = catalog.index.text(np.arange(len(catalog.index.ids)))
    split_number = np.array([number.get(split_of.get(clip_id), unlisted) for clip_id in known], np.int64)
    rows = {
        key: np.bincount(split_number[column.clip], minlength=unlisted + 1).tolist()
        for key, column in catalog.columns.items()
    }
    return {
        split: Split(count, {key: rows[key][number[split]] for key in sorted(rows)}) for split, count in clips.items()
    }
