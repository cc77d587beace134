"""What recording costs, how `train` compares with a plain loop, and what a busy neighbour does to it.

    python -m benchmarks.training [--steps 2000] [--rounds 1] [--threads 1]

The default model (4 layers, 4 heads, width 128, block 64, batch 12) on python-docs, trained and recorded as by default.
The plain loop over the same model takes turns with it, 100 steps each, within one run; ratios are medians over the
pairs, with their quartiles. Left out of all speeds: evaluation, the first turn, and waiting for the last files.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from gptviz.corpora import TextData, load_text_data
from gptviz.model import GPT
from gptviz.training import TrainConfig, train

TURN = 100  # steps
BUSY_STEPS = 200


class PlainLoop:
    """nanoGPT's loop around the same model: stock AdamW, no recording, no evaluation."""

    def __init__(self, data: TextData, config: TrainConfig) -> None:
        self.data, self.config = data, config
        torch.manual_seed(config.seed)
        self.model = GPT(config.model_config(data.vocab_size, 64))
        parameters = list(self.model.parameters())
        groups = [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(config.beta1, config.beta2))
        self.rng = np.random.default_rng(config.seed)

    def seconds(self, steps: int) -> float:
        """How long so many further steps take."""
        config, start = self.config, time.perf_counter()
        for _ in range(steps):
            x, y = (torch.from_numpy(part) for part in self.data.batch("train", config.batch_size, 64, self.rng))
            _, loss = self.model(x, y)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.grad_clip)
            self.optimizer.step()
            loss.item()
        return time.perf_counter() - start


def plain_loop(data: TextData, config: TrainConfig) -> float:
    """Tokens per second of the plain loop."""
    torch.set_num_threads(int(config.threads))
    return config.max_iters * config.batch_size * 64 / PlainLoop(data, config).seconds(config.max_iters)


def trained(config: TrainConfig, on_step: Callable[[int, float], None] | None = None) -> tuple[float, dict]:
    """Tokens per second of `train`, and the run's summary."""
    run = train(config, progress=False, on_step=on_step)
    summary = run.summary()
    run.close()
    return summary["tokens_per_second"], summary


class Turns:
    """Lets the plain loop go on for as many steps after each `TURN` steps of a training, and takes both times."""

    def __init__(self, data: TextData, config: TrainConfig) -> None:
        self.plain, self.ratios = PlainLoop(data, config), []
        self.began = time.perf_counter()

    def on_step(self, step: int, loss: float) -> None:
        if (step + 1) % TURN == 0:
            self.end()
            self.began = time.perf_counter()

    def end(self) -> None:
        """Called when a turn of the training is over."""
        trained = time.perf_counter() - self.began
        self.ratios.append(self.plain.seconds(TURN) / trained)


def compare_loops(data: TextData, fields: dict, rounds: int) -> None:
    ratios: dict[bool, list[float]] = {True: [], False: []}
    shares, waits = [], []
    for _ in range(rounds):
        for recorded in ratios:
            config = TrainConfig(**fields, record=recorded)
            turns = Turns(data, config)
            _, summary = trained(config, turns.on_step)
            ratios[recorded] += turns.ratios[1:]  # the first turn also makes the run
            if recorded:
                seconds = summary["seconds"]
                shares.append(seconds["recording"] / (sum(seconds.values()) - seconds["eval"] - seconds["other"]))
                waits.append(summary["recorder"]["longest_wait"])
    for recorded, values in ratios.items():
        low, middle, high = statistics.quantiles(values, n=4)
        print(f"  train, {'' if recorded else 'not '}recorded / plain loop {'' if recorded else '    ':14}"
              f"{middle:.3f} (quartiles {low:.3f}, {high:.3f}; mean {statistics.mean(values):.3f})")
    print(f"  time in the recorder, of training     {100 * statistics.median(shares):.2f} %")
    print(f"  longest wait of a step for the queue  {1000 * max(waits):.1f} ms")


class Neighbour:
    """A process that keeps one core busy."""

    def __enter__(self) -> "Neighbour":
        self.process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()


def busy_neighbour(fields: dict) -> None:
    """threads="auto", as users have it: a neighbour from the start, and one that comes in the middle of the run."""
    torch.set_num_threads(os.cpu_count() or 1)
    config = TrainConfig(**fields | {"threads": "auto", "max_iters": BUSY_STEPS})
    quiet, summary = trained(config)
    print(f"  quiet                        {quiet:10,.0f} tokens/s, {summary['threads']} threads")
    with Neighbour():
        busy, summary = trained(config)
    print(f"  neighbour from the start     {busy:10,.0f} tokens/s, {summary['threads']} threads: "
          f"{quiet / busy:.2f} times slower")
    moments: dict[int, float] = {}
    half = config.max_iters // 2

    def on_step(step: int, loss: float) -> None:
        moments[step] = time.perf_counter()
        if step == half:
            neighbour.__enter__()

    neighbour = Neighbour()
    try:
        _, summary = trained(config, on_step)
    finally:
        neighbour.__exit__()
    last = max(moments)
    before = (moments[half] - moments[half // 2]) / (half - half // 2)
    after = (moments[last] - moments[half]) / (last - half)
    print(f"  neighbour from the middle on {' ':10} {summary['threads']} threads at the end: "
          f"{after / before:.2f} times slower after it came")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    data = load_text_data("python-docs")
    fields = {"corpus": data, "max_iters": options.steps, "eval_iters": 1, "eval_interval": 10**6,
              "threads": options.threads}  # fmt: skip
    load = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else ""
    print(f"{options.steps} steps, {options.rounds} rounds, {options.threads} thread(s), torch {torch.__version__}")
    print(load)
    compare_loops(data, fields, options.rounds)
    print("a busy neighbour, threads='auto'")
    busy_neighbour(fields)


if __name__ == "__main__":
    main()
