"""What follows a position: the next token's distribution, and a tree of continuations."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Float32, Int, Int32

from gptviz.views.view import View

KEPT = 4096  # logits of a position that travel as they are, largest first; those beyond travel in groups
GROUPS = 64
N_NAMED = 12  # tokens whose names travel with the logits


def next_view(
    ids: Int[np.ndarray, "pos"],
    tokens: Sequence[str],
    *,
    top_ids: Int[np.ndarray, "pos k"],
    top_probs: Float[np.ndarray, "pos k"],
    words: Sequence[str],
    word_ids: Sequence[int],
    logits_of: Callable[[int], Float[np.ndarray, "d_vocab"]],
    name_of: Callable[[int], str],
    continues: bool = False,
) -> View:
    """The next token after every position: the likeliest few, and all logits of the position looked at.

    Args:
        ids: The token ids of the text.
        tokens: Their visible forms.
        top_ids: [pos, k], indices into `words`, likeliest first.
        top_probs: Their probabilities.
        words: Visible forms.
        word_ids: The token id of each word.
        logits_of: Gives the logits after a position.
        name_of: Gives the visible form of a token id.
        continues: Whether the board has the action "continue", which adds tokens to the tree.

    Raises:
        ValueError: If lengths do not match.

    Example:
        >>> logits = np.log(np.array([[0.5, 0.2, 0.3], [0.1, 0.2, 0.7]]))
        >>> view = next_view(np.array([1, 2]), ["b", "c"], top_ids=np.array([[0], [2]]), words=list("abc"),
        ...                  top_probs=np.array([[0.5], [0.7]]), word_ids=[0, 1, 2], logits_of=lambda at: logits[at],
        ...                  name_of=lambda token: "abc"[token])
        >>> np.exp(view.detail_of(query=0).arrays["logits"]).round(2).tolist()
        [0.5, 0.30000001192092896, 0.20000000298023224]
    """
    n = len(tokens)
    if not n == len(ids) == len(top_ids) == len(top_probs) or len(words) != len(word_ids):
        raise ValueError(f"ids, top_ids and top_probs must have one row for each of the {n} tokens, and words an id "
                         f"each; they have {len(ids)}, {len(top_ids)}, {len(top_probs)}, and {len(words)} words "
                         f"{len(word_ids)} ids. Pass arrays of the same text.")

    def detail(at: dict[str, int]) -> View:
        follows = int(ids[at["query"] + 1]) if at["query"] + 1 < n else None
        return _after(logits_of(at["query"]), follows, name_of)

    arrays = {"ids": ids.astype(np.int32), "top_words": top_ids.astype(np.int32),
              "top_probs": top_probs.astype(np.float32), "word_ids": np.asarray(word_ids, np.int32)}
    axes = {"ids": ("pos",), "top_words": ("pos", "choice"), "top_probs": ("pos", "choice"), "word_ids": ("word",)}
    return View("next", "Next token", "probability", arrays, axes,
                content={"continues": continues, "n_vocab": len(logits_of(0))},
                labels={"token": tuple(tokens), "word": tuple(words)}, units={"top_probs": "probability"},
                range={"top_probs": (0.0, 1.0)}, detail=detail, detail_axes=("query",), detail_places=(range(n),))


def _after(logits: Float[np.ndarray, "d_vocab"], follows: int | None, name_of: Callable[[int], str]) -> View:
    """The logits after one position, largest first; those of equal size in the order of their ids."""
    order = np.argsort(-logits, kind="stable")
    ranked = logits[order].astype(np.float64)
    groups, sizes = grouped(ranked[KEPT:])
    place = -1 if follows is None else int(np.flatnonzero(order == follows)[0])
    arrays = {"logits": ranked[:KEPT].astype(np.float32), "groups": groups, "sizes": sizes,
              "truth": np.array([place], np.int32),
              "truth_logit": np.array([np.nan if follows is None else logits[follows]], np.float32)}
    axes = {"logits": ("rank",), "groups": ("group",), "sizes": ("group",), "truth": ("one",), "truth_logit": ("one",)}
    return View("next", "", "", arrays, axes, labels={"word": tuple(name_of(int(i)) for i in order[:N_NAMED])})


def grouped(
    ranked: Float[np.ndarray, "rest"]
) -> tuple[Float32[np.ndarray, "group"], Int32[np.ndarray, "group"]]:
    """Falling logits as at most `GROUPS` groups of equal size: one logit and the number of tokens in each.

    A group's logit is the one that gives the group its probability at temperature 1; at another temperature the sum
    is off by the spread inside the groups.

    Example:
        >>> grouped(np.log(np.array([0.4, 0.2])))[1]
        array([1, 1], dtype=int32)
    """
    parts = [part for part in np.array_split(ranked, GROUPS) if len(part)]
    with np.errstate(divide="ignore"):
        means = [part[0] + np.log(np.mean(np.exp(part - part[0]))) if np.isfinite(part[0]) else part[0]
                 for part in parts]
    return np.array(means, np.float32), np.array([len(part) for part in parts], np.int32)
