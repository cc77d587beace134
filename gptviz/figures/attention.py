"""All heads as thumbnails, one of them large."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from gptviz.figures.palette import Palette, ink_on, say
from gptviz.views import View
from gptviz.views.attention import head_pattern, head_tiles, largest_of

TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of sqrt(p): evenly spaced on the legend
LABELLED = 40  # tokens up to which every one is named on an axis
THUMBNAIL_CELLS = 64  # cells along a thumbnail; longer texts are pooled
LARGE_CELLS = 1024  # cells along the large head, which has 1,440 pixels there; longer texts are pooled, too
CELL_NUMBERS = 20  # tokens up to which the large head prints its values


def draw_attention(view: View, palette: Palette, layer: int | None, head: int | None, *_: object) -> Figure:
    """All heads as thumbnails, one of them large with its tokens."""
    tiles, n_tokens = head_tiles(view, THUMBNAIL_CELLS), len(view.labels["token"])
    n_layer, n_head = tiles.shape[:2]
    chosen = n_layer - 1 if layer is None else layer, 0 if head is None else head
    if not (0 <= chosen[0] < n_layer and 0 <= chosen[1] < n_head):
        raise ValueError(f"The view has layers 0 to {n_layer - 1} and heads 0 to {n_head - 1}; "
                         f"{'L{}H{}'.format(*chosen)} is none.")
    large = min(max(0.26 * n_tokens, 4.5), 9.0)  # inches
    thumbnail = min(1.05, 8.0 / max(n_layer, n_head))
    width, height = thumbnail * n_head + large + 2.6, max(large + 1.6, (thumbnail + 0.25) * n_layer + 0.8)
    drawn = Figure(figsize=(width, height))
    share = (thumbnail * n_head + 0.6) / width
    left, right = drawn.subfigures(1, 2, squeeze=False, width_ratios=(share, 1 - share))[0]
    used, top = min(1.0, (thumbnail + 0.25) * n_layer / (height - 0.8)), 1 - 0.6 / height
    room = dict(left=0.02, right=0.97, top=top, bottom=top * (1 - used) + 0.02, wspace=0.15, hspace=0.25)
    grid = left.subplots(n_layer, n_head, squeeze=False, gridspec_kw=room)
    _thumbnails(grid, tiles, chosen, palette)
    pooled = "  each pixel the largest of its cells"
    say(grid[0, 0], view.title + (pooled if tiles.shape[-1] < n_tokens else ""), palette, loc="left", pad=12)
    axes = right.subplots(gridspec_kw=dict(left=0.2, right=0.97, bottom=0.06))
    _large_head(axes, head_pattern(view, *chosen), view.labels["token"], palette)
    say(axes, "L{}H{}".format(*chosen) + (pooled if n_tokens > LARGE_CELLS else ""), palette, loc="left", pad=14)
    _attention_scale(right, axes, palette)
    for half in (left, right):
        half.set_facecolor(palette.paper)
    return drawn


def _attention_scale(part: Any, axes: Axes, palette: Palette) -> None:
    """The colour bar of attention, in even steps of the root."""
    bar = part.colorbar(axes.images[0], ax=axes, orientation="horizontal", fraction=0.03, pad=0.03, aspect=45)
    bar.set_ticks(list(TICKS), labels=[f"{tick**2:.2f}".strip("0").rstrip(".") or "0" for tick in TICKS])
    bar.set_label("attention p, colour by √p; hatched: masked, later tokens", color=palette.ink_2)
    bar.ax.tick_params(colors=palette.ink_2)
    bar.outline.set_visible(False)


def _thumbnails(grid: np.ndarray, pattern: np.ndarray, chosen: tuple[int, int], palette: Palette) -> None:
    for (layer, head), axes in np.ndenumerate(grid):
        _cells(axes, pattern[layer, head], palette)
        axes.set_xticks([])
        axes.set_yticks([])
        here = (layer, head) == chosen
        for spine in axes.spines.values():
            spine.set(color=palette.accent, linewidth=2, visible=here)
        axes.set_xlabel(
            f"L{layer}H{head}", fontsize=8, labelpad=2, color=palette.accent if here else palette.ink_2
        )


def _large_head(axes: Axes, pattern: np.ndarray, tokens: Sequence[str], palette: Palette) -> None:
    n_tokens = len(tokens)
    _cells(axes, largest_of(pattern, LARGE_CELLS), palette, n_tokens)
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
        _cell_numbers(axes, pattern, palette)


def _cells(axes: Axes, pattern: np.ndarray, palette: Palette, n_tokens: int | None = None) -> None:
    """The lower triangle by sqrt(p); masked cells hatched, values that are not finite crossed.

    The axes count tokens: `n_tokens`, where the pattern is pooled and has fewer cells.
    """
    side = len(pattern)
    edges = np.arange(side + 1) * (n_tokens or side) / side - 0.5
    lower = np.tri(side, dtype=bool)
    shown = np.ma.masked_where(~lower | ~np.isfinite(pattern), np.sqrt(np.clip(pattern, 0, None)))
    axes.imshow(shown, cmap=palette.colormap("sequential"), vmin=0, vmax=1, interpolation="nearest",
                extent=(edges[0], edges[-1], edges[-1], edges[0]))
    axes.set_facecolor(palette.paper)
    stairs = [(x, y) for i in range(side) for x, y in ((edges[i + 1], edges[i]), (edges[i + 1], edges[i + 1]))]
    future = Polygon([(-0.5, -0.5), *stairs, (edges[-1], -0.5)], closed=True, facecolor="none", edgecolor=palette.rule,
                     hatch="////", linewidth=0, alpha=0.5)  # fmt: skip
    axes.add_patch(future)
    for query, key in np.argwhere(lower & ~np.isfinite(pattern)):
        axes.plot(*(edges[[key, query]] + edges[[key + 1, query + 1]]) / 2, marker="x", color=palette.ink, markersize=4)


def _cell_numbers(axes: Axes, pattern: np.ndarray, palette: Palette) -> None:
    colormap = palette.colormap("sequential")
    for (query, key), value in np.ndenumerate(pattern):
        if key <= query and np.isfinite(value) and value >= 0.4:
            text = "1" if value > 0.995 else f"{value:.2f}".removeprefix("0")
            axes.text(
                key, query, text, ha="center", va="center", fontsize=7, color=ink_on(colormap(np.sqrt(value)))
            )
