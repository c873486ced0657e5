"""One network alone: milliseconds per row by batch size, against the plain forward of its library and a matrix product."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backbones import registry, testing, weights
from backbones.sources import Source
from backbones.spec import Backbone
from extract.batches import remember_batch, remembered_batch
from extract.lane.memory import keep_freed_memory
from extract.lane.models import GPU_BATCHES
from extract.plan import Precision

if TYPE_CHECKING:
    import torch

CPU_BATCHES = (1, 2, 4, 8, 16, 32)
LONGEST_S = 20.0  # larger batches are not tried once one forward takes that long
GAIN = 0.95  # another batch than the declared one must be faster than noise
SQUARE = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True, slots=True)
class Speed:
    """Best of several forwards at one batch size; `independent`: a row's bits do not depend on its neighbours."""

    batch: int
    ms_per_row: float
    independent: bool


def lines(
    name: str,
    source: Source,
    *,
    device: str = "cpu",
    precision: Precision = "float32",
    batches: Sequence[int] = (),
    repeats: int = 3,
    compile_it: bool = False,
    keep: bool = True,
    allow_unverified: bool = False,
) -> Iterator[str]:
    """Measure one backbone and say what was found.

    Parameters
    ----------
    name
        of a registered backbone
    source, allow_unverified
        of its weights; speed does not depend on them
    device, precision
        as for a run
    batches
        to try; empty: powers of two until they no longer pay
    repeats
        the best one counts
    compile_it
        also time the compiled network at the best batch
    keep
        remember the best batch for runs on this machine
    """
    import torch

    if device == "cpu":
        keep_freed_memory()  # as a lane does; the plain forward has the good of it too
    backbone = registry.get(name)
    module = weights.materialise(backbone, source, device, precision, allow_unverified)
    yield f"{name}: {precision} on {device}, {torch.get_num_threads()} threads, {backbone.gmacs:g} GMAC per row"
    tried: list[Speed] = []
    for batch in batches or _candidates(device):
        seconds = _best(_forward(module, backbone, batch, device, precision), repeats)
        ok = testing.independent(_as_float32(module, precision), backbone.views, batch, device)
        tried.append(Speed(batch, seconds / batch * 1e3, ok))
        yield f"  {_line(f'batch {batch:3d}', seconds / batch, backbone)}{'' if ok else '   rows depend on their neighbours'}"
        worse = len(tried) > 2 and all(s.ms_per_row > min(t.ms_per_row for t in tried) * 1.02 for s in tried[-2:])
        if not batches and (seconds > LONGEST_S or worse):
            break
    best = fittest(tried, backbone.batch * (1 if device == "cpu" else GPU_BATCHES))
    del module
    compared = against_plain(backbone, source, best.batch, device, precision, repeats, compile_it, allow_unverified)
    for way in compared:
        line = _line(way.label, way.seconds_per_row, backbone)
        yield f"  {line}   {way.times:5.2f} x plain   cosine {way.cosine:.6f}"
    product = product_gmac_per_s(device, precision)
    share = backbone.gmacs / min(way.seconds_per_row for way in compared) / product
    yield f"  a plain matrix product does {product:.0f} GMAC/s ({product * 2e-3:.2f} TFLOP/s); the network {share:.0%} of that"
    if keep and best.independent:
        before = remembered_batch(name, backbone.views, device, precision)
        remember_batch(name, backbone.views, device, precision, best.batch)
        yield f"  best batch {best.batch}, remembered for this machine{f' (was {before})' if before else ''}"
    else:
        yield f"  best batch {best.batch}, not remembered"


def fittest(tried: Sequence[Speed], declared: int) -> Speed:
    """The fastest batch in which rows are independent; the declared one where no other is clearly faster."""
    usable = [speed for speed in tried if speed.independent] or list(tried)
    fastest = min(usable, key=lambda speed: speed.ms_per_row)
    return next(
        (s for s in usable if s.batch == declared and fastest.ms_per_row > s.ms_per_row * GAIN),
        fastest,
    )


@dataclass(frozen=True, slots=True)
class Against:
    """One way of running a network beside the plain one: seconds per row, how many times faster, least cosine of the rows."""

    label: str
    seconds_per_row: float
    times: float
    cosine: float


def against_plain(
    backbone: Backbone,
    source: Source,
    batch: int,
    device: str,
    precision: Precision,
    repeats: int,
    compile_it: bool,
    allow_unverified: bool = False,
) -> list[Against]:
    """Time our forward and the network as its library builds it, float32 and eager, in turns."""
    import torch

    from extract.lane.compiled import compiled

    def load(precision: Precision, folded: bool = True) -> torch.nn.Module:
        return weights.materialise(backbone, source, device, precision, allow_unverified, folded=folded)

    library = load("float32", folded=False)
    library = library.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    steps = {
        "plain float32": _forward(library, backbone, batch, device, "float32", plain=True),
        "ours": _forward(load(precision), backbone, batch, device, precision),
    }
    if compile_it:
        steps["compiled"] = _forward(compiled(load(precision), device), backbone, batch, device, precision)
    rows = {label: step().double().flatten(1) for label, step in steps.items()}
    seconds = dict.fromkeys(steps, float("inf"))
    for _ in range(repeats):
        for label, step in steps.items():
            seconds[label] = min(seconds[label], _timed(step))
    plain = rows["plain float32"]
    return [
        Against(
            label,
            best_s / batch,
            seconds["plain float32"] / best_s,
            torch.nn.functional.cosine_similarity(rows[label], plain).min().item(),
        )
        for label, best_s in seconds.items()
    ]


def product_gmac_per_s(device: str, precision: Precision) -> float:
    """Multiply-adds per second, in units of 1e9, of one large square matrix product."""
    import torch

    size = SQUARE["cuda" if device.startswith("cuda") else "cpu"]
    a, b = (torch.rand(size, size, device=device, dtype=getattr(torch, precision)) for _ in range(2))

    def step() -> torch.Tensor:
        out = a @ b
        _wait(device)
        return out

    step()
    return size**3 / _best(step, 5) / 1e9


def _candidates(device: str) -> tuple[int, ...]:
    return CPU_BATCHES if device == "cpu" else tuple(batch * GPU_BATCHES for batch in CPU_BATCHES)


def _forward(
    module: torch.nn.Module, backbone: Backbone, batch: int, device: str, precision: Precision, plain: bool = False
) -> Callable[[], torch.Tensor]:
    import torch

    inputs = [
        _tensor(array, plain).to(device, getattr(torch, precision))
        for array in testing.drawn_batch(backbone.views, batch)
    ]

    def step() -> torch.Tensor:
        with torch.inference_mode():
            out: torch.Tensor = module(*inputs)
            _wait(device)
        return out

    return step


def _tensor(array: NDArray[np.float32], plain: bool) -> torch.Tensor:
    import torch

    tensor = torch.from_numpy(array)
    if plain or tensor.ndim != 5:
        return tensor
    # as the lane prepares frames: channels last
    return tensor.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


def _as_float32(module: torch.nn.Module, precision: Precision) -> torch.nn.Module:
    """The network for float32 input, which the conformance checks feed."""
    import torch

    if precision == "float32":
        return module

    class Cast(torch.nn.Module):
        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = module(*(x.to(getattr(torch, precision)) for x in inputs))
            return out

    return Cast()


def _best(step: Callable[[], object], repeats: int) -> float:
    step()
    return min(_timed(step) for _ in range(repeats))


def _timed(step: Callable[[], object]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


def _line(label: str, seconds_per_row: float, backbone: Backbone) -> str:
    return f"{label:14}{seconds_per_row * 1e3:9.2f} ms per row {backbone.gmacs / seconds_per_row:8.0f} GMAC/s"
