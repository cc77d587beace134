"""A query, the keys that it sees and their products; and a score as a table that adds up."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from gptviz.figures.palette import Palette, ink_on, say
from gptviz.figures.sheet import Look, Sheet
from gptviz.views import View
from gptviz.views.numbers import in_table, precise
from gptviz.views.querykey import scores_of

MOST_KEYS = 32  # keys that have a row: the strongest of them
MOST_COMPONENTS = 12  # rows and columns of a table; the others are added up in one
NUMBERS = 14  # rows and columns up to which a table prints its numbers


def draw_querykey(sheet: Sheet, view: View, palette: Palette, look: Look) -> FigureBase:
    """The query, the keys and their products as strips on a scale around zero; the scores and the pattern beside."""
    if "note" in view.labels:
        raise ValueError(view.labels["note"][0])
    layer, head = look.layer or 0, look.head or 0
    detail = view.detail_of(layer=layer, head=head)
    q, k = detail.arrays["q"], detail.arrays["k"]
    query = len(q) - 1 if look.query is None else look.query
    scores, pattern = (one[query, : query + 1] for one in scores_of(q, k))
    keys = np.sort(np.argsort(-pattern, kind="stable")[:MOST_KEYS])
    drawn = sheet(11.0, 0.24 * len(keys) + 2.6)
    grid = drawn.subplots(2, 3, gridspec_kw=dict(height_ratios=(1, len(keys) + 2), width_ratios=(3, 3, 1), wspace=0.2,
                                                 hspace=0.5))
    for axes in (grid[0, 1], grid[0, 2]):
        axes.axis("off")
    _strips(drawn, grid[0, 0], q[query : query + 1], [f"Q {query}"], palette)
    _strips(drawn, grid[1, 0], k[keys], [f"K {key}" for key in keys], palette)
    _strips(drawn, grid[1, 1], k[keys] * q[query], [""] * len(keys), palette)
    say(grid[0, 0], f"L{layer}H{head}, query {query}", palette, loc="left")
    words = "keys" if len(keys) > query else f"the {len(keys)} keys with the most attention"
    say(grid[1, 0], words, palette, loc="left")
    say(grid[1, 1], "query × key", palette, loc="left")
    bars = grid[1, 2]
    bars.barh(np.arange(len(keys)), pattern[keys], color=palette.sequential[5], height=0.7)
    bars.set_yticks(np.arange(len(keys)), [f"{scores[key]:.2f}" for key in keys], fontsize=8)
    bars.set(xlim=(0, 1), ylim=(len(keys) - 0.5, -0.5), facecolor=palette.paper)
    bars.tick_params(colors=palette.ink_2, length=0)
    bars.spines[:].set_visible(False)
    bars.set_xlabel("softmax", color=palette.ink_2)
    say(bars, "score", palette, loc="left")
    return drawn


def _strips(drawn: Any, axes: Axes, values: np.ndarray, names: list[str], palette: Palette) -> None:
    """Rows of dimensions on the scale around zero, whose ends are printed."""
    largest = float(np.nanmax(np.abs(values))) or 1.0
    image = axes.imshow(values, cmap=palette.colormap("diverging"), vmin=-largest, vmax=largest, aspect="auto",
                        interpolation="nearest")
    axes.set_yticks(np.arange(len(names)), names, fontsize=8)
    axes.set_xticks([])
    axes.tick_params(colors=palette.ink_2, length=0)
    axes.spines[:].set_visible(False)
    if len(values) == 1:
        axes.set_xlabel(f"dimension; colour from {precise(-largest)} to {precise(largest)}", color=palette.ink_2,
                        fontsize=8)
        return
    below = axes.inset_axes((0.15, -0.55 / (len(values) + 1), 0.7, 0.25 / (len(values) + 1)))
    bar = drawn.colorbar(image, cax=below, orientation="horizontal")
    bar.set_ticks([-largest, 0, largest], labels=[precise(-largest), "0", precise(largest)])
    bar.ax.tick_params(colors=palette.ink_2)
    bar.outline.set_visible(False)


def draw_decomposition(sheet: Sheet, view: View, palette: Palette, look: Look) -> FigureBase:
    """The table of one score with the sums of its rows and columns."""
    last = view.detail_places[2][-1]
    query = last if look.query is None else look.query
    at = {"layer": look.layer or 0, "head": look.head or 0, "query": query, "key": look.key or 0}
    detail = view.detail_of(**at)
    if "terms" not in detail.arrays:
        raise ValueError(f"{detail.labels['note'][0]}; given were query {at['query']} and key {at['key']}.")
    by_row, rows = _grouped(detail.arrays["terms"].astype(np.float64), detail.labels["query_component"])
    by_column, columns = _grouped(by_row.T, detail.labels["key_component"])
    terms = by_column.T
    drawn = sheet(2.6 + 0.62 * len(columns), 2.2 + 0.34 * len(rows))
    axes = drawn.subplots()
    largest = _table(axes, terms, rows, columns, palette)
    axes.set_ylabel("query side, with row sums", color=palette.ink_2)
    axes.set_xlabel(f"key side above, with column sums · colour from {precise(-largest)} to {precise(largest)}\n"
                    f"sum {precise(terms.sum(), 4)} = score {precise(float(detail.arrays['score'][0]), 4)}, error "
                    f"{detail.checks[0].error:.0e}", color=palette.ink_2)
    say(axes, "L{layer}H{head}, query {query} → key {key}".format(**at), palette, loc="left", pad=14)
    return drawn


def _table(axes: Axes, terms: np.ndarray, rows: list[str], columns: list[str], palette: Palette) -> float:
    """The cells, with the sums of rows and columns beside their names; returns the end of the scale."""
    largest = float(np.abs(terms).max()) or 1.0
    colours = palette.colormap("diverging")
    axes.imshow(terms, cmap=colours, vmin=-largest, vmax=largest, aspect="auto", interpolation="nearest")
    for (i, j), value in np.ndenumerate(terms) if max(terms.shape) <= NUMBERS else ():
        axes.text(j, i, in_table(value, largest), ha="center", va="center", fontsize=7,
                  color=ink_on(colours(0.5 + value / largest / 2)))
    sides = [[f"{name}  {in_table(total, largest, signed=True)}" for name, total in zip(names, totals, strict=True)]
             for names, totals in ((rows, terms.sum(1)), (columns, terms.sum(0)))]
    axes.set_yticks(np.arange(len(rows)), sides[0], fontsize=8)
    axes.set_xticks(np.arange(len(columns)), sides[1], fontsize=8, rotation=55, ha="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.tick_params(colors=palette.ink_2, length=0)
    axes.spines[:].set_visible(False)
    return largest


def _grouped(terms: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """The rows with the largest terms, and the others added up."""
    if len(names) <= MOST_COMPONENTS:
        return terms, list(names)
    kept = np.sort(np.argsort(-np.abs(terms).sum(1))[: MOST_COMPONENTS - 1])
    others = np.setdiff1d(np.arange(len(names)), kept)
    return np.concatenate([terms[kept], terms[others].sum(0, keepdims=True)]), [*(str(names[i]) for i in kept),
                                                                                f"{len(others)} others"]
