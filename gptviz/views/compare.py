"""What differs between two runs, as a list."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gptviz.views.view import View

MOST = 24  # rows


def compare_view(differences: Sequence[Any], names: tuple[str, str]) -> View:
    """What differs most: fields of the configs, then losses and matched heads by size.

    Args:
        differences: `gptviz.analysis.comparison.Difference`s, in the order of the list.
        names: What the two runs are called.

    Example:
        >>> from gptviz.analysis.comparison import Difference
        >>> view = compare_view([Difference("config", "seed", 1, 2, float("nan"))], ("a", "b"))
        >>> view.content["rows"][0]
        {'kind': 'config', 'name': 'seed', 'a': '1', 'b': '2', 'layer': None, 'head': None}
    """
    shown = list(differences[:MOST])
    rows = [{"kind": one.kind, "name": one.name, "a": _text(one.a), "b": _text(one.b), **_place(one)} for one in shown]
    size = np.array([one.size for one in shown], np.float32)
    return View("compare", "What differs most", "settings first, then losses and heads by size · click a head",
                {"size": size}, {"size": ("difference",)},
                content={"rows": rows, "names": list(names), "more": len(differences) - len(shown)})


def _place(one: Any) -> dict[str, int | None]:
    layer, head = one.name[1:].split("H") if one.kind == "head" else (None, None)
    return {"layer": None if layer is None else int(layer), "head": None if head is None else int(head)}


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
