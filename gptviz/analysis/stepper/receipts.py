"""Receipts: the arithmetic of one cell with its numbers, recomputed in float64 beside what the model computed.

Every rule of the table in `stages.py` ends in one form,

    result = outer((sum over i of a_i * b_i + bias) / divisor)

with the numbers a_i and b_i read from the recorded tensors and the weights, so that a receipt of any cell can be shown,
checked and traced back in the same way.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from gptviz.analysis.stepper.forward_pass import ForwardPass
from gptviz.analysis.stepper.stages import TENSORS, Tensor
from gptviz.naming import UnknownNameError, index_within

EPS = 1e-5  # of LayerNorm
SHOWN = 4  # terms of a long sum that its text shows: the first three and the last

Index = tuple[int | tuple[int, int], ...]
"""Where in a tensor: a number for each axis, or (first, end) for a range of it."""


@dataclass(frozen=True)
class Cell:
    """One number of the forward pass: a tensor of `stages.TENSORS`, and an index for each of its axes."""

    tensor: str
    index: tuple[int, ...]


@dataclass(frozen=True)
class Source:
    """Cells, or weights, that a cell was computed from."""

    name: str
    index: Index


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
        return abs(self.result - self.recorded) / max(float(sizes.max()), abs(self.recorded), 1e-30)

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
    return made.receipt(Cell(tensor, at), about.rule, recorded, note, forward.bound)


@dataclass
class _Made:
    """What a rule gives: everything of a receipt but its place and what was recorded."""

    a: Any
    b: Any = None
    labels: Sequence[str] = ()
    bias: float | None = None
    divisor: float = 1.0
    outer: str = ""
    steps: tuple[tuple[str, float], ...] = ()
    sources: tuple[Source, ...] = ()
    weights: tuple[Source, ...] = ()
    note: str = ""

    def receipt(self, cell: Cell, rule: str, recorded: float, note: str, bound: float) -> Receipt:
        a = np.atleast_1d(np.asarray(self.a, np.float64))
        b = None if self.b is None else np.atleast_1d(np.asarray(self.b, np.float64))
        total = float((a if b is None else a * b).sum()) + (self.bias or 0.0)
        result = math.sqrt(total / self.divisor) if self.outer else total / self.divisor
        return Receipt(cell, rule, tuple(self.labels), a, b, self.bias, self.divisor, self.outer, result, recorded,
                       self.steps, self.sources, self.weights, note, bound)


def _at(layer: int | None, *index: int | tuple[int, int]) -> Index:
    return index if layer is None else (layer, *index)


def _wide(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float64)


def _given(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> _Made:
    return _Made(forward.ids[at[0]], labels=("given",), note="The tokenizer's number of this token.")


def _lookup(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> _Made:
    pos, column = at
    row = forward.ids[pos] if about.sources else pos
    sources = tuple(Source(source, (pos,)) for source in about.sources)
    value = forward.weight(about.weight)[row, column]
    return _Made(value, labels=(f"{about.weight.split('.')[0]}[{row}, {column}]",), sources=sources,
                 weights=(Source(about.weight, (row, column)),))


def _sum(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> _Made:
    values = [forward.value(source, layer)[at] for source in about.sources]
    return _Made(values, labels=about.sources, sources=tuple(Source(one, _at(layer, *at)) for one in about.sources))


def _carry(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> _Made:
    """The stream into a block: the two embeddings, or what the block before left."""
    if not layer:
        return _sum(forward, name, about, None, at)
    before = Source("resid_post", (layer - 1, *at))
    return _Made(forward.value("resid_post", layer - 1)[at], labels=(f"resid_post of L{layer - 1}",), sources=(before,))


def _stream(forward: ForwardPass, about: Tensor, layer: int | None) -> tuple[np.ndarray, int | None]:
    """What a LayerNorm reads, and the layer that this is in."""
    at = forward.config.n_layer - 1 if layer is None else layer
    return forward.value(about.sources[0], at), at


def _scale(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> _Made:
    stream, where = _stream(forward, about, layer)
    row = _wide(stream[at[0]])
    centred = row - row.mean()
    return _Made(centred, centred / len(row), [f"(x{i} − mean)²/{len(row)}" for i in range(len(row))], EPS, outer="√",
                 steps=(("mean of the row", row.mean()), ("variance of the row", centred.var())),
                 sources=(Source(about.sources[0], _at(where, at[0], (0, len(row)))),))


def _norm(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> _Made:
    stream, where = _stream(forward, about, layer)
    pos, column = at
    row, scale = _wide(stream[pos]), float(forward.value(about.sources[1], layer)[pos])
    weight = float(forward.weight(about.weight, layer)[column])
    bias = float(forward.weight(about.bias, layer)[column]) if forward.config.bias else None
    used = (about.weight, about.bias) if forward.config.bias else (about.weight,)
    return _Made([row[column] / scale, -row.mean() / scale], [weight, weight], ("x / scale", "−mean / scale"), bias,
                 steps=(("x", row[column]), ("mean of the row", row.mean()), ("scale", scale),
                        ("(x − mean) / scale", (row[column] - row.mean()) / scale), ("weight", weight)),
                 sources=(Source(about.sources[0], _at(where, pos, (0, len(row)))),
                          Source(about.sources[1], _at(layer, pos))),
                 weights=tuple(Source(one, _at(layer, column)) for one in used))


def _linear(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> _Made:
    """A row of a matrix with the vector of a position; for q, k and v the row follows from the head."""
    *head, pos, column = at
    row = about.first_row * forward.config.n_embd + (head[0] * forward.config.d_head if head else 0) + column
    source = about.sources[0]
    vector, labels, where = _input_vector(forward, source, layer, pos)
    weight = _wide(forward.weight(about.weight, layer)[row])
    bias = float(forward.weight(about.bias, layer)[row]) if about.bias and forward.config.bias else None
    weights = (Source(about.weight, _at(layer, row, (0, len(weight)))),)
    if bias is not None:
        weights += (Source(about.bias, _at(layer, row)),)
    steps = _of_each_head(forward, vector * weight) if source == "z" else ()
    return _Made(vector, weight, labels, bias, steps=steps, sources=(Source(source, where),), weights=weights)


def _input_vector(forward: ForwardPass, source: str, layer: int | None,
                  pos: int) -> tuple[np.ndarray, list[str], Index]:
    """What a matrix is multiplied with at a position, a label for each number, and where it stands."""
    if source == "z":  # all heads side by side
        n_head, d_head = forward.config.n_head, forward.config.d_head
        labels = [f"H{head} {column}" for head in range(n_head) for column in range(d_head)]
        return _wide(forward.value("z", layer)[:, pos].reshape(-1)), labels, _at(layer, (0, n_head), pos, (0, d_head))
    vector = _wide(forward.value(source, layer)[pos])
    return vector, [f"{source} {i}" for i in range(len(vector))], _at(layer, pos, (0, len(vector)))


def _of_each_head(forward: ForwardPass, products: np.ndarray) -> tuple[tuple[str, float], ...]:
    parts = products.reshape(forward.config.n_head, -1).sum(-1)
    return tuple((f"head {head} adds", float(part)) for head, part in enumerate(parts))


def _dot(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> _Made:
    head, query, key = at
    q, k = (_wide(forward.value(source, layer)[head, pos]) for source, pos in (("q", query), ("k", key)))
    note = "The key is later than the query: the mask will hide this score." if key > query else ""
    return _Made(q, k, [f"q·k {i}" for i in range(len(q))], divisor=math.sqrt(len(q)), note=note,
                 steps=(("q · k", float(q @ k)), ("√d_head", math.sqrt(len(q)))),
                 sources=(Source("q", _at(layer, head, query, (0, len(q)))),
                          Source("k", _at(layer, head, key, (0, len(k))))))


def _mask(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> _Made:
    mask = -math.inf if at[2] > at[1] else 0.0
    score = float(forward.value("raw_scores", layer)[at])
    return _Made([score, mask], labels=("score", "mask"), sources=(Source("raw_scores", _at(layer, *at)),))


def _softmax(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> _Made:
    """Over the keys whose score is not -inf, or over the vocabulary."""
    source, *row, column = about.sources[0], *at
    scores = _wide(forward.value(source, layer)[tuple(row)])
    count = _seen(scores, row[-1]) if name == "pattern" else len(scores)
    largest = scores[:count].max()
    powers = np.exp(scores - largest)
    total = float(powers[:count].sum())
    words = "score" if name == "pattern" else "logit"
    note = "The key is later than the query: its score is −∞, so its share is 0." if column >= count else ""
    return _Made(powers[column], labels=(f"exp({words} − largest)",), divisor=total, note=note,
                 steps=((words, scores[column]), (f"largest {words}", largest),
                        (f"exp({words} − largest)", powers[column]), (f"sum of exp over {count}", total)),
                 sources=(Source(source, _at(layer, *row, (0, max(count, column + 1)))),))


def _seen(scores: np.ndarray, query: int) -> int:
    """How many keys a query sees: itself and those before it; all up to the last, where an edit took the mask away."""
    later = np.flatnonzero(np.isfinite(scores[query + 1 :]))
    return query + 1 + (int(later[-1]) + 1 if len(later) else 0)


def _mix(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> _Made:
    head, query, column = at
    row = _wide(forward.value("pattern", layer)[head, query])
    count = _seen(np.where(row > 0, 0.0, -np.inf), query)
    keys = (0, count)
    v = _wide(forward.value("v", layer)[head, :count, column])
    return _Made(row[:count], v, [f"key {key} ‘{forward.tokens[key]}’" for key in range(count)],
                 sources=(Source("pattern", _at(layer, head, query, keys)),
                          Source("v", _at(layer, head, keys, column))))


def _gelu(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> _Made:
    """x/2 times (1 + erf), as the model computes it: far below zero the two cancel, and only rounding is left."""
    x = float(forward.value("mlp_pre", layer)[at])
    if forward.config.activation == "gelu":
        gate, word = math.erf(x / math.sqrt(2)), "erf(x/√2)"
    else:
        gate, word = math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)), "tanh(√(2/π)(x + 0.044715x³))"
    return _Made([x / 2, x / 2], [1.0, gate], ("x/2 × 1", f"x/2 × {word}"),
                 steps=(("x", x), (word, gate), ("share that passes", (1 + gate) / 2)),
                 sources=(Source("mlp_pre", _at(layer, *at)),))


def _loss(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> _Made:
    pos = at[0]
    if pos == 0:
        return _Made(math.nan, labels=("none",), note="Nothing comes before the first token, so nothing predicts it.")
    logits, token = _wide(forward.value("logits")[pos - 1]), forward.ids[pos]
    largest = float(logits.max())
    total = float(np.exp(logits - largest).sum())
    return _Made([largest, math.log(total), -logits[token]], labels=("largest logit", "log of the sum", "−logit"),
                 steps=(("largest logit", largest), ("sum of exp(logit − largest)", total),
                        (f"logit of ‘{forward.tokens[pos]}’", float(logits[token])),
                        ("its probability", math.exp(logits[token] - largest) / total)),
                 sources=(Source("logits", (pos - 1, (0, len(logits)))), Source("ids", (pos,))))


def _lens(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> _Made:
    """The unembedding of the stream after a block, through the last LayerNorm with the stream's own mean and scale."""
    pos, token = at
    row = _wide(forward.value("resid_post", layer)[pos])
    scale = math.sqrt(row.var() + EPS)
    normalised = (row - row.mean()) / scale * _wide(forward.weight("ln_f.weight"))
    if forward.config.bias:
        normalised = normalised + _wide(forward.weight("ln_f.bias"))
    weight = _wide(forward.weight("lm_head.weight")[token])
    every = (0, len(row))
    norm = [Source(one, (every,)) for one in ("ln_f.weight", "ln_f.bias")[: 1 + forward.config.bias]]
    return _Made(normalised, weight, [f"normalised {i}" for i in range(len(row))],
                 steps=(("mean of the row", row.mean()), ("scale", scale)),
                 sources=(Source("resid_post", _at(layer, pos, every)),),
                 weights=(*norm, Source("lm_head.weight", (token, every))))


RULES = {"given": _given, "lookup": _lookup, "sum": _sum, "carry": _carry, "scale": _scale, "norm": _norm,
         "linear": _linear, "dot": _dot, "mask": _mask, "softmax": _softmax, "mix": _mix, "gelu": _gelu,
         "loss": _loss, "lens": _lens}
"""The arithmetic of each rule of `stages.TENSORS`."""


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
