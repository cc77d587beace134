"""What recording costs, how `train` compares with a plain loop, and what a busy neighbour does to it.

    python -m benchmarks.training [--steps 200] [--rounds 7] [--threads 1]

The default model (4 layers, 4 heads, width 128, block 64, batch 12) on python-docs. Contestants take turns; ratios are
medians over rounds of quotients of the same round. The recorded run keeps a checkpoint and a snapshot every 20 steps,
a little more often than the default schedule (86 in 2,000 steps). Evaluation is left out of all speeds.
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

EVERY = 20


def plain_loop(data: TextData, config: TrainConfig) -> float:
    """Tokens per second of nanoGPT's loop around the same model: stock AdamW, no recording, no evaluation."""
    torch.set_num_threads(int(config.threads))
    torch.manual_seed(config.seed)
    model = GPT(config.model_config(data.vocab_size, 64))
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(config.beta1, config.beta2))
    rng = np.random.default_rng(config.seed)
    start = time.perf_counter()
    for _ in range(config.max_iters):
        x, y = (torch.from_numpy(part) for part in data.batch("train", config.batch_size, 64, rng))
        _, loss = model(x, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        optimizer.step()
        loss.item()
    return config.max_iters * config.batch_size * 64 / (time.perf_counter() - start)


def trained(config: TrainConfig, on_step: Callable[[int, float], None] | None = None) -> tuple[float, dict]:
    """Tokens per second of `train`, and the run's summary."""
    run = train(config, progress=False, on_step=on_step)
    summary = run.summary()
    run.close()
    return summary["tokens_per_second"], summary


def compare_loops(data: TextData, fields: dict, rounds: int) -> None:
    speeds: dict[str, list[float]] = {"plain loop": [], "train, not recorded": [], "train, recorded": []}
    shares, waits = [], []
    steps = fields["max_iters"]
    for _ in range(rounds):
        speeds["plain loop"].append(plain_loop(data, TrainConfig(**fields)))
        speeds["train, not recorded"].append(trained(TrainConfig(**fields, record=False))[0])
        speed, summary = trained(TrainConfig(**fields, record_steps=range(0, steps + 1, EVERY)))
        speeds["train, recorded"].append(speed)
        seconds = summary["seconds"]
        shares.append(seconds["recording"] / (sum(seconds.values()) - seconds["eval"]))
        waits.append(summary["recorder"]["longest_wait"])
    for name, values in speeds.items():
        print(f"  {name:22} {statistics.median(values):10,.0f} tokens/s")
    print(f"  train, recorded / plain loop          {ratio(speeds, 'train, recorded', 'plain loop'):.3f}")
    print(f"  train, not recorded / plain loop      {ratio(speeds, 'train, not recorded', 'plain loop'):.3f}")
    print(f"  train, recorded / not recorded        {ratio(speeds, 'train, recorded', 'train, not recorded'):.3f}")
    print(f"  time in the recorder, of training     {100 * statistics.median(shares):.2f} %")
    print(f"  longest wait of a step for the queue  {1000 * max(waits):.1f} ms")


def ratio(speeds: dict[str, list[float]], a: str, b: str) -> float:
    return statistics.median(x / y for x, y in zip(speeds[a], speeds[b], strict=True))


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
    config = TrainConfig(**fields | {"threads": "auto"})
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
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
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
