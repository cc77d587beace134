"""The residual stream as a sum: who wrote what, at which position.

    resid = embed + pos_embed + sum over layers (heads + attention's bias + MLP)

A LayerNorm of that sum is itself a sum once its scale (the standard deviation it divides by) is held at the
recorded value: centring and the gain act on every term alone. Attribution and score decomposition both rest on this.

Everything here is float64 on the CPU: the terms may be far larger than their sum.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from gptviz.model import GPT, LayerNorm
from gptviz.trace import Check, Trace

TOLERANCE = 1e-4
"""How far a sum of terms may miss what the model computed, relative to that value where it exceeds 1."""


class Component(NamedTuple):
    """One writer to the residual stream, or one bias.

    Attributes:
        kind: "embed", "pos_embed", "head", "attn_bias", "mlp_out", "neuron", "mlp_bias", or the bias of a
            LayerNorm, a query or a key: "ln_1_bias", "ln_final_bias", "q_bias", "k_bias".
        layer: Its layer; None outside the blocks.
        head: Its head, for kind "head".
        neuron: Its neuron, for kind "neuron".

    Example:
        >>> Component("head", 1, 0).label, Component("mlp_out", 0).label, Component("embed").label
        ('L1H0', 'L0 mlp_out', 'embed')
    """

    kind: str
    layer: int | None = None
    head: int | None = None
    neuron: int | None = None

    @property
    def label(self) -> str:
        """What a figure writes beside it."""
        if self.kind == "head":
            return f"L{self.layer}H{self.head}"
        if self.kind == "neuron":
            return f"L{self.layer}N{self.neuron}"
        return self.kind if self.layer is None else f"L{self.layer} {self.kind}"


def as_numpy(value: Tensor) -> Float[np.ndarray, "..."]:
    """A tensor as a float64 numpy array."""
    return value.detach().cpu().double().numpy()


def needed_names(n_layers: int) -> list[str]:
    """The names a trace must hold to split the residual stream after `n_layers` layers."""
    return [
        "embed",
        "pos_embed",
        *(f"{name}.{layer}" for layer in range(n_layers) for name in ("z", "mlp_out")),
    ]


def stream_components(n_layers: int, n_head: int, bias: bool) -> list[Component]:
    """The writers to the residual stream before layer `n_layers`, in the order in which they write.

    Example:
        >>> [component.label for component in stream_components(1, n_head=2, bias=True)]
        ['embed', 'pos_embed', 'L0H0', 'L0H1', 'L0 attn_bias', 'L0 mlp_out']
    """
    components = [Component("embed"), Component("pos_embed")]
    for layer in range(n_layers):
        components += layer_components(layer, n_head, bias)
    return components


def layer_components(layer: int, n_head: int, bias: bool) -> list[Component]:
    """The writers of one layer: its heads, the bias of attention's output (if there is one), its MLP."""
    heads = [Component("head", layer, head) for head in range(n_head)]
    return [*heads, *([Component("attn_bias", layer)] if bias else []), Component("mlp_out", layer)]


def stream_writes(
    trace: Trace, model: GPT, n_layers: int, rows: Sequence[int]
) -> Float[np.ndarray, "component pos d_model"]:
    """What each of `stream_components` wrote at some rows of the trace; their sum is the residual stream.

    An MLP's write includes its bias; attention's bias stands by itself because it belongs to no head.
    """
    rows = list(rows)
    writes = [as_numpy(trace[name])[None, rows] for name in ("embed", "pos_embed")]
    writes += [layer_writes(trace, model, layer, rows) for layer in range(n_layers)]
    return np.concatenate(writes)


def layer_writes(
    trace: Trace, model: GPT, layer: int, rows: Sequence[int]
) -> Float[np.ndarray, "component pos d_model"]:
    """What each of `layer_components` wrote at the given rows of the trace."""
    rows = list(rows)
    projection = model.transformer.h[layer].attn.c_proj
    z = as_numpy(trace["z", layer][:, rows])  # head pos d_head
    heads = z @ head_output_weights(model, layer)  # head pos d_model
    parts = [heads]
    if projection.bias is not None:
        parts.append(np.broadcast_to(as_numpy(projection.bias), (1, *heads.shape[1:])))
    parts.append(as_numpy(trace["mlp_out", layer][rows])[None])
    return np.concatenate(parts)


def neuron_writes(
    trace: Trace, model: GPT, layer: int, rows: Sequence[int]
) -> tuple[list[Component], Float[np.ndarray, "component pos d_model"]]:
    """An MLP's write split by neuron, and its bias if it has one; needs mlp_post of the layer."""
    projection = model.transformer.h[layer].mlp.c_proj
    post = as_numpy(trace["mlp_post", layer][list(rows)])  # pos d_mlp
    weight = as_numpy(projection.weight).T  # d_mlp d_model
    components = [Component("neuron", layer, neuron=neuron) for neuron in range(len(weight))]
    writes = post.T[:, :, None] * weight[:, None, :]  # d_mlp pos d_model
    if projection.bias is not None:
        components.append(Component("mlp_bias", layer))
        bias = np.broadcast_to(as_numpy(projection.bias), (1, *writes.shape[1:]))
        writes = np.concatenate([writes, bias])
    return components, writes


def head_output_weights(model: GPT, layer: int) -> Float[np.ndarray, "head d_head d_model"]:
    """W_O of each head: the rows of c_proj that multiply its z."""
    weight = as_numpy(model.transformer.h[layer].attn.c_proj.weight)
    return rearrange(weight, "d_model (head d_head) -> head d_head d_model", head=model.config.n_head)


def head_input_weights(
    model: GPT, layer: int
) -> tuple[Float[np.ndarray, "3 head d_model d_head"], Float[np.ndarray, "3 head d_head"]]:
    """W_Q, W_K, W_V of each head and their biases (zero where the model has none); x @ W + b is q, k or v."""
    n_head, linear = model.config.n_head, model.transformer.h[layer].attn.c_attn
    rows = "(qkv head d_head)"
    weight = rearrange(as_numpy(linear.weight), f"{rows} d_model -> qkv head d_model d_head", qkv=3, head=n_head)
    if linear.bias is None:
        return weight, np.zeros((3, n_head, model.config.d_head))
    return weight, rearrange(as_numpy(linear.bias), f"{rows} -> qkv head d_head", qkv=3, head=n_head)


@np.errstate(invalid="ignore")  # infinity makes NaN, as in the model
def centred(values: Float[np.ndarray, "*terms d_model"]) -> Float[np.ndarray, "*terms d_model"]:
    """Minus the mean over the width: the first half of a LayerNorm, exactly linear."""
    return values - values.mean(-1, keepdims=True)


def normalised_terms(
    terms: Float[np.ndarray, "*terms d_model"], norm: LayerNorm, scale: Float[np.ndarray, "*#terms"]
) -> Float[np.ndarray, "*terms d_model"]:
    """Each term through a LayerNorm whose scale is held fixed, without its bias; linear in the terms."""
    return centred(terms) / scale[..., None] * as_numpy(norm.weight)


def final_terms(
    trace: Trace, model: GPT, row: int
) -> tuple[list[Component], Float[np.ndarray, "component d_model"], Float[np.ndarray, "component d_model"]]:
    """Every writer, what it wrote at a row of the trace, and its part of ln_final there.

    The LayerNorm's bias comes last, if there is one, and wrote nothing. The parts add up to ln_final.
    """
    config, norm = model.config, model.transformer.ln_f
    components = stream_components(config.n_layer, config.n_head, config.bias)
    written = stream_writes(trace, model, config.n_layer, [row])[:, 0]
    terms = normalised_terms(written, norm, as_numpy(trace["ln_final_scale"][row]).reshape(1))
    if norm.bias is None:
        return components, written, terms
    written = np.concatenate([written, np.zeros_like(written[:1])])
    return [*components, Component("ln_final_bias")], written, np.concatenate([terms, as_numpy(norm.bias)[None]])


def checked_sum(
    what: str, terms: Float[np.ndarray, "..."], recorded: Float[Tensor, ""], trace: Trace
) -> Check:
    """The measured error of a sum of terms against a recorded value.

    The bound is `TOLERANCE`, relative to the value where it exceeds 1; or the rounding of the recorded type,
    where the terms are so large that this is more. Where neither is finite the check is NaN, which never passes.

    Raises:
        ValueError: the sum misses the value.
    """
    value, total = float(recorded), float(terms.sum())
    rounding = 8 * torch.finfo(recorded.dtype).eps * float(np.abs(terms).sum())
    check = Check(abs(total - value), max(TOLERANCE * max(1.0, abs(value)), rounding))
    agree = not np.isfinite([value, total]).any()  # the check fails with NaN, but the model is the right one
    if not check.passed and not agree:
        edits = f" Edits were active at {list(trace.edited)}." if trace.edited else ""
        raise ValueError(
            f"The terms must add up to {what}, {value:.6g}, but add up to {total:.6g} "
            f"(error {check.error:.2g}, allowed {check.bound:.2g}).{edits} Pass the model that made the trace, "
            "with the same weights; an edit of attn_out, of the residual stream, or of what a LayerNorm gives "
            "is not among the terms."
        )
    return check
