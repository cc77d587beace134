"""The logit lens: what the model would say if it stopped after each layer."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from gptviz.views.view import Check, View

TITLE, SUBTITLE = "Logit lens", "what the model would say if it stopped after each layer"
NATS = 6.0  # KL beyond it has a cut corner: the scale stays the same for all texts
BLOCK = 64  # positions that are computed at once where a text is long
MARGIN = 64  # positions beyond those asked for: no window over the edge of a block is wider


def lens_view(
    points: Sequence[str],
    tokens: Sequence[str],
    *,
    top_ids: Int[np.ndarray, "point pos top"],
    top_probs: Float[np.ndarray, "point pos top"],
    entropy: Float[np.ndarray, "point pos"],
    kl_to_final: Float[np.ndarray, "point pos"],
    true_rank: Int[np.ndarray, "point pos"],
    true_prob: Float[np.ndarray, "point pos"],
    words: Sequence[str],
    n_vocab: int,
    rank_of_top: Int[np.ndarray, "top_point point pos"] | None = None,
    first: int = 0,
    checks: Sequence[Check] = (),
) -> View:
    """The prediction of the next token at every point of the model, for some or all positions of a text.

    Args:
        points: Where the residual stream was read: "embed", "L0", ...; the last is the model's own prediction.
        tokens: The visible form of each token of the whole text.
        top_ids: Indices into `words`: the likeliest next tokens, likeliest first.
        top_probs: Their probabilities.
        entropy: Of the predicted distribution, nats.
        kl_to_final: KL(final || lens), nats.
        true_rank: Rank of the token that follows; 0 where nothing follows.
        true_prob: Its probability; NaN where nothing follows.
        words: The visible forms that `top_ids` points to.
        n_vocab: Size of the vocabulary: ranks go so far.
        rank_of_top: For the likeliest token of each point (first axis) its rank at each point.
        first: The position of the first column, where these are only some of the text.
        checks: What was measured about the numbers.

    Raises:
        ValueError: If shapes do not match.

    Example:
        >>> one = np.ones((2, 1), np.float32)
        >>> view = lens_view(["embed", "L0"], ["a"], top_ids=np.zeros((2, 1, 1), int), top_probs=one[..., None],
        ...                  entropy=0 * one, kl_to_final=0 * one, true_rank=np.zeros((2, 1), int),
        ...                  true_prob=np.nan * one, words=["b"], n_vocab=1)
        >>> view.arrays["top_words"].shape
        (2, 1, 1)
    """
    n_points, n = len(points), top_ids.shape[1]
    if first + n > len(tokens) or not n:
        raise ValueError(f"A lens of {n} positions from {first} on does not fit a text of {len(tokens)} tokens. "
                         f"Pass arrays of the same text.")
    used, short = np.unique(top_ids, return_inverse=True)  # a page needs the words shown, not all 50,257
    floats = {"top_probs": top_probs, "entropy": entropy, "kl": kl_to_final, "true_prob": true_prob}
    arrays: dict[str, np.ndarray] = {name: array.astype(np.float32) for name, array in floats.items()}
    arrays |= {"top_words": short.reshape(top_ids.shape).astype(np.int32), "true_rank": true_rank.astype(np.int32),
               "first": np.array([first], np.int32)}
    axes = {name: ("point", "pos", "top")[: array.ndim] for name, array in arrays.items()} | {"first": ("one",)}
    if rank_of_top is not None:
        arrays["rank_of_top"], axes["rank_of_top"] = rank_of_top.astype(np.int32), ("top_point", "point", "pos")
    for name, array in arrays.items():
        places = [array.shape[axes[name].index(axis)] for axis in ("point", "pos") if axis in axes[name]]
        if name != "first" and places != [n_points, n]:
            raise ValueError(f"{name} must have {n_points} points and {n} positions; it has {places}. "
                             f"Pass arrays of one lens.")
    return View("lens", TITLE, SUBTITLE, arrays, axes, labels=_labels(points, tokens, [words[int(i)] for i in used]),
                checks=tuple(checks), **_scales(n_vocab))


def lens_view_in_blocks(
    points: Sequence[str], tokens: Sequence[str], n_vocab: int, lens_of: Callable[[range], View]
) -> View:
    """The lens of a long text or a large model, each block of positions computed when it is looked at.

    Args:
        points: As for `lens_view`.
        tokens: The visible form of each token of the whole text.
        n_vocab: Size of the vocabulary.
        lens_of: Gives the `lens_view` of a range of positions.

    Example:
        >>> view = lens_view_in_blocks(["embed", "L0"], ["a"] * 100, 5, lambda positions: None)
        >>> view.detail_places
        (range(0, 100, 64),)
    """
    n = len(tokens)

    def block(at: dict[str, int]) -> View:
        return lens_of(range(at["rows"], min(n, at["rows"] + BLOCK + MARGIN)))

    return View("lens", TITLE, SUBTITLE, {"block": np.array([BLOCK], np.int32)}, {"block": ("one",)},
                labels=_labels(points, tokens, ()), detail=block, detail_axes=("rows",),
                detail_places=(range(0, n, BLOCK),), **_scales(n_vocab))


def lens_at(view: View, position: int) -> View:
    """The view that holds the numbers of a position: the lens itself, or its block.

    Example:
        >>> one = np.ones((1, 3), np.float32)
        >>> def lens_of(at):
        ...     cells = one[:, at.start : at.stop]
        ...     return lens_view(["L0"], list("abc"), top_ids=np.zeros((*cells.shape, 1), int), words=["b"],
        ...                      top_probs=cells[..., None], entropy=cells, kl_to_final=cells, n_vocab=9,
        ...                      true_rank=cells.astype(int), true_prob=cells, first=at.start)
        >>> lens_at(lens_view_in_blocks(["L0"], list("abc"), 9, lens_of), 2).arrays["entropy"].shape
        (1, 3)
    """
    return view if "top_words" in view.arrays else view.detail_of(rows=position // BLOCK * BLOCK)


def _labels(points: Sequence[str], tokens: Sequence[str], words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    return {"point": tuple(points), "token": tuple(tokens), "word": tuple(words)}


def _scales(n_vocab: int) -> dict[str, Any]:
    """Units and the fixed ranges of the colours; ranks from 1 to the size of the vocabulary."""
    return {"units": {"top_probs": "probability", "entropy": "nats", "kl": "nats"},
            "range": {"top_probs": (0.0, 1.0), "entropy": (0.0, float(np.log(max(2, n_vocab)))), "kl": (0.0, NATS),
                      "true_rank": (1.0, float(n_vocab))}}
