"""Many texts through a model, a few at a time: memory does not grow with the corpus."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from gptviz.arguments import several, whole_number
from gptviz.trace import Trace, record, unwrapped


def traces_over(
    model: nn.Module,
    texts: Iterable[Any],
    tokenizer: Any = None,
    *,
    names: str | Iterable[str] | None = None,
    layers: Any = None,
    batch_size: int = 8,
    truncate: str | None = None,
) -> Iterator[Trace]:
    """Record texts one batch after the other and give each text's trace in order.

    At most `batch_size` traces exist at a time, unless you keep them. Nothing stays on the model between two
    traces, so a loop may be left at any time.

    Args:
        model: A `GPT`.
        texts: Texts or id lists; may be a generator.
        tokenizer: Turns texts into ids.
        names: What to record, as in `record`.
        layers: Only these layers.
        batch_size: How many texts run at once.
        truncate: "left" or "right" for texts longer than the block.

    Raises:
        ValueError: `batch_size` is less than 1, `texts` is a single text, or what `record` raises.

    Example:
        >>> from gptviz.model import GPT, GPTConfig
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=2, n_embd=8))
        >>> [len(trace) for trace in traces_over(model, [[0, 1], [2], [3, 4, 0]], names="loss", batch_size=2)]
        [2, 1, 3]
    """
    batch_size = whole_number(batch_size, "batch_size", least=1)
    options = dict(names=names, layers=layers, truncate=truncate)
    return _batches(unwrapped(model), several(texts, "texts"), tokenizer, options, batch_size)


def _batches(
    model: nn.Module, texts: Iterable[Any], tokenizer: Any, options: dict[str, Any], batch_size: int
) -> Iterator[Trace]:
    waiting = iter(texts)
    while batch := list(itertools.islice(waiting, batch_size)):
        yield from record(model, batch, tokenizer, **options)
