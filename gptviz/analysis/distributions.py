"""How weights, gradients and activations are spread, in seven numbers each: cheap enough to take while a model trains.

Lowest and highest are those of all values. The quantiles between are those of at most 1,024 of them, the same places
every time, so that a curve over training moves because the values do and not because others were drawn.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from gptviz.model import GPT
from gptviz.trace import Trace

SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Which share of the values lies below each number."""

MOST = 1024
DIGITS = 4  # significant ones
BLOCK = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
ACTIVATIONS = ("attn_out", "mlp_out", "resid_post")

Rows = list[list[float | None]]  # one for each layer, or a single one


def distributions(model: GPT, traces: Sequence[Trace] = ()) -> dict[str, dict[str, Rows]]:
    """The spread of the weight matrices, of their gradients and of what the traces hold of the residual stream.

    Gradients are those that the parameters carry now: inside `train` those of the last update, clipped. Where nothing
    carries one (before the first update, or where a loop has dropped them) they are left out.

    Args:
        model: The model.
        traces: Traces with attn_out, mlp_out and resid_post.

    Returns:
        {"weights", "gradients", "activations"}: for each part a row per layer, of one number per share in `SHARES`;
        None where no value is finite.

    Example:
        >>> from gptviz.config import GPTConfig
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=2, n_head=1, n_embd=4))
        >>> found = distributions(model)
        >>> list(found), np.shape(found["weights"]["attn.c_attn"])
        (['weights'], (2, 7))
    """
    weights = matrices(model)
    kinds: dict[str, Mapping[str, Sequence[Tensor | None]]] = {
        "weights": weights,
        "gradients": {name: [weight.grad for weight in part] for name, part in weights.items()},
        "activations": {name: [torch.stack([trace[name, layer].reshape(-1) for trace in _as_long(traces)])
                               for layer in traces[0].layers] for name in ACTIVATIONS} if traces else {},
    }  # fmt: skip
    kinds = {kind: parts for kind, parts in kinds.items() if any(one is not None for p in parts.values() for one in p)}
    tensors = [one for parts in kinds.values() for part in parts.values() for one in part]
    found = iter(quantiles(tensors))
    return {kind: {name: [next(found) for _ in part] for name, part in parts.items()} for kind, parts in kinds.items()}


def matrices(model: GPT) -> dict[str, list[nn.Parameter]]:
    """The weight matrices by part of the model; those of the blocks one per layer."""
    inner = model.transformer
    parts: dict[str, list[Any]] = {"wte": [inner.wte.weight], "wpe": [inner.wpe.weight]}
    parts |= {name: [block.get_submodule(name).weight for block in inner.h] for name in BLOCK}
    if model.lm_head.weight is not inner.wte.weight:
        parts["lm_head"] = [model.lm_head.weight]
    return parts


def quantiles(tensors: Sequence[Tensor | None]) -> Rows:
    """The numbers of each tensor.

    Example:
        >>> quantiles([torch.arange(101.0), None])[0]
        [0.0, 5.0, 25.0, 50.0, 75.0, 95.0, 100.0]
    """
    return [[None] * len(SHARES) if one is None else _of(one.detach()) for one in tensors]


def _of(tensor: Tensor) -> list[float | None]:
    flat = tensor.float().cpu().numpy().reshape(-1)  # on a CPU the values themselves, no copy
    values, ends = flat[:: _stride(len(flat), tensor.shape[-1])], np.array([flat.min(), flat.max()])
    if not np.isfinite(ends).all():
        finite, values = flat[np.isfinite(flat)], values[np.isfinite(values)]
        ends = np.array([finite.min(initial=np.inf), finite.max(initial=-np.inf)])
    return [_plain(one) for one in _ranked(values, ends).tolist()]


def _ranked(values: Float[np.ndarray, "_value"], ends: Float[np.ndarray, "2"]) -> Float[np.ndarray, "share"]:
    """The values of the wanted ranks, between the true lowest and highest."""
    if not len(values):
        return np.full(len(SHARES), np.nan)
    ranks = np.rint(np.array(SHARES[1:-1]) * (len(values) - 1)).astype(int)
    return np.concatenate([ends[:1], np.sort(values)[ranks], ends[1:]])


def _stride(n: int, width: int) -> int:
    """A step through n values in rows of this width that meets every column.

    Example:
        >>> _stride(65_536, 128), _stride(100, 10)
        (65, 1)
    """
    stride = -(-n // MOST)
    while math.gcd(stride, width) > 1:
        stride += 1
    return stride


def _as_long(traces: Sequence[Trace]) -> list[Trace]:
    """Those as long as the first: they can be laid side by side."""
    return [trace for trace in traces if len(trace) == len(traces[0])]


def _plain(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
