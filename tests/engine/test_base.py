from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract import errors
from extract.engine.base import Failed, cut_chunks, make_chunks, slice_clips
from extract.errors import DeviceUnavailable, ExtractError, PlanError
from manifests.clip import Clip

KEYS = ["resnet152@aa", "vggish@bb", "r2plus1d_18@cc"]


def clips_of(count: int) -> list[Clip]:
    return [Clip(f"-x_{number}_10_20", f"{number}.mp4") for number in range(count)]


def chunks_of(clips, done, size, keys=KEYS):
    return make_chunks(clips, {clip.clip_id: "/videos/" + clip.path for clip in clips}, keys, done, size)


@given(
    count=st.integers(0, 40),
    size=st.integers(1, 12),
    data=st.data(),
)
def test_chunks_hold_what_is_missing_and_nothing_else(count, size, data):
    clips = clips_of(count)
    done = {c.clip_id: data.draw(st.sets(st.sampled_from([*KEYS, "older@dd"]))) for c in clips}
    chunks = chunks_of(clips, lambda clip_id: done[clip_id], size)
    todos = [todo for chunk in chunks for todo in chunk.todos]
    missing = {(clip.clip_id, key) for clip in clips for key in KEYS if key not in done[clip.clip_id]}
    assert {(todo.clip.clip_id, key) for todo in todos for key in todo.keys} == missing
    assert len(todos) == len({todo.clip.clip_id for todo in todos})
    assert [todo.clip.clip_id for todo in todos] == [c.clip_id for c in clips if not done[c.clip_id] >= set(KEYS)]
    assert all(todo.keys == tuple(key for key in KEYS if key in todo.keys) for todo in todos)
    assert all(0 < len(chunk.todos) <= size for chunk in chunks)
    assert all(todo.path == "/videos/" + todo.clip.path for todo in todos)

    # What is missing changes what a chunk holds, never where it begins, ends or what it is called.
    slices = slice_clips(clips, KEYS, size)
    assert [clip for part in slices.values() for clip in part] == clips
    assert all(len(part) == size for part in list(slices.values())[:-1])
    for chunk in chunks:
        assert set(chunk.clip_ids) <= {clip.clip_id for clip in slices[chunk.name]}


def test_a_name_is_the_digest_of_the_slice_and_the_sorted_keys():
    clips = clips_of(3)
    text = b'[["-x_0_10_20","-x_1_10_20"],["r2plus1d_18@cc","resnet152@aa","vggish@bb"]]'
    names = list(slice_clips(clips, KEYS, 2))
    assert names[0] == hashlib.sha256(text).hexdigest()[:16]
    assert names == list(slice_clips(clips, KEYS[::-1], 2))
    assert not set(names) & set(slice_clips(clips, KEYS[:2], 2))
    assert not set(names) & set(slice_clips(clips[::-1], KEYS, 2))


def test_a_chunk_of_nothing_is_refused():
    with pytest.raises(PlanError, match="at least one clip; got a chunk size of 0"):
        chunks_of(clips_of(3), lambda _: (), 0)
    with pytest.raises(PlanError, match="at least one clip; got a chunk size of 0"):
        slice_clips(clips_of(3), KEYS, 0)


def test_chunks_are_cut_from_a_table_of_what_is_missing():
    """Only what is missing needs a path, and clips that miss the same share the names of it."""
    clips = clips_of(5)
    lacks = np.zeros((5, 3), np.bool_)
    lacks[1, 2] = lacks[3, 0] = lacks[3, 2] = lacks[4, 2] = True
    first, second, third = cut_chunks(clips, {clips[i].clip_id: f"/{i}" for i in (1, 3, 4)}, KEYS, lacks, 2)
    assert [chunk.name for chunk in (first, second, third)] == list(slice_clips(clips, KEYS, 2))
    (one,), (three,), (four,) = first.todos, second.todos, third.todos
    assert (one.clip, one.path, one.keys) == (clips[1], "/1", (KEYS[2],))
    assert (three.clip, three.path, three.keys) == (clips[3], "/3", (KEYS[0], KEYS[2]))
    assert four.keys is one.keys
    assert cut_chunks(clips, {}, KEYS, np.zeros((5, 3), np.bool_), 2) == []


def _raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_an_error_of_ours_crosses_the_process_whole():
    class Nearer(DeviceUnavailable):
        """A subclass that the parent does not know."""

    for error in (DeviceUnavailable("no cuda:3"), Nearer("no cuda:3")):
        back = Failed.of(1, _raised(error)).error
        assert type(back) is DeviceUnavailable
        assert str(back) == "no cuda:3"
    for name in ("StoreUnwritable", "DigestMismatch", "ExtractError"):
        kind = getattr(errors, name)
        assert type(Failed.of(0, kind("x")).error) is kind


def test_an_unforeseen_error_crosses_with_its_traceback():
    back = Failed.of(4, _raised(KeyError("spam"))).error
    assert type(back) is ExtractError
    assert "lane 4" in str(back)
    assert "KeyError: 'spam'" in str(back)
    assert "in _raised" in str(back)
