"""The scores of the heads over training: a curve for each head and score, with what chance gives."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from gptviz.runs.cadence import thinned, thinned_words
from gptviz.views.head_scores import TITLES
from gptviz.views.view import View

SHORT = {"previous_token": "prev", "current_token": "self", "first_token": "first", "duplicate_token": "dup",
         "induction": "induct", "entropy": "entropy"}
"""The words of a score at the end of its curve."""

MARGIN = 0.3
"""A head stands out whose score is this share of the way from its null to 1, the margin of the events."""

MOST = 6  # curves that stand out
MOST_NUMBERS = 12_000  # of a view: 48 kB, for it is sent again whenever a step is recorded


@dataclass(frozen=True)
class Curves:
    """One score of all heads at some steps.

    Args:
        name: "induction", "entropy" ...: a key of `SHORT`.
        steps: [step], rising.
        value: [step, layer, head], 0 to 1; NaN where it was not measured.
        null_high: [step, layer, head], 97.5 % of what chance gives is below; None where no null was measured.
        recorded: Steps that the run recorded, if they are more than those given.
    """

    name: str
    steps: Int[np.ndarray, "step"]
    value: Float[np.ndarray, "step layer head"]
    null_high: Float[np.ndarray, "step layer head"] | None = None
    recorded: int = 0


def head_curves_view(scores: Sequence[Curves]) -> View:
    """Every score of every head over the steps; of a long run evenly thinned steps, as its subtitle then says.

    Beside the curves the view names those that stand out at the last step, each with its own null: at most one for a
    head, the clearest first.

    Args:
        scores: At least one; all of the same layers and heads.

    Raises:
        ValueError: There is none, or the shapes do not match, or steps fall.

    Example:
        >>> value = np.array([[[0.1, 0.1]], [[0.1, 0.9]]])
        >>> view = head_curves_view([Curves("induction", np.array([0, 100]), value, 0.2 + 0 * value)])
        >>> view.arrays["stands_out"].tolist()
        [[0, 0, 1]]
    """
    _check(scores)
    arrays, axes = {}, {}
    for i, one in enumerate(scores):
        at = thinned(range(len(one.steps)), max(2, MOST_NUMBERS // (len(scores) * one.value[0].size)))
        high = _largest(_null_of(one))
        arrays |= {f"steps_{i}": one.steps[at].astype(np.int32), f"value_{i}": one.value[at].astype(np.float32),
                   f"null_{i}": high[at].astype(np.float32)}
        axes |= {f"steps_{i}": ("step",), f"value_{i}": ("step", "layer", "head"), f"null_{i}": ("step",)}
    names = tuple(one.name for one in scores)
    standing = _standing(scores)
    arrays["stands_out"] = np.array(standing, np.int32).reshape(-1, 3)
    axes["stands_out"] = ("curve", "score layer head")
    arrays["own_null"] = np.array([_null_of(scores[i])[-1, layer, head] for i, layer, head in standing], np.float32)
    axes["own_null"] = ("curve",)
    subtitle = " · ".join(["0 to 1", *_thinned(scores, [arrays[f"steps_{i}"].tolist() for i in range(len(scores))])])
    return View("head_curves", "Head scores through training", subtitle, arrays, axes,
                labels={"score": names, "words": tuple(TITLES[name] for name in names),
                              "short": tuple(SHORT[name] for name in names)},
                range={f"value_{i}": (0.0, 1.0) for i in range(len(scores))})


def _thinned(scores: Sequence[Curves], shown: Sequence[Sequence[int]]) -> list[str]:
    """Which scores are drawn at some of the recorded steps only, and at how many; those alike together."""
    said = [thinned_words(steps, max(one.recorded, len(one.steps))) for one, steps in zip(scores, shown, strict=True)]
    alike = {words: [TITLES[one.name] for one, own in zip(scores, said, strict=True) if own == words] for words in said}
    return [words if len(alike) == 1 else f"{', '.join(names)}: {words}" for words, names in alike.items() if words]


def _check(scores: Sequence[Curves]) -> None:
    if not scores:
        raise ValueError("The curves of heads need at least one score; none was given. Record a run with probes.")
    for one in scores:
        shapes = {part.shape for part in (one.value, one.null_high) if part is not None}
        if shapes != {(len(one.steps), *scores[0].value.shape[1:])} or bool((np.diff(one.steps) <= 0).any()):
            raise ValueError(f"{one.name} must be [step, layer, head] with rising steps and the layers and heads of "
                             f"{scores[0].name}, {scores[0].value.shape[1:]}; it is {sorted(shapes)} for "
                             f"{len(one.steps)} steps. Give every step all heads.")


def _largest(null: np.ndarray) -> np.ndarray:
    """The largest of all heads' nulls at each step: above it a curve is above its own."""
    known = np.where(np.isfinite(null), null, -np.inf).reshape(len(null), -1).max(axis=1, initial=-np.inf)
    return np.where(np.isfinite(known), known, np.nan)


def _null_of(one: Curves) -> np.ndarray:
    """[step, layer, head]; NaN where no null was measured."""
    return np.full(one.value.shape, np.nan) if one.null_high is None else one.null_high


def _standing(scores: Sequence[Curves]) -> list[tuple[int, int, int]]:
    """(score, layer, head) of the curves that stand out at the last step, at most one for each head."""
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for i, one in enumerate(scores):
        if not len(one.steps):
            continue
        value, high = one.value[-1], _null_of(one)[-1]
        with np.errstate(invalid="ignore", divide="ignore"):
            margin = np.where(value > high, (value - high) / (1 - high), 0.0)
        for layer, head in np.argwhere(margin >= MARGIN).tolist():
            best[layer, head] = max(best.get((layer, head), (0.0, -1)), (float(margin[layer, head]), i))
    order = sorted(best.items(), key=lambda item: -item[1][0])
    return [(score, layer, head) for (layer, head), (_, score) in order[:MOST]]


def compared(view: View, scores: Iterable[int] | None = None) -> bool:
    """Whether one of some scores (of all by default) has a null: where none has, no head can stand out."""
    asked = range(len(view.labels["score"])) if scores is None else scores
    return any(np.isfinite(view.arrays[f"null_{i}"]).any() for i in asked)


def head_curves_in_words(view: View, _query: int) -> tuple[str, list[str], list[list[str]]]:
    """The curves that stand out at the last step, each with its own null and where it was half of what it is now."""
    rows = []
    curves, nulls = view.arrays["stands_out"].tolist(), view.arrays["own_null"].tolist()
    for (i, layer, head), high in zip(curves, nulls, strict=True):
        steps = view.arrays[f"steps_{i}"]
        value = view.arrays[f"value_{i}"][:, layer, head]
        half = int(steps[np.flatnonzero(value >= value[-1] / 2)[0]])
        rows.append([view.labels["words"][i], f"L{layer}H{head}", f"{value[-1]:.4f}", f"{high:.4f}", str(half)])
    last = max((int(view.arrays[f"steps_{i}"][-1]) for i in range(len(view.labels["score"]))
                if len(view.arrays[f"steps_{i}"])), default=0)
    if not compared(view):
        return f"{view.title}: not compared with chance in this run, the last step is {last}.", [], []
    count = f"{len(rows)} head{'s' if len(rows) != 1 else ''} stand{'s' if len(rows) == 1 else ''} out"
    return (f"{view.title}: {count} at step {last}.",
            ["score", "head", "value", "97.5 % of chance below", "half of it at step"], rows)
