"""Cross-instance augmentation: clips mixed with clips of other labels, in time or between modalities.

A network that carries events from one second or modality to another is wrong on such clips, and the loss says so: it pools
what comes from either clip apart and holds it against that clip's labels.

Source: Zhu et al., "Mixed in time and modality: curse or blessing? Cross-instance data augmentation for weakly supervised
multimodal temporal fusion", eq. 2-7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from extract.errors import PlanError, nearest
from pipelines.parsing.batch import Batch
from pipelines.parsing.learning.losses import clamped_cross_entropy, full_loss, mil_loss, smoothed, weak_loss
from pipelines.parsing.learning.partners import partners, split_points
from pipelines.parsing.outputs import Located, Parsed, pool

__all__ = [
    "SCHEDULE",
    "Kind",
    "Spliced",
    "Swapped",
    "epoch_kind",
    "modality_loss",
    "partners",
    "splice",
    "spliced_location_loss",
    "split_points",
    "swap",
    "temporal_loss",
]

Kind = Literal["plain", "modality", "temporal"]
SCHEDULE: tuple[Kind, ...] = ("plain", "plain", "modality", "temporal")
"""The published cycle for HAN: two epochs of clips as they are, one of swaps, one of splices."""


@dataclass(frozen=True, slots=True, eq=False)
class Spliced:
    """B clips of 2T seconds, each a whole clip put into another one (eq. 2-3).

    Parameters
    ----------
    features
        by slot, (B, 2T, *dims)
    inserted
        (B, 2T) bool: True on the T seconds of the inserted clip
    weak, weak_inserted
        (B, C): labels of the outer clip and of the inserted one
    event
        (B, 2T) int64: the class of each second, for AVE; None where either clip has none
    """

    features: Mapping[str, Tensor]
    inserted: Tensor
    weak: Tensor
    weak_inserted: Tensor
    event: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Swapped:
    """B clips with the sound of one clip and the picture of another (eq. 5-6).

    Parameters
    ----------
    features
        by slot, (B, T, *dims)
    weak_audio, weak_visual
        (B, C): labels of the clip that is heard, and of the one that is seen
    """

    features: Mapping[str, Tensor]
    weak_audio: Tensor
    weak_visual: Tensor


def epoch_kind(epoch: int, schedule: Sequence[str] = SCHEDULE) -> Kind:
    """What an epoch trains on; the schedule starts again when it ends. Epochs count from 0.

    Raises
    ------
    UnknownName
        the schedule holds another word
    PlanError
        it is empty, or the epoch is below 0
    """
    for word in schedule:
        if word not in get_args(Kind):
            raise nearest(word, list(get_args(Kind)), "kind of epoch")
    if not schedule or epoch < 0:
        raise PlanError(
            f"an epoch's kind needs a schedule and an epoch of at least 0, got {list(schedule)} and {epoch}"
        )
    return cast(Kind, schedule[epoch % len(schedule)])


def splice(first: Batch, second: Batch, at: Tensor) -> Spliced:
    """Put each clip of `second` whole into the clip of `first`, before its second `at`: eq. 2 and 3.

    Parameters
    ----------
    first, second
        B clips of T seconds with equal slots and dims
    at
        (B,) int64, 0..T

    Raises
    ------
    PlanError
        batches that do not fit together, or a split outside the clip
    """
    seconds = _seconds(first, second)
    if at.shape != first.rows.shape or bool(((at < 0) | (at > seconds)).any()):
        raise PlanError(
            f"a splice needs a place in 0..{seconds} for each of {len(first.rows)} clips; got {at.numel()} in "
            f"{int(at.min())}..{int(at.max())}"
        )
    start = at.to(first.weak.device)[:, None]
    time = torch.arange(2 * seconds, device=start.device)
    inserted = (time >= start) & (time < start + seconds)
    place = torch.where(inserted, time - start + seconds, torch.where(time < start, time, time - seconds))
    clip = torch.arange(len(at), device=start.device)[:, None]

    def joined(outer: Tensor, inner: Tensor) -> Tensor:
        return torch.cat((outer, inner), dim=1)[clip, place]

    features = {slot: joined(data, second.features[slot]) for slot, data in first.features.items()}
    event = None if first.event is None or second.event is None else joined(first.event, second.event)
    return Spliced(features, inserted, first.weak, second.weak, event)


def swap(first: Batch, second: Batch) -> Swapped:
    """The sound of `first` under the picture of `second` (slots visual and clip): eq. 5 and 6.

    Raises
    ------
    PlanError
        batches that do not fit together, or of AVE, whose events are those that are heard and seen at once
    """
    _seconds(first, second)
    if first.event is not None or second.event is not None:
        raise PlanError(
            "a swap of modalities leaves no event that is both heard and seen, so AVE clips cannot be swapped"
        )
    return Swapped({**second.features, "audio": first.features["audio"]}, first.weak, second.weak)


def temporal_loss(
    parsed: Parsed,
    spliced: Spliced,
    *,
    renormalise: bool = True,
    smooth_audio: float = 1.0,
    smooth_visual: float = 0.9,
) -> dict[str, Tensor]:
    """HAN's loss of the seconds of each clip apart: eq. 4.

    Parameters
    ----------
    parsed
        what the network gives for ``spliced.features``
    spliced
        says which seconds are whose
    renormalise
        pool a clip's seconds as if there were no others, so that weights over time sum to 1. False: with the weights of all
        2T seconds, as eq. 4 can also be read; a part's probabilities can then not reach 1
    smooth_audio, smooth_visual
        as for :func:`pipelines.parsing.learning.losses.mil_loss`

    Returns
    -------
    dict
        ``outer_audio``, ``outer_visual``, ``outer_video`` and ``inserted_audio`` and so on; their sum is the loss
    """
    groups = {"outer": (~spliced.inserted, spliced.weak), "inserted": (spliced.inserted, spliced.weak_inserted)}
    parts: dict[str, Tensor] = {}
    for group, (where, weak) in groups.items():
        pooled = pool(parsed, where, renormalise=renormalise)
        terms = mil_loss(pooled, weak, smooth_audio=smooth_audio, smooth_visual=smooth_visual)
        parts |= {f"{group}_{name}": term for name, term in terms.items()}
    return parts


def modality_loss(
    parsed: Parsed, swapped: Swapped, *, smooth_audio: float = 1.0, smooth_visual: float = 0.9
) -> dict[str, Tensor]:
    """HAN's loss of what is heard against the one clip's labels and of what is seen against the other's: eq. 7.

    Returns
    -------
    dict
        ``audio``, ``visual``; there is no ``video``, as the two modalities have no label in common. Their sum is the loss
    """
    pooled = pool(parsed)
    return {
        "audio": clamped_cross_entropy(pooled.audio, smoothed(swapped.weak_audio, smooth_audio)),
        "visual": clamped_cross_entropy(pooled.visual, smoothed(swapped.weak_visual, smooth_visual)),
    }


def spliced_location_loss(
    model: str,
    supervision: str,
    located: Located,
    pooling: Callable[[Tensor, Tensor], Tensor],
    spliced: Spliced,
    *,
    target: str = "label",
) -> dict[str, Tensor]:
    """The loss of an AVE network on spliced clips.

    Parameters
    ----------
    model, supervision, target
        as for :func:`pipelines.parsing.learning.losses.location_loss`; with ``prob``, either clip keeps its own shares
    located
        what the network gives for ``spliced.features``
    pooling
        the network's ``pool``: (B, 2T, C) scores and (B, 2T) bool to (B, C)
    spliced
        says which seconds are whose

    Returns
    -------
    dict
        ``outer_video``, ``inserted_video`` of weak supervision; of full supervision, the parts that a clip as it is has

    Raises
    ------
    UnknownName, PlanError
        as :func:`pipelines.parsing.learning.losses.location_loss`
    """
    if supervision == "full":
        return full_loss(model, located, spliced.event)
    if supervision != "weak":
        raise nearest(supervision, ["weak", "full"], "supervision")
    groups = {"outer": (~spliced.inserted, spliced.weak), "inserted": (spliced.inserted, spliced.weak_inserted)}
    parts: dict[str, Tensor] = {}
    for group, (where, weak) in groups.items():
        event = None if spliced.event is None else spliced.event[where].view(len(weak), -1)
        loss = weak_loss(model, pooling(located.score, where), weak, event, target=target)
        parts[f"{group}_video"] = loss["video"]
    return parts


def _seconds(first: Batch, second: Batch) -> int:
    """T of two batches that fit together."""
    told = [{slot: tuple(data.shape) for slot, data in batch.features.items()} for batch in (first, second)]
    lengths = {shape[1] for shape in told[0].values()}
    if told[0] != told[1] or len(lengths) != 1:
        raise PlanError(f"clips can be mixed when slots, seconds and dims are the same; got {told[0]} and {told[1]}")
    return lengths.pop()
