"""The scores of the heads of a trace, computed when they are first looked at."""

import math
from typing import Any

import numpy as np

from gptviz.analysis.heads import pattern_scores
from gptviz.dashboards.tensors import as_numpy
from gptviz.views import View, head_scores_view
from gptviz.views.head_scores import Scored

MOST_CELLS = 40_000_000  # of all patterns together: half a second of work, 527 tokens of 144 heads


def head_scores_part(trace: Any) -> View:
    """Every score of every head of a trace, with the band of chance.

    Of a long text its first tokens are scored: attention is causal, so their pattern is that of a text that ends there.

    Example:
        >>> from gptviz.loading import load
        >>> from gptviz.trace import record
        >>> model, tokenizer = load("sorter")
        >>> head_scores_part(record(model, "CBABBC", tokenizer)).detail_of().arrays["value"].shape
        (7, 3, 3)
    """
    if not all(math.isfinite(trace["pattern", layer].float().sum()) for layer in trace.layers):
        return head_scores_view(None, "a pattern holds a NaN or infinity")
    n_tokens, kept = min(len(trace), math.isqrt(MOST_CELLS // (len(trace.layers) * len(trace.heads)))), list[Scored]()

    def score() -> Scored:
        if not kept:
            heads = [as_numpy(trace["pattern", layer][:, :n_tokens, :n_tokens]) for layer in trace.layers]
            kept.append(_scored(np.stack(heads), trace.ids[:n_tokens].cpu().numpy()))
        return kept[0]

    return head_scores_view(score, scored=n_tokens if n_tokens < len(trace) else None)


def _scored(pattern: np.ndarray, ids: np.ndarray) -> Scored:
    found = pattern_scores(pattern, ids, n_bootstrap=200)
    return Scored(found.names, found.value, found.null_low, found.null_high, found.labels())
