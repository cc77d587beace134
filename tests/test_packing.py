"""packing: against an independent cell-by-cell reading of the definition, and the stated worst error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gptviz.packing import (
    WORST_ERROR,
    pack_pattern,
    restore_pattern,
    triangle_cells,
    unpack_pattern,
    unpack_value,
)


def causal_softmax(shape, seed=0, dtype=np.float32):
    scores = np.random.default_rng(seed).normal(scale=3, size=shape)
    scores = np.where(np.tril(np.ones(shape[-2:], dtype=bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_cell_is_at_its_row_major_place(dtype):
    pattern = causal_softmax((2, 3, 7, 7), dtype=dtype)
    packed = pack_pattern(pattern)
    assert packed.shape == (2, 3, 28)
    assert packed.dtype == np.uint8
    for query in range(7):
        for key in range(query + 1):
            expected = np.rint(255 * np.sqrt(pattern[..., query, key].astype(np.float64)))
            assert np.array_equal(packed[..., query * (query + 1) // 2 + key], expected)


@pytest.mark.parametrize("n_tokens", [1, 2, 64, 129])
def test_unpacking_is_causal_and_within_the_worst_error(n_tokens):
    pattern = causal_softmax((3, n_tokens, n_tokens))
    again = unpack_pattern(pack_pattern(pattern), n_tokens)
    assert again.shape == pattern.shape
    assert again.dtype == np.float32
    assert np.abs(again - pattern).max() <= WORST_ERROR + 1e-6
    assert not np.triu(again, 1).any()


@pytest.mark.parametrize("scale", [0.0, 1.0, 6.0])
def test_restored_rows_sum_to_1_and_pack_to_the_same_bytes(scale):
    scores = np.random.default_rng(3).normal(scale=scale, size=(2, 600, 600))
    weights = np.where(np.tril(np.ones((600, 600), dtype=bool)), np.exp(scores), 0)
    pattern = weights / weights.sum(-1, keepdims=True)
    packed = pack_pattern(pattern)
    restored, unpacked = restore_pattern(packed, 600), unpack_pattern(packed, 600)
    assert np.abs(unpacked.sum(-1, dtype=np.float64) - 1).max() > 0.003
    np.testing.assert_allclose(restored.sum(-1, dtype=np.float64), 1, atol=1e-6)
    assert np.array_equal(pack_pattern(restored), packed)
    assert np.abs(restored - pattern).sum() <= np.abs(unpacked - pattern).sum()


def test_five_thousand_equal_weights_are_restored_exactly():
    row = np.full(5000, round(255 * np.sqrt(1 / 5000)), np.uint8)  # the last row alone: the whole triangle is 12.5 MB
    assert np.square(row / 255).sum() == pytest.approx(1.23, abs=0.005)
    packed = np.zeros(triangle_cells(5000), np.uint8)
    packed[-5000:] = row
    np.testing.assert_allclose(restore_pattern(packed, 5000)[-1], 1 / 5000, rtol=1e-5)


def test_rows_that_had_another_sum_are_given_that_one_as_nearly_as_bytes_allow():
    half = pack_pattern(0.5 * causal_softmax((1, 300, 300)))
    sums = np.full((1, 300), 0.5)
    np.testing.assert_allclose(restore_pattern(half, 300, sums).sum(-1, dtype=np.float64), sums, atol=1e-6)
    beyond = restore_pattern(half, 300) - unpack_pattern(half, 300)  # 1 is out of reach: no byte is left for it
    assert 0 < beyond.max() <= WORST_ERROR


def test_bytes_survive_unpacking_and_packing_again():
    packed = np.random.default_rng(1).integers(0, 256, (4, triangle_cells(20)), dtype=np.uint8)
    assert np.array_equal(pack_pattern(unpack_pattern(packed, 20)), packed)


def test_the_worst_error_is_tight():
    p = np.linspace(0, 1, 2_000_001)
    error = np.abs(p - (np.rint(255 * np.sqrt(p)) / 255) ** 2)
    assert WORST_ERROR * 0.999 < error.max() <= WORST_ERROR
    assert p[np.rint(255 * np.sqrt(p)) == 0].max() <= 1 / 510**2


@given(hnp.arrays(np.float64, (5, 5), elements=st.floats(0, 1)))
def test_any_probabilities_come_back_within_the_worst_error(square):
    pattern = np.tril(square)
    assert np.abs(unpack_pattern(pack_pattern(pattern), 5) - pattern).max() <= WORST_ERROR + 1e-6


def test_one_byte_alone_reads_like_a_packed_byte():
    assert [unpack_value(b) for b in range(256)] == [(b / 255) ** 2 for b in range(256)]


@pytest.mark.parametrize("byte", [-1, 256])
def test_a_byte_out_of_range_is_refused(byte):
    with pytest.raises(ValueError, match=f"one byte, 0 to 255; got {byte}"):
        unpack_value(byte)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.5, 1.5])
def test_values_that_a_byte_would_hide_are_refused(value):
    pattern = causal_softmax((2, 4, 4))
    pattern[1, 2, 1] = value
    with pytest.raises(ValueError, match=r"finite probabilities from 0 to 1 .* at index \(1, 2, 1\)"):
        pack_pattern(pattern)


def test_a_softmax_overshoot_of_rounding_is_one():
    assert pack_pattern(np.array([[1.0005]], dtype=np.float32)).tolist() == [255]


@pytest.mark.parametrize("value", [1e-6, np.nan])
def test_attention_to_the_future_is_refused(value):
    pattern = causal_softmax((2, 4, 4))
    pattern[0, 1, 3] = value
    with pytest.raises(ValueError, match=r"causal.* at index \(0, 1, 3\)"):
        pack_pattern(pattern)


@pytest.mark.parametrize("shape", [(2, 3), (0, 0)])
def test_a_pattern_that_is_not_square_is_refused(shape):
    with pytest.raises(ValueError, match=f"square.*got {shape[0]} queries x {shape[1]} keys"):
        pack_pattern(np.zeros(shape, dtype=np.float32))


def test_the_wrong_number_of_tokens_is_refused():
    with pytest.raises(ValueError, match=r"5 tokens have 15 cells.*got 10 bytes"):
        unpack_pattern(np.zeros(10, dtype=np.uint8), 5)


def test_no_pattern_at_all_packs_to_no_bytes():
    assert pack_pattern(np.zeros((0, 3, 3), dtype=np.float32)).shape == (0, 6)
