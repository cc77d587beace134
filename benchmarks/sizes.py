"""The models that are measured: a teaching model, nanoGPT's character model, and GPT-2."""

import torch

from gptviz.model import GPT, GPTConfig

CONFIGS = {
    "tiny": GPTConfig(block_size=256, vocab_size=256, n_layer=4, n_head=4, n_embd=128),
    "small": GPTConfig(block_size=256, vocab_size=65, n_layer=6, n_head=6, n_embd=384),
    "gpt2": GPTConfig(block_size=1024, vocab_size=50257, n_layer=12, n_head=12, n_embd=768),
}


def model_of(size: str) -> GPT:
    """A model of this size with fixed random weights."""
    torch.manual_seed(0)
    return GPT(CONFIGS[size]).eval()


def text_of(model: GPT, n_tokens: int) -> torch.Tensor:
    """Random ids, [1 pos]."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(model.config.vocab_size, (1, n_tokens), generator=generator)
