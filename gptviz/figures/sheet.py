"""What views are drawn on: a figure of its own for each, or parts of one figure that holds several."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure, FigureBase
from matplotlib.transforms import Bbox

from gptviz.figures.palette import Palette

# Gives something to draw on that is so many inches wide and high.
Sheet = Callable[[float, float], FigureBase]

GAP = 0.45  # inches between two views
WIDTH = 16.0  # inches that views share side by side; one that is wider stands alone


class Look(NamedTuple):
    """What a picture is of: the head shown large, and the position or cell that is marked. None: not chosen."""

    layer: int | None = None
    head: int | None = None
    query: int | None = None
    key: int | None = None


class Drawn(NamedTuple):
    """A view that was drawn on a sheet of its own: that sheet in inches, and what its ink covers of it or beyond."""

    width: float
    height: float
    ink: Bbox


class Place(NamedTuple):
    """Where the ink of a view begins on the sheet of all, in inches from the left and from the top."""

    x: float
    y: float


def own_figure(draw: Callable[[Sheet], FigureBase]) -> Figure:
    """A figure for one view."""
    made = []

    def sheet(width: float, height: float) -> FigureBase:
        made.append(Figure(figsize=(width, height)))
        return made[0]

    draw(sheet)
    return made[0]


def sheet_of_all(heading: Callable[[Sheet], FigureBase], draws: Sequence[Callable[[Sheet], FigureBase]]) -> Figure:
    """One figure of several views, each drawn as it is alone, below a heading.

    Every view is drawn twice: how far its names reach beyond its axes is known only when they are written.

    Args:
        heading: Draws what stands above all.
        draws: Each draws a view on the sheet that it is given, always of the same size.
    """
    alone = [_measured(draw) for draw in (heading, *draws)]
    top, *views = [(one.ink.width, one.ink.height) for one in alone]
    below = shelves(views, max(WIDTH, *(wide for wide, _ in views)))
    places = [Place(0.0, 0.0), *(Place(x, y + top[1] + GAP) for x, y in below)]
    wide = max(place.x + one.ink.width for place, one in zip(places, alone, strict=True))
    high = max(place.y + one.ink.height for place, one in zip(places, alone, strict=True))
    rim = max(max(one.width, one.height) for one in alone)  # a sheet may be larger than its ink; a saved file is cut
    whole = Figure(figsize=(wide + 2 * rim, high + 2 * rim))
    for draw, one, place in zip((heading, *draws), alone, places, strict=True):
        draw(_part(whole, rim + place.x - one.ink.x0, rim + high - place.y - one.ink.y1))
    return whole


def draw_heading(sheet: Sheet, words: str, marked: str, palette: Palette) -> FigureBase:
    """What a board shows and what is chosen on it: two lines in the colours of both."""
    drawn = sheet(12.0, 0.6)
    drawn.text(0, 0.62, words, color=palette.ink, fontsize=13, fontweight="bold", va="bottom", parse_math=False)
    drawn.text(0, 0.1, marked, color=palette.accent, fontsize=10, va="bottom", parse_math=False)
    return drawn


def shelves(sizes: Sequence[tuple[float, float]], width: float) -> list[Place]:
    """Boxes in their order, as many beside each other as the width allows, each row below the highest of the last.

    Example:
        >>> shelves([(6.0, 2.0), (4.0, 3.0), (5.5, 1.0)], width=10.5)
        [Place(x=0.0, y=0.0), Place(x=6.45, y=0.0), Place(x=0.0, y=3.45)]
    """
    places, x, y, row = [], 0.0, 0.0, 0.0
    for wide, high in sizes:
        if x and x + wide > width:
            x, y, row = 0.0, y + row + GAP, 0.0
        places.append(Place(x, y))
        x, row = x + wide + GAP, max(row, high)
    return places


def _measured(draw: Callable[[Sheet], FigureBase]) -> Drawn:
    alone = own_figure(draw)
    alone.draw_without_rendering()  # some axes find their place only then
    width, height = alone.get_size_inches()
    return Drawn(width, height, alone.get_tightbbox())


def _part(whole: Figure, left: float, bottom: float) -> Sheet:
    """A part of a figure whose lower left corner is so many inches from that of the figure."""

    def sheet(width: float, height: float) -> FigureBase:
        all_wide, all_high = whole.get_size_inches()
        grid = whole.add_gridspec(3, 3, width_ratios=(left, width, all_wide - left - width),
                                  height_ratios=(all_high - bottom - height, height, bottom))
        return whole.add_subfigure(grid[1, 1])

    return sheet
