"""The lines that ``extract bench`` prints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from extract.bench import stages
from extract.engine.cores import threads_per_lane
from extract.plan import Plan

PICTURES = 80


def made_clip(folder: Path) -> Path:
    """One clip of the demo set: 10 s, 320x240, 30 frames per second, H.264 and AAC."""
    from extract.demo import make_demo

    make_demo(folder, folder / "bench.csv", clips=1, seconds=10, seed=0, progress=False)
    return next(folder.glob("*.mp4"))


def lines(
    path: str, plan: Plan, weights: str, device: str, batch: int | None, repeats: int, folder: Path
) -> Iterator[str]:
    """Measure and say, stage by stage; the best of `repeats` counts. Seconds are per clip."""
    import torch

    torch.set_num_threads(1)
    taps = plan.taps(plan.keys)
    yield f"clip {path}; best of {repeats}; decoding on one thread"
    floor = stages.best(lambda: stages.bare_decode(path, PICTURES), repeats)
    yield f"bare PyAV decode, {PICTURES} pictures to RGB, sound to 16 kHz   {floor.cpu_s:7.3f} s CPU"
    for name, some in (("with", taps), ("without", stages.without_jpeg(taps))):
        if name == "without" and some == taps:
            continue
        ours = stages.best(lambda some=some: stages.decode_and_prepare(path, plan, some), repeats)  # type: ignore[misc]
        label = f"all views, prepared, {name} the JPEG stage"
        yield f"{label:62}{ours.cpu_s:7.3f} s CPU   {ours.cpu_s / floor.cpu_s:5.2f} x the bare decode"
    torch.set_num_threads(threads_per_lane([device]))
    views = stages.decode_and_prepare(path, plan, taps, device)
    total = 0.0
    for key, model in stages.loaded(plan, weights, device, batch).items():
        own = [views[taps.index(tap)] for tap in plan.taps([key])]
        step = stages.forward(model, own)
        step()
        timing = stages.best(step, repeats)
        total += timing.wall_s
        rate = model.feature.gmacs * len(own[0]) / timing.wall_s
        yield (
            f"{key:34} {len(own[0]):3d} rows in batches of {model.batch:3d}    {timing.wall_s:7.3f} s wall "
            f"({timing.wall_s / len(own[0]) * 1e3:.2f} ms per row, {rate:.0f} GMAC/s)"
        )
    yield f"{'all networks, bare forwards on prepared tensors':62}{total:7.3f} s wall"
    sealed, raw, size = stages.sealing(plan.features, 64, folder, repeats)
    yield (
        f"sealing a part of 64 clips, {size / 1e6:.0f} MB with fsync: {size / 1e6 / sealed.wall_s:.0f} MB/s, "
        f"{sealed.wall_s / raw.wall_s:.2f} x a raw write of the same bytes"
    )
