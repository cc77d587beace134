"""Which head reads what which earlier head wrote: Q-, K- and V-composition, from weights.

Source: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import nn

from gptviz.analysis.circuits import read_through
from gptviz.analysis.components import head_input_weights, head_output_weights
from gptviz.arguments import whole_number
from gptviz.model import GPT
from gptviz.trace import unwrapped


@dataclass(frozen=True)
class CompositionScores:
    """How strongly what one head writes meets what another reads; NaN where the reader's layer is not later.

    Attributes:
        q: What the writer moves decides where the reader looks from.
        k: It decides where the reader looks to.
        v: It is what the reader moves on.
        null: Mean of the score of random matrices of the same size: about 1 / sqrt(d_model).
        null_low: 2.5 % of them are below.
        null_high: 2.5 % of them are above: of many pairs, so many by chance.
        null_strongest: In 5 of 100 models of random weights the strongest of all pairs is above.
    """

    q: Float64[np.ndarray, "from_layer from_head to_layer to_head"]
    k: Float64[np.ndarray, "from_layer from_head to_layer to_head"]
    v: Float64[np.ndarray, "from_layer from_head to_layer to_head"]
    null: float
    null_low: float
    null_high: float
    null_strongest: float

    def strongest(self, n: int = 10) -> list[tuple[str, str, str, float]]:
        """The largest scores of all three kinds: (kind, writer, reader, score)."""
        stacked = np.stack([self.q, self.k, self.v])
        order = np.argsort(-np.where(np.isnan(stacked), -np.inf, stacked), axis=None, kind="stable")
        order = order[: min(n, int(np.isfinite(stacked).sum()))]
        return [
            ("QKV"[kind], f"L{a}H{b}", f"L{c}H{d}", float(stacked[kind, a, b, c, d]))
            for kind, a, b, c, d in zip(*np.unravel_index(order, stacked.shape), strict=True)
        ]


@torch.no_grad()
def composition_scores(model: nn.Module, *, n_null: int = 2500, seed: int = 0) -> CompositionScores:
    """For every pair of heads the ratio of Frobenius norms |A B| / (|A| |B|).

        A = W_V W_O of the writer;   B = W_QK of the reader (Q), its transpose (K), or W_V W_O of it (V)

    Matrices act on rows: the stream times the writer's A times the reader's B. B has the reader's LayerNorm
    centring and gain folded in. Between 0 and 1; random matrices reach about 1 / sqrt(d_model), so a score
    says nothing without its null.

    Misleads because it asks only whether the two subspaces meet, not whether anything flows there on a text;
    MLPs in between and the LayerNorm scales are left out; among many pairs 2.5 % are above `null_high` by
    chance, so read a single pair against `null_strongest`. To see that a pair matters, patch the path.

    Args:
        model: A `GPT`.
        n_null: Random pairs: each of sqrt(n_null) writers with each of as many readers.
        seed: Of the null.

    Raises:
        ValueError: `n_null` is less than 1.

    Example:
        >>> from gptviz.model import GPTConfig
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=2, n_head=2, n_embd=8))
        >>> composition_scores(model).k[0, :, 1].shape
        (2, 2)
    """
    n_null, seed = whole_number(n_null, "n_null", least=1), whole_number(seed, "seed")
    inner = unwrapped(model)
    n_layer, n_head = inner.config.n_layer, inner.config.n_head
    scores = np.full((3, n_layer, n_head, n_layer, n_head), np.nan)
    heads = [_factors(inner, layer) for layer in range(n_layer)]
    for writer in range(n_layer):
        _, _, v, o = heads[writer]
        for reader in range(writer + 1, n_layer):
            q, k, later_v, later_o = heads[reader]
            for kind, (left, right) in enumerate(
                ((q, k.swapaxes(-1, -2)), (k, q.swapaxes(-1, -2)), (later_v, later_o))
            ):
                scores[kind, writer, :, reader] = norm_ratios(v[:, None], o[:, None], left[None], right[None])
    null = crossed_ratios(inner.config.n_embd, inner.config.d_head, math.isqrt(n_null - 1) + 1, seed=seed)
    low, high = np.quantile(null, (0.025, 0.975))
    by_q, by_k, by_v = scores
    strongest = strongest_of(null, max(1, 3 * n_head**2 * math.comb(n_layer, 2)))
    return CompositionScores(by_q, by_k, by_v, float(null.mean()), float(low), float(high), strongest)


@torch.no_grad()
def k_composition(model: nn.Module, layer: int, head: int) -> Float64[np.ndarray, "from_layer from_head"]:
    """The K-composition of one head with every head below it: a row of `composition_scores(model).k`, at its cost.

    Example:
        >>> from gptviz.model import GPTConfig
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=2, n_head=2, n_embd=8))
        >>> bool(np.allclose(k_composition(model, 1, 0), composition_scores(model).k[:1, :, 1, 0]))
        True
    """
    inner = unwrapped(model)
    q, k, _, _ = (part[head] for part in _factors(inner, layer))
    scores = np.zeros((layer, inner.config.n_head))
    for writer in range(layer):
        _, _, v, o = _factors(inner, writer)
        scores[writer] = norm_ratios(v, o, k[None], q.swapaxes(-1, -2)[None])
    return scores


def random_ratios(d_model: int, d_head: int, *, n_null: int = 200, seed: int = 0) -> Float64[np.ndarray, "draw"]:
    """The ratios of independent random pairs of a head's size: the null of what a run's journal has observed.

    `composition_scores` has `crossed_ratios` instead, which are centred and many more; the numbers of a journal keep
    their meaning.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    thin = [rng.standard_normal((n_null, d_model, d_head)) for _ in range(4)]
    return norm_ratios(thin[0], thin[1].swapaxes(-1, -2), thin[2], thin[3].swapaxes(-1, -2))


def crossed_ratios(d_model: int, d_head: int, n: int, *, seed: int = 0) -> Float64[np.ndarray, "pair"]:
    """The ratios of n random writers with each of n random readers, which are centred as LayerNorm centres them.

    n * n ratios for 2 n draws: of wide models drawing the matrices takes longer than multiplying them. What
    varies is how the subspaces lie to each other, which two pairs with one head in common hardly share.

    Example:
        >>> ratios = crossed_ratios(64, 16, 20)
        >>> len(ratios), round(float(ratios.mean()), 2)
        (400, 0.12)
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    v, left = (rng.standard_normal((n, d_model, d_head)) for _ in range(2))
    o, right = (rng.standard_normal((n, d_head, d_model)) for _ in range(2))
    left -= left.mean(1, keepdims=True)
    before, after = v.swapaxes(-1, -2) @ v, right @ right.swapaxes(-1, -2)
    write, read = _squares(before, o @ o.swapaxes(-1, -2)), _squares(left.swapaxes(-1, -2) @ left, after)
    whole = [_whole_squares(before[i], o[i] @ left, after) for i in range(n)]  # row by row: n * n at once is large
    return _ratios(np.stack(whole), write[:, None] * read).ravel()


def strongest_of(null: Float64[np.ndarray, "draw"], n_pairs: int, *, share: float = 0.95) -> float:
    """The score that the largest of `n_pairs` independent random ratios stays below, with probability `share`.

    All of n stay below x with probability F(x)^n, so x is the quantile of `null` at share^(1 / n). That lies far
    outside the draws: the tail is that of the log-normal distribution with their mean and spread. Of 250,000
    ratios of width 48, 64 and 128 the quantile at 0.99982 was met to 0.6 %; of width 8, where a ratio comes near
    its bound of 1, it is 17 % too high: there fewer pairs stand out than should, and none where the tail would
    pass 1, as of width 4.

    Example:
        >>> draws = np.exp(np.random.default_rng(0).normal(-2.0, 0.05, 10_000))
        >>> round(strongest_of(draws, 1), 3), round(strongest_of(draws, 300), 3)
        (0.147, 0.162)
        >>> strongest_of(crossed_ratios(4, 2, 10), 81)
        1.0
    """
    logs = np.log(null)
    return min(float(np.exp(logs.mean() + logs.std() * NormalDist().inv_cdf(share ** (1 / n_pairs)))), 1.0)


def norm_ratios(
    v: Float[np.ndarray, "*#pair d_model d_head"],
    o: Float[np.ndarray, "*#pair d_head d_model"],
    left: Float[np.ndarray, "*#pair d_model d_head"],
    right: Float[np.ndarray, "*#pair d_head d_model"],
) -> Float64[np.ndarray, "*pair"]:
    """|v o left right| / (|v o| |left right|) in Frobenius norms, through d_head x d_head matrices only.

    |X Y|^2 is the sum over cells of (X'X) * (Y Y'), so the wide matrices are never multiplied out.
    """
    inside = o @ left  # pair d_head d_head
    before, after = v.swapaxes(-1, -2) @ v, right @ right.swapaxes(-1, -2)
    whole = _whole_squares(before, inside, after)
    write, read = _squares(before, o @ o.swapaxes(-1, -2)), _squares(left.swapaxes(-1, -2) @ left, after)
    return _ratios(whole, write * read)


def _ratios(
    whole: Float[np.ndarray, "*pair"], apart: Float[np.ndarray, "*pair"]
) -> Float64[np.ndarray, "*pair"]:
    """Roots of ratios of squares; NaN for a head that writes or reads nothing, as all do that read one number."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(np.maximum(whole, 0.0) / apart)


def _squares(
    left: Float[np.ndarray, "*#pair d_head d_head"], right: Float[np.ndarray, "*#pair d_head d_head"]
) -> Float[np.ndarray, "*pair"]:
    """|X Y|^2 from X'X and Y Y'."""
    return (left * right).sum((-1, -2))


def _whole_squares(
    before: Float[np.ndarray, "*#pair d_head d_head"],
    inside: Float[np.ndarray, "*#pair d_head d_head"],
    after: Float[np.ndarray, "*#pair d_head d_head"],
) -> Float[np.ndarray, "*pair"]:
    """|X M Y|^2 from X'X, M and Y Y'."""
    return ((before @ inside) * (inside @ after)).sum((-1, -2))


def _factors(model: GPT, layer: int) -> tuple[Float64[np.ndarray, "head _rows _columns"], ...]:
    """Q, K, V of every head as they read the stream `[head d_model d_head]`, and O `[head d_head d_model]`."""
    weights, _ = head_input_weights(model, layer)
    norm = model.transformer.h[layer].ln_1
    q, k, v = (np.stack([read_through(norm, head) for head in kind]) for kind in weights)
    return q, k, v, head_output_weights(model, layer)
