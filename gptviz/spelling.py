"""What a sentence advises: an option or a call, as Python spells it, or as the command line does while it runs.

A refusal deep inside does not know who reads it. It names the option, `spelling().option("truncate", "left")`, and
whoever asked decides how that is written: `truncate="left"` for Python, `--truncate left` inside `spelled(Shell(...))`.
"""

import contextlib
import shlex
from collections.abc import Collection, Iterator
from contextvars import ContextVar
from pathlib import Path


class Spelling:
    """How Python says it, which is what everybody hears who did not ask for another."""

    def option(self, name: str, value: object = None) -> str:
        """An option to pass, with its value if there is one to advise.

        Example:
            >>> Spelling().option("truncate", "left"), Spelling().option("out")
            ('truncate="left"', 'out=')
        """
        shown = "" if value is None else f'"{value}"' if isinstance(value, str) else repr(value)
        return f"{name}={shown}"

    def setting(self, name: str, value: object = None) -> str:
        """A field of `TrainConfig`."""
        return self.option(name, value)

    def in_python(self, words: str) -> str:
        """Words that mean nothing elsewhere."""
        return words

    def load(self, path: str | Path) -> str:
        """How a model is named.

        Example:
            >>> Spelling().load("sorter")
            "gv.load('sorter')"
        """
        return f"gv.load({str(path)!r})"

    def resume(self, folder: str | Path, max_iters: int | None = None) -> str:
        """How a run goes on.

        Example:
            >>> Spelling().resume("runs/demo", 200)
            "gptviz.open_run('runs/demo').resume(max_iters=200)"
        """
        return f"gptviz.open_run({str(folder)!r}).resume({'' if max_iters is None else f'{max_iters=}'})"

    def stop(self, folder: str | Path) -> str:
        """How a run that trains elsewhere is stopped."""
        return f"gptviz.open_run({str(folder)!r}).stop()"

    def verify(self, folder: str | Path) -> str:
        """How a run's files are checked."""
        return "run.verify()"


class Shell(Spelling):
    """How a command of `gptviz` says it.

    Args:
        options: The options of the command that runs.
        program: How this program is called.

    Example:
        >>> inspect, demo = Shell({"truncate"}), Shell({"steps", "out"})
        >>> inspect.option("truncate", "left"), inspect.option("n_head")
        ('--truncate left', 'n_head= in Python')
        >>> demo.setting("out"), demo.setting("tokenizer", "byte")
        ('--out', 'tokenizer=byte')
        >>> demo.resume("my runs/a", 200)
        "gptviz train --resume 'out=my runs/a' max_iters=200"
    """

    def __init__(self, options: Collection[str], program: str = "gptviz") -> None:
        self.options, self.program = options, program

    def option(self, name: str, value: object = None) -> str:
        """`--name value`; one that the command does not have is for Python only."""
        if name in self.options:
            return f"--{name.replace('_', '-')}" + ("" if value is None else f" {shlex.quote(str(value))}")
        return f"{super().option(name, value)} in Python"

    def setting(self, name: str, value: object = None) -> str:
        """`name=value`, as `train` takes it, but for the commands that have an option of that name."""
        if name in self.options:
            return self.option(name, value)
        return shlex.quote(f"{name}={'' if value is None else value}")

    def in_python(self, words: str) -> str:
        """Nothing."""
        return ""

    def load(self, path: str | Path) -> str:
        """The name alone: every command takes it."""
        return shlex.quote(str(path))

    def resume(self, folder: str | Path, max_iters: int | None = None) -> str:
        """The command that goes on with a run."""
        longer = "" if max_iters is None else f" {max_iters=}"
        return f"{self.program} train --resume {shlex.quote(f'out={folder}')}{longer}"

    def stop(self, folder: str | Path) -> str:
        """The file that asks for it: no command does."""
        return f"touch {shlex.quote(str(Path(folder) / 'STOP'))}"

    def verify(self, folder: str | Path) -> str:
        """The command that checks a run."""
        return f"{self.program} verify {shlex.quote(str(folder))}"


_SPELLING: ContextVar[Spelling] = ContextVar("_SPELLING", default=Spelling())  # noqa: B039 - it holds nothing


def spelling() -> Spelling:
    """How whoever asked spells options and calls.

    Example:
        >>> f"Pass {spelling().option('truncate', 'left')}."
        'Pass truncate="left".'
    """
    return _SPELLING.get()


@contextlib.contextmanager
def spelled(by: Spelling) -> Iterator[None]:
    """What is said inside spells options and calls like this.

    Example:
        >>> with spelled(Shell({"truncate"})):
        ...     f"Pass {spelling().option('truncate', 'left')}."
        'Pass --truncate left.'
    """
    before = _SPELLING.set(by)
    try:
        yield
    finally:
        _SPELLING.reset(before)
