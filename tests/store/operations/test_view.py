"""A view read with plain h5py: every clip, after a move, and what it says once it is outdated."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from extract.errors import StoreBusy, StoreError
from extract.store import Store
from extract.store.operations.pack import pack
from extract.store.operations.view import outdated, write_view
from extract.store.runs import Lock


def compare(view, store):
    """Every clip through the view, with nothing but h5py, against the store."""
    seen = 0
    # HDF5 wants one setting per file and process, and the store reads compressed parts without locks.
    with h5py.File(view, locking=False) as file:
        for name, group in file.items():
            key = group.attrs["key"].decode()
            ids = [raw.decode() for raw in group["clip"][...]]
            assert sorted(ids) == list(store.clips(key)), name
            assert len(group["data"]) == group["span"][-1, 1]
            for (start, stop), clip in zip(group["span"][...].tolist(), ids, strict=True):
                rows = store.rows(clip, key)
                for each in ("data", "window_ns", "valid", "source_ns"):
                    assert np.array_equal(group[each][start:stop], getattr(rows, each)), (name, clip, each)
                seen += 1
    return seen


def test_every_clip_of_several_parts(many, tmp_path):
    path = many.make(tmp_path / "s")
    joint = [("rows", many.content.make_rows(clip, many.content.JOINT)) for clip in many.ids(24)[:4]]
    many.seal_chunk(path / "parts", "f" * 16, many.ids(24)[:4], joint)
    done = write_view(path, tmp_path / "view.h5")
    assert compare(tmp_path / "view.h5", Store(path)) == len(many.rows_of(Store(path)))
    assert done.size_bytes == (tmp_path / "view.h5").stat().st_size
    assert set(done.rows) == {"resnet152", "vggish", "joint"}


def test_what_stands_beside_the_rows(many, tmp_path):
    path = many.make(tmp_path / "s")
    write_view(path, tmp_path / "view.h5")
    store = Store(path)
    with h5py.File(tmp_path / "view.h5") as file:
        group = file["resnet152"]
        assert group.attrs["identity"].decode() == many.STILL.identity
        assert (group.attrs["weights"], group.attrs["licence"]) == (b"sha256:abc", b"BSD-3-Clause")
        ids = [raw.decode() for raw in group["clip"][...]]
        assert ids == [clip for clip in store.manifest if clip in ids], "in the order of the manifest"
        assert [raw.decode() for raw in group["labels"][...]] == [";".join(store.labels(clip)) for clip in ids]
        assert [raw.decode() for raw in group["split"][...]] == [store.manifest[clip].split for clip in ids]
        assert group["data"].dtype == np.float32
        assert group["data"].is_virtual
        assert not group["span"].is_virtual
        assert file.attrs["store_digest"].decode() == store.digest()


def test_one_backbone_with_two_keys_has_two_groups(many, tmp_path):
    path = many.make(tmp_path / "s", count=4)
    other = many.content.info("resnet152", (3,), hop="other")
    rows = [many.content.make_rows(clip, other) for clip in many.ids(4)]
    from extract.store.part import seal_piece

    seal_piece(path / "parts", "f" * 16, many.ids(4), [other], rows, [], [], {})
    assert set(write_view(path, tmp_path / "view.h5").rows) == {many.STILL.key, other.key, "vggish"}
    compare(tmp_path / "view.h5", Store(path))


def test_clips_in_several_parts_are_shown_once(many, tmp_path):
    path = many.make(tmp_path / "s")
    many.seal_chunk(path / "parts", "d" * 16, many.ids(24)[2:7])
    write_view(path, tmp_path / "view.h5")
    compare(tmp_path / "view.h5", Store(path))


def test_a_row_of_nothing(many, tmp_path):
    path = many.make(tmp_path / "s", count=4)
    empty = many.content.info("empty", (2, 0))
    from extract.store.part import seal_piece

    rows = [many.content.make_rows(clip, empty) for clip in many.ids(4)]
    seal_piece(path / "parts", "f" * 16, many.ids(4), [empty], rows, [], [], {})
    write_view(path, tmp_path / "view.h5")
    compare(tmp_path / "view.h5", Store(path))


@pytest.mark.parametrize("place", ["view.h5", "s%b/view.h5", "views/deep/view.h5"])
def test_store_and_view_move_together(many, tmp_path, place):
    folder = tmp_path / "here"
    many.make(folder / "s%b")  # HDF5 takes '%b' in the name of a source for a pattern
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    write_view(folder / "s%b", folder / place)
    digest = Store(folder / "s%b").digest()
    shutil.move(folder, tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere"
    assert compare(moved / place, Store(moved / "s%b")) > 20
    assert outdated(moved / place) == ""
    assert Store(moved / "s%b").digest() == digest


def test_another_process_in_another_folder_with_h5py_alone(many, tmp_path):
    path = many.make(tmp_path / "s")
    write_view(path, tmp_path / "view.h5")
    code = (
        "import h5py, sys; f = h5py.File(sys.argv[1]); print(float(f['resnet152/data'][...].sum()), *sys.modules.keys()"
        " & {'extract', 'torch'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "view.h5"], cwd="/", capture_output=True, text=True, check=True
    )
    with h5py.File(tmp_path / "view.h5") as file:
        assert done.stdout.split() == [str(float(file["resnet152/data"][...].sum()))]


def test_a_compressed_and_a_half_precision_store(many, tmp_path):
    from extract.store.operations.convert import convert

    path = many.make(tmp_path / "s")
    convert(path, tmp_path / "half", "float16", "gzip:1")
    write_view(tmp_path / "half", tmp_path / "view.h5")
    compare(tmp_path / "view.h5", Store(tmp_path / "half"))
    with h5py.File(tmp_path / "view.h5") as file:
        assert file["resnet152/data"].dtype == np.float16


def test_a_packed_store_leaves_an_outdated_view(many, tmp_path):
    path = many.make(tmp_path / "s")
    view = tmp_path / "view.h5"
    write_view(path, view)
    assert outdated(view) == ""
    pack(path)
    assert "lie in other files now" in outdated(view)
    with h5py.File(view) as file:
        assert np.isnan(file["resnet152/data"][...]).all(), "never rows of zeros that look like rows"
        assert (file["resnet152/window_ns"][...] == -1).all()
        assert (file["resnet152/valid"][...] == 255).all()
    write_view(path, view)
    assert outdated(view) == ""
    compare(view, Store(path))
    many.seal_chunk(path / "parts", "d" * 16, ["800_clip"])
    assert "holds other rows now" in outdated(view)
    shutil.rmtree(path)
    assert "moved together" in outdated(view)


def test_equal_stores_give_equal_bytes(many, tmp_path):
    path = many.make(tmp_path / "s")
    write_view(path, tmp_path / "view.h5")
    first = (tmp_path / "view.h5").read_bytes()
    time.sleep(1.1)  # HDF5 counts times in seconds
    write_view(path, tmp_path / "view.h5")
    assert (tmp_path / "view.h5").read_bytes() == first


def test_a_read_only_store(many, tmp_path):
    path = many.make(tmp_path / "s")
    before = many.tree(path, ())
    for folder in (path, path / "parts"):
        folder.chmod(0o500)
    try:
        write_view(path, tmp_path / "view.h5")
    finally:
        for folder in (path, path / "parts"):
            folder.chmod(0o700)
    assert many.tree(path, ()) == before


def test_what_it_refuses(many, tmp_path, store_path):
    path = many.make(tmp_path / "s")
    (tmp_path / "text").write_text("mine")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.attrs["kind"] = "mine"
    for name in ("text", "other.h5", "s"):
        with pytest.raises(StoreError, match="is no view of a store"):
            write_view(path, tmp_path / name)
    assert (tmp_path / "text").read_text() == "mine"
    with pytest.raises(StoreError, match="is no folder"):
        write_view(path, tmp_path / "none" / "view.h5")
    with pytest.raises(StoreError, match="has no rows to show"):
        write_view(store_path, tmp_path / "view.h5")
    with Lock(path), pytest.raises(StoreBusy, match=f"process {os.getpid()}"):
        write_view(path, tmp_path / "view.h5")
    with pytest.raises(StoreError, match="is no view of a store"):
        outdated(tmp_path / "other.h5")


def test_no_more_parts_than_may_be_open(many, tmp_path, monkeypatch):
    """HDF5 gives NaN for the parts that it cannot open any more, and says nothing."""
    path = many.make(tmp_path / "s")
    monkeypatch.setattr("extract.store.operations.view.MOST_PARTS", 5)
    with pytest.raises(StoreError, match=r"has 6 parts.*`extract store pack"):
        write_view(path, tmp_path / "view.h5")
    pack(path)
    assert write_view(path, tmp_path / "view.h5").rows
