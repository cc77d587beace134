"""Events of a run on its axis of steps: what happened, where, and why it is said."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gptviz.views.view import View

TITLES = {
    "previous_token_head": "previous-token head born",
    "induction_head": "induction head formed",
    "attention_sink": "attention sink",
    "bigram_plateau_passed": "bigram plateau passed",
    "dead_neurons": "dead neurons",
    "loss_plateau": "loss plateau",
    "loss_drop": "loss drop",
    "nonfinite_loss": "loss not finite",
}
"""What each event is called on a timeline; others, such as a change of threads, are not shown."""


def events_view(events: Sequence[Mapping[str, Any]]) -> View:
    """Marks on the axis of steps, each with its evidence and with what would make it false.

    Args:
        events: Records as `Run.events` gives them.

    Example:
        >>> view = events_view([{"step": 300, "name": "induction_head", "layer": 1, "head": 0, "score": 0.81,
        ...                      "null": 0.04, "threshold": 0.33, "evidence": "L1H0 attends ...", "false_if": "..."}])
        >>> view.content["events"][0]["short"]
        'L1H0, 0.81 vs null 0.04'
    """
    shown = sorted((event for event in events if event["name"] in TITLES), key=lambda event: event["step"])
    arrays = {
        "step": np.array([event["step"] for event in shown], np.int32),
        "score": np.array([event.get("score", np.nan) for event in shown], np.float32),
        "null": np.array([event.get("null", np.nan) for event in shown], np.float32),
        "threshold": np.array([event.get("threshold", np.nan) for event in shown], np.float32),
    }
    said = [
        {"step": int(event["step"]), "name": event["name"], "title": TITLES[event["name"]], "short": _short(event),
         "layer": event.get("layer"), "head": event.get("head"), "evidence": event.get("evidence", ""),
         "false_if": event.get("false_if", "")}
        for event in shown
    ]  # fmt: skip
    return View("events", "Events", "found at the recorded steps · hover for the evidence, click to go there", arrays,
                dict.fromkeys(arrays, ("event",)), content={"events": said})


def _short(event: Mapping[str, Any]) -> str:
    """Where, and the score beside its null."""
    layer, head = event.get("layer"), event.get("head")
    place = "" if layer is None else f"L{layer}H{head}" if head is not None else f"layer {layer}"
    if event["name"] == "loss_plateau":
        since = event.get("more", {}).get("first", event["step"] // 2)
        scores = f"level since step {since}, within {100 * max(event['null'], abs(event['score'])):.1f} %"
    elif event["name"] == "loss_drop":
        scores = f"{100 * event['score']:.1f} % vs {100 * event['null']:.1f} % by chance"
    elif event["name"] == "nonfinite_loss":
        scores = f"first in {event['first']}"
    else:
        scores = f"{event['score']:.2f} vs null {event['null']:.2f}"
    return f"{place}, {scores}" if place else scores
