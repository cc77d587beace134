"""The model against a GPT written out in this file, against Hugging Face's GPT-2, and against itself."""

import copy
import io
import math
import subprocess
import sys
import warnings

import pytest
import torch
import torch.nn as nn
from torch.nn import functional as F

from gptviz.model import GPT, GPTConfig, HookPoint, causal_mask

TINY = {"block_size": 32, "vocab_size": 61, "n_layer": 3, "n_head": 4, "n_embd": 32}
VARIANTS = [
    pytest.param({}, id="nanogpt"),
    pytest.param({"bias": False}, id="no-bias"),
    pytest.param({"activation": "gelu_tanh"}, id="tanh"),
    pytest.param({"tie_weights": False}, id="untied"),
    pytest.param({"bias": False, "activation": "gelu_tanh", "tie_weights": False}, id="all"),
]


# --- the trusted other side: nanoGPT's architecture, written from its description -------------------------------------


def plain_modules(config: GPTConfig) -> nn.Module:
    """Parameters under nanoGPT's names, made and filled in nanoGPT's order; no forward."""

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(config.n_embd))
            self.bias = nn.Parameter(torch.zeros(config.n_embd)) if config.bias else None

    def group(**modules: nn.Module) -> nn.Module:
        return nn.ModuleDict(modules)

    def linear(n_in: int, n_out: int) -> nn.Linear:
        return nn.Linear(n_in, n_out, bias=config.bias)

    width = config.n_embd
    blocks = []
    wte, wpe = nn.Embedding(config.vocab_size, width), nn.Embedding(config.block_size, width)
    for _ in range(config.n_layer):
        ln_1 = Norm()
        attn = group(c_attn=linear(width, 3 * width), c_proj=linear(width, width))
        ln_2 = Norm()
        mlp = group(c_fc=linear(width, 4 * width), c_proj=linear(4 * width, width))
        blocks.append(group(ln_1=ln_1, attn=attn, ln_2=ln_2, mlp=mlp))
    transformer = group(wte=wte, wpe=wpe, h=nn.ModuleList(blocks), ln_f=Norm())
    model = group(transformer=transformer, lm_head=nn.Linear(width, config.vocab_size, bias=False))
    if config.tie_weights:
        model["transformer"]["wte"].weight = model["lm_head"].weight
    model.apply(_fill)
    for name, parameter in model.named_parameters():
        if name.endswith("c_proj.weight"):
            nn.init.normal_(parameter, mean=0.0, std=0.02 / math.sqrt(2 * config.n_layer))
    return model


def _fill(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, mean=0.0, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def plain_forward(weights: dict, config: GPTConfig, idx: torch.Tensor, dropout: float = 0.0) -> dict:
    """Every activation by (name, layer), from the weights alone: F.* and arithmetic, fused attention when dropping."""
    out = {}
    heads, width = config.n_head, config.n_embd
    batch, n_tokens = idx.shape

    def keep(name, layer, value):
        out[name, layer] = value
        return value

    def norm(name, layer, key, x):
        variance, mean = torch.var_mean(x, dim=-1, keepdim=True, correction=0)
        scale = (variance + 1e-5).sqrt()
        keep(f"{name}_scale", layer, scale[..., 0])
        y = (x - mean) / scale * weights[f"{key}.weight"]
        return keep(name, layer, y + weights[f"{key}.bias"] if config.bias else y)

    def linear(key, x):
        return F.linear(x, weights[f"{key}.weight"], weights.get(f"{key}.bias"))

    def drop(x):
        return F.dropout(x, dropout, training=dropout > 0)

    def gelu(x):
        if config.activation == "gelu":
            return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    embed = keep("embed", None, weights["transformer.wte.weight"][idx])
    pos_embed = keep("pos_embed", None, weights["transformer.wpe.weight"][:n_tokens].expand(batch, -1, -1))
    x = drop(embed + pos_embed)
    for layer in range(config.n_layer):
        key = f"transformer.h.{layer}"
        keep("resid_pre", layer, x)
        qkv = linear(f"{key}.attn.c_attn", norm("ln_1", layer, f"{key}.ln_1", x)).split(width, dim=-1)
        q, k, v = (y.view(batch, n_tokens, heads, width // heads).transpose(1, 2) for y in qkv)
        for name, value in zip("qkv", (q, k, v), strict=True):
            keep(name, layer, value)
        scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / math.sqrt(width // heads)
        future = torch.arange(n_tokens)[:, None] < torch.arange(n_tokens)[None, :]
        scores = keep("scores", layer, scores.masked_fill(future, -math.inf))
        pattern = keep("pattern", layer, scores.softmax(-1))
        z = pattern @ v
        if dropout:
            z = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        keep("z", layer, z)
        attn_out = linear(f"{key}.attn.c_proj", z.transpose(1, 2).reshape(batch, n_tokens, width))
        x = keep("resid_mid", layer, x + keep("attn_out", layer, drop(attn_out)))
        pre = keep("mlp_pre", layer, linear(f"{key}.mlp.c_fc", norm("ln_2", layer, f"{key}.ln_2", x)))
        mlp_out = linear(f"{key}.mlp.c_proj", keep("mlp_post", layer, gelu(pre)))
        x = keep("resid_post", layer, x + keep("mlp_out", layer, drop(mlp_out)))
    keep("logits", None, norm("ln_final", None, "transformer.ln_f", x) @ weights["lm_head.weight"].T)
    return out


# --- what the tests are made of --------------------------------------------------------------------------------------


def make(variant: dict | None = None, dropout: float = 0.0) -> GPT:
    """A model in eval mode whose weights and biases are all large enough to matter."""
    model = GPT(GPTConfig(**TINY, **(variant or {}), dropout=dropout)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if "ln" in name and name.endswith("weight") else 0.0
            parameter.normal_(centre, 0.2 if parameter.dim() > 1 else 1.0)
    return model


def ids(n_tokens: int, batch: int = 2) -> torch.Tensor:
    return torch.randint(TINY["vocab_size"], (batch, n_tokens))


def heard(model: GPT, idx: torch.Tensor) -> dict:
    """Every activation of a forward pass by (name, layer), through a listener at every hook point."""
    out = {}
    for key, point in model.hook_points.items():
        point.listeners.append(lambda value, key=key: out.__setitem__(key, value.detach().clone()))
    try:
        model(idx, idx)
    finally:
        for point in model.hook_points.values():
            point.listeners.clear()
    return out


def far(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference relative to the largest value; infinite values must stand at the same places."""
    assert ours.shape == theirs.shape
    assert torch.equal(ours.isinf(), theirs.isinf())
    ours, theirs = ours.masked_fill(ours.isinf(), 0), theirs.masked_fill(theirs.isinf(), 0)
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


# --- the same model as nanoGPT ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_shapes_and_initial_weights_are_nanogpts(variant):
    config = GPTConfig(**TINY, **variant)
    torch.manual_seed(7)
    ours = GPT(config)
    state = torch.get_rng_state()
    torch.manual_seed(7)
    theirs = plain_modules(config)
    assert torch.equal(state, torch.get_rng_state())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, weight in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], weight), name


def test_names_are_those_nanogpt_writes():
    keys = set(GPT(GPTConfig(**TINY)).state_dict())
    parts = [f"{p}.{kind}" for p in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
             for kind in ("weight", "bias")]  # fmt: skip
    expected = {f"transformer.h.{layer}.{part}" for layer in range(3) for part in parts}
    expected |= {"transformer.wte.weight", "transformer.wpe.weight", "transformer.ln_f.weight", "transformer.ln_f.bias"}
    assert keys == expected | {"lm_head.weight"}


def test_tied_weights_are_one_parameter():
    assert (model := GPT(GPTConfig(**TINY))).lm_head.weight is model.transformer.wte.weight
    untied = GPT(GPTConfig(**TINY, tie_weights=False))
    assert not torch.equal(untied.lm_head.weight, untied.transformer.wte.weight)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("n_tokens", [1, 7, 32])
def test_every_activation_equals_a_plain_forward(variant, n_tokens):
    model, idx = make(variant), ids(n_tokens)
    with torch.no_grad():
        theirs = plain_forward(model.state_dict(), model.config, idx)
        ours = heard(model, idx)
    assert set(ours) == set(theirs) == set(model.hook_points)
    worst = {key: far(ours[key], theirs[key]) for key in theirs}
    assert max(worst.values()) <= 1e-5, max(worst.items(), key=lambda item: item[1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_and_loss_equal_a_plain_forward(variant):
    model, idx = make(variant), ids(32)
    targets = torch.where(torch.rand(idx.shape) < 0.2, -1, ids(32))
    logits, loss = model(idx, targets)
    plain = plain_forward(model.state_dict(), model.config, idx)["logits", None]
    rows = [-F.log_softmax(row, -1)[t] for row, t in zip(plain.flatten(0, 1), targets.flatten(), strict=True) if t >= 0]
    assert far(logits.detach(), plain) <= 1e-5
    torch.testing.assert_close(loss, torch.stack(rows).mean(), rtol=1e-5, atol=0)


def test_without_targets_only_the_last_position():
    model, idx = make(), ids(9)
    with torch.no_grad():
        last, loss = model(idx)
        logits, _ = model(idx, idx)
    assert loss is None
    assert last.shape == (2, 1, TINY["vocab_size"])
    torch.testing.assert_close(last, logits[:, -1:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_equal_a_plain_forwards(variant):
    model, idx = make(variant), ids(16)
    names = dict(model.named_parameters())
    leaves = {name: weight.detach().clone().requires_grad_() for name, weight in names.items()}
    tied = {"lm_head.weight": leaves["transformer.wte.weight"]} if model.config.tie_weights else {}
    logits = plain_forward(leaves | tied, model.config, idx)["logits", None]
    F.cross_entropy(logits.flatten(0, 1), idx.flatten()).backward()
    model(idx, idx)[1].backward()
    for name, parameter in names.items():
        assert far(parameter.grad, leaves[name].grad) <= 1e-4, name


def test_training_draws_the_same_random_numbers_as_nanogpt():
    model, idx = make(dropout=0.1).train(), ids(32)
    torch.manual_seed(3)
    logits, _ = model(idx, idx)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    plain = plain_forward(model.state_dict(), model.config, idx, dropout=0.1)["logits", None]
    assert torch.equal(state, torch.get_rng_state())
    assert far(logits.detach(), plain.detach()) <= 1e-5


def test_evaluation_draws_no_random_numbers():
    model, idx = make(dropout=0.5), ids(8)
    state = torch.get_rng_state()
    assert torch.equal(model(idx)[0], model(idx)[0])
    assert torch.equal(state, torch.get_rng_state())


# --- Hugging Face's GPT-2 --------------------------------------------------------------------------------------------


def hugging_face(config: GPTConfig, weights: dict) -> nn.Module:
    """transformers' GPT-2 with the same weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip("transformers", reason="the comparison needs Hugging Face's transformers")
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocab_size, n_positions=config.block_size, n_embd=config.n_embd, n_layer=config.n_layer,
            n_head=config.n_head, activation_function="gelu" if config.activation == "gelu" else "gelu_new",
            attn_implementation="eager", tie_word_embeddings=config.tie_weights, bos_token_id=None, eos_token_id=None,
        )
    ).eval()
    turned = (".attn.c_attn.weight", ".attn.c_proj.weight", ".mlp.c_fc.weight", ".mlp.c_proj.weight")
    theirs.load_state_dict({name: w.T if name.endswith(turned) else w for name, w in weights.items()})
    return theirs


def hugging_face_activations(theirs: nn.Module, config: GPTConfig, idx: torch.Tensor) -> dict:
    """What its documented outputs and its modules give, by our names."""
    out, handles = {}, []

    def split(x):
        return x.unflatten(-1, (config.n_head, -1)).transpose(1, 2)

    def on(module, *names_and_readers):
        def hook(_module, inputs, output):
            for name, layer, read in names_and_readers:
                out[name, layer] = read(inputs[0], output[0] if isinstance(output, tuple) else output)

        handles.append(module.register_forward_hook(hook))

    def scale(x, _):
        return (x.var(-1, correction=0) + 1e-5).sqrt()

    body = theirs.transformer
    on(body.wte, ("embed", None, lambda _, y: y))
    on(body.ln_f, ("ln_final", None, lambda _, y: y), ("ln_final_scale", None, scale))
    for layer, block in enumerate(body.h):
        on(block, ("resid_pre", layer, lambda x, _: x), ("resid_post", layer, lambda _, y: y))
        on(block.ln_1, ("ln_1", layer, lambda _, y: y), ("ln_1_scale", layer, scale))
        thirds = [(name, layer, lambda _, y, i=i: split(y.chunk(3, -1)[i])) for i, name in enumerate("qkv")]
        on(block.attn.c_attn, *thirds)
        on(block.attn.c_proj, ("z", layer, lambda x, _: split(x)))
        on(block.attn.resid_dropout, ("attn_out", layer, lambda _, y: y))
        on(block.ln_2, ("ln_2", layer, lambda _, y: y), ("ln_2_scale", layer, scale))
        on(block.ln_2, ("resid_mid", layer, lambda x, _: x))
        on(block.mlp.c_fc, ("mlp_pre", layer, lambda _, y: y))
        on(block.mlp.act, ("mlp_post", layer, lambda _, y: y))
        on(block.mlp, ("mlp_out", layer, lambda _, y: y))
    result = theirs(idx, output_hidden_states=True, output_attentions=True)
    for handle in handles:
        handle.remove()
    out["pos_embed", None] = body.wpe(torch.arange(idx.shape[1])).expand(idx.shape[0], -1, -1)
    out["logits", None] = result.logits
    for layer, (pattern, hidden) in enumerate(zip(result.attentions, result.hidden_states, strict=False)):
        out["pattern", layer] = pattern
        assert torch.equal(hidden, out["resid_pre", layer])
    return out


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh"])
@pytest.mark.parametrize("tie_weights", [True, False])
@pytest.mark.parametrize("n_tokens", [1, 7, 32])
def test_every_activation_equals_hugging_faces(activation, tie_weights, n_tokens):
    model, idx = make({"activation": activation, "tie_weights": tie_weights}), ids(n_tokens)
    with torch.no_grad():
        theirs = hugging_face_activations(hugging_face(model.config, model.state_dict()), model.config, idx)
        ours = heard(model, idx)
    assert {name for name, _ in ours} - {name for name, _ in theirs} == {"scores"}  # Hugging Face shows none
    worst = {key: far(ours[key], theirs[key]) for key in theirs}
    assert max(worst.values()) <= 1e-5, max(worst.items(), key=lambda item: item[1])
    for layer in range(model.config.n_layer):
        torch.testing.assert_close(ours["scores", layer].softmax(-1), theirs["pattern", layer], rtol=1e-5, atol=1e-6)


# --- two ways through one model --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scores", "pattern"])
@pytest.mark.parametrize("n_tokens", [1, 2, 31, 32])
def test_explicit_attention_equals_fused_attention(name, n_tokens):
    model, idx = make(), ids(n_tokens)
    with torch.no_grad():
        fused, _ = model(idx, idx)
        model.hook_points[name, 1].listeners.append(lambda value: None)
        explicit, _ = model(idx, idx)
        model.hook_points[name, 1].listeners.clear()
    assert far(explicit, fused) <= 1e-5


@pytest.mark.parametrize("key", list(GPT(GPTConfig(**TINY)).hook_points), ids=str)
def test_an_edit_that_changes_nothing_changes_nothing(key):
    model, idx = make(), ids(8)
    with torch.no_grad():
        before, _ = model(idx, idx)
        handle = model.hook_points[key].register_forward_hook(lambda module, inputs, output: output.clone())
        after, _ = model(idx, idx)
        handle.remove()
    assert far(after, before) <= 1e-5


@pytest.mark.parametrize("key", list(GPT(GPTConfig(**TINY)).hook_points), ids=str)
def test_an_edit_reaches_the_logits_and_its_reader(key):
    model, idx, seen = make(), ids(8), []
    with torch.no_grad():
        before, _ = model(idx, idx)
        point = model.hook_points[key]
        point.listeners.append(seen.append)
        handle = point.register_forward_hook(lambda module, inputs, output: output * 0.5)
        after, _ = model(idx, idx)
        handle.remove()
        model(idx, idx)
        point.listeners.clear()
    assert not torch.equal(before, after)
    halved, whole = (value.masked_fill(value.isinf(), 0) for value in seen)
    if key[1] in (None, 0):  # what comes into the point is the same with and without the edit
        torch.testing.assert_close(halved, whole * 0.5)


def test_the_residual_stream_adds_up():
    model, idx = make(), ids(16)
    with torch.no_grad():
        a = heard(model, idx)
    torch.testing.assert_close(a["resid_pre", 0], a["embed", None] + a["pos_embed", None])
    for layer in range(3):
        torch.testing.assert_close(a["resid_mid", layer], a["resid_pre", layer] + a["attn_out", layer])
        torch.testing.assert_close(a["resid_post", layer], a["resid_mid", layer] + a["mlp_out", layer])
        torch.testing.assert_close(a["pattern", layer].sum(-1), torch.ones(2, 4, 16))


def test_later_tokens_do_not_reach_earlier_positions():
    model, idx = make(), ids(16)
    changed = idx.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % TINY["vocab_size"]
    with torch.no_grad():
        assert far(model(changed, changed)[0][:, :9], model(idx, idx)[0][:, :9]) <= 1e-6


def test_hook_points_have_one_name_each_and_know_their_layer():
    points = make().hook_points
    assert len(set(map(id, points.values()))) == len(points)
    for (name, layer), point in points.items():
        assert (point.name, point.layer) == (name, layer)


def loaded(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("again", [copy.deepcopy, loaded, lambda model: model.double().float()])
def test_hook_points_are_plain_attributes_and_modules_at_once(again):
    """One object under both: an edit registered on either is the one that runs."""
    model = again(make())
    points = {}
    for module in model.modules():
        for name, part in module.named_children():
            if isinstance(part, HookPoint):
                assert vars(module)[name] is part
                points[part.name, part.layer] = part
    assert points == model.hook_points
    model.transformer.h[0].attn.z = replaced = HookPoint("z")
    assert model.transformer.h[0].attn.z is replaced is model.transformer.h[0].attn._modules["z"]


def test_a_mask_made_in_inference_mode_serves_training():
    model, idx = make(), torch.tensor([[1, 2, 3, 4, 5, 6, 7]])
    model.hook_points["pattern", 0].listeners.append(lambda value: None)
    causal_mask.cache_clear()
    with torch.inference_mode():
        model(idx)
    model(idx, idx)[1].backward()
    assert not causal_mask(7, torch.float32, torch.device("cpu")).is_inference()
    assert model.transformer.h[0].attn.c_attn.weight.grad.abs().max() > 0
    model.hook_points["pattern", 0].listeners.clear()


@pytest.mark.parametrize(("n_tokens", "kept"), [(512, 1), (513, 0)])
def test_a_long_mask_is_not_kept_and_masks_the_same(n_tokens, kept):
    model = GPT(GPTConfig(block_size=520, vocab_size=61, n_layer=1, n_head=2, n_embd=8)).eval()
    idx = ids(n_tokens)
    with torch.no_grad():
        fused, _ = model(idx, idx)
        model.hook_points["pattern", 0].listeners.append(lambda value: None)
        causal_mask.cache_clear()
        explicit, _ = model(idx, idx)
    model.hook_points["pattern", 0].listeners.clear()
    assert causal_mask.cache_info().currsize == kept
    torch.testing.assert_close(explicit, fused, rtol=1e-5, atol=1e-5)


def test_a_copied_model_has_hook_points_of_its_own():
    model = make()
    twin = copy.deepcopy(model)
    for key, point in twin.hook_points.items():
        assert point is not model.hook_points[key]
        assert any(point is module for module in twin.modules())


COMPILE = """
import sys, torch
from gptviz.model import GPT, GPTConfig, HookPoint, causal_mask
torch.manual_seed(0)
model = GPT(GPTConfig(block_size=16, vocab_size=11, n_layer=2, n_head=2, n_embd=16)).eval()
idx = torch.randint(11, (2, 16))
compiled = torch.compile(model, backend=sys.argv[1], fullgraph=True)
with torch.no_grad():
    torch.testing.assert_close(compiled(idx, idx)[0], model(idx, idx)[0], rtol=1e-5, atol=1e-5)
"""


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_torch_compile_gives_the_same_numbers_in_one_graph(backend):
    """In a process of its own: the type checks of the test run cannot be compiled."""
    command = [sys.executable, "-c", COMPILE, backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    if backend == "inductor" and "InvalidCxxCompiler" in done.stderr:
        pytest.skip("torch.compile needs a C++ compiler, and this machine has none")
    assert done.returncode == 0, done.stderr[-2000:]


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_head": 3}, "n_embd must be divisible by n_head, but 32 is not by 3"),
        ({"n_layer": 0}, "n_layer must be a whole number of at least 1, not 0"),
        ({"n_embd": -8}, "n_embd must be a whole number of at least 1, not -8"),
        ({"block_size": True}, "block_size must be a whole number of at least 1, not True"),
        ({"dropout": 1.0}, "dropout must be at least 0 and less than 1, not 1.0"),
        ({"dropout": float("nan")}, "dropout must be at least 0 and less than 1, not nan"),
        ({"activation": "relu"}, r"activation must be one of \['gelu', 'gelu_tanh'\], not 'relu'"),
    ],
    ids=str,
)
def test_a_config_out_of_range_is_refused(fields, message):
    with pytest.raises((ValueError, TypeError), match=message):
        GPTConfig(**(TINY | fields))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("bias", "False", "bias must be True or False, not 'False'"),
        ("tie_weights", 0, "tie_weights must be True or False, not 0"),
        ("dropout", "0.1", "dropout must be at least 0 and less than 1, not '0.1'"),
        ("activation", ["gelu"], r"activation must be one of \['gelu', 'gelu_tanh'\], not \['gelu'\]"),
    ],
)
def test_a_config_of_another_type_is_refused(field, value, message):
    config = GPTConfig(**TINY)
    object.__setattr__(config, field, value)  # past the types that these tests enforce and users do not
    with pytest.raises(ValueError, match=message):
        config.__post_init__()


def test_more_tokens_than_block_size_are_refused():
    with pytest.raises(ValueError, match=r"at most 32 tokens \(block_size\), not 33. Shorten"):
        make()(ids(33))
