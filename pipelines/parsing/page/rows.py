"""The rows of a timeline: stretches of time with labels, of what is heard, seen, and both, in truth and as predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError

EPS = 1e-9
Event = tuple[float, float, str]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a timeline.

    Parameters
    ----------
    name
        such as ``A truth``
    events
        (start_s, stop_s, label), half-open, seconds from the clip's start
    """

    name: str
    events: Sequence[Event]


def runs(matrix: NDArray[np.generic], classes: Sequence[str], *, hop_s: float = 1.0) -> list[Event]:
    """Stretches of consecutive rows in which a class is present.

    Parameters
    ----------
    matrix
        (T, C), bool or 0/1
    classes
        C names
    hop_s
        seconds per row

    Returns
    -------
    list
        (start_s, stop_s, label), by start, then by class

    Raises
    ------
    PlanError
        the matrix is not (T, C)
    """
    if matrix.ndim != 2 or matrix.shape[1] != len(classes):
        raise PlanError(f"a timeline needs (seconds, {len(classes)} classes), got an array of shape {matrix.shape}")
    edges = np.zeros((matrix.shape[0] + 2, matrix.shape[1]), np.int8)
    edges[1:-1] = matrix != 0
    change = np.diff(edges, axis=0).T
    starts, stops = np.argwhere(change == 1), np.argwhere(change == -1)
    found = [(int(a), int(b), int(c)) for (c, a), (_, b) in zip(starts, stops, strict=True)]
    return [(a * hop_s, b * hop_s, classes[c]) for a, b, c in sorted(found, key=lambda run: (run[0], run[2]))]


def avvp_rows(
    classes: Sequence[str],
    predicted: tuple[NDArray[np.generic], NDArray[np.generic]],
    truth: tuple[NDArray[np.generic], NDArray[np.generic]] | None = None,
    *,
    hop_s: float = 1.0,
) -> tuple[Row, ...]:
    """The six rows of an AVVP clip; three where the truth is not known.

    Parameters
    ----------
    classes
        C names
    predicted, truth
        heard (T, C) and seen (T, C), bool or 0/1
    hop_s
        seconds per row
    """
    told = [("truth", truth), ("predicted", predicted)]
    rows = []
    for modality, pick in (("A", 0), ("V", 1), ("AV", 2)):
        for name, parse in told:
            if parse is not None:
                heard, seen = parse[0] != 0, parse[1] != 0
                matrix = (heard, seen, heard & seen)[pick]
                rows.append(Row(f"{modality} {name}", runs(matrix, classes, hop_s=hop_s)))
    return tuple(rows)


def ave_rows(
    classes: Sequence[str],
    predicted: NDArray[np.integer],
    truth: NDArray[np.integer] | None = None,
    *,
    hop_s: float = 1.0,
) -> tuple[Row, ...]:
    """The pair of rows of an AVE clip; one where the truth is not known.

    Parameters
    ----------
    classes
        C names, the background last; it is not drawn
    predicted, truth
        (T,), the class of each second
    hop_s
        seconds per row
    """
    told = [("AV truth", truth), ("AV predicted", predicted)]
    numbers = np.arange(len(classes) - 1)
    return tuple(
        Row(name, runs(parse[:, None] == numbers, classes[:-1], hop_s=hop_s))
        for name, parse in told
        if parse is not None
    )


def labels_of(rows: Sequence[Row]) -> list[str]:
    """Labels in the order in which a timeline shows them in every row: of the first start, then of the rows."""
    order = sorted((start, i, label) for i, row in enumerate(rows) for start, _, label in row.events)
    return list(dict.fromkeys(label for _, _, label in order))


def check(seconds: float, rows: Sequence[Row]) -> None:
    """Refuse what no timeline can show.

    Raises
    ------
    PlanError
        no seconds, or an event outside them
    """
    if not 0 < seconds < float("inf"):
        raise PlanError(f"a timeline needs a length above 0 s, got {seconds:g}")
    for row in rows:
        for start, stop, label in row.events:
            if not 0 <= start < stop <= seconds + EPS:
                raise PlanError(
                    f"{row.name}: {label!r} from {start:g} to {stop:g} s does not lie in a clip of {seconds:g} s"
                )
