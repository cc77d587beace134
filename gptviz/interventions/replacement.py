"""Edits that put given values in place of computed ones: from another trace, or by hand."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from gptviz.arguments import several
from gptviz.interventions.edit import (
    Edit,
    Reached,
    Site,
    call,
    finite,
    head_within,
    listed,
    one_name,
    place_of,
)
from gptviz.model import GPT, GPTConfig
from gptviz.naming import AXES, Address, UnknownNameError, check_index, index_within, shape_of
from gptviz.trace import Trace, check_trace

RENORMALISED = 1e-6
"""A row whose sum is this close to 1 is taken as it is, so that a recorded row stays the recorded row."""


@dataclass(frozen=True, eq=False, repr=False)
class Patch(Edit):
    """Values that replace those of a forward pass: one tensor for each address, `[(head) position ...]`."""

    kind: ClassVar[str] = "patch"

    verb: str
    addresses: tuple[tuple[str, int | None], ...]
    head: int | None
    positions: tuple[int, ...]
    source_positions: tuple[int, ...] | None
    values: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.verb not in ("patch", "freeze_ln", "freeze_pattern"):
            raise ValueError(f"A patch is made by patch, freeze_ln or freeze_pattern, not by {self.verb!r}.")
        if not self.addresses or len(self.addresses) != len(self.values):
            raise ValueError(f"A patch needs one tensor for each place: {len(self.addresses)} and {len(self.values)}.")
        for (name, layer), value in zip(self.addresses, self.values, strict=True):
            if layer is not None:
                check_index(layer, "layer")
            place_of(name, layer, self.head)
            axis = 1 if self.head is None and "head" in AXES[name] else 0
            if value.ndim <= axis or value.shape[axis] != len(self.positions):
                raise ValueError(
                    f"A patch of {name} needs values for its {len(self.positions)} positions on axis {axis}, "
                    f"but has shape {tuple(value.shape)}."
                )

    def __repr__(self) -> str:
        if self.verb == "freeze_ln":
            return "freeze_ln(trace)"
        (name, layer), *others = self.addresses
        layer = None if others else layer
        if self.verb == "freeze_pattern":
            return call("freeze_pattern", "trace", layer=layer, head=self.head)
        moved = {"source_positions": self.source_positions}
        return call("patch", "trace", repr(name), layer=layer, head=self.head, positions=self.positions, **moved)

    def sites(self, model: GPT) -> list[Site]:
        return [
            Site(address, self.head, self.positions, self._replacement(address, value, model.config))
            for address, value in zip(self.addresses, self.values, strict=True)
        ]

    def _replacement(self, address: Address, value: Tensor, config: GPTConfig) -> Any:
        axes = _inner_axes(address[0], self.head)
        sizes = dict(zip(AXES[address[0]], shape_of(address[0], config, 1), strict=True))
        sizes = sizes | {"pos": len(self.positions), "query": len(self.positions), "key": value.shape[-1]}
        wanted = tuple(sizes[axis] for axis in axes)
        if len(axes) != value.ndim or tuple(value.shape) != wanted:
            raise ValueError(
                f"{self!r} holds {address[0]} of shape {tuple(value.shape)}, but this model needs {wanted} {axes}. "
                "Was it recorded with a model of another shape?"
            )
        axis = 1 if axes[0] == "head" else 0
        fill = {"pattern": 0.0, "scores": -math.inf}.get(address[0])

        def replacement(old: Tensor, reached: Reached) -> Tensor:
            chosen = value.index_select(axis, torch.tensor(reached.places, device=value.device))
            return chosen if fill is None else _with_keys(chosen, old.shape[-1], fill)

        return replacement


@dataclass(frozen=True, eq=False, repr=False)
class PatternRow(Edit):
    """The attention of one query, given by hand."""

    kind: ClassVar[str] = "pattern_row"

    layer: int
    head: int
    query: int
    row: tuple[float | int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.query, int) or self.query < 0:
            raise ValueError(f"The query must be a position counted from 0, not {self.query!r}.")
        if len(self.row) < self.query + 1:
            raise ValueError(
                f"The row must hold one weight for each key from 0 to {self.query} (the query), {self.query + 1} in "
                f"all, but holds {len(self.row)}."
            )
        if any(finite(weight, "A weight of attention") < 0 for weight in self.row) or sum(self.row) <= 0:
            raise ValueError(f"Weights of attention must be 0 or more, and not all 0, but the row is {list(self.row)}.")
        later = [key for key, weight in enumerate(self.row) if weight and key > self.query]
        if later:
            raise ValueError(
                f"Query {self.query} cannot attend to key {later[0]}, which comes later: the model is causal. "
                "Give later keys a weight of 0, or leave them out."
            )

    def __repr__(self) -> str:
        return call("set_pattern", str(self.layer), str(self.head), str(self.query), str(list(self.row)))

    def sites(self, model: GPT) -> list[Site]:
        return [Site(("pattern", self.layer), self.head, (self.query,), self._renormalised)]

    def _renormalised(self, old: Tensor, reached: Reached) -> Tensor:
        row = torch.tensor(self.row[: self.query + 1], dtype=torch.float64)
        total = row.sum()
        row = row if abs(total - 1) < RENORMALISED else row / total
        return F.pad(row, (0, old.shape[-1] - len(row))).to(old)


def patch(
    trace: Trace,
    name: str,
    layer: int | None = None,
    head: int | None = None,
    positions: int | slice | Iterable[int] | None = None,
    source_positions: int | slice | Iterable[int] | None = None,
) -> Patch:
    """Put the values of another forward pass in place of this one's.

    Args:
        trace: Holds the values.
        name: Any activation, also "z.3" or in TransformerLens's spelling.
        layer: None for all layers that the trace holds.
        head: None for all heads.
        positions: Where the values go; None for all positions of the trace. Each of them must be met while the edit is
            active. Negative ones count from the end of the running text.
        source_positions: Where in the trace the values come from, as many; None for the same positions. Rows of scores
            and pattern cannot move.

    Raises:
        UnknownNameError: the trace does not hold this.
        ValueError: there are not as many source positions as positions.

    Example:
        >>> from gptviz.model import GPT, GPTConfig
        >>> from gptviz.trace import record
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=2, n_head=2, n_embd=8))
        >>> patch(record(model, [0, 1, 2]), "blocks.1.attn.hook_z", head=0, positions=2)
        patch(trace, 'z', layer=1, head=0, positions=2)
    """
    check_trace(trace)
    addresses, axis = _addresses(trace, name, layer), 0
    name = addresses[0][0]
    heads = slice(None)
    if head is not None:
        place_of(name, addresses[0][1], head)
        heads = head_within(trace, head)
    elif "head" in AXES[name]:
        axis = 1
        if len(trace.heads) < trace.config.n_head:
            raise UnknownNameError(f"This trace holds only heads {list(trace.heads)}: choose one of them with head=.")
    targets, sources = _targets_and_sources(trace, name, positions, source_positions)
    index = torch.tensor([trace.positions.index(source) for source in sources])
    values = []
    for address in addresses:
        value = trace[address] if address[1] is not None else trace[name]  # type: ignore[index]
        value = value[heads] if "head" in AXES[name] else value
        values.append(value.index_select(axis, index.to(value.device)))
    head = None if head is None else index_within(head, trace.config.n_head, "head")
    return Patch("patch", tuple(addresses), head, targets, sources if sources != targets else None, tuple(values))


def freeze_ln(trace: Trace) -> Patch:
    """Divide by the recorded scales in every LayerNorm: the model becomes linear but for attention and the MLPs.

    Args:
        trace: Holds `ln_1_scale`, `ln_2_scale` and `ln_final_scale` of a text as long as those to come.

    Raises:
        UnknownNameError: the trace does not hold the scales.

    Example:
        >>> from gptviz.interventions import intervene, scale_head
        >>> from gptviz.loading import load
        >>> from gptviz.trace import record
        >>> model, tokenizer = load("sorter")
        >>> trace = record(model, "CBABBC", tokenizer)
        >>> with intervene(model, scale_head(2, 0, 2.0), freeze_ln(trace)):
        ...     doubled = record(model, "CBABBC", tokenizer)
        >>> bool((doubled["ln_final_scale"] == trace["ln_final_scale"]).all())
        True
    """
    patches = [patch(trace, name) for name in ("ln_1_scale", "ln_2_scale", "ln_final_scale")]
    addresses = tuple(address for each in patches for address in each.addresses)
    return Patch("freeze_ln", addresses, None, trace.positions, None, tuple(v for each in patches for v in each.values))


def freeze_pattern(trace: Trace, layer: int | None = None, head: int | None = None) -> Patch:
    """Attend as in the trace, whatever the queries and keys say; what is read there stays free to change.

    Args:
        trace: Holds `pattern` of a text as long as those to come.
        layer: None for all layers that the trace holds.
        head: None for all heads.

    Raises:
        UnknownNameError: the trace does not hold this.

    Example:
        >>> from gptviz.interventions import ablate_mlp, intervene
        >>> from gptviz.loading import load
        >>> from gptviz.trace import record
        >>> model, tokenizer = load("sorter")
        >>> trace = record(model, "CBABBC", tokenizer)
        >>> with intervene(model, ablate_mlp(0), freeze_pattern(trace)):
        ...     without = record(model, "CBABBC", tokenizer)
        >>> bool((without["pattern"] == trace["pattern"]).all())
        True
    """
    frozen = patch(trace, "pattern", layer, head)
    return Patch("freeze_pattern", frozen.addresses, frozen.head, frozen.positions, None, frozen.values)


def set_pattern(layer: int, head: int, query: int, row: Sequence[float | int] | Tensor) -> PatternRow:
    """Decide by hand where one query looks.

    The weights are divided by their sum (unless that is 1 already).

    Args:
        layer: From 0; negative counts from the last.
        head: From 0; negative counts from the last.
        query: The position that attends, from 0.
        row: A weight for each key from 0 to the query; further ones must be 0.

    Raises:
        ValueError: weights are negative, not finite, too few, all 0, or on a key later than the query.

    Example:
        >>> set_pattern(0, 1, query=2, row=[0, 3, 1])
        set_pattern(0, 1, 2, [0, 3, 1])
    """
    weights = row.tolist() if isinstance(row, Tensor) else list(several(row, "row"))
    return PatternRow(layer, head, query, tuple(weights))


def _addresses(trace: Trace, name: str, layer: int | None) -> list[Address]:
    base, spelled = one_name(name)
    if AXES[base][0] != "layer" or layer is not None or spelled is not None:
        base, layer = place_of(name, layer, None)
        layer = None if layer is None else index_within(layer, trace.config.n_layer, "layer")
        return [(base, layer)]
    return [(base, layer) for layer in trace.layers if (base, layer) in trace] or [(base, trace.layers[0])]


def _targets_and_sources(
    trace: Trace, name: str, positions: Any, source_positions: Any
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where values go in the running text, and where they come from in the trace."""
    if source_positions is not None and positions is None:
        raise ValueError("source_positions needs positions: where the values go.")
    targets = _numbers(positions, len(trace)) or trace.positions
    sources = _numbers(source_positions, len(trace)) or targets
    sources = tuple(index_within(source, len(trace), "position") for source in sources)
    if len(sources) != len(targets):
        raise ValueError(
            f"There must be as many source_positions as positions, but there are {len(sources)} and {len(targets)}."
        )
    missing = [source for source in sources if source not in trace.positions]
    if missing:
        raise UnknownNameError(f"Position {missing[0]} was not recorded; this trace holds {list(trace.positions)}.")
    if name in ("scores", "pattern") and sources != targets:
        raise ValueError(
            f"A row of {name} belongs to its query and cannot move to another, but goes from {sources} to {targets}. "
            "Count positions from 0, the same for both."
        )
    return targets, sources


def _numbers(positions: Any, n_tokens: int) -> tuple[int, ...] | None:
    chosen = listed(positions)
    if not isinstance(chosen, slice):
        return chosen
    return listed(range(n_tokens)[chosen])  # type: ignore[return-value]


def _inner_axes(name: str, head: int | None) -> tuple[str, ...]:
    """The axes of a patch's values: without the layer, and without the head where one is chosen."""
    return tuple(axis for axis in AXES[name] if axis != "layer" and not (axis == "head" and head is not None))


def _with_keys(rows: Tensor, n_keys: int, fill: float) -> Tensor:
    """Rows with as many keys as the running text has; keys beyond a row's own text come later than its query."""
    return F.pad(rows, (0, n_keys - rows.shape[-1]), value=fill) if n_keys > rows.shape[-1] else rows[..., :n_keys]
