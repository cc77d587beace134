"""QK, OV and composition, against full matrices and against what a forward pass shows."""

import math

import numpy as np
import pytest
import torch
from by_hand import IDS, VARIANTS, make_model, weights_of
from hypothesis import given, settings
from hypothesis import strategies as st

from gptviz import analysis
from gptviz.analysis import circuits
from gptviz.analysis.circuits import Factored
from gptviz.analysis.components import Component
from gptviz.analysis.composition import crossed_ratios, norm_ratios
from gptviz.trace import record


def full_matrices(model, layer, head):
    """W_Q, W_K, W_V with LayerNorm folded in and W_O, cut out of nanoGPT's parameters."""
    block, width, d_head = model.transformer.h[layer], model.config.n_embd, model.config.d_head
    fold = (np.eye(width) - 1 / width) @ np.diag(weights_of(block.ln_1))
    c_attn = weights_of(block.attn.c_attn)
    read = [
        fold @ c_attn[part * width + head * d_head : part * width + (head + 1) * d_head].T
        for part in range(3)
    ]
    return *read, weights_of(block.attn.c_proj)[:, head * d_head : (head + 1) * d_head].T


def unembedding(model):
    width = model.config.n_embd
    return (
        (np.eye(width) - 1 / width)
        @ np.diag(weights_of(model.transformer.ln_f))
        @ weights_of(model.lm_head).T
    )


@pytest.mark.parametrize("variant", VARIANTS[::2], ids=str)
def test_tables_are_those_of_full_matrices(variant):
    model = make_model(**variant)
    rows = {
        "token": weights_of(model.transformer.wte),
        "position": weights_of(model.transformer.wpe),
        "residual": np.eye(8),
    }
    for layer, head in ((0, 0), (2, 1)):
        q, k, v, o = full_matrices(model, layer, head)
        for query, query_rows in rows.items():
            for key, key_rows in rows.items():
                expected = query_rows @ q @ k.T @ key_rows.T / math.sqrt(4)
                assert np.allclose(
                    analysis.qk_circuit(model, layer, head, query=query, key=key).dense(), expected
                )
            to_stream = analysis.ov_circuit(model, layer, head, source=query, output="residual")
            assert np.allclose(to_stream.dense(), query_rows @ v @ o)
            assert np.allclose(
                analysis.ov_circuit(model, layer, head, source=query).dense(),
                query_rows @ v @ o @ unembedding(model),
            )


def test_a_cell_over_the_recorded_scales_is_what_the_pair_adds_in_a_pass():
    model = make_model()
    trace = record(model, IDS)
    for layer, head, query, key in ((0, 1, 6, 2), (2, 0, 7, 7)):
        split = analysis.score_decomposition(trace, model, layer, head, query, key)
        scales = trace["ln_1_scale", layer][query].double() * trace["ln_1_scale", layer][key].double()
        for row, column in (("embed", "embed"), ("pos_embed", "embed"), ("embed", "pos_embed")):
            basis = {"embed": "token", "pos_embed": "position"}
            table = analysis.qk_circuit(model, layer, head, query=basis[row], key=basis[column]).dense()
            at = (IDS[query] if row == "embed" else query, IDS[key] if column == "embed" else key)
            term = split.terms[
                split.query_components.index(Component(row)), split.key_components.index(Component(column))
            ]
            assert table[at] / float(scales) == pytest.approx(term, rel=1e-5)


def test_ov_over_the_recorded_scales_is_the_write_of_a_head_that_looks_at_one_place():
    model = make_model(n_layer=1, bias=False)
    with torch.no_grad():
        model.transformer.wpe.weight.zero_()  # so that the stream is the token alone
    trace = record(model, [3])  # one position: all attention is on it
    table = analysis.ov_circuit(model, 0, 1).dense()
    scales = float(trace["ln_1_scale", 0][0].double() * trace["ln_final_scale"][0].double())
    parts = analysis.direct_logit_attribution(trace, model, 5)
    assert table[3, 5] / scales == pytest.approx(
        parts.values[parts.components.index(Component("head", 0, 1))], rel=1e-4
    )


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), rows=st.integers(1, 7), columns=st.integers(1, 7), rank=st.integers(1, 5))
def test_factored_svd_eigenvalues_and_norm_are_those_of_the_product(seed, rows, columns, rank):
    rng = np.random.default_rng(seed)
    product = Factored(
        rng.standard_normal((rows, rank)), rng.standard_normal((rank, columns)), ("residual", "token")
    )
    u, s, vh = product.svd()
    whole = product.left @ product.right
    assert np.allclose(u * s @ vh, whole)
    assert np.allclose(u.T @ u, np.eye(len(s)))
    assert np.allclose(vh @ vh.T, np.eye(len(s)))
    expected = np.linalg.svd(whole, compute_uv=False)
    length = max(len(s), len(expected))
    assert np.allclose(
        np.pad(s, (0, length - len(s))), np.pad(expected, (0, length - len(expected))), atol=1e-9
    )
    assert product.norm() == pytest.approx(np.linalg.norm(whole))
    square = Factored(product.left, rng.standard_normal((rank, rows)), ("token", "token"))
    whole = square.left @ square.right
    assert square.eigenvalues().sum().real == pytest.approx(np.trace(whole), abs=1e-8)
    assert (square.eigenvalues() ** 2).sum().real == pytest.approx(
        np.trace(whole @ whole), rel=1e-6, abs=1e-7
    )


def test_eigenvalues_of_a_large_vocabulary_are_those_of_the_whole_table():
    model = make_model(vocab_size=200)
    circuit = analysis.ov_circuit(model, 1, 1)
    whole = np.linalg.eigvals(circuit.dense())
    largest = whole[np.argsort(-np.abs(whole))][:4]
    assert np.allclose(np.sort_complex(circuit.eigenvalues()), np.sort_complex(largest))


def test_copying_is_the_trace_over_the_sum_of_sizes():
    model = make_model()
    scores = analysis.copying_scores(model, n_null=20)
    for layer, head in np.ndindex(3, 2):
        _, _, v, o = full_matrices(model, layer, head)
        eigenvalues = np.linalg.eigvals(weights_of(model.transformer.wte) @ v @ o @ unembedding(model))
        assert scores.signed[layer, head] == pytest.approx(
            eigenvalues.sum().real / np.abs(eigenvalues).sum(), abs=1e-6
        )
        positive = np.abs(eigenvalues[eigenvalues.real > 0]).sum() / np.abs(eigenvalues).sum()
        assert scores.positive_share[layer, head] == pytest.approx(positive, abs=1e-6)


def test_a_head_that_copies_scores_one_and_one_that_suppresses_minus_one():
    model = make_model(n_layer=1, n_embd=16, n_head=2, vocab_size=30)
    with torch.no_grad():
        for norm in (model.transformer.ln_f, model.transformer.h[0].ln_1):
            norm.weight.fill_(1.0)
        attention = model.transformer.h[0].attn
        basis = torch.linalg.qr(torch.randn(16, 8)).Q
        for head, sign in ((0, 1), (1, -1)):
            attention.c_attn.weight[32 + 8 * head : 32 + 8 * (head + 1)] = basis.T
            attention.c_proj.weight[:, 8 * head : 8 * (head + 1)] = sign * basis
    scores = analysis.copying_scores(model)
    assert scores.signed[0] == pytest.approx([1, -1], abs=1e-6)
    assert scores.positive_share[0] == pytest.approx([1, 0], abs=1e-6)
    assert -0.5 < scores.null_low[0] < scores.null[0] < scores.null_high[0] < 0.5


def test_composition_is_the_ratio_of_norms_of_full_matrices():
    model = make_model()
    scores = analysis.composition_scores(model)
    for first_layer, first, second_layer, second in np.ndindex(3, 2, 3, 2):
        found = [getattr(scores, kind)[first_layer, first, second_layer, second] for kind in "qkv"]
        if first_layer >= second_layer:
            assert np.isnan(found).all()
            continue
        _, _, v, o = full_matrices(model, first_layer, first)
        q, k, later_v, later_o = full_matrices(model, second_layer, second)
        for value, reads in zip(found, (q @ k.T, k @ q.T, later_v @ later_o), strict=True):
            norms = [np.linalg.norm(matrix) for matrix in (v @ o @ reads, v @ o, reads)]
            assert value == pytest.approx(norms[0] / (norms[1] * norms[2]), rel=1e-6)
    kind, writer, reader, value = scores.strongest(1)[0]
    assert value == np.nanmax([scores.q, scores.k, scores.v])
    assert kind in "QKV"
    assert int(writer[1]) < int(reader[1])
    assert len(scores.strongest(10**6)) == 3 * 4 * 3


def test_the_null_of_composition_is_one_over_the_root_of_the_width():
    """For a random rotation R the mean of |A R B|^2 is |A|^2 |B|^2 / width, whatever A and B."""
    scores = analysis.composition_scores(make_model(n_embd=64, n_head=4, n_layer=1), n_null=400)
    assert scores.null == pytest.approx(1 / 8, rel=0.05)
    assert scores.null_low < scores.null < scores.null_high
    assert scores.strongest() == []


def test_crossed_ratios_are_those_of_full_matrices():
    """A seed draws v, left, o, right: every writer with every reader, in their order."""
    rng = np.random.Generator(np.random.PCG64(3))
    v, left = (rng.standard_normal((3, 12, 2)) for _ in range(2))
    o, right = (rng.standard_normal((3, 2, 12)) for _ in range(2))
    centre = np.eye(12) - 1 / 12
    norm = np.linalg.norm
    pairs = [(v[i] @ o[i], centre @ left[j] @ right[j]) for i in range(3) for j in range(3)]
    expected = [norm(a @ b) / norm(a) / norm(b) for a, b in pairs]
    assert np.allclose(crossed_ratios(12, 2, 3, seed=3), expected)


def test_chance_alone_draws_no_pair_as_a_finding():
    """Of models of random weights 2.5 % of the pairs are above `null_high`, but no pair in 95 of 100 models."""
    found = [analysis.composition_scores(make_model(seed, n_embd=64, n_head=4, n_layer=3)) for seed in range(40)]
    scores = np.array([[one.q, one.k, one.v] for one in found])
    above = np.nansum(scores > found[0].null_high, (1, 2, 3, 4, 5)) / np.isfinite(scores[0]).sum()
    assert 0.018 < above.mean() < 0.032
    assert (np.nanmax(scores, (1, 2, 3, 4, 5)) > found[0].null_strongest).sum() <= 6  # 2 expected of 40
    assert found[0].null_high < found[0].null_strongest < 1.5 * found[0].null_high


def test_a_wired_pair_stands_out_of_the_null():
    rng = np.random.default_rng(0)
    v, k, q = (rng.standard_normal((64, 4)) for _ in range(3))
    o = k.T  # writes where the reader's keys read
    assert norm_ratios(*(matrix[None] for matrix in (v, o, k, q.T))) > 0.4
    assert norm_ratios(*(matrix[None] for matrix in (v, rng.standard_normal((4, 64)), k, q.T))) < 0.2


def test_a_table_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(circuits, "LARGEST_TABLE", 100)
    with pytest.raises(ValueError, match=r"at most 100 cells, but this one has 11 x 11 = 121\. Use svd\(\)"):
        analysis.qk_circuit(make_model(), 0, 0).dense()


def test_mistakes_get_a_sentence():
    model = make_model()
    with pytest.raises(ValueError, match=r"There is no layer 3"):
        analysis.qk_circuit(model, 3, 0)
    with pytest.raises(ValueError, match=r"There is no head 2"):
        analysis.ov_circuit(model, 0, 2)
    with pytest.raises(ValueError, match=r"must be one of 'residual', 'token', 'position', not 'tokens'"):
        analysis.qk_circuit(model, 0, 0, query="tokens")
    with pytest.raises(ValueError, match=r"output must be .token. or .residual., not 'position'"):
        analysis.ov_circuit(model, 0, 0, output="position")
    with pytest.raises(
        ValueError, match=r"Only a square matrix has eigenvalues; this one is 11 x 8 \(token x residual\)"
    ):
        analysis.ov_circuit(model, 0, 0, output="residual").eigenvalues()
    for function in (analysis.copying_scores, analysis.composition_scores):
        with pytest.raises(ValueError, match=r"n_null must be a whole number of at least 1, not 0"):
            function(model, n_null=0)
