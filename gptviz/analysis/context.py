"""Does the model use its context? Loss by position, and how much later tokens are easier than early ones."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from torch import nn

from gptviz.analysis.components import as_numpy
from gptviz.analysis.corpus import traces_over
from gptviz.arguments import must_be, whole_number
from gptviz.trace import unwrapped


@dataclass(frozen=True)
class LossByPosition:
    """Mean loss of the token at each position, over many texts.

    Attributes:
        mean: Nats; NaN at position 0 and where no text reaches.
        standard_error: Of the mean, nats; NaN where fewer than two texts reach.
        count: How many texts reach each position.
    """

    mean: Float64[np.ndarray, "pos"]
    standard_error: Float64[np.ndarray, "pos"]
    count: Int64[np.ndarray, "pos"]


def loss_by_position(
    model: nn.Module,
    texts: Iterable[Any],
    tokenizer: Any = None,
    *,
    batch_size: int = 8,
    truncate: str | None = None,
) -> LossByPosition:
    """The mean of -log p(token at a position given those before it), position by position.

    Misleads where texts have different lengths: then early and late positions are averaged over different
    texts (see `count`). Where texts begin at the beginning of documents, early positions are also different
    text (titles, greetings): cut windows at random places.

    Args:
        model: A `GPT`.
        texts: Texts or id lists; may be a generator. Memory does not grow with their number.
        tokenizer: Turns texts into ids.
        batch_size: How many texts run at once.
        truncate: "left" or "right" for texts longer than the block.

    Returns:
        One value for each position up to block_size.

    Raises:
        ValueError: there is no text, or one does not fit.

    Example:
        >>> from gptviz.model import GPT, GPTConfig
        >>> model = GPT(GPTConfig(block_size=4, vocab_size=5, n_layer=1, n_head=2, n_embd=8))
        >>> loss_by_position(model, [[0, 1, 2], [3, 4]]).count
        array([0, 2, 1, 0])
    """
    n_pos = unwrapped(model).config.block_size
    count, mean, squares = (
        np.zeros(n_pos, np.int64),
        np.zeros(n_pos),
        np.zeros(n_pos),
    )  # Welford, per position
    n_texts = 0
    for trace in traces_over(model, texts, tokenizer, names="loss", batch_size=batch_size, truncate=truncate):
        n_texts += 1
        at = slice(1, len(trace))
        loss = as_numpy(trace["loss"])[at]
        count[at] += 1
        difference = loss - mean[at]
        mean[at] += difference / count[at]
        squares[at] += difference * (loss - mean[at])
    if n_texts == 0:
        raise ValueError("There must be at least one text, but there is none.")
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(squares / (count - 1) / count)
    return LossByPosition(np.where(count > 0, mean, np.nan), np.where(count > 1, error, np.nan), count)


def in_context_score(curve: LossByPosition, early: int, late: int) -> float:
    """Loss at a late position minus at an early one, in nats: the more negative, the more the context helps.

    Olsson et al. 2022 ("In-context Learning and Induction Heads") take late = 500 and early = 50 of 512.

    Misleads for two models of different quality: a model that is bad everywhere can have the better score.

    Args:
        curve: From `loss_by_position`.
        early: A position of at least 1.
        late: A later one that every text reaches.

    Raises:
        ValueError: the positions are not in order, or some texts end between them.

    Example:
        >>> curve = LossByPosition(np.array([np.nan, 3.0, 2.5]), np.full(3, np.nan), np.array([0, 1, 1]))
        >>> in_context_score(curve, early=1, late=2)
        -0.5
    """
    must_be(curve, LossByPosition, "curve", "Pass what loss_by_position returned.")
    early, late = whole_number(early, "early"), whole_number(late, "late")
    if not 1 <= early < late < len(curve.mean):
        raise ValueError(
            f"Positions must satisfy 1 <= early < late <= {len(curve.mean) - 1}, "
            f"but early is {early} and late is {late}."
        )
    if curve.count[early] != curve.count[late] or curve.count[late] == 0:
        raise ValueError(
            f"All texts must reach position {late}, but {curve.count[early]} reach position {early} and only "
            f"{curve.count[late]} reach {late}: the two means would be of different texts. "
            "Leave out short texts, or choose an earlier position."
        )
    return float(curve.mean[late] - curve.mean[early])
