"""From a backbone and a source of weights to a network that is ready to run, and the id that names those weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from backbones import converted, download, sources, state
from backbones.fold import fold
from backbones.sources import Source, parse_source
from backbones.spec import Backbone, View, Weights
from backbones.state import load_state
from extract.errors import DeviceUnavailable, DigestMismatch, PlanError, WeightsMissing

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
        where there are several files; where no sha256 was published, ``md5:``, ``sha1:`` or ``git:`` and 8 digits. A folder
        whose files match what was published gives the same id, whichever publication of those weights it holds.
        ``file:<full sha256>`` (joined likewise) as soon as one file is not verified, or comes out of the user's own training

    Raises
    ------
    WeightsMissing
        a folder lacks a file
    DigestMismatch
        a file is not the published one, or no digest of it was ever published, and unverified ones are not allowed
    """
    if source.kind == "random":
        return f"random:{source.seed}"
    sources.require_published(backbone, source)
    published = [digest for digest in sources.digests(backbone) if digest]
    complete = len(published) == len(backbone.weights)
    if complete and source.kind == "official":
        return _joined(published)
    found = _find(backbone, source, allow_unverified)
    if complete and all(download.matches(path, weights) for weights, path in found):
        return _joined(published)
    return f"file:{'+'.join(download.file_sha256(path) for _, path in found)}"


def _joined(digests: Sequence[str]) -> str:
    kinds = {digest.partition(":")[0] for digest in digests}
    if len(kinds) > 1:
        return "+".join(digests)
    return f"{kinds.pop()}:{'+'.join(digest.partition(':')[2] for digest in digests)}"


def locate(backbone: Backbone, source: Source, allow_unverified: bool = False) -> tuple[Path, ...]:
    """The weight files on this machine, content checked, one per entry of `backbone.weights`. Downloads nothing.

    Raises
    ------
    WeightsMissing, DigestMismatch
        as for `weights_id`; the message names the file, where it is published, its digest and the folder to put it in
    """
    if source.kind == "random":
        return ()
    sources.require_published(backbone, source)
    return tuple(path for _, path in _find(backbone, source, allow_unverified))


def fetch(
    backbone: Backbone, source: Source, allow_unverified: bool = False, bases: Sequence[str] = ()
) -> tuple[Path, ...]:
    """As `locate`, but what is missing of the official weights is downloaded into the cache folder.

    Parameters
    ----------
    backbone, source, allow_unverified
        as for `weights_id`
    bases
        addresses of folders that serve files under their official names, tried before the published addresses

    Raises
    ------
    WeightsMissing, DigestMismatch, WeightsError
        as for `locate` and `download.download`
    """
    if source.kind == "official":
        sources.require_published(backbone, source)
        for entry in backbone.weights:
            if _find_entry(entry, source, allow_unverified) is None:
                _download_entry(entry, allow_unverified, bases)
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
    folded: bool = True,
    views: Sequence[View] = (),
) -> torch.nn.Module:
    """The network with its weights: eval mode, no gradients, channels-last, on `device`, in `precision`.

    With `folded`, batch normalisations are folded into the convolutions before them (backbones.fold), as the network runs on
    `views`; empty: the backbone's own.

    Tensors a network keeps in float64 (VGGish's PCA) stay so. On CUDA, float32 convolutions are switched to full precision for
    the whole process: TF32, torch's default there, keeps ten bits, and the key says float32.

    Raises
    ------
    DeviceUnavailable
        there is no such device here
    PlanError
        the network needs a library that is not installed
    LayoutMismatch
        the files' keys or shapes fit none of the layouts known for the network
    WeightsError
        the files are missing, wrong or damaged
    """
    import torch

    from backbones import random

    where = _device(device)
    try:
        with random.skip_initialisation():
            module = backbone.build()
    except ImportError as error:
        if not backbone.extra:
            raise
        raise PlanError(
            f"{backbone.name} needs more than the basic installation ({error}): pip install 'extract-av[{backbone.extra}]'"
        ) from error
    if source.kind == "random":
        random.fill(module, source.seed)
    else:
        paths = fetch(backbone, source, allow_unverified)
        what = f"{' + '.join(str(path) for path in paths)} for {backbone.name}"
        state.fit(module, converted.adapted_state(backbone, module, paths), what)
    module.eval().requires_grad_(False)
    if folded:
        fold(module, views or backbone.views)
    if where.type == "cuda" and precision == "float32":
        torch.backends.cudnn.allow_tf32 = False
    dtype: torch.dtype = getattr(torch, precision)
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for tensor in (*module.parameters(), *module.buffers()):
        to = dtype if tensor.dtype is torch.float32 else tensor.dtype
        layout = formats.get(tensor.ndim, torch.contiguous_format)
        # a clone, because with one input channel both layouts look alike, and torch would go on in the slower one
        tensor.data = tensor.data.to(where, to).clone(memory_format=layout)
    return module


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
        if source.kind == "official" and not sources.published(weights):
            continue
        for folder in folders:
            path = folder / weights.filename
            if path.is_file():
                yield weights, path


def _find_entry(entry: tuple[Weights, ...], source: Source, allow_unverified: bool) -> tuple[Weights, Path] | None:
    unverified: tuple[Weights, Path] | None = None
    # official weights with a published digest have that digest as their id: nothing else may stand in for them
    named = source.kind == "official" and any(weights.digest for weights in entry)
    for weights, path in _candidates(entry, source):
        if named and not weights.digest:
            continue
        if download.matches(path, weights):
            return weights, path
        if weights.digest and source.kind == "official" and path.parent == download.hub_folder():
            _log.warning("%s is not the published file and is passed over", path)
        elif weights.digest and (named or not allow_unverified):
            kind, _, digits = weights.digest.partition(":")
            raise DigestMismatch(
                f"{path} is not the published file: its {kind} is {download.file_digest(path, kind)}, published is "
                f"{digits}; delete or replace it, or use it as it is with --weights {path.parent} {UNVERIFIED}"
            )
        elif unverified is None:
            unverified = weights, path
    # a file of the user's own training is what its name promises: there is nothing to verify it against
    if unverified and sources.published(unverified[0]) and not allow_unverified:
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


def _download_entry(entry: tuple[Weights, ...], allow_unverified: bool, bases: Sequence[str]) -> None:
    """Fetch one publication of an entry: any of them from `bases`, else any of them from where it is published."""
    known = [weights for weights in sources.published_first(entry) if sources.published(weights)]
    verified = any(weights.digest for weights in known)
    wanted = [weights for weights in known if weights.digest or (allow_unverified and not verified)]
    if not wanted:
        raise WeightsMissing(download.missing(known[0], [f"no digest: allow with {UNVERIFIED}"]))
    download.download(*wanted, bases=bases)
