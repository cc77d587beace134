"""What it costs in Python to show attention: 144 heads to bytes, and to the view that a board sends.

    python -m benchmarks.packing --tokens 64 128 512

Printed: CPU milliseconds of one thread (the least and the median of --rounds), and the bytes that travel at first.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy

import numpy as np

N_LAYER = N_HEAD = 12


def attention(n_tokens: int) -> list[np.ndarray]:
    """Random causal attention, one [head, query, key] per layer."""
    rng = np.random.default_rng(n_tokens)
    future = np.triu(np.full((n_tokens, n_tokens), -np.inf, np.float32), 1)
    layers = []
    for _ in range(N_LAYER):
        scores = 2 * rng.standard_normal((N_HEAD, n_tokens, n_tokens), dtype=np.float32) + future
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        layers.append(weights / weights.sum(-1, keepdims=True))
    return layers


def cpu_times(call: Callable[[], object], rounds: int) -> list[float]:
    """Milliseconds of CPU of each of some calls, after one that is not counted."""
    call()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        times.append(1000 * (time.process_time() - start))
    return times


def main() -> None:
    from gptviz.packing import pack_pattern
    from gptviz.views import attention_view

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 128, 256, 512, 1024])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    for n_tokens in options.tokens:
        layers, tokens = attention(n_tokens), ["a"] * n_tokens
        view = cpu_times(lambda: attention_view(layers, tokens), options.rounds)  # noqa: B023 (called at once)
        pack = cpu_times(lambda: [pack_pattern(one) for one in layers], options.rounds)  # noqa: B023
        sent = attention_view(layers, tokens).nbytes
        print(f"{n_tokens:5} tokens  view {min(view):7.1f} / {statistics.median(view):7.1f} ms   "
              f"all to bytes {min(pack):7.1f} / {statistics.median(pack):7.1f} ms   {sent / 1e6:.2f} MB sent at first")


if __name__ == "__main__":
    main()
