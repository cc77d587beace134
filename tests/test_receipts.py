"""The arithmetic of every cell, and the lines of model.py that compute it."""

import json
import math
import re

import numpy as np
import pytest
import torch
from by_hand import IDS, VARIANTS, make_model

from gptviz.analysis.stepper.forward_pass import ForwardPass
from gptviz.analysis.stepper.receipts import receipt, shown
from gptviz.analysis.stepper.recorded import recorded_pass
from gptviz.analysis.stepper.source_lines import find_lines, model_source
from gptviz.analysis.stepper.stages import STAGES, TENSORS, Anchor, stages_of
from gptviz.interventions import ablate_head, intervene, without
from gptviz.loading import load
from gptviz.model import GPTConfig
from gptviz.naming import AXES, UnknownNameError
from gptviz.trace import record


def forward_of(**changes):
    model = make_model(**changes)
    return recorded_pass(record(model, IDS), model)


@pytest.fixture(scope="module")
def forward():
    return forward_of()


def random_cells(forward, count, seed=0):
    """Cells of all tensors in turn; the loss has none at position 0."""
    rng = np.random.default_rng(seed)
    names = [name for name in TENSORS if name != "loss" or len(forward.ids) > 1]
    for i in range(count):
        name = names[i % len(names)]
        yield name, tuple(int(rng.integers(name == "loss", size)) for size in forward.shape(name))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_arithmetic_of_any_cell_gives_what_the_model_computed(variant):
    """2,160 cells over the eight variants."""
    forward = forward_of(**variant)
    for name, index in random_cells(forward, 270):
        paid = receipt(forward, name, *index)
        assert paid.error <= 1e-5, (name, index, paid.result, paid.recorded)
        assert paid.passed


def test_a_small_cell_of_a_layernorm_may_have_the_rounding_of_the_mean():
    """Where x and the mean are near zero, the terms are smaller than what float32 loses in adding up the mean."""
    model = make_model(n_embd=128, n_layer=1, n_head=2, bias=False)
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(model.config.vocab_size, 64, generator=generator)
    half[:, 5] = 1e-5
    with torch.no_grad():
        model.transformer.wte.weight.copy_(torch.cat([half, -half], 1))  # every row adds up to zero
        model.transformer.wpe.weight.zero_()
    forward = recorded_pass(record(model, IDS), model)
    by_terms = []
    for pos in range(len(IDS)):
        paid = receipt(forward, "ln_1", 0, pos, 5)
        assert paid.passed, (pos, paid.result, paid.recorded)
        by_terms.append(abs(paid.result - paid.recorded) / max(np.abs(paid.products).max(), abs(paid.recorded)))
    assert max(by_terms) > 1e-5, by_terms  # by the terms alone it would not pass


@pytest.mark.parametrize("shape", [dict(n_layer=1, n_head=1, n_embd=4), dict(n_layer=5, n_head=4, n_embd=16)])
def test_models_of_other_shapes(shape):
    forward = forward_of(**shape)
    assert all(receipt(forward, name, *index).passed for name, index in random_cells(forward, 120))


def test_a_packaged_model_and_one_token():
    model, tokenizer = load("sorter")
    for text in ("CBABBCABBBC", "A"):
        forward = recorded_pass(record(model, text, tokenizer), model)
        assert all(receipt(forward, name, *index).passed for name, index in random_cells(forward, 150))


def test_every_number_of_a_wrong_model_is_refused():
    """A receipt can fail: with other weights than those of the trace, what depends on them does."""
    model, other = make_model(0), make_model(1)
    forward = recorded_pass(record(model, IDS), other)
    failed = {name for name, index in random_cells(forward, 400) if not receipt(forward, name, *index).passed}
    assert failed >= {"embed", "pos_embed", "ln_1", "q", "k", "v", "attn_out", "mlp_pre", "mlp_out", "logits"}
    assert not failed & {"scores", "pattern", "z", "resid_mid", "mlp_post", "loss"}  # these have no weights


def test_the_terms_are_the_model_s_own_numbers(forward):
    """A query by hand: the row of c_attn that belongs to head 1, column 2, and the normalised stream."""
    model = make_model()
    trace = record(model, IDS)
    paid = receipt(forward, "q", 1, 1, 5, 2)
    attention = model.transformer.h[1].attn
    assert np.array_equal(paid.a, trace["ln_1", 1][5].double().numpy())
    assert np.array_equal(paid.b, attention.c_attn.weight[4 + 2].detach().double().numpy())
    assert paid.bias == float(attention.c_attn.bias[6].detach())
    assert paid.products.sum() + paid.bias == paid.result
    keys = receipt(forward, "k", 0, 0, 3, 1)
    assert np.array_equal(keys.b, model.transformer.h[0].attn.c_attn.weight[8 + 1].detach().double().numpy())
    assert [term.product for term in paid.terms] == paid.products.tolist()


def only(array, places):
    """An array that is NaN outside of these places."""
    kept = np.full_like(array, np.nan, dtype=np.float32)
    for place in places:
        at = tuple(slice(*i) if isinstance(i, tuple) else i for i in place)
        kept[at] = array[at]
    return kept


def without_the_rest(forward, paid):
    """The same pass, NaN wherever the receipt says that it does not look."""
    places = {}
    for source in (*paid.sources, *paid.weights):
        about = TENSORS.get(source.name)
        by_layer = about.axes[0] == "layer" if about else source.name.startswith(("attn.", "mlp.", "ln_1", "ln_2"))
        layer, index = (source.index[0], source.index[1:]) if by_layer else (None, source.index)
        name = "scores" if source.name == "raw_scores" and index[1] >= index[2] else source.name
        places.setdefault((name, layer), []).append(index)
        if name == "raw_scores":  # computed from a row of q and a row of k
            places.setdefault(("q", layer), []).append((index[0], index[1]))
            places.setdefault(("k", layer), []).append((index[0], index[2]))
    return ForwardPass(forward.config, forward.ids, forward.tokens,
                       lambda name, layer: only(forward.value(name, layer), places.get((name, layer), [])),
                       lambda name, layer: only(forward.weight(name, layer), places.get((name, layer), [])))


@pytest.mark.parametrize("variant", [VARIANTS[0], VARIANTS[-1]], ids=str)
def test_a_number_depends_on_its_sources_and_weights_alone(variant):
    forward = forward_of(**variant)
    for name, index in random_cells(forward, 200, seed=1):
        paid = receipt(forward, name, *index)
        again = receipt(without_the_rest(forward, paid), name, *index)
        assert again.result == paid.result, (name, index)


def test_the_stream_comes_from_the_block_before(forward):
    assert [source.name for source in receipt(forward, "resid_pre", 0, 3, 1).sources] == ["embed", "pos_embed"]
    later = receipt(forward, "resid_pre", 2, 3, 1)
    assert later.sources[0].index == (1, 3, 1)
    assert later.sources[0].name == "resid_post"
    assert receipt(forward, "ln_final", 3, 1).sources[0].index == (2, 3, (0, 8))


def test_a_masked_score_and_its_share(forward):
    masked = receipt(forward, "scores", 0, 0, 2, 5)
    assert masked.result == masked.recorded == -math.inf
    assert masked.error == 0
    assert masked.text.endswith("= −∞")
    share = receipt(forward, "pattern", 0, 0, 2, 5)
    assert share.result == share.recorded == 0
    assert "later" in share.note
    hidden = receipt(forward, "raw_scores", 0, 0, 2, 5)
    assert math.isfinite(hidden.result)
    assert hidden.passed
    assert "mask" in hidden.note


def test_the_first_token_has_no_loss(forward):
    paid = receipt(forward, "loss", 0)
    assert math.isnan(paid.result)
    assert not paid.passed
    assert "first token" in paid.note


def test_an_edited_value_says_so():
    model = make_model()
    with intervene(model, ablate_head(1, 0)):
        trace = record(model, IDS)
    paid = receipt(recorded_pass(trace, model), "z", 1, 0, 4, 2)
    assert paid.recorded == 0
    assert not paid.passed
    assert "edit" in paid.note


def test_a_pass_without_the_mask_adds_up_over_all_keys():
    model = make_model()
    with intervene(model, without("mask")):
        forward = recorded_pass(record(model, IDS), model)
    for query in range(len(IDS)):
        assert receipt(forward, "pattern", 1, 0, query, 7).error <= 1e-5
        assert query == 7 or len(receipt(forward, "z", 1, 0, query, 2).a) > query + 1
        assert receipt(forward, "z", 1, 0, query, 2).passed


def test_a_long_sum_says_how_many_terms_it_leaves_out(forward):
    text = receipt(forward, "mlp_out", 0, 2, 3).text
    assert re.fullmatch(r"(\S+ × \S+ \+ ){3}… \(28 more\) \+ \S+ × \S+ \+ bias \S+ = \S+", text), text
    assert receipt(forward, "resid_mid", 0, 2, 3).text.count("+") == 1
    assert receipt(forward, "ln_1_scale", 0, 2).text.startswith("√(")
    assert shown(float("nan")) == "nan"
    assert shown(0.0) == "0.0000"


def test_the_heads_parts_add_up_to_attn_out(forward):
    paid = receipt(forward, "attn_out", 1, 4, 3)
    assert sum(part for _, part in paid.steps) + (paid.bias or 0) == pytest.approx(paid.result, rel=1e-12)


def test_a_receipt_is_json(forward):
    for name, index in random_cells(forward, 60, seed=2):
        data = json.loads(json.dumps(receipt(forward, name, *index).payload(), allow_nan=False))
        assert data["cell"] == {"tensor": name, "index": list(index)}


@pytest.mark.parametrize(("cell", "error", "message"), [
    (("attn", 0), UnknownNameError, "'attn' has no receipt: it must be one of ids, embed"),
    (("q", 0, 0), ValueError, r"index for each of its axes \(layer head pos d_head\), 4 numbers; it was given 2"),
    (("q", 0, 2, 0, 0), UnknownNameError, "no head 2: it must be 0 to 1"),
    (("loss", 99), UnknownNameError, "no pos 99"),
])
def test_cells_that_do_not_exist(forward, cell, error, message):
    with pytest.raises(error, match=message):
        receipt(forward, *cell)


def test_a_trace_that_lacks_something_is_refused():
    model = make_model()
    with pytest.raises(UnknownNameError, match=r"The stepper needs .*not in this trace"):
        recorded_pass(record(model, IDS, names="pattern"), model)
    with pytest.raises(ValueError, match="needs all 8 positions, but this trace holds"):
        recorded_pass(record(model, IDS, positions=[1, 2]), model)
    with pytest.raises(ValueError, match="must be the one that made the trace"):
        recorded_pass(record(model, IDS), make_model(n_layer=1))


def test_half_precision_has_its_own_bound():
    model = make_model().to(torch.bfloat16)
    forward = recorded_pass(record(model, IDS), model)
    assert forward.bound == 8 * torch.finfo(torch.bfloat16).eps
    assert all(receipt(forward, name, *index).error < forward.bound for name, index in random_cells(forward, 100))


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_holds_every_activation_once_and_in_order():
    own = [name for name in TENSORS if name not in ("ids", "raw_scores", "lens", "probs")]
    assert [name for name in own if name != "ln_1_scale"] == [name for name in AXES if name != "ln_1_scale"]
    assert all(TENSORS[name].axes == AXES[name] for name in own)
    shown_once = [name for stage in STAGES for name in stage.tensors]
    assert sorted(shown_once) == sorted(TENSORS)


def test_stages_read_from_stages_that_hold_their_sources():
    by_id = {stage.id: stage for stage in STAGES}
    for stage in STAGES:
        read = {name for other in stage.reads for name in by_id[other].tensors} | set(stage.tensors)
        for name in stage.tensors:
            assert set(TENSORS[name].sources) <= read, stage.id


def test_equations_name_tensors_and_parameters_that_exist():
    model = make_model()
    parameters = {re.sub(r"^transformer\.(h\.\d+\.)?", "", name) for name in model.state_dict()}
    for config in (GPTConfig(), GPTConfig(bias=False, activation="gelu_tanh")):
        for stage in stages_of(config):
            assert {name for _, name in stage.equation if name} <= set(TENSORS) | parameters, stage.id
    plain = "".join(text for stage in stages_of(GPTConfig(bias=False)) for text, _ in stage.equation)
    assert "bias" not in plain
    assert "tanh" in "".join(t for s in stages_of(GPTConfig(activation="gelu_tanh")) for t, _ in s.equation)


# --- lines of the source ----------------------------------------------------------------------------------------------

ANCHORS = sorted({anchor for about in TENSORS.values() for anchor in about.anchors})


@pytest.mark.parametrize("anchor", ANCHORS, ids=str)
def test_the_finder_follows_a_line_that_moves(anchor):
    """Lines inserted above, and inside the function before the statement, move what is found by as many."""
    source = model_source()
    at = find_lines(anchor, source)
    lines = source.splitlines(keepends=True)
    indent = " " * (len(lines[at.first - 1]) - len(lines[at.first - 1].lstrip()))
    moved = "".join(["# one\n", "# two\n", *lines[: at.first - 1], f"{indent}pass\n", *lines[at.first - 1 :]])
    assert find_lines(anchor, moved) == at._replace(first=at.first + 3, last=at.last + 3)
    assert anchor.expression.split("(")[0].split(" ")[0] in "".join(lines[at.first - 1 : at.last])


@pytest.mark.parametrize("anchor", ANCHORS, ids=str)
def test_a_line_that_is_gone_is_an_error(anchor):
    source = model_source()
    at = find_lines(anchor, source)
    lines = source.splitlines(keepends=True)
    indent = " " * (len(lines[at.first - 1]) - len(lines[at.first - 1].lstrip()))
    keeper = "return" if "return" in lines[at.first - 1] else "pass"
    gone = "".join([*lines[: at.first - 1], f"{indent}{keeper}\n", *lines[at.last :]])
    with pytest.raises(LookupError, match=r"One statement of .* must hold .*, but 0 do"):
        find_lines(anchor, gone)


def test_a_function_that_is_gone_and_a_line_that_is_doubled_are_errors():
    with pytest.raises(LookupError, match=r"must define Block\.backward, but does not"):
        find_lines(Anchor("Block.backward", "x"), model_source())
    with pytest.raises(LookupError, match="but 2 do"):
        find_lines(Anchor("f", "g"), "def f():\n    g()\n    return g()\n")
