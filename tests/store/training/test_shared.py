"""Memory that is lent, sent and used again: it is free when its last user says so, and only then."""

from __future__ import annotations

import multiprocessing
import os
import pickle

import numpy as np
import pytest
import torch

from extract.store.training import shared
from extract.store.training.shared import CAN_SHARE, Blocks, SharedBytes, receive, send

pytestmark = pytest.mark.skipif(not CAN_SHARE, reason="needs memfd_create")


@pytest.fixture(autouse=True)
def _no_trace():
    """These tests receive what they sent themselves; nothing else does, so nothing forgets it."""
    yield
    shared._received.pop(os.getpid(), None)


def address(lease):
    return np.asarray(lease).__array_interface__["data"][0]


def test_free_when_the_last_array_or_tensor_goes():
    for share in (False, True):
        blocks = Blocks(share=share)
        lease = blocks.lease(1000)
        first, view = address(lease), torch.from_numpy(np.asarray(lease)[100:200]).view(torch.float32)[3:5]
        del lease
        assert address(blocks.lease(1000)) != first
        array = view.numpy()
        del view
        assert address(blocks.lease(1000)) != first
        del array
        assert address(blocks.lease(1000)) == first


def test_blocks_that_are_too_small_make_room():
    blocks = Blocks(share=False)
    for size in range(1000, 100_000, 1000):
        assert np.asarray(blocks.lease(size)).nbytes == size
    assert len(blocks._blocks) == 1
    held = [blocks.lease(10**5), blocks.lease(10)]
    assert len(blocks._blocks) == 2
    del held
    assert address(blocks.lease(10)) == blocks._blocks[1].body.__array_interface__["data"][0]  # the smallest that fits


def test_what_was_sent_is_the_receivers_to_free():
    blocks = Blocks(share=True)
    lease = blocks.lease(100)
    np.asarray(lease)[:] = 7
    handle = send(lease)
    del lease
    assert blocks.lease(100).slot == 1  # on its way
    arrived = receive(*handle)
    assert np.asarray(arrived).tolist() == [7] * 100
    assert blocks.lease(100).slot == 1  # in use
    del arrived
    assert blocks.lease(100).slot == 0


def test_who_sent_does_not_free_what_was_lent_again():
    blocks = Blocks(share=True)
    stale = blocks.lease(100)
    receive(*send(stale))
    again = blocks.lease(100)
    assert (again.slot, stale.slot) == (0, 0)
    del stale
    assert blocks.lease(100).slot == 1


def test_a_block_is_introduced_once():
    blocks = Blocks(share=True)
    for known in (False, True, True):
        lease = blocks.lease(100)
        np.asarray(lease)[:] = known
        handle = send(lease)
        assert (handle[-1] is None) == known
        assert np.asarray(receive(*handle)).tolist() == [known] * 100
    larger = send(blocks.lease(1000))
    assert larger[1] == 0
    assert len(np.asarray(receive(*larger))) == 1000


def test_a_forked_process_frees_nothing_of_ours():
    blocks = Blocks(share=True)
    leases = [blocks.lease(100)]

    def child():
        leases.clear()
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert blocks.lease(100).slot == 1


def test_shared_with_a_fork_and_new_when_pickled():
    memory = SharedBytes(10)

    def child():
        memory.array[3] = 5
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert memory.array.tolist() == [0, 0, 0, 5, 0, 0, 0, 0, 0, 0]
    assert pickle.loads(pickle.dumps(memory)).array.tolist() == [0] * 10  # noqa: S301
