"""How many CPU threads to train with: measured at the start, and given up when a neighbour needs the cores.

Torch uses every core by default, and its threads wait for each other by spinning. On a tiny model that costs more
than it gains as soon as one core is busy with something else: a forward pass of 3 ms on one thread was measured to
take 92 ms on two threads beside a busy browser.
"""

import contextlib
import copy
import os
import time
from collections import deque
from statistics import median

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from gptviz.corpora import DataSource
from gptviz.model import GPT
from gptviz.training.config import TrainConfig
from gptviz.training.randomness import OwnRandom

WORTH_IT = 1.3  # many threads must be this much faster than one
ROUNDS = 4
LONGEST_TRIAL = 1.5  # seconds
WATCHED_STEPS = 8
COLLAPSED = 2.0  # times the measured duration


class Threads:
    """The number of threads of one run.

    Args:
        wanted: A number, or "auto".

    Attributes:
        count: Threads in use.
        reason: Why, as a phrase.
    """

    def __init__(self, wanted: int | str) -> None:
        self._automatic = wanted == "auto"
        self._quiet = float("inf")  # seconds of a step with `count` threads on a quiet machine
        self._recent: deque[float] = deque(maxlen=WATCHED_STEPS)
        self.count = torch.get_num_threads() if isinstance(wanted, str) else wanted
        self.reason = "measured" if self._automatic else "as asked"

    def choose(self, model: GPT, x: Int[Tensor, "batch pos"], y: Int[Tensor, "batch pos"]) -> None:
        """Sets the number of threads; with "auto" after timing a few steps of a copy of the model.

        Model, gradients and random state are as before.
        """
        if self._automatic and x.device.type != "cpu":
            self.reason = "the device does the work"
        elif self._automatic:
            self._measure(model, x, y)
        torch.set_num_threads(self.count)

    def observe(self, seconds: float) -> bool:
        """Takes the duration of a step; True if that made us fall back to one thread."""
        if not self._automatic or self.count == 1:
            return False
        self._recent.append(seconds)
        if len(self._recent) < WATCHED_STEPS or median(self._recent) < COLLAPSED * self._quiet:
            return False
        self.count, self.reason = 1, "another process needs the cores"
        torch.set_num_threads(1)
        return True

    def _measure(self, model: GPT, x: Int[Tensor, "batch pos"], y: Int[Tensor, "batch pos"]) -> None:
        cores = _cores()
        if cores == 1:
            self.count, self.reason = 1, "one core"
            return
        timings: dict[int, list[float]] = {1: [], cores: []}
        trial, start = copy.deepcopy(model), time.perf_counter()
        with OwnRandom(torch.get_rng_state()) if model.config.dropout else contextlib.nullcontext():
            for round_number in range(1 + ROUNDS):  # the first warms up
                for count, seconds in timings.items():
                    torch.set_num_threads(count)
                    seconds.append(_one_step(trial, x, y))
                if round_number and time.perf_counter() - start > LONGEST_TRIAL:
                    break
        one, many = (median(seconds[1:]) for seconds in timings.values())
        worst = max(timings[cores][1:])  # spinning shows in the worst step before it shows in the median
        self.count = cores if one / many > WORTH_IT and worst < one else 1
        self._quiet = many
        self.reason = f"a step took {1e3 * one:.0f} ms on 1 thread, {1e3 * many:.0f} ms on {cores}"


def seconds_per_step(model: GPT, source: DataSource, config: TrainConfig, rounds: int = 3) -> float:
    """Seconds of a training step, about: the fastest of a few with the threads in force; the model is as before."""
    x, y = source.batch("train", config.batch_size, model.config.block_size, np.random.default_rng(0))
    trial = copy.deepcopy(model)
    with OwnRandom(torch.get_rng_state()) if model.config.dropout else contextlib.nullcontext():
        return min(_one_step(trial, torch.from_numpy(x), torch.from_numpy(y)) for _ in range(rounds))


def _one_step(model: GPT, x: Int[Tensor, "batch pos"], y: Int[Tensor, "batch pos"]) -> float:
    start = time.perf_counter()
    _, loss = model(x, y)
    loss.backward()
    model.zero_grad(set_to_none=True)
    return time.perf_counter() - start


def _cores() -> int:
    """Cores that this process may use, but no more than torch would take by itself (OMP_NUM_THREADS)."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, torch.get_num_threads())
