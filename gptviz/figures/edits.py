"""What edits changed, and how heads score: bars beside their reference."""

import numpy as np
from matplotlib.figure import FigureBase

from gptviz.figures.palette import Palette, plain, say
from gptviz.figures.sheet import Look, Sheet
from gptviz.views import View

NAMED = 60  # tokens up to which every one is named


def draw_edits(sheet: Sheet, view: View, palette: Palette, _look: Look) -> FigureBase:
    """The loss of every token, edited beside original; without edits the original alone."""
    loss, tokens = view.arrays["loss"], view.labels["token"]
    other = view.arrays.get("other_loss")
    drawn = sheet(max(6.0, min(14.0, 0.28 * len(tokens) + 2)), 4.2)
    axes, places = drawn.subplots(), np.arange(len(tokens))
    axes.bar(places - (0.2 if other is not None else 0), loss, width=0.4, color=palette.rule, label="original")
    if other is not None:
        axes.bar(places + 0.2, other, width=0.4, color=palette.series[0], label="edited")
    every = list(range(0, len(tokens), -(-len(tokens) // NAMED)))
    axes.set_xticks(every, [tokens[i] for i in every], rotation=60, ha="right", rotation_mode="anchor", fontsize=8,
                    family="monospace")
    for label in axes.get_xticklabels():
        label.set(color=palette.ink, parse_math=False)
    axes.set_ylabel("loss, nats", color=palette.ink_2)
    axes.legend(frameon=False, labelcolor=palette.ink_2)
    made = ", ".join(one["words"].removeprefix("gv.") for one in view.content["edits"])
    say(axes, f"{view.title}: {made[:90] or 'none'}", palette, loc="left")
    plain(axes, palette)
    return drawn


def draw_head_scores(sheet: Sheet, view: View, palette: Palette, _look: Look) -> FigureBase:
    """Every score of every head as a dot, over the widest band of chance of all heads.

    Raises:
        ValueError: No scores could be computed.
    """
    if view.detail is None:
        raise ValueError(f"There is no figure of head scores: {view.subtitle}.")
    detail = view.detail_of()
    names, words = detail.labels["score"], detail.labels["words"]
    shares = [i for i, name in enumerate(names) if name != "distance"]
    drawn = sheet(8.0, 0.55 * len(shares) + 1.4)
    axes = drawn.subplots()
    for row, i in enumerate(shares):
        value, low, high = (detail.arrays[part][i].ravel() for part in ("value", "null_low", "null_high"))
        if not np.isfinite(value).any():
            continue
        axes.barh(row, np.nanmax(high) - np.nanmin(low), left=np.nanmin(low), height=0.6, facecolor="none",
                  edgecolor=palette.rule, hatch="////", linewidth=0)
        axes.scatter(value, np.full(len(value), row), s=14, color=palette.ink_2, zorder=2)
        best = int(np.nanargmax(value))
        n_head = detail.arrays["value"].shape[2]
        axes.annotate(f"L{best // n_head}H{best % n_head}", (value[best], row), xytext=(0, 6), ha="center", fontsize=8,
                      textcoords="offset points", color=palette.ink)
    axes.set_yticks(range(len(shares)), [words[i] for i in shares])
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.05)
    axes.set_xlabel("score; hatched: by chance, 95 %, the widest of all heads", color=palette.ink_2)
    say(axes, view.title, palette, loc="left")
    plain(axes, palette)
    return drawn
