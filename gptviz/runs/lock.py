"""One writer per run directory: the LOCK file says who."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from gptviz.runs.faults import RunLocked

NAME = "LOCK"


def acquire(folder: Path) -> None:
    """Takes the run directory for this process, also from an owner that is proven to be gone.

    Raises:
        RunLocked: If another process holds it, or one on another machine may.
        OSError: If the folder cannot be written.
    """
    with _one_at_a_time(folder):
        owner = holder(folder)
        if owner is not None:
            raise RunLocked(_sentence(folder, owner))
        temporary = folder / f".tmp-{NAME}"
        temporary.write_text(json.dumps(_me()))
        os.replace(temporary, folder / NAME)


def release(folder: Path) -> None:
    """Gives the run directory back if this process holds it."""
    with contextlib.suppress(OSError):
        if (owner := _read(folder)) and (owner["pid"], owner["host"]) == (os.getpid(), socket.gethostname()):
            (folder / NAME).unlink()


def holder(folder: Path) -> dict | None:
    """Who writes to the run directory (pid, host, started), or None if nobody does."""
    owner = _read(folder)
    return None if owner is None or _is_gone(owner) else owner


def _me() -> dict:
    pid = os.getpid()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    birth = _birth(pid)
    return {"pid": pid, "host": socket.gethostname(), "started": started, "boot": _boot(), "birth": birth}


def _read(folder: Path) -> dict | None:
    """The content of LOCK; None without one, and for a damaged one, which only a crashed machine leaves."""
    try:
        owner = json.loads((folder / NAME).read_text())
        return owner if {"pid", "host", "started"} <= set(owner) else None
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _is_gone(owner: dict) -> bool:
    """True only with proof: this machine, and it was restarted, or the process ended, or its number was reused."""
    pid = owner["pid"]
    if owner["host"] != socket.gethostname() or os.name == "nt" or not isinstance(pid, int):
        return False  # on Windows os.kill(pid, 0) would not ask but kill
    if owner.get("boot") != _boot():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    birth = _birth(pid)
    return birth == "dead" or (birth is not None and birth != owner.get("birth"))


def _birth(pid: int) -> str | None:
    """When the process started, in clock ticks since boot; "dead" for a zombie; None where /proc does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "dead" if fields[0] in "ZX" else fields[19]


def _boot() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _sentence(folder: Path, owner: dict) -> str:
    return (
        f"A run directory has one writer at a time; process {owner['pid']} on {owner['host']} writes to {folder} "
        f"since {owner['started']}. Wait for it or stop it; if that machine is gone, delete {folder / NAME}."
    )


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Keeps two processes from taking over the same stale lock (where the system has flock)."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
