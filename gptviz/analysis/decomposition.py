"""Why does this head look there? A score, split exactly by where its query and its key came from."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import nn

from gptviz.analysis.components import (
    Component,
    as_numpy,
    checked_sum,
    head_input_weights,
    needed_names,
    normalised_terms,
    stream_components,
    stream_writes,
)
from gptviz.analysis.requirements import check_head, matching_model, require_recorded, row_of
from gptviz.model import GPT
from gptviz.trace import Check, Trace


@dataclass(frozen=True)
class ScoreDecomposition:
    """One attention score as a sum over pairs (what wrote the query, what wrote the key).

    Attributes:
        layer: Layer of the head.
        head: The head.
        query: Position that attends.
        key: Position that is attended to.
        query_components: Where the query came from: the stream's writers, the LayerNorm's bias, the query
            bias.
        key_components: The same for the key, with the key bias.
        terms: What each pair adds to the score.
        score: The recorded score, before the softmax.
        check: The measured error of the sum of all terms, absolute.
    """

    layer: int
    head: int
    query: int
    key: int
    query_components: tuple[Component, ...]
    key_components: tuple[Component, ...]
    terms: Float64[np.ndarray, "query_component key_component"]
    score: float
    check: Check

    def largest(self, n: int = 5) -> list[tuple[str, str, float]]:
        """The pairs that matter most, by absolute value: (query side, key side, what they add)."""
        order = np.argsort(-np.abs(self.terms), axis=None, kind="stable")[:n]
        places = zip(*np.unravel_index(order, self.terms.shape), strict=True)
        return [
            (self.query_components[q].label, self.key_components[k].label, float(self.terms[q, k]))
            for q, k in places
        ]


@torch.no_grad()
def score_decomposition(
    trace: Trace, model: nn.Module, layer: int, head: int, query: int, key: int
) -> ScoreDecomposition:
    """Split q . k / sqrt(d_head) into pairs of components, both LayerNorm scales held as recorded.

        q = sum over a of q_a,   k = sum over b of k_b,   score = sum over (a, b) of q_a . k_b / sqrt(d_head)

    where a and b run over the token and position embedding, every head, attention bias and MLP of earlier
    layers, the LayerNorm's bias, and the bias of the query or key itself.

    Misleads when read for one key alone: the softmax compares keys, and a term that is the same for all of
    them (any with "k_bias" or the key side's "ln_1_bias") changes nothing. Subtract the table of another key
    of the same query to see why this key won. The scale is held fixed: removing a component would also change
    it. That a component's write carries the score does not say what the write means.

    Args:
        trace: Needs embed, pos_embed, z and mlp_out of the layers before, and ln_1_scale, q and k (or scores)
            of this one.
        model: The model that made the trace.
        layer: The head's layer.
        head: The head.
        query: Position that attends; -1 is the last.
        key: Position attended to, at or before the query.

    Returns:
        The table, whose sum was checked against the recorded score.

    Raises:
        UnknownNameError: something was not recorded, or there is no such layer, head or position.
        ValueError: the key is later than the query, the model does not fit, or the terms do not add up.

    Example:
        >>> from gptviz.model import GPTConfig
        >>> from gptviz.trace import record
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=2, n_head=2, n_embd=8, bias=False))
        >>> split = score_decomposition(record(model, [0, 1, 2]), model, layer=1, head=0, query=2, key=1)
        >>> [component.label for component in split.query_components]
        ['embed', 'pos_embed', 'L0H0', 'L0H1', 'L0 mlp_out']
        >>> bool(abs(split.terms.sum() - split.score) < 1e-4)
        True
    """
    inner = matching_model(trace, model)
    layer, head = check_head(inner, layer, head)
    scores = "scores" if ("scores", layer) in trace else None
    needed = [*needed_names(layer), f"ln_1_scale.{layer}", *([] if scores else [f"q.{layer}", f"k.{layer}"])]
    require_recorded(trace, needed, "score_decomposition")
    query, query_row = row_of(trace, query, "query")
    key, key_row = row_of(trace, key, "key")
    if key > query:
        raise ValueError(
            f"The key must be at or before the query, but key {key} is later than query {query}: "
            "a causal head never sees it. Choose a key of 0 to the query."
        )
    sides = [_side(trace, inner, layer, head, side, row) for side, row in (("q", query_row), ("k", key_row))]
    (query_components, q), (key_components, k) = sides
    terms = q @ k.T / math.sqrt(inner.config.d_head)
    if scores:
        recorded = trace["scores", layer][head, query_row, key]
    else:
        recorded = (
            trace["q", layer][head, query_row]
            @ trace["k", layer][head, key_row]
            / math.sqrt(inner.config.d_head)
        )
    check = checked_sum("the recorded score", terms, recorded, trace)
    return ScoreDecomposition(
        layer, head, query, key, tuple(query_components), tuple(key_components), terms, float(recorded), check
    )


def _side(
    trace: Trace, model: GPT, layer: int, head: int, side: str, row: int
) -> tuple[list[Component], Float64[np.ndarray, "component d_head"]]:
    """A query ("q") or key ("k") vector as one term per component."""
    weights, biases = head_input_weights(model, layer)
    weight, bias = weights["qkv".index(side), head], biases["qkv".index(side), head]
    norm = model.transformer.h[layer].ln_1
    components = stream_components(layer, model.config.n_head, model.config.bias)
    scale = as_numpy(trace["ln_1_scale", layer])[row].reshape(1)
    terms = normalised_terms(stream_writes(trace, model, layer, [row])[:, 0], norm, scale) @ weight
    if model.config.bias:
        components = [*components, Component("ln_1_bias", layer), Component(f"{side}_bias", layer)]
        terms = np.concatenate([terms, (as_numpy(norm.bias) @ weight)[None], bias[None]])
    return components, terms
