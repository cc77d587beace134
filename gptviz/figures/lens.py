"""The logit lens as a grid of tokens, and the next token as bars."""

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import FigureBase
from matplotlib.patches import Rectangle

from gptviz.figures.palette import Palette, ink_on, say
from gptviz.figures.sheet import Look, Sheet
from gptviz.views import View
from gptviz.views.lens import lens_at

COLUMNS = 32  # positions shown; of a longer text those up to the one asked for
LETTERS = 7  # of a token in a cell


def draw_lens(sheet: Sheet, view: View, palette: Palette, look: Look) -> FigureBase:
    """The likeliest token at every layer and position, coloured by its probability, and what really follows."""
    points, tokens = view.labels["point"], view.labels["token"]
    at = len(tokens) - 1 if look.query is None else look.query
    begin = max(0, at - COLUMNS + 1)
    part = lens_at(view, begin)  # a block reaches further than a figure is wide
    first = int(part.arrays["first"][0])
    shown = range(begin, min(begin + COLUMNS, first + part.arrays["entropy"].shape[1]))
    drawn = sheet(1.2 + 0.62 * len(shown), 1.9 + 0.36 * len(points))
    axes = drawn.subplots()
    for x, position in enumerate(shown):
        _column(axes, part, palette, x, position - first)
        follows = tokens[position + 1] if position + 1 < len(tokens) else "–"
        right = int(part.arrays["true_rank"][-1, position - first]) == 1
        _word(axes, x, len(points), "✓" * right + follows, palette.series[2] if right else palette.ink_2)
    if look.query is not None:
        axes.add_patch(Rectangle((at - begin, 0), 1, len(points), fill=False, edgecolor=palette.accent, linewidth=1.5))
    axes.set(xlim=(0, len(shown)), ylim=(len(points) + 1, 0))
    axes.set_yticks([row + 0.5 for row in range(len(points) + 1)], [*points, "truth"])
    axes.set_xticks([x + 0.5 for x in range(len(shown))], [_short(tokens[at]) for at in shown], family="monospace")
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("position →", loc="left", color=palette.ink)
    axes.annotate("layer ↓", (0, 1), xytext=(-6, 6), xycoords="axes fraction", textcoords="offset points", ha="right",
                  color=palette.ink)
    axes.tick_params(length=0, labelsize=9, colors=palette.ink_2)
    for label in axes.get_xticklabels():
        label.set(parse_math=False, color=palette.ink)
    axes.set_facecolor(palette.paper)
    axes.spines[:].set_visible(False)
    some = f", positions {shown[0]} to {shown[-1]}" if len(shown) < len(tokens) else ""
    say(axes, f"{view.title}: {view.subtitle}{some}", palette, loc="left", pad=12)
    bar = drawn.colorbar(ScalarMappable(Normalize(0, 1), palette.colormap("sequential")), ax=axes, ticks=[0, 0.5, 1],
                         orientation="horizontal", fraction=0.06, pad=0.04, aspect=40, anchor=(0, 1), shrink=0.5)
    bar.set_label("probability of the token in the cell; ✓ the model's answer is the truth", color=palette.ink_2)
    bar.ax.tick_params(colors=palette.ink_2)
    bar.outline.set_visible(False)  # type: ignore[attr-defined]
    return drawn


def _column(axes: Axes, part: View, palette: Palette, x: int, column: int) -> None:
    colormap, words = palette.colormap("sequential"), part.labels["word"]
    for row in range(len(part.labels["point"])):
        p = float(part.arrays["top_probs"][row, column, 0])
        colour = colormap(min(1.0, max(0.0, p))) if p == p else (1.0, 1.0, 1.0, 0.0)
        axes.add_patch(Rectangle((x + 0.02, row + 0.03), 0.96, 0.94, facecolor=colour, linewidth=0))
        word = words[int(part.arrays["top_words"][row, column, 0])] if p == p else "✕"
        _word(axes, x, row, word, ink_on(colour) if p == p else palette.ink)


def _word(axes: Axes, x: int, row: int, word: str, colour: str) -> None:
    axes.text(x + 0.5, row + 0.53, _short(word), ha="center", va="center", fontsize=8, family="monospace",
              color=colour, parse_math=False)


def _short(word: str) -> str:
    return word if len(word) <= LETTERS else word[: LETTERS - 1] + "…"


def draw_next(sheet: Sheet, view: View, palette: Palette, look: Look) -> FigureBase:
    """The likeliest tokens after a position, the last by default, as bars from 0 to 1."""
    tokens = view.labels["token"]
    at = len(tokens) - 1 if look.query is None else look.query
    words = [view.labels["word"][int(word)] for word in view.arrays["top_words"][at]]
    probs = view.arrays["top_probs"][at]
    drawn = sheet(6.5, 1.2 + 0.34 * len(words))
    axes = drawn.subplots()
    truth = tokens[at + 1] if at + 1 < len(tokens) else None
    colours = [palette.series[2] if word == truth else palette.series[0] for word in words]
    axes.barh(range(len(words)), probs, color=colours, height=0.6)
    for row, p in enumerate(probs):
        axes.text(float(p) + 0.01, row, f"{p:.4f}", va="center", fontsize=9, color=palette.ink)
    names = [f"✓ {word}" if word == truth else word for word in words]
    axes.set_yticks(range(len(words)), names, family="monospace")
    for label in axes.get_yticklabels():
        label.set(parse_math=False, color=palette.ink)
    axes.set(xlim=(0, 1.12), ylim=(len(words) - 0.5, -0.5), xticks=[0, 0.5, 1])
    axes.set_xlabel("probability", color=palette.ink_2)
    axes.tick_params(colors=palette.ink_2, length=0)
    axes.set_facecolor(palette.paper)
    axes.spines[:].set_visible(False)
    say(axes, f"After ‘{tokens[at]}’, position {at}", palette, loc="left")
    return drawn
