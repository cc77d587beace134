"""How a training stands and what may be asked of it: the words, numbers and buttons above a live board."""

import math
from collections.abc import Mapping, Sequence

from gptviz.views.view import View

ENDED = "the training has ended"
ELSEWHERE = "it trains in another process"

Readout = tuple[str, str, str]  # name, value, unit


def controls_view(
    state: str,
    readouts: Sequence[Readout],
    *,
    pace: str = "",
    cost: str = "",
    trouble: str = "",
    disabled: Mapping[str, str] | None = None,
    rate: str = "",
) -> View:
    """A training's state in a word, its numbers, what watching costs, and its buttons.

    Args:
        state: "training", "paused", "finished", "stopped", "failed" ...
        readouts: (name, value, unit), in order.
        pace: How fast it goes and how long it still takes.
        cost: What recording takes.
        trouble: What is wrong, in a sentence; "" if nothing is.
        disabled: Why a control cannot be used, by its name: pause, step, stop, record, rate. The reason stands beside.
        rate: The learning rate in force, for its field.

    Example:
        >>> controls_view("paused", [("train loss", "2.31", "nats")]).content["state"]
        'paused'
    """
    words = {"state": state, "readouts": [list(one) for one in readouts], "pace": pace, "cost": cost,
             "trouble": trouble, "disabled": dict(disabled or {}), "rate": rate}
    return View("controls", "Training", "", {}, {}, content=words)


def disabled_controls(state: str, *, here: bool) -> dict[str, str]:
    """Why each control rests in this state.

    Args:
        state: As for `controls_view`.
        here: Whether this process trains; another one can only be stopped.

    Example:
        >>> disabled_controls("training", here=True)
        {'step': 'Pause to step by hand'}
    """
    names = ("pause", "step", "stop", "record", "rate")
    if state not in ("training", "paused"):
        return dict.fromkeys(names, ENDED)
    if not here:
        return {name: ELSEWHERE for name in names if name != "stop"}
    return {} if state == "paused" else {"step": "Pause to step by hand"}


def readouts(step: int, max_iters: int, scalars: Mapping[str, float]) -> list[Readout]:
    """Step, losses, learning rate and gradient norm as a reader wants them.

    Example:
        >>> readouts(1412, 4000, {"loss": 2.3149, "lr": 0.001})
        [('trained to step', '1412', 'of 4000'), ('train loss', '2.31', 'nats'), ('learning rate', '0.001', '')]
    """
    named = {"loss": ("train loss", "nats"), "val_loss": ("validation", "nats"), "accuracy": ("right answers", "of 1"),
             "lr": ("learning rate", ""), "grad_norm": ("gradient norm", "")}
    shown = [(words, short(scalars[name], name), unit) for name, (words, unit) in named.items() if name in scalars]
    return [("trained to step", str(step), f"of {max_iters}"), *shown]


def short(value: float, name: str = "loss") -> str:
    """A number for a readout: two decimals; a learning rate with three digits.

    Example:
        >>> short(2.3149), short(0.00031234, "lr"), short(float("nan"))
        ('2.31', '0.000312', 'NaN')
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    return f"{value:.3g}" if name == "lr" else f"{value:.2f}"
