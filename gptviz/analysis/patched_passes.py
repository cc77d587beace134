"""Forward passes that begin at an edit: batches of cells between two texts, and what they share left as it is.

An edit at layer l and position p reaches no earlier layer and, in a causal model, no earlier position. Within its own
layer most edits change position p alone. So a cell enters its batch late:

    unedited pass (kept)          layer l: one row per cell        layers after l: positions p.. only, all cells at once
                                                                   last layer: only positions that the metric reads

The arithmetic of a block is written here a second time, on weights, because the model runs whole texts only. A test
compares every cell with a forward pass under `intervene`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from gptviz.arguments import whole_number
from gptviz.capture import plain_unembed
from gptviz.model import GPT, Block, LayerNorm
from gptviz.naming import AXES, index_within
from gptviz.prompts import token_rows
from gptviz.trace import Trace, record

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

    def __post_init__(self) -> None:
        _check_metric(self.function)
        whole_number(self.position, "position", least=-(2**31))

    def __call__(self, logits: Float[Tensor, "batch pos d_vocab"]) -> Float[Tensor, "batch"]:
        return self.function(logits[:, self.position])


@dataclass(frozen=True)
class Cell:
    """One patched value."""

    name: str
    layer: int
    head: int
    """0 for names without heads."""
    position: int
    index: tuple[int, ...]
    """Its place in the result."""


class Pair:
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
        spoiled = [name for name, weight in model.named_parameters() if not bool(weight.isfinite().all())]
        if spoiled:  # torch's fused attention gives 0 for a query that is NaN, so that finite numbers would come out
            raise ValueError(
                f"A sweep needs a model whose weights are finite, but {', '.join(spoiled[:3])} holds NaN or infinity. "
                "Load an earlier checkpoint."
            )
        self.clean_ids, self.corrupted_ids = (_one_text(ids, model) for ids in (clean_ids, corrupted_ids))
        if len(self.clean_ids) != len(self.corrupted_ids):
            raise ValueError(
                "Both texts must have the same number of tokens, so that positions match, but have "
                f"{len(self.clean_ids)} and {len(self.corrupted_ids)}."
            )
        _check_metric(metric)
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
        return float(_per_text(self.metric(logits), 1).item())

    def is_read(self, position: int) -> bool:
        """Whether the metric can depend on an edit at this position."""
        return self.read is None or position <= self.read

    def bytes_per_cell(self, start: int) -> int:
        """About how much memory one more cell takes at the widest place: the MLP's, or the logits."""
        config, n = self.model.config, self.n_tokens - start
        block = 16 * n * config.n_embd + 2 * self.n_tokens * config.n_embd
        logits = config.vocab_size * (2 * self.n_tokens if self.read is None else 1)
        return self.model.lm_head.weight.element_size() * max(block, logits)

    def chunks(self, cells: list[Cell], max_bytes: int) -> Iterable[list[Cell]]:
        """Cells of neighbouring positions, as many as the memory allows, so that they share a long beginning."""
        whole_number(max_bytes, "max_bytes", least=1)
        first = 0
        while first < len(cells):
            size = max(1, max_bytes // self.bytes_per_cell(cells[first].position))
            yield cells[first : first + size]
            first += size

    def metrics_of(self, cells: list[Cell]) -> Float[Tensor, "cell"]:
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

    def entries(self, cells: list[Cell]) -> dict[int, list["_Entry"]]:
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
        logits = plain_unembed(self.model, x)
        if isinstance(self.metric, AtPosition):
            return _per_text(self.metric.function(logits[:, 0]), len(x))
        logits = torch.cat([self.base.logits[:start].expand(len(x), -1, -1), logits], dim=1)
        return _per_text(self.metric(logits), len(x))

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
            parts: dict[str, Tensor] = dict(zip(PATHS, _qkv(block, x), strict=True))
            here = [(head, part) for at, head, part in receivers if at == layer]
            if here:
                reached = self.base.resid_pre[layer] + writes * (layers < layer)[:, None, None]
                direct: dict[str, Tensor] = dict(zip(PATHS, _qkv(block, reached), strict=True))
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


def _check_metric(metric: object) -> None:
    if not callable(metric):
        raise TypeError(
            "A metric must be a function from logits to one number per text, such as logit_difference(3, 5), not "
            f"{metric!r}."
        )


def _per_text(value: object, n_texts: int) -> Float[Tensor, "text"]:
    if not isinstance(value, Tensor) or tuple(value.shape) != (n_texts,):
        given = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        texts = "one text" if n_texts == 1 else f"{n_texts} texts"
        raise ValueError(f"A metric must give one number per text, [batch], but for {texts} gave {given}.")
    return value if value.is_floating_point() else value.float()  # it may count


def _one_text(ids: Any, model: GPT) -> Int[Tensor, "pos"]:
    rows, single, _ = token_rows(ids, None, model.config)
    if not single:
        raise ValueError(f"Each of the two texts must be a list of token ids, but one is a list of {len(rows)} texts.")
    return rows[0]


# --- the arithmetic of a block ---------------------------------------------------------------------------------------


def _norm(norm: LayerNorm, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    return F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps)


def _qkv(block: Block, x: Float[Tensor, "cell pos d_model"]) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of all heads, each `[cell head pos d_head]`."""
    attention = block.attn
    qkv = F.linear(_norm(block.ln_1, x), attention.c_attn.weight, attention.c_attn.bias)
    q, k, v = qkv.unflatten(-1, (3, attention.n_head, attention.d_head)).permute(2, 0, 3, 1, 4).unbind()
    return q, k, v


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
