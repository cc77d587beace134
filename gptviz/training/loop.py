"""The training loop: between steps it executes what others asked for; within a step nobody interferes.

Step s means: s updates are done. At the top of step s the validation loss is estimated and the recorder looks, both
before the batch is drawn, so that the random state kept with a checkpoint is the one that step s starts from.
"""

import contextlib
import math
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gptviz.corpora import DataSource, TextData
from gptviz.model import GPT
from gptviz.runs import STOP
from gptviz.training.config import TrainConfig
from gptviz.training.optimization import array, clip_gradients, learning_rate, optimizer_arrays
from gptviz.training.progress import Progress
from gptviz.training.randomness import OwnRandom
from gptviz.training.ranks import RankLost, Ranks
from gptviz.training.recorder import Recorder, end_record, first_nonfinite, nonfinite_details
from gptviz.training.threads import Threads

IMPATIENT_SECONDS = 5.0  # a second Ctrl-C this long after the first no longer waits for a clean end
STOP_FILE_SECONDS = 1.0
BY_HAND_SECONDS = 10.0  # how long a recording of steps by hand waits for a slow disk rather than being dropped

RandomStates = tuple[Mapping[str, Any], Tensor, Tensor | None]  # of batches, of dropout on the CPU and on the GPU
Requests = queue.SimpleQueue[Callable[["Trainer"], None]]


class Clock:
    """Adds up the seconds spent in each activity."""

    def __init__(self) -> None:
        activities = ("data", "forward_backward", "optimizer", "eval", "recording", "paused")
        self.seconds: dict[str, float] = dict.fromkeys(activities, 0.0)
        self.start = time.perf_counter()

    @contextlib.contextmanager
    def __call__(self, activity: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[activity] += time.perf_counter() - start

    def total(self) -> dict[str, float]:
        """Seconds by activity; what is left of the time since the start is "other"."""
        elapsed = time.perf_counter() - self.start
        return {**self.seconds, "other": max(0.0, elapsed - sum(self.seconds.values()))}


class Trainer:
    """A training run in progress.

    Args:
        config: What to train.
        model: The model, on its device.
        optimizer: Its optimizer.
        accelerator: Hugging Face Accelerate, which knows the device.
        ranks: The processes that train together.
        source: Where batches come from.
        rng: Draws the prompts of a task; a text is read evenly (`TextData.even_batch`).
        recorder: Takes down what happens.
        step: How many updates the model has had.
        random: What dropout draws from on the CPU.
        threads: The number of CPU threads.
        progress: Where to say how it goes, or None.
        on_step: Called after each step with the step and its loss.
        requests: Where others ask for something between two steps.

    Attributes:
        reason: Why it ends, or None while it goes on.
        cause: What made it stop by itself, as a phrase, or "".
        paused: Whether it waits for requests instead of training.
        rate: The learning rate that was set by hand, or None for the schedule.
        latest: The scalars of the last step.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: GPT,
        optimizer: torch.optim.Optimizer,
        accelerator: Any,
        ranks: Ranks,
        source: DataSource,
        rng: np.random.Generator,
        recorder: Recorder,
        *,
        step: int,
        resume_steps: set[int],
        random: OwnRandom,
        threads: Threads,
        progress: Progress | None,
        on_step: Callable[[int, float], None] | None,
        requests: Requests | None = None,
    ) -> None:
        self.config, self.source, self.rng, self.recorder = config, source, rng, recorder
        self.offset = float(np.random.Generator(np.random.PCG64([config.seed, 3])).random())
        self.model, self.optimizer, self.accelerator, self.ranks = model, optimizer, accelerator, ranks
        self.step, self.resume_steps, self.random, self.threads = step, resume_steps, random, threads
        self.progress, self.on_step = progress, on_step
        self.clock = Clock()
        self.val_loss: float | None = None
        self.reason: str | None = None
        self.cause = ""
        self._asked = ""  # why this process wants to end; the others do not know yet
        self.paused = False
        self.rate: float | None = None
        self.latest: dict[str, float] = {}
        self._first = step
        self._by_hand, self._stepped = 0, False  # steps to do although it is paused; whether some were done
        self._captured = -1
        self._saw_nonfinite = False
        self._requests: Requests = requests or queue.SimpleQueue()
        self._stop_file = recorder.writer.folder / STOP
        self._looked_for_stop = time.monotonic()

    # --- requests ---------------------------------------------------------------------------------------------

    def request(self, action: Callable[["Trainer"], None]) -> None:
        """Has `action` executed between two steps; from any thread, also from a signal handler."""
        self._requests.put(action)

    def stop(self, reason: str = "stopped") -> None:
        """Asks for a clean end after the current step; may be called more than once and from anywhere."""
        self.request(lambda trainer: trainer.end(reason))

    # What a request may do; only the thread that trains calls these.

    def end(self, reason: str) -> None:
        """Ends before the next step, with the first reason that was given; several processes after it, together."""
        if self.ranks.several:
            self._asked = self._asked or reason
        else:
            self.reason = self.reason or reason

    def pause(self) -> None:
        """Waits before the next step until `go_on`, `do_steps` or `end`."""
        self.paused = True

    def go_on(self) -> None:
        """Ends a pause."""
        self.paused, self._by_hand = False, 0

    def do_steps(self, count: int) -> None:
        """Does `count` steps, records the one it gets to, and pauses."""
        self.paused, self._stepped, self._by_hand = True, True, self._by_hand + count

    def set_rate(self, rate: float | None) -> None:
        """Trains with this learning rate from here on; None gives it back to the schedule."""
        self.rate = rate
        self.recorder.writer.event(self.step, "learning_rate", rate=rate)

    def capture(self) -> None:
        """Records weights and probes of this step, once."""
        if self._captured != self.step:
            self._captured = self.step
            self.recorder.capture(self.step, self._state() if self.step in self.resume_steps else None)

    def _execute_requests(self) -> None:
        """What others asked for; while paused it waits here for more of it, and the processor is free."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._requests.get_nowait()(self)
        self._look_for_stop_file()
        if self.paused and not self._by_hand:
            self._wait()
        self._by_hand = max(0, self._by_hand - 1)

    def _wait(self) -> None:
        if self._stepped:
            self._stepped = False
            with self.clock("recording"):
                self._wait_for_the_disk()
                self.capture()
        with self.clock("paused"):
            while self.paused and not self._by_hand and not self.reason:
                with contextlib.suppress(queue.Empty):
                    self._requests.get(timeout=STOP_FILE_SECONDS)(self)
                self._look_for_stop_file()

    def _wait_for_the_disk(self) -> None:
        """Until what was recorded before is written, so that there is room; nobody trains meanwhile."""
        writer, until = self.recorder.writer, time.monotonic() + BY_HAND_SECONDS
        while writer.state == "recording" and not writer.flush(0.1) and time.monotonic() < until:
            pass

    def _look_for_stop_file(self) -> None:
        if self.ranks.first and time.monotonic() - self._looked_for_stop > STOP_FILE_SECONDS:
            self._looked_for_stop = time.monotonic()
            if self._stop_file.exists():
                self._stop_file.unlink(missing_ok=True)
                self.end("stopped")

    # --- the loop ---------------------------------------------------------------------------------------------

    def run(self) -> bool:
        """Trains to the end or until asked to stop.

        Returns:
            Whether everything that was recorded is on the disk.
        """
        self.model.train()
        with stopping_on_signals(self):
            try:
                while True:
                    self._execute_requests()
                    scalars = self._look()
                    if self.reason:
                        return self._end()
                    if self._train_step(scalars):
                        self.step += 1
            except BaseException as error:
                reason = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
                said = "".join(traceback.format_exception_only(error)).strip()
                self.recorder.close(reason, step=self.step, error=said, **self._account())
                if self.progress and isinstance(error, RankLost):  # a launcher ends us before we can say it
                    self.progress.say(str(error))
                raise
            finally:
                if self.progress:
                    self.progress.close()

    def _look(self) -> dict[str, float]:
        """Estimates and records before the batch of this step is drawn."""
        scalars: dict[str, float] = {}
        last = self.step >= self.config.max_iters
        if self.ranks.first and (self.step % self.config.eval_interval == 0 or last):
            with self.clock("eval"):
                scalars = self._evaluate()
        if last:
            self.reason = self.reason or "finished"
            if self.progress:
                self.progress.finish(self.val_loss)
        with self.clock("recording"):
            if self.reason:
                self.recorder.log(self.step, **scalars)
            elif self.recorder.due(self.step):
                self.capture()
        return scalars

    def _train_step(self, scalars: dict[str, float]) -> bool:
        """One update; False if `on_nan` withheld it, so that the weights stay those of this step."""
        drawn_from = self._random_states() if self.config.on_nan == "stop" else None
        with self.clock("data"):
            x, y, weight = self.training_batch()
        start = time.perf_counter()
        rate = learning_rate(self.config, self.step) if self.rate is None else self.rate
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with self.clock("forward_backward"), self.ranks.connected():
            with self.autocast(), self._own_random():
                _, loss_tensor = self.ranks.model(x, y)
            self.optimizer.zero_grad(set_to_none=True)
            weighted = loss_tensor * weight if self.ranks.several else loss_tensor
            self.accelerator.backward(weighted)
            loss, agreed = self.ranks.exchange(weighted.item(), self._asked)
        self.reason = self.reason or agreed or None
        if not math.isfinite(loss):
            self._not_finite(loss, x)  # before the update spreads it to every parameter
        if self.threads.observe(time.perf_counter() - start):
            self._announce_threads()
        with self.clock("optimizer"):
            if self.config.grad_clip:
                scalars["grad_norm"] = clip_gradients(self.model, self.config.grad_clip)
            if moved := not self._stops_at(loss, scalars.get("grad_norm", 0.0)):
                self.optimizer.step()
            elif drawn_from:  # or a resume would go on with the next batch, and the NaN would not come out again
                self._restore_random_states(drawn_from)
        with self.clock("recording"):
            self.latest = {"loss": loss, "lr": rate, **scalars}
            self.recorder.log(self.step, **self.latest)
        if self.progress and moved:
            self.progress.update(self.step + 1, loss, self.val_loss)
        if self.on_step:
            self.on_step(self.step, loss)
        return moved

    def _end(self) -> bool:
        with self.clock("recording"):
            end = end_record(str(self.reason), self.recorder.writer, step=self.step, **self._account())
            self.recorder.capture(self.step, self._state(), end=end)
            return self.recorder.finish()

    # --- parts ------------------------------------------------------------------------------------------------

    def batch(self, split: str, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Inputs and targets on the model's device."""
        block_size = self.model.config.block_size
        return self._on_device(self.source.batch(split, self.config.batch_size, block_size, rng))

    def training_batch(self) -> tuple[Tensor, Tensor, float]:
        """This process's inputs and targets of this step, and the weight of their loss.

        A text is read evenly, a task's prompts are drawn.
        """
        size, block_size = self.config.batch_size, self.model.config.block_size
        if isinstance(self.source, TextData):
            everyone = self.source.even_batch(self.step * size, size, block_size, self.offset)
        else:
            everyone = self.source.batch("train", size, block_size, self.rng)
        x, y, weight = self.ranks.rows(*everyone)
        return *self._on_device((x, y)), weight

    def _on_device(self, arrays: tuple[np.ndarray, np.ndarray]) -> tuple[Tensor, Tensor]:
        x, y = (torch.from_numpy(array).to(self.accelerator.device, non_blocking=True) for array in arrays)
        return x, y

    def autocast(self) -> contextlib.AbstractContextManager:
        """bfloat16 on a GPU; nothing on a CPU, where it would be slower and less exact."""
        return torch.autocast("cuda", torch.bfloat16, enabled=self.accelerator.device.type == "cuda")

    def _own_random(self) -> contextlib.AbstractContextManager:
        """Only dropout draws anything; without it the interception would be wasted time."""
        if not self.config.dropout:
            return contextlib.nullcontext()
        self.ranks.reseed(self.random, self.config.seed, self.step)
        return self.random

    @torch.no_grad()
    def estimate_loss(self, split: str) -> float:
        """The mean loss over `eval_iters` batches, the same ones every time and not those of training, in nats."""
        rng = np.random.Generator(np.random.PCG64([self.config.seed, 1]))
        self.model.eval()
        with self.autocast():
            losses = [self.model(*self.batch(split, rng))[1].item() for _ in range(self.config.eval_iters)]
        self.model.train()
        return sum(losses) / len(losses)

    def _evaluate(self) -> dict[str, float]:
        """The validation loss and, for a task, the share of right answers."""
        self.val_loss = self.estimate_loss("val")
        accuracy = getattr(self.source, "accuracy", None)
        if accuracy is None or not math.isfinite(self.val_loss):
            return {"val_loss": self.val_loss}
        return {"val_loss": self.val_loss, "accuracy": accuracy(self._logits)}

    @torch.no_grad()
    def _logits(self, ids: np.ndarray) -> np.ndarray:
        """The logits of every position, for a task that scores the model."""
        x = torch.from_numpy(ids).to(self.accelerator.device)
        self.model.eval()
        logits, _ = self.model(x, x)
        self.model.train()
        return array(logits)

    def _state(self) -> dict[str, Any]:
        """Everything that the coming steps depend on, beside the weights."""
        arrays = optimizer_arrays(self.optimizer, self.model)
        arrays["random/cpu"] = array(self.random.generator.get_state())
        if self.accelerator.device.type == "cuda":
            arrays["random/cuda"] = array(torch.cuda.get_rng_state())
        state = {"step": self.step, "data": self.rng.bit_generator.state, "threads": self.threads.count}
        if self.rate is not None:
            state["rate"] = self.rate
        return {"optimizer": arrays, "state": state}

    def _random_states(self) -> RandomStates:
        """What the next batch and its dropout are drawn from."""
        cuda = torch.cuda.get_rng_state() if self.accelerator.device.type == "cuda" else None
        return self.rng.bit_generator.state, self.random.generator.get_state(), cuda

    def _restore_random_states(self, states: RandomStates) -> None:
        batches, dropout, cuda = states
        self.rng.bit_generator.state = batches
        self.random.generator.set_state(dropout)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda)

    def _account(self) -> dict[str, Any]:
        """Where the time of this segment went."""
        seconds = self.clock.total()
        tokens = (self.step - self._first) * self.config.batch_size * self.model.config.block_size
        rate = tokens / max(1e-9, sum(seconds.values()) - seconds["eval"] - seconds["paused"])
        why = {"cause": self.cause} if self.cause and self.reason == "stopped" else {}
        return {"seconds": seconds, "tokens_per_second": rate, "threads": self.threads.count,
                "processes": self.ranks.count, **why}

    def _stops_at(self, loss: float, grad_norm: float) -> bool:
        """Whether to end before an update that would spread NaN to every weight; all processes see the same numbers."""
        told = {"loss": loss, "norm of the gradient": grad_norm}
        odd = next((name for name, value in told.items() if not math.isfinite(value)), None)
        if odd is None or self.config.on_nan != "stop":
            return False
        value = "NaN" if math.isnan(told[odd]) else told[odd]
        self.reason = self.reason or "stopped"
        self.cause = f'the {odd} of step {self.step} was {value} (on_nan="stop")'
        return True

    def _not_finite(self, loss: float, x: Tensor) -> None:
        if self._saw_nonfinite:
            return
        self._saw_nonfinite = True
        name, layer = first_nonfinite(self.model, x)
        self.recorder.writer.event(self.step, "nonfinite_loss", **nonfinite_details(loss, name, layer))
        if self.progress:
            of_layer = "" if layer is None else f" of layer {layer}"
            self.progress.say(f"The loss of step {self.step} is {loss}; it shows first in {name}{of_layer}.")

    def _announce_threads(self) -> None:
        self.recorder.writer.event(self.step, "threads", count=self.threads.count, reason=self.threads.reason)
        if self.progress:
            self.progress.say(f"Threads: {self.threads.count} from step {self.step} on ({self.threads.reason}).")


@contextlib.contextmanager
def stopping_on_signals(trainer: Trainer) -> Iterator[None]:
    """Ctrl-C ends the run cleanly after the current step; so does SIGTERM, after which the process ends as usual.

    Only the main thread may set handlers. A SIGTERM handler of the caller's is left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked_at: list[float] = []

    def on_interrupt(number: int, frame: Any) -> None:
        if asked_at and time.monotonic() - asked_at[0] > IMPATIENT_SECONDS:
            raise KeyboardInterrupt
        asked_at.append(time.monotonic())
        trainer.stop("interrupted")

    terminated: list[int] = []

    def on_terminate(number: int, frame: Any) -> None:
        terminated.append(number)
        trainer.stop("interrupted")

    handlers = {signal.SIGINT: on_interrupt}
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        handlers[signal.SIGTERM] = on_terminate
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if terminated:
            os.kill(os.getpid(), signal.SIGTERM)
