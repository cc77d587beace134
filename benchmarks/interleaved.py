"""Side-by-side timing on a machine that may be busy.

The contestants take turns, round after round, each round beginning with another one; a ratio compares times of the
same round, so that a slow minute slows both. What is reported is the median of the ratios and its quartiles. Time is
processor time, user and system: on one thread it equals the time on the clock, less what other processes take.
"""

import gc
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable

import torch

PINNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
"""Makes glibc keep freed memory: page faults of large tensors would cost as much as what is measured."""


def compare(title: str, contestants: dict[str, Callable[[], object]], rounds: int, calls: int = 1) -> None:
    """Time every contestant against the first and print a table.

    Args:
        title: Heading of the table.
        contestants: What to call, by name.
        rounds: How often all of them take their turn.
        calls: Calls per turn; more where one call is too short for the clock.
    """
    names = list(contestants)
    for run in contestants.values():  # warm up: caches, allocator, kernels that are built when first used
        run()
    turns = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            turns[name].append(_timed(contestants[name], calls))
    print(f"\n{title}  ({rounds} rounds of {calls})")
    for name in names:
        ratios = [own[0] / other[0] for own, other in zip(turns[name], turns[names[0]], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        milliseconds = 1000 * statistics.median(seconds for seconds, _ in turns[name])
        faults = statistics.median(n_faults for _, n_faults in turns[name])
        print(f"  {name:34}{middle:7.3f}  ({low:.3f}-{high:.3f}){milliseconds:11.3f} ms{faults:9.0f} page faults")


def _timed(run: Callable[[], object], calls: int) -> tuple[float, float]:
    """Processor seconds and page faults per call."""
    gc.collect()
    gc.disable()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    started = time.process_time()
    for _ in range(calls):
        run()
    seconds = time.process_time() - started
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    gc.enable()
    return seconds / calls, faults / calls


def conditions() -> None:
    """Print what the figures depend on; one thread unless OMP_NUM_THREADS says otherwise.

    The allocator reads its settings when a process starts: without `PINNED` the program begins anew, with it. What the
    environment already says stays (`MALLOC_TRIM_THRESHOLD_=131072 MALLOC_MMAP_MAX_=65536`: glibc as it comes).
    """
    if not PINNED.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], PINNED | os.environ)  # noqa: S606 (itself)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    kept = all(os.environ[name] == value for name, value in PINNED.items())
    allocator = "glibc that keeps freed memory" if kept else "glibc with other settings"
    load = os.getloadavg()[0]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {allocator}, load average {load:.1f}")
