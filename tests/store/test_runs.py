"""The lock and the ledger."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from extract.chunk import Receipt
from extract.errors import StoreBusy, StoreError, StoreUnwritable
from extract.store.rows import Remark
from extract.store.runs import Ledger, Lock, holder, last_run, read_run

HOLD = r"""
import os, sys, time
from pathlib import Path
from extract.store.runs import Lock
with Lock(Path(sys.argv[1])):
    if sys.argv[2] == "fork" and os.fork() == 0:
        os.write(1, f"worker {os.getpid()}\n".encode())  # whole lines: both write to one pipe
        time.sleep(60)
        os._exit(0)
    os.write(1, b"held\n")
    time.sleep(60)
"""


@pytest.fixture
def hold(store_path):
    """Start a process that holds the store; gives it and the lines it wrote."""
    started = []

    def start(mode="plain"):
        process = subprocess.Popen([sys.executable, "-c", HOLD, store_path, mode], stdout=subprocess.PIPE, text=True)
        lines = [process.stdout.readline().split() for _ in range(2 if mode == "fork" else 1)]
        started.extend([process.pid, *(int(line[1]) for line in lines if line[0] == "worker")])
        return process, lines

    yield start
    for pid in started:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def test_held_alone(store_path):
    with Lock(store_path):
        assert holder(store_path)["pid"] == os.getpid()
        with pytest.raises(StoreBusy), Lock(store_path):
            pass
        assert holder(store_path)["pid"] == os.getpid()
    assert holder(store_path) is None
    with Lock(store_path):
        pass


def test_a_second_run_is_told_who_where_and_since_when(store_path, hold):
    process, _ = hold()
    with pytest.raises(StoreBusy) as error, Lock(store_path):
        pass
    message = str(error.value)
    assert f"process {process.pid} on {socket.gethostname()} since 20" in message
    assert f"kill {process.pid}" in message


def test_the_kernel_lets_go_of_a_killed_holder(store_path, hold):
    process, _ = hold()
    process.kill()
    process.wait()
    assert holder(store_path) is None
    with Lock(store_path):
        assert json.loads((store_path / "lock").read_text())["pid"] == os.getpid()


def test_workers_of_a_killed_run_do_not_hold_the_store(store_path, hold):
    process, lines = hold("fork")
    (worker,) = (int(line[1]) for line in lines if line[0] == "worker")
    assert holder(store_path)["pid"] == process.pid
    process.kill()
    process.wait()
    os.kill(worker, 0)  # it lives
    with Lock(store_path):
        pass


def test_a_worker_that_leaves_the_block_does_not_release(store_path):
    with Lock(store_path) as lock:
        pid = os.fork()
        if pid == 0:
            lock.__exit__(None, None, None)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert holder(store_path)["pid"] == os.getpid()


def test_an_error_inside_releases(store_path):
    with pytest.raises(RuntimeError, match="x"), Lock(store_path):
        raise RuntimeError("x")
    assert holder(store_path) is None


def test_a_holder_without_a_name_yet(store_path):
    with Lock(store_path):
        (store_path / "lock").write_text('{"pid": ')
        assert holder(store_path) == {}
        with pytest.raises(StoreBusy, match="has just taken"), Lock(store_path):
            pass


def test_no_folder_to_lock(tmp_path):
    assert holder(tmp_path / "nowhere") is None
    with pytest.raises(StoreUnwritable, match="folder is gone"), Lock(tmp_path / "nowhere"):
        pass


# ---- ledger ----------------------------------------------------------------------------------------------------------

REMARK = Remark("beta", "vggish@0", "audio", "no_audio", "kein Ton: ü")
RECEIPT = Receipt("c" * 16, "piece.h5", ("alpha", "beta"), masked=(REMARK,), size_bytes=7, seconds={"decode": 0.5})


def test_a_whole_run(store_path):
    ledger = Ledger.start(store_path, {"command": ["extract", "run"], "recipe": "llp"})
    ledger.receipt(RECEIPT)
    ledger.note({"lost": "c" * 16})
    ledger.receipt(RECEIPT)
    ledger.finish({"ok": 2})
    run = read_run(last_run(store_path))
    assert run.header["recipe"] == "llp"
    assert run.header["started"].endswith("Z")
    assert len(run.receipts) == 2
    assert run.receipts[0]["masked"][0]["message"] == REMARK.message
    assert run.receipts[0]["clip_ids"] == ["alpha", "beta"]
    assert run.summary["ok"] == 2
    assert not run.torn
    lines = [json.loads(line) for line in ledger.path.read_text().splitlines()]
    assert [line["line"] for line in lines] == ["header", "receipt", "note", "receipt", "summary"]


def test_a_killed_run_is_read_up_to_every_byte(store_path):
    ledger = Ledger.start(store_path, {"recipe": "llp"})
    header = ledger.path.stat().st_size
    ledger.receipt(RECEIPT)
    ledger.close()
    raw = ledger.path.read_bytes()
    for size in range(header, len(raw)):
        ledger.path.write_bytes(raw[:size])
        run = read_run(ledger.path)
        assert (run.receipts, run.summary, run.torn) == ((), None, size > header)
    ledger.path.write_bytes(raw)
    assert len(read_run(ledger.path).receipts) == 1


def test_lines_are_there_when_the_call_returns(store_path):
    ledger = Ledger.start(store_path, {})
    ledger.receipt(RECEIPT)
    assert len(read_run(ledger.path).receipts) == 1  # another reader, the ledger still open
    ledger.close()


def test_a_broken_line_in_the_middle_is_named(store_path):
    ledger = Ledger.start(store_path, {})
    ledger.finish({})
    ledger.path.write_bytes(ledger.path.read_bytes().replace(b'{"line": "summary"', b"{oops"))
    with pytest.raises(StoreError, match=r"jsonl:2 is no ledger line"):
        read_run(ledger.path)


def test_a_ledger_without_a_header(store_path):
    path = store_path / "runs" / "20260101T000000Z-0000.jsonl"
    path.write_bytes(b'{"line": "hea')
    with pytest.raises(StoreError, match="no header"):
        read_run(path)


def test_the_last_run_also_of_one_second(store_path):
    assert last_run(store_path) is None
    paths = []
    for _ in range(6):
        ledger = Ledger.start(store_path, {})
        ledger.close()
        paths.append(ledger.path)
        time.sleep(0.01)
    assert last_run(store_path) == paths[-1]
    assert len(set(paths)) == 6


def test_a_ledger_that_cannot_be_written(tmp_path):
    (tmp_path / "runs").write_text("a file in its place")
    with pytest.raises(StoreUnwritable):
        Ledger.start(tmp_path, {})
