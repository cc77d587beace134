"""What an edit is: a frozen description of a change, which can be checked, compared, printed and written as JSON."""

import base64
import binascii
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from gptviz.arguments import whole_number
from gptviz.model import GPT, GPTConfig
from gptviz.naming import (
    AXES,
    Address,
    UnknownNameError,
    check_index,
    index_within,
    nearest_names,
    our_spelling,
)
from gptviz.trace import Trace

Positions = tuple[int, ...] | slice | None
"""Positions of an edit: listed (negative ones count from the end of the text), a slice, or None for all."""


class Reached(NamedTuple):
    """Which of an edit's positions a forward pass has."""

    columns: list[int]
    """Their columns along the value's position axis."""
    positions: list[int]
    """Their positions in the text, counted from 0."""
    places: list[int]
    """Their places in the edit's own list of positions; the positions themselves where it has none."""


@dataclass(frozen=True)
class Site:
    """One place where an edit acts. `new` makes `[batch (head) position ...]` of the old values there."""

    address: Address
    head: int | None
    positions: Positions
    new: Callable[[Tensor, Reached], Tensor]


Note = Callable[[Tensor, Tensor, Reached], None]
"""Told the old values, the new values and the positions, each time that an edit fires."""


@dataclass(frozen=True, eq=False)
class Edit:
    """A change of activations, to be used with `intervene`. Two edits are equal if they say the same."""

    kind: ClassVar[str]
    _kinds: ClassVar[dict[str, type["Edit"]]] = {}

    def __init_subclass__(cls) -> None:
        Edit._kinds[cls.kind] = cls

    def __post_init__(self) -> None:
        """Wrong kinds of places are refused when the edit is made; whether a model has the place, by `intervene`."""
        for field in fields(self):
            value, name = getattr(self, field.name), field.name.removeprefix("from_")
            if name in ("layer", "head", "query") and (value is not None or field.type is int):
                object.__setattr__(self, field.name, check_index(value, name))  # an int: JSON has no numpy numbers
            if name == "positions" and value is not None and not isinstance(value, tuple | slice):
                raise TypeError(f"Positions must be whole numbers, not {value!r}.")
            if name == "positions" and isinstance(value, slice):
                _check_slice(value)
            if name == "seed":
                whole_number(value, "seed")

    def sites(self, model: GPT) -> list[Site]:
        """Where the edit acts in this model. Checked before any forward pass.

        Raises:
            UnknownNameError: a layer, head or position that the model does not have.
            ValueError: values that do not fit the model.
        """
        raise NotImplementedError

    def attach(self, model: GPT, note: Note) -> list[RemovableHandle]:
        """Register what the edit needs beyond its sites (most need nothing)."""
        return []

    def to_json(self) -> dict[str, Any]:
        """The edit as a JSON dictionary. Tensors are base64 of their little-endian bytes, exact for every dtype."""
        return {"edit": self.kind} | {field.name: _encoded(getattr(self, field.name)) for field in fields(self)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> "Edit":
        """The edit that `to_json` wrote; checked like one made by hand.

        Raises:
            ValueError: it is no edit.

        Example:
            >>> from gptviz.interventions import scale_head
            >>> Edit.from_json(scale_head(1, 0, 0.5).to_json())
            scale_head(1, 0, 0.5)
        """
        kind = data.get("edit") if isinstance(data, dict) else None
        if not isinstance(kind, str) or kind not in Edit._kinds:
            raise ValueError(f'An edit needs "edit": one of {sorted(Edit._kinds)}, but has {kind!r}.')
        cls = Edit._kinds[kind]
        expected = {field.name for field in fields(cls)}
        given = set(data) - {"edit"}
        if given != expected:
            raise ValueError(f"An edit of kind {kind!r} has the fields {sorted(expected)}, not {sorted(given)}.")
        try:
            return cls(**{name: _decoded(data[name]) for name in expected})
        except (TypeError, KeyError, AttributeError, binascii.Error) as reason:
            raise ValueError(f"An edit of kind {kind!r} holds a value that does not fit: {reason}") from reason

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Edit) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(str(self.to_json()))


def _check_slice(positions: slice) -> None:
    try:
        positions.indices(0)  # what is no whole number, or a step of 0, has none
    except (TypeError, ValueError) as reason:
        raise type(reason)(f"Positions must be whole numbers, not {positions!r}: {reason}.") from None


# --- what an edit is made of -----------------------------------------------------------------------------------------


def one_name(text: str) -> tuple[str, int | None]:
    """The activation that a spelling means, and its layer if the spelling has one.

    Example:
        >>> one_name("blocks.3.attn.hook_z"), one_name("z.3"), one_name("logits")
        (('z', 3), ('z', 3), ('logits', None))
    """
    if not isinstance(text, str):
        raise TypeError(f"A name must be a string, not {type(text).__name__}: {text!r}.")
    name, layer = our_spelling(text)
    if name not in AXES:
        raise UnknownNameError(f"{text!r} is no activation. {nearest_names(name)}")
    if name == "loss":
        raise UnknownNameError("'loss' is computed from the logits and cannot be edited by itself: edit 'logits'.")
    return name, None if layer == "*" else int(layer)


def place_of(name: str, layer: int | None, head: int | None) -> tuple[str, int | None]:
    """A name and its layer, once it is clear that one belongs to the other.

    Raises:
        UnknownNameError: the layer is missing or given twice, or there is a head where there are none.
    """
    name, spelled = one_name(name)
    if None not in (layer, spelled) and layer != spelled:
        raise UnknownNameError(f"The name says layer {spelled}, but layer={layer} was given. Give one of them.")
    layer = spelled if layer is None else layer
    if AXES[name][0] == "layer" and layer is None:
        raise UnknownNameError(f'{name!r} exists in every layer: say which with layer= or as "{name}.0".')
    if AXES[name][0] != "layer" and layer is not None:
        raise UnknownNameError(f"{name!r} belongs to no layer, but layer {layer} was asked for.")
    if head is not None and "head" not in AXES[name]:
        raise UnknownNameError(f"{name!r} has no heads, but head {head} was asked for.")
    return name, layer


def listed(positions: int | slice | Iterable[int] | None) -> Positions:
    """Positions as an edit keeps them.

    Raises:
        ValueError: there are none, or one is listed twice.

    Example:
        >>> listed(3), listed(range(2)), listed(None)
        ((3,), (0, 1), None)
    """
    if positions is None or isinstance(positions, slice):
        return positions
    numbers: list[Any] = list(positions) if isinstance(positions, Iterable) else [positions]
    if any(isinstance(number, bool) or not hasattr(number, "__index__") for number in numbers):
        raise TypeError(f"Positions must be whole numbers, not {positions!r}.")
    chosen = tuple(number.__index__() for number in numbers)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"Positions must be at least one number, and each only once, but are {positions!r}.")
    return chosen


def check_site(site: Site, config: GPTConfig) -> Site:
    """The site with layer and head counted from 0.

    Raises:
        UnknownNameError: the model has no such layer, head or position.
    """
    name, layer = site.address
    layer = None if layer is None else index_within(layer, config.n_layer, "layer")
    head = None if site.head is None else index_within(site.head, config.n_head, "head")
    for position in site.positions if isinstance(site.positions, tuple) else ():
        index_within(position, config.block_size, "position")
    return Site((name, layer), head, site.positions, site.new)


def reach(positions: Positions, first: int, n_columns: int, n_tokens: int) -> Reached:
    """The edited positions among columns that stand for the positions from `first` on, of a text of `n_tokens`."""
    if isinstance(positions, tuple):
        chosen = [position if position >= 0 else position + n_tokens for position in positions]
    else:
        chosen = list(range(n_tokens)[positions] if positions is not None else range(n_tokens))
    hits = [(place, position) for place, position in enumerate(chosen) if first <= position < first + n_columns]
    return Reached(
        columns=[position - first for _, position in hits],
        positions=[position for _, position in hits],
        places=[place if isinstance(positions, tuple) else position for place, position in hits],
    )


def counts_from_end(positions: Positions) -> bool:
    """Whether the positions cannot be known without the length of the text."""
    bounds = (positions.start, positions.stop) if isinstance(positions, slice) else positions or ()
    return any(bound is not None and bound < 0 for bound in bounds)


def finite(number: float | int, what: str) -> float | int:
    """A number that is one.

    Raises:
        ValueError: it is NaN or infinite.
        TypeError: it is no number.
    """
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(f"{what} must be a number, not {number!r}.")
    if not math.isfinite(number):
        raise ValueError(f"{what} must be finite, not {number!r}.")
    return number


def head_within(trace: Trace, head: int) -> int:
    """The place of a head among the heads that a trace holds.

    Raises:
        UnknownNameError: there is no such head, or it was not recorded.
    """
    head = index_within(head, trace.config.n_head, "head")
    if head not in trace.heads:
        raise UnknownNameError(f"Head {head} was not recorded; this trace holds heads {list(trace.heads)}.")
    return trace.heads.index(head)


# --- as a line of Python ---------------------------------------------------------------------------------------------


def call(verb: str, *required: str, **optional: object) -> str:
    """The Python line of an edit; optional arguments that are None are left out.

    Example:
        >>> call("patch", "trace", "'z'", layer=1, head=None, positions=(0, 1, 2))
        "patch(trace, 'z', layer=1, positions=range(0, 3))"
    """
    keywords = [f"{name}={_shown(name, value)}" for name, value in optional.items() if value is not None]
    return f"{verb}({', '.join([*required, *keywords])})"


def _shown(name: str, value: object) -> str:
    if name.endswith("positions") and isinstance(value, tuple):
        return shown_positions(value)
    return repr(value)


def shown_positions(positions: Positions) -> str:
    """Positions as they are written: 3, range(0, 8), (1, 5)."""
    if isinstance(positions, tuple) and len(positions) == 1:
        return repr(positions[0])
    if isinstance(positions, tuple) and positions == tuple(range(positions[0], positions[0] + len(positions))):
        return f"range({positions[0]}, {positions[0] + len(positions)})"
    return repr(positions)


# --- as JSON ---------------------------------------------------------------------------------------------------------


def _encoded(value: Any) -> Any:
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1)
        data = base64.b64encode(flat.view(torch.uint8).numpy().tobytes()).decode("ascii")
        return {"dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape), "data": data}
    if isinstance(value, slice):
        return {"slice": [value.start, value.stop, value.step]}
    if isinstance(value, tuple | list):
        return [_encoded(item) for item in value]
    return value


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_decoded(item) for item in value)
    if isinstance(value, dict) and set(value) == {"slice"}:
        return slice(*value["slice"])
    if isinstance(value, dict):
        return _decoded_tensor(value)
    return value


def _decoded_tensor(value: dict[str, Any]) -> Tensor:
    dtype = getattr(torch, str(value["dtype"]), None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"A tensor's dtype must be a floating-point type of torch, not {value['dtype']!r}.")
    data = base64.b64decode(value["data"], validate=True)
    if not isinstance(value["shape"], list) or not all(type(size) is int for size in value["shape"]):
        raise ValueError(f"A tensor's shape must be a list of whole numbers, not {value['shape']!r}.")
    shape = value["shape"]
    if len(data) != math.prod(shape) * dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError(f"A {value['dtype']} tensor of shape {shape} has not {len(data)} bytes.")
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).view(dtype).reshape(shape)
