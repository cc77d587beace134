"""The text in chips coloured by loss."""

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import FigureBase
from matplotlib.patches import Rectangle

from gptviz.figures.palette import Palette, say
from gptviz.figures.sheet import Look, Sheet
from gptviz.views import View

NOTHING_BEFORE = "dotted outline: no token before it"
GIVEN = "hatched: given, no loss was trained there"
NOT_FINITE = "✕ not finite"
CLIPPED = "▴ above the scale"


def draw_tokens(sheet: Sheet, view: View, palette: Palette, look: Look) -> FigureBase:
    """The text in chips coloured by loss, wrapped into lines; a query and key are marked where they are given."""
    tokens, losses = view.labels["token"], view.arrays["loss"]
    low, high = view.range.get("loss", (0.0, 6.0))
    colormap, width = palette.colormap("loss"), 72
    places, x, line = [], 0, 0
    for token in tokens:
        size = min(len(token), width - 2) + 1
        if x + size > width:
            x, line = 0, line + 1
        places.append((x, line, size))
        x += size
    drawn = sheet(9.5, 0.36 * (line + 1) + 1.1)
    axes = drawn.subplots()
    given = view.content.get("given", 0)
    marks = [GIVEN if at < given else _mark(float(loss), at, high) for at, loss in enumerate(losses)]
    for token, loss, mark, (x, line, size) in zip(tokens, losses, marks, places, strict=True):
        colour = colormap((loss - low) / (high - low)) if np.isfinite(loss) and mark != GIVEN else palette.paper
        axes.add_patch(Rectangle((x, line), size - 0.3, 0.8, facecolor=colour, edgecolor=palette.rule,
                                 hatch="///" if mark == GIVEN else None, linewidth=0.5,
                                 linestyle=":" if mark == NOTHING_BEFORE else "-"))  # fmt: skip
        axes.text(x + 0.25, line + 0.42, token[: size - 1], va="center", fontsize=9, family="monospace",
                  color=palette.ink, parse_math=False,
                  bbox=dict(facecolor=palette.paper, linewidth=0, pad=1) if mark == GIVEN else None)  # fmt: skip
        if mark in (NOT_FINITE, CLIPPED):
            axes.text(x + size - 0.35, line + 0.02, mark[0], ha="right", va="top", fontsize=6, color=palette.ink)
    for at, colour, line_style in ((look.key, palette.ink, "--"), (look.query, palette.accent, "-")):
        if at is not None:
            x, line, size = places[at]
            axes.add_patch(Rectangle((x, line), size - 0.3, 0.8, fill=False, edgecolor=colour, linewidth=1.5,
                                     linestyle=line_style))  # fmt: skip
    axes.set(xlim=(0, width), ylim=(places[-1][1] + 1, -0.2))
    axes.axis("off")
    say(axes, f"{view.title}: loss per token, {low:.0f} to {high:.0f} nats", palette, loc="left")
    scale = ScalarMappable(Normalize(low, high), colormap)
    bar = drawn.colorbar(scale, ax=axes, orientation="horizontal", fraction=0.08, pad=0.04, aspect=50)
    legend = "; ".join(mark for mark in (GIVEN, NOTHING_BEFORE, NOT_FINITE, CLIPPED) if mark in marks)
    bar.set_label(f"nats ({legend})" if legend else "nats", color=palette.ink_2)
    bar.ax.tick_params(colors=palette.ink_2)
    return drawn


def _mark(loss: float, position: int, high: float) -> str | None:
    """What a colour cannot say of a token's loss, in the words of the caption."""
    if not np.isfinite(loss):
        return NOTHING_BEFORE if position == 0 else NOT_FINITE
    return CLIPPED if loss > high else None
