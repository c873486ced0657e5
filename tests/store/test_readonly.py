"""A store that was copied, or that nobody may write to, is as good as any; what would write says that it cannot."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from extract import api
from extract.errors import DamagedPart, StoreUnwritable
from extract.store import Store
from extract.store.catalog import create_store, save_index
from extract.store.index_file import NAME
from extract.store.merge import drop_remarks, merge_chunk
from extract.store.runs import Lock, holder
from extract.store.verify import verify


@pytest.fixture
def store(content, tmp_path):
    """Three parts and an index file, after a run."""
    path = tmp_path / "made"
    create_store(path)
    records = content.make_records()
    for start in (0, 9, 18):
        content.seal(path / "parts", records[start : start + 9]).rename(path / "parts" / f"{start:016x}.h5")
    with Lock(path):
        save_index(path)
    return path


@pytest.fixture
def frozen(tmp_path):
    """Show a folder somewhere else, where nothing can be written."""
    shown = []

    def freeze(folder):
        place = tmp_path / f"frozen{len(shown)}"
        place.mkdir()
        made = subprocess.run(["mount", "--bind", folder, place], capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"this user cannot mount: {made.stderr.strip()}")
        shown.append(place)
        subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
        return place

    yield freeze
    for place in shown:
        subprocess.run(["umount", "-l", place], check=True)


def never(path):
    raise AssertionError(f"{path} was opened with HDF5 to see what is in it")


def everything(store):
    return [(clip, key, store.rows(clip, key)) for clip, keys in sorted(store.have().items()) for key in sorted(keys)]


def equal(ours, theirs):
    names = ("data", "window_ns", "valid", "source_ns")
    assert [each[:2] for each in ours] == [each[:2] for each in theirs]
    assert all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for (*_, a), (*_, b) in zip(ours, theirs, strict=True)
        for name in names
    )


# ---- copies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copy", [shutil.copyfile, shutil.copy2], ids=["without times", "with times"])
def test_a_copy_is_known_by_its_seals(store, tmp_path, monkeypatch, copy):
    """Other inodes, perhaps other times: the index file still counts, and no part is opened to see what is in it."""
    shutil.copytree(store, tmp_path / "copy", copy_function=copy)
    for path in (tmp_path / "copy" / "parts").iterdir():
        os.utime(path, ns=(1, 1)) if copy is shutil.copyfile else None
    expected = everything(Store(store)), Store(store).digest(), Store(store).tally()
    monkeypatch.setattr("extract.store.scan.index_part", never)
    found = Store(tmp_path / "copy")
    equal(everything(found), expected[0])
    assert (found.digest(), found.tally()) == expected[1:]
    monkeypatch.undo()
    assert verify(tmp_path / "copy") == []


def test_a_copy_with_one_part_replaced_opens_that_one(content, store, tmp_path, monkeypatch):
    from extract.store.reader import index_part

    shutil.copytree(store, tmp_path / "copy", copy_function=shutil.copyfile)
    create_store(tmp_path / "other")
    other = content.seal(tmp_path / "other" / "parts", content.make_records()[:5])
    shutil.copyfile(other, tmp_path / "copy" / "parts" / f"{0:016x}.h5")
    opened = []
    monkeypatch.setattr("extract.store.scan.index_part", lambda path: opened.append(path.name) or index_part(path))
    digest = Store(tmp_path / "copy").digest()
    assert opened == [f"{0:016x}.h5"]
    (tmp_path / "copy" / NAME).unlink()
    assert digest == Store(tmp_path / "copy").digest() != Store(store).digest()


def test_the_index_of_a_copy_can_be_saved_again(store, tmp_path, monkeypatch):
    shutil.copytree(store, tmp_path / "copy", copy_function=shutil.copyfile)
    save_index(tmp_path / "copy")
    seals = []
    monkeypatch.setattr("extract.store.index.read_seal", seals.append)
    monkeypatch.setattr("extract.store.scan.index_part", never)
    assert Store(tmp_path / "copy").digest() == Store(store).digest()
    assert seals == [], "the copy's own inodes and times are known now"


def test_a_store_opened_through_links(store, tmp_path):
    """Parts of one store, seen in another folder."""
    create_store(tmp_path / "links")
    for path in (store / "parts").iterdir():
        (tmp_path / "links" / "parts" / path.name).symlink_to(path)
    assert Store(tmp_path / "links").digest() == Store(store).digest()
    assert verify(tmp_path / "links") == []


def test_a_link_to_nowhere_is_named(store, tmp_path):
    (store / "parts" / "gone.h5").symlink_to(tmp_path / "nowhere.h5")
    (finding,) = verify(store)
    assert (finding.part, finding.level) == ("gone.h5", "damage")
    assert "a link to a file that is not there" in finding.problem


@pytest.mark.timeout(10)
def test_a_reader_does_not_wait_for_a_link_to_nowhere(store, tmp_path):
    digest = Store(store).digest()
    (store / "parts" / "gone.h5").symlink_to(tmp_path / "nowhere.h5")
    with pytest.raises(DamagedPart, match=r"gone\.h5 is a link to a file that is not there"):
        Store(store).keys()
    reader = Store(store, strict=False)
    assert (reader.digest(), [path.name for path, _ in reader.damaged()]) == (digest, ["gone.h5"])


# ---- read-only -------------------------------------------------------------------------------------------------------


def test_everything_that_reads_works(store, frozen, tmp_path, monkeypatch):
    place = frozen(store)
    monkeypatch.setattr("extract.store.scan.index_part", never)
    opened = Store(place)
    equal(everything(opened), everything(Store(store)))
    equal(everything(pickle.loads(pickle.dumps(opened))), everything(opened))  # noqa: S301 - our own
    assert opened.digest() == Store(store).digest()
    assert api.status(place).keys == api.status(store).keys
    assert holder(place) is None
    monkeypatch.undo()
    assert verify(place) == []
    assert verify(place, deep=True)
    api.export(place, "npy", tmp_path / "out")
    assert len(list((tmp_path / "out").rglob("*.npy"))) >= len(everything(opened))


def test_without_an_index_file_too(store, frozen):
    (store / NAME).unlink()
    place = frozen(store)
    assert Store(place).digest() == Store(store).digest()
    assert verify(place) == []
    assert not (place / NAME).exists()


def test_what_writes_says_that_it_cannot(content, store, frozen):
    content.seal(store / "parts", content.make_records()[:2])
    content.seal(store / "parts", content.make_records()[2:4])
    place = frozen(store)
    for write in (
        lambda: save_index(place),
        lambda: Lock(place).__enter__(),
        lambda: merge_chunk(place / "parts", content.CHUNK, content.ORDER),
        lambda: drop_remarks(place / "parts", lambda remark: True),
    ):
        with pytest.raises(StoreUnwritable, match="the file system is mounted read-only; mount it writable or choose"):
            write()
    assert Store(place).digest() == Store(store).digest()


def test_a_run_says_that_it_cannot_write(way, tiny, media, frozen, tmp_path, capsys, monkeypatch):
    """Also where there is nothing left to compute: it cannot know that without holding the store."""
    listed = way.manifest(tmp_path / "m.csv", media, ["c00"])
    args = way.run_args(listed, tmp_path / "s", backbones=("tiny_frames",))
    assert way.invoke(capsys, monkeypatch, *args).returncode == 0
    place = frozen(tmp_path / "s")
    more = way.manifest(tmp_path / "more.csv", media, ["c00", "c01"])
    for manifest in (listed, more):
        done = way.invoke(capsys, monkeypatch, *way.run_args(manifest, place, backbones=("tiny_frames",)))
        assert done.returncode == 2
        assert f"cannot write {place}" in done.stderr
        assert "mounted read-only; mount it writable or choose another --out" in done.stderr
        assert "Traceback" not in done.stderr
    for command in ("status", "verify"):
        done = way.invoke(capsys, monkeypatch, command, place)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def reachable():
    """A folder that other users reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_store_of_somebody_else(store, content, reachable):
    """Without a read-only mount: files and folders that may not be written."""
    theirs = Path(shutil.copytree(store, reachable / "store"))
    paths = [theirs, *theirs.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    root = os.geteuid() == 0
    if root:  # root may write anywhere
        os.seteuid(65534)
    try:
        assert verify(theirs) == []
        assert set(Store(theirs).have()) == set(content.ORDER) - {"delta"}
        assert api.status(theirs).damaged == ()
        with pytest.raises(StoreUnwritable, match="you may not write there"), Lock(theirs):
            pass
    finally:
        if root:
            os.seteuid(0)
        for path in paths:
            path.chmod(0o755)


def test_an_index_file_that_may_not_be_read(store, reachable):
    """It is only a cache."""
    theirs = Path(shutil.copytree(store, reachable / "store"))
    (theirs / NAME).chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        assert Store(theirs).digest()
        assert {(each.part, each.level) for each in verify(theirs)} == {(NAME, "index")}
    finally:
        if root:
            os.seteuid(0)
