"""The arithmetic of each rule of the table in `stages.py`: which numbers are multiplied and added up for one cell."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gptviz.analysis.stepper.forward_pass import ForwardPass
from gptviz.analysis.stepper.stages import Tensor

EPS = 1e-5  # of LayerNorm

Index = tuple[int | tuple[int, int], ...]
"""Where in a tensor: a number for each axis, or (first, end) for a range of it."""


@dataclass(frozen=True)
class Source:
    """Cells, or weights, that a cell was computed from."""

    name: str
    index: Index


@dataclass
class Worked:
    """outer((sum of a * b + bias) / divisor) with its numbers, and where they came from; see `receipts.Receipt`."""

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
    largest: float = 0.0  # of the numbers that were added up on the way, where it is not among the terms


def _at(layer: int | None, *index: int | tuple[int, int]) -> Index:
    return index if layer is None else (layer, *index)


def _wide(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float64)


def _given(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> Worked:
    return Worked(forward.ids[at[0]], labels=("given",), note="The tokenizer's number of this token.")


def _lookup(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> Worked:
    pos, column = at
    row = forward.ids[pos] if about.sources else pos
    sources = tuple(Source(source, (pos,)) for source in about.sources)
    value = forward.weight(about.weight)[row, column]
    return Worked(value, labels=(f"{about.weight.split('.')[0]}[{row}, {column}]",), sources=sources,
                  weights=(Source(about.weight, (row, column)),))


def _sum(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> Worked:
    values = [forward.value(source, layer)[at] for source in about.sources]
    return Worked(values, labels=about.sources, sources=tuple(Source(one, _at(layer, *at)) for one in about.sources))


def _carry(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> Worked:
    """The stream into a block: the two embeddings, or what the block before left."""
    if not layer:
        return _sum(forward, name, about, None, at)
    before = Source("resid_post", (layer - 1, *at))
    value = forward.value("resid_post", layer - 1)[at]
    return Worked(value, labels=(f"resid_post of L{layer - 1}",), sources=(before,))


def _stream(forward: ForwardPass, about: Tensor, layer: int | None) -> tuple[np.ndarray, int | None]:
    """What a LayerNorm reads, and the layer that this is in."""
    at = forward.config.n_layer - 1 if layer is None else layer
    return forward.value(about.sources[0], at), at


def _scale(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> Worked:
    stream, where = _stream(forward, about, layer)
    row = _wide(stream[at[0]])
    centred = row - row.mean()
    return Worked(centred, centred / len(row), [f"(x{i} − mean)²/{len(row)}" for i in range(len(row))], EPS, outer="√",
                  steps=(("mean of the row", row.mean()), ("variance of the row", centred.var())),
                  sources=(Source(about.sources[0], _at(where, at[0], (0, len(row)))),))


def _norm(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> Worked:
    stream, where = _stream(forward, about, layer)
    pos, column = at
    row, scale = _wide(stream[pos]), float(forward.value(about.sources[1], layer)[pos])
    weight = float(forward.weight(about.weight, layer)[column])
    bias = float(forward.weight(about.bias, layer)[column]) if forward.config.bias else None
    used = (about.weight, about.bias) if forward.config.bias else (about.weight,)
    return Worked([row[column] / scale, -row.mean() / scale], [weight, weight], ("x / scale", "−mean / scale"), bias,
                  steps=(("x", row[column]), ("mean of the row", row.mean()), ("scale", scale),
                         ("(x − mean) / scale", (row[column] - row.mean()) / scale), ("weight", weight)),
                  sources=(Source(about.sources[0], _at(where, pos, (0, len(row)))),
                           Source(about.sources[1], _at(layer, pos))),
                  largest=float(np.abs(row).max()) / len(row) / scale * abs(weight),  # an addend of the mean
                  weights=tuple(Source(one, _at(layer, column)) for one in used))


def _linear(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> Worked:
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
    return Worked(vector, weight, labels, bias, steps=steps, sources=(Source(source, where),), weights=weights)


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


def _dot(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> Worked:
    head, query, key = at
    q, k = (_wide(forward.value(source, layer)[head, pos]) for source, pos in (("q", query), ("k", key)))
    note = "The key is later than the query: the mask will hide this score." if key > query else ""
    return Worked(q, k, [f"q·k {i}" for i in range(len(q))], divisor=math.sqrt(len(q)), note=note,
                  steps=(("q · k", float(q @ k)), ("√d_head", math.sqrt(len(q)))),
                  sources=(Source("q", _at(layer, head, query, (0, len(q)))),
                           Source("k", _at(layer, head, key, (0, len(k))))))


def _mask(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> Worked:
    mask = -math.inf if at[2] > at[1] else 0.0
    score = float(forward.value("raw_scores", layer)[at])
    return Worked([score, mask], labels=("raw_scores", "mask"), sources=(Source("raw_scores", _at(layer, *at)),))


def _softmax(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> Worked:
    """Over the keys whose score is not -inf, or over the vocabulary."""
    source, *row, column = about.sources[0], *at
    scores = _wide(forward.value(source, layer)[tuple(row)])
    count = _seen(scores, row[-1]) if name == "pattern" else len(scores)
    largest = scores[:count].max()
    powers = np.exp(scores - largest)
    total = float(powers[:count].sum())
    words = "score" if name == "pattern" else "logit"
    note = "The key is later than the query: its score is −∞, so its share is 0." if column >= count else ""
    return Worked(powers[column], labels=(f"exp({words} − largest)",), divisor=total, note=note,
                  steps=((words, scores[column]), (f"largest {words}", largest),
                         (f"exp({words} − largest)", powers[column]), (f"sum of exp over {count}", total)),
                  sources=(Source(source, _at(layer, *row, (0, max(count, column + 1)))),))


def _seen(scores: np.ndarray, query: int) -> int:
    """How many keys a query sees: itself and those before it; all up to the last, where an edit took the mask away."""
    later = np.flatnonzero(np.isfinite(scores[query + 1 :]))
    return query + 1 + (int(later[-1]) + 1 if len(later) else 0)


def _mix(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> Worked:
    head, query, column = at
    row = _wide(forward.value("pattern", layer)[head, query])
    count = _seen(np.where(row > 0, 0.0, -np.inf), query)
    keys = (0, count)
    v = _wide(forward.value("v", layer)[head, :count, column])
    return Worked(row[:count], v, [f"key {key} ‘{forward.tokens[key]}’" for key in range(count)],
                  sources=(Source("pattern", _at(layer, head, query, keys)),
                           Source("v", _at(layer, head, keys, column))))


def _gelu(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> Worked:
    """x/2 times (1 + erf), as the model computes it: far below zero the two cancel, and only rounding is left."""
    x = float(forward.value("mlp_pre", layer)[at])
    if forward.config.activation == "gelu":
        gate, word = math.erf(x / math.sqrt(2)), "erf(x/√2)"
    else:
        gate, word = math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)), "tanh(√(2/π)(x + 0.044715x³))"
    return Worked([x / 2, x / 2], [1.0, gate], ("x/2 × 1", f"x/2 × {word}"),
                  steps=(("x", x), (word, gate), ("share that passes", (1 + gate) / 2)),
                  sources=(Source("mlp_pre", _at(layer, *at)),))


def _loss(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> Worked:
    pos = at[0]
    if pos == 0:
        return Worked(math.nan, labels=("none",), note="Nothing comes before the first token, so nothing predicts it.")
    logits, token = _wide(forward.value("logits")[pos - 1]), forward.ids[pos]
    largest = float(logits.max())
    total = float(np.exp(logits - largest).sum())
    return Worked([largest, math.log(total), -logits[token]], labels=("largest logit", "log of the sum", "−logit"),
                  steps=(("largest logit", largest), ("sum of exp(logit − largest)", total),
                         (f"logit of ‘{forward.tokens[pos]}’", float(logits[token])),
                         ("its probability", math.exp(logits[token] - largest) / total)),
                  sources=(Source("logits", (pos - 1, (0, len(logits)))), Source("ids", (pos,))))


def _lens(forward: ForwardPass, name: str, about: Tensor, layer: int | None, at: tuple[int, ...]) -> Worked:
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
    return Worked(normalised, weight, [f"normalised {i}" for i in range(len(row))],
                  steps=(("mean of the row", row.mean()), ("scale", scale)),
                  sources=(Source("resid_post", _at(layer, pos, every)),),
                  weights=(*norm, Source("lm_head.weight", (token, every))))


RULES = {"given": _given, "lookup": _lookup, "sum": _sum, "carry": _carry, "scale": _scale, "norm": _norm,
         "linear": _linear, "dot": _dot, "mask": _mask, "softmax": _softmax, "mix": _mix, "gelu": _gelu,
         "loss": _loss, "lens": _lens}
"""The arithmetic of each rule of `stages.TENSORS`."""
