"""How fast the commands that compute nothing answer: python benchmarks/start.py"""

from __future__ import annotations

import subprocess
import sys
import time


def main() -> None:
    for words in (["--help"], ["run", "--help"], ["recipes"], ["backbones", "list"], ["--version"]):
        walls = []
        for _ in range(10):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-m", "extract", *words], capture_output=True, check=True)
            walls.append(time.perf_counter() - started)
        print(f"extract {' '.join(words):16} {min(walls) * 1e3:5.0f} ms (best of 10)")


if __name__ == "__main__":
    main()
