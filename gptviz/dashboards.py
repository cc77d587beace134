"""Boards joined to a model: what is read from a trace or a run, and what happens when the reader types another text."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gptviz.export import export_html
from gptviz.views import Check, View, attention_view, tokens_view, training_view
from gptviz.widgets import Board

N_CHOICES = 5  # next tokens shown at a position
N_POINTS = 4000  # finite ones of a loss curve: more than any screen has pixels


def explore(trace: Any, model: Any = None, tokenizer: Any = None, *, title: str = "") -> Board:
    """The heads and the text of one trace, linked; with a model and its tokenizer, of any text typed into the board.

    Args:
        trace: A Trace that holds pattern and logits of all layers, heads and positions.
        model: The model for other texts.
        tokenizer: Its tokenizer.
        title: The model's name.

    Returns:
        A Board; the value of a notebook cell draws it, `gptviz.export_html(board, path)` keeps it.

    Raises:
        ValueError: If the trace lacks pattern or logits, or only some layers, heads or positions were recorded; or if
            one of model and tokenizer is given without the other.

    Example:
        >>> from gptviz.loading import load
        >>> from gptviz.trace import record
        >>> model, tokenizer = load("sorter")
        >>> board = explore(record(model, "CBABBC", tokenizer), model, tokenizer)
        >>> board.layer, board.head = 1, 2
    """
    if (model is None) != (tokenizer is None):
        raise ValueError("explore() shows other texts with a model and its tokenizer; one of them is missing. "
                         "Pass both or neither.")
    views = trace_views(trace, tokenizer)
    text = tokenizer.decode(trace.ids.tolist()) if tokenizer is not None else "".join(trace.tokens)
    board = Board(views, title=title, facts=_facts(trace.config), text=text, limit=trace.config.block_size,
                  editable=model is not None, source=_source_of(model, tokenizer) if model is not None else None)
    board.picture = lambda: _picture(board)
    return board


def watch(run: Any, probe: int = 0) -> Board:
    """A recorded run with a slider over its steps: a probe text's heads, its loss by token, and the loss curve.

    The probe comes from what was recorded, without torch; another text typed into the board goes through the weights of
    the chosen step.

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
    steps = run.steps
    if not steps:
        raise ValueError(f"{run.path} has no recorded step yet. Wait for the first.")
    curve, text = curve_view(run), str(run.probes[probe])

    def source(step: int | None, wanted: str) -> Sequence[View]:
        chosen = steps[-1] if step is None else step
        if wanted == text:
            return [*snapshot_views(run, chosen, probe), curve]
        return [*trace_views(run.record(wanted, step=chosen), run.tokenizer), curve]

    board = Board(source(None, text), name="watch", title=run.name, facts=_facts(run.config), steps=steps,
                  source=source, text=text, limit=run.config.block_size, editable=run.tokenizer is not None)
    board.picture = lambda: _picture(board)
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


def trace_views(trace: Any, tokenizer: Any = None) -> list[View]:
    """The views of one trace: all heads, and the text by loss with the likeliest next tokens.

    Raises:
        ValueError: If pattern or logits of all layers, heads and positions are not in the trace.
    """
    for name in ("pattern", "logits"):
        if name not in trace:
            raise ValueError(f"A board needs {name} of the trace; it holds {', '.join(trace.names)}. "
                             f"Record without names=.")
    config, n = trace.config, len(trace)
    recorded = (len(trace.layers), len(trace.heads), len(trace.positions))
    if recorded != (config.n_layer, config.n_head, n):
        raise ValueError(f"A board needs all {config.n_layer} layers, {config.n_head} heads and {n} positions; "
                         f"recorded are {recorded[0]}, {recorded[1]} and {recorded[2]}. "
                         f"Record without layers=, heads=, positions=.")
    heads = attention_view(_numpy(trace["pattern"]), trace.tokens)
    checks = tuple(Check(name, check.error, check.bound) for name, check in trace.check().items())
    return [dataclasses.replace(heads, checks=checks or heads.checks),
            _text_view(trace, tokenizer.visible if tokenizer is not None else str)]


def _text_view(trace: Any, visible: Callable[[int], str]) -> View:
    """Loss, rank and the likeliest next tokens from the logits of a trace."""
    logits, ids = _numpy(trace["logits"]).astype(np.float64), trace.ids.tolist()
    k = min(N_CHOICES, logits.shape[1])
    top = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rank, loss = np.zeros(len(ids), np.int32), np.full(len(ids), np.nan)
    for position, token in enumerate(ids[1:], start=1):
        before = logits[position - 1]
        loss[position] = -log_p[position - 1, token]
        rank[position] = 1 + int((before > before[token]).sum())
    short, words = _named(top, visible)
    return tokens_view(loss, trace.tokens, top_ids=short, top_probs=np.exp(np.take_along_axis(log_p, top, axis=1)),
                       words=words, rank=rank)


def snapshot_views(run: Any, step: int, probe: int) -> list[View]:
    """The views of a probe as it was recorded at a step, from bytes on disk; without torch."""
    snapshot = run.snapshot(step, probe)
    pattern = snapshot.pattern if snapshot.nonfinite is None else snapshot.attention()
    top, probs = snapshot.top_ids[:, :N_CHOICES], snapshot.top_probs[:, :N_CHOICES]
    short, words = _named(top, run.tokenizer.visible if run.tokenizer else str)
    follows = snapshot.top_ids[:-1] == snapshot.ids[1:, None]  # rank of a token that the recorded top-k holds, else 0
    rank = np.concatenate([[0], np.where(follows.any(axis=1), follows.argmax(axis=1) + 1, 0)]).astype(np.int32)
    text = tokens_view(snapshot.loss, snapshot.tokens, top_ids=short, top_probs=probs, words=words, rank=rank)
    return [attention_view(pattern, snapshot.tokens), text]


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


def _source_of(model: Any, tokenizer: Any) -> Callable[[int | None, str], list[View]]:
    """A source that runs the model on the text the reader typed."""
    from gptviz.trace import record

    return lambda _step, text: trace_views(record(model, text, tokenizer, names=["pattern", "logits"]), tokenizer)


def _named(ids: np.ndarray, visible: Callable[[int], str]) -> tuple[np.ndarray, list[str]]:
    """Ids as indices into a list of words that holds each only once."""
    used, short = np.unique(ids, return_inverse=True)
    return short.reshape(ids.shape), [visible(int(token)) for token in used]


def _facts(config: Any) -> list[str]:
    """What a reader wants to know of a model in one line."""
    wide, layers = config.n_embd, config.n_layer
    block = 12 * wide**2 + (13 if config.bias else 2) * wide
    tables = (config.vocab_size * (1 if config.tie_weights else 2) + config.block_size) * wide
    count = layers * block + tables + (2 if config.bias else 1) * wide
    size = f"{count / 1e6:.1f} M" if count >= 1e5 else f"{count / 1e3:.1f} k"
    return [f"{layers} layers × {config.n_head} heads", f"d_model {wide}", f"block_size {config.block_size}",
            f"{size} parameters"]


def _opened(run: Any) -> Any:
    """A Run, from itself or its path or name."""
    from gptviz.runs import open_run

    return open_run(run) if isinstance(run, str | os.PathLike) else run


def _numpy(tensor: Any) -> np.ndarray:
    """A tensor as a float32 array in main memory."""
    return tensor.detach().float().cpu().numpy()


def _picture(board: Board) -> bytes:
    """A PNG of the heads, the chosen one large, for readers without a kernel."""
    from gptviz import figures

    return figures.picture(board.views[0], layer=board.layer, head=board.head)
