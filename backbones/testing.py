"""The conformance test every backbone passes, here or from a plug-in: ``extract backbones check NAME``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backbones import random, registry, weights
from backbones.fold import fold
from backbones.known import ANSWERS, SINE_1KHZ, Answer
from backbones.sources import Source
from backbones.spec import Backbone, Frames, Sound, View

if TYPE_CHECKING:
    import torch

FOLDED = 1e-5  # of a row's largest value


@dataclass(frozen=True, slots=True)
class Check:
    """What came of one check: passed, failed, or None where it does not apply, and the numbers."""

    name: str
    passed: bool | None
    detail: str


def check(
    name: str, source: Source, device: str = "cpu", batch: int | None = None, allow_unverified: bool = False
) -> list[Check]:
    """Run a backbone on made-up input and see whether it keeps its promises.

    Parameters
    ----------
    name
        of a registered backbone
    source
        of its weights; the known answer needs the official ones
    device
        to run on
    batch
        rows per forward instead of the backbone's own number
    allow_unverified
        as for `weights.weights_id`

    Returns
    -------
    list of Check
        ``parameters``, ``folded`` (folding normalisations into convolutions, as runs do, changes rows by rounding only), and of
        the folded network ``shape``, ``deterministic``, ``neighbours`` (a row alone in a padded batch and another place has
        the bits it has among others), ``threads`` (on a CPU: two threads and four give the same bits, so that lanes may
        share the cores as they like), ``blank`` (black or silent input gives finite numbers), ``known answer``

    Raises
    ------
    UnknownName, WeightsError, DeviceUnavailable
        it could not be run at all
    """
    import torch

    backbone = registry.get(name)
    rows = batch or backbone.batch
    module = weights.materialise(backbone, source, device, allow_unverified=allow_unverified, folded=False)
    drawn, alone = drawn_batch(backbone.views, rows), _alone(backbone.views, rows)
    count = sum(parameter.numel() for parameter in module.parameters())
    quiet = not module.training and not any(parameter.requires_grad for parameter in module.parameters())
    plain = _forward(module, drawn, device).double()
    gone = fold(module, backbone.views)

    first, again = (_forward(module, drawn, device) for _ in range(2))
    padded = _forward(module, alone, device)
    wanted = (rows, *backbone.dims)
    rounding = ((first.double() - plain).abs().max() / plain.abs().max().clamp(min=1e-30)).item()
    off = (first[-1].double() - padded[0].double()).abs().max().item()
    checks = [
        Check("parameters", count == backbone.params and quiet, f"{count:,}, declared {backbone.params:,}"),
        Check(
            "folded", rounding <= FOLDED, f"{gone} normalisations; rows differ by {rounding:.1g} of the largest value"
        ),
        Check(
            "shape",
            tuple(first.shape) == wanted and first.dtype is torch.float32,
            f"{tuple(first.shape)} {first.dtype}",
        ),
        Check("deterministic", torch.equal(first, again), "the same batch twice"),
        Check(
            "neighbours", torch.equal(first[-1], padded[0]), f"row {rows - 1} of {rows}, then alone: differ by {off:g}"
        ),
        _threads(module, drawn, device),
        Check(
            "blank",
            bool(padded.isfinite().all() and first.isfinite().all()),
            f"norm {padded[-1].double().norm().item():.6g}",
        ),
    ]
    return [*checks, _known(backbone, module, source, device, rows, allow_unverified)]


def independent(module: torch.nn.Module, views: Sequence[View], rows: int, device: str) -> bool:
    """Whether in batches of so many rows a row's bits depend neither on the other rows nor on how many threads there are."""
    import torch

    drawn = drawn_batch(views, rows)
    first, padded = _forward(module, drawn, device), _forward(module, _alone(views, rows), device)
    return torch.equal(first[-1], padded[0]) and _threads(module, drawn, device).passed is not False


def drawn_batch(views: Sequence[View], rows: int) -> list[NDArray[np.float32]]:
    """Made-up input, one array per view."""
    return [_drawn(view, rows, place) for place, view in enumerate(views)]


def _alone(views: Sequence[View], rows: int) -> list[NDArray[np.float32]]:
    """The last of the made-up rows at the first place, and nothing else."""
    full = drawn_batch(views, rows)
    return [np.stack([row[-1], *[_blank(view)] * (rows - 1)]) for row, view in zip(full, views, strict=True)]


def _threads(module: torch.nn.Module, drawn: list[NDArray[np.float32]], device: str) -> Check:
    import torch

    if device != "cpu":
        return Check("threads", None, f"concerns the CPU only; this is {device}")
    before = torch.get_num_threads()
    rows = []
    try:
        for count in (2, 4):
            torch.set_num_threads(count)
            rows.append(_forward(module, drawn, device))
    finally:
        torch.set_num_threads(before)
    off = (rows[0].double() - rows[1].double()).abs().max().item()
    return Check("threads", torch.equal(*rows), f"2 and 4 threads: differ by {off:g}")


def _known(
    backbone: Backbone, module: torch.nn.Module, source: Source, device: str, rows: int, allow_unverified: bool
) -> Check:
    title = "known answer"
    if backbone.known is None:
        return Check(title, None, "none is known for this network")
    identity = weights.weights_id(backbone, source, allow_unverified)
    if identity.startswith(("random:", "file:")):
        return Check(title, None, f"needs the official weights; these are {identity}")
    answer = ANSWERS[backbone.known]
    (view,) = backbone.views
    window = (
        _blank(view)
        if answer.feed == "silence"
        else np.tile(np.array(SINE_1KHZ, dtype=np.float32), (view.input_shape[0], 1))
    )
    row = _forward(module, [np.stack([window] * rows)], device)[0].double().cpu().numpy()
    return compare(title, answer, row)


def compare(title: str, answer: Answer, row: NDArray[np.float64]) -> Check:
    """Hold a row against a known answer."""
    if answer.row is not None:
        off = float(np.abs(row - np.array(answer.row)).max())
        return Check(
            title, off <= answer.tolerance, f"max error {off:.2g}, allowed {answer.tolerance:g}: {answer.source}"
        )
    pairs = [("mean", answer.mean, float(row.mean())), ("std", answer.std, float(row.std()))]
    known = [(what, wanted, got) for what, wanted, got in pairs if wanted is not None]
    passed = all(abs(got - wanted) <= answer.tolerance * abs(wanted) for _, wanted, got in known)
    said = ", ".join(f"{what} {got:.4g} for {wanted:g}" for what, wanted, got in known)
    return Check(title, passed, f"{said}, ±{answer.tolerance:.0%}: {answer.source}")


def _forward(module: torch.nn.Module, views: list[NDArray[np.float32]], device: str) -> torch.Tensor:
    import torch

    with torch.inference_mode():
        inputs = [torch.from_numpy(array).to(device) for array in views]
        # frames lie in memory as the decoder makes them: channels last
        inputs = [x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3) if x.ndim == 5 else x for x in inputs]
        out: torch.Tensor = module(*inputs)
    return out


def _drawn(view: View, rows: int, place: int) -> NDArray[np.float32]:
    shape = (rows, *view.input_shape)
    noise = random.values(0, f"check/{place}", math.prod(shape)).reshape(shape)
    if isinstance(view, Frames):
        return _standardised(noise / 2 + np.float32(0.5), view)
    return noise if view.spectrogram is None else _blank(view) + 5 * np.abs(noise)


def _blank(view: View) -> NDArray[np.float32]:
    """One black or silent window as the network would see it."""
    if isinstance(view, Frames):
        return _standardised(np.zeros(view.input_shape, dtype=np.float32), view)
    return np.full(view.input_shape, _silence(view), dtype=np.float32)


def _silence(view: Sound) -> float:
    spec = view.spectrogram
    if spec is None or spec.log == "db":  # relative to the window's own maximum
        return 0.0
    return math.log(spec.offset) if spec.log in ("ln", "ln_max") else 10 * math.log10(spec.offset)


def _standardised(pixels: NDArray[np.floating], view: Frames) -> NDArray[np.float32]:
    mean, std = (np.array(values, dtype=np.float32).reshape(3, 1, 1) for values in (view.mean, view.std))
    return np.asarray((pixels - mean) / std, dtype=np.float32)
