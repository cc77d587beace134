"""Many runs at a glance, and the scalars of one for other tools."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from gptviz.runs.faults import NotARun
from gptviz.runs.journal import lossless
from gptviz.runs.reader import Run
from gptviz.whole_files import write_whole

COLUMNS = (
    "name", "status", "last_step", "steps", "loss", "val_loss", "tokens_per_second", "megabytes", "events", "seed",
    "learns", "created",
)  # fmt: skip


class RunsTable(list[dict[str, Any]]):
    """Rows of `runs_table`; its repr is a table."""

    def __repr__(self) -> str:
        cells = [COLUMNS, *([_shown(row[name]) for name in COLUMNS] for row in self)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(COLUMNS))]
        lines = ("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) for row in cells)
        return "\n".join(line.rstrip() for line in lines)


def runs_table(folder: str | Path) -> RunsTable:
    """One row for each run directory in a folder, by name; without torch.

    Returns:
        A list of dicts: name, status, last_step, steps (recorded), loss and val_loss (the newest; NaN if that came),
        tokens_per_second, megabytes, events (found in the model), seed, learns (the corpus or task), created; None
        where a run does not say. A damaged run has its fault as its status.

    Raises:
        ValueError: `folder` is no folder.

    Example:
        >>> runs_table(getfixture("tmp_path"))
        name  status  last_step  steps  loss  val_loss  tokens_per_second  megabytes  events  seed  learns  created
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"Runs are looked for in a folder; {folder} is none. Give the folder that holds the run "
                         "directories.")
    return RunsTable(_row(path) for path in sorted(folder.iterdir()) if (path / "run.json").is_file())


def write_scalars(run: Run, path: str | Path) -> Path:
    """Writes the scalars of every step for other tools: .csv, .jsonl, or a folder of TensorBoard events.

    In CSV a scalar that was not measured is empty, and NaN and infinities are written as such; in JSONL the former is
    left out and the latter are null, named under "nonfinite".

    Args:
        run: A `Run`.
        path: A file that ends in .csv or .jsonl; anything else is a folder for TensorBoard, which must be installed.

    Returns:
        The path.

    Raises:
        ValueError: TensorBoard is wanted and not installed.

    Example:
        >>> from gptviz.runs import open_run
        >>> written = write_scalars(open_run("sorter"), getfixture("tmp_path") / "loss.csv")
        >>> written.read_text().splitlines()[0]
        'step,accuracy,grad_norm,loss,lr,val_loss'
    """
    path, metrics = Path(path), run.metrics()
    flagged = metrics.pop("nonfinite")
    if path.suffix == ".csv":
        write_whole(path, _csv(metrics, flagged).encode())
    elif path.suffix == ".jsonl":
        lines = (json.dumps(lossless(row)) for row in _rows(metrics, flagged))
        write_whole(path, "".join(f"{line}\n" for line in lines).encode())
    else:
        _tensorboard(metrics, flagged, path)
    return path


def _row(path: Path) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS) | {"name": path.name}
    try:
        run = Run(path)
        summary, train = run.summary(), run.info.get("train", {})
    except (NotARun, OSError, ValueError) as error:
        return row | {"status": f"damaged: {error}"[:80]}
    known = {name: summary[name] for name in ("status", "last_step", "steps", "loss", "val_loss", "tokens_per_second")}
    return row | known | {
        "megabytes": round(sum(summary["bytes"].values()) / 1e6, 1), "seed": train.get("seed"),
        "events": sum("evidence" in event for event in run.events), "learns": train.get("corpus") or train.get("task"),
        "created": run.info.get("created"),
    }  # fmt: skip


def _rows(metrics: dict[str, np.ndarray], flagged: np.ndarray) -> list[dict[str, Any]]:
    """The scalars that were measured, by step: NaN counts as measured only in a row that is flagged."""
    return [
        {name: column[i].item() for name, column in metrics.items() if not np.isnan(column[i]) or flagged[i]}
        for i in range(len(flagged))
    ]  # fmt: skip


def _csv(metrics: dict[str, np.ndarray], flagged: np.ndarray) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(metrics), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(metrics, flagged))
    return text.getvalue()


def _tensorboard(metrics: dict[str, np.ndarray], flagged: np.ndarray, folder: Path) -> None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as missing:
        raise ValueError(f"Scalars for TensorBoard need the package tensorboard, which is not installed; {folder} does "
                         "not end in .csv or .jsonl, which need none. pip install tensorboard.") from missing
    with SummaryWriter(str(folder)) as writer:
        for row in _rows(metrics, flagged):
            step = row.pop("step")
            for name, value in row.items():
                writer.add_scalar(name, value, step)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
