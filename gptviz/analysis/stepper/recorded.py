"""From a trace and its model to the arrays that receipts compute with."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from gptviz.analysis.requirements import matching_model, require_recorded
from gptviz.analysis.stepper.forward_pass import ForwardPass
from gptviz.capture import plain_unembed
from gptviz.naming import AXES
from gptviz.trace import Trace


def recorded_pass(trace: Trace, model: nn.Module) -> ForwardPass:
    """The forward pass of a trace, its arrays read when they are asked for.

    Args:
        trace: Holds everything: recorded without names=, layers=, heads= or positions=.
        model: The model that made it, with the same weights.

    Raises:
        UnknownNameError: The trace does not hold everything.
        ValueError: The model has another shape.

    Example:
        >>> from gptviz.model import GPT, GPTConfig
        >>> from gptviz.trace import record
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=2, n_head=2, n_embd=8))
        >>> recorded_pass(record(model, [0, 1, 2]), model).value("pattern", 1).shape
        (2, 3, 3)
    """
    inner = matching_model(trace, model)
    require_recorded(trace, AXES, "The stepper")
    if len(trace.positions) != len(trace):
        raise ValueError(f"The stepper needs all {len(trace)} positions, but this trace holds "
                         f"{list(trace.positions)}. Record it without positions=.")
    parameters = {name.removeprefix("transformer."): value for name, value in inner.state_dict(keep_vars=True).items()}

    def read(name: str, layer: int | None) -> Shaped[np.ndarray, "..."]:
        if name == "lens":
            with torch.no_grad():
                return as_array(plain_unembed(inner, trace["resid_post", layer]))
        return as_array(trace[name] if layer is None else trace[name, layer])

    def read_weight(name: str, layer: int | None) -> Shaped[np.ndarray, "..."]:
        return as_array(parameters[name if layer is None else f"h.{layer}.{name}"])

    bound = max(1e-5, 8 * torch.finfo(trace["embed"].dtype).eps)
    return ForwardPass(inner.config, tuple(trace.ids.tolist()), trace.tokens, read, read_weight,
                       frozenset(trace.edited), bound)


def as_array(tensor: Tensor | Any) -> Shaped[np.ndarray, "..."]:
    """A tensor as float32 in main memory."""
    return tensor.detach().float().cpu().numpy()
