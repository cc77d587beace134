"""The stepper in a real browser: its arithmetic, its numbers, its keys, its links."""

import json
import math
import re

import numpy as np
import pytest
import torch
from by_hand import VARIANTS, make_model

from gptviz.analysis.stepper.questions import questions
from gptviz.analysis.stepper.receipts import receipt
from gptviz.analysis.stepper.recorded import recorded_pass
from gptviz.analysis.stepper.stages import TENSORS
from gptviz.dashboards import step_through
from gptviz.dashboards.stepper import pass_view
from gptviz.export import export_html
from gptviz.loading import load
from gptviz.trace import record
from gptviz.widgets import Board

CELLS = 250  # of each of eight models: 2,000 in all
pytestmark = pytest.mark.browser


def page_of(trace, model, tmp_path, tokenizer=None):
    path = tmp_path / "step.html"
    export_html(step_through(trace, model, tokenizer), path)
    return path.as_uri()


def random_cells(trace, count, seed):
    """(tensor, layer or None, index) over all tensors of a trace's stages, each as often."""
    rng, forward = np.random.default_rng(seed), trace
    for i in range(count):
        name = list(TENSORS)[i % len(TENSORS)]
        shape = forward.shape(name)
        index = [int(rng.integers(size)) for size in shape]
        layered = TENSORS[name].axes[0] == "layer"
        yield name, index[0] if layered else None, index[1:] if layered else index, index


def test_the_page_computes_the_receipts_that_python_computes(open_page, tmp_path, capsys):
    """Eight models in one page: with and without bias, tied and not, both GELUs."""
    models = [make_model(**variant) for variant in VARIANTS]
    ids = torch.randint(0, models[0].config.vocab_size, (8,), generator=torch.Generator().manual_seed(1))
    traces = [record(model, ids) for model in models]
    forwards = [recorded_pass(*pair) for pair in zip(traces, models, strict=True)]
    cells = [(view, *cell) for view, one in enumerate(forwards) for cell in random_cells(one, CELLS, seed=view)]
    board = Board([pass_view(*pair) for pair in zip(traces, models, strict=True)], name="step", layer=0, head=0,
                  query=7, key=0)
    export_html(board, tmp_path / "eight.html")
    page = open_page((tmp_path / "eight.html").as_uri())
    page.wait_for_selector(".gv-stepper[data-drawn]")
    found = json.loads(page.evaluate(
        """cells => JSON.stringify(cells.map(([view, name, layer, at]) => {
             const paid = document.querySelector('.gv-stepper').stepper.receipt(name, layer, at, view);
             return paid && [String(paid.result), String(paid.recorded), paid.passed]; }))""",
        [list(cell[:4]) for cell in cells]))
    assert len(found) == 2000
    for (view, name, _, _, index), (result, recorded, passed) in zip(cells, found, strict=True):
        paid = receipt(forwards[view], name, *index)
        assert passed != (name == "loss" and index == [0]), (view, name, index, result, recorded)
        for mine, theirs in ((paid.result, number(result)), (paid.recorded, number(recorded))):
            assert close(mine, theirs), (view, name, index, mine, theirs)


def number(text):
    return {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.get(text) or float(text)


def close(mine, theirs):
    if not math.isfinite(mine):
        return str(float(mine)) == str(theirs)
    return abs(mine - theirs) <= 1e-5 * max(abs(mine), 1e-2)


@pytest.fixture
def sorter(open_page, tmp_path, capsys):
    model, tokenizer = load("sorter")
    trace = record(model, "CBABBC", tokenizer)
    url = page_of(trace, model, tmp_path, tokenizer)

    def opened(link="", **options):
        page = open_page(url + link, **options)
        page.wait_for_selector(".gv-stepper[data-drawn]")
        return page

    return trace, opened


def place(page):
    return page.locator(".gv-state").inner_text()


def settle(page):
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_keys_walk_all_stages_of_all_layers(sorter):
    _, opened = sorter
    page = opened()
    page.keyboard.press("Tab")  # the stage is the first thing in the page that takes the focus
    page.locator(".gv-stage-box").focus()
    page.keyboard.press("Home")
    settle(page)
    walked = [place(page)]
    for _ in range(100):
        page.keyboard.press("ArrowRight")
        settle(page)
        if place(page) == walked[-1]:
            break
        walked.append(place(page))
        said = page.locator(".gv-stepper > .gv-live").inner_text()
        assert place(page) in said
        assert page.locator(".gv-stage-title").inner_text() in said
    assert walked[0] == "L0 H0 stage 0 token 5"
    in_blocks = [state for state in walked if 3 <= int(state.split()[3]) <= 16]
    assert [state[:2] for state in in_blocks] == ["L0"] * 14 + ["L1"] * 14 + ["L2"] * 14
    page.keyboard.press("ArrowLeft")
    settle(page)
    assert place(page) == walked[-2]


def test_keys_work_before_the_first_click_and_after_one_beside_the_stage(sorter):
    _, opened = sorter
    page = opened("#L1-H0-stage-8-token-5")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => document.querySelector('.gv-state').textContent === 'L1 H0 stage 7 token 5'")
    page.locator(".gv-stage-title").click()
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('.gv-state').textContent === 'L1 H0 stage 8 token 5'")


def test_the_numbers_on_screen_are_the_traces(sorter):
    trace, opened = sorter
    page = opened("#L1-H2-stage-8-token-4")
    assert place(page) == "L1 H2 stage 8 token 4"
    shown = [float(text) for text in page.locator(".gv-result .gv-cell-value").all_inner_texts()]
    np.testing.assert_allclose(shown, trace["pattern", 1][2, 4].numpy(), atol=6e-5)
    said = page.locator(".gv-readout-line").inner_text()
    assert said == f"pattern[layer 1, head 2, query 4, key 0] = {float(trace['pattern', 1][2, 4, 0]):.6f}"
    page.keyboard.press("Tab")
    page.locator(".gv-stage-box").focus()
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
    settle(page)
    value = f"{float(trace['pattern', 1][2, 4, 3]):.4f}"
    assert value in page.locator(".gv-total .gv-value").inner_text()


def test_a_click_on_a_cell_shows_its_arithmetic_and_where_it_came_from(sorter):
    trace, opened = sorter
    page = opened("#L0-H1-stage-13-token-2")  # mlp_pre
    box = page.locator(".gv-plates").bounding_box()
    before = page.locator(".gv-receipt").inner_text()
    page.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + 0.5 * box["height"])
    settle(page)
    words = page.locator(".gv-readout-line").inner_text()
    name, value = words.split(" = ")
    pos, column = (int(part.split()[1].rstrip("]")) for part in name.split(", ")[1:])
    assert float(value.replace("−", "-")) == pytest.approx(float(trace["mlp_pre", 0][pos, column]), abs=1e-6)
    after = page.locator(".gv-receipt").inner_text()
    assert after != before
    assert "✓" in after


def test_a_receipt_names_the_tensors_and_weights_that_it_read(sorter):
    _, opened = sorter
    for stage, origin in ((5, "from ln_1[layer 1, pos 4, d_model 0 to 47] and "
                              "attn.c_attn.weight[layer 1, row 128, column 0 to 47]"),
                          (8, "from scores[layer 1, head 2, query 4, key 0 to 4]"),
                          (4, "from resid_pre[layer 1, pos 4, d_model 0 to 47] and ln_1_scale[layer 1, pos 4] and "
                              "ln_1.weight[layer 1, column 0]"),
                          (1, "from ids[pos 4] and wte.weight[row 1, column 0]")):
        page = opened(f"#L1-H2-stage-{stage}-token-4")
        assert page.locator(".gv-origin").inner_text() == origin


def test_predict_hides_the_result_until_the_answer(sorter):
    _, opened = sorter
    page = opened("#L1-H0-stage-8-token-4")
    page.locator(".gv-stage-box").focus()
    page.keyboard.press("p")
    settle(page)
    assert "predict first" in page.locator(".gv-readout-line").inner_text()
    assert page.locator(".gv-cell-value").count() == 0
    page.keyboard.press("b")  # the second choice
    settle(page)
    assert page.locator(".gv-explained").inner_text().startswith(("Right.", "Not quite."))
    assert page.locator(".gv-result .gv-cell-value").count() == 6


def test_a_dictated_place_is_found_and_nonsense_is_not(sorter):
    _, opened = sorter
    page = opened()
    page.locator(".gv-stage-box").focus()
    page.keyboard.press("/")
    page.keyboard.type("L2 H1 stage 10 token 3")
    page.keyboard.press("Enter")
    settle(page)
    assert place(page) == "L2 H1 stage 10 token 3"
    page.wait_for_function("() => location.hash === '#L2-H1-stage-10-token-3'")
    page.keyboard.press("/")
    page.keyboard.type("the moon")
    page.keyboard.press("Enter")
    assert page.locator(".gv-jump").get_attribute("aria-invalid") == "true"
    note = page.locator(".gv-jump-note")
    assert note.inner_text().startswith("A place has any of L1, H0, stage 8")
    for words, why in (("L9 stage 4", "There is no L9: this model has L0 to L2."), ("H3", "There is no H3"),
                       ("stage 40", "There is no stage 40"), ("token 6", "There is no token 6: this text")):
        page.locator(".gv-jump").fill(words)
        page.keyboard.press("Enter")
        assert note.inner_text().startswith(why)
    assert place(page) == "L2 H1 stage 10 token 3"
    page.keyboard.press("Escape")
    assert not note.is_visible()
    page.evaluate("location.hash = '#L7-H0-stage-8-token-5'")
    note.wait_for(state="visible")
    assert note.inner_text().startswith("There is no L7")


def test_the_lit_lines_are_those_of_the_source(sorter):
    _, opened = sorter
    page = opened("#L1-H0-stage-8-token-4")
    lit = page.locator(".gv-code.gv-here code").all_inner_texts()
    assert any("softmax(" in line for line in lit)


@pytest.mark.parametrize("width", [600, 1000, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_leaves_the_page(sorter, width, scheme):
    _, opened = sorter
    page = opened("#L1-H0-stage-6-token-4", width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_second_pass_lies_below_the_first(open_page, tmp_path, capsys):
    """Under the mouse: the same cell in the second pass, and the difference."""
    model, tokenizer = load("sorter")
    traces = [record(model, text, tokenizer) for text in ("CBABBC", "BBACAC")]
    board = step_through(traces[0], model, tokenizer, other=(traces[1], model), labels=("one", "two"))
    export_html(board, tmp_path / "two.html")
    page = open_page((tmp_path / "two.html").as_uri() + "#L1-H2-stage-10-token-4")  # attn_out
    page.wait_for_selector(".gv-stepper[data-drawn]")
    assert page.locator(".gv-tokens .gv-count").inner_text() == "6 tokens · beside two: BBACAC"
    page.set_viewport_size({"width": 1400, "height": 2000})
    settle(page)
    settle(page)
    page.evaluate("() => Promise.allSettled(document.getAnimations().map(one => one.finished))")  # they have arrived
    plates = page.evaluate("""() => document.querySelector('.gv-stepper').stepper.page.layout.plates
        .map(one => [one.caption, one.x, one.y, one.w, one.h])""")
    box, callout, seen = page.locator(".gv-plates").bounding_box(), page.locator(".gv-callout-cell"), {}
    for caption, x, y, w, h in plates[-2:]:
        for down, across in ((0.1, 0.2), (0.5, 0.9), (0.95, 0.5)):
            page.mouse.move(box["x"] + x + across * w, box["y"] + y + down * h)
            settle(page)
            where = callout.locator("small").inner_text()
            assert where.startswith(caption)
            pos, column = map(int, re.findall(r"(?:pos|d_model) (\d+)", where))
            seen[caption, pos, column] = float(callout.locator("b").inner_text().replace("−", "-"))
            assert pos == int(down * 6)
    one, two = (trace["attn_out", 1] for trace in traces)
    assert [caption for caption, *_ in plates[-2:]] == ["attn_out L1 · two", "second − first"]
    for (name, pos, column), value in seen.items():
        expected = two[pos, column] - (one[pos, column] if name == "second − first" else 0)
        assert value == pytest.approx(float(expected), abs=6e-5), (name, pos, column)


def test_the_stage_is_the_one_tab_stop_of_the_walk(sorter):
    """Whatever else takes the focus is a field, a word, or the list of keys; every button has a key or a name."""
    _, opened = sorter
    page = opened("#L1-H0-stage-8-token-4")
    stops = page.evaluate("""() => [...document.querySelectorAll('.gv-stepper button, .gv-stepper [tabindex], input')]
        .filter(el => el.tabIndex >= 0 && el.offsetParent).map(el => el.className)""")
    assert stops == ["gv-term", "gv-stage-box", "gv-help-button"]  # the first: a word that is explained
    nameless = page.evaluate("""() => [...document.querySelectorAll('.gv-stepper button, .gv-stepper [role]')]
        .filter(el => el.offsetParent && !el.textContent.trim() && !el.getAttribute('aria-label'))
        .map(el => el.className)""")
    assert nameless == []
    named = page.evaluate("""() => [...document.querySelectorAll('.gv-picker button, .gv-closed button')]
        .map(el => el.getAttribute('aria-label'))""")
    layers, heads = [f"layer {i}" for i in range(3)], [f"head {i}" for i in range(3)]
    assert named == [*layers, *heads, "L0 attention", "L0 mlp", "L2 attention", "L2 mlp"]
    small = page.evaluate("""() => [...document.querySelectorAll('.gv-stepper *')]
        .filter(el => el.offsetParent && el.textContent && parseFloat(getComputedStyle(el).fontSize) < 12)
        .map(el => el.className)""")
    assert small == []


# Counted where they begin: one that takes 0.2 s may be over before it is looked for.
COUNT_MOVES = """() => {
  const plates = document.querySelector('.gv-plates'), animate = plates.animate;
  window.moves = 0;
  plates.animate = (...how) => { window.moves++; return animate.apply(plates, how); };
}"""


def test_nothing_moves_for_those_who_asked_for_less_motion(sorter):
    _, opened = sorter
    for wish, moving in (("reduce", 0), ("no-preference", 1)):
        page = opened(reduced_motion=wish)
        page.locator(".gv-stage-box").focus()
        page.keyboard.press("Home")
        settle(page)
        page.evaluate(COUNT_MOVES)
        page.keyboard.press("ArrowRight")
        page.wait_for_function("() => document.querySelector('.gv-stepper').dataset.drawn.includes('stage 1 ')")
        assert page.evaluate("window.moves") == moving


def numbers_in(page, selector):
    """The numbers that an element says, with a true minus."""
    words = page.locator(selector).inner_text().replace("−", "-")
    return [float(one) for one in re.findall(r"-?\d+\.\d+(?:e-\d+)?", words)]


def test_a_link_is_followed_although_the_page_writes_its_own_just_then(sorter):
    page = sorter[1]("#L1-H2-stage-8-token-4")
    page.evaluate("""() => {  // the page's own writing of where it was falls between the link and its event
      location.hash = '#L1-H2-stage-16-token-4';
      history.replaceState(null, '', '#L1-H2-stage-8-token-4');
    }""")
    page.wait_for_function("() => document.querySelector('.gv-stepper').dataset.drawn.includes('stage 16 ')")


def test_the_sentence_of_a_stage_tells_the_traces_numbers(sorter):
    """Where a head looks, what LayerNorm did, the norm of the stream, the next token, the loss: each from the trace."""
    trace, opened = sorter
    page = opened("#L1-H2-stage-8-token-4")
    said = ".gv-finding"

    def at(stage):
        page.evaluate("to => { location.hash = to }", f"#L1-H2-stage-{stage}-token-4")
        page.wait_for_function(f"() => document.querySelector('.gv-stepper').dataset.drawn.includes('stage {stage} ')")
        settle(page)
        return numbers_in(page, said)

    row = np.sort(trace["pattern", 1][2, 4].numpy())[::-1]
    best = int(trace["pattern", 1][2, 4].argmax())
    assert at(8) == pytest.approx(row[:2], abs=6e-5)
    assert f"reads most from ‘{trace.tokens[best]}’ at {best}" in page.locator(said).inner_text()
    before, after = (trace[name, 1][4].double().numpy() for name in ("resid_pre", "ln_1"))
    scale = float(trace["ln_1_scale", 1][4])
    expected = [before.mean(), before.std(), 0, before.std() / scale, scale, after.mean(), after.std()]
    found = at(4)
    assert found == pytest.approx(expected, abs=6e-5)
    vectors = [trace[name, 1][4].norm() for name in ("resid_post", "resid_mid", "mlp_out")]
    assert at(16) == pytest.approx([float(one) for one in vectors], abs=6e-5)
    assert at(19) == pytest.approx([float(trace["logits"][4].max())], abs=6e-5)
    probs = trace["logits"][4].softmax(-1)
    assert at(20)[:3] == pytest.approx(probs.sort(descending=True).values.tolist(), abs=6e-5)
    loss = float(trace["loss"][4])
    assert at(21) == pytest.approx([math.exp(-loss), loss, float(trace["loss"][1:].mean())], abs=6e-5)
    assert page.locator(said).inner_text() in page.locator(".gv-stepper > .gv-live").inner_text()


def test_every_tensor_says_its_shape_with_the_names_of_its_axes(sorter):
    trace, opened = sorter
    page = opened("#L1-H2-stage-5-token-4")
    words = page.locator(".gv-shape-words")
    for name in ("v", "q", "k"):
        head, pos, deep = trace[name, 1].shape
        assert words.inner_text() == f"{name}: head {head} × pos {pos} × d_head {deep}, in each of 3 layers"
        page.locator(".gv-stage-box").focus()
        page.keyboard.press("t")
        settle(page)


def test_the_shapes_of_an_equation_multiply(sorter):
    """Under a transposed symbol stands the transposed shape: its rows are the columns of what it is multiplied with."""
    _, opened = sorter
    products = {5: ("ln_1", "c_attnᵀ"), 6: ("q", "kᵀ"), 13: ("ln_2", "c_fcᵀ"), 19: ("ln_final", "lm_headᵀ")}
    for stage, (left, right) in products.items():
        page = opened(f"#L1-H2-stage-{stage}-token-4")
        said = page.evaluate("""() => Object.fromEntries([...document.querySelectorAll('.gv-symbol')].map(el => [
            el.querySelector('b').textContent, el.querySelector('small').textContent.split('×').map(Number)]))""")
        assert said[left][-1] == said[right][-2], (stage, said)


def test_t_says_where_there_is_no_other_tensor(sorter):
    _, opened = sorter
    page = opened("#L1-H2-stage-8-token-4")
    page.locator(".gv-stage-box").focus()
    page.keyboard.press("t")
    settle(page)
    assert page.locator(".gv-notice").inner_text() == "This stage makes one tensor: T has no other to go to."


@pytest.mark.parametrize("width", [400, 700, 1000, 1300])
def test_every_stage_stands_on_the_line(sorter, width):
    _, opened = sorter
    page = opened(width=width)
    cut = page.evaluate("""() => { const rail = document.querySelector('.gv-rail').getBoundingClientRect();
        return [...document.querySelectorAll('.gv-stop')]
            .filter(el => el.getBoundingClientRect().right > rail.right + 1).map(el => el.dataset.stage); }""")
    assert cut == []


def test_losses_without_a_part_stand_beside_the_models_own(sorter):
    """The mean alone misleads on the sorter: each token's loss is told."""
    trace, opened = sorter
    page = opened("#L1-H0-stage-7-token-4")
    rows = [row.split("\t") for row in page.locator("table.gv-with tr").all_inner_texts()]
    own = {int(name.split()[0]): float(one) for name, one, _ in rows if name[:1].isdigit()}
    assert own == pytest.approx({i: float(trace["loss"][i]) for i in range(1, 6)}, abs=6e-4)


def test_a_page_names_the_layers_it_has_not(open_page, tmp_path, capsys):
    """A model too large for a page: what is left out is said, and the layers that are there are named."""
    model = make_model(n_embd=64, n_layer=40, n_head=4, block_size=160, vocab_size=11)
    trace = record(model, torch.arange(150) % 11)
    board = step_through(trace, model)
    export_html(board, tmp_path / "large.html", budget=4_000_000)
    page = open_page((tmp_path / "large.html").as_uri() + "#L39-H0-stage-8-token-5")
    page.wait_for_selector(".gv-stepper[data-drawn]")
    assert page.locator(".gv-main > .gv-note").inner_text().startswith("L39 is left out of this page")
    assert "In this page: L0" in page.locator(".gv-main > .gv-note").inner_text()
    words = page.locator(".gv-left-out").inner_text()
    assert re.search(r"holds the tensors of L0.* \(of L0 to L39\), the weights of L0", words)


@pytest.mark.parametrize(("tokens", "tensors", "why"), [
    (11, "all blocks", "does not hold the weights of L3"), (256, "L2", "L3 is left out of this page")])
def test_a_page_with_the_weights_of_one_layer_pays_for_its_cells(open_page, tmp_path, capsys, tokens, tensors, why):
    """The chosen layer has its arithmetic; of the others the page says what it lacks."""
    model = make_model(n_embd=320, n_layer=4, n_head=4, block_size=256, vocab_size=11)
    trace = record(model, torch.arange(tokens) % 11)
    board = step_through(trace, model)
    budgets = re.findall(r"budget=(\d+)_000_000", " ".join(board.views[0].content["left_out"]))
    asked = int(budgets[-1]) * 1_000_000  # for the weights of one layer; one before it is for the tensors of all
    board.layer = 2
    export_html(board, tmp_path / "one.html", budget=asked)
    page = open_page((tmp_path / "one.html").as_uri() + "#L2-H0-stage-13-token-5")
    page.wait_for_selector(".gv-stepper[data-drawn]")
    words = page.locator(".gv-left-out").inner_text()
    assert re.search(rf"the tensors of {tensors} \(of L0 to L3\), the weights of L2, and all stages", words)
    assert "✓" in page.locator(".gv-receipt").inner_text()
    page.locator(".gv-stage-box").focus()
    page.keyboard.press("ArrowDown")
    settle(page)
    assert why in page.locator(".gv-receipt").inner_text()


def go(page, words):
    """To a place by its link, drawn."""
    page.evaluate("to => { location.hash = to }", "#" + words.replace(" ", "-"))
    page.wait_for_function("to => document.querySelector('.gv-stepper').dataset.drawn === to", arg=words)
    settle(page)


def test_questions_are_about_the_layer_and_head_on_screen(sorter):
    _, opened = sorter
    page, asked = opened(), set()
    for layer, head in np.ndindex(3, 3):
        go(page, f"L{layer} H{head} stage 8 token 4")
        asked.add(page.locator(".gv-ask").inner_text())
        assert f"L{layer}H{head}:" in page.locator(".gv-ask").inner_text()
    assert len(asked) == 9


def test_the_first_token_has_no_loss_and_a_real_nan_is_loud(sorter, open_page, tmp_path, capsys):
    _, opened = sorter
    page = opened("#L0-H0-stage-21-token-0")
    why = "nothing comes before the first token, so nothing predicts it"
    assert page.locator(".gv-readout-line").inner_text() == f"loss[pos 0] = –: {why}"
    assert why in page.locator(".gv-receipt").inner_text()
    assert page.locator(".gv-result .gv-cell-value").first.inner_text() == "–"
    assert "NaN" not in page.locator(".gv-stepper").inner_text()
    model, tokenizer = load("sorter")
    with torch.no_grad():
        model.transformer.wte.weight[0, 0] = math.nan
    url = page_of(record(model, "CBABBC", tokenizer), model, tmp_path, tokenizer)
    page = open_page(url + "#L0-H0-stage-21-token-4")
    page.wait_for_selector(".gv-stepper[data-drawn]")
    assert page.locator(".gv-readout-line").inner_text() == "loss[pos 4] = NaN"
    assert page.locator(".gv-result .gv-cell-value").nth(4).inner_text() == "NaN"
    assert "✓" not in page.locator(".gv-receipt").inner_text()
    assert "NaN" in page.locator(".gv-receipt").inner_text()


def test_scores_before_the_mask_have_one_name(sorter):
    _, opened = sorter
    page = opened("#L1-H2-stage-7-token-4")
    assert page.locator(".gv-equation").inner_text().split() == ["scores", "3×6×6", "=", "raw_scores", "3×6×6", "+",
                                                                  "mask"]
    assert page.locator(".gv-receipt-row").first.inner_text().startswith("raw_scores")
    assert page.locator("table.gv-table th[scope]").all_inner_texts() == ["raw_scores", "+ mask", "scores"]
    go(page, "L1 H2 stage 6 token 4")
    assert page.locator(".gv-equation .gv-symbol b").first.inner_text() == "raw_scores"
    assert page.locator(".gv-readout-line").inner_text().startswith("raw_scores[")


def test_a_row_starts_at_the_chosen_column_and_the_largest(sorter):
    trace, opened = sorter
    page = opened("#L1-H2-stage-10-token-4")  # attn_out
    page.locator(".gv-stage-box").focus()
    for _ in range(5):
        page.keyboard.press("Shift+ArrowRight")
    settle(page)
    heads = [int(one) for one in page.locator("table.gv-table tr").first.locator("th").all_inner_texts()[1:]]
    row = trace["attn_out", 1][4].abs().numpy()
    rest = [int(i) for i in np.argsort(-row, kind="stable") if i != 5][: len(heads) - 1]
    assert heads == [5, *rest]
    assert f"the chosen one, then the {len(rest)} largest in size of 48" in page.locator(".gv-main > h3").inner_text()
    go(page, "L1 H2 stage 8 token 4")
    assert "largest" not in page.locator(".gv-main > h3").inner_text()  # all six fit


def test_words_are_explained_by_keyboard_and_in_the_help(sorter):
    _, opened = sorter
    page = opened("#L1-H0-stage-21-token-4")
    for _ in ("d_model", "the stage", "logits", "nats"):
        page.keyboard.press("Tab")
    focused = page.evaluate("""() => { const el = document.activeElement, tip = getComputedStyle(el, '::after');
        return [el.textContent, el.getAttribute('aria-description'), tip.content, tip.visibility]; }""")
    assert focused[0] == "nats"
    assert focused[1].startswith("unit of the loss")
    assert focused[1] in focused[2].replace("\\", "")
    assert page.locator(".gv-term").all_inner_texts() == ["d_model", "logits", "nats"]  # each once
    page.keyboard.press("?")
    assert page.locator(".gv-glossary dt").all_inner_texts() == ["residual stream", "d_model", "logit", "nats", "GELU"]
    assert focused[1] in page.locator(".gv-glossary").inner_text()
    page.keyboard.press("ArrowLeft")  # the word goes, and its focus to the stage
    settle(page)
    assert page.evaluate("document.activeElement.className") == "gv-stage-box"


def test_the_page_starts_with_what_the_model_was_trained_to_do(sorter):
    _, opened = sorter
    page = opened()
    assert page.locator(".gv-hint").inner_text().startswith("This model was trained to sort 6 letters: ")


def test_w_goes_to_what_breaks_or_says_that_there_is_nothing(sorter):
    _, opened = sorter
    page = opened("#L1-H0-stage-7-token-4", reduced_motion="reduce")
    page.set_viewport_size({"width": 700, "height": 500})
    settle(page)
    breaks, said = page.locator(".gv-breaks"), page.locator(".gv-stepper > .gv-live")
    page.keyboard.press("w")
    page.wait_for_function("() => document.activeElement.classList.contains('gv-breaks')")
    top = breaks.bounding_box()["y"]
    assert 0 <= top < 500
    assert "without the mask" in said.inner_text()
    assert re.search(r"loss, mean of all \d+\.\d+ \d+\.\d+", said.inner_text())
    page.keyboard.press("ArrowRight")  # the keys go on
    page.wait_for_function("() => document.querySelector('.gv-state').textContent === 'L1 H0 stage 8 token 4'")
    settle(page)
    assert page.evaluate("document.activeElement.className") == "gv-stage-box"
    notice = page.locator(".gv-notice")
    assert not notice.is_visible()
    page.keyboard.press("w")
    notice.wait_for(state="visible")
    assert notice.inner_text().startswith("This stage has nothing to take away (W). The stages that have: 2 pos_embed")
    assert notice.get_attribute("role") == "status"
    page.keyboard.press("ArrowRight")
    settle(page)
    assert not notice.is_visible()


def test_a_link_to_a_place_that_is_not_there_opens_the_nearest_and_says_so(sorter):
    _, opened = sorter
    page = opened("#L9-H0-stage-99")
    note = page.locator(".gv-jump-note")
    assert note.is_visible()
    assert note.inner_text() == ("There is no L9: this model has L0 to L2. There is no stage 99: they are 0 to 21. "
                                 "Shown instead: L2 H0 stage 21 token 5.")
    assert place(page) == "L2 H0 stage 21 token 5"
    page.keyboard.press("ArrowLeft")
    settle(page)
    assert not note.is_visible()


def test_counts_are_written_as_integers(sorter):
    _, opened = sorter
    page = opened("#L1-H0-stage-5-token-4")
    page.locator(".gv-number-field").fill("3")
    page.get_by_role("button", name="Check").click()
    settle(page)
    assert "It is 16. " in page.locator(".gv-explained").inner_text()
    go(page, "L1 H0 stage 6 token 4")
    assert "÷ 4" in page.locator(".gv-total").inner_text()
    assert "4.0000" not in page.locator(".gv-receipt").inner_text()


def test_a_number_is_answered_by_keys_alone_and_n_asks_the_next_question(sorter):
    _, opened = sorter
    page = opened("#L1-H0-stage-4-token-4")
    page.locator(".gv-stage-box").focus()
    page.keyboard.press("n")
    settle(page)
    assert "not answered yet" in page.locator(".gv-notice").inner_text()
    assert "What is the mean" in page.locator(".gv-ask").inner_text()
    page.keyboard.type("-2.5")
    page.keyboard.press("Enter")
    settle(page)
    assert page.locator(".gv-number-field").input_value() == "-2.5"
    assert page.locator(".gv-explained").is_visible()
    page.keyboard.press("n")
    settle(page)
    assert "And the standard deviation" in page.locator(".gv-ask").inner_text()
    assert page.locator(".gv-explained").count() == 0
    page.keyboard.press("ArrowRight")
    settle(page)
    assert place(page).split(" token")[0] == "L1 H0 stage 5"


@pytest.mark.parametrize("width", [700, 1000, 1239])
def test_the_model_is_drawn_where_the_columns_are_two(sorter, width):
    """Whole, in a few lines above the stage, with the current box lit."""
    _, opened = sorter
    page = opened("#L1-H0-stage-7-token-4", width=width)
    box = page.locator(".gv-boxes")
    assert box.evaluate("el => el.scrollHeight <= el.clientHeight + 1 && el.scrollWidth <= el.clientWidth + 1")
    assert page.locator(".gv-boxes .gv-here").inner_text() == "mask"
    assert box.bounding_box()["height"] <= 120


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_numbers_in_cells_are_read_on_their_colours(sorter, scheme):
    """WCAG AA, 4.5:1, of every number in a coloured cell of the rows, as the page computes its styles."""
    _, opened = sorter
    page = opened(scheme=scheme)
    for stage in (8, 10, 14, 20, 21):
        go(page, f"L1 H0 stage {stage} token 5")
        worst = page.evaluate("""() => {
            const channel = c => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
            const light = css => { const [r, g, b] = css.match(/[0-9.]+/g).map(Number);
                return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b); };
            return Math.min(...[...document.querySelectorAll('.gv-cell-value')].filter(el => el.style.background)
                .map(el => { const style = getComputedStyle(el);
                    const [a, b] = [light(style.color), light(style.backgroundColor)];
                    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); })); }""")
        assert 4.5 <= worst < 22


def test_where_a_head_has_no_question_the_page_says_which_has(open_page, tmp_path, capsys):
    """180 heads: one of each layer is asked about; a press goes there."""
    model = make_model(n_embd=40, n_layer=9, n_head=20, block_size=8, vocab_size=11)
    trace = record(model, [3, 1, 4, 1, 5])
    url = page_of(trace, model, tmp_path)
    asked = next(one.at for one in questions(recorded_pass(trace, model)) if one.stage == "pattern")
    head = (asked["head"] + 1) % 20
    page = open_page(f"{url}#L{asked['layer']}-H{head}-stage-8-token-4")
    page.wait_for_selector(".gv-stepper[data-drawn]")
    assert page.locator(".gv-ask").count() == 0
    page.get_by_role("button", name=f"one is about L{asked['layer']} H{asked['head']}").click()
    settle(page)
    assert place(page) == f"L{asked['layer']} H{asked['head']} stage 8 token 4"
    assert f"L{asked['layer']}H{asked['head']}" in page.locator(".gv-ask").inner_text()


@pytest.mark.parametrize("width", [420, 640, 1000, 1600])
def test_the_vocabulary_is_framed_all_round_and_fits(open_page, tmp_path, capsys, width):
    model, ids = make_model(vocab_size=40), torch.arange(8)
    page = open_page(page_of(record(model, ids), model, tmp_path), width=width)
    page.wait_for_selector(".gv-stepper[data-drawn]")
    chosen = page.locator(".gv-closeup td.gv-here")
    shadow = chosen.evaluate("el => getComputedStyle(el).boxShadow")
    edges = re.findall(r"(-?\d+)px (-?\d+)px 0px 0px inset", shadow)
    assert edges == [("2", "0"), ("-2", "0"), ("0", "2"), ("0", "-2")]
    box = page.locator(".gv-closeup")
    assert 3 <= chosen.locator("xpath=..").locator("td").count() <= 16
    assert box.evaluate("el => el.scrollWidth <= el.clientWidth")
