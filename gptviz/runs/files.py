"""The files of a run: their names, their form, and reading them back against the journal."""

import json
import os
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from gptviz.runs.faults import CorruptSnapshot
from gptviz.runs.journal import Record

Arrays = dict[str, np.ndarray]
# Safetensors' names of types, in the order in which it puts arrays: the widest first, so that each one is aligned.
DTYPES = {"uint64": "U64", "int64": "I64", "float64": "F64", "float32": "F32", "uint32": "U32", "int32": "I32",
          "float16": "F16", "uint16": "U16", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL"}  # fmt: skip

# A journal may come from anywhere: a name of any other form (a parent folder, a device) is never opened.
FILE_NAME = re.compile(r"(ckpt|snap)/\d{10}(\.opt)?\.(safetensors|json)")


def file_name(kind: str, step: int) -> str:
    """Where a file of this kind and step lies in the run directory.

    Example:
        >>> file_name("weights", 120)
        'ckpt/0000000120.safetensors'
    """
    folder, ending = {
        "weights": ("ckpt", ".safetensors"),
        "optimizer": ("ckpt", ".opt.safetensors"),
        "state": ("ckpt", ".json"),
        "snapshot": ("snap", ".safetensors"),
    }[kind]
    return f"{folder}/{step:010d}{ending}"


def step_of(name: str) -> int:
    """The inverse of `file_name`, for a name of the form FILE_NAME.

    Example:
        >>> step_of("ckpt/0000000120.opt.safetensors")
        120
    """
    return int(name[5:15])


def serialise(content: Arrays | Record) -> bytes | bytearray:
    """Arrays as safetensors, anything else as JSON."""
    if all(isinstance(value, np.ndarray) for value in content.values()):
        return safetensors_bytes(content)
    return json.dumps(content, allow_nan=False).encode()


def safetensors_bytes(arrays: Arrays) -> bytearray:
    """The bytes that `safetensors.numpy.save` gives, in a tenth of its time: each array is copied once.

    It is done beside a training, which waits while Python is busy here; the library copies three times into new memory.

    Raises:
        ValueError: If an array has a type that runs do not keep.

    Example:
        >>> arrays = {"ids": np.arange(3, dtype=np.int32), "loss": np.zeros((2, 2), np.float32)}
        >>> safetensors_bytes(arrays) == safetensors.numpy.save(arrays)
        True
    """
    ranks = list(DTYPES)
    if strange := {name: str(array.dtype) for name, array in arrays.items() if array.dtype.name not in DTYPES}:
        raise ValueError(f"A run keeps arrays of {', '.join(DTYPES)}; {strange} were given. Convert them.")
    order = sorted(arrays, key=lambda name: (ranks.index(arrays[name].dtype.name), name))
    header, end = {}, 0
    for name in order:
        array, start, end = arrays[name], end, end + arrays[name].nbytes
        header[name] = {"dtype": DTYPES[array.dtype.name], "shape": array.shape, "data_offsets": (start, end)}
    head = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    head += b" " * (-len(head) % 8)
    data = bytearray(8 + len(head) + end)
    data[: 8 + len(head)] = len(head).to_bytes(8, "little") + head
    for name in order:
        array, start = arrays[name], 8 + len(head) + header[name]["data_offsets"][0]
        np.frombuffer(data, array.dtype.newbyteorder("<"), array.size, start).reshape(array.shape)[...] = array
    return data


def read_committed(folder: Path, record: Record) -> bytes:
    """The bytes of a journalled file, checked against the size and checksum in its journal record.

    The file is read, never mapped: a mapped file that another process cuts short kills the reader.

    Raises:
        CorruptSnapshot: If the name is not one of ours, or the file is missing, cut short or altered.
    """
    step, name = int(record["step"]), str(record["file"])
    path = folder / name
    if not FILE_NAME.fullmatch(name):
        raise CorruptSnapshot(step, "is not a name that a run directory uses and was not opened", path)
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        raise CorruptSnapshot(step, f"cannot be opened ({error.strerror})", path) from error
    with open(fd, "rb", buffering=0) as file:
        size = os.fstat(fd).st_size
        if size != record["bytes"]:
            raise CorruptSnapshot(step, f"has {size} bytes but {record['bytes']} were committed", path)
        data = file.readall()
    if f"{zlib.crc32(data):08x}" != record["crc32"]:
        raise CorruptSnapshot(step, "is not what was committed (its checksum differs)", path)
    return data


def read_arrays(folder: Path, record: Record) -> Arrays:
    """The arrays of a journalled safetensors file; raises like `read_committed`."""
    data = read_committed(folder, record)
    try:
        return safetensors.numpy.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        reason = f"is not a safetensors file ({error})"
        raise CorruptSnapshot(int(record["step"]), reason, folder / record["file"]) from error


def read_state(folder: Path, record: Record) -> dict[str, Any]:
    """The JSON of a journalled file; raises like `read_committed`."""
    data = read_committed(folder, record)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptSnapshot(int(record["step"]), f"is not JSON ({error})", folder / record["file"]) from error
