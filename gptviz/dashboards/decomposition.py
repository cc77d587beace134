"""One attention score split exactly, from a trace and the weights."""

from functools import lru_cache
from typing import Any

from gptviz.analysis.decomposition import score_decomposition
from gptviz.analysis.requirements import matching_model
from gptviz.views import View
from gptviz.views.decomposition import decomposition_table, decomposition_view

NAMES = ("embed", "pos_embed", "z", "mlp_out", "ln_1_scale", "scores")
PAGE_PRODUCTS = 4 * 10**7  # multiplications that a page may wait for, beyond a few cells


def decomposition_part(trace: Any, model: Any, *_: object) -> View:
    """The score of any cell of a trace, split when it is looked at."""
    inner, config = matching_model(trace, model), trace.config

    @lru_cache(maxsize=64)
    def table(layer: int, head: int, query: int, key: int) -> View:
        split = score_decomposition(trace, inner, layer=layer, head=head, query=query, key=key)
        return decomposition_table(split.terms, [one.label for one in split.query_components],
                                   [one.label for one in split.key_components], split.score, split.check.error,
                                   split.check.bound)

    return decomposition_view(table, n_layer=config.n_layer, n_head=config.n_head, n_tokens=len(trace),
                              kept=max(32, min(400, PAGE_PRODUCTS // (config.n_layer * config.n_embd**2))))
