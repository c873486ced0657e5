"""Scores of audio-visual video parsing (AVVP) exactly as published, and the accuracy of AVE. numpy only.

A class counts in a clip where it is there or was found; its F is 2TP / (2TP + FP + FN). The score of a clip is the mean
over its classes, or 1.0 where none counts; that of a data set is the mean over its clips. So a mean of means, not an F
over all seconds: finding nothing at all scores 14.5 for audio-visual events of the official test clips.

Source: YapengTian/AVVP-ECCV20 (fde5611), ``eval`` of ``main_avvp.py`` and ``utils/eval_metrics.py``, whose results the
tests hold. Type@AV is always the mean of its three parts as they stand here; tables of papers hold rows where it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.errors import ExtractError
from pipelines.parsing.scoring.counts import Bools, Counts, Floats, Parse, checked, events, seconds
from pipelines.parsing.scoring.gates import GATES, Gate, Probabilities, Threshold, binarise, describe_gate
from pipelines.parsing.scoring.truth import label_digest, label_version, truth_of

__all__ = [
    "GATES",
    "ClassScore",
    "ClipScores",
    "Gate",
    "Level",
    "Parse",
    "Probabilities",
    "Scores",
    "Threshold",
    "accuracy",
    "binarise",
    "clip_scores",
    "describe_gate",
    "label_digest",
    "label_version",
    "per_class",
    "score",
    "truth_of",
]


@dataclass(frozen=True, slots=True)
class Level:
    """F in percent, 0..100, of seconds or of events.

    Parameters
    ----------
    audio, visual
        of what is heard; of what is seen
    audio_visual
        of what is heard and seen at once
    event
        of heard and seen together: both count in one F (Event@AV)
    """

    audio: float
    visual: float
    audio_visual: float
    event: float

    @property
    def type(self) -> float:
        """Type@AV: the mean of audio, visual and audio-visual."""
        return (self.audio + self.visual + self.audio_visual) / 3


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of a split.

    Parameters
    ----------
    segment
        second by second
    event
        runs of seconds, right where they share half of their union with a true one
    clips
        how many were scored
    gate
        how probabilities became 0 and 1: `describe_gate`
    labels
        what they were compared with: `label_version`
    """

    segment: Level
    event: Level
    clips: int
    gate: str
    labels: str

    def as_dict(self) -> dict[str, float]:
        """The ten percentages: ``segment_audio``, ``_visual``, ``_audio_visual``, ``_type``, ``_event``; ``event_audio`` …"""
        names = ("audio", "visual", "audio_visual", "type", "event")
        levels = {"segment": self.segment, "event": self.event}
        return {f"{level}_{name}": getattr(levels[level], name) for level in levels for name in names}


class ClipScores(NamedTuple):
    """F of each clip, (N, 4), 0..1, in the order audio, visual, audio-visual, event (Event@AV)."""

    segment: Floats
    event: Floats


class ClassScore(NamedTuple):
    """One class of a split: in how many clips it is there, and its F in percent over the clips in which it counts.

    The mean over classes is not the score of the split, which is a mean over clips. nan: it counts in no clip.
    """

    label: str
    audible: int
    visible: int
    segment_audio: float
    segment_visual: float
    segment_audio_visual: float
    event_audio: float
    event_visual: float
    event_audio_visual: float


def score(predicted: Parse, truth: Parse, *, gate: str = "", labels: str = "") -> Scores:
    """Segment- and event-level scores of N clips.

    Parameters
    ----------
    predicted, truth
        of the same clips, in the same order
    gate, labels
        kept with the scores, see `Scores`

    Raises
    ------
    ExtractError
        arrays of different shapes, values other than 0 and 1, or no clip at all
    """
    each = clip_scores(predicted, truth)
    segment, event = (Level(*(100 * level.mean(axis=0)).tolist()) for level in each)
    return Scores(segment, event, len(each.segment), gate, labels)


def clip_scores(predicted: Parse, truth: Parse) -> ClipScores:
    """The F of each clip; parameters and errors as of `score`."""
    by_level = _count(predicted, truth)
    segment, event = (
        np.stack([_over_classes(counts) for counts in (*parts, _pooled(parts[0], parts[1]))], axis=1)
        for parts in by_level
    )
    return ClipScores(segment, event)


def per_class(predicted: Parse, truth: Parse, classes: Sequence[str]) -> tuple[ClassScore, ...]:
    """A row for each class, in the order of `classes`.

    Raises
    ------
    ExtractError
        as of `score`, or not one name per class
    """
    by_level = _count(predicted, truth)
    if len(classes) != truth.audio.shape[2]:
        raise ExtractError(f"{len(classes)} names were given for {truth.audio.shape[2]} classes; give one per class")
    audible, visible = ((counts.present > 0).sum(axis=0).tolist() for counts in by_level[0][:2])
    percents = [_over_clips(counts) for parts in by_level for counts in parts]
    return tuple(
        ClassScore(label, audible[number], visible[number], *(percent[number] for percent in percents))
        for number, label in enumerate(classes)
    )


def accuracy(predicted: NDArray[Any], truth: NDArray[Any]) -> float:
    """How many seconds got their class, in percent: the score of AVE, over the background as well.

    Parameters
    ----------
    predicted, truth
        (N, T) int, the class of each second; the last class is the background

    Raises
    ------
    ExtractError
        shapes that differ, no second at all, or anything but whole numbers from 0

    Notes
    -----
    Source: YapengTian/AVE-ECCV18 (93f843f), ``compute_acc`` of ``supervised_main.py``.
    """
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    for name, array in (("predicted", predicted), ("true", truth)):
        if array.ndim != 2 or array.dtype.kind not in "iu":
            raise ExtractError(
                f"the {name} classes are {array.dtype} of shape {array.shape}; they must be whole numbers of shape (clips, "
                "seconds): use argmax on scores first"
            )
        if array.size and array.min() < 0:
            raise ExtractError(f"the {name} classes hold {array.min()}; classes are numbered from 0")
    if predicted.shape != truth.shape:
        raise ExtractError(f"the predicted classes have shape {predicted.shape} and the true ones {truth.shape}")
    if not truth.size:
        raise ExtractError(f"there is nothing to score: {truth.shape[0]} clips, {truth.shape[1]} seconds")
    return 100 * float((predicted == truth).mean())


def _count(predicted: Parse, truth: Parse) -> list[tuple[Counts, Counts, Counts]]:
    """Of seconds and of events: audio, visual, and both at once."""
    audio, visual, true_audio, true_visual = checked(predicted, truth)
    pairs: tuple[tuple[Bools, Bools], ...] = (
        (audio, true_audio),
        (visual, true_visual),
        (audio & visual, true_audio & true_visual),
    )
    levels = []
    for level in (seconds, events):
        heard, seen, both = (level(*pair) for pair in pairs)
        levels.append((heard, seen, both))
    return levels


def _pooled(audio: Counts, visual: Counts) -> Counts:
    return Counts(*(heard + seen for heard, seen in zip(audio, visual, strict=True)))


def _over_classes(counts: Counts) -> Floats:
    f = counts.f()
    counted = (~np.isnan(f)).sum(axis=1)
    means: Floats = np.divide(np.nansum(f, axis=1), counted, out=np.ones(len(f)), where=counted > 0)
    return means


def _over_clips(counts: Counts) -> list[float]:
    f = counts.f()
    counted = (~np.isnan(f)).sum(axis=0)
    percent: list[float] = np.divide(
        100 * np.nansum(f, axis=0), counted, out=np.full(counted.shape, np.nan), where=counted > 0
    ).tolist()
    return percent
