"""Every benchmark, each in a process of its own, with one thread and an allocator that keeps its memory.

    python -m benchmarks [forward capture generation patching import_time]
"""

import os
import subprocess
import sys

from benchmarks.interleaved import PINNED

ALL = ("import_time", "forward", "capture", "generation", "patching")

for name in sys.argv[1:] or ALL:
    print(f"\n=== {name}", flush=True)
    environment = {**os.environ, **PINNED, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], env=environment, check=True)
