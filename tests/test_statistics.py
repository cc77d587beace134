"""Distributions of activations, against numpy on all values at once."""

import math
import weakref

import numpy as np
import pytest
import torch
from by_hand import IDS, make_model
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gptviz import analysis
from gptviz.analysis.statistics import Distribution, trace_statistics
from gptviz.trace import record

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False, width=32)
TEXTS = [IDS, [1], [2, 3, 3], [7, 7, 7, 7, 7], [0, 10]]


@settings(max_examples=100)
@given(
    parts=st.lists(arrays.arrays(np.float64, st.integers(0, 20), elements=NUMBERS), min_size=1, max_size=5)
)
def test_merged_parts_are_the_whole(parts):
    merged = Distribution.of(parts[0])
    for part in parts[1:]:
        merged = merged.merge(Distribution.of(part))
    whole = np.concatenate(parts)
    at_once = Distribution.of(whole)
    assert merged.count == len(whole) == merged.bins.sum()
    assert (merged.bins == at_once.bins).all()
    assert (merged.minimum, merged.maximum) == (at_once.minimum, at_once.maximum)
    if len(whole):
        scale = np.abs(whole).max() + 1e-300
        assert merged.mean == pytest.approx(whole.mean(), abs=1e-12 * scale)
        for power, moment in ((2, merged.m2), (3, merged.m3), (4, merged.m4)):
            assert moment == pytest.approx(
                ((whole - whole.mean()) ** power).sum(), rel=1e-9, abs=1e-9 * scale**power
            )


@settings(max_examples=100)
@given(
    values=arrays.arrays(
        np.float64, st.integers(1, 50), elements=NUMBERS.filter(lambda x: x == 0 or abs(x) > 1e-8)
    ),
    share=st.floats(0, 1),
)
def test_quantiles_are_right_to_one_percent(values, share):
    exact = np.sort(values)[math.floor(share * (len(values) - 1))]
    assert Distribution.of(values).quantile(share) == pytest.approx(exact, rel=0.0101)


def test_moments_of_known_distributions():
    rng = np.random.default_rng(0)
    normal = Distribution.of(3 + 2 * rng.standard_normal(200_000))
    assert normal.mean == pytest.approx(3, abs=0.02)
    assert normal.std == pytest.approx(2, rel=0.01)
    assert normal.skewness == pytest.approx(0, abs=0.03)
    assert normal.kurtosis == pytest.approx(3, abs=0.1)
    assert normal.quantile(0.975) == pytest.approx(3 + 1.96 * 2, rel=0.02)
    exponential = Distribution.of(rng.exponential(1, 200_000))
    assert exponential.skewness == pytest.approx(2, abs=0.1)


def test_a_histogram_counts_every_value_once():
    values = np.random.default_rng(0).standard_normal(10_000)
    edges = np.linspace(-6, 6, 25)
    counts = Distribution.of(values).histogram(edges)
    assert counts.sum() == 10_000
    assert np.abs(counts - np.histogram(values, edges)[0]).max() < 100
    assert Distribution.of(np.zeros(7)).histogram(np.array([-1.0, 0.0, 1.0])).tolist() == [0, 7]


def test_what_is_not_finite_is_counted_and_nothing_else():
    distribution = Distribution.of(np.array([1.0, np.nan, np.inf, -np.inf, 3.0]))
    assert (distribution.count, distribution.n_nan, distribution.n_infinite, distribution.mean) == (
        2,
        1,
        2,
        2.0,
    )
    nothing = Distribution.of(np.array([np.nan]))
    assert math.isnan(nothing.quantile(0.5))
    assert math.isnan(nothing.std)
    assert math.isnan(nothing.kurtosis)
    assert nothing.merge(distribution).mean == distribution.merge(nothing).mean == 2.0


def test_sizes_beyond_the_bins_keep_their_exact_ends():
    distribution = Distribution.of(np.array([1e-30, 1e20]))
    assert (distribution.minimum, distribution.maximum) == (1e-30, 1e20)
    assert distribution.quantile(0) == pytest.approx(1e-9, rel=0.02)


def test_a_corpus_gives_the_statistics_of_all_its_values():
    model = make_model()
    found = analysis.collect_statistics(model, iter(TEXTS), batch_size=2)
    traces = [record(model, text) for text in TEXTS]
    for name, layer in (
        ("mlp_post", 1),
        ("z", 2),
        ("resid_mid", 0),
        ("logits", None),
        ("ln_final_scale", None),
    ):
        key = name if layer is None else (name, layer)
        values = np.concatenate([trace[key].double().numpy().ravel() for trace in traces])
        assert found[name, layer].count == len(values)
        assert found[name, layer].mean == pytest.approx(values.mean(), rel=1e-4, abs=1e-5)
        assert found[name, layer].std == pytest.approx(values.std(), rel=1e-4)
        assert found[name, layer].maximum == pytest.approx(values.max(), rel=1e-4)
    n_cells = sum(len(text) * (len(text) + 1) // 2 for text in TEXTS)
    assert found["pattern", 0].count == found["scores", 0].count == 2 * n_cells
    assert found["scores", 0].n_infinite == 0
    assert found["loss", None].count == sum(len(text) - 1 for text in TEXTS)
    assert found["loss", None].n_nan == 0
    assert ("embed", None) in found


@pytest.mark.parametrize("of", ["weights", "gradients", "activations"])
def test_parts_merged_one_by_one_are_numpys_numbers_of_all(of):
    """As over a long run: a part at a time, and only the counts and sums of what came before."""
    model, parts = make_model(), []
    for ids in TEXTS[2:]:
        trace = record(model, ids, grad=len(ids) > 1)
        if of == "activations":
            parts += [trace["resid_post", layer].double().numpy() for layer in range(3)]
        elif of == "gradients" and len(ids) > 1:
            parts += [trace.gradient(("mlp_post", layer)).double().numpy() for layer in range(3)]
    if of == "weights":
        parts = [weight.detach().double().numpy() for weight in model.parameters()]
    merged = Distribution.of(parts[0])
    for part in parts[1:]:
        merged = merged.merge(Distribution.of(part))
        assert merged.bins.nbytes == Distribution.of(parts[0]).bins.nbytes  # constant memory
    values = np.concatenate([part.ravel() for part in parts])
    away = (values - values.mean()) / values.std()
    assert merged.count == values.size
    assert (merged.minimum, merged.maximum) == (values.min(), values.max())
    assert merged.mean == pytest.approx(values.mean(), rel=1e-9, abs=1e-12)
    assert merged.std == pytest.approx(values.std(), rel=1e-9)
    assert (merged.skewness, merged.kurtosis) == pytest.approx(((away**3).mean(), (away**4).mean()), rel=1e-6)
    for share in (0.01, 0.25, 0.5, 0.9, 1.0):
        exact = np.quantile(values, share, method="lower")
        assert merged.quantile(share) == pytest.approx(exact, rel=0.0101, abs=1e-9)
    edges = np.linspace(values.min() - 1, values.max() + 1, 5)
    counts, near = merged.histogram(edges), np.isclose(values[:, None], edges, rtol=0.0101).sum()
    assert counts.sum() == values.size
    assert np.abs(counts - np.histogram(values, edges)[0]).max() <= near


def test_some_positions_of_a_trace():
    trace = record(make_model(), IDS, positions=[0, 3])
    found = trace_statistics(trace)
    assert found["pattern", 1].count == 2 * (1 + 4)
    assert found["loss", None].count == 1


def test_memory_does_not_grow_with_the_corpus():
    alive, most = weakref.WeakSet(), 0
    texts = ([index % 11, 1, 2] for index in range(40))
    for trace in analysis.traces_over(make_model(), texts, names="mlp_post", batch_size=4):
        alive.add(trace)
        most = max(most, len(alive))
    assert most == 4


def test_mean_activations_are_means_over_tokens():
    model = make_model()
    means = analysis.mean_activations(model, TEXTS, names=["z", "resid_post", "embed"], batch_size=2)
    traces = [record(model, text) for text in TEXTS]
    for name, axis in (("z", 2), ("resid_post", 1), ("embed", 0)):
        expected = torch.cat([trace[name] for trace in traces], dim=axis).double().mean(axis)
        assert np.allclose(means[name], expected, atol=1e-5)


def test_means_of_some_layers_are_of_those_alone():
    model = make_model()
    every = analysis.mean_activations(model, TEXTS, names=["z", "resid_pre"])
    some = analysis.mean_activations(model, TEXTS, names=["z.-1", "resid_pre.0", "blocks.1.hook_resid_pre"])
    assert np.array_equal(some["z"], every["z"][-1:])
    assert np.array_equal(some["resid_pre"], every["resid_pre"][:2])


def test_mistakes_get_a_sentence():
    model = make_model()
    with pytest.raises(ValueError, match=r"A quantile's share must be 0 to 1, not 95"):
        Distribution.of(np.ones(2)).quantile(95)
    with pytest.raises(ValueError, match=r"The edges of a histogram must rise"):
        Distribution.of(np.ones(2)).histogram(np.array([1.0, 1.0]))
    with pytest.raises(ValueError, match=r"There must be at least one text"):
        analysis.collect_statistics(model, [])
    with pytest.raises(ValueError, match=r"There must be at least one text"):
        analysis.mean_activations(model, [])
    with pytest.raises(ValueError, match=r"needs names with an axis pos, which pattern has not"):
        analysis.mean_activations(model, TEXTS, names=["z", "pattern"])
    with pytest.raises(ValueError, match=r"batch_size must be a whole number of at least 1, not 0"):
        analysis.traces_over(model, TEXTS, batch_size=0)
    with pytest.raises(
        ValueError, match=r"texts must hold several texts, but is a single string\. Pass \[text\]"
    ):
        analysis.traces_over(model, "one text")
