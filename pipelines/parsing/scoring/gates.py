"""From probabilities to 0 and 1: thresholds, and the gate that lets a clip have a class at all. numpy only."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from extract.errors import ExtractError, PlanError, nearest
from pipelines.parsing.scoring.counts import Parse

Gate = Literal["global", "per_modality", "none"]
Threshold = float | Sequence[float] | NDArray[Any]
"""One number for all classes, or one per class; 0..1."""

GATES: dict[Gate, str] = {
    "global": "a class must be in the clip, of whichever modality (HAN, VALOR, MM-Pyramid)",
    "per_modality": "a class must be heard in the clip to be heard in a second, and seen to be seen (MA, JoMoLD, CMPAE)",
    "none": "the seconds alone decide",
}
"""Every gate and who publishes scores with it: scores under two gates cannot be compared."""

_ROUNDING = 1e-3


class Probabilities(NamedTuple):
    """What a network gives for N clips of T seconds: ``Parsed.frame`` and ``Pooled`` as numpy.

    Parameters
    ----------
    frame
        (N, T, 2, C) float, 0..1: heard (0) and seen (1) in a second
    video
        (N, C) float: in the clip, of whichever modality; it may exceed 1, as published
    audio, visual
        (N, C) float, 0..1: heard in the clip; seen in it
    """

    frame: NDArray[Any]
    video: NDArray[Any]
    audio: NDArray[Any]
    visual: NDArray[Any]


class _Thresholds(NamedTuple):
    frame: NDArray[np.float64]
    clip: dict[str, NDArray[np.float64]]


def binarise(
    p: Probabilities,
    gate: Gate = "global",
    *,
    frame_threshold: Threshold = 0.5,
    video_threshold: Threshold = 0.5,
    audio_threshold: Threshold | None = None,
    visual_threshold: Threshold | None = None,
) -> Parse:
    """What is heard and what is seen: seconds whose probability reaches its threshold, in clips that pass the gate.

    Parameters
    ----------
    p
        of N clips
    gate
        one of `GATES`
    frame_threshold
        of a second; CMPAE's is 0.25
    video_threshold
        of a clip: of ``video`` under the gate ``global``, of ``audio`` and ``visual`` under ``per_modality``
    audio_threshold, visual_threshold
        under ``per_modality``, in place of `video_threshold`; CMPAE: 0.45, and one per class tuned on val

    Raises
    ------
    ExtractError
        shapes that do not belong together, NaN, or a number that is no probability
    UnknownName
        no such gate
    PlanError
        a threshold outside 0..1, not one per class, or of something that the gate does not look at

    Notes
    -----
    A probability equal to its threshold passes. Both are compared in the type of the probabilities, so that 0.45 in
    float32 reaches 0.45. Source of the gates: the evaluations of YapengTian/AVVP-ECCV20 (fde5611), MA by Yu-Wu (46c6fe2),
    MCG-NJU/JoMoLD (a7dc2d5) and CMPAE by MengyuanChen21 (73345f7).
    """
    p = Probabilities(*(np.asarray(array) for array in p))
    classes = _check(p)
    thresholds = _thresholds(gate, frame_threshold, video_threshold, audio_threshold, visual_threshold, classes)
    heard, seen = (_reaches(p.frame[:, :, modality], thresholds.frame) for modality in (0, 1))
    passes = {name: _reaches(getattr(p, name), threshold)[:, None] for name, threshold in thresholds.clip.items()}
    if gate == "global":
        heard, seen = heard & passes["video"], seen & passes["video"]
    elif gate == "per_modality":
        heard, seen = heard & passes["audio"], seen & passes["visual"]
    return Parse(heard.astype(np.uint8), seen.astype(np.uint8))


def describe_gate(
    gate: Gate = "global",
    *,
    frame_threshold: Threshold = 0.5,
    video_threshold: Threshold = 0.5,
    audio_threshold: Threshold | None = None,
    visual_threshold: Threshold | None = None,
) -> str:
    """One line to print beside scores; the parameters and errors are those of `binarise`.

    Returns
    -------
    str
        such as ``global: video >= 0.5, seconds >= 0.5``. One threshold per class is told by its range and the first 8
        hex digits of the sha256 of its numbers (little-endian float64)
    """
    thresholds = _thresholds(gate, frame_threshold, video_threshold, audio_threshold, visual_threshold, None)
    told = [f"{name} >= {_told(threshold)}" for name, threshold in thresholds.clip.items()]
    return f"{gate}: {', '.join([*told, f'seconds >= {_told(thresholds.frame)}'])}"


def _thresholds(
    gate: str,
    frame: Threshold,
    video: Threshold,
    audio: Threshold | None,
    visual: Threshold | None,
    classes: int | None,
) -> _Thresholds:
    if gate not in GATES:
        raise nearest(gate, list(GATES), "gate")
    if gate != "per_modality" and not (audio is None and visual is None):
        name = "visual_threshold" if audio is None else "audio_threshold"
        raise PlanError(f"the gate {gate!r} does not look at {name}; leave it out, or use the gate 'per_modality'")
    if gate == "per_modality":
        clip = {"audio": video if audio is None else audio, "visual": video if visual is None else visual}
    else:
        clip = {"video": video} if gate == "global" else {}
        if gate == "none" and not np.array_equal(np.asarray(video), 0.5):
            raise PlanError("the gate 'none' does not look at video_threshold; leave it out, or use the gate 'global'")
    return _Thresholds(
        _numbers("frame_threshold", frame, classes),
        {name: _numbers(f"{name}_threshold", value, classes) for name, value in clip.items()},
    )


def _numbers(name: str, value: Threshold, classes: int | None) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise PlanError(f"{name} {value!r} is not a number from 0 to 1, nor one per class") from None
    if numbers.ndim > 1 or (numbers.ndim == 1 and numbers.size == 0):
        raise PlanError(f"{name} has shape {numbers.shape}; it must be one number, or one per class")
    if classes is not None and numbers.ndim == 1 and numbers.size != classes:
        raise PlanError(
            f"{name} has {numbers.size} numbers and there are {classes} classes; give one, or one per class"
        )
    outside = numbers[~((numbers >= 0) & (numbers <= 1))]
    if outside.size:
        raise PlanError(f"{name} {outside.flat[0]:g} is outside 0..1")
    return numbers


def _reaches(probabilities: NDArray[Any], threshold: NDArray[np.float64]) -> NDArray[np.bool_]:
    return probabilities >= threshold.astype(probabilities.dtype)


def _told(threshold: NDArray[np.float64]) -> str:
    if threshold.ndim == 0:
        return f"{threshold:g}"
    digest = hashlib.sha256(threshold.astype("<f8").tobytes()).hexdigest()[:8]
    return f"{threshold.min():g}..{threshold.max():g} by class ({digest})"


def _check(p: Probabilities) -> int:
    arrays: dict[str, NDArray[Any]] = p._asdict()
    frame = arrays["frame"]
    if frame.ndim != 4 or frame.shape[2] != 2:
        raise ExtractError(f"frame probabilities have shape {frame.shape}; they must be (clips, seconds, 2, classes)")
    clips, _, _, classes = frame.shape
    for name, array in arrays.items():
        if name != "frame" and array.shape != (clips, classes):
            raise ExtractError(
                f"{name} probabilities have shape {array.shape}; beside {frame.shape} per second they must be "
                f"({clips}, {classes})"
            )
        if array.dtype.kind != "f":
            raise ExtractError(f"{name} probabilities are {array.dtype}; they must be floating point")
        absent = np.isnan(array)
        if absent.any():
            raise ExtractError(
                f"{absent.sum()} of {array.size} {name} probabilities are NaN, the first of clip "
                f"{np.argwhere(absent)[0][0]}; look for NaN in its features and for a loss that diverged"
            )
        most = 2 if name == "video" else 1
        outside = array[(array < -_ROUNDING) | (array > most + _ROUNDING)]
        if outside.size:
            raise ExtractError(
                f"{name} probabilities hold {outside[0]:g}, outside 0..{most}; logits need a sigmoid first"
            )
    return int(classes)
