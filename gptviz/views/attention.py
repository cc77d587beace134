"""All heads of a text: who attends to whom."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from gptviz.packing import pack_pattern, unpack_pattern
from gptviz.views.view import Check, View

EXACT = 300_000  # bytes up to which a pattern travels as the model's own floats
HALF_STEP = 0.5 / 255  # a stored byte is off by at most this in sqrt(p)


def attention_view(
    pattern: Shaped[np.ndarray, "layer head *cells"], tokens: Sequence[str], *, title: str = "Heads"
) -> View:
    """The attention pattern of all heads, with the real tokens on both axes.

    The lower triangle travels. Short texts as float32, so that the shown digits are the model's; long ones as bytes
    of 255*sqrt(p), and the browser says how far such a value may be off. A pattern with a NaN or infinity is always
    float32, so that each shows its own glyph.

    Args:
        pattern: [layer, head, query, key], probabilities; or what `pack_pattern` made of it,
            uint8 [layer, head, packed].
        tokens: The visible form of each token, one per position.
        title: The panel's title.

    Raises:
        ValueError: If the pattern does not fit the tokens, or attends to later keys, which would not travel.

    Example:
        >>> view = attention_view(np.tril(np.ones((1, 2, 2, 2))) / np.array([[1], [2]]), ["a", "b"])
        >>> view.arrays["pattern"].shape
        (1, 2, 3)
    """
    n = len(tokens)
    packed = pattern.dtype == np.uint8 and pattern.ndim == 3
    wanted = (n * (n + 1) // 2,) if packed else (n, n)
    if pattern.shape[2:] != wanted or pattern.ndim != 2 + len(wanted):
        raise ValueError(f"An attention pattern must be [layer, head, {n}, {n}] for {n} tokens (or packed: "
                         f"[layer, head, {n * (n + 1) // 2}] bytes); it is {list(pattern.shape)}. "
                         f"Pass the tokens of the same text.")
    if not packed:
        _refuse_future(pattern)
    checks = (_check_packed(pattern, n),) if packed else (_check_rows(pattern),)
    array = pattern if packed else _travelling(pattern)
    return View("attention", title, "hover looks, click locks", {"pattern": array},
                {"pattern": ("layer", "head", "packed")}, labels={"token": tuple(tokens)},
                units={"pattern": "probability"}, range={"pattern": (0.0, 1.0)}, checks=checks)


def _travelling(pattern: Float[np.ndarray, "layer head pos pos"]) -> Shaped[np.ndarray, "layer head cell"]:
    """[layer, head, packed], float32 where that is small or the values are not all finite, else bytes."""
    rows, columns = np.tril_indices(pattern.shape[-1])
    n_bytes = pattern.shape[0] * pattern.shape[1] * len(rows) * 4
    if n_bytes <= EXACT or not np.isfinite(pattern).all():
        return np.ascontiguousarray(pattern[..., rows, columns], dtype=np.float32)
    return pack_pattern(pattern)


def _refuse_future(pattern: Float[np.ndarray, "layer head query key"]) -> None:
    """Attention above the diagonal would be left out; a row that is NaN is NaN there, too, and may pass."""
    future = np.triu(np.ones(pattern.shape[-2:], bool), 1) & (pattern != 0) & np.isfinite(pattern)
    if future.any():
        layer, head, query, key = (int(i) for i in np.argwhere(future)[0])
        raise ValueError(f"A pattern must be 0 where the key comes after the query; L{layer}H{head} has "
                         f"{pattern[layer, head, query, key]:.3g} at query {query}, key {key}. "
                         f"Pass the pattern after the mask and the softmax.")


def _check_rows(pattern: Float[np.ndarray, "layer head query key"]) -> Check:
    """How far a row is from summing to 1, in float."""
    sums = pattern.astype(np.float64).sum(axis=-1)
    return Check("rows sum to 1", float(np.abs(sums - 1).max()), 1e-4)


def _check_packed(packed: UInt8[np.ndarray, "layer head cell"], n_tokens: int) -> Check:
    """The same from bytes: each row may miss 1 by what rounding sqrt(p) can do to its cells, and no more."""
    worst, bound = 0.0, 0.0
    for layer in packed:  # one layer at a time: the floats of 144 heads x 500 tokens are 300 MB
        root = np.sqrt(unpack_pattern(layer, n_tokens).astype(np.float64))
        allowed = (2 * root * HALF_STEP + HALF_STEP**2).sum(axis=-1) + 1e-4
        error = np.abs((root**2).sum(axis=-1) - 1)
        at = np.unravel_index(np.argmax(error - allowed), error.shape)  # the row nearest to breaking its bound
        if error[at] - allowed[at] > worst - bound or bound == 0:
            worst, bound = float(error[at]), float(allowed[at])
    return Check("rows sum to 1 within a byte's rounding", worst, bound)
