"""On which texts is this neuron, or this head, most active?"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import nn

from gptviz.analysis.components import as_numpy, head_output_weights
from gptviz.analysis.corpus import traces_over
from gptviz.analysis.requirements import check_head
from gptviz.arguments import must_be, whole_number
from gptviz.model import GPT
from gptviz.naming import index_within
from gptviz.trace import Trace, unwrapped


@dataclass(frozen=True)
class Neuron:
    """A neuron of an MLP; its activity is mlp_post, its value after the activation function."""

    layer: int
    neuron: int

    def needed(self, model: GPT) -> str:
        """The name to record; checks that the neuron exists."""
        index_within(self.neuron, 4 * model.config.n_embd, "neuron")
        return f"mlp_post.{index_within(self.layer, model.config.n_layer, 'layer')}"

    def activity(self, trace: Trace, model: GPT) -> Float64[np.ndarray, "pos"]:
        """The neuron's value at every position."""
        return as_numpy(trace["mlp_post", self.layer][:, self.neuron])


@dataclass(frozen=True)
class HeadWrite:
    """A head; its activity is the length of what it writes to the residual stream."""

    layer: int
    head: int

    def needed(self, model: GPT) -> str:
        """The name to record; checks that the head exists."""
        return f"z.{check_head(model, self.layer, self.head)[0]}"

    def activity(self, trace: Trace, model: GPT) -> Float64[np.ndarray, "pos"]:
        """The length of the write at every position."""
        layer, head = check_head(model, self.layer, self.head)
        write = as_numpy(trace["z", layer][head]) @ head_output_weights(model, layer)[head]
        return np.linalg.norm(write, axis=-1)


@dataclass(frozen=True)
class Example:
    """A text and how active the unit was on it.

    Attributes:
        value: The largest activity in the text.
        position: Where it is.
        text_index: The text's place in the corpus.
        tokens: The visible form of each token.
        activity: At every position.
    """

    value: float
    position: int
    text_index: int
    tokens: tuple[str, ...]
    activity: Float64[np.ndarray, "pos"]


@torch.no_grad()
def top_examples(
    model: nn.Module,
    texts: Iterable[Any],
    tokenizer: Any,
    unit: Neuron | HeadWrite,
    *,
    k: int = 10,
    batch_size: int = 8,
    truncate: str | None = None,
) -> list[Example]:
    """The k texts in which a unit was most active, most active first.

    Each text counts once, by its largest value.

    Misleads because the most active examples are the tail: a unit that looks like one idea there may do
    something else at ordinary activity, where it spends its time. A head's write is also long because the
    values are, not only because it attends somewhere in particular.

    Args:
        model: A `GPT`.
        texts: Texts or id lists; may be a generator. Memory does not grow with their number.
        tokenizer: Turns texts into ids, and ids into visible tokens; None for id lists.
        unit: `Neuron(layer, neuron)` or `HeadWrite(layer, head)`.
        k: How many to keep.
        batch_size: How many texts run at once.
        truncate: "left" or "right" for texts longer than the block.

    Returns:
        At most k examples; of equal values the earlier text first. Texts with a NaN activity raise.

    Raises:
        ValueError: `k` is less than 1, there is no text, no such unit, or a NaN.

    Example:
        >>> from gptviz.model import GPT, GPTConfig
        >>> model = GPT(GPTConfig(block_size=4, vocab_size=5, n_layer=1, n_head=2, n_embd=8))
        >>> len(top_examples(model, [[0, 1, 2], [3, 4], [2]], None, Neuron(0, 3), k=2))
        2
    """
    k = whole_number(k, "k", least=1)
    must_be(unit, (Neuron, HeadWrite), "unit", "Pass Neuron(layer, neuron) or HeadWrite(layer, head).")
    inner = unwrapped(model)
    traces = traces_over(
        inner, texts, tokenizer, names=unit.needed(inner), batch_size=batch_size, truncate=truncate
    )
    best: list[tuple[float, int, Example]] = []  # a heap whose smallest entry is the next to go
    index = -1
    for index, trace in enumerate(traces):
        example = _example(index, trace, unit.activity(trace, inner))
        push = heapq.heappush if len(best) < k else heapq.heappushpop
        push(best, (example.value, -index, example))
    if index < 0:
        raise ValueError("There must be at least one text, but there is none.")
    return [example for _, _, example in sorted(best, key=lambda entry: entry[:2], reverse=True)]


def _example(index: int, trace: Trace, activity: Float64[np.ndarray, "pos"]) -> Example:
    if np.isnan(activity).any():
        raise ValueError(
            f"Activity must be a number to be ranked, but is NaN in text {index}. "
            "Look for the first NaN in a trace of that text."
        )
    position = int(activity.argmax())
    return Example(float(activity[position]), position, index, trace.tokens, activity)
