"""View -> matplotlib figure: the same picture for paper, slides and readers without a browser.

Colours, scales and wording are those of the front end (`js/colour.ts`); a test compares the two. Text is never
interpreted: a token `$x$` stays four characters.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from gptviz.figures.attention import draw_attention
from gptviz.figures.circuits import draw_circuits, draw_composition
from gptviz.figures.edits import draw_edits, draw_head_scores
from gptviz.figures.embeddings import draw_embeddings, draw_positions
from gptviz.figures.interactive import plotly as plotly
from gptviz.figures.lens import draw_lens, draw_next
from gptviz.figures.palette import THEMES as THEMES
from gptviz.figures.progress import draw_distributions, draw_head_curves
from gptviz.figures.querykey import draw_decomposition, draw_querykey
from gptviz.figures.tokens import draw_tokens
from gptviz.figures.training import draw_training
from gptviz.figures.writes import draw_writes
from gptviz.views import View
from gptviz.whole_files import write_result

FORMATS = ("png", "svg", "pdf")
EMBEDDED_FONTS: dict[Any, Any] = {"svg.fonttype": "path", "pdf.fonttype": 42}


def figure(
    view: View, *, theme: str = "light", layer: int | None = None, head: int | None = None, query: int | None = None,
    key: int | None = None,
) -> Figure:
    """The view as a matplotlib figure.

    Args:
        view: Any View.
        theme: "light" or "dark".
        layer: For attention, the layer of the head shown large; the last by default.
        head: For attention, the head shown large; the first by default.
        query: For a view of one position, or of one query, which; the last by default.
        key: For a view of one query and key, which key; the first by default.

    Raises:
        ValueError: there is no such theme, layer or head, or no figure of this kind of view.

    Example:
        >>> import numpy as np
        >>> from gptviz.views import training_view
        >>> figure(training_view({"train": (np.array([0, 1]), np.array([2.0, 1.5]))})).axes[0].get_xlabel()
        'step'
    """
    if theme not in THEMES:
        raise ValueError(f"theme must be one of {sorted(THEMES)}, not {theme!r}.")
    if view.kind not in _DRAW:
        raise ValueError(f"There is a figure for {sorted(_DRAW)}, not for a view of kind {view.kind!r}.")
    palette = THEMES[theme]
    drawn = _DRAW[view.kind](view, palette, layer, head, query, key)
    drawn.set_facecolor(palette.paper)
    return drawn


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


_DRAW: dict[str, Callable[..., Figure]] = {
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
