"""Embeddings as points and as similarities."""

import numpy as np
from matplotlib.figure import FigureBase

from gptviz.figures.palette import Palette, plain, say
from gptviz.figures.sheet import Look, Sheet
from gptviz.views import View

SIDE_BY_SIDE = dict(left=0.07, right=0.98, bottom=0.1, top=0.93, wspace=0.2)
NAMED = 80  # points up to which every one has its name


def draw_embeddings(sheet: Sheet, view: View, palette: Palette, _look: Look) -> FigureBase:
    """Tokens and positions along their first two principal components; the text's own tokens dark."""
    detail, own = view.detail_of(), set(view.arrays["place"].tolist())
    drawn = sheet(11.0, 5.4)
    for axes, name in zip(drawn.subplots(1, 2, gridspec_kw=SIDE_BY_SIDE), ("tokens", "positions"), strict=True):
        points, share = detail.arrays[f"{name}_coordinates"], detail.arrays[f"{name}_share"]
        words = detail.labels[name]
        inside = np.array([name == "positions" or i in own for i in range(len(words))])
        axes.scatter(points[:, 0], points[:, 1], s=12, color=np.where(inside, palette.ink_2, palette.rule))
        every = -(-len(words) // NAMED) if name == "positions" else 1
        for i in [i for i in range(0, len(words), every) if len(words) <= NAMED or name == "positions" or inside[i]]:
            axes.annotate(words[i], points[i, :2], xytext=(4, 0), textcoords="offset points", fontsize=7, va="center",
                          family="monospace", color=palette.ink if inside[i] else palette.ink_2, parse_math=False)
        axes.set_xlabel(f"component 1 ({share[0]:.0%} of the variance)", color=palette.ink_2)
        axes.set_ylabel(f"component 2 ({share[1]:.0%})", color=palette.ink_2)
        plain(axes, palette)
        say(axes, f"Embeddings of {name}", palette, loc="left")
    return drawn


def draw_positions(sheet: Sheet, view: View, palette: Palette, _look: Look) -> FigureBase:
    """The cosine of every pair of position embeddings."""
    detail = view.detail_of()
    places = detail.arrays["places"]
    drawn = sheet(6.0, 5.2)
    axes = drawn.subplots()
    image = axes.imshow(detail.arrays["cosine"], cmap=palette.colormap("diverging"), vmin=-1, vmax=1,
                        interpolation="nearest")
    ticks = range(0, len(places), -(-len(places) // 8))
    axes.set_xticks(list(ticks), [str(places[i]) for i in ticks])
    axes.set_yticks(list(ticks), [str(places[i]) for i in ticks])
    axes.set_xlabel("position", color=palette.ink_2)
    axes.set_ylabel("position", color=palette.ink_2)
    bar = drawn.colorbar(image, ax=axes)
    bar.set_label("cosine", color=palette.ink_2)
    bar.ax.tick_params(colors=palette.ink_2)
    plain(axes, palette)
    say(axes, "How alike the vectors of two positions are", palette, loc="left")
    return drawn
