"""What survives: killed processes, full disks, folders that cannot be written, interrupts."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from gptviz.corpora import TextData
from gptviz.runs import NotARun, RunLocked, RunWriter, open_run
from gptviz.training import TrainConfig, train

HARNESS = Path(__file__).with_name("crash_harness.py")
INFO = {"schema_version": 1, "model": {"n_layer": 1}, "tokenizer": None, "probes": []}
TEXT = "the quick brown fox jumps over the lazy dog; " * 30


def small(out: Path, **changes) -> TrainConfig:
    fields = dict(corpus=TextData.from_text(TEXT), out=str(out), n_layer=1, n_head=2, n_embd=16, block_size=16,
                  batch_size=2, max_iters=40, eval_interval=20, eval_iters=1, threads=1, record_steps=range(41))
    return TrainConfig(**fields | changes)


def weights(step: int, size: int = 1000) -> dict:
    return {"weights": {"w": np.full(size, step, dtype=np.float32)}}


def kill_at_random(kills: int, seed: int) -> dict:
    command = [sys.executable, str(HARNESS), "--kills", str(kills), "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800 + 60 * kills)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_kill_9_at_random_moments_loses_nothing_that_was_committed():
    report = kill_at_random(kills=8, seed=time.time_ns() % 10_000)
    assert report["kills"] == 8
    assert report["problems"] == []


@pytest.mark.slow
def test_kill_9_at_fifty_random_moments():
    kills = int(os.environ.get("GPTVIZ_KILLS", "50"))
    report = kill_at_random(kills, seed=int(os.environ.get("GPTVIZ_SEED", "1")))
    assert (report["kills"], report["problems"]) == (kills, [])


def test_some_operations_fail_or_kill_in_turn():
    """Each hundredth case of `crash_harness.py --exhaustive`; another one in each run of the tests."""
    command = [sys.executable, str(HARNESS), "--exhaustive", "--every", "100", "--first", str(time.time_ns() % 100)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["problems"] == []
    assert report["cases"] >= 10
    assert min(report["operations"].values()) > 50


@pytest.mark.slow
def test_every_operation_fails_or_kills_in_turn():
    command = [sys.executable, str(HARNESS), "--exhaustive"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
    assert json.loads(done.stdout.splitlines()[-1])["problems"] == []


# --- the disk says no ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def tmpfs(folder: Path, options: str):
    """A file system of its own; needs root."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize(("size", "n_embd"), [("512k", 16), ("4m", 64)])
def test_a_full_disk_does_not_stop_training(tmp_path, size, n_embd):
    with tmpfs(tmp_path / "disk", f"size={size}") as disk:
        with pytest.warns(RuntimeWarning, match="The recorder is degraded: .* cannot be written") as warned:
            run = train(small(disk / "run", n_embd=n_embd), progress=False)
        assert len(warned) == 1
        assert run.status != "finished"  # nobody is told that the end was recorded
        assert run.verify() == []
        assert not list(disk.rglob(".tmp-*"))
        assert 1 < len(run.steps) < 41
        unrecorded = train(small(tmp_path / "other", n_embd=n_embd, record=False), progress=False)
        rows = run.metrics()
        assert rows["loss"].tobytes() == unrecorded.metrics()["loss"][: len(rows["loss"])].tobytes()
        moved = shutil.copytree(disk / "run", tmp_path / "moved")  # where there is room
    run = open_run(moved).resume(progress=False)
    assert (run.status, run.verify()) == ("finished", [])
    assert run.metrics()["loss"].tobytes() == unrecorded.metrics()["loss"].tobytes()


def test_recording_goes_on_when_there_is_room_again(tmp_path):
    with tmpfs(tmp_path / "disk", "size=1m") as disk:
        writer = RunWriter.create(disk / "run", INFO, max_iters=10)
        writer.commit(0, weights(0))
        assert writer.flush()
        with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as filler:
            while filler.write(b"x" * 4096):
                pass
        writer.commit(1, weights(1, 10_000))
        wait_until(lambda: writer.state == "degraded")
        (disk / "filler").unlink()
        assert writer.flush()
        assert writer.state == "recording"
        assert writer.close()
        assert (open_run(disk / "run").steps, open_run(disk / "run").verify()) == ([0, 1], [])


def wait_until(condition) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_limit_on_file_size_is_treated_like_a_full_disk(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = RunWriter.create(tmp_path / "run", INFO, max_iters=10)
    writer.commit(0, weights(0))
    assert writer.flush()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        writer.commit(1, weights(1, 1 << 20))
        wait_until(lambda: writer.state == "degraded")
        assert not writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    run = open_run(tmp_path / "run")
    assert (run.steps, run.verify()) == ([0], [])
    assert not list((tmp_path / "run").rglob(".tmp-*"))


def test_a_slow_disk_drops_the_newest_but_never_the_last(tmp_path, monkeypatch):
    """So slow that it answers nothing before all steps are done: a step that waited for it would wait for ever."""
    from gptviz.runs import writer as module

    writer = RunWriter.create(tmp_path / "run", INFO, max_iters=100)
    real, answers = module.write_whole, threading.Event()
    monkeypatch.setattr(module, "write_whole", lambda path, data: (answers.wait(), real(path, data)))
    queued = [writer.commit(step, weights(step)) for step in range(40)]
    writer.commit(40, weights(40), [{"kind": "end", "reason": "finished", "step": 40}], final=True)
    assert queued == [True] * module.QUEUED_ITEMS + [False] * (40 - module.QUEUED_ITEMS)
    assert writer.dropped == queued.count(False)
    assert writer.longest_wait >= module.LONGEST_WAIT  # it was given the time that it may take
    answers.set()
    assert writer.close()
    assert open_run(tmp_path / "run").steps == [*range(module.QUEUED_ITEMS), 40]


def test_a_folder_that_vanishes_does_not_stop_training(tmp_path):
    def vanish(step: int, loss: float) -> None:
        if step == 10:
            (tmp_path / "run").rename(tmp_path / "elsewhere")

    with pytest.warns(RuntimeWarning, match="recorder is degraded"):
        run = train(small(tmp_path / "run"), progress=False, on_step=vanish)
    assert run.outcome.startswith("Its run directory is gone: ")
    assert open_run(tmp_path / "elsewhere").verify() == []


def test_a_read_only_folder_is_refused_before_training(tmp_path):
    with tmpfs(tmp_path / "disk", "size=1m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(OSError, match=r"folder that can be written; .*run cannot \(Read-only file system\)"):
            train(small(disk / "run"), progress=False)


def test_a_refused_start_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("gptviz.runs.writer.write_whole", full)
        with pytest.raises(OSError, match=r"cannot \(No space left on device\). Choose another out="):
            RunWriter.create(tmp_path, INFO, max_iters=1)
    assert not any(tmp_path.iterdir())
    RunWriter.create(tmp_path, INFO, max_iters=1).close()


def test_what_a_killed_start_leaves_is_taken_for_an_empty_folder(run_dir):
    for part in ("ckpt", "snap", "metrics"):
        (run_dir / part).mkdir(parents=True)
    (run_dir / ".tmp-0123").write_bytes(b"{")
    RunWriter.create(run_dir, INFO, max_iters=1).close()
    assert not list(run_dir.glob(".tmp-*"))


def test_a_folder_with_files_in_our_folders_is_not_empty(run_dir):
    (run_dir / "ckpt").mkdir(parents=True)
    (run_dir / "ckpt" / "mine.bin").write_bytes(b"x")
    with pytest.raises(NotARun, match=r"new or empty folder; .* is not empty"):
        RunWriter.create(run_dir, INFO, max_iters=1)


# --- one writer ---------------------------------------------------------------------------------------------


def test_a_second_writer_is_refused_and_told_who_writes(run_dir):
    writer = RunWriter.create(run_dir, INFO, max_iters=1)
    with pytest.raises(RunLocked, match=rf"one writer at a time; process {os.getpid()} on .* writes to .* since 20"):
        RunWriter(run_dir, max_iters=1)
    assert open_run(run_dir).status == "running"
    writer.close()
    RunWriter(run_dir, max_iters=1).close()


def test_the_lock_of_a_dead_process_is_taken_over(run_dir):
    RunWriter.create(run_dir, INFO, max_iters=1).close()
    if (pid := os.fork()) == 0:
        try:
            RunWriter(run_dir, max_iters=1)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    wait_until(lambda: (run_dir / "LOCK").exists())
    wait_until(lambda: open_run(run_dir).status == "killed")  # a zombie is dead
    RunWriter(run_dir, max_iters=1).close()
    os.waitpid(pid, 0)


def test_a_lock_from_another_machine_is_not_taken_over(run_dir):
    RunWriter.create(run_dir, INFO, max_iters=1).close()
    lock = {"pid": 1, "host": "elsewhere", "started": "2026-01-01T00:00:00+00:00", "boot": None, "birth": None}
    (run_dir / "LOCK").write_text(json.dumps(lock))
    with pytest.raises(RunLocked, match="process 1 on elsewhere writes"):
        RunWriter(run_dir, max_iters=1)


def test_a_forked_child_does_not_write(run_dir):
    writer = RunWriter.create(run_dir, INFO, max_iters=1)
    if (pid := os.fork()) == 0:
        os._exit(writer.commit(0, weights(0)) or not writer.close())
    assert os.waitpid(pid, 0)[1] == 0
    assert (run_dir / "LOCK").exists()
    writer.commit(1, weights(1))
    writer.close()
    assert open_run(run_dir).steps == [1]


def test_readers_that_poll_always_see_whole_snapshots(run_dir):
    writer = RunWriter.create(run_dir, INFO, max_iters=60)
    problems, done = [], threading.Event()

    def poll() -> None:
        run = open_run(run_dir)
        while not done.is_set():
            for step in run.steps[-3:]:
                if not (run.weights(step)["w"] == step).all():
                    problems.append(step)

    readers = [threading.Thread(target=poll) for _ in range(4)]
    [reader.start() for reader in readers]
    for step in range(60):
        writer.commit(step, weights(step))
        writer.flush()
    done.set()
    [reader.join() for reader in readers]
    writer.close()
    assert problems == []
    assert open_run(run_dir).steps == list(range(60))


# --- asked to stop ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 5])
def test_ctrl_c_stops_cleanly_and_the_run_goes_on_bit_exactly(tmp_path, times, capsys):
    def interrupt(step: int, loss: float) -> None:
        if step == 21:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    run = train(small(tmp_path / "run", dropout=0.2), on_step=interrupt)
    assert (run.status, run.steps[-1], signal.getsignal(signal.SIGINT)) == ("interrupted", 22, before)
    assert "Stopped at step 22 (interrupted). Go on with gptviz.open_run(" in capsys.readouterr().err
    run.resume(progress=False)
    calm = train(small(tmp_path / "calm", dropout=0.2), progress=False)
    assert run.status == "finished"
    for name, column in calm.metrics().items():
        assert run.metrics()[name].tobytes() == column.tobytes(), name


def test_sigterm_writes_a_checkpoint_and_then_ends_the_process(tmp_path):
    def terminate(step: int, loss: float) -> None:
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    if (pid := os.fork()) == 0:
        with contextlib.suppress(BaseException):
            train(small(tmp_path / "run"), progress=False, on_step=terminate)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    run = open_run(tmp_path / "run")
    assert (os.WTERMSIG(status), run.status, run.resume_steps[-1]) == (signal.SIGTERM, "interrupted", 6)


def test_any_process_may_ask_for_a_stop(tmp_path):
    stopped_at = []

    def ask(step: int, loss: float) -> None:
        time.sleep(0.05)
        if step == 2:
            open_run(tmp_path / "run").stop()

    run = train(small(tmp_path / "run", max_iters=400, record_steps=()), progress=False, on_step=ask)
    stopped_at.append(run.steps[-1])
    assert run.status == "stopped"
    assert stopped_at[0] < 100
    assert not (tmp_path / "run" / "STOP").exists()


def test_an_exception_in_the_loop_ends_the_run_as_failed(tmp_path):
    def fail(step: int, loss: float) -> None:
        if step == 7:
            raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        train(small(tmp_path / "run"), progress=False, on_step=fail)
    run = open_run(tmp_path / "run")
    assert run.status == "failed"
    assert run.steps[-1] == 7
    assert run._history.end["error"] == "LookupError: no such thing"
