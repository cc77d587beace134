"""Recording against the same model's plain forward pass: all names, patterns only, one layer's pattern.

    python -m benchmarks capture          or: python -m benchmarks.capture tiny small gpt2

Targets: all names at most 1.20 (tiny), 1.05 (small), 1.05 (gpt2, T=256), 1.10 (gpt2, T=1024); patterns only 1.08 and
one layer's pattern 1.05 (tiny); gpt2, T=1024: at most 1.3 GB held and nothing after the Trace is dropped. A recording
of patterns ends with the last of them, so the plain pass does more; logits alone show what recording costs by itself.
"""

import ctypes
import gc
import os
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.interleaved import PINNED, compare, conditions
from benchmarks.sizes import model_of, text_of
from gptviz.model import GPT
from gptviz.trace import record

CASES = [("tiny", 128, 101, 5), ("small", 256, 31, 1), ("gpt2", 256, 11, 1), ("gpt2", 1024, 5, 1)]


@torch.no_grad()
def plain(model: GPT, idx: torch.Tensor) -> torch.Tensor:
    """The logits of all positions, as a recording has them."""
    x = model.embedding(idx)
    for block in model.transformer.h:
        x = block(x)
    return model.unembed(x)


def speed(sizes: list[str]) -> None:
    conditions()
    for size, n_tokens, rounds, calls in CASES:
        if sizes and size not in sizes:
            continue
        model = model_of(size)
        idx = text_of(model, n_tokens)
        ids = idx[0]
        contestants = {
            "plain forward": lambda model=model, idx=idx: plain(model, idx),
            "all names": lambda model=model, ids=ids: record(model, ids),
            "patterns": lambda model=model, ids=ids: record(model, ids, names="pattern"),
            "one layer's pattern": lambda model=model, ids=ids: record(model, ids, names="pattern", layers=1),
            "the last layer's pattern": lambda model=model, ids=ids: record(model, ids, names="pattern", layers=-1),
            "logits": lambda model=model, ids=ids: record(model, ids, names="logits"),
        }
        compare(f"record, {size}, T={n_tokens}", contestants, rounds, calls)


def memory() -> None:
    """Anonymous memory around one recording, in a process that has done nothing else but two plain passes.

    Anonymous: without the pages of libraries that are read from their files when their code first runs (3 MB).
    """
    model = model_of("gpt2")
    idx = text_of(model, 1024)
    plain(model, idx)
    plain(model, idx)
    before = resident_mb()
    trace = record(model, idx[0])
    held, counted = resident_mb() - before, trace.nbytes / 1e6
    del trace
    kept = resident_mb() - before
    print(f"memory, gpt2, T=1024: held {held:.0f} MB (trace.nbytes {counted:.0f} MB), kept after drop {kept:.0f} MB")


def resident_mb() -> float:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    if "memory" in sys.argv:
        memory()
    else:
        speed(sys.argv[1:])
        default = {name: value for name, value in os.environ.items() if name not in PINNED}
        subprocess.run([sys.executable, "-m", "benchmarks.capture", "memory"], env=default, check=True)
