"""Pack, merge, split, convert, rm and view die before every step on the disk, at random moments, and on a full disk."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest

from extract.errors import StoreUnwritable, UnknownName
from extract.store import Store
from extract.store.operations.convert import convert
from extract.store.operations.pack import pack
from extract.store.operations.remove import remove
from extract.store.operations.split import by_shards, split
from extract.store.operations.union import merge_stores, plan_merge
from extract.store.operations.view import outdated, write_view
from extract.store.verify import verify


def do_rm(folder):
    try:
        remove(folder / "a", keys=["vggish"])
    except UnknownName:  # it was killed after the last part
        assert len(Store(folder / "a").keys()) == 1


WORK = {
    "pack": lambda folder: pack(folder / "a", 1200),
    "recompress": lambda folder: pack(folder / "a", 1200, "gzip:1"),
    "merge": lambda folder: merge_stores(plan_merge([folder / "a", folder / "b"]), folder / "out"),
    "split": lambda folder: split(Store(folder / "a"), by_shards(Store(folder / "a"), 2), folder / "out"),
    "convert": lambda folder: convert(folder / "a", folder / "out", "float16", "gzip:1"),
    "rm": do_rm,
    "view": lambda folder: write_view(folder / "a", folder / "view.h5"),
}
IN_PLACE = ("pack", "recompress", "rm")
STRIDE = {"merge": 3, "split": 5, "convert": 3}  # their steps are those of a merge, over and over


@pytest.fixture(scope="module")
def template(many, tmp_path_factory):
    folder = tmp_path_factory.mktemp("template")
    many.make(folder / "a", count=6, per_part=2, only=range(2), device="a")
    many.make(folder / "b", count=6, per_part=2, only=range(1, 3), device="b")
    (folder / "a" / "runs" / "20250101T000000Z-aaaa.jsonl").write_text("ledger\n")
    return folder


@pytest.fixture
def fresh(template):
    """Gives the template again and again under one path; in memory, where a sync costs nothing."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        work = Path(folder) / "work"

        def make():
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(template, work)
            return work

        yield make


def undisturbed(many, fresh, name):
    folder = fresh()
    WORK[name](folder)
    return many.tree(folder)


def check(many, name, folder, before):
    """What holds at any moment: every file is whole or absent, and nothing that stays is lost."""
    for store in [folder / "a"] if name in IN_PLACE else {path.parent for path in folder.glob("out/**/parts")}:
        assert {finding.level for finding in verify(store)} <= {"leftover"}, store
    rows, left = many.rows_of(Store(folder / "a")), before.items()
    if name == "rm":
        left = {item for item in left if item[0][1].startswith("resnet152")}
    assert rows.items() >= left
    if name not in IN_PLACE:
        assert rows == before
    if (folder / "view.h5").exists():
        assert outdated(folder / "view.h5") == ""


def fork(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def until(step, work):
    """Work, and die before the `step`-th thing that changes the disk; of the writes of data, every sixtieth counts."""
    left = [step * 60]

    def counted(call, weight):
        def die_or(*args, **named):
            left[0] -= weight
            if left[0] <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **named)

        return die_or

    os.pwrite = counted(os.pwrite, 1)
    for name in ("ftruncate", "fsync", "rename", "replace", "unlink", "mkdir", "write", "utime"):
        setattr(os, name, counted(getattr(os, name), 60))
    real = os.open
    os.open = lambda path, flags, *rest, **named: (counted(real, 60) if flags & os.O_CREAT else real)(
        path, flags, *rest, **named
    )
    work()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in WORK if name != "recompress"])
def test_dead_before_every_step(many, fresh, name):
    expected = undisturbed(many, fresh, name)
    before = many.rows_of(Store(fresh() / "a"))
    kills = 0
    for step in range(1, 400, STRIDE.get(name, 1)):
        folder = fresh()
        pid = fork(lambda folder=folder, step=step: until(step, lambda: WORK[name](folder)))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in (0, -signal.SIGKILL)
        check(many, name, folder, before)
        if code == 0:
            break
        kills += 1
        WORK[name](folder)
        assert many.tree(folder) == expected, f"other bytes after a death before step {step}"
    assert code == 0
    assert kills > 5


@pytest.mark.slow
@pytest.mark.parametrize("name", WORK)
def test_killed_at_random_moments_again_and_again(many, fresh, name):
    folder = fresh()
    started = time.monotonic()
    WORK[name](folder)
    lasts = time.monotonic() - started
    expected, before = many.tree(folder), many.rows_of(Store(fresh() / "a"))
    chance = random.Random(name)
    hits = 0
    folder = fresh()
    for _ in range(6):
        pid = fork(lambda folder=folder: WORK[name](folder))
        time.sleep(chance.uniform(0, lasts))
        os.kill(pid, signal.SIGKILL)
        hits += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        check(many, name, folder, before)
    WORK[name](folder)
    assert many.tree(folder) == expected
    assert hits


@pytest.fixture
def disk(small_disk):
    return small_disk("640k")


@pytest.mark.parametrize("name", WORK)
def test_a_full_disk_stops_it_and_it_goes_on_after(many, template, disk, name):
    work = disk / "work"

    def again():
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(template, work)

    again()
    WORK[name](work)
    expected, told = many.tree(work), []
    again()
    before = many.rows_of(Store(work / "a"))
    for leave in range(4096, 400_000, 24576):
        again()
        free = os.statvfs(disk)
        (disk / "filler").write_bytes(b"x" * (free.f_bavail * free.f_frsize - leave))
        try:
            WORK[name](work)
        except StoreUnwritable as error:
            told.append(str(error))
            done = False
        else:
            done = True
        (disk / "filler").unlink()
        check(many, name, work, before)
        WORK[name](work)
        assert many.tree(work) == expected
        if done:
            break
    assert done
    assert told
    assert all(re.search(r"\([\d,]+ bytes needed, [\d,]+ free\): .*the disk is full", each) for each in told), told
