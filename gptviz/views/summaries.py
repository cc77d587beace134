"""A view in words: a sentence and a small table, for screen readers, terminals and tests."""

from collections.abc import Callable, Sequence

import numpy as np

from gptviz.views.lens import lens_at
from gptviz.views.view import View

ROWS = 5  # of a table, at most


def summary(view: View, *, query: int | None = None) -> str:
    """What a view shows, in a sentence and a small table.

    Args:
        view: A View that has a summary.
        query: The position that it is about, where it is about one; the last by default.

    Raises:
        ValueError: There is no summary of this kind of view, or no such position.

    Example:
        >>> from gptviz.views import tokens_view
        >>> print(summary(tokens_view(np.array([np.nan, 2.0, 0.5]), ["·a", "·b", "·c"])))
        Text of 3 tokens: mean loss 1.2500 nats, the largest 2.0000 at ‘·b’ (position 1).
        position  token  loss    p
               1  ·b     2.0000  0.1353
               2  ·c     0.5000  0.6065
    """
    if view.kind not in SUMMARIES:
        raise ValueError(f"There is a summary of {', '.join(sorted(SUMMARIES))}, not of a view of kind {view.kind!r}.")
    n = len(view.labels.get("token", ()))
    if query is not None and not 0 <= query < n:
        raise ValueError(f"query must be 0 to {n - 1}, a position of the text; it is {query}.")
    sentence, header, rows = SUMMARIES[view.kind](view, n - 1 if query is None else query)
    return "\n".join([sentence, *table(header, rows)])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table; columns of whole numbers stand at the right.

    Example:
        >>> table(["n", "word"], [["1", "a"], ["12", "b"]])
        [' n  word', ' 1  a', '12  b']
    """
    if not rows:
        return []
    columns = list(zip(header, *rows, strict=True))
    wide = [max(map(len, column)) for column in columns]
    right = [all(cell.isdigit() for cell in column[1:]) for column in columns]
    lines = [[cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(line, wide, right, strict=True)]
             for line in (header, *rows)]
    return ["  ".join(line).rstrip() for line in lines]


Table = tuple[str, list[str], list[list[str]]]


def _tokens(view: View, _query: int) -> Table:
    """Mean loss, and the tokens that surprised the model most."""
    loss, tokens, rank = view.arrays["loss"], view.labels["token"], view.arrays.get("rank")
    measured = np.flatnonzero(np.isfinite(loss))
    if not len(measured):
        return f"Text of {len(tokens)} tokens: no loss.", [], []
    worst = measured[np.argsort(-loss[measured], kind="stable")][:ROWS]
    sentence = (f"Text of {len(tokens)} tokens: mean loss {loss[measured].mean():.4f} nats, the largest "
                f"{loss[worst[0]]:.4f} at ‘{tokens[worst[0]]}’ (position {worst[0]}).")
    rows = [[str(at), tokens[at], f"{loss[at]:.4f}", f"{np.exp(-loss[at]):.4f}"] for at in worst]
    if rank is None:
        return sentence, ["position", "token", "loss", "p"], rows
    rows = [[*row, str(rank[at])] for row, at in zip(rows, worst, strict=True)]
    return sentence, ["position", "token", "loss", "p", "rank"], rows


def _lens(view: View, query: int) -> Table:
    """What each point of the model would say after a position, and how the truth stands there."""
    part, points, tokens = lens_at(view, query), view.labels["point"], view.labels["token"]
    column, words = query - int(part.arrays["first"][0]), part.labels["word"]
    top, rank = part.arrays["top_words"][:, column, 0], part.arrays["true_rank"][:, column]
    answer = np.flatnonzero(top != top[-1])
    since = points[answer[-1] + 1 if len(answer) else 0]
    follows = tokens[query + 1] if query + 1 < len(tokens) else None
    truth = "nothing follows" if follows is None else f"the truth is ‘{follows}’"
    sentence = (f"Logit lens after ‘{tokens[query]}’ (position {query}): the model's answer ‘{words[top[-1]]}’ is the "
                f"likeliest from {since} on; {truth}.")
    rows = [[point, words[word], f"{part.arrays['top_probs'][i, column, 0]:.4f}", f"{part.arrays['kl'][i, column]:.4f}",
             str(rank[i]) if follows is not None else "–"]
            for i, (point, word) in enumerate(zip(points, top, strict=True))]
    return sentence, ["point", "likeliest", "p", "KL", "rank of truth"], rows


def _next(view: View, query: int) -> Table:
    """The likeliest tokens after a position."""
    tokens, words = view.labels["token"], view.labels["word"]
    top, probs = view.arrays["top_words"][query][:ROWS], view.arrays["top_probs"][query]
    follows = tokens[query + 1] if query + 1 < len(tokens) else None
    sentence = (f"After ‘{tokens[query]}’ (position {query}) the model expects ‘{words[top[0]]}’ with probability "
                f"{probs[0]:.4f}; " + ("the text ends here." if follows is None else f"‘{follows}’ follows."))
    rows = [[words[word], f"{p:.4f}", "✓" if words[word] == follows else ""]
            for word, p in zip(top, probs[:ROWS], strict=True)]
    return sentence, ["token", "p", "truth"], rows


SUMMARIES: dict[str, Callable[[View, int], Table]] = {"lens": _lens, "next": _next, "tokens": _tokens}
