"""A forward pass as a walk: a trace and its model as a board of stages, receipts, questions and switches."""

from typing import Any

from gptviz.arguments import several, whole_number
from gptviz.dashboards.edits import check_same_pass
from gptviz.dashboards.explore import facts
from gptviz.dashboards.tensors import visible_of
from gptviz.naming import human_bytes
from gptviz.requests import fields_of
from gptviz.views import Check, View
from gptviz.views.stepper import INLINE, stepper_view
from gptviz.widgets import KEPT_FRAMES, Board


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
        UnknownNameError: If a trace does not hold everything.
        ValueError: If a model is not of the trace's shape, the text is too long for so large a model, or two passes are
            not of one shape or too large to travel whole.

    Example:
        >>> from gptviz.loading import load
        >>> from gptviz.trace import record
        >>> model, tokenizer = load("sorter")
        >>> board = step_through(record(model, "CBABBC", tokenizer), model, tokenizer)
        >>> board.views[0].kind, len(board.views[0].content["questions"]) > 10
        ('stepper', True)
    """
    passes = [(trace, model), *([other] if other is not None else [])]
    if other is not None and other[0].config != trace.config:
        raise ValueError(f"Two passes side by side must have one shape, but the models are {trace.config} and "
                         f"{other[0].config}. Step through each by itself.")
    views = [pass_view(*one, tokenizer, label=label) for one, label in zip(passes, labels, strict=False)]
    if other is not None and any(view.detail for view in views):
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


def pass_view(trace: Any, model: Any, tokenizer: Any = None, *, label: str = "") -> View:
    """The stepper's view of one trace, with the results of its switches.

    Raises:
        UnknownNameError: If the trace does not hold everything.
    """
    from gptviz.analysis.stepper.recorded import recorded_pass
    from gptviz.analysis.stepper.switches import switch_results

    forward = recorded_pass(trace, model)
    checks = tuple(Check(name, check.error, check.bound) for name, check in trace.check(model).items())
    visible = visible_of(tokenizer)
    return stepper_view(forward, visible=visible, checks=checks, label=label,
                        switches=switch_results(trace, model, visible) if _is_of(trace, model) else None)


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
