"""A run that is being trained, as a board: its state and buttons, the growing curve, and the newest recorded step."""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gptviz.arguments import briefly, whole_number
from gptviz.dashboards.explore import facts, picture
from gptviz.dashboards.next import actions_of
from gptviz.runs import CorruptSnapshot, Follower, Standing
from gptviz.views import View, controls_view, training_view
from gptviz.views.controls import disabled_controls, readouts, short
from gptviz.views.training import drawn_points
from gptviz.widgets import Board

LOOK_SECONDS = 0.25  # between two looks at the run directory
MISSED_LOOKS = 20  # one after the other: a run directory that is being deleted is gone before
ANSWER_SECONDS = 0.15  # how long a button's answer waits for the step under way
LARGEST_FRAME = 200_000  # bytes; the browser asks for a larger one when it can draw it
CURVE_POINTS = 1000
ODD_POINTS = 100  # of a curve that are not finite
STATES = {"running": "training", "killed": "killed: its process is gone"}

Load = Callable[[int | None], tuple[Any, Any]]
Frame = Callable[[int, str], list[View]]  # the views of a recorded step for a text, without curve and controls


def live_board(
    run: Any, frame: Frame, text: str, growing: Callable[[], list[View]] = list, load: Load | None = None
) -> Board:
    """A board that follows a run which is being trained, here or in another process.

    A thread of its own looks at the run directory four times a second and sends what is new: at most one message is
    under way, and a browser that never answers is not waited for. It ends with the training.

    Args:
        run: The run, alive.
        frame: Gives the views of a recorded step for a text: heads, text, and what is computed.
        text: The recorded probe text.
        growing: Gives the views that grow with the run (`Progress.views`): the same objects until they change.
        load: Gives the model and the tokenizer of a step; the run's own way by default.
    """
    live = _Live(run, frame, text, growing, load or run.load)
    threading.Thread(target=live.follow, name="gptviz-watch", daemon=True).start()
    return live.board


class _Live:
    """What a live board shows, and what its buttons do."""

    def __init__(self, run: Any, frame: Frame, text: str, growing: Callable[[], list[View]], load: Load) -> None:
        self.run, self.frame, self.text, self.growing, self.load = run, frame, text, growing, load
        self.here = hasattr(run, "set_learning_rate")  # trained by a thread of this process
        self.follower = Follower(run)
        self.damage = ""
        self.standing = self.follower.look()
        steps = self.standing.steps
        shown, fresh = self._frame(steps[-1:]), self._fresh()
        self.board = Board(
            _arranged(shown, fresh), name="watch", title=run.name, facts=facts(run.config),
            steps=steps, source=self.source, text=text, limit=run.config.block_size,
            editable=run.tokenizer is not None, actions=self._actions(),
        )  # fmt: skip
        self.board.fresh = {view.kind: view for view in fresh}
        self.board.refresh = self._catch_up
        self.board.picture = lambda: picture(self.board) if self.board.steps else b""

    # --- what is shown ----------------------------------------------------------------------------------------

    def source(self, step: int | None, text: str) -> list[View]:
        """The views of a recorded step for a text, with those that belong to every step."""
        if not self.board.steps:
            raise ValueError("A text is shown at a recorded step; none is recorded yet. Wait for the first.")
        chosen = self.board.steps[-1] if step is None else step
        return self.board.with_fresh(self.frame(chosen, text))

    def _frame(self, newest: tuple[int, ...], text: str | None = None) -> list[View]:
        """The newest recorded step of a text, the probe's by default; nothing before it, or if its file is damaged."""
        try:
            return self.frame(newest[0], self.text if text is None else text) if newest else []
        except CorruptSnapshot as error:
            self.damage = str(error)
            return []

    def _fresh(self) -> list[View]:
        """What belongs to every step."""
        known, longest = {}, 0
        for name in ("train", "validation"):
            steps, values = self.follower.curve(name)
            if len(steps):
                kept = drawn_points(values, CURVE_POINTS, most_odd=ODD_POINTS)
                known[name] = (steps[kept], values[kept])
                longest = max(longest, len(steps))
        curves = [training_view(known, known=longest)] if known else []
        return [*self.growing(), *curves, self._controls(self.standing)]

    def _controls(self, standing: Standing) -> View:
        state = STATES.get(standing.status, standing.status)
        return controls_view(
            state, readouts(standing.step, standing.max_iters, standing.scalars), pace=_pace(standing),
            cost=_cost(standing, self.run), trouble=standing.trouble or self.damage,
            disabled=disabled_controls(state, here=self.here),
            rate=short(standing.scalars["lr"], "lr") if "lr" in standing.scalars else "",
        )  # fmt: skip

    # --- following --------------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Sends what is new until the training has ended."""
        pause, missed = threading.Event(), 0
        while self.standing.alive and self.board.comm is not None:
            pause.wait(LOOK_SECONDS)
            try:
                self.look()
                missed = 0
            except OSError:
                missed += 1  # the run may be deleted just now: the next look says that it is gone
                if missed == MISSED_LOOKS:
                    raise

    def look(self) -> None:
        """Takes in what is new and sends it; in turn with the answers, or an old state would follow a new one."""
        with self.board.turn:
            before, self.standing = self.standing, self.follower.look()
            if self.standing != before:
                self._send()

    def _catch_up(self) -> None:
        """Looks at once: a script that saves its board right after `run.wait()` is faster than the follower."""
        with contextlib.suppress(OSError):  # the run was deleted: what is known of it is saved
            self.look()

    def _send(self) -> None:
        fresh, steps = self._fresh(), self.standing.steps
        grown = steps != tuple(self.board.steps)
        begins = len(self.board.steps) < min(2, len(steps))  # the first step brings the heads, the second a slider
        if begins or {view.kind for view in fresh} != set(self.board.fresh):
            self.board.fresh = {view.kind: view for view in fresh}
            views = _arranged(self._frame(steps[-1:], self.board.text), fresh)
            self.board.begin(views, step=steps[-1] if steps else None, steps=steps)
            return
        views = self._frame(steps[-1:]) if grown and self.board.text == self.text else []
        if sum(view.nbytes for view in views) > LARGEST_FRAME:
            views = []
        news = [view for view in fresh if self.board.fresh.get(view.kind) is not view]
        self.board.show(views, step=steps[-1] if views else None, steps=steps if grown else None, fresh=news)

    # --- buttons ----------------------------------------------------------------------------------------------

    def _actions(self) -> dict[str, Callable[[Any], dict]]:
        run = self.run
        asked: Mapping[str, Callable[[Any], Any]] = {
            "pause": lambda _: run.resume() if run.status == "paused" else run.pause(),
            "step": lambda count: run.step(whole_number(1 if count is None else count, "steps", 1)),
            "record": lambda _: run.record_now(),
            "rate": lambda value: run.set_learning_rate(_rate(value)),
        } if self.here else {}
        of_model = {name: partial(self._of_model, name) for name in ("continue", "use_text")}
        return {"follow": self._to_the_end, **of_model, **{name: self._answered(act) for name, act in asked.items()},
                "stop": self._answered(lambda _: run.stop())}

    def _of_model(self, name: str, value: Any) -> dict:
        """What the views of a typed text ask of the model at the shown step."""
        return actions_of(*self.load(self.board.step))[name](value)

    def _answered(self, act: Callable[[Any], Any]) -> Callable[[Any], dict]:
        """Asks the run, waits a moment for the step under way, and tells the browser how the run stands."""

        def answer(value: Any) -> dict:
            done = act(value)
            if isinstance(done, threading.Event):
                done.wait(ANSWER_SECONDS)
            else:  # stop: it ends after the step under way and the last recording
                time.sleep(ANSWER_SECONDS)
            controls = self._controls(self.follower.look())  # the board holds its turn meanwhile
            self.board.fresh["controls"] = controls
            return {"fresh": [controls.payload()]}

        return answer

    def _to_the_end(self, _: Any) -> dict:
        if self.board.steps:
            self.board.step = self.board.steps[-1]
        return {}


def _arranged(frame: list[View], fresh: list[View]) -> list[View]:
    """Heads and text first, then what belongs to every step, then what depends on the text: these differ in number."""
    return [*frame[:2], *fresh, *frame[2:]]


def _rate(value: Any) -> float | None:
    """What was typed as a learning rate: a number, or nothing for the schedule."""
    words = str(value or "").strip()
    try:
        return float(words) if words else None
    except ValueError:
        raise ValueError(f"A learning rate must be a number such as 0.001, or empty for the schedule; "
                         f"{briefly(words)} was typed.") from None


def _pace(standing: Standing) -> str:
    """How fast it goes and how long it still takes."""
    if standing.speed is None or standing.seconds_left is None:
        return ""
    seconds = round(standing.seconds_left)
    left = f"{seconds} s" if seconds < 120 else f"{round(seconds / 60)} min"
    return f"{standing.speed:.1f} steps/s · {left} left"


def _cost(standing: Standing, run: Any) -> str:
    """What recording takes of the time, and of the disk."""
    share = f"recording {100 * standing.recording:.1f} % of step time · " if standing.recording is not None else ""
    train = run.info.get("train", {})
    budget = f" of {train['max_megabytes']:,}".replace(",", "\u2009") if "max_megabytes" in train else ""
    tokens = (train.get("batch_size") or 0) * run.config.block_size
    pace = f" · {standing.speed * tokens:,.0f} tokens/s".replace(",", "\u2009") if standing.speed and tokens else ""
    return f"{share}{standing.nbytes / 1e6:.1f}{budget} MB{pace}"
