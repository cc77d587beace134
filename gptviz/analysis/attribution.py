"""Who wrote the logit: every component's part in a prediction, in the residual stream, and in the vocabulary.

All of it rests on one fact: with the last LayerNorm's scale held at its recorded value, the logits are a sum
over the writers to the residual stream. "Direct" is meant literally: what a component does through later
layers is counted as theirs.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import nn

from gptviz.analysis.components import (
    Component,
    as_numpy,
    checked_sum,
    final_terms,
    layer_writes,
    needed_names,
    neuron_writes,
    normalised_terms,
    stream_components,
)
from gptviz.analysis.requirements import matching_model, require_recorded, row_of
from gptviz.model import GPT
from gptviz.naming import UnknownNameError, index_within
from gptviz.trace import Check, Trace, check_trace

CHUNK = 64
"""How many components are ranked over the vocabulary at a time."""


@dataclass(frozen=True)
class Attribution:
    """One logit, or the difference of two, as a sum over components.

    Attributes:
        components: Who, in the order in which they write; the last LayerNorm's bias comes last, if there is
            one.
        values: What each adds to the logit (or difference).
        logit: The recorded logit (or difference) that they add up to.
        check: The measured error of that sum, absolute.
        position: The position whose next token is predicted.
        target: The token id.
        distractor: The token id whose logit is subtracted, or None.
    """

    components: tuple[Component, ...]
    values: Float64[np.ndarray, "component"]
    logit: float
    check: Check
    position: int
    target: int
    distractor: int | None

    def by_sublayer(self) -> dict[str, float]:
        """The same sum by sublayer: a layer's heads and bias as "L0 attn_out", neurons as "L0 mlp_out".

        Example:
            >>> parts = (Component("head", 0, 0), Component("head", 0, 1), Component("mlp_out", 0))
            >>> Attribution(parts, np.array([1.0, 2.0, 0.5]), 3.5, Check(0.0, 1e-4), 0, 1, None).by_sublayer()
            {'L0 attn_out': 3.0, 'L0 mlp_out': 0.5}
        """
        sublayer = {"head": "attn_out", "attn_bias": "attn_out", "neuron": "mlp_out", "mlp_bias": "mlp_out"}
        sums: dict[str, float] = {}
        for component, value in zip(self.components, self.values, strict=True):
            label = Component(sublayer.get(component.kind, component.kind), component.layer).label
            sums[label] = sums.get(label, 0.0) + float(value)
        return sums


@torch.no_grad()
def direct_logit_attribution(
    trace: Trace,
    model: nn.Module,
    target: int,
    *,
    distractor: int | None = None,
    position: int = -1,
    neurons_of: int | None = None,
) -> Attribution:
    """Split the logit of a token, or target minus distractor, over all writers to the residual stream.

        logit[t] = sum over components c of  centre(write_c) / ln_final_scale * gain . W_U[t]  +  bias . W_U[t]

    Misleads, without a distractor, because a number added to all logits changes no probability: compare the
    target with another token, or with the mean of all. Misleads as a measure of importance because it counts
    only direct effects, and because the scale is held fixed: removing a component would also change the
    scale.

    Args:
        trace: Needs embed, pos_embed, z, mlp_out of all layers, ln_final_scale and logits; with `neurons_of`
            mlp_post.
        model: The model that made the trace.
        target: Token id.
        distractor: Token id whose logit is subtracted.
        position: Where the prediction is made; -1 is the last position.
        neurons_of: Split this layer's MLP into its neurons and its bias.

    Raises:
        UnknownNameError: something was not recorded, or there is no such position or layer.
        ValueError: a token id is outside the vocabulary, the model does not fit, or the terms do not add up.

    Example:
        >>> from gptviz.model import GPTConfig
        >>> from gptviz.trace import record
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=2, n_embd=8))
        >>> parts = direct_logit_attribution(record(model, [0, 1, 2]), model, 3, distractor=4)
        >>> [component.label for component in parts.components]
        ['embed', 'pos_embed', 'L0H0', 'L0H1', 'L0 attn_bias', 'L0 mlp_out', 'ln_final_bias']
        >>> bool(abs(parts.values.sum() - parts.logit) < 1e-4)
        True
    """
    inner = matching_model(trace, model)
    tokens = [
        _token(target, inner, "target"),
        *([] if distractor is None else [_token(distractor, inner, "distractor")]),
    ]
    layer = None if neurons_of is None else index_within(neurons_of, inner.config.n_layer, "layer")
    more = [] if layer is None else [f"mlp_post.{layer}"]
    components, terms, position, row = _final_terms(trace, inner, position, more, "direct_logit_attribution")
    if layer is not None:
        components, terms = _split_mlp(trace, inner, layer, row, components, terms)
    rows = as_numpy(inner.lm_head.weight[tokens])  # target (and distractor) d_model
    direction = rows[0] - rows[1] if len(rows) == 2 else rows[0]
    values = terms @ direction
    logits = trace["logits"][row]
    recorded = logits[tokens[0]] - logits[tokens[1]] if len(tokens) == 2 else logits[tokens[0]]
    what = "the recorded logit" if len(tokens) == 1 else "the recorded difference of logits"
    check = checked_sum(what, values, recorded, trace)
    return Attribution(
        tuple(components), values, float(recorded), check, position, tokens[0], (*tokens, None)[1]
    )


@dataclass(frozen=True)
class ResidualWrites:
    """How large every write to the residual stream is, and which way it points.

    Attributes:
        components: Who, in the order in which they write.
        positions: Positions of the text, from 0.
        norm: Euclidean length of the write.
        cosine: With the stream just before the layer's attention (or MLP) writes: positive adds to what is
            there, negative erases it. NaN for the embeddings, which find nothing, and for a write of length
            0.
        share: Of the final stream: (write . final) / |final|^2. The shares of a position add up to 1; a share
            can be negative or above 1.
        stream_norm: Length of the final stream.
        check: Largest error of the sum of shares.
    """

    components: tuple[Component, ...]
    positions: tuple[int, ...]
    norm: Float64[np.ndarray, "component pos"]
    cosine: Float64[np.ndarray, "component pos"]
    share: Float64[np.ndarray, "component pos"]
    stream_norm: Float64[np.ndarray, "pos"]
    check: Check


@torch.no_grad()
def residual_writes(trace: Trace, model: nn.Module) -> ResidualWrites:
    """Length and direction of what every component wrote, at every recorded position.

    Misleads where a few coordinates of the stream are huge, as in GPT-2: length and cosine then speak about
    those few, which the LayerNorms of later layers may ignore. The mean over the width, which every LayerNorm
    removes, is included.

    Args:
        trace: Needs embed, pos_embed, z, mlp_out, resid_pre, resid_mid of all layers and resid_post of the
            last.
        model: The model that made the trace.

    Raises:
        UnknownNameError: something was not recorded.
        ValueError: the model does not fit, or the writes do not add up to the stream.

    Example:
        >>> from gptviz.model import GPTConfig
        >>> from gptviz.trace import record
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=2, n_embd=8))
        >>> residual_writes(record(model, [0, 1, 2]), model).share.sum(0).round(4)
        array([1., 1., 1.])
    """
    inner = matching_model(trace, model)
    n_layer = inner.config.n_layer
    needed = [*needed_names(n_layer), "resid_pre", "resid_mid", f"resid_post.{n_layer - 1}"]
    require_recorded(trace, needed, "residual_writes")
    final = as_numpy(trace["resid_post", n_layer - 1])
    embeddings = np.stack([as_numpy(trace["embed"]), as_numpy(trace["pos_embed"])])
    parts = [_geometry(embeddings, np.full_like(embeddings, np.nan), final)]
    for layer in range(
        n_layer
    ):  # one layer at a time: the writes of all heads at once are gigabytes for GPT-2
        writes = layer_writes(trace, inner, layer, range(len(final)))
        before = np.broadcast_to(as_numpy(trace["resid_pre", layer]), writes.shape).copy()
        before[-1] = as_numpy(trace["resid_mid", layer])
        parts.append(_geometry(writes, before, final))
    norm, cosine, share = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    one = trace["resid_post", n_layer - 1].new_ones(())
    check = max(
        (checked_sum("the residual stream (share 1)", column, one, trace) for column in share.T),
        key=lambda check: check.error,
    )
    components = stream_components(n_layer, inner.config.n_head, inner.config.bias)
    return ResidualWrites(
        tuple(components), trace.positions, norm, cosine, share, np.linalg.norm(final, axis=-1), check
    )


@dataclass(frozen=True)
class PromotedTokens:
    """The tokens whose logits each component raises and lowers most, at one position.

    Attributes:
        components: Who; the last LayerNorm's bias included, if there is one.
        position: The position.
        promoted_ids: Tokens raised most, most first.
        promoted: By how much, in logits relative to the mean over the vocabulary.
        suppressed_ids: Tokens lowered most, most first.
        suppressed: By how much; negative.
        check: The measured error of the components' sum, of the token where it is largest, absolute.
    """

    components: tuple[Component, ...]
    position: int
    promoted_ids: Int64[np.ndarray, "component top"]
    promoted: Float64[np.ndarray, "component top"]
    suppressed_ids: Int64[np.ndarray, "component top"]
    suppressed: Float64[np.ndarray, "component top"]
    check: Check


@torch.no_grad()
def promoted_tokens(
    trace: Trace, model: nn.Module, *, position: int = -1, top: int = 5, neurons_of: int | None = None
) -> PromotedTokens:
    """What every component says directly to the vocabulary at one position, the last LayerNorm's scale held.

    The mean over the vocabulary is taken off each component: a number added to all logits changes no
    probability. Summed over the components the result is the logits minus their mean.

    Misleads for early layers, which mostly write for later layers to read and not for the vocabulary; and
    with words that look meaningful: the top tokens of a random direction also look like something.

    Args:
        trace: Needs embed, pos_embed, z, mlp_out of all layers, ln_final_scale and logits; with `neurons_of`
            mlp_post.
        model: The model that made the trace.
        position: -1 is the last position.
        top: How many tokens on each side.
        neurons_of: Split this layer's MLP into its neurons and its bias.

    Raises:
        UnknownNameError: something was not recorded, or there is no such position or layer.
        ValueError: the model does not fit, `top` is not 1 to d_vocab, or the components do not add up.

    Example:
        >>> from gptviz.model import GPTConfig
        >>> from gptviz.trace import record
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=2, n_embd=8))
        >>> promoted_tokens(record(model, [0, 1, 2]), model, top=2).promoted_ids.shape
        (7, 2)
    """
    inner = matching_model(trace, model)
    if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= inner.config.vocab_size:
        raise ValueError(f"top must be 1 to {inner.config.vocab_size} (vocab_size), not {top!r}.")
    layer = None if neurons_of is None else index_within(neurons_of, inner.config.n_layer, "layer")
    more = [] if layer is None else [f"mlp_post.{layer}"]
    components, terms, position, row = _final_terms(trace, inner, position, more, "promoted_tokens")
    if layer is not None:
        components, terms = _split_mlp(trace, inner, layer, row, components, terms)
    unembedding = as_numpy(inner.lm_head.weight)  # d_vocab d_model
    unembedding = unembedding - unembedding.mean(0)
    logits = trace["logits"][row] - trace["logits"][row].mean()
    worst = int(np.abs(unembedding @ terms.sum(0) - as_numpy(logits)).argmax())
    check = checked_sum("the recorded logit minus the mean", terms @ unembedding[worst], logits[worst], trace)
    chunks = np.array_split(terms, range(CHUNK, len(terms), CHUNK))  # all neurons at once would take gigabytes
    ranked = [_extremes(logits, top) for chunk in chunks for logits in chunk @ unembedding.T]
    return PromotedTokens(
        tuple(components), position, *(np.stack(arrays) for arrays in zip(*ranked, strict=True)), check=check
    )


def gradient_x_input(trace: Trace, name: str = "embed") -> Float64[np.ndarray, "..."]:
    """Gradient times value, summed over the last axis: what the recorded scalar owes to each place.

    It estimates scalar(value) - scalar(0) by a straight line. With the default name it gives one number per
    token; with "z" one per layer, head and position, an estimate of the total effect of removing a head's
    output there.

    Misleads where the model is far from linear between the value and zero: attention and GELU saturate, and a
    saturated part has gradient 0 and may still decide everything. "embed" and "resid_pre" answer different
    questions: the first leaves out what the position embedding did.

    Args:
        trace: Recorded with `grad=`, which says of which scalar; the default scalar is the mean loss in nats.
        name: Any name that has a gradient.

    Returns:
        The axes of the name without its last one, in the unit of the scalar.

    Raises:
        UnknownNameError: no such name, or the trace holds no gradient for it.

    Example:
        >>> from gptviz.model import GPTConfig
        >>> from gptviz.trace import record
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=2, n_embd=8))
        >>> trace = record(model, [0, 1, 2], grad=lambda logits: logits[-1, 3] - logits[-1, 4])
        >>> gradient_x_input(trace).shape
        (3,)
    """
    check_trace(trace)
    axes = trace.axes(name)
    if axes[-1] in ("key", "pos"):
        raise UnknownNameError(
            f"gradient_x_input sums over the width of a vector, but {name!r} has axes {axes}. "
            "Choose a name whose last axis is d_model, d_head, d_mlp or d_vocab."
        )
    return (as_numpy(trace[name]) * as_numpy(trace.gradient(name))).sum(-1)


def _token(token: int, model: GPT, what: str) -> int:
    whole = isinstance(token, int) and not isinstance(token, bool)
    if not whole or not 0 <= token < model.config.vocab_size:
        raise ValueError(
            f"{what} must be a token id from 0 to {model.config.vocab_size - 1}, not {token!r}. "
            "Encode the word with the model's tokenizer first."
        )
    return int(token)


def _final_terms(
    trace: Trace, model: GPT, position: int, more: list[str], purpose: str
) -> tuple[list[Component], Float64[np.ndarray, "component d_model"], int, int]:
    """Every component's part of ln_final at one position; also the position from 0 and its row in the trace."""
    require_recorded(trace, [*needed_names(model.config.n_layer), *more, "ln_final_scale", "logits"], purpose)
    position, row = row_of(trace, position)
    components, _, terms = final_terms(trace, model, row)
    return components, terms, position, row


def _split_mlp(
    trace: Trace,
    model: GPT,
    layer: int,
    row: int,
    components: list[Component],
    terms: Float64[np.ndarray, "component d_model"],
) -> tuple[list[Component], Float64[np.ndarray, "split d_model"]]:
    """Replace one MLP by its neurons and its bias."""
    at = components.index(Component("mlp_out", layer))
    neurons, writes = neuron_writes(trace, model, layer, [row])
    scale = as_numpy(trace["ln_final_scale"])[row].reshape(1)
    split = normalised_terms(writes[:, 0], model.transformer.ln_f, scale)
    return [*components[:at], *neurons, *components[at + 1 :]], np.concatenate(
        [terms[:at], split, terms[at + 1 :]]
    )


def _geometry(
    writes: Float[np.ndarray, "component pos d_model"],
    before: Float[np.ndarray, "component pos d_model"],
    final: Float[np.ndarray, "pos d_model"],
) -> tuple[
    Float64[np.ndarray, "component pos"],
    Float64[np.ndarray, "component pos"],
    Float64[np.ndarray, "component pos"],
]:
    norm = np.linalg.norm(writes, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):  # a write of length 0 has no direction: NaN
        cosine = (writes * before).sum(-1) / (norm * np.linalg.norm(before, axis=-1))
    return norm, cosine, (writes * final).sum(-1) / (final * final).sum(-1)


def _extremes(
    logits: Float[np.ndarray, "d_vocab"], top: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    ends = [np.argpartition(side, top - 1)[:top] for side in (-logits, logits)]  # unsorted; a whole sort is slow
    high, low = ends[0][np.argsort(-logits[ends[0]])], ends[1][np.argsort(logits[ends[1]])]
    return high, logits[high], low, logits[low]
