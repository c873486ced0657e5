"""Every named backbone against the plain forward of its library: float32, bfloat16, and both compiled. One table.

    python benchmarks/networks.py [--compile] NAME ...

Ratios come from forwards in turns, best of several; run it on a quiet machine.
"""

from __future__ import annotations

import argparse

import torch

from backbones import registry
from backbones.sources import parse_source
from extract.bench.networks import against_plain
from extract.engine.cores import threads_per_lane
from extract.grid import Grid
from extract.lane.memory import keep_freed_memory
from extract.lane.models import batch_of
from extract.plan import Feature

NAMES = (
    "vggish",
    "openl3_audio_mel256_env_512",
    "resnet152",
    "vgg19_bn",
    "senet154",
    "polynet",
    "openl3_image_mel256_env_512",
    "r2plus1d_18",
)


def main() -> None:
    """Print one line per backbone and precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precisions", default="float32,bfloat16")
    given = parser.parse_args()
    torch.set_num_threads(threads_per_lane(["cpu"]))
    keep_freed_memory()  # as a lane does; the plain forwards have the good of it too
    print(
        f"{'backbone':40}{'precision':10}{'batch':>6}{'plain ms':>10}{'ours ms':>10}{'x':>7}{'compiled':>10}{'x':>7}  cosine"
    )
    for name in given.names:
        backbone = registry.get(name)
        for precision in given.precisions.split(","):
            batch = batch_of(Feature(backbone, backbone.views, Grid(), "random:0", precision), given.device)
            plain, ours, *compiled = against_plain(
                backbone, parse_source("random:0"), batch, given.device, precision, given.repeats, given.compile
            )
            last = (
                f"{compiled[0].seconds_per_row * 1e3:10.2f}{compiled[0].times:7.2f}"
                if compiled
                else f"{'-':>10}{'-':>7}"
            )
            print(
                f"{name:40}{precision:10}{batch:6}{plain.seconds_per_row * 1e3:10.2f}{ours.seconds_per_row * 1e3:10.2f}"
                f"{ours.times:7.2f}{last}  {min(way.cosine for way in (ours, *compiled)):.6f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
