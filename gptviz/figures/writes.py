"""What each part of a model wrote at a position, as bars."""

import numpy as np
from matplotlib.figure import FigureBase

from gptviz.figures.palette import Palette, say
from gptviz.figures.sheet import Look, Sheet
from gptviz.views import View
from gptviz.views.writes import asked_for, sums

MOST = 24  # sublayers that have a bar of their own


def draw_writes(sheet: Sheet, view: View, palette: Palette, look: Look) -> FigureBase:
    """What every sublayer adds to the logit of the next token at a position, and what it adds up to."""
    position = view.detail_places[0][-1] if look.query is None else look.query
    detail = view.detail_of(query=position)
    target, token = asked_for(detail)
    adds, total = sums(detail, target)
    names, values = _shown(np.array(detail.labels["row"]), adds, detail.arrays["parent"] < 0)
    drawn = sheet(7.5, 0.28 * len(values) + 1.6)
    axes = drawn.subplots()
    places = np.arange(len(values))
    colours = [palette.negative[-1] if value < 0 else palette.positive[-1] for value in values]
    axes.barh(places, values, color=colours, height=0.7)
    axes.set_yticks(places, names, fontsize=9)
    axes.invert_yaxis()
    axes.axvline(0, color=palette.rule, linewidth=1)
    reach = float(np.nanmax(np.abs(values))) or 1.0
    axes.set_xlim(-1.35 * reach, 1.35 * reach)
    for place, value in zip(places, values, strict=True):
        axes.annotate(f"{value:+.2f}", (value, place), xytext=(4 if value >= 0 else -4, 0), textcoords="offset points",
                      ha="left" if value >= 0 else "right", va="center", fontsize=8, color=palette.ink)
    check = detail.checks[0]
    axes.set_xlabel(f"adds to the logit; sum {values.sum():.4f} = logit {total:.4f}, error {check.error:.0e}",
                    color=palette.ink_2)
    say(axes, f"{view.title}: to the logit of {token} at {position}", palette, loc="left")
    axes.set_facecolor(palette.paper)
    axes.tick_params(colors=palette.ink_2, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(palette.rule)
    return drawn


def _shown(names: np.ndarray, adds: np.ndarray, whole: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The sublayers in the order of writing; of many the largest, and the others as one bar."""
    names, values = names[whole], adds[whole].astype(np.float64)
    if len(values) <= MOST:
        return names.tolist(), values
    kept = np.sort(np.argsort(-np.abs(values))[: MOST - 1])
    rest = values.sum() - values[kept].sum()
    return [*names[kept].tolist(), f"{len(values) - len(kept)} others"], np.append(values[kept], rest)
