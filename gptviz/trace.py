"""Recording: one forward pass over one text, kept by name. It reads activations and changes none.

    record(model, text, tokenizer)  ->  Trace  ->  trace["pattern"]  [layer head query key]

A `Trace` holds the model's own tensors, not copies: recording costs little more than the forward pass. What follows
exactly from other recorded values (`DERIVED`: `scores` from q and k, `mlp_post` from `mlp_pre`, ...) is computed, to
the same bits, when it is asked for, unless an edit touched it; then it is recorded like the rest.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from gptviz.arguments import check_tokenizer, must_be
from gptviz.capture import (
    Recording,
    Selection,
    check_target,
    layer_span,
    outside_inference_mode,
    plain_unembed,
    unwrapped,
)
from gptviz.config import GPTConfig
from gptviz.derivation import DERIVED, WeightsOfNorms, derived
from gptviz.description import describe
from gptviz.model import GPT
from gptviz.naming import (
    AXES,
    Address,
    UnknownNameError,
    addresses_reached,
    human_bytes,
    index_within,
    indices_within,
    nearest_names,
    our_spelling,
)
from gptviz.prompts import token_rows
from gptviz.tokenizers import drawn

__all__ = ["AXES", "Check", "Trace", "describe", "record", "unwrapped"]


class Check(NamedTuple):
    """One identity that a recorded forward pass must satisfy, and by how much it is missed."""

    error: float
    bound: float

    @property
    def passed(self) -> bool:
        """Whether the measured error is within the bound (NaN is not)."""
        return self.error <= self.bound


class Trace:
    """Every recorded value of one forward pass over one text. Treat its tensors as read-only.

    Attributes:
        ids: Token ids, `[pos]`.
        config: The shape of the model.
        layers, heads, positions: Which of them were recorded, as numbers from 0.
        edited: Addresses whose value an edit may have replaced during this pass.
        notes: Sentences about how it was recorded.

    Example:
        >>> from gptviz.config import GPTConfig
        >>> from gptviz.model import GPT
        >>> trace = record(GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=2, n_head=2, n_embd=8)), [0, 1, 2])
        >>> tuple(trace["pattern"].shape), tuple(trace["pattern", 1].shape)
        ((2, 2, 3, 3), (2, 3, 3))
    """

    def __init__(
        self,
        values: dict[Address, Tensor],
        *,
        names: Sequence[str],
        ids: Int[Tensor, "pos"],
        tokens: tuple[str, ...] | None,
        config: GPTConfig,
        layers: tuple[int, ...],
        heads: tuple[int, ...],
        positions: tuple[int, ...],
        edited: tuple[Address, ...] = (),
        notes: tuple[str, ...] = (),
        gradients: dict[Address, Tensor] | None = None,
        norms: WeightsOfNorms | None = None,
        model: GPT | None = None,
    ):
        self._values = values  # each [1, ...]: the batch axis stays until a value is asked for
        self._norms = norms
        self._gradients = gradients or {}
        self.names = tuple(names)
        self.ids, self._tokens, self.config = ids, tokens, config
        self.layers, self.heads, self.positions = layers, heads, positions
        self.edited, self.notes = edited, notes
        self._model = weakref.ref(model) if model is not None else None
        self._weight_versions = _unembedding_versions(model) if model is not None and ("logits", None) in values else ()

    def __getitem__(self, key: Any) -> Shaped[Tensor, "..."]:
        """`trace["pattern"]`: all recorded layers, stacked. `trace["pattern", 3]`: layer 3, without a copy.

        Raises:
            UnknownNameError: no such name or layer, or it was not recorded.
        """
        name, layer = self._address(key)
        if AXES[name][0] != "layer":
            return self._value(name, None)
        if layer is not None:
            return self._value(name, layer)
        return torch.stack([self._value(name, layer) for layer in self._layers_of(name)])

    def __contains__(self, key: object) -> bool:
        try:
            self._address(key)  # type: ignore[arg-type]
        except (UnknownNameError, TypeError):
            return False
        return True

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        text = "".join(self.tokens)
        shown = text if len(text) <= 40 else text[:37] + "..."
        return (
            f"Trace of {len(self)} tokens ({shown!r}) through {len(self.layers)} of {self.config.n_layer} layers: "
            f"{len(self.names)} names, {human_bytes(self.nbytes)}"
        )

    @property
    def tokens(self) -> tuple[str, ...]:
        """The visible form of each token; its number where no tokenizer was given."""
        if self._tokens is None:
            self._tokens = tuple(map(str, self.ids.tolist()))
        return self._tokens

    @property
    def nbytes(self) -> int:
        """Bytes held by the recorded tensors; one that is kept under two names counts once."""
        held = {value.data_ptr(): value.numel() * value.element_size() for value in self._values.values()}
        return sum(held.values())

    def axes(self, name: str) -> tuple[str, ...]:
        """The axes of `trace[name]`."""
        return AXES[self._address(name)[0]]

    def gradient(self, key: Any) -> Shaped[Tensor, "..."]:
        """The gradient of the recorded scalar (`record(grad=...)`) with respect to a value, shaped like the value.

        Raises:
            UnknownNameError: no such name, or the trace was recorded without `grad`.
        """
        if not self._gradients:
            raise UnknownNameError("This trace holds no gradients. Record it with grad=True.")
        name, layer = self._address(key)
        wanted = [layer] if layer is not None or AXES[name][0] != "layer" else list(self._layers_of(name))
        missing = [at for at in wanted if (name, at) not in self._gradients]
        if missing:
            raise UnknownNameError(
                f"There is no gradient for {name!r}: the recorded scalar does not depend on it."
            )
        found = [self._gradients[name, at][0] for at in wanted]
        return found[0] if layer is not None or AXES[name][0] != "layer" else torch.stack(found)

    def check(self, model: GPT | None = None) -> dict[str, Check]:
        """The invariants of a forward pass, measured on this trace.

        Only identities whose values were recorded are measured. Those that need weights use the recorded model, if it
        is still there and unchanged (known where logits were recorded), or `model`. Fused attention, which runs where
        no pattern is recorded, gives 0 where a query is NaN: so the values can be finite where the arithmetic is
        not. Where neither q nor pattern was recorded the weights that make q are looked through.

        Args:
            model: The model with the weights that made the trace.

        Returns:
            For each identity its largest error and the bound: a count of numbers that are not finite, absolute for
            shares of attention, otherwise relative to the largest value compared.

        Example:
            >>> from gptviz.config import GPTConfig
            >>> from gptviz.model import GPT
            >>> trace = record(GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=2, n_embd=8)), [0, 1, 2])
            >>> all(check.passed for check in trace.check().values())
            True
        """
        checks = {"recorded values are finite": Check(self._n_not_finite(), 0.0)}
        checks |= dict(self._attention_checks()) | dict(self._stream_checks())
        model = model if model is not None else self._unchanged_model()
        hidden = [n for n in range(self.config.n_layer) if not {("q", n), ("pattern", n)} & self._values.keys()]
        if model is not None and hidden:
            parts = [unwrapped(model).transformer.h[layer].attn.c_attn for layer in hidden]
            weights = [weight.detach() for part in parts for weight in part.parameters()]
            checks["weights of q, k and v are finite"] = Check(sum(map(_count_not_finite, weights)), 0.0)
        last = self.config.n_layer - 1
        if model is not None and "logits" in self and ("resid_post", last) in self:
            with torch.no_grad():
                expected = plain_unembed(unwrapped(model), self["resid_post", last])
            checks["unembed(last resid_post) = logits"] = _relative(self["logits"], expected)
        if "loss" in self and "logits" in self and 1 < len(self) == len(self.positions):
            expected = F.cross_entropy(self["logits"][:-1].double(), self.ids[1:].to(self["logits"].device))
            checks["mean loss = cross-entropy"] = _relative(self["loss"].nanmean(), expected)
        return checks

    def _n_not_finite(self) -> float:
        """How many recorded numbers are NaN or infinite and ought not to be."""
        count = 0.0
        for (name, _), value in self._values.items():
            if name == "loss":  # the first token has none
                value = value[:, [place for place, position in enumerate(self.positions) if position]]
            if name == "scores":  # masked
                value = value.detach().masked_fill(value.isneginf(), 0.0)
            count += _count_not_finite(value.detach())
        return count

    def _attention_checks(self) -> Iterator[tuple[str, Check]]:
        if "pattern" not in self:
            return
        sums, leaks = [], []
        rows = torch.tensor(self.positions)
        for layer in self._layers_of("pattern"):
            pattern = self["pattern", layer].detach()
            future = torch.arange(pattern.shape[-1]) > rows[:, None]
            sums.append((pattern.sum(-1) - 1).abs().max())
            leaks.append((pattern * future.to(pattern.device)).abs().max())
        epsilon = torch.finfo(self["pattern", self._layers_of("pattern")[0]].dtype).eps
        yield "rows of pattern sum to 1", Check(float(torch.stack(sums).max()), max(1e-5, 8 * epsilon))
        yield "pattern is causal", Check(float(torch.stack(leaks).max()), 0.0)

    def _stream_checks(self) -> Iterator[tuple[str, Check]]:
        for total, before, write in (
            ("resid_mid", "resid_pre", "attn_out"),
            ("resid_post", "resid_mid", "mlp_out"),
        ):
            if all(name in self for name in (total, before, write)):
                summed = self[before] + self[write]
                yield f"{total} = {before} + {write}", _relative(self[total], summed)

    def _unchanged_model(self) -> GPT | None:
        model = self._model() if self._model is not None else None
        return model if model is not None and _unembedding_versions(model) == self._weight_versions else None

    def _address(self, key: Any) -> Address:
        request, layer = key if isinstance(key, tuple) else (key, None)
        if not isinstance(request, str):
            raise TypeError(f"A trace is indexed by a name, or by a name and a layer, not by {key!r}.")
        name, layer_text = our_spelling(request)
        if name not in AXES:
            raise UnknownNameError(f"{request!r} is no activation. {nearest_names(name)}")
        if layer is None and layer_text != "*":
            layer = int(layer_text)
        if layer is not None and AXES[name][0] != "layer":
            raise UnknownNameError(f"{name!r} belongs to no layer, but layer {layer} was asked for.")
        layer = None if layer is None else index_within(layer, self.config.n_layer, "layer")
        if name not in self.names or (layer is not None and layer not in self._layers_of(name)):
            place = name if layer is None else f"{name} of layer {layer}"
            raise UnknownNameError(
                f"{place} was not recorded; this trace holds {', '.join(self.names)} "
                f"of layers {list(self.layers)}."
            )
        return name, layer

    def _layers_of(self, name: str) -> tuple[int, ...]:
        """Layers that hold a name, by itself (an edited one) or by what it is derived from."""
        sources = DERIVED.get(name, (name,))
        return tuple(
            layer
            for layer in self.layers
            if (name, layer) in self._values or all((source, layer) in self._values for source in sources)
        )

    def _value(self, name: str, layer: int | None) -> Tensor:
        if (name, layer) in self._values:
            return self._values[name, layer][0]
        sources = [self._values[source, layer] for source in DERIVED[name]]
        with torch.no_grad():
            norm = self._norms.of((name, layer)) if self._norms is not None and name in ("ln_1", "ln_2") else ()
            return derived(name, sources, self.ids, self.config, norm)[0]


@outside_inference_mode
def record(
    model: nn.Module,
    text: Any,
    tokenizer: Any = None,
    *,
    names: str | Iterable[str] | None = None,
    layers: int | slice | Iterable[int] | None = None,
    heads: int | slice | Iterable[int] | None = None,
    positions: int | slice | Iterable[int] | None = None,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    max_bytes: int | None = None,
    truncate: str | None = None,
    grad: bool | Callable[[Tensor], Tensor] = False,
    start_at_layer: tuple[int, Float[Tensor, "pos d_model"]] | None = None,
    stop_at_layer: int | None = None,
) -> Any:
    """Run the model once over a text and keep its activations by name.

    The model, its training mode, its hooks, its parameters' `.grad`, the gradient mode and the random state are
    afterwards as they were, also after an exception. Dropout is off during the pass. Edits that are active
    (`intervene`, or forward hooks on hook points) apply, and the edited values are what is recorded. Forward hooks
    of your own on submodules run; those on the whole model do not, because its parts are called one by one. The pass
    ends behind the last value asked for, unless an edit, a hook, a listener or code of your own waits further on.

    Args:
        model: A `GPT`; also compiled or wrapped for data parallelism (then its inner module runs, which a note says).
        text: A text (needs `tokenizer`) or token ids; or a list of texts or of id lists, run as one padded batch.
        tokenizer: Turns the text into ids, and ids into visible tokens.
        names: What to keep: names, globs, "pattern.3", TransformerLens spellings. None keeps everything in `AXES`.
        layers: Only these layers.
        heads: Only these heads.
        positions: Only these positions (the queries of scores and pattern; their keys stay whole).
        dtype: Convert to this floating-point type while recording.
        device: Move to this device while recording.
        max_bytes: Refuse, before anything runs, to hold more than this.
        truncate: "left" or "right" drops tokens on that side of a text longer than the block; None refuses it.
        grad: True for the gradient of the mean loss with respect to every recorded value, or a function of the
            logits `[pos d_vocab]` that returns a scalar; read with `trace.gradient(name)`.
        start_at_layer: (layer, its resid_pre `[pos d_model]`): begin there instead of at the embedding.
        stop_at_layer: Run only the layers before this one; there are then no logits.

    Returns:
        A `Trace`; for a list of texts a list of them, each trimmed to its own text and equal to a pass by itself.

    Raises:
        UnknownNameError: a name, layer, head or position that does not exist.
        ValueError: a text that is empty or too long, ids out of range, or `max_bytes` exceeded.

    Example:
        >>> from gptviz.config import GPTConfig
        >>> from gptviz.model import GPT
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=2, n_head=2, n_embd=8))
        >>> record(model, [0, 1, 2], names="resid_*", layers=1)["resid_mid"].shape
        torch.Size([1, 3, 8])
    """
    inner = unwrapped(model)
    config = inner.config
    check_target(dtype, device)
    check_tokenizer(tokenizer, "visible")
    rows, single, notes = token_rows(text, tokenizer, config, truncate)
    if inner is not model:
        notes += (f"Recorded through the module inside {type(model).__name__}.",)
    span = layer_span(start_at_layer, stop_at_layer, config, rows)
    selection = Selection(
        addresses=addresses_reached(names, layers, span, config.n_layer, embedded=start_at_layer is None),
        heads=indices_within(heads, config.n_head, "head"),
        positions=[indices_within(positions, row.numel(), "position") for row in rows],
        whole=heads is None and positions is None and dtype is None and device is None and single,
        dtype=dtype,
        device=device,
    )
    if grad and span.stop < config.n_layer:
        raise ValueError(
            f"grad= needs the logits, but stop_at_layer={stop_at_layer} ends before them. Leave one of them out."
        )
    if grad and not callable(grad) and min(map(len, rows)) < 2:
        raise ValueError(
            "grad=True needs a loss, so at least 2 tokens, but a text has 1. Pass a longer text or a function of the "
            "logits."
        )
    recording = Recording(inner, rows, selection, grad)
    recording.refuse_over(max_bytes)
    recording.run(start_at_layer, span)
    recording.finish()
    traces = [_trace(recording, row, tokenizer, notes) for row in range(len(rows))]
    return traces[0] if single else traces


def _trace(recording: Recording, row: int, tokenizer: Any, notes: tuple[str, ...]) -> Trace:
    selection, ids = recording.selection, recording.rows[row]
    return Trace(
        recording.kept[row],
        names=recording.plan.names,
        ids=ids,
        tokens=None if tokenizer is None else tuple(drawn(tokenizer, token_id) for token_id in ids.tolist()),
        config=recording.model.config,
        layers=recording.plan.layers,
        heads=selection.heads,
        positions=selection.positions[row],
        edited=recording.edited,
        notes=notes,
        gradients=recording.gradients[row],
        norms=recording.norms,
        model=recording.model,
    )


def check_trace(trace: object) -> None:
    """Raise unless it is a trace.

    Raises:
        TypeError: it is something else.
    """
    must_be(trace, Trace, "trace", "Pass what gptviz.record returned.")


def _relative(value: Tensor, expected: Tensor) -> Check:
    """Largest difference relative to the largest expected value; the bound follows the coarser of the two types."""
    epsilon = max(torch.finfo(tensor.dtype).eps for tensor in (value, expected))
    value, expected = value.double(), expected.double()
    error = (value - expected).abs().max() / expected.abs().max().clamp_min(1e-30)
    return Check(float(error), max(1e-5, 8 * epsilon))


def _count_not_finite(value: Tensor) -> float:
    return float(value.numel() - int(value.isfinite().sum()))


def _unembedding_versions(model: GPT) -> tuple[tuple[int, int], ...]:
    """Changes whenever the weights of the last LayerNorm or the unembedding are replaced or changed in place."""
    norm = model.transformer.ln_f
    weights = [weight for weight in (norm.weight, norm.bias, model.lm_head.weight) if weight is not None]
    return tuple((weight.data_ptr(), weight._version) for weight in weights)
