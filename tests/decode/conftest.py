"""Driving the decoder: `run` gives a clip's rows as arrays and checks, on every clip of every test, what blocks promise."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbones.spec import Frames, Sound
from extract.decode.clip import decode
from extract.decode.events import Block, Broken, Opened
from extract.decode.frame_pass import BLOCK_BYTES
from extract.errors import ClipError
from extract.grid import NS, Grid
from extract.plan import Limits, Tap

_SMALL = Frames(1, (96, 128), None)
EVERYTHING = (
    Tap(_SMALL, Grid(NS // 10, NS // 10)),
    Tap(replace(_SMALL, jpeg="mjpeg_200k"), Grid(NS // 8, NS // 8, 80, sampling="ffmpeg_r8", short="stretch")),
    Tap(Sound(16_000, 15_600), Grid()),
    Tap(Sound(16_000, 15_600, resample="moviepy"), Grid(count=10)),
)


@dataclass
class Clip:
    """What a decode said of each tap, by its position; a failed one has an error and no rows."""

    windows_ns: tuple[np.ndarray, ...]
    errors: dict[int, ClipError]
    rows: dict[int, np.ndarray] = field(default_factory=dict)
    valid: dict[int, np.ndarray] = field(default_factory=dict)
    source_ns: dict[int, np.ndarray] = field(default_factory=dict)
    opened: int = 1

    def numbers(self, read: Callable[[np.ndarray], int], tap: int = 0) -> list[list[int]]:
        """Frame numbers read from the pixels, -1 in rows that show nothing."""
        return [
            [-1 if ns < 0 else read(picture) for picture, ns in zip(row, times, strict=True)]
            for row, times in zip(self.rows[tap], self.source_ns[tap], strict=True)
        ]


def _check_block(block: Block, view: Any, due: int) -> None:
    k = len(block.data)
    assert k > 0
    assert block.first_row == due, "rows come in ascending order, each once"
    if isinstance(view, Frames):
        assert block.data.shape == (k, view.count, *view.height_width, 3)
        assert block.data.dtype == (np.float32 if view.interpolation == "linear" else np.uint8)
        assert k == 1 or block.data.nbytes - block.data[0].nbytes < BLOCK_BYTES
        assert block.source_ns.shape == (k, view.count)
    else:
        assert block.data.shape == (k, view.samples)
        assert block.data.dtype == np.float32
        assert np.isfinite(block.data).all()
        assert block.source_ns.shape == (k, 1)
    assert block.source_ns.dtype == np.int64
    assert (block.source_ns >= -1).all()
    assert block.valid.shape == (k,)
    assert block.valid.dtype == np.uint8
    assert set(np.unique(block.valid)) <= {0, 1}
    blank = (block.source_ns < 0).any(axis=1)
    assert not block.data[blank].any()
    assert not block.valid[blank].any()


def _run(
    path: Path | str,
    taps: Sequence[Tap],
    start_s: float = 0,
    stop_s: float | None = None,
    *,
    limits: Limits | None = None,
    skip_unneeded: bool = True,
) -> Clip:
    clip: Clip | None = None
    opened = 0
    blocks: dict[int, list[Block]] = {}
    stop_ns = None if stop_s is None else round(stop_s * NS)
    for event in decode(str(path), round(start_s * NS), stop_ns, taps, limits or Limits(), skip_unneeded=skip_unneeded):
        if isinstance(event, Opened):
            opened += 1
            clip = Clip(event.windows_ns, dict(event.errors), opened=opened)
            blocks = {i: [] for i in range(len(taps)) if i not in event.errors}
            continue
        assert clip is not None, "the first event is Opened"
        position = event.tap
        assert position in blocks, "nothing more of a tap that failed"
        if isinstance(event, Broken):
            del blocks[position]
            clip.errors[position] = event.error
        else:
            _check_block(event, taps[position].view, sum(len(b.data) for b in blocks[position]))
            blocks[position].append(event)
    assert clip is not None
    for position, got in blocks.items():
        assert sum(len(b.data) for b in got) == len(clip.windows_ns[position]), f"tap {position} owes rows"
        clip.rows[position] = np.concatenate([b.data for b in got])
        clip.valid[position] = np.concatenate([b.valid for b in got])
        clip.source_ns[position] = np.concatenate([b.source_ns for b in got])
    return clip


@pytest.fixture(scope="session")
def run() -> Callable[..., Clip]:
    """``run(path, taps, start_s, stop_s, limits=, skip_unneeded=)`` -> Clip; ClipErrors of the whole clip are raised."""
    return _run


@pytest.fixture(scope="session")
def outcome(run: Callable[..., Clip]) -> Callable[..., dict[int, ClipError]]:
    """The errors by tap of `run`; one that concerns the whole clip stands for all of them."""

    def errors(path: Path, taps: Sequence[Tap] = EVERYTHING, *span: float, **options: Any) -> dict[int, ClipError]:
        try:
            return run(path, taps, *span, **options).errors
        except ClipError as error:
            return dict.fromkeys(range(len(taps)), error)

    return errors


@pytest.fixture(scope="session")
def truth() -> Callable[..., Any]:
    """``truth(path, fps)``: see truth.py; with importlib imports, tests cannot import their siblings."""
    spec = importlib.util.spec_from_file_location("decode_truth", Path(__file__).with_name("truth.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["decode_truth"] = module
    spec.loader.exec_module(module)
    return module.truth
