"""What edits changed: the loss and the next token of every position, edited beside original."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from gptviz.views.view import View


@dataclass(frozen=True)
class Pass:
    """What one forward pass said of a text.

    Args:
        loss: [pos], nats; NaN at position 0.
        top_ids: [pos, k], indices into the words of the view: what is expected after each position.
        top_probs: [pos, k], their probabilities.
    """

    loss: Float[np.ndarray, "pos"]
    top_ids: Int[np.ndarray, "pos k"]
    top_probs: Float[np.ndarray, "pos k"]


def edits_view(
    original: Pass,
    tokens: Sequence[str],
    words: Sequence[str],
    *,
    edited: Pass | None = None,
    change: Float[np.ndarray, "pos"] | None = None,
    edits: Sequence[dict[str, Any]] = (),
    python: str = "",
    json: str = "",
) -> View:
    """The edits of a board and what they did.

    Args:
        original: The pass without edits.
        tokens: The visible form of each token.
        words: The visible forms that both passes' `top_ids` point to.
        edited: The pass with them; None while there are none.
        change: [pos], nats: the Kullback-Leibler divergence of the edited prediction from the original one.
        edits: Each as {"words": "ablate_head(1, 0)"}, with "layer" and "head" where it is of one head.
        python: Lines that do the same.
        json: The edits as JSON.

    Raises:
        ValueError: If a pass is of another text.

    Example:
        >>> said = Pass(np.array([np.nan, 0.5]), np.array([[0], [1]]), np.array([[0.9], [0.8]]))
        >>> edits_view(said, ["·a", "·b"], ["x", "y"]).content["edits"]
        []
    """
    arrays: dict[str, np.ndarray] = {}
    for prefix, said in (("", original), ("other_", edited)):
        if said is None:
            continue
        if len(said.loss) != len(tokens):
            raise ValueError(f"A pass must be of the {len(tokens)} tokens shown; it is of {len(said.loss)}. "
                             f"Record the same text.")
        arrays |= {f"{prefix}loss": said.loss.astype(np.float32), f"{prefix}top_words": said.top_ids.astype(np.int32),
                   f"{prefix}top_probs": said.top_probs.astype(np.float32)}
    if change is not None:
        arrays["change"] = change.astype(np.float32)
    return View("edits", "Edits", "what changes if a head is muted, scaled, patched or told where to look", arrays,
                {name: ("pos", "choice")[: array.ndim] for name, array in arrays.items()},
                labels={"token": tuple(tokens), "word": tuple(words)}, units={"loss": "nats", "change": "nats"},
                content={"edits": list(edits), "python": python, "json": json})
