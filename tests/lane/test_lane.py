"""A lane decodes a little ahead, seals in time, and lets go when it is told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import extract.lane.ahead as ahead
import extract.lane.lane as lane
from extract import api
from extract.chunk import Chunk, Progress, Receipt
from extract.engine.base import make_chunks
from extract.errors import ClipError, NotFound, PlanError
from extract.job import Choices
from extract.lane import LaneSpec, open_lane
from extract.lane.ahead import SMALLEST_BYTES, Ahead, StoppedError
from extract.store.catalog import Store, create_store


@pytest.fixture
def job(tiny: None, way: ModuleType, media: Path, tmp_path: Path) -> api.Job:
    create_store(tmp_path / "s")
    listed = way.manifest(tmp_path / "m.csv", media)
    return api.plan(listed, Choices(backbones=way.TRIO, weights="random:0"), tmp_path / "s")


def chunk_of(job: api.Job) -> Chunk:
    (chunk,) = make_chunks(job.listed, job.paths, job.plan.keys, lambda _: (), 64)
    return chunk


def never() -> bool:
    return False


# ---- ahead -----------------------------------------------------------------------------------------------------------


def test_only_a_few_clips_and_blocks_are_ahead(job: api.Job, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, int] = {}

    def endless(path: str, *_: Any) -> Iterator[int]:
        for number in range(1000):
            made[path] = number + 1
            yield number

    monkeypatch.setattr(ahead, "decode", endless)
    monkeypatch.setattr(ahead, "BYTES_AHEAD", 6 * SMALLEST_BYTES)
    with Ahead(chunk_of(job).todos, job.plan, 2, never) as decodings:
        time.sleep(0.3)
        assert len(made) == 2, "as many clips as threads"
        assert sum(made.values()) <= 6 + 2, "one more of each clip is being handed over"
        first = iter(next(decodings))
        assert [next(first) for _ in range(50)] == list(range(50)), "in order, past what the next clip holds"
        began = time.monotonic()
    assert time.monotonic() - began < 2.0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode-")]


def test_errors_reach_the_one_who_iterates(job: api.Job, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [NotFound("gone"), PlanError("cannot be"), ValueError("who knows"), None, None, None]

    def decode(path: str, *_: Any) -> Iterator[str]:
        yield path
        if error := errors[int(path[-5])]:
            raise error

    monkeypatch.setattr(ahead, "decode", decode)
    found = []
    with Ahead(chunk_of(job).todos, job.plan, 3, never) as decodings:
        for decoding in decodings:
            try:
                assert list(decoding) == [decoding.todo.path]
                found.append("")
            except (ClipError, PlanError) as error:
                found.append(f"{type(error).__name__}: {error}")
    assert found[0] == "NotFound: gone"
    assert found[1] == "PlanError: cannot be"
    assert found[2].startswith("Bug: ValueError: who knows at test_lane.py:")
    assert found[3:] == [""] * 3


def test_a_stop_is_noticed_while_the_decoder_says_nothing(job: api.Job, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def decode(*_: Any) -> Iterator[int]:
        release.wait(20)
        yield 0

    monkeypatch.setattr(ahead, "decode", decode)
    stopped = threading.Event()
    threading.Timer(0.2, stopped.set).start()
    threading.Timer(1.0, release.set).start()
    began = time.monotonic()
    with Ahead(chunk_of(job).todos, job.plan, 1, stopped.is_set) as decodings, pytest.raises(StoppedError):
        list(next(decodings))
    assert time.monotonic() - began < 3.0


# ---- lane ------------------------------------------------------------------------------------------------------------


def spec_of(job: api.Job, **more: Any) -> LaneSpec:
    parts = str((job.store / "parts").absolute())
    return LaneSpec(job.plan, parts, weights="random:0", torch_threads=1, **more)


def test_one_piece_for_a_quick_chunk(job: api.Job) -> None:
    words = list(open_lane(spec_of(job), "cpu").run(chunk_of(job), never))
    assert [type(word) for word in words] == [Progress] * 6 + [Receipt]
    receipt = words[-1]
    assert isinstance(receipt, Receipt)
    assert receipt.clip_ids == chunk_of(job).clip_ids
    assert (job.store / "parts" / receipt.piece).stat().st_size == receipt.size_bytes
    assert set(receipt.seconds) == {"decode", "wait", "prepare", "model", "seal"}


def test_time_and_size_seal_before_the_end(job: api.Job, monkeypatch: pytest.MonkeyPatch) -> None:
    open_ = open_lane(spec_of(job, seal_s=0.0), "cpu")
    receipts = [word for word in open_.run(chunk_of(job), never) if isinstance(word, Receipt)]
    assert [receipt.clip_ids for receipt in receipts] == [(f"c{i:02}",) for i in range(6)]
    for path in (job.store / "parts").iterdir():
        path.unlink()
    # 2, 3, 4, 2, 3, 4 seconds of three features of eight floats
    monkeypatch.setattr(lane, "PIECE_BYTES", 9 * 3 * 8 * 4)
    receipts = [word for word in open_lane(spec_of(job), "cpu").run(chunk_of(job), never) if isinstance(word, Receipt)]
    assert [len(receipt.clip_ids) for receipt in receipts] == [3, 3]


def test_a_stop_seals_what_is_done_and_drops_what_is_not(job: api.Job) -> None:
    words: list[Any] = []
    for word in open_lane(spec_of(job, decode_threads=1), "cpu").run(chunk_of(job), lambda: len(words) >= 2):
        words.append(word)  # noqa: PERF402 - `stopping` counts them
    assert [type(word) for word in words] == [Progress, Progress, Receipt]
    assert words[-1].clip_ids == ("c00", "c01")
    assert Store(job.store).clips("tiny_frames") == ("c00", "c01")


def test_reduced_precision_reports_its_cosine_once(tiny: None, way: ModuleType, media: Path, tmp_path: Path) -> None:
    create_store(tmp_path / "s")
    listed = way.manifest(tmp_path / "m.csv", media)
    choices = Choices(backbones=("tiny_frames",), weights="random:0", precision="bfloat16")
    job = api.plan(listed, choices, tmp_path / "s")
    receipts = [
        word
        for word in open_lane(spec_of(job, seal_s=0.0), "cpu").run(chunk_of(job), never)
        if isinstance(word, Receipt)
    ]
    (key,) = job.plan.keys
    assert 0.99 < receipts[0].notes[f"cosine to float32 of {key}"] <= 1.0
    assert all(not receipt.notes for receipt in receipts[1:])
    assert Store(job.store)["c00", key].dtype == np.float32
