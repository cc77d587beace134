"""What every part of a model wrote at a position, from a trace and the weights."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64

from gptviz.analysis.components import (
    TOLERANCE,
    Component,
    as_numpy,
    final_terms,
)
from gptviz.analysis.requirements import matching_model
from gptviz.dashboards.tensors import named, visible_of
from gptviz.model import GPT
from gptviz.views import View
from gptviz.views.writes import Writes, writes_view

N_CHOICES = 5  # likeliest tokens whose logit can be split
TOP = 3  # tokens that a part promotes, and as many that it suppresses
NAMES = ("embed", "pos_embed", "z", "mlp_out", "ln_final_scale", "logits")
PAGE_PRODUCTS = 10**10  # multiplications that a page may wait for, beyond a few positions
SUBLAYER = {"head": "attn_out", "attn_bias": "attn_out"}


def writes_part(trace: Any, model: Any, tokenizer: Any = None) -> View:
    """The residual stream of a trace, position by position, computed when it is looked at."""
    inner = matching_model(trace, model)
    visible = visible_of(tokenizer)
    at, config = lru_cache(maxsize=8)(lambda position: writes_at(trace, inner, position, visible)), inner.config
    products = config.n_layer * (config.n_head + 3) * config.n_embd * config.vocab_size
    return writes_view(at, len(trace), kept=max(8, min(128, PAGE_PRODUCTS // products)))


@torch.no_grad()
def writes_at(trace: Any, model: GPT, position: int, visible: Callable[[int], str] = str) -> Writes:
    """What every sublayer, head and bias wrote at a position, and what it adds to the logits.

    Args:
        trace: Needs embed, pos_embed, z and mlp_out of all layers, ln_final_scale and logits.
        model: The model that made it.
        position: Counted from 0.
        visible: The visible form of a token id.

    Example:
        >>> from gptviz.model import GPTConfig
        >>> from gptviz.trace import record
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=2, n_embd=8, bias=False))
        >>> writes_at(record(model, [0, 1, 2]), model, 2).names
        ('embed', 'pos_embed', 'L0 attn_out', 'L0 mlp_out', 'L0H0', 'L0H1')
    """
    components, written, terms = final_terms(trace, model, position)
    rows, parent, members = _rows(components)
    written, terms = members @ written, members @ terms
    norm, cosine = _geometry(written, parent)
    promoted, promoted_by, suppressed, suppressed_by = _ranked(terms, model)
    choices, truth = _choices(trace, position)
    logits = as_numpy(trace["logits"][position])
    adds = as_numpy(model.lm_head.weight[choices]) @ terms.T  # choice row
    error = np.abs(adds[:, parent < 0].sum(1) - logits[choices]).max()
    ids = np.concatenate([promoted.ravel(), suppressed.ravel(), np.array(choices)])
    places, words = named(ids, visible)
    most, least, chosen = np.split(places, [promoted.size, 2 * promoted.size])
    return Writes(
        names=tuple(one.label for one in rows), parent=parent, norm=norm, cosine=cosine, words=tuple(words),
        head=np.array([(one.layer, one.head) if one.kind == "head" else (-1, -1) for one in rows], np.int64),
        promoted=most.reshape(promoted.shape), promoted_by=promoted_by, suppressed=least.reshape(promoted.shape),
        suppressed_by=suppressed_by, choices=chosen, truth=truth, logits=logits[choices], adds=adds,
        mean_logit=float(logits.mean()), adds_to_mean=terms @ as_numpy(model.lm_head.weight.mean(0)),
        error=float(error), bound=TOLERANCE * max(1.0, float(np.abs(logits[choices]).max())))


def _rows(
    components: Sequence[Component],
) -> tuple[list[Component], Int64[np.ndarray, "row"], Float64[np.ndarray, "row component"]]:
    """The sublayers, then the parts of those that have some; each row's sublayer, and the components that it sums."""
    of = [Component(SUBLAYER.get(one.kind, one.kind), one.layer) for one in components]
    sublayers = list(dict.fromkeys(of))
    parts = [at for at, one in enumerate(components) if one.kind in SUBLAYER]
    parent = np.array([-1] * len(sublayers) + [sublayers.index(of[at]) for at in parts], np.int64)
    members = np.zeros((len(parent), len(components)))
    for at, one in enumerate(of):
        members[sublayers.index(one), at] = 1
    members[len(sublayers) + np.arange(len(parts)), parts] = 1
    return [*sublayers, *(components[at] for at in parts)], parent, members


def _geometry(
    written: Float64[np.ndarray, "row d_model"], parent: Int64[np.ndarray, "row"]
) -> tuple[Float64[np.ndarray, "row"], Float64[np.ndarray, "row"]]:
    """Lengths, and cosines with the stream before the sublayer wrote: NaN where either has length 0."""
    stream = np.cumsum(written[parent < 0], axis=0)
    before = np.concatenate([np.zeros_like(stream[:1]), stream[:-1]])
    before = np.concatenate([before, before[parent[parent >= 0]]])
    norm = np.linalg.norm(written, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return norm, (written * before).sum(1) / (norm * np.linalg.norm(before, axis=1))


def _ranked(
    terms: Float64[np.ndarray, "row d_model"], model: GPT
) -> tuple[Int64[np.ndarray, "row top"], Float32[np.ndarray, "row top"], Int64[np.ndarray, "row top"],
           Float32[np.ndarray, "row top"]]:
    """The tokens that each row raises and lowers most, and by how much beyond the vocabulary's mean.

    In float32: in float64 the product with the vocabulary of GPT-2 would take seconds.
    """
    weight = model.lm_head.weight.float()
    logits = torch.as_tensor(terms, dtype=torch.float32, device=weight.device) @ weight.T
    logits -= logits.mean(dim=1, keepdim=True)
    high, low = (logits.topk(min(TOP, logits.shape[1]), dim=1, largest=side) for side in (True, False))
    return (high.indices.cpu().numpy(), high.values.cpu().numpy(), low.indices.cpu().numpy(),
            low.values.cpu().numpy())


def _choices(trace: Any, position: int) -> tuple[list[int], int | None]:
    """The likeliest next tokens and the one that really follows; the place of that one among them."""
    logits = trace["logits"][position]
    choices = logits.topk(min(N_CHOICES, len(logits))).indices.tolist()
    if position + 1 >= len(trace):
        return choices, None
    following = int(trace.ids[position + 1])
    choices = list(dict.fromkeys([*choices, following]))
    return choices, choices.index(following)
