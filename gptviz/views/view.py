"""View: what is shown, before anybody decides in which colour or on which screen."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

# The browser reads bytes in place: these are the types that it has typed arrays for.
WIRE_TYPES = {"uint8": "|u1", "int32": "<i4", "float32": "<f4"}


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

    Raises:
        ValueError: If an array has a type the browser cannot read or an unnamed axis.

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

    def __post_init__(self):
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
        return {
            "kind": self.kind, "title": self.title, "subtitle": self.subtitle,
            "arrays": {name: _array_payload(array, self.axes[name]) for name, array in self.arrays.items()},
            "labels": {name: list(words) for name, words in self.labels.items()},
            "units": dict(self.units),
            "range": {name: list(ends) for name, ends in self.range.items()},
            "checks": [check.payload() for check in self.checks],
        }


def _array_payload(array: np.ndarray, axes: tuple[str, ...]) -> dict:
    """An array as the browser reads it: type, shape, names of the axes, bytes."""
    name = array.dtype.name
    data = np.ascontiguousarray(array, dtype=WIRE_TYPES[name]).tobytes()
    return {"dtype": name, "shape": list(array.shape), "axes": list(axes), "data": data}
