"""Each stage alone: decoding and preparing against a bare decode, forwards on prepared tensors, sealing against a raw write."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from backbones.spec import Frames
from extract.decode.clip import decode
from extract.decode.events import Block
from extract.lane import key_info
from extract.lane.models import Model, load_models
from extract.plan import Feature, Plan, Tap
from extract.store.part import seal_piece
from extract.store.rows import Rows


@dataclass(frozen=True, slots=True)
class Timing:
    """Best of several: seconds of CPU of this process (all threads), and of wall clock."""

    cpu_s: float
    wall_s: float


def best(step: Callable[[], object], repeats: int) -> Timing:
    """Time `step` several times and keep the best of each clock."""
    cpu, wall = [], []
    for _ in range(repeats):
        started_cpu, started_wall = time.process_time(), time.perf_counter()
        step()
        cpu.append(time.process_time() - started_cpu)
        wall.append(time.perf_counter() - started_wall)
    return Timing(min(cpu), min(wall))


def bare_decode(path: str, pictures: int) -> None:
    """What no tool can do without: every video frame decoded, `pictures` of them to RGB, the sound to 16 kHz mono.

    The floor of PyAV on one thread; no resize, no crop, no log-mel.
    """
    import av
    from av.video.reformatter import VideoReformatter

    reformatter, resampler = VideoReformatter(), av.AudioResampler(format="flt", layout="mono", rate=16_000)
    with av.open(path) as container:
        streams = [*container.streams.video[:1], *container.streams.audio[:1]]
        for stream in streams:
            stream.codec_context.thread_count = 1
        total = container.streams.video[0].frames or 300
        keep = set(np.rint(np.linspace(0, total - 1, pictures)).astype(int).tolist())
        seen = 0
        for frame in container.decode(streams):
            if isinstance(frame, av.VideoFrame):
                if seen in keep:
                    reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
                seen += 1
            elif isinstance(frame, av.AudioFrame):
                for part in resampler.resample(frame):
                    part.to_ndarray()


def without_jpeg(taps: tuple[Tap, ...]) -> tuple[Tap, ...]:
    """The same taps without the JPEG stage."""
    return tuple(
        replace(tap, view=replace(tap.view, jpeg=None)) if isinstance(tap.view, Frames) else tap for tap in taps
    )


def decode_and_prepare(path: str, plan: Plan, taps: tuple[Tap, ...], device: str = "cpu") -> list[np.ndarray]:
    """Everything that is not the model: one decode, all views, log-mels and standardised tensors; gives the decoded views."""
    import torch

    from extract.prepare import frames_to_tensor, log_mel

    views: list[list[np.ndarray]] = [[] for _ in taps]
    for event in decode(path, 0, None, taps, plan.limits):
        if isinstance(event, Block):
            views[event.tap].append(event.data)
    joined = [np.concatenate(blocks) for blocks in views]
    for tap, array in zip(taps, joined, strict=True):
        if isinstance(tap.view, Frames):
            for start in range(0, len(array), 16):
                frames_to_tensor(array[start : start + 16], tap.view, device)
        elif tap.view.spectrogram is not None:
            log_mel(torch.from_numpy(array).to(device), tap.view)
    return joined


def forward(model: Model, views: list[np.ndarray]) -> Callable[[], None]:
    """A bare forward over all rows of a clip, on tensors prepared beforehand, in the lane's batches."""
    import torch

    n = len(views[0])
    batches = []
    for start in range(0, n, model.batch):
        part = [view[start : start + model.batch] for view in views]
        batches.append([model.prepared(array, view) for array, view in zip(part, model.feature.views, strict=True)])

    def run() -> None:
        with torch.inference_mode():
            for inputs in batches:
                model.module(*inputs)
        if model.device.startswith("cuda"):
            torch.cuda.synchronize(model.device)

    return run


def sealing(features: tuple[Feature, ...], clips: int, folder: Path, repeats: int) -> tuple[Timing, Timing, int]:
    """Sealing a part of so many clips, writing the same bytes raw with fsync, and their number."""
    rows = [_made_up(feature, f"clip{i:06d}_0_10") for feature in features for i in range(clips)]
    order = [f"clip{i:06d}_0_10" for i in range(clips)]
    infos = [key_info(feature) for feature in features]
    with tempfile.TemporaryDirectory(dir=folder) as name:
        parts = Path(name)

        def seal() -> None:
            seal_piece(parts, "0" * 16, order, infos, rows, (), (), {})

        sealed = best(seal, repeats)
        payload = next(parts.glob("*.h5")).read_bytes()

        def raw() -> None:
            with (parts / "raw").open("wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())

        return sealed, best(raw, repeats), len(payload)


def _made_up(feature: Feature, clip_id: str) -> Rows:
    count = feature.grid.rows(10_000_000_000)
    frames = max(view.count if isinstance(view, Frames) else 1 for view in feature.views)
    data = np.random.default_rng(0).random((count, *feature.backbone.dims), dtype=np.float32)
    windows_ns = feature.grid.windows_ns(10_000_000_000)
    source_ns = np.repeat(windows_ns[:, :1], frames, axis=1)
    return Rows(clip_id, feature.key, data, windows_ns, np.ones(count, dtype=np.uint8), source_ns)


def loaded(plan: Plan, weights: str, device: str, batch: int | None) -> dict[str, Model]:
    """The plan's networks on a device."""
    return load_models(plan.features, weights, allow_unverified=False, device=device, batch=batch)
