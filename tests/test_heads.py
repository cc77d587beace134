"""Head scores, against loops over rows, heads made by hand, and exact chances."""

import subprocess
import sys

import numpy as np
import pytest
from by_hand import make_model
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gptviz import analysis
from gptviz.analysis.heads import FIRST_TOKEN_FROM, SCORES, pattern_scores, pattern_scores_over, score_targets
from gptviz.packing import pack_pattern, unpack_pattern
from gptviz.tokenizers import ByteTokenizer
from gptviz.trace import record

FEW = dict(n_null=3, n_bootstrap=3)


def causal(raw):
    """Positive numbers as a causal pattern."""
    pattern = np.tril(raw)
    return pattern / pattern.sum(-1, keepdims=True)


def by_loops(pattern, ids, without_sink):
    """One head's scores, one row and key at a time."""
    first = int(without_sink)
    found = {name: [] for name in SCORES}
    for i in range(1 + first, len(ids)):
        row = {k: pattern[i, k] for k in range(first, i + 1)}
        total = sum(row.values())
        if without_sink and total < 0.01:
            continue
        row = {k: p / total for k, p in row.items()}
        found["previous_token"].append(row[i - 1])
        found["current_token"].append(row[i])
        if i >= FIRST_TOKEN_FROM and not without_sink:
            found["first_token"].append(row[0])
        same = [k for k in row if k < i and ids[k] == ids[i]]
        if same:
            found["duplicate_token"].append(sum(row[k] for k in same))
        after = [k for k in row if 0 < k < i and ids[k - 1] == ids[i]]
        if after:
            found["induction"].append(sum(row[k] for k in after))
        found["distance"].append(sum(p * (i - k) for k, p in row.items()))
        found["entropy"].append(-sum(p * np.log(p) for p in row.values() if p > 0) / np.log(len(row)))
    return {name: (np.mean(rows) if rows else np.nan, len(rows)) for name, rows in found.items()}


@settings(max_examples=40)
@given(
    n_tokens=st.integers(1, 14),
    n_ids=st.integers(1, 6),
    without_sink=st.booleans(),
    sink=st.sampled_from([0, 5, 1e6]),
    data=st.data(),
)
def test_every_score_is_that_of_loops(n_tokens, n_ids, without_sink, sink, data):
    ids = data.draw(arrays.arrays(np.int64, n_tokens, elements=st.integers(0, n_ids - 1)))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    raw = rng.random((2, 2, n_tokens, n_tokens)) ** 4 + 1e-9
    raw[0, 1, :, 0] += sink * (rng.random(n_tokens) < 0.5)
    pattern = causal(raw)
    scores = pattern_scores(pattern, ids, without_sink=without_sink, **FEW)
    for layer, head in np.ndindex(2, 2):
        expected = by_loops(pattern[layer, head], ids, without_sink)
        for name, (value, n_rows) in expected.items():
            assert scores[name].value[layer, head] == pytest.approx(value, abs=1e-9, nan_ok=True)
            assert scores[name].n_rows[layer, head] == n_rows


def lookback(ids, distance):
    """A head that looks a fixed number of tokens back and reads none of them."""
    pattern = np.zeros((len(ids), len(ids)))
    for query in range(len(ids)):
        pattern[query, max(query - distance, 0)] = 1
    return pattern


def induction_head(ids):
    """A head that does what the score is named after."""
    pattern = np.zeros((len(ids), len(ids)))
    for query in range(len(ids)):
        keys = [key for key in range(1, query) if ids[key - 1] == ids[query]] or [0]
        pattern[query, keys] = 1 / len(keys)
    return pattern


def test_a_fixed_distance_fools_the_score_and_a_random_one_does_not():
    rng = np.random.default_rng(0)
    half = rng.permutation(40)[:20]
    fooled = pattern_scores(lookback(np.r_[half, half], 19)[None, None], np.r_[half, half])
    assert fooled["induction"].value == 1

    texts = [analysis.repeated_random_text(40, 40, rng) for _ in range(20)]
    scores = pattern_scores_over(
        [(np.stack([[lookback(ids, 19), induction_head(ids)]]), ids) for ids in texts]
    )
    lag, true = scores["induction"].value[0]
    assert lag < 0.3
    assert true == 1
    assert scores["induction"].null_high[0, 1] < 0.5
    assert scores.labels() == (
        ("first_token", "induction"),
    )  # it rests there while there is nothing 19 tokens back
    assert scores.resampled == "text"


def test_chance_is_what_it_is_exactly():
    """Even attention gives 1 / (i + 1) of row i to any one key, and i / 2 is its distance."""
    n = 20
    pattern = causal(np.random.default_rng(1).random((1, 3, n, n)) ** 3)
    ids = np.arange(n)
    scores = pattern_scores(pattern, ids, n_null=2000, n_bootstrap=2)
    rows = np.arange(1, n)
    for name, expected in (
        ("previous_token", (1 / (rows + 1)).mean()),
        ("current_token", (1 / (rows + 1)).mean()),
        ("first_token", (1 / (rows[rows >= FIRST_TOKEN_FROM] + 1)).mean()),
        ("distance", (rows / 2).mean()),
    ):
        assert np.allclose(scores[name].null, expected)
        assert (scores[name].null_low < scores[name].null).all()
        assert (scores[name].null < scores[name].null_high).all()
    assert np.isnan(scores["induction"].value).all()  # no token comes twice
    assert np.isnan(scores["duplicate_token"].null).all()


def likes(taste, ids):
    """Heads that look at keys for what token they are, as their query likes it: [1 head query key]."""
    return causal(taste[:, ids][:, :, ids])[None]


def test_the_band_holds_heads_that_only_like_tokens():
    """Random tastes for pairs of tokens on a text in which some pairs are common: no head knows what came before."""
    rng = np.random.default_rng(0)
    above, before = [], []
    for _ in range(12):
        follows = rng.permutation(12)
        ids = np.zeros(96, np.int64)
        for i in range(1, 96):  # three times in four the token that follows in this text
            ids[i] = follows[ids[i - 1]] if rng.random() < 0.75 else rng.integers(0, 12)
        pattern = likes(np.exp(1.5 * rng.standard_normal((16, 12, 12))), ids)
        scores = pattern_scores(pattern, ids, n_bootstrap=1)
        above.append((scores.value > scores.null_high)[[SCORES.index("duplicate_token"), SCORES.index("induction")]])
        targets, counts = score_targets(ids, 100, rng)
        drawn = np.einsum("hqk,dqk->dh", pattern[0], targets[SCORES.index("induction")]) / counts[4].sum(-1)[:, None]
        before.append(drawn[0] > np.quantile(drawn[1:], 0.975, axis=0))
    assert np.mean(above) < 0.05  # 2.5 % if it were exact
    assert np.mean(before) > 0.1  # the same attention beside shuffled texts: why it is no longer the band


def test_the_band_holds_heads_that_like_a_distance_or_a_key():
    rng = np.random.default_rng(1)
    n, above, before = 96, [], []
    for _ in range(12):
        distance, key = np.exp(1.5 * rng.standard_normal((2, 16, n)))
        back = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
        pattern = causal(distance[:, back] * key[:, None])[None]
        scores = pattern_scores(pattern, np.arange(n), n_bootstrap=1)
        above.append((scores.value > scores.null_high)[:3, 0])
        targets, counts = score_targets(np.arange(n), 100, rng)
        sums = np.einsum("hqk,sdqk->sdh", pattern[0], targets[:3], optimize=True)
        drawn = sums / counts[:3].sum(-1)[..., None]
        before.append(drawn[:, 0] > np.quantile(drawn[:, 1:], 0.975, axis=1))
    assert (np.mean(above, axis=(0, 2)) < 0.12).all()
    assert (np.mean(before, axis=(0, 2)) > 0.15).all()  # keys permuted row by row: why it is no longer the band


def test_a_head_that_does_it_is_above_the_band():
    rng = np.random.default_rng(2)
    for ids in (analysis.repeated_random_text(32, 48, rng), rng.integers(0, 8, 48)):
        score = pattern_scores(induction_head(ids)[None, None], ids)["induction"]
        assert score.value[0, 0] > score.null_high[0, 0]
        assert score.null_low[0, 0] <= score.null[0, 0] <= score.null_high[0, 0]
    few = np.array([0, 1, 2, 0, 1, 2])  # three tokens with a copy: a head that likes them does as well
    score = pattern_scores(induction_head(few)[None, None], few)["induction"]
    assert not score.value[0, 0] > score.null_high[0, 0]


def test_uniform_causal_attention_has_entropy_one_and_is_its_own_null():
    n = 30
    ids = np.random.default_rng(0).integers(0, 5, n)
    scores = pattern_scores(causal(np.ones((1, 1, n, n))), ids)
    assert scores["entropy"].value == pytest.approx(1)
    assert scores["entropy"].null == 1
    assert scores["previous_token"].value == pytest.approx(float(scores["previous_token"].null[0, 0]))
    assert scores["duplicate_token"].value == pytest.approx(float(scores["duplicate_token"].null[0, 0]))
    assert scores.labels() == (("",),)
    dropped = pattern_scores(causal(np.ones((1, 1, n, n))), ids, without_sink=True)
    assert dropped["entropy"].value == pytest.approx(1)


def test_a_sink_hides_a_head_and_its_removal_shows_it():
    n = 24
    ids = np.arange(n)
    hidden = 0.02 * lookback(ids, 1) + 0.98 * np.eye(n)[[0] * n]
    kept = pattern_scores(hidden[None, None], ids, **FEW)
    removed = pattern_scores(hidden[None, None], ids, without_sink=True, **FEW)
    assert kept.labels() == (("first_token",),)
    assert removed.labels() == (("previous_token",),)
    assert removed["previous_token"].value == pytest.approx(1)
    assert np.isnan(removed["first_token"].value)
    nothing_left = pattern_scores(np.eye(n)[[0] * n][None, None], ids, without_sink=True, **FEW)
    assert nothing_left["previous_token"].n_rows == 0
    assert np.isnan(nothing_left["previous_token"].high)


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    n, covered = 60, 0
    for trial in range(60):
        shares = rng.beta(2, 5, n)
        pattern = np.zeros((n, n))
        pattern[0, 0] = 1
        for query in range(1, n):
            pattern[query, query - 1], pattern[query, query] = shares[query], 1 - shares[query]
        score = pattern_scores(pattern[None, None], np.arange(n), n_null=1, seed=trial)["previous_token"]
        covered += int(score.low[0, 0] <= 2 / 7 <= score.high[0, 0])
    assert 51 <= covered <= 60  # 95 % of 60 is 57, standard deviation 1.7


def test_the_seed_decides_and_one_text_alone_is_one_text_among_many():
    rng = np.random.default_rng(0)
    pattern, ids = causal(rng.random((1, 2, 10, 10))), rng.integers(0, 3, 10)
    one, again = (pattern_scores(pattern, ids, seed=4) for _ in range(2))
    assert all(np.array_equal(getattr(one, name), getattr(again, name)) for name in ("null", "low", "high"))
    twice = pattern_scores_over([(pattern, ids), (pattern, ids)])
    assert np.allclose(one.value[:2], twice.value[:2])
    assert (twice.n_rows == 2 * one.n_rows).all()


def test_packed_patterns_score_almost_the_same():
    ids = analysis.repeated_random_text(20, 64, np.random.default_rng(0))
    pattern = causal(np.random.default_rng(0).random((2, 2, 64, 64)) ** 6)
    exact = pattern_scores(pattern, ids, **FEW)
    packed = pattern_scores(unpack_pattern(pack_pattern(pattern), 64), ids, **FEW)
    assert np.allclose(exact.value, packed.value, rtol=0.01, atol=0.005)


def test_patterns_are_scored_without_torch():
    code = "import sys; from gptviz.analysis import pattern_scores; print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "False\n"
    )


@pytest.mark.parametrize(
    ("pattern", "ids", "sentence"),
    [
        (
            np.ones((1, 1, 1, 1)),
            [0, 1],
            r"a query and a key for each of the 2 tokens; it has 1 queries and 1 keys",
        ),
        (np.full((1, 1, 2, 2), np.nan), [0, 1], r"A pattern must be finite to be scored, but holds a NaN"),
        (np.full((1, 1, 2, 2), 0.5), [0, 1], r"Each row of a pattern must hold shares .* or a later key"),
        (np.eye(2)[None, None] * 3, [0, 1], r"a row misses 1 by 2"),
    ],
)
def test_what_is_no_pattern_is_refused(pattern, ids, sentence):
    with pytest.raises(ValueError, match=sentence):
        pattern_scores(pattern, np.array(ids))


def test_other_mistakes_get_a_sentence():
    one = (np.ones((1, 1, 1, 1)), np.array([0]))
    two = (np.ones((1, 2, 1, 1)), np.array([0]))
    with pytest.raises(ValueError, match=r"There must be at least one text to score"):
        pattern_scores_over([])
    with pytest.raises(ValueError, match=r"n_null must be a whole number of at least 1, not 0"):
        pattern_scores(*one, n_null=0)
    with pytest.raises(
        ValueError, match=r"must have the same layers and heads, but there are \[\(1, 1\), \(1, 2\)\]"
    ):
        pattern_scores_over([one, two])
    with pytest.raises(ValueError, match=r"A head score must be one of previous_token, .*, not 'induct'"):
        _ = pattern_scores(*one)["induct"]


# --- of a model ---------------------------------------------------------------------------------------------


def test_head_scores_are_the_scores_of_the_recorded_patterns():
    model = make_model(block_size=16)
    texts = [[1, 2, 3, 1, 2, 3, 1, 2], [5, 5, 5, 5]]
    scores = analysis.head_scores(model, texts=texts, seed=3)
    traces = [record(model, text) for text in texts]
    expected = pattern_scores_over(
        [(trace["pattern"].numpy(), trace.ids.numpy()) for trace in traces], seed=3
    )
    assert np.allclose(scores.value, expected.value, equal_nan=True)
    assert np.allclose(scores.null_high, expected.null_high, equal_nan=True)


def test_a_tokenizer_reads_texts_and_bounds_random_ids():
    model = make_model(vocab_size=300, block_size=16)
    scores = analysis.head_scores(model, ByteTokenizer(), ["to be or not to", "be"], **FEW)
    assert scores.value.shape == (len(SCORES), 3, 2)
    random = analysis.head_scores(model, ByteTokenizer(), n_texts=3, n_tokens=12, **FEW)
    assert (random["distance"].n_rows == 3 * 11).all()


def test_an_untrained_model_is_a_control_and_leaves_the_random_state_alone():
    import torch

    model = make_model(block_size=48, vocab_size=30)
    state = torch.get_rng_state()
    control = analysis.untrained_like(model, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    assert control.config == model.config
    assert not torch.equal(control.lm_head.weight, model.lm_head.weight)
    assert analysis.head_scores(control, n_texts=8).labels() == (("", ""),) * 3


def test_repeats_come_at_random_distances_and_of_random_length():
    rng = np.random.default_rng(0)
    distances = set()
    for _ in range(50):
        ids = analysis.repeated_random_text(10**6, 48, rng)
        twice = [
            (int(np.flatnonzero(ids == token)[-1] - np.flatnonzero(ids == token)[0]))
            for token in ids
            if (ids == token).sum() > 1
        ]
        assert 2 * 8 <= len(twice) <= 2 * 16
        assert len(set(twice)) == 1
        distances.add(twice[0])
    assert len(distances) > 15


@pytest.mark.parametrize(("n_vocab", "n_tokens"), [(1, 20), (5, 11)])
def test_a_repeat_needs_room(n_vocab, n_tokens):
    with pytest.raises(ValueError, match=r"needs at least 12 tokens and 2 different ids; got .* Pass texts="):
        analysis.repeated_random_text(n_vocab, n_tokens, np.random.default_rng(0))
