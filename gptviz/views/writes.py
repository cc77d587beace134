"""The residual stream at one position: what every part wrote, and what that adds to a logit."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from gptviz.views.view import Check, View

TITLE, SUBTITLE = "Residual writes", "what each part adds to the logit of the next token"
SAID = 5  # rows of a summary


@dataclass(frozen=True)
class Writes:
    """What was written to the residual stream at one position.

    The rows are first the sublayers in the order in which they write, then the parts of those that have some: an
    attention's heads and its bias.

    Args:
        names: The name of each row: "embed", "L0 attn_out", "L0H1".
        parent: The sublayer that a row is a part of; -1 for a sublayer.
        head: Layer and head of a row; -1 where it is not a head.
        norm: Length of the write.
        cosine: With the stream before the sublayer wrote; NaN where there was none or nothing was written.
        words: The visible tokens that the following indices point to.
        promoted: The tokens that the row raises most, most first.
        promoted_by: By how much, in logits relative to the mean over the vocabulary.
        suppressed: The tokens that it lowers most.
        suppressed_by: By how much; negative.
        choices: Tokens whose logit is split: the model's likeliest first; the true next token comes last, where it
            is none of them.
        truth: The place of the true next token among the choices, or None at the end of the text.
        logits: The recorded logit of each choice.
        adds: What a row adds to the logit of a choice.
        mean_logit: The recorded mean over the vocabulary.
        adds_to_mean: What a row adds to that mean.
        error: By how much the sublayers' sum misses a logit, at most.
        bound: By how much it may.
    """

    names: tuple[str, ...]
    parent: Int[np.ndarray, "row"]
    head: Int[np.ndarray, "row 2"]
    norm: Float[np.ndarray, "row"]
    cosine: Float[np.ndarray, "row"]
    words: tuple[str, ...]
    promoted: Int[np.ndarray, "row top"]
    promoted_by: Float[np.ndarray, "row top"]
    suppressed: Int[np.ndarray, "row top"]
    suppressed_by: Float[np.ndarray, "row top"]
    choices: Int[np.ndarray, "choice"]
    truth: int | None
    logits: Float[np.ndarray, "choice"]
    adds: Float[np.ndarray, "choice row"]
    mean_logit: float
    adds_to_mean: Float[np.ndarray, "row"]
    error: float
    bound: float


def writes_view(at: Callable[[int], Writes], n_tokens: int, *, kept: int | None = None) -> View:
    """The residual stream of a text, computed for a position when it is looked at.

    Args:
        at: What was written at a position.
        n_tokens: Positions of the text.
        kept: How many positions a page holds at most; all by default.

    Example:
        >>> def at(position):
        ...     two, none = np.array([[0]] * 2), np.array([[0.0]] * 2)
        ...     return Writes(("embed", "L0 mlp_out"), np.array([-1, -1]), np.full((2, 2), -1), np.ones(2),
        ...                   np.zeros(2), ("a",), two, none, two, none, np.array([0]), None, np.array([3.0]),
        ...                   np.array([[1.0, 2.0]]), 0.0, np.zeros(2), 0.0, 1e-4)
        >>> writes_view(at, n_tokens=1).detail_of(query=0).arrays["adds"]
        array([[1., 2.]], dtype=float32)
    """
    return View("writes", TITLE, SUBTITLE, {}, {}, detail_axes=("query",), kept_details=kept,
                detail=lambda place: _shown(at(place["query"])), detail_places=(range(n_tokens),))


def _shown(writes: Writes) -> View:
    """The writes at one position as arrays that travel."""
    whole = {name: getattr(writes, name).astype(np.int32)
             for name in ("parent", "head", "promoted", "suppressed", "choices")}
    real = {name: getattr(writes, name).astype(np.float32)
            for name in ("norm", "cosine", "promoted_by", "suppressed_by", "logits", "adds", "adds_to_mean")}
    ends = {"truth": np.array([-1 if writes.truth is None else writes.truth], np.int32),
            "mean_logit": np.array([writes.mean_logit], np.float32)}
    axes = {"parent": ("row",), "head": ("row", "place"), "norm": ("row",), "cosine": ("row",), "choices": ("choice",),
            "logits": ("choice",), "adds": ("choice", "row"), "adds_to_mean": ("row",), "truth": ("one",),
            "mean_logit": ("one",)}
    ranked = dict.fromkeys(("promoted", "promoted_by", "suppressed", "suppressed_by"), ("row", "top"))
    return View("writes", TITLE, SUBTITLE, whole | real | ends, axes | ranked,
                labels={"row": writes.names, "word": writes.words}, units={"adds": "logits"},
                checks=(Check("writes add up to the logit", writes.error, writes.bound),))


def sums(detail: View, target: int, distractor: int | None = None) -> tuple[np.ndarray, float]:
    """What each row adds to the logit of a choice, or to its lead over another, and the recorded value.

    Example:
        >>> names = ("adds", "logits")
        >>> arrays = {"adds": np.array([[1, 2], [0, 1]], np.float32), "logits": np.array([3, 1], np.float32)}
        >>> sums(View("writes", "", "", arrays, {"adds": ("choice", "row"), "logits": ("choice",)}), 0, 1)
        (array([1., 1.], dtype=float32), 2.0)
    """
    adds, logits = detail.arrays["adds"], detail.arrays["logits"]
    if distractor is None:
        return adds[target], float(logits[target])
    return adds[target] - adds[distractor], float(logits[target] - logits[distractor])


def asked_for(detail: View) -> tuple[int, str]:
    """The choice whose logit is split unless another is asked for, and its token in words.

    It is the true next token. At the end of a text nothing follows: there it is the model's own answer, which is said.

    Example:
        >>> arrays = {"truth": np.array([-1], np.int32), "choices": np.array([0], np.int32)}
        >>> end = View("writes", "", "", arrays, {"truth": ("one",), "choices": ("choice",)}, labels={"word": ("a",)})
        >>> asked_for(end)
        (0, "‘a’, the model's own answer (nothing follows),")
    """
    truth = int(detail.arrays["truth"][0])
    word = detail.labels["word"][detail.arrays["choices"][max(0, truth)]]
    return max(0, truth), f"‘{word}’" if truth >= 0 else f"‘{word}’, the model's own answer (nothing follows),"


def writes_in_words(view: View, query: int) -> tuple[str, list[str], list[list[str]]]:
    """The sublayers that move the logit of the next token most."""
    detail = view.detail_of(query=query)
    target, token = asked_for(detail)
    adds, total = sums(detail, target)
    whole = np.flatnonzero(detail.arrays["parent"] < 0)
    check = detail.checks[0]
    sentence = (f"Writes at position {query}: {len(whole)} sublayers add {adds[whole].sum():.4f}; "
                f"the logit of {token} is {total:.4f} (error {check.error:.0e}).")
    rows = []
    for at in whole[np.argsort(-np.abs(adds[whole]), kind="stable")][:SAID]:
        raised, lowered = (detail.labels["word"][detail.arrays[side][at, 0]] for side in ("promoted", "suppressed"))
        rows.append([detail.labels["row"][at], f"{adds[at]:+.4f}", f"{detail.arrays['norm'][at]:.4f}",
                     f"{detail.arrays['cosine'][at]:.4f}", raised, lowered])
    return sentence, ["part", "adds", "length", "cosine", "raises", "lowers"], rows
