"""Edits against forwards written by hand, identities, and what intervene reports, refuses and leaves behind."""

import json
import math
import re
import threading
from collections import OrderedDict

import pytest
import torch
from torch.nn import functional as F

from gptviz.generation import generate
from gptviz.interventions import (
    Edit,
    IneffectiveEditError,
    ablate_head,
    ablate_mlp,
    ablate_position,
    freeze_ln,
    freeze_pattern,
    intervene,
    patch,
    scale_head,
    set_pattern,
    steer,
    transplant_head,
)
from gptviz.model import GPT, GPTConfig
from gptviz.naming import AXES, TRANSFORMERLENS, UnknownNameError
from gptviz.trace import record

IDS = [3, 1, 4, 1, 5, 9, 2, 6]
OTHER = [8, 3, 1, 7, 0, 2, 4, 10]


def make_model(seed=0, **changes):
    torch.manual_seed(seed)
    fields = dict(block_size=12, vocab_size=11, n_layer=3, n_head=2, n_embd=8) | changes
    model = GPT(GPTConfig(**fields))
    with torch.no_grad():  # large enough that every identity would notice a mistake
        for parameter in model.parameters():
            parameter.mul_(8).add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def model():
    return make_model()


def by_hand(model, ids, edit):
    """The logits of every position, computed from the weights; `edit(name, layer, value)` may return another value.

    Values have no batch axis: pos d_model, head pos d_head, head query key, pos (scales).
    """
    w, c = model.state_dict(), model.config
    ids = torch.tensor(ids)
    n = len(ids)

    def norm(x, name, layer, key):
        centred = x - x.mean(-1, keepdim=True)
        scale = (centred.pow(2).mean(-1) + 1e-5).sqrt()
        scale = edit(f"{name}_scale", layer, scale)
        out = centred / scale[:, None] * w[f"{key}.weight"] + w[f"{key}.bias"]
        return edit(name, layer, out)

    x = edit("embed", None, w["transformer.wte.weight"][ids]) + edit("pos_embed", None, w["transformer.wpe.weight"][:n])
    for layer in range(c.n_layer):
        key = f"transformer.h.{layer}"
        x = edit("resid_pre", layer, x)
        h = norm(x, "ln_1", layer, f"{key}.ln_1")
        qkv = h @ w[f"{key}.attn.c_attn.weight"].T + w[f"{key}.attn.c_attn.bias"]
        q, k, v = (part.view(n, c.n_head, -1).transpose(0, 1) for part in qkv.split(c.n_embd, dim=-1))
        q, k, v = edit("q", layer, q), edit("k", layer, k), edit("v", layer, v)
        scores = q @ k.transpose(-1, -2) / math.sqrt(c.d_head)
        scores = edit("scores", layer, scores.masked_fill(torch.ones(n, n).triu(1).bool(), -math.inf))
        pattern = edit("pattern", layer, scores.softmax(-1))
        z = edit("z", layer, pattern @ v)
        out = z.transpose(0, 1).reshape(n, -1) @ w[f"{key}.attn.c_proj.weight"].T + w[f"{key}.attn.c_proj.bias"]
        x = edit("resid_mid", layer, x + edit("attn_out", layer, out))
        h = norm(x, "ln_2", layer, f"{key}.ln_2")
        h = edit("mlp_pre", layer, h @ w[f"{key}.mlp.c_fc.weight"].T + w[f"{key}.mlp.c_fc.bias"])
        h = edit("mlp_post", layer, F.gelu(h))
        out = h @ w[f"{key}.mlp.c_proj.weight"].T + w[f"{key}.mlp.c_proj.bias"]
        x = edit("resid_post", layer, x + edit("mlp_out", layer, out))
    return edit("logits", None, norm(x, "ln_final", None, "transformer.ln_f") @ w["lm_head.weight"].T)


def only(name, layer, change):
    """An edit for `by_hand`: a copy of one value, changed in place."""

    def edit(found, at, value):
        if (found, at) == (name, layer):
            value = value.clone()
            change(value)
        return value

    return edit


def logits_of(model, ids):
    with torch.no_grad():
        idx = torch.tensor([ids])
        return model(idx, idx)[0][0]


def edited_logits(model, ids, *edits, **options):
    with intervene(model, *edits, **options):
        return logits_of(model, ids)


def close(actual, expected):
    """To 1e-5 of the largest number; NaN and infinities at the same places."""
    largest = float(expected[expected.isfinite()].abs().max())
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5 * max(1.0, largest), equal_nan=True)


def put(index, new):
    return lambda value: value.__setitem__(index, new)


def times(index, factor):
    return lambda value: value.__setitem__(index, value[index] * factor)


# --- each edit against a forward by hand -----------------------------------------------------------------------------


def test_the_forward_by_hand_is_the_model(model):
    close(by_hand(model, IDS, lambda name, layer, value: value), logits_of(model, IDS))


STEP = torch.linspace(-1, 1, 8)
BY_HAND = {
    "ablate_head": (ablate_head(1, 0), "z", 1, put(0, 0.0)),
    "ablate_head from the end": (ablate_head(-1, -1, positions=[-1, 2]), "z", 2, put((1, [7, 2]), 0.0)),
    "ablate_mlp": (ablate_mlp(2, positions=slice(2, 5)), "mlp_out", 2, put(slice(2, 5), 0.0)),
    "ablate_position": (ablate_position(3), "resid_pre", 0, put(3, 0.0)),
    "ablate_position of a layer": (ablate_position([0, 4], layer=1), "resid_pre", 1, put([0, 4], 0.0)),
    "scale_head": (scale_head(0, 1, -2.5, positions=range(3, 8)), "z", 0, times((1, slice(3, 8)), -2.5)),
    "steer": (steer("resid_post.1", STEP, 3.0), "resid_post", 1, lambda value: value.add_(3 * STEP)),
    "steer by layer": (steer(2, STEP, positions=5), "resid_pre", 2, lambda value: value[5].add_(STEP)),
    "steer a head": (steer("blocks.1.attn.hook_v", STEP[:4], head=1), "v", 1, lambda value: value[1].add_(STEP[:4])),
    "steer embed": (steer("embed", STEP, positions=0), "embed", None, lambda value: value[0].add_(STEP)),
    "steer logits": (steer("logits", torch.arange(11.0)), "logits", None, lambda value: value.add_(torch.arange(11.0))),
    "set_pattern": (
        set_pattern(1, 1, 4, [0, 1, 0, 3, 0]),
        "pattern",
        1,
        put((1, 4), torch.tensor([0, 0.25, 0, 0.75, 0, 0, 0, 0])),
    ),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_an_edit_equals_the_forward_by_hand(model, case):
    edit, name, layer, change = BY_HAND[case]
    expected = by_hand(model, IDS, only(name, layer, change))
    assert (expected - logits_of(model, IDS)).abs().max() > 1e-3  # the edit matters
    close(edited_logits(model, IDS, edit), expected)


@pytest.mark.parametrize("name", [name for name in AXES if name != "loss"])
def test_patching_any_name_equals_the_forward_by_hand(model, name):
    source = record(model, OTHER)
    layer = 1 if AXES[name][0] == "layer" else None
    positions = [2, 5] if "head" not in AXES[name] else [6, 3]
    head = 1 if "head" in AXES[name] else None
    value = source[name] if layer is None else source[name, layer]
    index = positions if head is None else (1, positions)
    edit = patch(source, name, layer=layer, head=head, positions=positions)
    expected = by_hand(model, IDS, only(name, layer, put(index, value[index])))
    close(edited_logits(model, IDS, edit, allow_unchanged=name == "pos_embed"), expected)


@pytest.mark.parametrize("spelling", TRANSFORMERLENS)
def test_patch_takes_transformerlens_spellings(model, spelling):
    source, ours = record(model, OTHER), TRANSFORMERLENS[spelling]
    in_block = AXES[ours][0] == "layer"
    theirs = f"blocks.1.{spelling}" if in_block else spelling
    assert patch(source, theirs) == patch(source, ours, layer=1 if in_block else None)


def test_patch_moves_values_from_one_position_to_another(model):
    source = record(model, OTHER)
    edit = patch(source, "resid_mid.0", positions=[1, -1], source_positions=[6, 0])
    moved = source["resid_mid", 0][[6, 0]]
    close(edited_logits(model, IDS, edit), by_hand(model, IDS, only("resid_mid", 0, put([1, 7], moved))))


def test_patch_takes_what_a_partial_trace_holds(model):
    full, part = record(model, OTHER), record(model, OTHER, names="z", layers=1, heads=1, positions=[2, 5])
    taken, expected = patch(part, "z", layer=1, head=1), patch(full, "z", layer=1, head=1, positions=[2, 5])
    assert repr(taken) == repr(expected)
    close(taken.values[0], expected.values[0])


def test_freeze_ln_divides_by_the_recorded_scales(model):
    scales = record(model, OTHER)

    def frozen(name, layer, value):
        return scales[(name, layer) if layer is not None else name] if name.endswith("_scale") else value

    close(edited_logits(model, IDS, freeze_ln(scales)), by_hand(model, IDS, frozen))


@pytest.mark.parametrize(("layer", "head"), [(None, None), (1, None), (2, 0)])
def test_freeze_pattern_attends_as_recorded(model, layer, head):
    source = record(model, OTHER)

    def frozen(name, at, value):
        if name != "pattern" or layer not in (None, at):
            return value
        value = value.clone()
        value[slice(None) if head is None else head] = source["pattern", at][slice(None) if head is None else head]
        return value

    close(edited_logits(model, IDS, freeze_pattern(source, layer, head)), by_hand(model, IDS, frozen))


@pytest.mark.parametrize("name", ["pattern", "scores"])
def test_rows_of_attention_fit_longer_and_shorter_texts(model, name):
    source = record(model, OTHER)
    short, long = IDS[:5], [*IDS, 1, 2]
    for ids in (short, long):
        rows = source[name, 1][1, [2, 4]]
        fill = 0.0 if name == "pattern" else -math.inf
        rows = F.pad(rows, (0, 2), value=fill)[:, : len(ids)]
        edit = patch(source, name, layer=1, head=1, positions=[2, 4])
        close(edited_logits(model, ids, edit), by_hand(model, ids, only(name, 1, put((1, [2, 4]), rows))))


def with_transplanted(model, layer, head, other, from_layer, from_head):
    """A copy of the model whose parameters hold the other head."""
    copied, config = make_model(), model.config
    copied.load_state_dict(model.state_dict())
    mine, theirs = copied.transformer.h[layer].attn, other.transformer.h[from_layer].attn
    with torch.no_grad():
        for part in range(3):
            to = part * config.n_embd + head * config.d_head
            fro = part * config.n_embd + from_head * config.d_head
            mine.c_attn.weight[to : to + config.d_head] = theirs.c_attn.weight[fro : fro + config.d_head]
            mine.c_attn.bias[to : to + config.d_head] = theirs.c_attn.bias[fro : fro + config.d_head]
        to, fro = head * config.d_head, from_head * config.d_head
        mine.c_proj.weight[:, to : to + config.d_head] = theirs.c_proj.weight[:, fro : fro + config.d_head]
    return copied


@pytest.mark.parametrize(("from_layer", "from_head"), [(None, None), (2, 0)])
def test_a_transplanted_head_works_as_if_its_weights_were_written(model, from_layer, from_head):
    other = make_model(seed=1)
    parameters = {name: value.clone() for name, value in model.state_dict().items()}
    source = (1, 1) if from_layer is None else (from_layer, from_head)
    written = with_transplanted(model, 1, 1, other, *source)
    edit = transplant_head(1, 1, other, from_layer, from_head)
    close(edited_logits(model, IDS, edit), logits_of(written, IDS))
    with intervene(model, edit):
        trace = record(model, IDS)
    expected = record(written, IDS)
    for name in AXES:
        close(trace[name], expected[name])
    assert all(torch.equal(value, parameters[name]) for name, value in model.state_dict().items())


def test_a_trace_says_what_a_transplant_edited(model):
    with intervene(model, transplant_head(-2, 1, make_model(seed=1))):
        assert record(model, IDS).edited == (("q", 1), ("k", 1), ("v", 1), ("attn_out", 1))
    assert record(model, IDS).edited == ()


def test_the_later_of_two_transplants_of_a_head_counts(model):
    first, second = make_model(seed=1), make_model(seed=2)
    edits = transplant_head(1, 0, first), transplant_head(1, 1, first), transplant_head(1, 0, second)
    close(edited_logits(model, IDS, *edits), edited_logits(model, IDS, *edits[1:]))
    with intervene(model, edits[0]), intervene(model, edits[1]), intervene(model, edits[2]):
        nested = logits_of(model, IDS)
    close(nested, edited_logits(model, IDS, *edits[1:]))


def test_a_transplant_without_bias():
    model, other = make_model(bias=False), make_model(seed=1, bias=False)
    edits = [transplant_head(layer, head, other) for layer in range(3) for head in range(2)]
    with torch.no_grad():
        for mine, theirs in zip(make_blocks(model), make_blocks(other), strict=True):
            for name in ("ln_1.weight", "ln_2.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"):
                mine.get_parameter(name).copy_(theirs.get_parameter(name))
        for name in ("transformer.wte.weight", "transformer.wpe.weight", "transformer.ln_f.weight"):
            model.get_parameter(name).copy_(other.get_parameter(name))
    close(edited_logits(model, IDS, *edits), logits_of(other, IDS))  # all else is equal, and every head is the other's


def make_blocks(model):
    return list(model.transformer.h)


# --- mean and resample -----------------------------------------------------------------------------------------------


def test_mean_ablation_puts_the_mean_over_all_positions_of_all_references(model):
    texts = [OTHER, [5, 5, 2], [7]]
    traces = [record(model, ids) for ids in texts]
    mean = torch.cat([trace["z", 1][0] for trace in traces]).mean(0)
    expected = by_hand(model, IDS, only("z", 1, put(0, mean)))
    close(edited_logits(model, IDS, ablate_head(1, 0, by="mean", reference=traces)), expected)
    close(edited_logits(model, IDS, ablate_head(1, 0, by="mean", reference=texts)), expected)
    one = by_hand(model, IDS, only("mlp_out", 2, put(slice(None), traces[0]["mlp_out", 2].mean(0))))
    close(edited_logits(model, IDS, ablate_mlp(2, by="mean", reference=traces[0])), one)
    close(edited_logits(model, IDS, ablate_mlp(-1, by="mean", reference=OTHER)), one)
    expected = by_hand(model, IDS, only("resid_pre", 0, put(4, traces[1]["resid_pre", 0].mean(0))))
    close(edited_logits(model, IDS, ablate_position(4, by="mean", reference=[traces[1]])), expected)


def test_references_run_through_the_model_without_edits_or_readers(model):
    with intervene(model, ablate_mlp(0)):
        close(
            edited_logits(model, IDS, ablate_head(2, 0, by="mean", reference=[OTHER])),
            edited_logits(model, IDS, ablate_head(2, 0, by="mean", reference=_clean_trace())),
        )
    seen = []
    model.hook_points["z", 2].listeners.append(seen.append)
    with intervene(model, ablate_head(2, 0, by="mean", reference=[OTHER])):
        logits_of(model, IDS)
    model.hook_points["z", 2].listeners.remove(seen.append)
    assert len(seen) == 1


def _clean_trace():
    return record(make_model(), OTHER)


def test_resample_puts_values_of_the_drawn_reference(model):
    texts = [OTHER, IDS[::-1], [1] * 9, [2, 3]]  # the last is too short to be drawn
    traces = [record(model, ids) for ids in texts]
    candidates = [by_hand(model, IDS, only("z", 1, put(0, trace["z", 1][0, :8]))) for trace in traces[:3]]
    edit = ablate_head(1, 0, by="resample", reference=traces, seed=5)
    seen = set()
    with intervene(model, edit):
        for _ in range(20):
            logits = logits_of(model, IDS)
            near = [torch.allclose(logits, candidate, rtol=1e-4, atol=1e-4) for candidate in candidates]
            seen.add(near.index(True))
            assert near.count(True) == 1
    assert seen == {0, 1, 2}
    state = torch.get_rng_state()
    close(edited_logits(model, IDS, edit), edited_logits(model, IDS, edit))  # begins anew
    assert torch.equal(torch.get_rng_state(), state)


def test_resample_draws_for_each_text_of_a_batch(model):
    texts = [[i] * 8 for i in range(8)]
    edit = ablate_head(0, 0, by="resample", reference=texts)
    with intervene(model, edit):
        traces = record(model, [IDS] * 6, names="z", layers=0)
    assert len({tuple(trace["z", 0][0].flatten().tolist()) for trace in traces}) > 1


# --- identities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in AXES if name != "loss"])
def test_patching_a_trace_into_itself_changes_nothing(model, name):
    trace = record(model, IDS)
    with intervene(model, patch(trace, name), allow_unchanged=True) as report:
        close(logits_of(model, IDS), trace["logits"])
    assert report[0].fired == (3 if AXES[name][0] == "layer" else 1)
    assert not report[0].changed


def test_scale_one_and_the_recorded_row_change_nothing(model):
    trace = record(model, IDS)
    rows = [set_pattern(1, 0, query, trace["pattern", 1][0, query]) for query in range(8)]
    close(edited_logits(model, IDS, scale_head(1, 0, 1), *rows, allow_unchanged=True), trace["logits"])
    close(edited_logits(model, IDS, freeze_ln(trace), freeze_pattern(trace), allow_unchanged=True), trace["logits"])
    close(edited_logits(model, IDS, transplant_head(1, 0, model), allow_unchanged=True), trace["logits"])
    close(edited_logits(model, IDS, steer(1, torch.zeros(8)), allow_unchanged=True), trace["logits"])


def test_patching_the_whole_stream_gives_the_other_run(model):
    other = record(model, OTHER)
    for layer in range(3):
        close(edited_logits(model, IDS, patch(other, "resid_pre", layer)), other["logits"])


def test_without_its_heads_attention_writes_its_bias(model):
    with intervene(model, ablate_head(1, 0), ablate_head(1, 1)):
        trace = record(model, IDS)
    bias = model.transformer.h[1].attn.c_proj.bias
    torch.testing.assert_close(trace["attn_out", 1], bias.expand(8, -1).detach(), rtol=0, atol=0)
    assert all(check.passed for check in trace.check().values())


# --- composition and surroundings ------------------------------------------------------------------------------------


def test_edits_act_in_the_order_given_and_outer_ones_first(model):
    add, double = steer("z.1", torch.ones(4), head=0), scale_head(1, 0, 2)
    plain = record(model, IDS)["z", 1][0]
    with intervene(model, add, double):
        close(record(model, IDS, names="z")["z", 1][0], (plain + 1) * 2)
    with intervene(model, double, add):
        close(record(model, IDS, names="z")["z", 1][0], plain * 2 + 1)
    with intervene(model, double), intervene(model, add):
        close(record(model, IDS, names="z")["z", 1][0], plain * 2 + 1)


def test_a_recording_sees_edited_values_and_says_which(model):
    with intervene(model, ablate_head(1, 0), set_pattern(2, 1, 3, [1, 0, 0, 0])):
        trace = record(model, IDS)
    assert not trace["z", 1][0].any()
    assert trace["pattern", 2][1, 3].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert trace.edited == (("pattern", 2), ("z", 1)) or set(trace.edited) == {("pattern", 2), ("z", 1)}
    assert all(check.passed for check in trace.check().values())


def test_a_padded_batch_equals_one_text_at_a_time(model):
    texts = [IDS, IDS[:5], OTHER[:7]]
    edits = ablate_head(1, 0, positions=[1, 3]), steer("logits", torch.arange(11.0), positions=slice(2, None))
    with intervene(model, *edits):
        batch = record(model, texts)
        alone = [record(model, text) for text in texts]
    for one, other in zip(batch, alone, strict=True):
        close(one["logits"], other["logits"])


def test_the_last_position_alone_is_edited_where_it_stands(model):
    """Without targets the model unembeds only the last position; edits still know which one it is."""
    edit = steer("logits", torch.arange(11.0), positions=7)
    with intervene(model, edit, steer("ln_final", STEP, positions=-1)) as report, torch.no_grad():
        last, _ = model(torch.tensor([IDS]))
        close(last[0, 0], logits_of(model, IDS)[7])
    assert [effect.positions for effect in report] == [{7}, {7}]
    edit = steer("logits", torch.ones(11), positions=2)
    with pytest.raises(IneffectiveEditError, match="never fired"), intervene(model, edit):
        model(torch.tensor([IDS]))
    scales = record(model, OTHER)
    with intervene(model, freeze_ln(scales)), torch.no_grad():
        close(model(torch.tensor([IDS]))[0][0, 0], logits_of(model, IDS)[7])


def test_generation_is_edited(model):
    def greedy(*edits):
        ids = list(IDS[:3])
        for _ in range(6):
            logits = edited_logits(model, ids, *edits)
            ids.append(int(logits[-1].argmax()))
        return ids

    edit = steer("resid_post.1", STEP, 8.0)
    with intervene(model, edit) as report:
        assert generate(model, IDS[:3], 6, temperature=0) == greedy(edit)
    assert report[0].positions == set(range(8))
    later = ablate_position(6)  # not there yet when generation begins
    with intervene(model, later) as report:
        generate(model, IDS[:3], 6, temperature=0)
    assert (report[0].fired, report[0].positions) == (2, {6})


def test_edits_work_under_autocast_and_inference_mode(model):
    trace = record(model, OTHER)
    edits = [patch(trace, "z.1", head=0), set_pattern(1, 1, 2, [1, 1, 1]), transplant_head(0, 0, make_model(seed=1))]
    expected = edited_logits(model, IDS, *edits)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(edited_logits(model, IDS, *edits).float(), expected, rtol=0.2, atol=0.3)
    idx = torch.tensor([IDS])
    with torch.inference_mode(), intervene(model, *edits):
        close(model(idx, idx)[0][0], expected)


def test_edits_are_differentiable(model):
    vector = torch.zeros(8, requires_grad=True)
    other = record(model, OTHER)
    edits = [steer(1, vector), patch(other, "z.1", head=0), scale_head(2, 1, 0.5)]
    edits.append(transplant_head(0, 0, make_model(seed=1)))
    idx = torch.tensor([IDS])
    with intervene(model, *edits, allow_unchanged=True):
        _, loss = model(idx, idx)
        loss.backward()
        with torch.no_grad():
            vector[3] += 1e-2
            up = model(idx, idx)[1]
            vector[3] -= 2e-2
            down = model(idx, idx)[1]
    assert math.isclose(vector.grad[3], (up - down) / 2e-2, rel_tol=5e-2)
    z = model.transformer.h[1].attn.c_attn.weight.grad
    assert not z[16:20].any()  # the values of the patched head reach nothing
    assert z[20:24].any()


def test_gradients_are_recorded_under_edits(model):
    with intervene(model, scale_head(1, 0, 0.0)):
        trace = record(model, IDS, grad=True)
    assert not trace.gradient(("v", 1))[0].any()
    assert trace.gradient(("v", 1))[1].any()


def test_another_thread_finds_grad_mode_as_it_was(model):
    with torch.no_grad(), intervene(model, ablate_mlp(0)):
        modes = []
        thread = threading.Thread(target=lambda: modes.append(torch.is_grad_enabled()))
        thread.start()
        thread.join()
        assert not torch.is_grad_enabled()
        logits_of(model, IDS)
    assert modes == [True]


def test_a_wrapped_model_is_edited_inside(model):
    class Wrapper(torch.nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    with intervene(Wrapper(model), ablate_mlp(1)):
        wrapped = logits_of(model, IDS)
    close(wrapped, edited_logits(model, IDS, ablate_mlp(1)))


# --- what is reported and refused ------------------------------------------------------------------------------------


def test_the_report_says_how_often_and_where(model):
    with intervene(model, ablate_head(1, 0, positions=[1, 2, 5]), ablate_mlp(0)) as report:
        logits_of(model, IDS)
        logits_of(model, IDS[:6])
    first, second = report
    assert len(report) == 2
    assert (first.fired, first.positions, first.changed) == (2, {1, 2, 5}, True)
    assert second.positions == set(range(8))
    with intervene(model, ablate_mlp(0)):
        zs = [record(model, ids)["z", 1][0, [1, 2, 5]] for ids in (IDS, IDS[:6])]
    assert first.largest_change == pytest.approx(float(torch.stack(zs).abs().max()))
    assert repr(first).startswith("ablate_head(1, 0, positions=(1, 2, 5)): fired 2x at positions 1-2, 5, largest")
    assert repr(report) == f"{first!r}\n{second!r}"


def test_an_edit_that_never_fires_is_an_error(model):
    edit = ablate_head(1, 0)
    with pytest.raises(IneffectiveEditError, match=r"ablate_head\(1, 0\) never fired"), intervene(model, edit):
        pass
    edit = ablate_mlp(2)
    with pytest.raises(IneffectiveEditError, match="never fired"), intervene(model, edit, allow_unchanged=True):
        record(model, IDS, stop_at_layer=2)


def test_an_edit_that_never_fires_at_one_of_its_places_is_an_error(model):
    edit = patch(record(model, OTHER), "z")
    sentence = r"never fired at z\.1, z\.2: no forward pass"
    with pytest.raises(IneffectiveEditError, match=sentence), intervene(model, edit):
        record(model, IDS, stop_at_layer=1)
    with intervene(model, edit):  # in several passes together
        record(model, IDS, stop_at_layer=1)
        record(model, IDS)


def test_positions_that_no_text_has_are_an_error(model):
    with pytest.raises(IneffectiveEditError, match=r"never at positions 10-11: no text was that long"):
        edited_logits(model, IDS, ablate_head(1, 0, positions=[1, 10, 11]))
    with pytest.raises(IneffectiveEditError, match=r"never at positions 5-7"):
        edited_logits(model, IDS[:5], patch(record(model, OTHER), "z", layer=1))


def test_an_edit_that_changes_nothing_is_an_error(model):
    edit = patch(record(model, IDS), "z", layer=1)
    with pytest.raises(IneffectiveEditError, match=r"patch\(trace, 'z', layer=1.*fired 1 times but changed nothing"):
        edited_logits(model, IDS, edit)
    with pytest.raises(IneffectiveEditError, match="changed nothing"):
        edited_logits(model, IDS, scale_head(1, 0, 1.0))


def test_a_small_change_beside_large_numbers_is_a_change(model):
    vector = torch.zeros(8)
    vector[2] = 1e-2
    with intervene(model, steer("resid_post.1", torch.full((8,), 10.0)), steer("resid_post.1", vector)) as report:
        logits_of(model, IDS)
    assert report[1].changed


def test_an_exception_on_its_way_is_not_covered(model):
    with pytest.raises(ZeroDivisionError), intervene(model, ablate_head(1, 0)):
        raise ZeroDivisionError


def abandoned(model):
    with intervene(model, ablate_head(1, 0)):
        yield


def test_exactly_its_own_hooks_are_removed_on_every_way_out(model):
    point = model.hook_points["z", 1]
    mine = point.register_forward_hook(lambda module, args, output: output)
    before = OrderedDict(point._forward_hooks)
    generator = abandoned(model)
    next(generator)
    generator.close()
    with pytest.raises(UnknownNameError), intervene(model, ablate_head(1, 0), ablate_head(5, 0)):
        pass
    with pytest.raises(IneffectiveEditError), intervene(model, ablate_head(1, 0), transplant_head(1, 0, model)):
        pass
    with intervene(model, ablate_head(1, 0)):
        inside = point.register_forward_hook(lambda module, args, output: None)
        logits_of(model, IDS)
    assert list(point._forward_hooks) == [*before, inside.id]
    for handle in (mine, inside):
        handle.remove()
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(each.heard for each in model.hook_points.values())


WRONG = {
    "layer": (lambda m: ablate_head(3, 0), "There is no layer 3: it must be 0 to 2"),
    "head": (lambda m: scale_head(0, 2, 0.5), "There is no head 2: it must be 0 to 1"),
    "position": (lambda m: ablate_mlp(0, positions=12), "There is no position 12: it must be 0 to 11"),
    "query": (lambda m: set_pattern(0, 0, 12, [1] * 13), "There is no position 12"),
    "width": (lambda m: steer(0, torch.ones(5)), "adds 5 numbers, but resid_pre has 8 per position"),
    "shape": (lambda m: patch(record(make_model(n_embd=4), IDS), "z", 1), "holds z of shape"),
    "heads": (lambda m: transplant_head(0, 0, make_model(n_head=4)), "must have the same n_embd and n_head"),
    "transplant layer": (lambda m: transplant_head(4, 0, make_model(n_layer=5)), "There is no layer 4"),
    "reference": (
        lambda m: ablate_head(0, 0, by="mean", reference=record(make_model(n_embd=4), IDS)),
        "reference values of width 2, but z of this model has 4",
    ),
}


@pytest.mark.parametrize(("make", "said"), [
    (lambda m: ablate_head(9, 0), "There is no layer 9: .* ablate_head(9, 0) does not fit: this model has"),
    (lambda m: ablate_mlp(-4), "There is no layer -4: .* ablate_mlp(-4) does not fit: this model has"),
    (lambda m: ablate_head(9, 0, by="mean", reference=[IDS]), "There is no layer 9: .* does not fit: this model has"),
    (lambda m: steer("z.0", torch.ones(4), head=7), "There is no head 7: .* does not fit: this model has"),
    (lambda m: set_pattern(0, 0, 12, [1] * 13), "There is no position 12: .* does not fit: this model has"),
    (lambda m: transplant_head(4, 0, make_model(n_layer=5)), "There is no layer 4: .* does not fit: this model has"),
])
def test_a_place_that_is_not_there_says_which_edit_and_what_the_model_has(model, make, said):
    sentence = re.escape(f"{said} 3 layers of 2 heads and reads 12 tokens.").replace(r"\.\*", ".*")
    with pytest.raises(UnknownNameError, match=sentence), intervene(model, make(model)):
        pytest.fail("entered")


def test_a_head_that_the_other_model_lacks_is_told_as_that(model):
    with pytest.raises(UnknownNameError, match="It is from_model that has 3 layers of 2 heads; say which"):
        transplant_head(0, 2, model)


@pytest.mark.parametrize("case", WRONG)
def test_what_the_model_does_not_have_is_refused_before_any_forward(model, case):
    make, message = WRONG[case]
    with pytest.raises(ValueError, match=message), intervene(model, make(model)):
        pytest.fail("entered")


MISTAKES = {
    "by": (lambda t: ablate_head(0, 0, by="noise"), ValueError, "by must be one of"),
    "no reference": (lambda t: ablate_mlp(0, by="mean"), ValueError, "needs reference="),
    "no use for it": (lambda t: ablate_mlp(0, reference=[[1]]), ValueError, "takes no reference"),
    "string": (lambda t: ablate_mlp(0, by="mean", reference=["abc"]), TypeError, "not a string: encode it"),
    "part of a reference": (
        lambda t: ablate_mlp(0, by="mean", reference=record(make_model(), IDS, positions=[1])),
        ValueError,
        "must hold all positions",
    ),
    "slice of texts": (lambda t: ablate_mlp(0, positions=slice("a")), TypeError, "Positions must be whole numbers"),
    "slice of fractions": (lambda t: ablate_mlp(0, positions=slice(0.5, 2)), TypeError, "Positions must be whole"),
    "step of 0": (lambda t: ablate_mlp(0, positions=slice(None, None, 0)), ValueError, "step cannot be zero"),
    "twice": (lambda t: ablate_mlp(0, positions=[1, 1]), ValueError, "each only once"),
    "none": (lambda t: ablate_mlp(0, positions=[]), ValueError, "at least one number"),
    "factor": (lambda t: scale_head(0, 0, math.nan), ValueError, "factor must be finite"),
    "name": (lambda t: steer("resid.1", [1.0]), UnknownNameError, "'resid.1' is no activation. Did you mean"),
    "no layer": (lambda t: steer("z", [1.0]), UnknownNameError, "exists in every layer"),
    "two layers": (lambda t: patch(t, "z.1", layer=2), UnknownNameError, "The name says layer 1, but layer=2"),
    "layer of none": (lambda t: patch(t, "logits", layer=1), UnknownNameError, "belongs to no layer"),
    "head of none": (lambda t: patch(t, "mlp_out", head=1), UnknownNameError, "'mlp_out' has no heads"),
    "loss": (lambda t: patch(t, "loss"), UnknownNameError, "edit 'logits'"),
    "along keys": (lambda t: steer("pattern.0", [1.0]), ValueError, "has none of them"),
    "matrix": (lambda t: steer(0, torch.ones(2, 2)), ValueError, "must have one axis"),
    "not finite": (lambda t: steer(0, [math.inf]), ValueError, "must be finite"),
    "not recorded": (
        lambda t: patch(record(make_model(), IDS, names="q"), "z", 1),
        UnknownNameError,
        "was not recorded",
    ),
    "head not recorded": (
        lambda t: patch(record(make_model(), IDS, heads=0), "z", 1, head=1),
        UnknownNameError,
        "Head 1 was not recorded",
    ),
    "some heads": (lambda t: patch(record(make_model(), IDS, heads=0), "z", 1), UnknownNameError, "holds only heads"),
    "position not recorded": (
        lambda t: patch(record(make_model(), IDS, positions=[1]), "z", 1, positions=2),
        UnknownNameError,
        "Position 2 was not recorded",
    ),
    "source": (lambda t: patch(t, "z", 1, source_positions=1), ValueError, "source_positions needs positions"),
    "sources": (lambda t: patch(t, "z", 1, positions=1, source_positions=[1, 2]), ValueError, "there are 2 and 1"),
    "moved row": (
        lambda t: patch(t, "pattern", 1, positions=1, source_positions=2),
        ValueError,
        "belongs to its query and cannot move",
    ),
    "future": (lambda t: set_pattern(0, 0, 1, [1, 0, 1]), ValueError, "cannot attend to key 2, which comes later"),
    "short row": (lambda t: set_pattern(0, 0, 2, [1, 0]), ValueError, "3 in all, but holds 2"),
    "negative weight": (lambda t: set_pattern(0, 0, 1, [1, -1]), ValueError, "must be 0 or more"),
    "empty row": (lambda t: set_pattern(0, 0, 1, [0, 0]), ValueError, "must be 0 or more"),
    "NaN": (lambda t: set_pattern(0, 0, 1, [math.nan, 0]), ValueError, "must be finite"),
    "negative query": (lambda t: set_pattern(0, 0, -1, [1]), ValueError, "counted from 0, not -1"),
    "unknown kind": (lambda t: Edit.from_json({"edit": "explode"}), ValueError, "one of .* but has 'explode'"),
    "fields": (lambda t: Edit.from_json({"edit": "scaling"}), ValueError, "has the fields"),
    "wrong field": (
        lambda t: Edit.from_json(scale_head(0, 0, 2).to_json() | {"factor": "2"}),
        ValueError,
        "does not fit",
    ),
    "bytes": (lambda t: Edit.from_json(_shorter(steer(0, [1.0, 2.0]).to_json())), ValueError, "has not 8 bytes"),
    "dtype": (lambda t: Edit.from_json(_other(steer(0, [1.0]).to_json())), ValueError, "floating-point type of torch"),
}


def _shorter(data):
    data["vector"]["shape"] = [3]
    return data


def _other(data):
    data["vector"]["dtype"] = "load"
    return data


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_refused_when_the_edit_is_made(model, case):
    make, error, message = MISTAKES[case]
    with pytest.raises(error, match=message):
        make(record(model, IDS))


def test_what_is_only_known_in_the_forward_is_refused_there(model):
    message = "must be counted from the start in a batch"
    with pytest.raises(ValueError, match=message), intervene(model, ablate_mlp(0, -1)):
        record(model, [IDS, OTHER])
    edit = ablate_head(0, 0, by="resample", reference=[[1, 2, 3]])
    with pytest.raises(ValueError, match=r"at least as long as the edited positions \(8 tokens\)"):
        edited_logits(model, IDS, edit)


def test_intervene_takes_edits_only(model):
    with pytest.raises(TypeError), intervene(model, "ablate"):  # the sentence is beartype's in this test run
        pass
    with pytest.raises(TypeError, match="must be a gptviz GPT"), intervene(torch.nn.Linear(1, 1), ablate_mlp(0)):
        pass


# --- as a line of Python, as a line of JSON --------------------------------------------------------------------------


def every_edit():
    trace, other = record(make_model(), OTHER), make_model(seed=1)
    texts, vector = [OTHER, [1, 2, 3, 4, 5, 6, 7, 8]], torch.linspace(-1, 1, 8)
    names = dict(trace=trace, from_model=other, vector=vector, reference=texts)
    return names, [
        ablate_head(1, 0),
        ablate_head(-1, 1, positions=[2, -1]),
        ablate_head(1, 0, by="mean", reference=texts),
        ablate_head(1, 1, by="resample", reference=texts, seed=3),
        ablate_mlp(2, positions=slice(1, None)),
        ablate_position(3, layer=1),
        ablate_position([3, 4, 5], by="resample", reference=texts),
        scale_head(0, 1, 0.1),
        scale_head(0, 1, 3, positions=4),
        steer("resid_post.1", vector, 0.3),
        steer("embed", vector, positions=[1]),
        patch(trace, "z", layer=1, head=0, positions=[3]),
        patch(trace, "resid_mid.2", positions=[1, -1], source_positions=[2, 0]),
        patch(trace, "attn_out"),
        patch(trace, "logits"),
        patch(trace, "pattern", layer=0),
        freeze_ln(trace),
        freeze_pattern(trace),
        freeze_pattern(trace, 1, 0),
        set_pattern(1, 0, 2, [0.1, 0.2, 0.9]),
        transplant_head(1, 0, other),
        transplant_head(1, 0, other, from_layer=2, from_head=1),
    ]


NAMES, EDITS = every_edit()


@pytest.mark.parametrize("edit", EDITS, ids=repr)
def test_an_edit_survives_json(model, edit):
    copied = Edit.from_json(json.loads(json.dumps(edit.to_json())))
    assert copied == edit
    assert hash(copied) == hash(edit)
    assert repr(copied) == repr(edit)
    torch.testing.assert_close(edited_logits(model, IDS, copied), edited_logits(model, IDS, edit), rtol=0, atol=0)


@pytest.mark.parametrize("edit", EDITS, ids=repr)
def test_an_edit_prints_as_the_line_that_makes_it(edit):
    assert eval(repr(edit), globals(), NAMES) == edit  # noqa: S307


def test_edits_of_different_content_differ():
    assert len(set(EDITS)) == len(EDITS)
    assert scale_head(0, 1, 0.1) != "scale_head(0, 1, 0.1)"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_keep_their_dtype_in_json(dtype):
    edit = steer(0, torch.randn(8, dtype=dtype))
    assert Edit.from_json(edit.to_json()).vector.dtype == dtype
    assert torch.equal(Edit.from_json(edit.to_json()).vector, edit.vector)


def test_edits_are_frozen():
    with pytest.raises(AttributeError):
        scale_head(0, 1, 0.1).factor = 2.0


def test_a_compiled_model_must_not_be_called_among_edits(model):
    compiled, idx = torch.compile(model, backend="eager"), torch.tensor([IDS])
    refused = pytest.raises(RuntimeError, match="must not be called inside intervene")
    with refused, intervene(compiled, ablate_head(1, 0)):
        compiled(idx)
    expected = edited_logits(model, IDS, ablate_head(1, 0))
    with intervene(compiled, ablate_head(1, 0)):
        close(record(compiled, IDS)["logits"], expected)
    assert not compiled._forward_pre_hooks
