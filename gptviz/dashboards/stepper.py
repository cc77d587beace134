"""A forward pass as a walk: a trace and its model as a board of stages, receipts, questions and switches."""

import math
from typing import Any

from gptviz.arguments import briefly, check_tokenizer, must_be, several, whole_number
from gptviz.dashboards.edits import check_same_pass
from gptviz.dashboards.explore import facts
from gptviz.dashboards.tensors import visible_of
from gptviz.naming import human_bytes
from gptviz.requests import fields_of
from gptviz.tasks import learned
from gptviz.views import Check, View
from gptviz.views.stepper import INLINE, stepper_view
from gptviz.widgets import KEPT_FRAMES, Board

OTHER_WEIGHTS = 0.1  # relative error of recomputed numbers that no rounding makes, in half precision neither


def step_through(
    trace: Any, model: Any, tokenizer: Any = None, *, other: tuple[Any, Any] | None = None, title: str = "",
    labels: tuple[str, str] = ("", ""),
) -> Board:
    """Walk through a forward pass stage by stage, every number with the arithmetic that made it.

    Of a run: `step_through(run.record(text, 100), *run.load(100))`; of two of its steps, add
    `other=(run.record(text, 0), run.load(0)[0])`.

    Args:
        trace: A Trace that holds everything (recorded without names=, layers=, heads= or positions=).
        model: The model that made it, with the same weights.
        tokenizer: For the visible form of tokens that are not in the text, and for other texts typed into the board.
        other: A second (trace, model) beside it, of the same shape: another step, text, or an edited pass.
        title: The model's name.
        labels: What the two passes are: ("step 0", "step 600").

    Returns:
        A Board named "step"; the value of a notebook cell draws it, `gptviz.export_html(board, path)` keeps it.

    Raises:
        TypeError: If something is not of its kind.
        UnknownNameError: If a trace does not hold everything.
        ValueError: If a model is not of the trace's shape or has other weights, the text is too long for so large a
            model, or two passes are not of one shape and length or too large to travel whole.

    Example:
        >>> from gptviz.loading import load
        >>> from gptviz.trace import record
        >>> model, tokenizer = load("sorter")
        >>> board = step_through(record(model, "CBABBC", tokenizer), model, tokenizer)
        >>> board.views[0].kind, len(board.views[0].content["questions"]) > 10
        ('stepper', True)
    """
    _check_words(tokenizer, title, labels)
    passes = [(trace, model), *([_pair(trace, other)] if other is not None else [])]
    views = [pass_view(*one, tokenizer, label=label) for one, label in zip(passes, labels, strict=False)]
    if other is not None and not all(view.content["inline"] for view in views):
        raise ValueError(f"Two passes side by side must be small enough to travel whole, {human_bytes(INLINE)} each. "
                         f"Step through each by itself.")
    text = tokenizer.decode(trace.ids.tolist()) if tokenizer is not None else "".join(trace.tokens)
    shown = _Shown(passes, text, tokenizer)
    editable = tokenizer is not None and other is None
    shown.board = Board(views, name="step", title=title, facts=facts(trace.config), text=text, editable=editable,
                        limit=trace.config.block_size, source=shown.source if editable else None,
                        actions={"receipt": shown.receipt, "switch": shown.switch},
                        layer=0, head=0, query=len(trace) - 1, key=0)
    return shown.board


def _check_words(tokenizer: Any, title: Any, labels: Any) -> None:
    check_tokenizer(tokenizer, "visible", "decode", "vocab_size")
    must_be(title, str, "title", "It is the model's name.")
    if not isinstance(labels, tuple | list) or len(labels) != 2 or not all(isinstance(one, str) for one in labels):
        raise TypeError(f"labels must be two texts, such as ('step 0', 'step 600'), not {briefly(labels)}.")


def _pair(trace: Any, other: Any) -> tuple[Any, Any]:
    """The second trace and its model, if they can stand beside the first."""
    from gptviz.trace import check_trace

    if not isinstance(other, tuple | list) or len(other) != 2:
        raise TypeError(f"other must be a trace and its model, (trace, model), not {type(other).__name__}. "
                        f"Of a run: other=(run.record(text, 0), run.load(0)[0]).")
    for one in (trace, other[0]):
        check_trace(one)
    if other[0].config != trace.config:
        raise ValueError(f"Two passes side by side must have one shape, but the models are {trace.config} and "
                         f"{other[0].config}. Step through each by itself.")
    if len(other[0]) != len(trace):
        raise ValueError(f"Two passes side by side must have as many tokens, but the texts have {len(trace)} and "
                         f"{len(other[0])}. Step through each by itself, or record texts of one length.")
    return other[0], other[1]


def pass_view(trace: Any, model: Any, tokenizer: Any = None, *, label: str = "") -> View:
    """The stepper's view of one trace, with the results of its switches.

    Raises:
        UnknownNameError: If the trace does not hold everything.
        ValueError: If the trace's numbers do not follow from the model's weights.
    """
    from gptviz.analysis.stepper.recorded import recorded_pass
    from gptviz.analysis.stepper.switches import switch_results

    forward = recorded_pass(trace, model)
    checks = tuple(Check(name, check.error, check.bound) for name, check in trace.check(model).items())
    visible = visible_of(tokenizer)
    view = stepper_view(forward, visible=visible, checks=checks, label=label,
                        learned=learned(getattr(model, "trained_on", None)),
                        switches=switch_results(trace, model, visible) if _is_of(trace, model) else None)
    _check_weights(view.checks[-1], bool(forward.edited))
    return view


def _check_weights(recomputed: Check, edited: bool) -> None:
    """Refuse numbers that another model made; an edited pass need not follow from its weights."""
    if not edited and math.isfinite(recomputed.error) and recomputed.error > OTHER_WEIGHTS:
        raise ValueError(f"The trace must be of this model with these weights, but its numbers, recomputed, miss by a "
                         f"share of {recomputed.error:.2f}. Pass the model that made it, of a run run.load(step)[0] of "
                         f"the same step, or record anew.")


def _is_of(trace: Any, model: Any) -> bool:
    """Whether the model as it is now gives the trace; of an edited pass a switch would show the edit's effect, too."""
    try:
        _check_of(trace, model)
    except ValueError:
        return False
    return True


def _check_of(trace: Any, model: Any) -> None:
    from gptviz.trace import record

    check_same_pass(trace, record(model, trace.ids.tolist(), names="logits"))


class _Shown:
    """The passes of the text that a board shows, for what the browser asks about them."""

    board: Board

    def __init__(self, passes: list[tuple[Any, Any]], text: str, tokenizer: Any):
        self.model, self.tokenizer = passes[0][1], tokenizer
        self.of_text = {text: passes}
        self.latest: tuple[Any, Any] | None = None  # the trace last asked about, and its arrays

    def source(self, _step: int | None, text: str) -> list[View]:
        """The view of a text that the reader typed."""
        from gptviz.trace import record

        trace = record(self.model, text, self.tokenizer)
        while len(self.of_text) >= KEPT_FRAMES:
            del self.of_text[next(iter(self.of_text))]
        self.of_text[text] = [(trace, self.model)]
        return [pass_view(trace, self.model, self.tokenizer)]

    def receipt(self, value: Any) -> dict:
        """The receipt of a cell, {"tensor", "index", "view"}, where the page holds too little to compute it."""
        from gptviz.analysis.stepper.receipts import receipt
        from gptviz.analysis.stepper.recorded import recorded_pass

        value = fields_of(value, "The cell of a receipt")
        trace, model = self._asked(value)
        if self.latest is None or self.latest[0] is not trace:
            self.latest = (trace, recorded_pass(trace, model))
        index = [whole_number(one, "An index") for one in several(value.get("index", ()), "index")]
        return {"receipt": receipt(self.latest[1], str(value.get("tensor")), *index).payload()}

    def switch(self, value: Any) -> dict:
        """The text without a part of the model, {"id", "layer", "head", "view"}."""
        from gptviz.analysis.stepper.switches import switch_result

        value = fields_of(value, "A switch")
        trace, model = self._asked(value)
        _check_of(trace, model)
        return {"switch": switch_result(trace, model, str(value.get("id")), value.get("layer"), value.get("head"),
                                        visible_of(self.tokenizer))}

    def _asked(self, value: dict) -> tuple[Any, Any]:
        """The trace and the model that a request is about."""
        if self.board.text not in self.of_text:  # shown again after many others
            self.source(None, self.board.text)
        passes = self.of_text[self.board.text]
        return passes[whole_number(value.get("view", 0), "view, a pass of this board,", 0, len(passes) - 1)]
