"""The scores of the heads of a trace, computed when they are first looked at."""

from typing import Any

import numpy as np

from gptviz.analysis.heads import pattern_scores
from gptviz.views import View, head_scores_view
from gptviz.views.head_scores import Scored

MANY_CELLS = 10_000_000  # of all patterns together, from which fewer shuffled texts must do


def head_scores_part(trace: Any) -> View:
    """Every score of every head of a trace, with the band of shuffled texts.

    Example:
        >>> from gptviz.loading import load
        >>> from gptviz.trace import record
        >>> model, tokenizer = load("sorter")
        >>> head_scores_part(record(model, "CBABBC", tokenizer)).detail_of().arrays["value"].shape
        (7, 3, 3)
    """
    pattern = trace["pattern"]
    if not bool(pattern.isfinite().all()):
        return head_scores_view(None, "a pattern holds a NaN or infinity")
    kept: list[Scored] = []

    def score() -> Scored:
        if not kept:
            kept.append(_scored(pattern.detach().float().cpu().numpy(), trace.ids.cpu().numpy()))
        return kept[0]

    return head_scores_view(score)


def _scored(pattern: np.ndarray, ids: np.ndarray) -> Scored:
    few = pattern.size > MANY_CELLS
    found = pattern_scores(pattern, ids, n_null=20 if few else 60, n_bootstrap=200)
    return Scored(found.names, found.value, found.null_low, found.null_high, found.labels())
