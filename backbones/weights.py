"""From a backbone and a source of weights to a network that is ready to run, and the id that names those weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from backbones import download, sources, state
from backbones.sources import Source, parse_source
from backbones.spec import Backbone, Weights
from backbones.state import load_state
from extract.errors import DeviceUnavailable, DigestMismatch, LayoutMismatch, WeightsMissing

if TYPE_CHECKING:
    import torch

__all__ = ["Source", "cached", "fetch", "load_state", "locate", "materialise", "parse_source", "weights_id"]

_log = logging.getLogger(__name__)
UNVERIFIED = "--allow-unverified-weights"


def weights_id(backbone: Backbone, source: Source, allow_unverified: bool = False) -> str:
    """The name of these trained weights in a feature's identity. Downloads nothing.

    Returns
    -------
    str
        ``random:<seed>``; ``sha256:<8 published digits>`` of the official weights, for which no file is needed, joined by ``+``
        where there are several files; a folder whose files match what was published gives the same id, whichever publication
        of those weights it holds. ``file:<full sha256>`` (joined likewise) as soon as one file is not verified

    Raises
    ------
    WeightsMissing
        a folder lacks a file
    DigestMismatch
        a file is not the published one, or no digest of it was ever published, and unverified ones are not allowed
    """
    if source.kind == "random":
        return f"random:{source.seed}"
    sources.require_published(backbone)
    published = sources.digests(backbone)
    if source.kind == "official" and None not in published:
        return f"sha256:{'+'.join(digest for digest in published if digest)}"
    found = _find(backbone, source, allow_unverified)
    if all(weights.sha256 and download.matches(path, weights) for weights, path in found) and None not in published:
        return f"sha256:{'+'.join(digest for digest in published if digest)}"
    return f"file:{'+'.join(download.file_sha256(path) for _, path in found)}"


def locate(backbone: Backbone, source: Source, allow_unverified: bool = False) -> tuple[Path, ...]:
    """The weight files on this machine, content checked, one per entry of `backbone.weights`. Downloads nothing.

    Raises
    ------
    WeightsMissing, DigestMismatch
        as for `weights_id`; the message names the file, where it is published, its digest and the folder to put it in
    """
    if source.kind == "random":
        return ()
    sources.require_published(backbone)
    return tuple(path for _, path in _find(backbone, source, allow_unverified))


def fetch(backbone: Backbone, source: Source, allow_unverified: bool = False) -> tuple[Path, ...]:
    """As `locate`, but what is missing of the official weights is downloaded into the cache folder.

    Raises
    ------
    WeightsMissing, DigestMismatch, WeightsError
        as for `locate` and `download.download`
    """
    if source.kind == "official":
        sources.require_published(backbone)
        for entry in backbone.weights:
            if _find_entry(entry, source, allow_unverified) is None:
                _download_entry(entry, allow_unverified)
    return locate(backbone, source, allow_unverified)


def cached(backbone: Backbone) -> bool:
    """Whether files with the official names are on this machine; their content is not looked at."""
    entries = backbone.weights
    return bool(entries) and all(any(True for _ in _candidates(entry, sources.OFFICIAL)) for entry in entries)


def materialise(
    backbone: Backbone,
    source: Source,
    device: str = "cpu",
    precision: Literal["float32", "bfloat16", "float16"] = "float32",
    allow_unverified: bool = False,
) -> torch.nn.Module:
    """The network with its weights: eval mode, no gradients, channels-last, on `device`, in `precision`.

    Tensors a network keeps in float64 (VGGish's PCA) stay so. On CUDA, float32 convolutions are switched to full precision for
    the whole process: TF32, torch's default there, keeps ten bits, and the key says float32.

    Raises
    ------
    DeviceUnavailable
        there is no such device here
    LayoutMismatch
        the files' keys or shapes fit none of the layouts known for the network
    WeightsError
        the files are missing, wrong or damaged
    """
    import torch

    from backbones import random

    where = _device(device)
    with random.skip_initialisation():
        module = backbone.build()
    if source.kind == "random":
        random.fill(module, source.seed)
    else:
        paths = fetch(backbone, source, allow_unverified)
        what = f"{' + '.join(str(path) for path in paths)} for {backbone.name}"
        states = tuple(load_state(path) for path in paths)
        try:
            adapted = backbone.adapt(states) if backbone.adapt else {k: v for part in states for k, v in part.items()}
        except LayoutMismatch as error:
            raise LayoutMismatch(f"{what}: {error}") from error
        state.fit(module, adapted, what)
    if where.type == "cuda" and precision == "float32":
        torch.backends.cudnn.allow_tf32 = False
    dtype: torch.dtype = getattr(torch, precision)
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for tensor in (*module.parameters(), *module.buffers()):
        to = dtype if tensor.dtype is torch.float32 else tensor.dtype
        layout = formats.get(tensor.ndim, torch.contiguous_format)
        tensor.data = tensor.data.to(where, to).contiguous(memory_format=layout)
    return module.eval().requires_grad_(False)


def _device(name: str) -> torch.device:
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceUnavailable(f"{name!r} is no device; use cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceUnavailable(
            f"there is no {name} on this machine: torch sees {torch.cuda.device_count()} CUDA devices"
        )
    return device


def _candidates(entry: tuple[Weights, ...], source: Source) -> Iterator[tuple[Weights, Path]]:
    folders = (source.folder,) if source.folder else (download.cache_folder(), download.hub_folder())
    for weights in sources.published_first(entry):
        for folder in folders:
            path = folder / weights.filename
            if path.is_file():
                yield weights, path


def _find_entry(entry: tuple[Weights, ...], source: Source, allow_unverified: bool) -> tuple[Weights, Path] | None:
    unverified: tuple[Weights, Path] | None = None
    # official weights with a published digest have that digest as their id: nothing else may stand in for them
    named = source.kind == "official" and any(weights.sha256 for weights in entry)
    for weights, path in _candidates(entry, source):
        if named and weights.sha256 is None:
            continue
        if download.matches(path, weights):
            return weights, path
        if weights.sha256 and source.kind == "official" and path.parent == download.hub_folder():
            _log.warning("%s is not the published file and is passed over", path)
        elif weights.sha256 and (named or not allow_unverified):
            raise DigestMismatch(
                f"{path} is not the published file: its sha256 is {download.file_sha256(path)}, published is "
                f"{weights.sha256}; delete or replace it, or use it as it is with --weights {path.parent} {UNVERIFIED}"
            )
        elif unverified is None:
            unverified = weights, path
    if unverified and not allow_unverified:
        raise DigestMismatch(
            f"no digest of {unverified[1].name} was ever published, so {unverified[1]} cannot be verified; "
            f"use it as it is with {UNVERIFIED}"
        )
    return unverified


def _find(backbone: Backbone, source: Source, allow_unverified: bool) -> list[tuple[Weights, Path]]:
    found = []
    for entry in backbone.weights:
        hit = _find_entry(entry, source, allow_unverified)
        if hit is None and source.folder:
            known = " or ".join(weights.filename for weights in entry)
            raise WeightsMissing(f"{source.folder} holds no {known}, which {backbone.name} needs")
        if hit is None:
            raise WeightsMissing(download.missing(sources.published_first(entry)[0], []))
        found.append(hit)
    return found


def _download_entry(entry: tuple[Weights, ...], allow_unverified: bool) -> None:
    failures: list[WeightsMissing] = []
    for weights in sources.published_first(entry):
        if weights.sha256 is None and (not allow_unverified or any(other.sha256 for other in entry)):
            continue
        try:
            download.download(weights)
        except WeightsMissing as error:
            failures.append(error)
        else:
            return
    raise (
        failures[0] if failures else WeightsMissing(download.missing(entry[0], [f"no digest: allow with {UNVERIFIED}"]))
    )
