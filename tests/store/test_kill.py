"""SIGKILL at random times and a death at every single system call of a merge."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

from extract.store.catalog import Store
from extract.store.merge import list_parts
from extract.store.part import merge_chunk, sweep_tmp
from extract.store.verify import verify


def fork(work):
    """Run `work` in a child that never returns."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def resume(content, parts):
    """What a run does with what a killed one left: sweep, compute what is missing, merge."""
    sweep_tmp(parts)
    store = Store(parts.parent)
    have, failed = store.have(), {(each.clip_id, each.key) for each in store.failed()}
    done = {(clip, key) for clip, keys in have.items() for key in keys} | failed
    missing = [(kind, item) for kind, item in content.make_records() if (item.clip_id, item.key) not in done]
    if missing:
        content.seal(parts, missing)
    return merge_chunk(parts, content.CHUNK, content.ORDER)


def test_killed_while_sealing_and_merging(content, parts, tmp_path):
    expected = content.undisturbed(tmp_path / "expected")
    rng = random.Random(0)
    files, halves = set(), 0
    for seed in range(40):
        pid = fork(lambda seed=seed: _seal_and_merge(content, parts, random.Random(seed)))
        time.sleep(rng.uniform(0, 0.08))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        files.add(len(list_parts(parts)))
        halves += len(list(parts.glob(".*.tmp")))
        assert {finding.level for finding in verify(parts.parent)} <= {"leftover"}
        whole = resume(content, parts)
        assert whole.read_bytes() == expected
        assert [path.name for path in parts.iterdir()] == [whole.name]
        whole.unlink()
    assert len(files) > 2, "the kills all hit the same moment"
    assert halves > 2, "no kill hit a write"


def _seal_and_merge(content, parts, rng):
    records = content.make_records()
    names = sorted({(item.clip_id, item.key) for _, item in records})
    rng.shuffle(names)
    while names:
        # A lane seals a clip's masked remark together with its rows.
        now, names[:3] = set(names[:3]), []
        content.seal(parts, [record for record in records if (record[1].clip_id, record[1].key) in now])
    while True:
        merge_chunk(parts, content.CHUNK, content.ORDER)
        content.seal(parts, records[:5])


def test_dead_at_every_step_of_a_merge(content, tmp_path):
    """Exhaustive: the n-th system call of the merge never happens, for every n; of the writes, every tenth."""
    expected = content.undisturbed(tmp_path / "expected")
    records = content.make_records()
    pieces = tmp_path / "pieces"
    (pieces / "parts").mkdir(parents=True)
    for start in range(0, len(records), 9):
        content.seal(pieces / "parts", records[start : start + 9])
    digest = Store(pieces).digest()
    whole_at_death = set()
    for step in range(1, 100):
        parts = tmp_path / f"store{step}" / "parts"
        shutil.copytree(pieces / "parts", parts)
        pid = fork(lambda parts=parts, step=step: _merge_until(step, content, parts))
        finished = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        whole_at_death.add((parts / f"{content.CHUNK}.h5").exists())
        assert {finding.level for finding in verify(parts.parent)} <= {"leftover"}
        assert Store(parts.parent).digest() == digest
        sweep_tmp(parts)
        whole = merge_chunk(parts, content.CHUNK, content.ORDER)
        assert whole.read_bytes() == expected
        assert [path.name for path in parts.iterdir()] == [whole.name]
        if finished:
            break
    assert 12 < step < 99
    assert whole_at_death == {True, False}


def _merge_until(step, content, parts):
    left = [10 * step]

    def counted(call, weight):
        def die_or(*args, **kwargs):
            left[0] -= weight
            if left[0] <= 0:
                os._exit(9)
            return call(*args, **kwargs)

        return die_or

    os.pwrite = counted(os.pwrite, 1)
    for name in ("ftruncate", "fsync", "rename"):
        setattr(os, name, counted(getattr(os, name), 10))
    Path.unlink = counted(Path.unlink, 10)
    merge_chunk(parts, content.CHUNK, content.ORDER)
