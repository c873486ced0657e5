"""What a decode says, in the order it happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import ClipError

Int = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Opened:
    """The first thing a decode says: what each tap will give. A second one voids everything given before it.

    Parameters
    ----------
    windows_ns
        per tap, (R, 2) int64: also where `errors` says why there is nothing, for policies that fill it
    errors
        by position of the tap
    """

    windows_ns: tuple[Int, ...]
    errors: dict[int, ClipError]


@dataclass(frozen=True, slots=True)
class Block:
    """Some consecutive rows of one tap.

    Parameters
    ----------
    tap
        position of the tap
    first_row
        of the block
    data
        (k, t, h, w, 3) uint8, or float32 where the view's interpolation is ``linear``; or (k, samples) float32
    valid
        (k,) uint8
    source_ns
        (k, t) presentation times of the frames, or (k, 1) of the first sample; all -1: the row is to be zeros
    """

    tap: int
    first_row: int
    data: NDArray[Any]
    valid: NDArray[np.uint8]
    source_ns: Int


@dataclass(frozen=True, slots=True)
class Broken:
    """A tap fails in the middle; its blocks so far are void."""

    tap: int
    error: ClipError


Event = Opened | Block | Broken
