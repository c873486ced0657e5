"""What goes into a store: rows of one clip under one key, and what there is to say where rows are missing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extract.plan import Storage

DataArray = NDArray[np.float32] | NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Rows:
    r"""One clip's rows of one feature.

    Parameters
    ----------
    clip_id, key
        whose they are
    data
        (R, \\*dims) float32, or float16 where the feature is stored so
    window_ns
        (R, 2) int64, half-open, from the clip's start
    valid
        (R,) uint8; 0: a policy filled this row, the clip did not
    source_ns
        (R, t) int64, presentation times of the t source frames a row was made from, or of its first sample (t = 1);
        -1 where there was none
    """

    clip_id: str
    key: str
    data: DataArray
    window_ns: NDArray[np.int64]
    valid: NDArray[np.uint8]
    source_ns: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Remark:
    """Why a clip has no rows of a feature (in ``/failed``), or why a policy filled some of them (in ``/masked``).

    Parameters
    ----------
    clip_id, key
        whose
    stage
        where it arose: ``open``, ``decode``, ``audio``, ``model``, ``engine``
    reason
        the short name that ``status`` and ``retry --reason`` use (extract.errors.clip_reasons)
    message
        the whole story, for a person
    """

    clip_id: str
    key: str
    stage: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What is stored once per key.

    Parameters
    ----------
    key
        ``name@12 hex`` of the identity
    identity
        in canonical JSON
    view, weights, licence
        the views in JSON, which weights, and under which terms
    dims
        shape of one row
    storage
        type of the stored numbers
    """

    key: str
    identity: str
    view: str
    weights: str
    licence: str
    dims: tuple[int, ...]
    storage: Storage = "float32"
