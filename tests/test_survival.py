"""Several who watch one run, a run deleted under them, and a notebook's kernel that is killed and started again."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from gptviz.corpora import TextData
from gptviz.dashboards import watch
from gptviz.runs import Follower, open_run
from gptviz.training import TrainConfig, train

TEXT = "the quick brown fox jumps over the lazy dog; pack my box with five dozen jugs. " * 30


def small(**changes) -> TrainConfig:
    fields = dict(corpus=TextData.from_text(TEXT), n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4,
                  max_iters=10**6, lr_decay_iters=1000, warmup_iters=5, eval_interval=20, eval_iters=1, threads=1,
                  probes=["the quick"])
    return TrainConfig(**fields | changes)


def wait_until(condition, seconds=300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def elsewhere(tmp_path):
    """A training in another process, killed at the end, and its run directory."""
    code = ("from gptviz.training import TrainConfig, train; train(TrainConfig(task='sort', n_layer=1, n_head=1, "
            f"n_embd=8, max_iters=10**6, threads=1, record_steps=range(0, 10**6, 10), out={str(tmp_path / 'run')!r}), "
            "progress=False)")
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code])
    try:
        wait_until(lambda: (tmp_path / "run" / "journal.jsonl").exists() and len(open_run(tmp_path / "run").steps) > 3)
        yield process, tmp_path / "run"
    finally:
        process.kill()
        process.wait()


def answer(board, ask: dict) -> dict:
    """What a board's browser is answered; the follower of a live board may send news before or after it."""
    sent = []
    board.send = lambda content, buffers=None: sent.append(content)
    board._received(board, ask, [])
    return next(content for content in sent if content.get("id") == ask["id"])


def test_two_boards_and_a_third_reader_follow_one_run(elsewhere):
    _, out = elsewhere
    boards = [watch(out), watch(out)]
    follower = Follower(open_run(out))
    seen = len(follower.look().steps)
    wait_until(lambda: len(follower.look().steps) > seen + 2)
    frames = [answer(board, {"ask": "frame", "id": 1, "step": board.steps[1], "text": board.text}) for board in boards]
    assert [frame["frame"]["step"] for frame in frames] == [board.steps[1] for board in boards]
    assert open_run(out).status == "running"  # readers take no lock
    for board in boards:
        board.close()


def test_a_run_deleted_while_it_is_watched_is_told_in_a_sentence(tmp_path):
    train(small(out=tmp_path / "run", max_iters=10), progress=False)
    run = open_run(tmp_path / "run")
    follower, board = Follower(run), watch(run)
    before = follower.look()
    shutil.rmtree(run.path)
    after = follower.look()
    assert (before.status, after.status, after.alive) == ("finished", "gone", False)
    assert after.trouble == (f"Its run directory is gone: {run.path} was deleted or moved. What was read of it is "
                             "still shown.")
    assert after.steps == before.steps
    assert "cannot be opened" in answer(board, {"ask": "frame", "id": 1, "step": 0, "text": board.text})["error"]
    board.close()


@pytest.mark.parametrize("within_a_look", [False, True])
def test_a_live_board_says_that_the_run_was_deleted(elsewhere, within_a_look, monkeypatch):
    process, out = elsewhere
    board = watch(out)
    os.kill(process.pid, signal.SIGSTOP)  # or it would write while we delete
    os.waitpid(process.pid, os.WUNTRACED)  # returns once every thread stands: one may be at the end of a write
    if within_a_look:
        monkeypatch.setattr(Follower, "look", deleted_within(Follower.look))
    else:
        shutil.rmtree(out)
    wait_until(lambda: "is gone" in board.fresh["controls"].content["trouble"])
    assert board.fresh["controls"].content["state"] == "gone"
    board.close()


def deleted_within(look):
    """A `Follower.look` during which the run directory is deleted; looks after it find it so."""
    def look_and_delete(follower):
        if follower.run.path.exists():
            shutil.rmtree(follower.run.path)
            raise FileNotFoundError(2, "No such file or directory")
        return look(follower)

    return look_and_delete


def stay_at(step: int):
    """An `on_step` that goes no further, for a process that must not reach the end before it is killed."""
    def on_step(now: int, loss: float) -> None:
        while now == step:
            time.sleep(60)

    return on_step


@pytest.mark.filterwarnings("ignore:The last line of .* is torn")
def test_a_killed_kernel_leaves_a_run_that_another_one_opens_and_goes_on_with(tmp_path):
    config = small(out=tmp_path / "run", max_iters=400, record_steps=range(0, 401, 5), batch_size=2)
    if (kernel := os.fork()) == 0:
        try:
            train(config, background=True, on_step=stay_at(350)).wait()
        finally:
            os._exit(1)  # never back into the tests
    wait_until(lambda: (tmp_path / "run" / "journal.jsonl").exists() and len(open_run(tmp_path / "run").steps) > 4)
    os.kill(kernel, signal.SIGKILL)
    os.waitpid(kernel, 0)
    run = open_run(tmp_path / "run")
    last = run.steps[-1]
    assert (run.status, run.verify()) == ("killed", [])
    assert run.outcome == f"Its process was killed after step {last}."
    board = watch(run)  # the recorded steps are there, before anything is trained
    assert (board.steps, board.step) == (run.steps, last)
    board.close()
    run.resume(progress=False)
    calm = train(small(max_iters=400, batch_size=2, record=False), progress=False)
    np.testing.assert_array_equal(run.metrics()["loss"], calm.metrics()["loss"])
    calm.close()
