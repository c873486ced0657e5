"""The index file of a store: used where it can be, left alone with a warning where it cannot, never a reason for wrong rows."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import shutil
import signal
import time

import numpy as np
import pytest

from extract.store import Store, index_file
from extract.store.catalog import create_store, save_index
from extract.store.hdf5 import SEAL_BYTES, seal_text
from extract.store.index_file import NAME, read_index
from extract.store.part import seal_piece
from extract.store.reader import index_part
from extract.store.verify import verify


def seen(store):
    """What a reader sees: all rows, and all there is to say."""
    rows = {(clip, key): store[clip, key].tobytes() for clip, keys in store.have().items() for key in keys}
    return rows, store.digest(), store.tally()


@pytest.fixture
def saved(content, store_path, parts):
    """A store with an index file."""
    for start in (0, 9, 18):
        content.seal(parts, content.make_records()[start : start + 9]).rename(parts / f"{start:016x}.h5")
    save_index(store_path)
    return store_path


def test_no_part_is_opened_with_it(content, saved, monkeypatch):
    opened = []
    monkeypatch.setattr("extract.store.scan.index_part", lambda path: opened.append(path) or index_part(path))
    expected = Store(saved).digest()
    assert opened == []
    (saved / NAME).unlink()
    assert Store(saved).digest() == expected
    assert len(opened) == 3


def test_equal_stores_have_equal_index_files_but_for_the_disk(content, saved, tmp_path):
    """It is written once and left alone while nothing changes."""
    before = (saved / NAME).stat()
    save_index(saved)
    assert (saved / NAME).stat().st_ino == before.st_ino
    assert list(saved.glob(".*")) == []


def ignored(content, saved, caplog, monkeypatch):
    """Whether the index file was left alone, with a warning, and the store read nevertheless."""
    opened = []
    monkeypatch.setattr("extract.store.scan.index_part", lambda path: opened.append(path) or index_part(path))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        store = Store(saved)
        rows = {(each.clip_id, each.key): each for kind, each in content.make_records() if kind == "rows"}
        for (clip, key), each in rows.items():
            assert np.array_equal(store[clip, key], each.data)
    return len(opened) == 3 and NAME in caplog.text


def test_a_flipped_byte_in_it(content, saved, caplog, monkeypatch):
    raw = (saved / NAME).read_bytes()
    rng = random.Random(3)
    for at in (*range(0, 128, 4), *rng.sample(range(len(raw)), 40)):
        damaged = bytearray(raw)
        damaged[at] ^= 1 << rng.randrange(8)
        (saved / NAME).write_bytes(damaged)
        assert ignored(content, saved, caplog, monkeypatch), at


def test_cut_off_and_empty(content, saved, caplog, monkeypatch):
    raw = (saved / NAME).read_bytes()
    for size in (1, 100, SEAL_BYTES, SEAL_BYTES + 1, len(raw) // 2, len(raw) - 1):
        (saved / NAME).write_bytes(raw[:size])
        assert ignored(content, saved, caplog, monkeypatch), size
    (saved / NAME).write_bytes(raw + b"more")
    assert ignored(content, saved, caplog, monkeypatch)


def test_an_empty_file(content, saved, caplog, monkeypatch):
    (saved / NAME).write_bytes(b"")
    assert ignored(content, saved, caplog, monkeypatch)


def as_schema(raw, schema):
    return seal_text("index", schema, hashlib.sha256(raw[SEAL_BYTES:]).hexdigest(), len(raw)) + raw[SEAL_BYTES:]


def test_an_index_of_a_newer_version(content, saved, caplog, monkeypatch):
    """Of the same form, of another form, and no HDF5 at all: only the seal may be looked at."""
    raw = (saved / NAME).read_bytes()
    (saved / NAME).write_bytes(as_schema(raw, 2))
    assert ignored(content, saved, caplog, monkeypatch)


def test_an_index_of_a_newer_version_and_another_form(content, saved, caplog, monkeypatch):
    raw = (saved / NAME).read_bytes()
    (saved / NAME).write_bytes(as_schema(raw[:SEAL_BYTES] + b"something else" * 100, 2))
    assert ignored(content, saved, caplog, monkeypatch)
    assert verify(saved) == [], "another version's cache is no fault"


def test_replaced_while_it_is_read(content, saved, monkeypatch):
    """A run writes it anew between two looks at it: offsets of one file must not be used on the bytes of another."""
    other = saved.parent / "other"
    create_store(other)
    shutil.copytree(saved / "parts", other / "parts", dirs_exist_ok=True)
    for i in range(40):
        clips = [f"new{i}_{j}" for j in range(8)]
        rows = [content.make_rows(clip, content.STILL) for clip in clips]
        seal_piece(other / "parts", f"{i + 100:016x}", clips, content.KEYS, rows, [], [], {})
    save_index(other)
    expected = seen(Store(saved))
    original = index_file.h5py.File

    def late(*args, **kwargs):
        if (other / NAME).exists():
            (other / NAME).rename(saved / NAME)
        return original(*args, **kwargs)

    monkeypatch.setattr(index_file.h5py, "File", late)
    store = Store(saved)
    store.refresh()
    monkeypatch.undo()
    assert seen(store) == expected


def test_killed_while_it_is_written(content, saved):
    """It is whole or as it was; the next save finishes it."""
    expected = seen(Store(saved))
    rng = random.Random(0)
    halves = 0
    for i in range(25):
        (saved / NAME).unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            try:
                while True:
                    save_index(saved)
                    (saved / NAME).unlink()
            finally:
                os._exit(0)
        time.sleep(rng.uniform(0.005, 0.05))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        halves += len(list(saved.glob(".*.tmp")))
        assert {each.level for each in verify(saved)} <= {"leftover"}, i
        assert seen(Store(saved)) == expected
    assert halves > 0, "no kill hit a write"
    save_index(saved)
    assert read_index(saved) is not None
