"""Edits that take one idea out of the architecture, everywhere: positions, the mask, the scaling, the normalisation."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gptviz.interventions.edit import Edit, Note, Reached, Site, call
from gptviz.model import GPT

PARTS = ("positions", "mask", "score_scaling", "normalisation")


@dataclass(frozen=True, eq=False, repr=False)
class Removal(Edit):
    """The model without one of `PARTS`, in all layers."""

    kind: ClassVar[str] = "removal"

    part: str

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise ValueError(f"A part that a model can do without must be one of {PARTS}, not {self.part!r}.")

    def __repr__(self) -> str:
        return call("without", repr(self.part))

    def sites(self, model: GPT) -> list[Site]:
        layers = range(model.config.n_layer)
        if self.part == "positions":
            return [Site(("pos_embed", None), None, None, _zeros)]
        if self.part == "score_scaling":
            root = math.sqrt(model.config.d_head)
            return [Site(("scores", layer), None, None, lambda old, reached: old * root) for layer in layers]
        if self.part == "normalisation":
            scales = [(name, layer) for layer in layers for name in ("ln_1_scale", "ln_2_scale")]
            return [Site(address, None, None, _ones) for address in (*scales, ("ln_final_scale", None))]
        return []

    def attach(self, model: GPT, note: Note) -> list[RemovableHandle]:
        """Without the mask, the hidden scores must be computed: from the queries and keys that pass by."""
        if self.part != "mask":
            return []
        handles = []
        for layer in range(model.config.n_layer):
            unmask = _Unmask(note)
            for name, hook in (("q", unmask.keep_q), ("k", unmask.keep_k), ("scores", unmask)):
                handles.append(model.hook_points[name, layer].register_forward_hook(hook))
        return handles


class _Unmask:
    """The scores of all keys, also of those that come later than the query."""

    def __init__(self, note: Note):
        self.note = note
        self.q = self.k = torch.empty(0)

    def keep_q(self, point: nn.Module, args: Any, value: Tensor) -> None:
        self.q = value

    def keep_k(self, point: nn.Module, args: Any, value: Tensor) -> None:
        self.k = value

    def __call__(self, point: nn.Module, args: Any, value: Tensor) -> Tensor:
        hidden = self.q @ self.k.mT / math.sqrt(self.q.shape[-1])              # b h query key
        new = value.where(value != -math.inf, hidden)
        positions = list(range(value.shape[-2]))
        self.note(value, new, Reached(positions, positions, positions))
        return new


def without(part: str) -> Removal:
    """Take one idea out of the model, in all layers: what breaks shows what it is for.

    Args:
        part: "positions": no position embedding. "mask": every query sees later keys, too. "score_scaling": the scores
            are not divided by the root of d_head. "normalisation": no LayerNorm divides by the standard deviation
            (all scales are 1; the mean still goes).

    Raises:
        ValueError: no such part.

    Example:
        >>> from gptviz.interventions import intervene
        >>> from gptviz.loading import load
        >>> from gptviz.trace import record
        >>> model, tokenizer = load("sorter")
        >>> with intervene(model, without("positions")) as report:
        ...     trace = record(model, "CBABBC", tokenizer)
        >>> float(trace["pos_embed"].abs().max()), report[0]
        (0.0, without('positions'): fired 1x at positions 0-5, largest change ...)
    """
    return Removal(part)


def _zeros(old: Tensor, reached: Reached) -> Tensor:
    return torch.zeros_like(old)


def _ones(old: Tensor, reached: Reached) -> Tensor:
    return torch.ones_like(old)
