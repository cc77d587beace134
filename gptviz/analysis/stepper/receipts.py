"""Receipts: the arithmetic of one cell with its numbers, recomputed in float64 beside what the model computed.

Every rule of the table in `stages.py` ends in one form,

    result = outer((sum over i of a_i * b_i + bias) / divisor)

with the numbers a_i and b_i read from the recorded tensors and the weights, so that a receipt of any cell can be shown,
checked and traced back in the same way.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from gptviz.analysis.stepper.forward_pass import ForwardPass
from gptviz.analysis.stepper.rules import RULES, Source, Worked
from gptviz.analysis.stepper.stages import TENSORS
from gptviz.naming import UnknownNameError, index_within

SHOWN = 4  # terms of a long sum that its text shows: the first three and the last


@dataclass(frozen=True)
class Cell:
    """One number of the forward pass: a tensor of `stages.TENSORS`, and an index for each of its axes."""

    tensor: str
    index: tuple[int, ...]


class Term(NamedTuple):
    """One addend: a label, its factors (b is None where there is one number only), and their product."""

    label: str
    a: float
    b: float | None
    product: float


@dataclass(frozen=True)
class Receipt:
    """How one number came about.

    Attributes:
        cell: The number's place.
        rule: Which arithmetic, as in `stages.TENSORS`.
        labels: A word for each term.
        a: First factors.
        b: Second factors; None where each term is one number.
        bias: Added to the sum; None where there is none.
        divisor: What the sum is divided by; 1 for none.
        outer: "", or "√" of the whole.
        result: In float64.
        recorded: What the model computed.
        steps: Numbers on the way, (what, value).
        sources: The cells of earlier tensors that it was computed from.
        weights: The weights, by nanoGPT's names, the layer first where they belong to a block.
        note: What a reader must know; "" for nothing.
        bound: Largest error that is rounding.
        largest: Largest number that was added up on the way to a term (in a LayerNorm an addend of the mean); 0 for
            none.
    """

    cell: Cell
    rule: str
    labels: tuple[str, ...]
    a: Float64[np.ndarray, "term"]
    b: Float64[np.ndarray, "term"] | None
    bias: float | None
    divisor: float
    outer: str
    result: float
    recorded: float
    steps: tuple[tuple[str, float], ...]
    sources: tuple[Source, ...]
    weights: tuple[Source, ...]
    note: str
    bound: float
    largest: float = 0.0

    @property
    def products(self) -> Float64[np.ndarray, "term"]:
        """The terms as they are added up."""
        return self.a if self.b is None else self.a * self.b

    @property
    def terms(self) -> list[Term]:
        """All terms with their factors."""
        second = [None] * len(self.a) if self.b is None else self.b.tolist()
        return [Term(*one) for one in zip(self.labels, self.a.tolist(), second, self.products.tolist(), strict=True)]

    @property
    def error(self) -> float:
        """|result - recorded| relative to the largest number that was added up, or the result; 0 for two -inf."""
        if self.result == self.recorded:
            return 0.0
        sizes = np.abs(np.append(self.products, self.bias or 0.0)) / abs(self.divisor)
        return abs(self.result - self.recorded) / max(float(sizes.max()), self.largest, abs(self.recorded), 1e-30)

    @property
    def passed(self) -> bool:
        """Whether the recorded value is the result but for rounding; never for a NaN."""
        return self.error <= self.bound

    @property
    def text(self) -> str:
        """The arithmetic on one line; of a long sum the first terms, the last, and how many are left out."""
        return formula(self)

    def payload(self) -> dict[str, Any]:
        """The receipt as JSON; numbers that are not finite as text ("-inf", "nan")."""
        return {
            "cell": {"tensor": self.cell.tensor, "index": list(self.cell.index)}, "rule": self.rule,
            "labels": list(self.labels), "a": plain(self.a), "b": None if self.b is None else plain(self.b),
            "bias": self.bias, "divisor": self.divisor, "outer": self.outer, "result": plain(self.result),
            "recorded": plain(self.recorded), "error": plain(self.error), "bound": self.bound, "passed": self.passed,
            "steps": [[what, plain(value)] for what, value in self.steps],
            "sources": [_place(source) for source in self.sources],
            "weights": [_place(source) for source in self.weights], "text": self.text, "note": self.note,
        }


def _place(source: Source) -> dict[str, Any]:
    return {"name": source.name, "index": [list(i) if isinstance(i, tuple) else i for i in source.index]}


def plain(value: Any) -> Any:
    """Numbers that JSON can hold: those that are not finite as text."""
    if isinstance(value, np.ndarray):
        return [plain(float(number)) for number in value]
    return value if math.isfinite(value) else str(value)


def receipt(forward: ForwardPass, tensor: str, *index: int) -> Receipt:
    """The arithmetic of one cell.

    Args:
        forward: The recorded pass with its weights.
        tensor: A name of `stages.TENSORS`.
        index: One number for each of its axes, in their order; negative ones count from the end.

    Returns:
        The terms with their numbers, the result in float64, the recorded value, and where the numbers came from.

    Raises:
        UnknownNameError: No such tensor or cell.
        ValueError: Not one number for each axis.

    Example:
        >>> from gptviz.analysis.stepper.recorded import recorded_pass
        >>> from gptviz.loading import load
        >>> from gptviz.trace import record
        >>> model, tokenizer = load("sorter")
        >>> forward = recorded_pass(record(model, "CBABBC", tokenizer), model)
        >>> paid = receipt(forward, "pattern", 1, 0, 2, 1)
        >>> paid.passed, paid.sources
        (True, (Source(name='scores', index=(1, 0, 2, (0, 3))),))
    """
    if tensor not in TENSORS:
        raise UnknownNameError(f"{tensor!r} has no receipt: it must be one of {', '.join(TENSORS)}.")
    about, shape = TENSORS[tensor], forward.shape(tensor)
    if len(index) != len(shape):
        raise ValueError(f"A cell of {tensor} has an index for each of its axes ({' '.join(about.axes)}), {len(shape)} "
                         f"numbers; it was given {len(index)}: {index}.")
    at = tuple(index_within(i, size, axis) for i, size, axis in zip(index, shape, about.axes, strict=True))
    layer = at[0] if about.axes[0] == "layer" else None
    inner = at[1:] if layer is not None else at
    made = RULES[about.rule](forward, tensor, about, layer, inner)
    recorded = float(forward.value(tensor, layer)[inner])
    note = "An edit was active here: the recorded value need not be the result." if (
        (tensor, layer) in forward.edited) else made.note
    return _receipt(made, Cell(tensor, at), about.rule, recorded, note, forward.bound)


def _receipt(made: Worked, cell: Cell, rule: str, recorded: float, note: str, bound: float) -> Receipt:
    a = np.atleast_1d(np.asarray(made.a, np.float64))
    b = None if made.b is None else np.atleast_1d(np.asarray(made.b, np.float64))
    total = (float((a if b is None else a * b).sum()) + (made.bias or 0.0)) / made.divisor
    result = math.sqrt(total) if made.outer else total
    return Receipt(cell, rule, tuple(made.labels), a, b, made.bias, made.divisor, made.outer, result, recorded,
                   made.steps, made.sources, made.weights, note, bound, made.largest)


def shown(value: float) -> str:
    """A number of a receipt: 4 decimals, small ones with an exponent, a true minus.

    Example:
        >>> shown(-0.31), shown(2.5e-6), shown(-math.inf)
        ('−0.3100', '2.5e−6', '−∞')
    """
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    small = value != 0 and abs(value) < 5e-4
    text = f"{value:.1e}".replace("e-0", "e-").replace("e-", "e−") if small else f"{value:.4f}"
    return text.replace("-", "−")


def formula(paid: Receipt) -> str:
    """The arithmetic of a receipt on one line.

    Example:
        >>> _short(["1 × 2", "3 × 4"]), _short(list("abcdefg"))
        ('1 × 2 + 3 × 4', 'a + b + c + … (3 more) + g')
    """
    second = [None] * len(paid.a) if paid.b is None else paid.b.tolist()
    pairs = zip(paid.a.tolist(), second, strict=True)
    parts = [shown(a) if b is None else f"{shown(a)} × {shown(b)}" for a, b in pairs]
    text = _short(parts)
    if paid.bias is not None:
        text += f" + {'ε' if paid.rule == 'scale' else 'bias'} {shown(paid.bias)}"
    if paid.divisor != 1:
        text = f"{text} ÷ {shown(paid.divisor)}" if len(parts) == 1 else f"({text}) ÷ {shown(paid.divisor)}"
    return f"{paid.outer}({text}) = {shown(paid.result)}" if paid.outer else f"{text} = {shown(paid.result)}"


def _short(parts: list[str]) -> str:
    if len(parts) > SHOWN + 1:
        parts = [*parts[: SHOWN - 1], f"… ({len(parts) - SHOWN} more)", parts[-1]]
    return " + ".join(parts)
