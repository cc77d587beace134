"""CKA, against the formulas with whole kernel matrices."""

import numpy as np
import pytest
from by_hand import IDS, make_model
from hypothesis import given, settings
from hypothesis import strategies as st

from gptviz import analysis
from gptviz.naming import UnknownNameError
from gptviz.trace import record


def by_kernels(x, y, unbiased):
    """Song et al.'s HSIC_1, or Gretton et al.'s, term by term from the example x example kernels."""

    def hsic(k, m):
        n = len(k)
        if not unbiased:
            centre = np.eye(n) - 1 / n
            return np.trace(k @ centre @ m @ centre)
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        one = np.ones(n)
        last = 2 / (n - 2) * (one @ k @ m @ one)
        return (np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - last) / (
            n * (n - 3)
        )

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


@settings(max_examples=50)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(6, 30),
    a=st.integers(1, 8),
    b=st.integers(1, 8),
    unbiased=st.booleans(),
)
def test_cka_is_that_of_whole_kernels(seed, n, a, b, unbiased):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, a)) + 3
    y = x @ rng.standard_normal((a, b)) + rng.standard_normal((n, b))
    assert analysis.cka(x, y, unbiased=unbiased) == pytest.approx(
        by_kernels(x, y, unbiased), rel=1e-6, abs=1e-9
    )


def test_a_rotation_a_scale_and_a_shift_change_nothing():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 5)), rng.standard_normal((40, 7))
    rotation = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    for unbiased in (True, False):
        assert analysis.cka(x, 3 * x @ rotation + 5, unbiased=unbiased) == pytest.approx(1)
        assert analysis.cka(3 * x @ rotation + 5, y, unbiased=unbiased) == pytest.approx(
            analysis.cka(x, y, unbiased=unbiased)
        )


def test_unrelated_noise_is_zero_only_without_bias():
    rng = np.random.default_rng(0)
    pairs = [(rng.standard_normal((40, 100)), rng.standard_normal((40, 100))) for _ in range(20)]
    assert abs(np.mean([analysis.cka(x, y) for x, y in pairs])) < 0.02
    assert np.mean([analysis.cka(x, y, unbiased=False) for x, y in pairs]) > 0.6


def test_layers_of_two_steps():
    step_a, step_b = make_model(0), make_model(1)
    texts = [IDS, [9, 8, 7, 6, 5]]
    a, b = ([record(model, text) for text in texts] for model in (step_a, step_b))
    table = analysis.layer_similarity(a, b, "z")
    assert table.shape == (3, 3)
    x = np.concatenate(
        [trace["z", 1].numpy().transpose(1, 0, 2).reshape(len(trace), -1) for trace in a]
    ).astype(np.float64)
    y = np.concatenate(
        [trace["z", 2].numpy().transpose(1, 0, 2).reshape(len(trace), -1) for trace in b]
    ).astype(np.float64)
    assert table[1, 2] == pytest.approx(by_kernels(x, y, unbiased=True), abs=1e-5)
    assert np.allclose(analysis.layer_similarity(a, a).diagonal(), 1)
    some = analysis.layer_similarity(record(step_a, IDS, layers=[2]), record(step_b, IDS))
    assert some.shape == (1, 3)


def test_names_may_be_spelled_as_in_transformerlens():
    trace = record(make_model(), IDS)
    for spelled in ("hook_resid_mid", "blocks.*.hook_resid_mid", "resid_mid.*"):
        assert np.array_equal(
            analysis.layer_similarity(trace, trace, spelled), analysis.layer_similarity(trace, trace, "resid_mid")
        )


def test_what_is_constant_has_no_similarity():
    assert np.isnan(analysis.cka(np.ones((9, 2)), np.random.default_rng(0).standard_normal((9, 2))))


def test_mistakes_get_a_sentence():
    model = make_model()
    with pytest.raises(ValueError, match=r"needs the same examples twice, at least 4 of them; got 3 and 3"):
        analysis.cka(np.ones((3, 1)), np.ones((3, 1)))
    with pytest.raises(ValueError, match=r"CKA needs finite values"):
        analysis.cka(np.full((5, 1), np.nan), np.ones((5, 1)))
    with pytest.raises(ValueError, match=r"the same texts at the same positions, but they differ"):
        analysis.layer_similarity(record(model, IDS), record(model, IDS[::-1]))
    for name in ("pattern", "embed", "ln_1_scale", "nonsense", "z.1", "blocks.1.attn.hook_z"):
        with pytest.raises(ValueError, match=r"compares vectors of every layer, which '.*' is not"):
            analysis.layer_similarity(record(model, IDS), record(model, IDS), name)
    with pytest.raises(UnknownNameError, match=r"layer_similarity needs mlp_post\.0"):
        analysis.layer_similarity(record(model, IDS, names="z"), record(model, IDS, names="z"), "mlp_post")
