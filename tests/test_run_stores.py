"""What a run leaves in its store besides rows: how they are stored, labels, an index."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from extract import api
from extract.lane import collect
from extract.store import Store
from extract.store.reader import index_part
from extract.summary import Summary
from manifests.dense import Event, dense_path, write_dense

pytestmark = pytest.mark.usefixtures("tiny")

Run = Callable[..., Summary]


def test_half_precision_on_disk_is_a_key_of_its_own_and_compression_is_not(
    way: ModuleType, run: Run, media: Path, tmp_path: Path
) -> None:
    listed = way.manifest(tmp_path / "m.csv", media, ["c00", "c01", "mute"])  # whose rows a policy makes
    plain, half, zipped = (Store(tmp_path / name) if run(listed, name, **more) else None for name, more in STORAGES)
    assert plain
    assert half
    assert zipped
    assert zipped.digest() == plain.digest()
    assert {index_part(path).compression for path in zipped.parts()} == {"gzip:6"}
    for info in plain.keys():  # noqa: SIM118 - a Store is no dict
        name = info.key.split("@")[0]
        assert half.resolve(name) != info.key
        for clip_id in plain.clips(info.key):
            assert half[clip_id, name].dtype == np.float16
            assert np.array_equal(half[clip_id, name], plain[clip_id, info.key].astype(np.float16))
    assert api.verify(tmp_path / "half") == api.verify(tmp_path / "zipped") == []


STORAGES: list[tuple[str, dict[str, Any]]] = [
    ("s", {}),
    ("half", {"storage": "float16"}),
    ("zipped", {"compression": "gzip:6", "seal_s": 0.0}),  # merged from pieces, which must not unpack them
]


def test_a_value_that_the_storage_cannot_hold_fails_that_feature_alone(
    run: Run, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = collect._Column._run

    def large(column: collect._Column) -> None:
        real(column)
        if column.model.feature.backbone.name == "tiny_frames":
            column.data[0, 0] = 70_000.0

    monkeypatch.setattr(collect._Column, "_run", large)
    assert run(listed, "s").failed == 0
    done = run(listed, "half", storage="float16")
    assert done.reasons == {"overflow": 6}
    store = Store(tmp_path / "half")
    assert all("70000 does not fit float16" in each.message for each in store.failed())
    assert len(store.clips("tiny_sound")) == 6


def test_labels_and_events_travel_with_the_store(run: Run, listed: Path, tmp_path: Path) -> None:
    write_dense(dense_path(listed), [Event("c01", "audio", 0, 2, "Dog")])
    run(listed, limit=1)
    assert Store(tmp_path / "s").events[0].label == "Dog"
    assert list(Store(tmp_path / "s").manifest) == [f"c0{i}" for i in range(6)]
    dense_path(listed).unlink()
    run(listed, limit=1)  # which computes nothing
    assert Store(tmp_path / "s").events == ()


def test_a_run_leaves_an_index_that_saves_opening_its_parts(
    run: Run, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(listed, limit=2)
    run(listed)
    opened: list[Path] = []
    monkeypatch.setattr("extract.store.scan.index_part", lambda path: opened.append(path) or index_part(path))
    assert len(Store(tmp_path / "s").have()) == 6
    assert opened == []
