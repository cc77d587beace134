"""The names of activations: their axes and shapes, other spellings of them, and which of them a reader asked for.

One table, `AXES`, is the source for recording, editing, documentation and every view. No torch here.
"""

import difflib
import fnmatch
import functools
import re
from collections.abc import Iterable, Sequence
from typing import Any

from gptviz.arguments import several
from gptviz.config import GPTConfig

AXES: dict[str, tuple[str, ...]] = {
    "embed": ("pos", "d_model"),
    "pos_embed": ("pos", "d_model"),
    "resid_pre": ("layer", "pos", "d_model"),
    "ln_1_scale": ("layer", "pos"),
    "ln_1": ("layer", "pos", "d_model"),
    "q": ("layer", "head", "pos", "d_head"),
    "k": ("layer", "head", "pos", "d_head"),
    "v": ("layer", "head", "pos", "d_head"),
    "scores": ("layer", "head", "query", "key"),
    "pattern": ("layer", "head", "query", "key"),
    "z": ("layer", "head", "pos", "d_head"),
    "attn_out": ("layer", "pos", "d_model"),
    "resid_mid": ("layer", "pos", "d_model"),
    "ln_2_scale": ("layer", "pos"),
    "ln_2": ("layer", "pos", "d_model"),
    "mlp_pre": ("layer", "pos", "d_mlp"),
    "mlp_post": ("layer", "pos", "d_mlp"),
    "mlp_out": ("layer", "pos", "d_model"),
    "resid_post": ("layer", "pos", "d_model"),
    "ln_final_scale": ("pos",),
    "ln_final": ("pos", "d_model"),
    "logits": ("pos", "d_vocab"),
    "loss": ("pos",),
}
"""Axes of every recordable name, in the order of the computation."""

AFTER_THE_BLOCKS = frozenset({"ln_final_scale", "ln_final", "logits", "loss"})
"""Names of what a pass computes behind its last block."""

TRANSFORMERLENS = {
    "hook_embed": "embed",
    "hook_pos_embed": "pos_embed",
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    "ln1.hook_scale": "ln_1_scale",
    "ln1.hook_normalized": "ln_1",
    "ln2.hook_scale": "ln_2_scale",
    "ln2.hook_normalized": "ln_2",
    "attn.hook_q": "q",
    "attn.hook_k": "k",
    "attn.hook_v": "v",
    "attn.hook_attn_scores": "scores",
    "attn.hook_pattern": "pattern",
    "attn.hook_z": "z",
    "mlp.hook_pre": "mlp_pre",
    "mlp.hook_post": "mlp_post",
    "ln_final.hook_scale": "ln_final_scale",
    "ln_final.hook_normalized": "ln_final",
}
"""TransformerLens's spelling, without `blocks.N.`, to ours."""

Address = tuple[str, int | None]
"""A name and its layer; the layer is None for names that belong to no block."""


class UnknownNameError(ValueError, KeyError):
    """A name, layer, head or position that does not exist, or that was not recorded."""

    __str__ = ValueError.__str__  # KeyError would print the sentence with quotes and escapes


def axis_sizes(config: GPTConfig, n_tokens: int) -> dict[str, int]:
    """The length of each axis for a text of `n_tokens` tokens."""
    return {
        "layer": config.n_layer,
        "head": config.n_head,
        "pos": n_tokens,
        "query": n_tokens,
        "key": n_tokens,
        "d_model": config.n_embd,
        "d_head": config.n_embd // config.n_head,
        "d_mlp": 4 * config.n_embd,
        "d_vocab": config.vocab_size,
    }


def shape_of(name: str, config: GPTConfig, n_tokens: int) -> tuple[int, ...]:
    """The shape of an activation for a text of `n_tokens` tokens.

    Example:
        >>> from gptviz.config import GPTConfig
        >>> shape_of("pattern", GPTConfig(n_layer=2, n_head=3, n_embd=12), n_tokens=5)
        (2, 3, 5, 5)
    """
    sizes = axis_sizes(config, n_tokens)
    return tuple(sizes[axis] for axis in AXES[name])


def our_spelling(text: str) -> tuple[str, str]:
    """Split one request into (name or glob, layer or "*"), translating TransformerLens's spelling.

    Example:
        >>> our_spelling("blocks.3.attn.hook_pattern"), our_spelling("resid_*"), our_spelling("pattern.1")
        (('pattern', '3'), ('resid_*', '*'), ('pattern', '1'))
    """
    block = re.fullmatch(r"blocks\.(-?\d+|\*)\.(.+)", text)
    layer, rest = block.groups() if block else ("*", text)
    if rest in TRANSFORMERLENS:
        return TRANSFORMERLENS[rest], layer
    ours = re.fullmatch(r"([^.]+)\.(-?\d+|\*)", text)
    return ours.groups() if ours else (text, layer)  # type: ignore[return-value]


def nearest_names(name: str) -> str:
    """A phrase with the real names closest to a wrong one."""
    stem = name.removeprefix("hook_")
    close = difflib.get_close_matches(stem, AXES, n=3, cutoff=0.4)
    banned = {"attn": ["scores", "pattern", "attn_out"], "attention": ["pattern", "scores"]}
    close = banned.get(stem, close)
    return f"Did you mean {', '.join(map(repr, close))}?" if close else f"The names are {', '.join(AXES)}."


def resolve_names(
    names: str | Iterable[str] | None, n_layer: int, layers: Sequence[int] | None = None
) -> list[Address]:
    """Every (name, layer) that a request means, in the order of `AXES` and layer by layer.

    Args:
        names: Names, globs ("resid_*"), names of one layer ("pattern.3") or TransformerLens spellings; None for all.
        n_layer: How many layers the model has.
        layers: Only these layers; names that belong to no layer are kept.

    Raises:
        UnknownNameError: a request that matches nothing.

    Example:
        >>> resolve_names(["logits", "ln_?_scale"], n_layer=2, layers=[1])
        [('ln_1_scale', 1), ('ln_2_scale', 1), ('logits', None)]
    """
    return list(_resolved(requested(names), n_layer, tuple(range(n_layer) if layers is None else layers)))


def requested(names: str | Iterable[str] | None) -> tuple[str, ...]:
    """What was asked for, one by one; None for all.

    Raises:
        UnknownNameError: nothing was asked for.
        TypeError: something that is not a string.
    """
    if names is None:
        return tuple(AXES)
    requests = (names,) if isinstance(names, str) else tuple(several(names, "names"))
    if not requests:
        raise UnknownNameError("names must hold at least one name, but is empty. Leave it out to record everything.")
    for request in requests:
        if not isinstance(request, str):
            raise TypeError(f"A name must be a string, not {type(request).__name__}: {request!r}.")
    return requests


@functools.lru_cache(maxsize=256)  # a sweep asks the same thousands of times, in the midst of its timing
def _resolved(requests: tuple[str, ...], n_layer: int, allowed: tuple[int, ...]) -> tuple[Address, ...]:
    wanted: set[Address] = set()
    for request in requests:
        wanted |= _addresses_of(request, n_layer, allowed)
    order = {name: place for place, name in enumerate(AXES)}
    return tuple(sorted(wanted, key=lambda address: (order[address[0]], -1 if address[1] is None else address[1])))


def _addresses_of(request: str, n_layer: int, allowed: Sequence[int]) -> set[Address]:
    pattern, layer_text = our_spelling(request)
    matched = fnmatch.filter(AXES, pattern)
    if not matched:
        raise UnknownNameError(f"{request!r} matches no activation. {nearest_names(pattern)}")
    one_layer = allowed if layer_text == "*" else [index_within(int(layer_text), n_layer, "layer")]
    found: set[Address] = {
        (name, layer)
        for name in matched
        if AXES[name][0] == "layer"
        for layer in one_layer
        if layer in allowed
    }
    if layer_text == "*":
        found |= {(name, None) for name in matched if AXES[name][0] != "layer"}
    if not found:
        raise UnknownNameError(f"{request!r} matches nothing in the layers asked for ({list(allowed)}).")
    return found


def addresses_reached(
    names: Any, layers: Any, span: range, n_layer: int, embedded: bool = True
) -> tuple[Address, ...]:
    """The addresses asked for that a pass over the layers of `span` reaches, from the embedding or from a stream.

    Raises:
        UnknownNameError: a name or layer that does not exist, or that such a pass does not compute.

    Example:
        >>> addresses_reached("resid_*", slice(0, 1), range(2), 2)
        (('resid_pre', 0), ('resid_mid', 0), ('resid_post', 0))
    """
    chosen = indices_within(layers, n_layer, "layer")
    return _reached(names is None, requested(names), chosen, span, n_layer, embedded)


@functools.lru_cache(maxsize=256)
def _reached(
    all_names: bool, names: tuple[str, ...], layers: tuple[int, ...], span: range, n_layer: int, embedded: bool
) -> tuple[Address, ...]:
    chosen = [layer for layer in layers if layer in span]
    before = {"embed", "pos_embed"}
    unreachable = (set() if embedded else before) | (AFTER_THE_BLOCKS if span.stop < n_layer else set())
    found = tuple(at for at in resolve_names(names, n_layer, chosen) if at[0] not in unreachable)
    named = set() if all_names else {our_spelling(name)[0] for name in names}
    if not found or unreachable & named:
        raise UnknownNameError(
            f"A pass over layers {span.start} to {span.stop - 1} does not compute all of {', '.join(names)}."
        )
    return found


def check_index(index: Any, what: str) -> int:
    """A layer, head or position as an int, which may still be one that a model does not have.

    Raises:
        TypeError: it is no whole number.
    """
    if isinstance(index, bool) or not hasattr(index, "__index__") or getattr(index, "ndim", 0):  # arrays have it, too
        raise TypeError(f"A {what} must be a whole number, not {index!r}.")
    return index.__index__()


def index_within(index: int, size: int, what: str) -> int:
    """A layer, head or position as a number from 0; -1 means the last.

    Raises:
        UnknownNameError: there is no such layer, head or position.
    """
    index = check_index(index, what)
    if not -size <= index < size:
        raise UnknownNameError(
            f"There is no {what} {index}: it must be 0 to {size - 1} (or -1 for the last)."
        )
    return index % size


def indices_within(indices: int | slice | Iterable[int] | None, size: int, what: str) -> tuple[int, ...]:
    """A choice of layers, heads or positions as ascending numbers from 0; None means all of them.

    Raises:
        UnknownNameError: one of them does not exist, or none is chosen.

    Example:
        >>> indices_within(slice(-2, None), 5, "position"), indices_within(None, 2, "head")
        ((3, 4), (0, 1))
    """
    if indices is None:
        return _all_of(size)
    if isinstance(indices, slice):
        chosen = set(range(size)[indices])
    else:
        one = hasattr(indices, "__index__") and not getattr(indices, "ndim", 0)  # an array of several has it too
        listed: Any = [indices] if one else indices
        chosen = {index_within(index, size, what) for index in listed}
    if not chosen:
        raise UnknownNameError(f"At least one {what} must be chosen, but {indices!r} chooses none of {size}.")
    return tuple(sorted(chosen))


@functools.lru_cache(maxsize=256)
def _all_of(size: int) -> tuple[int, ...]:
    return tuple(range(size))


def human_bytes(size: int) -> str:
    """A size as a person reads it: 512 B, 48 kB, 2.1 MB (powers of 1000)."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}" if size < 100 * scale else f"{size / scale:.0f} {unit}"
    return f"{size} B"
