"""Training in two processes that torchrun starts: the numbers of one process, one run directory, a clear end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import two_processes
from accelerate.utils import DistributedType
from two_processes import TEXT

from gptviz.runs import open_run
from gptviz.training import train
from gptviz.training.ranks import Ranks

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of everything that `two_processes.py` trains."""
    folder = tmp_path_factory.mktemp("two")
    command = [*LAUNCH, two_processes.__file__, str(folder)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("kind", ["text", "task"])
def test_two_processes_have_the_losses_of_one(runs, kind, tmp_path):
    """Also where they take different numbers of rows, and where not every target is learned."""
    alone = train(getattr(two_processes, kind)(out=tmp_path / "alone"), progress=False)
    together = open_run(runs / kind)
    ours, theirs = together.metrics(), alone.metrics()
    assert len(ours["step"]) == 101
    assert theirs["loss"][0] - theirs["loss"][99] > 0.3  # it learns, so the gradients matter
    for name in ("loss", "val_loss", "grad_norm"):
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-4, err_msg=name)
    for name, weight in alone.weights().items():
        np.testing.assert_allclose(together.weights()[name], weight, atol=1e-3, err_msg=name)


def test_they_write_one_whole_run_directory(runs, tmp_path):
    together = open_run(runs / "text")
    alone = train(two_processes.text(out=tmp_path / "alone"), progress=False)
    assert (together.status, together.verify(), together.steps) == ("finished", [], alone.steps)
    names = [{str(path.relative_to(run.path)) for path in run.path.rglob("*")} for run in (together, alone)]
    assert names[0] == names[1]
    assert together._history.end["processes"] == 2


def test_ctrl_c_in_one_process_ends_both_and_they_go_on_to_the_bit(runs):
    assert (runs / "outcome.txt").read_text() == "Interrupted at step 22."  # the others hear of it at step 21
    stopped, calm = open_run(runs / "stopped").metrics(), open_run(runs / "calm").metrics()
    assert {name: column.tobytes() for name, column in stopped.items()} == {
        name: column.tobytes() for name, column in calm.items()
    }


def test_dropout_differs_between_the_processes(runs, tmp_path):
    """With the same dropout in both processes the second one's loss would be that of another mask only by its rows."""
    calm = open_run(runs / "calm").metrics()["loss"]
    alone = train(two_processes.text(out=tmp_path / "alone", dropout=0.2, max_iters=60), progress=False)
    difference = np.abs(calm[:60] - alone.metrics()["loss"][:60])
    assert difference[0] > 1e-4
    assert difference.max() < 0.5


def test_what_several_processes_cannot_do_is_a_sentence(runs):
    out, batch_size, background, step = (runs / "said.txt").read_text().splitlines()
    assert out == ("Training in 2 processes must have out=, the run directory that the first one writes; None was "
                   'given. For example out="runs/mine".')
    assert batch_size == ("batch_size counts the sequences of all processes and must be at least their number (2); "
                          "1 was given.")
    assert background.startswith("background=True trains in a thread of one process; 2 were launched. Leave it out")
    assert step.startswith("All processes must go on from the same step; they found [100, 101] in the run directory.")
    assert not (runs / "x").exists()


def test_a_model_in_pieces_is_refused():
    launched = SimpleNamespace(process_index=0, num_processes=2, device=torch.device("cpu"),
                               distributed_type=DistributedType.FSDP)
    with pytest.raises(ValueError, match=r"each have the whole model \(data parallel\); FSDP was configured"):
        Ranks(launched).check(two_processes.text(out="x"), background=False)


def process_of(rank: int, launcher: int) -> int:
    """The process with this rank among the launcher's."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher and f"RANK={rank}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError(f"no process has rank {rank}")


def wait_until(condition) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the process to kill in /proc")
def test_a_killed_process_gives_a_clear_end(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    out = tmp_path / "run"
    settings = [f"corpus={tmp_path / 'text.txt'}", f"out={out}", "n_layer=1", "n_head=2", "n_embd=16", "block_size=16",
                "batch_size=4", "max_iters=1000000", "eval_iters=1", "threads=1", "device=cpu"]
    with open(tmp_path / "said", "wb") as said:
        launcher = subprocess.Popen([*LAUNCH, "-m", "gptviz", "train", *settings], stdout=said, stderr=said,
                                    env=environment())
    try:
        wait_until(lambda: (out / "run.json").exists() and len(open_run(out).steps) > 5)
        os.kill(process_of(1, launcher.pid), signal.SIGKILL)
        wait_until(lambda: open_run(out).status != "running")
        assert launcher.wait(300) != 0
    finally:
        launcher.kill()
        launcher.wait()
    run = open_run(out)
    assert (run.status, run.verify()) == ("failed", [])
    sentence = "Another of the 2 processes that train together has ended or does not answer"
    assert sentence in run.outcome
    assert sentence in (tmp_path / "said").read_text()
