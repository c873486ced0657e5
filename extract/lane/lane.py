"""One process, one device, all stages of a clip from file to sealed row."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backbones import sources
from extract.chunk import Chunk, Progress, Receipt
from extract.lane.ahead import Ahead, StoppedError
from extract.lane.collect import Result, collect
from extract.lane.memory import keep_freed_memory
from extract.lane.models import Model, load_models
from extract.plan import Feature, Plan, canonical_json
from extract.store.part import seal_piece
from extract.store.rows import KeyInfo

PIECE_BYTES = 256 * 2**20  # rows that a lane holds before it seals them, however little time they took
_LIBRARIES = (
    "extract-av",
    "torch",
    "torchvision",
    "torchaudio",
    "av",
    "numpy",
    "pillow",
    "librosa",
    "soxr",
    "h5py",
    "timm",
)


@dataclass(frozen=True, slots=True)
class LaneSpec:
    """Everything a lane needs to open itself in another process.

    Parameters
    ----------
    plan
        what to compute
    parts
        folder to seal into
    weights, allow_unverified
        as given by the user (backbones.weights.parse_source)
    batch
        rows per forward for every network; None: each network's own
    decode_threads
        clips decoded side by side
    torch_threads
        threads of one operator on a CPU; None: torch's choice
    seal_s
        a piece is sealed at the latest after so many seconds of work: what a kill costs
    compile_keys
        features whose networks are compiled first
    compression
        of the data in sealed pieces
    """

    plan: Plan
    parts: str
    weights: str = "official"
    allow_unverified: bool = False
    batch: int | None = None
    decode_threads: int = 2
    torch_threads: int | None = None
    seal_s: float = 30.0
    compile_keys: tuple[str, ...] = ()
    compression: str = "none"


@dataclass(slots=True)
class _Piece:
    """What has been computed since the last seal."""

    started_s: float
    results: list[Result] = field(default_factory=list)
    decode_cpu_s: float = 0.0
    wait_s: float = 0.0

    def due(self, seal_s: float) -> bool:
        size_bytes = sum(rows.data.nbytes for result in self.results for rows in result.rows)
        return time.monotonic() - self.started_s >= seal_s or size_bytes >= PIECE_BYTES


class Lane:
    """Loaded models on one device, and the folder they seal into.

    Parameters
    ----------
    spec
        what to compute and where to seal it
    models
        by key
    device
        as torch names it
    """

    def __init__(self, spec: LaneSpec, models: Mapping[str, Model], device: str) -> None:
        self._spec = spec
        self._models = models
        self._niceness = 10 if device == "cpu" else 0
        self._provenance = provenance(device)
        self._infos = {feature.key: key_info(feature) for feature in spec.plan.features}

    def run(self, chunk: Chunk, stopping: Callable[[], bool]) -> Iterator[Receipt | Progress]:
        """Compute a chunk: a Progress for every clip, a Receipt for every sealed piece.

        When `stopping` turns true, what is done is sealed and the rest of the chunk is left; a clip in the middle is not
        waited for.

        Raises
        ------
        StoreUnwritable
            a piece cannot be sealed; what was sealed before stays
        """
        piece = _Piece(time.monotonic())
        with Ahead(chunk.todos, self._spec.plan, self._spec.decode_threads, stopping, self._niceness) as decodings:
            for decoding in decodings:
                if stopping():
                    break
                busy_s = sum(sum(model.seconds.values()) for model in self._models.values())
                started = time.perf_counter()
                try:
                    result = collect(decoding.todo, decoding.taps, decoding, self._spec.plan, self._models, self._infos)
                except StoppedError:
                    break
                busy_s = sum(sum(model.seconds.values()) for model in self._models.values()) - busy_s
                piece.wait_s += time.perf_counter() - started - busy_s
                piece.decode_cpu_s += decoding.cpu_s
                piece.results.append(result)
                yield Progress(chunk.name, result.clip_id, bool(result.failed))
                if piece.due(self._spec.seal_s):
                    yield self._seal(chunk, piece)
                    piece = _Piece(time.monotonic())
        if piece.results:
            yield self._seal(chunk, piece)

    def close(self) -> None:
        """Let go of the models."""
        self._models = {}

    def _seal(self, chunk: Chunk, piece: _Piece) -> Receipt:
        started = time.perf_counter()
        failed = [remark for result in piece.results for remark in result.failed]
        masked = [remark for result in piece.results for remark in result.masked]
        rows = [rows for result in piece.results for rows in result.rows]
        path = seal_piece(
            Path(self._spec.parts),
            chunk.name,
            chunk.clip_ids,
            tuple(self._infos.values()),
            rows,
            failed,
            masked,
            self._provenance,
            self._spec.compression,
        )
        seconds = {"decode": piece.decode_cpu_s, "wait": piece.wait_s, "seal": time.perf_counter() - started}
        notes: dict[str, float] = {}
        for key, model in self._models.items():
            for stage in ("prepare", "model"):
                seconds[stage] = seconds.get(stage, 0.0) + model.seconds[stage]
                model.seconds[stage] = 0.0
            if model.cosine is not None:
                notes[f"cosine to float32 of {key}"] = model.cosine
                model.cosine = None
        return Receipt(
            chunk=chunk.name,
            piece=path.name,
            clip_ids=tuple(result.clip_id for result in piece.results),
            failed=tuple(failed),
            masked=tuple(masked),
            size_bytes=path.stat().st_size,
            seconds=seconds,
            notes=notes,
        )


def open_lane(spec: LaneSpec, device: str) -> Lane:
    """Load the models; called in the process that will run them.

    Raises
    ------
    WeightsError, DeviceUnavailable
        see backbones.weights.materialise
    """
    import torch

    if spec.torch_threads is not None:
        torch.set_num_threads(spec.torch_threads)
    if device == "cpu":
        keep_freed_memory()
    models = load_models(spec.plan.features, spec.weights, spec.allow_unverified, device, spec.batch, spec.compile_keys)
    return Lane(spec, models, device)


def key_info(feature: Feature) -> KeyInfo:
    """What the store keeps once of a feature."""
    from dataclasses import asdict

    licences = sorted(sources.licences(feature.backbone))
    return KeyInfo(
        key=feature.key,
        identity=feature.identity_json,
        view=canonical_json([asdict(view) for view in feature.views]),
        weights=feature.weights_id,
        licence="; ".join(licences) if not feature.weights_id.startswith("random:") else "none (random weights)",
        dims=feature.backbone.dims,
        storage=feature.storage,
    )


def provenance(device: str) -> dict[str, Any]:
    """What the numbers were computed on: versions and hardware, equal for all runs on one machine as it is installed."""
    import torch

    kind = (
        torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or platform.machine()
    )
    return {
        "device": f"{device.split(':', maxsplit=1)[0]} ({kind})",
        "python": platform.python_version(),
        "ffmpeg": _ffmpeg(),
        **{name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


def _ffmpeg() -> str:
    import av

    return " ".join(f"{name} {'.'.join(map(str, version))}" for name, version in sorted(av.library_versions.items()))
