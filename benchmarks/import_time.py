"""Seconds until a module is there, in a fresh interpreter, the bare interpreter subtracted; best and median of several.

    python -m benchmarks import_time

Target: `import gptviz` below 0.1 s.
"""

import statistics
import subprocess
import sys
import time

STATEMENTS = ("import gptviz", "import torch", "import gptviz.model", "import gptviz.trace", "import gptviz.generation")


def seconds(statement: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - started


def main(rounds: int = 9) -> None:
    seconds(STATEMENTS[-1])  # warm up: bytecode and the disk's cache
    times = {statement: [] for statement in ("pass", *STATEMENTS)}
    for _ in range(rounds):
        for statement in times:
            times[statement].append(seconds(statement))
    bare_best, bare_median = min(times["pass"]), statistics.median(times["pass"])
    for statement in STATEMENTS:
        best, median = min(times[statement]) - bare_best, statistics.median(times[statement]) - bare_median
        print(f"  {statement:28} best {best:6.3f} s   median {median:6.3f} s")


if __name__ == "__main__":
    main()
