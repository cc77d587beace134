"""The one forward pass behind `record`: who listens, what is kept of each text of a padded batch, what is refused."""

import contextlib
import functools
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import _has_any_global_hook

from gptviz.arguments import whole_number
from gptviz.config import GPTConfig
from gptviz.derivation import Plan, WeightsOfNorms, foreign, own_code, plan, token_losses
from gptviz.model import GPT, HookPoint
from gptviz.naming import AFTER_THE_BLOCKS, AXES, Address, human_bytes, index_within, shape_of

P = ParamSpec("P")
R = TypeVar("R")

class Selection(NamedTuple):
    """What is kept of a forward pass."""

    addresses: tuple[Address, ...]
    heads: tuple[int, ...]
    positions: list[tuple[int, ...]]
    """Kept positions of each text."""
    whole: bool
    """Whether values are kept as they are: one text, all heads and positions, no conversion."""
    dtype: torch.dtype | None
    device: str | torch.device | None

    def take(self, name: str, value: Tensor, row: int, n_tokens: int) -> Tensor:
        """The kept part of one text's values, as a new tensor `[1, ...]`, out of a padded batch's `[batch, ...]`."""
        value = value[row : row + 1]
        axes = [axis for axis in AXES[name] if axis != "layer"]
        for dim, axis in enumerate(axes, start=1):
            if axis in ("pos", "query", "key"):
                value = value.narrow(dim, 0, n_tokens)
            if axis in ("pos", "query"):
                value = _choose(value, dim, self.positions[row])
            if axis == "head":
                value = _choose(value, dim, self.heads)
        return value.to(dtype=self.dtype, device=self.device, copy=True)


def edited_addresses(model: GPT) -> tuple[Address, ...]:
    """Where a hook may replace a value, found without a call for each of many points (backward hooks replace none)."""
    points = model.hook_points.items()
    return tuple([address for address, point in points if point._forward_hooks or point._forward_pre_hooks])


_RUNNING: "ContextVar[Recording | None]" = ContextVar("_RUNNING", default=None)
"""Whose pass this is. A hook may record within a recording, and another thread at the same time: all pass one point."""


class _Complete(BaseException):
    """All that was asked for has passed. Ends the pass, through whatever modules it is in.

    No `Exception`: code there that catches those does not mean this.
    """


class Recording:
    """The values of one forward pass, while they arrive and after."""

    def __init__(
        self, model: GPT, rows: list[Tensor], selection: Selection, grad: bool | Callable[[Tensor], Tensor]
    ):
        self.model, self.rows, self.selection, self.grad = model, rows, selection, grad
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True) if len(rows) > 1 else rows[0].unsqueeze(0)
        weight = model.lm_head.weight
        self.padded = padded if weight.is_cpu else padded.to(weight.device)
        self.edited = edited_addresses(model)
        self.plan = self._plan()
        self.raw: dict[Address, Tensor] = {}  # by reference, [batch, ...]
        self.versions: dict[Address, int] = {}
        self.kept: list[dict[Address, Tensor]] = [{} for _ in rows]  # of each text, [1, ...]
        self.gradients: list[dict[Address, Tensor]] = [{} for _ in rows]
        self.norms: WeightsOfNorms | None = None
        self.ends_early = False

    def _plan(self) -> Plan:
        asked = self.selection.addresses
        least = plan(asked, self.edited, derive=self.selection.whole and not self.grad)
        if len(least.captured) == len(asked):
            return least
        casts = torch.is_autocast_enabled(self.padded.device.type)
        if casts or _has_any_global_hook():  # neither is ours to repeat
            return plan(asked, self.edited, derive=False)
        changed = foreign(self.model)
        return plan(asked, self.edited + changed, derive=True) if changed else least

    def needed_bytes(self) -> dict[Address, int]:
        """Bytes that each captured value will take, before anything runs; a shared tensor is counted once."""
        itemsize = (self.selection.dtype or self.model.lm_head.weight.dtype).itemsize
        needed = {}
        captured = self.plan.captured
        for name, layer in captured:
            if self.selection.whole and name == "resid_pre" and layer and ("resid_post", layer - 1) in captured:
                continue  # the same tensor
            numbers = sum(math.prod(self._kept_shape(name, row)) for row in range(len(self.rows)))
            needed[name, layer] = itemsize * numbers * (2 if self.grad else 1)
        return needed

    def _kept_shape(self, name: str, row: int) -> list[int]:
        kept = {"pos": len(self.selection.positions[row]), "head": len(self.selection.heads)}
        kept["query"] = kept["pos"]
        shape = shape_of(name, self.model.config, len(self.rows[row]))
        return [kept.get(axis, size) for axis, size in zip(AXES[name], shape, strict=True) if axis != "layer"]

    def refuse_over(self, max_bytes: int | None) -> None:
        """Raise before anything runs if the values would not fit."""
        if max_bytes is None:
            return
        whole_number(max_bytes, "max_bytes")
        needed = self.needed_bytes()
        if sum(needed.values()) <= max_bytes:
            return
        by_name: dict[str, int] = {}
        for (name, _), size in needed.items():
            by_name[name] = by_name.get(name, 0) + size
        fits = [f"{name} ({human_bytes(size)})" for name, size in by_name.items() if size <= max_bytes]
        raise ValueError(
            f"The recording must fit in max_bytes ({human_bytes(max_bytes)}), but would hold "
            f"{human_bytes(sum(needed.values()))}. By itself would fit: {', '.join(fits) or 'no single name'}. "
            "Choose with names=, layers=, heads= or positions=, or pass dtype=torch.float16."
        )

    def run(self, start: tuple[int, Tensor] | None, span: range) -> None:
        """The pass, with a reader at every needed hook point; afterwards exactly those readers are detached."""
        attached = []
        self.ends_early = self._may_end_early(span)
        outer = _RUNNING.set(self)
        try:
            for address, point in self._needed_points():
                listener = self._listener(address)
                point.listeners.append(listener)
                attached.append((point.listeners, listener))
            with undisturbed(self.model, bool(self.grad)):
                with contextlib.suppress(_Complete):
                    run_layers(self.model, self.padded, start, span)
                if self.grad:
                    self._differentiate()
                elif self.plan.norms:  # they will be derived with copies: the model may go on learning
                    self.norms = WeightsOfNorms(self.model, self.plan.norms)
        finally:
            _RUNNING.reset(outer)
            for listeners, listener in attached:
                listeners.remove(listener)

    def _may_end_early(self, span: range) -> bool:
        """Whether nobody waits for what passes behind the last value asked for."""
        captured = self.plan.captured  # ordered as `AXES`, so that what comes behind the blocks is last
        if self.edited or self.grad or _has_any_global_hook() or captured[-1][0] in AFTER_THE_BLOCKS:
            return False
        last = max((layer for _, layer in captured if layer is not None), default=None)
        model, parts = self.model, cast("Any", self.model.transformer)
        behind = [*list(parts.h)[last or span.start : span.stop], parts.ln_f, model.lm_head, model.logits]
        if last is None:
            behind += parts.wpe, model.pos_embed, parts.drop
        return not awaited(behind)

    def _needed_points(self) -> Iterator[tuple[Address, HookPoint]]:
        addresses: Iterable[Address] = self.plan.captured
        if self.grad:  # where gradients begin, and the scalar
            addresses = dict.fromkeys((*addresses, ("embed", None), ("logits", None)))
        for address in addresses:
            yield address, self.model.hook_points[("logits", None) if address[0] == "loss" else address]

    def _listener(self, address: Address) -> Callable[[Tensor], object]:
        keep = self._refer if self.selection.whole or self.grad else self._take
        if address[0] == "loss":
            return lambda logits: self._own() and keep(address, token_losses(logits.detach(), self.padded))
        if self.grad and address[0] in ("embed", "pos_embed"):  # all parameters may be frozen: let gradients begin here
            return lambda embed: self._own() and keep(
                address, embed if embed.requires_grad else embed.requires_grad_()
            )
        return functools.partial(keep, address)

    def _own(self) -> bool:
        return _RUNNING.get() is self

    def _refer(self, address: Address, value: Tensor) -> None:
        if _RUNNING.get() is not self:
            return
        if address in self.raw:
            raise _passed_twice(address)
        self.raw[address] = value
        self.versions[address] = value._version
        if self.ends_early and len(self.raw) == len(self.plan.captured):
            raise _Complete

    def _take(self, address: Address, value: Tensor) -> None:
        if not self._own():
            return
        if address in self.kept[0]:
            raise _passed_twice(address)
        for row, ids in enumerate(self.rows):
            self.kept[row][address] = self.selection.take(address[0], value, row, len(ids))
        if self.ends_early and len(self.kept[0]) == len(self.plan.captured):
            raise _Complete

    def _differentiate(self) -> None:
        """Gradients of one scalar per text, summed: texts in a batch do not reach each other."""
        logits = self.raw["logits", None]
        scalars = [self._scalar(logits[row, : len(ids)], ids) for row, ids in enumerate(self.rows)]
        wanted = {address: value for address, value in self.raw.items() if value.requires_grad}
        found = torch.autograd.grad(torch.stack(scalars).sum(), list(wanted.values()), allow_unused=True)
        for address, gradient in zip(wanted, found, strict=True):
            if gradient is not None:
                self._keep(self.gradients, address, gradient)

    def _scalar(self, logits: Tensor, ids: Tensor) -> Tensor:
        if not callable(self.grad):
            return F.cross_entropy(logits[:-1], ids[1:].to(logits.device))
        scalar = self.grad(logits)
        if not isinstance(scalar, Tensor) or scalar.numel() != 1:
            raise ValueError(
                f"grad= must return one number (a tensor of one element), but returned {scalar!r}."
            )
        return scalar.reshape(())

    def _keep(self, kept: list[dict[Address, Tensor]], address: Address, value: Tensor) -> None:
        for row, ids in enumerate(self.rows):
            kept[row][address] = self.selection.take(address[0], value.detach(), row, len(ids))

    def finish(self) -> None:
        """Turn what arrived into what is kept; refuse a value that changed after it was seen."""
        for address, value in self.raw.items():
            if value._version != self.versions[address]:
                name, layer = address
                raise RuntimeError(
                    f"{name} of layer {layer} was changed in place after it was recorded, so the record would be "
                    "wrong. A hook must return a new tensor instead of changing its input."
                )
        if self.grad:
            for address in self.plan.captured:
                self._keep(self.kept, address, self.raw[address])
        elif self.selection.whole:
            self.kept = [self.raw]
        missing = [address for address in self.plan.captured if address not in self.kept[0]]
        if missing:
            raise RuntimeError(f"Nothing passed the hook points {missing}: was the model's forward replaced?")


def _passed_twice(address: Address) -> RuntimeError:
    return RuntimeError(
        f"{address[0]} must pass its hook point once in a recording, but passed twice. A hook must not call the model "
        "while it is recorded; it may record it."
    )


def check_target(dtype: Any, device: Any) -> None:
    """Raise unless recorded values can be converted to `dtype` and moved to `device` with nothing lost."""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype must be a floating-point type such as torch.float16, not {dtype!r}.")
    if device is None:
        return
    try:
        holds_data = torch.empty(0, device=device).device.type != "meta"
    except (RuntimeError, AssertionError, TypeError):
        holds_data = False
    if not holds_data:
        raise ValueError(f'device must be one that this machine has, such as "cpu", not {device!r}.')


def layer_span(
    start: tuple[int, Tensor] | None, stop: int | None, config: GPTConfig, rows: list[Tensor]
) -> range:
    """The layers to run, from a given residual stream or from the embedding.

    Raises:
        TypeError: `start` is no (layer, tensor).
        ValueError: the stream has another shape, or there is no such layer.
    """
    first = 0
    if start is not None:
        if not isinstance(start, tuple) or len(start) != 2 or not isinstance(start[1], Tensor):
            raise TypeError(f"start_at_layer must be (layer, its resid_pre as a tensor), not {start!r}.")
        first, resid = index_within(start[0], config.n_layer, "layer"), start[1]
        expected = (len(rows[0]), config.n_embd)
        if len(rows) != 1 or tuple(resid.shape) != expected:
            raise ValueError(
                f"start_at_layer needs one text and its residual stream of shape {expected}, "
                f"but was given {len(rows)} text(s) and shape {tuple(resid.shape)}."
            )
    if stop is not None and (isinstance(stop, bool) or not isinstance(stop, int) or not first < stop <= config.n_layer):
        raise ValueError(f"stop_at_layer must be {first + 1} to {config.n_layer}, not {stop!r}.")
    return range(first, config.n_layer if stop is None else stop)


def outside_inference_mode(function: Callable[P, R]) -> Callable[P, R]:
    """The function, run with inference mode off: its tensors can be used like any others."""
    switched = torch.inference_mode(False)(function)

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:  # to switch costs more than to look whether one must
        return (switched if torch.is_inference_mode_enabled() else function)(*args, **kwargs)

    return run


class _Visit:
    """Passes that run through one model at the same time, and its modules that were training before the first."""

    def __init__(self):
        self.passes = 0
        self.training: list[nn.Module] = []


_VISITS: dict[GPT, _Visit] = {}
_VISITS_LOCK = threading.Lock()


class undisturbed:
    """Without dropout, in the wanted gradient mode; both as before afterwards.

    Threads share a model's training mode: the last pass to end restores it. (The gradient mode is a thread's own.)
    A class, where a generator would read more easily, because it is entered at every recording of a small model.
    """

    def __init__(self, model: GPT, grad: bool):
        self.model, self.grad = model, grad

    def __enter__(self) -> None:
        model = self.model
        with _VISITS_LOCK:
            may_drop = model.training or model.config.dropout > 0  # walking a small model's modules takes a while
            self.visit = _VISITS.setdefault(model, _Visit()) if may_drop or model in _VISITS else None
            if self.visit:
                self.visit.passes += 1
                training = [module for module in model.modules() if module.training] if may_drop else []
                self.visit.training += training
                for module in training:
                    module.training = False
        self.grad_before = torch.is_grad_enabled()
        torch.set_grad_enabled(self.grad)

    def __exit__(self, *_: object) -> None:
        torch.set_grad_enabled(self.grad_before)
        if not self.visit:
            return
        with _VISITS_LOCK:
            self.visit.passes -= 1
            if self.visit.passes:
                return
            del _VISITS[self.model]
            for module in self.visit.training:
                module.training = True


def awaited(modules: Sequence[nn.Module]) -> bool:
    """Whether a hook, a listener or somebody's own code waits for what passes in these modules, or in a part of one.

    Own code may also call a part twice, which only a whole pass shows.
    """
    waiting = list(modules)
    while waiting:
        part = waiting.pop()
        if part._forward_hooks or part._forward_pre_hooks or own_code(part):
            return True
        if isinstance(part, HookPoint) and part.listeners:
            return True
        waiting += filter(None, part._modules.values())  # `modules()` takes several times as long
    return False


def run_layers(model: GPT, idx: Tensor, start: tuple[int, Tensor] | None, span: range) -> None:
    """The forward pass itself: from the embedding or a given stream, through the layers of `span`, to the logits."""
    resid = model.embedding(idx) if start is None else start[1][None].to(model.lm_head.weight)
    if start is not None and torch.is_grad_enabled() and not resid.requires_grad:  # let gradients begin here
        resid = resid.clone().requires_grad_()
    for layer in span:
        resid = model.transformer.h[layer](resid)
    if span.stop == model.config.n_layer:
        model.unembed(resid)


def unwrapped(model: nn.Module) -> GPT:
    """The `GPT` inside a compiled or data-parallel wrapper, or the model itself.

    Raises:
        TypeError: there is no `GPT` in it, or it is an `nn.DataParallel`, whose replicas cannot be listened to.
    """
    inner: Any = model
    while not isinstance(inner, GPT):
        if isinstance(inner, nn.DataParallel):
            raise TypeError(
                "nn.DataParallel copies the model at every call and cannot be recorded: pass its .module."
            )
        wrapped = getattr(inner, "_orig_mod", None) or getattr(inner, "module", None)
        if not isinstance(wrapped, nn.Module):
            raise TypeError(
                f"The model must be a gptviz GPT (or one compiled or wrapped), not {type(model).__name__}."
            )
        inner = wrapped
    return inner


def plain_unembed(
    model: GPT, resid: Float[Tensor, "*batch pos d_model"]
) -> Float[Tensor, "*batch pos d_vocab"]:
    """The last LayerNorm and the unembedding, by the weights alone: no hook fires."""
    norm = model.transformer.ln_f
    resid = resid.to(norm.weight)  # a trace may have been recorded in another type, or moved
    normalised = F.layer_norm(resid, norm.weight.shape, norm.weight, norm.bias, norm.eps)
    return normalised @ model.lm_head.weight.T


def _choose(value: Tensor, dim: int, chosen: tuple[int, ...]) -> Tensor:
    if len(chosen) == value.shape[dim]:
        return value
    return value.index_select(dim, torch.tensor(chosen, device=value.device))
