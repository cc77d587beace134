"""Every operation on files below a folder, counted; the n-th of them fails, is done by half, or kills the process.

The functions of `os` and `open` are replaced in this process, which is then a test's child: the operations are real
and so are the errors' effects; the kill is SIGKILL.
"""

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO}
# How the n-th operation goes wrong: an error once, an error from then on, half a write first, a kill.
FAULTS = ("once ENOSPC", "once EIO", "always ENOSPC", "always EIO", "half ENOSPC", "kill", "half kill")
ROOM = {"open", "write", "mkdir", "replace", "fsync"}  # what needs room on the disk


class Faults:
    """Counts the operations below `folder` and spoils the n-th.

    Args:
        folder: Operations elsewhere are not touched.
        at: Number of the operation to spoil, from 0; -1 only counts.
        fault: One of `FAULTS`.

    Attributes:
        done: Name and path of each operation so far.
    """

    def __init__(self, folder: Path, at: int = -1, fault: str = "kill") -> None:
        self.folder, self.at = str(folder), at
        self.how, _, self.error = fault.rpartition(" ")
        self.done: list[str] = []
        self.names: dict[int, str] = {}  # open files below the folder
        self.write = os.write

    def install(self) -> "Faults":
        """Takes the place of the functions; there is no way back."""
        for name in ("mkdir", "rmdir", "unlink", "replace"):
            setattr(os, name, self._on_path(name, getattr(os, name)))
        for name in ("fsync", "ftruncate"):
            setattr(os, name, self._on_file(name, getattr(os, name)))
        os.open, os.write, os.close = self._open(os.open), self._write, self._close(os.close)
        builtins.open = io.open = self._builtin_open(builtins.open)
        return self

    # --- the operations -----------------------------------------------------------------------------------------

    def _on_path(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def operate(path: Any, *args: Any, **options: Any) -> Any:
            if self._is_ours(path):
                self._happens(name, path)
            return real(path, *args, **options)

        return operate

    def _on_file(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def operate(fd: int, *args: Any) -> Any:
            if fd in self.names:
                self._happens(name, self.names[fd])
            return real(fd, *args)

        return operate

    def _open(self, real: Callable[..., int]) -> Callable[..., int]:
        def operate(path: Any, *args: Any, **options: Any) -> int:
            ours = self._is_ours(path)
            if ours:
                self._happens("open", path)
            fd = real(path, *args, **options)
            if ours:
                self.names[fd] = str(path)
            return fd

        return operate

    def _close(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def operate(fd: int) -> None:
            self.names.pop(fd, None)
            real(fd)

        return operate

    def _write(self, fd: int, data: Any) -> int:
        if fd in self.names:
            half = memoryview(data)[: len(data) // 2]
            if self._happens("write", self.names[fd], lambda: self.write(fd, half)):
                return len(half)
        return self.write(fd, data)

    def _builtin_open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        faults = self

        class File(io.FileIO):
            def write(self, data: Any) -> int:
                return os.write(self.fileno(), data)

            def close(self) -> None:
                if not self.closed:
                    faults.names.pop(self.fileno(), None)
                super().close()

        def operate(path: Any, mode: str = "r", buffering: int = -1, *args: Any, **options: Any) -> Any:
            if not set(mode) & set("wax+") or not self._is_ours(path):
                return real(path, mode, buffering, *args, **options)
            self._happens("open", path)
            file = File(path, mode.replace("b", "").replace("t", ""))
            self.names[file.fileno()] = str(path)
            if buffering == 0:
                return file
            return io.BufferedWriter(file) if "b" in mode else io.TextIOWrapper(io.BufferedWriter(file))

        return operate

    # --- what goes wrong ----------------------------------------------------------------------------------------

    def _is_ours(self, path: Any) -> bool:
        return not isinstance(path, int) and os.path.abspath(os.fspath(path)).startswith(self.folder)

    def _happens(self, name: str, path: Any, half: Callable[[], Any] | None = None) -> bool:
        """Counts, and goes wrong if it is time to; True if the half of a write was done, as on a disk that is full."""
        number = len(self.done)
        self.done.append(f"{name} {os.path.relpath(path, self.folder)}")
        lasting = self.how in ("always", "half") and self.error != "kill"
        if self.at < 0 or number < self.at or (number > self.at and not lasting):
            return False
        if half and self.how == "half" and number == self.at:
            half()
            if self.error != "kill":
                return True
        if self.error == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if number == self.at or self.error == "EIO" or name in ROOM:
            raise OSError(ERRORS[self.error], os.strerror(ERRORS[self.error]))
        return False
