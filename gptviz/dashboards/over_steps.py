"""What a recorded run shows of one text over all its steps: a head as a film strip, and guesses that become right."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from gptviz.corpora import source_from_spec
from gptviz.dashboards.tensors import as_numpy, named, visible_of
from gptviz.runs import CorruptSnapshot, Snapshot
from gptviz.runs.cadence import thinned
from gptviz.views import View
from gptviz.views.attention import largest_of
from gptviz.views.film import film_view
from gptviz.views.guesses import UNJUDGED, guesses_view

MOST = 24  # steps shown at a time
SIDE = 32  # pixels of a picture of a head, at most
MOST_GUESSES = 64  # positions: the last of a longer text


class OfAProbe:
    """What a run shows of a probe text over all its steps, made again only when a step was recorded.

    Args:
        run: A Run.
        probe: Which of its probe texts.
    """

    def __init__(self, run: Any, probe: int) -> None:
        self.run, self.probe = run, probe
        self._read = lru_cache(maxsize=2 * MOST)(lambda step: _snapshot(run, step, probe))  # they never change
        self._steps: list[int] = []
        self._views: list[View] = []

    def views(self) -> list[View]:
        """The guesses and the film strip, as far as steps are recorded."""
        steps = self.run.steps
        if steps != self._steps:
            self._views, self._steps = recorded_over_steps(self.run, self.probe, self._read), steps
        return self._views


def recorded_over_steps(
    run: Any, probe: int, read: Callable[[int], Snapshot | None] | None = None
) -> list[View]:
    """The guesses of a probe text, where there is something to judge, and its film strip; without torch."""
    read = read or (lambda step: _snapshot(run, step, probe))
    snapshots = [one for step in thinned(run.steps, MOST) if (one := read(step)) is not None]
    if not snapshots:
        return []
    film = _film(run, [one.step for one in snapshots], len(snapshots[0].ids), str(run.probes[probe]),
                 lambda step: run.snapshot(step, probe).attention())
    guesses = _guesses(run, snapshots)
    return [film] if guesses is None else [guesses, film]


def film_of(run: Any, text: str, n_tokens: int) -> View:
    """The film strip of any text: a forward pass with the weights of each step, when it is unfolded."""
    def pattern(step: int) -> np.ndarray:
        trace = run.record(text, step=step, names=["pattern"])
        return np.stack([as_numpy(trace["pattern", layer]) for layer in trace.layers])

    return _film(run, thinned(run.steps, MOST), n_tokens, text, pattern)


def _film(run: Any, steps: list[int], n_tokens: int, text: str, pattern: Callable[[int], np.ndarray]) -> View:
    """A strip whose pictures, of all heads, are made together when the first head is asked for."""
    @lru_cache(maxsize=1)
    def tiles() -> Float[np.ndarray, "step layer head y x"]:
        return np.stack([largest_of(pattern(step), SIDE) for step in steps])

    def of(layer: int, head: int) -> np.ndarray:
        return tiles()[:, layer, head]

    return film_view(steps, run.config.n_layer, run.config.n_head, n_tokens, of, text=text, recorded=len(run.steps))


def _snapshot(run: Any, step: int, probe: int) -> Snapshot | None:
    try:
        return run.snapshot(step, probe)
    except (CorruptSnapshot, ValueError):
        return None  # damaged, or weights were recorded at this step and no probe


def _guesses(run: Any, snapshots: Sequence[Snapshot]) -> View | None:
    """What was likeliest at each step; None where no token of the text can be judged."""
    ids = snapshots[0].ids
    guess = np.stack([one.top_ids[:, 0] for one in snapshots])
    p = np.stack([one.top_probs[:, 0] for one in snapshots])
    task, unjudged = _task_of(run)
    if unjudged:
        judge, right, answer = "nobody", np.full(guess.shape, UNJUDGED), np.full(len(ids), -1)
        judged = np.arange(len(ids))[-MOST_GUESSES:]
    else:
        judge, right, answer = _judged(task, ids, guess)
        judged = np.flatnonzero((right != UNJUDGED).any(axis=0))[-MOST_GUESSES:]
    if not len(judged):
        return None
    visible = visible_of(run.tokenizer)
    shown = range(judged[0], judged[-1] + 1)
    short, words = named(guess[:, shown], visible)
    none = ~np.isfinite(p)  # of a model that gives no numbers nothing is likeliest, whatever stands first
    short, right, words = np.where(none[:, shown], len(words), short), np.where(none, UNJUDGED, right), [*words, "NaN"]
    return guesses_view([one.step for one in snapshots], words, short, p[:, shown], right[:, shown], judge=judge,
                        prompt="".join(snapshots[0].tokens[: judged[0] + 1]),
                        answer=[visible(int(answer[at])) if answer[at] >= 0 else "" for at in shown],
                        unjudged=unjudged, recorded=len(run.steps))


def _task_of(run: Any) -> tuple[Any, str]:
    """The task that a run was trained on, or None; and why it cannot be made here, as one of an older gptviz, or ""."""
    data = run.info.get("data", {})  # a Recorder in a loop of one's own knows of none
    if data.get("kind") != "task":
        return None, ""
    try:
        return source_from_spec(data), ""
    except ValueError as error:
        why = str(error).partition(". ")[0].rstrip(".")  # not what to pass instead
        return None, f"Not judged: this gptviz cannot make the run's task ({why})."


def _judged(
    task: Any, ids: Int[np.ndarray, "pos"], guess: Int[np.ndarray, "step pos"]
) -> tuple[str, Int[np.ndarray, "step pos"], Int[np.ndarray, "pos"]]:
    """Who judges, each guess as 1, 0 or `UNJUDGED`, and the right token or -1: by the task, else by the text itself."""
    if task is not None:
        answer = np.array([_right_token(task, ids[: at + 1]) for at in range(len(ids))])
        if (answer >= 0).any():
            return f"task {task.name}", _against(guess, answer), answer
    answer = np.concatenate([ids[1:], [-1]])
    return "the text", _against(guess, answer), answer


def _against(guess: np.ndarray, answer: np.ndarray) -> np.ndarray:
    return np.where(answer < 0, UNJUDGED, (guess == answer).astype(np.int64))


def _right_token(task: Any, before: Int[np.ndarray, "pos"]) -> int:
    """The token that the task calls right after a text, or -1 where it calls none so."""
    try:
        for token in range(task.vocab_size):
            verdict = task.correct([*before.tolist(), token])[-1]
            if verdict == 1 or np.isnan(verdict):
                return token if verdict == 1 else -1
    except ValueError:
        pass  # a prompt that is none of the task's, or a text as long as its examples
    return -1
