"""One trace as a board; with a model, of any text that the reader types into it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from gptviz.views import Check, View, attention_view, tokens_view
from gptviz.widgets import Board

N_CHOICES = 5  # next tokens shown at a position


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
    board = Board(views, title=title, facts=facts(trace.config), text=text, limit=trace.config.block_size,
                  editable=model is not None, source=_source_of(model, tokenizer) if model is not None else None)
    board.picture = lambda: picture(board)
    return board


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
    heads = attention_view([_numpy(trace["pattern", layer]) for layer in trace.layers], trace.tokens)
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
    short, words = named(top, visible)
    return tokens_view(loss, trace.tokens, top_ids=short, top_probs=np.exp(np.take_along_axis(log_p, top, axis=1)),
                       words=words, rank=rank)


def _source_of(model: Any, tokenizer: Any) -> Callable[[int | None, str], list[View]]:
    """A source that runs the model on the text the reader typed."""
    from gptviz.trace import record

    return lambda _step, text: trace_views(record(model, text, tokenizer, names=["pattern", "logits"]), tokenizer)


def named(ids: np.ndarray, visible: Callable[[int], str]) -> tuple[np.ndarray, list[str]]:
    """Ids as indices into a list of words that holds each only once."""
    used, short = np.unique(ids, return_inverse=True)
    return short.reshape(ids.shape), [visible(int(token)) for token in used]


def facts(config: Any) -> list[str]:
    """What a reader wants to know of a model in one line."""
    wide, layers = config.n_embd, config.n_layer
    block = 12 * wide**2 + (13 if config.bias else 2) * wide
    tables = (config.vocab_size * (1 if config.tie_weights else 2) + config.block_size) * wide
    count = layers * block + tables + (2 if config.bias else 1) * wide
    size = f"{count / 1e6:.1f} M" if count >= 1e5 else f"{count / 1e3:.1f} k"
    return [f"{layers} layers × {config.n_head} heads", f"d_model {wide}", f"block_size {config.block_size}",
            f"{size} parameters"]


def _numpy(tensor: Any) -> np.ndarray:
    """A tensor as a float32 array in main memory."""
    return tensor.detach().float().cpu().numpy()


def picture(board: Board) -> bytes:
    """A PNG of the heads, the chosen one large, for readers without a kernel."""
    from gptviz import figures

    return figures.picture(board.views[0], layer=board.layer, head=board.head)
