"""A small GPT with weights so large that a mistake shows, and what its components write, by full matrices."""

import numpy as np
import torch

from gptviz.model import GPT, GPTConfig

IDS = [3, 1, 4, 1, 5, 9, 2, 6]
VARIANTS = [
    dict(bias=bias, tie_weights=tied, activation=activation)
    for bias in (True, False)
    for tied in (True, False)
    for activation in ("gelu", "gelu_tanh")
]


def make_model(seed=0, **changes):
    torch.manual_seed(seed)
    model = GPT(GPTConfig(**dict(block_size=12, vocab_size=11, n_layer=3, n_head=2, n_embd=8) | changes))
    with torch.no_grad():  # large enough that a mistake would show
        for parameter in model.parameters():
            parameter.mul_(8).add_(0.3 * torch.randn_like(parameter))
    return model


def weights_of(module):
    return module.weight.detach().double().numpy()


def reference_writes(trace, model):
    """Every write by full matrices: heads from their patterns and values, not from z."""
    writes = {"embed": weights_of(model.transformer.wte)[trace.ids]}
    writes["pos_embed"] = weights_of(model.transformer.wpe)[: len(trace)]
    d_head = model.config.d_head
    for layer, block in enumerate(model.transformer.h):
        pattern, v = trace["pattern", layer].double().numpy(), trace["v", layer].double().numpy()
        for head in range(model.config.n_head):
            output = weights_of(block.attn.c_proj)[:, head * d_head : (head + 1) * d_head]
            writes[f"L{layer}H{head}"] = pattern[head] @ v[head] @ output.T
        if model.config.bias:
            writes[f"L{layer} attn_bias"] = np.tile(
                block.attn.c_proj.bias.detach().double().numpy(), (len(trace), 1)
            )
        with torch.no_grad():
            writes[f"L{layer} mlp_out"] = block.mlp(trace["ln_2", layer][None])[0].double().numpy()
    return writes
