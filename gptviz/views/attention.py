"""All heads of a text: who attends to whom."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from gptviz.packing import (
    attends_ahead,
    pack_pattern,
    pack_values,
    restore_pattern,
    triangle_cells,
    unpack_pattern,
)
from gptviz.views.view import Check, View

EXACT = 300_000  # bytes up to which a pattern travels as the model's own floats
WHOLE = 1_000_000  # bytes up to which all heads travel at once; beyond, tiles first and a head when it is looked at
TILES = 1_000_000  # bytes that all tiles may have together
LARGEST_TILE = 64
CHUNK = 1_000_000  # bytes of the rows of a head that are sent at once
MARGIN = 64  # rows sent beyond those asked for, so that a window over the edge of a block is whole
AXES = {"pattern": ("layer", "head", "packed"), "sums": ("layer", "head", "pos"), "tiles": ("layer", "head", "y", "x"),
        "peaks": ("layer", "head", "pos"), "block": ("one",)}
ROW_AXES = {"cells": ("packed",), "sums": ("row",), "rows": ("end",)}
ONE = 1e-4  # the sum of a row that a softmax made is as near as this to 1
HALF_STEP = 0.5 / 255  # a stored byte is off by at most this in sqrt(p)


def attention_view(
    pattern: Shaped[np.ndarray, "layer head *cells"] | Sequence[np.ndarray], tokens: Sequence[str], *,
    title: str = "Heads", other: np.ndarray | Sequence[np.ndarray] | None = None,
    compared: tuple[str, str] = ("this", "the other"), other_tokens: Sequence[str] | None = None,
) -> View:
    """The attention pattern of all heads, with the real tokens on both axes.

    The lower triangle travels. Short texts as float32, so that the shown digits are the model's; longer ones as bytes
    of 255*sqrt(p). From those the browser restores rows with their sums, as `restore_pattern` does, and says how far
    a value may be off; the sums travel where they are not 1. A pattern with a NaN or infinity is float32, so that
    each shows its own glyph. Beyond `WHOLE` bytes only a tile of every head travels, each pixel the largest of its
    cells, and the largest weight of every row; a head itself is the view's detail, by layer, head and block of rows.
    Of two patterns the range of "change" is the largest change of any weight.

    Args:
        pattern: [layer, head, query, key], probabilities, or one such [head, query, key] per layer; or what
            `pack_pattern` made of it, uint8 [layer, head, packed].
        tokens: The visible form of each token, one per position.
        title: The panel's title.
        other: A second pattern of as many tokens, one [head, query, key] per layer: the board shows either, or the
            difference, other minus pattern.
        compared: What the two are: ("original", "edited").
        other_tokens: The tokens of the second pattern, where its text is another: the axes then name both.

    Raises:
        ValueError: If the pattern does not fit the tokens, or attends to later keys, which would not travel; or if
            the other pattern has another shape, or one of the two is packed.

    Example:
        >>> view = attention_view(np.tril(np.ones((1, 2, 2, 2))) / np.array([[1], [2]]), ["a", "b"])
        >>> view.arrays["pattern"].shape
        (1, 2, 3)
    """
    n, layers = len(tokens), list(pattern)
    packed = bool(layers) and layers[0].dtype == np.uint8 and layers[0].ndim == 2
    _check_shapes(layers, n, packed)
    cells = len(layers) * len(layers[0]) * triangle_cells(n)
    others = [] if other is None else list(other)
    if other is not None:
        _check_other(layers, others, n, packed)
    sums = None if packed else _row_sums(layers)
    shared: dict[str, Any] = dict(
        labels={"token": tuple(tokens)} | ({"compared": compared} if others else {})
        | _other_label(tokens, other_tokens),
        checks=(_check_packed(layers, n) if sums is None else _check_rows(sums),))
    most = {"change": _most_changed(layers, others)} if others else {}
    if cells * (2 if others else 1) > WHOLE:
        return _in_parts(layers, others, n, title, most, shared)
    arrays = _whole("", layers, sums, cells * 4 <= EXACT)
    if others:
        arrays |= _whole("other_", others, _row_sums(others), cells * 4 <= EXACT)
    return View("attention", title, "hover looks, click locks", arrays, _axes(arrays, AXES),
                units={"pattern": "probability"}, range={"pattern": (0.0, 1.0)} | most, **shared)


def _other_label(tokens: Sequence[str], others: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    """The tokens of a second text, where they differ."""
    if others is None or list(others) == list(tokens):
        return {}
    if len(others) != len(tokens):
        raise ValueError(f"Two texts are compared token by token, so both need as many; they have {len(tokens)} and "
                         f"{len(others)}. Pass texts of one length.")
    return {"other_token": tuple(others)}


def both_tokens(view: View) -> tuple[str, ...]:
    """What the axes of a difference say: the token, or a/b where two texts differ.

    Example:
        >>> view = attention_view(np.eye(2)[None, None], ["a", "b"], other=np.eye(2)[None, None], other_tokens="ac")
        >>> both_tokens(view)
        ('a', 'b/c')
    """
    tokens = view.labels["token"]
    pairs = zip(tokens, view.labels.get("other_token", tokens), strict=True)
    return tuple(one if one == other else f"{one}/{other}" for one, other in pairs)


def _axes(arrays: dict[str, np.ndarray], axes: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """The axes of arrays that may be those of the other pattern: other_cells has those of cells."""
    return {name: axes[name.split("_")[-1]] for name in arrays}


def _whole(
    prefix: str, layers: list[np.ndarray], sums: np.ndarray | None, short: bool
) -> dict[str, np.ndarray]:
    """All heads at once: what was packed as it is, else floats where they are few or not all finite, else bytes."""
    if sums is None:
        return {f"{prefix}pattern": np.stack(layers)}
    exact = short or not np.isfinite(sums).all()
    arrays = {f"{prefix}pattern": np.stack([_travelling(one, exact) for one in layers])}
    return arrays if exact else arrays | _unusual(f"{prefix}sums", sums)


def _row_sums(layers: list[np.ndarray]) -> Float[np.ndarray, "layer *row"]:
    """The sum of every row, not finite where a value of it is not; a product with ones is ten times as fast."""
    return np.stack([one @ np.ones(one.shape[-1], np.float32) for one in layers])


def _unusual(name: str, sums: np.ndarray) -> dict[str, np.ndarray]:
    """Sums that the reader of the bytes must be told: those of a softmax are 1."""
    return {name: sums.astype(np.float32)} if np.abs(sums - 1).max(initial=0.0) > ONE else {}


def _most_changed(layers: list[np.ndarray], others: list[np.ndarray]) -> tuple[float, float]:
    """The largest change of a weight, as the ends of a scale; 1 where nothing changes."""
    most = max(float(np.abs(_change(a, b)).max()) for a, b in zip(layers, others, strict=True)) or 1.0
    return -most, most


def _change(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """From a to b, and 0 where that is not a finite number, which is told apart where the head itself is shown."""
    return np.nan_to_num(b - a, nan=0.0, posinf=0.0, neginf=0.0)


def _check_other(layers: list[np.ndarray], others: list[np.ndarray], n: int, packed: bool) -> None:
    if packed or [one.shape for one in layers] != [one.shape for one in others]:
        raise ValueError(f"Two patterns are compared when both are [layer, head, {n}, {n}] probabilities; the other is "
                         f"{[len(others), *(others[0].shape if others else ())]}, the first "
                         f"{[len(layers), *layers[0].shape]}. Record both from texts of as many tokens.")
    for layer, one in enumerate(others):
        _refuse_future(one, layer)


def _check_shapes(layers: list[np.ndarray], n: int, packed: bool) -> None:
    wanted = (triangle_cells(n),) if packed else (n, n)
    for layer, one in enumerate(layers):
        if one.shape[1:] != wanted or one.ndim != 1 + len(wanted):
            raise ValueError(f"An attention pattern must be [layer, head, {n}, {n}] for {n} tokens (or packed: "
                             f"[layer, head, {triangle_cells(n)}] bytes); it is {[len(layers), *one.shape]}. "
                             f"Pass the tokens of the same text.")
        if not packed:
            _refuse_future(one, layer)


def _in_parts(
    layers: list[np.ndarray], others: list[np.ndarray], n: int, title: str, most: dict[str, tuple[float, float]],
    shared: dict[str, Any],
) -> View:
    """Tiles of all heads and the largest weight of every row; the rows of one head as the detail."""
    side = max(16, min(LARGEST_TILE, n, int((TILES / (len(layers) * len(layers[0]))) ** 0.5)))
    arrays: dict[str, np.ndarray] = {}
    for prefix, those in (("", layers), ("other_", others)):
        made = [_tile_and_peaks(one, n, side) for one in those]
        if made:
            arrays |= {f"{prefix}tiles": np.stack([tile for tile, _ in made]),
                       f"{prefix}peaks": np.stack([peak for _, peak in made])}
    if others:
        arrays["change_tiles"] = np.stack([_change_tile(_change(a, b) / most["change"][1], side)
                                           for a, b in zip(layers, others, strict=True)])
    exact = layers[0].dtype != np.uint8 and triangle_cells(n) * 4 <= CHUNK
    block = n if triangle_cells(n) <= CHUNK else max(1, CHUNK // n - MARGIN)
    arrays["block"] = np.array([block], np.int32)

    def rows(at: dict[str, int]) -> View:
        first, last = at["rows"], min(n, at["rows"] + block + (0 if block == n else MARGIN))
        here = {"rows": np.array([first, last], np.int32)}
        for prefix, those in (("", layers), ("other_", others)):
            if those:
                here |= _rows_of(prefix, those[at["layer"]][at["head"]], first, last, exact)
        return View("attention", title, "", here, _axes(here, ROW_AXES))

    places = (range(len(layers)), range(len(layers[0])), range(0, n, block))
    return View("attention", title, "hover looks, click locks", arrays, _axes(arrays, AXES),
                units={"tiles": "probability"}, range={"tiles": (0.0, 1.0)} | most, detail=rows,
                detail_axes=("layer", "head", "rows"), detail_places=places, **shared)


def _tile_and_peaks(one: np.ndarray, n: int, side: int) -> tuple[UInt8[np.ndarray, "head y x"],
                                                                  UInt8[np.ndarray, "head pos"]]:
    """The heads of a layer as `side` x `side` bytes, each the largest of its cells, and each row's largest."""
    pattern = unpack_pattern(one, n) if one.dtype == np.uint8 else one
    return pack_values(largest_of(pattern, side)), pack_values(pattern.max(axis=-1))


def _change_tile(change: Float[np.ndarray, "head query key"], side: int) -> UInt8[np.ndarray, "head y x"]:
    """Changes of -1 to 1 as `side` x `side` bytes, 128 + 127 sign(d) sqrt|d| of the cell that changed most."""
    most = farthest_of(change, side)
    return np.rint(128 + 127 * np.sign(most) * np.sqrt(np.minimum(1, np.abs(most)))).astype(np.uint8)


def farthest_of(change: Float[np.ndarray, "*head query key"], side: int) -> Float[np.ndarray, "*head y x"]:
    """Changes as at most `side` x `side` cells, each the one farthest from 0 of those that it covers.

    Example:
        >>> farthest_of(np.array([[0.1, -0.5], [0.2, 0.0]]), 1)
        array([[-0.5]])
    """
    up, down = largest_of(np.maximum(change, 0), side), largest_of(np.maximum(-change, 0), side)
    return np.where(up >= down, up, -down)


def largest_of(pattern: Shaped[np.ndarray, "*head query key"], side: int) -> Shaped[np.ndarray, "*head y x"]:
    """A pattern as at most `side` x `side` cells, each the largest of those that it covers.

    Example:
        >>> largest_of(np.arange(16.0).reshape(4, 4), 2)
        array([[ 5.,  7.],
               [13., 15.]])
    """
    n = pattern.shape[-1]
    if n <= side:
        return pattern
    starts = np.arange(side) * n // side
    lasts = np.append(starts[1:], n) - 1
    for axis in (-2, -1):
        largest = np.take(pattern, starts, axis)
        for further in range(1, int((lasts - starts).max()) + 1):  # maximum.reduceat takes five times as long
            np.maximum(largest, np.take(pattern, np.minimum(starts + further, lasts), axis), out=largest)
        pattern = largest
    return pattern


def _rows_of(prefix: str, head: np.ndarray, first: int, last: int, exact: bool) -> dict[str, np.ndarray]:
    """Rows `first` to `last` of a head's lower triangle: the model's floats where few or not finite, else bytes."""
    if head.ndim == 1:
        return {f"{prefix}cells": head[triangle_cells(first) : triangle_cells(last)]}
    rows = [head[query, : query + 1] for query in range(first, last)]
    cells = np.concatenate(rows).astype(np.float32)
    if exact or not np.isfinite(cells).all():
        return {f"{prefix}cells": cells}
    return {f"{prefix}cells": pack_values(cells)} | _unusual(f"{prefix}sums", _row_sums([head[first:last]])[0])


def head_pattern(view: View, layer: int, head: int, prefix: str = "") -> Float[np.ndarray, "query key"]:
    """The pattern of one head of an attention view, float32; zero above the diagonal.

    What travels as bytes is restored as the browser does it. `prefix` is "other_" for the second of two patterns.

    Example:
        >>> view = attention_view(np.tril(np.ones((1, 2, 2, 2))) / np.array([[1], [2]]), ["a", "b"])
        >>> head_pattern(view, 0, 1)
        array([[1. , 0. ],
               [0.5, 0.5]], dtype=float32)
    """
    n = len(view.labels["token"])
    if f"{prefix}pattern" in view.arrays:
        cells = view.arrays[f"{prefix}pattern"][layer, head]
        sums = view.arrays[f"{prefix}sums"][layer, head] if f"{prefix}sums" in view.arrays else None
    else:
        cells, sums = _joined(view, layer, head, n, prefix)
    if cells.dtype == np.uint8:
        return restore_pattern(cells, n, sums)
    pattern = np.zeros((n, n), np.float32)
    pattern[np.tril_indices(n)] = cells
    return pattern


def head_change(view: View, layer: int, head: int) -> Float[np.ndarray, "query key"]:
    """The other pattern of one head minus this one, of an attention view of two.

    Example:
        >>> one = np.tril(np.ones((1, 1, 2, 2))) / np.array([[1], [2]])
        >>> head_change(attention_view(one, ["a", "b"], other=np.eye(2)[None, None]), 0, 0)
        array([[ 0. ,  0. ],
               [-0.5,  0.5]], dtype=float32)
    """
    return head_pattern(view, layer, head, "other_") - head_pattern(view, layer, head)


def change_tiles(view: View, side: int) -> Float[np.ndarray, "layer head y x"]:
    """All heads of an attention view of two as at most `side` x `side` changes, each the one farthest from 0."""
    if "change_tiles" in view.arrays:
        root = (view.arrays["change_tiles"].astype(np.float32) - 128) / 127
        return farthest_of(view.range["change"][1] * np.sign(root) * root**2, side)
    n_layer, n_head = view.arrays["pattern"].shape[:2]
    return np.stack([[farthest_of(np.nan_to_num(head_change(view, layer, head)), side) for head in range(n_head)]
                     for layer in range(n_layer)])


def opens_on_difference(view: View) -> bool:
    """Whether a board shows the difference of the two patterns of an attention view at first."""
    return view.content.get("options", {}).get("head", {}).get("compare") == "difference"


def _joined(view: View, layer: int, head: int, n: int, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    """The cells of a head that comes in blocks of rows, and the sums of its rows."""
    cells, sums, firsts = [], np.ones(n, np.float32), list(view.detail_places[2])
    for first, end in zip(firsts, [*firsts[1:], n], strict=True):  # without what a block holds of the next
        block = view.detail_of(layer=layer, head=head, rows=first).arrays
        cells.append(block[f"{prefix}cells"][: triangle_cells(end) - triangle_cells(first)])
        if f"{prefix}sums" in block:
            sums[first:end] = block[f"{prefix}sums"][: end - first]
    return np.concatenate(cells), sums


def strongest_key(view: View, layer: int, head: int, query: int) -> int:
    """The key that a query of a head attends to most, the first of equals; a NaN is none. The browser chooses so, too.

    Example:
        >>> view = attention_view(np.tril(np.ones((1, 2, 2, 2))) / np.array([[1], [2]]), ["a", "b"])
        >>> strongest_key(view, 0, 1, 1)
        0
    """
    if "pattern" in view.arrays:
        cells, first = view.arrays["pattern"][layer, head], 0
    else:
        first = max(place for place in view.detail_places[2] if place <= query)
        cells = view.detail_of(layer=layer, head=head, rows=first).arrays["cells"]
    start = triangle_cells(query) - triangle_cells(first)
    row = cells[start : start + query + 1].astype(np.float32)
    return int(np.argmax(np.where(np.isnan(row), -np.inf, row)))


def head_tiles(view: View, side: int) -> Shaped[np.ndarray, "layer head y x"]:
    """All heads of an attention view as at most `side` x `side` probabilities, each the largest of its cells."""
    if "tiles" in view.arrays:
        return largest_of((view.arrays["tiles"] / np.float32(255)) ** 2, side)
    return largest_of(full_pattern(view), side)


def full_pattern(view: View) -> Float[np.ndarray, "layer head query key"]:
    """The pattern of all heads of an attention view, float32; zero above the diagonal."""
    n_layer, n_head = view.arrays["pattern" if "pattern" in view.arrays else "tiles"].shape[:2]
    return np.stack([[head_pattern(view, layer, head) for head in range(n_head)] for layer in range(n_layer)])


def _travelling(pattern: Float[np.ndarray, "head pos pos"], exact: bool) -> Shaped[np.ndarray, "head cell"]:
    """[head, packed], as float32 or as bytes."""
    if exact:
        rows, columns = np.tril_indices(pattern.shape[-1])
        return np.ascontiguousarray(pattern[..., rows, columns], dtype=np.float32)
    return pack_pattern(pattern)


def _refuse_future(pattern: Float[np.ndarray, "head query key"], layer: int) -> None:
    """Attention above the diagonal would be left out; a row that is NaN is NaN there, too, and may pass."""
    if not attends_ahead(pattern):
        return
    future = np.triu(np.ones(pattern.shape[-2:], bool), 1) & (pattern != 0) & np.isfinite(pattern)
    if future.any():
        head, query, key = (int(i) for i in np.argwhere(future)[0])
        raise ValueError(f"A pattern must be 0 where the key comes after the query; L{layer}H{head} has "
                         f"{pattern[head, query, key]:.3g} at query {query}, key {key}. "
                         f"Pass the pattern after the mask and the softmax.")


def _check_rows(sums: Float[np.ndarray, "layer head pos"]) -> Check:
    """How far a row is from summing to 1, in float."""
    return Check("rows sum to 1", float(np.abs(sums - 1).max()), ONE)


def _check_packed(packed: list[np.ndarray], n_tokens: int) -> Check:
    """The same from bytes: each row may miss 1 by what rounding sqrt(p) can do to its cells, and no more."""
    worst, bound = 0.0, 0.0
    for layer in packed:  # one layer at a time: the floats of 144 heads x 500 tokens are 300 MB
        root = np.sqrt(unpack_pattern(layer, n_tokens).astype(np.float64))
        allowed = (2 * root * HALF_STEP + HALF_STEP**2).sum(axis=-1) + 1e-4
        error = np.abs((root**2).sum(axis=-1) - 1)
        at = np.unravel_index(np.argmax(error - allowed), error.shape)  # the row nearest to breaking its bound
        if error[at] - allowed[at] > worst - bound or bound == 0:
            worst, bound = float(error[at]), float(allowed[at])
    return Check("rows sum to 1, with √p rounded to 1/255", worst, bound)
