"""Sealing: what is in a part, that equal content has equal bytes, and what is refused."""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest

from extract.store.part import check_rows, index_part, read_part, seal_piece
from extract.store.rows import KeyInfo, Remark


def equal(a, b):
    return all(
        np.array_equal(getattr(a, field.name), getattr(b, field.name)) if field.name not in ("clip_id", "key") else True
        for field in dataclasses.fields(a)
    )


def test_what_was_sealed_is_read(content, parts):
    records = content.make_records()
    read = read_part(content.seal(parts, records))
    rows = {(item.clip_id, item.key): item for kind, item in records if kind == "rows"}
    assert read.rows.keys() == rows.keys()
    assert all(equal(read.rows[name], rows[name]) for name in rows)
    assert set(read.index.failed) == {item for kind, item in records if kind == "failed"}
    assert set(read.index.masked) == {item for kind, item in records if kind == "masked"}
    assert {entry.info for entry in read.index.keys.values()} == set(content.KEYS)
    assert read.index.provenance == '[{"device":"cpu","h5py":"3.16.0"}]'


def test_rows_lie_in_manifest_order(content, parts):
    index = index_part(content.seal(parts, reversed(content.make_records())))
    assert index.keys[content.STILL.key].clips == tuple(clip for clip in content.ORDER if clip != "delta")


def test_layout_as_plain_hdf5(content, parts):
    path = content.seal(parts, content.make_records())
    assert path.name.startswith(f"{content.CHUNK}.")
    assert path.name.endswith(".piece.h5")
    with h5py.File(path) as file:
        assert file.attrs["schema"] == 2
        assert set(file) == {*(key.key for key in content.KEYS), "failed", "masked"}
        group = file[content.JOINT.key]
        assert set(group) == {"data", "span", "clip", "window_ns", "valid", "source_ns", "sha256"}
        assert group["data"].dtype == np.dtype("<f4")
        assert group["data"].shape[1:] == (2, 4)
        assert group["source_ns"].shape[1:] == (4,)
        assert bytes(group.attrs["identity"]).decode() == content.JOINT.identity
        assert set(file["failed"]) == {"clip", "key", "stage", "error", "message"}
        datasets = [node for part in file.values() for node in part.values()]
        assert all(node.chunks is None and node.compression is None for node in datasets)
        start, stop = group["span"][2]
        assert group["clip"][2].decode() == "beta"
        assert np.array_equal(group["data"][start:stop], content.make_rows("beta", content.JOINT).data)


def test_equal_content_has_equal_bytes(content, tmp_path):
    (tmp_path / "later").mkdir()
    first = content.undisturbed(tmp_path / "first")
    time.sleep(1.1)  # HDF5 keeps times in whole seconds
    records = content.make_records()
    random.Random(3).shuffle(records)
    assert content.seal(tmp_path / "later", records).read_bytes() == first


def test_another_process_writes_the_same_bytes(content, tmp_path):
    here = content.undisturbed(tmp_path / "here")
    code = f"import content, pathlib; content.undisturbed(pathlib.Path({str(tmp_path / 'there')!r}))"
    env = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parent), "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    (there,) = (tmp_path / "there").iterdir()
    assert there.read_bytes() == here


def test_many_keys_are_deterministic_too(content, tmp_path):
    keys = [content.info(f"net{i}", (2,)) for i in range(20)]
    rows = [content.make_rows(clip, key) for clip in content.ORDER for key in keys]
    seen = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        path = seal_piece(tmp_path / name, "c" * 16, content.ORDER, keys, rows, [], [], {"notes": "x" * 100_000})
        seen.add(path.read_bytes())
        rows.reverse()
    assert len(seen) == 1
    assert len(index_part(path).keys) == 20


def test_a_piece_of_failures_only(content, parts):
    remark = Remark("beta", content.STILL.key, "engine", "crash", "")
    index = index_part(content.seal(parts, [("failed", remark)]))
    assert index.failed == (remark,)
    assert not index.keys


def test_an_empty_piece_is_a_part(content, parts):
    index = index_part(content.seal(parts, []))
    assert (index.keys, index.failed, index.masked) == ({}, (), ())


def test_scalar_features(content, parts):
    key = content.info("loudness", ())
    rows = content.make_rows("beta", key, 4)
    path = seal_piece(parts, content.CHUNK, content.ORDER, [key], [rows], [], [], {})
    assert equal(read_part(path).rows["beta", key.key], rows)


def test_no_source_times(content, parts):
    rows = dataclasses.replace(content.make_rows("beta", content.STILL, 4), source_ns=np.empty((4, 0), np.int64))
    assert equal(read_part(content.seal(parts, [("rows", rows)])).rows["beta", content.STILL.key], rows)


def test_a_strided_array_is_stored_as_it_reads(content, parts):
    rows = content.make_rows("beta", content.STILL, 4)
    strided = dataclasses.replace(rows, data=np.repeat(rows.data, 2, axis=1)[:, ::2])
    assert equal(read_part(content.seal(parts, [("rows", strided)])).rows["beta", content.STILL.key], rows)


def test_messages_with_broken_file_names_are_kept(content, parts):
    remark = Remark("beta", content.STILL.key, "open", "not_found", "caf\udce9.mp4\0 ünlesbar")
    (read,) = index_part(content.seal(parts, [("failed", remark)])).failed
    assert read.message == "caf\\udce9.mp4\\x00 ünlesbar"


def test_different_content_has_different_names(content, parts):
    names = {content.seal(parts, [record]).name for record in content.make_records()}
    assert len(names) == len(content.make_records())


def test_no_second_copy_in_memory(content, parts):
    key = content.info("big", (2048,))
    rows = [content.make_rows(clip, key, 160) for clip in content.ORDER]  # 1.3 MB each
    tracemalloc.start()
    seal_piece(parts, content.CHUNK, content.ORDER, [key], rows, [], [], {})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < rows[0].data.nbytes


BAD = {
    "nan": (lambda r: r.data.__setitem__((1, 2), np.nan), "1 of 24 values are NaN or infinite"),
    "infinity": (lambda r: r.data.__setitem__((1, 2), -np.inf), "1 of 24 values are NaN or infinite"),
    "plus infinity": (lambda r: r.data.__setitem__((1, 2), np.inf), "1 of 24 values are NaN or infinite"),
    "valid": (lambda r: r.valid.__setitem__(0, 2), "valid must be 0 or 1, holds 2"),
    "empty window": (lambda r: r.window_ns.__setitem__((0, 1), 0), "0 <= start < stop"),
    "negative window": (lambda r: r.window_ns.__setitem__((0, 0), -1), "0 <= start < stop"),
}


@pytest.mark.parametrize(("spoil", "message"), BAD.values(), ids=BAD)
def test_bad_values_are_refused_by_name(content, parts, spoil, message):
    rows = content.make_rows("beta", content.STILL, 4)
    spoil(rows)
    with pytest.raises(ValueError, match=message) as error:
        content.seal(parts, [("rows", rows)])
    assert "'beta', resnet152@" in str(error.value)
    assert not list(parts.iterdir())


SHAPES = {
    "dims": ({"data": np.zeros((4, 7), np.float32)}, r"data must have shape \(4, 6\), has \(4, 7\)"),
    "flat": ({"data": np.zeros(4, np.float32)}, r"data must have shape \(4, 6\), has \(4,\)"),
    "type": ({"data": np.zeros((4, 6))}, "data must be float32, is float64"),
    "half": ({"data": np.zeros((4, 6), np.float16)}, "data must be float32, is float16"),
    "windows": ({"window_ns": np.zeros((3, 2), np.int64)}, r"window_ns must have shape \(4, 2\), has \(3, 2\)"),
    "valid": ({"valid": np.ones(5, np.uint8)}, r"valid must have shape \(4,\), has \(5,\)"),
    "valid type": ({"valid": np.ones(4, bool)}, "valid must be uint8, is bool"),
    "sources": ({"source_ns": np.zeros((5, 1), np.int64)}, r"source_ns must have shape \(4, 1\), has \(5, 1\)"),
    "flat sources": ({"source_ns": np.zeros(4, np.int64)}, r"source_ns must have shape \(4, 1\), has \(4,\)"),
    "none": ({"data": np.zeros((0, 6), np.float32)}, "no rows"),
    "name": ({"clip_id": "be\0ta"}, "NUL"),
}


@pytest.mark.parametrize(("change", "message"), SHAPES.values(), ids=SHAPES)
def test_shapes_that_do_not_fit_are_refused(content, change, message):
    rows = dataclasses.replace(content.make_rows("beta", content.STILL, 4), **change)
    with pytest.raises(ValueError, match=message):
        check_rows(rows, content.STILL)


def test_contradictions_are_refused(content, parts):
    def refused(message, rows=(), failed=(), masked=(), order=content.ORDER, keys=content.KEYS, chunk="c"):
        with pytest.raises(ValueError, match=message):
            seal_piece(parts, chunk, order, keys, rows, failed, masked, {})

    rows = content.make_rows("beta", content.STILL)
    remark = Remark("beta", content.STILL.key, "open", "not_found", "")
    wide = dataclasses.replace(content.make_rows("zeta_0_10", content.STILL, 2), source_ns=np.zeros((2, 3), np.int64))
    refused("'beta' is not in chunk c", [rows], order=["other"])
    refused("'beta' is not in chunk c", failed=[remark], order=["other"])
    refused("rows given twice", [rows, rows])
    refused("failures given twice", failed=[remark, dataclasses.replace(remark, message="again")])
    refused("masked rows given twice", masked=[remark, remark])
    refused("rows and a failure at once", [rows], [remark])
    refused("of which `keys` says nothing", [rows], keys=[content.SOUND])
    refused("3 source times per row, others 1", [rows, wide])
    refused("`order` holds an id twice", order=["beta", "beta"])
    refused("`keys` holds a key twice", keys=[content.STILL, content.STILL])
    refused("a chunk's name is", chunk="../c")
    refused("is not the key of its identity", keys=[dataclasses.replace(content.STILL, key="resnet152@000000000000")])
    refused("half a surrogate", failed=[dataclasses.replace(remark, stage="\udce9")])
    assert not list(parts.iterdir())


def test_key_info_is_plain_data(content):
    assert KeyInfo(*dataclasses.astuple(content.STILL)) == content.STILL
