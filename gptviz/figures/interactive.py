"""View -> plotly figure, for what is better turned or zoomed than printed: points in 3-D, and curves."""

from collections.abc import Callable
from typing import Any

from gptviz.figures.palette import THEMES, Palette
from gptviz.views import View

DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "diamond", "triangle-up", "square")


def plotly(view: View, *, theme: str = "light", of: str = "tokens") -> Any:
    """A plotly figure of embeddings in three dimensions, or of curves over the steps.

    Args:
        view: A View of kind "embeddings" or "training".
        theme: "light" or "dark".
        of: For embeddings, "tokens" or "positions".

    Returns:
        A plotly.graph_objects.Figure.

    Raises:
        ValueError: There is no such theme, or no plotly figure of this kind of view.

    Example:
        >>> import numpy as np
        >>> from gptviz.views import training_view
        >>> drawn = plotly(training_view({"train": (np.array([0, 1]), np.array([2.0, 1.5]))}))
        >>> drawn.data[0].name, drawn.layout.xaxis.title.text
        ('train', 'step')
    """
    if theme not in THEMES:
        raise ValueError(f"theme must be one of {sorted(THEMES)}, not {theme!r}.")
    if view.kind not in _DRAW:
        raise ValueError(f"There is a plotly figure for {sorted(_DRAW)}, not for a view of kind {view.kind!r}. "
                         f"gptviz.figures.figure draws it with matplotlib.")
    palette = THEMES[theme]
    drawn = _DRAW[view.kind](view, palette, of)
    drawn.update_layout(title=dict(text=_plain(view.title), font_color=palette.ink), paper_bgcolor=palette.paper,
                        plot_bgcolor=palette.paper, font_color=palette.ink_2, margin=dict(l=60, r=20, t=50, b=50))
    return drawn


def _embeddings(view: View, palette: Palette, of: str) -> Any:
    from plotly import graph_objects

    if of not in ("tokens", "positions"):
        raise ValueError(f'of must be "tokens" or "positions", not {of!r}.')
    detail = view.detail_of()
    points, share = detail.arrays[f"{of}_coordinates"], detail.arrays[f"{of}_share"]
    words = [_plain(word) for word in detail.labels[of]]
    own = set(view.arrays["place"].tolist()) if of == "tokens" else set(range(len(words)))
    colours = [palette.series[0] if i in own else palette.rule for i in range(len(words))]
    dots = graph_objects.Scatter3d(x=points[:, 0], y=points[:, 1], z=points[:, 2], mode="markers+text", text=words,
                                   marker=dict(size=4, color=colours), textfont=dict(size=12, color=palette.ink))
    axes = {f"{letter}axis": dict(title=f"component {i + 1} ({share[i]:.0%})", backgroundcolor=palette.paper,
                                  gridcolor=palette.rule) for i, letter in enumerate("xyz")}
    return graph_objects.Figure([dots], dict(scene=axes))


def _training(view: View, palette: Palette, _of: str) -> Any:
    from plotly import graph_objects

    drawn = graph_objects.Figure()
    for i, name in enumerate(view.labels["series"]):
        drawn.add_scatter(x=view.arrays[f"steps_{i}"], y=view.arrays[f"values_{i}"], name=_plain(name), mode="lines",
                          line=dict(color=palette.series[i % 4], dash=DASHES[i // 4 % 4]),
                          marker=dict(symbol=SYMBOLS[i % 4]))
    drawn.update_xaxes(title="step", gridcolor=palette.rule)
    drawn.update_yaxes(title="nats per token", gridcolor=palette.rule)
    return drawn


def _plain(text: str) -> str:
    """Text as plotly shows it unchanged: it would read tags and entities."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_DRAW: dict[str, Callable[[View, Palette, str], Any]] = {"embeddings": _embeddings, "training": _training}
