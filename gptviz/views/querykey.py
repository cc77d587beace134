"""Queries and keys of one head: the vectors whose products are the scores."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from gptviz.analysis.predictions import softmax
from gptviz.views.view import Check, View

TITLE, SUBTITLE = "Query and key", "q · k dimension by dimension, the score, the pattern"
SAID = 5  # rows of a summary
LARGEST = 1_000_000  # bytes of the queries and keys of one head that are sent at once

Vectors = Float[np.ndarray, "pos d_head"]
Square = Float[np.ndarray, "query key"]


def querykey_view(
    vectors: Callable[[int, int], tuple[Vectors, Vectors]], recorded: Callable[[int, int], tuple[Square, Square]],
    *, n_layer: int, n_head: int, n_tokens: int, d_head: int,
) -> View:
    """The queries and keys of every head, each sent when its head is looked at.

    The browser multiplies them: query by key, dimension by dimension; summed and divided by sqrt(d_head) they are the
    score, and softmax of the scores is the pattern. How far both are from what was recorded is measured here.

    Args:
        vectors: (layer, head) -> its q and k.
        recorded: (layer, head) -> its scores (-inf above the diagonal) and its pattern.
        n_layer: Layers.
        n_head: Heads per layer.
        n_tokens: Positions of the text.
        d_head: Width of a query.

    Example:
        >>> one = np.ones((1, 4), np.float32)
        >>> square = lambda value: np.full((1, 1), value, np.float32)
        >>> view = querykey_view(lambda *_: (one, one), lambda *_: (square(2), square(1)), n_layer=1, n_head=1,
        ...                      n_tokens=1, d_head=4)
        >>> [check.error for check in view.detail_of(layer=0, head=0).checks]
        [0.0, 0.0]
    """
    if 8 * n_tokens * d_head > LARGEST:
        note = (f"{n_tokens} tokens are too many: the queries and keys of a head would be "
                f"{8 * n_tokens * d_head / 1e6:.1f} MB. Look at a text of {LARGEST // (8 * d_head)} tokens or fewer.")
        return View("querykey", TITLE, SUBTITLE, {}, {}, labels={"note": (note,)})

    def head(at: dict[str, int]) -> View:
        q, k = vectors(at["layer"], at["head"])
        return View("querykey", TITLE, SUBTITLE, {"q": q.astype(np.float32), "k": k.astype(np.float32)},
                    {"q": ("pos", "d_head"), "k": ("pos", "d_head")},
                    checks=_checks(q, k, *recorded(at["layer"], at["head"])))

    return View("querykey", TITLE, SUBTITLE, {}, {}, content={"d_head": d_head}, detail=head,
                detail_axes=("layer", "head"), detail_places=(range(n_layer), range(n_head)))


def scores_of(q: Vectors, k: Vectors) -> tuple[Square, Square]:
    """Scores and pattern of queries and keys, float64; -inf and 0 above the diagonal.

    Example:
        >>> scores_of(np.array([[1.0], [2.0]]), np.array([[3.0], [3.0]]))[1]
        array([[1. , 0. ],
               [0.5, 0.5]])
    """
    products = q.astype(np.float64) @ k.astype(np.float64).T / np.sqrt(q.shape[1])
    scores = np.where(np.tri(len(q), dtype=bool), products, -np.inf)
    return scores, softmax(scores)


def _checks(q: Vectors, k: Vectors, scores: Square, pattern: Square) -> tuple[Check, Check]:
    """How far q · k / sqrt(d_head) and its softmax are from the recorded scores and pattern."""
    made, weights = scores_of(q, k)
    lower = np.tri(len(q), dtype=bool)
    largest = max(1.0, float(np.abs(made[lower]).max()))
    return (Check("q · k / √d_head is the score", float(np.abs(made[lower] - scores[lower]).max()), 1e-4 * largest),
            Check("softmax of the scores is the pattern", float(np.abs(weights - pattern).max()), 1e-4))


def querykey_in_words(view: View, query: int, layer: int = 0, head: int = 0) -> tuple[str, list[str], list[list[str]]]:
    """The keys that a query gives most to, with their scores."""
    if view.detail is None:
        return view.labels["note"][0], [], []
    detail = view.detail_of(layer=layer, head=head)
    scores, pattern = (one[query, : query + 1] for one in scores_of(detail.arrays["q"], detail.arrays["k"]))
    errors = "; ".join(f"{check.name}, error {check.error:.0e}" for check in detail.checks)
    sentence = f"Query {query} of L{layer}H{head}, {detail.arrays['q'].shape[1]} dimensions: {errors}."
    strongest = np.argsort(-pattern, kind="stable")[:SAID]
    rows = [[str(key), f"{scores[key]:.4f}", f"{pattern[key]:.4f}"] for key in strongest]
    return sentence, ["key", "score", "softmax"], rows
