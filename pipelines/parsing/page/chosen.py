"""Clips for the timelines of a page: the best, the middling and the worst, by the score of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError
from pipelines.parsing.metrics import Parse, Probabilities, binarise, clip_scores, truth_of
from pipelines.parsing.page.rows import Row, ave_rows, avvp_rows
from pipelines.parsing.page.told import Predictions, RunTold

OF_EACH = 8


@dataclass(frozen=True, slots=True, eq=False)
class Parsed:
    """The clips of a split, as predicted and in truth.

    Parameters
    ----------
    ids
        N of them
    classes
        C names
    predicted, truth
        of AVVP, (N, T, C) heard and seen; of AVE, (N, T) classes; truth None: not known
    score
        (N,) percent: segment-level Type@AV of AVVP, accuracy of AVE; None without a truth
    parts
        numbers of each clip in percent, by name; empty without a truth
    """

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    predicted: Parse | NDArray[np.int64]
    truth: Parse | NDArray[np.int64] | None
    score: NDArray[np.float64] | None
    parts: Mapping[str, NDArray[np.float64]]

    @property
    def seconds(self) -> int:
        """T."""
        return int((self.predicted.audio if isinstance(self.predicted, Parse) else self.predicted).shape[1])

    def rows(self, clip: int) -> tuple[Row, ...]:
        """The timeline of one clip, by number."""
        if isinstance(self.predicted, Parse):
            assert self.truth is None or isinstance(self.truth, Parse)
            truth = None if self.truth is None else (self.truth.audio[clip], self.truth.visual[clip])
            return avvp_rows(self.classes, (self.predicted.audio[clip], self.predicted.visual[clip]), truth)
        assert not isinstance(self.truth, Parse)
        return ave_rows(self.classes, self.predicted[clip], None if self.truth is None else self.truth[clip])

    def told(self, clip: int) -> str:
        """The numbers of one clip in words."""
        return ", ".join(f"{name} {values[clip]:.1f}" for name, values in self.parts.items())


def parse_run(run: RunTold) -> Parsed:
    """What a run predicted, as events, and what is true.

    Raises
    ------
    PlanError
        there are no predictions, or they are not those of the task
    ExtractError
        probabilities or labels that cannot be used
    """
    found = run.predictions
    if found is None:
        raise PlanError("there are no predictions in the folder")
    if run.task == "ave":
        return _parse_ave(run, found)
    arrays = [_array(found, name, dims) for name, dims in (("frame", 4), ("video", 2), ("audio", 2), ("visual", 2))]
    frame = arrays[0]
    if frame.shape[2] != 2:
        raise PlanError(f"the predictions have {frame.shape[2]} modalities on axis 2; it must be heard and seen")
    classes = _classes(run, frame.shape[3])
    gate: Any = str(run.options.get("gate") or run.scores.get(found.split, {}).get("gate") or "global")
    predicted = binarise(Probabilities(*arrays), gate)
    events = _events_of(run, found.ids)
    if events is None:
        return Parsed(found.ids, classes, predicted, None, None, {})
    truth = truth_of(events, found.ids, classes, frame.shape[1])
    segment, event = clip_scores(predicted, truth)
    parts = {
        **{f"{name}": 100 * segment[:, i] for i, name in enumerate(("A", "V", "AV"))},
        "event-level Type": 100 * event[:, :3].mean(axis=1),
    }
    return Parsed(found.ids, classes, predicted, truth, 100 * segment[:, :3].mean(axis=1), parts)


def _parse_ave(run: RunTold, found: Predictions) -> Parsed:
    score = _array(found, "score", 3)
    classes = _classes(run, score.shape[2])
    if len(classes) < 2:
        raise PlanError("the run has no class besides the background")
    predicted = score.argmax(axis=2).astype(np.int64)
    events = _events_of(run, found.ids)
    if events is None:
        return Parsed(found.ids, classes, predicted, None, None, {})
    both = truth_of([e for e in events if e.modality == "both"], found.ids, classes[:-1], score.shape[1]).audio
    truth = np.where(both.any(axis=2), both.argmax(axis=2), len(classes) - 1).astype(np.int64)
    right = 100 * (predicted == truth).mean(axis=1)
    return Parsed(found.ids, classes, predicted, truth, right, {})


def _array(found: Predictions, name: str, dims: int) -> NDArray[Any]:
    if name not in found.arrays:
        raise PlanError(f"predictions_{found.split}.npz has no array {name!r}")
    array = found.arrays[name]
    if array.ndim != dims or array.dtype.kind != "f":
        raise PlanError(
            f"{name} in predictions_{found.split}.npz is {array.dtype} of shape {array.shape}; it needs {dims} axes"
        )
    if not array.size or not np.isfinite(array).all():
        what = "nothing" if not array.size else "NaN or infinite numbers"
        raise PlanError(f"{name} in predictions_{found.split}.npz holds {what}; evaluate the run again")
    return array


def _classes(run: RunTold, classes: int) -> tuple[str, ...]:
    if len(run.labels) != classes:
        raise PlanError(f"the predictions have {classes} classes and config.json names {len(run.labels)}")
    return run.labels


def _events_of(run: RunTold, ids: Iterable[str]) -> list[Any] | None:
    """Events of the clips; None where there is not one, for then the truth is not known."""
    chosen = set(ids)
    found = [event for event in run.events or () if event.clip_id in chosen]
    return found or None


def choose(parsed: Parsed) -> Iterator[tuple[str, int]]:
    """Group and number of the clips to show: all of few, else eight of the best, of the middle and of the worst.

    Clips of equal scores keep their order, so that equal runs show equal clips.
    """
    count = len(parsed.ids)
    if parsed.score is None:
        yield from (("", clip) for clip in range(min(count, 3 * OF_EACH)))
        return
    order = np.argsort(-parsed.score, kind="stable").tolist()
    if count <= 3 * OF_EACH:
        yield from (("", clip) for clip in order)
        return
    middle = (count - OF_EACH) // 2
    for group, start in (("best", 0), ("median", middle), ("worst", count - OF_EACH)):
        yield from ((group, clip) for clip in order[start : start + OF_EACH])
