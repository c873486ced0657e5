"""The allocator keeps what was freed: writing it again costs no page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from extract.lane.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(60):  # at first the allocator cuts new blocks beside those that were freed
    torch.ones(12 * 2**20)
before = faults()
for _ in range(10):
    torch.ones(12 * 2**20)
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="concerns glibc")
def test_memory_that_was_freed_is_written_again_without_page_faults():
    faults = {}
    for how in ("keep", "leave"):
        done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
        faults[how] = int(done.stdout)
    assert faults["keep"] < 1000
    assert faults["leave"] > 10 * max(faults["keep"], 1), "else there is no need to tell the allocator anything"
