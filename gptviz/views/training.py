"""The loss curve."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Shaped

from gptviz.views.view import View


def training_view(
    series: Mapping[str, tuple[Shaped[np.ndarray, "..."], Shaped[np.ndarray, "..."]]],
    *, title: str = "Loss", unit: str = "nats per token"
) -> View:
    """Loss over steps. Each series has steps of its own: training loss is known more often than validation loss.

    A NaN stays in its series and is drawn as a NaN: a run that diverged must look like one.

    Args:
        series: Name -> (steps, values), steps rising.
        title: The panel's title.
        unit: The unit of the values.

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
    return View("training", title, unit, arrays, axes, labels={"series": tuple(series)},
                units={f"values_{i}": unit for i in range(len(series))})
