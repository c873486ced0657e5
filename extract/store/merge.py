"""Rewriting parts: merge the pieces of a chunk, drop remarks so that their clips are computed again, sweep up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py

from extract.errors import DamagedPart
from extract.plan import canonical_json
from extract.store.layout import Entry, row_digest, write_part
from extract.store.reader import PartIndex, index_part, open_part, read_rows, reading
from extract.store.rows import KeyInfo, Remark, Rows
from extract.store.sink import fsync_folder, unwritable


@dataclass(frozen=True, slots=True)
class Source:
    """One clip's rows of one key in an open part; they are read, and their checksum compared, when they are written."""

    index: PartIndex
    file: h5py.File
    key: str
    i: int

    @property
    def clip_id(self) -> str:
        """Whose rows."""
        return self.index.keys[self.key].clips[self.i]

    @property
    def digest(self) -> bytes:
        """Of the rows, as the part says."""
        return bytes(self.index.keys[self.key].sha256[self.i])

    def entry(self) -> Entry:
        """As something to be written to another part."""
        key = self.index.keys[self.key]
        start, stop = map(int, key.span[self.i])
        return Entry(self.clip_id, self.key, key.info.dims, stop - start, key.sources, self.load, key.info.storage)

    def load(self) -> Rows:
        """The rows.

        Raises
        ------
        DamagedPart
            they do not match their checksum
        """
        start, stop = map(int, self.index.keys[self.key].span[self.i])
        with reading(self.index.path):
            rows = read_rows(self.file, self.clip_id, self.key, start, stop)
        if row_digest(rows) != self.digest:  # or the damage would be sealed again under a fresh checksum
            raise DamagedPart(
                f"{self.index.path}: the rows of clip {self.clip_id!r}, {self.key}, do not match their checksum; "
                "delete the part and run again, its clips are computed anew"
            )
        return rows


def list_parts(folder: Path) -> list[Path]:
    """Every visible ``.h5`` of a ``parts/`` folder, whole chunks and pieces, by name."""
    return sorted(path for path in folder.glob("*.h5") if not path.name.startswith("."))


def by_age(paths: Sequence[Path]) -> list[Path]:
    """Oldest first: where remarks differ the newest holds. At one instant, a merged part is newer than its pieces."""
    return sorted(paths, key=lambda path: (path.stat().st_mtime_ns, not is_piece(path), path.name))


def is_piece(path: Path) -> bool:
    """Whether a part is a piece of a chunk still under way."""
    return path.name.endswith(".piece.h5")


def merge_chunk(parts_folder: Path, chunk_name: str, order: Sequence[str]) -> Path | None:
    """Merge the pieces of a chunk, and its part if there is one, into ``<chunk>.h5``.

    The result has the bytes of a part sealed at once. Rows win over failures, the newest of several failures holds. A
    crash at any point leaves a store that reads the same, and the next merge finishes the work.

    Parameters
    ----------
    parts_folder, chunk_name
        where
    order
        every clip id of the chunk, in the manifest's order

    Returns
    -------
    Path or None
        the part; None where the chunk has neither part nor piece

    Raises
    ------
    DamagedPart
        a file is broken, holds a clip of another chunk, or two files hold different rows of one clip; names the files
    StoreUnwritable
        no space, no permission, ...; the pieces stay
    """
    whole = parts_folder / f"{chunk_name}.h5"
    pieces = sorted(parts_folder.glob(f"{chunk_name}.*.piece.h5"))
    if not pieces:
        return whole if whole.exists() else None
    if len(pieces) == 1 and not whole.exists():
        with _writing(whole):
            pieces[0].rename(whole)
            fsync_folder(parts_folder)
        return whole
    _merge(whole, by_age([whole, *pieces] if whole.exists() else pieces), order)
    with _writing(whole):
        for piece in pieces:
            piece.unlink()
        fsync_folder(parts_folder)
    return whole


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(path, 0, error) from error


def _merge(whole: Path, paths: Sequence[Path], order: Sequence[str]) -> None:
    place = {clip_id: i for i, clip_id in enumerate(order)}
    infos: dict[str, KeyInfo] = {}
    first: dict[str, PartIndex] = {}
    found: dict[tuple[str, str], Source] = {}
    failed: dict[tuple[str, ...], Remark] = {}
    masked: dict[tuple[str, ...], Remark] = {}
    provenance: set[str] = set()
    compression = "none"
    with ExitStack() as stack:
        for path in paths:
            index = index_part(path)
            _check_order(index, place)
            for key in index.keys:
                _check_shapes(first.setdefault(key, index), index, key)
            for source in sources(index, stack.enter_context(open_part(path))):
                _add(found, source)
            compression = index.compression if index.keys else compression
            infos |= {key: entry.info for key, entry in index.keys.items()}
            failed |= {(each.clip_id, each.key): each for each in index.failed}
            masked |= {(each.clip_id, each.key, each.stage, each.reason): each for each in index.masked}
            provenance |= {canonical_json(each) for each in json.loads(index.provenance)}

        def rank(remark: Remark) -> tuple[int, str, str, str]:
            return place[remark.clip_id], remark.key, remark.stage, remark.reason

        write_part(
            whole,
            infos,
            [found[name].entry() for name in sorted(found, key=lambda name: (name[1], place[name[0]]))],
            sorted((each for name, each in failed.items() if name not in found), key=rank),
            sorted(masked.values(), key=rank),
            f"[{','.join(sorted(provenance))}]",
            compression,
        )


def _check_order(index: PartIndex, place: dict[str, int]) -> None:
    clips = [clip for entry in index.keys.values() for clip in entry.clips]
    clips += [each.clip_id for each in (*index.failed, *index.masked)]
    for clip in clips:
        if clip not in place:
            raise DamagedPart(f"{index.path} holds clip {clip!r}, which is not of its chunk; move it out of parts/")


def _check_shapes(first: PartIndex, index: PartIndex, key: str) -> None:
    a, b = first.keys[key], index.keys[key]
    if (a.info.dims, a.sources) != (b.info.dims, b.sources):
        raise DamagedPart(
            f"{first.path} and {index.path} hold rows of different shape under {key}: {a.info.dims} with {a.sources} "
            f"source times, {b.info.dims} with {b.sources}; delete one of them and run again"
        )


def _add(found: dict[tuple[str, str], Source], new: Source) -> None:
    old = found.setdefault((new.clip_id, new.key), new)
    if old.digest != new.digest:
        raise DamagedPart(
            f"{old.index.path} and {new.index.path} hold different rows of clip {new.clip_id!r}, {new.key}: "
            "delete one of them and run again"
        )


def sources(index: PartIndex, file: h5py.File) -> Iterator[Source]:
    """Every clip's rows in an open part, in their order on disk."""
    for key, entry in index.keys.items():
        for i in range(len(entry.clips)):
            yield Source(index, file, key, i)


def drop_remarks(parts_folder: Path, predicate: Callable[[Remark], bool]) -> int:
    """Forget what went wrong, so that the next run computes it again.

    Parameters
    ----------
    parts_folder
        ``parts/`` of a store that nobody writes to (hold its lock)
    predicate
        which remarks of ``/failed`` and ``/masked`` go; with a failure go all that older parts say of that clip and key, with
        a masked remark the rows

    Returns
    -------
    int
        remarks dropped, each counted once

    Raises
    ------
    DamagedPart, StoreUnwritable
        see :func:`merge_chunk`; parts are rewritten one by one, each atomically
    """
    indices = [index_part(path) for path in by_age(list_parts(parts_folder))]
    newest = {(each.clip_id, each.key): each for index in indices for each in index.failed}
    kept = {name: each for name, each in newest.items() if not predicate(each)}
    masked = {each for index in indices for each in index.masked if predicate(each)}
    rows = {(each.clip_id, each.key) for each in masked}
    for index in indices:
        if any((each.clip_id, each.key) not in kept for each in index.failed) or not rows.isdisjoint(_names(index)):
            _rewrite(index, kept, rows)
    return len(newest) - len(kept) + len({(each.clip_id, each.key, each.stage, each.reason) for each in masked})


def _names(index: PartIndex) -> Iterator[tuple[str, str]]:
    for key, entry in index.keys.items():
        yield from ((clip_id, key) for clip_id in entry.clips)
    yield from ((each.clip_id, each.key) for each in index.masked)


def _rewrite(index: PartIndex, failures: Mapping[tuple[str, str], Remark], drop_rows: set[tuple[str, str]]) -> None:
    # a part that is written anew is the newest, so it must not repeat what a later part took back
    failed = [each for each in index.failed if failures.get((each.clip_id, each.key)) == each]
    masked = [each for each in index.masked if (each.clip_id, each.key) not in drop_rows]
    with open_part(index.path) as file:
        kept = [each for each in sources(index, file) if (each.clip_id, each.key) not in drop_rows]
        if kept or failed or masked:
            infos = {key: entry.info for key, entry in index.keys.items()}
            write_part(
                index.path,
                infos,
                [source.entry() for source in kept],
                failed,
                masked,
                index.provenance,
                index.compression,
            )
            return
    with _writing(index.path):
        index.path.unlink()
        fsync_folder(index.path.parent)


def sweep_tmp(folder: Path) -> int:
    """Remove what killed writers left half-written; call it with the store's lock held. Gives the number of files."""
    stale = sorted(folder.glob(".*.tmp"))
    for path in stale:
        path.unlink(missing_ok=True)
    return len(stale)
