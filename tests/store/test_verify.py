"""Verify finds every damage, names part and clip, and never stops at the first."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import shutil

import h5py
import numpy as np
import pytest

from extract.errors import StoreError
from extract.store import verify as verify_module
from extract.store.part import merge_chunk, seal_piece
from extract.store.runs import Lock
from extract.store.verify import Finding, verify, verify_part


@pytest.fixture
def part(content, parts):
    content.seal(parts, content.make_records())
    return merge_chunk(parts, content.CHUNK, content.ORDER)


def test_a_sound_store_has_no_findings(content, part):
    assert verify(part.parents[1]) == []


def test_no_store(tmp_path):
    with pytest.raises(StoreError, match="no feature store"):
        verify(tmp_path)


def test_every_bit_of_a_part_counts(content, part):
    """Flips spread over the whole file, data or not; all 16,175 bytes of this part were tried once."""
    raw = part.read_bytes()
    rng = random.Random(1)
    for at in rng.sample(range(len(raw)), 150):
        damaged = bytearray(raw)
        damaged[at] ^= 1 << rng.randrange(8)
        part.write_bytes(damaged)
        assert verify_part(part), f"bit flip in byte {at} not found"


def test_a_flipped_bit_of_rows_names_the_clip(content, part):
    raw = part.read_bytes()
    rng = random.Random(2)
    for kind, rows in content.make_records():
        if kind != "rows":
            continue
        for field in ("data", "window_ns", "source_ns"):
            bytes_ = getattr(rows, field).tobytes()
            if raw.count(bytes_) != 1:
                continue  # windows of clips of equal length look alike
            damaged = bytearray(raw)
            damaged[raw.index(bytes_) + rng.randrange(len(bytes_))] ^= 1 << rng.randrange(8)
            part.write_bytes(damaged)
            findings = verify(part.parents[1])
            assert {(each.part, each.key, each.clip) for each in findings} == {(part.name, rows.key, rows.clip_id)}
            assert any("do not match their checksum" in each.problem for each in findings)


def test_truncated_anywhere(content, part):
    raw = part.read_bytes()
    for size in (0, 1, 7, 100, *range(500, len(raw), 500), len(raw) - 1):
        part.write_bytes(raw[:size])
        assert [each.part for each in verify(part.parents[1])] == [part.name]


def test_a_hole_of_zeros(content, part):
    """What a disk without a working fsync leaves behind after a power cut."""
    raw = part.read_bytes()
    for start in range(0, len(raw) - 512, 1024):
        part.write_bytes(raw[:start] + bytes(512) + raw[start + 512 :])
        assert verify_part(part)


def test_it_goes_on_after_the_first_finding(content, parts):
    records = content.make_records()
    pieces = [content.seal(parts, records[start : start + 8]) for start in (0, 8, 16)]
    pieces[0].write_bytes(b"gone")
    raw = bytearray(pieces[1].read_bytes())
    spoiled = [item for kind, item in records[8:16] if kind == "rows"][:2]
    for rows in spoiled:
        raw[raw.index(rows.data.tobytes())] ^= 4
    pieces[1].write_bytes(raw)
    damage = [each for each in verify(parts.parent) if each.level == "damage"]
    assert {(each.part, each.clip) for each in damage} == {
        (pieces[0].name, ""),
        *((pieces[1].name, rows.clip_id) for rows in spoiled),
    }


def edited(part, change):
    with h5py.File(part, "r+") as file:
        change(file)
    return verify_part(part)


def restamp(dataset):
    """Make the checksum of an edited dataset right again: the edit was deliberate."""
    dataset.attrs["sha256"] = np.bytes_(hashlib.sha256(dataset[...].tobytes()).hexdigest())


def problems(findings):
    return " | ".join(f"{each.key.split('@')[0]} {each.clip}: {each.problem}" for each in findings)


def test_an_identity_that_is_not_the_keys(content, part):
    key = content.STILL.key
    findings = edited(part, lambda file: file[key].attrs.__setitem__("identity", np.bytes_(content.SOUND.identity)))
    assert f"its identity is that of {content.SOUND.key}" in problems(findings)


def test_an_identity_that_is_no_json(content, part):
    findings = edited(part, lambda file: file[content.STILL.key].attrs.__setitem__("identity", np.bytes_("{")))
    assert "resnet152 : cannot be read" in problems(findings)


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        (lambda span: span.__setitem__((1, 0), span[1, 0] - 1), "do not tile"),
        (lambda span: span.__setitem__((-1, 1), span[-1, 1] + 5), "lies outside the"),
        (lambda span: span.__setitem__((-1, 1), span[-1, 1] - 1), "do not tile"),
        (lambda span: span.__setitem__((0, 0), -1), "lies outside the"),
        (lambda span: span.__setitem__((0, 1), 0), "lies outside the"),
    ],
    ids=["overlap", "beyond", "uncovered", "negative", "empty"],
)
def test_spans_that_do_not_tile_the_rows(content, part, spans, message):
    def change(file):
        dataset = file[content.STILL.key]["span"]
        span = dataset[...]
        spans(span)
        dataset[...] = span
        restamp(dataset)

    assert message in problems(edited(part, change))


def test_a_dataset_is_missing(content, part):
    findings = edited(part, lambda file: file[content.STILL.key].__delitem__("valid"))
    assert "resnet152 : lacks valid" in problems(findings)


def test_a_dataset_is_too_short(content, part):
    def change(file):
        group = file[content.STILL.key]
        short = group["valid"][:-1]
        del group["valid"]
        group["valid"] = short

    assert "different numbers of rows" in problems(edited(part, change))


def test_a_clip_is_there_twice(content, part):
    def change(file):
        dataset = file[content.STILL.key]["clip"]
        dataset[1] = dataset[0]
        restamp(dataset)

    assert "resnet152 zeta_0_10: is there twice" in problems(edited(part, change))


def test_values_that_no_run_writes(content, part):
    """Even when every checksum is right."""
    from extract.store.layout import row_digest
    from extract.store.reader import read_rows

    def change(file):
        group = file[content.STILL.key]
        group["data"][0, 0] = np.nan
        group["valid"][0] = 3
        group["window_ns"][0] = (5, 5)
        rows = read_rows(file, "zeta_0_10", content.STILL.key, *map(int, group["span"][0]))
        group["sha256"][0] = np.frombuffer(row_digest(rows), np.uint8)
        restamp(group["sha256"])

    found = problems(edited(part, change))
    assert "1 of" in found
    assert "NaN or infinite" in found
    assert "0 <= start < stop" in found
    assert "valid holds something else" in found
    assert "checksum" not in found


def test_a_failed_clip_with_rows(content, part):
    def change(file):
        dataset = file["failed"]["clip"]
        dataset[...] = np.bytes_("beta")
        restamp(dataset)

    assert "beta: has rows and is in /failed as well: not_found" in problems(edited(part, change))


def test_a_part_that_no_reader_would_take(content, part):
    """Nothing in it contradicts itself, and still it is of no form that this version writes."""
    key = content.JOINT.key

    def change(file):
        group = file[key]
        data = group["data"][...]
        del group["data"]
        group.create_dataset("data", data=data, compression="gzip")

    with h5py.File(part, "r+") as file:
        change(file)
    _seal_again(part)
    assert verify_part(part) == []
    (finding,) = verify(part.parents[1])
    assert (finding.part, finding.level) == (part.name, "damage")
    assert "its keys are compressed differently" in finding.problem


def _seal_again(part):
    from extract.store.hdf5 import SEAL_BYTES, seal_text

    raw = part.read_bytes()
    digest = hashlib.sha256(raw[SEAL_BYTES:]).hexdigest()
    part.write_bytes(seal_text("part", 2, digest, len(raw)) + raw[SEAL_BYTES:])


@pytest.mark.parametrize("schema", [1, 3])
def test_a_seal_that_speaks_of_another_schema(content, part, schema):
    """The digit is in no digest; readers go by what the part says inside."""
    from extract.store.hdf5 import SEAL_BYTES, parse_seal, seal_text

    raw = part.read_bytes()
    part.write_bytes(seal_text("part", schema, *parse_seal(raw[:SEAL_BYTES], "part")) + raw[SEAL_BYTES:])
    assert "its seal is not that of a part of schema 2" in problems(verify_part(part))


def test_provenance_that_is_none(content, part):
    findings = edited(part, lambda file: file.attrs.__setitem__("provenance", np.bytes_("{}")))
    assert "its provenance is no JSON list" in problems(findings)


def test_replaced_while_it_is_read(content, part, tmp_path, monkeypatch):
    """A run seals a part anew under its name between two looks at it: both were sound."""
    other = tmp_path / "other"
    other.mkdir()
    newer = content.seal(other, content.make_records()[:6])
    original = verify_module.seal_problem

    def torn(path):
        if not newer.exists():
            return original(path)
        newer.rename(part)
        return "its bytes have another digest than the seal that was read just before"

    monkeypatch.setattr(verify_module, "seal_problem", torn)
    assert verify_part(part) == []
    assert not newer.exists()
    monkeypatch.setattr(verify_module, "seal_problem", lambda path: path.touch() or "")
    assert "changes faster than it can be read" in problems(verify_part(part))


def test_merged_while_it_is_verified(content, parts, monkeypatch):
    """Pieces that went into a part meanwhile are read there."""
    records = content.make_records()
    for start in (0, 9, 18):
        content.seal(parts, records[start : start + 9])
    seen = []
    original = verify_module._steady

    def late(path, plausible):
        if len(list(parts.glob("*.piece.h5"))) == 3 and seen:
            merge_chunk(parts, content.CHUNK, content.ORDER)
        seen.append(path.name)
        return original(path, plausible)

    monkeypatch.setattr(verify_module, "_steady", late)
    with Lock(parts.parent):
        assert verify(parts.parent) == []
    assert seen[-1] == f"{content.CHUNK}.h5"


def test_small_clips_are_read_many_at_once(content, parts):
    """A packed part of many small clips."""
    key = content.info("small", (2,))
    ids = [f"clip{i:05}" for i in range(4000)]
    rows = [content.make_rows(clip, key, 1) for clip in ids]
    path = seal_piece(parts, content.CHUNK, ids, [key], rows, [], [], {})
    reads = []
    original = h5py.Dataset.__getitem__

    def spy(self, *args, **kwargs):
        reads.append(self.name)
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(h5py.Dataset, "__getitem__", spy)
        assert verify_part(path) == []
    assert len(reads) < 100, "clips are read many at once"


def test_strangers_in_a_part(content, part):
    findings = edited(part, lambda file: file.create_dataset("stranger", data=np.arange(3)))
    assert "stranger : cannot be read" in problems(findings)


def test_a_clip_with_different_rows_in_two_parts(content, parts):
    rows = content.make_rows("beta", content.STILL)
    for chunk, each in (("a" * 16, rows), ("b" * 16, dataclasses.replace(rows, data=rows.data + 1))):
        piece = seal_piece(parts, chunk, content.ORDER, content.KEYS, [each], [], [], {})
        piece.rename(parts / f"{chunk}.h5")
    assert verify(parts.parent) == [
        Finding(f"{'b' * 16}.h5", content.STILL.key, "beta", f"its rows differ from those in {'a' * 16}.h5")
    ]


def test_equal_duplicates_are_fine(content, part):
    shutil.copy(part, part.with_name("f" * 16 + ".h5"))
    assert verify(part.parents[1]) == []


def test_leftovers_of_a_killed_run(content, parts):
    piece = content.seal(parts, content.make_records())
    (parts / f".{piece.name}.4711.tmp").write_bytes(b"half")
    assert {(each.part, each.level) for each in verify(parts.parent)} == {
        (piece.name, "leftover"),
        (f".{piece.name}.4711.tmp", "leftover"),
    }
    with Lock(parts.parent):  # a run is under way: they are its own
        assert verify(parts.parent) == []


def test_a_part_that_cannot_be_read_by_the_system(content, part, tmp_path):
    part.unlink()
    part.mkdir()
    assert [each.part for each in verify(part.parents[1])] == [part.name]
