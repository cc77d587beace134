"""How soon a recorded run opens, and how soon the slider has the views of another step, on the kernel's side.

    python -m benchmarks.time_machine [--snapshots 500] [--moves 60] [--run FOLDER]

The run holds the default model (4 layers, 4 heads, width 128) at every step, its weights moved a little each time:
what it learned does not matter here. A move is what the browser asks for: the answer is computed and packed, nothing
is drawn. Each moved-to step is another one, so no frame is taken from the board's memory. With --run, a run that is
there already is opened instead.
"""

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from gptviz.corpora import load_text_data
from gptviz.dashboards import watch
from gptviz.model import GPT
from gptviz.runs import Run, open_run
from gptviz.training import Recorder, TrainConfig

ALLOWED = {"opening": 1000.0, "recorded probe": 100.0, "new text": 250.0}  # ms
IMPORTED = "import sys, time, gptviz.runs as r; t = time.perf_counter(); run = r.open_run(sys.argv[1]); "
OPENING = IMPORTED + "run.steps, run.metrics(), run.snapshot(run.steps[-1]); print(time.perf_counter() - t)"


def recorded(out: Path, snapshots: int) -> Run:
    """A run of the default model with this many snapshots."""
    config = TrainConfig(corpus="python-docs")
    data = load_text_data("python-docs")
    torch.manual_seed(0)
    model = GPT(config.model_config(data.vocab_size, 64))
    probes = [data.tokenizer.decode(data.ids["val"][at : at + 64]) for at in (0, 1000)]
    with Recorder(model, data.tokenizer, probes, out, steps=range(snapshots)) as recorder:
        for step in range(snapshots):
            recorder.step(step, loss=4.0 - step / snapshots)
            recorder.writer.flush()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(1e-4 * torch.randn_like(parameter))
    return recorder.run


def openings(out: Path, rounds: int) -> list[float]:
    """Milliseconds to open a run in a new process: its steps, scalars and last snapshot; imports not counted."""
    command = [sys.executable, "-c", OPENING, str(out)]
    return [1e3 * float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            for _ in range(rounds)]


def moves(board: Any, steps: list[int], text: str) -> list[float]:
    """Milliseconds from a request for each step to its packed answer."""
    answers: list[dict] = []
    board.send = lambda content, buffers=None: answers.append(content)
    taken = []
    for step in steps:
        start = time.perf_counter()
        board._received(board, {"ask": "frame", "id": step, "step": step, "text": text}, [])
        taken.append(1e3 * (time.perf_counter() - start))
        if "error" in answers[-1]:
            raise ValueError(answers[-1]["error"])
    return taken


def say(name: str, taken: list[float]) -> None:
    """Median and 95th percentile beside what is allowed."""
    p95 = statistics.quantiles(taken, n=20)[-1] if len(taken) > 2 else max(taken)
    print(f"  {name:16} median {statistics.median(taken):7.1f} ms   p95 {p95:7.1f} ms   allowed {ALLOWED[name]:.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--snapshots", type=int, default=500)
    parser.add_argument("--moves", type=int, default=60)
    parser.add_argument("--run", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run = open_run(options.run) if options.run else recorded(Path(folder) / "run", options.snapshots)
        steps = random.Random(0).sample(run.steps[:-1], min(options.moves, len(run.steps) - 1))  # noqa: S311
        print(f"{len(run.steps)} snapshots of {run.config.n_layer} x {run.config.n_head} heads, "
              f"{len(run.snapshot(run.steps[-1]).ids)} tokens, {run.nbytes / 1e6:.0f} MB")
        say("opening", openings(run.path, 5))
        start = time.perf_counter()
        board = watch(open_run(run.path))
        print(f"  watch(run)       {1e3 * (time.perf_counter() - start):.1f} ms")
        say("recorded probe", moves(board, steps, run.probes[0]))
        text = run.probes[1][5:]  # no probe
        moves(board, steps[:1], text)  # torch's first forward pass
        say("new text", moves(board, steps[1:], text))


if __name__ == "__main__":
    main()
