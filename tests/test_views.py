import base64
import json
from pathlib import Path

import numpy as np
import pytest
from golden import make_golden

from gptviz.packing import pack_pattern
from gptviz.views import Check, View, attention_view, board_payload, frame_payload, tokens_view, training_view
from gptviz.views.attention import head_pattern, strongest_key
from gptviz.views.board import payload_json, split_bytes
from gptviz.views.numbers import in_table, precise

GOLDEN = Path(__file__).parent / "golden"


def causal(n_layer, n_head, n):
    """Attention that is even over what a query may see."""
    return np.broadcast_to(np.tril(np.ones((n, n), np.float32)) / np.arange(1, n + 1)[:, None], (n_layer, n_head, n, n))


def test_golden_payload_is_what_python_writes():
    written = json.loads((GOLDEN / "board.json").read_text(encoding="utf-8"))
    assert json.loads(payload_json(make_golden.golden_payload())) == written


def test_numbers_are_written_as_in_the_browser():
    golden = json.loads((GOLDEN / "numbers.json").read_text(encoding="utf-8"))
    for write in (precise, in_table):
        for value, other, words in golden[write.__name__]:
            assert write(float(value), other) == words.replace("\N{MINUS SIGN}", "-")
    assert [precise(one, 4, signed=True) for one in (0.2, -0.2, 1e-5, 0.0)] == ["+0.2000", "-0.2000", "+1.0e-5", "0"]
    assert [in_table(one, 4.2, signed=True) for one in (0.2, 0.001, -0.001)] == ["+0.20", "0.00", "0.00"]
    assert [precise(one) for one in (np.nan, np.inf, -np.inf)] == ["NaN", "+∞", "-∞"]


def test_small_pattern_travels_as_the_models_floats():
    pattern = np.tril(np.random.default_rng(0).dirichlet(np.ones(4), size=(1, 2, 4)).astype(np.float32))
    view = attention_view(pattern, list("abcd"))
    assert view.arrays["pattern"].dtype == np.float32
    assert view.arrays["pattern"][0, 1, 4] == pattern[0, 1, 2, 1]  # cell query*(query+1)/2 + key


def test_large_pattern_travels_as_bytes_and_its_check_knows_their_rounding():
    pattern = np.ascontiguousarray(causal(12, 12, 64))
    view = attention_view(pattern, ["x"] * 64)
    np.testing.assert_array_equal(view.arrays["pattern"], pack_pattern(pattern))
    packed = attention_view(view.arrays["pattern"], ["x"] * 64)
    (check,) = packed.checks
    assert check.passed
    assert 0 < check.error < check.bound


def test_packed_rows_that_do_not_sum_to_1_fail_the_check():
    broken = pack_pattern(causal(1, 1, 8)).copy()
    broken[0, 0, 0] = 100
    assert not attention_view(broken, ["x"] * 8).checks[0].passed


def test_nan_survives_to_the_browser():
    pattern = np.ascontiguousarray(causal(12, 12, 64)).copy()
    pattern[3, 4, 5] = np.nan
    sent = attention_view(pattern, ["x"] * 64).arrays["pattern"]
    assert sent.dtype == np.float32
    assert np.isnan(sent[3, 4, 15:21]).all()
    rows, columns = np.tril_indices(64)
    np.testing.assert_array_equal(sent[2], pattern[2][:, rows, columns].astype(np.float32))  # floats in every layer


@pytest.mark.parametrize("n_tokens", [4, 64])
def test_attention_to_later_keys_is_refused_however_it_would_travel(n_tokens):
    pattern = np.full((12, 12, n_tokens, n_tokens), 1 / n_tokens, np.float32)
    with pytest.raises(ValueError, match=r"must be 0 where the key comes after the query; L0H0 has .* query 0, key 1"):
        attention_view(pattern, ["x"] * n_tokens)


@pytest.mark.parametrize("shape", [(1, 1, 3, 3), (1, 1, 4), (4, 4)])
def test_pattern_of_another_text_is_refused(shape):
    with pytest.raises(ValueError, match=r"must be \[layer, head, 4, 4\] for 4 tokens"):
        attention_view(np.zeros(shape, np.float32), list("abcd"))


def test_tokens_send_only_the_words_shown():
    view = tokens_view(np.array([np.nan, 1.0]), ["a", "b"], top_ids=np.array([[40_000], [7]]),
                       top_probs=np.array([[0.5], [0.5]]), words=[str(i) for i in range(50_257)])
    assert view.labels["word"] == ("7", "40000")
    np.testing.assert_array_equal(view.arrays["top_words"], [[1], [0]])


def test_tokens_errors():
    with pytest.raises(ValueError, match="top_ids and top_probs belong together"):
        tokens_view(np.zeros(1), ["a"], top_ids=np.zeros((1, 1), int))
    with pytest.raises(ValueError, match="top_ids must point into words"):
        tokens_view(np.zeros(1), ["a"], top_ids=np.array([[3]]), top_probs=np.ones((1, 1)), words=["a"])
    with pytest.raises(ValueError, match="loss must have one row for each of the 2 tokens; it has 1"):
        tokens_view(np.zeros(1), ["a", "b"])


def test_training_keeps_nan_and_refuses_falling_steps():
    view = training_view({"train": (np.array([0, 1]), np.array([1.0, np.nan]))})
    assert np.isnan(view.arrays["values_0"][1])
    with pytest.raises(ValueError, match="two equally long rows with rising steps"):
        training_view({"train": (np.array([1, 0]), np.array([1.0, 2.0]))})


def test_view_refuses_what_the_browser_cannot_read():
    with pytest.raises(ValueError, match="must be uint8, int32, float32; it is float64"):
        View("x", "", "", {"a": np.zeros(2)}, {"a": ("pos",)})
    with pytest.raises(ValueError, match="Name every axis"):
        View("x", "", "", {"a": np.zeros((2, 2), np.float32)}, {"a": ("pos",)})


def test_check_passes_within_its_bound_and_never_for_nan():
    assert Check("x", 1e-7, 1e-6).passed
    assert not Check("x", float("nan"), 1.0).passed


def test_script_cannot_end_inside_the_payload():
    text = payload_json(board_payload(make_golden.golden_views(), title="</script><!--"))
    assert "<" not in text
    assert json.loads(text)["title"] == "</script><!--"


def test_buffers_come_back_in_their_order():
    payload = board_payload(make_golden.golden_views())
    plain, buffers = split_bytes(payload)
    at = plain["views"][1]["arrays"]["loss"]["data"]["buffer"]
    assert buffers[at] == payload["views"][1]["arrays"]["loss"]["data"]
    json.dumps(plain)


def test_frame_leaves_out_views_that_did_not_change():
    views = make_golden.golden_views()
    frame = frame_payload(0, [*make_golden.golden_views()[:2], views[2]], "a b", views)
    assert [view is None for view in frame["views"]] == [False, False, True]


def test_payload_bytes_are_little_endian():
    loss = make_golden.golden_payload()["views"][1]["arrays"]["loss"]
    np.testing.assert_array_equal(np.frombuffer(loss["data"], "<f4"), np.array([np.nan, 0.5, 7], "<f4"))
    assert base64.b64encode(loss["data"][4:8]) == b"AAAAPw=="


@pytest.mark.parametrize("n_tokens", [200, 1500])
def test_a_large_pattern_travels_as_tiles_and_its_heads_in_rows(n_tokens, monkeypatch):
    monkeypatch.setattr("gptviz.views.attention.WHOLE", 10_000)
    rng = np.random.default_rng(0)
    pattern = np.tril(rng.random((1, 2, n_tokens, n_tokens), np.float32))
    pattern /= pattern.sum(axis=-1, keepdims=True)
    view = attention_view(pattern, [str(i) for i in range(n_tokens)])
    assert view.arrays["tiles"].shape == (1, 2, 64, 64)
    assert all(view.detail_of(layer=0, head=0, rows=rows).nbytes <= 1_000_008 for rows in view.detail_places[2])
    np.testing.assert_allclose(head_pattern(view, 0, 1), pattern[0, 1], atol=0 if n_tokens == 200 else 0.004)
    np.testing.assert_allclose((view.arrays["peaks"] / 255) ** 2, pattern.max(-1), atol=0.004)
    np.testing.assert_allclose((view.arrays["tiles"][0, 0, -1, 0] / 255) ** 2, pattern[0, 0, -3:, :3].max(), atol=0.02)


@pytest.mark.parametrize(("n_tokens", "whole"), [(64, True), (1500, False)])
def test_rows_that_travel_as_bytes_come_back_with_their_sums(n_tokens, whole, monkeypatch):
    monkeypatch.setattr("gptviz.views.attention.EXACT", 10_000)
    monkeypatch.setattr("gptviz.views.attention.WHOLE", 1_000_000 if whole else 10_000)
    even = np.ascontiguousarray(causal(1, 2, n_tokens))
    view, edited = (attention_view(pattern, ["x"] * n_tokens) for pattern in (even, even * np.float32(0.97)))
    for one, pattern, told in ((view, even, False), (edited, even * 0.97, True)):
        sent = one.arrays if whole else one.detail_of(layer=0, head=1, rows=0).arrays
        assert sent["pattern" if whole else "cells"].dtype == np.uint8
        assert ("sums" in sent) == told  # a softmax's rows sum to 1: nobody needs to be told
        np.testing.assert_allclose(head_pattern(one, 0, 1), pattern[0, 1], rtol=1e-3)


def test_the_strongest_key_is_the_first_of_equals_and_never_nan(monkeypatch):
    pattern = np.zeros((1, 1, 4, 4), np.float32)
    pattern[0, 0] = [[1, 0, 0, 0], [0.5, 0.5, 0, 0], [np.nan, 0.2, 0.8, 0], [np.nan] * 4]
    for whole in (10, 1_000_000):
        monkeypatch.setattr("gptviz.views.attention.WHOLE", whole)
        view = attention_view(pattern, list("abcd"))
        assert [strongest_key(view, 0, 0, query) for query in range(4)] == [0, 0, 2, 0]


def test_packed_and_float_patterns_give_the_same_rows(monkeypatch):
    monkeypatch.setattr("gptviz.views.attention.WHOLE", 10)
    pattern = np.tril(np.ones((1, 1, 30, 30), np.float32)) / np.arange(1, 31, dtype=np.float32)[:, None]
    words = [str(i) for i in range(30)]
    floats, packed = attention_view(pattern, words), attention_view(pack_pattern(pattern), words)
    np.testing.assert_allclose(head_pattern(packed, 0, 0), head_pattern(floats, 0, 0), rtol=1e-5)
    np.testing.assert_array_equal(packed.arrays["tiles"], floats.arrays["tiles"])


def test_details_of_a_page_begin_where_the_reader_looks(monkeypatch):
    monkeypatch.setattr("gptviz.views.attention.WHOLE", 10)
    pattern = np.tril(np.ones((2, 3, 20, 20), np.float32)) / np.arange(1, 21, dtype=np.float32)[:, None]
    view = attention_view(pattern, list("abcdefghijklmnopqrst"))
    one = view.detail_of(layer=1, head=2, rows=0).nbytes
    kept = view.details({"layer": 1, "head": 2, "rows": 0}, 2.5 * one)
    assert len(kept) == 2
    assert next(iter(kept)) == "1,2,0"
    monkeypatch.setattr("gptviz.views.attention.MARGIN", 2)
    monkeypatch.setattr("gptviz.views.attention.CHUNK", 160)  # bytes: the rows of a head come in blocks
    parts = attention_view(pattern, list("abcdefghijklmnopqrst"))
    blocks = list(parts.detail_places[2])
    assert len(blocks) > 2
    nearest = [place.split(",")[2] for place in parts.details({"rows": blocks[1] + 1}, 1e9) if place.startswith("0,0")]
    assert nearest[0] == str(blocks[1])
    assert next(iter(parts.details({}, 1e9))) == f"0,0,{blocks[-1]}"
    with pytest.raises(ValueError, match=r"head of a detail must be one of range\(0, 3\); it is 3"):
        view.detail_of(layer=0, head=3, rows=0)
    with pytest.raises(ValueError, match="only where it was made with one"):
        attention_view(np.ones((1, 1, 1, 1), np.float32), ["a"]).detail_of(layer=0)


def test_a_view_must_name_the_places_of_its_details():
    with pytest.raises(ValueError, match="detail_places must name the values"):
        View("x", "", "", {}, {}, detail_axes=("layer",))
