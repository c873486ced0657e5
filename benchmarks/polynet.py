"""Our PolyNet against pytorchcv's and pretrainedmodels' on the CPU, on the same frames and weights.

OMP_WAIT_POLICY=passive python benchmarks/polynet.py [--reference-path DIR] [--rounds 5] [--rows 2] [--threads 2]

DIR is where both packages are; ``pip install --no-deps --target DIR pytorchcv==0.0.74 pretrainedmodels==0.7.4 munch six scipy``
puts them there. In every round one network runs after the other, and the best of the rounds counts. CPU seconds are those of
all threads: on a shared machine they say more than the clock, as long as threads that wait do not spin, hence the variable.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from backbones import random, registry
from backbones.sources import Source
from backbones.weights import materialise


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--reference-path", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.reference_path:
        sys.path.insert(0, str(options.reference_path))
    try:
        from pretrainedmodels.models.polynet import PolyNet
        from pytorchcv.models.polynet import polynet
    except ImportError as error:
        raise SystemExit(f"{error}: see --reference-path in the first lines of {__file__}") from error

    cadene, pytorchcv = PolyNet().eval(), polynet().eval()
    random.fill(cadene, 0)
    state = cadene.state_dict()
    for key, tensor in state.items():
        if key.endswith("bn.weight") and ".conv2d" in key:
            tensor.mul_(random.RESIDUAL_SCALE)  # or forty modules overflow
    pytorchcv.load_state_dict(dict(zip(pytorchcv.state_dict(), state.values(), strict=True)))
    with tempfile.TemporaryDirectory() as folder:
        torch.save(state, Path(folder) / "polynet-f71d82a5.pth")
        ours = materialise(registry.get("polynet"), Source("folder", folder=Path(folder)), allow_unverified=True)

    frames = torch.from_numpy(random.values(0, "frames", options.rows * 331 * 331 * 3))
    # as the decoder makes them, and as torchvision's transforms do
    ours_in = frames.reshape(options.rows, 1, 331, 331, 3).permute(0, 1, 4, 2, 3)
    theirs_in = ours_in[:, 0].contiguous()
    networks: dict[str, Callable[[], torch.Tensor]] = {
        "ours": lambda: ours(ours_in),
        "pretrainedmodels 0.7.4": lambda: nn.functional.avg_pool2d(cadene.features(theirs_in), 9).flatten(1),
        "pytorchcv 0.0.74": lambda: pytorchcv.features(theirs_in).flatten(1),
    }
    wall: dict[str, list[float]] = {name: [] for name in networks}
    cpu: dict[str, list[float]] = {name: [] for name in networks}
    rows = {}
    with torch.inference_mode():
        for _ in range(options.rounds):
            for name, network in networks.items():
                started_cpu, started = time.process_time(), time.perf_counter()
                rows[name] = network()
                wall[name].append(time.perf_counter() - started)
                cpu[name].append(time.process_time() - started_cpu)
    print(f"{'':24}{'s/row':>8}{'CPU s/row':>11}{'times ours':>12}{'CPU':>7}{'apart':>10}")
    for name in networks:
        apart = ((rows[name] - rows["ours"]).abs().max() / rows["ours"].abs().max()).item()
        print(
            f"{name:24}{min(wall[name]) / options.rows:8.2f}{min(cpu[name]) / options.rows:11.2f}"
            f"{min(wall[name]) / min(wall['ours']):12.2f}{min(cpu[name]) / min(cpu['ours']):7.2f}{apart:10.1e}"
        )


if __name__ == "__main__":
    main()
