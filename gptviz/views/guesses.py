"""What a model took for the likeliest next token at each recorded step, and whether it was right."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from gptviz.runs.cadence import thinned_words
from gptviz.views.view import View

UNJUDGED = 2  # in "right": no token is the right one here


def guesses_view(
    steps: Sequence[int],
    words: Sequence[str],
    guess: Int[np.ndarray, "step pos"],
    p: Float[np.ndarray, "step pos"],
    right: Int[np.ndarray, "step pos"],
    *, prompt: str = "", answer: Sequence[str] = (), judge: str = "the text", unjudged: str = "", recorded: int = 0,
) -> View:
    """A row of guesses for each step, each made from the true text before it.

    Args:
        steps: Rising.
        words: The visible forms that `guess` points to.
        guess: [step, pos], the likeliest token.
        p: [step, pos], its probability.
        right: [step, pos], 1 right, 0 wrong, `UNJUDGED` where there is no right one.
        prompt: The text before the first guess, visible.
        answer: The right token of each position; "" where there is none.
        judge: Who knows what is right: "the text", "task sort".
        unjudged: Why nobody does, as a sentence for the reader.
        recorded: Steps that the run recorded, if they are more than those shown.

    Raises:
        ValueError: If the arrays do not have a row for each step, or not the same positions.

    Example:
        >>> guess, p = np.array([[0], [1]]), np.array([[0.5], [0.9]])
        >>> view = guesses_view([0, 9], ["a", "b"], guess, p, np.array([[0], [1]]))
        >>> view.arrays["right"][:, 0].tolist()
        [0, 1]
    """
    if not guess.shape == p.shape == right.shape or len(guess) != len(steps):
        raise ValueError(f"guess, p and right must each be [{len(steps)} steps, pos]; they are {guess.shape}, "
                         f"{p.shape} and {right.shape}. Give every step a row.")
    arrays = {"guess": guess.astype(np.int32), "p": p.astype(np.float32), "right": right.astype(np.uint8)}
    what = "likeliest next token after the true text before it"
    said = " · ".join(filter(None, [what, thinned_words(steps, recorded)]))
    subtitle = ". ".join(filter(None, [said, unjudged]))
    return View("guesses", "Guesses through training", subtitle, arrays,
                dict.fromkeys(arrays, ("step", "pos")), labels={"word": tuple(words)}, units={"p": "probability"},
                range={"p": (0.0, 1.0)},
                content={"steps": [int(step) for step in steps], "prompt": prompt, "answer": list(answer),
                         "judge": judge})
