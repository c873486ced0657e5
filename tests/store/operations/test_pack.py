"""Packing: rows and digest stay, parts become few and follow the manifest, interrupted runs go on beside."""

from __future__ import annotations

import dataclasses
import itertools
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.errors import DamagedPart, PlanError, StoreBusy, StoreError
from extract.store import Store
from extract.store.operations.pack import pack
from extract.store.part import drop_remarks, index_part, merge_chunk
from extract.store.rows import Remark
from extract.store.runs import Lock
from extract.store.verify import verify


def names(store):
    return sorted(path.name for path in (store / "parts").iterdir())


def test_rows_digest_and_remarks_stay(many, tmp_path):
    path = many.make(tmp_path / "s")
    before = Store(path)
    digest, rows, said = before.digest(), many.rows_of(before), (before.failed(), before.masked())
    done = pack(path)
    after = Store(path)
    assert (done.before, done.after, done.written) == (6, 1, 1)
    assert [name[:5] for name in names(path)] == ["pack-"]
    assert after.digest() == digest
    assert many.rows_of(after) == rows
    assert (after.failed(), after.masked()) == said
    assert verify(path) == []
    assert done.size_bytes == after.parts()[0].stat().st_size


def test_clips_follow_the_manifest(many, tmp_path):
    path = many.make(tmp_path / "s")
    pack(path)
    part = index_part(Store(path).parts()[0])
    listed = list(Store(path).manifest)
    assert listed != sorted(listed)
    for key in part.keys.values():
        assert list(key.clips) == [clip for clip in listed if clip in key.clips]
    assert [each.clip_id for each in part.failed] == sorted((each.clip_id for each in part.failed), key=listed.index)


def test_clips_that_the_manifest_does_not_list_come_last_by_part(many, tmp_path):
    path = many.make(tmp_path / "s", count=8)
    many.seal_chunk(path / "parts", "b" * 16, ["803_clip"])
    many.seal_chunk(path / "parts", "a" * 16, ["802_clip", "800_clip"])
    pack(path)
    listed = [clip for clip in Store(path).manifest if int(clip[:3]) % 7 != 3]
    clips = index_part(Store(path).parts()[0]).keys[many.STILL.key].clips
    assert list(clips) == [*listed, "802_clip", "800_clip", "803_clip"]


def test_several_parts_and_packing_again_does_nothing(many, tmp_path):
    path = many.make(tmp_path / "s", count=60)
    digest = Store(path).digest()
    told = []
    done = pack(path, 5000, on_part=lambda *each: told.append(each))
    assert 2 < done.after < done.before == 15
    assert told == [(i + 1, done.written) for i in range(done.written)]
    listed = list(Store(path).manifest)
    starts = []
    for part in map(index_part, Store(path).parts()):
        places = [listed.index(clip) for clip in part.keys[many.STILL.key].clips]
        assert places == sorted(places)
        starts.append((min(places), max(places)))
    starts.sort()
    assert all(a[1] < b[0] for a, b in itertools.pairwise(starts)), "stretches of the manifest"
    before = many.tree(path)
    assert pack(path, 5000).written == 0
    assert many.tree(path) == before
    assert Store(path).digest() == digest


def test_a_packed_store_that_grew_packs_only_the_new(many, tmp_path):
    path = many.make(tmp_path / "s", count=24, only=range(5))
    pack(path, 2500)
    large = {part.name: part.stat().st_mtime_ns for part in Store(path).parts()}
    more = many.ids(24)[20:]
    many.seal_chunk(path / "parts", "e" * 16, more)
    joint = [("rows", many.content.make_rows(clip, many.content.JOINT)) for clip in many.ids(24)[:4]]
    many.seal_chunk(path / "parts", "f" * 16, many.ids(24)[:4], joint)
    digest = Store(path).digest()
    assert pack(path, 2500).written == 1
    assert Store(path).digest() == digest
    after = {part.name: part.stat().st_mtime_ns for part in Store(path).parts()}
    assert len(large.items() & after.items()) >= len(large) - 1, "only the last may have been too small to stay"


def test_duplicates_are_dropped_once_they_are_equal(many, tmp_path):
    path = many.make(tmp_path / "s")
    again = many.ids(24)[2:7]
    many.seal_chunk(path / "parts", "d" * 16, again)
    digest = Store(path).digest()
    pack(path)
    part = index_part(Store(path).parts()[0])
    assert all(len(set(key.clips)) == len(key.clips) for key in part.keys.values())
    assert Store(path).digest() == digest


def test_different_rows_of_one_clip_stop_it(many, tmp_path):
    path = many.make(tmp_path / "s")
    rows = many.content.make_rows("000_clip", many.STILL)
    other = dataclasses.replace(rows, data=rows.data + 1)
    many.seal_chunk(path / "parts", "d" * 16, ["000_clip"], [("rows", other)])
    before = many.tree(path)
    with pytest.raises(DamagedPart, match="different rows of clip '000_clip'"):
        pack(path)
    assert many.tree(path) == before


def test_damaged_rows_are_not_sealed_again(many, tmp_path):
    path = many.make(tmp_path / "s")
    store = Store(path)
    place = store.location("000_clip", "resnet152")
    raw = bytearray(place.part.read_bytes())
    raw[place.offset_bytes] ^= 1
    place.part.write_bytes(raw)
    before = many.tree(path)
    with pytest.raises(DamagedPart, match=r"the rows of clip '000_clip'.*do not match their checksum"):
        pack(path)
    assert many.tree(path) == before


def test_provenance_of_all_parts(many, tmp_path):
    path = many.make(tmp_path / "s", count=8, only=[0], device="b")
    many.seal_chunk(path / "parts", "a" * 16, many.ids(8)[4:], device="a")
    pack(path)
    assert index_part(Store(path).parts()[0]).provenance == '[{"device":"a"},{"device":"b"}]'


@pytest.mark.parametrize("newest", [0, 1])
def test_what_failed_last_still_holds(many, tmp_path, newest):
    """A packed part is the newest of all; what older parts said must not come back with it."""
    path = many.make(tmp_path / "s", count=8)
    said = [("failed", Remark("900_clip", many.STILL.key, "open", reason, reason)) for reason in ("one", "two")]
    large = [("rows", many.content.make_rows("901_clip", many.STILL, 400))]
    parts = [
        many.seal_chunk(path / "parts", "a" * 16, ["900_clip", "901_clip"], [said[0], *large]),
        many.seal_chunk(path / "parts", "b" * 16, ["900_clip"], [said[1]]),
    ]
    os.utime(parts[newest], ns=(2**61, 2**61))
    digest = Store(path).digest()
    done = pack(path, 8000)
    assert done.after == 2, "the large part stays"
    assert parts[0].exists()
    assert [each.reason for each in Store(path).failed() if each.clip_id == "900_clip"] == [("one", "two")[newest]]
    assert Store(path).digest() == digest


def test_pieces_stay_for_the_run_that_finishes_their_chunk(many, tmp_path):
    path = many.make(tmp_path / "s", only=range(5))
    order = many.ids(24)[20:]
    first = many.seal_chunk(path / "parts", "e" * 16, order, many.records(order[0]), merge=False)
    digest = Store(path).digest()
    done = pack(path)
    assert done.pieces == 1
    assert first.exists()
    assert Store(path).digest() == digest
    rest = [each for clip in order[1:] for each in many.records(clip)]
    many.seal_chunk(path / "parts", "e" * 16, order, rest)
    whole = Store(many.make(tmp_path / "whole"))
    assert Store(path).digest() == whole.digest()
    assert verify(path) == []


def test_a_retry_writes_its_own_part_beside(many, tmp_path):
    path = many.make(tmp_path / "s")
    pack(path)
    with Lock(path):
        assert drop_remarks(path / "parts", lambda each: each.reason == "not_found") == 6
    order = many.ids(24)[:4]
    failed = [clip for clip in order if int(clip[:3]) % 7 == 3]
    rows = [("rows", many.content.make_rows(clip, key)) for clip in failed for key in (many.STILL, many.SOUND)]
    chunk = many.seal_chunk(path / "parts", f"{0:016x}", order, rows)
    assert chunk.exists()
    assert merge_chunk(path / "parts", f"{0:016x}", order) == chunk
    digest = Store(path).digest()
    assert all((clip, many.STILL.key) in Store(path) for clip in failed)
    pack(path)
    assert len(names(path)) == 1
    assert Store(path).digest() == digest


def test_compression_is_kept_unless_another_is_asked_for(many, tmp_path):
    path = many.make(tmp_path / "s", count=60)
    pack(path, 5000, "gzip:1")
    assert {index_part(part).compression for part in Store(path).parts()} == {"gzip:1"}
    before = many.tree(path)
    pack(path, 5000, "gzip:1")
    pack(path, 5000)
    assert many.tree(path) == before
    many.seal_chunk(path / "parts", "a" * 16, ["800_clip"])
    many.seal_chunk(path / "parts", "b" * 16, ["803_clip"])
    pack(path, 5000)
    kinds = sorted(index_part(part).compression for part in Store(path).parts())
    assert kinds[-1] == "none"
    assert set(kinds) == {"gzip:1", "none"}
    assert pack(path, 5000, "none").written > 2
    assert {index_part(part).compression for part in Store(path).parts()} == {"none"}
    assert verify(path) == []
    assert {("800_clip", many.STILL.key), ("803_clip", many.STILL.key)} <= set(many.rows_of(Store(path)))


def test_only_failures(many, tmp_path):
    path = many.make(tmp_path / "s", count=4, only=[])
    for i, clip in enumerate(many.ids(4)):
        said = [("failed", Remark(clip, many.STILL.key, "open", "not_found", "gone"))]
        many.seal_chunk(path / "parts", f"{i:016x}", [clip], said)
    digest = Store(path).digest()
    assert pack(path).after == 1
    assert Store(path).digest() == digest
    assert pack(path).written == 0


def test_an_empty_store(store_path):
    assert pack(store_path).written == 0


def test_what_it_refuses(many, tmp_path):
    path = many.make(tmp_path / "s")
    with pytest.raises(StoreError, match="no feature store"):
        pack(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(PlanError, match="no compression is called 'zip'"):
        pack(path, compression="zip")
    with pytest.raises(PlanError, match="at least 1"):
        pack(path, 0)
    with Lock(path), pytest.raises(StoreBusy, match=f"process {os.getpid()}"):
        pack(path)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_store_packs_to_the_same_content(many, tmp_path_factory, data):
    """Any spread of records over parts, with duplicates, pieces and any target."""
    path = tmp_path_factory.mktemp("s") / "s"
    count = data.draw(st.integers(1, 12))
    many.make(path, count, only=[])
    everything = [each for clip in many.ids(count) for each in many.records(clip)]
    for i in range(data.draw(st.integers(1, 6))):
        some = [each for each in everything if data.draw(st.booleans())]
        order = list(dict.fromkeys(item.clip_id for _, item in some))
        if some:
            many.seal_chunk(path / "parts", f"{i:016x}", order, some, merge=data.draw(st.booleans()))
    before = Store(path)
    digest, rows = before.digest(), many.rows_of(before)
    part_bytes = data.draw(st.integers(1, 3000))
    pack(path, part_bytes)
    after = Store(path)
    assert after.digest() == digest
    assert many.rows_of(after) == rows
    assert {finding.level for finding in verify(path)} <= {"leftover"}
    again = many.tree(path)
    assert pack(path, part_bytes).written == 0
    assert many.tree(path) == again
    assert np.all([part.name.startswith("pack-") or part.stat().st_size for part in after.parts()])


@pytest.mark.usefixtures("tiny")
def test_runs_go_on_beside_packed_parts(way, media, tmp_path):
    """Nothing is computed twice, and what is added later lies in parts of its own until it is packed as well."""
    from extract import api
    from extract.job import Choices
    from extract.running import Machine

    listed = way.manifest(tmp_path / "m.csv", media, ["c00", "mute", "c01", "gone"])
    machine = Machine(chunk=2, torch_threads=1)

    def run(path, *backbones):
        return api.run(listed, Choices(backbones=backbones, weights="random:0"), machine, path)

    for path in (tmp_path / "packed", tmp_path / "never"):
        assert run(path, "tiny_frames").computed == 4
        if path.name == "packed":
            pack(path)
            assert len(Store(path).parts()) == 1
        assert run(path, "tiny_frames").computed == 0
        assert run(path, "tiny_frames", "tiny_sound").computed == 4
    assert len(Store(tmp_path / "packed").parts()) == 3
    pack(tmp_path / "packed")
    assert Store(tmp_path / "packed").digest() == Store(tmp_path / "never").digest()
    assert run(tmp_path / "packed", "tiny_frames", "tiny_sound").computed == 0
    assert verify(tmp_path / "packed") == []
