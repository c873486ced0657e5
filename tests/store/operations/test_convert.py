"""Converting: equal rows, or rounded ones under another key with the cost measured."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

from extract.errors import PlanError, StoreBusy, StoreError
from extract.plan import key_of
from extract.store import Store
from extract.store.operations.convert import Loss, convert
from extract.store.part import index_part
from extract.store.runs import Lock
from extract.store.verify import verify


def test_compressed_rows_are_equal(many, tmp_path):
    path, out = many.make(tmp_path / "s"), tmp_path / "out"
    done = convert(path, out, compression="gzip:9")
    assert Store(out).digest() == Store(path).digest()
    assert many.rows_of(Store(out)) == many.rows_of(Store(path))
    assert {index_part(part).compression for part in Store(out).parts()} == {"gzip:9"}
    assert [part.name for part in Store(out).parts()] == [part.name for part in Store(path).parts()]
    assert done.losses == {}
    assert done.before_bytes == sum(part.stat().st_size for part in Store(path).parts())
    assert done.after_bytes == sum(part.stat().st_size for part in Store(out).parts())
    assert verify(out) == []
    assert (out / "manifest.csv").read_bytes() == (path / "manifest.csv").read_bytes()
    assert Store(out).events == Store(path).events


def test_the_source_is_not_touched(many, tmp_path):
    path = many.make(tmp_path / "s")
    before = many.tree(path, ())
    convert(path, tmp_path / "out", "float16")
    assert many.tree(path, ()) == before


def test_float16_has_another_key_and_the_cost_is_told(many, tmp_path):
    path, out = many.make(tmp_path / "s"), tmp_path / "out"
    done = convert(path, out, "float16")
    old, new = Store(path), Store(out)
    most, cosines = 0.0, []
    key = done.keys[many.STILL.key]
    info = new.columns[key].info
    assert key != many.STILL.key
    assert json.loads(info.identity) == json.loads(many.STILL.identity) | {"storage": "float16"}
    assert key_of(info.identity) == key
    assert info.storage == "float16"
    for clip in old.clips(many.STILL.key):
        a, b = old.rows(clip, many.STILL.key), new.rows(clip, key)
        assert b.data.dtype == np.float16
        assert np.array_equal(b.data, a.data.astype(np.float16))
        for name in ("window_ns", "valid", "source_ns"):
            assert np.array_equal(getattr(a, name), getattr(b, name))
        x, y = a.data.astype(float), b.data.astype(float)
        most = max(most, np.abs(x - y).max())
        cosines += ((x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)).tolist()
    loss = done.losses[key]
    assert loss.most == most > 0
    assert loss.least == pytest.approx(min(cosines), abs=1e-15)
    assert loss.mean == pytest.approx(np.mean(cosines), abs=1e-15)
    assert loss.rows == len(cosines)
    assert 0.999 < loss.least < 1
    assert {each.key for each in new.failed()} == set(done.keys.values())
    assert verify(out) == []


def test_the_cost_is_told_again(many, tmp_path):
    path, out = many.make(tmp_path / "s"), tmp_path / "out"
    done = convert(path, out, "float16")
    again = convert(path, out, "float16")
    assert again == dataclasses.replace(done, complete=True)


def test_a_value_that_float16_does_not_hold(many, tmp_path):
    path, out = many.make(tmp_path / "s", count=4), tmp_path / "out"
    rows = many.content.make_rows("800_clip", many.STILL, 3)
    rows.data[1, 2] = -70000.0
    many.seal_chunk(path / "parts", "f" * 16, ["800_clip"], [("rows", rows)])
    with pytest.raises(StoreError, match=rf"clip '800_clip', {many.STILL.key}: -70000 is too large for float16"):
        convert(path, out, "float16")
    assert verify(out) == []
    rows.data[1, 2] = 65504.0
    parts = [part for part in Store(path).parts() if part.name.startswith("f")]
    parts[0].unlink()
    many.seal_chunk(path / "parts", "f" * 16, ["800_clip"], [("rows", rows)])
    done = convert(path, tmp_path / "fits", "float16")
    assert Store(tmp_path / "fits").read("800_clip", done.keys[many.STILL.key])[1, 2] == 65504


def test_a_loss_of_direction():
    loss = Loss()
    loss.add(
        np.array([[1e-9, 0.0], [0.0, 0.0], [3.0, 4.0]], np.float32), np.array([[0, 0], [0, 0], [3, 4]], np.float16)
    )
    assert (loss.clips, loss.rows, loss.directed) == (1, 3, 2)
    assert (loss.least, loss.mean) == (0.0, 0.5)
    assert loss.most == pytest.approx(1e-9)


def test_half_precision_does_not_come_back(many, tmp_path):
    path, out = many.make(tmp_path / "s", count=4), tmp_path / "out"
    done = convert(path, out, "float16")
    with pytest.raises(PlanError, match="does not come back"):
        convert(out, tmp_path / "back", "float32")
    assert not (tmp_path / "back").exists()
    copied = convert(out, tmp_path / "copy")
    assert copied.keys == {key: key for key in done.keys.values()}
    assert Store(tmp_path / "copy").digest() == Store(out).digest()


def test_both_types_of_one_feature_stop_it(many, tmp_path):
    path = many.make(tmp_path / "s", count=4)
    convert(path, tmp_path / "half", "float16")
    for part in Store(tmp_path / "half").parts():
        (path / "parts" / f"half-{part.name}").write_bytes(part.read_bytes())
    with pytest.raises(StoreError, match="would both become"):
        convert(path, tmp_path / "out", "float16")
    assert not (tmp_path / "out").exists()


def test_a_run_goes_on_in_the_new_store(many, tmp_path):
    """Parts keep the names of their chunks, and pieces stay pieces."""
    path, out = many.make(tmp_path / "s", only=range(5)), tmp_path / "out"
    order = many.ids(24)[20:]
    piece = many.seal_chunk(path / "parts", "e" * 16, order, many.records(order[0]), merge=False)
    convert(path, out)
    assert (out / "parts" / piece.name).read_bytes() == piece.read_bytes()
    many.seal_chunk(out / "parts", "e" * 16, order, [each for clip in order[1:] for each in many.records(clip)])
    assert Store(out).digest() == Store(many.make(tmp_path / "whole")).digest()


def test_ledgers_come_along(many, tmp_path):
    path = many.make(tmp_path / "s", count=4)
    (path / "runs" / "20250101T000000Z-aaaa.jsonl").write_text('{"line": "header"}\n')
    convert(path, tmp_path / "out")
    assert (tmp_path / "out" / "runs" / "20250101T000000Z-aaaa.jsonl").read_text() == '{"line": "header"}\n'


def test_what_it_refuses(many, tmp_path):
    path = many.make(tmp_path / "s", count=4)
    with pytest.raises(StoreError, match="holds something else"):
        convert(path, path)
    other = many.make(tmp_path / "other", count=4)
    before = many.tree(other, ())
    with pytest.raises(StoreError, match="holds something else"):
        convert(path, other)
    assert many.tree(other, ()) == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="is a file"):
        convert(path, tmp_path / "file")
    convert(path, tmp_path / "out")
    with pytest.raises(StoreError, match="another command or of other content"):
        convert(path, tmp_path / "out", "float16")
    with pytest.raises(PlanError, match="no compression is called"):
        convert(path, tmp_path / "new", compression="lzma")
    with Lock(path), pytest.raises(StoreBusy, match=f"process {os.getpid()}"):
        convert(path, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(StoreError, match="no feature store"):
        convert(tmp_path / "nowhere", tmp_path / "new")


def test_a_part_of_schema_1_is_rewritten(content, many, golden, tmp_path):
    path = many.make(tmp_path / "s", count=4, only=[])
    shutil.copy(golden / "part_schema1.h5", path / "parts" / f"{content.CHUNK}.h5")
    assert index_part(Store(path).parts()[0]).schema == 1
    convert(path, tmp_path / "out")
    assert [index_part(part).schema for part in Store(tmp_path / "out").parts()] == [2]
    assert Store(tmp_path / "out").digest() == Store(path).digest()
    (tmp_path / "now").mkdir()
    now = content.seal(tmp_path / "now", content.make_records())
    assert Store(tmp_path / "out").parts()[0].read_bytes() == now.read_bytes()
