"""Scoring the heads of a model: on your own texts, or on random tokens that repeat."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import nn

from gptviz.analysis.heads import HeadScores, pattern_scores_over
from gptviz.arguments import must_be, several, whole_number
from gptviz.model import GPT
from gptviz.trace import record, unwrapped

SHORTEST = 12
"""Tokens that a random text must have room for."""


def head_scores(
    model: nn.Module,
    tokenizer: Any = None,
    texts: Sequence[Any] | None = None,
    *,
    n_texts: int = 16,
    n_tokens: int | None = None,
    without_sink: bool = False,
    n_null: int = 100,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> HeadScores:
    """Previous-token, duplicate, induction, first-token, entropy and distance scores of every head.

    Without `texts`, the heads are scored on random tokens in which one stretch returns later
    (`repeated_random_text`): nothing but attention to the first copy predicts the second. Random tokens are
    unlike anything a model of text has read; heads may behave differently on text. A model that is trained on
    one task should be scored on its own texts.

    A control: the scores of `untrained_like(model)`. For what the measure misses see `pattern_scores`.

    Args:
        model: A `GPT`.
        tokenizer: Turns texts into ids; without texts, only its `vocab_size` is used (a model may have unused
            ids).
        texts: Texts or id lists; None for random repeats.
        n_texts: How many random texts.
        n_tokens: Their length, at least 12; None for the longest the model reads, up to 128.
        without_sink: Drop key 0 and renormalise each row over the other keys.
        n_null: Draws from the null.
        n_bootstrap: Resamplings for the interval.
        seed: Of texts, null and bootstrap.

    Returns:
        One value per score, layer and head, with its null and interval.

    Raises:
        ValueError: there is no text, or one does not fit the model.

    Example:
        >>> from gptviz.model import GPTConfig
        >>> model = GPT(GPTConfig(block_size=16, vocab_size=9, n_layer=1, n_head=2, n_embd=8))
        >>> scores = head_scores(model, n_texts=4)
        >>> scores["induction"].value.shape, scores.labels()
        ((1, 2), (('', ''),))
    """
    inner = unwrapped(model)
    seed = whole_number(seed, "seed")
    if texts is None:
        n_vocab = (
            inner.config.vocab_size
            if tokenizer is None
            else min(tokenizer.vocab_size, inner.config.vocab_size)
        )
        n_tokens = min(128, inner.config.block_size) if n_tokens is None else n_tokens
        rng = np.random.Generator(np.random.PCG64(seed))
        n_texts = whole_number(n_texts, "n_texts", least=1)
        texts = [repeated_random_text(n_vocab, n_tokens, rng).tolist() for _ in range(n_texts)]
    patterns = _patterns(inner, tokenizer, several(texts, "texts"))
    return pattern_scores_over(
        patterns, without_sink=without_sink, n_null=n_null, n_bootstrap=n_bootstrap, seed=seed
    )


def repeated_random_text(n_vocab: int, n_tokens: int, rng: np.random.Generator) -> Int64[np.ndarray, "pos"]:
    """Random tokens in which one stretch of random length appears a second time at a random distance.

    The distance must be random. When every text is a half written twice, a head that looks a fixed number of
    tokens back finds the right key without reading any token, and scores as induction.

    Args:
        n_vocab: Ids are 0 to n_vocab - 1; at least 2.
        n_tokens: At least 12; the stretch takes a sixth to a third of them.
        rng: Where the randomness comes from.

    Raises:
        ValueError: too few tokens or ids.

    Example:
        >>> len(repeated_random_text(50, 24, np.random.default_rng(0)))
        24
    """
    must_be(rng, np.random.Generator, "rng", "Pass numpy.random.default_rng(seed).")
    n_vocab, n_tokens = whole_number(n_vocab, "n_vocab"), whole_number(n_tokens, "n_tokens")
    if n_tokens < SHORTEST or n_vocab < 2:
        raise ValueError(
            f"A random text with a repeat needs at least {SHORTEST} tokens and 2 different ids; got {n_tokens} "
            f"tokens and {n_vocab} ids. Pass texts= of your own instead."
        )
    ids = rng.integers(0, n_vocab, n_tokens)
    length = int(rng.integers(n_tokens // 6, n_tokens // 3 + 1))
    first = int(rng.integers(0, n_tokens - 2 * length + 1))
    second = int(rng.integers(first + length, n_tokens - length + 1))
    ids[second : second + length] = ids[first : first + length]
    return ids


def untrained_like(model: nn.Module, seed: int = 0) -> GPT:
    """A freshly initialised model of the same shape: the control for scores that need no training to be high.

    torch's random state is afterwards as it was.

    Example:
        >>> from gptviz.model import GPTConfig
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=2, n_embd=8))
        >>> untrained_like(model).config == model.config
        True
    """
    config, seed = unwrapped(model).config, whole_number(seed, "seed")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT(config).eval()


def _patterns(
    model: GPT, tokenizer: Any, texts: Iterable[Any]
) -> Iterator[tuple[Float[np.ndarray, "layer head query key"], Int[np.ndarray, "pos"]]]:
    for text in texts:
        trace = record(model, text, tokenizer, names="pattern")
        yield trace["pattern"].float().cpu().numpy(), trace.ids.cpu().numpy()
