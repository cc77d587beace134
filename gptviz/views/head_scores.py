"""How much each head looks where a kind of head looks, with what chance would give: numbers for labels and sorting."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from gptviz.views.view import View

TITLES = {"previous_token": "previous token", "current_token": "same position", "first_token": "first token",
          "duplicate_token": "duplicate", "induction": "induction", "distance": "distance", "entropy": "entropy"}
"""The words of a score on the page."""


@dataclass(frozen=True)
class Scored:
    """The scores of all heads on one text; the fields of `analysis.heads.HeadScores` that a picture needs.

    Args:
        names: The score axis.
        value: [score, layer, head].
        null_low: [score, layer, head], lower end of the band of chance.
        null_high: [score, layer, head], its upper end: 2.5 % of heads that know nothing are above.
        label: [layer][head], the name of the score that stands out, or "".
    """

    names: Sequence[str]
    value: Float[np.ndarray, "score layer head"]
    null_low: Float[np.ndarray, "score layer head"]
    null_high: Float[np.ndarray, "score layer head"]
    label: Sequence[Sequence[str]]


def head_scores_view(score: Callable[[], Scored] | None, why: str = "", *, scored: int | None = None) -> View:
    """The scores of all heads, computed when they are first looked at.

    Args:
        score: Computes them; None where they cannot be, and then `why` says it in words.
        why: "the pattern holds a NaN".
        scored: How many tokens of the text's beginning are scored; None for all.

    Example:
        >>> one = np.ones((1, 1, 2), np.float32)
        >>> scored = Scored(("induction",), one * [[[0.9, 0.1]]], one * 0, one * 0.2, [["induction", ""]])
        >>> head_scores_view(lambda: scored).detail_of().arrays["value"][0, 0]
        array([0.9, 0.1], dtype=float32)
    """
    title, subtitle = "Head scores", "against what chance would give each head"
    if score is None:
        return View("head_scores", title, f"none: {why}", {}, {})

    def detail(_at: dict[str, int]) -> View:
        found = score()
        stands_out = [[list(found.names).index(name) if name else -1 for name in row] for row in found.label]
        axes = ("score", "layer", "head")
        arrays = {name: getattr(found, name).astype(np.float32) for name in ("value", "null_low", "null_high")}
        arrays["label"] = np.array(stands_out, np.int32)
        return View("head_scores", title, subtitle, arrays, dict.fromkeys(arrays, axes) | {"label": axes[1:]},
                    labels={"score": tuple(found.names), "words": tuple(TITLES[name] for name in found.names)})

    if scored:
        subtitle += f", of the first {scored} tokens"
    return View("head_scores", title, subtitle, {}, {}, content={"scored": scored} if scored else {}, detail=detail)
