"""The text, coloured by what surprised the model, and what it expected instead."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int, Shaped

from gptviz.views.view import View

LOSS_RANGE = (0.0, 6.0)  # nats; beyond it the colour is clipped and the chip says so


def tokens_view(
    loss: Float[np.ndarray, "pos"],
    tokens: Sequence[str],
    *,
    top_ids: Int[np.ndarray, "pos k"] | None = None,
    top_probs: Float[np.ndarray, "pos k"] | None = None,
    words: Sequence[str] = (),
    rank: Int[np.ndarray, "pos"] | None = None,
    entropy: Float[np.ndarray, "pos"] | None = None,
    arrays: Mapping[str, Shaped[np.ndarray, "..."]] | None = None,
    title: str = "Text",
) -> View:
    """The token strip: one number per token, of the reader's choice, and the predictions for what follows.

    Args:
        loss: [pos], nats: -log p(token at pos given those before it); NaN where there is none (position 0).
        tokens: The visible form of each token.
        top_ids: [pos, k], indices into `words`: what the model expects after each position, likeliest first.
        top_probs: [pos, k], their probabilities.
        words: The visible forms that `top_ids` points to.
        rank: [pos], 1 for a token that was the likeliest; 0 where there is none.
        entropy: [pos], nats: of the prediction in which the token's loss was measured; NaN where there is none.
        arrays: Any numbers per token by name, [pos] each; coloured from their smallest to their largest, or around 0
            where they have both signs. NaN where there is none.
        title: The panel's title.

    Raises:
        ValueError: If lengths do not match.

    Example:
        >>> view = tokens_view(np.array([np.nan, 0.5]), ["·a", "·b"], arrays={"sink": np.array([0.9, 0.1])})
        >>> view.labels["token"], view.labels["value"]
        (('·a', '·b'), ('sink',))
    """
    values: dict[str, np.ndarray] = {"loss": loss.astype(np.float32)}
    axes: dict[str, tuple[str, ...]] = {"loss": ("pos",)}
    if (top_ids is None) != (top_probs is None):
        raise ValueError("top_ids and top_probs belong together; one of them was given. Pass both or neither.")
    if top_ids is not None and top_probs is not None:
        short, words = _words_shown(top_ids, words)
        values |= {"top_words": short, "top_probs": top_probs.astype(np.float32)}
        axes |= {"top_words": ("pos", "choice"), "top_probs": ("pos", "choice")}
    if rank is not None:
        values["rank"], axes["rank"] = rank.astype(np.int32), ("pos",)
    if entropy is not None:
        values["entropy"], axes["entropy"] = entropy.astype(np.float32), ("pos",)
    named = {f"value_{i}": np.asarray(array, np.float32) for i, array in enumerate((arrays or {}).values())}
    _check_lengths(values | dict(zip(arrays or {}, named.values(), strict=True)), len(tokens))
    ranges = {"loss": LOSS_RANGE, "entropy": LOSS_RANGE, "top_probs": (0.0, 1.0)}
    units = {"loss": "nats", "entropy": "nats", "top_probs": "probability"}
    return View("tokens", title, "what surprised the model", values | named, axes | dict.fromkeys(named, ("pos",)),
                labels={"token": tuple(tokens), "word": tuple(words)} | ({"value": tuple(arrays)} if arrays else {}),
                units={name: unit for name, unit in units.items() if name in values},
                range={name: ends for name, ends in ranges.items() if name in values}
                | {name: _ends(array) for name, array in named.items()})


def with_given(view: View, n_given: int) -> View:
    """A text whose first tokens are given: no loss was taken on them, and a large one says nothing of the model.

    Args:
        view: What `tokens_view` gives.
        n_given: How many tokens at the beginning no training asked for; 0 or 1 leaves the view as it is, since
            nothing is ever asked before the first token.

    Example:
        >>> view = with_given(tokens_view(np.array([np.nan, 4.0, 0.1]), ["b", "a", "a"]), 2)
        >>> view.content["given"], view.subtitle
        (2, 'what surprised the model · trained on the answer alone, from position 2 on')
    """
    if n_given < 2:
        return view
    subtitle = f"{view.subtitle} · trained on the answer alone, from position {n_given} on"
    return replace(view, subtitle=subtitle, content={**view.content, "given": n_given})


def _words_shown(
    top_ids: Int[np.ndarray, "pos k"], words: Sequence[str]
) -> tuple[np.ndarray, list[str]]:
    """A page needs the words shown, not all 50,257: indices into those, and those."""
    if top_ids.size and not 0 <= int(top_ids.min()) <= int(top_ids.max()) < len(words):
        raise ValueError(f"top_ids must point into words (0..{len(words) - 1}); they run from "
                         f"{top_ids.min()} to {top_ids.max()}. Pass the visible form of every id.")
    used, short = np.unique(top_ids, return_inverse=True)
    return short.reshape(top_ids.shape).astype(np.int32), [words[int(i)] for i in used]


def _check_lengths(arrays: Mapping[str, np.ndarray], n: int) -> None:
    for name, array in arrays.items():
        if array.ndim == 0 or len(array) != n or (array.ndim > 1 and name not in ("top_words", "top_probs")):
            given = array.shape if array.ndim != 1 else len(array)
            raise ValueError(f"{name} must have one row for each of the {n} tokens; it has {given}. "
                             f"Pass arrays of the same text.")


def _ends(array: Float[np.ndarray, "pos"]) -> tuple[float, float]:
    """The smallest and largest finite value; symmetric around 0 where there are both signs.

    Example:
        >>> _ends(np.array([-1.0, 3.0, np.nan]))
        (-3.0, 3.0)
    """
    finite = array[np.isfinite(array)]
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    if low < 0 < high:
        return -max(-low, high), max(-low, high)
    return (low, high) if high > low else (low, low + 1.0)
