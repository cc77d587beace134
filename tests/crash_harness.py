"""Kills a real training process at random moments, again and again, and looks at what is left.

    python tests/crash_harness.py --kills 50 --seed 0
    python tests/crash_harness.py --exhaustive [--every 1 --first 0]

Each life is a process of its own that trains (first) or resumes (then) the same run and dies by SIGKILL. After every
death the run must open, every committed file must be whole, and nothing half written may be visible. In the end the
scalars must equal, bit by bit, those of a run that nobody disturbed. Lives are forked from a process that has torch
loaded and has trained the undisturbed run, so that they are cheap. A life that reaches the end before it is killed is
compared, and the next one begins a new run.

With --exhaustive a small run is started, and a half-recorded one gone on with, once for each operation on its files
and each way in which that can go wrong (`file_faults.FAULTS`): an error once or for good, half a write, SIGKILL.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from file_faults import FAULTS, Faults

from gptviz.corpora import TextData
from gptviz.runs import RunWriter, open_run
from gptviz.runs import writer as writing
from gptviz.training import TrainConfig, train

STEPS = 300
TEXT = "the quick brown fox jumps over the lazy dog, again and again; " * 40


def config(out: Path) -> TrainConfig:
    """A run that is mostly writing: the weights every second step, resume points every fiftieth of the run."""
    return TrainConfig(
        corpus=TextData.from_text(TEXT), out=str(out), probes=("the quick",), n_layer=1, n_head=2, n_embd=16,
        block_size=16, dropout=0.1, batch_size=4, max_iters=STEPS, eval_interval=50, eval_iters=1, threads=1,
        record_steps=tuple(range(0, STEPS + 1, 2)),
    )  # fmt: skip


def life(out: Path) -> None:
    """One process: start the run, or go on with it."""
    code = 1
    try:
        go(out, config(out))
        code = 0
    except BaseException as error:
        print(f"a life ended with {error!r}", file=sys.stderr, flush=True)
    os._exit(code)


def go(out: Path, settings: TrainConfig, **options: Any) -> None:
    """Starts the run, or goes on with it; one that was killed before its first resume point is begun again."""
    if (out / "run.json").exists():
        if (run := open_run(out)).resume_steps:
            run.resume(progress=False, **options)
            return
        for path in sorted(out.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    train(settings, progress=False, **options)


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
    parser.add_argument("--exhaustive", action="store_true", help="spoil every operation on files in turn")
    parser.add_argument("--every", type=int, default=1, help="with --exhaustive: only each so many-th case")
    parser.add_argument("--first", type=int, default=0, help="with --exhaustive: the first case")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(options.seed)  # noqa: S311 (moments to kill at)
    with tempfile.TemporaryDirectory() as folder:
        if options.exhaustive:
            print(json.dumps(exhaustive(Path(folder), options.every, options.first)))
            return
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


# --- every operation in turn --------------------------------------------------------------------------------

LAST = 12
REFUSALS = ("A run must be kept in a folder that can be written", "holds no whole resume point")
RECORDED = (0, 1, 2, LAST)  # so close that the optimizer's state of step 1 is removed again


def tiny(out: Path) -> TrainConfig:
    """A run of few operations: four recorded steps, one row of scalars at a time."""
    return TrainConfig(
        corpus=TextData.from_text(TEXT), out=str(out), probes=("the quick",), n_layer=1, n_head=1, n_embd=8,
        block_size=12, dropout=0.1, batch_size=2, max_iters=LAST, eval_interval=4, eval_iters=1, threads=1,
        record_steps=RECORDED,
    )  # fmt: skip


def spoiled_life(out: Path, told: Path, at: int, fault: str) -> None:
    """One process whose operation number `at` goes wrong; it tells what it did in a file elsewhere.

    After each step it waits until the writer has written it, so that the operations of all lives are the same.
    """
    writing.RETRY_SECONDS, writing.FLUSH_SECONDS = (0.01, 0.02), 0.002
    writing.GIVE_UP_SECONDS = 60 if fault.startswith("once") else 0.1  # an error that passes is waited for
    writers, report = [], os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    begun, queued = RunWriter._begin_segment, RunWriter.commit

    def wait(writer: RunWriter) -> None:
        while writer.state == "recording" and not writer.flush(0.02):
            pass

    def remember(writer: RunWriter, from_step: int) -> None:
        writers.append(writer)
        begun(writer, from_step)

    def commit_and_wait(writer: RunWriter, *args: Any, **options: Any) -> bool:
        done = queued(writer, *args, **options)
        wait(writer)
        return done

    def on_step(step: int, loss: float) -> None:
        wait(writers[-1])
        faults.write(report, b"%d\n" % step)

    RunWriter._begin_segment, RunWriter.commit = remember, commit_and_wait
    faults, said = Faults(out, at, fault).install(), ""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            go(out, tiny(out), on_step=on_step)
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
    words = {"said": said, "warned": [str(one.message) for one in warned], "done": faults.done}
    faults.write(report, json.dumps(words).encode())
    os._exit(0)


def spoil(out: Path, told: Path, at: int, fault: str) -> tuple[list[int], dict | None]:
    """Lives such a life; the steps it trained and what it said in the end, None if it was killed."""
    if (pid := os.fork()) == 0:
        spoiled_life(out, told, at, fault)
    os.waitpid(pid, 0)
    lines = told.read_text().splitlines()
    killed = not lines or not lines[-1].startswith("{")
    return [int(line) for line in (lines if killed else lines[:-1])], None if killed else json.loads(lines[-1])


def wrong_after(out: Path, fault: str, at: int, steps: list[int], end: dict | None) -> list[str]:
    """What should not be after a life with one operation spoiled."""
    problems = whole(out)
    if end is None:
        if not fault.endswith("kill"):
            problems.append("the process died")
        elif steps:
            run = open_run(out)
            rows = run.metrics()["step"].tolist()
            problems += [f"the row of step {steps[-1]} is lost"] if steps[-1] not in rows else []
            lost = [step for step in RECORDED if step <= steps[-1] and step not in run.steps]
            problems += [f"the recorded steps {lost} are lost"] if lost else []
        return problems
    if at >= len(end["done"]):
        return problems  # this life had fewer operations
    if end["said"]:  # before the first step a disk that cannot be written, or read, is a reason to refuse
        refused = not steps and any(words in end["said"] for words in REFUSALS)
        return problems + ([] if refused else [f"it ended with {end['said']}"])
    if not steps or steps[-1] != LAST - 1:
        problems.append(f"training stopped after step {steps}")
    if fault.split()[0] == "once":
        run = open_run(out)
        if (run.status, run.steps, len(run.metrics()["step"])) != ("finished", list(RECORDED), LAST + 1):
            problems.append(f"an error that passed left {run!r}")
    elif not any("recorder is degraded" in warning for warning in end["warned"]) and open_run(out).status != "finished":
        problems.append("nobody was told that the disk refuses")
    return problems


def exhaustive(folder: Path, every: int, first: int) -> dict:
    """Each case: start or go on, with one operation spoiled; then go on undisturbed and compare."""
    started = time.perf_counter()
    train(tiny(folder / "calm"), progress=False)
    torn = folder / "torn"
    _, end = spoil(folder / "counted", folder / "told", -1, "kill")
    journal = [number for number, name in enumerate(end["done"]) if name == "write journal.jsonl"]
    spoil(torn, folder / "told", journal[-4], "half kill")
    shutil.copytree(torn, folder / "resumed")
    _, resumed = spoil(folder / "resumed", folder / "told", -1, "kill")
    cases = [(source, at, fault) for source, counted in ((None, end), (torn, resumed))
             for at in range(len(counted["done"])) for fault in FAULTS
             if not fault.startswith("half") or counted["done"][at].startswith("write")]
    problems, killed, out = [], 0, folder / "case"
    for source, at, fault in cases[first::every]:
        if source:
            shutil.copytree(source, out)
        steps, end = spoil(out, folder / "told", at, fault)
        killed += end is None
        found = wrong_after(out, fault, at, steps, end)
        if not (out / "run.json").exists() or open_run(out).status != "finished":
            _, after = spoil(out, folder / "told", -1, "kill")
            found += [f"could not go on: {after}"] if after is None or after["said"] else []
        found += whole(out) + (compare(out, folder) if (out / "run.json").exists() else ["there is no run"])
        for problem in found:
            print(f"operation {at}, {fault}: {problem}", file=sys.stderr, flush=True)
        problems += [f"{'resumed' if source else 'started'}, operation {at}, {fault}: {problem}" for problem in found]
        shutil.rmtree(out)
    operations = {word: len({at for where, at, _ in cases if where == source})
                  for word, source in (("started", None), ("resumed", torn))}
    return {"operations": operations, "cases": len(cases[first::every]), "killed": killed, "problems": problems,
            "seconds": round(time.perf_counter() - started)}


if __name__ == "__main__":
    main()
