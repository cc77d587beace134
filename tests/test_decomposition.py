"""The split of an attention score, against brute force and the score itself."""

import math

import numpy as np
import pytest
import torch
from by_hand import IDS, VARIANTS, make_model, reference_writes, weights_of
from hypothesis import given, settings
from hypothesis import strategies as st

from gptviz import analysis
from gptviz.analysis.components import Component
from gptviz.naming import UnknownNameError
from gptviz.trace import record


def reference_side(trace, model, layer, head, side, position):
    """Query or key terms by full matrices, from writes that were computed from patterns and values."""
    block, width, d_head = model.transformer.h[layer], model.config.n_embd, model.config.d_head
    rows = slice(("qk".index(side)) * width + head * d_head, ("qk".index(side)) * width + (head + 1) * d_head)
    project = weights_of(block.attn.c_attn)[rows].T
    stream = trace["resid_pre", layer].double().numpy()[position]
    linear = (np.eye(width) - 1 / width) @ np.diag(weights_of(block.ln_1)) / np.sqrt(stream.var() + 1e-5)
    writes = {
        label: write
        for label, write in reference_writes(trace, model).items()
        if label in ("embed", "pos_embed") or int(label[1]) < layer
    }
    terms = {label: write[position] @ linear @ project for label, write in writes.items()}
    if model.config.bias:
        terms[f"L{layer} ln_1_bias"] = block.ln_1.bias.detach().double().numpy() @ project
        terms[f"L{layer} {side}_bias"] = block.attn.c_attn.bias.detach().double().numpy()[rows]
    return terms


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_every_pair_is_that_of_full_matrices(variant, layer):
    model = make_model(**variant)
    trace = record(model, IDS)
    for head, query, key in ((0, 7, 0), (1, 5, 5), (1, 6, 2)):
        split = analysis.score_decomposition(trace, model, layer, head, query, key)
        q, k = (
            reference_side(trace, model, layer, head, side, at) for side, at in (("q", query), ("k", key))
        )
        assert [component.label for component in split.query_components] == list(q)
        assert [component.label for component in split.key_components] == list(k)
        expected = [[a @ b / math.sqrt(4) for b in k.values()] for a in q.values()]
        assert np.allclose(split.terms, expected, rtol=1e-4, atol=1e-4)
        assert split.score == pytest.approx(float(trace["scores", layer][head, query, key]), rel=1e-6)
        assert split.terms.sum() == pytest.approx(split.score, abs=1e-4, rel=1e-4)
        assert split.check.passed


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), bias=st.booleans(), layer=st.integers(0, 2), data=st.data())
def test_the_terms_add_up_to_the_score(seed, bias, layer, data):
    model = make_model(seed, bias=bias)
    ids = data.draw(st.lists(st.integers(0, 10), min_size=1, max_size=12))
    query = data.draw(st.integers(0, len(ids) - 1))
    key = data.draw(st.integers(0, query))
    split = analysis.score_decomposition(record(model, ids), model, layer, 1, query, key)
    assert split.check.error <= 1e-4 * max(1, abs(split.score))


def test_what_is_the_same_for_every_key_is_said_to_be():
    model = make_model()
    trace = record(model, IDS)
    tables = [analysis.score_decomposition(trace, model, 2, 0, 7, key) for key in range(8)]
    assert len(tables[0].query_components) == 2 + 2 * 4 + 2
    for kind in ("ln_1_bias", "k_bias"):
        column = tables[0].key_components.index(Component(kind, 2))
        assert all(np.allclose(table.terms[:, column], tables[0].terms[:, column]) for table in tables)


def test_the_largest_pairs_come_first():
    model = make_model()
    split = analysis.score_decomposition(record(model, IDS), model, 1, 0, -1, 2)
    largest = split.largest(3)
    assert len(largest) == 3
    assert abs(largest[0][2]) == np.abs(split.terms).max()
    labels = [component.label for component in split.query_components]
    assert largest[0][0] in labels


def test_a_trace_of_few_names_and_positions_is_enough():
    model = make_model()
    names = ["embed", "pos_embed", "z", "mlp_out", "ln_1_scale", "q", "k"]
    small = record(model, IDS, names=names, positions=[2, 6])
    whole = record(model, IDS)
    assert np.allclose(
        analysis.score_decomposition(small, model, 2, 1, 6, 2).terms,
        analysis.score_decomposition(whole, model, 2, 1, 6, 2).terms,
        rtol=1e-4,
        atol=1e-5,
    )


def test_gpt2_width():
    model = make_model(n_embd=768, n_head=12, n_layer=2, vocab_size=100)
    split = analysis.score_decomposition(record(model, IDS), model, 1, 3, 7, 2)
    assert split.check.error <= 1e-4 * max(1, abs(split.score))


def test_a_float64_model_is_split_to_rounding():
    model = make_model().double()
    assert analysis.score_decomposition(record(model, IDS), model, 2, 1, 7, 3).check.error < 1e-10


def test_changed_weights_are_noticed():
    model = make_model()
    trace = record(model, IDS)
    with torch.no_grad():
        model.transformer.h[2].attn.c_attn.weight.mul_(1.1)
    with pytest.raises(ValueError, match=r"must add up to the recorded score, .* same weights"):
        analysis.score_decomposition(trace, model, 2, 0, 7, 3)


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ((1, 0, 2, 3), r"The key must be at or before the query, but key 3 is later than query 2"),
        ((3, 0, 2, 1), r"There is no layer 3"),
        ((1, 2, 2, 1), r"There is no head 2"),
        ((1, 0, 8, 1), r"There is no query 8"),
        ((1, 0, 7, 8), r"There is no key 8"),
    ],
)
def test_wrong_places_get_a_sentence(place, sentence):
    model = make_model()
    with pytest.raises(ValueError, match=sentence):
        analysis.score_decomposition(record(model, IDS), model, *place)


def test_what_was_not_recorded_is_named():
    model = make_model()
    trace = record(model, IDS, names=["embed", "pos_embed", "scores"])
    with pytest.raises(
        UnknownNameError,
        match=r"score_decomposition needs ln_1_scale\.1, z\.0, mlp_out\.0, not in this trace",
    ):
        analysis.score_decomposition(trace, model, 1, 0, 3, 2)
