"""record() and Trace, against plain forwards, identities, and the model's own hook points."""

import contextlib
import math
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from gptviz.derivation import DERIVED
from gptviz.model import GPT, MLP, CausalSelfAttention, GPTConfig, HookPoint, LayerNorm, attention_scores
from gptviz.naming import AXES, TRANSFORMERLENS, UnknownNameError, resolve_names, shape_of
from gptviz.tokenizers import CharTokenizer
from gptviz.trace import describe, record

CONFIG = GPTConfig(block_size=12, vocab_size=11, n_layer=3, n_head=2, n_embd=8)
IDS = [3, 1, 4, 1, 5, 9, 2, 6]


def make_model(**changes):
    torch.manual_seed(0)
    fields = dict(block_size=12, vocab_size=11, n_layer=3, n_head=2, n_embd=8) | changes
    model = GPT(GPTConfig(**fields))
    with torch.no_grad():  # large enough that every identity would notice a mistake
        for parameter in model.parameters():
            parameter.mul_(8).add_(0.1 * torch.randn_like(parameter))
    return model


def assert_near(value, expected, tolerance=1e-6):
    """Equal to `tolerance` relative to the largest finite value; NaN and -inf in the same places."""
    assert value.shape == expected.shape
    finite = expected.isfinite()
    assert torch.equal(finite, value.isfinite())
    difference = (
        (value - expected)[finite].abs().max() / expected[finite].abs().max() if finite.any() else 0.0
    )
    assert difference <= tolerance


def test_every_name_has_the_shape_of_the_table():
    trace = record(make_model(), IDS)
    assert set(trace.names) == set(AXES)
    for name in AXES:
        assert tuple(trace[name].shape) == shape_of(name, CONFIG, len(IDS)), name
        assert trace.axes(name) == AXES[name]


def test_values_are_the_ones_that_pass_the_hook_points():
    model, seen = make_model(), {}
    for address, point in model.hook_points.items():
        point.listeners.append(lambda value, address=address: seen.__setitem__(address, value.clone()))
    trace = record(model, IDS)
    for point in model.hook_points.values():
        point.listeners.clear()
    for (name, layer), value in seen.items():
        recorded = trace[name] if layer is None else trace[name, layer]
        expected = value[0]
        torch.testing.assert_close(recorded, expected, rtol=0, atol=0)


def test_logits_and_loss_equal_the_plain_forward():
    model = make_model()
    trace = record(model, IDS)
    idx = torch.tensor([IDS])
    with torch.no_grad():
        logits, loss = model(idx[:, :-1], idx[:, 1:])
    torch.testing.assert_close(trace["logits"][:-1], logits[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(trace["loss"].nanmean(), loss, rtol=1e-5, atol=1e-6)
    assert math.isnan(trace["loss"][0])


@pytest.mark.parametrize(
    "changes", [{}, {"bias": False}, {"activation": "gelu_tanh"}, {"tie_weights": False}]
)
def test_check_measures_every_identity(changes):
    model = make_model(**changes)
    checks = record(model, IDS).check()
    assert list(checks) == [
        "recorded values are finite",
        "rows of pattern sum to 1",
        "pattern is causal",
        "resid_mid = resid_pre + attn_out",
        "resid_post = resid_mid + mlp_out",
        "unembed(last resid_post) = logits",
        "mean loss = cross-entropy",
    ]
    assert all(check.passed for check in checks.values()), checks


def test_check_notices_a_wrong_value():
    trace = record(make_model(), IDS)
    trace["attn_out", 1][2, 3] += 1.0
    failed = [name for name, check in trace.check().items() if not check.passed]
    assert failed == ["resid_mid = resid_pre + attn_out"]


def test_check_notices_what_fused_attention_hides():
    """It gives 0 where a query is NaN: logits of a plain pass are finite, those beside a recorded pattern are not."""
    model = make_model()
    with torch.no_grad():
        model.transformer.h[1].attn.c_attn.bias[0] = math.nan

    def failed(**options) -> list[str]:
        return [name for name, check in record(model, IDS, **options).check().items() if not check.passed]

    assert record(model, IDS, names="logits")["logits"].isfinite().all()
    assert failed(names="logits") == ["weights of q, k and v are finite"]
    assert failed(names=["q", "logits"]) == ["recorded values are finite"]
    assert not record(model, IDS, names=["pattern", "logits"])["logits"].isfinite().any()
    assert "recorded values are finite" in failed(names=["pattern", "logits"])
    alone = record(model, IDS, names="resid_post", layers=1)  # nothing tells whether the weights are still the same
    assert "weights of q, k and v are finite" not in alone.check()
    assert alone.check(model)["weights of q, k and v are finite"].error == 1.0


@pytest.mark.parametrize(
    "options", [{}, {"names": ["scores", "loss"]}, {"names": "loss", "positions": [0, 3]}, {"positions": -1}], ids=str
)
def test_masked_scores_and_the_first_loss_are_not_mistaken_for_faults(options):
    model = make_model()
    handle = model.hook_points["scores", 0].register_forward_hook(lambda module, args, scores: scores * 0.5)
    with handle:
        assert all(check.passed for check in record(model, IDS, **options).check().values())


def test_check_counts_what_a_small_type_cannot_hold():
    model = make_model()
    with torch.no_grad():
        model.lm_head.weight[3] = 1e6
    assert record(model, IDS, names="logits", dtype=torch.float16).check()["recorded values are finite"].error > 0


def test_check_does_not_use_weights_that_changed():
    model = make_model()
    trace = record(model, IDS)
    with torch.no_grad():
        model.lm_head.weight.add_(1.0)
    assert "unembed(last resid_post) = logits" not in trace.check()
    assert not trace.check(model)["unembed(last resid_post) = logits"].passed


@pytest.mark.parametrize("changes", [{}, {"bias": False}, {"activation": "gelu_tanh"}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_derived_values_equal_recorded_ones(changes, dtype):
    model = make_model(**changes).to(dtype)
    derived, recorded = record(model, IDS), record(model, IDS, names=list(DERIVED))
    assert not any(name in DERIVED for name, _ in derived._values)
    for name in DERIVED:
        torch.testing.assert_close(derived[name], recorded[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", ["ln_1", "ln_2"])
def test_norms_divided_by_an_edited_scale_are_recorded_not_derived(name):
    model = make_model()
    with model.hook_points[f"{name}_scale", 1].register_forward_hook(lambda point, args, scale: 2 * scale):
        everything, alone = record(model, IDS), record(model, IDS, names=name)
    assert_near(everything[name], alone[name], 1e-5)  # alone: the fused attention
    assert not torch.allclose(everything[name, 1], record(model, IDS)[name, 1], rtol=0.1)


@pytest.mark.parametrize(
    ("place", "names"),
    [("ln_1", ["ln_1", "ln_1_scale"]), ("ln_2", ["ln_2", "ln_2_scale"]), ("attn.attn_dropout", ["z"])],
)
def test_what_a_hook_on_a_module_changes_is_recorded_not_derived(place, names):
    model, seen = make_model(), {}
    module = model.transformer.h[1].get_submodule(place)
    handle = module.register_forward_pre_hook(lambda module, args: args[0].square())
    for name in names:
        model.hook_points[name, 1].listeners.append(lambda value, name=name: seen.__setitem__(name, value[0].clone()))
    trace = record(model, IDS)
    handle.remove()
    for name in names:
        model.hook_points[name, 1].listeners.clear()
    unhooked = record(model, IDS)
    for name in names:
        torch.testing.assert_close(trace[name, 1], seen[name], rtol=0, atol=0)
        assert not torch.allclose(trace[name, 1], unhooked[name, 1], rtol=0.01)


def replace_forward_of_the_mlp(block):
    mlp = block.mlp
    mlp.forward = lambda x: mlp.c_proj(mlp.mlp_post(mlp.mlp_pre(mlp.c_fc(x)).relu()))


def replace_explicit_attention(block):
    attn = block.attn

    def sharper(q, k, v):
        return attn.pattern(attn.scores(attention_scores(2 * q, k)).softmax(-1)) @ v

    attn.explicit_attention = sharper


def replace_forward_of_a_norm(block):
    norm = block.ln_1
    norm.forward = lambda x: norm.normalised(x / norm.scale(x.norm(dim=-1))[..., None])


def replace_forward_of_the_block(block):
    def of_the_square(x):
        x = block.resid_pre(x)
        x = block.resid_mid(x + block.attn_out(block.attn(block.ln_1(x.square()))))
        return block.resid_post(x + block.mlp_out(block.mlp(block.ln_2(x.square()))))

    block.forward = of_the_square


def replace_dropout(block):
    block.attn.attn_dropout.forward = lambda pattern: pattern.square()


def set_another_activation(block):
    block.mlp.approximate = "tanh"


class DoubledMLP(MLP):
    def forward(self, x):
        return self.c_proj(self.mlp_post(2 * F.gelu(self.mlp_pre(self.c_fc(x)))))


def set_another_class(block):
    block.mlp.__class__ = DoubledMLP


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (replace_forward_of_the_mlp, ["mlp_post"]),
        (set_another_activation, ["mlp_post"]),
        (set_another_class, ["mlp_post"]),
        (replace_explicit_attention, ["scores", "z"]),
        (replace_dropout, ["z"]),
        (replace_forward_of_a_norm, ["ln_1", "ln_1_scale"]),
        (replace_forward_of_the_block, ["ln_1", "ln_1_scale", "ln_2", "ln_2_scale"]),
    ],
)
def test_what_a_replaced_part_computes_is_recorded_not_derived(change, names):
    model, seen = make_model(), {}
    unchanged = record(model, IDS)
    change(model.transformer.h[1])  # after a recording of the same names: nothing may be remembered from it
    for name in names:
        model.hook_points[name, 1].listeners.append(lambda value, name=name: seen.__setitem__(name, value[0].clone()))
    trace = record(model, IDS)
    for name in names:
        model.hook_points[name, 1].listeners.clear()
        torch.testing.assert_close(trace[name, 1], seen[name], rtol=0, atol=0)
        assert not torch.equal(trace[name, 1], unchanged[name, 1])


@pytest.mark.parametrize(
    ("kind", "method", "name"),
    [(MLP, "forward", "mlp_post"), (CausalSelfAttention, "explicit_attention", "scores")],
)
def test_what_a_replaced_method_of_a_class_computes_is_recorded_not_derived(monkeypatch, kind, method, name):
    model, own = make_model(), getattr(kind, method)
    monkeypatch.setattr(kind, method, lambda module, *args: own(module, *args))
    assert (name, 1) in record(model, IDS)._values


@pytest.mark.parametrize("name", ["ln_1", "ln_1_scale", "ln_2", "ln_2_scale"])
def test_a_norm_with_another_epsilon_is_recorded_not_derived(name):
    model, seen = make_model(), []
    getattr(model.transformer.h[1], name[:4]).eps = 0.5
    model.hook_points[name, 1].listeners.append(lambda value: seen.append(value[0].clone()))
    trace = record(model, IDS)
    model.hook_points[name, 1].listeners.clear()
    torch.testing.assert_close(trace[name, 1], seen[0], rtol=0, atol=0)
    assert not torch.allclose(trace[name, 1], record(make_model(), IDS)[name, 1], rtol=0.01)


def test_norms_with_and_without_a_bias_are_derived_side_by_side():
    model = make_model()
    model.transformer.h[1].ln_1.bias = None
    trace = record(model, IDS)
    for name in ("ln_1", "ln_2"):
        torch.testing.assert_close(trace[name], record(model, IDS, names=name)[name], rtol=1e-5, atol=1e-5)


def test_what_a_hook_on_all_modules_changes_is_recorded_not_derived():
    model, seen = make_model(), []

    def scale_norms(module, args):
        return (2 * args[0],) if isinstance(module, LayerNorm) else None

    model.hook_points["ln_1_scale", 1].listeners.append(lambda value: seen.append(value[0].clone()))
    with register_module_forward_pre_hook(scale_norms):
        trace = record(model, IDS)
    model.hook_points["ln_1_scale", 1].listeners.clear()
    torch.testing.assert_close(trace["ln_1_scale", 1], seen[0], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["z", "scores"])
def test_a_hook_point_that_somebody_put_in_is_missed_not_derived_around(name):
    model = make_model()
    setattr(model.transformer.h[1].attn, name, HookPoint(name))
    with pytest.raises(RuntimeError, match=f"Nothing passed the hook points .*{name}"):
        record(model, IDS)


def test_gradients_of_what_has_no_loss_are_refused():
    model = make_model()
    with pytest.raises(ValueError, match=r"grad= needs the logits, but stop_at_layer=1 ends before them\."):
        record(model, IDS, grad=True, stop_at_layer=1)
    with pytest.raises(ValueError, match=r"at least 2 tokens, but a text has 1\."):
        record(model, [[0, 1], [2]], grad=True)


def test_gradients_reach_one_name_of_a_model_whose_parameters_are_frozen():
    model = make_model()
    expected = record(model, IDS, grad=True).gradient("z")
    model.requires_grad_(False)
    assert_near(record(model, IDS, names="z", grad=True).gradient("z"), expected, 1e-5)


@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_begin_where_the_pass_does(frozen):
    model = make_model()
    expected = record(model, IDS, grad=True)
    assert_near(expected.gradient("pos_embed"), expected.gradient(("resid_pre", 0)), 1e-6)
    model.requires_grad_(not frozen)
    assert_near(record(model, IDS, grad=True).gradient("pos_embed"), expected.gradient("pos_embed"), 1e-5)
    stream = expected["resid_pre", 1].clone()
    late = record(model, IDS, grad=True, start_at_layer=(1, stream))
    assert_near(late.gradient(("resid_pre", 1)), expected.gradient(("resid_pre", 1)), 1e-5)
    assert_near(late.gradient("z"), expected.gradient("z")[1:], 1e-5)
    assert not stream.requires_grad


def test_edited_scores_are_recorded_not_derived():
    model = make_model()
    handle = model.hook_points["scores", 1].register_forward_hook(lambda module, args, value: value * 0.5)
    trace = record(model, IDS)
    handle.remove()
    assert trace.edited == (("scores", 1),)
    plain = record(model, IDS)
    torch.testing.assert_close(trace["scores", 1], plain["scores", 1] * 0.5)
    torch.testing.assert_close(trace["pattern", 1], trace["scores", 1].softmax(-1))


def test_filters_keep_exactly_the_part_asked_for():
    model = make_model()
    whole = record(model, IDS)
    part = record(model, IDS, layers=[0, 2], heads=1, positions=[2, -1])
    assert (part.layers, part.heads, part.positions) == ((0, 2), (1,), (2, 7))
    for name in AXES:
        expected = whole[name]
        for dim, axis in enumerate(AXES[name]):
            chosen = {"layer": [0, 2], "head": [1], "pos": [2, 7], "query": [2, 7]}.get(axis)
            if chosen:
                expected = expected.index_select(dim, torch.tensor(chosen))
        torch.testing.assert_close(part[name], expected, rtol=1e-6, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize(("ours", "theirs"), [(ours, theirs) for theirs, ours in TRANSFORMERLENS.items()])
def test_transformerlens_spellings_are_accepted(ours, theirs):
    if AXES[ours][0] == "layer":
        theirs = f"blocks.1.{theirs}"
    trace = record(make_model(), IDS, names=theirs)
    assert trace.names == (ours,)
    key = theirs
    assert trace[key].shape == trace[(ours, 1) if AXES[ours][0] == "layer" else ours].shape


def test_globs_and_layers():
    assert resolve_names(["resid_*"], 2, [1]) == [("resid_pre", 1), ("resid_mid", 1), ("resid_post", 1)]
    assert resolve_names("pattern.-1", 3) == [("pattern", 2)]


def test_batch_equals_one_by_one():
    model = make_model().double()
    texts = [IDS, [7], [2, 2, 3]]
    for name in AXES:
        for together, ids in zip(record(model, texts), texts, strict=True):
            alone = record(model, ids)
            assert len(together) == len(ids)
            assert_near(together[name], alone[name], 1e-13)


def test_a_list_of_tensors_is_a_batch():
    first, second = record(make_model(), [torch.tensor(IDS), torch.tensor([7, 1])])
    assert (len(first), len(second)) == (8, 2)
    with pytest.raises(ValueError, match="at least one token"):
        record(make_model(), ())


def test_dtype_and_device_conversion():
    trace = record(make_model(), IDS, names=["resid_post", "pattern"], dtype=torch.float16, device="cpu")
    assert trace["resid_post"].dtype == torch.float16
    assert all(check.passed for check in trace.check().values())


def test_max_bytes_is_the_size_held_and_refuses_before_running():
    model = make_model()
    trace = record(model, IDS)
    record(model, IDS, max_bytes=trace.nbytes)
    ran = []
    handle = model.transformer.wte.register_forward_hook(lambda *_: ran.append(1))
    with pytest.raises(ValueError, match=r"must fit in max_bytes \(\d.*By itself would fit: .*pattern"):
        record(model, IDS, max_bytes=trace.nbytes - 1)
    handle.remove()
    assert not ran


def test_gradients_equal_autograd_and_leave_the_parameters_alone():
    model = make_model()
    trace = record(model, IDS, grad=True)
    assert all(parameter.grad is None for parameter in model.parameters())
    idx = torch.tensor([IDS])
    _, loss = model(idx[:, :-1], idx[:, 1:])
    loss.backward()
    ln_f = model.transformer.ln_f.bias.grad  # the bias is added at every position: its gradient is their sum
    assert_near(trace.gradient("ln_final").sum(0), ln_f)
    wpe = model.transformer.wpe.weight.grad[: len(IDS)]
    assert_near(trace.gradient("pos_embed"), wpe, 1e-5)  # the loss of the model itself went through the fused attention
    assert trace.gradient("pattern").shape == trace["pattern"].shape
    assert not trace["pattern"].requires_grad


def test_gradient_of_a_chosen_logit_in_a_batch_and_with_frozen_parameters():
    model = make_model().requires_grad_(False)

    def wanted(logits):
        return logits[-1, 4]

    for together, ids in zip(record(model, [IDS, [2, 7]], grad=wanted), [IDS, [2, 7]], strict=True):
        alone = record(model, ids, grad=wanted)
        assert_near(together.gradient("resid_pre"), alone.gradient("resid_pre"), 1e-5)
    step = 1e-3 * torch.nn.functional.normalize(
        alone.gradient(
            "resid_pre",
        )[0],
        dim=-1,
    )
    moved = record(model, ids, start_at_layer=(0, alone["resid_pre", 0] + step))
    gained = moved["logits"][-1, 4] - alone["logits"][-1, 4]
    torch.testing.assert_close(gained, (alone.gradient("resid_pre")[0] * step).sum(), rtol=2e-2, atol=1e-4)


def test_start_and_stop_at_a_layer():
    model = make_model()
    whole = record(model, IDS)
    early = record(model, IDS, stop_at_layer=2)
    assert early.layers == (0, 1)
    assert "logits" not in early
    torch.testing.assert_close(early["resid_post", 1], whole["resid_post", 1], rtol=0, atol=0)
    late = record(model, IDS, start_at_layer=(2, early["resid_post", 1]))
    assert late.layers == (2,)
    assert "embed" not in late
    torch.testing.assert_close(late["logits"], whole["logits"], rtol=0, atol=0)


@pytest.mark.parametrize("stop", [0, 4, True])
def test_a_stop_that_is_no_layer_is_refused(stop):
    with pytest.raises(ValueError, match=r"stop_at_layer must be 1 to 3, not"):
        record(make_model(), IDS, stop_at_layer=stop)


def test_model_is_left_as_found_also_after_an_exception():
    model = make_model(dropout=0.3).train()
    model.transformer.h[1].eval()
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    calls = []
    permanent = model.hook_points["q", 0].register_forward_hook(lambda *_: calls.append(1))
    first, second = record(model, IDS), record(model, IDS)
    torch.testing.assert_close(first["logits"], second["logits"], rtol=0, atol=0)  # no dropout

    def fail(module, args, value):
        raise KeyError("from the hook")

    handle = model.hook_points["mlp_post", 1].register_forward_hook(fail)
    with pytest.raises(KeyError, match="from the hook"):
        record(model, IDS)
    handle.remove()
    assert modes == [module.training for module in model.modules()]
    assert torch.equal(state, torch.get_rng_state())
    assert torch.is_grad_enabled()
    assert len(calls) == 3
    assert not any(point.listeners for point in model.hook_points.values())
    permanent.remove()


ASKED = [{}, {"names": "loss"}, {"heads": 0}, {"dtype": torch.float64}, {"grad": True}]


def assert_same(trace, expected):
    for name in expected.names:
        torch.testing.assert_close(trace[name], expected[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("asked", ASKED, ids=str)
@pytest.mark.parametrize("other", [[1, 2], IDS[::-1]], ids=["shorter", "as long"])
def test_nested_recordings_do_not_disturb_each_other(asked, other):
    model, inner = make_model(), []

    def record_something_else(module, args, value):
        if not inner:
            inner.append(None)  # this hook runs in the inner pass too
            inner[0] = record(model, other, **asked)

    with model.hook_points["resid_mid", 1].register_forward_hook(record_something_else):
        outer = record(model, IDS, **asked)
        assert_same(outer, record(model, IDS, **asked))
        assert_same(inner[0], record(model, other, **asked))
    assert outer.edited == (("resid_mid", 1),)


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_recordings_in_two_threads_do_not_disturb_each_other(asked):
    """The other begins while this one is half-way, and ends after it: with its readers, and still without dropout."""
    model = make_model(dropout=0.5).train()
    listeners, found = model.hook_points["resid_mid", 1].listeners, []
    half_way, ended = threading.Event(), threading.Event()
    other = threading.Thread(target=lambda: found.append(record(model, IDS[::-1], **asked)))

    def wait_half_way(value):
        if threading.current_thread() is other:
            half_way.set()
            assert ended.wait(60)

    def start_the_other(value):
        if threading.current_thread() is not other:
            listeners.append(wait_half_way)  # after this recording's reader, before the other's
            other.start()
            assert half_way.wait(60)

    listeners.append(start_the_other)
    here = record(model, IDS, **asked)
    ended.set()
    other.join()
    listeners.clear()
    assert all(module.training for module in model.modules())
    model.eval()
    assert_same(here, record(model, IDS, **asked))
    assert_same(found[0], record(model, IDS[::-1], **asked))


@pytest.mark.parametrize("asked", [{}, {"names": "resid_pre"}, {"names": "logits"}, {"heads": 0}], ids=str)
def test_a_pass_within_a_recording_is_refused(asked):
    model, begun = make_model(), []

    def run_the_model(module, args, value):
        if not begun:
            begun.append(None)
            model(torch.tensor([IDS[::-1]]), torch.tensor([IDS]))

    with (
        model.hook_points["resid_mid", 1].register_forward_hook(run_the_model),
        pytest.raises(RuntimeError, match="must pass its hook point once in a recording, but passed twice"),
    ):
        record(model, IDS, **asked)
    assert not any(point.listeners for point in model.hook_points.values())
    assert_same(record(model, IDS), record(make_model(), IDS))


def test_a_value_changed_in_place_after_recording_is_refused():
    model = make_model()
    handle = model.hook_points["resid_pre", 2].register_forward_hook(
        lambda module, args, value: value.mul_(2.0)
    )
    with pytest.raises(RuntimeError, match="resid_post of layer 1 was changed in place"):
        record(model, IDS)
    handle.remove()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradient_modes(context):
    model = make_model()
    with context():
        trace = record(model, IDS)
        assert record(model, IDS, grad=True).gradient("z").shape == trace["z"].shape
    assert not trace["logits"].requires_grad
    assert all(check.passed for check in trace.check().values())


def test_autocast_records_what_the_model_computed():
    model = make_model()
    idx = torch.tensor([IDS])
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        trace = record(model, IDS)
        logits, _ = model(idx, idx)
    assert trace["mlp_pre"].dtype == torch.bfloat16
    torch.testing.assert_close(trace["logits"], logits[0], rtol=0.05, atol=0.2)
    assert all(check.passed for check in trace.check().values()), trace.check()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # torch's own import
def test_wrapped_models_are_recorded_and_said_so():
    model = make_model()
    compiled = torch.compile(model)
    trace = record(compiled, IDS)
    assert "inside OptimizedModule" in trace.notes[0]
    torch.testing.assert_close(trace["logits"], record(model, IDS)["logits"], rtol=0, atol=0)
    with pytest.raises(TypeError, match="DataParallel"):
        record(torch.nn.DataParallel(model), IDS)
    with pytest.raises(TypeError, match="must be a gptviz GPT"):
        record(torch.nn.Linear(2, 2), IDS)


def test_nothing_is_kept_after_the_trace_is_dropped():
    import gc
    import weakref

    model = make_model()
    trace = record(model, IDS)
    held = weakref.ref(trace["pattern", 0]._base)
    del trace
    gc.collect()
    assert held() is None


def test_one_token_and_tokens_with_a_tokenizer():
    model = make_model(vocab_size=3)
    trace = record(model, "a b", CharTokenizer("ab "))
    assert trace.tokens == ("a", "·", "b")
    one = record(model, [2])
    assert one["loss"].shape == (1,)
    assert math.isnan(one["loss"][0])
    assert "mean loss = cross-entropy" not in one.check()


def test_truncation_is_asked_for_and_noted():
    model = make_model()
    long = [i % 11 for i in range(15)]
    with pytest.raises(
        ValueError, match=r"Text has 15 tokens but the model reads at most 12 \(block_size\). Shorten"
    ):
        record(model, long)
    trace = record(model, long, truncate="left")
    assert trace.ids.tolist() == long[3:]
    assert "3 of 15 tokens were cut off at the left" in trace.notes[0]


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ([], ValueError, "at least one token"),
        ([0, 11], ValueError, r"from 0 to 10 .*; got 11 at position 1"),
        ([2**70], ValueError, "got 1180591620717411303424 at position 0"),
        ([-1], ValueError, "got -1 at position 0"),
        ([0.5], TypeError, "must be"),
        (torch.tensor([True]), TypeError, "whole numbers"),
        (torch.tensor([[[1]]]), TypeError, "whole numbers"),
        (None, TypeError, "must be a string, token ids, or a list"),
        ("abc", TypeError, "needs a tokenizer"),
        ([[1], []], ValueError, "at least one token"),
    ],
)
def test_bad_texts(text, error, match):
    with pytest.raises(error, match=match):
        record(make_model(), text)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"names": "patern"}, "matches no activation. Did you mean 'pattern'"),
        ({"names": "attn"}, "'scores', 'pattern', 'attn_out'"),
        ({"names": []}, "at least one name"),
        ({"names": "pattern.3"}, "no layer 3: it must be 0 to 2"),
        ({"layers": 5}, "no layer 5"),
        ({"heads": [2]}, "no head 2"),
        ({"positions": [8]}, "no position 8"),
        ({"layers": []}, "At least one layer"),
        ({"names": "logits", "stop_at_layer": 1}, "does not compute all of"),
    ],
)
def test_names_and_indices_that_do_not_exist(options, match):
    with pytest.raises(UnknownNameError, match=match):
        record(make_model(), IDS, **options)


def test_values_that_were_not_recorded():
    trace = record(make_model(), IDS, names=["pattern", "logits"], layers=1)
    for key, match in [
        ("z", "z was not recorded; this trace holds pattern, logits of layers"),
        (("pattern", 0), "pattern of layer 0 was not recorded"),
        (("logits", 1), "belongs to no layer"),
        ("hook_pattern", "Did you mean 'pattern'"),
    ]:
        with pytest.raises(UnknownNameError, match=match):
            trace[key]
    with pytest.raises(UnknownNameError, match="no gradients"):
        trace.gradient("pattern")
    with pytest.raises(TypeError, match="indexed by a name"):
        trace[3]


def test_describe_states_what_record_holds():
    model = make_model()
    rows = {row.name: row for row in describe(model, len(IDS))}
    trace = record(model, IDS, names=list(AXES), dtype=torch.float32)
    for name, row in rows.items():
        assert row.shape == tuple(trace[name].shape)
        assert row.nbytes == trace[name].numel() * 4
    assert "pattern" in repr(describe(model))
    assert "layer head query key" in repr(describe(model))


def test_losses_are_cross_entropy_per_position():
    trace = record(make_model(), IDS)
    expected = F.cross_entropy(trace["logits"][:-1], trace.ids[1:], reduction="none")
    torch.testing.assert_close(trace["loss"][1:], expected)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (b"ab", "must be a string, token ids, or a list of these, not bytes"),
        ({0: 1}, "must be a string, token ids, or a list of these, not dict"),
        ({0, 1}, "must be a string, token ids, or a list of these, not set"),
        (torch.tensor(1), r"must stand in one row, but tensor\(1\) is a single number"),
        (np.array([0, None]), r"must be whole numbers in one row; got ndarray \[0 None\]"),
        (torch.zeros(2, dtype=torch.long, device="meta"), "must be whole numbers in one row; got Tensor"),
    ],
    ids=repr,
)
def test_what_is_neither_text_nor_ids_is_refused(ids, message):
    with pytest.raises(TypeError, match=message):
        record(make_model(), ids)


def test_ids_of_every_whole_type_are_read():
    for kind in (np.uint8, np.uint64, np.int32):
        assert record(make_model(), np.array([0, 1], dtype=kind)).ids.tolist() == [0, 1]


def test_values_are_not_converted_to_whole_numbers_or_to_nowhere():
    with pytest.raises(ValueError, match=r"dtype must be a floating-point type such as torch.float16, not torch.int8"):
        record(make_model(), [0, 1], dtype=torch.int8)
    for device in ("meta", "nowhere"):
        with pytest.raises(ValueError, match=f"device must be one that this machine has, .* not '{device}'"):
            record(make_model(), [0, 1], device=device)


def test_a_name_that_the_pass_does_not_reach_is_refused_beside_others():
    model = make_model()
    with pytest.raises(UnknownNameError, match="does not compute all of"):
        record(model, IDS, names=["logits", "z"], stop_at_layer=1)
    found = record(model, IDS, names=["l*", "z"], stop_at_layer=1)
    assert found.names == ("ln_1_scale", "ln_1", "z", "ln_2_scale", "ln_2")


def test_a_block_that_is_no_number_is_an_unknown_name():
    trace = record(make_model(), IDS)
    assert "blocks.foo.attn.hook_z" not in trace
    with pytest.raises(UnknownNameError, match="matches no activation"):
        record(make_model(), IDS, names="blocks.foo.attn.hook_z")


def test_a_trace_in_half_precision_can_be_checked():
    model = make_model()
    checks = record(model, IDS, dtype=torch.float16).check()
    assert checks["unembed(last resid_post) = logits"].passed


# --- the pass ends behind the last value asked for -------------------------------------------------------------------


class Used(TorchFunctionMode):
    """The parameters that operations are called with."""

    def __enter__(self):
        self.parameters: set[int] = set()
        return super().__enter__()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.parameters |= {id(arg) for arg in args if isinstance(arg, nn.Parameter)}
        return func(*args, **(kwargs or {}))


def test_the_pass_ends_behind_the_last_value_asked_for():
    model, used = make_model(), Used()
    expected = record(model, IDS)
    blocks = model.transformer.h
    behind = {id(part.weight) for part in (blocks[1].mlp.c_fc, blocks[2].ln_1, blocks[2].attn.c_attn,
                                           model.transformer.ln_f)}
    for options in ({"layers": 1}, {"layers": [0, 1], "heads": 1}, {"layers": [1, 0], "dtype": torch.float64}):
        with used:
            trace = record(model, IDS, names="pattern", **options)
        assert id(blocks[1].attn.c_attn.weight) in used.parameters
        assert not behind & used.parameters
        heads = slice(None) if options.get("heads") is None else [1]
        assert_near(trace["pattern", 1], expected["pattern", 1][heads].to(trace["pattern", 1]))
    with used:
        together = record(model, [IDS, IDS[:3]], names=["embed", "q"], layers=0)
    assert id(blocks[0].mlp.c_fc.weight) not in used.parameters
    assert_near(together[1]["q"], expected["q", 0][None, :, :3])
    with used:
        assert_near(record(model, IDS, names=["embed", "pos_embed"])["pos_embed"], expected["pos_embed"])
    assert id(blocks[0].ln_1.weight) not in used.parameters
    for names in ("ln_final", "loss", "resid_pre.2"):
        with used:
            record(model, IDS, names=names)
        assert id(blocks[1].mlp.c_fc.weight) in used.parameters


@pytest.mark.parametrize("options", [{}, {"heads": 0}, {"dtype": torch.float64}], ids=str)
def test_each_name_by_itself_is_what_it_is_among_all(options):
    model = make_model()
    among_all = record(model, IDS, **options)
    for name, layer in resolve_names(None, CONFIG.n_layer):
        alone = record(model, IDS, names=name, layers=layer, **options)
        key = name if layer is None else (name, layer)
        assert_near(alone[key], among_all[key], 1e-5)


def test_whoever_waits_further_on_is_not_cut_off():
    model, seen = make_model(), []

    def note(*_):
        seen.append(None)

    def heard(register, names="pattern.0") -> int:
        seen.clear()
        with register:
            record(model, IDS, names=names)
        return len(seen)

    blocks = model.transformer.h
    assert heard(blocks[0].mlp.register_forward_hook(note)) == 1
    assert heard(blocks[2].attn.c_proj.register_forward_pre_hook(note)) == 1
    assert heard(model.transformer.ln_f.register_forward_hook(note)) == 1
    assert heard(model.lm_head.register_forward_hook(note), "embed") == 1
    assert heard(model.transformer.wpe.register_forward_hook(note), "embed") == 1
    assert heard(model.transformer.drop.register_forward_hook(note), "pos_embed") == 1
    assert heard(model.hook_points["mlp_out", 2].register_forward_hook(note)) == 1
    assert heard(register_module_forward_pre_hook(note)) > 20
    for address, names in ((("logits", None), "pattern.0"), (("pos_embed", None), "embed")):
        listeners = model.hook_points[address].listeners
        listeners.append(note)
        assert heard(contextlib.nullcontext(), names) == 1
        listeners.remove(note)


def run_twice(block: nn.Module) -> None:
    once = block.forward
    block.forward = lambda x: once(once(x))


def wrap(model: GPT) -> None:
    """Layer 1 in a module that runs it twice."""
    block = model.transformer.h[1]
    model.transformer.h[1] = nn.Sequential(block, block)


@pytest.mark.parametrize("change", [lambda model: run_twice(model.transformer.h[1]), wrap], ids=["forward", "module"])
@pytest.mark.parametrize("options", [{}, {"names": "resid_post"}, {"names": "q", "heads": 0}], ids=str)
def test_what_passes_twice_is_refused_whatever_is_asked_for(change, options):
    model = make_model()
    change(model)
    with pytest.raises(RuntimeError, match="passed twice"):
        record(model, IDS, layers=1, **options)


def test_code_of_ones_own_that_catches_exceptions_sees_none_at_the_end_of_a_pass():
    model, seen = make_model(), []

    def guarded(call):
        def catching(x):
            try:
                return call(x)
            except Exception as error:
                seen.append(error)
                raise

        return catching

    norm = model.transformer.h[1].ln_1
    norm.forward = guarded(norm.forward)
    expected = record(model, IDS)["resid_pre", 2]
    model.embedding = guarded(model.embedding)
    assert_near(record(model, IDS, names="resid_pre.2")["resid_pre", 2], expected)
    record(model, IDS, names="ln_1", layers=1)
    record(model, IDS, names="embed")
    assert seen == []


def test_a_pass_that_ends_early_leaves_the_model_as_found():
    model = make_model(dropout=0.3).train()
    before = torch.get_rng_state()
    record(model, IDS, names="q", layers=1)
    assert all(module.training for module in model.modules())
    assert torch.is_grad_enabled()
    assert torch.equal(before, torch.get_rng_state())
    assert not any(point.listeners for point in model.hook_points.values())
    assert_near(record(model, IDS)["logits"], record(model, IDS, names="logits")["logits"], 1e-5)
