"""Merging pieces, dropping remarks, sweeping up."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.errors import DamagedPart
from extract.store.catalog import Store
from extract.store.part import drop_remarks, index_part, merge_chunk, read_part, seal_piece, sweep_tmp
from extract.store.rows import Remark
from extract.store.verify import verify, verify_part


def merge(content, parts):
    return merge_chunk(parts, content.CHUNK, content.ORDER)


def names(parts):
    return sorted(path.name for path in parts.iterdir())


def set_age(path, seconds):
    os.utime(path, ns=(0, seconds * 10**9))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_partition_in_any_order_merges_to_the_same_bytes(content, tmp_path, data):
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        expected = content.undisturbed(Path(folder) / "expected")
        parts = Path(folder) / "parts"
        parts.mkdir()
        records = data.draw(st.permutations(content.make_records()))
        cuts = sorted(data.draw(st.sets(st.integers(0, len(records)), max_size=6)))
        merges = data.draw(st.sets(st.integers(0, 7)))  # after which pieces an interrupted run merged early
        for i, (start, stop) in enumerate(itertools.pairwise([0, *cuts, len(records)])):
            content.seal(parts, records[start:stop])
            if i in merges:
                merge(content, parts)
        whole = merge(content, parts)
        assert whole.read_bytes() == expected
        assert names(parts) == [f"{content.CHUNK}.h5"]


def test_nothing_to_merge(content, parts):
    assert merge(content, parts) is None


def test_a_single_piece_is_renamed(content, parts):
    piece = content.seal(parts, content.make_records())
    inode = piece.stat().st_ino
    whole = merge(content, parts)
    assert whole.stat().st_ino == inode
    assert names(parts) == [whole.name]


def test_a_merged_chunk_is_left_alone(content, parts):
    content.seal(parts, content.make_records())
    whole = merge(content, parts)
    stat = whole.stat()
    assert merge(content, parts) == whole
    assert whole.stat().st_mtime_ns == stat.st_mtime_ns


def test_other_chunks_are_left_alone(content, parts):
    other = seal_piece(parts, "f" * 16, content.ORDER, content.KEYS, [], [], [], {})
    content.seal(parts, content.make_records()[:5])
    content.seal(parts, content.make_records()[5:])
    merge(content, parts)
    assert names(parts) == [f"{content.CHUNK}.h5", other.name]


def test_rows_win_over_failures(content, parts):
    rows = content.make_rows("beta", content.STILL)
    failed = Remark("beta", content.STILL.key, "engine", "crash", "lost")
    set_age(content.seal(parts, [("rows", rows)]), 1)
    set_age(content.seal(parts, [("failed", failed)]), 2)
    read = index_part(merge(content, parts))
    assert read.failed == ()
    assert read.keys[content.STILL.key].clips == ("beta",)


@pytest.mark.parametrize("newest", [0, 1])
def test_the_newest_failure_holds(content, parts, newest):
    other = ("rows", content.make_rows("zeta_0_10", content.STILL))
    remarks = [
        Remark("beta", content.STILL.key, "engine", "crash", "lost"),
        Remark("beta", content.STILL.key, "a", "b", ""),
    ]
    paths = [content.seal(parts, [("failed", remarks[0]), other]), content.seal(parts, [("failed", remarks[1])])]
    set_age(paths[newest], 2)
    set_age(paths[1 - newest], 1)
    assert Store(parts.parent).failed() == (remarks[newest],)
    assert index_part(merge(content, parts)).failed == (remarks[newest],)


def test_provenances_of_two_machines_are_united(content, parts):
    records = content.make_records()
    content.seal(parts, records[:4], {"device": "b"})
    content.seal(parts, records[4:8], {"device": "a"})
    content.seal(parts, records[8:], {"device": "b"})
    assert index_part(merge(content, parts)).provenance == '[{"device":"a"},{"device":"b"}]'


def test_different_rows_of_one_clip_name_both_files(content, parts):
    rows = content.make_rows("beta", content.STILL)
    first = content.seal(parts, [("rows", rows)])
    other = dataclasses.replace(rows, data=rows.data + 1)
    second = content.seal(parts, [("rows", other), ("rows", content.make_rows("beta", content.SOUND))])
    before = names(parts)
    with pytest.raises(DamagedPart, match="different rows of clip 'beta'") as error:
        merge(content, parts)
    assert first.name in str(error.value)
    assert second.name in str(error.value)
    assert names(parts) == before


@pytest.mark.parametrize("field", ["window_ns", "valid", "source_ns"])
def test_rows_differ_also_in_their_times(content, parts, field):
    rows = content.make_rows("beta", content.STILL)
    changed = getattr(rows, field).copy()
    changed[0] ^= 1
    content.seal(parts, [("rows", rows)])
    content.seal(
        parts,
        [("rows", dataclasses.replace(rows, **{field: changed})), ("rows", content.make_rows("beta", content.SOUND))],
    )
    with pytest.raises(DamagedPart, match="different rows of clip 'beta'"):
        merge(content, parts)


def test_rows_of_different_shape_under_one_key(content, parts):
    wide = dataclasses.replace(content.STILL, dims=(7,))
    content.seal(parts, [("rows", content.make_rows("beta", content.STILL))])
    seal_piece(parts, content.CHUNK, content.ORDER, [wide], [content.make_rows("eta", wide)], [], [], {})
    with pytest.raises(DamagedPart, match=r"different shape under resnet152@.*: \([67],\) with 1"):
        merge(content, parts)


def test_a_clip_of_another_chunk_is_refused(content, parts):
    content.seal(parts, [("rows", content.make_rows("beta", content.STILL))])
    content.seal(parts, [("rows", content.make_rows("eta", content.STILL))])
    with pytest.raises(DamagedPart, match="holds clip 'beta', which is not of its chunk"):
        merge_chunk(parts, content.CHUNK, ["eta"])


def test_damaged_rows_are_not_sealed_again(content, parts):
    pieces = [content.seal(parts, [("rows", content.make_rows(clip, content.STILL, 4))]) for clip in ("beta", "eta")]
    raw = bytearray(pieces[0].read_bytes())
    raw[raw.index(content.make_rows("beta", content.STILL, 4).data.tobytes()) + 9] ^= 1
    pieces[0].write_bytes(raw)
    with pytest.raises(DamagedPart, match=r"rows of clip 'beta'.*do not match their checksum") as error:
        merge(content, parts)
    assert pieces[0].name in str(error.value)
    assert names(parts) == sorted(piece.name for piece in pieces)


def test_an_unreadable_piece_is_named(content, parts):
    content.seal(parts, content.make_records()[:3])
    torn = content.seal(parts, content.make_records()[3:])
    torn.write_bytes(torn.read_bytes()[:-100])
    with pytest.raises(DamagedPart, match="delete it and run again") as error:
        merge(content, parts)
    assert torn.name in str(error.value)


# ---- drop_remarks ----------------------------------------------------------------------------------------------------


def test_dropping_failures_and_computing_them_again(content, parts, tmp_path):
    expected = content.undisturbed(tmp_path / "expected")
    content.seal(parts, content.make_records())
    merge(content, parts)
    assert drop_remarks(parts, lambda remark: remark.reason == "not_found") == 3
    assert {remark.reason for remark in Store(parts.parent).failed()} == {"undecodable"}
    assert verify(parts.parent) == []
    content.seal(
        parts, [record for record in content.make_records() if getattr(record[1], "reason", "") == "not_found"]
    )
    assert merge(content, parts).read_bytes() == expected


def test_masked_rows_go_with_their_remark(content, parts, tmp_path):
    expected = content.undisturbed(tmp_path / "expected")
    content.seal(parts, content.make_records()[:9])
    content.seal(parts, content.make_records()[9:])
    assert drop_remarks(parts, lambda remark: remark.reason == "no_audio" and remark.clip_id == "theta") == 1
    store = Store(parts.parent)
    assert [remark.clip_id for remark in store.masked()] == ["beta"]
    assert ("theta", content.SOUND.key) not in store
    assert ("theta", content.STILL.key) in store
    gone = [(k, r) for k, r in content.make_records() if (r.clip_id, r.key) == ("theta", content.SOUND.key)]
    content.seal(parts, gone)
    assert merge(content, parts).read_bytes() == expected


def test_rows_are_dropped_from_every_part_that_has_them(content, parts):
    """A crash between the merge and the removal of its pieces leaves masked rows twice."""
    piece = content.seal(parts, content.make_records())
    shutil.copy(piece, parts / f"{content.CHUNK}.h5")
    drop_remarks(parts, lambda remark: remark.reason == "no_audio")
    assert Store(parts.parent).masked() == ()
    assert ("beta", content.SOUND.key) not in Store(parts.parent)


def test_a_failure_that_was_superseded_does_not_come_back(content, parts):
    """Of two parts that tell of one failure the newest counts; forgetting it forgets what the older one says, too."""
    old = seal_piece(
        parts, "a" * 16, content.ORDER, [], [], [failure("beta", "before"), failure("eta", "before")], [], {}
    )
    new = seal_piece(
        parts, "b" * 16, content.ORDER, [], [], [failure("beta", "after"), failure("eta", "after")], [], {}
    )
    set_age(old, 1)
    set_age(new, 2)
    said = Store(parts.parent).failed()
    assert {each.message for each in said} == {"after"}
    beta = frozenset(each for each in said if each.clip_id == "beta")
    assert drop_remarks(parts, beta.__contains__) == 1
    assert [(each.clip_id, each.message) for each in Store(parts.parent).failed()] == [("eta", "after")]


def failure(clip_id, message):
    return Remark(clip_id, "resnet152@0123456789ab", "open", "not_found", message)


def test_a_part_left_empty_is_deleted(content, parts):
    content.seal(parts, [("failed", Remark("beta", content.STILL.key, "engine", "crash", ""))])
    keep = content.seal(parts, [("rows", content.make_rows("beta", content.SOUND))])
    assert drop_remarks(parts, lambda _: True) == 1
    assert names(parts) == [keep.name]


def test_parts_without_a_match_are_not_touched(content, parts):
    path = content.seal(parts, content.make_records())
    before = path.stat()
    assert drop_remarks(parts, lambda remark: remark.reason == "crash") == 0
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_rewriting_keeps_the_other_rows(content, parts):
    path = content.seal(parts, content.make_records())
    before = read_part(path).rows
    drop_remarks(parts, lambda remark: remark.reason == "no_audio")
    after = read_part(path).rows
    assert set(before) - set(after) == {("beta", content.SOUND.key), ("theta", content.SOUND.key)}
    assert all(np.array_equal(after[name].data, before[name].data) for name in after)
    assert verify_part(path) == []


def test_sweep_removes_temporaries_only(content, parts):
    content.seal(parts, content.make_records())
    (parts / f".{content.CHUNK}.h5.4711.tmp").write_bytes(b"half")
    (parts / "notes.txt").write_text("mine")
    before = names(parts)
    assert sweep_tmp(parts) == 1
    assert names(parts) == [name for name in before if not name.endswith(".tmp")]
