"""Starting a run and going on with one."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gptviz.corpora import DataSource, source_from_spec
from gptviz.model import GPT, GPTConfig
from gptviz.runs import Run, RunWriter, resume_points, schedule
from gptviz.training.config import TEXT_BLOCK_SIZE, TrainConfig
from gptviz.training.loop import Trainer
from gptviz.training.optimization import make_optimizer, restore_optimizer
from gptviz.training.progress import Progress
from gptviz.training.recorder import Recorder, encode_probes, run_info
from gptviz.training.sources import open_source
from gptviz.training.threads import Threads

PROBES = 2


def train(
    config: TrainConfig, *, progress: bool = True, on_step: Callable[[int, float], None] | None = None
) -> Run:
    """Trains a model and records how it learns.

    Ctrl-C stops cleanly after the current step; the run can then be resumed. torch's random state and number of
    threads are afterwards as they were.

    Args:
        config: What to train.
        progress: Whether to show a progress bar (on standard error).
        on_step: Called after each step with the step and its loss.

    Returns:
        The run, closed: `run.status` says how it ended.

    Raises:
        ValueError: The corpus or task is unknown, a probe does not fit, or `config.out` is not empty.
        OSError: `config.out` cannot be written.

    Example:
        >>> run = train(TrainConfig(task="sort", n_layer=1, n_head=1, n_embd=8, max_iters=2), progress=False)
        >>> run.status, run.steps
        ('finished', [0, 1, 2])
        >>> run.close()
    """
    source = open_source(config, progress=progress)
    accelerator = make_accelerator(config.device)
    block_size = config.block_size or getattr(source, "n_positions", TEXT_BLOCK_SIZE)
    with _as_it_was():
        torch.manual_seed(config.seed)
        model = GPT(config.model_config(source.vocab_size, block_size)).to(accelerator.device)
        probes = _probes(config, source, model)
        data = {"data": source.spec(), "train": config.to_json()}
        out = Path(config.out or tempfile.mkdtemp(prefix="gptviz-"))
        info = run_info(model, source.tokenizer, probes, **data)
        try:
            writer = RunWriter.create(out, info, max_iters=config.max_iters)
            start = _Start(config, source, accelerator, writer, progress, on_step)
            return start.go(model, probes, temporary=config.out is None)
        except BaseException:
            if config.out is None:  # nobody else knows of the folder
                shutil.rmtree(out, ignore_errors=True)
            raise


def resume(
    run: Run,
    max_iters: int | None = None,
    *,
    step: int | None = None,
    progress: bool = True,
    on_step: Callable[[int, float], None] | None = None,
) -> Run:
    """Goes on with a run: see `Run.resume`."""
    config = _resumed_config(run, max_iters)
    step, weights, arrays, state = run.resume_state(step)
    if step > config.max_iters or (step == config.max_iters and run.status == "finished"):
        raise ValueError(f"max_iters must be greater than the step to go on from ({step}); it is {config.max_iters}. "
                         f"Train longer with resume(max_iters={2 * step or 1}).")
    source = source_from_spec(run.info["data"])
    accelerator = make_accelerator(config.device)
    writer = RunWriter(run.path, max_iters=config.max_iters, from_step=step)
    with _as_it_was():
        model = GPT(GPTConfig(**run.info["model"]))
        model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        start = _Start(config, source, accelerator, writer, progress, on_step)
        probes = [probe["ids"] for probe in run.info["probes"]]
        start.go(model.to(accelerator.device), probes, step=step, arrays=arrays, state=state)
    return run


def make_accelerator(device: str) -> Any:
    """Hugging Face Accelerate for this device; importing it takes a second, so it waits until it is needed.

    Raises:
        ValueError: There is no such device, or several processes were launched.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=False)
    # Mixed precision is the loop's own: Accelerate would patch model.forward, and then the probes' too.
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no")
    if device not in ("auto", accelerator.device.type):
        raise ValueError(f"device must be there to be used; {device!r} was asked for, {accelerator.device.type!r} is "
                         'there. Use device="auto".')
    if accelerator.num_processes > 1:
        raise ValueError(f"gptviz trains in one process so far; {accelerator.num_processes} were launched. Start it "
                         "without accelerate launch or torchrun.")
    return accelerator


class _Start:
    """What `train` and `resume` have in common: everything up to the loop, and what is said after it."""

    def __init__(
        self,
        config: TrainConfig,
        source: DataSource,
        accelerator: Any,
        writer: RunWriter,
        progress: bool,
        on_step: Callable[[int, float], None] | None,
    ) -> None:
        self.config, self.source, self.accelerator, self.writer = config, source, accelerator, writer
        self.show, self.on_step = progress, on_step

    def go(
        self,
        model: GPT,
        probes: list[list[int]],
        *,
        step: int = 0,
        arrays: dict[str, np.ndarray] | None = None,
        state: dict[str, Any] | None = None,
        temporary: bool = False,
    ) -> Run:
        """Trains from `step` and returns the run; the folder is given back whatever happens."""
        recorder = Recorder.over(model, probes, self.writer, self._steps())
        try:
            trainer = self._trainer(model, recorder, step, arrays or {}, state or {})
            saved = trainer.run()
        finally:
            recorder.close("failed")
        run = Run(self.writer.folder, temporary=temporary)
        self._say_how_it_ended(trainer, run, saved)
        return run

    def _steps(self) -> list[int]:
        if not self.config.record:
            return []
        return schedule(self.config.max_iters) if self.config.record_steps is None else [*self.config.record_steps]

    def _trainer(
        self, model: GPT, recorder: Recorder, step: int, arrays: dict[str, np.ndarray], state: dict[str, Any]
    ) -> Trainer:
        config = self.config
        progress = Progress(step, config.max_iters, config.batch_size * model.config.block_size) if self.show else None
        if self.writer.notice and progress:
            progress.say(self.writer.notice)
        threads = Threads(state.get("threads", config.threads))
        x, y = self.source.batch("train", config.batch_size, model.config.block_size, np.random.default_rng(0))
        threads.choose(model, *(torch.from_numpy(part).to(self.accelerator.device) for part in (x, y)))
        if progress:
            progress.say(f"Threads: {threads.count} ({threads.reason}). Another number: threads=N.")
        optimizer = make_optimizer(model, config)
        rng = np.random.Generator(np.random.PCG64(config.seed))
        if state:
            restore_optimizer(optimizer, model, arrays)
            rng.bit_generator.state = state["data"]
            torch.set_rng_state(torch.from_numpy(arrays["random/cpu"]))
            if "random/cuda" in arrays and self.accelerator.device.type == "cuda":
                torch.cuda.set_rng_state(torch.from_numpy(arrays["random/cuda"]))
        model, optimizer = self.accelerator.prepare(model, optimizer)
        return Trainer(
            config, model, optimizer, self.accelerator, self.source, rng, recorder,
            step=step, resume_steps=resume_points(self._steps(), config.max_iters), threads=threads,
            progress=progress, on_step=self.on_step,
        )  # fmt: skip

    def _say_how_it_ended(self, trainer: Trainer, run: Run, saved: bool) -> None:
        if not (progress := trainer.progress):
            return
        if not saved:
            progress.say(f"NOT everything is on the disk: {self.writer.error}. {run!r}.")
        elif trainer.reason != "finished":
            progress.say(f"Stopped at step {trainer.step} ({trainer.reason}). Go on with "
                         f"gptviz.open_run({str(run.path)!r}).resume()")
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


def _resumed_config(run: Run, max_iters: int | None) -> TrainConfig:
    if "train" not in run.info:
        raise ValueError(f"Only a run that train() made can be resumed; {run.path} was recorded from another loop. "
                         "Load its last weights with run.load() and go on there.")
    fields = dict(run.info["train"])
    if max_iters is not None:
        fields["max_iters"] = max_iters
        fields["record_steps"] = _within(fields["record_steps"], max_iters)
    return TrainConfig(**fields)


def _within(steps: list[int] | None, max_iters: int) -> list[int] | None:
    return None if steps is None else [step for step in steps if step <= max_iters]


class _as_it_was:
    """Restores torch's random state and number of threads."""

    def __enter__(self) -> None:
        self.threads = torch.get_num_threads()
        self.fork = torch.random.fork_rng()
        self.fork.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.fork.__exit__(*error)
        torch.set_num_threads(self.threads)
