"""One forward pass and its weights as arrays, without torch: what receipts and questions compute with."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Shaped

from gptviz.analysis.predictions import softmax
from gptviz.analysis.stepper.stages import TENSORS
from gptviz.config import GPTConfig
from gptviz.naming import axis_sizes


@dataclass(frozen=True)
class ForwardPass:
    """The activations of one text and the parameters that made them, by name, as float32.

    Attributes:
        config: The shape of the model.
        ids: Token ids.
        tokens: The visible form of each token.
        read: Gives a recorded activation by name and layer, without the layer's axis.
        read_weight: Gives a parameter by nanoGPT's name inside the block ("ln_1.weight") or the model ("wte.weight").
        edited: Addresses that an intervention may have replaced.
        bound: Largest relative error that a receipt may have: it follows the type the model ran in.
    """

    config: GPTConfig
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    read: Callable[[str, int | None], Shaped[np.ndarray, "..."]]
    read_weight: Callable[[str, int | None], Shaped[np.ndarray, "..."]]
    edited: frozenset[tuple[str, int | None]] = frozenset()
    bound: float = 1e-5
    _kept: dict[tuple[str, int | None], np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    def value(self, name: str, layer: int | None = None) -> Shaped[np.ndarray, "..."]:
        """A tensor of one layer (None for tensors without layers), as it was recorded; read once."""
        if (name, layer) not in self._kept:
            own = {"ids": self._ids, "raw_scores": self._raw_scores, "probs": self._probs}.get(name)
            self._kept[name, layer] = own(layer) if own else self.read(name, layer)
        return self._kept[name, layer]

    def weight(self, name: str, layer: int | None = None) -> Shaped[np.ndarray, "..."]:
        """A parameter; the layer is None outside blocks."""
        key = (f"weight {name}", layer)
        if key not in self._kept:
            self._kept[key] = self.read_weight(name, layer)
        return self._kept[key]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, the layer first where it has one."""
        sizes = axis_sizes(self.config, len(self.ids))
        return tuple(sizes[axis] for axis in TENSORS[name].axes)

    def _ids(self, layer: int | None) -> Shaped[np.ndarray, "pos"]:
        return np.array(self.ids, np.int32)

    def _raw_scores(self, layer: int | None) -> Float32[np.ndarray, "head query key"]:
        """The recorded scores where the key is not later; elsewhere the product that the mask hides."""
        scores, n = self.value("scores", layer), len(self.ids)
        q, k = self.value("q", layer), self.value("k", layer)
        hidden = (q @ k.swapaxes(-1, -2) / np.float32(math.sqrt(self.config.d_head))).astype(np.float32)
        return np.where(np.triu(np.ones((n, n), bool), 1), hidden, scores)

    def _probs(self, layer: int | None) -> Float32[np.ndarray, "pos d_vocab"]:
        """Softmax of the recorded logits."""
        return softmax(self.value("logits")).astype(np.float32)
