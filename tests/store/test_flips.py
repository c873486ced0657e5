"""A flipped bit, two swapped bytes, a lost end: verify finds each, anywhere in a part, and names the part."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest

from extract.store.hdf5 import SEAL_BYTES
from extract.store.index_file import NAME
from extract.store.part import seal_piece
from extract.store.verify import verify, verify_part

CLIPS = ("zeta_0_10", "gamma_ä", "delta")
KINDS = ("plain", "gzip", "float16")


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def part(content, parts, kind):
    """A small part with two keys, a failed clip and a remark."""
    keys = (content.JOINT, content.SOUND)
    if kind == "float16":
        keys = tuple(
            dataclasses.replace(content.info(key.key.split("@")[0], key.dims, storage="float16"), storage="float16")
            for key in keys
        )
    renamed = dict(zip((content.JOINT.key, content.SOUND.key), keys, strict=True))
    found = {"rows": [], "failed": [], "masked": []}
    for name, item in content.make_records():
        if item.clip_id in CLIPS and item.key in renamed:
            change = {"key": renamed[item.key].key}
            if name == "rows":
                change["data"] = item.data.astype(renamed[item.key].storage)
            found[name].append(dataclasses.replace(item, **change))
    piece = seal_piece(
        parts,
        content.CHUNK,
        content.ORDER,
        keys,
        found["rows"],
        found["failed"],
        [dataclasses.replace(found["failed"][0], clip_id="zeta_0_10", stage="audio", reason="no_audio")],
        content.PROVENANCE,
        "gzip:4" if kind == "gzip" else "none",
    )
    return piece.rename(parts / f"{content.CHUNK}.h5")


def test_it_is_sound_before(part, kind):
    assert verify(part.parents[1]) == []


def test_a_flipped_bit_anywhere(part, kind):
    """All of the first 600 bytes, which is the seal and where HDF5 begins, and places of the whole."""
    raw = part.read_bytes()
    rng = random.Random(kind)
    first, places = (range(SEAL_BYTES + 88), 400) if kind == "plain" else (range(0, SEAL_BYTES + 88, 40), 200)
    for at in (*first, *rng.sample(range(SEAL_BYTES, len(raw)), places)):
        damaged = bytearray(raw)
        damaged[at] ^= 1 << rng.randrange(8)
        part.write_bytes(damaged)
        findings = verify_part(part)
        assert findings, f"a bit flip in byte {at} of {len(raw)} was not found"
        assert {(each.part, each.level) for each in findings} == {(part.name, "damage")}, at


@pytest.mark.parametrize("kind", ["plain"], indirect=True)
@pytest.mark.parametrize("bit", range(8))
def test_every_bit_of_the_seal(part, kind, bit):
    """The digit of the schema is in no digest: it is compared with what the part says inside."""
    raw = part.read_bytes()
    for at in range(64):
        damaged = bytearray(raw)
        damaged[at] ^= 1 << bit
        part.write_bytes(damaged)
        assert verify_part(part), f"bit {bit} of byte {at}"


def test_two_bytes_swapped(part, kind):
    raw = part.read_bytes()
    rng = random.Random(kind)
    tried = 0
    while tried < 60:
        a, b = rng.randrange(len(raw)), rng.randrange(len(raw))
        if raw[a] == raw[b]:
            continue
        damaged = bytearray(raw)
        damaged[a], damaged[b] = raw[b], raw[a]
        part.write_bytes(damaged)
        assert verify_part(part), f"bytes {a} and {b} swapped"
        tried += 1


def test_cut_off_anywhere(part, kind):
    raw = part.read_bytes()
    rng = random.Random(kind)
    for size in {*range(0, 520, 13), *rng.sample(range(len(raw)), 120), len(raw) - 1}:
        part.write_bytes(raw[:size])
        assert {each.part for each in verify_part(part)} == {part.name}, size
    part.write_bytes(raw + b"\0")
    assert "1 bytes" not in (problem := verify_part(part)[0].problem)
    assert f"has {len(raw) + 1:,} bytes, its seal says {len(raw):,}" in problem


def test_one_part_is_named_among_others(content, part, kind):
    for i in range(3):
        (part.parent / f"{i:016x}.h5").write_bytes(part.read_bytes())
    assert verify(part.parents[1]) == [], "copies under the names of other chunks hold the same rows"
    raw = bytearray(part.read_bytes())
    raw[-1] ^= 1
    (part.parent / f"{1:016x}.h5").write_bytes(raw)
    assert {each.part for each in verify(part.parents[1])} == {f"{1:016x}.h5"}


@pytest.mark.parametrize("kind", ["gzip"], indirect=True)
def test_damage_that_only_the_seal_sees(part, kind):
    """The padding of the seal, and the empty places of HDF5's list of chunks, which has no checksum."""
    raw = part.read_bytes()
    for at, words in ((SEAL_BYTES - 2, "begin with the seal"), (raw.index(b"TREE") + 1500, "not as it was sealed")):
        damaged = bytearray(raw)
        damaged[at] ^= 1
        part.write_bytes(damaged)
        (finding,) = verify_part(part)
        assert (finding.part, finding.key, finding.clip) == (part.name, "", "")
        assert words in finding.problem


# ---- the index file --------------------------------------------------------------------------------------------------


@pytest.fixture
def index(part):
    from extract.store.catalog import save_index

    save_index(part.parents[1])
    return part.parents[1] / NAME


@pytest.mark.parametrize("kind", ["plain"], indirect=True)
def test_a_damaged_index_file_is_told_from_damaged_parts(index, part, kind):
    assert verify(part.parents[1]) == []
    raw = index.read_bytes()
    rng = random.Random(5)
    for at in (*range(0, 128, 5), *rng.sample(range(len(raw)), 25)):
        damaged = bytearray(raw)
        damaged[at] ^= 1 << rng.randrange(8)
        index.write_bytes(damaged)
        findings = verify(part.parents[1])
        if bytes(damaged[:24]).startswith(b"extract index\nschema ") and at == 21 and not findings:
            continue  # it now says that it is of another schema, and nobody reads it
        assert {(each.part, each.level) for each in findings} == {(NAME, "index")}, at
        assert "only a cache: delete it" in findings[0].problem
    index.unlink()
    assert verify(part.parents[1]) == []


@pytest.mark.parametrize("kind", ["plain"], indirect=True)
@pytest.mark.parametrize("name", ["start", "stop", "sha256", "offsets", "clip"])
def test_an_index_file_that_lies(index, part, kind, name):
    """Sealed as it should be, and wrong: it would give the rows of another clip."""
    from extract.store.index_file import read_index, write_index

    store = part.parents[1]
    saved = read_index(store)
    key, column = next(iter(saved.columns.items()))
    wrong = np.array(getattr(column, name))
    wrong[0] = wrong[1] if name == "clip" else wrong[0] + 1
    write_index(
        store, dataclasses.replace(saved, columns={**saved.columns, key: dataclasses.replace(column, **{name: wrong})})
    )
    findings = verify(store)
    assert {(each.part, each.level, each.key) for each in findings} == {(NAME, "index", key)}
    assert f"says of {part.name} {key}" in findings[0].problem


@pytest.mark.parametrize("kind", ["plain"], indirect=True)
def test_an_outdated_index_file_is_no_fault(content, index, part, kind):
    part.rename(part.with_name("f" * 16 + ".h5"))
    assert verify(part.parents[1]) == []
    content.seal(part.parent, content.make_records()[3:6])
    assert {each.level for each in verify(part.parents[1])} == {"leftover"}
