"""Greedy generation of 200 tokens after 32, against Hugging Face's `generate` with its cache and the same weights.

    python -m benchmarks generation          or: python -m benchmarks.generation tiny small gpt2

Targets: at most 0.45 of Hugging Face's time (tiny), 0.85 (small), 1.0 (gpt2).
"""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.interleaved import compare, conditions
from benchmarks.sizes import model_of, text_of
from gptviz.generation import generate
from gptviz.model import GPT

CASES = [("tiny", 21), ("small", 11), ("gpt2", 5)]  # size, rounds
CONV1D = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


def hugging_face(model: GPT) -> GPT2LMHeadModel:
    """The same weights in Hugging Face's model, whose linear layers keep their matrices the other way round."""
    config = model.config
    shape = {name: getattr(config, name) for name in ("vocab_size", "n_embd", "n_layer", "n_head")}
    tokens = {"bos_token_id": 0, "eos_token_id": None, "pad_token_id": 0}
    theirs = GPT2Config(n_positions=config.block_size, activation_function="gelu", **shape, **tokens)
    weights = {name: value.t() if name.endswith(CONV1D) else value for name, value in model.state_dict().items()}
    model = GPT2LMHeadModel(theirs)
    model.load_state_dict(weights)
    return model.eval()


def main(sizes: list[str]) -> None:
    conditions()
    for size, rounds in CASES:
        if sizes and size not in sizes:
            continue
        model = model_of(size)
        theirs, prompt = hugging_face(model), text_of(model, 32)
        mask = torch.ones_like(prompt)  # without it Hugging Face hides prompt tokens that equal the pad id

        def hugging(theirs=theirs, prompt=prompt, mask=mask):
            return theirs.generate(prompt, attention_mask=mask, do_sample=False, max_new_tokens=200)[0].tolist()

        def ours(model=model, prompt=prompt):
            return generate(model, prompt[0], 200, temperature=0)

        assert ours() == hugging(), "both must choose the same tokens"
        compare(f"greedy, 200 tokens after 32, {size}", {"Hugging Face": hugging, "gptviz": ours}, rounds)


if __name__ == "__main__":
    main(sys.argv[1:])
