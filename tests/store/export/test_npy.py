"""The layout npy: one file per clip, the index, times and validity; names of all kinds; interruptions."""

from __future__ import annotations

import csv
import os
import urllib.parse

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.errors import StoreError, UnknownName
from extract.store import Store
from extract.store.export import export
from extract.store.export.npy import file_name


@pytest.fixture
def store(shelf, tmp_path):
    return shelf.make(tmp_path / "store")


def index(out):
    with (out / "index.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_everything_can_be_found_from_the_index(shelf, store, tmp_path):
    out = tmp_path / "o"
    done = export(store, "npy", out)
    listed = index(out)
    assert [(row["key"], row["clip_id"]) for row in listed] == [
        (key, clip) for key in shelf.keys(store) for clip in shelf.IDS if (clip, key) in store
    ]
    columns = {
        (name, kind): np.load(out / f"{name}.{kind}.npy")
        for name in {row["file"].split("/")[0] for row in listed}
        for kind in ("window_ns", "valid")
    }
    for row in listed:
        rows, folder = store.rows(row["clip_id"], row["key"]), row["file"].split("/")[0]
        array = np.load(out / row["file"])
        assert array.dtype == rows.data.dtype
        assert (array == rows.data).all()
        which = slice(int(row["first_row"]), int(row["first_row"]) + int(row["rows"]))
        assert (columns[folder, "window_ns"][which] == rows.window_ns).all()
        assert (columns[folder, "valid"][which] == rows.valid).all()
        assert int(row["masked"]) == (rows.valid == 0).sum()
        assert urllib.parse.unquote(row["file"].split("/")[1]) == f"{row['clip_id']}.npy"
    assert sum(int(row["masked"]) for row in listed) == 1
    for (name, _), column in columns.items():
        assert len(column) == sum(int(row["rows"]) for row in listed if row["file"].startswith(f"{name}/"))
    assert sorted(shelf.files(out)) == sorted(
        [
            *(row["file"] for row in listed),
            *(f"{n}.{k}.npy" for n, k in columns),
            "index.csv",
            "export.json",
            "missing.csv",
        ]
    )
    assert done.files == len(listed) + len(columns) + 1
    assert done.size_bytes == sum(
        len(v) for k, v in shelf.files(out).items() if k not in ("export.json", "missing.csv")
    )
    assert {(each.clip_id, each.key) for each in done.missing} == {("failed", key) for key in shelf.keys(store)}


def test_another_type(shelf, store, tmp_path):
    export(store, "npy", tmp_path / "o", keys=["clip_vit_b32", "vggish"], dtype="float32")
    for row in index(tmp_path / "o"):
        array = np.load(tmp_path / "o" / row["file"])
        assert array.dtype == np.float32
        assert (array == store[row["clip_id"], row["key"]]).all()
    export(store, "npy", tmp_path / "p", keys=["vggish"], dtype="float16")
    assert np.load(tmp_path / "p" / "vggish" / "plain.npy").dtype == np.float16
    with pytest.raises(UnknownName, match="no type of number is called 'float64'; did you mean"):
        export(store, "npy", tmp_path / "q", dtype="float64")
    assert not (tmp_path / "q").exists()


def test_two_keys_of_one_network_and_ids_that_are_no_names(shelf, tmp_path):
    other = shelf.info("vggish", (3,), shelf.SOUND, precision="bfloat16")
    store = shelf.make(
        tmp_path / "s", infos=(shelf.HEARD, other), ids=("a/b", "a%2Fb", ".hidden", "..", "ä\\"), manifest=False
    )
    export(store, "npy", tmp_path / "o")
    listed = index(tmp_path / "o")
    assert {row["file"].split("/")[0] for row in listed} == {shelf.HEARD.key, other.key}
    assert len({row["file"] for row in listed}) == 10
    for row in listed:
        assert (np.load(tmp_path / "o" / row["file"]) == store[row["clip_id"], row["key"]]).all()
    assert not [name for name in os.listdir(tmp_path / "o" / other.key) if name.startswith(".")]


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_names_are_safe_and_give_the_id_back(clip_id):
    name = file_name(clip_id)
    assert "/" not in name
    assert not name.startswith(".")
    assert urllib.parse.unquote(name).removesuffix(".npy") == clip_id


def test_a_clip_without_rows_and_a_key_without_clips(shelf, store, tmp_path):
    done = export(store, "npy", tmp_path / "o", keys=["vggish"], ids=["failed"])
    assert index(tmp_path / "o") == []
    assert np.load(tmp_path / "o" / "vggish.window_ns.npy").shape == (0, 2)
    assert [each.clip_id for each in done.missing] == ["failed"]


def test_an_interrupted_export_is_gone_on_with(shelf, store, tmp_path):
    """The n-th rename never happens, for every n; what is left is never half a file."""
    asked = {"keys": ["vggish", "clip_vit_b32"]}
    export(store, "npy", tmp_path / "whole", **asked)
    expected = shelf.files(tmp_path / "whole")
    for step in range(1, 99):
        out = tmp_path / f"o{step}"
        pid = os.fork()
        if not pid:
            _die_before_rename(step, store.path, out, asked)
        finished = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        for name, content in shelf.files(out).items():
            if not name.endswith((".tmp", "-lock", "export.json")):
                assert content == expected[name], name
        done = export(Store(store.path), "npy", out, **asked)
        assert shelf.files(out) == expected
        assert done.kept or step < 4
        if finished:
            break
    assert 20 < step < 98


def _die_before_rename(step, path, out, asked):
    left, real = step, os.rename

    def rename(*names):
        nonlocal left
        left -= 1
        if not left:
            os._exit(9)
        real(*names)

    os.rename = rename
    try:
        export(Store(path), "npy", out, **asked)
    finally:
        os._exit(0)


def test_a_number_too_large(shelf, tmp_path):
    rows = shelf.rows("x", shelf.HEARD)
    rows.data[0, 0] = 1e6
    shelf.create_store(tmp_path / "s")
    shelf.seal_piece(tmp_path / "s" / "parts", "a" * 16, ["x"], [shelf.HEARD], [rows], [], [], {})
    with pytest.raises(StoreError, match="does not fit into float16"):
        export(Store(tmp_path / "s"), "npy", tmp_path / "o", dtype="float16")
    assert not list((tmp_path / "o").rglob("*.tmp"))
