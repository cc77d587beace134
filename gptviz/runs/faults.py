"""What can be wrong with a run directory, each as its own ValueError."""

from pathlib import Path

from gptviz.spelling import spelling


class NotARun(ValueError):
    """The folder is not a run directory, or one that this version cannot read."""


class RunLocked(ValueError):
    """Another process is writing to the run directory."""


class CorruptSnapshot(ValueError):
    """A committed file is missing, cut short or altered.

    Attributes:
        step: Training step the file belongs to.
        reason: What is wrong with it, as a phrase.
        path: The file.
    """

    def __init__(self, step: int, reason: str, path: Path) -> None:
        """Says which step is lost and what to do about it."""
        super().__init__(
            f"Step {step} cannot be read: {path} {reason}. Choose another step, or restore the file from a copy; "
            f"{spelling().verify(path.parent.parent)} lists every damaged file."
        )
        self.step, self.reason, self.path = step, reason, path
