"""Scores of heads as they travel to the page, and two patterns in one view."""

import numpy as np
import pytest
import torch
from browser import synthetic

from gptviz.analysis import pattern_scores
from gptviz.dashboards.head_scores import head_scores_part
from gptviz.model import GPT, GPTConfig
from gptviz.packing import pack_pattern, triangle_cells
from gptviz.trace import record
from gptviz.views import attention_view


def patterns(n, n_layer=2, n_head=3):
    tokens = synthetic.story(n)
    return tokens, synthetic.pattern(n_layer, n_head, tokens), synthetic.pattern(n_layer, n_head, tokens, seed=1)


def test_the_scores_that_travel_are_those_of_the_analysis():
    torch.manual_seed(0)
    model = GPT(GPTConfig(block_size=24, vocab_size=5, n_layer=2, n_head=2, n_embd=8)).eval()
    trace = record(model, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 0])
    view = head_scores_part(trace)
    assert view.nbytes == 0  # nothing until it is looked at
    found = pattern_scores(trace["pattern"].numpy(), trace.ids.numpy(), n_bootstrap=200)
    detail = view.detail_of()
    np.testing.assert_allclose(detail.arrays["value"], found.value, rtol=1e-6)
    np.testing.assert_allclose(detail.arrays["null_high"], found.null_high, rtol=1e-6)
    names = (*detail.labels["score"], "")
    assert [[names[i] for i in row] for row in detail.arrays["label"]] == [list(row) for row in found.labels()]
    assert view.detail_of() is not detail
    np.testing.assert_array_equal(view.detail_of().arrays["value"], detail.arrays["value"])  # computed once


def test_of_a_long_text_the_beginning_is_scored(monkeypatch):
    torch.manual_seed(0)
    model = GPT(GPTConfig(block_size=24, vocab_size=5, n_layer=2, n_head=2, n_embd=8)).eval()
    ids = [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 0]
    short = head_scores_part(record(model, ids[:8]))
    monkeypatch.setattr("gptviz.dashboards.head_scores.MOST_CELLS", 4 * 8**2)
    long = head_scores_part(record(model, ids))
    assert (long.content, short.content) == ({"scored": 8}, {})
    assert long.subtitle.endswith("of the first 8 tokens")
    np.testing.assert_allclose(long.detail_of().arrays["value"], short.detail_of().arrays["value"], atol=1e-6)


def test_a_pattern_that_is_not_finite_says_so_instead_of_scores():
    torch.manual_seed(0)
    model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=2, n_embd=8)).eval()
    model.transformer.h[0].attn.c_attn.weight.data.fill_(torch.nan)
    view = head_scores_part(record(model, [0, 1, 2]))
    assert view.detail is None
    assert "NaN" in view.subtitle


def test_two_patterns_travel_side_by_side():
    tokens, a, b = patterns(6)
    view = attention_view(a, tokens, other=b, compared=("original", "edited"))
    rows, columns = np.tril_indices(6)
    np.testing.assert_array_equal(view.arrays["other_pattern"], b[..., rows, columns])
    assert view.labels["compared"] == ("original", "edited")
    assert view.range["change"] == (-np.abs(b - a).max(), np.abs(b - a).max())
    assert attention_view(a, tokens, other=a).range["change"] == (-1, 1)  # nothing changes: no scale of its own


def test_of_two_large_patterns_the_change_of_each_head_travels_as_a_tile(monkeypatch):
    monkeypatch.setattr("gptviz.views.attention.WHOLE", 100)
    tokens, a, b = patterns(16)
    view = attention_view(a, tokens, other=b)
    shown = view.arrays["change_tiles"].astype(np.float64) - 128
    change = b - a
    low, most = view.range["change"]
    assert -low == most == np.abs(change).max()
    np.testing.assert_allclose(most * np.sign(shown) * (shown / 127) ** 2, change, atol=most * 2 / 127)
    detail = view.detail_of(layer=1, head=2, rows=0)
    assert len(detail.arrays["other_cells"]) == triangle_cells(16)
    np.testing.assert_allclose(detail.arrays["other_cells"], b[1, 2][np.tril_indices(16)])


def test_two_patterns_must_be_alike():
    tokens, a, b = patterns(6)
    with pytest.raises(ValueError, match="Record both from texts of as many tokens"):
        attention_view(a, tokens, other=b[:, :2])
    with pytest.raises(ValueError, match="Two patterns are compared when both are"):
        attention_view(pack_pattern(a), tokens, other=pack_pattern(b))
    future = b.copy()
    future[0, 0, 1, 3] = 0.5
    with pytest.raises(ValueError, match="must be 0 where the key comes after the query"):
        attention_view(a, tokens, other=future)
