"""What a caller passes: a sentence for each wrong kind of thing, before any work. Ids and texts: `token_ids`."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LONGEST_NAME = 255
"""Bytes that the file systems of our time allow one name."""

LONGEST_PATH = 4095


def must_be(value: object, kind: type | tuple[type, ...], what: str, hint: str) -> None:
    """Raise unless a value is of a kind.

    Raises:
        TypeError: it is not.

    Example:
        >>> must_be(None, dict, "metadata", "Pass a dictionary.")
        Traceback (most recent call last):
        TypeError: metadata must be a dict, not NoneType. Pass a dictionary.
    """
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        named = " or ".join(f"a {each.__name__}" for each in kinds)
        raise TypeError(f"{what} must be {named}, not {type(value).__name__}. {hint}")


def briefly(value: Any) -> str:
    """A value as a sentence can quote it, whatever its size.

    Example:
        >>> briefly("x" * 1000)
        "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…"
    """
    text = repr(value[:200] if isinstance(value, str | list | tuple) else value)
    return text if len(text) <= 80 else f"{text[:60]}…"


def span(least: int, most: int) -> str:
    """A range of whole numbers as a sentence says it.

    Example:
        >>> span(1, 8), span(1, 1)
        ('1 to 8', '1')
    """
    return f"{least} to {most}" if most > least else str(least)


def whole_number(value: Any, what: str, least: int = 0, most: int | None = None) -> int:
    """A count, a seed or a size as an int.

    Raises:
        ValueError: it is no whole number, or out of range.

    Example:
        >>> whole_number(2.5, "batch_size", least=1)
        Traceback (most recent call last):
        ValueError: batch_size must be a whole number of at least 1, not 2.5.
    """
    whole = hasattr(value, "__index__") and not isinstance(value, bool) and not getattr(value, "ndim", 0)
    number = value.__index__() if whole else least - 1
    if number < least or (most is not None and number > most):
        bound = f"at least {least}" if number < least else f"at most {most}"
        raise ValueError(f"{what} must be a whole number of {bound}, not {briefly(value)}.")
    return number


def several(values: Any, what: str) -> Iterable[Any]:
    """Several texts or traces, which may be a generator.

    Raises:
        ValueError: it is one text.
        TypeError: it is not iterable.
    """
    if isinstance(values, str):
        raise ValueError(
            f"{what} must hold several texts, but is a single string. Pass [text], or an iterable of texts."
        )
    if not isinstance(values, Iterable):
        raise TypeError(f"{what} must be a list, or another iterable, not {type(values).__name__}.")
    return values


def path_of(path: Any, what: str = "A path") -> Path:
    """A path that a file system can have.

    Raises:
        TypeError: it is no path.
        ValueError: it is longer than a path can be, or holds a NUL.

    Example:
        >>> path_of(5)
        Traceback (most recent call last):
        TypeError: A path must be a str or a pathlib.Path, not int: 5.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise TypeError(f"{what} must be a str or a pathlib.Path, not {type(path).__name__}: {str(path)[:60]}.")
    text = os.fspath(path)
    if not text:
        raise ValueError(f"{what} must not be empty. For the folder you are in write '.'.")
    if "\0" in text:
        raise ValueError(f"{what} must not hold the character NUL, but {text[:80]!r} does.")
    names = [text, *Path(text).parts]
    if len(os.fsencode(text)) > LONGEST_PATH or any(len(os.fsencode(name)) > LONGEST_NAME for name in names[1:]):
        raise ValueError(
            f"{what} must be at most {LONGEST_PATH} bytes long, and each name in it {LONGEST_NAME}; "
            f"this one has {len(os.fsencode(text))}: {text[:60]!r}... A text belongs into another argument."
        )
    return Path(path)


def check_tokenizer(tokenizer: Any, *needed: str) -> None:
    """Raise unless something has what will be asked of a tokenizer, or is None.

    Raises:
        TypeError: one is missing.
    """
    absent = [name for name in needed if tokenizer is not None and not hasattr(tokenizer, name)]
    if absent:
        raise TypeError(
            f"tokenizer must be a tokenizer such as gv.load or CharTokenizer give, but {type(tokenizer).__name__} has "
            f"no {', '.join(absent)}."
        )
