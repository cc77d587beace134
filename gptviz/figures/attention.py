"""All heads as thumbnails, one of them large."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.patches import Polygon, Rectangle

from gptviz.figures.palette import Palette, ink_on, say
from gptviz.figures.sheet import Look, Sheet
from gptviz.views import View
from gptviz.views.attention import (
    both_tokens,
    change_tiles,
    farthest_of,
    head_change,
    head_pattern,
    head_tiles,
    largest_of,
    opens_on_difference,
)
from gptviz.views.numbers import precise

TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of sqrt(p): evenly spaced on the legend
CHANGE_TICKS = (-1.0, -0.5, 0.0, 0.5, 1.0)  # of the signed root of a change's share of the largest
LABELLED = 40  # tokens up to which every one is named on an axis
THUMBNAIL_CELLS = 64  # cells along a thumbnail; longer texts are pooled
LARGE_CELLS = 1024  # cells along the large head, which has 1,440 pixels there; longer texts are pooled, too
CELL_NUMBERS = 20  # tokens up to which the large head prints its values


@dataclass(frozen=True)
class Weights:
    """What the cells of a picture of heads are: probabilities, or changes, whose colours end at `most`.

    Args:
        of: Whose they are, in words; empty where there is one pass.
        changes: Whether 0 is in the middle of the scale.
        most: The size at the end of the scale.
    """

    of: str
    changes: bool
    most: float

    @property
    def scale(self) -> str:
        return "diverging" if self.changes else "sequential"

    def colour(self, values: np.ndarray) -> np.ndarray:
        """Where values stand on the scale, from 0 (or -1) to 1."""
        return np.sign(values) * np.sqrt(np.abs(values) / self.most)

    def pooled(self, values: np.ndarray, side: int) -> np.ndarray:
        return farthest_of(values, side) if self.changes else largest_of(values, side)


def weights_of(view: View) -> Weights:
    """What a board of this view shows at first."""
    names = view.labels.get("compared")
    if names and opens_on_difference(view):
        return Weights(f"{names[1]} − {names[0]}", True, view.range["change"][1])
    return Weights(f"of {names[0]}" if names else "", False, 1.0)


def draw_attention(sheet: Sheet, view: View, palette: Palette, look: Look) -> FigureBase:
    """All heads as thumbnails, one of them large with its tokens; a query and key are marked where they are given."""
    weights = weights_of(view)
    tokens = both_tokens(view) if weights.changes else view.labels["token"]
    tiles, n_tokens = (change_tiles if weights.changes else head_tiles)(view, THUMBNAIL_CELLS), len(tokens)
    n_layer, n_head = tiles.shape[:2]
    chosen = look.layer or 0, look.head or 0
    if not (0 <= chosen[0] < n_layer and 0 <= chosen[1] < n_head):
        raise ValueError(f"The view has layers 0 to {n_layer - 1} and heads 0 to {n_head - 1}; "
                         f"{'L{}H{}'.format(*chosen)} is none.")
    large = min(max(0.26 * n_tokens, 4.5), 9.0)  # inches
    thumbnail = min(1.05, 8.0 / max(n_layer, n_head))
    width, height = thumbnail * n_head + large + 2.6, max(large + 1.6, (thumbnail + 0.25) * n_layer + 0.8)
    drawn = sheet(width, height)
    share = (thumbnail * n_head + 0.6) / width
    left, right = drawn.subfigures(1, 2, squeeze=False, width_ratios=(share, 1 - share))[0]
    used, top = min(1.0, (thumbnail + 0.25) * n_layer / (height - 0.8)), 1 - 0.6 / height
    room = dict(left=0.02, right=0.97, top=top, bottom=top * (1 - used) + 0.02, wspace=0.15, hspace=0.25)
    grid = left.subplots(n_layer, n_head, squeeze=False, gridspec_kw=room)
    _thumbnails(grid, tiles, weights, chosen, palette)
    pooled = "  each pixel the largest of its cells"
    say(grid[0, 0], view.title + (pooled if tiles.shape[-1] < n_tokens else ""), palette, loc="left", pad=12)
    axes = right.subplots(gridspec_kw=dict(left=0.2, right=0.97, bottom=0.06))
    pattern = (head_change if weights.changes else head_pattern)(view, *chosen)
    _large_head(axes, pattern, weights, tokens, palette)
    _mark(axes, look, n_tokens, palette)
    same = "  no weight of any head differs" if view.content.get("unchanged") else ""
    title = "L{}H{} ".format(*chosen) + weights.of + (pooled if n_tokens > LARGE_CELLS else same)
    say(axes, title.strip(), palette, loc="left", pad=14)
    _attention_scale(right, axes, weights, palette)
    for half in (left, right):
        half.set_facecolor("none")
    return drawn


def _mark(axes: Axes, look: Look, n_tokens: int, palette: Palette) -> None:
    """The chosen row, and the chosen cell within it, as the board marks them; of a long text both are thin."""
    query, key = look.query, look.key
    if query is None:
        return
    thin = 0.5 if n_tokens > LABELLED else 1.0
    outlines = [(-0.5, query + 1, palette.accent, 1.5)]
    if key is not None and key <= query:
        outlines += [(key - 0.5, 1, palette.paper, 4.5), (key - 0.5, 1, palette.accent, 2.5)]
    for left, width, colour, line in outlines:
        axes.add_patch(Rectangle((left, query - 0.5), width, 1, fill=False, edgecolor=colour, linewidth=line * thin))
    for at, labels, places, colour in ((query, axes.get_yticklabels(), axes.get_yticks(), palette.accent),
                                       (key, axes.get_xticklabels(), axes.get_xticks(), palette.ink)):
        for label, place in zip(labels, places, strict=True):
            if place == at:
                label.set(color=colour, fontweight="bold")


def _attention_scale(part: Any, axes: Axes, weights: Weights, palette: Palette) -> None:
    """The colour bar of attention or of its change, in even steps of the root."""
    bar = part.colorbar(axes.images[0], ax=axes, orientation="horizontal", fraction=0.03, pad=0.03, aspect=45)
    if weights.changes:
        values = [tick * abs(tick) * weights.most for tick in CHANGE_TICKS]
        bar.set_ticks(list(CHANGE_TICKS), labels=[_signed(value, precise(abs(value)))
                                                  for value in values])
        words = "change Δ of attention, colour by √|Δ|, to the largest of all heads; hatched: masked"
    else:
        bar.set_ticks(list(TICKS), labels=[f"{tick**2:.2f}".strip("0").rstrip(".") or "0" for tick in TICKS])
        words = "attention p, colour by √p; hatched: masked, later tokens"
    bar.set_label(words, color=palette.ink_2)
    bar.ax.tick_params(colors=palette.ink_2)
    bar.outline.set_visible(False)


def _signed(value: float, size: str) -> str:
    return f"{'−' if value < 0 else '+' if value > 0 else ''}{size}"


def _thumbnails(
    grid: np.ndarray, pattern: np.ndarray, weights: Weights, chosen: tuple[int, int], palette: Palette
) -> None:
    for (layer, head), axes in np.ndenumerate(grid):
        _cells(axes, pattern[layer, head], weights, palette)
        axes.set_xticks([])
        axes.set_yticks([])
        here = (layer, head) == chosen
        for spine in axes.spines.values():
            spine.set(color=palette.accent, linewidth=2, visible=here)
        axes.set_xlabel(
            f"L{layer}H{head}", fontsize=8, labelpad=2, color=palette.accent if here else palette.ink_2
        )


def _large_head(axes: Axes, pattern: np.ndarray, weights: Weights, tokens: Sequence[str], palette: Palette) -> None:
    n_tokens = len(tokens)
    _cells(axes, weights.pooled(pattern, LARGE_CELLS), weights, palette, n_tokens)
    every = range(0, n_tokens, -(-n_tokens // LABELLED))
    size = max(6.0, min(10.0, 260 / min(n_tokens, LABELLED)))
    axes.set_yticks(list(every), [f"{tokens[at]} {at}" for at in every], fontsize=size, family="monospace")
    axes.xaxis.tick_top()
    axes.set_xticks(list(every), [tokens[at] for at in every], fontsize=size, rotation=60, ha="left",
                    rotation_mode="anchor", family="monospace")  # fmt: skip
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set(color=palette.ink, parse_math=False)
    axes.tick_params(length=0, pad=2)
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("key (attended to) →", loc="left", color=palette.ink_2)
    axes.annotate("query (attends) ↓", (0, 1), xytext=(-4, 4), xycoords="axes fraction", textcoords="offset points",
                  ha="right", color=palette.ink_2)  # fmt: skip
    for spine in axes.spines.values():
        spine.set_visible(False)
    if n_tokens <= CELL_NUMBERS:
        _cell_numbers(axes, pattern, weights, palette)


def _cells(
    axes: Axes, pattern: np.ndarray, weights: Weights, palette: Palette, n_tokens: int | None = None
) -> None:
    """The lower triangle by the root of its weights; masked cells hatched, values that are not finite crossed.

    The axes count tokens: `n_tokens`, where the pattern is pooled and has fewer cells.
    """
    side = len(pattern)
    edges = np.arange(side + 1) * (n_tokens or side) / side - 0.5
    lower = np.tri(side, dtype=bool)
    known = lower & np.isfinite(pattern)
    shown = np.ma.masked_where(~known, weights.colour(np.where(known, pattern, 0)))
    axes.imshow(shown, cmap=palette.colormap(weights.scale), vmin=-1 if weights.changes else 0, vmax=1,
                interpolation="nearest", extent=(edges[0], edges[-1], edges[-1], edges[0]))
    axes.set_facecolor(palette.paper)
    stairs = [(x, y) for i in range(side) for x, y in ((edges[i + 1], edges[i]), (edges[i + 1], edges[i + 1]))]
    future = Polygon([(-0.5, -0.5), *stairs, (edges[-1], -0.5)], closed=True, facecolor="none", edgecolor=palette.rule,
                     hatch="////", linewidth=0, alpha=0.5)  # fmt: skip
    axes.add_patch(future)
    for query, key in np.argwhere(lower & ~np.isfinite(pattern)):
        axes.plot(*(edges[[key, query]] + edges[[key + 1, query + 1]]) / 2, marker="x", color=palette.ink, markersize=4)


def _cell_numbers(axes: Axes, pattern: np.ndarray, weights: Weights, palette: Palette) -> None:
    """The numbers of the cells that stand out."""
    colormap, least = palette.colormap(weights.scale), max(0.005, 0.2 * weights.most) if weights.changes else 0.4
    places = weights.colour(np.nan_to_num(pattern))
    for (query, key), value in np.ndenumerate(pattern):
        if key <= query and np.isfinite(value) and abs(value) >= least:
            size = "1" if abs(value) > 0.995 else f"{abs(value):.2f}".removeprefix("0")
            place = float(places[query, key])
            axes.text(key, query, _signed(float(value), size) if weights.changes else size, ha="center", va="center",
                      fontsize=7, color=ink_on(colormap(0.5 + place / 2 if weights.changes else place)))
