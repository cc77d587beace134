"""A training in a thread: the same losses, and it does between two steps what it is asked."""

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from small_training import TEXT, small

from gptviz.corpora import TextData
from gptviz.runs import open_run, writer
from gptviz.training import loop, train
from gptviz.training.background import LiveRun


@pytest.fixture(scope="module")
def data():
    return TextData.from_text(TEXT)


@pytest.fixture
def begin(data):
    """Start a training in the background; whatever happens it is stopped at the end."""
    runs = []

    def start(on_step=None, **changes) -> LiveRun:
        runs.append(train(small(data, **changes), background=True, on_step=on_step))
        return runs[-1]

    yield start
    for run in runs:
        with contextlib.suppress(RuntimeWarning):  # it may have ended
            run.stop()
        until(lambda run=run: not run.alive)  # close() would not wait for a busy machine
        run.close()


def until(condition, seconds=300.0):
    """Wait for something that another thread does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def assert_same_scalars(a, b) -> None:
    ours, theirs = a.metrics(), b.metrics()
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert ours[name].tobytes() == theirs[name].tobytes(), name


# --- the same training --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_losses_are_those_of_the_foreground_whatever_else_draws_numbers(data, begin, dropout):
    calm = train(small(data, dropout=dropout), progress=False)
    run = begin(dropout=dropout)
    while run.alive:
        torch.rand(7)
        torch.manual_seed(3)
        time.sleep(0.001)
    assert_same_scalars(run, calm)
    assert all(run.weights()[name].tobytes() == value.tobytes() for name, value in calm.weights().items())
    assert (run.status, run.outcome) == ("finished", "Finished at step 30.")
    calm.close()


def test_the_numbers_and_threads_of_its_owner_are_not_touched(begin):
    torch.manual_seed(7)
    expected = torch.rand(40)
    torch.manual_seed(7)
    run = begin(threads=2, max_iters=20)
    drawn = torch.cat([torch.rand(1) for _ in range(20) if time.sleep(0.005) is None])
    assert torch.get_num_threads() == 1
    run.wait()
    assert torch.equal(torch.cat([drawn, torch.rand(20)]), expected)
    assert torch.get_num_threads() == 1


def test_a_pause_hand_steps_and_a_recording_change_no_loss(data, begin):
    calm = train(small(data, record_steps=[0, 30]), progress=False)
    asked = threading.Event()
    run = begin(record_steps=[0, 30], on_step=lambda *_: asked.wait(60))  # or it might be over before it is asked
    paused = run.pause()
    asked.set()
    assert paused.wait(60)
    run.step(3)
    run.record_now()
    run.step().wait(60)
    run.resume()
    run.wait()
    assert_same_scalars(run, calm)
    calm.close()


# --- what can be asked --------------------------------------------------------------------------------------


def test_while_paused_nothing_moves_and_no_processor_is_used(begin):
    run = begin(max_iters=10**6)
    until(lambda: run.now.get("step", 0) > 3)
    assert run.pause().wait(60)
    assert run.status == "paused"
    step, used = run.now["step"], time.process_time()
    time.sleep(1.0)
    assert run.now["step"] == step
    assert time.process_time() - used < 0.5
    run.resume().wait(60)
    until(lambda: run.now["step"] > step)
    assert run.status == "running"


def test_steps_by_hand_are_recorded_where_they_end(begin):
    run = begin(max_iters=10**6, record_steps=[0])
    run.pause().wait(60)
    at = run.now["step"]
    run.step(5)
    until(lambda: run.now["step"] == at + 5)
    until(lambda: at + 5 in run.steps)
    run.step()
    until(lambda: at + 6 in run.steps)
    assert run.steps == sorted({0, at + 5, at + 6})
    assert run.snapshot(at + 6).step == at + 6


def test_a_step_by_hand_is_recorded_though_the_disk_is_behind(begin, monkeypatch):
    real, answers = writer.write_whole, threading.Event()
    answers.set()
    monkeypatch.setattr(writer, "write_whole", lambda path, data: (answers.wait(60), real(path, data)))
    monkeypatch.setattr(loop, "BY_HAND_SECONDS", 60.0)
    run = begin(max_iters=10**6, record_steps=range(1000))
    until(lambda: run.now.get("step", 0) > 3)
    answers.clear()
    until(lambda: len(run._trainer.recorder.writer._queue) == writer.QUEUED_ITEMS)
    run.pause().wait(60)
    at = run.now["step"]
    run.step()
    threading.Timer(0.5, answers.set).start()  # by then it would have been dropped
    until(lambda: at + 1 in run.steps)


def test_record_now_records_the_step_it_is_at(begin):
    run = begin(max_iters=10**6, record_steps=[0])
    run.pause().wait(60)
    at = run.now["step"]
    assert at > 0 or run.step().wait(60)
    run.record_now()
    run.record_now().wait(60)
    until(lambda: run.now["step"] in run.steps)


def test_a_learning_rate_by_hand_holds_is_noted_and_survives_a_resume(data, begin, tmp_path):
    run = begin(max_iters=10**6, out=tmp_path / "run", record_steps=[0])
    run.pause().wait(60)
    run.set_learning_rate(0.0).wait(60)
    at = run.now["step"]
    run.step(2)
    until(lambda: at + 2 in run.steps)
    assert run.metrics()["lr"][at:].tolist() == [0.0, 0.0]
    before, after = run.weights(at + 2), None
    run.stop()
    run.wait()
    event = next(event for event in run.events if event["name"] == "learning_rate")
    assert (event["step"], event["rate"]) == (at, 0.0)
    open_run(run.path).resume(max_iters=at + 4, progress=False)
    after = run.weights()
    assert all(after[name].tobytes() == value.tobytes() for name, value in before.items())


def test_stop_ends_it_also_while_paused_and_may_be_called_again(begin):
    run = begin(max_iters=10**6)
    until(lambda: run.now.get("step", 0) > 2)
    run.pause().wait(60)
    run.stop()
    run.stop()
    assert run.wait(60) is run
    with pytest.warns(RuntimeWarning, match=r"There is nothing to stop: this training is over. Stopped at step \d+\."):
        run.stop()
    assert run.status == "stopped"
    assert run.outcome == f"Stopped at step {run.steps[-1]}."
    with pytest.raises(ValueError, match=r"this one is over. Stopped at step \d+. Go on with it by run.resume"):
        run.pause()


def test_a_run_that_has_ended_is_continued_also_in_the_background(data, begin, tmp_path):
    calm = train(small(data), progress=False)
    asked = threading.Event()
    run = begin(out=tmp_path / "run", record_steps=[0, 30], on_step=lambda *_: asked.wait(60))
    run.stop()
    asked.set()
    run.wait()
    assert run.steps[-1] < 30
    again = run.resume(background=True)
    assert isinstance(again, LiveRun)
    assert again.wait().status == "finished"
    assert_same_scalars(again, calm)
    calm.close()


def test_what_cannot_be_asked_is_a_sentence(begin):
    run = begin(max_iters=10**6)
    with pytest.raises(ValueError, match=r"Only a paused training can be stepped by hand; .* Call run.pause\(\) first"):
        run.step()
    with pytest.raises(ValueError, match="count must be a whole number of at least 1; 0 was given"):
        run.step(0)
    with pytest.raises(ValueError, match="A learning rate must be a finite number of at least 0"):
        run.set_learning_rate(float("nan"))
    with pytest.raises(ValueError, match="A learning rate must be a finite number of at least 0"):
        run.set_learning_rate(10**400)
    with pytest.raises(ValueError, match="A training that is only paused goes on as it was begun"):
        run.resume(max_iters=5)
    with pytest.raises(TimeoutError, match=r"The run has not ended after 0.01 s; it is running"):
        run.wait(0.01)


def test_one_training_at_a_time_in_a_process(data, begin, tmp_path):
    run = begin(max_iters=10**6)
    for background in (True, False):
        with pytest.raises(ValueError, match=r"One training at a time runs in a process; .* is under way"):
            train(small(data, out=tmp_path / "second"), background=background, progress=False)
    assert not (tmp_path / "second").exists()
    run.stop()
    run.wait()
    train(small(data, out=tmp_path / "second", max_iters=1), progress=False)


# --- waiting, and what goes wrong ---------------------------------------------------------------------------


def fail_at(step):
    def on_step(now, loss):
        if now == step:
            raise ZeroDivisionError("a mistake")

    return on_step


def test_what_ends_the_thread_is_told_to_whoever_waits_and_in_a_sentence(begin, tmp_path):
    run = begin(on_step=fail_at(4), out=tmp_path / "run")
    with pytest.raises(ZeroDivisionError, match="a mistake"):
        run.wait(60)
    with pytest.raises(ZeroDivisionError, match="a mistake"):
        in_a_loop_of_its_own(_await(run))
    assert run.status == open_run(run.path).status == "failed"
    assert run.outcome == open_run(run.path).outcome == "Failed at step 4: ZeroDivisionError: a mistake."


def test_a_failure_before_the_first_step_is_told_too(begin, monkeypatch, tmp_path):
    def refuse(*args):
        raise MemoryError("no room for the optimizer")

    monkeypatch.setattr("gptviz.training.start.make_optimizer", refuse)
    run = begin(out=tmp_path / "run")
    with pytest.raises(MemoryError, match="no room"):
        run.wait(60)
    assert run.outcome == "Failed at step 0: MemoryError: no room for the optimizer."
    monkeypatch.undo()
    again = begin(max_iters=1)  # the right to train was given back
    assert again.wait().status == "finished"


def in_a_loop_of_its_own(waiting):
    """In another thread: a browser of an earlier test may still have a loop running in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, waiting).result()


async def _await(run, ticked=lambda count: None):
    ticks = []

    async def tick():
        while True:
            ticks.append(1)
            ticked(len(ticks))
            await asyncio.sleep(0.001)

    other = asyncio.ensure_future(tick())
    try:
        return await run, len(ticks)
    finally:
        other.cancel()


def test_await_lets_other_tasks_go_on_and_gives_the_run(begin):
    enough = threading.Event()
    run = begin(max_iters=100, on_step=lambda *_: enough.wait(60))  # it ends after the ticks, however late they begin
    got, ticks = in_a_loop_of_its_own(_await(run, lambda count: count > 3 and enough.set()))
    assert got is run
    assert run.status == "finished"
    assert ticks > 3


def test_who_gives_up_waiting_does_not_stop_it(begin):
    run = begin(max_iters=10**6)

    async def give_up():
        await asyncio.wait_for(_await(run), 0.2)

    with pytest.raises(TimeoutError):
        in_a_loop_of_its_own(give_up())
    assert run.alive
    step = run.now.get("step", 0)
    until(lambda: run.now.get("step", 0) > step)


def test_requests_of_many_threads_are_all_done_by_the_one_that_trains(begin):
    run, seen = begin(max_iters=10**6), []

    def ask():
        for _ in range(50):
            run.request(lambda trainer: seen.append(threading.current_thread().name))

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    until(lambda: len(seen) == 200)
    assert set(seen) == {"gptviz-training"}


def test_a_process_that_ends_stops_its_training_cleanly(tmp_path):
    code = ("import time; from gptviz.training import TrainConfig, train; "
            f"run = train(TrainConfig(task='sort', n_layer=1, n_head=1, n_embd=8, max_iters=10**6, threads=1, "
            f"out={str(tmp_path / 'run')!r}), background=True)\n"
            "while run.now.get('step', 0) < 5: time.sleep(0.01)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    run = open_run(tmp_path / "run")
    assert run.status == "stopped"
    assert run.verify() == []
    assert np.isfinite(run.metrics()["loss"][:5]).all()
