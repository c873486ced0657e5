"""What was asked for and what is there: the steps that the layouts have in common."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError, StoreError
from extract.store.export.report import Exported, Missing
from extract.store.export.whole import is_there, whole
from extract.store.rows import KeyInfo, Rows
from extract.store.sink import unwritable

if TYPE_CHECKING:
    from extract.store import Store

DType = Literal["float32", "float16"]


@dataclass(slots=True)
class Tally:
    """What an export has done so far.

    Parameters
    ----------
    files, kept, size_bytes
        see :class:`~extract.store.export.report.Exported`
    masked_rows
        rows that a policy filled
    """

    files: int = 0
    kept: int = 0
    size_bytes: int = 0
    masked_rows: int = 0

    def file(self, written: int) -> None:
        """Count a file of `written` bytes; 0: it was there."""
        self.files += written > 0
        self.kept += written == 0
        self.size_bytes += written

    def mask(self, rows: Rows) -> None:
        """Count the rows that a policy filled."""
        self.masked_rows += int(np.count_nonzero(rows.valid == 0))

    def exported(self, missing: Sequence[Missing], notes: Sequence[str] = ()) -> Exported:
        """The outcome; where masked rows were counted, a note says how many stand among the others."""
        if self.masked_rows:
            told = (
                f"masked rows: {self.masked_rows:,}; they stand among the others, because this layout has no place to mark "
                "them (npy, openl3, webdataset, safetensors and parquet have)"
            )
            notes = (*notes, told)
        return Exported(self.files, self.kept, self.size_bytes, tuple(missing), tuple(notes))


def look_up(store: Store, keys: Sequence[str], ids: Sequence[str]) -> tuple[dict[str, list[str]], list[Missing]]:
    """Who has rows, by key and in the order of `ids`; and who has none, with the store's reason."""
    there: dict[str, list[str]] = {}
    absent: list[tuple[str, str]] = []
    for key in keys:
        found = (store.find_all(ids, key) >= 0).tolist()
        there[key] = list(itertools.compress(ids, found))
        absent += [(clip_id, key) for clip_id, has in zip(ids, found, strict=True) if not has]
    if not absent:
        return there, []
    failed = {(each.clip_id, each.key): f"{each.reason} ({each.stage}): {each.message}" for each in store.failed()}
    return there, [Missing(clip, key, failed.get((clip, key), "the store has no rows of it")) for clip, key in absent]


def with_rows(store: Store, keys: Sequence[str], ids: Sequence[str]) -> list[str]:
    """Those of `ids`, in their order, that have rows under any of `keys`."""
    found = np.zeros(len(ids), bool)
    for key in keys:
        found |= store.find_all(ids, key) >= 0
    return list(itertools.compress(ids, found.tolist()))


def infos(store: Store, keys: Sequence[str]) -> dict[str, KeyInfo]:
    """What the store says of each of `keys`, in their order."""
    known = {info.key: info for info in store.keys()}  # noqa: SIM118 - no mapping
    return {key: known[key] for key in keys}


def cast(rows: Rows, dtype: DType | None) -> NDArray[Any]:
    """The data of `rows` as `dtype`, or as stored for None.

    Raises
    ------
    StoreError
        a number of the rows is too large for float16
    """
    if dtype is None or rows.data.dtype == np.dtype(dtype):
        return rows.data
    with np.errstate(over="ignore"):
        data = rows.data.astype(dtype)
    if dtype == "float16" and bool((np.isfinite(data) != np.isfinite(rows.data)).any()):
        largest = float(np.nanmax(np.abs(rows.data[np.isfinite(rows.data)])))
        raise StoreError(
            f"clip {rows.clip_id!r}, {rows.key}: {largest:g} does not fit into float16, which ends at 65504; "
            "export with --dtype float32"
        )
    return data


def row_bytes(info: KeyInfo, dtype: DType | None) -> int:
    """Bytes of one row's numbers in an export as `dtype`.

    Raises
    ------
    PlanError
        `dtype` is none that exports have
    """
    if dtype not in (None, *get_args(DType)):
        raise PlanError(f"an export's numbers are {' or '.join(get_args(DType))}, not {dtype!r}")
    return math.prod(info.dims) * np.dtype(dtype or info.storage).itemsize


def needed_bytes(store: Store, there: Mapping[str, Sequence[str]], dtype: DType | None) -> int:
    """Bytes of the rows of `there`, for the message of a full disk."""
    return sum(
        int(store.counts(key)[store.find_all(there[key], key)].sum()) * row_bytes(info, dtype)
        for key, info in infos(store, [key for key, clips in there.items() if clips]).items()
    )


def shards(ids: Sequence[str], shard_clips: int) -> Iterator[tuple[int, Sequence[str]]]:
    """Cut `ids` into numbered shards of `shard_clips`.

    Which clip is in which shard depends on `ids` alone, so that an export that is given again continues, also where the
    store's parts were packed in between.

    Raises
    ------
    PlanError
        `shard_clips` is below 1
    """
    if shard_clips < 1:
        raise PlanError(f"--shard-clips must be at least 1, got {shard_clips}")
    firsts = range(0, len(ids), shard_clips)
    return ((number, ids[first : first + shard_clips]) for number, first in enumerate(firsts))


def make_folder(path: Path) -> Path:
    """Make a folder and those above it.

    Raises
    ------
    StoreUnwritable
        it cannot be made
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, 0, error) from error
    return path


def write_bytes(path: Path, data: bytes | memoryview, needed: int = 0) -> int:
    """Write a file of these bytes unless one of that size is there, like :func:`~extract.store.export.whole.write_npy`."""
    if is_there(path, len(data)):
        return 0
    with whole(path, max(needed, len(data))) as file:
        file.write(data)
    return len(data)


def write_csv(path: Path, header: Sequence[str], lines: Callable[[], Iterable[Sequence[str]]]) -> int:
    """Write a list anew, also where one is there: it may name places that have changed.

    Parameters
    ----------
    path
        of the file
    header
        names of the columns
    lines
        makes the lines; asked twice, first for their size

    Returns
    -------
    int
        bytes written
    """
    size = sum(map(len, _encoded(header, lines())))
    with whole(path, size) as file:
        file.writelines(_encoded(header, lines()))
    return size


def _encoded(header: Sequence[str], lines: Iterable[Sequence[str]]) -> Iterator[bytes]:
    for line in itertools.chain((header,), lines):
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerow(line)
        yield text.getvalue().encode()
