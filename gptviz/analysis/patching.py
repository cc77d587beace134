"""Patching sweeps: which single value of one text, put into another text, brings back the answer?

The slow way is one forward pass per cell (name, layer, head, position). `patched_passes` runs cells as batches, which
each of them enters as late as it can.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from gptviz.analysis.patched_passes import PATHS, AtPosition, Cell, Metric, Pair
from gptviz.arguments import several, whole_number
from gptviz.capture import unwrapped
from gptviz.naming import (
    AXES,
    UnknownNameError,
    index_within,
    indices_within,
    our_spelling,
    requested,
    resolve_names,
)

__all__ = ["AtPosition", "PatchingSweep", "PathSweep", "activation_patching", "logit_difference", "path_patching"]

SWEPT = ("resid_pre", "q", "k", "v", "pattern", "z", "attn_out", "resid_mid", "mlp_out", "resid_post")
"""Names that a sweep can patch. The others are functions of one of these (ln_1 of resid_pre, mlp_pre of resid_mid)."""

ROUNDING = 1e-6
"""Metrics closer than this, relatively, differ by rounding: one pass attends step by step, the other is fused."""


def logit_difference(target: int, distractor: int, position: int = -1) -> AtPosition:
    """The metric logit(target) - logit(distractor): by how many nats the model prefers one token to another.

    Args:
        target: Token id of the answer that is right for the clean text.
        distractor: Token id that is right for the corrupted text.
        position: Where the answer is predicted; -1 for the last.

    Example:
        >>> logit_difference(0, 2)(torch.tensor([[[1.0, 5.0, -2.0]]]))
        tensor([3.])
    """
    target, distractor = whole_number(target, "target"), whole_number(distractor, "distractor")

    def difference(logits: Float[Tensor, "batch d_vocab"]) -> Float[Tensor, "batch"]:
        for token in (target, distractor):
            if token >= logits.shape[-1]:
                raise ValueError(f"logit_difference compares tokens 0 to {logits.shape[-1] - 1}, not {token}.")
        return logits[:, target] - logits[:, distractor]

    return AtPosition(difference, position)


@dataclass(frozen=True)
class PatchingSweep:
    """What the metric becomes when one value of the clean text is put into the corrupted one.

    Attributes:
        values: The metric for each cell: name -> `[layer pos]` or `[layer head pos]`.
        clean: The metric of the clean text.
        corrupted: The metric of the corrupted text, which every cell starts from.
        layers, heads, positions: What the axes stand for.
    """

    values: dict[str, Float[np.ndarray, "..."]]
    clean: float
    corrupted: float
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    positions: tuple[int, ...]

    def recovered(self) -> dict[str, Float[np.ndarray, "..."]]:
        """The share of the difference that each cell brings back: 0 is the corrupted text, 1 the clean one.

        Raises:
            ValueError: the two texts do not differ in the metric.
        """
        return {name: _share(values, self.clean, self.corrupted) for name, values in self.values.items()}


@dataclass(frozen=True)
class PathSweep:
    """What the metric becomes when a head's clean output reaches the receivers on the direct path only.

    Attributes:
        values: The metric for each sender, `[layer head]`; NaN where a head was not asked for.
        clean: The metric of the clean text.
        corrupted: The metric of the corrupted text, which every cell starts from.
    """

    values: Float[np.ndarray, "layer head"]
    clean: float
    corrupted: float

    def recovered(self) -> Float[np.ndarray, "layer head"]:
        """The share of the difference that each sender brings back: 0 is the corrupted text, 1 the clean one.

        Raises:
            ValueError: the two texts do not differ in the metric.
        """
        return _share(self.values, self.clean, self.corrupted)


def activation_patching(
    model: nn.Module,
    clean_ids: Any,
    corrupted_ids: Any,
    metric: Metric,
    names: str | Iterable[str] = ("resid_pre", "attn_out", "mlp_out", "z"),
    *,
    layers: int | slice | Iterable[int] | None = None,
    heads: int | slice | Iterable[int] | None = None,
    positions: int | slice | Iterable[int] | None = None,
    max_bytes: int = 32_000_000,
) -> PatchingSweep:
    """Put each single activation of the clean text into the corrupted one, and see what becomes of the metric.

    One cell is one forward pass of the corrupted text in which `name` of one layer, one head (where it has heads) and
    one position is that of the clean text, and all that follows is computed anew. For `pattern` the position is the
    query. For the opposite direction exchange the texts. A cell says what a value is sufficient for, in this pair of
    texts, with all else corrupted; it is neither symmetric nor additive.

    Args:
        model: A `GPT` that nobody edits.
        clean_ids: Token ids of the text that values are taken from.
        corrupted_ids: Token ids, as many, of the text that they are put into.
        metric: From logits `[batch pos d_vocab]` of all positions to one number per text `[batch]`. With an
            `AtPosition` (`logit_difference` is one) only that position's logits are computed.
        names: Which activations: of resid_pre, q, k, v, pattern, z, attn_out, resid_mid, mlp_out, resid_post.
        layers: Only these layers.
        heads: Only these heads.
        positions: Only these positions.
        max_bytes: About how much memory a batch of cells may take, in bytes. Smaller can be faster: it fits a cache.

    Raises:
        UnknownNameError: a name that cannot be swept; a layer, head or position that does not exist.
        ValueError: texts of different lengths; edits are active; a metric that does not give one number per text.

    Example:
        >>> from gptviz.model import GPT, GPTConfig
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=2, n_head=2, n_embd=8))
        >>> sweep = activation_patching(model, [0, 1, 2], [0, 3, 2], logit_difference(1, 3), names="z")
        >>> sweep.values["z"].shape
        (2, 2, 3)
    """
    pair = Pair(unwrapped(model), clean_ids, corrupted_ids, metric)
    config = pair.model.config
    axes = {
        "layer": indices_within(layers, config.n_layer, "layer"),
        "head": indices_within(heads, config.n_head, "head"),
        "pos": indices_within(positions, pair.n_tokens, "position"),
    }
    swept = _swept(names)
    with torch.no_grad():
        pair.record(swept)
        grids = {name: [axes["pos" if axis == "query" else axis] for axis in _grid_axes(name)] for name in swept}
        found = {name: np.full([len(axis) for axis in grid], pair.corrupted) for name, grid in grids.items()}
        cells = [cell for name, grid in grids.items() for cell in _cells(name, grid)]
        cells = sorted((cell for cell in cells if pair.is_read(cell.position)), key=lambda cell: cell.position)
        for chunk in pair.chunks(cells, max_bytes):
            for cell, value in zip(chunk, pair.metrics_of(chunk).tolist(), strict=True):
                found[cell.name][cell.index] = value
    return PatchingSweep(found, pair.clean, pair.corrupted, axes["layer"], axes["head"], axes["pos"])


def path_patching(
    model: nn.Module,
    clean_ids: Any,
    corrupted_ids: Any,
    metric: Metric,
    receivers: str | Iterable[tuple[int, int, str]],
    senders: Iterable[tuple[int, int]] | None = None,
    *,
    positions: int | slice | Iterable[int] | None = None,
    max_bytes: int = 32_000_000,
) -> PathSweep:
    """Let a head's clean output reach some receivers by the direct path alone, and see what becomes of the metric.

    The direct path is the residual stream: everything else between sender and receiver (other heads, MLPs) keeps its
    corrupted output; LayerNorms see the changed stream. What the receivers then read (their queries, keys or values) is
    put into the corrupted text, and all that follows them is computed anew. (Wang et al. 2022, with MLPs frozen.)

    Args:
        model: A `GPT` that nobody edits.
        clean_ids: Token ids of the text that the senders' outputs are taken from.
        corrupted_ids: Token ids, as many, of the text that they are put into.
        metric: As for `activation_patching`.
        receivers: (layer, head, "q" | "k" | "v"), all of them at once; or "logits", the direct path to the end.
        senders: (layer, head), each by itself; None for all heads of layers before the last receiver.
        positions: The sender's output is clean only at these positions; None for all.
        max_bytes: About how much memory a batch of senders may take, in bytes.

    Raises:
        UnknownNameError: a sender or receiver that does not exist.
        ValueError: a sender that is in no layer before a receiver; texts of different lengths; edits are active.

    Example:
        >>> from gptviz.model import GPT, GPTConfig
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=2, n_head=2, n_embd=8))
        >>> sweep = path_patching(model, [0, 1, 2], [0, 3, 2], logit_difference(1, 3), receivers=[(1, 0, "k")])
        >>> sweep.values.shape, bool(np.isnan(sweep.values[1]).all())
        ((2, 2), True)
    """
    pair = Pair(unwrapped(model), clean_ids, corrupted_ids, metric)
    config = pair.model.config
    ends = _receivers(receivers, config.n_layer, config.n_head)
    before = max((layer for layer, _, _ in ends), default=config.n_layer)
    starts = _senders(senders, before, config.n_layer, config.n_head)
    where = indices_within(positions, pair.n_tokens, "position")
    values = np.full((config.n_layer, config.n_head), np.nan)
    with torch.no_grad():
        pair.record(("z",))
        size = max(1, whole_number(max_bytes, "max_bytes", least=1) // pair.bytes_per_cell(0))
        for first in range(0, len(starts), size):
            some = starts[first : first + size]
            for (layer, head), value in zip(some, pair.paths(some, ends, where).tolist(), strict=True):
                values[layer, head] = value
    return PathSweep(values, pair.clean, pair.corrupted)


# --- which cells -----------------------------------------------------------------------------------------------------


def _swept(names: str | Iterable[str]) -> list[str]:
    requests = requested(names)
    for request in requests:
        if our_spelling(request)[1] != "*":
            raise UnknownNameError(f"A sweep goes through layers: choose them with layers=, not in {request!r}.")
    found = list(dict.fromkeys(name for name, _ in resolve_names(requests, n_layer=1)))
    for name in found:
        if name not in SWEPT:
            raise UnknownNameError(f"A sweep can patch {', '.join(SWEPT)}, but not {name!r}.")
    return found


def _grid_axes(name: str) -> tuple[str, ...]:
    """The axes of a name that a sweep goes along: all but the last one, which is patched as a whole."""
    return AXES[name][:-1]


def _cells(name: str, grid: list[tuple[int, ...]]) -> Iterable[Cell]:
    for index in np.ndindex(*map(len, grid)):
        layer, *head, position = (axis[i] for axis, i in zip(grid, index, strict=True))
        yield Cell(name, layer, head[0] if head else 0, position, index)


def _receivers(receivers: Any, n_layer: int, n_head: int) -> list[tuple[int, int, str]]:
    if isinstance(receivers, str):
        if receivers != "logits":
            raise UnknownNameError(f'Receivers must be "logits" or (layer, head, "q" | "k" | "v"), not {receivers!r}.')
        return []
    found = []
    for receiver in several(receivers, "receivers"):
        layer, head, part = _tuple_of(3, receiver, 'A receiver must be (layer, head, "q" | "k" | "v")')
        if part not in PATHS:
            raise UnknownNameError(f'A receiver reads by its "q", "k" or "v", not by {part!r}.')
        found.append((index_within(layer, n_layer, "layer"), index_within(head, n_head, "head"), part))
    if not found:
        raise ValueError('There must be at least one receiver; for the direct path to the end say receivers="logits".')
    return found


def _senders(senders: Any, before: int, n_layer: int, n_head: int) -> list[tuple[int, int]]:
    if senders is None:
        senders = [(layer, head) for layer in range(before) for head in range(n_head)]
    pairs = [_tuple_of(2, sender, "A sender must be (layer, head)") for sender in several(senders, "senders")]
    found = [(index_within(layer, n_layer, "layer"), index_within(head, n_head, "head")) for layer, head in pairs]
    late = [(layer, head) for layer, head in found if layer >= before]
    if late:
        raise ValueError(
            f"A sender must be in a layer before a receiver, but head {late[0][1]} of layer {late[0][0]} is not: "
            f"the last receiver is in layer {before}."
        )
    if not found:
        raise ValueError(
            "There must be at least one sender, but there is none: no head writes before layer 0. "
            "Choose receivers in a later layer, or senders."
        )
    return found


def _tuple_of(length: int, value: Any, what: str) -> tuple[Any, ...]:
    if not isinstance(value, tuple | list) or len(value) != length:
        raise TypeError(f"{what}, not {value!r}.")
    return tuple(value)


def _share(values: np.ndarray, clean: float, corrupted: float) -> np.ndarray:
    if math.isclose(clean, corrupted, rel_tol=ROUNDING):
        raise ValueError(f"Both texts must differ in the metric for a share of the difference, but both give {clean}.")
    return (values - corrupted) / (clean - corrupted)
