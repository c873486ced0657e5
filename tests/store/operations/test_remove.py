"""Removing: what goes is said before, what stays is equal, and what failed before does not come back."""

from __future__ import annotations

import os

import pytest

from extract.errors import PlanError, StoreBusy, StoreError, UnknownName
from extract.store import Store
from extract.store.operations.pack import pack
from extract.store.operations.remove import plan_removal, remove
from extract.store.rows import Remark
from extract.store.runs import Lock
from extract.store.verify import verify


def rest(many, path, gone):
    """Rows and remarks that stay, by what goes."""
    store = Store(path)
    rows = {name: raw for name, raw in many.rows_of(store).items() if not gone(*name)}
    return rows, [each for each in (*store.failed(), *store.masked()) if not gone(each.clip_id, each.key)]


@pytest.mark.parametrize("packed", [False, True])
def test_a_feature_by_its_backbone(many, tmp_path, packed):
    path = many.make(tmp_path / "s")
    if packed:
        pack(path)
    rows, said = rest(many, path, lambda clip, key: key == many.SOUND.key)
    going = remove(path, keys=["vggish"])
    after = Store(path)
    assert many.rows_of(after) == rows
    assert [*after.failed(), *after.masked()] == said
    assert set(going.clips) == {many.SOUND.key}
    assert going.parts == (1 if packed else 6)
    assert verify(path) == []


@pytest.mark.parametrize("packed", [False, True])
def test_clips(many, tmp_path, packed):
    path = many.make(tmp_path / "s")
    if packed:
        pack(path)
    gone = {"002_clip", "003_clip", "004_clip"}
    rows, said = rest(many, path, lambda clip, key: clip in gone)
    going = remove(path, clips=sorted(gone))
    assert many.rows_of(Store(path)) == rows
    assert [*Store(path).failed(), *Store(path).masked()] == said
    assert going.clips == {many.STILL.key: 2, many.SOUND.key: 2}
    assert (going.failed, going.masked) == (2, 1)
    assert verify(path) == []


def test_failures_of_a_reason(many, tmp_path):
    path = many.make(tmp_path / "s")
    rows, masked = many.rows_of(Store(path)), Store(path).masked()
    count = len(Store(path).failed())
    going = remove(path, reasons=["not_found"])
    assert (going.failed, going.clips) == (count, {})
    assert Store(path).failed() == ()
    assert (many.rows_of(Store(path)), Store(path).masked()) == (rows, masked)


def test_only_the_parts_concerned_are_rewritten_and_empty_ones_go(many, tmp_path):
    path = many.make(tmp_path / "s")
    before = {part.name: part.stat().st_ino for part in Store(path).parts()}
    first = many.ids(24)[:4]
    remove(path, clips=first)
    after = {part.name: part.stat().st_ino for part in Store(path).parts()}
    assert len(after) == 5
    assert after.items() <= before.items()


def test_what_was_said_before_does_not_come_back(many, tmp_path):
    """A rewritten part is the newest of all."""
    path = many.make(tmp_path / "s", count=8)
    said = [("failed", Remark("900_clip", many.STILL.key, "open", reason, reason)) for reason in ("old", "new")]
    row = [("rows", many.content.make_rows("901_clip", many.STILL))]
    old = many.seal_chunk(
        path / "parts", "a" * 16, ["900_clip", "901_clip", "902_clip"], [said[0], *row, *many.records("902_clip")]
    )
    many.seal_chunk(path / "parts", "b" * 16, ["900_clip"], [said[1]])
    os.utime(old, ns=(10**9, 10**9))
    remove(path, clips=["901_clip"])
    assert [each.reason for each in Store(path).failed() if each.clip_id == "900_clip"] == ["new"]


def test_rows_in_several_parts_all_go(many, tmp_path):
    path = many.make(tmp_path / "s")
    many.seal_chunk(path / "parts", "d" * 16, many.ids(24)[2:7])
    clip = next(clip for clip in many.ids(24)[2:7] if int(clip[:3]) % 7 != 3)
    remove(path, clips=[clip])
    assert clip not in set(Store(path))
    assert clip not in {clip for clip, _ in many.rows_of(Store(path))}


def test_a_plan_writes_nothing(many, tmp_path):
    path = many.make(tmp_path / "s")
    before = many.tree(path, ())
    plan = plan_removal(Store(path), keys=["resnet152"])
    assert plan.clips == {many.STILL.key: len(Store(path).clips("resnet152"))}
    assert plan.size_bytes > 0
    assert many.tree(path, ()) == before


def test_a_feature_that_only_failed(many, tmp_path):
    path = many.make(tmp_path / "s", count=4)
    gone = [("failed", Remark("000_clip", many.content.JOINT.key, "model", "bug", "x"))]
    many.seal_chunk(path / "parts", "a" * 16, ["000_clip"], gone)
    assert remove(path, keys=["joint"]).failed == 1
    assert len(Store(path).parts()) == 1


def test_what_it_refuses(many, tmp_path):
    path = many.make(tmp_path / "s")
    before = many.tree(path)
    for wrong in ({}, {"keys": ["vggish"], "clips": ["000_clip"]}, {"clips": ["000_clip"], "reasons": ["bug"]}):
        with pytest.raises(PlanError, match="with one of --key, --clip and --failed"):
            remove(path, **wrong)
    with pytest.raises(UnknownName, match=r"no feature of .* is called 'vgish'; did you mean vggish"):
        remove(path, keys=["resnet152", "vgish"])
    with pytest.raises(UnknownName, match=r"no clip of .* '999_clip'"):
        remove(path, clips=["000_clip", "999_clip"])
    with pytest.raises(UnknownName, match="not_fund"):
        remove(path, reasons=["not_fund"])
    with pytest.raises(StoreError, match="no feature store"):
        remove(tmp_path / "nowhere", keys=["vggish"])
    with Lock(path), pytest.raises(StoreBusy, match=f"process {os.getpid()}"):
        remove(path, keys=["vggish"])
    assert many.tree(path) == before
