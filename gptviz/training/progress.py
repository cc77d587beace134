"""One line that says how training goes: in a terminal, in a notebook, or in a log file."""

import math
import sys
import time
from typing import TextIO


class Progress:
    """Shows step, loss, tokens per second and the time left.

    Args:
        first: Step at which this segment starts.
        last: Step at which it ends.
        tokens_per_step: Tokens read per step.
        stream: Where to write; standard error by default, in a notebook standard output (it paints errors red).

    Attributes:
        tokens_per_second: Over this segment so far.
    """

    def __init__(self, first: int, last: int, tokens_per_step: int, stream: TextIO | None = None) -> None:
        notebook = "ipykernel" in sys.modules
        self.stream = stream or (sys.stdout if notebook else sys.stderr)
        self.first, self.last, self.tokens_per_step = first, last, tokens_per_step
        self.tokens_per_second = 0.0
        self._redraws = self.stream.isatty() or notebook
        self._pause = 0.2 if self._redraws else 10.0
        self._start = time.perf_counter()
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
        if now - self._shown >= self._pause or step == self.last:
            self._shown = now
            self._draw(self._line(step, loss, val_loss, now - self._start))

    def finish(self, val_loss: float | None) -> None:
        """Draws the last line again, with the validation loss of the finished model."""
        self._draw(self._line(self.last, self._loss, val_loss, time.perf_counter() - self._start))

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

    def _line(self, step: int, loss: float, val_loss: float | None, seconds: float) -> str:
        done = step - self.first
        self.tokens_per_second = done * self.tokens_per_step / max(seconds, 1e-9)
        left = seconds / done * (self.last - step) if done else math.nan
        validation = "" if val_loss is None else f"  val {val_loss:.4f}"
        share = step / self.last
        bar = ("█" * round(12 * share)).ljust(12, "░")
        return (f"{bar} step {step:,}/{self.last:,}  loss {loss:.4f}{validation}  "
                f"{self.tokens_per_second:,.0f} tokens/s  {clock(left)} left{self._flag}")

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
