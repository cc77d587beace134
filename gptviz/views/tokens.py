"""The text, coloured by what surprised the model, and what it expected instead."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

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
    title: str = "Text",
) -> View:
    """The token strip: loss per token, and the predictions for the token that follows each position.

    Args:
        loss: [pos], nats: -log p(token at pos given those before it); NaN where there is none (position 0).
        tokens: The visible form of each token.
        top_ids: [pos, k], indices into `words`: what the model expects after each position, likeliest first.
        top_probs: [pos, k], their probabilities.
        words: The visible forms that `top_ids` points to.
        rank: [pos], 1 for a token that was the likeliest; 0 where there is none.
        title: The panel's title.

    Raises:
        ValueError: If lengths do not match.

    Example:
        >>> tokens_view(np.array([np.nan, 0.5]), ["·a", "·b"]).labels["token"]
        ('·a', '·b')
    """
    n = len(tokens)
    arrays, axes = {"loss": loss.astype(np.float32)}, {"loss": ("pos",)}
    if (top_ids is None) != (top_probs is None):
        raise ValueError("top_ids and top_probs belong together; one of them was given. Pass both or neither.")
    if top_ids is not None and top_probs is not None:
        if top_ids.size and not 0 <= int(top_ids.min()) <= int(top_ids.max()) < len(words):
            raise ValueError(f"top_ids must point into words (0..{len(words) - 1}); they run from "
                             f"{top_ids.min()} to {top_ids.max()}. Pass the visible form of every id.")
        used, short = np.unique(top_ids, return_inverse=True)  # a page needs the words shown, not all 50,257
        words = [words[i] for i in used]
        arrays |= {"top_words": short.reshape(top_ids.shape).astype(np.int32),
                   "top_probs": top_probs.astype(np.float32)}
        axes |= {"top_words": ("pos", "choice"), "top_probs": ("pos", "choice")}
    if rank is not None:
        arrays["rank"], axes["rank"] = rank.astype(np.int32), ("pos",)
    for name, array in arrays.items():
        if len(array) != n:
            raise ValueError(f"{name} must have one row for each of the {n} tokens; it has {len(array)}. "
                             f"Pass arrays of the same text.")
    return View("tokens", title, "what surprised the model", arrays, axes,
                labels={"token": tuple(tokens), "word": tuple(words)},
                units={"loss": "nats", "top_probs": "probability"}, range={"loss": LOSS_RANGE, "top_probs": (0.0, 1.0)})
