"""What a model is to read: a text, token ids, or several of either, as checked rows of ids."""

from collections.abc import Iterable, Mapping, Set
from typing import Any

import torch
from torch import Tensor

from gptviz.arguments import check_tokenizer
from gptviz.config import GPTConfig
from gptviz.spelling import spelling
from gptviz.token_ids import check_ids


def token_rows(
    text: Any, tokenizer: Any, config: GPTConfig, truncate: str | None = None
) -> tuple[list[Tensor], bool, tuple[str, ...]]:
    """Texts or ids as checked id tensors `[pos]`, whether there was only one text, and notes.

    Raises:
        ValueError: a text is empty or longer than the block, or an id is outside the vocabulary.
        TypeError: neither a text nor ids; or a text without a tokenizer.
    """
    if truncate not in (None, "left", "right"):
        nothing = spelling().in_python(", or None")
        raise ValueError(f'truncate must be "left" or "right"{nothing}, not {truncate!r}.')
    if isinstance(text, Tensor) and _fit(text, config):
        return [text.clone()], True, ()
    single = _is_one_text(text)
    texts = [text] if single else list(text)
    if not texts:
        raise ValueError("There must be at least one text, but the list is empty.")
    notes: tuple[str, ...] = ()
    rows = []
    for one in texts:
        ids = _checked_ids(one, tokenizer, config)
        if ids.numel() > config.block_size:
            if truncate is None:
                raise ValueError(
                    f"Text has {len(ids)} tokens but the model reads at most {config.block_size} (block_size). "
                    f"Shorten it or pass {spelling().option('truncate', 'left')}."
                )
            notes += (f"{len(ids) - config.block_size} of {len(ids)} tokens were cut off at the {truncate}.",)
            ids = ids[-config.block_size :] if truncate == "left" else ids[: config.block_size]
        rows.append(ids)
    return rows, single, notes


def _is_one_text(text: Any) -> bool:
    if isinstance(text, str):
        return True
    if getattr(text, "ndim", 0):
        return text.ndim == 1
    if hasattr(text, "ndim"):
        raise TypeError(f"Token ids must stand in one row, but {text!r} is a single number. Put it into a list.")
    unordered = isinstance(text, bytes | bytearray | Mapping | Set)  # iterable, and yet neither text nor ids
    if unordered or not isinstance(text, Iterable):
        raise TypeError(
            f"The text must be a string, token ids, or a list of these, not {type(text).__name__}."
        )
    return all(hasattr(item, "__index__") and not getattr(item, "ndim", 0) for item in text)


def _checked_ids(text: Any, tokenizer: Any, config: GPTConfig) -> Tensor:
    if isinstance(text, str):
        if tokenizer is None:
            raise TypeError("A text needs a tokenizer: pass tokenizer=, or token ids.")
        check_tokenizer(tokenizer, "encode", "decode")
        text = tokenizer.encode(text)
    if not hasattr(text, "__len__"):
        raise TypeError(f"The text must be a string or token ids, not {text!r}.")
    in_memory = isinstance(text, Tensor) and not text.is_meta
    ids = check_ids(text.detach().cpu() if in_memory else text, config.vocab_size)
    if not len(ids):
        raise ValueError("A text must have at least one token, but this one is empty.")
    return torch.from_numpy(ids)


def _fit(tensor: Tensor, config: GPTConfig) -> bool:
    """Whether these are ids just as the model takes them. Of what is not, `check_ids` says why, or converts it."""
    plain = tensor.dtype == torch.int64 and tensor.layout == torch.strided and tensor.is_cpu and tensor.ndim == 1
    if not plain or tensor.numel() > config.block_size:
        return False
    numbers = tensor.tolist()  # min and max of a short list take less than the first call of a vectorised check
    return bool(numbers) and 0 <= min(numbers) and max(numbers) < config.vocab_size
