"""A stack trains each member as if it were alone, whoever else is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from extract.errors import ExtractError, PlanError, UnknownName
from pipelines.collocation.stack.layers import Dropout
from pipelines.collocation.stack.stacked import Member, Stack
from pipelines.parsing.config import Config
from pipelines.parsing.data import Split
from pipelines.parsing.evaluate import predict
from pipelines.parsing.learning.losses import mil_loss
from pipelines.parsing.models.dropout import drop
from pipelines.parsing.models.han import HAN
from pipelines.parsing.outputs import pool
from pipelines.parsing.train import shuffled, train

CLIPS, SECONDS, CLASSES, BATCH = 28, 5, 4, 8
DIMS = {"ear1": 7, "ear2": 12, "eye1": 20, "eye2": 9, "motion": 5}
SMALL: dict[str, Any] = {"width": 8, "heads": 2, "feedforward": 12}
DEEP = SMALL | {"layers": 2, "encoder_compat": "chained"}
MEMBERS = [
    Member("a", {"audio": "ear1", "visual": "eye1", "clip": "motion"}, seed=0, lr=3e-3),
    Member("b", {"audio": "ear2", "visual": "eye1", "clip": "motion"}, seed=0, lr=3e-3),
    Member("c", {"audio": "ear1", "visual": "eye2", "clip": "motion"}, seed=1, lr=1e-3),
    Member("d", {"audio": "ear1", "visual": "eye2", "clip": "motion"}, seed=0, lr=3e-3),
]
UNFELT = ("fc_frame_att.bias", "fc_av_att.bias")
"""A softmax takes what these add to all its inputs alike away again, so their gradients are rounding errors."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made(dtype: torch.dtype = torch.float32, clips: int = CLIPS) -> dict[str, Tensor]:
    drawn = torch.Generator().manual_seed(clips)
    return {name: torch.randn(clips, SECONDS, d, generator=drawn, dtype=dtype) for name, d in DIMS.items()}


def labels(clips: int = CLIPS) -> Tensor:
    return (torch.rand(clips, CLASSES, generator=torch.Generator().manual_seed(1)) < 0.4).float()


def sizes(member: Member) -> dict[str, int | None]:
    return {"clip": None} | {slot: DIMS[name] for slot, name in member.slots.items()}


def alone(
    member: Member,
    features: Mapping[str, Tensor],
    epochs: int,
    *,
    factor: float = 1.0,
    smooth: Any = None,
    **options: Any,
) -> tuple[HAN, list[dict[str, float]]]:
    """HAN itself, trained in the order of pipelines/parsing/train.py."""
    torch.manual_seed(member.seed)
    network = HAN(classes=CLASSES, **sizes(member), **options).to(features["ear1"].dtype).train()
    adam = torch.optim.Adam(network.parameters(), lr=member.lr * factor)
    order, rows = Config("avvp", "han", "", "", seed=member.seed, batch=BATCH), []
    for epoch in range(epochs):
        torch.manual_seed(member.seed * 1_000_003 + epoch)
        sums: Counter[str] = Counter()
        for at in shuffled(order, CLIPS, epoch):
            told = network(**{slot: features[name][at] for slot, name in member.slots.items()})
            parts = mil_loss(pool(told), labels()[at], **smooth or {})
            loss = torch.stack(list(parts.values())).sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
            for name, part in parts.items():
                sums[f"loss_{name}"] += part.item() * len(at) / CLIPS
            sums["loss"] += loss.item() * len(at) / CLIPS
        rows.append(dict(sums))
    return network.eval(), rows


def furthest(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The largest difference of weights, but for those that nothing is felt of."""
    assert list(one) == list(other)
    worst = 0.0
    for name, weight in one.items():
        apart = (weight - other[name]).abs()
        if name.endswith("in_proj_bias"):  # of keys: one more number for all seconds, before a softmax over them
            apart = torch.stack((*apart.chunk(3),))[[0, 2]]
        if name not in UNFELT:
            worst = max(worst, apart.max().item())
    return worst


def without_clip(member: Member) -> Member:
    return Member(member.name, {k: v for k, v in member.slots.items() if k != "clip"}, member.seed, member.lr)


# ---- as alone --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize(
    ("count", "options", "dtype", "tolerance"),
    [
        *((count, SMALL, torch.float64, 1e-10) for count in (1, 2, 3, 4)),
        (4, DEEP, torch.float64, 1e-10),
        *((count, SMALL, torch.float32, 2e-5) for count in (1, 4)),
    ],
)
def test_every_member_becomes_what_it_becomes_alone(
    count: int, options: dict[str, Any], dtype: torch.dtype, tolerance: float, dropout: float
) -> None:
    """Unequal sizes, rates and seeds; with the very dropout it has alone."""
    features, options = made(dtype), options | {"dropout": dropout}
    stack = Stack(MEMBERS[:count], features, labels(), **options)
    losses = [stack.epoch(epoch, batch=BATCH) for epoch in range(4)]
    for number, member in enumerate(MEMBERS[:count]):
        network, rows = alone(member, features, 4, **options)
        assert furthest(stack.state_dict(member.name), network.state_dict()) <= tolerance
        for row, epoch in zip(rows, losses, strict=True):
            assert epoch[number] == pytest.approx(row, abs=1e-6)
        assert rows[-1]["loss"] < rows[0]["loss"]


def test_without_a_clip_feature_at_a_lower_rate_with_smoothed_labels() -> None:
    features, members = made(torch.float64), [without_clip(member) for member in MEMBERS]
    smooth = {"smooth_audio": 0.8, "smooth_visual": 0.7}
    stack = Stack(members, features, labels(), **smooth, **SMALL)
    for epoch in range(2):
        stack.epoch(epoch, batch=BATCH, lr_factor=0.1)
    for member in members:
        network, _ = alone(member, features, 2, factor=0.1, smooth=smooth, **SMALL)
        assert furthest(stack.state_dict(member.name), network.state_dict()) <= 1e-10


def test_a_member_ends_where_the_training_of_one_parser_ends(tmp_path: Path) -> None:
    """That of ``extract parse train``, from first weights to predictions."""
    features, later = made(), made(clips=5)
    stack = Stack(MEMBERS, features, labels(), width=8, feedforward=8)
    for epoch in range(3):
        stack.epoch(epoch, batch=BATCH)
    for member, found in zip(MEMBERS, stack.predict(later), strict=True):
        folder = tmp_path / member.name
        folder.mkdir()
        config = Config(
            "avvp", "han", **member.slots, seed=member.seed, lr=member.lr, epochs=3, batch=BATCH, select="last", width=8
        )
        splits = [
            Split(
                "train",
                tuple(map(str, range(len(weak)))),
                len(weak),
                (),
                {s: of[n] for s, n in member.slots.items()},
                weak,
            )
            for of, weak in ((features, labels()), (later, labels(5)))
        ]
        trained = train(config, {"train": splits[0]}, [str(c) for c in range(CLASSES)], folder)
        assert furthest(stack.state_dict(member.name), trained.model.state_dict()) <= 2e-5
        wanted = predict(trained.model, splits[1]).probabilities
        assert wanted is not None
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_bfloat16_learns_about_the_same() -> None:
    rough, exact = (Stack(MEMBERS, made(), labels(), precision=p, **SMALL) for p in ("bfloat16", "float32"))
    for epoch in range(3):
        pairs = list(zip(rough.epoch(epoch, batch=BATCH), exact.epoch(epoch, batch=BATCH), strict=True))
        for one, other in pairs:
            assert one == pytest.approx(other, abs=0.02)
            assert one != other
    assert all(np.isfinite(each).all() for told in rough.predict(made()) for each in told)


# ---- members do not touch each other ---------------------------------------------------------------------------------


@pytest.mark.parametrize("poisoned", ["ear2", "eye1"])
def test_a_member_that_becomes_nan_harms_nobody(poisoned: str) -> None:
    """Not even those that read the same features as it."""
    good, bad = made(), made()
    bad[poisoned][3] = float("nan")
    stacks = [Stack(MEMBERS, features, labels(), **SMALL) for features in (good, bad)]
    for epoch in range(3):
        healthy, told = (stack.epoch(epoch, batch=BATCH) for stack in stacks)
        ill = [poisoned in member.slots.values() for member in MEMBERS]
        assert 0 < sum(ill) < len(ill)
        for one, other, hit in zip(healthy, told, ill, strict=True):
            assert hit == bool(np.isnan(other["loss"]))
            assert hit or one == other
    for member, found, wanted, hit in zip(MEMBERS, stacks[1].predict(good), stacks[0].predict(good), ill, strict=True):
        assert hit == bool(np.isnan(found.frame).all())
        assert hit or all(np.array_equal(one, other) for one, other in zip(found, wanted, strict=True))
        ours, theirs = (stack.state_dict(member.name) for stack in stacks)
        assert hit or all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("gone", ["a", "ab", "bd", "c", "abd"])
def test_those_that_stay_train_on_as_if_none_had_left(after: int, gone: str) -> None:
    features = made(torch.float64)
    whole, less = (Stack(MEMBERS, features, labels(), **SMALL) for _ in range(2))
    stay = [member for member in MEMBERS if member.name not in gone]
    for epoch in range(4):
        if epoch == after:
            less.drop(gone[:1])
            less.drop(gone[1:])
        told = {member.name: row for member, row in zip(MEMBERS, whole.epoch(epoch, batch=BATCH), strict=True)}
        rows = less.epoch(epoch, batch=BATCH)
        if epoch >= after:
            assert less.members == tuple(stay)
            assert rows == [pytest.approx(told[member.name], abs=1e-6) for member in stay]
    for member in stay:
        assert furthest(less.state_dict(member.name), whole.state_dict(member.name)) <= 1e-10
    by_name = {member.name: found for member, found in zip(MEMBERS, whole.predict(features), strict=True)}
    for member, found in zip(stay, less.predict(features), strict=True):
        np.testing.assert_allclose(found.frame, by_name[member.name].frame, atol=1e-6)


def test_two_equal_stacks_give_the_same_bits_whatever_was_drawn_before() -> None:
    stacks = []
    for drawn in range(2):
        torch.manual_seed(drawn)
        before = torch.get_rng_state()
        stack = Stack(MEMBERS, made(), labels(), **SMALL)
        told = [stack.epoch(epoch, batch=BATCH) for epoch in (0, 1)]
        assert torch.equal(torch.get_rng_state(), before), "torch's own generator is left as it was"
        stacks.append((told, [stack.state_dict(member.name) for member in MEMBERS]))
    assert stacks[0][0] == stacks[1][0]
    for one, other in zip(stacks[0][1], stacks[1][1], strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


# ---- dropout ---------------------------------------------------------------------------------------------------------


def test_each_member_has_its_own_dropout_and_the_one_it_has_alone() -> None:
    share, seeds = 0.3, [5, 6, 2**63 - 1]
    ones = torch.ones(3, 2, 7, 501)
    masks = Dropout(seeds, share, ones.device)
    told = [masks(ones), masks(ones)]
    for number, seed in enumerate(seeds):
        torch.manual_seed(seed)
        for found in told:
            assert torch.equal(found[number], drop(ones[number], share, True))
            assert (found[number] == 0).float().mean().item() == pytest.approx(share, abs=0.02)
            assert found[number].max().item() == pytest.approx(1 / (1 - share), rel=1e-4)
    zeros = [found[number] == 0 for found in told for number in range(3)]
    for i, one in enumerate(zeros):
        for other in zeros[:i]:
            assert (one & other).float().mean().item() == pytest.approx(share**2, abs=0.02), "they are independent"


def test_dropout_differs_by_epoch_and_by_seed() -> None:
    """With a rate too small to move the weights, losses differ by dropout alone."""
    still = [Member(f"{seed}", MEMBERS[0].slots, seed, 1e-30) for seed in (0, 1)]
    features = {name: rows[:1].expand(CLIPS, -1, -1) for name, rows in made().items()}
    weak = labels()[:1].expand(CLIPS, -1)
    stack = Stack(still, features, weak, dropout=0.3, **SMALL)
    told = [row["loss"] for epoch in (0, 1, 0) for row in stack.epoch(epoch, batch=BATCH)]
    assert told[:2] == told[4:]
    assert len(set(told)) == 4
    plain = Stack([still[0]], features, weak, dropout=0.0, **SMALL)
    assert plain.epoch(0, batch=CLIPS) == plain.epoch(1, batch=CLIPS)


# ---- a member on its own ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [SMALL, DEEP, SMALL | {"layers": 3}])
def test_weights_of_a_member_load_into_han_and_predict_the_same(options: dict[str, Any]) -> None:
    """More clips than are predicted at once; after training and after some have left."""
    stack, later = Stack(MEMBERS, made(), labels(), **options), made(clips=150)
    stack.epoch(0, batch=BATCH)
    stack.drop(["b"])
    for member, found in zip(stack.members, stack.predict(later), strict=True):
        network = HAN(classes=CLASSES, **sizes(member), **options).eval()
        network.load_state_dict(stack.state_dict(member.name), strict=True)
        with torch.no_grad():
            told = network(**{slot: later[name] for slot, name in member.slots.items()})
        for one, other in zip(found, (told.frame, *pool(told)), strict=True):
            assert one.dtype == np.float32
            np.testing.assert_allclose(one, other.numpy(), atol=1e-5)


def test_what_is_given_back_is_a_copy() -> None:
    stack = Stack(MEMBERS, made(), labels(), **SMALL)
    before = stack.state_dict("a")
    kept = {name: weight.clone() for name, weight in before.items()}
    stack.epoch(0, batch=BATCH)
    assert all(torch.equal(before[name], kept[name]) for name in kept)
    now = stack.state_dict("a")
    for weight in stack.state_dict("a").values():
        weight.zero_()
    assert all(torch.equal(weight, now[name]) for name, weight in stack.state_dict("a").items())


# ---- shared features -------------------------------------------------------------------------------------------------


class _Gathers(TorchDispatchMode):
    """Counts how often rows are taken out of each feature."""

    def __init__(self, features: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.names = {data.data_ptr(): name for name, data in features.items()}
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.index.Tensor and args[0].data_ptr() in self.names:
            self.found[self.names[args[0].data_ptr()]] += 1
        return func(*args, **kwargs or {})


def test_rows_of_a_feature_are_held_once_and_taken_once_per_step_and_seed() -> None:
    features, steps = made(), 4
    assert steps * BATCH - CLIPS in range(BATCH)
    stack = Stack(MEMBERS, features, labels(), **SMALL)
    with _Gathers(features) as gathers:
        stack.epoch(0, batch=BATCH)
    seeds = {"ear1": 2, "ear2": 1, "eye1": 1, "eye2": 2, "motion": 2}
    assert gathers.found == {name: steps * count for name, count in seeds.items()}, "the features themselves are read"
    stack.drop("abd")
    with _Gathers(features) as gathers:
        stack.epoch(1, batch=BATCH)
    needed = ("ear1", "eye2", "motion")
    assert gathers.found == dict.fromkeys(needed, steps)
    assert len(stack.predict({name: features[name] for name in needed})) == 1, "the others are let go"


# ---- wrong input -----------------------------------------------------------------------------------------------------


A = MEMBERS[0]
WRONG: list[tuple[dict[str, Any], type[ExtractError], str]] = [
    ({"members": []}, PlanError, "a stack of no members"),
    ({"members": [A, A]}, PlanError, "two members of a stack are called 'a'"),
    ({"members": [A, without_clip(MEMBERS[1])]}, PlanError, "a stack holds parsers of equal slots: make two stacks"),
    (
        {"members": [Member("x", {"audio": "ear1"}, 0, 1e-3)]},
        PlanError,
        "'x' has the slots audio; a parser has audio and",
    ),
    (
        {"members": [Member("x", {**A.slots, "visual": "eye3"}, 0, 1e-3)]},
        UnknownName,
        "no feature is called 'eye3'; did you mean",
    ),
    ({"members": [Member("x", A.slots, 0, 0.0)]}, PlanError, r"lr must be above 0, got 0\.0 for member 'x'"),
    ({"members": [Member("x", A.slots, 0, float("nan"))]}, PlanError, "lr must be above 0, got nan"),
    (
        {"features": made() | {"eye1": torch.zeros(CLIPS - 1, SECONDS, 20)}},
        PlanError,
        "'eye1' has 27 clips of 5 seconds",
    ),
    ({"features": made() | {"eye1": torch.zeros(CLIPS, SECONDS + 1, 20)}}, PlanError, "28 clips of 6 seconds and"),
    ({"features": made() | {"eye1": torch.zeros(CLIPS, SECONDS)}}, PlanError, r"the shape \(28, 5\); a stack reads"),
    ({"features": made() | {"eye1": made(torch.float64)["eye1"]}}, PlanError, "'eye1' is torch.float64 and 'ear1' is"),
    ({"features": made(torch.bfloat16)}, PlanError, "is torch.bfloat16 .* must be torch.float32"),
    ({"weak": labels()[:-1]}, PlanError, r"labels have the shape \(27, 4\).*need \(28, classes\)"),
    ({"weak": labels()[0]}, PlanError, r"labels have the shape \(4,\)"),
    ({"precision": "float61"}, UnknownName, "no precision is called 'float61'"),
    ({"heads": 3}, PlanError, "3 heads do not divide"),
    ({"encoder_compat": "chain"}, UnknownName, "did you mean chained"),
]


@pytest.mark.parametrize(("change", "error", "message"), WRONG, ids=[message for _, _, message in WRONG])
def test_what_cannot_be_a_stack_is_refused(change: dict[str, Any], error: type[ExtractError], message: str) -> None:
    given: dict[str, Any] = {"members": MEMBERS[:2], "features": made(), "weak": labels(), **SMALL}
    with pytest.raises(error, match=message):
        Stack(**given | change)


def test_what_a_stack_cannot_do_is_refused_and_changes_nothing() -> None:
    features = made()
    stack = Stack(MEMBERS, features, labels(), **SMALL)
    with pytest.raises(UnknownName, match="no member of the stack is called 'e'"):
        stack.drop(["a", "e"])
    with pytest.raises(PlanError, match="none of the 4 members would be left"):
        stack.drop("abcd")
    with pytest.raises(UnknownName, match="no member of the stack is called 'e'"):
        stack.state_dict("e")
    with pytest.raises(UnknownName, match="no feature is called 'motion'"):
        stack.predict({name: rows for name, rows in features.items() if name != "motion"})
    with pytest.raises(PlanError, match="'eye1' has 3 numbers per second, and the stack was trained on 20"):
        stack.predict(features | {"eye1": torch.zeros(CLIPS, SECONDS, 3)})
    with pytest.raises(PlanError, match="batch must be at least 1, got 0"):
        stack.epoch(0, batch=0)
    assert stack.members == tuple(MEMBERS)
