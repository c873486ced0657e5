"""What can happen to a run from outside: Ctrl-C, a crash in native code, another run, a disk that is full."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from extract.store.catalog import Store
from extract.store.verify import verify

# ---- Ctrl-C ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_ctrl_c_seals_what_is_done(way: ModuleType, media: Path, tmp_path: Path, number: signal.Signals) -> None:
    listed = way.manifest(tmp_path / "m.csv", media, times=2)
    args = way.run_args(listed, tmp_path / "s", "--chunk", 6, "--seal-seconds", 0.1, backbones=("tiny_slow",))
    process = way.start(*args, mark=str(tmp_path))
    way.lines_until(process, "sealed")
    way.interrupt(process, number)
    stdout, stderr = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "stopping: sealing what is done (again to leave at once)" in stderr
    assert "the same command resumes" in stdout
    assert not way.alive(str(tmp_path))
    summary = way.events(stderr)[-1]
    assert summary["interrupted"]
    assert 0 < summary["complete"] < 12
    assert summary["left"] == 12 - summary["complete"]
    assert verify(tmp_path / "s") == [] or {f.level for f in verify(tmp_path / "s")} == {"leftover"}
    assert way.ledgers(tmp_path / "s")[0][-1]["line"] == "summary"

    sealed = {clip for ids in way.receipts(tmp_path / "s") for clip in ids}
    assert len(sealed) == summary["complete"]
    assert way.cli(*args).returncode == 0
    again = {clip for ids in way.receipts(tmp_path / "s") for clip in ids}
    assert sealed.isdisjoint(again)
    assert len(sealed | again) == 12


def test_a_second_ctrl_c_leaves_at_once(way: ModuleType, media: Path, tmp_path: Path) -> None:
    listed = way.manifest(tmp_path / "m.csv", media, ["c00", "harm"])
    args = way.run_args(listed, tmp_path / "s", "--seal-seconds", 0.1, "--chunk", 1, backbones=("tiny_stuck",))
    process = way.start(*args, mark=str(tmp_path))
    way.lines_until(process, "sealed")
    time.sleep(0.5)  # by now the network is stuck on the second clip for ten minutes
    way.interrupt(process)
    time.sleep(0.5)
    assert process.poll() is None, "the first one waits for the lane"
    way.interrupt(process)
    began = time.monotonic()
    _, stderr = process.communicate(timeout=30)
    assert time.monotonic() - began < 2.0
    assert process.returncode == 130
    assert "left at once: what was sealed is kept" in stderr
    assert not way.alive(str(tmp_path))
    assert Store(tmp_path / "s").clips("tiny_stuck") == ("c00",)


# ---- native code that dies -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_clip_that_kills_its_worker_costs_only_itself(way: ModuleType, media: Path, tmp_path: Path) -> None:
    names = ["c00", "harm", "c01"]
    listed = way.manifest(tmp_path / "m.csv", media, names)
    both = ("tiny_frames", "tiny_segv")
    done = way.cli(*way.run_args(listed, tmp_path / "s", backbones=both), timeout_s=180)
    assert done.returncode == 1, done.stderr
    assert "2 complete, 0 masked, 1 failed" in done.stdout
    assert "worker(s) died" in done.stdout
    assert "failed  crash: 1" in done.stdout
    # every line that begins like JSON is JSON and adds up: nothing of a lane's own output is mixed in
    lines = way.events(done.stderr)
    assert {line["event"] for line in lines} == {"start", "sealed", "lost", "summary"}
    assert sum(line["clips"] for line in lines if line["event"] == "sealed") == lines[-1]["computed"] == 3
    assert lines[-1]["deaths"] == sum(line["event"] == "lost" for line in lines)
    assert "Fatal Python error" not in done.stderr
    store = Store(tmp_path / "s")
    assert {(remark.clip_id, remark.reason) for remark in store.failed()} == {("harm", "crash")}
    assert len(store.failed()) == 2, "the process died, so neither feature is known"
    assert all("SIGSEGV" in remark.message for remark in store.failed())
    assert verify(tmp_path / "s") == []

    without = way.manifest(tmp_path / "without.csv", media, [name for name in names if name != "harm"])
    assert way.cli(*way.run_args(without, tmp_path / "whole", backbones=both)).returncode == 0
    whole = Store(tmp_path / "whole")
    for name in both:
        for clip in whole.clips(name):
            ours, theirs = store.rows(clip, store.resolve(name)), whole.rows(clip, whole.resolve(name))
            for field in ("data", "window_ns", "valid", "source_ns"):
                assert getattr(ours, field).tobytes() == getattr(theirs, field).tobytes(), (clip, name, field)

    # once the clip is good, a retry leaves no trace of the crash
    good = tmp_path / "good"
    good.mkdir()
    for name in names:
        (good / f"{name}.mp4").symlink_to(media / f"{'c04' if name == 'harm' else name}.mp4")
    args = way.run_args(way.manifest(tmp_path / "good.csv", good, names), tmp_path / "fresh", backbones=both)
    assert way.cli(*args).returncode == 0
    listed.write_bytes((tmp_path / "good.csv").read_bytes())
    assert way.cli("retry", tmp_path / "s", "--reason", "crash").returncode == 0
    assert way.parts(tmp_path / "s") == way.parts(tmp_path / "fresh")


# ---- two runs --------------------------------------------------------------------------------------------------------


def test_a_second_run_is_refused(way: ModuleType, media: Path, tmp_path: Path) -> None:
    listed = way.manifest(tmp_path / "m.csv", media, ["c00", "harm"])
    args = way.run_args(listed, tmp_path / "s", "--chunk", 1, "--seal-seconds", 0.1, backbones=("tiny_stuck",))
    process = way.start(*args, mark=str(tmp_path))
    way.lines_until(process, "sealed")
    second = way.cli(*args)
    assert second.returncode == 2
    assert f"is held by process {process.pid} on {socket.gethostname()} since " in second.stderr
    retried = way.cli("retry", tmp_path / "s")
    assert retried.returncode == 0, "there is nothing to retry, which needs no lock"
    status = way.cli("status", tmp_path / "s")
    assert f"a run holds it: process {process.pid} on {socket.gethostname()}" in status.stdout
    assert "1 of 2 clips" in status.stdout
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    assert "holds it" not in way.cli("status", tmp_path / "s").stdout


# ---- disks -----------------------------------------------------------------------------------------------------------


def test_a_store_that_cannot_be_made(way: ModuleType, media: Path, tmp_path: Path) -> None:
    listed = way.manifest(tmp_path / "m.csv", media)
    (tmp_path / "file").touch()
    done = way.cli(*way.run_args(listed, tmp_path / "file" / "s"))
    assert done.returncode == 2
    assert f"cannot write {tmp_path / 'file' / 's'}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_disk_that_is_full(way: ModuleType, media: Path, tmp_path: Path, small_disk: Callable[[str], Path]) -> None:
    listed = way.manifest(tmp_path / "m.csv", media, times=2)
    disk = small_disk("256k")
    store = disk / "s"
    more = ("--chunk", 2, "--seal-seconds", 0.1)
    assert way.cli(*way.run_args(listed, tmp_path / "whole", *more)).returncode == 0

    ballast = disk / "ballast"
    ballast.write_bytes(bytes(160 * 1024))
    full = way.cli(*way.run_args(listed, store, *more))
    assert full.returncode == 2, full.stderr
    assert "the disk is full; free some space, then give the same command again" in full.stderr
    assert "Traceback" not in full.stderr
    kept = Store(store).have()
    assert 0 < len(kept) < 12, "what was sealed stays"
    assert not [name for name in os.listdir(store / "parts") if name.endswith(".tmp")]

    still = way.cli(*way.run_args(listed, store, *more))
    assert still.returncode == 2, "and the message comes again while the disk is full"
    ballast.unlink()
    rest = way.cli(*way.run_args(listed, store, *more))
    assert rest.returncode == 0, rest.stderr
    assert way.parts(store) == way.parts(tmp_path / "whole")
    assert set(kept).isdisjoint(clip for ids in way.receipts(store) for clip in ids)

    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    done = way.cli(*way.run_args(listed, disk / "new", *more))
    assert done.returncode == 2
    assert "mount it writable or choose another --out" in done.stderr
