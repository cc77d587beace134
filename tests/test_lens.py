"""The logit lens, against a forward by hand in float64 and identities."""

import numpy as np
import pytest
import torch
from by_hand import IDS, VARIANTS, make_model
from torch.nn import functional as F

from gptviz import analysis
from gptviz.analysis import lens as lens_module
from gptviz.model import GPT, GPTConfig
from gptviz.naming import UnknownNameError
from gptviz.trace import record


def reference(model, stream):
    """Logits of a residual stream, written out in numpy float64."""
    norm = model.transformer.ln_f
    x = stream.double().numpy()
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * norm.weight.detach().double().numpy()
    if norm.bias is not None:
        x = x + norm.bias.detach().double().numpy()
    return x @ model.lm_head.weight.detach().double().numpy().T


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_number_is_that_of_a_lens_by_hand(variant):
    model = make_model(**variant)
    trace = record(model, IDS)
    lens = analysis.logit_lens(trace, model, top=3, mid=True, keep_logits=True)
    assert lens.points == ("embed", "L0 mid", "L0", "L1 mid", "L1", "L2 mid", "L2")
    streams = [trace["resid_pre", 0]]
    for layer in range(3):
        streams += [trace["resid_mid", layer], trace["resid_post", layer]]
    final = None
    for point in reversed(range(7)):
        logits = reference(model, streams[point])
        probs = np.exp(logits - logits.max(-1, keepdims=True))
        probs /= probs.sum(-1, keepdims=True)
        final = probs if final is None else final
        assert np.allclose(lens.logits[point], logits, atol=1e-4 * np.abs(logits).max())
        assert np.allclose(lens.entropy[point], -(probs * np.log(probs)).sum(-1), atol=1e-4)
        assert np.allclose(
            lens.kl_to_final[point], (final * np.log(final / probs)).sum(-1), atol=1e-4, rtol=1e-4
        )
        assert np.allclose(lens.top_probs[point], -np.sort(-probs, -1)[:, :3], atol=1e-4)
        assert (lens.top_ids[point] == np.argsort(-probs, -1)[:, :3]).all()
        for pos, truth in enumerate(IDS[1:]):
            assert lens.true_prob[point, pos] == pytest.approx(probs[pos, truth], abs=1e-5)
            assert lens.true_rank[point, pos] == 1 + (probs[pos] > probs[pos, truth]).sum()


def test_the_last_row_is_the_logits_bit_for_bit():
    model = make_model()
    trace = record(model, IDS)
    lens = analysis.logit_lens(trace, model, keep_logits=True)
    assert (lens.logits[-1] == trace["logits"].numpy()).all()
    assert (lens.kl_to_final[-1] == 0).all()
    assert lens.check.passed
    losses = -np.log(lens.true_prob[-1, :-1])
    assert np.allclose(losses, trace["loss"][1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("vocab_size", "kept"), [(3, 3), (9, 5)])
def test_a_small_vocabulary_is_kept_whole(vocab_size, kept):
    model = GPT(GPTConfig(block_size=4, vocab_size=vocab_size, n_layer=1, n_head=1, n_embd=4))
    assert analysis.logit_lens(record(model, [0, 1, 2]), model).top_ids.shape[-1] == kept


def test_after_the_last_token_there_is_no_truth():
    model = make_model()
    lens = analysis.logit_lens(record(model, IDS, positions=[2, 7]), model)
    assert lens.positions == (2, 7)
    assert (lens.true_rank[:, 0] >= 1).all()
    assert (lens.true_rank[:, 1] == 0).all()
    assert np.isnan(lens.true_prob[:, 1]).all()
    assert lens.logits is None


def test_some_positions_are_columns_of_the_whole():
    model = make_model()
    trace = record(model, IDS)
    whole, some = analysis.logit_lens(trace, model), analysis.logit_lens(trace, model, positions=[5, -1, 2])
    assert some.positions == (5, len(IDS) - 1, 2)
    for name in ("top_ids", "top_probs", "entropy", "kl_to_final", "true_rank", "true_prob"):
        assert np.allclose(getattr(some, name), getattr(whole, name)[:, [5, -1, 2]], atol=1e-6, equal_nan=True), name
    with pytest.raises(ValueError, match="positions must name at least one position"):
        analysis.logit_lens(trace, model, positions=[])
    with pytest.raises(UnknownNameError, match="position 3 was not recorded"):
        analysis.logit_lens(record(model, IDS, positions=[2, 7]), model, positions=[3])


def test_chunks_give_the_numbers_of_the_whole(monkeypatch):
    model = make_model()
    trace = record(model, IDS)
    whole = analysis.logit_lens(trace, model, keep_logits=True)
    monkeypatch.setattr(lens_module, "CHUNK_NUMBERS", 3 * 11)
    parts = analysis.logit_lens(trace, model, keep_logits=True)
    for name in ("top_ids", "true_rank"):
        assert (getattr(whole, name) == getattr(parts, name)).all()
    for name in ("top_probs", "entropy", "kl_to_final", "logits"):
        assert np.allclose(getattr(whole, name), getattr(parts, name), atol=1e-5)


def test_an_impossible_token_does_not_make_a_divergence_nan():
    model = make_model()
    with torch.no_grad():
        model.transformer.ln_f.weight.mul_(1e5)  # probabilities underflow to zero
    lens = analysis.logit_lens(record(model, IDS), model)
    assert np.isfinite(lens.kl_to_final).all()
    assert np.isfinite(lens.entropy).all()


def test_a_float64_model_and_no_hooks_fire():
    model = make_model().double()
    trace = record(model, IDS)
    model.hook_points["logits", None].listeners.append(lambda value: pytest.fail("the model was run"))
    try:
        lens = analysis.logit_lens(trace, model)
    finally:
        model.hook_points["logits", None].listeners.clear()
    expected = F.softmax(trace["logits"], -1).max(-1).values
    assert np.allclose(lens.top_probs[-1, :, 0], expected, atol=1e-6)


def test_another_models_weights_are_noticed():
    model = make_model()
    trace = record(model, IDS)
    with torch.no_grad():
        model.transformer.ln_f.weight.mul_(1.01)
    with pytest.raises(
        ValueError, match=r"must equal the recorded logits, but misses them by .* same weights"
    ):
        analysis.logit_lens(trace, model)
    with pytest.raises(
        ValueError, match=r"The model must be the one that made the trace, with GPTConfig\(.*n_layer=3"
    ):
        analysis.logit_lens(trace, make_model(n_layer=2))


def test_what_was_not_recorded_is_named():
    model = make_model()
    trace = record(model, IDS, names=["resid_post", "logits"], layers=[1, 2])
    with pytest.raises(
        UnknownNameError, match=r"logit_lens needs resid_pre\.0, .*resid_post\.0.* Record it with"
    ):
        analysis.logit_lens(trace, model)


@pytest.mark.parametrize("top", [0, 12, True])
def test_top_must_be_within_the_vocabulary(top):
    model = make_model()
    with pytest.raises(ValueError, match=r"top must be 1 to 11 \(vocab_size\)"):
        analysis.logit_lens(record(model, IDS), model, top=top)
