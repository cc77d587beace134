"""Random numbers of a training's own: what it draws moves nobody's random state, and nobody moves its own."""

from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class OwnRandom(TorchDispatchMode):
    """While it is entered, dropout on the CPU draws from a generator of its own, in this thread only.

    The numbers are those that torch's global generator would give from the same state. A GPU's dropout draws from
    the GPU's own state as always.

    Args:
        state: Where the generator starts: a state as `torch.get_rng_state` gives it.

    Example:
        >>> state = torch.get_rng_state()
        >>> own = OwnRandom(state)
        >>> with own:
        ...     mine = torch.nn.functional.dropout(torch.ones(4), 0.5)
        >>> torch.equal(torch.get_rng_state(), state)
        True
        >>> torch.equal(mine, torch.nn.functional.dropout(torch.ones(4), 0.5))
        True
    """

    def __init__(self, state: UInt8[Tensor, "byte"]) -> None:
        super().__init__()
        self.generator = torch.Generator()
        self.generator.set_state(state)

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Every operation as it is, but a draw of dropout from our generator."""
        if function is torch.ops.aten.bernoulli_.float and args[0].device.type == "cpu":
            return function(*args, **{**(kwargs or {}), "generator": self.generator})
        return function(*args, **(kwargs or {}))
