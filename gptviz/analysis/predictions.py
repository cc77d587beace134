"""What logits say of a text: the likeliest next tokens, the loss and rank of those that follow; numpy only."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Predictions(NamedTuple):
    """What the logits of a text say at each position; in nats where it is a log.

    Attributes:
        top_ids: [pos, k], likeliest first; of equal ones the smaller id.
        top_probs: [pos, k], their probabilities.
        entropy: [pos], of the distribution after the position.
        loss: [pos], of the token at the position, given those before it; NaN at 0.
        rank: [pos], of that token; 1 is the likeliest, 0 at position 0 and where a logit is NaN.
    """

    top_ids: Int[np.ndarray, "pos k"]
    top_probs: Float[np.ndarray, "pos k"]
    entropy: Float[np.ndarray, "pos"]
    loss: Float[np.ndarray, "pos"]
    rank: Int[np.ndarray, "pos"]


def predictions(logits: Float[np.ndarray, "pos d_vocab"], ids: Int[np.ndarray, "pos"], k: int) -> Predictions:
    """The predictions of all positions, one row at a time: the logits of a long text are large.

    Example:
        >>> said = predictions(np.log(np.array([[0.2, 0.8], [0.5, 0.5]], np.float32)), np.array([0, 1]), 1)
        >>> said.top_ids.tolist(), said.loss.round(3).tolist(), said.rank.tolist()
        ([[1], [0]], [nan, 0.223], [0, 1])
    """
    n, k = len(logits), min(k, logits.shape[1])
    top_ids, top_probs = np.zeros((n, k), np.int64), np.zeros((n, k))
    entropy, loss, rank = np.zeros(n), np.full(n, np.nan), np.zeros(n, np.int32)
    for position, row in enumerate(logits):
        log_p = log_softmax(row)
        top_ids[position] = largest(row, k)
        top_probs[position] = np.exp(log_p[top_ids[position]])
        p = np.exp(log_p)
        entropy[position] = -np.sum(p[p > 0] * log_p[p > 0]) if np.isfinite(row).any() else np.nan
        if position + 1 < n:
            token = ids[position + 1]
            loss[position + 1] = -log_p[token]
            rank[position + 1] = 0 if np.isnan(row).any() else 1 + (row > row[token]).sum()
    return Predictions(top_ids, top_probs, entropy, loss, rank)


def divergence(
    original: Float[np.ndarray, "pos d_vocab"], other: Float[np.ndarray, "pos d_vocab"]
) -> Float[np.ndarray, "pos"]:
    """KL(original || other) of each position's prediction, in nats, from the logits of both.

    Example:
        >>> divergence(np.zeros((1, 2)), np.array([[0.0, np.log(3)]])).round(4)
        array([0.1438])
    """
    log_p, log_q = log_softmax(original), log_softmax(other)
    return (np.exp(log_p) * (log_p - log_q)).sum(-1)


@np.errstate(invalid="ignore")  # infinite scores make NaN, which is shown as such
def softmax(scores: Float[np.ndarray, "*row column"]) -> Float[np.ndarray, "*row column"]:
    """The share of each column in its row, in float64.

    Example:
        >>> softmax(np.array([0.0, np.log(3)])).round(4)
        array([0.25, 0.75])
    """
    wide = scores.astype(np.float64)
    powers = np.exp(wide - wide.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@np.errstate(invalid="ignore")  # infinite logits make NaN, which is shown as such
def log_softmax(logits: Float[np.ndarray, "*pos d_vocab"]) -> Float[np.ndarray, "*pos d_vocab"]:
    """The log of each probability, in float64.

    Example:
        >>> log_softmax(np.array([0.0, np.log(3)])).round(4)
        array([-1.3863, -0.2877])
    """
    wide = logits.astype(np.float64)
    shifted = wide - wide.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def largest(row: Float[np.ndarray, "d_vocab"], k: int) -> Int[np.ndarray, "k"]:
    """Indices of the k largest; of equal ones the smaller index. Sorting all of 50,257 would take ten times as long.

    Example:
        >>> largest(np.array([0.5, 2.0, 2.0, 1.0]), 3)
        array([1, 2, 3])
    """
    if np.isnan(row).any():
        return np.argsort(-row, kind="stable")[:k]
    candidates = np.flatnonzero(row >= np.partition(row, -k)[-k])
    return candidates[np.argsort(-row[candidates], kind="stable")][:k]
