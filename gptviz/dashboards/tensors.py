"""From torch to what a view takes: arrays in main memory, and names instead of ids."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from gptviz.tokenizers import drawn


def as_numpy(tensor: Any) -> Float32[np.ndarray, "..."]:
    """A tensor as a float32 array in main memory.

    Example:
        >>> import torch
        >>> as_numpy(torch.tensor([1.0, 2.0], dtype=torch.bfloat16, requires_grad=True))
        array([1., 2.], dtype=float32)
    """
    return tensor.detach().float().cpu().numpy()


def visible_of(tokenizer: Any) -> Callable[[int], str]:
    """What names a token id: the tokenizer; the number where there is none, or where the vocabulary is padded.

    Example:
        >>> visible_of(None)(7)
        '7'
    """
    if tokenizer is None:
        return str
    return lambda token: drawn(tokenizer, token) if token < tokenizer.vocab_size else f"[{token}]"


def named(
    ids: Int[np.ndarray, "*place"], visible: Callable[[int], str]
) -> tuple[Int[np.ndarray, "*place"], list[str]]:
    """Ids as indices into a list of words that holds each only once.

    Example:
        >>> named(np.array([[7, 3], [7, 7]]), str)
        (array([[1, 0],
               [1, 1]]), ['3', '7'])
    """
    used, short = np.unique(ids, return_inverse=True)
    return short.reshape(ids.shape), [visible(int(token)) for token in used]
