"""What each of two processes does that torchrun started: trainings whose runs the test then looks at.

    torchrun --nproc-per-node 2 tests/two_processes.py FOLDER
"""

import os
import signal
import sys
from pathlib import Path

from gptviz.corpora import TextData
from gptviz.training import TrainConfig, train
from gptviz.training.ranks import Ranks, is_first_process
from gptviz.training.start import make_accelerator

TEXT = "the quick brown fox jumps over the lazy dog; pack my box with five dozen jugs. " * 30


def text(**changes) -> TrainConfig:
    """Five sequences: one process takes three of them, the other two."""
    fields = dict(corpus=TextData.from_text(TEXT), n_layer=2, n_head=2, n_embd=16, block_size=16, batch_size=5,
                  max_iters=100, warmup_iters=5, eval_interval=50, eval_iters=2, device="cpu", threads=1)
    return TrainConfig(**fields | changes)


def task(**changes) -> TrainConfig:
    """Targets that are not learned."""
    return text(corpus=None, task="sort", block_size=None, **changes)


def refusals(folder: Path) -> list[str]:
    """What several processes cannot do, as it is said."""
    said = []
    for config, background in ((text(out=None), False), (text(out=folder / "x", batch_size=1), False),
                               (text(out=folder / "x"), True)):
        try:
            train(config, background=background, progress=False)
        except ValueError as error:
            said.append(str(error))
    ranks = Ranks(make_accelerator("cpu"))
    try:
        ranks.agree(100 + ranks.rank)
    except ValueError as error:
        said.append(str(error))
    return said


def stopped(folder: Path) -> None:
    """A run that Ctrl-C in the first process alone ends, and that then goes on."""
    out = folder / "stopped"

    def interrupt(step: int, loss: float) -> None:
        if step == 20 and is_first_process():
            os.kill(os.getpid(), signal.SIGINT)

    run = train(text(out=out, dropout=0.2, max_iters=60), progress=False, on_step=interrupt)
    if is_first_process():
        (folder / "outcome.txt").write_text(run.outcome)
    run.resume(progress=False)


def main() -> None:
    folder = Path(sys.argv[1])
    train(text(out=folder / "text"), progress=False)
    train(task(out=folder / "task"), progress=False)
    train(text(out=folder / "calm", dropout=0.2, max_iters=60), progress=False)
    stopped(folder)
    said = refusals(folder)
    if is_first_process():
        (folder / "said.txt").write_text("\n".join(said))


if __name__ == "__main__":
    main()
