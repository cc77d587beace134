"""One head over all of training: a small picture for each recorded step."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from gptviz.packing import pack_values
from gptviz.runs.cadence import thinned_words
from gptviz.views.view import View


def film_view(
    steps: Sequence[int], n_layer: int, n_head: int, n_tokens: int,
    of: Callable[[int, int], Float[np.ndarray, "step y x"]], *, text: str = "", recorded: int = 0,
) -> View:
    """A strip of pictures of the head that is looked at, one for each step; computed when the strip is unfolded.

    The view is the same at every step of a text. Its detail holds "tiles", bytes of 255 * sqrt(p), each the largest of
    the cells that it covers, and "broken", the rows of a picture in which something is not a finite number.

    Args:
        steps: The steps shown, rising.
        n_layer: Layers of the model.
        n_head: Heads of a layer.
        n_tokens: Tokens of the text.
        of: (layer, head) -> its pictures, one for each step: probabilities, NaN where they are none.
        text: The text, by which the browser knows the strip again.
        recorded: Steps that the run recorded, if they are more than those shown.

    Raises:
        ValueError: If the steps do not rise.

    Example:
        >>> view = film_view([0, 10], 1, 2, 4, lambda layer, head: np.zeros((2, 4, 4)))
        >>> view.detail_of(layer=0, head=1).arrays["tiles"].shape
        (2, 4, 4)
    """
    if list(steps) != sorted(set(steps)):
        raise ValueError(f"The steps of a film strip must rise; they are {list(steps)}. Sort them, each once.")

    def strip(at: dict[str, int]) -> View:
        p = of(at["layer"], at["head"])
        arrays = {"tiles": pack_values(np.nan_to_num(p, nan=0.0)),
                  "broken": (~np.isfinite(p)).any(axis=-1).astype(np.uint8)}
        return View("film", "Head through training", "", arrays, {"tiles": ("step", "y", "x"), "broken": ("step", "y")},
                    units={"tiles": "probability"}, range={"tiles": (0.0, 1.0)})

    which = thinned_words(steps, recorded) or "each recorded step"
    return View("film", "Head through training", f"one picture for {which} · click goes there", {}, {},
                content={"every_step": True, "steps": [int(step) for step in steps], "text": text,
                         "n_tokens": n_tokens},
                detail=strip, detail_axes=("layer", "head"), detail_places=(range(n_layer), range(n_head)))
