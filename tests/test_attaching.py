"""Recording other people's loops: nanoGPT's model, Hugging Face's, and folders of checkpoints."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gptviz.checkpoints import save_huggingface, save_nanogpt
from gptviz.model import GPT, GPTConfig
from gptviz.tokenizers import CharTokenizer
from gptviz.training import Recorder
from gptviz.training.twin import Twin

TOKENIZER = CharTokenizer.from_characters("abcdefgh")
CONFIG = GPTConfig(24, 8, 2, 2, 16, bias=False)


class NanoBlock(nn.Module):
    """nanoGPT's block, written from its paper form: the names of its weights, and nothing of gptviz."""

    def __init__(self, c, gelu):
        super().__init__()
        self.ln_1, self.ln_2 = (nn.LayerNorm(c.n_embd, bias=False) for _ in range(2))
        self.attn = nn.ModuleDict(dict(c_attn=nn.Linear(c.n_embd, 3 * c.n_embd, bias=False),
                                       c_proj=nn.Linear(c.n_embd, c.n_embd, bias=False)))
        self.mlp = nn.ModuleDict(dict(c_fc=nn.Linear(c.n_embd, 4 * c.n_embd, bias=False),
                                      c_proj=nn.Linear(4 * c.n_embd, c.n_embd, bias=False)))
        self.n_head, self.gelu, self.drop = c.n_head, gelu, nn.Dropout(0.1)

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (self.n_head, -1)).transpose(1, 2)
                   for part in self.attn["c_attn"](self.ln_1(x)).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2)
        x = x + self.drop(self.attn["c_proj"](y))
        return x + self.mlp["c_proj"](self.gelu(self.mlp["c_fc"](self.ln_2(x))))


class NanoGPT(nn.Module):
    """Its GPT: `model(idx)` gives the logits of the last position only."""

    def __init__(self, gelu=F.gelu):
        super().__init__()
        c = self.config = SimpleNamespace(block_size=24, vocab_size=8, n_layer=2, n_head=2, n_embd=16, dropout=0.1)
        self.transformer = nn.ModuleDict(dict(
            wte=nn.Embedding(8, 16), wpe=nn.Embedding(24, 16),
            h=nn.ModuleList(NanoBlock(c, gelu) for _ in range(2)), ln_f=nn.LayerNorm(16, bias=False)))
        self.lm_head = nn.Linear(16, 8, bias=False)
        self.transformer.wte.weight = self.lm_head.weight

    def forward(self, idx, targets=None):
        x = self.transformer.wte(idx) + self.transformer.wpe(torch.arange(idx.shape[1]))
        for block in self.transformer.h:
            x = block(x)
        x = self.transformer.ln_f(x)
        if targets is None:
            return self.lm_head(x[:, [-1]]), None
        logits = self.lm_head(x)
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def steps_of(model, n, recorder=None):
    """Losses of n steps on a text that counts up; the recorder sees the model before each update."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rng, losses = np.random.default_rng(0), []
    for step in range(n):
        idx = torch.from_numpy((rng.integers(0, 8, (4, 1)) + np.arange(13)) % 8)
        _, loss = model(idx[:, :-1], idx[:, 1:])
        if recorder:
            recorder.step(step, loss=loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_nanogpts_loop_is_recorded_and_unchanged(run_dir):
    torch.manual_seed(1)
    expected = steps_of(NanoGPT(), 6)
    torch.manual_seed(1)
    model = NanoGPT()
    with Recorder(model, TOKENIZER, ["abcdefgh"], run_dir, steps=range(6)) as recorder:
        assert steps_of(model, 5, recorder) == expected[:5]
        recorder.step(5)
    ours, _ = recorder.run.load(5)
    idx = torch.tensor([[0, 1, 2, 3, 4]])
    torch.testing.assert_close(ours(idx)[0][:, -1], model.eval()(idx)[0][:, -1])
    assert recorder.run.config.activation == "gelu"
    assert recorder.run.steps == list(range(6))


def test_the_activation_is_found_by_what_the_model_computes():
    model = NanoGPT(gelu=lambda x: F.gelu(x, approximate="tanh"))
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.5)
    assert Twin(model, [0, 1, 2]).gpt.config.activation == "gelu_tanh"


def test_a_twin_leaves_modes_and_random_state():
    model = NanoGPT()
    model.transformer.h[0].eval()
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    Twin(model, [0, 1])
    assert torch.equal(torch.rand(2), expected)
    assert not model.transformer.h[0].training
    assert model.transformer.h[1].training


def test_another_architecture_is_refused(run_dir):
    model = NanoGPT(gelu=torch.relu)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.5)
    with pytest.raises(ValueError, match=r"must compute what a GPT of its weights computes; .* differ by \d"):
        Recorder(model, TOKENIZER, [], run_dir)
    with pytest.raises(TypeError, match="nanoGPT's or transformers' GPT2LMHeadModel"):
        Recorder(nn.Linear(2, 2), TOKENIZER, [], run_dir)
    model = NanoGPT()
    model.transformer.h[1].mlp["c_fc"] = nn.Linear(16, 32, bias=False)
    with pytest.raises(TypeError, match=r"h\.1\.mlp\.c_fc\.weight with shape \(32, 16\), not \(64, 16\)"):
        Twin(model, [0, 1])
    assert not run_dir.exists()


def test_nan_in_another_model_is_found(run_dir):
    model = NanoGPT()
    with Recorder(model, TOKENIZER, ["abc"], run_dir) as recorder:
        recorder.step(0, loss=2.0)
        model.transformer.h[1].attn["c_proj"].weight.data[0, 0] = math.nan
        recorder.step(1, loss=math.nan)
    (event,) = recorder.run.events
    assert event["first"] == "transformer.h.1.attn.c_proj.weight"


def test_hugging_faces_gpt2_is_recorded(run_dir):
    transformers = pytest.importorskip("transformers", reason="the comparison needs transformers")
    config = transformers.GPT2Config(vocab_size=8, n_positions=24, n_embd=16, n_layer=2, n_head=2)
    model = transformers.GPT2LMHeadModel(config)
    with Recorder(model, TOKENIZER, ["abcdefgh"], run_dir) as recorder:
        recorder.step(0)
    ours, _ = recorder.run.load(0)
    idx = torch.tensor([[0, 1, 2, 3, 4]])
    torch.testing.assert_close(ours(idx, idx)[0], model.eval()(idx).logits, rtol=1e-4, atol=1e-5)
    assert ours.config.activation == "gelu_tanh"


# --- a folder of checkpoints --------------------------------------------------------------------------------


def trained(n):
    torch.manual_seed(0)
    model = GPT(CONFIG)
    steps_of(model, n)
    return model


def test_a_folder_of_nanogpts_checkpoints_becomes_a_run(tmp_path):
    folder = tmp_path / "out"
    for step in (0, 8, 16):
        save_nanogpt(trained(step), folder / f"ckpt_{step}.pt")
    run = Recorder.from_checkpoints(folder, probes=["abcdefgh"], out=tmp_path / "run", tokenizer=TOKENIZER)
    assert (run.steps, run.status) == ([0, 8, 16], "finished")
    for step in (0, 8, 16):
        expected = trained(step).state_dict()
        assert all(np.array_equal(value, expected[name]) for name, value in run.weights(step).items())
    assert [one["step"] for one in run.observations] == [0, 8, 16]
    assert run.snapshot(16).loss[1:].mean() < run.snapshot(0).loss[1:].mean()


def test_a_step_may_stand_in_the_file(tmp_path):
    content = {"model": GPT(CONFIG).state_dict(), "iter_num": 750, "best_val_loss": 1.5, "config": {},
               "model_args": dict(n_layer=2, n_head=2, n_embd=16, block_size=24, bias=False, vocab_size=8, dropout=0.0)}
    (tmp_path / "out").mkdir()
    torch.save(content, tmp_path / "out" / "ckpt.pt")
    run = Recorder.from_checkpoints(tmp_path / "out", out=tmp_path / "run")
    assert run.steps == [750]
    assert run.metrics()["best_val_loss"].tolist() == [1.5]


def test_trainers_checkpoints_bring_their_losses(tmp_path):
    import json

    for step in (10, 20):
        folder = tmp_path / "out" / f"checkpoint-{step}"
        save_huggingface(GPT(CONFIG), folder)
        history = [{"step": at, "loss": 3.0 - at / 20} for at in range(5, step + 1, 5)]
        history += [{"step": 20, "eval_loss": 2.5}]
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": history}))
    run = Recorder.from_checkpoints(tmp_path / "out", probes=[[1, 2, 3]], out=tmp_path / "run")
    metrics = run.metrics()
    assert run.steps == [10, 20]
    assert metrics["step"].tolist() == [5, 10, 15, 20]
    assert metrics["loss"].tolist() == [2.75, 2.5, 2.25, 2.0]
    assert metrics["val_loss"][-1] == 2.5


def test_a_folder_that_is_no_run_says_so(tmp_path):
    with pytest.raises(ValueError, match="is none"):
        Recorder.from_checkpoints(tmp_path / "nothing", out=tmp_path / "run")
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(ValueError, match="must hold checkpoints"):
        Recorder.from_checkpoints(folder, out=tmp_path / "run")
    model = GPT(CONFIG)
    save_nanogpt(model, folder / "a_5.pt")
    save_nanogpt(model, folder / "b_5.pt")
    with pytest.raises(ValueError, match=r"a_5\.pt and b_5\.pt are both of step 5"):
        Recorder.from_checkpoints(folder, out=tmp_path / "run")
    (folder / "b_5.pt").unlink()
    save_nanogpt(GPT(GPTConfig(24, 8, 1, 2, 16, bias=False)), folder / "c_6.pt")
    with pytest.raises(ValueError, match="must be one model's"):
        Recorder.from_checkpoints(folder, out=tmp_path / "run")
    (folder / "c_6.pt").rename(folder / "last.safetensors")
    with pytest.raises(ValueError, match=r"step of a checkpoint .*last\.safetensors has neither"):
        Recorder.from_checkpoints(folder, out=tmp_path / "run2")
