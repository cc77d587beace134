"""What could be recorded: every name with its axes, shape and size, before anything runs."""

import math
from typing import NamedTuple

from torch import nn

from gptviz.arguments import whole_number
from gptviz.capture import unwrapped
from gptviz.naming import AXES, human_bytes, shape_of


class ActivationShape(NamedTuple):
    """One row of `describe`: an activation's axes, shape and size in bytes."""

    name: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    nbytes: int


class Description(tuple[ActivationShape, ...]):
    """The rows of `describe`; printed as a table."""

    def __repr__(self) -> str:
        lines = [f"{'name':15}{'axes':24}{'shape':24}size"]
        lines += [
            f"{r.name:15}{' '.join(r.axes):24}{'x'.join(map(str, r.shape)):24}{human_bytes(r.nbytes)}"
            for r in self
        ]
        return "\n".join([*lines, f"{'all':63}{human_bytes(sum(row.nbytes for row in self))}"])


def describe(model: nn.Module, n_tokens: int | None = None) -> Description:
    """Every recordable name with its axes, shape and bytes, without running anything.

    Args:
        model: A `GPT`.
        n_tokens: Length of the text; None for the longest the model reads.

    Example:
        >>> from gptviz.config import GPTConfig
        >>> from gptviz.model import GPT
        >>> describe(GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=2, n_head=2, n_embd=8)))[9][:3]
        ('pattern', ('layer', 'head', 'query', 'key'), (2, 2, 8, 8))
    """
    inner = unwrapped(model)
    n_tokens = inner.config.block_size if n_tokens is None else whole_number(n_tokens, "n_tokens", least=1)
    itemsize = inner.lm_head.weight.dtype.itemsize
    shapes = {name: shape_of(name, inner.config, n_tokens) for name in AXES}
    return Description(
        ActivationShape(n, AXES[n], shape, itemsize * math.prod(shape)) for n, shape in shapes.items()
    )
