"""Parts of schema 1, as released before parts had a seal: everything reads them. Parts of the future are refused with advice.

tests/golden/part_schema1.h5 was written by the code of commit dc35d79 from tests/store/content.py's content.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
import shutil

import h5py
import numpy as np
import pytest

from extract.errors import DamagedPart
from extract.store import Store
from extract.store.catalog import create_store, save_index
from extract.store.hdf5 import SEAL_BYTES, seal_text
from extract.store.index_file import read_index, write_index
from extract.store.merge import drop_remarks, list_parts, merge_chunk
from extract.store.reader import index_part, read_part, read_seal, seal_problem
from extract.store.verify import verify, verify_part

NEW = "zeta_0_10"


@pytest.fixture
def old(content, parts, golden):
    """A store with one part of schema 1."""
    return shutil.copyfile(golden / "part_schema1.h5", parts / f"{content.CHUNK}.h5")


@pytest.fixture
def same(content, tmp_path):
    """A store of today with the same content."""
    create_store(tmp_path / "same")
    content.seal(tmp_path / "same" / "parts", content.make_records())
    return Store(tmp_path / "same")


def levels(findings):
    return {each.level for each in findings}


def test_it_is_of_schema_1(old):
    assert old.read_bytes()[:8] == b"\x89HDF\r\n\x1a\n"
    assert (index_part(old).schema, index_part(old).compression) == (1, "none")
    assert (read_seal(old), seal_problem(old)) == (None, "")


def test_everything_in_it_is_read(content, old, same):
    store = Store(old.parents[1])
    assert store.digest() == same.digest()
    assert (store.failed(), store.masked(), store.tally()) == (same.failed(), same.masked(), same.tally())
    rows = {(each.clip_id, each.key): each for kind, each in content.make_records() if kind == "rows"}
    for (clip, key), each in rows.items():
        found = store.rows(clip, key)
        for name in ("data", "window_ns", "valid", "source_ns"):
            assert np.array_equal(getattr(found, name), getattr(each, name)), (clip, key, name)
    for key in (info.key for info in content.KEYS):
        ours, theirs = (each.to_dense(each.clips(key), key) for each in (store, same))
        assert np.array_equal(ours[0], theirs[0])
        assert np.array_equal(ours[1], theirs[1])
    assert read_part(old).rows.keys() == rows.keys()


def test_its_place_in_the_index_file(content, old, same, monkeypatch):
    """Where it was is enough to know it by; where it is a copy, it has no seal to know it by, and is looked at again."""
    save_index(old.parents[1])
    digest = same.digest()
    opened = []
    monkeypatch.setattr("extract.store.scan.index_part", lambda path: opened.append(path) or index_part(path))
    assert Store(old.parents[1]).digest() == digest
    assert opened == []
    raw = old.read_bytes()
    old.unlink()
    old.write_bytes(raw)
    assert Store(old.parents[1]).digest() == digest
    assert opened == [old]


def test_verify_says_that_it_is_old(old):
    (finding,) = verify(old.parents[1])
    assert (finding.part, finding.level, finding.bad) == (old.name, "old", False)
    assert "`extract store convert`" in finding.problem
    assert levels(verify(old.parents[1], deep=True)) <= {"old", "note", "suspect"}


def test_an_index_file_that_lies_about_it(content, old):
    """Without a seal, only its place on the disk says that it is the file that was indexed."""
    save_index(old.parents[1])
    saved = read_index(old.parents[1])
    key, column = next(iter(saved.columns.items()))
    wrong = dataclasses.replace(column, start=column.start + 1)
    write_index(old.parents[1], dataclasses.replace(saved, columns={**saved.columns, key: wrong}))
    assert levels(verify(old.parents[1])) == {"old", "index"}
    raw = old.read_bytes()
    old.rename(old.with_name("aside"))
    old.write_bytes(raw)
    assert levels(verify(old.parents[1])) == {"old"}, "readers open it again"


def test_damage_in_it_is_found(content, old):
    raw = old.read_bytes()
    rng = random.Random(8)
    for at in rng.sample(range(len(raw)), 100):
        damaged = bytearray(raw)
        damaged[at] ^= 1 << rng.randrange(8)
        old.write_bytes(damaged)
        assert "damage" in levels(verify_part(old)), at
    rows = content.make_rows("beta", content.JOINT)
    damaged = bytearray(raw)
    damaged[raw.index(rows.data.tobytes()) + 3] ^= 2
    old.write_bytes(damaged)
    named = [(each.part, each.key, each.clip) for each in verify_part(old) if each.bad]
    assert named == [(old.name, content.JOINT.key, "beta")]


def test_nan_in_it_is_found(content, old):
    """With right checksums: the code of then may have let it through."""
    from extract.store.layout import row_digest
    from extract.store.reader import read_rows

    with h5py.File(old, "r+") as file:
        group = file[content.STILL.key]
        group["data"][0, 0] = np.nan
        rows = read_rows(file, NEW, content.STILL.key, *map(int, group["span"][0]))
        group["sha256"][0] = np.frombuffer(row_digest(rows), np.uint8)
        group["sha256"].attrs["sha256"] = np.bytes_(hashlib.sha256(group["sha256"][...].tobytes()).hexdigest())
    (finding,) = [each for each in verify_part(old) if each.bad]
    assert (finding.key, finding.clip) == (content.STILL.key, NEW)
    assert "1 of " in finding.problem
    assert "NaN or infinite" in finding.problem


def test_merging_it_with_new_pieces_seals_it(content, old, same, tmp_path):
    """Forget some of it, compute that again: the bytes are those of a part that was sealed today."""
    dropped = drop_remarks(old.parent, lambda remark: remark.clip_id in ("delta", "beta"))
    assert dropped == 4
    assert index_part(old).schema == 2, "what is rewritten is written as today"
    for record in content.make_records():
        if record[1].clip_id in ("delta", "beta"):
            content.seal(old.parent, [record])
    merge_chunk(old.parent, content.CHUNK, content.ORDER)
    assert [path.read_bytes() for path in list_parts(old.parent)] == [content.undisturbed(tmp_path / "expected")]
    assert verify(old.parents[1]) == []


def test_merging_it_untouched(content, old, same, tmp_path):
    content.seal(old.parent, content.make_records()[:2])
    merge_chunk(old.parent, content.CHUNK, content.ORDER)
    assert old.read_bytes() == content.undisturbed(tmp_path / "expected")


def test_it_is_converted(content, old, same, tmp_path):
    from extract.store.operations.convert import convert

    before = old.read_bytes()
    convert(old.parents[1], tmp_path / "new")
    assert Store(tmp_path / "new").digest() == same.digest()
    assert verify(tmp_path / "new") == []
    assert {index_part(path).schema for path in list_parts(tmp_path / "new" / "parts")} == {2}
    assert old.read_bytes() == before, "a conversion is a copy"


# ---- the future ------------------------------------------------------------------------------------------------------


@pytest.fixture
def newer(content, parts):
    """A part as a later version might write it, with a right seal."""
    path = content.seal(parts, content.make_records())
    with h5py.File(path, "r+") as file:
        file.attrs["schema"] = 3
    raw = path.read_bytes()
    path.write_bytes(seal_text("part", 3, hashlib.sha256(raw[SEAL_BYTES:]).hexdigest(), len(raw)) + raw[SEAL_BYTES:])
    return path.rename(parts / f"{content.CHUNK}.h5")


def test_a_newer_schema_is_refused_with_advice(content, newer):
    with pytest.raises(
        DamagedPart, match="has schema 3, this version reads 1 to 2: use the version of extract that wrote it"
    ):
        Store(newer.parents[1]).keys()
    with pytest.raises(DamagedPart, match="extract store convert"):
        index_part(newer)
    lenient = Store(newer.parents[1], strict=False)
    assert [path for path, _ in lenient.damaged()] == [newer]
    (finding,) = verify(newer.parents[1])
    assert (finding.part, finding.level) == (newer.name, "damage")
    assert "use the version of extract that wrote it" in finding.problem
    before = newer.read_bytes()
    content.seal(newer.parent, content.make_records()[:3])
    with pytest.raises(DamagedPart, match="has schema 3"):
        merge_chunk(newer.parent, content.CHUNK, content.ORDER)
    assert newer.read_bytes() == before, "what another version wrote is never touched"
