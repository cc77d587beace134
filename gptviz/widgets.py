"""Board: views and the reader's selection, the same on both sides of the wire."""

import base64
import math
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from gptviz.arguments import briefly
from gptviz.requests import fields_of, kind_of, step_of, text_of
from gptviz.runs.cadence import thinned
from gptviz.views.attention import strongest_key
from gptviz.views.board import SELECTION, board_payload, detail_payload, frame_payload, split_bytes
from gptviz.views.view import View

STATIC = Path(__file__).parent / "static"
KEPT_FRAMES = 8  # whose details can be given without asking the source again
PAGE_SECONDS = 20.0  # a page waits about so long for its details; it says how many it holds
DETAILS_SHARE = 0.1  # of a page's room that its frames leave to details: the film of some 35 heads in 12 MB
WINDOW = 32  # queries that the browser shows of a long text
PATIENCE = 2.0  # s: a front end that never answers (nbconvert, a closed tab) must not stop the next push

BASE64 = 4 / 3  # characters of a byte in a page
PARTS = {("layer", "head"): "heads", ("layer", "head", "rows"): "parts of heads", ("rows",): "stretches of the text",
         ("query",): "positions", ("query", "key"): "pairs of tokens",
         ("layer", "head", "query", "key"): "cells of the heads"}  # what the details of a view are, by its axes

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
        actions: What a control of the board does in the kernel, by name: a function of the value it was given. It may
            return a dict that the browser is sent; its ValueError and OSError become a sentence on the board.

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
        actions: Mapping[str, Callable[[Any], dict | None]] | None = None,
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
        # Held while a request is answered or news is sent, by whoever sends: requests come on any thread of the kernel.
        self.turn = threading.RLock()
        self.actions = dict(actions or {})
        self._pushed = 0.0  # when a frame was pushed that is not painted yet
        self._waiting: dict | None = None
        self._greeted = False  # whether a browser has asked for anything
        self.fresh: dict[str, View] = {}  # the newest views that belong to every step
        self.refresh: Callable[[], None] = lambda: None  # takes in what is new, before a file keeps the board
        self._header: dict[str, Any] = dict(
            name=name, title=title, facts=facts, steps=self.steps, limit=limit, editable=editable, cost=cost)
        chosen = step if step is not None else (self.steps[-1] if self.steps else None)
        self._frames: dict[tuple[int | None, str], list[View]] = {(chosen, text): views}  # the last few
        self.kept_frames = KEPT_FRAMES  # a source whose views hold much sets it lower
        super().__init__(step=chosen, text=text, **traits)
        self._own_layout = None if "layout" in traits else self.layout
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

    def close(self) -> None:
        """Leave the notebook, and let everything go that the board held there: it cannot be shown again.

        ipywidgets gives every widget a layout, a widget of its own, and would leave that behind.
        """
        super().close()
        layout, self._own_layout = self.__dict__.get("_own_layout"), None
        if layout is not None:
            layout.close()

    def shown(self) -> tuple[list[View], dict[str, Any], str]:
        """What a new display begins with: the views, the layer, head, query and key that are looked at, the heading."""
        with self.turn:
            self.refresh()
            self._begin_here()
            views = self._newest(self.views)
            look = self._look(views)
        heading = " · ".join(filter(None, [self._header["title"], *self._header["facts"]]))
        return views, {name: look[name] for name in SELECTION if name != "step"}, heading

    def payload(self, *, budget: int | None = None) -> dict:
        """The board with the frames of all its steps and the details of its views, for a page.

        Args:
            budget: Bytes that the page should not pass: frames are thinned, then details left out; all by default.
        """
        with self.turn:  # a page is of one moment of a training
            self.refresh()
            self._begin_here()  # views of the text and step chosen in Python, not those that the board was made with
            return self._page(budget)

    def _page(self, budget: int | None) -> dict:
        """The payload of a page. A board in a notebook goes on beside it: what its browser was given first stays."""
        shown = self._newest(self.views)
        payload = board_payload(shown, selection=self.selection, text=self.text, **self._header)
        room = max(0.0, (budget or math.inf) / BASE64 - _nbytes(shown))
        if self.source is None or len(self.steps) < 2:
            return self._with_details(payload, [(payload["views"], shown)], room)
        frames = self._kept_frames(self.source, shown, room)
        payload["frames"] = [frame_payload(step, views, self.text, shown) for step, views in frames.items()]
        payload["steps"] = list(frames)
        if len(frames) < len(self.steps):
            payload["note"] = f"{len(frames)} of {len(self.steps)} steps, evenly in their order, to keep the page small"
        pairs = [(one["views"], views) for one, views in zip(payload["frames"], frames.values(), strict=True)]
        once = [one if payload["frames"][0]["views"][i] is None else None for i, one in enumerate(payload["views"])]
        pairs.append((once, shown))  # those of every step are in no frame
        return self._with_details(payload, pairs, room - sum(_nbytes(views, shown) for views in frames.values()))

    def _kept_frames(self, source: Source, still: Sequence[View], room: float) -> dict[int, list[View]]:
        """The views of all steps, or of as many as there is room for beside some details; the shown step is one."""
        first = self._newest(source(self.steps[0], self.text))
        for_details = DETAILS_SHARE if any(view.detail for view in first) else 0.0
        kept = _thin(self.steps, _nbytes(first, still), (1 - for_details) * room)
        chosen = [] if self.step is None else [self.step]
        return {step: first if step == self.steps[0] else self._newest(source(step, self.text))
                for step in sorted({*kept, *chosen})}

    def _look(self, views: Sequence[View]) -> dict[str, int | None]:
        """Where a display of these views opens: at what is chosen, else at the first head and the last query.

        A key that is not chosen is the one that the query attends to most, as in `look_at` of the browser.
        """
        look = self.selection | {"rows": self._first_row()}
        heads = next((view for view in views if view.kind == "attention"), None)
        if heads is not None:
            layer, head = self.layer or 0, self.head or 0
            query = _count(views, "query") - 1 if self.query is None else self.query
            key = strongest_key(heads, layer, head, query) if self.key is None else self.key
            look |= {"layer": layer, "head": head, "query": query, "key": key}
        return look

    def _first_row(self) -> int:
        """The first query of the window that the browser begins with: it holds the chosen query, else the last one.

        The browser opens its window at the top of the text and moves it only to a query that lies outside.
        """
        last = _count(self.views, "query") - 1
        query = last if self.query is None else self.query
        return 0 if query < WINDOW else min(last + 1 - WINDOW, query - WINDOW // 2)

    def _with_details(self, payload: dict, pairs: list[tuple[list, list[View]]], room: float) -> dict:
        """Give the views of a page their details, each an equal share of the room and the time that are left.

        When the time is over a view still gets its first detail: the one that the reader looks at.
        """
        holders = [(one, view, views) for ones, views in pairs for one, view in zip(ones, views, strict=True)
                   if one is not None and view.detail is not None]
        holders.sort(key=lambda pair: pair[1].nbytes)  # the largest, the heads, may have what the others leave
        missing: dict[tuple[str, str], tuple[int, int]] = {}
        until = time.monotonic() + PAGE_SECONDS
        for i, (one, view, beside) in enumerate(holders):
            left = len(holders) - i
            seconds = max(0.0, (until - time.monotonic()) / left)
            one["details"] = view.details(self._look(beside), room / left, seconds)
            room -= sum(len(array["data"]) for detail in one["details"].values() for array in detail["arrays"].values())
            kept, whole = missing.get((view.title, _parts_of(view)), (0, 0))
            of_view = (kept + len(one["details"]), whole + math.prod(map(len, view.detail_places)))
            missing[view.title, _parts_of(view)] = of_view
        held = [_held(title, parts, kept, whole) for (title, parts), (kept, whole) in missing.items() if kept < whole]
        if held:
            said = f"this page holds {', '.join(held)}; the notebook has the others"
            payload["note"] = "; ".join([*filter(None, [payload.get("note")]), said])
        return payload

    def show(
        self,
        views: Sequence[View],
        *,
        step: int | None = None,
        steps: Sequence[int] | None = None,
        fresh: Sequence[View] = (),
    ) -> None:
        """Put new views in the place of the shown ones: a running training calls this.

        One frame is under way at a time, and the latest wins: a slow browser skips frames and never queues them.

        Args:
            views: The frame of `step`, without `fresh`; none if only `steps` and `fresh` are news.
            step: The step that `views` show; the shown one by default.
            steps: All recorded steps, if there are new ones; a reader who was at the last one goes on to the new last.
            fresh: Views that belong to every step, such as a growing curve: each takes the place of its kind.
        """
        step = step if step is not None else self.step
        message: dict[str, Any] = {"fresh": [view.payload() for view in fresh]} if fresh else {}
        with self.turn:
            if steps is not None:
                message["steps"] = self._grow(list(steps), step if views else None)
            self.fresh |= {view.kind: view for view in fresh}
            if views:
                views = self._remember(step, self.text, self.with_fresh(views))
                message["frame"] = frame_payload(step, views, self.text, self._base)
                if step == self.step:
                    self.views = views
            message = _newer(self._waiting or {}, message)
            if time.monotonic() - self._pushed < PATIENCE:
                self._waiting = message
                return
            self._waiting, self._pushed = None, time.monotonic()
            self._deliver({**message, "push": self._pushed})

    def forget(self) -> None:
        """Ask the source again for every frame: what it gives has changed, as by an edit."""
        with self.turn:
            self._frames.clear()

    def with_fresh(self, views: Sequence[View]) -> list[View]:
        """The views of a step and, where the browser knows them already, those that belong to every step."""
        together = list(views)
        for place, view in enumerate(self._base):
            if view.kind in self.fresh:
                together.insert(place, view)
        return together

    def _newest(self, views: Sequence[View]) -> list[View]:
        """The views, with the newest of those that belong to every step."""
        return [self.fresh.get(view.kind, view) for view in views]

    def begin(self, views: Sequence[View], *, step: int | None, steps: Sequence[int]) -> None:
        """Start over with other kinds of views, as when the first step of a training is recorded."""
        with self.turn:
            self._base = views = list(views)
            self._waiting = None  # it is older, and its frame leaves out what an older payload has
            self.steps = self._header["steps"] = list(steps)
            self.views = self._remember(step, self.text, views)
            self.step = step
            self._payload = board_payload(views, selection=self.selection, text=self.text, **self._header)

    def _grow(self, steps: list[int], shown: int | None) -> list[int]:
        """Takes new recorded steps; until a browser is there, whoever is at the last one goes on with it here."""
        at_edge = self.step is None or self.step == self.steps[-1]
        self.steps = self._header["steps"] = steps
        if at_edge and shown == steps[-1] and not self._greeted:
            self.step = shown
        return steps

    def _deliver(self, message: dict) -> None:
        content, buffers = split_bytes(message)
        self.send(content, buffers)

    def _received(self, _widget: Any, content: Any, _buffers: list) -> None:
        try:
            ask = kind_of(content)
        except ValueError as error:
            self._deliver({"error": str(error), "id": content.get("id") if isinstance(content, dict) else None})
            return
        answer = {"frame": self._frame, "detail": self._detail, "act": self._act}.get(ask)
        if answer:
            with self.turn:  # one model, one request at a time; and no older news is delivered after newer
                self._deliver({**self._said(answer, content), "id": content.get("id")})
        elif ask == "hello":
            with self.turn:
                self._deliver(self._hello())
        elif content["ack"] == self._pushed:
            self._painted()

    def _said(self, answer: Callable[[dict], dict], content: dict) -> dict:
        """What a request is answered, or the sentence that says why not; a mistake of ours shows its traceback, too."""
        try:
            return answer(content)
        except (ValueError, TypeError, OSError) as error:
            return {"error": str(error)}
        except Exception as error:  # a board that waits for ever says nothing
            traceback.print_exc()
            return {"error": f"gptviz made a mistake: {type(error).__name__}: {briefly(str(error))}. Please report it "
                             "with the traceback, which stands under the cell or in the log of the notebook."}

    def _hello(self) -> dict:
        """What a browser that has just opened the board is told: a board grows after its payload was made."""
        self._greeted = True
        fresh = [view.payload() for view in self.fresh.values()]
        news = {"steps": self.steps, "fresh": fresh} if fresh else {}
        return {"hello": True, "editable": bool(self._header["editable"]), **news}

    def _frame(self, content: dict) -> dict:
        """The frame that the browser asked for."""
        if self.source is None:
            raise ValueError("This board shows one step of one text; it has no source for others.")
        step, text = self._asked(content)
        views = self._views_of(step, text)
        self.views = views
        if text != self.text:
            self.text = text
            self.query = self.key = None
            self._drop_waiting_frame()  # of the text before: it would take the reader back there
        return {"frame": frame_payload(step, views, text, self._base)}

    def _asked(self, content: dict) -> tuple[int | None, str]:
        """The step and the text that a request is about."""
        return step_of(content, self.steps), text_of(content, self.text, bool(self._header["editable"]))

    def _views_of(self, step: int | None, text: str) -> list[View]:
        """The views of a frame: those shown lately, or new ones from the source."""
        shown = self._frames.pop((step, text), None)
        if shown is None:
            if self.source is None:
                raise ValueError(f"This board shows one step of one text; step {step} of {text!r} was asked for.")
            shown = list(self.source(step, text))
        return self._remember(step, text, shown)

    def _remember(self, step: int | None, text: str, views: list[View]) -> list[View]:
        """Keep the views of a frame for their details, and forget those shown longest ago."""
        self._frames[step, text] = views
        while len(self._frames) > self.kept_frames:
            del self._frames[next(iter(self._frames))]
        return views

    def _detail(self, content: dict) -> dict:
        """More of a view where the reader looks, with what was asked for, by which the browser knows it."""
        asked = {name: content.get(name) for name in ("kind", "step", "text", "at")}
        at = fields_of(asked["at"] or {}, "The place of a detail")
        views = self._views_of(*self._asked(content))
        return {"detail": detail_payload(views, str(asked["kind"]), at), "asked": asked}

    def _act(self, content: dict) -> dict:
        """What a control of the board asked for."""
        name = str(content.get("name"))
        if name not in self.actions:
            known = ", ".join(self.actions) or "none"
            raise ValueError(f"{briefly(name)} is no action of this board; it has {known}.")
        return {"acted": name, **(self.actions[name](content.get("value")) or {})}

    def _painted(self) -> None:
        with self.turn:
            message, self._waiting = self._waiting, None
            self._pushed = time.monotonic() if message else 0.0
            if message:
                self._deliver({**message, "push": self._pushed})

    def _drop_waiting_frame(self) -> None:
        """Take the frame out of what waits to be pushed; news of steps and curves stays in it."""
        if self._waiting:
            self._waiting.pop("frame", None)

    def _begin_here(self) -> None:
        """What a new display begins with, brought to the step and text chosen since the board was made."""
        with self.turn:
            begun = self._payload["selection"]["step"], self._payload["text"]
            if self.source is None or begun == (self.step, self.text):
                return
            self.views = self._base = self._newest(self._views_of(self.step, self.text))
            if max(self.query or 0, self.key or 0) >= _count(self.views, "query"):
                self.query = self.key = None  # a place of a longer text that was shown before
            self._drop_waiting_frame()  # it leaves out what the payload before has
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


def _nbytes(views: Sequence[View], besides: Sequence[View] = ()) -> int:
    """Bytes of the arrays of views, but for those that are the very objects in `besides`."""
    return sum(view.nbytes for view in views if not any(view is one for one in besides))


def _count(views: Sequence[View], name: str) -> int:
    """How many layers, heads or positions the views have."""
    for view in views:
        if name in ("query", "key") and "token" in view.labels:
            return len(view.labels["token"])
        for array_name, axes in view.axes.items():
            if name in axes:
                return view.arrays[array_name].shape[axes.index(name)]
    return 0


def _newer(waiting: dict, message: dict) -> dict:
    """What waits with what is newer in its place; of views that belong to every step, the newest of each kind.

    Example:
        >>> _newer({"fresh": [{"kind": "a"}, {"kind": "b", "n": 1}]}, {"fresh": [{"kind": "b", "n": 2}]})
        {'fresh': [{'kind': 'a'}, {'kind': 'b', 'n': 2}]}
    """
    fresh = {view["kind"]: view for one in (waiting, message) for view in one.get("fresh", ())}
    return {**waiting, **message} | ({"fresh": list(fresh.values())} if fresh else {})


def _held(title: str, parts: str, kept: int, whole: int) -> str:
    """How much of a view a page holds, in words.

    Example:
        >>> _held("Heads", "heads", 13, 16), _held("Lens", "positions", 4, 8), _held("Composition", "places", 0, 1)
        ('13 of 16 heads', '‘Lens’ for 4 of 8 positions', 'no ‘Composition’')
    """
    if whole == 1:
        return f"no ‘{title}’"
    return f"{'' if title == 'Heads' else f'‘{title}’ for '}{_number(kept)} of {_number(whole)} {parts}"


def _parts_of(view: View) -> str:
    """What the details of a view are, in words."""
    axes = tuple(axis for axis, places in zip(view.detail_axes, view.detail_places, strict=True) if len(places) > 1)
    return PARTS.get(axes) or PARTS.get(view.detail_axes, "places")


def _number(count: int) -> str:
    """A count as the views write it: 4\u2009000\u2009000."""
    return f"{count:,}".replace(",", "\u2009")


def _thin(steps: Sequence[int], frame_bytes: int, room: float) -> list[int]:
    """All steps, or as many as fit the room, evenly in their order, the first and last among them.

    Example:
        >>> _thin([0, 1, 2, 4, 8], 100, 375.0), _thin([0, 1, 2], 100, math.inf)
        ([0, 2, 8], [0, 1, 2])
    """
    return thinned(steps, max(2, int(min(len(steps), room / max(1, frame_bytes)))))
