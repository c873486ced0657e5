"""Check a store against itself: everything that a part says is compared with what it holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from extract.errors import DamagedPart, StoreError
from extract.plan import key_of
from extract.store.layout import KEY_SETS, REMARK_COLUMNS, REMARKS, ROW_SETS, array_digest, row_digest
from extract.store.merge import is_piece, list_parts
from extract.store.reader import open_part, read_attr, read_info, read_remarks, read_rows, spans_tile
from extract.store.rows import Rows
from extract.store.runs import holder

_BROKEN = (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, AttributeError)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    Parameters
    ----------
    part
        file name
    key, clip
        where in it; empty where that cannot be said
    problem
        for a person
    level
        ``damage``: something is wrong or lost; ``leftover``: of a run that was killed, the next run tidies it up
    """

    part: str
    key: str
    clip: str
    problem: str
    level: Literal["damage", "leftover"] = "damage"


def verify(store_path: Path) -> list[Finding]:
    """Read all of a store and report everything that is wrong with it; it never stops at the first.

    Parameters
    ----------
    store_path
        folder of a store; a run may be writing to it

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
    seen: dict[tuple[str, str], tuple[str, bytes]] = {}
    for path in list_parts(folder):
        try:
            findings += _verify(path, seen)
        except FileNotFoundError:
            continue  # merged by a run since it was listed
        if is_piece(path) and not busy:
            findings.append(
                Finding(path.name, "", "", "a piece of a chunk that is not complete; run again", "leftover")
            )
    if not busy:
        for path in sorted(folder.glob(".*.tmp")):
            findings.append(Finding(path.name, "", "", "half-written by a run that was killed; run again", "leftover"))
    return findings


def verify_part(path: Path) -> list[Finding]:
    """What is wrong with one part: schema, spans, checksums, keys, values; see :func:`verify`."""
    return list(_verify(path, {}))


def _verify(path: Path, seen: dict[tuple[str, str], tuple[str, bytes]]) -> Iterator[Finding]:
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
            read_attr(file, "provenance")
            keys = sorted(file)
        except _BROKEN as error:
            yield Finding(name, "", "", f"its root cannot be read: {error}")
            return
        there: set[tuple[str, str]] = set()
        for key in keys:
            if key not in REMARKS:
                for clip, problem, digest in _key(file, key):
                    if problem:
                        yield Finding(name, key, clip, problem)
                    if digest:
                        there.add((clip, key))
                        part, known = seen.setdefault((clip, key), (name, digest))
                        if known != digest:
                            yield Finding(name, key, clip, f"its rows differ from those in {part}")
        for group in REMARKS:
            yield from _remarks(name, file, group, there)


def _remarks(part: str, file: h5py.File, name: str, there: set[tuple[str, str]]) -> Iterator[Finding]:
    try:
        sound = True
        for column in REMARK_COLUMNS:
            problem = _checksum(file[name][column])
            if problem:
                sound = False
                yield Finding(part, "", "", f"/{name}/{column}: {problem}")
        for each in read_remarks(file[name]) if sound else ():
            if name == "failed" and (each.clip_id, each.key) in there:
                yield Finding(part, each.key, each.clip_id, f"has rows and is in /failed as well: {each.reason}")
    except _BROKEN as error:
        yield Finding(part, "", "", f"/{name} cannot be read: {error}")


def _key(file: h5py.File, key: str) -> Iterator[tuple[str, str, bytes]]:
    """Clip, problem and digest of each clip under a key; an empty problem is none, an empty clip stands for the key."""
    try:
        group = file[key]
        info = read_info(group, key)
        missing = sorted(set(KEY_SETS) - set(group))
        if missing:
            yield "", f"lacks {', '.join(missing)}", b""
            return
        if key_of(info.identity) != key:
            yield "", f"its identity is that of {key_of(info.identity)}", b""
        for name in ("span", "clip", "sha256"):
            problem = _checksum(group[name])
            if problem:
                yield "", f"{name}: {problem}", b""
        # A damaged name must not hide the rest.
        clips = [raw.decode(errors="backslashreplace") for raw in group["clip"][...].tolist()]
        span, digests = group["span"][...], group["sha256"][...]
        counts = {name: int(group[name].shape[0]) for name in ROW_SETS}
        if len(set(counts.values())) > 1:
            yield "", f"its datasets have different numbers of rows: {counts}", b""
        if len(span) != len(clips) or len(digests) != len(clips):
            yield "", f"{len(clips)} clips, but {len(span)} spans and {len(digests)} digests", b""
            return
        rows = min(counts.values())
        if not spans_tile(span, rows):
            yield "", f"its spans do not tile its {rows} rows without gap or overlap", b""
    except _BROKEN as error:
        yield "", f"cannot be read: {error}", b""
        return
    for i, clip in enumerate(clips):
        if clip in clips[:i]:
            yield clip, "is there twice", b""
        start, stop = map(int, span[i])
        if not 0 <= start < stop <= rows:
            yield clip, f"its span [{start}, {stop}) lies outside the {rows} rows", b""
            continue
        try:
            content = read_rows(file, clip, key, start, stop)
        except _BROKEN as error:
            yield clip, f"its rows cannot be read: {error}", b""
            continue
        digest = row_digest(content)
        if digest != digests[i].tobytes():
            yield clip, "its rows do not match their checksum", b""
        for problem in _values(content):
            yield clip, problem, b""
        yield clip, "", digest


def _values(rows: Rows) -> Iterator[str]:
    bad = int((~np.isfinite(rows.data)).sum())
    if bad:
        yield f"{bad} of {rows.data.size} values are NaN or infinite"
    if (rows.window_ns[:, 0] < 0).any() or (rows.window_ns[:, 0] >= rows.window_ns[:, 1]).any():
        yield "a window does not have 0 <= start < stop"
    if (rows.valid > 1).any():
        yield "valid holds something else than 0 and 1"


def _checksum(dataset: Any) -> str:
    found = array_digest(dataset[...])
    said = read_attr(dataset, "sha256")
    return "" if said == found else f"checksum is {found[:12]}..., the part says {said[:12]}..."
