"""A board as one self-contained HTML file, with the widget's payload and bundle and no network; or as a picture."""

import base64
import hashlib
import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gptviz.views.board import board_payload, payload_json
from gptviz.views.view import View
from gptviz.whole_files import write_result
from gptviz.widgets import STATIC, Board

BUDGET = 12_000_000  # bytes of payload; beyond it frames are left out and the page says so


def export_html(
    shown: Any, path: str | os.PathLike, *, title: str = "", budget: int = BUDGET
) -> Path:
    """Write a page that draws the board without kernel, server or network, and print its size.

    Every recorded step is inside. Where that would pass the budget, steps are thinned evenly in their order;
    the first and last stay, and the page's footer says how many are left.

    Args:
        shown: A Board with its steps, or one or more Views.
        path: The file to write; an existing one is replaced.
        title: The page's title; the board's by default.
        budget: Bytes of payload that the page should not pass.

    Returns:
        The path.

    Raises:
        TypeError: If `shown` is none of these.
        ValueError: If the folder does not exist.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from gptviz.views import training_view
        >>> curve = training_view({"train": (np.array([0, 1]), np.array([2.0, 1.0]))})
        >>> page = export_html(curve, Path(tempfile.mkdtemp()) / "curve.html")
        wrote ...curve.html (... kB)
        >>> "</html>" in page.read_text(encoding="utf-8")
        True
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise ValueError(f"The folder of an exported page must exist; {target.parent} does not. Make it first.")
    payload = _payload(shown, budget)
    text = page_html(payload, title or payload["title"] or "gptviz")
    write_result(target, text.encode())
    note = f": {payload['note']}" if payload.get("note") else ""
    print(f"wrote {target} ({target.stat().st_size / 1e3:,.0f} kB){note}")
    return target


def save(shown: Any, path: str | os.PathLike, *, view: str | None = None, **options: Any) -> Path:
    """Keep a view or board as a file: a picture for paper (.png .svg .pdf), or a page that can be used (.html).

    A picture of a board holds what the board shows, its views one below another, with the head and position that the
    reader chose, or that its page opens on, marked in all of them. What a picture cannot hold, and the views that begin
    folded, are named when the file is written.

    Args:
        shown: A View or a Board.
        path: Where to, and by its ending what; an existing file is replaced.
        view: One view of a board alone, by its kind: "attention", "tokens", "lens" ...; all by default.
        options: `theme`, `layer`, `head`, `query` and `key` of a picture (see `gptviz.figures.figure`); `title` and
            `budget` of a page (see `export_html`).

    Raises:
        TypeError: If `shown` is neither.
        ValueError: If the board has no such view, or the ending or folder is not one.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from gptviz.views import attention_view
        >>> heads = attention_view(np.tril(np.ones((1, 1, 2, 2))) / np.array([[1], [2]]), ["a", "b"])
        >>> save(Board([heads]), Path(tempfile.mkdtemp()) / "heads.svg", theme="dark").name
        wrote ...heads.svg: Heads
        'heads.svg'
    """
    if Path(path).suffix.lower() == ".html":
        return export_html(shown, path, **options)
    from gptviz import figures  # matplotlib takes a second to import

    if isinstance(shown, View):
        return figures.save(shown, path, **options)
    if not isinstance(shown, Board):
        raise TypeError(f"save() keeps a View or a Board; it was given {type(shown).__name__}. "
                        f"Make one with gptviz.explore(trace) or gptviz.views.")
    views, look, heading = shown.shown()
    kinds = {one.kind: one for one in reversed(views)}
    if view is not None and view not in kinds:
        raise ValueError(f"view must be one of this board's, {', '.join(one.kind for one in views)}; "
                         f"it is {view!r}. Choose one, or leave it out for all.")
    if view is not None:
        return figures.save(kinds[view], path, **(look | options))
    drawn, left_out = figures.figure_of_all(views, heading=heading, **(look | options))
    target = figures.save(drawn, path)
    absent = {id(one) for those in left_out.values() for one in those}
    held = [one.title for one in views if id(one) not in absent]
    out = [f"{', '.join(one.kind for one in those)} ({reason})" for reason, those in left_out.items()]
    print(f"wrote {target}: {', '.join(held)}{'; not in it: ' if out else ''}{'; '.join(out)}")
    return target


def _payload(shown: Any, budget: int) -> dict:
    """The payload of a board with its frames, or of views alone."""
    if isinstance(shown, Board):
        return shown.payload(budget=budget)
    views = [shown] if isinstance(shown, View) else list(shown) if isinstance(shown, Sequence) else [shown]
    if not views or not all(isinstance(view, View) for view in views):
        raise TypeError(f"export_html shows a Board or Views; it was given {type(shown).__name__}. "
                        f"Make one with gptviz.explore(trace) or gptviz.views.")
    return board_payload(views)


def page_html(payload: dict, title: str) -> str:
    """The page's text. Its policy forbids every request and every script but ours, which it knows by its hash."""
    script = (STATIC / "board.js").read_text(encoding="utf-8")
    style = (STATIC / "board.css").read_text(encoding="utf-8") + PAGE_STYLE
    policy = (f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
              f"base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'")
    data = payload_json(payload)
    parts = dict(policy=policy, title=html.escape(title), style=style, script=script, payload=data,
                 data_bytes=len(data.encode()))
    return PAGE.format(**parts, file_bytes=len(PAGE.format(**parts, file_bytes=0).encode()))  # ten digits either way


def _hash(text: str) -> str:
    """The name by which a content security policy knows an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


# The heading is for those who hear the page; the board's header shows the same name.
PAGE_STYLE = ("\nhtml{background:#fff}body{margin:0}h1{position:absolute;width:1px;height:1px;margin:0;overflow:hidden;"
              "clip-path:inset(50%)}@media(prefers-color-scheme:dark){html{background:#10151b}}")
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style></head>
<body><main id="gptviz-board"><h1>{title}</h1></main>
<noscript>This page draws its pictures with JavaScript, which is switched off.</noscript>
<script type="application/json" id="gptviz-payload"
 data-file="{file_bytes:010}" data-own="{data_bytes}">{payload}</script>
<script type="module">{script}</script>
</body></html>
"""
