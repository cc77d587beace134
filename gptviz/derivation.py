"""Which values follow, to the last bit, from others: they need not be kept. And what keeps them from following."""

import functools
import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from gptviz.config import ACTIVATIONS, GPTConfig
from gptviz.model import GPT, MLP, Block, CausalSelfAttention, HookPoint, LayerNorm, attention_scores
from gptviz.naming import Address

DERIVED = {
    "ln_1_scale": ("resid_pre",),
    "ln_1": ("resid_pre",),
    "scores": ("q", "k"),
    "z": ("pattern", "v"),
    "ln_2_scale": ("resid_mid",),
    "ln_2": ("resid_mid",),
    "mlp_post": ("mlp_pre",),
    "loss": ("logits",),
}
"""Names whose values follow, to the last bit, from others that are kept (the norms also from their weights)."""


def derived(name: str, sources: list[Tensor], ids: Tensor, config: GPTConfig, norm: tuple[Tensor, ...]) -> Tensor:
    """A value that was not kept, computed from its sources by the very operation that the model ran."""
    if name == "scores":
        return attention_scores(*sources)
    if name == "z":
        pattern, v = sources
        return pattern @ v
    if name == "mlp_post":
        return F.gelu(sources[0], approximate=ACTIVATIONS[config.activation])
    if name == "loss":
        return token_losses(sources[0], ids[None])
    if name in ("ln_1_scale", "ln_2_scale"):
        _, _, reciprocal = torch.native_layer_norm(sources[0], (config.n_embd,), None, None, LayerNorm.eps)
        return reciprocal.squeeze(-1).reciprocal()
    weight, bias = norm if len(norm) == 2 else (norm[0], None)
    return F.layer_norm(sources[0], weight.shape, weight, bias, LayerNorm.eps)


def token_losses(
    logits: Float[Tensor, "*batch pos d_vocab"], ids: Int[Tensor, "*batch pos"]
) -> Float[Tensor, "*batch pos"]:
    """-log p(token at a position given those before it), in nats; NaN at position 0."""
    targets = ids[..., 1:].to(logits.device)
    losses = F.cross_entropy(logits[..., :-1, :].flatten(0, -2), targets.flatten(), reduction="none")
    return F.pad(losses.view(targets.shape), (1, 0), value=math.nan)


class WeightsOfNorms:
    """The weights and biases of some LayerNorms, copied at once: one by one takes as long as a layer.

    To be made where gradients are off.
    """

    def __init__(self, model: GPT, norms: tuple[Address, ...]):
        blocks: Any = list(model.transformer.h)
        parameters = [blocks[layer]._modules[name]._parameters for name, layer in norms]  # see `_norm_as_written`
        weights = [
            [weight for weight in (own["weight"], own.get("bias")) if weight is not None] for own in parameters
        ]
        self.norms, self.counts = norms, [len(each) for each in weights]
        self.together = torch.cat([weight for each in weights for weight in each])

    def of(self, norm: Address) -> tuple[Tensor, ...]:
        """(weight, bias) or (weight,) of one; cut out when asked for, which few traces are."""
        place = self.norms.index(norm)
        first = sum(self.counts[:place])
        return self.together.view(sum(self.counts), -1)[first : first + self.counts[place]].unbind()


class Plan(NamedTuple):
    """What follows from the addresses asked for alone, so that a sweep works it out once."""

    captured: tuple[Address, ...]
    """Those that must be kept as they pass."""
    norms: tuple[Address, ...]
    """Those that will be derived with the weights of a LayerNorm."""
    names: tuple[str, ...]
    layers: tuple[int, ...]


@functools.lru_cache(maxsize=256)
def plan(addresses: tuple[Address, ...], touched: tuple[Address, ...], derive: bool) -> Plan:
    """Keep every address, or (`derive`) only those that do not follow from others: what was touched does not."""
    asked, own = set(addresses), set(touched)

    def follows(name: str, layer: int | None) -> bool:
        sources = {(source, layer) for source in DERIVED.get(name, ())}
        another_scale = (f"{name}_scale", layer) in own
        return derive and bool(sources) and sources <= asked and (name, layer) not in own and not another_scale

    return Plan(
        captured=tuple(address for address in addresses if not follows(*address)),
        norms=tuple(address for address in addresses if address[0] in ("ln_1", "ln_2") and follows(*address)),
        names=tuple(dict.fromkeys(name for name, _ in addresses)),
        layers=tuple(sorted({layer for _, layer in addresses if layer is not None})),
    )


NORMS = ("ln_1", "ln_1_scale", "ln_2", "ln_2_scale")
INSIDE_ATTENTION = ("scores", "z")

_FORWARDS: dict[Any, Any] = {kind: kind.forward for kind in (Block, LayerNorm, CausalSelfAttention, MLP, nn.Dropout)}
_ALL_FORWARDS = _FORWARDS | {kind: kind.forward for kind in (HookPoint, nn.Linear, nn.Embedding)}
_EXPLICIT_ATTENTION = CausalSelfAttention.explicit_attention
_RUN_INSTEAD = frozenset({"forward", "explicit_attention", "_call_impl", "_compiled_call_impl"})
"""What, among a module's own attributes, is run instead of the code of its class."""


def own_code(module: nn.Module) -> bool:
    """Whether calling a module runs code that is neither the model's nor torch's: it may do anything.

    Example:
        >>> own_code(nn.Dropout()), own_code(nn.Sequential())
        (False, True)
    """
    kind: Any = type(module)
    return _ALL_FORWARDS.get(kind) is not kind.forward or not vars(module).keys().isdisjoint(_RUN_INSTEAD)


def foreign(model: GPT) -> tuple[Address, ...]:
    """Names that do not follow from their sources because somebody changed a module, or put in a hook point.

    Asked at every recording, since a module may be changed at any time: hence parts are looked up in `_modules`, which
    takes a tenth of what `nn.Module` needs to find an attribute.
    """
    found: list[Address] = []
    known, approximate = model.hook_points, ACTIVATIONS[model.config.activation]
    intact = frozenset(kind for kind, forward in _FORWARDS.items() if kind.forward is forward)
    for layer, block in enumerate(model.transformer.h):
        parts: dict[str, Any] = block._modules
        if not isinstance(block, Block):  # a block of another make, or ours within something
            found += [(name, layer) for name in DERIVED if name != "loss"]
            continue
        attn, mlp = parts["attn"], parts["mlp"]
        names: list[str] = [] if _as_written(block, Block, intact) else [*NORMS]
        if not _attention_as_written(attn, intact):
            names += INSIDE_ATTENTION
        if not _as_written(mlp, MLP, intact) or mlp.approximate != approximate:
            names.append("mlp_post")
        own = vars(attn)
        points = {"scores": own.get("scores"), "z": own.get("z"), "mlp_post": vars(mlp).get("mlp_post")}
        for name in ("ln_1", "ln_2"):
            norm, scale = parts[name], f"{name}_scale"
            points[name], points[scale] = vars(norm).get("normalised"), vars(norm).get("scale")
            if not _norm_as_written(norm, intact):
                names += name, scale
        names += [name for name, point in points.items() if point is not known[name, layer]]
        found += [(name, layer) for name in names]
    return tuple(found)


def _as_written(module: Any, kind: Any, intact: frozenset[Any]) -> bool:
    """Whether calling a module runs the code of its class, one of those whose code is intact."""
    return type(module) is kind and kind in intact and vars(module).keys().isdisjoint(_RUN_INSTEAD)


def _attention_as_written(attn: Any, intact: frozenset[Any]) -> bool:
    own = CausalSelfAttention.explicit_attention is _EXPLICIT_ATTENTION
    if not own or not _as_written(attn, CausalSelfAttention, intact):
        return False
    dropout = attn._modules["attn_dropout"]
    return _as_written(dropout, nn.Dropout, intact) and not (dropout._forward_hooks or dropout._forward_pre_hooks)


def _norm_as_written(norm: Any, intact: frozenset[Any]) -> bool:
    return (
        _as_written(norm, LayerNorm, intact) and norm.eps == LayerNorm.eps and not norm._forward_pre_hooks
        and not norm.scale.edited and vars(norm).get("weight") is None and vars(norm).get("bias") is None
    )
