"""A recorded run as a board with a slider over its steps, and as a page."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gptviz.dashboards.explore import facts, picture, trace_views
from gptviz.dashboards.live import live_board
from gptviz.dashboards.next import N_CHOICES
from gptviz.dashboards.tensors import named
from gptviz.export import export_html
from gptviz.views import View, attention_view, events_view, tokens_view, training_view
from gptviz.widgets import Board

N_POINTS = 4000  # finite ones of a loss curve: more than any screen has pixels


def watch(run: Any, probe: int = 0) -> Board:
    """A recorded run with a slider over its steps: a probe text's heads, its loss by token, and the loss curve.

    The probe comes from what was recorded, without torch; another text typed into the board goes through the weights of
    the chosen step.

    A run that is being trained, here in the background or in another process, is shown live: its state, losses and
    speed, the growing curve, and each newly recorded step for a reader who is at the last one. In this process it can
    be paused, stepped by hand, recorded and given another learning rate; in another one it can be stopped.

    Args:
        run: A Run, or the path or name of one.
        probe: Which of the run's probe texts.

    Raises:
        ValueError: If the run has no such probe or no recorded step.

    Example:
        >>> from gptviz.runs import open_run
        >>> board = watch(open_run("sorter"))
        >>> board.step == board.steps[-1]
        True
    """
    run = _opened(run)
    if not 0 <= probe < len(run.probes):
        raise ValueError(f"probe must be one of the run's {len(run.probes)} probe texts, counted from 0; it is "
                         f"{probe}. They are in run.probes.")
    text = str(run.probes[probe])

    def frame(step: int, wanted: str) -> list[View]:
        if wanted == text:
            return snapshot_views(run, step, probe)
        return trace_views(run.record(wanted, step=step), run.tokenizer)

    if run.status in ("running", "paused"):
        return live_board(run, frame, text)
    steps = run.steps
    if not steps:
        raise ValueError(f"{run.path} has no recorded step. Train again, or open another run.")
    over_steps = [*event_views(run), curve_view(run)]

    def source(step: int | None, wanted: str) -> Sequence[View]:
        return [*frame(steps[-1] if step is None else step, wanted), *over_steps]

    board = Board(source(None, text), name="watch", title=run.name, facts=facts(run.config), steps=steps,
                  source=source, text=text, limit=run.config.block_size, editable=run.tokenizer is not None)
    board.picture = lambda: picture(board)
    return board


def report(run: Any, path: str | os.PathLike, probe: int = 0) -> Path:
    """Write a run as one page that needs no network: all steps of a probe text, the slider and the loss curve.

    Args:
        run: A Run, or the path or name of one.
        path: The HTML file to write.
        probe: Which of the run's probe texts.

    Example:
        >>> import tempfile
        >>> report("sorter", Path(tempfile.mkdtemp()) / "report.html").name
        wrote ...report.html (...)
        'report.html'
    """
    run = _opened(run)
    return export_html(watch(run, probe), path, title=f"{run.name} · gptviz")


def snapshot_views(run: Any, step: int, probe: int) -> list[View]:
    """The views of a probe as it was recorded at a step, from bytes on disk; without torch."""
    snapshot = run.snapshot(step, probe)
    pattern = snapshot.pattern if snapshot.nonfinite is None else snapshot.attention()
    top, probs = snapshot.top_ids[:, :N_CHOICES], snapshot.top_probs[:, :N_CHOICES]
    short, words = named(top, run.tokenizer.visible if run.tokenizer else str)
    follows = snapshot.top_ids[:-1] == snapshot.ids[1:, None]  # rank of a token that the recorded top-k holds, else 0
    rank = np.concatenate([[0], np.where(follows.any(axis=1), follows.argmax(axis=1) + 1, 0)]).astype(np.int32)
    text = tokens_view(snapshot.loss, snapshot.tokens, top_ids=short, top_probs=probs, words=words, rank=rank)
    return [attention_view(pattern, snapshot.tokens), text]


def event_views(run: Any) -> list[View]:
    """The timeline of a run's events; none for a run that was recorded without looking for them."""
    return [events_view(run.events)] if run.observations or run.events else []


def curve_view(run: Any) -> View:
    """Training and validation loss of a run over its steps."""
    metrics, series = run.metrics(), {}
    diverged = metrics.get("nonfinite", np.zeros(len(metrics["step"]), bool))
    for name, column in (("train", "loss"), ("validation", "val_loss")):
        if column not in metrics:
            continue
        values = metrics[column]
        measured = np.isfinite(values) | (diverged if name == "train" else False)  # NaN elsewhere: not measured
        at = np.flatnonzero(measured)
        at = at[_shown(values[at])]
        series[name] = (metrics["step"][at], values[at])
    return training_view(series)


def _shown(values: np.ndarray) -> np.ndarray:
    """The places of a long curve that are drawn: both ends, all that is not finite, and each bucket's extremes."""
    if len(values) <= N_POINTS:
        return np.arange(len(values))
    finite = np.flatnonzero(np.isfinite(values))
    buckets = np.array_split(finite, min(len(finite), N_POINTS // 2) or 1)
    extremes = [at[[values[at].argmin(), values[at].argmax()]] for at in buckets if len(at)]
    return np.unique(np.concatenate([[0, len(values) - 1], np.flatnonzero(~np.isfinite(values)), *extremes]))


def _opened(run: Any) -> Any:
    """A Run, from itself or its path or name."""
    from gptviz.runs import open_run

    return open_run(run) if isinstance(run, str | os.PathLike) else run
