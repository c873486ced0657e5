"""What a stack of parsers costs beside as many trained one after the other: python benchmarks/collocation_stack.py

Both train the same HANs, one epoch at a time and taking turns; every time is the best of several. Also printed: how many
seconds one parser more costs in a stack, and that both sides say the same loss.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from pipelines.collocation.stack.stacked import Member, Stack
from pipelines.parsing.config import Config
from pipelines.parsing.cpu import quick
from pipelines.parsing.data import Split
from pipelines.parsing.learning.objective import make_objective
from pipelines.parsing.networks import build
from pipelines.parsing.train import one_epoch

DIMS = {"a0": 128, "a1": 512, "v0": 2048, "v1": 4096, "v2": 2048, "v3": 2048, "v4": 512}
"""VGGish and OpenL3; ResNet152, VGG19, SENet154, PolyNet and OpenL3."""
CLASSES = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parsers", default="1,3,10,30", help="comma-separated sizes of stacks")
    parser.add_argument("--widths", default="64,128,512")
    parser.add_argument("--clips", type=int, default=160)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    split = clips(args.clips).to(args.device)
    print("width  parsers  one by one, s  stack, s  ratio  ms per parser and step")
    for width in numbers(args.widths):
        for count in numbers(args.parsers):
            config = Config(
                "avvp", "han", "", "", width=width, batch=args.batch, precision=args.precision, select="last"
            )
            alone_s, stack_s = both(config, split, members(count, config.lr), args.repeats)
            steps = -(-args.clips // args.batch)
            each = 1000 * stack_s / count / steps
            print(
                f"{width:<6} {count:<8} {alone_s:<14.3f} {stack_s:<9.3f} {alone_s / stack_s:<6.2f} {each:.2f}",
                flush=True,
            )


def numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


def clips(count: int) -> Split:
    generator = torch.Generator().manual_seed(0)
    features = {name: torch.randn(count, 10, dim, generator=generator) for name, dim in DIMS.items()}
    weak = (torch.rand(count, CLASSES, generator=generator) < 0.08).float()
    return Split("train", tuple(map(str, range(count))), count, (), features, weak)


def members(count: int, lr: float) -> list[Member]:
    """Pair by pair, then with the next seed."""
    pairs = [each for each in itertools.product(DIMS, DIMS) if each[0][0] == "a" and each[1][0] == "v"]
    found = [Member(f"{a}+{v} {seed}", {"audio": a, "visual": v}, seed, lr) for seed in range(count) for a, v in pairs]
    return found[:count]


def both(config: Config, split: Split, some: Sequence[Member], repeats: int) -> tuple[float, float]:
    """Seconds of an epoch of all, one by one and as a stack."""
    stack = Stack(
        some, split.features, split.weak, width=config.width, feedforward=config.width, dropout=config.dropout,
        precision=config.precision,
    )  # fmt: skip
    alone = [one(config, split, member) for member in some]
    best = [float("inf"), float("inf")]
    for epoch in range(repeats):
        alone_s, mine = timed(lambda number: [each(number) for each in alone], epoch)
        stack_s, its = timed(lambda number: together(stack, number, config), epoch)
        best = [min(best[0], alone_s), min(best[1], stack_s)]
        far = max(abs(one - other) / one for one, other in zip(mine, its, strict=True))
        assert far < 0.02, f"the losses of epoch {epoch} differ by {far:.1%}"
    return best[0], best[1]


def timed(work: Callable[[int], list[float]], epoch: int) -> tuple[float, list[float]]:
    start = time.perf_counter()
    losses = work(epoch)
    return time.perf_counter() - start, losses


def one(config: Config, split: Split, member: Member) -> Callable[[int], float]:
    """An epoch of a parser as `extract parse train` trains it."""
    own = replace(config, seed=member.seed, **member.slots)
    train = replace(split, features={slot: split.features[name] for slot, name in member.slots.items()})
    objective = make_objective(own, {"train": train}, [str(each) for each in range(CLASSES)], Path())
    network = build(own, CLASSES, train.dims).to(split.weak.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=own.lr, fused=True)

    def epoch(number: int) -> float:
        with quick(str(split.weak.device)):
            return float(one_epoch(own, objective, network, optimizer, number)["loss"])

    return epoch


def together(stack: Stack, epoch: int, config: Config) -> list[float]:
    return [row["loss"] for row in stack.epoch(epoch, batch=config.batch)]


if __name__ == "__main__":
    main()
