"""What happens in clips that nobody filmed: which events, when they are heard, and when and where they are seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from extract.errors import PlanError
from manifests.dense import Event, Modality

Int = NDArray[np.int64]
Float = NDArray[np.float32]
Relation = Literal["together", "shifted", "off_screen", "silent"]
RELATIONS: tuple[Relation, ...] = ("together", "shifted", "off_screen", "silent")
_TOGETHER, _SHIFTED, _OFF_SCREEN, _SILENT = range(4)

# Of the 10,000 clips of AVVP_train.csv, in the order of LLP's classes: how many in a thousand have the class, and how many in
# a hundred of those have Speech as well.
_SHARE = (
    (499, 62, 53, 76, 19, 34, 45, 22, 30, 60, 19, 117, 44, 146, 50, 15, 44, 22, 41, 59, 50, 10, 43, 29, 16)
)  # fmt: skip
_WITH_SPEECH = (
    (0, 59, 51, 89, 89, 39, 71, 47, 23, 6, 35, 44, 47, 40, 21, 62, 10, 40, 77, 25, 47, 63, 58, 27, 65)
)  # fmt: skip
# How much more often than by chance two others are in one clip of that file; for most pairs it is far below 1.
_SPEECH, _CHEERING, _CELLO, _BANJO, _SINGING, _VIOLIN, _GUITAR = 0, 2, 9, 10, 11, 13, 20
_OFTEN = {
    (_CELLO, _VIOLIN): 5.9,
    (_BANJO, _SINGING): 2.6,
    (_SINGING, _GUITAR): 2.3,
    (_BANJO, _VIOLIN): 1.7,
    (_VIOLIN, _GUITAR): 0.9,
    (_CHEERING, _SINGING): 0.8,
}
_RARELY = 0.15


@dataclass(frozen=True, slots=True)
class Scene:
    """How clips come about.

    Of the 3,375 pairs of clip and class that LLP annotates in val and test, 37 % are heard and seen in the same seconds, 24 %
    in other ones, 35 % only heard and 5 % only seen. The defaults make silent objects more frequent than that, so that a
    few hundred clips hold enough of both disagreements.

    Parameters
    ----------
    seconds
        length of a clip
    together, shifted, off_screen, silent
        probabilities of how an event is heard and seen; their sum is 1.
        AVVP: in the same seconds; for as long, but some seconds earlier or later; only heard; only seen.
        AVE, whose event is where both are: neither goes beyond it; the sound begins with the clip and the object stays until its
        end, or the other way round; the sound lasts all the clip; the object stays all the clip
    counts
        AVVP: probabilities of 1, 2, ... classes per clip, 4 at most; their sum is 1. A clip of AVE has one
    whole
        probability that an event lasts the whole clip; otherwise all shorter lengths are equally likely. Shifted events of AVVP
        never do
    shift_s
        AVVP: the most seconds by which a shifted event is seen before or after it is heard
    loudness
        spread of the natural logarithm of how strong an event is, heard and seen apart; 0: all are alike
    extent
        length and width of an object as a share of the picture's, for features that keep the picture's places
    distractors
        AVE: objects of other classes per clip that are seen all the time, elsewhere in the picture, and never heard

    Raises
    ------
    PlanError
        a value is out of its range
    """

    seconds: int = 10
    together: float = 0.38
    shifted: float = 0.22
    off_screen: float = 0.27
    silent: float = 0.13
    counts: tuple[float, ...] = (0.35, 0.55, 0.08, 0.02)
    whole: float = 0.4
    shift_s: int = 3
    loudness: float = 0.35
    extent: float = 0.35
    distractors: int = 1

    def __post_init__(self) -> None:
        if not 2 <= self.seconds <= 60:
            raise PlanError(f"Scene.seconds is {self.seconds}; it must be from 2 to 60")
        _probabilities("together + shifted + off_screen + silent", self.relations)
        _probabilities("counts", self.counts)
        if not 1 <= len(self.counts) <= 4:
            raise PlanError(f"Scene.counts has {len(self.counts)} numbers; it must have 1 to 4")
        if not 1 <= self.shift_s < self.seconds:
            raise PlanError(f"Scene.shift_s is {self.shift_s}; it must be from 1 to {self.seconds - 1}")
        if not 0 <= self.distractors <= 4:
            raise PlanError(f"Scene.distractors is {self.distractors}; it must be from 0 to 4")
        for name, least, most in (("whole", 0.0, 1.0), ("loudness", 0.0, 2.0), ("extent", 0.05, 1.0)):
            if not least <= getattr(self, name) <= most:
                raise PlanError(f"Scene.{name} is {getattr(self, name)}; it must be from {least:g} to {most:g}")

    @property
    def relations(self) -> tuple[float, ...]:
        """Probabilities in the order of `RELATIONS`."""
        return self.together, self.shifted, self.off_screen, self.silent


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """N clips, each with up to M events and objects.

    Parameters
    ----------
    label
        (N, M) int64: the class; -1: nothing here, and its spans are 0, 0
    span_s
        (N, M, 2, 2) int64: by modality (0 heard, 1 seen), ``[onset, offset)``; 0, 0 where it is not
    loudness
        (N, M, 2) float32: how strong, by modality
    place
        (N, M, 2) float32, 0..1: middle of the object, from the top and from the left
    events
        so many of the M are events; those behind them are distractors, which no label names
    """

    label: Int
    span_s: Int
    loudness: Float
    place: Float
    events: int

    def part(self, start: int, stop: int) -> Drawn:
        """Some clips of them."""
        cut = slice(start, stop)
        return Drawn(self.label[cut], self.span_s[cut], self.loudness[cut], self.place[cut], self.events)

    def classes_of(self, clip: int) -> list[int]:
        """Which classes a clip is labelled with: the union of what is heard and seen, in the order of their numbers."""
        return sorted(label for label in self.label[clip, : self.events].tolist() if label >= 0)


def draw_avvp(clips: int, seed: int, scene: Scene) -> Drawn:
    """Clips with the classes of LLP: as unequal in number as there, together in a clip as they are there."""
    rng = np.random.default_rng([seed, 1])
    label = _classes(rng, clips, scene.counts)
    relation = rng.choice(4, label.shape, p=scene.relations)
    heard, seen = _spans(rng, relation, scene)
    there = label >= 0
    heard *= (there & (relation != _SILENT))[..., None]
    seen *= (there & (relation != _OFF_SCREEN))[..., None]
    return _drawn(rng, label, np.stack([heard, seen], axis=2), scene, label.shape[1])


def draw_ave(clips: int, seed: int, scene: Scene, classes: int) -> Drawn:
    """Clips with one event each, of classes that are equally frequent."""
    rng = np.random.default_rng([seed, 2])
    label = rng.permutation(np.arange(clips) % classes)[:, None]
    relation = rng.choice(4, label.shape, p=scene.relations)
    event = _stretches(rng, label.shape, scene)
    onset, offset = event[..., 0], event[..., 1]
    first = rng.integers(0, 2, label.shape)
    span = np.stack([event, event], axis=2)
    for modality, alone in enumerate((_OFF_SCREEN, _SILENT)):
        early = (relation == alone) | ((relation == _SHIFTED) & (first == modality))
        late = (relation == alone) | ((relation == _SHIFTED) & (first != modality))
        span[:, :, modality, 0] = np.where(early, 0, onset)
        span[:, :, modality, 1] = np.where(late, scene.seconds, offset)
    # drawn without the label itself, or an object that is seen all the time would be what the event is known by
    beside = np.stack([1 + rng.permutation(classes - 1)[: scene.distractors] for _ in range(clips)])
    span_beside = np.zeros((*beside.shape, 2, 2), np.int64)
    span_beside[:, :, 1, 1] = scene.seconds
    every = np.concatenate([label, (label + beside) % classes], axis=1)
    return _drawn(rng, every, np.concatenate([span, span_beside], axis=1), scene, 1)


def events_of(drawn: Drawn, clip: int, clip_id: str, classes: Sequence[str], *, both: bool) -> list[Event]:
    """The labels with times of one clip.

    Parameters
    ----------
    drawn, clip
        which
    clip_id, classes
        its name, and those of the classes
    both
        True: where an event is heard and seen, as AVE annotates; False: heard and seen apart, as LLP does
    """
    found = []
    events = slice(drawn.events)
    for label, span in zip(drawn.label[clip, events].tolist(), drawn.span_s[clip, events].tolist(), strict=True):
        if label < 0:
            continue
        spans: list[tuple[Modality, int, int]] = [("audio", *span[0]), ("visual", *span[1])]
        if both:
            spans = [("both", max(span[0][0], span[1][0]), min(span[0][1], span[1][1]))]
        found += [Event(clip_id, name, on, off, classes[label]) for name, on, off in spans if on < off]
    return sorted(found, key=lambda event: (event.modality, event.onset_s, event.offset_s, event.label))


def _classes(rng: np.random.Generator, clips: int, counts: tuple[float, ...]) -> Int:
    share = np.array(_SHARE, float)
    affinity = np.full((len(share), len(share)), _RARELY)
    affinity[_SPEECH] = affinity[:, _SPEECH] = np.array(_WITH_SPEECH) / 100 / (_SHARE[_SPEECH] / 1000)
    for (one, other), lift in _OFTEN.items():
        affinity[one, other] = affinity[other, one] = lift
    np.fill_diagonal(affinity, 0)  # no class twice
    with np.errstate(divide="ignore"):
        log_affinity = np.log(affinity)
    # The largest of logarithms plus Gumbel noise is a draw with those weights, for all clips at once.
    log_weight = np.tile(np.log(share), (clips, 1))
    label = np.empty((clips, len(counts)), np.int64)
    for i in range(len(counts)):
        label[:, i] = (log_weight + rng.gumbel(size=log_weight.shape)).argmax(axis=1)
        log_weight += log_affinity[label[:, i]]
    many = rng.choice(len(counts), clips, p=counts) + 1
    label[np.arange(len(counts)) >= many[:, None]] = -1
    return label


def _stretches(rng: np.random.Generator, shape: tuple[int, ...], scene: Scene) -> Int:
    """(*shape, 2): spans of all lengths."""
    length = rng.integers(1, scene.seconds, shape)
    length[rng.random(shape) < scene.whole] = scene.seconds
    onset = rng.integers(0, scene.seconds - length + 1)
    return np.stack([onset, onset + length], axis=-1)


def _spans(rng: np.random.Generator, relation: Int, scene: Scene) -> tuple[Int, Int]:
    """(N, M, 2) each: when events are heard and when they are seen, as if all of them were both."""
    same = _stretches(rng, relation.shape, scene)
    length = rng.integers(1, scene.seconds, relation.shape)
    shift = np.minimum(rng.integers(1, scene.shift_s + 1, relation.shape), scene.seconds - length)
    onset = rng.integers(0, scene.seconds - length - shift + 1)
    first = rng.integers(0, 2, relation.shape)
    found = []
    for modality in (0, 1):
        begin = onset + shift * (first != modality)
        moved = np.stack([begin, begin + length], axis=-1)
        found.append(np.where((relation == _SHIFTED)[..., None], moved, same))
    return found[0], found[1]


def _drawn(rng: np.random.Generator, label: Int, span_s: Int, scene: Scene, events: int) -> Drawn:
    loudness = np.exp(scene.loudness * rng.standard_normal((*label.shape, 2), np.float32))
    place = rng.random((*label.shape, 2), np.float32)
    return Drawn(label, span_s, loudness, place, events)


def _probabilities(name: str, values: Sequence[float]) -> None:
    if any(not 0 <= value <= 1 for value in values) or not math.isclose(sum(values), 1, abs_tol=1e-9):
        raise PlanError(
            f"Scene: {name} are {', '.join(f'{value:g}' for value in values)}; they must be from 0 to 1 and sum to 1"
        )
