"""The colours of a figure and the words on it."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb


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
    negative: tuple[str, ...]  # from 0 outward, like positive
    positive: tuple[str, ...]

    def colormap(self, scale: str) -> LinearSegmentedColormap:
        """The piecewise linear colour map of "sequential", "loss" or "diverging" (symmetric around 0)."""
        colours = (*self.negative[:0:-1], *self.positive) if scale == "diverging" else getattr(self, scale)
        return LinearSegmentedColormap.from_list(scale, colours, N=256)


THEMES = {
    "light": Palette(
        paper="#FFFFFF", ink="#17202B", ink_2="#465362", rule="#AEB9C5", accent="#C2410C",
        series=("#0067A5", "#8F5B00", "#007A5E", "#A33D7B"),
        sequential=("#EFF6F8", "#B6DEF2", "#82C4EA", "#57A8DD", "#3B8AC9", "#2F6CAC", "#2B5188", "#26385F", "#1C2336"),
        loss=("#FCFAF7", "#F5ECE1", "#EFDECA", "#EAD0B4", "#E4C29E", "#DEB488", "#D9A672", "#D3975C", "#CD8844"),
        negative=("#F2F2F2", "#D2DFEC", "#B6CCE3", "#9BB8D8", "#80A5CD", "#6592C1", "#4A80B5", "#2E6DA9", "#025A9C"),
        positive=("#F2F2F2", "#EDDDD2", "#E5C9B7", "#DCB69D", "#D2A383", "#C88F69", "#BD7D4F", "#B26A34", "#A6560D"),
    ),
    "dark": Palette(
        paper="#10151B", ink="#E9EDF2", ink_2="#B4BECA", rule="#465261", accent="#FF8A4C",
        series=("#6CB8F0", "#F0B429", "#4CCBA2", "#E59CC8"),
        sequential=("#20252C", "#273C55", "#28557B", "#24729A", "#2991AF", "#4BAFB9", "#83CABC", "#BFDFC7", "#F1F4E8"),
        loss=("#24211E", "#302820", "#3C2F22", "#493724", "#563E26", "#644527", "#724C29", "#81542B", "#905B2C"),
        negative=("#3C3F43", "#404F5D", "#475E74", "#4F6E8B", "#577EA1", "#608EB9", "#699FD0", "#72B0E7", "#7CC1FF"),
        positive=("#3C3F43", "#564B43", "#6E5846", "#85654B", "#9C7350", "#B38155", "#CB905B", "#E39F61", "#FBAE67"),
    ),
}  # fmt: skip


def say(axes: Axes, title: str, palette: Palette, **place: object) -> None:
    """The title of a panel; its text is never interpreted."""
    axes.set_title(title, color=palette.ink, fontsize=11, fontweight="bold", parse_math=False, **place)  # type: ignore[arg-type]


def ink_on(colour: tuple[float, float, float, float]) -> str:
    """Black or white, whichever reads better on a colour (WCAG relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return "#000000" if float(np.dot(linear, (0.2126, 0.7152, 0.0722))) > 0.179 else "#FFFFFF"


def plain(axes: Axes, palette: Palette) -> None:
    """Paper behind, quiet ticks, hairlines around."""
    axes.set_facecolor(palette.paper)
    axes.tick_params(colors=palette.ink_2, length=0)
    axes.spines[:].set_color(palette.rule)
