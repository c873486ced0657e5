"""Peak memory of a lane, beyond what it needs with its models loaded.

python benchmarks/memory.py CLIP [--recipe per-second]

Reads the resident memory of the lane's process from /proc ten times a second; Linux only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from extract import running
from extract.engine.base import Event, Ready
from extract.job import Choices, make_job
from manifests.clip import Clip, write_manifest


def resident_mb(pid: int, field: str) -> float:
    """A figure of /proc/PID/status in MB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split(f"{field}:")[1].split()[0]) / 1024


def lane_pid() -> int | None:
    """The newest child of this process: its only lane."""
    found = subprocess.run(["pgrep", "-n", "-P", str(os.getpid())], capture_output=True, text=True, check=False)
    return int(found.stdout) if found.stdout.strip() else None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("clip", type=Path)
    parser.add_argument("--recipe", default="per-second")
    options = parser.parse_args()
    seen: dict[str, float] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            pid = lane_pid()
            if pid is not None and "loaded" in seen:
                try:
                    seen["peak"] = max(seen.get("peak", 0.0), resident_mb(pid, "VmHWM"))
                except (OSError, IndexError):
                    return
            time.sleep(0.1)

    def note(event: Event) -> None:
        if isinstance(event, Ready):
            pid = lane_pid()
            assert pid is not None
            seen["loaded"] = resident_mb(pid, "VmRSS")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_manifest(folder / "one.csv", [Clip("one", str(options.clip.absolute()))])
        job = make_job(folder / "one.csv", Choices(recipe=options.recipe, weights="random:0"), folder / "store")
        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        summary = running.run(job, running.Machine(), on_event=note)
        over.set()
        thread.join()
    print(f"{options.clip.name}, recipe {options.recipe}: {summary.complete + summary.masked} of 1 done")
    print(
        f"with the models loaded {seen['loaded']:.0f} MB, peak {seen['peak']:.0f} MB: {seen['peak'] - seen['loaded']:.0f} MB more"
    )
    print("stages " + ", ".join(f"{stage} {s:.1f}" for stage, s in summary.seconds.items()))


if __name__ == "__main__":
    main()
