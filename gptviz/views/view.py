"""View: what is shown, before anybody decides in which colour or on which screen."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from gptviz.arguments import briefly

# The browser reads bytes in place: these are the types that it has typed arrays for.
WIRE_TYPES = {"uint8": "|u1", "int32": "<i4", "float32": "<f4"}
WHOLE_SHARE = 0.75  # of a page's room that its one whole detail may take: the others need some, too
BASE64 = 4 / 3  # characters of a byte in a page


@dataclass(frozen=True)
class Check:
    """An identity that the shown numbers were measured against.

    Args:
        name: What must hold, in words: "rows sum to 1".
        error: The largest deviation that was measured.
        bound: The deviation allowed.
    """

    name: str
    error: float
    bound: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the bound; a NaN never is."""
        return bool(self.error <= self.bound)

    def payload(self) -> dict:
        """The JSON of this check; numbers as text, because JSON has no NaN."""
        return {"name": self.name, "error": f"{self.error:.0e}" if self.error else "0",
                "bound": f"{self.bound:.0e}", "passed": self.passed}


@dataclass(frozen=True)
class View:
    """One picture as data: named arrays, the names of their axes, and the words beside them.

    Args:
        kind: Which drawing file of the front end shows it; also the name of the module that builds it.
        title: A noun.
        subtitle: How to read it or what to do.
        arrays: Arrays of uint8, int32 or float32 by name.
        axes: For each array the names of its axes.
        labels: Words along an axis, such as the visible tokens under "token".
        units: The unit of an array's values.
        range: (lowest, highest) of an array's colour scale.
        checks: What was measured about the arrays.
        content: What is neither array nor label: JSON that the view's own module describes.
        detail: Gives more of the view where the reader looks: a function of a dict of `detail_axes` to a View of the
            same kind, or None. The browser asks the kernel for it; a page holds as many as its budget lets in.
        detail_axes: What the detail depends on: any of layer, head, query, key, rows (see `detail_places`); none for
            a view that is computed only when it is unfolded.
        detail_places: For each of these axes the values it can take, for a page that holds details: layers 0..2.
        kept_details: How many details a page holds at most, where each takes long to compute; all by default.
        whole_detail: Gives the detail with more in it, for the one place of a page that the reader chose, if there is
            room for it.

    Raises:
        ValueError: If an array has a type the browser cannot read or an unnamed axis, or the places do not match
            `detail_axes`.

    Example:
        >>> loss = np.array([np.nan, 2.5], np.float32)
        >>> view = View("tokens", "Text", "", {"loss": loss}, {"loss": ("pos",)}, units={"loss": "nats"})
        >>> view.payload()["arrays"]["loss"]["shape"]
        [2]
    """

    kind: str
    title: str
    subtitle: str
    arrays: Mapping[str, np.ndarray]
    axes: Mapping[str, tuple[str, ...]]
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    range: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    content: Mapping[str, Any] = field(default_factory=dict)
    detail: Callable[[dict[str, int]], "View"] | None = field(default=None, compare=False, repr=False)
    detail_axes: tuple[str, ...] = ()
    detail_places: Sequence[Sequence[int]] = ()
    kept_details: int | None = None
    whole_detail: Callable[[dict[str, int]], "View"] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self):
        if len(self.detail_places) != len(self.detail_axes):
            raise ValueError(f"detail_places must name the values of each of {self.detail_axes}; it has "
                             f"{len(self.detail_places)} entries. Give one range for each axis.")
        for name, array in self.arrays.items():
            if array.dtype.name not in WIRE_TYPES:
                raise ValueError(f"Array {name!r} of a view must be {', '.join(WIRE_TYPES)}; it is {array.dtype}. "
                                 f"Convert it with .astype(...).")
            if len(self.axes.get(name, ())) != array.ndim:
                raise ValueError(f"Array {name!r} of a view has {array.ndim} axes; named are "
                                 f"{self.axes.get(name, ())}. Name every axis.")

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    def payload(self) -> dict:
        """The one dict that widget, page and tests read: JSON, with raw little-endian bytes under "data"."""
        more: dict[str, Any] = {"detail_axes": list(self.detail_axes)} if self.detail else {}
        more |= {"content": dict(self.content)} if self.content else {}
        return more | {
            "kind": self.kind, "title": self.title, "subtitle": self.subtitle,
            "arrays": {name: _array_payload(array, self.axes[name]) for name, array in self.arrays.items()},
            "labels": {name: list(words) for name, words in self.labels.items()},
            "units": dict(self.units),
            "range": {name: list(ends) for name, ends in self.range.items()},
            "checks": [check.payload() for check in self.checks],
        }

    def detail_of(self, **at: Any) -> "View":
        """The detail at a place, as `detail_axes` names it.

        Raises:
            ValueError: If the view has no detail, or not there.
        """
        if self.detail is None:
            raise ValueError(f"A {self.kind} view has a detail only where it was made with one; this has none.")
        for axis, places in zip(self.detail_axes, self.detail_places, strict=True):
            if at.get(axis) not in places:
                raise ValueError(f"{axis} of a detail must be one of {places}; it is {briefly(at.get(axis))}. "
                                 "Choose one.")
        return self.detail({axis: int(at[axis]) for axis in self.detail_axes})

    def details(self, first: Mapping[str, int | None], budget: float, seconds: float = math.inf) -> dict[str, dict]:
        """The payloads of as many details as a page has room for, by the values of `detail_axes` joined by commas.

        Args:
            first: The reader's choice, and as `rows` the window's first query; the details nearest to it come first.
            budget: Bytes of arrays that they may have together.
            seconds: How long may pass before the last one is begun; the first is always there.
        """
        if self.detail is None:
            return {}
        kept, used, start = {}, 0, time.monotonic()
        for place in self._nearest_first(first)[: self.kept_details] if budget > 0 else []:
            if kept and time.monotonic() - start > seconds:
                break
            at = dict(zip(self.detail_axes, place, strict=True))
            whole = self.whole_detail(at) if self.whole_detail and not kept else None
            found = whole if whole is not None and whole.nbytes <= WHOLE_SHARE * budget else self.detail(at)
            used += found.nbytes
            if used > budget:
                break
            kept[",".join(map(str, place))] = found.payload()
        return kept

    def _nearest_first(self, first: Mapping[str, int | None]) -> list[tuple[int, ...]]:
        """Every place of the details, or of too many those one step away; the nearest to the choice come first.

        Where nothing is chosen the browser looks at the first of an axis, and at the last query.
        """
        wanted = [_wanted(axis, places, first.get(axis))
                  for axis, places in zip(self.detail_axes, self.detail_places, strict=True)]
        if np.prod([float(len(places)) for places in self.detail_places]) < 1e5:
            near = list(product(*self.detail_places))
        else:
            near = list(dict.fromkeys((*wanted[:axis], at, *wanted[axis + 1:])
                                      for axis in reversed(range(len(wanted))) for at in self.detail_places[axis]))
        return sorted(near, key=lambda place: (-sum(a == b for a, b in zip(place, wanted, strict=True)),
                                               sum(abs(a - b) for a, b in zip(place, wanted, strict=True))))


def _wanted(axis: str, places: Sequence[int], at: int | None) -> int:
    """Where the browser looks on an axis; rows come in blocks, of which the one that holds the row is wanted."""
    if at is None:
        return places[-1] if axis in ("query", "rows") else places[0]
    return max((place for place in places if place <= at), default=places[0]) if axis == "rows" else at


def _array_payload(array: np.ndarray, axes: tuple[str, ...]) -> dict:
    """An array as the browser reads it: type, shape, names of the axes, bytes."""
    name = array.dtype.name
    data = np.ascontiguousarray(array, dtype=WIRE_TYPES[name]).tobytes()
    return {"dtype": name, "shape": list(array.shape), "axes": list(axes), "data": data}
