"""Patching sweeps: which single value of one text, put into another text, brings back the answer?

The slow way is one forward pass per cell (name, layer, head, position). But an edit at layer l and position p reaches
no earlier layer and, in a causal model, no earlier position: there the unedited pass is reused. And within its own
layer most edits change position p alone. So cells are run as batches, which each of them enters as late as it can:

    unedited pass (kept)          layer l: one row per cell        layers after l: positions p.. only, all cells at once
                                                                   last layer: only positions that the metric reads

The arithmetic of a block is written here a second time, on weights, because the model runs whole texts only. A test
compares every cell with a forward pass under `intervene`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from gptviz.capture import token_rows, unwrapped
from gptviz.model import GPT, Block, LayerNorm
from gptviz.naming import AXES, UnknownNameError, index_within, indices_within, resolve_names
from gptviz.trace import Trace, record

SWEPT = ("resid_pre", "q", "k", "v", "pattern", "z", "attn_out", "resid_mid", "mlp_out", "resid_post")
"""Names that a sweep can patch. The others are functions of one of these (ln_1 of resid_pre, mlp_pre of resid_mid)."""

PATHS = ("q", "k", "v")

Metric = Callable[[Float[Tensor, "batch pos d_vocab"]], Float[Tensor, "batch"]]


@dataclass(frozen=True)
class AtPosition:
    """A metric that reads the logits of one position. A sweep then computes no others: up to twice as fast.

    Attributes:
        function: From the logits `[batch d_vocab]` of that position to one number per text.
        position: Which one; -1 is the last.

    Example:
        >>> first_token = AtPosition(lambda logits: logits.log_softmax(-1)[:, 0], position=-1)
        >>> first_token(torch.zeros(2, 3, 4)).exp()
        tensor([0.2500, 0.2500])
    """

    function: Callable[[Float[Tensor, "batch d_vocab"]], Float[Tensor, "batch"]]
    position: int = -1

    def __call__(self, logits: Float[Tensor, "batch pos d_vocab"]) -> Float[Tensor, "batch"]:
        return self.function(logits[:, self.position])


def logit_difference(target: int, distractor: int, position: int = -1) -> AtPosition:
    """The metric logit(target) - logit(distractor): by how many nats the model prefers one token to another.

    Args:
        target: Token id of the answer that is right for the clean text.
        distractor: Token id that is right for the corrupted text.
        position: Where the answer is predicted; -1 for the last.

    Example:
        >>> logit_difference(0, 2)(torch.tensor([[[1.0, 5.0, -2.0]]]))
        tensor([3.])
    """
    return AtPosition(lambda logits: logits[:, target] - logits[:, distractor], position)


@dataclass(frozen=True)
class PatchingSweep:
    """What the metric becomes when one value of the clean text is put into the corrupted one.

    Attributes:
        values: The metric for each cell: name -> `[layer pos]` or `[layer head pos]`.
        clean: The metric of the clean text.
        corrupted: The metric of the corrupted text, which every cell starts from.
        layers, heads, positions: What the axes stand for.
    """

    values: dict[str, Float[np.ndarray, "..."]]
    clean: float
    corrupted: float
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    positions: tuple[int, ...]

    def recovered(self) -> dict[str, Float[np.ndarray, "..."]]:
        """The share of the difference that each cell brings back: 0 is the corrupted text, 1 the clean one.

        Raises:
            ValueError: the two texts do not differ in the metric.
        """
        return {name: _share(values, self.clean, self.corrupted) for name, values in self.values.items()}


@dataclass(frozen=True)
class PathSweep:
    """What the metric becomes when a head's clean output reaches the receivers on the direct path only.

    Attributes:
        values: The metric for each sender, `[layer head]`; NaN where a head was not asked for.
        clean: The metric of the clean text.
        corrupted: The metric of the corrupted text, which every cell starts from.
    """

    values: Float[np.ndarray, "layer head"]
    clean: float
    corrupted: float

    def recovered(self) -> Float[np.ndarray, "layer head"]:
        """The share of the difference that each sender brings back: 0 is the corrupted text, 1 the clean one.

        Raises:
            ValueError: the two texts do not differ in the metric.
        """
        return _share(self.values, self.clean, self.corrupted)


def activation_patching(
    model: nn.Module,
    clean_ids: Any,
    corrupted_ids: Any,
    metric: Metric,
    names: str | Iterable[str] = ("resid_pre", "attn_out", "mlp_out", "z"),
    *,
    layers: int | slice | Iterable[int] | None = None,
    heads: int | slice | Iterable[int] | None = None,
    positions: int | slice | Iterable[int] | None = None,
    max_bytes: int = 32_000_000,
) -> PatchingSweep:
    """Put each single activation of the clean text into the corrupted one, and see what becomes of the metric.

    One cell is one forward pass of the corrupted text in which `name` of one layer, one head (where it has heads) and
    one position is that of the clean text, and all that follows is computed anew. For `pattern` the position is the
    query. For the opposite direction exchange the texts. A cell says what a value is sufficient for, in this pair of
    texts, with all else corrupted; it is neither symmetric nor additive.

    Args:
        model: A `GPT` that nobody edits.
        clean_ids: Token ids of the text that values are taken from.
        corrupted_ids: Token ids, as many, of the text that they are put into.
        metric: From logits `[batch pos d_vocab]` of all positions to one number per text `[batch]`. With an
            `AtPosition` (`logit_difference` is one) only that position's logits are computed.
        names: Which activations: of resid_pre, q, k, v, pattern, z, attn_out, resid_mid, mlp_out, resid_post.
        layers: Only these layers.
        heads: Only these heads.
        positions: Only these positions.
        max_bytes: About how much memory a batch of cells may take, in bytes. Smaller can be faster: it fits a cache.

    Raises:
        UnknownNameError: a name that cannot be swept; a layer, head or position that does not exist.
        ValueError: texts of different lengths; edits are active; a metric that does not give one number per text.

    Example:
        >>> from gptviz.model import GPT, GPTConfig
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=2, n_head=2, n_embd=8))
        >>> sweep = activation_patching(model, [0, 1, 2], [0, 3, 2], logit_difference(1, 3), names="z")
        >>> sweep.values["z"].shape
        (2, 2, 3)
    """
    pair = _Pair(unwrapped(model), clean_ids, corrupted_ids, metric)
    config = pair.model.config
    axes = {
        "layer": indices_within(layers, config.n_layer, "layer"),
        "head": indices_within(heads, config.n_head, "head"),
        "pos": indices_within(positions, pair.n_tokens, "position"),
    }
    swept = _swept(names)
    with torch.no_grad():
        pair.record(swept)
        grids = {name: [axes["pos" if axis == "query" else axis] for axis in _grid_axes(name)] for name in swept}
        found = {name: np.full([len(axis) for axis in grid], pair.corrupted) for name, grid in grids.items()}
        cells = [cell for name, grid in grids.items() for cell in _cells(name, grid)]
        cells = sorted((cell for cell in cells if pair.is_read(cell.position)), key=lambda cell: cell.position)
        for chunk in pair.chunks(cells, max_bytes):
            for cell, value in zip(chunk, pair.metrics_of(chunk).tolist(), strict=True):
                found[cell.name][cell.index] = value
    return PatchingSweep(found, pair.clean, pair.corrupted, axes["layer"], axes["head"], axes["pos"])


def path_patching(
    model: nn.Module,
    clean_ids: Any,
    corrupted_ids: Any,
    metric: Metric,
    receivers: str | Iterable[tuple[int, int, str]],
    senders: Iterable[tuple[int, int]] | None = None,
    *,
    positions: int | slice | Iterable[int] | None = None,
    max_bytes: int = 32_000_000,
) -> PathSweep:
    """Let a head's clean output reach some receivers by the direct path alone, and see what becomes of the metric.

    The direct path is the residual stream: everything else between sender and receiver (other heads, MLPs) keeps its
    corrupted output; LayerNorms see the changed stream. What the receivers then read (their queries, keys or values) is
    put into the corrupted text, and all that follows them is computed anew. (Wang et al. 2022, with MLPs frozen.)

    Args:
        model: A `GPT` that nobody edits.
        clean_ids: Token ids of the text that the senders' outputs are taken from.
        corrupted_ids: Token ids, as many, of the text that they are put into.
        metric: As for `activation_patching`.
        receivers: (layer, head, "q" | "k" | "v"), all of them at once; or "logits", the direct path to the end.
        senders: (layer, head), each by itself; None for all heads of layers before the last receiver.
        positions: The sender's output is clean only at these positions; None for all.
        max_bytes: About how much memory a batch of senders may take, in bytes.

    Raises:
        UnknownNameError: a sender or receiver that does not exist.
        ValueError: a sender that is in no layer before a receiver; texts of different lengths; edits are active.

    Example:
        >>> from gptviz.model import GPT, GPTConfig
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=2, n_head=2, n_embd=8))
        >>> sweep = path_patching(model, [0, 1, 2], [0, 3, 2], logit_difference(1, 3), receivers=[(1, 0, "k")])
        >>> sweep.values.shape, bool(np.isnan(sweep.values[1]).all())
        ((2, 2), True)
    """
    pair = _Pair(unwrapped(model), clean_ids, corrupted_ids, metric)
    config = pair.model.config
    ends = _receivers(receivers, config.n_layer, config.n_head)
    before = max((layer for layer, _, _ in ends), default=config.n_layer)
    starts = _senders(senders, before, config.n_layer, config.n_head)
    where = indices_within(positions, pair.n_tokens, "position")
    values = np.full((config.n_layer, config.n_head), np.nan)
    with torch.no_grad():
        pair.record(("z",))
        size = max(1, max_bytes // pair.bytes_per_cell(0))
        for first in range(0, len(starts), size):
            some = starts[first : first + size]
            for (layer, head), value in zip(some, pair.paths(some, ends, where).tolist(), strict=True):
                values[layer, head] = value
    return PathSweep(values, pair.clean, pair.corrupted)


# --- which cells -----------------------------------------------------------------------------------------------------


class _Cell(NamedTuple):
    name: str
    layer: int
    head: int
    """0 for names without heads."""
    position: int
    index: tuple[int, ...]
    """Its place in the result."""


def _swept(names: str | Iterable[str]) -> list[str]:
    found = list(dict.fromkeys(name for name, _ in resolve_names(names, n_layer=1)))
    for name in found:
        if name not in SWEPT:
            raise UnknownNameError(f"A sweep can patch {', '.join(SWEPT)}, but not {name!r}.")
    return found


def _grid_axes(name: str) -> tuple[str, ...]:
    """The axes of a name that a sweep goes along: all but the last one, which is patched as a whole."""
    return AXES[name][:-1]


def _cells(name: str, grid: list[tuple[int, ...]]) -> Iterable[_Cell]:
    for index in np.ndindex(*map(len, grid)):
        layer, *head, position = (axis[i] for axis, i in zip(grid, index, strict=True))
        yield _Cell(name, layer, head[0] if head else 0, position, index)


def _receivers(receivers: Any, n_layer: int, n_head: int) -> list[tuple[int, int, str]]:
    if isinstance(receivers, str):
        if receivers != "logits":
            raise UnknownNameError(f'Receivers must be "logits" or (layer, head, "q" | "k" | "v"), not {receivers!r}.')
        return []
    found = []
    for layer, head, part in receivers:
        if part not in PATHS:
            raise UnknownNameError(f'A receiver reads by its "q", "k" or "v", not by {part!r}.')
        found.append((index_within(layer, n_layer, "layer"), index_within(head, n_head, "head"), part))
    if not found:
        raise ValueError('There must be at least one receiver; for the direct path to the end say receivers="logits".')
    return found


def _senders(senders: Any, before: int, n_layer: int, n_head: int) -> list[tuple[int, int]]:
    if senders is None:
        return [(layer, head) for layer in range(before) for head in range(n_head)]
    found = [(index_within(layer, n_layer, "layer"), index_within(head, n_head, "head")) for layer, head in senders]
    late = [(layer, head) for layer, head in found if layer >= before]
    if late:
        raise ValueError(
            f"A sender must be in a layer before a receiver, but head {late[0][1]} of layer {late[0][0]} is not: "
            f"the last receiver is in layer {before}."
        )
    return found


def _one_text(ids: Any, model: GPT) -> Int[Tensor, "pos"]:
    rows, single, _ = token_rows(ids, None, model.config)
    if not single:
        raise ValueError(f"Each of the two texts must be a list of token ids, but one is a list of {len(rows)} texts.")
    return rows[0]


def _share(values: np.ndarray, clean: float, corrupted: float) -> np.ndarray:
    if clean == corrupted:
        raise ValueError(f"Both texts must differ in the metric for a share of the difference, but both give {clean}.")
    return (values - corrupted) / (clean - corrupted)


# --- batches of cells ------------------------------------------------------------------------------------------------


class _Pair:
    """Two texts, their unedited passes, and batches of cells between them.

    In a batch, the state `x` holds the residual stream of each cell from position `start` on; before it, all cells are
    the corrupted text. `base.<name>[layer]` is the corrupted pass.
    """

    def __init__(self, model: GPT, clean_ids: Any, corrupted_ids: Any, metric: Metric):
        hooked = [name for name, module in model.named_modules() if module._forward_hooks or module._forward_pre_hooks]
        if hooked:
            raise ValueError(
                f"A sweep computes parts of forward passes, which hooks would not see, but there are hooks on "
                f"{', '.join(hooked[:3])}. Leave intervene() and remove hooks before the sweep."
            )
        self.clean_ids, self.corrupted_ids = (_one_text(ids, model) for ids in (clean_ids, corrupted_ids))
        if len(self.clean_ids) != len(self.corrupted_ids):
            raise ValueError(
                "Both texts must have the same number of tokens, so that positions match, but have "
                f"{len(self.clean_ids)} and {len(self.corrupted_ids)}."
            )
        self.model, self.metric = model, metric
        self.n_tokens = len(self.clean_ids)
        self.read: int | None = None
        if isinstance(metric, AtPosition):
            self.read = index_within(metric.position, self.n_tokens, "position")

    def record(self, names: Sequence[str]) -> None:
        """Both unedited passes and their metrics."""
        kept = ["resid_pre", "q", "k", "v", "z", "resid_mid", "resid_post", "logits"]
        base = record(self.model, self.corrupted_ids, names=kept)
        self.values = record(self.model, self.clean_ids, names=[*names, "logits"])
        self.clean, self.corrupted = (self.checked(trace["logits"][None]) for trace in (self.values, base))
        self.base = _Base(base, self.model.config.n_layer)

    def checked(self, logits: Float[Tensor, "1 pos d_vocab"]) -> float:
        """The metric of one text, once it is clear that it is one number per text."""
        value = self.metric(logits)
        if not isinstance(value, Tensor) or tuple(value.shape) != (1,):
            given = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
            raise ValueError(f"A metric must give one number per text, [batch], but for one text gave {given}.")
        return value.item()

    def is_read(self, position: int) -> bool:
        """Whether the metric can depend on an edit at this position."""
        return self.read is None or position <= self.read

    def bytes_per_cell(self, start: int) -> int:
        """About how much memory one more cell takes at the widest place: the MLP's, or the logits."""
        config, n = self.model.config, self.n_tokens - start
        block = 16 * n * config.n_embd + 2 * self.n_tokens * config.n_embd
        logits = config.vocab_size * (2 * self.n_tokens if self.read is None else 1)
        return self.model.lm_head.weight.element_size() * max(block, logits)

    def chunks(self, cells: list[_Cell], max_bytes: int) -> Iterable[list[_Cell]]:
        """Cells of neighbouring positions, as many as the memory allows, so that they share a long beginning."""
        first = 0
        while first < len(cells):
            size = max(1, max_bytes // self.bytes_per_cell(cells[first].position))
            yield cells[first : first + size]
            first += size

    def metrics_of(self, cells: list[_Cell]) -> Float[Tensor, "cell"]:
        """The metric of each cell."""
        start = cells[0].position
        x = torch.empty(0, self.n_tokens - start, self.model.config.n_embd).to(self.base.resid_pre[0])
        order: list[int] = []
        entering = self.entries(cells)
        n_layer = self.model.config.n_layer
        for layer in range(min(entering), n_layer + 1):
            entries = entering.get(layer, [])
            order += [number for entry in entries for number in entry.cells]
            if layer < n_layer:
                x = self.block(layer, x, entries, start)
            else:
                ended = [self.replaced(self.base.last, entry.at, entry.x, start) for entry in entries]
                x = torch.cat([x, *ended] if len(x) else ended)
        found = self.metric_of(x, start)
        return torch.empty_like(found).index_copy(0, torch.tensor(order, device=found.device), found)

    def entries(self, cells: list[_Cell]) -> dict[int, list["_Entry"]]:
        """Each cell's row at the layer from which on it differs at more than one position."""
        groups: dict[tuple[str, int], list[int]] = {}
        for number, cell in enumerate(cells):
            groups.setdefault((cell.name, cell.layer), []).append(number)
        entering: dict[int, list[_Entry]] = {}
        for (name, layer), numbers in groups.items():
            heads = torch.tensor([cells[number].head for number in numbers])
            at = torch.tensor([cells[number].position for number in numbers])
            first, entry = self.entry(name, layer, heads, at, numbers)
            entering.setdefault(first, []).append(entry)
        return entering

    def entry(
        self, name: str, layer: int, heads: Int[Tensor, "cell"], at: Int[Tensor, "cell"], cells: list[int]
    ) -> tuple[int, "_Entry"]:
        """Follow an edit to the end of what it changes at its own position alone."""
        base, value = self.base, self.values[name, layer]
        value = value[heads, at] if "head" in AXES[name] else value[at]
        if name == "resid_pre":
            return layer, _Entry(cells, at, value)
        if name in ("k", "v"):  # later positions of the same layer read it
            return layer, _Entry(cells, at, base.resid_pre[layer][at], name, heads, value)
        if name == "resid_post":
            return layer + 1, _Entry(cells, at, value)
        if name == "mlp_out":
            return layer + 1, _Entry(cells, at, base.resid_mid[layer][at] + value)
        block = self.model.transformer.h[layer]
        if name == "resid_mid":
            mid = value
        elif name == "attn_out":
            mid = base.resid_pre[layer][at] + value
        else:
            z = base.z[layer][:, at].transpose(0, 1).clone()                      # cell head d_head
            z[torch.arange(len(at)), heads] = self.z_row(name, layer, heads, at, value)
            mid = base.resid_pre[layer][at] + F.linear(z.flatten(1), block.attn.c_proj.weight, block.attn.c_proj.bias)
        return layer + 1, _Entry(cells, at, mid + _mlp(block, mid))

    def z_row(
        self, name: str, layer: int, heads: Int[Tensor, "cell"], at: Int[Tensor, "cell"], value: Float[Tensor, "cell _"]
    ) -> Float[Tensor, "cell d_head"]:
        """What each cell's head gives at its position."""
        if name == "z":
            return value
        if name == "q":
            scores = (self.base.k[layer][heads] @ value[:, :, None])[..., 0] / math.sqrt(value.shape[1])   # cell key
            later = torch.arange(self.n_tokens, device=value.device) > at[:, None].to(value.device)
            value = scores.masked_fill(later, -math.inf).softmax(dim=-1)
        return (value[:, None] @ self.base.v[layer][heads])[:, 0]

    def block(
        self, layer: int, x: Float[Tensor, "cell pos d_model"], entries: list["_Entry"], start: int
    ) -> Float[Tensor, "_ wanted d_model"]:
        """One layer for the cells that differ already and for those that begin to differ here."""
        block, base = self.model.transformer.h[layer], self.base
        streams, queries, keys, values = [x], *([part] for part in _qkv(block, x))
        for entry in entries:
            rows = [part[:, :, 0] for part in _qkv(block, entry.x[:, None])]      # q, k, v: cell head d_head
            if entry.part is not None:
                rows = [getattr(base, part)[layer][:, entry.at].transpose(0, 1).clone() for part in PATHS]
                rows[PATHS.index(entry.part)][torch.arange(len(entry.at)), entry.heads] = entry.value
            streams.append(self.replaced(base.resid_pre[layer], entry.at, entry.x, start))
            for kept, part, row in zip((queries, keys, values), PATHS, rows, strict=True):
                every = getattr(base, part)[layer].transpose(0, 1)                # pos head d_head
                kept.append(self.replaced(every, entry.at, row, start).transpose(1, 2))
        x, q, k, v = (torch.cat(parts) for parts in (streams, queries, keys, values))
        k, v = (
            torch.cat([before[layer][:, :start].expand(len(x), -1, -1, -1), after], dim=2)
            for before, after in ((base.k, k), (base.v, v))
        )
        wanted = self.wanted(layer, start)
        return _rest_of_block(block, x[:, wanted], q[:, :, wanted], k, v, self.mask(start)[wanted])

    def wanted(self, layer: int, start: int) -> slice:
        """The columns that anybody reads after this layer."""
        if self.read is None or layer < self.model.config.n_layer - 1:
            return slice(None)
        return slice(self.read - start, self.read - start + 1)

    def mask(self, start: int) -> Bool[Tensor, "query key"]:
        """Which keys the queries from `start` on may attend to."""
        n, device = self.n_tokens, self.base.last.device
        return torch.ones(n, n, dtype=torch.bool, device=device).tril()[start:]

    def replaced(
        self, every: Float[Tensor, "pos *_"], at: Int[Tensor, "cell"], rows: Float[Tensor, "cell *_"], start: int
    ) -> Float[Tensor, "cell _ *_"]:
        """The corrupted values from `start` on, once for each cell, with the cell's own row at its position.

        After the last layer only the wanted columns are made.
        """
        copies = every[start:].expand(len(at), *([-1] * every.ndim)).clone()
        copies[torch.arange(len(at)), at - start] = rows
        return copies[:, self.wanted(self.model.config.n_layer, start)] if every is self.base.last else copies

    def metric_of(self, x: Float[Tensor, "cell pos d_model"], start: int) -> Float[Tensor, "cell"]:
        """The metric of each cell from its residual stream after the last layer."""
        logits = F.linear(_norm(self.model.transformer.ln_f, x), self.model.lm_head.weight)
        if isinstance(self.metric, AtPosition):
            return self.metric.function(logits[:, 0])
        return self.metric(torch.cat([self.base.logits[:start].expand(len(x), -1, -1), logits], dim=1))

    def paths(
        self, senders: list[tuple[int, int]], receivers: list[tuple[int, int, str]], positions: Sequence[int]
    ) -> Float[Tensor, "sender"]:
        """The metric for each sender; without receivers, of the direct path to the end."""
        layers = torch.tensor([layer for layer, _ in senders]).to(self.base.last.device)
        writes = torch.stack([self.write(layer, head, positions) for layer, head in senders])
        if not receivers:
            return self.metric_of((self.base.last + writes)[:, self.wanted(self.model.config.n_layer, 0)], 0)
        first = min(layer for layer, _, _ in receivers)
        x = self.base.resid_pre[first].expand_as(writes)
        for layer in range(first, self.model.config.n_layer):
            block = self.model.transformer.h[layer]
            parts = dict(zip(PATHS, _qkv(block, x), strict=True))
            here = [(head, part) for at, head, part in receivers if at == layer]
            if here:
                reached = self.base.resid_pre[layer] + writes * (layers < layer)[:, None, None]
                direct = dict(zip(PATHS, _qkv(block, reached), strict=True))
                for head, part in here:
                    parts[part][:, head] = direct[part][:, head]
            wanted = self.wanted(layer, 0)
            q = parts["q"][:, :, wanted]
            x = _rest_of_block(block, x[:, wanted], q, parts["k"], parts["v"], self.mask(0)[wanted])
        return self.metric_of(x, 0)

    def write(self, layer: int, head: int, positions: Sequence[int]) -> Float[Tensor, "pos d_model"]:
        """By how much a head's write to the residual stream changes when its output is the clean one."""
        change = self.values["z", layer][head] - self.base.z[layer][head]         # pos d_head
        chosen = torch.zeros(self.n_tokens, 1).to(change)
        chosen[list(positions)] = 1
        width = change.shape[1]
        columns = self.model.transformer.h[layer].attn.c_proj.weight[:, head * width : (head + 1) * width]
        return (change * chosen) @ columns.T


class _Entry(NamedTuple):
    """Cells that begin, at one layer, to differ at more than one position."""

    cells: list[int]
    at: Tensor
    """The position of each."""
    x: Tensor
    """The residual stream of each at its position, `[cell d_model]`."""
    part: str | None = None
    """"k" or "v" if that is what is patched here,"""
    heads: Tensor | None = None
    """of these heads,"""
    value: Tensor | None = None
    """with this value, `[cell d_head]`."""


class _Base:
    """The corrupted pass, one tensor per layer: streams `[pos d_model]`, heads `[head pos d_head]`."""

    def __init__(self, trace: Trace, n_layer: int):
        for name in ("resid_pre", "q", "k", "v", "z", "resid_mid"):
            setattr(self, name, [trace[name, layer] for layer in range(n_layer)])
        self.last = trace["resid_post", n_layer - 1]
        self.logits = trace["logits"]

    resid_pre: list[Tensor]
    q: list[Tensor]
    k: list[Tensor]
    v: list[Tensor]
    z: list[Tensor]
    resid_mid: list[Tensor]


# --- the arithmetic of a block ---------------------------------------------------------------------------------------


def _norm(norm: LayerNorm, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    return F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps)


def _qkv(block: Block, x: Float[Tensor, "cell pos d_model"]) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of all heads, each `[cell head pos d_head]`."""
    attention = block.attn
    qkv = F.linear(_norm(block.ln_1, x), attention.c_attn.weight, attention.c_attn.bias)
    return qkv.unflatten(-1, (3, attention.n_head, attention.d_head)).permute(2, 0, 3, 1, 4).unbind()


def _rest_of_block(
    block: Block,
    x: Float[Tensor, "cell query d_model"],
    q: Float[Tensor, "cell head query d_head"],
    k: Float[Tensor, "cell head key d_head"],
    v: Float[Tensor, "cell head key d_head"],
    mask: Bool[Tensor, "query key"],
) -> Float[Tensor, "cell query d_model"]:
    z = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    z = z.transpose(1, 2).flatten(2)                                              # cell query (head d_head)
    x = x + F.linear(z, block.attn.c_proj.weight, block.attn.c_proj.bias)
    return x + _mlp(block, x)


def _mlp(block: Block, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    mlp = block.mlp
    hidden = F.linear(_norm(block.ln_2, x), mlp.c_fc.weight, mlp.c_fc.bias)
    return F.linear(F.gelu(hidden, approximate=mlp.approximate), mlp.c_proj.weight, mlp.c_proj.bias)
