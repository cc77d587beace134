"""Starting a run and going on with one."""

import contextlib
import dataclasses
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gptviz.corpora import DataSource, source_from_spec
from gptviz.model import GPT, GPTConfig
from gptviz.runs import Run, RunWriter
from gptviz.runs.replica import check_place
from gptviz.spelling import spelling
from gptviz.training.background import LiveRun, OneTraining, new_requests
from gptviz.training.budget import Plan, plan_recording
from gptviz.training.config import TEXT_BLOCK_SIZE, TrainConfig
from gptviz.training.loop import Trainer
from gptviz.training.optimization import make_optimizer, restore_optimizer
from gptviz.training.progress import Progress
from gptviz.training.randomness import OwnRandom
from gptviz.training.ranks import LONGEST_SILENCE, RankLost, Ranks, is_first_process
from gptviz.training.recorder import Recorder, encode_probes, run_info
from gptviz.training.sources import open_source
from gptviz.training.threads import Threads

PROBES = 2


def train(
    config: TrainConfig,
    *,
    background: bool = False,
    progress: bool = True,
    on_step: Callable[[int, float], None] | None = None,
) -> Run:
    """Trains a model and records how it learns.

    Ctrl-C stops cleanly after the current step; the run can then be resumed. torch's random state and number of
    threads are afterwards as they were.

    Args:
        config: What to train.
        background: Whether to return at once and train in a thread, for a notebook: `gptviz.watch(run)` shows it,
            `run.pause()`, `run.resume()`, `run.step()`, `run.stop()` ask it for something, `await run` (or
            `run.wait()`) waits for it. The losses are the same to the bit, and your own random numbers are not
            touched (on a GPU, dropout draws from the GPU's random state while it trains).
        progress: Whether to show a progress bar (on standard error); in the background there is none.
        on_step: Called after each step with the step and its loss.

    Returns:
        The run; in the foreground closed: `run.status` says how it ended.

    Raises:
        ValueError: The corpus or task is unknown, a probe does not fit, `config.out` is not empty, `config.mirror` is
            no place for a copy, or another training of this process is under way.
        OSError: `config.out` cannot be written.

    Example:
        >>> run = train(TrainConfig(task="sort", n_layer=1, n_head=1, n_embd=8, max_iters=2), progress=False)
        >>> run.status, run.steps
        ('finished', [0, 1, 2])
        >>> run.close()
    """
    with OneTraining() as claim:
        progress = progress and not background and is_first_process()
        if config.mirror is not None and config.out:
            check_place(config.mirror, Path(config.out))
        source = open_source(config, progress=progress)
        accelerator = make_accelerator(config.device)
        ranks = Ranks(accelerator)
        ranks.check(config, background)
        block_size = config.block_size or getattr(source, "n_positions", TEXT_BLOCK_SIZE)
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            model = GPT(config.model_config(source.vocab_size, block_size)).to(accelerator.device)
            random = torch.get_rng_state()
        probes = _probes(config, source, model)
        out = Path(config.out or tempfile.mkdtemp(prefix="gptviz-"))
        info = run_info(model, source.tokenizer, probes, data=source.spec(), train=config.to_json())
        try:
            writer = ranks.writer(out, lambda: RunWriter.create(out, info, max_iters=config.max_iters,
                                                                   mirror=config.mirror))
            start = _Start(config, source, accelerator, ranks, writer, progress, on_step, claim)
            run = start.run(background, temporary=config.out is None)
            start.go(run, model, probes, random)
            return run
        except BaseException:
            if config.out is None:  # nobody else knows of the folder
                shutil.rmtree(out, ignore_errors=True)
            raise


def resume(
    run: Run,
    max_iters: int | None = None,
    *,
    step: int | None = None,
    threads: int | str | None = None,
    mirror: str | None = None,
    background: bool = False,
    progress: bool = True,
    on_step: Callable[[int, float], None] | None = None,
) -> Run:
    """Goes on with a run: see `Run.resume`."""
    config = _resumed_config(run, max_iters, threads)
    step, weights, arrays, state = run.resume_state(step)
    if threads is not None:
        state = {**state, "threads": threads}
    if step > config.max_iters or (step == config.max_iters and run.status == "finished"):
        raise ValueError(f"max_iters must be greater than the step to go on from ({step}); it is {config.max_iters}. "
                         f"Train longer: {spelling().resume(run.path, 2 * step or 1)}.")
    with OneTraining() as claim:
        source = source_from_spec(run.info["data"])
        accelerator = make_accelerator(config.device)
        ranks = Ranks(accelerator)
        ranks.check(dataclasses.replace(config, out=str(run.path)), background)
        ranks.agree(step)
        writer = ranks.writer(run.path, lambda: RunWriter(run.path, max_iters=config.max_iters, from_step=step,
                                                         mirror=mirror))
        with torch.random.fork_rng():
            model = GPT(GPTConfig(**run.info["model"]))
        model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        show = progress and not background and is_first_process()
        if writer.notice and not show:  # else the progress says it
            warnings.warn(writer.notice, RuntimeWarning, stacklevel=3)
        start = _Start(config, source, accelerator, ranks, writer, show, on_step, claim)
        probes = [probe["ids"] for probe in run.info["probes"]]
        going = start.run(background) if background else run
        random = torch.from_numpy(arrays["random/cpu"])
        start.go(going, model.to(accelerator.device), probes, random, step=step, arrays=arrays, state=state)
    return going


def make_accelerator(device: str) -> Any:
    """Hugging Face Accelerate for this device; importing it takes a second, so it waits until it is needed.

    Raises:
        ValueError: There is no such device.
    """
    from accelerate import Accelerator, InitProcessGroupKwargs
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=False)
    # Mixed precision is the loop's own: Accelerate would patch model.forward, and then the probes' too.
    patience = InitProcessGroupKwargs(timeout=LONGEST_SILENCE)
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no", kwargs_handlers=[patience])
    if device not in ("auto", accelerator.device.type):
        raise ValueError(f"device must be there to be used; {device!r} was asked for, {accelerator.device.type!r} is "
                         f"there. Use {spelling().setting('device', 'auto')}.")
    return accelerator


class _Start:
    """What `train` and `resume` have in common: everything up to the loop, and what is said after it."""

    def __init__(
        self,
        config: TrainConfig,
        source: DataSource,
        accelerator: Any,
        ranks: Ranks,
        writer: RunWriter,
        progress: bool,
        on_step: Callable[[int, float], None] | None,
        claim: OneTraining,
    ) -> None:
        self.config, self.source, self.accelerator, self.writer = config, source, accelerator, writer
        self.ranks = ranks
        self.show, self.on_step, self.claim = progress, on_step, claim
        self.requests = new_requests()
        claim.folder = writer.folder

    def run(self, background: bool, *, temporary: bool = False) -> Run:
        """The run to return."""
        folder = self.writer.folder
        return LiveRun(folder, self.requests, temporary=temporary) if background else Run(folder, temporary=temporary)

    def go(
        self,
        run: Run,
        model: GPT,
        probes: list[list[int]],
        random: Tensor,
        *,
        step: int = 0,
        arrays: dict[str, np.ndarray] | None = None,
        state: dict[str, Any] | None = None,
    ) -> None:
        """Trains from `step`, in a thread if the run is a live one; the folder is given back whatever happens."""

        def work(take: Callable[[Trainer], None] = lambda trainer: None) -> None:
            n_parameters = sum(parameter.numel() for parameter in model.parameters())
            plan = plan_recording(self.config, n_parameters, model.config.block_size, len(probes))
            looks = (probes, self.writer, plan.steps) if self.ranks.first else ([], self.writer, ())
            recorder = Recorder.over(model, *looks)
            try:
                with _as_it_was():
                    trainer = self._trainer(model, recorder, plan, random, step, arrays or {}, state or {})
                    take(trainer)
                    saved = trainer.run()
                with contextlib.suppress(RankLost):  # it no longer matters
                    self.ranks.meet()  # nobody goes on before the run directory is complete
            except BaseException as error:
                recorder.close("failed", step=step, error=f"{type(error).__name__}: {error}")  # nothing after a run()
                raise
            finally:
                self.claim.release()
            self._say_how_it_ended(trainer, run, saved)

        if isinstance(run, LiveRun):
            self.claim.in_thread = True
            run.start(work)
        else:
            work()

    def _trainer(
        self,
        model: GPT,
        recorder: Recorder,
        plan: Plan,
        random: Tensor,
        step: int,
        arrays: dict[str, np.ndarray],
        state: dict[str, Any],
    ) -> Trainer:
        config = self.config
        if self.accelerator.device.type == "cuda":
            torch.cuda.manual_seed(config.seed)
        progress = Progress(step, config.max_iters, config.batch_size * model.config.block_size) if self.show else None
        if self.writer.notice and progress:
            progress.say(self.writer.notice)
        threads = Threads(state.get("threads", config.threads))
        x, y = self.source.batch("train", config.batch_size, model.config.block_size, np.random.default_rng(0))
        threads.choose(model, *(torch.from_numpy(part).to(self.accelerator.device) for part in (x, y)))
        if progress:
            progress.say(f"Threads: {threads.count} ({threads.reason}). Another number: "
                         f"{spelling().setting('threads')}.")
        optimizer = make_optimizer(model, config)
        rng = np.random.Generator(np.random.PCG64(config.seed))
        if state:
            restore_optimizer(optimizer, model, arrays)
            rng.bit_generator.state = state["data"]
            if "random/cuda" in arrays and self.accelerator.device.type == "cuda":
                torch.cuda.set_rng_state(torch.from_numpy(arrays["random/cuda"]))
        self.ranks.spread(self.accelerator, model)
        trainer = Trainer(
            config, model, optimizer, self.accelerator, self.ranks, self.source, rng, recorder,
            step=step, resume_steps=set(plan.resume_steps), random=OwnRandom(random),
            threads=threads, progress=progress, on_step=self.on_step, requests=self.requests,
        )  # fmt: skip
        trainer.rate = state.get("rate")
        return trainer

    def _say_how_it_ended(self, trainer: Trainer, run: Run, saved: bool) -> None:
        if not (progress := trainer.progress):
            return
        if not saved:
            progress.say(f"NOT everything is on the disk: {self.writer.error}. {run!r}.")
        elif trainer.cause and trainer.reason == "stopped":
            look = spelling().in_python(f", gptviz.open_run({str(run.path)!r})")
            progress.say(f"Stopped at step {trainer.step}: {trainer.cause}. It would come out again: look at the steps "
                         f"before it{look}, and train anew with a smaller learning_rate.")
        elif trainer.reason != "finished":
            progress.say(f"Stopped at step {trainer.step} ({trainer.reason}). Go on with "
                         f"{spelling().resume(run.path)}")
        if (replica := self.writer.replica) and replica.error:
            progress.say(f"NOT everything is at {replica.url}: {replica.error}. It is all in {run.path}.")
        if self.writer.dropped:
            progress.say(f"{self.writer.dropped} recordings were dropped because the disk was too slow or refused.")


def _probes(config: TrainConfig, source: DataSource, model: GPT) -> list[list[int]]:
    """The ids of the probes: those asked for, or the beginnings of two passages of the validation split."""
    if not config.record:
        return []
    if config.probes is not None:
        return encode_probes(config.probes, source.tokenizer, model)
    x, _ = source.batch("val", PROBES, model.config.block_size, np.random.Generator(np.random.PCG64([config.seed, 2])))
    return x.tolist()


def _resumed_config(run: Run, max_iters: int | None, threads: int | str | None) -> TrainConfig:
    if "train" not in run.info:
        raise ValueError(f"Only a run that train() made can be resumed; {run.path} was recorded from another loop. "
                         f"Its last weights can be read{spelling().in_python(' with run.load()')}.")
    fields = dict(run.info["train"])
    if threads is not None:
        fields["threads"] = threads
    if max_iters is not None:
        fields["max_iters"] = max_iters
        fields["record_steps"] = _within(fields["record_steps"], max_iters)
    return TrainConfig(**fields)


def _within(steps: list[int] | None, max_iters: int) -> list[int] | None:
    return None if steps is None else [step for step in steps if step <= max_iters]


@contextlib.contextmanager
def _as_it_was() -> Iterator[None]:
    """Restores the GPUs' random states and the number of threads; the CPU's random state is never touched."""
    threads = torch.get_num_threads()
    states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        if states:
            torch.cuda.set_rng_state_all(states)
        torch.set_num_threads(threads)
