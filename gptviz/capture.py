"""The one forward pass behind `record`: who listens, what is kept of each text of a padded batch, what is refused."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from gptviz.arguments import check_tokenizer, whole_number
from gptviz.config import ACTIVATIONS, GPTConfig
from gptviz.model import GPT, LayerNorm, attention_scores
from gptviz.naming import AXES, Address, human_bytes, shape_of

DERIVED = {
    "ln_1": ("resid_pre",),
    "scores": ("q", "k"),
    "z": ("pattern", "v"),
    "ln_2": ("resid_mid",),
    "mlp_post": ("mlp_pre",),
    "loss": ("logits",),
}
"""Names whose values follow, to the last bit, from others that are kept (the norms also from their weights)."""


def derived(name: str, sources: list[Tensor], ids: Tensor, config: GPTConfig, norm: tuple[Tensor, ...]) -> Tensor:
    """A value that was not kept, computed from its sources by the very operation that the model ran."""
    if name == "scores":
        return attention_scores(*sources)
    if name == "z":
        pattern, v = sources
        return pattern @ v
    if name == "mlp_post":
        return F.gelu(sources[0], approximate=ACTIVATIONS[config.activation])
    if name == "loss":
        return token_losses(sources[0], ids[None])
    weight, bias = norm if len(norm) == 2 else (norm[0], None)
    return F.layer_norm(sources[0], weight.shape, weight, bias, LayerNorm.eps)


@dataclass(frozen=True)
class Selection:
    """What is kept of a forward pass."""

    addresses: list[Address]
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


class Recording:
    """The values of one forward pass, while they arrive and after."""

    def __init__(
        self, model: GPT, rows: list[Tensor], selection: Selection, grad: bool | Callable[[Tensor], Tensor]
    ):
        self.model, self.rows, self.selection, self.grad = model, rows, selection, grad
        self.padded = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(model.lm_head.weight.device)
        self.edited = tuple(address for address, point in model.hook_points.items() if point.edited)
        self.captured = [address for address in selection.addresses if not self._derivable(address)]
        self.raw: dict[Address, Tensor] = {}  # by reference, [batch, ...]
        self.versions: dict[Address, int] = {}
        self.kept: list[dict[Address, Tensor]] = [{} for _ in rows]  # of each text, [1, ...]
        self.gradients: list[dict[Address, Tensor]] = [{} for _ in rows]

    def _derivable(self, address: Address) -> bool:
        """Whether a value follows exactly from others that are kept as they are."""
        name, layer = address
        sources = [(source, layer) for source in DERIVED.get(name, ())]
        touched = address in self.edited or (f"{name}_scale", layer) in self.edited  # a norm by another scale
        plain = self.selection.whole and not self.grad and not touched
        kept = bool(sources) and all(source in self.selection.addresses for source in sources)
        return plain and kept and not torch.is_autocast_enabled(self.padded.device.type)  # its casts are not ours

    def norms(self) -> dict[Address, tuple[Tensor, ...]]:
        """Copies of the weights from which unrecorded norms are derived: the model may go on learning."""
        found = {}
        for name, layer in self.selection.addresses:
            if name in ("ln_1", "ln_2") and (name, layer) not in self.captured:
                norm = self.model.transformer.h[layer].get_submodule(name)
                found[name, layer] = tuple(weight.detach().clone() for weight in norm.parameters())
        return found

    def needed_bytes(self) -> dict[Address, int]:
        """Bytes that each captured value will take, before anything runs; a shared tensor is counted once."""
        itemsize = (self.selection.dtype or self.model.lm_head.weight.dtype).itemsize
        needed = {}
        for name, layer in self.captured:
            if (
                self.selection.whole
                and name == "resid_pre"
                and layer
                and ("resid_post", layer - 1) in self.captured
            ):
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

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Attach a reader to every needed hook point; afterwards detach exactly those readers."""
        attached = []
        ends = [("embed", None), ("logits", None)] if self.grad else []  # where gradients begin, and the scalar
        addresses = dict.fromkeys(self.captured + ends)
        try:
            for address in addresses:
                point = self.model.hook_points[("logits", None) if address[0] == "loss" else address]
                listener = self._listener(address)
                point.listeners.append(listener)
                attached.append((point.listeners, listener))
            yield
            if self.grad:
                self._differentiate()
        finally:
            for listeners, listener in attached:
                listeners.remove(listener)

    def _listener(self, address: Address) -> Callable[[Tensor], None]:
        name = address[0]

        def refer(value: Tensor) -> None:
            self.raw[address] = value
            self.versions[address] = value._version

        def refer_root(value: Tensor) -> None:  # all parameters are frozen: let gradients begin here
            refer(value if value.requires_grad else value.requires_grad_())

        def take(value: Tensor) -> None:
            for row, ids in enumerate(self.rows):
                self.kept[row][address] = self.selection.take(name, value, row, len(ids))

        keep = refer if self.selection.whole or self.grad else take
        if name == "loss":
            return lambda logits: keep(token_losses(logits.detach(), self.padded))
        return refer_root if name == "embed" and self.grad else keep

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
        for (name, layer), value in self.raw.items():
            if value._version != self.versions[name, layer]:
                raise RuntimeError(
                    f"{name} of layer {layer} was changed in place after it was recorded, so the record would be "
                    "wrong. A hook must return a new tensor instead of changing its input."
                )
        if self.grad:
            for address in self.captured:
                self._keep(self.kept, address, self.raw[address])
        elif self.selection.whole:
            self.kept = [self.raw]
        missing = [address for address in self.captured if address not in self.kept[0]]
        if missing:
            raise RuntimeError(f"Nothing passed the hook points {missing}: was the model's forward replaced?")


@contextlib.contextmanager
def undisturbed(model: GPT, grad: bool) -> Iterator[None]:
    """Without dropout, in the wanted gradient mode; both as before afterwards."""
    may_drop = model.training or model.config.dropout > 0  # walking all modules of a small model takes a while
    training = [module for module in model.modules() if module.training] if may_drop else []
    try:
        for module in training:
            module.training = False
        with torch.set_grad_enabled(grad):
            yield
    finally:
        for module in training:
            module.training = True


def run_layers(model: GPT, idx: Tensor, start: tuple[int, Tensor] | None, span: range) -> None:
    """The forward pass itself: from the embedding or a given stream, through the layers of `span`, to the logits."""
    resid = model.embedding(idx) if start is None else start[1][None].to(model.lm_head.weight)
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


def token_rows(
    text: Any, tokenizer: Any, config: GPTConfig, truncate: str | None = None
) -> tuple[list[Tensor], bool, tuple[str, ...]]:
    """Texts or ids as checked id tensors `[pos]`, whether there was only one text, and notes.

    Raises:
        ValueError: a text is empty or longer than the block, or an id is outside the vocabulary.
        TypeError: neither a text nor ids; or a text without a tokenizer.
    """
    if truncate not in (None, "left", "right"):
        raise ValueError(f'truncate must be "left", "right" or None, not {truncate!r}.')
    single = _is_one_text(text)
    texts = [text] if single else list(text)
    if not texts:
        raise ValueError("There must be at least one text, but the list is empty.")
    notes: tuple[str, ...] = ()
    rows = []
    for one in texts:
        ids = _checked_ids(one, tokenizer, config)
        if len(ids) > config.block_size:
            if truncate is None:
                raise ValueError(
                    f"Text has {len(ids)} tokens but the model reads at most {config.block_size} (block_size). "
                    'Shorten it or pass truncate="left".'
                )
            notes += (f"{len(ids) - config.block_size} of {len(ids)} tokens were cut off at the {truncate}.",)
            ids = ids[-config.block_size :] if truncate == "left" else ids[: config.block_size]
        rows.append(ids)
    return rows, single, notes


def _is_one_text(text: Any) -> bool:
    if isinstance(text, str):
        return True
    if getattr(text, "ndim", 0):
        return text.ndim == 1
    if hasattr(text, "ndim"):
        raise TypeError(f"Token ids must stand in one row, but {text!r} is a single number. Put it into a list.")
    unordered = isinstance(text, bytes | bytearray | Mapping | Set)  # iterable, and yet neither text nor ids
    if unordered or not isinstance(text, Iterable):
        raise TypeError(
            f"The text must be a string, token ids, or a list of these, not {type(text).__name__}."
        )
    return all(hasattr(item, "__index__") and not getattr(item, "ndim", 0) for item in text)


def _checked_ids(text: Any, tokenizer: Any, config: GPTConfig) -> Tensor:
    if isinstance(text, str):
        if tokenizer is None:
            raise TypeError("A text needs a tokenizer: pass tokenizer=, or token ids.")
        check_tokenizer(tokenizer, "encode", "decode")
        text = tokenizer.encode(text)
    if not hasattr(text, "__len__"):
        raise TypeError(f"The text must be a string or token ids, not {text!r}.")
    try:
        ids = torch.as_tensor(text).cpu() if len(text) else torch.empty(0, dtype=torch.int64)
    except (TypeError, ValueError, RuntimeError) as reason:  # objects, numbers beyond 64 bits, no data
        raise TypeError(
            f"Token ids must be whole numbers in one row, but {type(text).__name__} {str(text)[:60]} cannot be read "
            f"as that ({str(reason).splitlines()[0]})."
        ) from None
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool or ids.ndim != 1:
        raise TypeError(
            f"Token ids must be whole numbers in one row, not {ids.dtype} of shape {tuple(ids.shape)}."
        )
    ids = ids.to(torch.int64, copy=True)
    if len(ids) == 0:
        raise ValueError("A text must have at least one token, but this one is empty.")
    outside = ((ids < 0) | (ids >= config.vocab_size)).nonzero()
    if len(outside):
        at = int(outside[0])
        raise ValueError(
            f"Token ids must be 0 to {config.vocab_size - 1} (vocab_size {config.vocab_size}), "
            f"but position {at} holds {int(ids[at])}. Was the text encoded by another model's tokenizer?"
        )
    return ids


def token_losses(
    logits: Float[Tensor, "*batch pos d_vocab"], ids: Int[Tensor, "*batch pos"]
) -> Float[Tensor, "*batch pos"]:
    """-log p(token at a position given those before it), in nats; NaN at position 0."""
    targets = ids[..., 1:].to(logits.device)
    losses = F.cross_entropy(logits[..., :-1, :].flatten(0, -2), targets.flatten(), reduction="none")
    return F.pad(losses.view(targets.shape), (1, 0), value=math.nan)


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
