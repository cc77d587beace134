"""Following a run while it trains: what is new in its files, and how fast it goes. Without torch."""

import math
import time
from array import array
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from gptviz.runs.reader import Run

RECENT_SECONDS = 5.0  # over which speed is measured
CURVES = {"train": "loss", "validation": "val_loss"}
SHOWN = ("loss", "val_loss", "accuracy", "lr", "grad_norm")


@dataclass(frozen=True)
class Standing:
    """How a run stands.

    Attributes:
        status: As of `Run.status`.
        outcome: As of `Run.outcome`.
        step: Updates done.
        max_iters: Updates planned.
        steps: Recorded steps.
        scalars: The newest loss, val_loss, accuracy, lr and grad_norm that are known.
        speed: Steps per second over the last seconds of training; None while that is not known.
        recording: The share of the training time that recording takes; None in another process.
        nbytes: Bytes of the run directory.
        trouble: What is wrong, in a sentence, or "".
    """

    status: str
    outcome: str
    step: int
    max_iters: int
    steps: tuple[int, ...]
    scalars: dict[str, float]
    speed: float | None
    recording: float | None
    nbytes: int
    trouble: str

    @property
    def alive(self) -> bool:
        """Whether it may still change."""
        return self.status in ("running", "paused")

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the last step at this speed."""
        return (self.max_iters - self.step) / self.speed if self.speed and self.alive else None


class Follower:
    """Reads what is new in a run directory at each `look`; the run may train here, or in another process.

    Args:
        run: The run.

    Example:
        >>> from gptviz.runs import open_run
        >>> standing = Follower(open_run("sorter")).look()
        >>> standing.status, standing.step, standing.alive
        ('finished', 600, False)
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._segments = 0
        self._read = 0
        self._recent: deque[tuple[float, int]] = deque()
        self._forget()

    def look(self) -> Standing:
        """Takes in what is new."""
        run = self.run
        steps = tuple(run.steps)
        self._read_rows()
        now, status = run.now, run.status
        scalars = self._newest | {name: now[name] for name in SHOWN if name in now}
        ended = 0 if status in ("running", "paused") else max(steps, default=0)  # the last step has no row of its own
        step = max(now.get("step", 0), self._step, ended)
        segments = run._history.segments
        return Standing(
            status, run.outcome, step, int(segments[-1]["max_iters"]) if segments else step, steps, scalars,
            self._speed(step, status), now.get("recording"), run.nbytes, self._trouble(status, now),
        )  # fmt: skip

    def curve(self, name: str) -> tuple[Int64[np.ndarray, "point"], Float64[np.ndarray, "point"]]:
        """Steps and values of "train" or "validation" loss so far."""
        steps, values = self._curves[name]
        return np.array(steps, dtype=np.int64), np.array(values, dtype=np.float64)

    def _forget(self) -> None:
        self._curves = {name: (array("q"), array("d")) for name in CURVES}
        self._newest: dict[str, float] = {}
        self._step = 0
        self._diverged: int | None = None

    def _read_rows(self) -> None:
        history, scalars = self.run._history, self.run._scalars
        rows = scalars.rows(history.segments)
        if len(history.segments) != self._segments:  # a resumed run: what came after its first step no longer counts
            self._segments, self._read = len(history.segments), 0
            self._forget()
        for row in rows[self._read:]:
            self._take(row)
        self._read = len(rows)

    def _take(self, row: dict[str, Any]) -> None:
        for name, column in CURVES.items():
            if column in row:
                self._curves[name][0].append(row["step"])
                self._curves[name][1].append(row[column])
        self._newest |= {name: row[name] for name in SHOWN if name in row}
        if "loss" in row:
            self._step = row["step"] + 1  # this update is done
            if self._diverged is None and not math.isfinite(row["loss"]):
                self._diverged = row["step"]

    def _speed(self, step: int, status: str) -> float | None:
        now = time.monotonic()
        if status != "running":
            self._recent.clear()
            return None
        if not self._recent or step != self._recent[-1][1]:
            self._recent.append((now, step))
        while len(self._recent) > 2 and now - self._recent[0][0] > RECENT_SECONDS:
            self._recent.popleft()
        (start, first), (end, last) = self._recent[0], self._recent[-1]
        return (last - first) / (end - start) if end > start else None

    def _trouble(self, status: str, now: dict[str, Any]) -> str:
        """The worst thing to know."""
        if status in ("failed", "killed", "gone"):
            return self.run.outcome
        if now.get("refused"):
            return (f"The disk refuses what is recorded ({now['refused']}). Training goes on; free some space, and "
                    "recording goes on too.")
        if now.get("mirror"):
            return (f"The mirror fails ({now['mirror']}). Training and recording go on here, and the copy is tried "
                    "again.")
        if self._diverged is not None:
            found = next((event for event in self.run.events if event["name"] == "nonfinite_loss"), {})
            where = f" It shows first in {found['first']}." if found.get("first") else ""
            return f"The loss is not a finite number since step {self._diverged}.{where}"
        return ""
