"""View -> matplotlib figure: the same picture for paper, slides and readers without a browser.

Colours, scales and wording are those of the front end (`js/colour.ts`); a test compares the two. Text is never
interpreted: a token `$x$` stays four characters.
"""

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from gptviz.views import View
from gptviz.views.attention import head_pattern, head_tiles
from gptviz.whole_files import write_result

FORMATS = ("png", "svg", "pdf")
EMBEDDED_FONTS: dict[Any, Any] = {"svg.fonttype": "path", "pdf.fonttype": 42}
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of sqrt(p): evenly spaced on the legend
LABELLED = 40  # tokens up to which every one is named on an axis
THUMBNAIL_CELLS = 64  # cells along a thumbnail; longer texts are pooled
CELL_NUMBERS = 20  # tokens up to which the large head prints its values


@dataclass(frozen=True)
class Palette:
    """The colours of one theme; see the visual language in `js/colour.ts`."""

    paper: str
    ink: str
    ink_2: str
    rule: str
    accent: str
    series: tuple[str, ...]
    sequential: tuple[str, ...]
    loss: tuple[str, ...]

    def colormap(self, scale: str) -> LinearSegmentedColormap:
        """The piecewise linear colour map of "sequential" or "loss"."""
        return LinearSegmentedColormap.from_list(scale, getattr(self, scale), N=256)


THEMES = {
    "light": Palette(
        paper="#FFFFFF", ink="#17202B", ink_2="#465362", rule="#AEB9C5", accent="#C2410C",
        series=("#0067A5", "#8F5B00", "#007A5E", "#A33D7B"),
        sequential=("#EFF6F8", "#B6DEF2", "#82C4EA", "#57A8DD", "#3B8AC9", "#2F6CAC", "#2B5188", "#26385F", "#1C2336"),
        loss=("#FCFAF7", "#F5ECE1", "#EFDECA", "#EAD0B4", "#E4C29E", "#DEB488", "#D9A672", "#D3975C", "#CD8844"),
    ),
    "dark": Palette(
        paper="#10151B", ink="#E9EDF2", ink_2="#B4BECA", rule="#465261", accent="#FF8A4C",
        series=("#6CB8F0", "#F0B429", "#4CCBA2", "#E59CC8"),
        sequential=("#20252C", "#273C55", "#28557B", "#24729A", "#2991AF", "#4BAFB9", "#83CABC", "#BFDFC7", "#F1F4E8"),
        loss=("#24211E", "#302820", "#3C2F22", "#493724", "#563E26", "#644527", "#724C29", "#81542B", "#905B2C"),
    ),
}  # fmt: skip
MARKERS = ("o", "D", "^", "s")
NOTHING_BEFORE = "dotted outline: no token before it"
NOT_FINITE = "✕ not finite"
CLIPPED = "▴ above the scale"


def figure(view: View, *, theme: str = "light", layer: int | None = None, head: int | None = None) -> Figure:
    """The view as a matplotlib figure.

    Args:
        view: Any View.
        theme: "light" or "dark".
        layer: For attention, the layer of the head shown large; the last by default.
        head: For attention, the head shown large; the first by default.

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
    drawn = _DRAW[view.kind](view, palette, layer, head)
    drawn.set_facecolor(palette.paper)
    return drawn


def save(shown: View | Figure, path: str | os.PathLike, **options: Any) -> Path:
    """Write a view or figure as PNG, SVG or PDF, by the ending of the path; fonts are embedded, nothing is clipped.

    Args:
        shown: A View, or a figure made of one.
        path: Where to; an existing file is replaced.
        options: `theme`, `layer` and `head`, as for `figure`.

    Raises:
        ValueError: another ending, or a folder that does not exist.

    Example:
        >>> import tempfile
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


def _attention(view: View, palette: Palette, layer: int | None, head: int | None) -> Figure:
    """All heads as thumbnails, one of them large with its tokens."""
    tiles, n_tokens = head_tiles(view, THUMBNAIL_CELLS), len(view.labels["token"])
    n_layer, n_head = tiles.shape[:2]
    chosen = n_layer - 1 if layer is None else layer, 0 if head is None else head
    if not (0 <= chosen[0] < n_layer and 0 <= chosen[1] < n_head):
        raise ValueError(f"The view has layers 0 to {n_layer - 1} and heads 0 to {n_head - 1}; "
                         f"{'L{}H{}'.format(*chosen)} is none.")
    large = min(max(0.26 * n_tokens, 4.5), 9.0)  # inches
    thumbnail = min(1.05, 8.0 / max(n_layer, n_head))
    width, height = thumbnail * n_head + large + 2.6, max(large + 1.6, (thumbnail + 0.25) * n_layer + 0.8)
    drawn = Figure(figsize=(width, height))
    share = (thumbnail * n_head + 0.6) / width
    left, right = drawn.subfigures(1, 2, squeeze=False, width_ratios=(share, 1 - share))[0]
    used, top = min(1.0, (thumbnail + 0.25) * n_layer / (height - 0.8)), 1 - 0.6 / height
    room = dict(left=0.02, right=0.97, top=top, bottom=top * (1 - used) + 0.02, wspace=0.15, hspace=0.25)
    grid = left.subplots(n_layer, n_head, squeeze=False, gridspec_kw=room)
    _thumbnails(grid, tiles, chosen, palette)
    pooled = "  each pixel the largest of its cells" if tiles.shape[-1] < n_tokens else ""
    _say(grid[0, 0], view.title + pooled, palette, loc="left", pad=12)
    axes = right.subplots(gridspec_kw=dict(left=0.2, right=0.97, bottom=0.06))
    _large_head(axes, head_pattern(view, *chosen), view.labels["token"], palette)
    _say(axes, "L{}H{}".format(*chosen), palette, loc="left", pad=14)
    _attention_scale(right, axes, palette)
    for half in (left, right):
        half.set_facecolor(palette.paper)
    return drawn


def _attention_scale(part: Any, axes: Axes, palette: Palette) -> None:
    """The colour bar of attention, in even steps of the root."""
    bar = part.colorbar(axes.images[0], ax=axes, orientation="horizontal", fraction=0.03, pad=0.03, aspect=45)
    bar.set_ticks(list(TICKS), labels=[f"{tick**2:.2f}".strip("0").rstrip(".") or "0" for tick in TICKS])
    bar.set_label("attention p, colour by √p; hatched: masked, later tokens", color=palette.ink_2)
    bar.ax.tick_params(colors=palette.ink_2)
    bar.outline.set_visible(False)


def _thumbnails(grid: np.ndarray, pattern: np.ndarray, chosen: tuple[int, int], palette: Palette) -> None:
    for (layer, head), axes in np.ndenumerate(grid):
        _cells(axes, pattern[layer, head], palette)
        axes.set_xticks([])
        axes.set_yticks([])
        here = (layer, head) == chosen
        for spine in axes.spines.values():
            spine.set(color=palette.accent, linewidth=2, visible=here)
        axes.set_xlabel(
            f"L{layer}H{head}", fontsize=8, labelpad=2, color=palette.accent if here else palette.ink_2
        )


def _large_head(axes: Axes, pattern: np.ndarray, tokens: Sequence[str], palette: Palette) -> None:
    _cells(axes, pattern, palette)
    n_tokens = len(tokens)
    every = range(0, n_tokens, -(-n_tokens // LABELLED))
    size = max(6.0, min(10.0, 260 / min(n_tokens, LABELLED)))
    axes.set_yticks(list(every), [f"{tokens[at]} {at}" for at in every], fontsize=size, family="monospace")
    axes.xaxis.tick_top()
    axes.set_xticks(list(every), [tokens[at] for at in every], fontsize=size, rotation=60, ha="left",
                    rotation_mode="anchor", family="monospace")  # fmt: skip
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set(color=palette.ink, parse_math=False)
    axes.tick_params(length=0, pad=2)
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("key (attended to) →", loc="left", color=palette.ink_2)
    axes.annotate("query (attends) ↓", (0, 1), xytext=(-4, 4), xycoords="axes fraction", textcoords="offset points",
                  ha="right", color=palette.ink_2)  # fmt: skip
    for spine in axes.spines.values():
        spine.set_visible(False)
    if n_tokens <= CELL_NUMBERS:
        _cell_numbers(axes, pattern, palette)


def _cells(axes: Axes, pattern: np.ndarray, palette: Palette) -> None:
    """The lower triangle by sqrt(p); masked cells hatched, values that are not finite crossed."""
    n_tokens = len(pattern)
    lower = np.tri(n_tokens, dtype=bool)
    shown = np.ma.masked_where(~lower | ~np.isfinite(pattern), np.sqrt(np.clip(pattern, 0, None)))
    axes.imshow(shown, cmap=palette.colormap("sequential"), vmin=0, vmax=1, interpolation="nearest")
    axes.set_facecolor(palette.paper)
    stairs = [(-0.5, -0.5)] + [
        (x, y) for i in range(n_tokens) for x, y in ((i + 0.5, i - 0.5), (i + 0.5, i + 0.5))
    ]
    future = Polygon([*stairs, (n_tokens - 0.5, -0.5)], closed=True, facecolor="none", edgecolor=palette.rule,
                     hatch="////", linewidth=0, alpha=0.5)  # fmt: skip
    axes.add_patch(future)
    for query, key in np.argwhere(lower & ~np.isfinite(pattern)):
        axes.plot(key, query, marker="x", color=palette.ink, markersize=4)


def _cell_numbers(axes: Axes, pattern: np.ndarray, palette: Palette) -> None:
    colormap = palette.colormap("sequential")
    for (query, key), value in np.ndenumerate(pattern):
        if key <= query and np.isfinite(value) and value >= 0.4:
            text = "1" if value > 0.995 else f"{value:.2f}".removeprefix("0")
            axes.text(
                key, query, text, ha="center", va="center", fontsize=7, color=_on(colormap(np.sqrt(value)))
            )


def _tokens(view: View, palette: Palette, *_: object) -> Figure:
    """The text in chips coloured by loss, wrapped into lines."""
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
    drawn = Figure(figsize=(9.5, 0.36 * (line + 1) + 1.1))
    axes = drawn.subplots()
    marks = [_mark(float(loss), at, high) for at, loss in enumerate(losses)]
    for token, loss, mark, (x, line, size) in zip(tokens, losses, marks, places, strict=True):
        colour = colormap((loss - low) / (high - low)) if np.isfinite(loss) else palette.paper
        axes.add_patch(Rectangle((x, line), size - 0.3, 0.8, facecolor=colour, edgecolor=palette.rule,
                                 linewidth=0.5, linestyle=":" if mark == NOTHING_BEFORE else "-"))  # fmt: skip
        axes.text(x + 0.25, line + 0.42, token[: size - 1], va="center", fontsize=9, family="monospace",
                  color=palette.ink, parse_math=False)  # fmt: skip
        if mark in (NOT_FINITE, CLIPPED):
            axes.text(x + size - 0.35, line + 0.02, mark[0], ha="right", va="top", fontsize=6, color=palette.ink)
    axes.set(xlim=(0, width), ylim=(places[-1][1] + 1, -0.2))
    axes.axis("off")
    _say(axes, f"{view.title}: loss per token, {low:.0f} to {high:.0f} nats", palette, loc="left")
    scale = ScalarMappable(Normalize(low, high), colormap)
    bar = drawn.colorbar(scale, ax=axes, orientation="horizontal", fraction=0.08, pad=0.04, aspect=50)
    legend = "; ".join(mark for mark in (NOTHING_BEFORE, NOT_FINITE, CLIPPED) if mark in marks)
    bar.set_label(f"nats ({legend})" if legend else "nats", color=palette.ink_2)
    bar.ax.tick_params(colors=palette.ink_2)
    return drawn


def _mark(loss: float, position: int, high: float) -> str | None:
    """What a colour cannot say of a token's loss, in the words of the caption."""
    if not np.isfinite(loss):
        return NOTHING_BEFORE if position == 0 else NOT_FINITE
    return CLIPPED if loss > high else None


def _training(view: View, palette: Palette, *_: object) -> Figure:
    """Every series over the steps, named at its right end."""
    drawn = Figure(figsize=(9, 4))
    axes = drawn.subplots()
    for i in range(len(view.labels["series"])):
        steps, values = view.arrays[f"steps_{i}"], view.arrays[f"values_{i}"]
        colour = palette.series[i % len(palette.series)]
        few = len(steps) <= 30
        axes.plot(steps, values, color=colour, linewidth=1.6, linestyle="-" if i % 2 == 0 else "--",
                  marker=MARKERS[i % len(MARKERS)] if few else None, markersize=4)  # fmt: skip
        for step in steps[~np.isfinite(values)]:
            axes.axvline(step, color=palette.ink, linewidth=1, linestyle=":")
            axes.annotate("✕ not finite", (step, 1), xycoords=("data", "axes fraction"), color=palette.ink)
    _name_series(axes, view, palette)
    axes.set_facecolor(palette.paper)
    axes.set_xlabel("step", color=palette.ink_2)
    axes.tick_params(colors=palette.ink_2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(palette.rule)
    _say(axes, f"{view.title}, {view.subtitle}", palette, loc="left")
    return drawn


def _name_series(axes: Axes, view: View, palette: Palette) -> None:
    """Each series' name and last value at the right end, from top to bottom without overlap."""
    ends = []
    for i, name in enumerate(view.labels["series"]):
        values = view.arrays[f"values_{i}"]
        finite = np.flatnonzero(np.isfinite(values))
        if len(finite):
            ends.append((float(values[finite[-1]]), name, palette.series[i % len(palette.series)]))
    low, high = axes.get_ylim()
    line, above = 0.06 * (high - low), np.inf
    for value, name, colour in sorted(ends, reverse=True):
        above = min(value, above - line)
        axes.annotate(f"{name} {value:.2f}", (1, above), xytext=(8, 0), xycoords=("axes fraction", "data"), va="center",
                      textcoords="offset points", color=colour, parse_math=False, annotation_clip=False)  # fmt: skip


def _say(axes: Axes, title: str, palette: Palette, **place: object) -> None:
    axes.set_title(title, color=palette.ink, fontsize=11, fontweight="bold", parse_math=False, **place)  # type: ignore[arg-type]


def _on(colour: tuple[float, float, float, float]) -> str:
    """Black or white, whichever reads better on a colour (WCAG relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return "#000000" if float(np.dot(linear, (0.2126, 0.7152, 0.0722))) > 0.179 else "#FFFFFF"


_DRAW: dict[str, Callable[..., Figure]] = {"attention": _attention, "tokens": _tokens, "training": _training}
