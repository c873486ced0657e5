"""What a layout finds in a folder of released features, and how one of its arrays becomes rows of a store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import BadFeature
from extract.plan import canonical_json, key_of
from extract.store.rows import KeyInfo, Rows
from manifests.clip import Clip
from manifests.dense import Event

UNKNOWN = "imported, provenance unknown"


@dataclass(frozen=True, slots=True)
class Column:
    """One feature of a release.

    Parameters
    ----------
    info
        what the store keeps once of it
    rows
        per clip
    hop_ns
        length of a row's window, and distance to the next
    """

    info: KeyInfo
    rows: int
    hop_ns: int


@dataclass(frozen=True, slots=True)
class Release:
    r"""A folder of released features, opened.

    Parameters
    ----------
    columns
        the features in it
    clips
        what it lists, in its order; not all of them need to have features
    has
        whether there is an array of a clip and key
    load
        that array, (rows, \\*dims), perhaps not read yet; raises BadFeature where it cannot be read
    events
        labels with times, where the release has them
    notes
        sentences for the user
    """

    columns: tuple[Column, ...]
    clips: tuple[Clip, ...]
    has: Callable[[str, str], bool]
    load: Callable[[str, str], NDArray[Any]]
    events: tuple[Event, ...] = ()
    notes: tuple[str, ...] = field(default=())


def column(backbone: str, dims: tuple[int, ...], rows: int, hop_ns: int, layout: str, name: str) -> Column:
    """A feature whose identity is that it was imported: how it was computed is not known, and not claimed.

    Parameters
    ----------
    backbone
        the network its publishers name
    dims, rows, hop_ns
        shape of a row, rows per clip, nanoseconds per row
    layout, name
        where it comes from; both are part of the key
    """
    identity = canonical_json(
        {
            "backbone": backbone,
            "imported": {"layout": layout, "name": name},
            "grid": {"window_ns": hop_ns, "hop_ns": hop_ns, "count": rows},
        }
    )
    view = canonical_json([{"kind": UNKNOWN}])
    return Column(KeyInfo(key_of(identity), identity, view, UNKNOWN, f"unknown ({UNKNOWN})", dims), rows, hop_ns)


def as_rows(clip_id: str, column: Column, array: NDArray[Any]) -> tuple[Rows, bool]:
    """An array of a release as rows of a store, and whether its numbers had to be rounded to float32.

    Every row is valid, and shows no time of its source: a release says neither.

    Raises
    ------
    BadFeature
        another shape or type than the layout has, NaN, infinity, or numbers beyond float32
    """
    shape = (column.rows, *column.info.dims)
    if array.shape != shape:
        raise BadFeature(f"has shape {array.shape}, the layout has {shape}")
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise BadFeature(f"holds {array.dtype}, must hold float32 or float64")
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise BadFeature(f"{bad} of {array.size} values are NaN or infinite")
    with np.errstate(over="ignore"):
        data = np.array(array, dtype="<f4", order="C")
    if not np.isfinite(data).all():
        raise BadFeature(f"values up to {np.abs(array).max():.3g} do not fit into float32")
    start = np.arange(column.rows, dtype=np.int64) * column.hop_ns
    rows = Rows(
        clip_id,
        column.info.key,
        data,
        np.stack([start, start + column.hop_ns], axis=1),
        np.ones(column.rows, np.uint8),
        np.full((column.rows, 1), -1, np.int64),
    )
    return rows, bool((data != array).any())
