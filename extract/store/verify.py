"""Check a store against itself: every byte that a part holds is compared with what the part says of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from extract.errors import DamagedPart, StoreError
from extract.plan import key_of
from extract.store.across import Across, conflicts
from extract.store.deep import Deep, Fed
from extract.store.finding import BAD, Finding, Level
from extract.store.hdf5 import SEAL_BYTES, seal_text
from extract.store.index_check import check_index
from extract.store.layout import KEY_SETS, REMARK_COLUMNS, REMARKS, ROW_SETS
from extract.store.merge import is_piece, list_parts
from extract.store.reader import open_part, read_attr, read_info, read_seal, read_text, seal_problem, spans_tile
from extract.store.runs import holder
from extract.store.scrub import BROKEN, Looked, look, set_problem

__all__ = ["BAD", "Finding", "Level", "verify", "verify_part"]

_TRIES = 5
Remarked = dict[str, dict[str, str]]
"""Reason, by key and clip."""


def verify(
    store_path: Path,
    *,
    deep: bool = False,
    fed: Fed | None = None,
    on_part: Callable[[int, int], None] = lambda done, parts: None,
) -> list[Finding]:
    """Read all of a store and report everything that is wrong with it; it never stops at the first.

    Every byte of every part is read: the seal covers the whole file, checksums and digests tell which dataset or clip it
    is. Memory is bounded by the number of clips, not by the sizes of parts.

    Parameters
    ----------
    store_path
        folder of a store; a run may be writing to it, and it may be a read-only copy
    deep
        also whether it is plausible: constant rows, rows beside their grid, keys that the zoo does not know, remarks
        without rows to them, clips that the manifest does not list
    fed
        how recipes feed a network, which only whoever has the recipes can tell; without it views are not compared
    on_part
        told how many parts are done, of how many

    Returns
    -------
    list of Finding
        empty: the store is sound

    Raises
    ------
    StoreError
        there is no store
    """
    folder = store_path / "parts"
    if not folder.is_dir():
        raise StoreError(f"there is no feature store at {store_path}: it has no parts/")
    busy = holder(store_path) is not None
    findings: list[Finding] = []
    across, plausible = Across(), Deep(store_path, fed) if deep else None
    paths, moved = list_parts(folder), False
    for done, path in enumerate(paths):
        on_part(done, len(paths))
        try:
            findings += _part(path, plausible, across)
        except FileNotFoundError:
            moved = True
            continue
        if is_piece(path) and not busy:
            findings.append(
                Finding(path.name, "", "", "a piece of a chunk that is not complete; run again", "leftover")
            )
    for path in sorted(set(list_parts(folder)) - set(paths)) if moved else ():  # what a run merged them into meanwhile
        findings += _late(path, plausible, across)
    on_part(len(paths), len(paths))
    findings += conflicts(across.index)
    findings += check_index(store_path, across.index)
    if plausible is not None:
        findings += plausible.whole(across.index)
    if not busy:
        for path in sorted((*folder.glob(".*.tmp"), *store_path.glob(".*.tmp"))):
            findings.append(
                Finding(path.name, "", "", "half-written by a command that was killed; run again", "leftover")
            )
    return findings


def verify_part(path: Path) -> list[Finding]:
    """What is wrong with one part: seal, schema, spans, checksums, keys, values; see :func:`verify`."""
    return _steady(path, None)


def _part(path: Path, plausible: Deep | None, across: Across) -> list[Finding]:
    findings = _steady(path, plausible)
    if isinstance(_stamp(path), str):
        return findings
    return [*findings, *across.add(path, sound=not any(finding.bad for finding in findings))]


def _late(path: Path, plausible: Deep | None, across: Across) -> list[Finding]:
    try:
        return _part(path, plausible, across)
    except FileNotFoundError:
        return []


def _steady(path: Path, plausible: Deep | None) -> list[Finding]:
    """The findings of one file, though a run may put another one under its name meanwhile."""
    for _ in range(_TRIES):
        before = _stamp(path)
        findings = list(_verify(path, plausible))
        if _stamp(path) == before:
            return findings
    return [Finding(path.name, "", "", "changes faster than it can be read; is something rewriting it?")]


def _stamp(path: Path) -> tuple[int, int, int] | str:
    try:
        stat = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            return "a link to nowhere"
        raise
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _verify(path: Path, plausible: Deep | None) -> Iterator[Finding]:
    """The seal speaks where nothing else has found the damage: it cannot tell what it hit."""
    if isinstance(_stamp(path), str):
        yield Finding(path.name, "", "", "is a link to a file that is not there")
        return
    try:
        sealed = seal_problem(path)
    except FileNotFoundError:
        raise
    except (DamagedPart, StoreError) as error:
        yield Finding(path.name, "", "", str(error))
        return
    bad = False
    for finding in _content(path, plausible):
        bad |= finding.bad
        yield finding
    if sealed and not bad:
        yield Finding(path.name, "", "", f"is not as it was sealed: {sealed}")


def _content(path: Path, plausible: Deep | None) -> Iterator[Finding]:
    name = path.name
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_part(path))
        except FileNotFoundError:
            raise
        except (DamagedPart, StoreError) as error:
            yield Finding(name, "", "", str(error))
            return
        try:
            schema = int(file.attrs["schema"])
            keys = sorted(file)
            if not isinstance(json.loads(read_attr(file, "provenance")), list):
                yield Finding(name, "", "", "its provenance is no JSON list")
        except BROKEN as error:
            yield Finding(name, "", "", f"its root cannot be read: {error}")
            return
        yield from _schema(path, schema)
        remarked: dict[str, Remarked] = {}
        for group in REMARKS:
            yield from _remarks(name, file, group, remarked)
        if plausible is not None:
            plausible.begin(name, remarked["masked"])
        for key in keys:
            if key not in REMARKS:
                yield from _key(name, file, key, remarked["failed"].get(key, {}), plausible)


def _schema(path: Path, schema: int) -> Iterator[Finding]:
    seal = read_seal(path)
    if seal is None:
        yield Finding(
            path.name,
            "",
            "",
            f"is of schema {schema}, whose parts have no seal: damage beside its rows may go unseen; "
            "`extract store convert` makes a copy of the store whose parts have one",
            "old",
        )
        return
    with path.open("rb") as file:
        head = file.read(SEAL_BYTES)
    if head != seal_text("part", schema, seal.sha256, seal.size_bytes):
        yield Finding(path.name, "", "", f"its seal is not that of a part of schema {schema}, which it says it is")


def _remarks(part: str, file: h5py.File, name: str, remarked: dict[str, Remarked]) -> Iterator[Finding]:
    found: Remarked = remarked.setdefault(name, {})
    try:
        group, sound = file[name], True
        lengths = {column: int(group[column].shape[0]) for column in REMARK_COLUMNS}
        if len(set(lengths.values())) > 1:
            sound = False
            yield Finding(part, "", "", f"the columns of /{name} have different lengths: {lengths}")
        for column in REMARK_COLUMNS:
            problem = set_problem(group[column])
            if problem:
                sound = False
                yield Finding(part, "", "", f"/{name}/{column}: {problem}")
        for clip, key, reason in (
            zip(*(read_text(group[c]) for c in ("clip", "key", "error")), strict=True) if sound else ()
        ):
            found.setdefault(key, {})[clip] = reason
    except BROKEN as error:
        yield Finding(part, "", "", f"/{name} cannot be read: {error}")


def _key(part: str, file: h5py.File, key: str, failed: dict[str, str], plausible: Deep | None) -> Iterator[Finding]:
    try:
        group = file[key]
        info = read_info(group, key)
        missing = sorted(set(KEY_SETS) - set(group))
        if missing:
            yield Finding(part, key, "", f"lacks {', '.join(missing)}")
            return
        if key_of(info.identity) != key:
            yield Finding(part, key, "", f"its identity is that of {key_of(info.identity)}")
        for name in ("span", "clip", "sha256"):
            problem = set_problem(group[name])
            if problem:
                yield Finding(part, key, "", f"{name}: {problem}")
        # A damaged name must not hide the rest.
        clips = [raw.decode(errors="backslashreplace") for raw in group["clip"][...].tolist()]
        span, digests = group["span"][...], group["sha256"][...]
        counts = {name: int(group[name].shape[0]) for name in ROW_SETS}
        if len(set(counts.values())) > 1:
            yield Finding(part, key, "", f"its datasets have different numbers of rows: {counts}")
        if span.shape != (len(clips), 2) or digests.shape != (len(clips), 32):
            yield Finding(part, key, "", f"{len(clips)} clips, but {len(span)} spans and {len(digests)} digests")
            return
        rows = min(counts.values())
        if not spans_tile(span, rows):
            yield Finding(part, key, "", f"its spans do not tile its {rows} rows without gap or overlap")
    except BROKEN as error:
        yield Finding(part, key, "", f"cannot be read: {error}")
        return
    for clip in sorted(clip for clip, times in Counter(clips).items() if times > 1):
        yield Finding(part, key, clip, "is there twice")
    if plausible is not None:
        for problem, level in plausible.key(info):
            yield Finding(part, key, "", problem, level)
    inside = (span[:, 0] >= 0) & (span[:, 0] < span[:, 1]) & (span[:, 1] <= rows)
    for i in np.flatnonzero(~inside).tolist():
        start, stop = span[i].tolist()
        yield Finding(part, key, clips[i], f"its span [{start}, {stop}) lies outside the {rows} rows")
    numbers = np.flatnonzero(inside)
    for looked in look(group, span[inside]):
        i = int(numbers[looked.i])
        for problem in _problems(looked, digests[i]):
            yield Finding(part, key, clips[i], problem)
        if plausible is not None and not looked.problem:
            for problem, level in plausible.clip(info, clips[i], looked):
                yield Finding(part, key, clips[i], problem, level)
    for clip in sorted(set(clips).intersection(failed)):
        yield Finding(part, key, clip, f"has rows and is in /failed as well: {failed[clip]}")


def _problems(looked: Looked, digest: NDArray[np.uint8]) -> Iterator[str]:
    if looked.problem:
        yield f"its rows cannot be read: {looked.problem}"
        return
    if looked.digest != digest.tobytes():
        yield "its rows do not match their checksum"
    if looked.traits.bad:
        yield f"{looked.traits.bad} of {looked.traits.values} values are NaN or infinite"
    window_ns = looked.window_ns
    if (window_ns[:, 0] < 0).any() or (window_ns[:, 0] >= window_ns[:, 1]).any():
        yield "a window does not have 0 <= start < stop"
    if (looked.valid > 1).any():
        yield "valid holds something else than 0 and 1"
