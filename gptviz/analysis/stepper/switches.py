"""What breaks without it: the same text through the model with one part taken away, by an intervention."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import nn

from gptviz.analysis.requirements import matching_model
from gptviz.interventions import ablate_head, ablate_mlp, intervene
from gptviz.interventions.edit import Edit
from gptviz.interventions.removal import without
from gptviz.naming import index_within
from gptviz.trace import Trace, record

NEXT = 3  # likeliest next tokens of a result
AT_ONCE = 40  # results that a page holds


@dataclass(frozen=True)
class Switch:
    """One thing to take away.

    Attributes:
        id: A word for links and code.
        stage: The stage whose part it is.
        title: What the switch says.
        sentence: What the model does then.
        by: What must be chosen: nothing, a layer, or a layer and a head.
    """

    id: str
    stage: str
    title: str
    sentence: str
    by: tuple[str, ...] = ()


SWITCHES: dict[str, tuple[Switch, Callable[..., Edit]]] = {
    switch.id: (switch, edit) for switch, edit in (
        (Switch("no_positions", "pos_embed", "without positions",
                "All position embeddings are zero: what is left of the order is what the mask tells."),
         lambda: without("positions")),
        (Switch("no_normalisation", "ln_1", "without dividing by the standard deviation",
                "Every LayerNorm takes the mean away but divides by 1."), lambda: without("normalisation")),
        (Switch("no_score_scaling", "raw_scores", "without 1/√d_head",
                "The scores are larger by √d_head: attention gets sharper."), lambda: without("score_scaling")),
        (Switch("no_mask", "mask", "without the mask",
                "Every query sees the later tokens, too, though it never did in training."), lambda: without("mask")),
        (Switch("zero_head", "z", "without this head", "What the head reads is replaced by zero.", ("layer", "head")),
         lambda layer, head: ablate_head(layer, head)),
        (Switch("zero_mlp", "mlp_out", "without this MLP", "What the MLP writes is replaced by zero.", ("layer",)),
         lambda layer: ablate_mlp(layer)),
    )
}
"""What can be taken away, and the edit that does it."""


def switch_result(
    trace: Trace, model: nn.Module, id: str, layer: int | None = None, head: int | None = None,
    visible: Callable[[int], str] = str,
) -> dict[str, Any]:
    """Run the text of a trace without a part of the model.

    Args:
        trace: Holds logits and loss of the whole text.
        model: The model that made it.
        id: One of `SWITCHES`.
        layer: Where, for a switch of one layer.
        head: Where, for a switch of one head.
        visible: The visible form of a token id.

    Returns:
        JSON: {id, layer, head, code (the edit as Python), changed (whether it did more than rounding), loss, true_loss
        (nats, means over the text), losses (of each token), next, true_next (the likeliest tokens after the last, as
        {token, word, prob})}. None stands for a number that is not finite.

    Misleads where the text has tokens that nobody can foresee, such as the input of a task: without a part the model
    is less sure of what it could not know, and the mean loss falls. Look at the losses of the tokens that it can know.

    Raises:
        ValueError: No such switch, or a layer or head that it does not take or lacks.
        UnknownNameError: No such layer or head.

    Example:
        >>> from gptviz.loading import load
        >>> model, tokenizer = load("sorter")
        >>> result = switch_result(record(model, "CBABBCABBBC", tokenizer), model, "no_positions")
        >>> result["code"], result["changed"], result["loss"] > result["true_loss"]
        ("without('positions')", True, True)
    """
    if id not in SWITCHES:
        raise ValueError(f"A switch must be one of {', '.join(SWITCHES)}, not {id!r}.")
    switch, edit_of = SWITCHES[id]
    inner, given = matching_model(trace, model), {"layer": layer, "head": head}
    if {name for name, value in given.items() if value is not None} != set(switch.by):
        raise ValueError(f"The switch {id} takes {' and '.join(switch.by) or 'no layer or head'}; it was given "
                         f"layer={layer}, head={head}. Give exactly that.")
    sizes = {"layer": inner.config.n_layer, "head": inner.config.n_head}
    at = {name: index_within(given[name] or 0, sizes[name], name) for name in switch.by}
    edit = edit_of(**at)
    with intervene(inner, edit, allow_unchanged=True) as report:
        after = record(inner, trace.ids, names=["logits", "loss"])
    return {"id": id, "layer": layer, "head": head, "code": repr(edit), "changed": report[0].changed,
            "loss": _mean_loss(after), "true_loss": _mean_loss(trace), "losses": _losses(after),
            "next": _next(after, visible), "true_next": _next(trace, visible)}


def switch_results(
    trace: Trace, model: nn.Module, visible: Callable[[int], str] = str, limit: int = AT_ONCE
) -> dict[str, Any]:
    """All switches, and their results at every place if those are at most `limit`; else only those without a place."""
    config = trace.config
    places: list[dict[str, Any]] = []
    for switch, _ in SWITCHES.values():
        layers = range(config.n_layer) if "layer" in switch.by else [None]
        heads = range(config.n_head) if "head" in switch.by else [None]
        places += [{"id": switch.id, "layer": layer, "head": head} for layer in layers for head in heads]
    if len(places) > limit:
        places = [place for place in places if place["layer"] is None]
    return {"available": [asdict(switch) for switch, _ in SWITCHES.values()],
            "results": [switch_result(trace, model, **place, visible=visible) for place in places]}


def _losses(trace: Trace) -> list[float | None]:
    return [loss if math.isfinite(loss) else None for loss in trace["loss"].double().tolist()]


def _mean_loss(trace: Trace) -> float | None:
    """The mean over the tokens that have a loss; None if there are none or one is not finite."""
    losses = _losses(trace)[1:]
    return float(np.mean([loss for loss in losses if loss is not None])) if losses and None not in losses else None


def _next(trace: Trace, visible: Callable[[int], str]) -> list[dict[str, Any]]:
    probs, ids = trace["logits"][-1].double().softmax(-1).topk(min(NEXT, trace.config.vocab_size))
    pairs = zip(ids.tolist(), probs.tolist(), strict=True)
    return [{"token": token, "word": visible(token), "prob": prob if math.isfinite(prob) else None}
            for token, prob in pairs]
