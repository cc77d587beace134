"""A head's tables of tokens, and which head reads what which other writes."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from gptviz.figures.palette import Palette, plain, say
from gptviz.figures.sheet import Look, Sheet
from gptviz.views import View

NAMED = 64  # tokens up to which every one is named on an axis
STRONGEST = 30  # pairs of heads that get a line


def draw_circuits(sheet: Sheet, view: View, palette: Palette, look: Look) -> FigureBase:
    """The QK and OV tables of a head, each on a scale of its own around 0, and their singular values.

    All are at the typical LayerNorm scales of the text.

    Raises:
        ValueError: The vocabulary is too large for tables.
    """
    if view.detail is None:
        raise ValueError(f"There is no figure of these circuits: {view.subtitle}.")
    at = (look.layer or 0, look.head or 0)
    detail, words = view.detail_of(layer=at[0], head=at[1]), view.labels["word"]
    drawn = sheet(12.0, 7.0)
    top, bottom = drawn.subplots(2, 2, gridspec_kw=dict(height_ratios=(5, 1), hspace=0.35))
    for i, (name, title, rows, columns) in enumerate((("qk", "QK: added to the score", "query", "key"),
                                                      ("ov", "OV: added to the logits", "attends to", "writes"))):
        _table(drawn, top[i], detail.arrays[name], words, palette)
        top[i].set_xlabel(f"{columns} →", color=palette.ink_2)
        top[i].set_ylabel(f"← {rows}", color=palette.ink_2)
        say(top[i], f"L{at[0]}H{at[1]} {title}", palette, loc="left", pad=14)
        values = detail.arrays[f"{name}_values"]
        bottom[i].bar(np.arange(1, len(values) + 1), values, color=palette.ink_2)
        bottom[i].set_xlabel("singular values, at the text's typical LayerNorm scales", color=palette.ink_2)
        plain(bottom[i], palette)
    return drawn


def _table(drawn: FigureBase, axes: Axes, values: np.ndarray, words: tuple[str, ...], palette: Palette) -> None:
    most = float(np.abs(values).max()) or 1.0
    image = axes.imshow(values, cmap=palette.colormap("diverging"), vmin=-most, vmax=most, interpolation="nearest")
    every = list(range(0, len(words), -(-len(words) // NAMED)))
    names = [words[i] for i in every]
    axes.xaxis.tick_top()
    axes.set_xticks(every, names, fontsize=6, family="monospace", rotation=90)
    axes.set_yticks(every, names, fontsize=6, family="monospace")
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set(color=palette.ink, parse_math=False)
    drawn.colorbar(image, ax=axes, fraction=0.04, pad=0.02).ax.tick_params(colors=palette.ink_2)
    plain(axes, palette)


def draw_composition(sheet: Sheet, view: View, palette: Palette, _look: Look) -> FigureBase:
    """The strongest pairs above what random matrices give; Q, K and V by colour, dash and letter; grey: chance may."""
    detail = view.detail_of()
    scores = detail.arrays["scores"]
    high, strongest = (float(detail.arrays[name][0]) for name in ("null_high", "null_strongest"))
    n_layer, n_head = scores.shape[1:3]
    drawn = sheet(2.2 * n_layer + 2, 0.5 * n_head + 2)
    axes = drawn.subplots()
    for at in reversed(strongest_pairs(scores, high)):
        kind, a, b, c, d = at
        colour = palette.series[(0, 2, 3)[kind]] if scores[at] > strongest else palette.rule
        axes.plot([a, c], [b, d], color=colour, linestyle=("-", "--", ":")[kind],
                  linewidth=1 + min(3, 6 * (float(scores[at]) - high)), zorder=1)
        axes.annotate("QKV"[kind], (c, d), xytext=(-12, 5 - 6 * kind), textcoords="offset points", fontsize=7,
                      color=colour)
    layers, heads = np.mgrid[:n_layer, :n_head].reshape(2, -1)
    axes.scatter(layers, heads, s=28, color=palette.ink_2, zorder=2)
    axes.set_xticks(range(n_layer), [f"L{i}" for i in range(n_layer)])
    axes.set_yticks(range(n_head), [f"H{i}" for i in range(n_head)])
    axes.invert_yaxis()
    said = (f"pairs above {high:.3f}, what 97.5 % of random matrices stay below; solid Q, dashed K, dotted V\n"
            f"grey: up to {strongest:.3f}, as the strongest of as many random pairs may be")
    axes.set_xlabel(said, color=palette.ink_2)
    plain(axes, palette)
    say(axes, view.title, palette, loc="left")
    return drawn


def strongest_pairs(scores: np.ndarray, high: float) -> list[tuple[int, ...]]:
    """Where the largest scores above the null are, largest first: (kind, layer, head, to layer, to head)."""
    flat = np.where(np.nan_to_num(scores, nan=-np.inf) > high, np.nan_to_num(scores, nan=-np.inf), -np.inf)
    order = np.argsort(-flat, axis=None, kind="stable")[: min(STRONGEST, int(np.isfinite(flat).sum()))]
    return [tuple(int(i) for i in np.unravel_index(one, scores.shape)) for one in order]
