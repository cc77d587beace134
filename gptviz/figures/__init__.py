"""View -> matplotlib figure: the same picture for paper, slides and readers without a browser.

Colours, scales and wording are those of the front end (`js/colour.ts`); a test compares the two. Text is never
interpreted: a token `$x$` stays four characters.
"""

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure, FigureBase

from gptviz.arguments import span
from gptviz.figures.attention import draw_attention
from gptviz.figures.circuits import draw_circuits, draw_composition
from gptviz.figures.edits import draw_edits, draw_head_scores
from gptviz.figures.embeddings import draw_embeddings, draw_positions
from gptviz.figures.interactive import plotly as plotly
from gptviz.figures.lens import draw_lens, draw_next
from gptviz.figures.palette import THEMES as THEMES
from gptviz.figures.palette import Palette
from gptviz.figures.progress import draw_distributions, draw_head_curves
from gptviz.figures.querykey import draw_decomposition, draw_querykey
from gptviz.figures.sheet import Look, Sheet, draw_heading, own_figure, sheet_of_all
from gptviz.figures.tokens import draw_tokens
from gptviz.figures.training import draw_training
from gptviz.figures.writes import draw_writes
from gptviz.views import View
from gptviz.whole_files import write_result

FORMATS = ("png", "svg", "pdf")
# Views that begin folded on a board (`folded: true` in js/views): its picture leaves them out.
FOLDED = ("circuits", "composition", "decomposition", "distributions", "embeddings", "film", "positions", "querykey")
EMBEDDED_FONTS: dict[Any, Any] = {"svg.fonttype": "path", "pdf.fonttype": 42}


def figure(
    view: View, *, theme: str = "light", layer: int | None = None, head: int | None = None, query: int | None = None,
    key: int | None = None,
) -> Figure:
    """The view as a matplotlib figure.

    Args:
        view: Any View.
        theme: "light" or "dark".
        layer: The layer of the head shown large, or that a view is of; the first by default, as in the browser.
        head: The head shown large, or that a view is of; the first by default.
        query: The position that a view is of, by default the last; views of all positions mark it, by default none.
        key: For a view of one query and key, which key; the first by default.

    Raises:
        ValueError: There is no such theme, layer, head or position, or no figure of this kind of view.

    Example:
        >>> import numpy as np
        >>> from gptviz.views import training_view
        >>> figure(training_view({"train": (np.array([0, 1]), np.array([2.0, 1.5]))})).axes[0].get_xlabel()
        'step'
    """
    palette = _palette(theme)
    if view.kind not in _DRAW:
        raise ValueError(f"There is a figure for {sorted(_DRAW)}, not for a view of kind {view.kind!r}.")
    look = _within([view], Look(layer, head, query, key))
    drawn = own_figure(lambda sheet: _DRAW[view.kind](sheet, view, palette, look))
    drawn.set_facecolor(palette.paper)
    return drawn


def figure_of_all(
    views: Sequence[View], *, heading: str = "", theme: str = "light", layer: int | None = None,
    head: int | None = None, query: int | None = None, key: int | None = None,
) -> tuple[Figure, dict[str, list[View]]]:
    """What a board shows, as one matplotlib figure: its views one below another, with one selection.

    Args:
        views: In the order of the page.
        heading: What stands above all: the model's name and facts.
        theme: "light" or "dark".
        layer: Of the selection that all views share, like `head`, `query` and `key`.
        head: See `figure`.
        query: See `figure`.
        key: See `figure`.

    Returns:
        The figure, and the views that are not in it, by the reason.

    Raises:
        ValueError: No such theme, layer, head or position, or no view that can be drawn.

    Example:
        >>> import numpy as np
        >>> from gptviz.views import tokens_view, training_view
        >>> text = tokens_view(np.array([np.nan, 1.0], np.float32), ["a", "b"])
        >>> drawn, left_out = figure_of_all([text, training_view({"train": (np.array([0, 1]), np.ones(2))})])
        >>> len(drawn.subfigs), left_out  # the heading is one of them
        (3, {})
    """
    palette, look = _palette(theme), _within(views, Look(layer, head, query, key))
    left_out: dict[str, list[View]] = {}
    draws: list[Callable[[Sheet], FigureBase]] = []
    for view in views:
        if why := _why_not(view):
            left_out.setdefault(why, []).append(view)
        else:
            draws.append(lambda sheet, view=view: _DRAW[view.kind](sheet, view, palette, look))
    if not draws:
        raise ValueError(f"A picture needs a view that can be drawn; {', '.join(view.kind for view in views)} cannot. "
                         "Write a page instead: a path that ends in .html.")
    drawn = sheet_of_all(lambda sheet: draw_heading(sheet, heading, _marked(views, look), palette), draws)
    drawn.set_facecolor(palette.paper)
    for part in drawn.subfigs:
        part.set_facecolor("none")  # names of a view may reach onto the sheet of the next
    return drawn, left_out


def _why_not(view: View) -> str:
    """Why the picture of a board leaves a view out; empty where it does not."""
    if view.kind not in _DRAW:
        return "only in a page: a path that ends in .html"
    if view.kind in FOLDED:
        return "folded at first; view= draws one of them alone"
    if view.kind == "edits" and not view.content["edits"]:
        return "nothing is edited"
    return "" if view.kind != "head_scores" or view.detail else view.subtitle


def _marked(views: Sequence[View], look: Look) -> str:
    """The selection in words, as far as there is one; and where two are compared, whose the other views are."""
    tokens = next((view.labels["token"] for view in views if "token" in view.labels), ())
    words = [f"head L{look.layer}H{look.head}"] if look.layer is not None and look.head is not None else []
    words += [f"{name} {at} ‘{tokens[at]}’" for name, at in (("query", look.query), ("key", look.key))
              if at is not None and tokens]
    marked = f"marked: {', '.join(words)}" if words else ""
    names = next((view.labels["compared"] for view in views if "compared" in view.labels), None)
    compared = f"comparing {names[0]} and {names[1]}, all but the heads are of {names[0]}" if names else ""
    return " · ".join(filter(None, [marked, compared]))


def _within(views: Sequence[View], look: Look) -> Look:
    """The selection, whose positions each text of these views must have."""
    n_tokens = min((len(view.labels["token"]) for view in views if "token" in view.labels), default=None)
    for name, at in (("query", look.query), ("key", look.key)):
        if n_tokens is not None and at is not None and not 0 <= at < n_tokens:
            raise ValueError(f"{name} must be a position of the text, {span(0, n_tokens - 1)}; {at} was given.")
    return look


def _palette(theme: str) -> Palette:
    if theme not in THEMES:
        raise ValueError(f"theme must be one of {sorted(THEMES)}, not {theme!r}.")
    return THEMES[theme]


def save(shown: View | Figure, path: str | os.PathLike, **options: Any) -> Path:
    """Write a view or figure as PNG, SVG or PDF, by the ending of the path; fonts are embedded, nothing is clipped.

    Args:
        shown: A View, or a figure made of one.
        path: Where to; an existing file is replaced.
        options: `theme`, `layer`, `head`, `query` and `key`, as for `figure`.

    Raises:
        ValueError: another ending, or a folder that does not exist.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from gptviz.views import attention_view
        >>> heads = attention_view(np.tril(np.ones((1, 1, 2, 2))) / np.array([[1], [2]]), ["a", "b"])
        >>> save(heads, Path(tempfile.mkdtemp()) / "heads.png", theme="dark").name
        'heads.png'
    """
    target = Path(path)
    ending = target.suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise ValueError(
            f"A picture ends in {', '.join('.' + known for known in FORMATS)}; {target.name!r} does not."
        )
    if not target.parent.is_dir():
        raise ValueError(f"The folder of a picture must exist; {target.parent} does not. Make it first.")
    write_result(target, picture(shown, ending, **options))
    return target


def picture(shown: View | Figure, ending: str = "png", **options: Any) -> bytes:
    """A view or figure as the bytes of a PNG, SVG or PDF file; the same input gives the same bytes."""
    drawn = shown if isinstance(shown, Figure) else figure(shown, **options)
    buffer = io.BytesIO()
    no_date = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[ending]
    with mpl.rc_context({**EMBEDDED_FONTS, "svg.hashsalt": "gptviz"}):
        drawn.savefig(buffer, format=ending, dpi=160, bbox_inches="tight", pad_inches=0.2, metadata=no_date)
    return buffer.getvalue()


_DRAW: dict[str, Callable[..., FigureBase]] = {
    "attention": draw_attention,
    "tokens": draw_tokens,
    "training": draw_training,
    "lens": draw_lens,
    "next": draw_next,
    "writes": draw_writes,
    "querykey": draw_querykey,
    "decomposition": draw_decomposition,
    "edits": draw_edits,
    "head_scores": draw_head_scores,
    "embeddings": draw_embeddings,
    "positions": draw_positions,
    "circuits": draw_circuits,
    "composition": draw_composition,
    "head_curves": draw_head_curves,
    "distributions": draw_distributions,
}
