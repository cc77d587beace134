"""Do two sets of activations say the same? Centred kernel alignment between layers, or steps of training.

Source: Kornblith et al. 2019, "Similarity of Neural Network Representations Revisited"; the unbiased form:
Song et al. 2012 (HSIC) and Nguyen et al. 2021.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Float64

from gptviz.analysis.components import as_numpy
from gptviz.analysis.requirements import require_recorded
from gptviz.arguments import must_be, several
from gptviz.naming import AXES, our_spelling
from gptviz.trace import Trace, check_trace


def cka(
    x: Float[np.ndarray, "example x_feature"],
    y: Float[np.ndarray, "example y_feature"],
    *,
    unbiased: bool = True,
) -> float:
    """Linear CKA of two representations of the same examples, which may have different widths.

    1 if one is a rotated, rescaled and shifted copy of the other. The unbiased form is about 0 for unrelated
    ones and can be slightly negative; the biased one is between 0 and 1 and grows with width / examples, up
    to 1 for noise.

    Misleads because a few directions of large variance decide it: two networks may differ in everything else
    and score near 1. It says nothing about whether the same function is computed.

    Args:
        x: One row per example; at least 4 examples (biased: 2).
        y: The same examples in the same order.
        unbiased: Leave out each example's similarity with itself. False gives the form of Kornblith et al.

    Returns:
        The similarity; NaN where one representation is the same for all examples.

    Raises:
        ValueError: too few examples, not the same number, or a value that is not finite.

    Example:
        >>> x = np.random.default_rng(0).standard_normal((50, 3))
        >>> round(cka(x, x @ np.array([[0.0, 2, 0], [2, 0, 0], [0, 0, -2]]) + 7), 6)
        1.0
    """
    least = 4 if unbiased else 2
    for values in (x, y):
        must_be(values, np.ndarray, "A representation", "Pass a numpy array [example feature].")
    if len(x) != len(y) or len(x) < least:
        raise ValueError(
            f"CKA needs the same examples twice, at least {least} of them; got {len(x)} and {len(y)}. "
            "Record more tokens, or align the two."
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("CKA needs finite values, but there is a NaN or infinity. Leave out such positions.")
    x, y = (values.astype(np.float64) - values.astype(np.float64).mean(0) for values in (x, y))
    alike = _unbiased_hsic if unbiased else _biased_hsic
    size = alike(x, x) * alike(y, y)
    return float(alike(x, y) / np.sqrt(size)) if size > 0 else float("nan")


def layer_similarity(
    a: Trace | Sequence[Trace], b: Trace | Sequence[Trace], name: str = "resid_post", *, unbiased: bool = True
) -> Float64[np.ndarray, "layer_a layer_b"]:
    """CKA of every layer of one model with every layer of another (or the same), on the same texts.

    `layer_similarity(run.record(text, step=100), run.record(text, step=900))` compares two steps. Each
    position of each text is an example. For what CKA misses see `cka`; position 0, which in many models has a
    huge residual stream, alone can decide it: compare with and without it (`record(positions=slice(1,
    None))`).

    Args:
        a: Trace of one text, or traces of several.
        b: Traces of the same texts through another model or step.
        name: Any name of every layer whose values are vectors, also as TransformerLens spells it; the heads of q,
            k, v and z count as one wide vector.
        unbiased: See `cka`.

    Raises:
        ValueError: the texts differ, the name has no width, or there are too few positions.

    Example:
        >>> from gptviz.model import GPT, GPTConfig
        >>> from gptviz.trace import record
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=2, n_head=2, n_embd=8))
        >>> trace = record(model, [0, 1, 2, 3, 4, 0])
        >>> layer_similarity(trace, trace).diagonal().round(6)
        array([1., 1.])
    """
    first, second = (_traces(traces) for traces in (a, b))
    places = [[(trace.ids.tolist(), trace.positions) for trace in traces] for traces in (first, second)]
    if places[0] != places[1]:
        raise ValueError(
            "Similarity needs both models to have read the same texts at the same positions, but they differ. "
            "Record the same texts, in the same order, with both."
        )
    ours, layer = our_spelling(name)
    if layer != "*" or AXES.get(ours, ("",))[0] != "layer" or AXES[ours][-1] in ("key", "pos"):
        raise ValueError(
            f"Similarity compares vectors of every layer, which {name!r} is not. "
            "Choose one such as resid_post, mlp_post, z or attn_out."
        )
    features = [_features(traces, ours) for traces in (first, second)]
    return np.array([[cka(x, y, unbiased=unbiased) for y in features[1]] for x in features[0]])


def _traces(traces: Any) -> list[Trace]:
    found = [traces] if isinstance(traces, Trace) else list(several(traces, "Traces to compare"))
    for trace in found:
        check_trace(trace)
    return found


def _features(traces: list[Trace], name: str) -> list[Float64[np.ndarray, "example _feature"]]:
    """For each recorded layer one row per position of all texts."""
    for trace in traces:
        require_recorded(trace, [f"{name}.{layer}" for layer in trace.layers], "layer_similarity")
    values = [as_numpy(trace[name]) for trace in traces]  # layer (head) pos width
    if "head" in AXES[name]:
        values = [np.moveaxis(value, 1, 2).reshape(len(value), value.shape[2], -1) for value in values]
    return list(np.concatenate(values, axis=1))


def _biased_hsic(x: Float64[np.ndarray, "example a"], y: Float64[np.ndarray, "example b"]) -> float:
    return float(((x.T @ y) ** 2).sum())


def _unbiased_hsic(x: Float64[np.ndarray, "example a"], y: Float64[np.ndarray, "example b"]) -> float:
    """HSIC_1 of Song et al. with linear kernels, from features only: no example x example matrix.

    With K = XX' and L = YY' without their diagonals it is
    (tr(KL) + (1'K1)(1'L1) / ((n-1)(n-2)) - 2 (1'KL1) / (n-2)) / (n (n-3)).
    """
    n = len(x)
    k_diagonal, l_diagonal = (x * x).sum(1), (y * y).sum(1)
    product = _biased_hsic(x, y) - k_diagonal @ l_diagonal
    k_sums, l_sums = x @ x.sum(0) - k_diagonal, y @ y.sum(0) - l_diagonal
    total = product + k_sums.sum() * l_sums.sum() / ((n - 1) * (n - 2)) - 2 * (k_sums @ l_sums) / (n - 2)
    return float(total / (n * (n - 3)))
