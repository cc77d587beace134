"""The plain forward pass against nanoGPT's, written out below over the same weights: what the hook points cost.

    python -m benchmarks forward          or: python -m benchmarks.forward tiny small gpt2

Target: at most 1.03 of nanoGPT's time.
"""

import sys

import torch
from torch.nn import functional as F

from benchmarks.interleaved import compare, conditions
from benchmarks.sizes import model_of, text_of
from gptviz.model import GPT

CASES = [("tiny", 128, 101, 5), ("small", 256, 31, 1), ("gpt2", 256, 11, 1)]  # size, tokens, rounds, calls


class NanoGPT(torch.nn.Module):
    """Karpathy's model: modules and operations in his order, on another model's parameters."""

    class Block(torch.nn.Module):
        def __init__(self, block, n_head: int):
            super().__init__()
            self.n_head = n_head
            self.ln_1, self.ln_2 = NanoGPT.LayerNorm(block.ln_1), NanoGPT.LayerNorm(block.ln_2)
            self.attn = NanoGPT.Attention(block.attn, n_head)
            self.mlp = NanoGPT.MLP(block.mlp)

        def forward(self, x):
            x = x + self.attn(self.ln_1(x))
            return x + self.mlp(self.ln_2(x))

    class LayerNorm(torch.nn.Module):
        def __init__(self, norm):
            super().__init__()
            self.weight, self.bias = norm.weight, norm.bias

        def forward(self, x):
            return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)

    class Attention(torch.nn.Module):
        def __init__(self, attention, n_head: int):
            super().__init__()
            self.c_attn, self.c_proj, self.n_head = attention.c_attn, attention.c_proj, n_head
            self.resid_dropout = torch.nn.Dropout(0.0)

        def forward(self, x):
            batch, n_tokens, width = x.size()
            q, k, v = self.c_attn(x).split(width, dim=2)
            k = k.view(batch, n_tokens, self.n_head, width // self.n_head).transpose(1, 2)
            q = q.view(batch, n_tokens, self.n_head, width // self.n_head).transpose(1, 2)
            v = v.view(batch, n_tokens, self.n_head, width // self.n_head).transpose(1, 2)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=None, dropout_p=0, is_causal=True)
            y = y.transpose(1, 2).contiguous().view(batch, n_tokens, width)
            return self.resid_dropout(self.c_proj(y))

    class MLP(torch.nn.Module):
        def __init__(self, mlp):
            super().__init__()
            self.c_fc, self.c_proj = mlp.c_fc, mlp.c_proj
            self.gelu, self.dropout = torch.nn.GELU(), torch.nn.Dropout(0.0)

        def forward(self, x):
            return self.dropout(self.c_proj(self.gelu(self.c_fc(x))))

    def __init__(self, model: GPT):
        super().__init__()
        parts = model.transformer
        self.wte, self.wpe, self.drop, self.lm_head = parts.wte, parts.wpe, torch.nn.Dropout(0.0), model.lm_head
        self.h = torch.nn.ModuleList([self.Block(block, model.config.n_head) for block in parts.h])
        self.ln_f = self.LayerNorm(parts.ln_f)

    def forward(self, idx):
        pos = torch.arange(0, idx.size(1), dtype=torch.long)
        x = self.drop(self.wte(idx) + self.wpe(pos))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x[:, [-1], :]))


@torch.no_grad()
def main(sizes: list[str]) -> None:
    conditions()
    for size, n_tokens, rounds, calls in CASES:
        if sizes and size not in sizes:
            continue
        model = model_of(size)
        nano, idx = NanoGPT(model).eval(), text_of(model, n_tokens)
        torch.testing.assert_close(model(idx)[0], nano(idx))
        contestants = {"nanoGPT": lambda nano=nano, idx=idx: nano(idx), "gptviz": lambda m=model, idx=idx: m(idx)}
        compare(f"forward, {size}, T={n_tokens}", contestants, rounds, calls)


if __name__ == "__main__":
    main(sys.argv[1:])
