"""Tables, read with pyarrow."""

from __future__ import annotations

import json
import os
import signal
import sys

import numpy as np
import pytest

from extract.errors import PlanError, StoreUnwritable
from extract.store.export import layouts
from extract.store.export import parquet as layout
from extract.store.export.parquet import export

pq = pytest.importorskip("pyarrow.parquet")
THERE = ("a.b c", "ü ß_0_10", "-dash", "__x__", "50%", "plain", "mute")


def test_every_row_is_a_line(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    done = export(store, shelf.keys(store), shelf.IDS, tmp_path / "out", shard_clips=3)
    for info in shelf.ALONE:
        name = info.key.partition("@")[0]
        folder = tmp_path / "out" / name
        assert sorted(path.name for path in folder.iterdir()) == [f"00000{n}.parquet" for n in range(3)]
        table = pq.read_table(folder)
        number = "halffloat" if info.storage == "float16" else "float"
        assert {field.name: str(field.type).replace("element", "item") for field in table.schema} == {
            "clip_id": "string",
            "split": "string",
            "labels": "list<item: string>",
            "row": "int32",
            "start_s": "double",
            "stop_s": "double",
            "valid": "bool",
            name: f"fixed_size_list<item: {number}>[{np.prod(info.dims)}]",
        }
        lines = table.to_pydict()
        assert list(dict.fromkeys(lines["clip_id"])) == list(THERE)
        flat = table[name].combine_chunks().flatten().to_numpy().reshape(-1, *info.dims)
        for clip_id in THERE:
            rows = store.rows(clip_id, name)
            mine = [n for n, each in enumerate(lines["clip_id"]) if each == clip_id]
            assert [lines["row"][n] for n in mine] == list(range(len(rows.data)))
            np.testing.assert_array_equal(flat[mine], rows.data)
            assert [lines["start_s"][n] for n in mine] == (rows.window_ns[:, 0] / 1e9).tolist()
            assert [lines["stop_s"][n] for n in mine] == (rows.window_ns[:, 1] / 1e9).tolist()
            assert [lines["valid"][n] for n in mine] == (rows.valid == 1).tolist()
            assert {lines["split"][n] for n in mine} == {store.manifest[clip_id].split}
            assert {tuple(lines["labels"][n]) for n in mine} == {store.labels(clip_id)}
        about = json.loads(pq.read_schema(folder / "000000.parquet").metadata[b"extract"])
        assert (about["dims"], about["key"], about["identity"]) == (
            list(info.dims),
            info.key,
            json.loads(info.identity),
        )
    assert (done.files, done.kept, done.notes, len(done.missing)) == (15, 0, (), 5)


def test_one_clip_by_a_filter(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    export(store, shelf.keys(store), shelf.IDS, tmp_path / "out", dtype="float32")
    table = pq.read_table(tmp_path / "out" / "clip_vit_b32", filters=[("clip_id", "=", "mute")])
    array = np.stack(table["clip_vit_b32"].to_numpy())
    np.testing.assert_array_equal(array, store["mute", "clip_vit_b32"].astype(np.float32))


def test_row_groups_are_bounded(shelf, tmp_path, monkeypatch):
    store = shelf.make(tmp_path / "store", [shelf.STILL])
    monkeypatch.setattr(layout, "ROW_GROUP_BYTES", 2500)
    export(store, shelf.keys(store), shelf.IDS, tmp_path / "out")
    meta = pq.read_metadata(tmp_path / "out" / "resnet152" / "000000.parquet")
    rows = [meta.row_group(n).num_rows for n in range(meta.num_row_groups)]
    assert rows == [3 * 16, 2 * 16 + 1 + 16]  # a group ends with the clip that fills it


def test_a_file_that_is_there_stays_and_bytes_are_equal(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    for name in ("out", "other"):
        export(store, shelf.keys(store), shelf.IDS, tmp_path / name, shard_clips=2)
    whole = shelf.files(tmp_path / "out")
    assert shelf.files(tmp_path / "other") == whole
    (tmp_path / "out" / "vggish" / "000001.parquet").unlink()
    done = export(store, shelf.keys(store), shelf.IDS, tmp_path / "out", shard_clips=2)
    assert (done.files, done.kept) == (1, 19)
    assert shelf.files(tmp_path / "out") == whole


def test_a_full_disk_says_what_is_needed_and_leaves_no_half_file(shelf, tmp_path):
    ids = tuple(map(str, range(200)))
    store = shelf.make(tmp_path / "store", [shelf.STILL], ids)
    out = tmp_path / "out"
    pid = os.fork()
    if pid == 0:  # a limit on the size of files fails as a full disk does, from some byte on
        code = 1
        try:
            import resource

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
            export(store, shelf.keys(store), ids, out)
        except StoreUnwritable as error:
            code = 0 if "000000.parquet (76,800 bytes needed, " in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert shelf.files(out) == {}
    export(store, shelf.keys(store), ids, out)
    assert pq.read_table(out / "resnet152").num_rows == 16 * 200


def test_without_pyarrow_the_command_that_installs_it_is_named(shelf, tmp_path, monkeypatch):
    store = shelf.make(tmp_path / "store")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert layouts()["parquet"].startswith("Tables for pandas")  # listed all the same
    with pytest.raises(PlanError, match=r"pip install 'extract-av\[parquet\]'"):
        export(store, shelf.keys(store), shelf.IDS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_clips_per_file(shelf, tmp_path):
    store = shelf.make(tmp_path / "store")
    with pytest.raises(PlanError, match="--shard-clips must be at least 1, got 0"):
        export(store, shelf.keys(store), shelf.IDS, tmp_path / "out", shard_clips=0)


def test_two_keys_of_one_network_without_a_manifest(shelf, tmp_path):
    ids = ("a/b.c", "ü")
    other = shelf.info("vggish", (3,), shelf.SOUND, more=1)
    store = shelf.make(tmp_path / "store", [shelf.HEARD, other], ids, manifest=False)
    export(store, shelf.keys(store), ids, tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / other.key)
    assert table["clip_id"].to_pylist() == ["a/b.c"] * 2 + ["ü"] * 2
    assert table["labels"].to_pylist() == [[]] * 4
    assert table.column_names[-1] == other.key
