"""Recall@1 of the most similar second, within a modality and from one to the other: Table 1 of the paper. numpy only.

A second takes part in a modality where it has a label there: seconds in which nothing is heard (or seen) neither look for a
neighbour nor are found as one. Similarity is the cosine.

Source: Wu et al., Information Sciences 2022, §4.2.1 and Table 1: 97.14 % within a modality, 29.18 % across. The paper says
neither what "the same label" is where seconds have several, nor whether other seconds of the same clip count, nor which
clips and features it took, so both readings and both scopes are computed. Seconds of a clip are much alike, and mostly have
the same labels: within a modality, the scope ``all`` says little more than that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError, nearest
from pipelines.collocation.recall.neighbours import QUERIES, Scope, most_similar, with_labels

Slot = Literal["audio", "visual"]
Reading = Literal["shares a label", "equal labels"]
Labelled = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Recall:
    """How often the most similar second has the same label.

    Parameters
    ----------
    reading
        what having the same label is: at least one in common, or the same set
    scope
        where the neighbour may be: in any clip, or in any other than that of the second
    recall
        percent
    segments
        seconds with a label, which looked for a neighbour
    """

    reading: Reading
    scope: Scope
    recall: float
    segments: int


@dataclass(frozen=True, slots=True)
class Row:
    """A row of ``recall.csv``.

    Parameters
    ----------
    kind
        ``within`` a modality, or ``across`` the two
    direction
        from the modality of the seconds to that of their neighbours, such as ``audio to visual``; ``mean``: of both rows of
        this kind
    audio, visual
        short names of the backbones; one of them is empty for raw features
    features
        ``raw``: as they are in the store; ``streams``: those that enter a trained parser's fusion
    reading, scope, recall, segments
        as in :class:`Recall`; the mean's segments are those of both rows
    """

    kind: Literal["within", "across"]
    direction: str
    audio: str
    visual: str
    features: Literal["raw", "streams"]
    reading: Reading
    scope: Scope
    recall: float
    segments: int


COLUMNS = tuple(field.name for field in fields(Row))


def recall_at_1(
    one: Labelled, other: Labelled | None = None, *, what: str = "features", queries: int = QUERIES
) -> tuple[Recall, ...]:
    """How often the most similar second of `other` has the label of a second of `one`, by an exact search.

    Parameters
    ----------
    one
        (N, T, d) features and (N, T, C) of 0 and 1: the labels of this modality
    other
        the same of the other modality, for the same clips and in a space of the same d numbers; None: neighbours are looked
        for in `one` itself, where a second is no neighbour of itself
    what
        how errors call these features
    queries
        seconds compared at once; it changes time and memory only

    Returns
    -------
    tuple of Recall
        for each reading and each scope. Equally similar seconds: the first counts. Cosines are computed in float32, so that
        seconds whose similarities differ by some 1e-6 may pass for equally similar, equal vectors always do. A second of
        zeros has no direction: it counts as a miss, and is nobody's neighbour.

    Raises
    ------
    PlanError
        shapes do not fit, values are NaN or infinite, labels are not 0 and 1, no second of `one` has a label, or fewer than
        two clips have seconds to be found

    Notes
    -----
    From one modality to the other, the same second of the same clip may be found in the scope ``all``: there it is the very
    answer that aligned streams should give, and it is not the same vector. The labels must agree all the same, for what is
    heard is not always seen.

    Memory beyond the arguments: the unit vectors of seconds with labels, ``4 n d`` bytes of each modality (150 MB for 18,490
    seconds of 2,048 numbers), and some ``10 n queries`` bytes.
    """
    if queries < 1:
        raise PlanError(f"queries is {queries}; it must be at least 1")
    if other is not None:
        for name, mine, its in zip(("features", "labels"), one, other, strict=True):
            if mine.shape != its.shape:
                raise PlanError(f"{what}: {name} are {mine.shape} and {its.shape}; both must be of the same shape")
    asking = with_labels(*one, what)
    found = asking if other is None else with_labels(*other, what)
    if not len(asking.clips):
        raise PlanError(f"{what}: no second has a label; recall needs labels of seconds")
    clips = len(np.unique(found.clips))
    if clips < 2:
        raise PlanError(f"{what}: {clips} clips have seconds with labels to be found; recall needs at least two")
    results = []
    for scope, best in most_similar(asking, found, itself=other is None, queries=queries).items():
        hit = best >= 0
        theirs = found.labels[np.maximum(best, 0)]
        shared = hit & (asking.labels & theirs).any(axis=1)
        equal = hit & (asking.labels == theirs).all(axis=1)
        readings: dict[Reading, NDArray[np.bool_]] = {"shares a label": shared, "equal labels": equal}
        for reading, right in readings.items():
            results.append(Recall(reading, scope, 100 * float(right.mean()), len(right)))
    return tuple(results)


def of_raw(slot: Slot, name: str, features: NDArray[Any], labels: NDArray[Any], *, queries: int = QUERIES) -> list[Row]:
    """Rows for one backbone's features as they are, within its modality.

    Parameters
    ----------
    slot, name
        the modality, and the backbone's short name
    features
        (N, T, d) of the clips of val and test
    labels
        (N, T, C) of 0 and 1: what is heard for audio, what is seen for visual
    queries
        as in :func:`recall_at_1`

    Raises
    ------
    UnknownName
        no such slot
    PlanError
        as :func:`recall_at_1`
    """
    if slot not in get_args(Slot):
        raise nearest(slot, list(get_args(Slot)), "slot")
    names = (name, "") if slot == "audio" else ("", name)
    found = recall_at_1((features, labels), what=name, queries=queries)
    return [Row("within", f"{slot} to {slot}", *names, "raw", **asdict(each)) for each in found]


def of_streams(
    audio: str,
    visual: str,
    z_audio: NDArray[Any],
    z_visual: NDArray[Any],
    heard: NDArray[Any],
    seen: NDArray[Any],
    *,
    queries: int = QUERIES,
) -> list[Row]:
    """Rows for the streams of a trained parser: within audio, within visual, from each to the other, and means.

    Parameters
    ----------
    audio, visual
        short names of the backbones that the parser reads
    z_audio, z_visual
        (N, T, d): the streams of the clips of val and test before the fusion
        (:attr:`pipelines.parsing.outputs.Parsed.before`)
    heard, seen
        (N, T, C) of 0 and 1
    queries
        as in :func:`recall_at_1`

    Raises
    ------
    PlanError
        as :func:`recall_at_1`
    """
    streams: Mapping[Slot, Labelled] = {"audio": (z_audio, heard), "visual": (z_visual, seen)}
    kinds: Mapping[Literal["within", "across"], Sequence[tuple[Slot, Slot]]] = {
        "within": [("audio", "audio"), ("visual", "visual")],
        "across": [("audio", "visual"), ("visual", "audio")],
    }
    rows = []
    for kind, directions in kinds.items():
        both = []
        for source, target in directions:
            what = f"streams of {audio}+{visual}, {source} to {target}"
            there = None if source == target else streams[target]
            found = recall_at_1(streams[source], there, what=what, queries=queries)
            both.append(found)
            rows += [Row(kind, f"{source} to {target}", audio, visual, "streams", **asdict(each)) for each in found]
        for first, second in zip(*both, strict=True):
            mean, segments = (first.recall + second.recall) / 2, first.segments + second.segments
            rows.append(Row(kind, "mean", audio, visual, "streams", first.reading, first.scope, mean, segments))
    return rows
