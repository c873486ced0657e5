"""Reading rows once in blocks: the same digests for every size of block, bounded memory, clips named one by one."""

from __future__ import annotations

import itertools
import tracemalloc

import h5py
import numpy as np
import pytest

from extract.store import scrub
from extract.store.layout import row_digest
from extract.store.part import merge_chunk, seal_piece
from extract.store.verify import verify_part


@pytest.fixture
def part(content, parts):
    content.seal(parts, content.make_records())
    return merge_chunk(parts, content.CHUNK, content.ORDER)


@pytest.mark.parametrize("block_bytes", [1, 60, 100, 400, 10**6])
def test_digests_do_not_depend_on_blocks(content, part, monkeypatch, block_bytes):
    monkeypatch.setattr(scrub, "BLOCK_BYTES", block_bytes)
    rows = {(each.clip_id, each.key): each for kind, each in content.make_records() if kind == "rows"}
    with h5py.File(part) as file:
        for key in (info.key for info in content.KEYS):
            group = file[key]
            clips = [raw.decode() for raw in group["clip"][...].tolist()]
            seen = list(scrub.look(group, group["span"][...]))
            assert [each.i for each in seen] == list(range(len(clips)))
            for each in seen:
                assert each.digest == row_digest(rows[clips[each.i], key])
                assert np.array_equal(each.valid, rows[clips[each.i], key].valid)
            assert all(scrub.set_problem(group[name]) == "" for name in ("span", "clip", "sha256"))
    assert verify_part(part) == []


@pytest.mark.parametrize("block_bytes", [1, 40, 10**6])
@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_traits(content, parts, monkeypatch, block_bytes, storage):
    """Numbers whose traits are known, in pieces of any size."""
    monkeypatch.setattr(scrub, "BLOCK_BYTES", block_bytes)
    whole = np.random.default_rng(0).standard_normal((8, 3)).astype(storage)
    whole[2] = 7
    whole[3:5] = whole[5] = whole[1]
    whole[6, :2] = 3
    valid = np.ones(8, np.uint8)
    with h5py.File(parts / "x.h5", "w") as file:
        for name, array in (
            ("data", whole),
            ("window_ns", np.zeros((8, 2), np.int64)),
            ("valid", valid),
            ("source_ns", np.zeros((8, 1), np.int64)),
        ):
            file[name] = array

        def traits(*spans):
            return [each.traits for each in scrub.look(file, np.array(spans))]

        assert traits([0, 2], [2, 5], [5, 8]) == [
            scrub.Traits(6, 0, 0, alike=False),
            scrub.Traits(9, 0, 1, alike=False),
            scrub.Traits(9, 0, 0, alike=False),
        ]
        assert traits([3, 6]) == [scrub.Traits(9, 0, 0, alike=True)]
        assert [each.alike for each in traits([1, 6])] == [False], "the first and the last are, the second is not"
        for spans in ([[0, 3], [3, 5], [5, 8]], [[0, 5], [3, 8]]):
            orders = itertools.permutations(spans)
            found = [
                {tuple(order[each.i]): each.digest for each in scrub.look(file, np.array(order))} for order in orders
            ]
            assert all(each == found[0] for each in found), "spans that do not tile the rows are read all the same"
        file["data"][0, 1], file["data"][4, 0], file["data"][4, 2] = np.nan, np.inf, -np.inf
        assert [each.bad for each in traits([0, 3], [3, 8])] == [1, 2]
        file["valid"][2] = 0
        assert [each.constant for each in traits([0, 3], [3, 8])] == [0, 0]
        file["valid"][...] = 0
        assert [each.alike for each in traits([0, 3])] == [False], "no row of its own is not many equal ones"


def test_empty_rows_and_scalars(content, parts):
    for dims in ((), (0,), (2, 0)):
        key = content.info(f"dims{len(dims)}{sum(dims)}", dims)
        rows = [content.make_rows(clip, key, 3) for clip in ("beta", "eta")]
        assert verify_part(seal_piece(parts, content.CHUNK, content.ORDER, [key], rows, [], [], {})) == []


@pytest.mark.parametrize("compression", ["none", "gzip:1"])
def test_memory_is_bounded_also_for_one_long_clip(content, parts, monkeypatch, compression):
    monkeypatch.setattr(scrub, "BLOCK_BYTES", 2**18)
    key = content.info("big", (2048,))
    rows = [
        content.make_rows("beta", key, 2000),
        *(content.make_rows(each, key, 20) for each in ("gamma_ä", "eta", "theta")),
    ]
    path = seal_piece(parts, content.CHUNK, content.ORDER, [key], rows, [], [], {}, compression)
    size_bytes = sum(each.data.nbytes for each in rows)
    del rows
    verify_part(path)
    tracemalloc.start()
    assert verify_part(path) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**21 < size_bytes / 7


def test_a_broken_block_names_its_own_clips_only(content, parts):
    """Compressed rows that cannot be unpacked: the clips beside them are read all the same."""
    key = content.info("big", (64,))
    rows = [content.make_rows(each, key, 4) for each in content.ORDER]
    path = seal_piece(parts, content.CHUNK, content.ORDER, [key], rows, [], [], {}, "gzip:1")
    with h5py.File(path) as file:
        chunk = file[key.key]["data"].id.get_chunk_info(2)
    raw = bytearray(path.read_bytes())
    raw[chunk.byte_offset + 5 : chunk.byte_offset + 25] = bytes(20)
    path.write_bytes(raw)
    findings = verify_part(path)
    assert {each.clip for each in findings} == {content.ORDER[2]}
    assert "its rows cannot be read" in findings[0].problem
