"""Queries, keys and scores of a trace, head by head."""

from typing import Any

from gptviz.dashboards.tensors import as_numpy
from gptviz.views import View
from gptviz.views.querykey import querykey_view

NAMES = ("q", "k", "scores", "pattern")


def querykey_part(trace: Any, *_: object) -> View:
    """The vectors of every head, as recorded, and how far their products are from the recorded scores."""
    config = trace.config
    return querykey_view(
        lambda layer, head: (as_numpy(trace["q", layer][head]), as_numpy(trace["k", layer][head])),
        lambda layer, head: (as_numpy(trace["scores", layer][head]), as_numpy(trace["pattern", layer][head])),
        n_layer=config.n_layer, n_head=config.n_head, n_tokens=len(trace), d_head=config.d_head)
