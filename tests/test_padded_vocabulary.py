"""A model whose vocabulary is larger than its tokenizer's, as nanoGPT pads it: such a token may be the likeliest."""

import numpy as np
import pytest
import torch

from gptviz.cli import summarise
from gptviz.dashboards import explore, snapshot_views, step_through, watch
from gptviz.model import GPT, GPTConfig
from gptviz.tokenizers import CharTokenizer
from gptviz.trace import record
from gptviz.training import Recorder

TEXT = "the cat"


@pytest.fixture(scope="module")
def tokenizer():
    return CharTokenizer(TEXT)


@pytest.fixture(scope="module")
def model(tokenizer):
    """A model that expects the last, unnamed token everywhere."""
    torch.manual_seed(0)
    config = GPTConfig(block_size=8, vocab_size=tokenizer.vocab_size + 2, n_layer=1, n_head=1, n_embd=4)
    model = GPT(config).eval()
    with torch.no_grad():
        model.transformer.ln_f.bias.fill_(1.0)
        model.lm_head.weight[-1] = 9.0
    return model


def test_it_is_named_by_its_number_wherever_it_is_shown(model, tokenizer):
    trace, unnamed = record(model, TEXT, tokenizer), f"[{tokenizer.vocab_size + 1}]"
    assert int(trace["logits"][-1].argmax()) == tokenizer.vocab_size + 1
    assert unnamed in summarise(trace, tokenizer)
    texts = [view for view in explore(trace, model, tokenizer).views if view.kind == "tokens"]
    assert unnamed in texts[0].labels["word"]
    stepped = step_through(trace, model, tokenizer).views[0].content["switches"]["results"]
    assert unnamed in [one["word"] for one in stepped[0]["true_next"]]


def test_a_recorded_run_names_it_too(model, tokenizer, tmp_path):
    with Recorder(model, tokenizer, [TEXT], tmp_path / "run") as recorder:
        recorder.step(0, loss=1.0)
        recorder.step(1, loss=1.0)
    _, text = snapshot_views(recorder.run, 1, 0)
    first = np.array(text.labels["word"])[text.arrays["top_words"][:, 0]]
    assert set(first) == {f"[{tokenizer.vocab_size + 1}]"}
    assert watch(recorder.run).step == 1
