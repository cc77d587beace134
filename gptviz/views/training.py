"""The loss curve."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int, Shaped

from gptviz.views.view import View


def training_view(
    series: Mapping[str, tuple[Shaped[np.ndarray, "..."], Shaped[np.ndarray, "..."]]],
    *, title: str = "Loss", unit: str = "nats per token", known: int = 0
) -> View:
    """Loss over steps. Each series has steps of its own: training loss is known more often than validation loss.

    A NaN stays in its series and is drawn as a NaN: a run that diverged must look like one.

    Args:
        series: Name -> (steps, values), steps rising.
        title: The panel's title.
        unit: The unit of the values.
        known: Points of the longest series, if they are more than those given (see `drawn_points`).

    Raises:
        ValueError: If a series has unequal lengths or falling steps.

    Example:
        >>> view = training_view({"train": (np.array([0, 10]), np.array([4.2, 3.1]))})
        >>> view.labels["series"]
        ('train',)
    """
    arrays, axes = {}, {}
    for i, (name, (steps, values)) in enumerate(series.items()):
        if steps.ndim != 1 or steps.shape != values.shape or bool((np.diff(steps) < 0).any()):
            raise ValueError(f"Series {name!r} must be two equally long rows with rising steps; steps have shape "
                             f"{steps.shape}, values {values.shape}. Sort by step and drop what has no value.")
        arrays |= {f"steps_{i}": steps.astype(np.int32), f"values_{i}": values.astype(np.float32)}
        axes |= {f"steps_{i}": ("point",), f"values_{i}": ("point",)}
    drawn = max((len(steps) for steps, _ in series.values()), default=0)
    thinned = f"{drawn:,} of {known:,} points: the lowest and highest of each stretch".replace(",", "\u2009")
    return View("training", title, unit, arrays, axes, labels={"series": tuple(series)},
                units={f"values_{i}": unit for i in range(len(series))},
                content={"thinned": thinned, "known": known} if known > drawn else {})


def drawn_points(
    values: Shaped[np.ndarray, "point"], most: int, *, most_odd: int | None = None
) -> Int[np.ndarray, "kept"]:
    """The places of a long curve that are drawn: both ends, what is not finite, and each bucket's extremes.

    Args:
        values: The curve.
        most: Finite points that are kept, about; a curve no longer than this is drawn whole.
        most_odd: Of the values that are not finite about so many are kept; all by default.

    Example:
        >>> drawn_points(np.array([5.0, 1, 2, 9, 3, 4]), 4).tolist()
        [0, 1, 3, 4, 5]
    """
    if len(values) <= most:
        return np.arange(len(values))
    finite, odd = np.flatnonzero(np.isfinite(values)), np.flatnonzero(~np.isfinite(values))
    buckets = np.array_split(finite, min(len(finite), most // 2) or 1)
    extremes = [at[[values[at].argmin(), values[at].argmax()]] for at in buckets if len(at)]
    kept = odd if most_odd is None else odd[:: len(odd) // most_odd + 1]
    return np.unique(np.concatenate([[0, len(values) - 1], kept, *extremes]))
