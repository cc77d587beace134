"""Generation against nanoGPT's loop without a cache, against Hugging Face, and against itself."""

import math

import pytest
import torch
from torch import nn

from gptviz.decoding import WORTH_TRANSPOSING, Decoder
from gptviz.generation import Sampling, generate, generate_and_record, stream
from gptviz.model import GPT, GPTConfig
from gptviz.tokenizers import ByteTokenizer, CharTokenizer

SHAPE = {"block_size": 16, "vocab_size": 61, "n_layer": 2, "n_head": 4, "n_embd": 32}
VARIANTS = [
    pytest.param({}, id="nanogpt"),
    pytest.param({"bias": False}, id="no-bias"),
    pytest.param({"activation": "gelu_tanh"}, id="tanh"),
    pytest.param({"tie_weights": False}, id="untied"),
    pytest.param({"dropout": 0.3}, id="dropout"),
    pytest.param({"n_layer": 1, "n_head": 1}, id="one-layer"),
]
PROMPTS = [[5], [1, 2, 3, 4, 5, 6, 7], list(range(16)), list(range(30))]


def lively_model(**changes) -> GPT:
    """A model with weights large enough that every token depends visibly on those before it."""
    torch.manual_seed(1)
    model = GPT(GPTConfig(**{**SHAPE, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(mean=float(parameter.ndim == 1), std=0.3)
        for name in ("c_attn", "c_proj", "c_fc", "ln_1", "ln_2", "ln_f"):
            [p.normal_(std=0.1) for n, p in model.named_parameters() if n.endswith(f"{name}.bias")]
    return model


@torch.no_grad()
def greedy_without_cache(model: GPT, ids: list[int], n_new: int) -> list[int]:
    """nanoGPT's `generate`, taking the most likely token."""
    model.eval()
    idx = torch.tensor([ids])
    for _ in range(n_new):
        logits, _ = model(idx[:, -model.config.block_size :])
        idx = torch.cat([idx, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return idx[0].tolist()


# --- the cache changes nothing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize("n_new", [0, 1, 24])
def test_greedy_equals_the_loop_without_a_cache(changes, n_new):
    model = lively_model(**changes)
    said = set()
    for prompt in PROMPTS:
        generated = generate(model, prompt, n_new, temperature=0)
        assert generated == greedy_without_cache(model, prompt, n_new)
        said.update(generated[len(prompt) :])
    assert len(said) > 8 or n_new < 24, "a model that repeats itself would prove nothing"


@pytest.mark.parametrize("worth_transposing", [0, 1000])
def test_every_logit_equals_the_uncached_one(worth_transposing, monkeypatch):
    monkeypatch.setattr("gptviz.decoding.WORTH_TRANSPOSING", worth_transposing)
    model = lively_model().eval()
    rows = [torch.arange(3), torch.arange(10), torch.arange(7)]
    decoder = Decoder(model, rows, 20)
    for _ in range(20):
        seen = []
        tokens = decoder.step(lambda logits, seen=seen: (seen.append(logits), logits.argmax(-1))[1])
        for row, ids in enumerate(rows):
            with torch.no_grad():
                expected = model(ids[None, -16:])[0][0, -1]
            torch.testing.assert_close(seen[0][row], expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
        rows = [torch.cat([ids, torch.tensor([token])]) for ids, token in zip(rows, tokens, strict=True)]


def test_greedy_equals_hugging_face():
    transformers = pytest.importorskip("transformers", reason="the comparison needs Hugging Face's GPT-2")
    model = lively_model()
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=61, n_positions=16, n_embd=32, n_layer=2, n_head=4, activation_function="gelu",
            bos_token_id=0, eos_token_id=None, pad_token_id=0,
        )
    ).eval()
    conv1d = ("attn.c_attn.weight", "c_proj.weight", "mlp.c_fc.weight")
    weights = {name: value.T if name.endswith(conv1d) else value for name, value in model.state_dict().items()}
    theirs.load_state_dict(weights)
    prompt = torch.tensor([[3, 0, 4, 0, 5]])  # with ids that equal the pad id
    expected = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=11)
    assert generate(model, prompt[0], 11, temperature=0) == expected[0].tolist()


def test_the_cache_is_one_buffer_of_the_stated_shape():
    decoder = Decoder(lively_model(), [torch.tensor([1, 2])], 3)
    assert len({layer.untyped_storage().data_ptr() for layer in decoder.cache}) == 1
    assert [tuple(layer.shape) for layer in decoder.cache] == 2 * [(2, 1, 4, 16, 8)]


def test_other_types_and_modes_run():
    generate(lively_model().double(), [1, 2], 30, seed=0)
    generate(lively_model().bfloat16(), [1, 2], 30, seed=0)
    with torch.autocast("cpu", torch.bfloat16):
        generate(lively_model(), [1, 2], 30, seed=0)
    with torch.inference_mode():
        expected = generate(lively_model(), [1, 2], 30, seed=0)
    assert generate(lively_model(), [1, 2], 30, seed=0) == expected


# --- a batch is its rows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 1.3, "top_k": 20, "top_p": 0.9}])
@pytest.mark.parametrize("prompts", [PROMPTS, PROMPTS[1:2] * 3, [[1], [2, 3]]])
def test_a_batch_equals_its_prompts_one_by_one(prompts, options):
    model = lively_model()
    batch = generate(model, prompts, 20, seed=7, **options)
    assert batch == [generate(model, prompt, 20, seed=7 + row, **options) for row, prompt in enumerate(prompts)]


def test_prompts_may_be_arrays_and_tensors():
    model = lively_model()
    prompts = torch.tensor([[1, 2, 3], [4, 5, 6]])
    expected = [generate(model, [1, 2, 3], 5, temperature=0), generate(model, [4, 5, 6], 5, temperature=0)]
    assert generate(model, prompts, 5, temperature=0) == expected
    assert generate(model, prompts.numpy(), 5, temperature=0) == expected
    assert generate(model, prompts.int()[0], 5, temperature=0) == expected[0]
    assert all(type(token) is int for token in generate(model, prompts.numpy()[0], 5))


# --- edits and recordings take part ----------------------------------------------------------------------------------


def negated(module, args, value):
    return -value


@pytest.mark.parametrize("place", ["pattern", "resid_post", "logits", "ln_1_scale"])
def test_edits_act_on_every_token(place):
    model = lively_model()
    plain = generate(model, PROMPTS[1], 12, temperature=0)
    point = model.hook_points[place, None if place == "logits" else 1]
    handle = point.register_forward_hook(negated)
    expected = [greedy_without_cache(model, prompt, 12) for prompt in PROMPTS]
    try:
        assert generate(model, PROMPTS, 12, temperature=0) == expected
        assert [generate(model, prompt, 12, temperature=0) for prompt in PROMPTS] == expected
    finally:
        handle.remove()
    assert expected[1] != plain
    assert generate(model, PROMPTS[1], 12, temperature=0) == plain


@pytest.mark.parametrize("name", ["", "transformer.h.1", "transformer.h.0.mlp.c_fc", "transformer.ln_f"])
def test_hooks_on_any_module_act(name):
    model = lively_model().eval()
    plain = generate(model, [1, 2, 3], 10, temperature=0)
    hook = (lambda module, args, out: (-out[0], out[1])) if name == "" else negated
    handle = model.get_submodule(name).register_forward_hook(hook)
    assert generate(model, [1, 2, 3], 10, temperature=0) == greedy_without_cache(model, [1, 2, 3], 10) != plain
    handle.remove()


def test_a_replaced_module_is_not_passed_over():
    class Adapted(nn.Linear):
        def forward(self, x):
            return super().forward(x) + x.sin() @ torch.ones(32, 96)

    model = lively_model()
    plain = generate(model, [1, 2, 3], 10, temperature=0)
    adapted = Adapted(32, 96)
    adapted.load_state_dict(model.transformer.h[1].attn.c_attn.state_dict())
    model.transformer.h[1].attn.c_attn = adapted
    assert generate(model, [1, 2, 3], 10, temperature=0) == greedy_without_cache(model, [1, 2, 3], 10) != plain


def test_a_reader_hears_every_step():
    model, seen = lively_model(), []
    listeners = model.hook_points["resid_post", 1].listeners
    listeners.append(seen.append)
    expected = generate(model, [1, 2, 3], 4, temperature=0)
    listeners.clear()
    assert [tuple(value.shape) for value in seen] == [(1, n, 32) for n in (3, 4, 5, 6)]
    assert not any(value.is_inference() for value in seen)
    assert expected == generate(model, [1, 2, 3], 4, temperature=0)


def test_an_edit_that_comes_and_goes_while_streaming():
    model = lively_model()
    new = stream(model, [1, 2, 3], 18, temperature=0)
    ids = [1, 2, 3, next(new), next(new)]
    handle = model.hook_points["mlp_out", 0].register_forward_hook(negated)
    ids += [next(new), next(new)]
    assert ids[5:] == greedy_without_cache(model, ids[:5], 2)[5:]
    handle.remove()
    ids += list(new)
    assert ids == greedy_without_cache(model, ids[:7], 14)


# --- nothing is left behind ------------------------------------------------------------------------------------------


def test_random_state_and_training_mode_stay():
    model = lively_model(dropout=0.5).train()
    model.transformer.h[1].eval()
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    generate(model, [1, 2], 30, seed=3)
    generate(model, [1, 2], 3)
    model.hook_points["z", 0].listeners.append(lambda value: None)
    generate(model, [1, 2], 30, seed=3)
    new = stream(model, [1, 2], 30)
    next(new)
    assert [module.training for module in model.modules()] == modes
    del new
    model.hook_points["z", 0].listeners.clear()
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_an_exception_in_an_edit_leaves_the_model_as_it_was():
    model = lively_model(dropout=0.5).train()

    def fail(module, args, value):
        raise RuntimeError("from the edit")

    handle = model.hook_points["z", 0].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="from the edit"):
        generate(model, [1, 2], 30)
    handle.remove()
    assert all(module.training for module in model.modules())
    assert torch.is_grad_enabled()


def test_the_parameters_can_still_be_trained():
    model = lively_model()
    generate(model, [1, 2], 2 * WORTH_TRANSPOSING)
    _, loss = model(torch.tensor([[1, 2, 3]]), torch.tensor([[2, 3, 4]]))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_wrapped_model_is_unwrapped():
    model = lively_model()

    class DistributedLike(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    expected = generate(model, [1, 2], 9, temperature=0)
    assert generate(torch.compile(model, backend="eager"), [1, 2], 9, temperature=0) == expected
    assert generate(DistributedLike(model), [1, 2], 9, temperature=0) == expected


# --- what is drawn ---------------------------------------------------------------------------------------------------


def test_draws_follow_the_model():
    model = lively_model(vocab_size=5, n_embd=8, n_layer=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
        probabilities = model.eval()(torch.tensor([[1, 2]]))[0][0, -1].div(0.7).softmax(-1)
    n_draws = 2000
    rows = generate(model, [[1, 2]] * n_draws, 1, temperature=0.7, seed=0)
    counts = torch.bincount(torch.tensor([row[-1] for row in rows]), minlength=5)
    expected = probabilities * n_draws
    assert float(((counts - expected).square() / expected).sum()) < 18.5  # chi-squared, 4 degrees: p = 0.001


def test_top_k_is_nanogpts():
    logits = torch.randn(4, 50)
    for k in (1, 7, 50, 80):
        smallest = torch.topk(logits, min(k, 50)).values[:, [-1]]
        expected = torch.where(logits < smallest, -math.inf, logits)
        assert torch.equal(Sampling(top_k=k).filtered(logits), expected)


@pytest.mark.parametrize("top_k", [None, 9])
@pytest.mark.parametrize("top_p", [1e-9, 0.1, 0.5, 0.9, 1.0])
def test_top_p_is_hugging_faces(top_p, top_k):
    transformers = pytest.importorskip("transformers", reason="the comparison needs Hugging Face's warpers")
    logits = 3 * torch.randn(20, 50)
    expected = logits if top_k is None else transformers.TopKLogitsWarper(top_k)(None, logits)
    expected = transformers.TopPLogitsWarper(top_p)(None, expected)
    assert torch.equal(Sampling(top_k=top_k, top_p=top_p).filtered(logits), expected)


def test_seeds():
    model = lively_model()
    assert generate(model, [1], 30, seed=5) == generate(model, [1], 30, seed=5)
    assert generate(model, [1], 30, seed=5) != generate(model, [1], 30, seed=6)
    assert generate(model, [1], 30) != generate(model, [1], 30)
    assert generate(model, [1], 30, seed=5, top_k=1) == generate(model, [1], 30, temperature=0)
    assert generate(model, [1], 30, seed=5, top_p=1e-9) == generate(model, [1], 30, temperature=0)
    assert generate(model, [1], 30, seed=5, temperature=1e-30) == generate(model, [1], 30, temperature=0)


def test_forbidden_tokens_are_never_drawn():
    model = lively_model()

    def forbid(module, args, logits):
        logits = logits.clone()
        logits[..., 10:] = -math.inf
        return logits

    handle = model.hook_points["logits", None].register_forward_hook(forbid)
    assert max(generate(model, [1], 60, seed=0)) < 10
    handle.remove()


def test_a_tokenizer_excludes_ids_that_it_does_not_know():
    model = lively_model()
    assert max(generate(model, [1], 60, seed=0)) > 2
    text = generate(model, "ab", 60, tokenizer=CharTokenizer("abc"), seed=0)
    assert len(text) == 62
    assert set(text) <= set("abc")


# --- text, stops, streams --------------------------------------------------------------------------------------------


def always(tokens: list[int]) -> GPT:
    """A model that says exactly these tokens, one for each position, whatever it reads."""
    model = GPT(GPTConfig(block_size=len(tokens), vocab_size=256, n_layer=1, n_head=1, n_embd=256, bias=False))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.transformer.ln_f.weight.fill_(1)
        model.lm_head.weight = nn.Parameter(torch.eye(256))
        for position, token in enumerate(tokens):
            model.transformer.wpe.weight[position, token] = 1
    return model


def test_text_comes_back_as_text():
    text = "aé→😀 z"
    model = always([*list(text.encode())[1:], 0])
    n_new = len(text.encode()) - 1
    assert generate(model, "a", n_new, tokenizer=ByteTokenizer(), temperature=0) == text
    assert generate(model, ["a", "a"], n_new, tokenizer=ByteTokenizer(), temperature=0) == [text, text]
    pieces = list(stream(model, "a", n_new, tokenizer=ByteTokenizer(), temperature=0))
    assert pieces == ["", "é", "", "", "→", "", "", "", "😀", " ", "z"]


def test_a_stream_that_ends_within_a_character_says_so():
    model = always(list("é".encode()))
    assert list(stream(model, "a", 1, tokenizer=ByteTokenizer(), temperature=0)) == ["", "\ufffd"]
    assert generate(model, "a", 1, tokenizer=ByteTokenizer(), temperature=0) == "a\ufffd"


def test_a_stream_is_the_continuation():
    model = lively_model()
    for options in ({"temperature": 0}, {"seed": 4}, {"seed": 4, "stop": 7}):
        assert [1, 2, *stream(model, [1, 2], 20, **options)] == generate(model, [1, 2], 20, **options)


def test_a_stream_computes_nothing_before_it_is_asked():
    model, seen = lively_model(), []
    model.hook_points["embed", None].listeners.append(seen.append)
    new = stream(model, [1, 2], 50)
    assert not seen
    next(new)
    assert len(seen) == 1
    model.hook_points["embed", None].listeners.clear()


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (ord("c"), "abc"),
        ("cd", "abcd"),
        ("é", "abcdé"),
        (["zzz", "d", 255], "abcd"),
        ([], "abcdé e"),
        ("ab", "abcdé e"),  # the prompt does not count
        (None, "abcdé e"),
    ],
)
def test_stops(stop, expected):
    model = always([*list("abcdé e".encode())[1:], 0])
    assert generate(model, "a", 7, tokenizer=ByteTokenizer(), temperature=0, stop=stop) == expected
    pieces = stream(model, "a", 7, tokenizer=ByteTokenizer(), temperature=0, stop=stop)
    assert "a" + "".join(pieces) == expected


def test_rows_of_a_batch_stop_by_themselves():
    model = lively_model()
    prompts = [[1], [2, 3], [4, 5, 6]]
    whole = generate(model, prompts, 30, seed=0)
    stop = whole[1][12]
    expected = []
    for prompt, row in zip(prompts, whole, strict=True):
        new = row[len(prompt) :]
        expected.append(prompt + (new[: new.index(stop) + 1] if stop in new else new))
    assert generate(model, prompts, 30, seed=0, stop=stop) == expected
    assert len({len(row) for row in expected}) > 1


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [generate, stream])
@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"prompt": []}, ValueError, "at least one token"),
        ({"prompt": ""}, ValueError, "at least one token"),
        ({"prompt": [3, 61]}, ValueError, r"from 0 to 60 \(the vocabulary has 61 tokens\); got 61"),
        ({"prompt": [-1]}, ValueError, "0 to 60"),
        ({"prompt": [1.5]}, TypeError, "token ids, not 1.5"),
        ({"prompt": "a", "tokenizer": None}, TypeError, "needs a tokenizer"),
        ({"max_new_tokens": -1}, ValueError, "max_new_tokens must be a whole number of at least 0, not -1"),
        ({"max_new_tokens": True}, ValueError, "max_new_tokens must be"),
        ({"temperature": -0.1}, ValueError, r"temperature must be 0 .* or a positive number, not -0.1"),
        ({"temperature": math.nan}, ValueError, "not nan"),
        ({"temperature": math.inf}, ValueError, "not inf"),
        ({"top_k": 0}, ValueError, "top_k must be a whole number of at least 1, not 0"),
        ({"top_p": 0.0}, ValueError, "top_p must be greater than 0 and at most 1, not 0.0"),
        ({"top_p": 1.01}, ValueError, "at most 1, not 1.01"),
        ({"seed": -1}, ValueError, "seed must be a whole number of at least 0, not -1"),
        ({"stop": 61}, ValueError, r"A stop id must be 0 to 60 \(vocab_size 61\), not 61"),
        ({"stop": [2, 0.5]}, ValueError, "A stop id must be"),
        ({"stop": ""}, ValueError, "at least one character"),
        ({"stop": "a", "tokenizer": None}, TypeError, "A stop text needs a tokenizer, but 'a' has none"),
    ],
)
def test_what_is_refused(function, arguments, error, sentence):
    arguments = {"prompt": [1, 2], "max_new_tokens": 3, "tokenizer": CharTokenizer("abc"), **arguments}
    seen = []
    model = lively_model()
    model.hook_points["embed", None].listeners.append(seen.append)
    with pytest.raises(error, match=sentence):
        function(model, **arguments)
    model.hook_points["embed", None].listeners.clear()
    assert not seen, "refused before any work"


def test_a_stream_has_one_prompt():
    with pytest.raises(ValueError, match=r"one prompt, but was given a list of 2. Use generate"):
        stream(lively_model(), [[1], [2]], 3)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_logits_that_are_not_finite_are_refused(value, temperature):
    model = lively_model()
    with torch.no_grad():
        model.transformer.ln_f.bias.fill_(value)
    with pytest.raises(ValueError, match="Logits must be finite"):
        generate(model, [1], 3, temperature=temperature)


def test_other_models_are_refused():
    with pytest.raises(TypeError, match="must be a gptviz GPT"):
        generate(nn.Linear(2, 2), [1], 3)


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_a_recorded_generation_holds_what_each_step_computed(temperature):
    model, steps = lively_model(), []
    point = model.hook_points["resid_post", 1]
    point.listeners.append(lambda value: steps.append(value[0, -1].clone()))
    ids = generate(model, [3, 1, 4], 9, temperature=temperature, seed=7)
    point.listeners.clear()
    trace = generate_and_record(model, [3, 1, 4], 9, temperature=temperature, seed=7, recording={"names": "resid_post"})
    assert trace.ids.tolist() == ids
    torch.testing.assert_close(trace["resid_post", 1][2:-1], torch.stack(steps), rtol=1e-5, atol=1e-5)


def test_a_recorded_generation_beyond_the_block_is_its_last_window():
    model = lively_model()
    first, second = generate_and_record(model, [[1, 2], [5]], 20, temperature=0)
    assert len(first) == SHAPE["block_size"]
    assert first.ids.tolist() == generate(model, [1, 2], 20, temperature=0)[-16:]
    assert "cut off at the left" in first.notes[0]
    assert second.ids.tolist() == generate(model, [5], 20, temperature=0)[-16:]
