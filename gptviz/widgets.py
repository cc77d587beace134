"""Board: views and the reader's selection, the same on both sides of the wire."""

import base64
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from gptviz.views.board import SELECTION, board_payload, frame_payload, split_bytes
from gptviz.views.view import View

STATIC = Path(__file__).parent / "static"
PATIENCE = 2.0  # s: a front end that never answers (nbconvert, a closed tab) must not stop the next push

# (step, text) -> the board's views at that step for that text
Source = Callable[[int | None, str], Sequence[View]]


class Board(anywidget.AnyWidget):
    """Linked views of one text, with a slider over the recorded steps.

    `step`, `layer`, `head`, `query` and `key` are what the reader chose, by mouse, key or from Python:
    setting one moves the picture, and `observe` and `link` work as for every ipywidget. None means not chosen.
    Hovering stays in the browser.

    Args:
        views: What is shown, in order.
        name: What the board does: "explore", "watch".
        title: The model's or run's name.
        facts: Short facts about the model.
        steps: Recorded steps that the slider offers.
        step: The step that `views` show; the last one by default.
        source: Gives the views of another step or text; None for a board of one step.
        text: The text shown.
        limit: Tokens that the model reads at most.
        editable: Whether `source` can show any text.
        cost: What the views took, in words.
        picture: A PNG for readers without a kernel, or a function that draws it when the board is displayed.

    Raises:
        ValueError: If there is no view, or steps without a source.
        TypeError: If a view is not a View.

    Example:
        >>> import numpy as np
        >>> from gptviz.views import attention_view
        >>> board = Board([attention_view(np.tril(np.ones((1, 2, 2, 2))), ["a", "b"])])
        >>> board.head = 1
        >>> board.head
        1
    """

    _esm = (STATIC / "board.js").read_text(encoding="utf-8")
    _css = (STATIC / "board.css").read_text(encoding="utf-8")
    _payload = traitlets.Dict().tag(sync=True)
    _picture = traitlets.Unicode().tag(sync=True)  # the end of the saved picture, by which the browser finds it
    step = traitlets.Int(None, allow_none=True).tag(sync=True)
    layer = traitlets.Int(None, allow_none=True).tag(sync=True)
    head = traitlets.Int(None, allow_none=True).tag(sync=True)
    query = traitlets.Int(None, allow_none=True).tag(sync=True)
    key = traitlets.Int(None, allow_none=True).tag(sync=True)
    text = traitlets.Unicode()

    def __init__(
        self,
        views: Sequence[Any],
        *,
        name: str = "explore",
        title: str = "",
        facts: Sequence[str] = (),
        steps: Sequence[int] = (),
        step: int | None = None,
        source: Source | None = None,
        text: str = "",
        limit: int | None = None,
        editable: bool = False,
        cost: str = "",
        picture: bytes | Callable[[], bytes] | None = None,
        **traits: Any,
    ):
        views = list(views)
        if not views:
            raise ValueError("A Board shows at least one View; it was given none. See gptviz.views.")
        for view in views:
            if not isinstance(view, View):
                raise TypeError(f"A Board shows Views; it was given {type(view).__name__}. See gptviz.views.")
        if source is None and (len(steps) > 1 or editable):
            raise ValueError("Several steps or an editable text need a source(step, text) that gives their views; "
                             "it is None. Pass source= or a single step.")
        self.views, self.steps, self.source, self.picture = views, sorted(steps), source, picture
        self._base = views  # what the browser was given first; a frame does not repeat it
        self._lock = threading.Lock()  # requests may come on any thread of the kernel
        self._pushed = 0.0  # when a frame was pushed that is not painted yet
        self._waiting: dict | None = None
        self._header: dict[str, Any] = dict(
            name=name, title=title, facts=facts, steps=self.steps, limit=limit, editable=editable, cost=cost)
        chosen = step if step is not None else (self.steps[-1] if self.steps else None)
        super().__init__(step=chosen, text=text, **traits)
        self._payload = board_payload(views, selection=self.selection, text=text, **self._header)
        self.on_msg(self._received)

    @property
    def selection(self) -> dict[str, int | None]:
        """The reader's choice: step, layer, head, query, key."""
        return {name: getattr(self, name) for name in SELECTION}

    @traitlets.validate("step")
    def _recorded(self, proposal: dict) -> int | None:
        value = proposal["value"]
        if value is not None and self.steps and value not in self.steps:
            near = min(self.steps, key=lambda step: abs(step - value))
            raise traitlets.TraitError(f"Step {value} is not recorded; the nearest recorded step is {near}. "
                                       f"All of them are in board.steps.")
        return value

    @traitlets.validate("layer", "head", "query", "key")
    def _inside(self, proposal: dict) -> int | None:
        value, name = proposal["value"], proposal["trait"].name
        count = _count(self.views, name)
        if value is not None and not 0 <= value < count:
            raise traitlets.TraitError(f"{name} must be 0..{count - 1}, or None for no choice; it is {value}.")
        return value

    def payload(self, *, budget: int | None = None) -> dict:
        """The board with the frames of all its steps, for a page; thinned to `budget` bytes where one is given."""
        payload = board_payload(self.views, selection=self.selection, text=self.text, **self._header)
        if self.source is None or len(self.steps) < 2:
            return payload
        kept = _thin(self.steps, sum(view.nbytes for view in self.views), budget)
        if self.step is not None and self.step not in kept:
            kept = sorted({*kept, self.step})
        payload["frames"] = [frame_payload(step, self.source(step, self.text), self.text, self.views) for step in kept]
        payload["steps"] = kept
        if len(kept) < len(self.steps):
            payload["note"] = f"{len(kept)} of {len(self.steps)} steps, to keep the page small"
        return payload

    def show(self, views: Sequence[View], *, step: int | None = None) -> None:
        """Put new views in the place of the shown ones: a running training calls this.

        One frame is under way at a time, and the latest wins: a slow browser skips frames and never queues them.
        """
        self.views = list(views)
        message = {"frame": frame_payload(step if step is not None else self.step, views, self.text, self._base)}
        with self._lock:
            if time.monotonic() - self._pushed < PATIENCE:
                self._waiting = message
                return
            self._pushed = time.monotonic()
        self._deliver({**message, "push": self._pushed})

    def _deliver(self, message: dict) -> None:
        content, buffers = split_bytes(message)
        self.send(content, buffers)

    def _received(self, _widget: Any, content: dict, _buffers: list) -> None:
        if content.get("ask") == "hello":
            self.send({"hello": True, "editable": bool(self._header["editable"])})
        elif content.get("ask") == "frame":
            self._deliver({**self._answer(content), "id": content.get("id")})
        elif "ack" in content:
            self._painted()

    def _answer(self, content: dict) -> dict:
        """The frame that the browser asked for, or the sentence that says why there is none."""
        step, text = content.get("step"), str(content.get("text", self.text))
        if self.source is None:
            return {"error": "This board shows one step of one text; it has no source for others."}
        try:
            with self._lock:  # one model, one request at a time
                views = list(self.source(step, text))
        except (ValueError, TypeError, OSError) as error:  # the user's mistakes; a mistake of ours shows its traceback
            return {"error": str(error)}
        self.views = views
        if text != self.text:
            self.text = text
            self.query = self.key = None
        return {"frame": frame_payload(step, views, text, self._base)}

    def _painted(self) -> None:
        with self._lock:
            message, self._waiting = self._waiting, None
            self._pushed = time.monotonic() if message else 0.0
        if message:
            self._deliver({**message, "push": self._pushed})

    def _begin_here(self) -> None:
        """What a new display begins with, brought to the step and text chosen since the board was made."""
        if self.source is None or (self._payload["selection"]["step"], self._payload["text"]) == (self.step, self.text):
            return
        with self._lock:
            self.views = self._base = list(self.source(self.step, self.text))
        self._payload = board_payload(self.views, selection=self.selection, text=self.text, **self._header)

    def _ipython_display_(self, **_: Any) -> None:
        """The live widget, then the picture as an output of its own.

        A saved notebook that is opened without its kernel shows "model not found" in the place of a widget and ignores
        any fallback in the same output; a separate picture stays. While the widget lives it hides the picture.
        """
        from IPython.display import Image, display

        self._begin_here()
        bundle = self._repr_mimebundle_()
        display(*(bundle[:1] if isinstance(bundle, tuple) else (bundle,)), raw=True)
        picture = self.picture() if callable(self.picture) else self.picture
        if picture:
            self._picture = base64.b64encode(picture).decode("ascii")[-96:]
            display(Image(data=picture, format="png"))


def _count(views: Sequence[View], name: str) -> int:
    """How many layers, heads or positions the views have."""
    for view in views:
        if name in ("query", "key") and "token" in view.labels:
            return len(view.labels["token"])
        for array_name, axes in view.axes.items():
            if name in axes:
                return view.arrays[array_name].shape[axes.index(name)]
    return 0


def _thin(steps: Sequence[int], frame_bytes: int, budget: int | None) -> list[int]:
    """All steps, or as many as fit a budget, evenly in their order, the first and last among them.

    Example:
        >>> _thin([0, 1, 2, 4, 8], 100, 500)  # base64 makes 134 bytes of 100
        [0, 2, 8]
    """
    if budget is None:
        return list(steps)
    room = max(2, int(budget // max(1, frame_bytes * 4 / 3)))
    if room >= len(steps):
        return list(steps)
    last = len(steps) - 1
    return [steps[round(i * last / (room - 1))] for i in range(room)]
