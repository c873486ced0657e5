"""A stack that was saved goes on, in another process and with fewer members, as if nothing had happened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from extract.errors import PlanError
from pipelines.collocation.stack.stacked import Member, Stack

CLIPS, SECONDS, CLASSES, BATCH = 20, 4, 3, 8
DIMS = {"ear1": 7, "ear2": 12, "eye1": 20, "eye2": 9, "motion": 5}
SMALL: dict[str, Any] = {"width": 8, "heads": 2, "feedforward": 12}
PAIRS = [("a", "ear1", "eye1", 0, 3e-3), ("b", "ear2", "eye1", 0, 3e-3), ("c", "ear1", "eye2", 1, 1e-3)]
PAIRS += [("d", "ear1", "eye2", 0, 3e-3), ("e", "ear2", "eye2", 0, 1e-3)]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def members(clip: bool = True, names: str = "abcde") -> list[Member]:
    third = {"clip": "motion"} if clip else {}
    return [Member(n, {"audio": a, "visual": v, **third}, seed, lr) for n, a, v, seed, lr in PAIRS if n in names]


def features(dtype: torch.dtype = torch.float32, **dims: int) -> dict[str, Tensor]:
    drawn = torch.Generator().manual_seed(0)
    return {name: torch.randn(CLIPS, SECONDS, d, generator=drawn, dtype=dtype) for name, d in {**DIMS, **dims}.items()}


def made(given: list[Member], dtype: torch.dtype = torch.float32, **options: Any) -> Stack:
    weak = (torch.rand(CLIPS, CLASSES, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    return Stack(given, features(dtype), weak, **SMALL | options)


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def through_a_file(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    assert all(tensor.is_contiguous() and tensor.device.type == "cpu" for tensor in tensors.values())
    return load(save(dict(tensors)))


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        (torch.float32, {}),
        (torch.float32, {"precision": "bfloat16"}),
        (torch.float64, {"layers": 2, "encoder_compat": "chained", "dropout": 0.0}),
    ],
    ids=["float32", "bfloat16", "chained"],
)
@pytest.mark.parametrize("done", [0, 1, 3])
@pytest.mark.parametrize("gone", ["", "a", "bd", "acde"])
def test_to_go_on_gives_the_bits_of_no_interruption(
    clip: bool, dtype: torch.dtype, options: dict[str, Any], done: int, gone: str
) -> None:
    """Members have unequal rates and seeds; after "a" left, features are first read in another order than before."""
    whole = made(members(clip), dtype, **options)
    for epoch in range(done):
        if gone and epoch == 1:
            whole.drop(gone)
        whole.epoch(epoch, batch=BATCH)
    if gone and done <= 1:
        whole.drop(gone)
    given = members(clip, "".join(set("abcde") - set(gone)))
    again = made(given, dtype, **options)
    again.epoch(7, batch=BATCH)
    again.restore(through_a_file(whole.tensors()))
    assert equal(again.tensors(), whole.tensors())
    for epoch in (done, done + 1):
        told = [stack.epoch(epoch, batch=BATCH, lr_factor=0.5) for stack in (whole, again)]
        assert told[0] == told[1]
    assert equal(again.tensors(), whole.tensors())
    for member in given:
        assert equal(again.state_dict(member.name), whole.state_dict(member.name))
    again.drop([given[0].name] * (len(given) > 1))
    assert len(again.predict(features(dtype))) == max(1, len(given) - 1)


def test_a_file_holds_members_under_their_names() -> None:
    stack = made(members())
    assert stack.tensors()["step"] == 0
    stack.epoch(0, batch=BATCH)
    tensors = stack.tensors()
    assert tensors["step"] == 3
    own = stack.state_dict("c")
    assert tensors.keys() == {"step"} | {
        f"{kind}.{name}.{parameter}"
        for kind in ("weight", "exp_avg", "exp_avg_sq")
        for name in "abcde"
        for parameter in own
    }
    assert torch.equal(tensors["weight.c.fc_v.weight"], own["fc_v.weight"])
    assert all(tensor.abs().max() > 0 for name, tensor in tensors.items() if name.startswith("exp_avg"))


def test_moments_are_those_of_torch_for_one_parser() -> None:
    """Of the biases of the first step: (1 - beta) times the gradient, and times its square."""
    stack = made(members(names="a"), dropout=0.0)
    stack.epoch(0, batch=CLIPS)
    tensors = stack.tensors()
    gradient = tensors["exp_avg.a.fc_a.bias"] / 0.1
    torch.testing.assert_close(tensors["exp_avg_sq.a.fc_a.bias"], gradient**2 * 0.001)


def test_what_is_given_is_a_copy_and_what_is_taken_is_one() -> None:
    stack, other = made(members()), made(members())
    stack.epoch(0, batch=BATCH)
    tensors = stack.tensors()
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    other.restore(tensors)
    stack.epoch(1, batch=BATCH)
    assert equal(tensors, before), "training on does not change it"
    other.epoch(1, batch=BATCH)
    assert equal(tensors, before), "nor does training from it"
    other.restore(tensors)
    assert equal(other.tensors(), before)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"given": members(names="abcd")}, r"lacks nothing and has weight\.e\.hat_\S+, weight\.e\.hat_\S+ and \d+ more besides"),
    ({"given": [*members(names="abcd"), Member("f", *[getattr(members()[4], n) for n in ("slots", "seed", "lr")])]},
     r"lacks weight\.f\.hat_\S+, .* has weight\.e\.hat_"),
    ({"given": members(clip=False)}, r"lacks nothing and has weight\.e\.fc_st\.weight, .* besides"),
    ({"given": members(), "encoder_compat": "chained", "layers": 2}, r"lacks weight\.e\.hat_encoder\.layers\.1\."),
    ({"given": members(), "width": 10},
     r"weight\.a\.fc_a\.weight is torch\.float32 of the shape \(8, 7\) there and torch\.float32 of \(10, 7\) here"),
    ({"given": [Member("a", members()[1].slots, 0, 3e-3), *members(names="bcde")]},
     r"a\.fc_a\.weight is torch\.float32 of the shape \(8, 7\) there and torch\.float32 of \(8, 12\) here"),
    ({"given": members(), "dtype": torch.float64}, r"is torch\.float32 of the shape .* there and torch\.float64 of"),
]  # fmt: skip


@pytest.mark.parametrize(("other", "words"), WRONG, ids=["fewer", "named", "slots", "layers", "width", "dims", "dtype"])
def test_a_stack_of_other_members_is_refused_and_stays(other: dict[str, Any], words: str) -> None:
    stack = made(members())
    stack.epoch(0, batch=BATCH)
    into = made(**other)
    before = into.tensors()
    with pytest.raises(PlanError, match=words) as error:
        into.restore(stack.tensors())
    text = str(error.value)
    assert text.startswith("what was saved is of another stack: ")
    assert text.endswith("; train it again from the start")
    assert "\n" not in text
    assert equal(into.tensors(), before)


def test_tensors_that_are_not_there_are_named() -> None:
    stack = made(members(names="a"))
    tensors = stack.tensors()
    del tensors["step"]
    with pytest.raises(PlanError, match=r"it lacks step and has nothing besides"):
        stack.restore(tensors)
