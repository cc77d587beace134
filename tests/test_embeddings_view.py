"""Embeddings as points, circuits as tables: against the weights and against other ways to compute the same."""

import importlib.util

import numpy as np
import pytest
import torch

import gptviz as gv
from gptviz.analysis.projections import (
    available_maps,
    cosines,
    neighbours,
    nonlinear_map,
    principal_components,
)
from gptviz.dashboards.circuits import circuits_part, composition_part
from gptviz.dashboards.embeddings import MOST_TOKENS, embeddings_part, positions_part, tokens_shown
from gptviz.views.circuits import Scales


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return gv.GPT(gv.GPTConfig(block_size=12, vocab_size=10, n_layer=2, n_head=2, n_embd=8)).eval()


@pytest.fixture(scope="module")
def trace(model):
    return gv.record(model, [3, 1, 4, 1, 5])


def test_principal_components_are_those_of_the_covariance():
    vectors = np.random.default_rng(0).standard_normal((40, 6)) * [5, 3, 2, 1, 1, 1]
    points, share = principal_components(vectors)
    values = np.sort(np.linalg.eigvalsh(np.cov(vectors.T)))[::-1]
    np.testing.assert_allclose(share, values[:3] / values.sum())
    np.testing.assert_allclose(points.var(0, ddof=1), values[:3])
    again, _ = principal_components(vectors @ np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))[0])
    np.testing.assert_allclose(np.abs(points), np.abs(again), atol=1e-9)  # a turned space is the same picture


def test_principal_components_of_one_vector_are_zero():
    points, share = principal_components(np.ones((1, 4)))
    assert points.tolist() == [[0, 0, 0]]
    assert share.tolist() == [0, 0, 0]


def test_neighbours_are_the_largest_cosines():
    vectors = np.random.default_rng(0).standard_normal((30, 5))
    near, cosine = neighbours(vectors, 3)
    tensor = torch.tensor(vectors)
    expected = torch.nn.functional.cosine_similarity(tensor[:, None], tensor[None], dim=-1)
    expected.fill_diagonal_(-2)
    top = expected.topk(3)
    np.testing.assert_array_equal(near, top.indices)
    np.testing.assert_allclose(cosine, top.values)
    assert cosines(np.zeros((2, 3))).tolist() == [[0, 0], [0, 0]]


def test_neighbours_of_too_many_vectors_and_unknown_maps_are_refused(monkeypatch):
    monkeypatch.setattr("gptviz.analysis.projections.LARGEST", 3)
    with pytest.raises(ValueError, match="among at most 3 vectors; there are 4"):
        neighbours(np.eye(4))
    with pytest.raises(ValueError, match="with its package installed; 'som' is not"):
        nonlinear_map(np.eye(4), "som")


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="needs scikit-learn")
def test_tsne_keeps_two_groups_apart():
    assert "tsne" in available_maps()
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(0, 0.1, (20, 6)) + np.eye(6)[i] for i in (0, 3)])
    points = nonlinear_map(vectors, "tsne")
    within = np.linalg.norm(points[:20] - points[:20].mean(0), axis=1).mean()
    assert np.linalg.norm(points[:20].mean(0) - points[20:].mean(0)) > 2 * within


def test_the_view_holds_the_models_tables(model, trace):
    view = embeddings_part(trace, model)
    assert view.nbytes < 100  # the rest when it is unfolded
    detail = view.detail_of()
    table = model.transformer.wte.weight.detach().numpy()
    np.testing.assert_allclose(detail.arrays["tokens_coordinates"], principal_components(table)[0], atol=1e-5)
    assert [detail.labels["tokens"][i] for i in view.arrays["place"]] == ["3", "1", "4", "1", "5"]
    assert len(detail.labels["positions"]) == 12
    positions = positions_part(trace, model).detail_of()
    np.testing.assert_allclose(positions.arrays["cosine"].diagonal(), 1, atol=1e-6)
    expected = torch.nn.functional.cosine_similarity(*model.transformer.wpe.weight[[3, 7]], dim=0)
    assert positions.arrays["cosine"][3, 7] == pytest.approx(expected.item(), abs=1e-6)


def test_of_a_large_vocabulary_the_text_is_always_among_the_points():
    ids = np.array([50_001, 7, 50_001])
    shown = tokens_shown(ids, 50_257)
    assert len(shown) <= MOST_TOKENS
    assert {7, 50_001} <= set(shown.tolist())
    assert len(set(shown.tolist())) == len(shown)


def test_tables_are_the_circuits_of_the_analysis(model, trace, monkeypatch):
    view = circuits_part(trace, model)
    detail = view.detail_of(layer=1, head=0)
    scale, final = np.median(trace["ln_1_scale", 1]), np.median(trace["ln_final_scale"])
    qk, ov = gv.analysis.qk_circuit(model, 1, 0).dense(), gv.analysis.ov_circuit(model, 1, 0).dense()
    np.testing.assert_allclose(detail.arrays["qk"], qk / scale**2, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(detail.arrays["ov"], ov / scale / final, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(detail.arrays["qk_values"], np.linalg.svd(qk / scale**2)[1][:4], atol=1e-6)
    monkeypatch.setattr("gptviz.dashboards.circuits.WHOLE_VOCABULARY", 5)
    some = circuits_part(trace, model)
    assert some.labels["word"] == ("1", "3", "4", "5")
    assert some.arrays["place"].tolist() == [1, 0, 2, 0, 3]
    np.testing.assert_allclose(some.detail_of(layer=1, head=0).arrays["qk"],
                               qk[np.ix_([1, 3, 4, 5], [1, 3, 4, 5])] / scale**2, rtol=1e-5, atol=1e-7)
    monkeypatch.setattr("gptviz.dashboards.circuits.LARGEST_VOCABULARY", 5)
    assert "at most 5 tokens" in circuits_part(trace, model).subtitle


@pytest.mark.parametrize(("layer", "query", "key"), [(0, 4, 1), (1, 3, 2)])
def test_a_cell_with_its_positions_own_scales_is_the_term_of_the_split_score(model, trace, layer, query, key):
    view, ids = circuits_part(trace, model), trace.ids.tolist()
    cell = view.detail_of(layer=layer, head=1).arrays["qk"][ids[query], ids[key]]
    scale, typical = view.arrays["scale"][layer], view.arrays["typical"][layer]
    split = gv.analysis.score_decomposition(trace, model, layer, 1, query, key)
    assert split.query_components[0].label == split.key_components[0].label == "embed"
    assert cell * typical**2 / scale[query] / scale[key] == pytest.approx(split.terms[0, 0], rel=1e-4)
    assert 0.2 < cell / split.terms[0, 0] < 5  # comparable: without the scales they differ by thousands here


def test_a_typical_scale_is_of_the_finite_ones():
    scales = Scales(np.array([[1.0, np.nan, 3.0], [np.nan] * 3], np.float32), np.ones(3, np.float32))
    np.testing.assert_array_equal(scales.typical(), [2.0, np.nan])


def test_circuits_need_the_scales(model):
    small = gv.record(model, [3, 1], names=["pattern", "logits"])
    with pytest.raises(ValueError, match="'circuits' needs ln_1_scale, ln_final_scale of the trace"):
        gv.explore(small, model, views=["circuits"])


def test_composition_is_that_of_the_analysis(model, trace):
    detail = composition_part(trace, model).detail_of()
    found = gv.analysis.composition_scores(model)
    np.testing.assert_allclose(detail.arrays["scores"], np.stack([found.q, found.k, found.v]), rtol=1e-5)
    assert detail.arrays["null_high"][0] == pytest.approx(found.null_high)
    assert detail.arrays["null_strongest"][0] == pytest.approx(found.null_strongest)


def test_a_page_does_not_wait_for_what_takes_long(model, trace, monkeypatch):
    assert len(composition_part(trace, model).details({}, 1e9)) == 1
    assert len(circuits_part(trace, model).details({}, 1e9)) == 4
    monkeypatch.setattr("gptviz.dashboards.circuits.QUICK_HEADS", 3)
    monkeypatch.setattr("gptviz.dashboards.circuits.WHOLE_VOCABULARY", 5)
    monkeypatch.setattr("gptviz.dashboards.circuits.HEADS_OF_A_PAGE", 2)
    assert composition_part(trace, model).details({}, 1e9) == {}
    assert sorted(circuits_part(trace, model).details({"layer": 1, "head": 1}, 1e9))[-1] == "1,1"
    assert len(circuits_part(trace, model).details({}, 1e9)) == 2
