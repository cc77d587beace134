"""Every format: read back what was written, by us and by the programs that own the formats, to the same logits."""

import json
import pickle
import subprocess
import sys
import warnings

import pytest
import torch
import torch.nn as nn
from huggingface_hub import errors
from torch.nn import functional as F

from gptviz.checkpoints import (
    Checkpoint,
    build_model,
    fit_weights,
    huggingface,
    load_weights,
    read_checkpoint,
    read_meta,
    save_checkpoint,
    save_huggingface,
    save_nanogpt,
    save_weights,
)
from gptviz.checkpoints.huggingface import _why_not
from gptviz.loading import load
from gptviz.model import GPT, GPTConfig
from gptviz.tokenizers import BPETokenizer, ByteTokenizer, CharTokenizer

SIZES = {"block_size": 16, "vocab_size": 29, "n_layer": 2, "n_head": 4, "n_embd": 16}
ARGUMENTS = SIZES | {"bias": True, "dropout": 0.0}
VARIANTS = [{}, {"bias": False}, {"activation": "gelu_tanh"}, {"tie_weights": False}]


def make(**variant) -> GPT:
    """A model in eval mode whose weights and biases are all large enough to matter."""
    model = GPT(GPTConfig(**(SIZES | variant))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def logits(model: nn.Module, idx: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(idx, idx)[0]


def same(ours: GPT, theirs: GPT, tolerance: float = 0.0) -> bool:
    idx = torch.randint(theirs.config.vocab_size, (2, theirs.config.block_size))
    return torch.allclose(logits(ours, idx), logits(theirs, idx), rtol=0, atol=tolerance)


def saved(value, folder, name="ckpt.pt"):
    torch.save(value, folder / name)
    return folder / name


def loaded(path, **options) -> GPT:
    return build_model(read_checkpoint(path, **options))


# --- gptviz's own ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("tokenizer", [None, CharTokenizer("hello wörld\n"), ByteTokenizer()], ids=str)
def test_ours_comes_back_bit_for_bit(tmp_path, variant, tokenizer):
    model = make(vocab_size=256, **variant)
    save_checkpoint(model, tmp_path / "model.safetensors", tokenizer)
    checkpoint = read_checkpoint(tmp_path / "model.safetensors")
    assert checkpoint.config == model.config
    assert checkpoint.notes == ()
    assert (checkpoint.tokenizer and checkpoint.tokenizer.to_json()) == (tokenizer and tokenizer.to_json())
    assert all(torch.equal(w, checkpoint.state_dict[name]) for name, w in model.state_dict().items())
    assert same(build_model(checkpoint), model)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_byte_pair_vocabulary_travels_with_the_weights(tmp_path):
    tokenizer = BPETokenizer.train("low lower lowest " * 9, vocab_size=260)
    save_checkpoint(make(vocab_size=tokenizer.vocab_size), tmp_path / "model.safetensors", tokenizer)
    assert read_checkpoint(tmp_path / "model.safetensors").tokenizer.encode("lowest") == tokenizer.encode("lowest")


def test_weights_and_strings_come_back(tmp_path):
    weights = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor([1, 2])}
    save_weights(weights, tmp_path / "new" / "w.safetensors", {"step": "7"})
    back, metadata = load_weights(tmp_path / "new" / "w.safetensors")
    assert metadata == {"step": "7"}
    assert all(torch.equal(back[name], weight) for name, weight in weights.items())


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    save_checkpoint(make(), tmp_path / "model.safetensors")
    before = (tmp_path / "model.safetensors").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(make(), tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_version_to_come_is_refused(tmp_path):
    config = json.dumps(SIZES)
    metadata = {"format": "gptviz", "version": "2", "config": config}
    save_weights({"a": torch.zeros(1)}, tmp_path / "m.safetensors", metadata)
    with pytest.raises(ValueError, match=r"is of version '2'; this gptviz reads '1'. Update gptviz"):
        read_checkpoint(tmp_path / "m.safetensors")


def test_safetensors_of_another_program_are_refused(tmp_path):
    save_weights(dict(make(tie_weights=False).state_dict()), tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="must name its config in its header, as gptviz's own files do, but does not"):
        read_checkpoint(tmp_path / "m.safetensors")


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path):
    save_checkpoint(make(), tmp_path / "m.safetensors", ByteTokenizer())
    with pytest.raises(ValueError, match=r"has 256 tokens, but the model only 29 \(vocab_size\)"):
        read_checkpoint(tmp_path / "m.safetensors")


# --- building --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_building_changes_no_random_numbers_and_no_defaults(tmp_path, variant):
    model = make(**variant)
    save_checkpoint(model, tmp_path / "m.safetensors")
    state = torch.get_rng_state()
    built = loaded(tmp_path / "m.safetensors")
    assert torch.equal(state, torch.get_rng_state())
    assert torch.empty(1).device.type == "cpu"
    assert not built.training
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in built.parameters())
    assert (built.lm_head.weight is built.transformer.wte.weight) == model.config.tie_weights
    assert set(built.hook_points) == set(model.hook_points)
    assert [name for name, _ in built.named_parameters()] == [name for name, _ in model.named_parameters()]


def test_a_built_model_trains_like_the_one_it_came_from(tmp_path):
    model = make()
    save_checkpoint(model, tmp_path / "m.safetensors")
    twins, idx = (model, loaded(tmp_path / "m.safetensors")), torch.randint(29, (2, 16))
    for twin in twins:
        optimizer = torch.optim.AdamW(twin.parameters(), lr=1e-2)
        for _ in range(3):
            optimizer.zero_grad()
            twin(idx, idx)[1].backward()
            optimizer.step()
    assert same(*twins)


def test_fitted_weights_share_no_memory_with_those_given():
    model = make()
    checkpoint = fit_weights(model.config, model.state_dict())
    with torch.no_grad():
        model.transformer.wpe.weight.zero_()
    assert checkpoint.state_dict["transformer.wpe.weight"].any()


def test_a_tied_pair_that_differs_is_refused():
    weights = make(tie_weights=False).state_dict()
    with pytest.raises(ValueError, match=r"'lm_head.weight' and 'transformer.wte.weight' with different values"):
        fit_weights(GPTConfig(**SIZES), weights)


# --- nanoGPT ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."])
def test_nanogpts_checkpoint(tmp_path, bias, prefix):
    model = make(bias=bias)
    optimizer = torch.optim.AdamW(model.parameters())
    idx = torch.randint(29, (2, 16))
    model(idx, idx)[1].backward()
    optimizer.step()
    content = {
        "model": {prefix + name: weight for name, weight in model.state_dict().items()},
        "optimizer": optimizer.state_dict(), "model_args": ARGUMENTS | {"bias": bias}, "iter_num": 2000,
        "best_val_loss": torch.tensor(1.47), "config": {"dataset": "shakespeare_char", "device": "cuda", "lr": 1e-3},
    }  # fmt: skip
    assert same(loaded(saved(content, tmp_path)), model)


def test_a_block_compiled_by_itself(tmp_path):
    model = make()
    weights = {name.replace(".h.1.", ".h.1._orig_mod."): weight for name, weight in model.state_dict().items()}
    assert same(loaded(saved({"model": weights, "model_args": ARGUMENTS}, tmp_path)), model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_types(tmp_path, dtype):
    model = make().to(dtype)
    checkpoint = read_checkpoint(saved({"model": model.state_dict(), "model_args": ARGUMENTS}, tmp_path))
    assert f"stored as {str(dtype).removeprefix('torch.')} and are used as float32" in checkpoint.notes[-1]
    assert same(build_model(checkpoint), model.float())


def test_a_checkpoint_saved_on_cuda(tmp_path):
    """Written here as on a GPU: the place of every storage is cuda:0."""
    model = make()
    path = saved({"model": dict(model.state_dict()), "model_args": ARGUMENTS}, tmp_path)
    rename(path, b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(path, weights_only=True)
    assert same(loaded(path), model)


def rename(path, old: bytes, new: bytes) -> None:
    """Replace bytes in the pickle of a torch.save file."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries:
            archive.writestr(name, data.replace(old, new) if name.endswith("data.pkl") else data)
    assert any(old in data for name, data in entries if name.endswith("data.pkl"))


def test_mask_buffers_are_ignored_and_said_so(tmp_path):
    model = make()
    masks = {f"transformer.h.{i}.attn.bias": torch.ones(16, 16).tril().view(1, 1, 16, 16) for i in range(2)}
    checkpoint = read_checkpoint(saved({"model": model.state_dict() | masks, "model_args": ARGUMENTS}, tmp_path))
    assert checkpoint.notes[0].startswith("Ignored 2 mask buffers (transformer.h.0.attn.bias")
    assert same(build_model(checkpoint), model)


def test_a_fork_that_does_not_tie_its_weights(tmp_path):
    model = make(tie_weights=False)
    checkpoint = read_checkpoint(saved({"model": model.state_dict(), "model_args": ARGUMENTS}, tmp_path))
    assert not checkpoint.config.tie_weights
    assert "differs from transformer.wte.weight" in checkpoint.notes[0]
    assert same(build_model(checkpoint), model)


def test_nanogpts_first_files_have_no_bias_among_their_arguments(tmp_path):
    model = make(bias=False)
    assert same(loaded(saved({"model": model.state_dict(), "model_args": SIZES}, tmp_path)), model)


def test_parameters_instead_of_tensors(tmp_path):
    model = make()
    weights = dict(model.named_parameters()) | {"lm_head.weight": model.lm_head.weight}
    assert same(loaded(saved({"model": weights, "model_args": ARGUMENTS}, tmp_path)), model)


@pytest.mark.parametrize("bias", [True, False])
def test_nanogpt_reads_what_we_write(tmp_path, bias):
    """The steps of nanoGPT's sample.py, with its architecture written out below."""
    model = make(bias=bias)
    save_nanogpt(model, tmp_path / "ckpt.pt")
    assert same(loaded(tmp_path / "ckpt.pt"), model)
    checkpoint = torch.load(tmp_path / "ckpt.pt", map_location="cpu", weights_only=True)
    nanogpt = Plain(**checkpoint["model_args"])
    state_dict = checkpoint["model"]
    for name in list(state_dict):
        if name.startswith("_orig_mod."):
            state_dict[name[len("_orig_mod.") :]] = state_dict.pop(name)
    nanogpt.load_state_dict(state_dict)
    assert not ("config" in checkpoint and "dataset" in checkpoint["config"])
    idx = torch.randint(29, (2, 16))
    torch.testing.assert_close(nanogpt(idx), logits(model, idx), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("variant", "name"), [({"activation": "gelu_tanh"}, "activation"), ({"tie_weights": False}, "tie")]
)
def test_a_model_that_nanogpt_does_not_have_is_not_written(tmp_path, variant, name):
    with pytest.raises(ValueError, match=f"nanoGPT's model has {name}"):
        save_nanogpt(make(**variant), tmp_path / "ckpt.pt")
    assert not list(tmp_path.iterdir())


class Plain(nn.Module):
    """A nanoGPT, or with `masks`, `tanh` and untied weights a minGPT; forward gives all logits."""

    def __init__(
        self, n_layer, n_head, n_embd, block_size, bias, vocab_size, dropout=0.0, tie=True, masks=False, tanh=False
    ):
        super().__init__()
        self.n_head, self.tanh = n_head, tanh

        def linear(n_in, n_out):
            return nn.Linear(n_in, n_out, bias=bias)

        def norm():
            return nn.LayerNorm(n_embd, bias=bias)

        def block():
            attn = nn.ModuleDict({"c_attn": linear(n_embd, 3 * n_embd), "c_proj": linear(n_embd, n_embd)})
            if masks:
                attn.register_buffer("bias", torch.ones(block_size, block_size).tril()[None, None])
            mlp = {"c_fc": linear(n_embd, 4 * n_embd), "c_proj": linear(4 * n_embd, n_embd)}
            return nn.ModuleDict({"ln_1": norm(), "attn": attn, "ln_2": norm(), "mlp": nn.ModuleDict(mlp)})

        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(vocab_size, n_embd),
                "wpe": nn.Embedding(block_size, n_embd),
                "h": nn.ModuleList(block() for _ in range(n_layer)),
                "ln_f": norm(),
            }
        )
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        if tie:
            self.transformer["wte"].weight = self.lm_head.weight

    @torch.no_grad()
    def forward(self, idx):
        x = self.transformer["wte"](idx) + self.transformer["wpe"].weight[: idx.shape[1]]
        for block in self.transformer["h"]:
            qkv = block["attn"]["c_attn"](block["ln_1"](x)).unflatten(-1, (3, self.n_head, -1)).permute(2, 0, 3, 1, 4)
            z = F.scaled_dot_product_attention(*qkv, is_causal=True).transpose(1, 2).flatten(2)
            x = x + block["attn"]["c_proj"](z)
            hidden = F.gelu(block["mlp"]["c_fc"](block["ln_2"](x)), approximate="tanh" if self.tanh else "none")
            x = x + block["mlp"]["c_proj"](hidden)
        return self.lm_head(self.transformer["ln_f"](x))


# --- meta.pkl --------------------------------------------------------------------------------------------------------


def meta(characters: str) -> dict:
    return {
        "vocab_size": len(characters),
        "itos": dict(enumerate(characters)),
        "stoi": {character: i for i, character in enumerate(characters)},
    }


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("characters", ["\n !abc", "zyx", "äß€😀", "".join(map(chr, range(32, 1000)))])
def test_a_meta_of_any_protocol(tmp_path, protocol, characters):
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(meta(characters), protocol=protocol))
    assert read_meta(tmp_path / "meta.pkl").characters == characters


@pytest.mark.parametrize("place", ["out/meta.pkl", "data/shakespeare_char/meta.pkl"])
def test_a_meta_is_found_where_nanogpt_leaves_it(tmp_path, place):
    (tmp_path / "out").mkdir()
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_bytes(pickle.dumps(meta("\n !abc")))
    content = {"model": make().state_dict(), "model_args": ARGUMENTS, "config": {"dataset": "shakespeare_char"}}
    checkpoint = read_checkpoint(saved(content, tmp_path / "out"))
    assert checkpoint.tokenizer.decode([3, 4, 5]) == "abc"
    assert any(place in note for note in checkpoint.notes)


def test_without_a_meta_the_note_says_where_it_was_looked_for(tmp_path):
    checkpoint = read_checkpoint(saved({"model": make().state_dict(), "model_args": ARGUMENTS}, tmp_path))
    assert checkpoint.tokenizer is None
    assert checkpoint.notes == (f"No tokenizer: there is no {tmp_path / 'meta.pkl'}.",)


# --- minGPT ----------------------------------------------------------------------------------------------------------


def mingpt(**changes) -> Plain:
    model = Plain(**(ARGUMENTS | {"tie": False, "masks": True, "tanh": True} | changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5)
    return model.eval()


def test_mingpts_state_dict(tmp_path):
    theirs = mingpt()
    checkpoint = read_checkpoint(saved(theirs.state_dict(), tmp_path, "model.pt"), n_head=4)
    assert checkpoint.config == GPTConfig(**SIZES, activation="gelu_tanh", tie_weights=False)
    assert "read as minGPT's (weights not tied, GELU by tanh), with n_head = 4" in checkpoint.notes[0]
    assert "Ignored 2 mask buffers" in checkpoint.notes[1]
    idx = torch.randint(29, (2, 16))
    torch.testing.assert_close(logits(build_model(checkpoint), idx), theirs(idx), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("settings", [{"n_head": 4}, {"n_head": None, "model_type": "gpt-micro"}])
def test_mingpts_heads_from_the_config_beside_it(tmp_path, settings):
    path = saved(mingpt().state_dict(), tmp_path, "model.pt")
    (tmp_path / "config.json").write_text(json.dumps({"system": {}, "model": settings}))
    checkpoint = read_checkpoint(path)
    assert checkpoint.config.n_head == 4
    assert "n_head = 4 was taken from config.json." in checkpoint.notes


@pytest.mark.parametrize("settings", [None, {}, {"model": {"n_head": None, "model_type": "mine"}}, {"model": 3}])
def test_without_a_number_of_heads_mingpts_is_refused(tmp_path, settings):
    path = saved(mingpt().state_dict(), tmp_path, "model.pt")
    if settings is not None:
        (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"does not say how many attention heads the model has, .* Pass n_head="):
        read_checkpoint(path)


@pytest.mark.parametrize("n_head", [3, 0, -1, True])
def test_a_wrong_number_of_heads(tmp_path, n_head):
    with pytest.raises(ValueError, match="n_head"):
        read_checkpoint(saved(mingpt().state_dict(), tmp_path), n_head=n_head)


@pytest.mark.parametrize("save", [save_nanogpt, save_checkpoint, save_huggingface])
def test_a_number_of_heads_beside_a_file_that_says_another(tmp_path, save):
    save(make(), tmp_path / "model")
    n_head = SIZES["n_head"]
    assert read_checkpoint(tmp_path / "model", n_head=n_head).config.n_head == n_head
    with pytest.raises(ValueError, match="says that the model has 4 attention heads; n_head = 8 was given"):
        read_checkpoint(tmp_path / "model", n_head=8)


def test_nanogpts_state_dict_alone(tmp_path):
    model = make()
    checkpoint = read_checkpoint(saved(model.state_dict(), tmp_path), n_head=4)
    assert "read as nanoGPT's (tied weights, exact GELU), with n_head = 4" in checkpoint.notes[0]
    assert same(build_model(checkpoint), model)


def test_a_state_dict_of_something_else(tmp_path):
    with pytest.raises(ValueError, match=r"must be nanoGPT's ckpt.pt .* or a state dict with 'transformer.wte.weight'"):
        read_checkpoint(saved(nn.Linear(2, 3).state_dict(), tmp_path), n_head=1)


# --- Hugging Face ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def transformers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers", reason="the comparison needs Hugging Face's transformers")


def hugging_face(transformers, **changes):
    """A GPT-2 of theirs with weights and biases that matter."""
    settings = {"vocab_size": 29, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 4, "bos_token_id": None,
                "eos_token_id": None, "activation_function": "gelu_new"}  # fmt: skip
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**(settings | changes))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return model


@pytest.mark.parametrize("activation", ["gelu_new", "gelu", "gelu_pytorch_tanh"])
@pytest.mark.parametrize("tie", [True, False])
def test_what_hugging_face_wrote(tmp_path, transformers, activation, tie):
    theirs = hugging_face(transformers, activation_function=activation, tie_word_embeddings=tie)
    theirs.save_pretrained(tmp_path)
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.config.tie_weights == tie
    assert checkpoint.config.dropout == 0.1
    idx = torch.randint(29, (2, 16))
    with torch.no_grad():
        expected = theirs(idx).logits
    torch.testing.assert_close(logits(build_model(checkpoint), idx), expected, rtol=1e-5, atol=1e-5)


def test_shards_of_hugging_face(tmp_path, transformers):
    theirs = hugging_face(transformers)
    theirs.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    idx = torch.randint(29, (2, 16))
    with torch.no_grad():
        torch.testing.assert_close(logits(loaded(tmp_path), idx), theirs(idx).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("shards", [1, 2])
def test_hugging_faces_bin_as_it_was_before(tmp_path, transformers, prefix, shards):
    """pytorch_model.bin with mask buffers, without `transformer.` and without lm_head, as on the hub since 2019."""
    theirs = hugging_face(transformers)
    theirs.config.to_json_file(tmp_path / "config.json")
    weights = {n.removeprefix("" if prefix else "transformer."): w for n, w in theirs.state_dict().items()}
    del weights["lm_head.weight"]
    for i in range(2):
        key = f"{'transformer.' if prefix else ''}h.{i}.attn"
        weights[f"{key}.bias"] = torch.ones(1, 1, 16, 16, dtype=torch.uint8).tril()
        weights[f"{key}.masked_bias"] = torch.tensor(-1e4)
    if shards == 1:
        torch.save(weights, tmp_path / "pytorch_model.bin")
    else:
        names = list(weights)
        parts = {"a.bin": names[: len(names) // 2], "b.bin": names[len(names) // 2 :]}
        for file, part in parts.items():
            torch.save({name: weights[name] for name in part}, tmp_path / file)
        index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    checkpoint = read_checkpoint(tmp_path)
    assert any("Ignored 4 mask buffers" in note for note in checkpoint.notes)
    idx = torch.randint(29, (2, 16))
    with torch.no_grad():
        torch.testing.assert_close(logits(build_model(checkpoint), idx), theirs(idx).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_hugging_face_reads_what_we_write(tmp_path, transformers, variant):
    model = make(**variant)
    save_huggingface(model, tmp_path / "hf")
    theirs, report = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    idx = torch.randint(29, (2, 16))
    with torch.no_grad():
        torch.testing.assert_close(theirs(idx).logits, logits(model, idx), rtol=1e-5, atol=1e-5)
    assert same(loaded(tmp_path / "hf"), model, tolerance=0.0 if model.config.bias else 1e-6)


def test_three_dropouts_become_none_and_a_note(tmp_path, transformers):
    hugging_face(transformers, attn_pdrop=0.2).save_pretrained(tmp_path)
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.config.dropout == 0.0
    assert any("config.json has three (0.1, 0.2, 0.1)" in note for note in checkpoint.notes)


@pytest.mark.parametrize("owner", ["", "openai-community/"])
def test_a_name_from_hugging_faces_cache(tmp_path, monkeypatch, owner):
    model = make()
    commit = "0123456789abcdef0123456789abcdef01234567"
    cache = tmp_path / f"models--{(owner + 'gpt2').replace('/', '--')}"
    save_huggingface(model, cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert same(loaded("gpt2"), model)


def test_a_name_without_a_network_says_what_works_instead(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    sentence = r"There is no file or folder 'gpt2-xl', .* not in the cache .* cannot be reached. Packaged, .* gv.load"
    with pytest.raises(ValueError, match=sentence) as refusal:
        read_checkpoint("gpt2-xl")
    assert "Error" not in str(refusal.value)


def test_what_is_written_as_a_path_is_looked_for_as_one(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/demo", "runs/other"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "best.pt").touch()
    for name, meant in {
        "runs/demoo": r"'runs/demoo'. Did you mean 'runs/demo'\?",
        "runs/zzz": r"'runs/zzz'. runs holds 'demo', 'other'. Correct the path.",
        "Runs/demo/ckpt.pt": r"Did you mean 'runs'\?",
        "bets.pt": r"'bets.pt'. Did you mean 'best.pt'\?",
        "nope.pt": r"'nope.pt'. The folder you are in holds 'best.pt', 'runs'.",
        "best.pt/weights": r"'best.pt/weights'",
        "./best.pt/a/b": r"best.pt is a file and holds no other",
        "sort": r"'sort'. Did you mean the packaged run 'sorter'\?",
        "runs/Sorter": r"'runs/Sorter'. Did you mean the packaged run 'sorter'\?",
    }.items():
        with pytest.raises(ValueError, match=meant) as refusal:
            read_checkpoint(name)
        assert name.startswith("best.pt") or "Hugging Face" not in str(refusal.value)


def test_a_hub_model_may_be_called_as_a_packaged_run(monkeypatch, tmp_path):
    """A name with an owner is asked for, however near it is."""
    asked = []
    monkeypatch.setattr(huggingface, "_download", lambda name, nowhere: asked.append(name) or tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("me/sorter", "me/sort"):
        assert huggingface.find_huggingface(name) == tmp_path
    assert asked == ["me/sorter", "me/sort"]


@pytest.mark.parametrize(("kind", "said"), [
    (errors.LocalEntryNotFoundError, "the hub cannot be reached"),
    (ConnectionError, "the hub cannot be reached"),
    (errors.RepositoryNotFoundError, "the hub has no model of that name for everybody"),
    (errors.GatedRepoError, "the hub gives it only to those whom its owner admits"),
    (RuntimeError, "the hub did not give it (RuntimeError)"),
])
def test_each_refusal_of_the_hub_is_a_phrase(kind, said):
    """The errors are the library's own; how they are made changes with its version."""
    assert _why_not(kind.__new__(kind)) == said


def test_a_vocabulary_beside_the_weights(tmp_path):
    tokenizer = BPETokenizer.train("low lower lowest newer newest " * 9, vocab_size=270)
    save_huggingface(make(vocab_size=tokenizer.vocab_size + 1), tmp_path)
    write_vocabulary(tokenizer, tmp_path)
    read = read_checkpoint(tmp_path).tokenizer
    assert read.vocab_size == tokenizer.vocab_size + 1  # and <|endoftext|>
    text = "lowest, newest übrigens\n"
    assert read.encode(text) == tokenizer.encode(text)
    assert read.decode([tokenizer.vocab_size]) == "<|endoftext|>"


def write_vocabulary(tokenizer, folder) -> None:
    """vocab.json and merges.txt as Hugging Face writes them; ids 0..255 are the bytes in their order."""
    from gptviz.byte_pairs import BYTE_OF

    spelling = {byte: character for character, byte in BYTE_OF.items()}
    tokens = [tokenizer._tokens[i] for i in range(tokenizer.vocab_size)]
    spelled = ["".join(spelling[byte] for byte in token) for token in tokens]
    ids = {token: i for i, token in enumerate(tokens)}
    pairs = []
    for token in tokens[256:]:  # the last merge that makes a token: its parts have the smallest ids
        cuts = [n for n in range(1, len(token)) if {token[:n], token[n:]} <= ids.keys()]
        n = min(cuts, key=lambda n: max(ids[token[:n]], ids[token[n:]]))
        pairs.append(" ".join("".join(spelling[byte] for byte in part) for part in (token[:n], token[n:])))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs, ""]), encoding="utf-8")
    vocabulary = {token: i for i, token in enumerate(spelled)} | {"<|endoftext|>": len(spelled)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")


@pytest.mark.parametrize(
    ("vocabulary", "merges", "message"),
    [
        ('{"a": 0, "b": 2}', "", "must give the ids 0 to 1, each once"),
        ('{"a": 0, "b": "1"}', "", "must give the ids 0 to 1, each once"),
        ('{"a": 0}', "a b", "must list pairs in the order of their ids"),
        ('{"a": 0}', "", "must spell tokens in GPT-2's byte alphabet|256"),
        ("[]", "", "must be a JSON object"),
    ],
)
def test_a_vocabulary_that_is_none(tmp_path, vocabulary, merges, message):
    save_huggingface(make(), tmp_path)
    (tmp_path / "vocab.json").write_text(vocabulary)
    (tmp_path / "merges.txt").write_text(merges)
    with pytest.raises(ValueError, match=message):
        read_checkpoint(tmp_path)


def test_a_folder_without_weights(tmp_path):
    save_huggingface(make(), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"must hold one of model.safetensors, .* but holds none of them"):
        read_checkpoint(tmp_path)


def test_a_folder_without_a_config(tmp_path):
    what = r"must be a run directory \(it holds run.json\) or a Hugging Face model's \(config.json beside the weights\)"
    with pytest.raises(ValueError, match=rf"{what}; .* is neither, it holds nothing. Correct the path."):
        load(tmp_path)
    for number in range(6):
        (tmp_path / f"photo{number}.jpg").touch()
    with pytest.raises(ValueError, match=r"it holds 'photo0.jpg', .*'photo3.jpg', .... Correct the path."):
        load(tmp_path)
    (tmp_path / "ckpt.pt").touch()
    with pytest.raises(ValueError, match=r"Perhaps gv.load\('.*/ckpt.pt'\) was meant."):
        load(tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "run.json").touch()
    with pytest.raises(ValueError, match=r"Perhaps gv.load\('.*/demo'\) was meant."):
        load(tmp_path)


def test_a_checkpoint_shows_its_config_and_not_its_weights():
    model = make()
    shown = repr(fit_weights(model.config, model.state_dict()))
    assert shown.startswith("Checkpoint(config=GPTConfig(block_size=16")
    assert len(shown) < 400
    assert isinstance(fit_weights(model.config, model.state_dict()), Checkpoint)


# --- gv.load ---------------------------------------------------------------------------------------------------------


def test_load_gives_the_model_and_says_what_was_assumed(tmp_path):
    model = make()
    save_checkpoint(model, tmp_path / "ours.safetensors", CharTokenizer("hello"))
    built, tokenizer = load(tmp_path / "ours.safetensors")  # no note, no warning
    assert tokenizer.characters == "ehlo"
    assert same(built, model)
    with pytest.warns(UserWarning, match="Ignored 2 mask buffers"):
        built, tokenizer = load(saved(mingpt().state_dict(), tmp_path, "model.pt"), n_head=4)
    assert tokenizer is None
    assert built.config.activation == "gelu_tanh"


def test_building_imports_no_compiler():
    """To fill a tensor on the meta device imports 800 modules, 1.3 s, for numbers that are replaced at once."""
    code = """
import sys
from gptviz.checkpoints import build_model, fit_weights
from gptviz.model import GPT, GPTConfig
model = GPT(GPTConfig(block_size=4, vocab_size=5, n_layer=1, n_head=1, n_embd=4))
before = set(sys.modules)
build_model(fit_weights(model.config, model.state_dict()))
assert len(set(sys.modules) - before) < 20, len(set(sys.modules) - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
