"""What a caller may pass as a text and as token ids; a sentence about everything else."""

from collections.abc import Iterable
from typing import SupportsIndex

import numpy as np
from jaxtyping import Int64

from gptviz.arguments import briefly, several


def check_text(text: str) -> None:
    """Raise unless `text` is a str and valid Unicode.

    Raises:
        TypeError: if it is not a str.
        ValueError: if it holds a lone surrogate.
    """
    if not isinstance(text, str):
        encoded = isinstance(text, bytes | bytearray)
        hint = "Decode it first: text.decode('utf-8')." if encoded else 'Pass a text: "...".'
        raise TypeError(f"A text must be a str; got {type(text).__name__}. {hint}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as wrong:
        raise ValueError(
            f"A text must be valid Unicode; got a lone surrogate, U+{ord(text[wrong.start]):04X}, at position"
            f" {wrong.start} (half of a character, or a file read with errors='surrogateescape'). Read the text as"
            " UTF-8, or replace it: text.encode('utf-8', 'replace').decode('utf-8')."
        ) from None


def check_ids(ids: Iterable[SupportsIndex], vocab_size: int | None = None) -> Int64[np.ndarray, "pos"]:
    """Token ids as an array, or a sentence about the first that is not one.

    Args:
        ids: a list, array or tensor with one axis; may be empty.
        vocab_size: ids are 0 .. vocab_size - 1; None if it is not known yet.

    Raises:
        TypeError: if they are not whole numbers in one row.
        ValueError: if one is out of range.

    Example:
        >>> check_ids([2, 0], vocab_size=3)
        array([2, 0])
    """
    try:
        array = np.asarray(ids if hasattr(ids, "__len__") else list(several(ids, "they")))
    except (TypeError, ValueError) as reason:  # not iterable; ragged
        raise TypeError(f"Token ids must be whole numbers in one row; got {_short(ids)} ({reason}).") from None
    whole = array.dtype.kind in "iu" or all(isinstance(i, int) for i in array.flat)  # beyond 64 bits: objects
    if array.ndim != 1 or not whole or array.dtype.kind == "b":
        raise TypeError(
            f"Token ids must be whole numbers in one row; got {_short(ids)}. Pass a list such as [3, 1, 4],"
            " or tokenizer.encode(text)."
        )
    largest = np.iinfo(np.int64).max if vocab_size is None else vocab_size - 1
    for bad in np.flatnonzero((array < 0) | (array > largest))[:1] if array.size else ():
        raise ValueError(
            f"Token ids must be from 0 to {largest} (the vocabulary has {largest + 1} tokens); got"
            f" {briefly(int(array[bad]))} at position {bad}. Encode the text with the tokenizer the model was trained"
            " with."
        )
    return array.astype(np.int64)


def _short(value: object) -> str:
    return f"{type(value).__name__} {str(value)[:60]}"
