"""K parsers trained at once: as many pairs of backbones as there are, each as if it were trained alone.

A stack holds K networks of :class:`pipelines.parsing.models.han.HAN` as one set of tensors with the parser as first axis.
Each member has its own features, weights, order of clips and dropout, all from its own seed, so that it does not matter
which others are in the stack: on the CPU a member ends where :func:`pipelines.parsing.train.train` ends with
``Config(seed=member.seed)``, but for the order of the sums in products.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from extract.errors import PlanError, nearest
from pipelines.collocation.stack.adam import StackedAdam
from pipelines.collocation.stack.layers import Drop, Dropout, Shape, nothing_dropped, parse, project
from pipelines.collocation.stack.members import (
    FIRST,
    Member,
    check_given,
    check_labels,
    check_members,
    first_weights,
    order,
    readings,
)
from pipelines.collocation.stack.state import Leaf, leaves_of, restored, saved
from pipelines.parsing.cpu import quick
from pipelines.parsing.evaluate import AT_ONCE, autocast
from pipelines.parsing.learning.losses import mil_loss
from pipelines.parsing.metrics import Probabilities
from pipelines.parsing.models.han import EncoderCompat
from pipelines.parsing.outputs import Parsed, pool
from pipelines.parsing.train import epoch_seed, shuffled

__all__ = ["Member", "Stack"]
Precision = Literal["float32", "bfloat16"]


class Stack:
    """Parsers that are trained together.

    Parameters
    ----------
    members
        K of them, with equal slots
    features
        by name, (N, T, d) each, d of its own; held once however many members read it. Weights are made in the precision of
        the features: float32, or float64 for proofs
    weak
        (N, C), multi-hot: labels of the clips
    width, layers, heads, feedforward, dropout, encoder_compat
        of :class:`~pipelines.parsing.models.han.HAN`
    smooth_audio, smooth_visual
        of :func:`~pipelines.parsing.learning.losses.mil_loss`
    precision
        ``float32`` or ``bfloat16`` (autocast)

    Raises
    ------
    PlanError
        no members, two of one name, other slots than HAN's or than the other members', a rate that is not above 0, or shapes
        that do not fit each other
    UnknownName
        no such feature, precision or `encoder_compat`

    Notes
    -----
    Members of one seed see the same clips in the same order, so a step takes the rows of a feature once per seed.

    A member whose weights become NaN keeps them and reports a loss of NaN; the others are not touched by it.

    Whether it pays is a question of width: a step of few numbers is mostly the calls that make it, and a stack makes them
    once for all members. At 512 numbers and 10 members a core does the same products either way (measured: 1.0 to 1.2 times as
    quick as one after another; at 64 numbers 1.35 to 2.3 times).
    """

    def __init__(
        self,
        members: Sequence[Member],
        features: Mapping[str, Tensor],
        weak: Tensor,
        *,
        width: int = 512,
        layers: int = 1,
        heads: int = 1,
        feedforward: int = 512,
        dropout: float = 0.1,
        encoder_compat: EncoderCompat = "official",
        smooth_audio: float = 1.0,
        smooth_visual: float = 0.9,
        precision: Precision = "float32",
    ) -> None:
        check_members(members, features)
        if precision not in get_args(Precision):
            raise nearest(precision, list(get_args(Precision)), "precision")
        self._readings = readings(members)
        self._features = {reading.feature: features[reading.feature] for reading in self._readings}
        check_labels(self._features, weak)
        self._members, self._weak, self._precision, self._dropout = tuple(members), weak, precision, dropout
        options: dict[str, Any] = {
            "width": width, "layers": layers, "heads": heads, "feedforward": feedforward, "dropout": dropout,
            "encoder_compat": encoder_compat, "classes": weak.shape[1],
        }  # fmt: skip
        started = [first_weights(member, self._features, options) for member in members]
        self._names = tuple(started[0])
        numbers = dict.fromkeys(name.split(".")[2] for name in self._names if name.startswith("hat_encoder."))
        self._shape = Shape(heads, tuple(numbers))
        self._loss = partial(_loss, smooth_audio=smooth_audio, smooth_visual=smooth_visual)
        self._adam = self._stacked(started)
        self._place()

    @property
    def members(self) -> tuple[Member, ...]:
        """Those that are in the stack, in the order of all that is given back."""
        return self._members

    def epoch(self, epoch: int, *, batch: int, lr_factor: float = 1.0) -> list[dict[str, float]]:
        """Train every member on every clip once.

        Parameters
        ----------
        epoch
            its number, which orders of clips and dropout depend on
        batch
            clips of a step; the last step may have fewer
        lr_factor
            what each member's rate is multiplied by

        Returns
        -------
        list
            of each member: ``loss``, and its parts ``loss_audio``, ``loss_visual``, ``loss_video``; means over the clips

        Raises
        ------
        PlanError
            a batch below 1
        """
        clips, device = len(self._weak), self._weak.device
        seeds = dict.fromkeys(member.seed for member in self._members)
        orders = [shuffled(order(seed, batch), clips, epoch) for seed in seeds]
        drop = Dropout([epoch_seed(member.seed, epoch) for member in self._members], self._dropout, device)
        sums: dict[str, Tensor] = {}
        with quick(str(device)):
            for step in zip(*orders, strict=True):
                parts = self._losses({seed: rows.to(device) for seed, rows in zip(seeds, step, strict=True)}, drop)
                loss = torch.stack([part.float() for part in parts.values()]).sum(dim=0)
                # gradients of a sum: each member gets those of its own loss
                loss.sum().backward()  # type: ignore[no-untyped-call]
                self._adam.step(lr_factor)
                for name, part in {"": loss, **parts}.items():
                    sums[name] = sums.get(name, 0) + part.detach().float() * (len(step[0]) / clips)
        columns = {f"loss_{name}" if name else "loss": part.tolist() for name, part in sums.items()}
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def predict(self, features: Mapping[str, Tensor]) -> list[Probabilities]:
        """What each member says of other clips.

        Parameters
        ----------
        features
            by name, (N, T, d) each; all that the members read

        Returns
        -------
        list
            of each member, float32

        Raises
        ------
        UnknownName
            a feature is missing
        PlanError
            one has another d than in training, or shapes that do not fit each other
        """
        given = check_given(features, self._features)
        pairs = {(reading.feature, reading.seed) for reading in self._readings}
        clips = len(next(iter(given.values())))
        found: list[tuple[Tensor, ...]] = []
        at_once = math.ceil(AT_ONCE / len(self._members))
        with quick(str(self._weak.device)), torch.inference_mode():
            for start in range(0, clips, at_once):
                rows = {pair: given[pair[0]][start : start + at_once] for pair in pairs}
                with autocast(str(self._weak.device), self._precision):
                    parsed = self._parse(rows, nothing_dropped)
                pooled = torch.vmap(pool)(parsed)
                found.append(tuple(each.float().cpu() for each in (parsed.frame, *pooled)))
        columns = [torch.cat(pieces, dim=1).numpy() for pieces in zip(*found, strict=True)]
        return [Probabilities(*each) for each in zip(*columns, strict=True)]

    def drop(self, names: Iterable[str]) -> None:
        """Take members out; the others go on as if nothing had happened.

        Raises
        ------
        UnknownName
            there is no such member
        PlanError
            none would be left
        """
        gone = {self._number(name) for name in names}
        kept = [k for k in range(len(self._members)) if k not in gone]
        if not kept:
            raise PlanError(
                f"none of the {len(gone)} members would be left in the stack; drop fewer, or the stack itself"
            )
        self._adam = self._adam.kept([leaf.rows(kept) for leaf in self._leaves()])
        self._members = tuple(self._members[k] for k in kept)
        self._readings = [left for reading in self._readings if (left := reading.among(kept)).members]
        self._features = {reading.feature: self._features[reading.feature] for reading in self._readings}
        self._place()

    def state_dict(self, name: str) -> dict[str, Tensor]:
        """The weights of a member, a copy, as ``HAN.load_state_dict`` takes them.

        Raises
        ------
        UnknownName
            there is no such member
        """
        k = self._number(name)
        held = zip(self._leaves(), self._adam.leaves, strict=True)
        found = {of.name: of.laid(rows.detach()[of.members.index(k)]) for of, rows in held if k in of.members}
        return {name: found[name].clone(memory_format=torch.contiguous_format) for name in self._names}

    def tensors(self) -> dict[str, Tensor]:
        """All that going on needs, copies on the CPU: ``weight.MEMBER.PARAMETER``, ``exp_avg.``, ``exp_avg_sq.`` and ``step``."""
        return saved(self._adam.held(), self._adam.steps(), self._leaves(), self._members)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on where :meth:`tensors` was asked: the next epochs give the bits they would have given there.

        The stack must be made as the other one was, of the members that were left in it. Tensors do not show rates, seeds,
        what is in the features, or the epoch: the caller must know them.

        Raises
        ------
        PlanError
            they are of other members, sizes or precision; the stack stays as it is
        """
        self._adam.hold(*restored(tensors, self._adam.held(), self._adam.steps(), self._leaves(), self._members))

    def _number(self, name: str) -> int:
        names = [member.name for member in self._members]
        if name not in names:
            raise nearest(name, names, "member of the stack")
        return names.index(name)

    def _leaves(self) -> list[Leaf]:
        return leaves_of(self._readings, self._names, len(self._members))

    def _stacked(self, started: Sequence[Mapping[str, Tensor]]) -> StackedAdam:
        leaves = self._leaves()
        return StackedAdam(
            [torch.stack([leaf.laid(started[k][leaf.name]) for k in leaf.members]) for leaf in leaves],
            [[self._members[k].lr for k in leaf.members] for leaf in leaves],
        )

    def _place(self) -> None:
        held = list(zip(self._leaves(), self._adam.leaves, strict=True))
        first = (weight for leaf, weight in held if leaf.first)
        self._first = [(reading, next(first), next(first)) for reading in self._readings]
        self._shared = {leaf.name: weight for leaf, weight in held if not leaf.first}

    def _losses(self, rows: Mapping[int, Tensor], drop: Drop) -> dict[str, Tensor]:
        """(K,) of each part, on the clips `rows` of each seed."""
        pairs = {(reading.feature, reading.seed) for reading in self._readings}
        taken = {(name, seed): self._features[name][rows[seed]] for name, seed in pairs}
        labels = {seed: self._weak[at] for seed, at in rows.items()}
        with autocast(str(self._weak.device), self._precision):
            parsed = self._parse(taken, drop)
            weak = torch.stack([labels[member.seed] for member in self._members])
            found: dict[str, Tensor] = torch.vmap(self._loss)(parsed, weak)
        return found

    def _parse(self, rows: Mapping[tuple[str, int], Tensor], drop: Drop) -> Parsed:
        slots: dict[str, dict[int, Tensor]] = {slot: {} for slot in FIRST}
        for reading, weight, bias in self._first:
            told = project(rows[reading.feature, reading.seed], weight, bias)
            slots[reading.slot].update(zip(reading.members, told, strict=True))
        heard, visual, clip = (
            torch.stack([each[k] for k in range(len(self._members))]) if each else None for each in slots.values()
        )
        assert heard is not None
        assert visual is not None
        seen = visual if clip is None else torch.cat((visual, clip), dim=-1)
        return parse(self._shared, heard, seen, self._shape, drop)


def _loss(parsed: Parsed, weak: Tensor, *, smooth_audio: float, smooth_visual: float) -> dict[str, Tensor]:
    return mil_loss(pool(parsed), weak, smooth_audio=smooth_audio, smooth_visual=smooth_visual)
