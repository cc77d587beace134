r"""Checksummed lines: the format of the journal and of the metrics files.

A line is `crc32 json\n`: eight hexadecimal digits over the bytes of the JSON. A process that dies while it appends
leaves a last line without its newline; readers do not look at that, and the next writer cuts it off. A whole line
whose checksum is wrong was damaged later and is reported.
"""

import json
import math
import os
import zlib
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def encode(record: Record) -> bytes:
    r"""One line for one record. NaN and infinities are not JSON: see `lossless`.

    Example:
        >>> encode({"step": 3})
        b'232fcf13 {"step":3}\n'
    """
    body = json.dumps(record, allow_nan=False, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def decode(line: bytes) -> Record | None:
    """The record in a line without its newline, or None if the line is damaged."""
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    try:
        record = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def lossless(row: Record) -> Record:
    """The row with each NaN or infinity as null, and which it was under "nonfinite".

    Example:
        >>> lossless({"step": 7, "loss": float("nan")})
        {'step': 7, 'loss': None, 'nonfinite': {'loss': 'nan'}}
    """
    odd = {key: str(value) for key, value in row.items() if isinstance(value, float) and not math.isfinite(value)}
    return {**row, **dict.fromkeys(odd), "nonfinite": odd} if odd else row


def restored(row: Record) -> Record:
    """The inverse of `lossless`; keeps the key "nonfinite" as the flag.

    Example:
        >>> restored({"step": 7, "loss": None, "nonfinite": {"loss": "nan"}})["loss"]
        nan
    """
    return {**row, **{key: float(word) for key, word in row.get("nonfinite", {}).items()}}


class LineReader:
    """Follows a file of checksummed lines as another process appends to it.

    Attributes:
        corrupt: Byte offsets of whole lines whose checksum is wrong.
        torn: Bytes after the last newline: a line that is being written, or never was finished.
    """

    def __init__(self, path: Path) -> None:
        """Starts at the beginning of the file, which need not exist yet."""
        self.path = path
        self.offset = 0
        self.torn = 0
        self.corrupt: list[int] = []

    def poll(self) -> list[Record]:
        """The records of the lines completed since the last call."""
        try:
            with open(self.path, "rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size == self.offset:
                    self.torn = 0
                    return []
                file.seek(self.offset)
                data = file.read()
        except FileNotFoundError:
            return []
        *lines, rest = data.split(b"\n")
        self.torn = len(rest)
        return [record for line in lines if (record := self._take(line)) is not None]

    def _take(self, line: bytes) -> Record | None:
        record = decode(line)
        if record is None:
            self.corrupt.append(self.offset)
        self.offset += len(line) + 1
        return record


class LineWriter:
    """Appends checksummed lines; what it could not write whole is taken back.

    Attributes:
        cut: Bytes of a torn last line that were removed when the file was opened.
    """

    def __init__(self, path: Path) -> None:
        """Opens or creates the file and removes a torn last line."""
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self.size = os.fstat(self.fd).st_size
        self.cut = self.size - _end_of_last_line(path)
        if self.cut:
            self._truncate(self.size - self.cut)

    def append(self, records: list[Record]) -> None:
        """Adds the records with one write.

        Raises:
            OSError: If they could not be written whole; the file then ends where it ended before.
        """
        self.append_bytes(b"".join(encode(record) for record in records))

    def append_bytes(self, data: bytes) -> None:
        """Adds encoded lines with one write; raises like `append`."""
        if os.fstat(self.fd).st_size != self.size:
            self._truncate(self.size)  # the rest of an append that failed earlier and could not be taken back
        try:
            written = os.write(self.fd, data)
            if written != len(data):
                raise OSError(28, "No space left on device")
        except OSError:
            self._truncate(self.size)
            raise
        self.size += len(data)

    def sync(self) -> None:
        """Waits until the lines are on the disk."""
        os.fsync(self.fd)

    def close(self) -> None:
        """Closes the file."""
        os.close(self.fd)

    def _truncate(self, size: int) -> None:
        os.ftruncate(self.fd, size)
        self.size = size


def _end_of_last_line(path: Path) -> int:
    return path.read_bytes().rfind(b"\n") + 1
