"""Several processes that train one model: what each reads, what they tell each other, and who writes.

Data parallel: every process (its number is its rank) draws the same global batch and takes its own rows of it; torch's
DistributedDataParallel adds up the gradients. The numbers are those of one process with that batch, up to rounding.
The first process alone evaluates, records and writes; the run directory is what others watch.
"""

import atexit
import contextlib
import gc
import os
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import nn

from gptviz.runs import RunWriter
from gptviz.training.config import TrainConfig
from gptviz.training.randomness import OwnRandom

REASONS = ("", "stopped", "interrupted")
IN_PIECES = ("FSDP", "DEEPSPEED", "MEGATRON_LM", "TP")  # as Accelerate calls them
LOST = ("gloo", "nccl", "connection", "broken pipe", "socket")  # words of what torch says then
LONGEST_SILENCE = timedelta(minutes=10)  # an evaluation of the first process must fit into it


class RankLost(ConnectionError):
    """Another process of this training has ended or does not answer."""


def is_first_process() -> bool:
    """Whether this process is the first (or the only) one that torchrun or accelerate launch started."""
    return int(os.environ.get("RANK") or 0) == 0


class Ranks:
    """This process among those that train together; a single one is the first of one.

    Args:
        accelerator: Hugging Face Accelerate, which knows who was launched.

    Attributes:
        rank: This process's number; 0 is the first.
        count: How many there are.
        model: What computes the training loss: the model, or a wrapper that adds up gradients.
    """

    def __init__(self, accelerator: Any) -> None:
        self.rank, self.count = int(accelerator.process_index), int(accelerator.num_processes)
        self.device, self._kind = accelerator.device, str(accelerator.distributed_type).rpartition(".")[2]
        self.model: Callable[..., Any]

    @property
    def first(self) -> bool:
        """Whether this process records and writes."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.count > 1

    def check(self, config: TrainConfig, background: bool) -> None:
        """What several processes cannot do, in a sentence.

        Raises:
            ValueError: In the background, without `out`, fewer sequences than processes, or a model in pieces.
        """
        if not self.several:
            return
        if self._kind in IN_PIECES:
            raise ValueError(f"Several processes must each have the whole model (data parallel); {self._kind} was "
                             "configured. Launch with torchrun, or accelerate launch without it.")
        if background:
            raise ValueError(f"background=True trains in a thread of one process; {self.count} were launched. Leave "
                             "it out, and watch the run directory from a notebook: watch(open_run(out)).")
        if config.out is None:
            raise ValueError(f"Training in {self.count} processes must have out=, the run directory that the first "
                             "one writes; None was given. For example out=\"runs/mine\".")
        if config.batch_size < self.count:
            raise ValueError(f"batch_size counts the sequences of all processes and must be at least their number "
                             f"({self.count}); {config.batch_size} was given.")

    def writer(self, folder: Path, create: Callable[[], RunWriter]) -> RunWriter:
        """The first process's writer; the others wait until the run directory is there, and write nothing."""
        writer = create() if self.first else None
        self.meet()
        return writer or SilentWriter(folder)

    def meet(self) -> None:
        """Waits until all processes are here."""
        if self.several:
            with self.connected():
                torch.distributed.barrier()

    def agree(self, step: int) -> None:
        """Sees that all go on from the same step, and have read it before the first one writes.

        Raises:
            ValueError: They do not.
        """
        if not self.several:
            return
        steps: list[Any] = [None] * self.count
        with self.connected():
            torch.distributed.all_gather_object(steps, step)
        if len(set(steps)) > 1:
            raise ValueError(f"All processes must go on from the same step; they found {steps} in the run directory. "
                             "Launch them again when no other process writes to it.")

    def spread(self, accelerator: Any, model: nn.Module) -> None:
        """Wraps the model where gradients must be added up.

        The optimizer stays as it is: nothing scales the loss here, and Accelerate's would look for an optimizer that
        is not installed, on the whole search path, twice a step.
        """
        with self.connected():
            self.model = accelerator.prepare(model)

    def rows(
        self, x: Int64[np.ndarray, "batch pos"], y: Int64[np.ndarray, "batch pos"]
    ) -> tuple[Int64[np.ndarray, "rows pos"], Int64[np.ndarray, "rows pos"], float]:
        """This process's rows of the global batch, and the weight of their mean loss.

        The weights of all processes are 1 on average; with them the mean over processes is the mean over all targets,
        also where rows have unequal numbers of them.
        """
        if not self.several:
            return x, y, 1.0
        mine = np.array_split(np.arange(len(x)), self.count)[self.rank]
        learned = float((y != -1).sum())
        return x[mine], y[mine], float((y[mine] != -1).sum()) * self.count / learned

    def exchange(self, loss: float, reason: str) -> tuple[float, str]:
        """The mean loss of all processes, and why one of them wants to end ("" if none does): the same for all."""
        if not self.several:
            return loss, reason
        mine = torch.tensor([loss, float(REASONS.index(reason))], dtype=torch.float64, device=self.device)
        told = [torch.empty_like(mine) for _ in range(self.count)]
        torch.distributed.all_gather(told, mine)
        losses, reasons = torch.stack(told).cpu().unbind(1)
        return float(losses.mean()), REASONS[int(reasons.max())]

    def reseed(self, random: OwnRandom, seed: int, step: int) -> None:
        """Another dropout for each process; it follows from the step, so that a resumed run has it again."""
        if self.rank:
            words = np.random.SeedSequence([seed, self.rank, step]).generate_state(2, np.uint32)
            number = int(words[0]) << 31 | int(words[1]) >> 1
            random.generator.manual_seed(number)
            if self.device.type == "cuda":
                torch.cuda.manual_seed(number)

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """What torch says of a lost process, in a sentence.

        Raises:
            RankLost: Another process has ended.
        """
        try:
            yield
        except RuntimeError as error:
            if not self.several or not any(word in str(error).lower() for word in LOST):
                raise
            raise RankLost(f"Another of the {self.count} processes that train together has ended or does not answer "
                           f"({_in_short(error)}). What was recorded is whole: launch all of them again with "
                           "resume.") from error


@atexit.register
def _part() -> None:
    """Ends the connection while the interpreter lives: what is left to its end aborts the process at times."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        gc.collect()  # wrappers of models that are no longer used hold it, too


def _in_short(error: Exception) -> str:
    """The first sentence, without the place in torch's own files."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"^\[\S+:\d+\] ", "", first).split(". ")[0]


class SilentWriter(RunWriter):
    """What the other processes have for a writer: nothing reaches the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state, self.error, self.notice, self.replica = "recording", None, None, None
        self.dropped, self.longest_wait = 0, 0.0

    def log(self, row: dict[str, Any]) -> None:
        """Nothing."""

    def commit(self, step: int, contents: dict[str, Any], records: Any = (), *, final: bool = False) -> bool:
        """Nothing."""
        return True

    def close(self) -> bool:
        """Nothing."""
        self.state = "closed"
        return True
