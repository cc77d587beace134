"""Make the packaged run `sorter`: minGPT's sorting task, six letters of three, solved for all 729 inputs.

    .venv/bin/python assets/make_sorter.py        (about a minute; replaces assets/runs/sorter)

The recorded steps are chosen so that the slider shows how the solution comes about within 4 MB. Optimizer states
are left out: a packaged run is looked at, not gone on with.
"""

import os
import shutil
from pathlib import Path

import torch

from gptviz.runs import open_run
from gptviz.runs.journal import LineReader, encode
from gptviz.tasks import SortTask
from gptviz.training import TrainConfig, train

RUNS = Path(__file__).resolve().parent / "runs"
STEPS = (0, 10, 20, 30, 40, 50, 75, 100, 200, 600)
LARGEST = 4_000_000  # bytes
CONFIG = TrainConfig(
    task="sort",
    out="sorter",
    n_layer=3,
    n_head=3,
    n_embd=48,
    batch_size=64,
    learning_rate=1e-3,
    min_lr=1e-4,
    max_iters=STEPS[-1],
    weight_decay=0.1,
    eval_interval=10,
    probes=("CBABBCABBBC", "ACBCABAABBC"),
    record_steps=STEPS,
    threads=1,
)


def main() -> None:
    """Train, drop what a reader does not need, check what is promised."""
    RUNS.mkdir(exist_ok=True)
    os.chdir(RUNS)  # run.json then holds no path of this machine
    shutil.rmtree("sorter", ignore_errors=True)
    run = train(CONFIG)
    without_optimizer(run.path)
    check(run.path)


def without_optimizer(folder: Path) -> None:
    """Remove the optimizer's states, first from the journal."""
    journal = folder / "journal.jsonl"
    records = LineReader(journal).poll()
    dropped = {record["file"] for record in records if record["kind"] in ("optimizer", "state")}
    kept = [record for record in records if record.get("file") not in dropped]
    journal.write_bytes(b"".join(encode(record) for record in kept))
    for name in dropped:
        (folder / name).unlink(missing_ok=True)


def check(folder: Path) -> None:
    """The promises of the packaged run, measured."""
    run, task = open_run(folder), SortTask()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    for step in run.steps:
        model, _ = run.load(step)
        accuracy = task.accuracy(lambda ids, model=model: _logits(model, ids))
        print(f"step {step:5}: {100 * accuracy:6.2f} % of {len(task.prompts)} inputs sorted")
    print(f"{len(run.steps)} steps, {size / 1e6:.2f} MB, {run.verify() or 'every file whole'}")
    if accuracy < 1 or size > LARGEST or run.verify():
        raise SystemExit("The sorter is not good enough to be packaged.")


def _logits(model: torch.nn.Module, ids):
    with torch.no_grad():
        idx = torch.from_numpy(ids)
        return model(idx, torch.zeros_like(idx))[0].numpy()


if __name__ == "__main__":
    main()
