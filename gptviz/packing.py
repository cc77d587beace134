"""Attention patterns as bytes: the lower triangle, one byte per cell.

A pattern cell is a probability ``p``; it travels as ``b = round(255 * sqrt(p))`` and comes back as ``(b / 255) ** 2``.
The square root spends the bytes where attention lives: near zero a step is 1.5e-5, near one 7.8e-3. Cells above the
diagonal are zero in every causal pattern and are left out. Views, run directories and the front end all read this form.
"""

import numpy as np
from jaxtyping import Float, Float32, Shaped, UInt8

# |p - unpack(pack(p))| never exceeds this, plus float32 rounding: the root is off by at most 1/510, so p by at
# most 2/510 - 1/510**2 (at p = (1 - 1/510)**2). A p that becomes byte 0 is at most 1/510**2 = 3.8e-6.
WORST_ERROR = 2 / 510 - 1 / 510**2

_VALUES = (np.arange(256) / 255.0) ** 2
# What a byte may stand for: at most so much more, at most so much less than its value.
_MORE = np.append(((np.arange(255) + 0.5) / 255.0) ** 2, 1.0) - _VALUES
_LESS = _VALUES - np.append(0.0, ((np.arange(1, 256) - 0.5) / 255.0) ** 2)
# A softmax may overshoot 1 by rounding (half precision most); this is as much as one byte step lets through unseen.
_OVERSHOOT = 1e-3
_BLOCK = 32  # rows looked at together


def pack_pattern(pattern: Float[np.ndarray, "*batch query key"]) -> UInt8[np.ndarray, "*batch cell"]:
    """Pack causal attention patterns into bytes, row by row of the lower triangle.

    Args:
        pattern: probabilities in 0..1, zero above the diagonal (key > query).

    Returns:
        ``query * (query + 1) // 2 + key`` is the cell of (query, key); ``n * (n + 1) // 2`` cells for n tokens.

    Raises:
        ValueError: if the pattern is not square, or holds a value that a byte would hide: NaN, infinite, outside 0..1,
            or above the diagonal.

    Example:
        >>> pack_pattern(np.array([[1.0, 0.0], [0.25, 0.75]]))
        array([255, 128, 221], dtype=uint8)
    """
    *batch, n_query, n_key = pattern.shape
    if n_query != n_key or n_query == 0:
        raise ValueError(
            f"A pattern must be square (as many keys as queries, at least one); got {n_query} queries x {n_key} keys."
            " Pass whole patterns; cut the token window after unpacking."
        )
    roots = np.empty((*batch, triangle_cells(n_query)), dtype=np.float32)
    with np.errstate(invalid="ignore"):  # the root of a negative is NaN, reported below
        for query in range(n_query):
            start = triangle_cells(query)
            row = roots[..., start : start + query + 1]
            np.sqrt(pattern[..., query, : query + 1], out=row, dtype=np.float32, casting="same_kind")
    _check_probabilities(pattern, roots)
    roots *= 255.0
    roots += 0.5  # astype cuts, so this rounds
    np.minimum(roots, 255.0, out=roots)
    return roots.astype(np.uint8)


def pack_values(p: Shaped[np.ndarray, "*cells"]) -> UInt8[np.ndarray, "*cells"]:
    """Single probabilities as bytes, unchecked: what is outside 0 to 1 becomes the nearer end, and NaN becomes 1.

    So what is not a finite number is seen in a tile, and told apart where the head itself is shown.

    Example:
        >>> pack_values(np.array([0.0, 0.25, 1.5, np.nan]))
        array([  0, 128, 255, 255], dtype=uint8)
    """
    return np.rint(255 * np.sqrt(np.fmax(np.fmin(p, 1), 0))).astype(np.uint8)  # fmin(NaN, 1) is 1


def unpack_pattern(packed: UInt8[np.ndarray, "*batch cell"], n_tokens: int) -> Float32[np.ndarray, "*batch query key"]:
    """Unpack what `pack_pattern` packed, each value by its byte alone; see `restore_pattern` for rows that sum to 1.

    Args:
        packed: ``n_tokens * (n_tokens + 1) // 2`` bytes per pattern.
        n_tokens: the pattern's side.

    Raises:
        ValueError: if the number of bytes does not belong to `n_tokens`.

    Example:
        >>> unpack_pattern(np.array([255, 128, 221], dtype=np.uint8), 2).round(2)
        array([[1.  , 0.  ],
               [0.25, 0.75]], dtype=float32)
    """
    if n_tokens < 1 or packed.shape[-1] != triangle_cells(n_tokens):
        raise ValueError(
            f"{n_tokens} tokens have {triangle_cells(max(n_tokens, 0))} cells on and below the diagonal; got"
            f" {packed.shape[-1]} bytes. Pass the number of tokens the pattern was packed with."
        )
    pattern = np.zeros((*packed.shape[:-1], n_tokens, n_tokens), dtype=np.float32)
    values = _VALUES.astype(np.float32)
    for query in range(n_tokens):
        start = triangle_cells(query)
        pattern[..., query, : query + 1] = values[packed[..., start : start + query + 1]]
    return pattern


def restore_pattern(
    packed: UInt8[np.ndarray, "*batch cell"], n_tokens: int, sums: Float[np.ndarray, "*batch query"] | None = None
) -> Float32[np.ndarray, "*batch query key"]:
    """Unpack what `pack_pattern` packed, and give each row its sum again.

    A row of thousands of small weights is rounded the same way again and again: 5,000 equal ones come back as 1.23
    together. What is too much is taken from the cells, from each the same share of what its byte leaves open. So every
    value stays one that packs to the same byte. The browser does the same (`js/pattern.ts`).

    Args:
        packed: ``n_tokens * (n_tokens + 1) // 2`` bytes per pattern.
        n_tokens: the pattern's side.
        sums: of each row before it was packed; 1 by default. A sum out of reach of the bytes is met as nearly as they
            allow.

    Raises:
        ValueError: if the number of bytes does not belong to `n_tokens`.

    Example:
        >>> packed = pack_pattern(np.tril(np.ones((500, 500))) / np.arange(1, 501)[:, None])
        >>> unpack_pattern(packed, 500)[-1].sum().round(3), restore_pattern(packed, 500)[-1].sum().round(3)
        (np.float32(0.93), np.float32(1.0))
    """
    pattern = unpack_pattern(packed, n_tokens)
    more, less = _MORE.astype(np.float32), _LESS.astype(np.float32)
    for query in range(n_tokens):
        start = triangle_cells(query)
        row, cells = pattern[..., query, : query + 1], packed[..., start : start + query + 1]
        wanted = 1.0 if sums is None else sums[..., query, None]
        missing = wanted - row.sum(axis=-1, keepdims=True, dtype=np.float64)
        room = np.where(missing > 0, more[cells], less[cells])
        share = missing / np.maximum(room.sum(axis=-1, keepdims=True, dtype=np.float64), 1e-12)
        row += np.clip(share, -1.0, 1.0) * room
    return pattern


def unpack_value(byte: int) -> float:
    """The probability that one packed byte stands for: ``(byte / 255) ** 2``, at most `WORST_ERROR` from the true one.

    Raises:
        ValueError: if `byte` is not in 0..255.

    Example:
        >>> unpack_value(255), round(unpack_value(128), 3)
        (1.0, 0.252)
    """
    if not 0 <= byte <= 255:
        raise ValueError(f"A packed cell must be one byte, 0 to 255; got {byte}. Pass an element of a packed pattern.")
    return float(_VALUES[byte])


def triangle_cells(n_tokens: int) -> int:
    """Cells on and below the diagonal of `n_tokens` x `n_tokens`; also where the row of query `n_tokens` starts.

    Example:
        >>> triangle_cells(64)
        2080
    """
    return n_tokens * (n_tokens + 1) // 2


def attends_ahead(pattern: Float[np.ndarray, "*batch query key"]) -> bool:
    """Whether any cell above the diagonal is not zero.

    In blocks of rows: what lies right of a block is read in place, and only the block's own triangle is copied.

    Example:
        >>> attends_ahead(np.eye(3)), attends_ahead(np.ones((3, 3)))
        (False, True)
    """
    n, above = pattern.shape[-1], np.triu(np.ones((_BLOCK, _BLOCK), bool), 1)
    for first in range(0, n, _BLOCK):
        last = min(n, first + _BLOCK)
        ahead = above[: last - first, : last - first]
        if pattern[..., first:last, last:].any() or pattern[..., first:last, first:last][..., ahead].any():
            return True
    return False


def _check_probabilities(pattern: np.ndarray, roots: np.ndarray) -> None:
    """Refuse what a byte would hide. NaN survives max(), so one comparison finds NaN, infinities and overshoot."""
    if roots.size and not roots.max() <= 1 + _OVERSHOOT:
        raise ValueError(
            "A pattern must hold finite probabilities from 0 to 1 (its bytes could not show anything else); got"
            f" {_first_bad(pattern)}. Show such values as `scores`, or as float32."
        )
    if attends_ahead(pattern):
        raise ValueError(
            "A pattern must be causal, zero where key > query (only the lower triangle is kept); got"
            f" {_first_bad(np.triu(pattern, 1), allowed=0.0)}. Pass the pattern after the mask and the softmax."
        )


def _first_bad(pattern: np.ndarray, allowed: float = 1.0) -> str:
    """Name the first cell outside 0..allowed."""
    bad = ~((pattern >= 0) & (pattern <= (allowed and (1 + _OVERSHOOT) ** 2)))
    cell = tuple(int(i) for i in np.argwhere(bad)[0])
    return f"{pattern[cell]} at index {cell}"
