"""A recorded run as a board with a slider over its steps, and as a page."""

import os
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from gptviz.dashboards.explore import facts, parts, picture, trace_views
from gptviz.dashboards.live import live_board
from gptviz.dashboards.next import N_CHOICES, actions_of
from gptviz.dashboards.over_steps import OfAProbe, film_of
from gptviz.dashboards.progress import Progress
from gptviz.dashboards.tensors import named, visible_of
from gptviz.dashboards.unfolded import when_unfolded
from gptviz.export import export_html
from gptviz.tasks import n_given
from gptviz.views import View, attention_view, tokens_view, training_view
from gptviz.views.tokens import with_given
from gptviz.views.training import drawn_points
from gptviz.widgets import Board

RECORDED = ("heads", "text")  # of a probe these were recorded: they need neither weights nor torch
OF_ANY_TEXT = ("next", "lens", "writes")  # beside them for a text that goes through the weights of a step
KEPT_MODELS = 3  # of a run's steps, for the next look at them
N_POINTS = 4000  # finite ones of a loss curve: more than any screen has pixels


def watch(run: Any, probe: int = 0, *, views: Sequence[str] | None = None) -> Board:
    """A recorded run with one slider over its steps that moves every view.

    Of a probe text: all heads, the loss by token, the guesses that became right, a head as a film strip, the events,
    the scores of the heads, the distributions and the loss curve; all from what was recorded, without torch. Another
    text typed into the board goes through the weights of the chosen step and is also shown with the next token, the
    logit lens and the writes. A second step can be compared with: heads and text then show the change.

    A run that is being trained, here in the background or in another process, is shown live: its state, losses and
    speed, the growing curves, and each newly recorded step for a reader who is at the last one; of the probe also the
    guesses, the film strip and, computed when they are unfolded and again for each step that is shown, the logit lens,
    embeddings and positions. In this process it can be paused, stepped by hand, recorded and given another learning
    rate; in another one it can be stopped.

    Args:
        run: A Run, or the path or name of one.
        probe: Which of the run's probe texts.
        views: Parts beside the heads and the text, for the probe, too, by the names in `gptviz.dashboards.parts()`:
            they are computed with the weights of the step. None for what was recorded of the probe, and "next", "lens"
            and "writes" of other texts; () for nothing else.

    Raises:
        ValueError: If the run has no such probe or no recorded step, or a view is unknown or edits the model.

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
    text, more = str(run.probes[probe]), _more_views(views)
    load = lru_cache(maxsize=KEPT_MODELS)(run.load)
    alive = run.status in ("running", "paused")

    def frame(step: int, wanted: str) -> list[View]:
        if wanted == text and not views:
            now = [*of_probe.views(), *when_unfolded(run, load, step, probe)] if alive and views is None else []
            return [*snapshot_views(run, step, probe), *now]
        recorded = snapshot_views(run, step, probe) if wanted == text else []
        return [*recorded, *_computed(load(step), wanted, more if recorded else (*RECORDED, *more))]

    progress, of_probe = Progress(run, probe), OfAProbe(run, probe)
    if alive:
        return live_board(run, frame, text, progress.views, load)
    steps = run.steps
    if not steps:
        raise ValueError(f"{run.path} has no recorded step. Train again, or open another run.")
    over_steps = [*progress.views(), curve_view(run)]
    strip = lru_cache(maxsize=1)(lambda wanted, n_tokens: film_of(run, wanted, n_tokens))

    def source(step: int | None, wanted: str) -> Sequence[View]:
        heads, shown, *computed = frame(steps[-1] if step is None else step, wanted)
        through = of_probe.views() if wanted == text else [strip(wanted, len(heads.labels["token"]))]
        return [heads, shown, *over_steps, *through, *computed]  # those of every step first: a frame repeats none

    def ask(name: str, value: Any) -> dict:
        return actions_of(*load(board.step))[name](value)

    board = Board(source(None, text), name="watch", title=run.name, facts=facts(run.config), steps=steps,
                  source=source, text=text, limit=run.config.block_size, editable=run.tokenizer is not None,
                  actions={name: partial(ask, name) for name in ("continue", "use_text")})
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


def _more_views(views: Sequence[str] | None) -> tuple[str, ...]:
    """The parts beside heads and text, in the order of the page."""
    if views is None:
        return OF_ANY_TEXT
    known = [name for name in parts() if name != "edits"]
    if set(views) - set(known):
        raise ValueError(f"views of watch() must be some of {', '.join(known)}; given were {', '.join(views)}. "
                         f"To edit a model, gptviz.explore(run.record(text, step), *run.load(step)).")
    return tuple(name for name in known if name in views and name not in RECORDED)


def _computed(loaded: tuple[Any, Any], text: str, names: Sequence[str]) -> list[View]:
    """Parts of a text from a forward pass through a model."""
    from gptviz.trace import record

    model, tokenizer = loaded
    return trace_views(record(model, text, tokenizer), tokenizer, model=model, views=names)


def snapshot_views(run: Any, step: int, probe: int) -> list[View]:
    """The views of a probe as it was recorded at a step, from bytes on disk; without torch."""
    snapshot = run.snapshot(step, probe)
    pattern = snapshot.pattern if snapshot.nonfinite is None else snapshot.attention()
    top, probs = snapshot.top_ids[:, :N_CHOICES], snapshot.top_probs[:, :N_CHOICES]
    short, words = named(top, visible_of(run.tokenizer))
    follows = snapshot.top_ids[:-1] == snapshot.ids[1:, None]  # rank of a token that the recorded top-k holds, else 0
    rank = np.concatenate([[0], np.where(follows.any(axis=1), follows.argmax(axis=1) + 1, 0)]).astype(np.int32)
    text = tokens_view(snapshot.loss, snapshot.tokens, top_ids=short, top_probs=probs, words=words, rank=rank,
                       arrays=_norms(snapshot))
    return [attention_view(pattern, snapshot.tokens), with_given(text, n_given(run.info.get("data")))]


def _norms(snapshot: Any) -> dict[str, np.ndarray]:
    """The length of the residual stream at each token, after the embeddings and after each layer."""
    lengths = snapshot.statistics.get("resid_norm", ())
    return {f"residual norm {'at first' if not at else f'after L{at - 1}'}": norm for at, norm in enumerate(lengths)}


def curve_view(run: Any) -> View:
    """Training and validation loss of a run over its steps."""
    metrics, series, known = run.metrics(), {}, 0
    diverged = metrics.get("nonfinite", np.zeros(len(metrics["step"]), bool)).any()
    for name, column in (("train", "loss"), ("validation", "val_loss")):
        if column not in metrics:
            continue
        values = metrics[column]
        measured = np.isfinite(values)  # NaN elsewhere was not measured, but for what came out as NaN
        if diverged:
            measured |= np.isin(metrics["step"], run.nonfinite_steps(column))
        at = np.flatnonzero(measured)
        known = max(known, len(at))
        at = at[drawn_points(values[at], N_POINTS)]
        series[name] = (metrics["step"][at], values[at])
    return training_view(series, known=known)


def _opened(run: Any) -> Any:
    """A Run, from itself or its path or name."""
    from gptviz.runs import open_run

    if isinstance(run, str | os.PathLike):
        return open_run(run if isinstance(run, str) else Path(run))
    return run
