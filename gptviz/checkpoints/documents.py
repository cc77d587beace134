"""Small files that may come from anywhere: read with a limit, as JSON that means one thing."""

import json
from pathlib import Path

LIMIT = 16 * 2**20  # bytes; a tokenizer with 50,000 merges takes 2 MB


def read_small(path: Path, limit: int = LIMIT) -> bytes:
    """The bytes of a regular file of at most `limit` bytes.

    Raises:
        ValueError: there is no such file, it is a device or a pipe, or it is larger.
    """
    if not path.is_file():
        raise ValueError(f"{path} must be a file, but {'it is none' if path.exists() else 'there is no such file'}.")
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        size = path.stat().st_size
        raise ValueError(f"{path} must be at most {limit:,} bytes long, but is {size:,}. It is another file.")
    return data


def parse_json(text: bytes | str, source: str) -> dict[str, object]:
    """The object that JSON text describes.

    Raises:
        ValueError: it is not JSON, not an object, nested too deeply, or gives a key twice (which counts is unclear).
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"{source} is nested too deeply to be what it should be.") from None
    except ValueError as reason:
        raise ValueError(f"{source} must be JSON, but is not: {str(reason)[:200]}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{source} must be a JSON object, not {type(value).__name__}.")
    return value


def read_json(path: Path) -> dict[str, object]:
    """The object in a JSON file; raises like `read_small` and `parse_json`."""
    return parse_json(read_small(path), str(path))


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)[:60]!r} is given twice")
    return value


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
