"""The logit lens of a trace: at once where that is quick, else a block of positions when it is looked at."""

from typing import Any

import numpy as np
from jaxtyping import Float32, Int, Int32

from gptviz.dashboards.tensors import named, visible_of
from gptviz.views import Check, View
from gptviz.views.lens import BLOCK, MARGIN, lens_view, lens_view_in_blocks

QUICK = 2e9  # multiplications that a board may take for the lens before it is shown
N_TOP = 5
AT_ONCE = 16  # positions whose logits of all points exist at a time


def lens_part(trace: Any, model: Any, tokenizer: Any = None) -> View:
    """The lens of every position: the whole one, or one that is computed block by block."""
    config, n = trace.config, len(trace)
    work = (config.n_layer + 1) * n * config.n_embd * config.vocab_size
    points = ("embed", *(f"L{layer}" for layer in range(config.n_layer)))
    if work <= QUICK and n <= BLOCK + MARGIN:
        return lens_of(trace, model, tokenizer, range(n))
    return lens_view_in_blocks(points, trace.tokens, config.vocab_size,
                               lambda positions: lens_of(trace, model, tokenizer, positions))


def lens_of(trace: Any, model: Any, tokenizer: Any, positions: range) -> View:
    """The lens of some positions.

    Raises:
        ValueError: If the model's weights are no longer those that made the trace.
    """
    from gptviz.analysis import logit_lens

    top = min(N_TOP, trace.config.vocab_size)
    columns = [positions[start : start + AT_ONCE] for start in range(0, len(positions), AT_ONCE)]
    lenses, ranks = [], []
    for some in columns:
        one = logit_lens(trace, model, top=top, positions=some, keep_logits=True)
        ranks.append(ranks_of(np.asarray(one.logits), one.top_ids[:, :, 0]))
        lenses.append(one)

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(one, name) for one in lenses], axis=1)

    short, words = named(joined("top_ids"), visible_of(tokenizer))
    worst = max((one.check for one in lenses), key=lambda check: check.error)
    return lens_view(lenses[0].points, trace.tokens, top_ids=short, words=words, n_vocab=trace.config.vocab_size,
                     rank_of_top=np.concatenate(ranks, axis=2), first=positions[0],
                     checks=[Check("lens(last) = logits", worst.error, worst.bound)],
                     **{name: joined(name) for name in ("top_probs", "entropy", "kl_to_final", "true_rank",
                                                        "true_prob")})


def ranks_of(
    logits: Float32[np.ndarray, "point pos d_vocab"], ids: Int[np.ndarray, "follow pos"]
) -> Int32[np.ndarray, "follow point pos"]:
    """The rank of some tokens at every point, 1 the likeliest; ties count as the better rank.

    Example:
        >>> ranks_of(np.array([[[0.0, 2.0, 1.0]], [[3.0, 2.0, 1.0]]], np.float32), np.array([[1], [0]]))[:, :, 0]
        array([[1, 2],
               [3, 1]], dtype=int32)
    """
    points, places = np.arange(len(logits))[:, None], np.arange(logits.shape[1])[None]
    ranks = np.empty((len(ids), *logits.shape[:2]), np.int32)
    for row, tokens in enumerate(ids):
        theirs = logits[points, places, tokens[None]]
        ranks[row] = 1 + (logits > theirs[..., None]).sum(axis=-1)
    return ranks
