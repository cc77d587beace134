"""The stepper's payload, questions, switches and board."""

import inspect
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from by_hand import IDS, VARIANTS, make_model
from stepper_cells import cases

from gptviz.analysis.stepper.forward_pass import ForwardPass
from gptviz.analysis.stepper.questions import Question, questions
from gptviz.analysis.stepper.receipts import receipt
from gptviz.analysis.stepper.recorded import recorded_pass
from gptviz.analysis.stepper.source_lines import model_source
from gptviz.analysis.stepper.stages import TENSORS
from gptviz.analysis.stepper.switches import SWITCHES, switch_result, switch_results
from gptviz.dashboards import step_through
from gptviz.interventions import Edit, ablate_head, intervene, without
from gptviz.loading import load
from gptviz.model import GPT, GPTConfig
from gptviz.naming import UnknownNameError
from gptviz.runs import open_run
from gptviz.trace import record
from gptviz.views.board import payload_json
from gptviz.views.stepper import ACTIVATIONS, WEIGHTS, stepper_view
from gptviz.views.view import View
from gptviz.widgets import Board


@pytest.fixture(scope="module")
def sorter():
    model, tokenizer = load("sorter")
    return record(model, "CBABBCABBBC", tokenizer), model, tokenizer


@pytest.fixture(scope="module")
def board(sorter):
    return step_through(*sorter)


def quick_model(**shape) -> GPT:
    """A random model without torch's slow initialisation."""
    with torch.device("meta"):
        model = GPT(GPTConfig(**shape))
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.02)
    model.transformer.wte.weight = model.lm_head.weight
    return model.eval()


@pytest.fixture(scope="module")
def large():
    """Too large to travel whole, with a vocabulary of which a part travels."""
    model = quick_model(block_size=64, vocab_size=5000, n_layer=8, n_head=8, n_embd=512)
    return record(model, torch.arange(0, 3200, 100)), model


def act(board: Board, name: str, value: dict) -> dict:
    """What the browser is sent for an action."""
    answer = board.actions[name](value)
    assert answer is not None
    return answer


def shown_pass(view: View) -> ForwardPass:
    """A pass that knows nothing but what the payload holds, as the browser does."""
    config = GPTConfig(**view.content["config"])
    details = {layer: view.detail({"layer": layer}) for layer in range(config.n_layer)} if view.detail else {}

    def read(name, layer):
        if name in view.arrays:
            return view.arrays[name] if layer is None else view.arrays[name][layer]
        return details[layer].arrays[name]

    def read_weight(name, layer):
        return read("wte.weight" if name == "lm_head.weight" and view.content["tied"] else name, layer)

    return ForwardPass(config, tuple(view.content["ids"]), view.labels["token"], read, read_weight)


# --- the payload ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inline", [8_000_000, 0], ids=["inline", "by layer"])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_payload_alone_pays_for_every_cell(variant, inline):
    """2,160 cells over 16 payloads: everything that a receipt needs travels, and it is the trace's own number."""
    model = make_model(**variant)
    forward = recorded_pass(record(model, IDS), model)
    view = stepper_view(forward, inline=inline)
    assert (view.detail is None) == bool(inline) == view.content["inline"]
    shown, rng = shown_pass(view), np.random.default_rng(3)
    for i in range(135):
        name = list(TENSORS)[i % len(TENSORS)]
        index = [int(rng.integers(name == "loss", size)) for size in forward.shape(name)]
        paid = receipt(shown, name, *index)
        assert paid.passed, (name, index)
        assert paid.recorded == receipt(forward, name, *index).recorded


def test_the_page_says_what_the_model_was_trained_to_do(board, large):
    """From the task's own description, or the name of the text; of a model from elsewhere nothing."""
    assert board.views[0].content["learned"] == (
        "This model was trained to sort 6 letters: the answer, the same letters in order, follows the input.")
    before, _ = open_run("sorter").load(0)
    said = step_through(record(before, [0, 1, 2]), before).views[0].content["learned"]
    assert said.startswith("This model is not trained yet. Its run trains it to sort 6 letters")
    before.trained_on = {"kind": "task", "name": "sort", "settings": {"length": "six"}}  # of another version
    assert step_through(record(before, [0, 1, 2]), before).views[0].content["learned"] == ""
    before.trained_on = {"kind": "text", "corpus": "https://example.org/a.txt?key=secret"}
    said = step_through(record(before, [0, 1, 2]), before).views[0].content["learned"]
    assert said == "This model was trained to go on with the text of a.txt."
    assert step_through(*large).views[0].content["learned"] == ""


def test_the_words_that_a_page_explains_are_the_glossary_s(board):
    text = (Path(__file__).parent.parent / "docs" / "glossary.md").read_text(encoding="utf-8")
    part = text.split("## Words that a page explains")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| (.+?) \| (.+) \|$", part, re.M)[1:])
    assert board.views[0].content["glossary"] == rows
    assert set(rows) == {"residual stream", "d_model", "logit", "nats", "GELU"}


def test_every_shape_and_line_is_right(board, sorter):
    trace, model, _ = sorter
    content, source = board.views[0].content, model_source().splitlines()
    for name, about in content["tensors"].items():
        if name in trace:
            assert tuple(about["shape"]) == tuple(trace[name].shape)
        assert about["lines"]
        assert all(0 < line["first"] <= line["last"] <= len(source) for line in about["lines"])
    parameters = {name.split("transformer.")[-1].split("h.0.")[-1]: list(p.shape)
                  for name, p in model.state_dict().items()}
    for stage in content["stages"]:
        for parameter in stage["parameters"]:
            assert parameters[parameter["name"]] == parameter["shape"]
    pattern = content["stages"][8]
    assert pattern["id"] == "pattern"
    assert pattern["number"] == 8
    assert pattern["shape"] == [3, 11, 11]
    assert any("softmax" in source[line["first"] - 1] for line in pattern["lines"])
    assert content["source"]["text"] == model_source()


def test_the_payload_is_plain_json(board, large):
    for view in (board.views[0], stepper_view(recorded_pass(*large))):
        json.dumps(view.content, allow_nan=False)
        assert "\\u003c/script" not in payload_json(view.payload())
        assert all(check.passed for check in view.checks), view.checks
        assert all(math.isfinite(end) for ends in view.range.values() for end in ends)


def test_equal_numbers_have_equal_colours(board):
    """The stream that leaves a block is the one that enters the next, and masking changes no score that stays."""
    ends = board.views[0].range
    assert ends["resid_pre"] == ends["resid_mid"] == ends["resid_post"]
    assert ends["raw_scores"] == ends["scores"]


def test_a_large_model_says_what_it_leaves_out(large):
    trace, model = large
    view = stepper_view(recorded_pass(trace, model))
    content = view.content
    assert not content["inline"]
    assert not content["weights"]
    assert not content["columns_all"]
    assert len(content["left_out"]) == 3
    assert "The weights of a layer are 12.6 MB" in content["left_out"][1]
    assert view.nbytes < 2_000_000
    assert view.detail is not None
    detail = view.detail({"layer": 1})
    assert sorted(detail.arrays) == sorted(ACTIVATIONS)
    assert detail.nbytes < 1_500_000
    columns = view.arrays["columns"]
    assert set(trace.ids.tolist()) <= set(columns.tolist())
    likeliest = trace["logits"].argmax(-1).numpy()
    assert np.isin(likeliest, columns).all()
    assert np.isin(view.arrays["lens_top"], columns).all()
    at = np.searchsorted(columns, likeliest)
    rows = np.arange(len(trace))
    p = np.exp(view.arrays["logits"][rows, at] - view.arrays["logit_max"]) / view.arrays["exp_sum"]
    assert np.allclose(p, trace["logits"].softmax(-1).max(-1).values, rtol=1e-5)
    assert np.allclose(view.arrays["probs"][rows, at], p, rtol=1e-5)


def test_the_head_writes_add_up_to_attn_out_without_its_bias():
    model = make_model(n_head=1, bias=False)
    trace = record(model, IDS)
    writes = stepper_view(recorded_pass(trace, model)).arrays["head_writes"]
    assert np.allclose(writes[:, 0], trace["attn_out"].norm(dim=-1), rtol=1e-5)


def test_the_weights_travel_under_nanogpt_s_names(board):
    arrays = board.views[0].arrays
    assert {name for name in WEIGHTS if not name.endswith(".bias")} <= set(arrays)  # the sorter has no biases
    assert arrays["mlp.c_fc.weight"].shape == (3, 192, 48)


def test_the_lens_of_the_last_layer_is_the_logits(board):
    arrays = board.views[0].arrays
    assert np.allclose(arrays["lens"][-1], arrays["logits"], atol=1e-4)
    assert (arrays["lens_top"][-1] == arrays["logits"].argmax(-1)).all()
    assert np.allclose(arrays["lens_prob"][-1], arrays["probs"].max(-1), rtol=1e-5)


def test_a_text_too_long_for_its_model_is_refused():
    config = GPTConfig(block_size=2000, vocab_size=11, n_layer=1, n_head=2, n_embd=8)
    forward = ForwardPass(config, (0,) * 2000, ("a",) * 2000, lambda *_: np.empty(0), lambda *_: np.empty(0))
    with pytest.raises(ValueError, match=r"at most 32.0 MB for a layer .* but 2000 tokens need .* Record a shorter"):
        stepper_view(forward)


def test_a_diverged_model_has_a_payload():
    model = make_model()
    with torch.no_grad():
        model.transformer.h[1].attn.c_proj.weight.fill_(float("nan"))
    view = stepper_view(recorded_pass(record(model, IDS), model), switches=switch_results(record(model, IDS), model))
    payload_json(view.payload())
    assert not view.checks[-1].passed
    assert all(math.isfinite(question["answer"]) for question in view.content["questions"])


# --- questions --------------------------------------------------------------------------------------------------------


def test_questions_are_the_same_for_the_same_text(sorter):
    trace, model, tokenizer = sorter
    first = questions(recorded_pass(trace, model), tokenizer.visible)
    assert first == questions(recorded_pass(record(model, "CBABBCABBBC", tokenizer), model), tokenizer.visible)
    other = questions(recorded_pass(record(model, "ABCABCABCAB", tokenizer), model), tokenizer.visible)
    assert [question.at for question in first] != [question.at for question in other]


def test_the_answers_are_the_trace_s(sorter):
    trace, model, tokenizer = sorter
    asked = {question.id: question for question in questions(recorded_pass(trace, model), tokenizer.visible)}
    assert len(asked) > 18
    assert all(question.right(question.answer) for question in asked.values())
    at = asked["raw_scores-1"].at
    row = trace["scores", at["layer"]][at["head"], at["query"]]
    best = int(row.argmax())
    assert asked["raw_scores-1"].choices[int(asked["raw_scores-1"].answer)] == f"‘{trace.tokens[best]}’ at {best}"
    assert asked["mask-1"].answer == asked["mask-1"].at["query"] + 1
    hardest = int(trace["loss"].nan_to_num(-1).argmax())
    assert asked["loss-1"].choices[int(asked["loss-1"].answer)] == f"‘{trace.tokens[hardest]}’ at {hardest}"
    assert asked["ln_1-1"].answer == pytest.approx(0, abs=1e-6)
    assert asked["probs-1"].answer == pytest.approx(100 * float(trace["logits"][-1].softmax(-1).max()), rel=1e-5)


def test_every_layer_and_head_has_its_own_questions(sorter):
    """Whatever is on screen, the question is about it; none of them names another layer or head."""
    trace, model, tokenizer = sorter
    asked = questions(recorded_pass(trace, model), tokenizer.visible)
    for layer, head in np.ndindex(3, 3):
        at = [one for one in asked if one.at.get("layer", layer) == layer and one.at.get("head", head) == head]
        stages = {one.stage for one in at}
        assert {"ln_1", "qkv", "mask", "pattern", "attn_out", "resid_mid", "ln_2", "mlp_pre", "mlp_post"} <= stages
        for one in at:
            named = re.findall(r"\bL(\d+)(?:H(\d+))?", one.text)
            assert all(int(its) == layer and int(own or head) == head for its, own in named), one.text
    shares = {(one.at["layer"], one.at["head"]): one.answer for one in asked
              if one.stage == "pattern" and one.kind == "number"}
    assert len(shares) == 9
    for (layer, head), share in shares.items():
        query = next(one.at["query"] for one in asked if one.stage == "pattern")
        assert share == pytest.approx(float(trace["pattern", layer][head, query].max()), rel=1e-5)


def test_a_model_of_many_heads_is_asked_about_one_of_each_layer():
    model = quick_model(block_size=8, vocab_size=20, n_layer=9, n_head=20, n_embd=40)
    asked = questions(recorded_pass(record(model, [3, 4, 5, 3]), model))
    places = [(one.at["layer"], one.at["head"]) for one in asked if one.stage == "pattern" and one.kind == "choice"]
    assert [layer for layer, _ in places] == list(range(9))


def test_a_choice_has_a_sentence_for_each_and_one_right_answer(sorter):
    trace, model, tokenizer = sorter
    for question in questions(recorded_pass(trace, model), tokenizer.visible):
        if question.kind == "choice":
            assert len(question.choices) == len(question.feedback) == len(set(question.choices)) >= 2
            assert sum(question.right(i) for i in range(len(question.choices))) == 1
        else:
            assert not question.choices
            assert not question.right(question.answer + question.tolerance + 1)


@pytest.mark.parametrize("ids", [[3], [3, 3], [1, 2, 3], [5, 5, 5, 5]])
@pytest.mark.parametrize("shape", [dict(n_layer=1, n_head=1, n_embd=4), dict(n_layer=48, n_head=2, n_embd=8)], ids=str)
def test_short_texts_and_thin_and_deep_models_have_questions(ids, shape):
    model = make_model(**shape)
    asked = questions(recorded_pass(record(model, ids), model))
    assert len(asked) > 8
    for question in asked:
        assert isinstance(question, Question)
        assert question.right(question.answer)
        if question.kind == "choice":
            assert len(set(question.choices)) == len(question.choices)


# --- switches ---------------------------------------------------------------------------------------------------------


def by_hand(model, ids, *, positions=True, mask=True, scaling=True, normalise=True):
    """A forward pass written down, with parts that can be left out."""
    def norm(x, layer):
        x = x - x.mean(-1, keepdim=True)
        scale = (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() if normalise else 1
        return x / scale * layer.weight + layer.bias

    config, n = model.config, len(ids)
    x = model.transformer.wte.weight[ids] + positions * model.transformer.wpe.weight[:n]
    for block in model.transformer.h:
        qkv = block.attn.c_attn(norm(x, block.ln_1)).view(n, 3, config.n_head, config.d_head).permute(1, 2, 0, 3)
        scores = qkv[0] @ qkv[1].mT / (math.sqrt(config.d_head) if scaling else 1)
        if mask:
            scores = scores + torch.full((n, n), -math.inf).triu(1)
        z = (scores.softmax(-1) @ qkv[2]).transpose(0, 1).flatten(1)
        x = x + block.attn.c_proj(z)
        x = x + block.mlp.c_proj(torch.nn.functional.gelu(block.mlp.c_fc(norm(x, block.ln_2))))
    return model.lm_head(norm(x, model.transformer.ln_f))


@pytest.mark.parametrize(("part", "left_out"), [
    ("positions", "positions"), ("mask", "mask"), ("score_scaling", "scaling"), ("normalisation", "normalise")])
def test_a_model_without_a_part_is_the_one_written_down_without_it(part, left_out):
    model = make_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.3)
        expected, plain = by_hand(model, IDS, **{left_out: False}), by_hand(model, IDS)
    with intervene(model, without(part)) as report:
        logits = record(model, IDS, names="logits")["logits"]
    assert torch.allclose(logits, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits, plain, rtol=1e-2, atol=1e-2)
    assert report[0].changed
    assert report[0].positions == set(range(len(IDS)))
    assert torch.allclose(record(model, IDS)["logits"], plain, rtol=1e-4, atol=1e-4)
    assert Edit.from_json(json.loads(json.dumps(without(part).to_json()))) == without(part)


def test_no_part_of_that_name():
    with pytest.raises(ValueError, match=r"must be one of .*'positions', 'mask'.* not 'attention'"):
        without("attention")


def test_a_switch_gives_the_loss_of_the_edited_pass(sorter):
    trace, model, tokenizer = sorter
    result = switch_result(trace, model, "zero_head", layer=1, head=2, visible=tokenizer.visible)
    with intervene(model, ablate_head(1, 2)):
        edited = record(model, trace.ids)
    assert result["loss"] == pytest.approx(float(edited["loss"].nanmean()), rel=1e-5)
    assert result["true_loss"] == pytest.approx(float(trace["loss"].nanmean()), rel=1e-5)
    assert result["losses"][0] is None
    assert result["losses"][3] == pytest.approx(float(edited["loss"][3]), rel=1e-5)
    assert result["next"][0]["token"] == int(edited["logits"][-1].argmax())
    assert result["next"][0]["word"] == tokenizer.visible(result["next"][0]["token"])
    assert result["code"] == "ablate_head(1, 2)"
    assert result["changed"]


def test_a_page_holds_all_switches_of_a_small_model_and_the_general_ones_of_a_large(sorter, large):
    trace, model, _ = sorter
    found = switch_results(trace, model)
    assert len(found["results"]) == 4 + 9 + 3
    assert len(found["available"]) == len(SWITCHES)
    found = switch_results(trace, model, limit=15)
    general = ["no_positions", "no_normalisation", "no_score_scaling", "no_mask"]
    assert [one["id"] for one in found["results"]] == general


def test_a_switch_that_does_nothing_says_so():
    model = make_model()
    result = switch_result(record(model, [3]), model, "no_mask")
    assert not result["changed"]
    assert result["loss"] is None


@pytest.mark.parametrize(("given", "message"), [
    (dict(id="no_heads"), r"switch must be one of no_positions, .* not 'no_heads'"),
    (dict(id="zero_head", layer=1), "takes layer and head; it was given layer=1, head=None"),
    (dict(id="no_mask", layer=1), "takes no layer or head"),
    (dict(id="zero_mlp", layer=9), "no layer 9"),
])
def test_switches_that_do_not_exist(sorter, given, message):
    with pytest.raises(ValueError, match=message):
        switch_result(sorter[0], sorter[1], **given)


# --- the board --------------------------------------------------------------------------------------------------------


def test_the_board_pays_for_a_cell_and_throws_a_switch(board):
    paid = act(board, "receipt", {"tensor": "pattern", "index": [1, 0, 5, 2]})["receipt"]
    assert paid["passed"]
    assert paid["cell"] == {"tensor": "pattern", "index": [1, 0, 5, 2]}
    assert act(board, "switch", {"id": "zero_mlp", "layer": 0})["switch"]["code"] == "ablate_mlp(0)"
    with pytest.raises(ValueError, match="a pass of this board"):
        act(board, "receipt", {"tensor": "loss", "index": [1], "view": 1})


def test_another_text_has_its_own_receipts(sorter):
    board = step_through(*sorter)
    text = "AABBCC"
    board._frame({"step": None, "text": text})
    assert board.text == text
    assert len(board.views[0].labels["token"]) == 6
    token = act(board, "receipt", {"tensor": "ids", "index": [1]})["receipt"]
    assert token["recorded"] == 0
    board._frame({"step": None, "text": "CBABBCABBBC"})
    assert act(board, "receipt", {"tensor": "ids", "index": [1]})["receipt"]["recorded"] == 1


def test_two_passes_side_by_side(sorter, large):
    trace, model, tokenizer = sorter
    untrained, _ = load("sorter", step=0)
    before = record(untrained, "CBABBCABBBC", tokenizer)
    board = step_through(trace, model, tokenizer, other=(before, untrained), labels=("step 600", "step 0"))
    assert [view.content["label"] for view in board.views] == ["step 600", "step 0"]
    index = [0, 0, 3, 1]
    values = [act(board, "receipt", {"tensor": "q", "index": index, "view": i})["receipt"] for i in (0, 1)]
    assert all(value["passed"] for value in values)
    assert values[0]["recorded"] != values[1]["recorded"]
    with pytest.raises(ValueError, match="must have one shape"):
        step_through(trace, model, tokenizer, other=large)
    with pytest.raises(ValueError, match=r"small enough to travel whole, 8.0 MB each"):
        step_through(*large, other=large)


def test_a_board_needs_a_whole_trace(sorter):
    with pytest.raises(UnknownNameError, match="The stepper needs"):
        step_through(record(sorter[1], IDS[:1] * 0 + [0, 1], names="pattern"), sorter[1])


def test_a_page_of_a_large_model_holds_as_many_layers_as_fit(large):
    board = step_through(*large)
    kept = [sorted(board.payload(budget=budget)["views"][0]["details"]) for budget in (6_000_000, 40_000_000)]
    assert kept == [["0", "1", "2"], [str(layer) for layer in range(8)]]


@pytest.mark.parametrize("width", [128, 768], ids=["with weights", "without"])
def test_a_page_that_has_no_room_for_a_layer_says_how_large_one_with_all_of_them_is(width):
    model = GPT(GPTConfig(n_layer=2, n_head=4, n_embd=width, block_size=300, vocab_size=20))
    board = step_through(record(model, [i % 20 for i in range(300)]), model)
    asked = int(re.search(r"budget=(\d+)_000_000", board.views[0].content["left_out"][0])[1]) * 1_000_000
    kept = [sorted(board.payload(budget=budget)["views"][0]["details"]) for budget in (2_000_000, asked)]
    assert kept == [[], ["0", "1"]]


def test_a_page_has_the_weights_of_the_chosen_layer_where_its_budget_has_room(large):
    board = step_through(*large)
    asked = int(re.search(r"budget=(\d+)_000_000", board.views[0].content["left_out"][1])[1]) * 1_000_000

    def with_weights(budget):
        found = board.payload(budget=budget)["views"][0]["details"]
        return [layer for layer, detail in found.items() if set(WEIGHTS) <= set(detail["arrays"])]

    board.layer = 3
    assert with_weights(asked) == ["3"]
    assert with_weights(asked - 1_000_000) == []
    detail = board.views[0].whole_detail({"layer": 3})
    np.testing.assert_array_equal(detail.arrays["mlp.c_fc.weight"], large[1].transformer.h[3].mlp.c_fc.weight.detach())


@pytest.mark.parametrize(("wrong", "message"), [
    (dict(tokenizer="char"), "tokenizer must be a tokenizer such as"),
    (dict(title=3), "title must be a str, not int. It is the model's name."),
    (dict(labels=("one",)), r"labels must be two texts, such as \('step 0', 'step 600'\), not \('one',\)"),
    (dict(labels=(0, 600)), "labels must be two texts"),
    (dict(labels="ab"), "labels must be two texts"),
    (dict(labels=None), "labels must be two texts, .* not None"),
    (dict(other="x"), r"other must be a trace and its model, \(trace, model\), not str"),
    (dict(other=(1, 2, 3)), "other must be a trace and its model"),
    (dict(other=(1, 2)), "trace must be a Trace, not int"),
], ids=str)
def test_wrong_things_are_told_apart(sorter, wrong, message):
    trace, model, tokenizer = sorter
    untyped = inspect.unwrap(step_through)  # as a notebook calls it: the tests enforce the types of arguments
    with pytest.raises(TypeError, match=message):
        untyped(trace, model, **({"tokenizer": tokenizer} | wrong))


def test_two_passes_have_as_many_tokens(sorter):
    trace, model, tokenizer = sorter
    with pytest.raises(ValueError, match="must have as many tokens, but the texts have 11 and 3"):
        step_through(trace, model, tokenizer, other=(record(model, "CBA", tokenizer), model))


def test_the_weights_are_those_that_made_the_trace(sorter):
    trace, _, tokenizer = sorter
    with pytest.raises(ValueError, match=r"of this model with these weights, .* miss by a share of \d\.\d\d\. Pass"):
        step_through(trace, load("sorter", step=200)[0], tokenizer)


def test_half_precision_is_not_taken_for_other_weights():
    model = make_model(n_layer=2, n_head=2, n_embd=32, block_size=16, vocab_size=11)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trace = record(model, torch.arange(11))
    view = step_through(trace, model).views[0]
    assert 1e-4 < view.checks[-1].error < 0.1


def test_the_cells_for_the_page_cover_every_rule():
    found = json.loads(cases(2000))["cases"]
    receipts = [one for case in found for one in case["receipts"]]
    assert len(receipts) == 2000
    assert all(one["passed"] for one in receipts)
    assert {one["rule"] for one in receipts} == {about.rule for about in TENSORS.values()}
    assert sum("details" in case["view"] for case in found) == 4


def test_switches_are_compared_only_with_the_pass_of_the_same_model(sorter):
    _, packaged, tokenizer = sorter
    model = GPT(packaged.config)
    model.load_state_dict(packaged.state_dict())
    with intervene(model, ablate_head(1, 0)):
        edited = record(model, "CBABBC", tokenizer)
    assert step_through(edited, model, tokenizer).views[0].content["switches"]["results"] == []
    board = step_through(record(model, "CBABBC", tokenizer), model, tokenizer)
    assert board.views[0].content["switches"]["results"]
    with torch.no_grad():
        model.lm_head.weight.mul_(1.5)
    with pytest.raises(ValueError, match="has learned since"):
        board.actions["switch"]({"id": "positions", "layer": None, "head": None})
