"""Writes, queries and keys: what is shown adds up to what the model computed, and is drawn."""

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

from gptviz.analysis import direct_logit_attribution, promoted_tokens, residual_writes, score_decomposition
from gptviz.dashboards.decomposition import decomposition_part
from gptviz.dashboards.querykey import querykey_part
from gptviz.dashboards.writes import writes_at, writes_part
from gptviz.figures import figure, picture
from gptviz.model import GPT, GPTConfig
from gptviz.trace import record
from gptviz.views import View, summary
from gptviz.views.querykey import querykey_view, scores_of
from gptviz.views.writes import sums

IDS = [3, 1, 4, 1, 5, 9, 2]


@pytest.fixture(scope="module", params=[True, False], ids=["bias", "no bias"])
def model(request):
    torch.manual_seed(0)
    config = GPTConfig(block_size=8, vocab_size=11, n_layer=2, n_head=2, n_embd=16, bias=request.param)
    model = GPT(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def trace(model):
    return record(model, IDS)


@pytest.fixture(scope="module")
def detail(model, trace):
    return writes_part(trace, model).detail_of(query=4)


def rows_of(detail, sublayers):
    return [(at, name) for at, name in enumerate(detail.labels["row"])
            if (detail.arrays["parent"][at] < 0) == sublayers]


def test_sublayers_add_up_to_every_logit_and_to_the_mean(trace, detail):
    whole = detail.arrays["parent"] < 0
    logits = trace["logits"][4].numpy()
    tokens = [int(detail.labels["word"][at]) for at in detail.arrays["choices"]]
    assert tokens[:5] == np.argsort(-logits)[:5].tolist()
    np.testing.assert_allclose(detail.arrays["adds"][:, whole].sum(1), logits[tokens], atol=1e-4)
    np.testing.assert_allclose(detail.arrays["adds_to_mean"][whole].sum(), logits.mean(), atol=1e-4)
    np.testing.assert_allclose(detail.arrays["mean_logit"], logits.mean(), atol=1e-5)
    assert detail.checks[0].passed
    assert 0 < detail.checks[0].error < 1e-4


def test_the_parts_of_attention_add_up_to_it(detail):
    parent, adds = detail.arrays["parent"], detail.arrays["adds"]
    for at, name in rows_of(detail, sublayers=True):
        if name.endswith("attn_out"):
            np.testing.assert_allclose(adds[:, parent == at].sum(1), adds[:, at], atol=1e-5)
        else:
            assert not (parent == at).any()


def test_rows_are_those_of_the_attribution(model, trace, detail):
    truth = int(detail.arrays["truth"][0])
    assert detail.labels["word"][detail.arrays["choices"][truth]] == str(IDS[5])
    expected = direct_logit_attribution(trace, model, IDS[5], position=4)
    by_sublayer = expected.by_sublayer()
    rows = rows_of(detail, sublayers=True)
    assert [name for _, name in rows] == list(by_sublayer)
    adds = [detail.arrays["adds"][truth, at] for at, _ in rows]
    np.testing.assert_allclose(adds, list(by_sublayer.values()), atol=1e-5)
    heads = {one.label: value for one, value in zip(expected.components, expected.values, strict=True)}
    for at, name in rows_of(detail, sublayers=False):
        assert detail.arrays["adds"][truth, at] == pytest.approx(heads[name], abs=1e-5)


def test_lengths_and_cosines_are_those_of_the_analysis(model, trace, detail):
    expected = residual_writes(trace, model)
    names = [one.label for one in expected.components]
    for at, name in enumerate(detail.labels["row"]):
        if name in names:
            row = names.index(name)
            np.testing.assert_allclose(detail.arrays["norm"][at], expected.norm[row, 4], rtol=1e-5)
            if name != "pos_embed":  # which does find something: the token embedding
                np.testing.assert_allclose(detail.arrays["cosine"][at], expected.cosine[row, 4], atol=1e-5)
    stream = trace["resid_pre", 1][4].double().numpy()
    write = trace["attn_out", 1][4].double().numpy()
    at = detail.labels["row"].index("L1 attn_out")
    cosine = stream @ write / np.linalg.norm(stream) / np.linalg.norm(write)
    assert detail.arrays["cosine"][at] == pytest.approx(cosine, abs=1e-5)
    assert detail.arrays["norm"][at] == pytest.approx(np.linalg.norm(write), rel=1e-5)


def test_promoted_tokens_are_those_of_the_analysis(model, trace, detail):
    expected = promoted_tokens(trace, model, position=4, top=3)
    names = [one.label for one in expected.components]
    for at, name in enumerate(detail.labels["row"]):
        if name in names:
            row = names.index(name)
            for side in ("promoted", "suppressed"):
                words = [int(detail.labels["word"][word]) for word in detail.arrays[side][at]]
                assert words == getattr(expected, f"{side}_ids")[row].tolist()
                np.testing.assert_allclose(detail.arrays[f"{side}_by"][at], getattr(expected, side)[row], atol=1e-5)


def test_the_last_position_has_no_true_next_token(model, trace):
    last = writes_part(trace, model).detail_of(query=6)
    assert last.arrays["truth"].tolist() == [-1]
    assert writes_at(trace, model, 6).truth is None


def test_a_lead_is_the_difference_of_two_logits(trace, detail):
    adds, total = sums(detail, 0, 1)
    top = trace["logits"][4].topk(2).values
    assert total == pytest.approx(float(top[0] - top[1]), abs=1e-5)
    assert adds[detail.arrays["parent"] < 0].sum() == pytest.approx(total, abs=1e-4)


def test_queries_and_keys_give_the_recorded_scores_and_pattern(trace):
    view = querykey_part(trace)
    for layer in range(2):
        for head in range(2):
            detail = view.detail_of(layer=layer, head=head)
            np.testing.assert_array_equal(detail.arrays["q"], trace["q", layer][head].numpy())
            scores, pattern = scores_of(detail.arrays["q"], detail.arrays["k"])
            np.testing.assert_allclose(scores, trace["scores", layer][head], atol=1e-4)
            np.testing.assert_allclose(pattern, trace["pattern", layer][head], atol=1e-5)
            assert all(check.passed for check in detail.checks)


def test_scores_that_are_not_those_of_the_vectors_fail_the_check(trace):
    q, k = trace["q", 0][0].numpy(), trace["k", 0][0].numpy()
    scores, pattern = (trace[name, 0][0].numpy() for name in ("scores", "pattern"))
    view = querykey_view(lambda *_: (q, k), lambda *_: (scores + 0.1, pattern), n_layer=1, n_head=1,
                         n_tokens=len(IDS), d_head=8)
    assert [check.passed for check in view.detail_of(layer=0, head=0).checks] == [False, True]


def test_a_text_whose_vectors_are_too_large_says_so():
    view = querykey_view(lambda *_: None, lambda *_: None, n_layer=1, n_head=1, n_tokens=5000, d_head=64)  # type: ignore[arg-type, return-value]
    assert view.labels["note"] == ("5000 tokens are too many: the queries and keys of a head would be 2.6 MB. "
                                   "Look at a text of 1953 tokens or fewer.",)
    assert view.detail is None
    with pytest.raises(ValueError, match="5000 tokens are too many"):
        figure(view)


def test_a_score_is_the_sum_of_its_table(model, trace):
    view = decomposition_part(trace, model)
    table = view.detail_of(layer=1, head=1, query=5, key=2)
    expected = score_decomposition(trace, model, layer=1, head=1, query=5, key=2)
    np.testing.assert_allclose(table.arrays["terms"], expected.terms, rtol=1e-6, atol=1e-7)
    assert table.arrays["terms"].sum() == pytest.approx(float(trace["scores", 1][1, 5, 2]), abs=1e-4)
    assert table.labels["key_component"] == tuple(one.label for one in expected.key_components)
    assert table.checks[0].passed
    later = view.detail_of(layer=1, head=1, query=2, key=5)
    assert later.labels["note"] == ("masked: this key comes after the query",)
    assert not later.arrays


def numbered(at):
    return View("numbers", "", "", {"at": np.array([at["query"], at["key"]], np.int32)}, {"at": ("two",)})


@pytest.mark.parametrize("n", [3, 1000])
def test_a_page_holds_what_is_nearest_to_the_choice(n):
    view = View("numbers", "", "", {}, {}, detail=numbered, detail_axes=("query", "key"),
                detail_places=(range(n), range(n)), kept_details=n)
    assert next(iter(view.details({"query": 1, "key": 2}, 1e9))) == "1,2"
    unset = list(view.details({"query": None, "key": None}, 1e9))
    assert unset[0] == f"{n - 1},0"
    assert len(unset) == n
    assert list(view.details({"query": 1, "key": 2}, 1e9, seconds=-1.0)) == ["1,2"]  # the first, however long it took
    assert all(name.startswith(f"{n - 1},") or name.endswith(",0") for name in unset)


def test_the_figure_of_writes_has_a_bar_for_each_sublayer(model, trace, detail):
    axes = figure(writes_part(trace, model), query=4).axes[0]
    truth = int(detail.arrays["truth"][0])
    widths = [bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle)]
    np.testing.assert_allclose(widths, detail.arrays["adds"][truth][detail.arrays["parent"] < 0], atol=1e-6)
    assert f"logit {trace['logits'][4, IDS[5]]:.4f}" in axes.get_xlabel()
    assert axes.get_title("left") == f"Residual writes: to the logit of ‘{IDS[5]}’ at 4"


def test_the_figure_of_a_query_shows_its_vectors_and_its_pattern(trace):
    drawn = figure(querykey_part(trace), layer=1, head=0, query=5, theme="dark")
    strips = [np.asarray(axes.images[0].get_array()) for axes in drawn.axes if axes.images]
    q, k = trace["q", 1][0].numpy(), trace["k", 1][0].numpy()
    np.testing.assert_allclose(strips[0], q[5:6])
    np.testing.assert_allclose(strips[1], k[:6])
    np.testing.assert_allclose(strips[2], k[:6] * q[5])
    widths = [patch.get_width() for axes in drawn.axes if len(axes.patches) == 6
              for patch in axes.patches if isinstance(patch, Rectangle)]
    np.testing.assert_allclose(widths, trace["pattern", 1][0, 5, :6], atol=1e-5)


def test_the_figure_of_a_score_adds_up(model, trace):
    view = decomposition_part(trace, model)
    drawn = figure(view, layer=1, head=0, query=5, key=3)
    cells = np.asarray(drawn.axes[0].images[0].get_array())
    assert cells.sum() == pytest.approx(float(trace["scores", 1][0, 5, 3]), abs=1e-4)
    assert picture(view, "svg", query=5, key=3).startswith(b"<?xml")
    with pytest.raises(ValueError, match="this key comes after the query; given were query 2 and key 3"):
        figure(view, query=2, key=3)


def test_summaries_say_the_models_numbers(model, trace):
    writes = summary(writes_part(trace, model), query=4)
    assert f"the logit of ‘{IDS[5]}’ is {trace['logits'][4, IDS[5]]:.4f} (error" in writes
    vectors = summary(querykey_part(trace), query=5, layer=1, head=0).splitlines()
    row, key = trace["pattern", 1][0, 5], int(trace["pattern", 1][0, 5].argmax())
    assert vectors[0].startswith("Query 5 of L1H0, 8 dimensions: q · k / √d_head is the score, error")
    assert vectors[2].split() == [str(key), f"{trace['scores', 1][0, 5, key]:.4f}", f"{row[key]:.4f}"]
    split = summary(decomposition_part(trace, model), query=5, layer=1, head=0, key=3)
    assert f"recorded is {trace['scores', 1][0, 5, 3]:.4f}" in split
    (first, *_) = score_decomposition(trace, model, layer=1, head=0, query=5, key=3).largest(1)
    assert split.splitlines()[2].split("  ")[0] == first[0]
    assert "masked" in summary(decomposition_part(trace, model), query=2, key=3)
    with pytest.raises(ValueError, match="depends on query; given were layer too"):
        summary(writes_part(trace, model), layer=1)
    with pytest.raises(ValueError, match="query must be 0 to 6"):
        summary(querykey_part(trace), query=7)
