"""Full, read-only and vanished disks, on real file systems where this process may mount one."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from extract.errors import StoreUnwritable
from extract.store.part import merge_chunk, seal_piece
from extract.store.verify import verify_part


@pytest.fixture
def disk(small_disk):
    return small_disk("256k")


def fill(folder, leave):
    """Take all but `leave` bytes of the disk."""
    disk = os.statvfs(folder)
    (folder / "filler").write_bytes(b"x" * (disk.f_bavail * disk.f_frsize - leave))


def seal_large(content, folder, count=40):
    key = content.info("big", (512,))
    rows = [content.make_rows(clip, key, count) for clip in content.ORDER]
    return seal_piece(folder, content.CHUNK, content.ORDER, [key], rows, [], [], {})


def test_full_disk(content, disk):
    with pytest.raises(StoreUnwritable, match="the disk is full") as error:
        seal_large(content, disk)  # 655 KB
    message = str(error.value)
    assert content.CHUNK in message
    assert int(re.search(r"\(([\d,]+) bytes needed", message)[1].replace(",", "")) > 655_360
    assert " free)" in message
    assert error.value.__cause__.errno == errno.ENOSPC
    assert list(disk.iterdir()) == []
    path = content.seal(disk, content.make_records())  # and a smaller one still fits
    assert verify_part(path) == []


@pytest.mark.parametrize("leave", range(0, 65536, 4096))
def test_disk_full_at_every_page(content, disk, leave):
    """HDF5 meets the full disk in a write of data, of metadata, in its flush or in its close."""
    fill(disk, leave)
    try:
        path = content.seal(disk, content.make_records())
    except StoreUnwritable:
        assert [path.name for path in disk.iterdir()] == ["filler"]
    else:
        assert verify_part(path) == []
        assert leave >= 4 * 4096
    (disk / "filler").unlink()
    assert verify_part(content.seal(disk, content.make_records())) == []


def test_full_disk_during_a_merge_keeps_the_pieces(content, disk):
    content.seal(disk, content.make_records()[:9])
    content.seal(disk, content.make_records()[9:])
    before = sorted(disk.iterdir())
    fill(disk, 8192)
    with pytest.raises(StoreUnwritable, match="the disk is full"):
        merge_chunk(disk, content.CHUNK, content.ORDER)
    (disk / "filler").unlink()
    assert sorted(disk.iterdir()) == before
    assert verify_part(merge_chunk(disk, content.CHUNK, content.ORDER)) == []


def test_read_only_disk(content, disk):
    piece = content.seal(disk, content.make_records())
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(StoreUnwritable, match="mounted read-only"):
        content.seal(disk, content.make_records()[:3])
    with pytest.raises(StoreUnwritable, match="mounted read-only"):
        merge_chunk(disk, content.CHUNK, content.ORDER)
    assert list(disk.iterdir()) == [piece]


def test_no_permission(content, parts):
    parts.chmod(0o500)
    root = os.geteuid() == 0
    if root:  # root may write anywhere
        os.seteuid(65534)
    try:
        with pytest.raises(StoreUnwritable, match="you may not write there"):
            content.seal(parts, content.make_records())
    finally:
        if root:
            os.seteuid(0)
        parts.chmod(0o700)


def test_folder_gone(content, tmp_path):
    with pytest.raises(StoreUnwritable, match="the store's folder is gone"):
        content.seal(tmp_path / "nowhere", content.make_records())


LIMITED = """
import pathlib, resource, sys
import content
from extract.errors import StoreUnwritable
from extract.store.verify import verify_part

folder = pathlib.Path(sys.argv[1])
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
refused = 0
for limit in range(0, 20_000, 97):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        path = content.seal(folder, content.make_records())
    except StoreUnwritable as error:
        assert "ulimit -f" in str(error), error
        assert not list(folder.iterdir()), limit
        refused += 1
    else:
        assert verify_part(path) == [], limit
        path.unlink()
print(refused)
"""


def test_file_size_limit_at_every_point(content, tmp_path):
    """Also that the interpreter ends cleanly after a hundred failures inside HDF5."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert 100 < int(done.stdout) < 206


def test_an_error_of_the_content_leaves_nothing_behind(content, parts, monkeypatch):
    def broken(_):
        raise RuntimeError("not a matter of the disk")

    monkeypatch.setattr("extract.store.layout.row_digest", broken)
    with pytest.raises(RuntimeError, match="not a matter of the disk"):
        content.seal(parts, content.make_records())
    assert list(parts.iterdir()) == []


def test_durable_before_it_is_visible(content, parts, monkeypatch):
    """The file is synced before the rename that shows it, the folder after."""
    calls = []
    for name in ("pwrite", "ftruncate", "fsync", "rename"):
        call = getattr(os, name)

        def spy(first, *rest, name=name, call=call):
            folder = name == "fsync" and os.path.samestat(os.fstat(first), parts.stat())
            calls.append("fsync folder" if folder else name)
            return call(first, *rest)

        monkeypatch.setattr(os, name, spy)
    content.seal(parts, content.make_records())
    assert calls[-3:] == ["fsync", "rename", "fsync folder"]
    assert calls.count("pwrite") > 10
