"""What an analysis needs of a trace and a model, refused in one sentence before any work."""

from collections.abc import Iterable

from torch import nn

from gptviz.model import GPT
from gptviz.naming import UnknownNameError, index_within, resolve_names
from gptviz.trace import Trace, check_trace, unwrapped


def require_recorded(trace: Trace, names: Iterable[str], purpose: str) -> None:
    """Check that a trace holds names ("resid_post", or "z.0" for one layer), all heads included.

    Args:
        trace: A recorded forward pass.
        names: What is needed, as `record(names=...)` accepts it.
        purpose: Whose need it is; begins the sentence.

    Raises:
        UnknownNameError: some were not recorded.

    Example:
        >>> from gptviz.trace import record
        >>> from gptviz.model import GPTConfig
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=2, n_embd=8))
        >>> require_recorded(record(model, [0, 1], names="z"), ["z"], "This")
    """
    check_trace(trace)
    needed = list(names)
    if not needed:
        return
    absent = [
        name if layer is None else f"{name}.{layer}"
        for name, layer in resolve_names(needed, trace.config.n_layer)
        if (name if layer is None else (name, layer)) not in trace
    ]
    if absent:
        shown = ", ".join(absent[:6]) + (f" and {len(absent) - 6} more" if len(absent) > 6 else "")
        raise UnknownNameError(
            f"{purpose} needs {shown}, not in this trace. "
            f"Record it with names={needed} and without layers=, or record everything."
        )
    if len(trace.heads) != trace.config.n_head:
        raise UnknownNameError(
            f"{purpose} needs all {trace.config.n_head} heads, but this trace holds heads "
            f"{list(trace.heads)}. Record it without heads=."
        )


def row_of(trace: Trace, position: int, what: str = "position") -> tuple[int, int]:
    """A position of the text (-1 is the last) as (position from 0, its row in the recorded arrays).

    Raises:
        UnknownNameError: the text has no such position, or it was not recorded.
    """
    position = index_within(position, len(trace), what)
    if position not in trace.positions:
        raise UnknownNameError(
            f"{what} {position} was not recorded; this trace holds positions "
            f"{list(trace.positions)}. Record it without positions=."
        )
    return position, trace.positions.index(position)


def matching_model(trace: Trace, model: nn.Module) -> GPT:
    """The `GPT` inside `model`, if it has the shape of the one that made the trace.

    Raises:
        ValueError: its config differs.
        TypeError: it is no GPT.
    """
    check_trace(trace)
    inner = unwrapped(model)
    if inner.config != trace.config:
        raise ValueError(
            f"The model must be the one that made the trace, with {trace.config}; "
            f"this one has {inner.config}. Pass that model, or record a new trace."
        )
    return inner


def check_head(model: GPT, layer: int, head: int) -> tuple[int, int]:
    """Layer and head as numbers from 0; -1 means the last.

    Raises:
        UnknownNameError: the model has no such layer or head.
    """
    return index_within(layer, model.config.n_layer, "layer"), index_within(head, model.config.n_head, "head")
