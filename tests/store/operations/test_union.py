"""Merging stores: equal rows once, different ones never silently, the newest failure, manifests and ledgers united."""

from __future__ import annotations

import dataclasses
import json
import os

import numpy as np
import pytest

from extract.errors import DamagedPart, PlanError, StoreBusy, StoreError, UnknownName
from extract.store import Store
from extract.store.operations.union import merge_stores, plan_merge
from extract.store.rows import Remark
from extract.store.runs import Lock
from extract.store.verify import verify
from manifests.clip import read_manifest, write_manifest


@pytest.fixture
def two(many, tmp_path):
    """Two machines that computed overlapping halves of one manifest."""
    return many.make(tmp_path / "a", only=range(4), device="a"), many.make(tmp_path / "b", only=range(2, 6), device="b")


def other_rows(many, path, clip, change, key=None):
    """A further part with changed rows of a clip, which the store does not have yet."""
    rows = many.content.make_rows(clip, key or many.STILL)
    return many.seal_chunk(path / "parts", "e" * 16, [clip], [("rows", change(rows))])


def test_equal_rows_are_kept_once(many, tmp_path, two):
    whole = Store(many.make(tmp_path / "whole"))
    done = merge_stores(plan_merge(two), tmp_path / "out")
    out = Store(tmp_path / "out")
    assert out.digest() == whole.digest()
    assert done.equal == sum((clip, key) in Store(two[1]) for clip, key in many.rows_of(Store(two[0])))
    assert done.parts == 6
    entries = [len(column.clip) for column in out.index.columns.values()]
    assert entries == [len(out.clips(key)) for key in out.index.columns], "no clip lies in two parts"
    assert verify(tmp_path / "out") == []


def test_the_inputs_are_not_touched(many, tmp_path, two):
    before = [many.tree(path, ()) for path in two]
    merge_stores(plan_merge(two), tmp_path / "out")
    assert [many.tree(path, ()) for path in two] == before


def test_different_rows_are_reported_and_nothing_is_written(many, tmp_path, two):
    clip = "800_clip"
    a = other_rows(many, two[0], clip, lambda rows: rows)
    b = other_rows(many, two[1], clip, lambda rows: dataclasses.replace(rows, data=rows.data + np.float32(0.5)))
    merging = plan_merge(two)
    assert merging.overlap.conflicts == 1
    [found] = merging.open_conflicts()
    x = many.content.make_rows(clip, many.STILL).data.astype(float)
    y = (x.astype(np.float32) + np.float32(0.5)).astype(float)
    assert (found.clip_id, found.key, found.parts) == (clip, many.STILL.key, (a, b))
    assert found.most == pytest.approx(np.abs(x - y).max())
    assert found.least == pytest.approx(((x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)).min())
    assert found.differs == ("data",)
    with pytest.raises(PlanError, match=r"1 times two stores hold different rows.*--prefer"):
        merge_stores(merging, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_of_other_length_or_other_times(many, two):
    first, second = "800_clip", "801_clip"
    for clip in (first, second):
        rows = many.content.make_rows(clip, many.STILL, 3)
        many.seal_chunk(two[0] / "parts", f"{clip:x<16}", [clip], [("rows", rows)])
        new = (
            many.content.make_rows(clip, many.STILL, 2)
            if clip == first
            else dataclasses.replace(rows, valid=1 - rows.valid)
        )
        many.seal_chunk(two[1] / "parts", f"{clip:x<16}", [clip], [("rows", new)])
    longer, flagged = plan_merge(two).open_conflicts()
    assert (longer.rows, longer.most, longer.least) == ((3, 2), None, None)
    assert (flagged.most, flagged.differs) == (0.0, ("valid",))
    assert flagged.least == pytest.approx(1.0)


@pytest.mark.parametrize("preferred", [0, 1])
def test_the_preferred_rows_are_taken_and_counted(many, tmp_path, two, preferred):
    clip = "800_clip"
    other_rows(many, two[0], clip, lambda rows: rows)
    other_rows(many, two[1], clip, lambda rows: dataclasses.replace(rows, data=rows.data + 1))
    merging = plan_merge(two, two[preferred])
    done = merge_stores(merging, tmp_path / "out")
    assert done.preferred == 1
    [found] = merging.decided_conflicts()
    assert found.parts[0].is_relative_to(two[preferred])
    mine = Store(two[preferred]).read(clip, "resnet152")
    assert np.array_equal(Store(tmp_path / "out").read(clip, "resnet152"), mine)
    told = json.loads((tmp_path / "out" / "runs" / "made.json").read_text())
    assert (told["result"]["preferred"], told["asked"]["prefer"]) == (1, preferred)
    assert verify(tmp_path / "out") == []


def test_a_preferred_store_does_not_settle_what_others_dispute(many, tmp_path, two):
    third = many.make(tmp_path / "c", only=[0])
    other_rows(many, two[0], "800_clip", lambda rows: rows)
    other_rows(many, two[1], "800_clip", lambda rows: dataclasses.replace(rows, data=rows.data + 1))
    assert plan_merge([*two, third], third).overlap.conflicts == 1
    other_rows(many, third, "800_clip", lambda rows: dataclasses.replace(rows, data=rows.data + 2))
    decided = plan_merge([*two, third], third)
    assert (decided.overlap.conflicts, decided.overlap.preferred) == (0, 1)
    assert len(list(decided.decided_conflicts())) == 2


def test_rows_win_over_failures_and_the_newest_failure_holds(many, tmp_path, two):
    def failed(path, clip, reason, age):
        said = Remark(clip, many.STILL.key, "open", reason, reason)
        part = many.seal_chunk(path / "parts", f"{reason:x<16}"[:16], [clip], [("failed", said)])
        os.utime(part, ns=(age * 10**9, age * 10**9))

    failed(two[0], "800_clip", "older", 5)
    failed(two[1], "800_clip", "newer", 6)
    failed(two[0], "801_clip", "latest", 9)
    failed(two[1], "801_clip", "former", 8)
    failed(two[0], "802_clip", "made-up", 2**31)
    other_rows(many, two[1], "802_clip", lambda rows: rows)
    merge_stores(plan_merge(two), tmp_path / "out")
    out = Store(tmp_path / "out")
    reasons = {each.clip_id: each.reason for each in out.failed() if each.clip_id >= "8"}
    assert reasons == {"800_clip": "newer", "801_clip": "latest"}
    assert ("802_clip", many.STILL.key) in out


def test_masks_belong_to_the_rows_that_are_taken(many, tmp_path, two):
    """The one machine had the sound, the other filled its rows: those marks must not stick to real rows."""
    clip, key = "800_clip", many.SOUND
    rows = many.content.make_rows(clip, key)
    mask = ("masked", Remark(clip, key.key, "audio", "no_audio", "no audio stream"))
    many.seal_chunk(two[0] / "parts", "e" * 16, [clip], [("rows", dataclasses.replace(rows, data=rows.data * 0)), mask])
    many.seal_chunk(two[1] / "parts", "e" * 16, [clip], [("rows", rows)])
    for preferred, masked in ((0, True), (1, False)):
        out = tmp_path / f"out{preferred}"
        merge_stores(plan_merge(two, two[preferred]), out)
        assert (clip in {each.clip_id for each in Store(out).masked()}) == masked
    # without rows, a mark says why there are none, until there are some
    other = dataclasses.replace(mask[1], clip_id="801_clip")
    many.seal_chunk(two[0] / "parts", "f" * 16, ["801_clip"], [("masked", other)])
    merge_stores(plan_merge(two, two[1]), tmp_path / "skipped")
    assert other in Store(tmp_path / "skipped").masked()
    many.seal_chunk(two[1] / "parts", "f" * 16, ["801_clip"], [("rows", many.content.make_rows("801_clip", key))])
    merge_stores(plan_merge(two, two[1]), tmp_path / "made up")
    assert other not in Store(tmp_path / "made up").masked()


def test_manifests_are_united_and_differences_reported(many, tmp_path, two):
    clips = read_manifest(two[1] / "manifest.csv")
    changed = dataclasses.replace(clips[3], split="other")
    more = dataclasses.replace(clips[0], clip_id="900_clip")
    write_manifest(two[1] / "manifest.csv", [more, *clips[:3], changed, *clips[4:]])
    dense = two[1] / "manifest.dense.csv"
    dense.write_text(dense.read_text().replace(f"{clips[5].clip_id},both,0,", f"{clips[5].clip_id},audio,0,"))
    done = merge_stores(plan_merge(two), tmp_path / "out")
    assert done.listed_differently == tuple(sorted([clips[3].clip_id, clips[5].clip_id]))
    out = Store(tmp_path / "out")
    assert list(out.manifest) == [*(clip.clip_id for clip in clips), "900_clip"]
    assert out.manifest[clips[3].clip_id] == clips[3]
    assert out.events == Store(two[0]).events


def test_ledgers_of_all(many, tmp_path, two):
    for path, text in zip(two, ("one", "two"), strict=True):
        (path / "runs" / "20250101T000000Z-aaaa.jsonl").write_text(text)
        (path / "runs" / "20250102T000000Z-bbbb.jsonl").write_text("same")
        os.utime(path / "runs" / "20250101T000000Z-aaaa.jsonl", ns=(7, 7))
    merge_stores(plan_merge(two), tmp_path / "out")
    runs = tmp_path / "out" / "runs"
    assert sorted(path.name for path in runs.glob("*.jsonl")) == [
        "20250101T000000Z-aaaa-2.jsonl",
        "20250101T000000Z-aaaa.jsonl",
        "20250102T000000Z-bbbb.jsonl",
    ]
    assert (runs / "20250101T000000Z-aaaa-2.jsonl").read_text() == "two"
    assert (runs / "20250101T000000Z-aaaa.jsonl").stat().st_mtime_ns == 7


def test_given_again_it_is_complete(many, tmp_path, two):
    done = merge_stores(plan_merge(two), tmp_path / "out")
    before = many.tree(tmp_path / "out", ())
    assert merge_stores(plan_merge(two), tmp_path / "out") == dataclasses.replace(done, complete=True)
    assert many.tree(tmp_path / "out", ()) == before


def test_what_it_refuses(many, tmp_path, two):
    with pytest.raises(PlanError, match="at least two different stores"):
        plan_merge(two[:1])
    with pytest.raises(PlanError, match="at least two different stores"):
        plan_merge([*two, two[0] / ".." / "a"])
    with pytest.raises(UnknownName, match="no store of this merge"):
        plan_merge(two, tmp_path / "c")
    with pytest.raises(StoreError, match="no feature store"):
        plan_merge([two[0], tmp_path / "nowhere"])
    for out in (two[0], many.make(tmp_path / "existing", count=4)):
        before = many.tree(out, ())
        with pytest.raises(StoreError, match="holds something else"):
            merge_stores(plan_merge(two), out)
        assert many.tree(out, ()) == before
    merge_stores(plan_merge(two), tmp_path / "out")
    other_rows(many, two[0], "800_clip", lambda rows: rows)
    with pytest.raises(StoreError, match="another command or of other content"):
        merge_stores(plan_merge(two), tmp_path / "out")
    with Lock(two[1]), pytest.raises(StoreBusy, match=f"process {os.getpid()}"):
        plan_merge(two)
    rows = many.content.make_rows("800_clip", many.STILL)
    many.seal_chunk(two[0] / "parts", "d" * 16, ["800_clip"], [("rows", dataclasses.replace(rows, data=rows.data + 1))])
    with pytest.raises(DamagedPart, match="different rows of clip '800_clip'"):
        plan_merge(two)
