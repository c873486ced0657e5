"""What will be read soon is in memory by then, and nothing goes wrong where it cannot be."""

from __future__ import annotations

import os
import time

import pytest

from extract.store.training import read_ahead
from extract.store.training.read_ahead import ReadAhead, _in_memory

BLOCK = 2**20
SIZE = 3 * BLOCK


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Three blocks, none of them in memory."""
    monkeypatch.setattr(read_ahead, "_BLOCK_BYTES", BLOCK)
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    fd = os.open(path, os.O_RDWR)
    os.pread(fd, 1, 0)
    if not _in_memory(fd, 0):
        pytest.skip("this file system does not tell what is in memory")
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    if _in_memory(fd, 0):
        pytest.skip("this file system cannot forget")
    yield path, fd
    os.close(fd)


def wait(ahead):
    until = time.monotonic() + 20
    while ahead._running:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_stretch_is_brought_in(file, monkeypatch):
    """The system may forget any page at any time, so what counts is what was asked of it."""
    path, _ = file
    read, send = [], os.sendfile
    monkeypatch.setattr(read_ahead, "_in_memory", lambda fd, at: False)
    monkeypatch.setattr(os, "sendfile", lambda to, fd, at, size: read.append((at, send(to, fd, at, size))))
    ahead = ReadAhead()
    for _ in range(2):  # the thread ends in between
        read.clear()
        ahead.ask(path, 1000, SIZE - 1000)
        wait(ahead)
        assert [at for at, _ in read] == list(range(1000, SIZE - 1000, BLOCK))
        assert sum(size for _, size in read) == SIZE - 2000


def test_what_is_there_is_not_read_again(file, monkeypatch):
    path, fd = file
    os.pread(fd, SIZE, 0)
    told, read = [], []
    monkeypatch.setattr(read_ahead, "_in_memory", lambda fd, at: told.append(_in_memory(fd, at)) or told[-1])
    monkeypatch.setattr(os, "sendfile", lambda to, fd, at, size: read.append(at))
    ahead = ReadAhead()
    ahead.ask(path, 0, SIZE)
    wait(ahead)
    if not all(told):
        pytest.skip("this machine is short of memory just now")
    assert told
    assert not read


def test_a_stretch_whose_edges_are_there_is_read(file, monkeypatch):
    """The system reads on behind what it was asked for, whenever it likes, so what it holds is said here and not found."""
    path, _ = file
    read = []
    monkeypatch.setattr(read_ahead, "_in_memory", lambda fd, at: at in (0, BLOCK - 1))
    monkeypatch.setattr(os, "sendfile", lambda to, fd, at, size: read.append((at, size)))
    ahead = ReadAhead()
    ahead.ask(path, 0, BLOCK)
    wait(ahead)
    assert read == [(0, BLOCK)]


def test_a_file_that_went_stops_nothing(file, tmp_path, monkeypatch):
    path, _ = file
    ahead = ReadAhead()
    ahead.ask(tmp_path / "gone", 0, 100)
    read = []
    monkeypatch.setattr(read_ahead, "_in_memory", lambda fd, at: False)
    monkeypatch.setattr(os, "sendfile", lambda to, fd, at, size: read.append(at))
    ahead.ask(path, 0, 100)
    wait(ahead)
    assert read == [0]
