"""Reading some clips of a store once: their means for the maps, their cosines for self-similarity. Bounded, seed fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from extract.errors import ExtractError
from extract.grid import NS
from extract.store import Store
from extract.store.rows import KeyInfo, Rows

SEED = 0
CLIPS_MOST = 3_000
POINTS_MOST = 9_000  # of all maps together: each is a hundred bytes of the page
READ_BYTES = 512 * 2**20  # per key
SIMILAR_CLIPS = 200
ROWS_COMPARED = 256  # of a clip; longer ones by their first rows
LAGS = 64

Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """What was read of one key.

    Parameters
    ----------
    key
        its name
    ids
        n clips that have at least one valid row
    means
        (n, D) float32, of each clip's valid rows, flattened
    ends_s
        by clip id: where its last window ends
    rows, valid_rows, bad_rows
        in all that was read: rows, those of them that the clip filled, those with NaN or infinite values
    hop_s
        between the starts of two rows; 0: unknown
    lag
        (L,) mean cosine of two rows so many rows apart; empty: no clip has two rows
    picture
        (R, R) mean cosine over the clips that have R rows, the most frequent number; NaN where there is none
    compared, pictured
        clips behind `lag` and `picture`
    unread
        what could not be read, and why; the first few
    """

    key: str
    ids: tuple[str, ...]
    means: Float
    ends_s: dict[str, float]
    rows: int
    valid_rows: int
    bad_rows: int
    hop_s: float
    lag: NDArray[np.float64]
    picture: NDArray[np.float64]
    compared: int
    pictured: int
    unread: tuple[str, ...]


@dataclass(slots=True)
class _Similar:
    """Sums of cosines over clips."""

    rows: int
    total: NDArray[np.float64] = field(init=False)
    count: NDArray[np.int64] = field(init=False)
    lag: NDArray[np.float64] = field(default_factory=lambda: np.zeros(LAGS))
    pairs: NDArray[np.int64] = field(default_factory=lambda: np.zeros(LAGS, np.int64))
    compared: int = 0
    pictured: int = 0

    def __post_init__(self) -> None:
        self.total, self.count = np.zeros((self.rows, self.rows)), np.zeros((self.rows, self.rows), np.int64)

    def add(self, table: NDArray[np.float64]) -> None:
        there = np.isfinite(table)
        filled = np.where(there, table, 0.0)
        for apart in range(min(LAGS, len(table))):
            self.lag[apart] += np.trace(filled, apart)
            self.pairs[apart] += np.trace(there, apart)
        self.compared += 1
        if len(table) == self.rows:
            self.total += filled
            self.count += there
            self.pictured += 1


def choose(store: Store, keys: int) -> tuple[str, ...]:
    """Clips to look at, the same for every key, so that the maps can be compared; in random order."""
    ids = store.clip_ids()
    most = min(CLIPS_MOST, max(1, POINTS_MOST // max(1, keys)))
    if len(ids) <= most:
        return ids
    return tuple(ids[i] for i in np.random.default_rng(SEED).choice(len(ids), most, replace=False).tolist())


def look(store: Store, info: KeyInfo, ids: Sequence[str]) -> Looked:
    """Read those of the clips that have the key, as many as the budget of bytes allows."""
    clips, counts = store.clips(info.key), store.counts(info.key)
    rows_of = dict(zip(clips, counts.tolist(), strict=True))
    row_bytes = int(np.prod(info.dims, dtype=np.int64)) * np.dtype(info.storage).itemsize
    there = [clip_id for clip_id in ids if clip_id in rows_of]
    total_bytes = np.cumsum([rows_of[clip_id] * row_bytes for clip_id in there])
    there = there[: int(np.searchsorted(total_bytes, READ_BYTES, side="right"))]
    usual = np.bincount(np.minimum([rows_of[clip_id] for clip_id in there], ROWS_COMPARED)) if there else np.zeros(1)
    similar = _Similar(int(usual.argmax()))
    found: list[tuple[str, Float]] = []
    ends_s: dict[str, float] = {}
    hops: list[float] = []
    unread: list[str] = []
    rows = valid_rows = bad_rows = 0
    for clip_id in store.file_order(there, info.key):
        try:
            read = store.rows(clip_id, info.key)
        except ExtractError as error:
            unread.append(str(error))
            continue
        data = read.data.reshape(len(read.data), -1).astype(np.float32, copy=False)
        finite = np.isfinite(data).all(axis=1)
        shown = (read.valid > 0) & finite
        rows, valid_rows, bad_rows = (
            rows + len(data),
            valid_rows + int((read.valid > 0).sum()),
            bad_rows + int((~finite).sum()),
        )
        ends_s[clip_id] = float(read.window_ns[-1, 1]) / NS
        if len(data) > 1 and len(hops) < SIMILAR_CLIPS:
            hops.append(hop_s(read))
        if shown.any():
            found.append((clip_id, data[shown].mean(axis=0)))
        if len(data) > 1 and similar.compared < SIMILAR_CLIPS:
            similar.add(cosines(data[:ROWS_COMPARED], shown[:ROWS_COMPARED]))
    found.sort(key=lambda item: item[0])
    dims = int(np.prod(info.dims, dtype=np.int64))
    with np.errstate(invalid="ignore", divide="ignore"):
        lag = similar.lag / similar.pairs
        picture = similar.total / similar.count
    return Looked(
        info.key,
        tuple(clip_id for clip_id, _ in found),
        np.stack([mean for _, mean in found]) if found else np.zeros((0, dims), np.float32),
        ends_s,
        rows,
        valid_rows,
        bad_rows,
        float(np.median(hops)) if hops else 0.0,
        lag[: int(np.flatnonzero(similar.pairs).max(initial=-1)) + 1],
        picture,
        similar.compared,
        similar.pictured,
        tuple(unread),
    )


def hop_s(rows: Rows) -> float:
    """Seconds between the starts of two rows of a clip that has at least two."""
    return float(np.median(np.diff(rows.window_ns[:, 0]))) / NS


def cosines(data: Float, shown: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(R, R) cosine of every two rows; NaN for rows that are not shown or have no length."""
    lengths = np.linalg.norm(np.where(shown[:, None], data, 0.0).astype(np.float64), axis=1)
    unit = np.full(data.shape, np.nan, np.float32)
    there = lengths > 0
    unit[there] = data[there] / lengths[there, None]
    return np.asarray(unit @ unit.T, np.float64)
