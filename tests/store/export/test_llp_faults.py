"""The layout of LLP, interrupted: kills and a full disk."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time

import pytest

from extract.errors import StoreUnwritable
from extract.store import Store
from extract.store.export import export


@pytest.fixture
def store(llp, tmp_path):
    return llp.make(tmp_path / "store", [llp.rows(c, i) for c in llp.IDS for i in llp.INFOS.values()], clips=llp.CLIPS)


@pytest.fixture
def holey(llp, tmp_path):
    return llp.holey(tmp_path / "holey")


def fork(work):
    """Run `work` in a child that never returns."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def check_whole(llp, out, expected):
    for name, content in llp.tree(out).items():
        if not (name.endswith(".tmp") or name in ("export.json", ".extract-lock")):
            assert content == expected[name], name


def test_killed_at_any_moment(llp, holey, tmp_path):
    annotated = {"annotations": llp.annotations(tmp_path / "official"), "missing": "zero"}
    export(holey, "llp", tmp_path / "whole", **annotated)
    expected = llp.tree(tmp_path / "whole")
    rng, parts = random.Random(0), set()
    for number in range(12):
        out = tmp_path / f"o{number}"
        for _ in range(3):
            pid = fork(lambda out=out: export(Store(holey.path), "llp", out, **annotated))
            wait_for(out, rng.randrange(len(expected)))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            check_whole(llp, out, expected)
            parts.add(len(llp.tree(out)))
        export(Store(holey.path), "llp", out, **annotated)
        assert llp.tree(out) == expected
        shutil.rmtree(out)
    assert len(parts) > 3, "the kills all hit the same moment"


def wait_for(out, files):
    """Until so many are there, half-written ones and folders too: fewer than the whole export has, so that time comes."""
    until = time.monotonic() + 60
    while sum(1 for _ in out.rglob("*")) < files:
        assert time.monotonic() < until


def test_dead_before_every_step(llp, store, tmp_path):
    """Exhaustive: the n-th system call that the export makes for its files never happens, for every n."""
    asked = {"ids": llp.IDS[:2]}
    export(store, "llp", tmp_path / "whole", **asked)
    expected = llp.tree(tmp_path / "whole")
    for step in range(1, 200):
        out = tmp_path / f"o{step}"
        pid = fork(lambda out=out, step=step: _export_until(step, store.path, out, asked))
        finished = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        check_whole(llp, out, expected)
        export(Store(store.path), "llp", out, **asked)
        assert llp.tree(out) == expected
        shutil.rmtree(out)
        if finished:
            break
    assert 18 < step < 199


def _export_until(step, path, out, asked):
    left = step

    def counted(call):
        def die_or(*args, **kwargs):
            nonlocal left
            left -= 1
            if not left:
                os._exit(9)
            return call(*args, **kwargs)

        return die_or

    for name in ("writev", "rename", "sync"):
        setattr(os, name, counted(getattr(os, name)))
    export(Store(path), "llp", out, **asked)


@pytest.fixture
def disk(small_disk):
    return small_disk("1500k")


def test_a_full_disk_says_what_it_takes_and_is_gone_on_from(llp, store, disk, tmp_path):
    export(store, "llp", tmp_path / "whole")
    expected = llp.tree(tmp_path / "whole")
    out = disk / "o"
    with pytest.raises(StoreUnwritable, match="the disk is full") as error:
        export(store, "llp", out)
    needed, free = (
        int(n.replace(",", "")) for n in re.search(r"\(([\d,]+) bytes needed, ([\d,]+) free", str(error.value)).groups()
    )
    there = sum(path.stat().st_size for path in (out / "feats").rglob("*.npy"))
    assert needed + there == sum(len(content) for name, content in expected.items() if name.startswith("feats"))
    assert free < needed
    check_whole(llp, out, expected)
    assert not list(out.rglob("*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
    done = export(store, "llp", out)
    assert llp.tree(out) == expected
    assert done.kept > 0
