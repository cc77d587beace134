"""The next token's logits, keeping what the tokens before it have in common.

The keys and values of a position depend on nothing later, so they are computed once and kept: a step then reads
one token instead of all of them. That holds until the text outgrows `block_size`. From there on the model reads a
window of the last `block_size` tokens, as nanoGPT does; every token in it moves by one position at each step, so
that nothing can be kept.

The cached step is the model's forward pass written a second time, over its weights instead of its modules: with
one token per step, calling the modules costs more than the arithmetic. So that nobody is passed over in silence,
it is used only while every module is one of gptviz's own and nothing is attached to any. Otherwise they run.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from gptviz.capture import undisturbed
from gptviz.model import GPT, MLP, Block, CausalSelfAttention, HookPoint, LayerNorm

Affine = tuple[Tensor, Tensor | None]
"""Weight and bias: of a LayerNorm [width], of a Linear the matrix [in out] as `torch.addmm` takes it."""

OWN_MODULES = {GPT, Block, CausalSelfAttention, MLP, LayerNorm, HookPoint}
OWN_MODULES |= {nn.Linear, nn.Embedding, nn.Dropout, nn.ModuleDict, nn.ModuleList}
"""The modules that the cached step stands for. A subclass, or what replaced one, may compute something else."""

WORTH_TRANSPOSING = 64
"""Number of steps that repay a copy of all matrices in the layout that a product with a single row reads fastest."""


class Decoder:
    """Rows of tokens that grow by a column at each step, and the keys and values of the columns already read.

    Rows are padded on the left, so that all end in the same column and a step writes one column of the cache for
    the whole batch. A padded column has no position and is masked out of its row's attention.

    Args:
        model: The model, which is left as it is between steps.
        rows: The prompts, `[pos]` each, at most `block_size` long.
        n_new: Largest number of steps.
    """

    def __init__(self, model: GPT, rows: list[Int[Tensor, "_"]], n_new: int):
        config, weight = model.config, model.lm_head.weight
        lengths = [len(row) for row in rows]
        self.model, self.config, self.n_columns = model, config, max(lengths)
        self.tokens = torch.zeros(len(rows), self.n_columns + n_new, dtype=torch.int64, device=weight.device)
        for row, ids in enumerate(rows):
            self.tokens[row, self.n_columns - len(ids) : self.n_columns] = ids
        padding = torch.tensor([self.n_columns - length for length in lengths], device=weight.device)
        self.padding = padding[:, None] if min(lengths) < self.n_columns else None      # b 1
        modules = list(model.modules())
        self.own = all(type(module) in OWN_MODULES for module in modules)
        self.hooks = [hooks for m in modules for hooks in (m._forward_hooks, m._forward_pre_hooks)]
        transposed = n_new >= WORTH_TRANSPOSING and weight.device.type == "cpu"
        self.weights = _Weights.of(model, transposed)
        shape = (config.n_layer, 2, len(rows), config.n_head, config.block_size, config.d_head)
        self.cache = torch.empty(shape, dtype=weight.dtype, device=weight.device).unbind()
        self.n_cached = 0

    def step(self, choose: Callable[[Tensor], Tensor]) -> list[int]:
        """Give `choose` the logits [batch d_vocab], append the tokens [batch] that it returns, and return them."""
        heard = any(self.hooks) or any(point.listeners for point in self.model.hook_points.values())
        if heard or not self.own:
            with torch.inference_mode(False), undisturbed(self.model, grad=False):
                tokens = choose(self.logits_of_modules())
        else:
            with torch.inference_mode():
                tokens = choose(self.logits())
        self.tokens[:, self.n_columns] = tokens
        self.n_columns += 1
        return tokens.tolist()

    def logits_of_modules(self) -> Float[Tensor, "batch d_vocab"]:
        """The next token's logits by a whole forward pass. Padding moves right, where it shifts no position."""
        start = max(0, self.n_columns - self.config.block_size)
        window = self.tokens[:, start : self.n_columns]
        last = torch.full((len(window),), window.shape[1] - 1, device=window.device)
        if self.padding is not None:
            padding = (self.padding - start).clamp(min=0)
            columns = torch.arange(window.shape[1], device=window.device) + padding
            window = window.gather(1, columns.clamp(max=window.shape[1] - 1))
            last = last - padding[:, 0]
        logits, _ = self.model(window, window)  # nanoGPT gives all positions their logits only with targets
        self.n_cached = 0
        return logits[torch.arange(len(window)), last]

    def logits(self) -> Float[Tensor, "batch d_vocab"]:
        """The next token's logits from the columns that are new, or from the whole window once it moves."""
        start = max(0, self.n_columns - self.config.block_size)
        n_cached = 0 if start else self.n_cached
        padding = None if self.padding is None else (self.padding - start).clamp(min=0)
        logits = self.read(self.tokens[:, start + n_cached : self.n_columns], n_cached, padding)
        self.n_cached = 0 if start else self.n_columns
        return logits

    def read(
        self, idx: Int[Tensor, "batch new"], start: int, padding: Int[Tensor, "batch 1"] | None
    ) -> Float[Tensor, "batch d_vocab"]:
        """The logits after these tokens, whose keys and values go into the cache from column `start` on."""
        transformer: Any = self.model.transformer
        (batch, n_new), width = idx.shape, self.config.n_embd
        end = start + n_new
        pos_embed, mask = transformer.wpe.weight[start:end], None
        if padding is not None:
            columns = torch.arange(end, device=idx.device)
            pos_embed = transformer.wpe.weight[(columns[start:] - padding).clamp(min=0)]
            mask = attendable(columns, start, padding)                                  # b 1 new end
        x = (F.embedding(idx, transformer.wte.weight) + pos_embed).view(-1, width)      # (b new) c
        for weights, cached in zip(self.weights.blocks, self.cache, strict=True):
            qkv = _affine(_norm(x, weights.ln_1), weights.c_attn)
            qkv = qkv.view(batch, n_new, 3, self.config.n_head, -1).permute(2, 0, 3, 1, 4)  # qkv b h new d
            cached.narrow(3, start, n_new).copy_(qkv[1:])
            q, (k, v) = qkv[0], cached.narrow(3, 0, end).unbind()
            if n_new > 1 and cached is self.cache[-1]:  # nobody reads the last block's other positions
                q, x = q[:, :, -1:], x.view(batch, n_new, width)[:, -1]
                mask = mask if mask is None else mask[:, :, -1:]
            z = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None and q.shape[2] > 1)
            x = x + _affine(z.transpose(1, 2).reshape(-1, width), weights.attn_c_proj)
            hidden = _affine(_norm(x, weights.ln_2), weights.c_fc)
            x = x + _affine(F.gelu(hidden, approximate=self.weights.approximate), weights.mlp_c_proj)
        return _norm(x, self.weights.ln_f) @ self.weights.lm_head


def attendable(
    columns: Int[Tensor, "key"], start: int, padding: Int[Tensor, "batch 1"]
) -> Bool[Tensor, "batch 1 query key"]:
    """Where a column from `start` on may attend: to columns that are no padding and not later than itself.

    Padding attends to itself: nobody reads what comes out, but the softmax of an empty row would be NaN.

    Example:
        >>> attendable(torch.arange(3), 1, torch.tensor([[1]])).int()[0, 0]  # the first of three columns is padding
        tensor([[0, 1, 0],
                [0, 1, 1]], dtype=torch.int32)
    """
    queries = columns[start:, None]
    real = (columns >= padding)[:, None]
    return (real & (columns <= queries) | (columns == queries))[:, None]


class _BlockWeights(NamedTuple):
    ln_1: Affine
    c_attn: Affine
    attn_c_proj: Affine
    ln_2: Affine
    c_fc: Affine
    mlp_c_proj: Affine


class _Weights(NamedTuple):
    """A model's parameters by reference; transposed: its matrices as copies in the other layout."""

    blocks: list[_BlockWeights]
    ln_f: Affine
    lm_head: Tensor
    approximate: str

    @classmethod
    def of(cls, model: GPT, transposed: bool) -> "_Weights":
        def norm(layer: LayerNorm) -> Affine:
            return layer.weight, layer.bias

        def linear(layer: nn.Linear) -> Affine:
            matrix = layer.weight.detach().t()
            return matrix.contiguous() if transposed else matrix, layer.bias

        transformer: Any = model.transformer
        blocks = [
            _BlockWeights(
                *(norm(block.ln_1), linear(block.attn.c_attn), linear(block.attn.c_proj)),
                *(norm(block.ln_2), linear(block.mlp.c_fc), linear(block.mlp.c_proj)),
            )
            for block in transformer.h
        ]
        approximate = transformer.h[0].mlp.approximate
        return cls(blocks, norm(transformer.ln_f), linear(model.lm_head)[0], approximate)


def _affine(x: Tensor, weights: Affine) -> Tensor:
    matrix, bias = weights
    return x @ matrix if bias is None else torch.addmm(bias, x, matrix)


def _norm(x: Tensor, weights: Affine) -> Tensor:
    return torch.layer_norm(x, x.shape[-1:], *weights, LayerNorm.eps)
