"""Loaded features: blocks of views in, rows of features out, in batches whose shape never changes."""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backbones.spec import Frames, View
from extract.batches import remembered_batch
from extract.errors import DeviceUnavailable
from extract.plan import Feature, Precision

if TYPE_CHECKING:
    import torch

GPU_BATCHES = 8  # a backbone's batch is what suits a CPU's caches; a GPU needs several times as much to be busy


@dataclass(slots=True)
class Model:
    """A feature's network on its device.

    Parameters
    ----------
    feature
        what it computes
    module
        in eval mode, in the feature's precision
    device
        as torch names it
    batch
        rows per forward; a shorter last batch is padded with zeros, so that no row's bits depend on how many came with it
    seconds
        spent in ``prepare`` and ``model`` so far
    reference
        the same network in float32, until its rows have been compared once; None in float32
    """

    feature: Feature
    module: torch.nn.Module
    device: str
    batch: int
    seconds: dict[str, float] = field(default_factory=lambda: {"prepare": 0.0, "model": 0.0})
    reference: torch.nn.Module | None = None
    cosine: float | None = None

    def __call__(self, arrays: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        r"""Rows of the feature.

        Parameters
        ----------
        arrays
            per view (n, t, h, w, 3) as the decoder delivers them or (n, samples) float32, n <= batch

        Returns
        -------
        (n, \\*dims) float32
        """
        import torch

        n = len(arrays[0])
        with torch.inference_mode():
            started = time.perf_counter()
            inputs = [self.prepared(array, view) for array, view in zip(arrays, self.feature.views, strict=True)]
            prepared = time.perf_counter()
            try:
                rows = self._forward(self.module, inputs)[:n]
            except torch.cuda.OutOfMemoryError as error:
                raise DeviceUnavailable(
                    f"{self.device} has no memory left for {self.feature.backbone.name} with {self.batch} rows per batch; "
                    f"use a smaller --batch ({error})"
                ) from error
            done = time.perf_counter()
            self.seconds["prepare"] += prepared - started
            self.seconds["model"] += done - prepared
            if self.reference is not None:
                self._compare(rows, arrays)
        return rows

    def _forward(self, module: torch.nn.Module, inputs: list[torch.Tensor]) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = module(*inputs).float().cpu().numpy()
        expected = (self.batch, *self.feature.backbone.dims)
        if rows.shape != expected:
            raise ValueError(
                f"{self.feature.backbone.name} gave rows of shape {rows.shape}, it is registered for {expected}"
            )
        return rows

    def prepared(self, array: NDArray[Any], view: View, precision: Precision | None = None) -> torch.Tensor:
        """What the network eats, for at most one batch of rows: padded to the batch, on its device, in its precision."""
        import torch

        from extract.prepare import frames_to_tensor, log_mel

        array = padded(array, self.batch)
        dtype: torch.dtype = getattr(torch, precision or self.feature.precision)
        if isinstance(view, Frames):
            return frames_to_tensor(array, view, self.device, dtype)
        samples = torch.from_numpy(array).to(self.device)
        return (samples if view.spectrogram is None else log_mel(samples, view)).to(dtype)

    def _compare(self, rows: NDArray[np.float32], arrays: Sequence[NDArray[Any]]) -> None:
        """Cosine of the first batch's rows to those of float32 arithmetic; the float32 network is then let go."""
        assert self.reference is not None
        inputs = [self.prepared(array, view, "float32") for array, view in zip(arrays, self.feature.views, strict=True)]
        exact = self._forward(self.reference, inputs)[: len(rows)].reshape(len(rows), -1).astype(np.float64)
        flat = rows.reshape(len(rows), -1).astype(np.float64)
        norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(flat, axis=1)
        cosines = (exact * flat).sum(axis=1)[norms > 0] / norms[norms > 0]
        self.cosine = float(cosines.mean()) if len(cosines) else None
        self.reference = None


def padded(array: NDArray[Any], rows: int) -> NDArray[Any]:
    """The array with zero rows appended until it has `rows`."""
    if len(array) == rows:
        return array
    whole = np.zeros((rows, *array.shape[1:]), dtype=array.dtype)
    whole[: len(array)] = array
    return whole


def load_models(
    features: Sequence[Feature],
    weights: str,
    allow_unverified: bool,
    device: str,
    batch: int | None,
    compile_keys: Container[str] = (),
) -> dict[str, Model]:
    """Every feature's network with its weights on `device`, by key.

    Parameters
    ----------
    features
        what to load
    weights, allow_unverified
        where from (backbones.weights.parse_source)
    device
        as torch names it
    batch
        rows per forward; None: what was found best on this machine, else each network's own
    compile_keys
        the features whose networks are to be compiled

    Raises
    ------
    WeightsError, DeviceUnavailable
        see backbones.weights.materialise
    PlanError
        networks cannot be compiled here
    """
    from backbones.weights import materialise, parse_source
    from extract.lane.compiled import compiled

    source = parse_source(weights)
    models: dict[str, Model] = {}
    for feature in features:
        fed = feature.views
        module = materialise(feature.backbone, source, device, feature.precision, allow_unverified, views=fed)
        reference = None
        if feature.precision != "float32":
            reference = materialise(feature.backbone, source, device, "float32", allow_unverified, views=fed)
        if feature.key in compile_keys:
            module = compiled(module, device)
        rows = batch or batch_of(feature, device)
        models[feature.key] = Model(feature, module, device, rows, reference=reference)
    return models


def batch_of(feature: Feature, device: str) -> int:
    """Rows per forward: what was found best on this machine, or what the backbone declares."""
    found = remembered_batch(feature.backbone.name, feature.views, device, feature.precision)
    return found or feature.backbone.batch * (1 if device == "cpu" else GPU_BATCHES)
