"""Curves over the steps of a run."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from gptviz.figures.palette import Palette, say
from gptviz.figures.sheet import Look, Sheet
from gptviz.views import View

MARKERS = ("o", "D", "^", "s")


def draw_training(sheet: Sheet, view: View, palette: Palette, _look: Look) -> FigureBase:
    """Every series over the steps, named at its right end."""
    drawn = sheet(9.0, 4.0)
    axes = drawn.subplots()
    for i in range(len(view.labels["series"])):
        steps, values = view.arrays[f"steps_{i}"], view.arrays[f"values_{i}"]
        colour = palette.series[i % len(palette.series)]
        few = len(steps) <= 30
        axes.plot(steps, values, color=colour, linewidth=1.6, linestyle="-" if i % 2 == 0 else "--",
                  marker=MARKERS[i % len(MARKERS)] if few else None, markersize=4)  # fmt: skip
        for step in steps[~np.isfinite(values)]:
            axes.axvline(step, color=palette.ink, linewidth=1, linestyle=":")
            axes.annotate("✕ not finite", (step, 1), xycoords=("data", "axes fraction"), color=palette.ink)
    _name_series(axes, view, palette)
    axes.set_facecolor(palette.paper)
    axes.set_xlabel("step", color=palette.ink_2)
    axes.tick_params(colors=palette.ink_2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(palette.rule)
    some = f", {view.content['thinned']}" if "thinned" in view.content else ""
    say(axes, f"{view.title}, {view.subtitle}{some}", palette, loc="left")
    return drawn


def _name_series(axes: Axes, view: View, palette: Palette) -> None:
    """Each series' name and last value at the right end, from top to bottom without overlap."""
    ends = []
    for i, name in enumerate(view.labels["series"]):
        values = view.arrays[f"values_{i}"]
        finite = np.flatnonzero(np.isfinite(values))
        if len(finite):
            ends.append((float(values[finite[-1]]), name, palette.series[i % len(palette.series)]))
    low, high = axes.get_ylim()
    line, above = 0.06 * (high - low), np.inf
    for value, name, colour in sorted(ends, reverse=True):
        above = min(value, above - line)
        axes.annotate(f"{name} {value:.2f}", (1, above), xytext=(8, 0), xycoords=("axes fraction", "data"), va="center",
                      textcoords="offset points", color=colour, parse_math=False, annotation_clip=False)  # fmt: skip
