"""A view in words: a sentence and a small table, for screen readers, terminals and tests."""

from collections.abc import Callable, Sequence

import numpy as np

from gptviz.views.attention import head_pattern
from gptviz.views.decomposition import decomposition_in_words
from gptviz.views.distributions import distributions_in_words
from gptviz.views.head_curves import head_curves_in_words
from gptviz.views.lens import lens_at
from gptviz.views.numbers import precise
from gptviz.views.querykey import querykey_in_words
from gptviz.views.view import View
from gptviz.views.writes import writes_in_words

ROWS = 5  # of a table, at most


def summary(view: View, *, query: int | None = None, **place: int) -> str:
    """What a view shows, in a sentence and a small table.

    Args:
        view: A View that has a summary.
        query: The position that it is about, where it is about one; the last by default.
        place: `layer`, `head` and `key`, for a view that depends on them; 0 by default.

    Raises:
        ValueError: There is no summary of this kind of view, or no such position, or it depends on no such place.

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
    known = [name for name in ("layer", "head", "key") if name in PLACES.get(view.kind, ())]
    if set(place) - set(known):
        raise ValueError(f"The summary of a {view.kind} view depends on {', '.join(['query', *known])}; "
                         f"given were {', '.join(place)} too. Leave them out.")
    n = _count_positions(view)
    if query is not None and not 0 <= query < n:
        raise ValueError(f"query must be 0 to {n - 1}, a position of the text; it is {query}.")
    sentence, header, rows = SUMMARIES[view.kind](view, n - 1 if query is None else query, **place)
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


def _attention(view: View, query: int) -> Table:
    """Where the heads look from a position: those that look hardest at one place."""
    tokens, tiles = view.labels["token"], view.arrays.get("pattern", view.arrays.get("tiles"))
    n_layer, n_head = tiles.shape[:2] if tiles is not None else (0, 0)
    found = []
    for layer, head in np.ndindex(n_layer, n_head):
        row = head_pattern(view, layer, head)[query]
        key = int(np.nan_to_num(row, nan=-1).argmax())
        found.append((float(row[key]), f"L{layer}H{head}", key))
    found.sort(key=lambda one: -np.nan_to_num(one[0], nan=-1))
    rows = [[name, str(key), tokens[key], f"{p:.4f}"] for p, name, key in found[:ROWS]]
    sentence = (f"{n_layer * n_head} heads over {len(tokens)} tokens: from ‘{tokens[query]}’ (position {query}) "
                f"{found[0][1]} puts most on one key, {found[0][0]:.4f} on ‘{tokens[found[0][2]]}’.")
    return sentence, ["head", "key", "token", "attention"], rows


def _head_scores(view: View, _query: int) -> Table:
    """For each score the head that has most of it, and what chance would give."""
    if view.detail is None:
        return f"Head scores: {view.subtitle}.", [], []
    detail = view.detail_of()
    value, high = detail.arrays["value"], detail.arrays["null_high"]
    rows = []
    for i, words in enumerate(detail.labels["words"]):
        if np.isfinite(value[i]).any():
            layer, head = np.unravel_index(int(np.nanargmax(value[i])), value[i].shape)
            rows.append([words, f"L{layer}H{head}", f"{value[i, layer, head]:.4f}", f"{high[i, layer, head]:.4f}"])
    clear = int((detail.arrays["label"] >= 0).sum())
    sentence = f"Head scores: {clear} of {value[0].size} heads stand out from chance."
    return sentence, ["score", "highest", "value", "97.5 % of chance below"], rows


def _edits(view: View, query: int) -> Table:
    """The edits, the mean loss with and without them, and the next token after a position."""
    if "other_loss" not in view.arrays:
        return "Edits: none.", [], []
    made = ", ".join(one["words"] for one in view.content["edits"])
    before, after = (float(np.nanmean(loss)) if np.isfinite(loss := view.arrays[name]).any() else float("nan")
                     for name in ("loss", "other_loss"))
    words, rows = view.labels["word"], []
    for name, prefix in (("original", ""), ("edited", "other_")):
        for i in range(min(3, view.arrays[f"{prefix}top_words"].shape[1])):
            word, p = view.arrays[f"{prefix}top_words"][query, i], view.arrays[f"{prefix}top_probs"][query, i]
            rows.append([name, words[word], f"{p:.4f}"])
    sentence = (f"Edits {made}: mean loss {before:.4f} to {after:.4f} nats; next token after "
                f"‘{view.labels['token'][query]}’ (position {query}):")
    return sentence, ["pass", "token", "p"], rows


def _embeddings(view: View, query: int) -> Table:
    """The nearest others of the last token of the text."""
    detail, place = view.detail_of(), int(view.arrays["place"][query])
    words, share = detail.labels["tokens"], detail.arrays["tokens_share"]
    near, cosines = detail.arrays["tokens_near"][place], detail.arrays["tokens_cosine"][place]
    rows = [[words[i], f"{cosine:.4f}"] for i, cosine in zip(near, cosines, strict=True)]
    sentence = (f"Embeddings of {len(words)} tokens and {len(detail.labels['positions'])} positions; three components "
                f"hold {share.sum():.0%} of the tokens' variance. Nearest to ‘{words[place]}’:")
    return sentence, ["token", "cosine"], rows[:ROWS]


def _positions(view: View, _query: int) -> Table:
    """How alike neighbouring positions are."""
    cosine, places = view.detail_of().arrays["cosine"], view.detail_of().arrays["places"]
    beside = float(np.diagonal(cosine, 1).mean()) if len(places) > 1 else float("nan")
    return (f"Positions: {len(places)} compared; the mean cosine of two that stand side by side here is {beside:.4f}.",
            [], [])


def _circuits(view: View, _query: int) -> Table:
    """The largest cells of the tables of the first head."""
    if view.detail is None:
        return f"Circuits: {view.subtitle}.", [], []
    detail, words, rows = view.detail_of(layer=0, head=0), view.labels["word"], []
    for name in ("qk", "ov"):
        table = detail.arrays[name]
        for at in np.argsort(-np.abs(table), axis=None, kind="stable")[:3]:
            row, column = np.unravel_index(at, table.shape)
            rows.append([name.upper(), words[row], words[column], precise(float(table[row, column]), 4, signed=True)])
    sentence = f"Circuits of L0H0 over {len(words)} tokens at the text's typical LayerNorm scales, largest cells:"
    return sentence, ["table", "row", "column", "adds"], rows


def _composition(view: View, _query: int) -> Table:
    """The strongest pairs of heads."""
    detail = view.detail_of()
    scores = np.nan_to_num(detail.arrays["scores"], nan=-np.inf)
    high, strongest = (float(detail.arrays[name][0]) for name in ("null_high", "null_strongest"))
    above, clear, pairs = (int(found.sum()) for found in (scores > high, scores > strongest, np.isfinite(scores)))
    rows = []
    for at in np.argsort(-scores, axis=None, kind="stable")[: min(ROWS, above)]:
        kind, a, b, c, d = np.unravel_index(at, scores.shape)
        rows.append(["QKV"[kind], f"L{a}H{b}", f"L{c}H{d}", f"{scores.ravel()[at]:.4f}"])
    sentence = (f"Composition: {above} of {pairs} pairs above {high:.4f}, the random 97.5 % (by chance about "
                f"{0.025 * pairs:.1f}); {clear} above {strongest:.4f}, "
                "which 95 % of models of random weights do not reach.")
    return sentence, ["kind", "writer", "reader", "score"], rows


def _count_positions(view: View) -> int:
    """Positions of the text that a view is about."""
    if "query" in view.detail_axes:
        return len(view.detail_places[view.detail_axes.index("query")])
    if view.kind == "querykey":
        return len(view.detail_of(layer=0, head=0).arrays["q"]) if view.detail else 0
    return len(view.labels.get("token", ()))


SUMMARIES: dict[str, Callable[..., Table]] = {
    "lens": _lens, "next": _next, "tokens": _tokens, "attention": _attention, "head_scores": _head_scores,
    "edits": _edits, "embeddings": _embeddings, "positions": _positions, "circuits": _circuits,
    "composition": _composition, "writes": writes_in_words, "querykey": querykey_in_words,
    "decomposition": decomposition_in_words, "head_curves": head_curves_in_words,
    "distributions": distributions_in_words,
}
PLACES = {"querykey": ("layer", "head"), "decomposition": ("layer", "head", "key")}
