"""Kills a real training process at random moments, again and again, and looks at what is left.

    python tests/crash_harness.py --kills 50 --seed 0

Each life is a process of its own that trains (first) or resumes (then) the same run and dies by SIGKILL. After every
death the run must open, every committed file must be whole, and nothing half written may be visible. In the end the
scalars must equal, bit by bit, those of a run that nobody disturbed. Lives are forked from a process that has torch
loaded and has trained the undisturbed run, so that they are cheap. A life that reaches the end before it is killed is
compared, and the next one begins a new run.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from gptviz.corpora import TextData
from gptviz.runs import open_run
from gptviz.training import TrainConfig, train

STEPS = 300
TEXT = "the quick brown fox jumps over the lazy dog, again and again; " * 40


def config(out: Path) -> TrainConfig:
    """A run that is mostly writing: the weights every second step, resume points every hundredth of the run."""
    return TrainConfig(
        corpus=TextData.from_text(TEXT), out=str(out), probes=("the quick",), n_layer=1, n_head=2, n_embd=16,
        block_size=16, dropout=0.1, batch_size=4, max_iters=STEPS, eval_interval=50, eval_iters=1, threads=1,
        record_steps=tuple(range(0, STEPS + 1, 2)),
    )  # fmt: skip


def life(out: Path) -> None:
    """One process: start the run, or go on with it."""
    code = 1
    try:
        if not (out / "run.json").exists():
            train(config(out), progress=False)
        elif (run := open_run(out)).resume_steps:
            run.resume(progress=False)
        else:  # killed before the first resume point
            for path in sorted(out.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            train(config(out), progress=False)
        code = 0
    except BaseException as error:
        print(f"a life ended with {error!r}", file=sys.stderr, flush=True)
    os._exit(code)


def begin(out: Path) -> int:
    pid = os.fork()
    if pid == 0:
        life(out)
    return pid


def whole(out: Path) -> list[str]:
    """What is wrong with the run as a reader sees it."""
    if not (out / "run.json").exists():
        return []  # killed before the run existed
    run = open_run(out)
    problems = [str(problem) for problem in run.verify()]
    steps = run.metrics()["step"]
    if not np.array_equal(steps, np.arange(len(steps))):
        problems.append(f"the scalars have holes: {steps.tolist()}")
    if run.steps and run.steps[-1] > len(steps):
        problems.append(f"step {run.steps[-1]} is committed but only {len(steps)} rows of scalars are there")
    for step in run.steps[-2:]:
        run.snapshot(step), run.weights(step)
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(options.seed)  # noqa: S311 (moments to kill at)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        train(config(Path(folder) / "calm"), progress=False)
        report = kill_and_resume(Path(folder), options.kills, 0.4 * (time.perf_counter() - start), rng)
    print(json.dumps(report))


def kill_and_resume(folder: Path, kills: int, longest: float, rng: random.Random) -> dict:
    out, problems, reached, killed = folder / "run", [], [], 0
    while killed < kills:
        pid = begin(out)
        time.sleep(rng.uniform(0.0, longest))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            killed += 1
        elif os.WEXITSTATUS(status):
            problems.append("a life failed, see standard error")
        problems += whole(out)
        reached.append(max(open_run(out).resume_steps, default=0) if (out / "run.json").exists() else 0)
        if reached[-1] == STEPS:  # nothing is left to disturb: begin another run
            if open_run(out).status != "finished":
                os.waitpid(begin(out), 0)
            problems += compare(out, folder)
            out = folder / f"run{len(reached)}"
    _, status = os.waitpid(begin(out), 0)
    problems += [] if status == 0 else ["the last life failed"]
    problems += whole(out) + compare(out, folder)
    return {"kills": killed, "problems": problems, "resumed_from": reached}


def compare(out: Path, folder: Path) -> list[str]:
    """How a disturbed run differs from an undisturbed one."""
    expected, got = open_run(folder / "calm"), open_run(out)
    ours, theirs = got.metrics(), expected.metrics()
    differing = [name for name in theirs if ours[name].tobytes() != theirs[name].tobytes()]
    problems = [f"{name} is not bit-equal to the undisturbed run's" for name in differing]
    if got.status != "finished":
        problems.append(f"the run ended {got.status}")
    last, calm_last = got.weights(), expected.weights()
    if any(last[name].tobytes() != calm_last[name].tobytes() for name in calm_last):
        problems.append("the last weights differ")
    return problems


if __name__ == "__main__":
    main()
