"""What a head would do with any token, read off its weights: QK decides where it looks, OV what it moves.

Source: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".

**LayerNorm.** A head reads (x - mean) / scale * gain + bias. Centring and gain are linear and are folded into
the weights here, exactly. The scale (the standard deviation of x) depends on the whole stream and is not
linear: it is left out, as if it were 1. So a cell of a table, divided by the recorded scales, is exactly what
that pair adds in a recorded pass: `score_decomposition` gives the same number. LayerNorm's bias and the
biases of q, k and v are left out; the decomposition has them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex128, Float, Float64
from torch import nn

from gptviz.analysis.components import as_numpy, centred, head_input_weights, head_output_weights
from gptviz.analysis.requirements import check_head
from gptviz.arguments import whole_number
from gptviz.model import GPT, LayerNorm
from gptviz.trace import unwrapped

LARGEST_TABLE = 2**26
"""Cells that `Factored.dense` makes at most: 512 MB."""

BASES = ("residual", "token", "position")


@dataclass(frozen=True)
class Factored:
    """A matrix `[row column]` of low rank, kept as a product of two thin ones: left @ right.

    Attributes:
        left: `[row rank]`.
        right: `[rank column]`.
        axes: What rows and columns are: "residual" (d_model), "token" (d_vocab) or "position" (block_size) of
            query and key, or of source and output.

    Example:
        >>> product = Factored(np.array([[1.0], [2.0]]), np.array([[3.0, 4.0]]), ("token", "token"))
        >>> product.dense(), round(product.norm() ** 2, 6)
        (array([[3., 4.],
               [6., 8.]]), 125.0)
    """

    left: Float64[np.ndarray, "row rank"]
    right: Float64[np.ndarray, "rank column"]
    axes: tuple[str, str]

    @property
    def shape(self) -> tuple[int, int]:
        """Of the whole matrix."""
        return len(self.left), self.right.shape[1]

    def dense(self) -> Float64[np.ndarray, "row column"]:
        """The whole matrix.

        Raises:
            ValueError: it would have more than `LARGEST_TABLE` cells.
        """
        rows, columns = self.shape
        if rows * columns > LARGEST_TABLE:
            raise ValueError(
                f"A whole table may have at most {LARGEST_TABLE} cells, but this one has {rows} x {columns} = "
                f"{rows * columns}. Use svd(), or the rows you need: left[rows] @ right."
            )
        return self.left @ self.right

    def svd(
        self,
    ) -> tuple[
        Float64[np.ndarray, "row rank"], Float64[np.ndarray, "rank"], Float64[np.ndarray, "rank column"]
    ]:
        """Singular vectors and values, largest first, U @ diag(S) @ Vh; the whole matrix is never made.

        All are NaN where a weight is not finite.
        """
        if not (np.isfinite(self.left).all() and np.isfinite(self.right).all()):
            n = min(*self.left.shape, *self.right.shape)
            return np.full((len(self.left), n), np.nan), np.full(n, np.nan), np.full((n, self.shape[1]), np.nan)
        left_basis, left_square = np.linalg.qr(self.left)
        right_basis, right_square = np.linalg.qr(self.right.T)
        u, s, vh = np.linalg.svd(left_square @ right_square.T)
        n = len(s)
        return left_basis @ u[:, :n], s, vh[:n] @ right_basis.T

    def eigenvalues(self) -> Complex128[np.ndarray, "rank"]:
        """The eigenvalues that can differ from 0, largest absolute value first; for a square matrix.

        left @ right and right @ left have the same ones.

        Raises:
            ValueError: the matrix is not square.
        """
        if self.shape[0] != self.shape[1]:
            raise ValueError(
                f"Only a square matrix has eigenvalues; this one is {self.shape[0]} x {self.shape[1]} "
                f"({' x '.join(self.axes)}). Use svd()."
            )
        square = self.right @ self.left
        if not np.isfinite(square).all():
            return np.full(len(square), np.nan, np.complex128)
        values = np.linalg.eigvals(square).astype(np.complex128)
        return values[np.argsort(-np.abs(values), kind="stable")]

    def norm(self) -> float:
        """Frobenius norm."""
        return float(math.sqrt(max(0.0, np.sum((self.left.T @ self.left) * (self.right @ self.right.T)))))


@torch.no_grad()
def qk_circuit(
    model: nn.Module, layer: int, head: int, *, query: str = "token", key: str = "token"
) -> Factored:
    """What a pair (query side, key side) adds to a head's score, per unit of both LayerNorm scales.

        row_q . C G W_Q W_K' G C . column_k / sqrt(d_head)        C centring, G the gain of ln_1

    With tokens on both sides it is the head's whole lookup table of tokens; with positions, of positions.

    Misleads in layers after the first, where a head reads what earlier layers wrote and not only the
    embedding: then "residual" is the honest basis. A constant added to a whole row changes no attention:
    compare within rows.

    Args:
        model: A `GPT`.
        layer: The head's layer.
        head: The head.
        query: What the rows are: "token", "position", or "residual" (a direction in the stream).
        key: The same for the columns.

    Raises:
        ValueError: there is no such layer, head or basis.

    Example:
        >>> from gptviz.model import GPTConfig
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=2, n_embd=8))
        >>> qk_circuit(model, 0, 1).dense().shape, qk_circuit(model, 0, 1, key="position").shape
        ((5, 5), (5, 8))
    """
    inner = unwrapped(model)
    layer, head = check_head(inner, layer, head)
    weights, _ = head_input_weights(inner, layer)
    norm = inner.transformer.h[layer].ln_1
    left = _rows(inner, query) @ read_through(norm, weights[0, head]) / math.sqrt(inner.config.d_head)
    right = _rows(inner, key) @ read_through(norm, weights[1, head])
    return Factored(left, right.T, (query, key))


@torch.no_grad()
def ov_circuit(
    model: nn.Module, layer: int, head: int, *, source: str = "token", output: str = "token"
) -> Factored:
    """What a head writes if it attends wholly to one place, per unit of the LayerNorm scales.

        row . C G W_V W_O                      output "residual": the write to the stream; scale of ln_1
        row . C G W_V W_O C F W_U              output "token": its direct part in the logits; ln_final too

    C is centring, G the gain of ln_1, F the gain of the last LayerNorm.

    Misleads in layers after the first as `qk_circuit` does, and because later layers read the write too.

    Args:
        model: A `GPT`.
        layer: The head's layer.
        head: The head.
        source: What the rows are: "token", "position" or "residual".
        output: What the columns are: "token" (logits) or "residual".

    Raises:
        ValueError: there is no such layer, head or basis.

    Example:
        >>> from gptviz.model import GPTConfig
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=2, n_embd=8))
        >>> ov_circuit(model, 0, 0).shape, len(ov_circuit(model, 0, 0).eigenvalues())
        ((5, 5), 4)
    """
    inner = unwrapped(model)
    layer, head = check_head(inner, layer, head)
    if output not in ("token", "residual"):
        raise ValueError(f'output must be "token" or "residual", not {output!r}.')
    weights, _ = head_input_weights(inner, layer)
    left = _rows(inner, source) @ read_through(inner.transformer.h[layer].ln_1, weights[2, head])
    right = head_output_weights(inner, layer)[head]
    if output == "token":
        right = right @ read_through(inner.transformer.ln_f, as_numpy(inner.lm_head.weight).T)
    return Factored(left, right, (source, output))


@dataclass(frozen=True)
class CopyingScores:
    """Whether a head raises the logits of the tokens it attends to: eigenvalues of token -> logit.

    Attributes:
        signed: sum(eigenvalues) / sum(|eigenvalues|), -1 to 1: near 1 copies, near -1 suppresses what it
            sees. The sum is real; its absolute value, which some call the copying score, cannot tell the two
            apart.
        positive_share: Part of sum(|eigenvalues|) that belongs to eigenvalues with positive real part, 0 to
            1.
        null: Mean of `signed` over heads with random weights of the same size between the same embeddings.
        null_low: 2.5 % of them are below.
        null_high: 2.5 % of them are above.
    """

    signed: Float64[np.ndarray, "layer head"]
    positive_share: Float64[np.ndarray, "layer head"]
    null: Float64[np.ndarray, "layer"]
    null_low: Float64[np.ndarray, "layer"]
    null_high: Float64[np.ndarray, "layer"]


@torch.no_grad()
def copying_scores(model: nn.Module, *, n_null: int = 100, seed: int = 0) -> CopyingScores:
    """The copying score of every head: are the eigenvalues of its OV circuit, token to logit, positive?

    Misleads as any reading of eigenvectors: positive eigenvalues are needed for copying on average, not
    enough for copying any one token. In later layers the head reads more than embeddings. How far a head of
    random weights strays from 0 depends on the embeddings, so the null uses the model's own.

    Args:
        model: A `GPT`.
        n_null: Random heads per layer.
        seed: Of the null.

    Raises:
        ValueError: `n_null` is less than 1.

    Example:
        >>> from gptviz.model import GPTConfig
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=2, n_embd=8))
        >>> copying_scores(model).signed.shape
        (1, 2)
    """
    n_null, seed = whole_number(n_null, "n_null", least=1), whole_number(seed, "seed")
    inner = unwrapped(model)
    config, rng = inner.config, np.random.Generator(np.random.PCG64(seed))
    signed, positive, nulls = [], [], []
    for layer, between in enumerate(_logits_to_input(inner)):
        weights, _ = head_input_weights(inner, layer)
        heads = head_output_weights(inner, layer) @ between @ weights[2]  # head d_head d_head
        eigenvalues = np.linalg.eigvals(heads)
        signed.append(_signed(eigenvalues))
        size = np.abs(eigenvalues)
        positive.append((size * (eigenvalues.real > 0)).sum(-1) / size.sum(-1))
        write = rng.standard_normal((n_null, config.d_head, config.n_embd))
        read = rng.standard_normal((n_null, config.n_embd, config.d_head))
        nulls.append(_signed(np.linalg.eigvals(write @ between @ read)))
    null = np.stack(nulls)
    low, high = np.quantile(null, (0.025, 0.975), axis=-1)
    return CopyingScores(np.stack(signed), np.stack(positive), null.mean(-1), low, high)


def read_through(
    norm: LayerNorm, weight: Float[np.ndarray, "d_model out"]
) -> Float64[np.ndarray, "d_model out"]:
    """A weight that reads a LayerNorm's output, as one that reads the stream: C G W, without scale and bias."""
    return centred((as_numpy(norm.weight)[:, None] * weight).T).T


def _rows(model: GPT, basis: str) -> Float64[np.ndarray, "row d_model"]:
    if basis not in BASES:
        raise ValueError(f"A side of a circuit must be one of {', '.join(map(repr, BASES))}, not {basis!r}.")
    if basis == "residual":
        return np.eye(model.config.n_embd)
    return as_numpy((model.transformer.wte if basis == "token" else model.transformer.wpe).weight)


def _logits_to_input(model: GPT) -> Iterator[Float64[np.ndarray, "d_model d_model"]]:
    """For each layer what lies between W_O and W_V around the circle logit -> same token -> head's input."""
    unembedding = read_through(model.transformer.ln_f, as_numpy(model.lm_head.weight).T)
    around = unembedding @ as_numpy(model.transformer.wte.weight)  # d_model d_model
    for block in model.transformer.h:
        yield around @ read_through(block.ln_1, np.eye(model.config.n_embd))


def _signed(eigenvalues: np.ndarray) -> Float64[np.ndarray, "head"]:
    return eigenvalues.sum(-1).real / np.abs(eigenvalues).sum(-1)
