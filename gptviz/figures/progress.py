"""What a run shows over its steps: the scores of the heads, and the bands of its numbers."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from gptviz.figures.palette import Palette, plain, say
from gptviz.figures.sheet import Look, Sheet
from gptviz.figures.training import MARKERS
from gptviz.views import View
from gptviz.views.distributions import row_name
from gptviz.views.head_curves import compared

MOST_COLUMNS = 4


def draw_head_curves(sheet: Sheet, view: View, palette: Palette, _look: Look) -> FigureBase:
    """The curves that stand out, each named at its right end; where none does, the first score of all heads."""
    drawn = sheet(9.0, 4.0)
    axes = drawn.subplots()
    curves = view.arrays["stands_out"].tolist() or [[0, *at] for at in np.ndindex(view.arrays["value_0"].shape[1:])]
    scores = list(dict.fromkeys(score for score, *_ in curves))
    ends = []
    for i, (score, layer, head) in enumerate(curves):
        place = scores.index(score) if len(scores) > 1 else i
        colour, again = palette.series[place % len(palette.series)], score in [one for one, *_ in curves[:i]]
        steps, values = view.arrays[f"steps_{score}"], view.arrays[f"value_{score}"][:, layer, head]
        axes.plot(steps, values, color=colour, linewidth=1.6, linestyle="--" if again else "-",
                  marker=MARKERS[place % len(MARKERS)], markersize=4, markevery=max(1, len(steps) // 6))
        ends.append((float(values[-1]), f"{view.labels['words'][score]} L{layer}H{head}", colour))
    for score in scores:
        steps, high = view.arrays[f"steps_{score}"], view.arrays[f"null_{score}"]
        axes.fill_between(steps, 0, high, where=np.isfinite(high), facecolor="none", edgecolor=palette.rule,
                          hatch="////", linewidth=0)
    _name(axes, ends)
    axes.set_ylim(-0.02, 1.05)
    hatched = "; hatched: 97.5 % of chance is below" if compared(view, scores) else ""
    axes.set_xlabel(f"step{hatched}", color=palette.ink_2)
    why = "no head stands out yet" if compared(view) else "not compared with chance in this run"
    none = "" if len(view.arrays["stands_out"]) else f": {why}"
    say(axes, f"{view.title}, {view.subtitle}{none}", palette, loc="left")
    plain(axes, palette)
    return drawn


def _name(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Each curve by name and last value, from the top; one that ended in NaN is named at the bottom."""
    above = math.inf
    for value, name, colour in sorted(ends, key=lambda end: -np.nan_to_num(end[0])):
        above = min(float(np.nan_to_num(value)), above - 0.07)
        words = "NaN" if math.isnan(value) else f"{value:.2f}"
        axes.annotate(f"{name} {words}", (1, above), xytext=(8, 0), xycoords=("axes fraction", "data"), va="center",
                      textcoords="offset points", color=colour, parse_math=False, annotation_clip=False)  # fmt: skip


def draw_distributions(sheet: Sheet, view: View, palette: Palette, _look: Look) -> FigureBase:
    """The weights as bands, a small chart for each part and layer; of a view without weights its first kind."""
    parts = list(enumerate(view.content["parts"]))
    kind = parts[0][1]["kind"] if parts else "weights"
    charts = [(i, part, row) for i, part in parts if part["kind"] == kind for row in range(part["rows"])]
    rows = max(1, -(-len(charts) // MOST_COLUMNS))
    drawn = sheet(12.0, 1.9 * rows + 0.6)
    room = dict(left=0.05, right=0.98, bottom=0.4 / (1.9 * rows + 0.6), top=1 - 0.7 / (1.9 * rows + 0.6), hspace=0.5)
    grid = drawn.subplots(rows, MOST_COLUMNS, squeeze=False, gridspec_kw=room).ravel()
    for axes, (i, part, row) in zip(grid, charts, strict=False):
        _bands(axes, view.arrays["steps"], view.arrays[f"part_{i}"][:, row], palette)
        say(axes, row_name(part, row), palette, loc="left")
        plain(axes, palette)
    for axes in grid[len(charts):]:
        axes.set_visible(False)
    drawn.suptitle(f"{kind} through training: median, 25–75 % and 5–95 % of the values", color=palette.ink, fontsize=11)
    return drawn


def _bands(axes: Axes, steps: np.ndarray, values: np.ndarray, palette: Palette) -> None:
    colour = palette.series[0]
    for low, high, alpha in ((1, 5, 0.22), (2, 4, 0.4)):
        axes.fill_between(steps, values[:, low], values[:, high], color=colour, alpha=alpha, linewidth=0)
    axes.plot(steps, values[:, 3], color=colour, linewidth=1.4)
