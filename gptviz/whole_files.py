"""Whole files, written so that a crash at any moment leaves either none or all of one."""

import contextlib
import os
import uuid
from pathlib import Path

TEMPORARY = ".tmp-"  # how the name of a file begins until it is whole


def write_whole(path: Path, data: bytes | bytearray) -> None:
    """Writes `data` beside `path`, waits for the disk, and only then gives it its name.

    Raises:
        OSError: If the disk refuses; nothing is left behind and a file of that name is as it was.
    """
    temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        with open(temporary, "xb", buffering=0) as file:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def write_result(path: Path, data: bytes) -> None:
    """Writes a page or picture that a person asked for; a file that was there is whole until the new one is.

    Raises:
        OSError: If it cannot be written, in a sentence.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():  # a device, such as /dev/stdout, must stay one
            path.write_bytes(data)
        else:
            write_whole(path, data)
    except OSError as error:
        raise OSError(f"{path} must be writable; the system says: {error.strerror or error}. Nothing was changed. "
                      "Choose another place or make room.") from error


def sync_folder(folder: Path) -> None:
    """Waits until the folder's list of names is on the disk (not possible, nor needed, on Windows)."""
    if os.name == "nt":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
