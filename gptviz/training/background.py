"""A run that trains in a thread of this process while its owner goes on working, and asks it for things."""

import asyncio
import atexit
import concurrent.futures
import queue
import sys
import threading
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from gptviz.runs import Run
from gptviz.training.loop import Requests, Trainer

GOODBYE_SECONDS = 10.0  # how long a process that ends waits for the last step and the disk

_lock = threading.Lock()
_under_way: "list[OneTraining]" = []


class OneTraining:
    """The right to train in this process: two at once would share Accelerate's state, and the cores.

    Raises:
        ValueError: Another training of this process is under way.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.in_thread = False  # a thread gives it back
        with _lock:
            if _under_way:
                raise ValueError(f"One training at a time runs in a process; {_under_way[0].folder or 'another one'} "
                                 "is under way. Wait for it (await run, or run.wait()), stop it (run.stop()), or start "
                                 "this one in a process of its own.")
            _under_way.append(self)

    def __enter__(self) -> "OneTraining":
        return self

    def __exit__(self, kind: type | None, *rest: object) -> None:
        if kind is not None or not self.in_thread:
            self.release()

    def release(self) -> None:
        """Lets the next one begin; idempotent."""
        with _lock:
            if self in _under_way:
                _under_way.remove(self)


class LiveRun(Run):
    """A run that is being trained by a thread of this process: what `train(config, background=True)` returns.

    Everything of a `Run` works while it trains. What is asked for (`pause`, `step`, `set_learning_rate` ...) is put
    into a queue and done between two steps, so asking is safe from anywhere: a cell, a callback, another thread.

    Args:
        folder: The run directory.
        requests: Where the trainer looks for what is asked.
        temporary: Whether the folder goes with this object.
    """

    def __init__(self, folder: Path, requests: Requests, *, temporary: bool = False) -> None:
        super().__init__(folder, temporary=temporary)
        self._requests = requests
        self._trainer: Trainer | None = None
        self._last: dict[str, Any] = {}
        self._pausing = False  # what was asked for last
        self._done: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._done.set_running_or_notify_cancel()  # from here on nobody can cancel it by waiting and giving up
        self._thread = threading.Thread(target=lambda: None, name="gptviz-training", daemon=True)

    def start(self, train: Callable[[Callable[[Trainer], None]], Any]) -> "LiveRun":
        """Begins; `train` is called in the thread with a function that takes the trainer."""

        def work() -> None:
            try:
                train(self._take)
            except BaseException as error:
                self._end()
                self._done.set_exception(error)
            else:
                self._end()
                self._done.set_result(None)
            finally:
                atexit.unregister(self._say_goodbye)

        self._thread = threading.Thread(target=work, name="gptviz-training", daemon=True)
        atexit.register(self._say_goodbye)
        self._thread.start()
        return self

    def _take(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def _end(self) -> None:
        """The model is let go; the last numbers stay."""
        self._last, self._trainer = self.now, None

    # --- how it goes ------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether its thread still works."""
        return not self._done.done()

    @property
    def status(self) -> str:
        """As of any run, and "paused"."""
        if not self.alive:
            return "failed" if self._done.exception() else super().status
        return "paused" if self._trainer is not None and self._trainer.paused else "running"

    @property
    def outcome(self) -> str:
        """How it stands, in a sentence."""
        error = self._done.exception() if self._done.done() else None
        if error is None or super().status == "failed":
            return super().outcome
        return f"Failed: {type(error).__name__}: {error}."

    @property
    def now(self) -> dict[str, Any]:
        """What only the process that trains knows, at this moment.

        Returns:
            "step" (updates done), the scalars of the last step and "val_loss" by name, "recording" (its share of the
            time spent training), "refused" and "mirror" (what the disk and the mirror said last, or ""); nothing before
            the first step.
        """
        trainer = self._trainer
        if trainer is None:
            return self._last
        seconds = trainer.clock.total()
        busy = sum(seconds.values()) - seconds["eval"] - seconds["paused"]
        writer = trainer.recorder.writer
        known = {} if trainer.val_loss is None else {"val_loss": trainer.val_loss}
        return {**trainer.latest, **known, "step": trainer.step, "recording": seconds["recording"] / max(1e-9, busy),
                "refused": str(writer.error) if writer.state == "degraded" else "",
                "mirror": f"{replica.url}: {replica.error}" if (replica := writer.replica) and replica.error else ""}

    # --- asking it --------------------------------------------------------------------------------------------

    def request(self, action: Callable[[Trainer], None]) -> threading.Event:
        """Has `action` done between two steps.

        Returns:
            An event that is set when it was done.

        Raises:
            ValueError: The training has ended.
        """
        if not self.alive:
            raise ValueError(f"Only a training that goes on can be asked for something; this one is over. "
                             f"{self.outcome} Go on with it by run.resume(max_iters=...).")
        done = threading.Event()

        def act(trainer: Trainer) -> None:
            action(trainer)
            done.set()

        self._requests.put(act)
        return done

    def pause(self) -> threading.Event:
        """Waits before the next step, without using the processor."""
        asked = self.request(lambda trainer: trainer.pause())
        self._pausing = True
        return asked

    def step(self, count: int = 1) -> threading.Event:
        """While paused: does `count` steps and records the one it gets to.

        Raises:
            ValueError: It is not paused, or `count` is not a whole number of at least 1.
        """
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"count must be a whole number of at least 1; {count!r} was given.")
        if self.alive and not self._pausing:
            raise ValueError("Only a paused training can be stepped by hand; this one runs. Call run.pause() first.")
        return self.request(lambda trainer: trainer.do_steps(count))

    def resume(self, max_iters: int | None = None, **options: Any) -> Any:
        """Goes on: a live paused run trains again; one that has ended is continued as by `Run.resume`.

        Raises:
            ValueError: `max_iters` or an option was given although the run is still alive.
        """
        if not self.alive:
            return super().resume(max_iters, **options)
        if max_iters is not None or options:
            raise ValueError("A training that is only paused goes on as it was begun; max_iters and other options are "
                             "for one that has ended. Call run.resume() without them, or run.stop() and run.wait() "
                             "first.")
        asked = self.request(lambda trainer: trainer.go_on())
        self._pausing = False
        return asked

    def stop(self) -> None:
        """Ends it cleanly after the current step; once it has ended, it is only said how (a warning)."""
        if self.alive:
            self._ask_to_end()
        else:
            warnings.warn(f"There is nothing to stop: this training is over. {self.outcome}", RuntimeWarning,
                          stacklevel=2)

    def _ask_to_end(self) -> None:
        self._requests.put(lambda trainer: trainer.end("stopped"))

    def record_now(self) -> threading.Event:
        """Records weights and probes of the step it is at."""
        return self.request(lambda trainer: trainer.capture())

    def set_learning_rate(self, rate: int | float | None) -> threading.Event:
        """Trains with this rate from the next step on; None gives it back to the schedule. Kept with the run.

        Raises:
            ValueError: `rate` is not a finite number of at least 0.
        """
        number = isinstance(rate, int | float) and not isinstance(rate, bool)
        if rate is not None and not (number and 0 <= rate <= sys.float_info.max):
            raise ValueError(f"A learning rate must be a finite number of at least 0, or None for the schedule; "
                             f"{rate!r} was given.")
        return self.request(lambda trainer: trainer.set_rate(None if rate is None else float(rate)))

    # --- waiting ----------------------------------------------------------------------------------------------

    def wait(self, timeout: int | float | None = None) -> "LiveRun":
        """Waits for the end; whoever gives up waiting (Ctrl-C) does not stop the training.

        Raises:
            TimeoutError: It still trains after `timeout` seconds.
            BaseException: What ended the training, if it failed.
        """
        try:
            self._done.result(timeout)
        except concurrent.futures.TimeoutError:
            if self._done.done():
                raise  # the training's own
            raise TimeoutError(f"The run has not ended after {timeout:g} s; it is {self.status}. Wait longer, or call "
                               "run.stop().") from None
        return self

    def __await__(self) -> Generator[Any, None, "LiveRun"]:
        """`await run` in a notebook: other cells' callbacks go on meanwhile."""
        yield from asyncio.wrap_future(self._done).__await__()
        return self

    def close(self) -> None:
        """Stops it if it still trains; then deletes the folder of a run that was kept in memory."""
        self._say_goodbye()
        super().close()

    def _say_goodbye(self) -> None:
        if self.alive:
            self._ask_to_end()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(GOODBYE_SECONDS)


def new_requests() -> Requests:
    """An empty queue of requests."""
    return queue.SimpleQueue()
