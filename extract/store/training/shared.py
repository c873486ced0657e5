"""Memory that several processes use: shared with forked ones, handed from one to another, and used again when it is free.

Fresh memory costs more than filling it: every page of it is zeroed and mapped at its first use. Batches are therefore made in
memory that an earlier batch, which nobody holds any more, has left.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import sys
import weakref
from collections.abc import Callable
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
CAN_SHARE = (
    sys.platform == "linux"
)  # memfd_create; unlike /dev/shm it has no limit of its own (64 MB in many containers)
_HEAD_BYTES = 64
_FREE, _HELD, _SENT, _ARRIVED = range(4)


class SharedBytes:
    """Zeros that this process shares with the processes it forks, and with those that it spawns with it among the arguments.

    A copy that is pickled for anything else is new memory.

    Parameters
    ----------
    size_bytes
        at least 1
    fd
        of such memory, which another process made; closed with this object
    """

    def __init__(self, size_bytes: int, fd: int | None = None) -> None:
        if fd is None:
            fd = os.memfd_create("extract", os.MFD_CLOEXEC)
            os.ftruncate(fd, size_bytes)
        self.fd = fd
        self.array: Bytes = np.frombuffer(mmap.mmap(fd, size_bytes), np.uint8)
        weakref.finalize(self, os.close, fd).atexit = False

    def __reduce__(self) -> tuple[Callable[..., SharedBytes], tuple[Any, ...]]:
        """While a process is spawned, the same memory."""
        if get_spawning_popen() is None:
            return SharedBytes, (len(self.array),)
        return _attached, (len(self.array), DupFd(self.fd))


def _attached(size_bytes: int, dup: Any) -> SharedBytes:
    return SharedBytes(size_bytes, dup.detach())


class _Block:
    """Memory behind a head of three numbers: who has it, how often it was lent, and whether the receiver knows it."""

    def __init__(self, size_bytes: int, shared: SharedBytes | None) -> None:
        self.shared = shared
        raw = np.empty(_HEAD_BYTES + size_bytes, np.uint8) if shared is None else shared.array
        self.head = raw[:_HEAD_BYTES].view(np.int64)
        if shared is None:
            self.head[:] = 0
        self.body = raw[_HEAD_BYTES:]


class Lease:
    """A block as long as somebody uses an array in it: ``np.asarray(lease)`` and every array and tensor made of that."""

    def __init__(self, block: _Block, size_bytes: int, state: int, slot: int) -> None:
        self.block, self.slot = block, slot
        self._state, self._pid = state, os.getpid()
        if state == _HELD:
            block.head[1] += 1
        block.head[0] = state
        self._serial = int(block.head[1])
        self.address = block.body.__array_interface__["data"][0]
        self.size_bytes = size_bytes
        self.__array_interface__ = {
            "data": (self.address, False),
            "shape": (size_bytes,),
            "typestr": "|u1",
            "version": 3,
        }

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        """Nothing: what is copied or pickled by value has memory of its own."""
        return type(None), ()

    def __del__(self) -> None:
        # A forked process inherits leases that are not its own, and a block that was sent is the receiver's to free.
        head = self.block.head
        if os.getpid() == self._pid and head[0] == self._state and head[1] == self._serial:
            head[0] = _FREE


class Blocks:
    """The blocks of one process: as many as there are leases at the same time.

    Parameters
    ----------
    share
        whether leases can be sent to another process without a copy
    """

    def __init__(self, *, share: bool) -> None:
        self._share = share
        self._blocks: list[_Block] = []

    def lease(self, size_bytes: int) -> Lease:
        """At least that many bytes, with whatever an earlier user left in them."""
        free = [slot for slot, block in enumerate(self._blocks) if block.head[0] == _FREE]
        fit = [slot for slot in free if len(self._blocks[slot].body) >= size_bytes]
        if fit:
            slot = min(fit, key=lambda slot: len(self._blocks[slot].body))
        else:
            room = size_bytes + size_bytes // 8  # ragged batches differ a little
            block = _Block(room, SharedBytes(_HEAD_BYTES + room) if self._share else None)
            slot = free[0] if free else len(self._blocks)
            self._blocks[slot : slot + 1] = [block]
        return Lease(self._blocks[slot], size_bytes, _HELD, slot)


def send(lease: Lease) -> tuple[Any, ...]:
    """What :func:`receive` needs in the process that gets it; the block is the receiver's from now on."""
    block = lease.block
    assert block.shared is not None
    block.head[0] = _SENT
    known = bool(block.head[2])
    return os.getpid(), lease.slot, len(block.shared.array), lease.size_bytes, None if known else DupFd(block.shared.fd)


# By process id and slot, the blocks of the processes that sent some. They stay mapped as long as the sender lives.
_received: dict[int, dict[int, _Block]] = {}


def receive(pid: int, slot: int, total_bytes: int, size_bytes: int, dup: Any) -> Lease:
    """A lease that another process sent."""
    if pid not in _received:
        _received[pid] = {}
        for process in multiprocessing.active_children():
            if process.pid == pid:
                weakref.finalize(process, _received.pop, pid, None).atexit = False
    blocks = _received[pid]
    if dup is not None:
        blocks[slot] = _Block(total_bytes - _HEAD_BYTES, _attached(total_bytes, dup))
        blocks[slot].head[2] = 1
    return Lease(blocks[slot], size_bytes, _ARRIVED, slot)
