"""One attention score as a table that adds up: who wrote the query, times who wrote the key."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from gptviz.views.numbers import precise
from gptviz.views.view import Check, View

TITLE, SUBTITLE = "Score, split exactly", "what wrote the query (rows) × what wrote the key (columns)"
SAID = 5  # rows of a summary
MASKED = "masked: this key comes after the query"


def decomposition_view(
    at: Callable[[int, int, int, int], View], *, n_layer: int, n_head: int, n_tokens: int,
    kept: int | None = None,
) -> View:
    """The score of any cell of any head, split when it is looked at.

    Args:
        at: (layer, head, query, key) -> `decomposition_table` of that cell.
        n_layer: Layers.
        n_head: Heads per layer.
        n_tokens: Positions of the text.
        kept: How many cells a page holds at most; all by default.

    Example:
        >>> table = decomposition_table(np.array([[1.0, 2.0]]), ["embed"], ["embed", "pos_embed"], 3.0, 0.0, 1e-4)
        >>> view = decomposition_view(lambda *cell: table, n_layer=1, n_head=1, n_tokens=1)
        >>> view.detail_of(layer=0, head=0, query=0, key=0).arrays["terms"].sum()
        np.float32(3.0)
    """

    def cell(place: dict[str, int]) -> View:
        if place["key"] > place["query"]:
            return View("decomposition", TITLE, SUBTITLE, {}, {}, labels={"note": (MASKED,)})
        return at(place["layer"], place["head"], place["query"], place["key"])

    return View("decomposition", TITLE, SUBTITLE, {}, {}, detail=cell, detail_axes=("layer", "head", "query", "key"),
                detail_places=(range(n_layer), range(n_head), range(n_tokens), range(n_tokens)),
                kept_details=kept)


def decomposition_table(
    terms: Float[np.ndarray, "query_component key_component"], query_names: Sequence[str], key_names: Sequence[str],
    score: float, error: float, bound: float,
) -> View:
    """The table of one score, with what its sum misses the recorded score by.

    Args:
        terms: What each pair adds to the score.
        query_names: What wrote the query.
        key_names: What wrote the key.
        score: The recorded score.
        error: By how much the sum misses it.
        bound: By how much it may.
    """
    largest = float(np.abs(terms[np.isfinite(terms)]).max(initial=0.0)) or 1.0
    return View("decomposition", TITLE, SUBTITLE,
                {"terms": terms.astype(np.float32), "score": np.array([score], np.float32)},
                {"terms": ("query_component", "key_component"), "score": ("one",)},
                labels={"query_component": tuple(query_names), "key_component": tuple(key_names)},
                range={"terms": (-largest, largest)},
                checks=(Check("the table adds up to the score", error, bound),))


def decomposition_in_words(
    view: View, query: int, layer: int = 0, head: int = 0, key: int = 0
) -> tuple[str, list[str], list[list[str]]]:
    """The pairs that carry a score."""
    detail = view.detail_of(layer=layer, head=head, query=query, key=key)
    where = f"L{layer}H{head}, query {query} and key {key}"
    if "terms" not in detail.arrays:
        return f"{where}: {detail.labels['note'][0]}.", [], []
    terms = detail.arrays["terms"].astype(np.float64)
    sentence = (f"Score of {where}: {terms.size} terms add up to {precise(terms.sum(), 4)}; recorded is "
                f"{precise(float(detail.arrays['score'][0]), 4)} (error {detail.checks[0].error:.0e}).")
    largest = np.argsort(-np.abs(terms), axis=None, kind="stable")[:SAID]
    pairs = zip(*np.unravel_index(largest, terms.shape), strict=True)
    queries, keys = detail.labels["query_component"], detail.labels["key_component"]
    rows = [[queries[i], keys[j], precise(float(terms[i, j]), 4, signed=True)] for i, j in pairs]
    return sentence, ["query side", "key side", "adds"], rows
