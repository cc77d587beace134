"""Token ids of a long text in files, as nanoGPT's ``train.bin``: written in a stream, read by memory mapping.

Never written through the mapping: a full disk would then kill the process (SIGBUS) instead of raising OSError.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt

SAMPLE_BYTES = 2**20


def dtype_for(vocab_size: int) -> np.dtype:
    """uint16, as nanoGPT writes, where the ids fit; else uint32. Little-endian on every machine."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def write_ids(path: Path, pieces: Iterable[list[int]], dtype: np.dtype) -> int:
    """Write ids to a file that appears only when it is complete.

    Returns:
        The number of ids.

    Raises:
        OSError: if the disk is full or the folder cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    n_ids = 0
    try:
        with open(temporary, "wb") as file:
            for ids in pieces:
                file.write(np.array(ids, dtype=dtype).tobytes())
                n_ids += len(ids)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as reason:
        raise OSError(
            reason.errno,
            f"Token ids must be written to {path}, and could not be after {n_ids:,} of them: {reason.strerror}. Make"
            " room, or set GPTVIZ_CACHE_DIR to a folder on a larger disk; nothing was left behind",
        ) from reason
    finally:
        temporary.unlink(missing_ok=True)
    return n_ids


def map_ids(path: Path, dtype: np.dtype) -> UInt[np.ndarray, "pos"]:
    """The ids in a file, read-only and mapped: pages are read as they are used.

    Raises:
        ValueError: if the file is missing, empty, or its size does not fit the type.
    """
    size = path.stat().st_size if path.is_file() else 0
    if size == 0 or size % dtype.itemsize:
        raise ValueError(
            f"A file of token ids has {dtype.itemsize} bytes for each ({dtype.name}); {path} has {size} bytes. Write it"
            " again with nanoGPT's prepare.py, or pass the dtype it was written with."
        )
    return np.memmap(path, dtype=dtype, mode="r")


def fingerprint(path: Path) -> str:
    """sha256 of a file's size, first and last megabyte: tells two corpora apart without reading gigabytes."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        digest.update(file.read(SAMPLE_BYTES))
        file.seek(max(0, size - SAMPLE_BYTES))
        digest.update(file.read())
    return digest.hexdigest()


def take_characters(pieces: Iterator[str], n_characters: int, rest: list[str]) -> Iterator[str]:
    """The first `n_characters` of a text in pieces; what is over of the last piece is put into `rest`."""
    while n_characters:
        piece = next(pieces, None)
        if piece is None:
            return
        if len(piece) > n_characters:
            rest.append(piece[n_characters:])
            piece = piece[:n_characters]
        n_characters -= len(piece)
        yield piece
