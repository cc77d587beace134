"""One line that says how training goes: in a terminal, in a notebook, or in a log file."""

import math
import sys
import time
from typing import TextIO

WORTH = 1.0  # seconds that a rate must have been measured for, before anything is estimated from it


class Pace:
    """Seconds per step of late: over the newer half of the steps so far, or a little more.

    The first step is never in it: it waits for memory, caches and the choice of threads, and may take a hundred times
    as long as the next. What slows training down for good is noticed once as many steps again are done.

    Example:
        >>> pace = Pace()
        >>> for step in range(1, 9):
        ...     pace.update(step, now=100.0 + 2.0 * step)
        >>> pace.seconds_per_step
        2.0
    """

    def __init__(self) -> None:
        self._marks: list[tuple[int, float]] = []  # two of the steps 1, 2, 4, 8 ... and when each was done
        self._done, self._now = 0, 0.0

    def update(self, done: int, now: float) -> None:
        """Takes the number of steps done, which grows by one, and the time in seconds."""
        self._done, self._now = done, now
        newer = self._marks[-1:]
        if done & (done - 1) == 0 and (len(self._marks) < 2 or now - newer[0][1] >= WORTH):
            self._marks = [*newer, (done, now)]

    @property
    def seconds_per_step(self) -> float | None:
        """None until it was measured for a second."""
        if not self._marks:
            return None
        done, then = self._marks[0]
        steps, seconds = self._done - done, self._now - then
        return seconds / steps if steps and seconds >= WORTH else None


class Progress:
    """Shows step, loss, tokens per second and the time left.

    Args:
        first: Step at which this segment starts.
        last: Step at which it ends.
        tokens_per_step: Tokens read per step.
        stream: Where to write; standard error by default, in a notebook standard output (it paints errors red).

    Speed and time left are those of late (`Pace`), and are not said before they are worth something.
    """

    def __init__(self, first: int, last: int, tokens_per_step: int, stream: TextIO | None = None) -> None:
        notebook = "ipykernel" in sys.modules
        self.stream = stream or (sys.stdout if notebook else sys.stderr)
        self.first, self.last, self.tokens_per_step = first, last, tokens_per_step
        self._pace = Pace()
        self._redraws = self.stream.isatty() or notebook
        self._pause = 0.2 if self._redraws else 10.0
        self._shown = -math.inf
        self._width = 0
        self._flag = ""
        self._loss = math.nan

    def update(self, step: int, loss: float, val_loss: float | None) -> None:
        """Takes the number of updates made and the loss before the last of them; draws a few times a second at most."""
        self._loss = loss
        if not math.isfinite(loss) and not self._flag:
            self._flag = f"  NOT FINITE since step {step - 1}"  # the step that its metrics and its event name
        now = time.perf_counter()
        self._pace.update(step - self.first, now)
        if now - self._shown >= self._pause or step == self.last:
            self._shown = now
            self._draw(self._line(step, loss, val_loss))

    def finish(self, val_loss: float | None) -> None:
        """Draws the last line again, with the validation loss of the finished model."""
        self._draw(self._line(self.last, self._loss, val_loss))

    def say(self, sentence: str) -> None:
        """Writes a line of its own."""
        self._erase()
        self.stream.write(sentence + "\n")
        self.stream.flush()

    def close(self) -> None:
        """Ends the line."""
        if self._width:
            self.stream.write("\n")
            self.stream.flush()
        self._width = 0

    def _line(self, step: int, loss: float, val_loss: float | None) -> str:
        validation = "" if val_loss is None else f"  val {val_loss:.4f}"
        share = step / self.last
        bar = ("█" * round(12 * share)).ljust(12, "░")
        return f"{bar} step {step:,}/{self.last:,}  loss {loss:.4f}{validation}{self._estimate(step)}{self._flag}"

    def _estimate(self, step: int) -> str:
        seconds = self._pace.seconds_per_step
        if seconds is None:
            return "" if step == self.last else "  estimating the time left"
        speed = f"  {self.tokens_per_step / seconds:,.0f} tokens/s"
        return speed if step == self.last else f"{speed}  {clock(seconds * (self.last - step))} left"

    def _draw(self, line: str) -> None:
        if not self._redraws:
            self.stream.write(line + "\n")
        else:
            self.stream.write("\r" + line.ljust(self._width))
            self._width = len(line)
        self.stream.flush()

    def _erase(self) -> None:
        if self._width:
            self.stream.write("\r" + " " * self._width + "\r")
        self._width = 0


def clock(seconds: float) -> str:
    """Minutes and seconds, or hours.

    Example:
        >>> clock(75.0), clock(3700.0), clock(float("nan"))
        ('1:15', '1:01:40', '-:--')
    """
    if not math.isfinite(seconds):
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
