"""Edits that compute the new value from the old one: take away, scale, add."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from gptviz.arguments import must_be, several
from gptviz.interventions.edit import (
    Edit,
    Positions,
    Reached,
    Site,
    call,
    finite,
    head_within,
    listed,
    one_name,
    place_of,
    shown_positions,
)
from gptviz.model import GPT
from gptviz.naming import AXES, index_within, shape_of
from gptviz.token_ids import check_ids
from gptviz.trace import Trace, record

ABLATIONS = ("zero", "mean", "resample")


@dataclass(frozen=True, eq=False, repr=False)
class Ablation(Edit):
    """Replace what a part of the model gives by zero, by its mean over reference texts, or by that of another text.

    `reference` holds token ids of each text (run through the unedited model when `intervene` begins), or the recorded
    values `[pos width]` of each text.
    """

    kind: ClassVar[str] = "ablation"

    name: str
    layer: int
    head: int | None
    positions: Positions
    by: str
    reference: tuple[Tensor, ...] | tuple[tuple[int, ...], ...]
    seed: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name not in ("z", "mlp_out", "resid_pre") or (self.name == "z") != (self.head is not None):
            raise ValueError(f"An ablation acts on z of a head, mlp_out or resid_pre, not on {self.name!r}.")
        if self.by not in ABLATIONS:
            raise ValueError(f"by must be one of {ABLATIONS}, not {self.by!r}.")
        if (self.by == "zero") == bool(self.reference):
            needs = "takes no reference" if self.by == "zero" else "needs reference=: traces, or lists of token ids"
            raise ValueError(f"An ablation with by={self.by!r} {needs}.")

    def __repr__(self) -> str:
        drawn = {"reference": _Variable("reference")} if self.reference else {}
        drawn |= {"seed": self.seed} if self.by == "resample" else {}
        by = None if self.by == "zero" else self.by
        if self.name == "resid_pre":
            where = shown_positions(self.positions)
            return call("ablate_position", where, layer=self.layer or None, by=by, **drawn)
        verb = "ablate_mlp" if self.head is None else "ablate_head"
        required = [str(self.layer)] if self.head is None else [str(self.layer), str(self.head)]
        return call(verb, *required, positions=self.positions, by=by, **drawn)

    def sites(self, model: GPT) -> list[Site]:
        if self.by == "zero":
            return [self._site(lambda old, reached: torch.zeros_like(old))]
        texts = self._reference_values(model)
        width = shape_of(self.name, model.config, 1)[-1]
        if any(text.ndim != 2 or text.shape[1] != width for text in texts):
            raise ValueError(
                f"{self!r} has reference values of width {texts[0].shape[-1]}, but {self.name} of this model has "
                f"{width}. Record the reference with a model of this shape."
            )
        if self.by == "mean":
            mean = torch.cat(texts).mean(dim=0)
            return [self._site(lambda old, reached: mean)]
        return [self._site(_Resample(texts, self.seed))]

    def _site(self, new: Any) -> Site:
        return Site((self.name, self.layer), self.head, self.positions, new)

    def _reference_values(self, model: GPT) -> list[Tensor]:
        """The values of this place for each reference text, `[pos width]`."""
        if isinstance(self.reference[0], Tensor):
            return list(self.reference)  # type: ignore[arg-type]
        model, layer = _without_hooks(model), index_within(self.layer, model.config.n_layer, "layer")
        traces = (record(model, ids, names=self.name, layers=layer, heads=self.head) for ids in self.reference)
        return [_values(trace, self.name, layer, self.head) for trace in traces]


class _Resample:
    """For each text of the batch, the values of one reference text, drawn anew at every forward pass."""

    def __init__(self, texts: list[Tensor], seed: int):
        self.texts = texts
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, old: Tensor, reached: Reached) -> Tensor:
        needed = max(reached.positions) + 1
        texts = [text for text in self.texts if len(text) >= needed]
        if not texts:
            raise ValueError(
                f"A reference text must be at least as long as the edited positions ({needed} tokens), but the longest "
                f"has {max(map(len, self.texts))}. Give longer texts, or positions."
            )
        drawn = torch.randint(len(texts), (len(old),), generator=self.generator).tolist()
        return torch.stack([texts[text][reached.positions] for text in drawn])


@dataclass(frozen=True, eq=False, repr=False)
class Scaling(Edit):
    """Multiply what a head gives by a factor."""

    kind: ClassVar[str] = "scaling"

    layer: int
    head: int
    factor: float | int
    positions: Positions

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(self.factor, "factor")

    def __repr__(self) -> str:
        return call("scale_head", str(self.layer), str(self.head), repr(self.factor), positions=self.positions)

    def sites(self, model: GPT) -> list[Site]:
        return [Site(("z", self.layer), self.head, self.positions, lambda old, reached: old * self.factor)]


@dataclass(frozen=True, eq=False, repr=False)
class Steering(Edit):
    """Add a vector to an activation."""

    kind: ClassVar[str] = "steering"

    name: str
    layer: int | None
    head: int | None
    vector: Tensor
    scale: float | int
    positions: Positions

    def __post_init__(self) -> None:
        super().__post_init__()
        must_be(self.vector, Tensor, "vector", "Pass a tensor of one axis.")
        place_of(self.name, self.layer, self.head)
        if not AXES[self.name][-1].startswith("d_"):
            raise ValueError(
                f"A vector can be added along d_model, d_head, d_mlp or d_vocab, but {self.name!r} has none of them."
            )
        if self.vector.ndim != 1 or not self.vector.is_floating_point():
            raise ValueError(
                f"A steering vector must have one axis of real numbers, not shape {tuple(self.vector.shape)} "
                f"and {self.vector.dtype}."
            )
        if not bool(self.vector.isfinite().all()):
            raise ValueError("A steering vector must be finite, but holds NaN or infinity.")
        finite(self.scale, "scale")

    def __repr__(self) -> str:
        place = repr(self.name if self.layer is None else f"{self.name}.{self.layer}")
        scale = None if self.scale == 1 else self.scale
        return call("steer", place, "vector", scale=scale, positions=self.positions, head=self.head)

    def sites(self, model: GPT) -> list[Site]:
        width = shape_of(self.name, model.config, 1)[-1]
        if len(self.vector) != width:
            raise ValueError(f"{self!r} adds {len(self.vector)} numbers, but {self.name} has {width} per position.")
        return [Site((self.name, self.layer), self.head, self.positions, self._added)]

    def _added(self, old: Tensor, reached: Reached) -> Tensor:
        return old + self.scale * self.vector.to(old)


def ablate_head(
    layer: int,
    head: int,
    positions: int | slice | Iterable[int] | None = None,
    by: str = "zero",
    reference: Any = None,
    seed: int = 0,
) -> Ablation:
    """Take away what a head reads from the text: its `z`, the weighted values before `c_proj`.

    Args:
        layer: From 0; negative counts from the last.
        head: From 0; negative counts from the last.
        positions: Where; None for all. Negative positions count from the end of the text.
        by: "zero" puts nothing there. "mean" puts the head's mean over all positions of all reference texts: what it
            gives on average stays, only its dependence on this text goes. "resample" puts the values of a reference
            text at the same positions, one text drawn for each text of the batch at each forward pass.
        reference: For "mean" and "resample": a trace or traces that hold `z`, or token ids of one or more texts. Ids
            are run through the model without edits when `intervene` begins.
        seed: For "resample": of its own random numbers, which begin anew with each `intervene`.

    Raises:
        ValueError: `by` is unknown, or the reference is missing or too much.

    Example:
        >>> ablate_head(1, 0), ablate_head(0, 2, positions=[3, 4])
        (ablate_head(1, 0), ablate_head(0, 2, positions=range(3, 5)))
    """
    return _ablation("z", layer, head, positions, by, reference, seed)


def ablate_mlp(
    layer: int,
    positions: int | slice | Iterable[int] | None = None,
    by: str = "zero",
    reference: Any = None,
    seed: int = 0,
) -> Ablation:
    """Take away what an MLP writes to the residual stream: its `mlp_out`. Arguments as for `ablate_head`.

    Example:
        >>> ablate_mlp(0)
        ablate_mlp(0)
    """
    return _ablation("mlp_out", layer, None, positions, by, reference, seed)


def ablate_position(
    positions: int | slice | Iterable[int],
    layer: int = 0,
    by: str = "zero",
    reference: Any = None,
    seed: int = 0,
) -> Ablation:
    """Take away the residual stream of some positions on its way into a block (`resid_pre`).

    With layer 0 the model does not know which token stands there, nor where that is. The position can still be attended
    to: it is empty, not gone. Arguments as for `ablate_head`.

    Example:
        >>> ablate_position(3)
        ablate_position(3)
    """
    if positions is None:
        raise TypeError("ablate_position needs the positions to take away.")
    return _ablation("resid_pre", layer, None, positions, by, reference, seed)


def scale_head(
    layer: int, head: int, factor: float | int, positions: int | slice | Iterable[int] | None = None
) -> Scaling:
    """Multiply what a head gives (`z`) by a factor: 0 takes it away, 1 changes nothing, 2 doubles it.

    Example:
        >>> scale_head(1, 0, 0.5)
        scale_head(1, 0, 0.5)
    """
    return Scaling(layer, head, factor, listed(positions))


def steer(
    where: str | int,
    vector: Tensor | Sequence[float | int],
    scale: float | int = 1,
    positions: int | slice | Iterable[int] | None = None,
    head: int | None = None,
) -> Steering:
    """Add `scale * vector` to an activation.

    Args:
        where: A name with its layer ("resid_post.3", "logits", a TransformerLens spelling); a bare layer means its
            `resid_pre`, the residual stream on its way into that block.
        vector: As many numbers as the activation has per position: `[d_model]`, `[d_head]`, `[d_mlp]` or `[d_vocab]`.
            Gradients reach it.
        scale: Factor.
        positions: Where; None for all.
        head: For q, k, v and z: only this head.

    Raises:
        UnknownNameError: no such activation.
        ValueError: the vector has more than one axis, or is not finite.

    Example:
        >>> steer(2, [0.0, 1.0, 0.0, 0.0], scale=3.0)
        steer('resid_pre.2', vector, scale=3.0)
    """
    name, layer = one_name(where) if isinstance(where, str) else ("resid_pre", where)
    return Steering(name, layer, head, _vector(vector), scale, listed(positions))


def _vector(numbers: Any) -> Tensor:
    if isinstance(numbers, Tensor):
        return numbers
    try:
        return torch.tensor(numbers, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as reason:  # texts, ragged rows, a dictionary
        raise TypeError(f"A steering vector must be a tensor or a list of numbers, not {numbers!r}.") from reason


class _Variable(str):
    """A name in the Python line of an edit that stands for something too long to print."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _ablation(
    name: str, layer: int, head: int | None, positions: Any, by: str, reference: Any, seed: int
) -> Ablation:
    if reference is None:
        texts: tuple = ()
    elif isinstance(reference, Trace):
        texts = (_values(reference, name, layer, head),)
    else:
        texts = tuple(_reference_text(text, name, layer, head) for text in _several(reference))
    if by == "mean" and texts and isinstance(texts[0], Tensor):
        texts = (torch.cat(texts).mean(dim=0, keepdim=True),)  # all that will be needed of them
    return Ablation(name, layer, head, listed(positions), by, texts, seed)


def _several(reference: Any) -> list[Any]:
    """A list of texts, of one text too."""
    texts = list(several(reference, "reference"))
    return [texts] if texts and all(hasattr(item, "__index__") for item in texts) else texts


def _reference_text(text: Any, name: str, layer: int, head: int | None) -> Tensor | tuple[int, ...]:
    if isinstance(text, Trace):
        return _values(text, name, layer, head)
    if isinstance(text, str):
        raise TypeError("A reference text must be a trace or token ids, not a string: encode it with the tokenizer.")
    return tuple(check_ids(text).tolist())


def _values(trace: Trace, name: str, layer: int, head: int | None) -> Tensor:
    """What a trace holds of one place, `[pos width]`."""
    if len(trace.positions) < len(trace):
        raise ValueError(
            f"A reference trace must hold all positions, but this one holds {list(trace.positions)} of {len(trace)}. "
            "Record it without positions=."
        )
    if head is None:
        return trace[name, layer]
    return trace[name, layer][head_within(trace, head)]


def _without_hooks(model: GPT) -> GPT:
    """The same parameters in a model that nobody edits or listens to."""
    with torch.device("meta"):
        bare = type(model)(model.config)
    bare.load_state_dict(model.state_dict(keep_vars=True), assign=True)
    return bare.train(model.training)
