"""Attribution, against full matrices in float64 and the sums that must hold."""

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


def reference_attribution(trace, model, direction, position):
    norm, width = model.transformer.ln_f, model.config.n_embd
    centre = np.eye(width) - np.ones((width, width)) / width
    final = trace["resid_post", -1].double().numpy()[position]
    scale = np.sqrt(final.var() + 1e-5)
    linear = centre @ np.diag(weights_of(norm)) / scale
    values = {
        label: write[position] @ linear @ direction for label, write in reference_writes(trace, model).items()
    }
    if norm.bias is not None:
        values["ln_final_bias"] = norm.bias.detach().double().numpy() @ direction
    return values


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("distractor", [None, 7])
def test_every_part_is_that_of_full_matrices(variant, distractor):
    model = make_model(**variant)
    trace = record(model, IDS)
    for position in range(len(IDS)):
        parts = analysis.direct_logit_attribution(trace, model, 2, distractor=distractor, position=position)
        unembedding = weights_of(model.lm_head)
        direction = unembedding[2] - (0 if distractor is None else unembedding[7])
        expected = reference_attribution(trace, model, direction, position)
        assert [component.label for component in parts.components] == list(expected)
        assert np.allclose(parts.values, list(expected.values()), rtol=1e-4, atol=1e-4)
        assert parts.values.sum() == pytest.approx(parts.logit, abs=1e-4)
        logits = trace["logits"][position]
        assert parts.logit == pytest.approx(
            float(logits[2] - (0 if distractor is None else logits[7])), abs=1e-6
        )
        assert parts.check.passed


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), bias=st.booleans(), n_head=st.sampled_from([1, 2, 4]), data=st.data())
def test_the_parts_add_up_to_the_logit(seed, bias, n_head, data):
    model = make_model(seed, bias=bias, n_head=n_head, n_layer=2)
    ids = data.draw(st.lists(st.integers(0, 10), min_size=1, max_size=12))
    trace = record(model, ids)
    layer = data.draw(st.sampled_from([None, 0, 1]))
    parts = analysis.direct_logit_attribution(trace, model, 1, distractor=2, neurons_of=layer)
    assert parts.values.sum() == pytest.approx(
        float(trace["logits"][-1, 1] - trace["logits"][-1, 2]), abs=1e-4
    )


def test_neurons_are_a_split_of_their_mlp():
    model = make_model()
    trace = record(model, IDS)
    whole = analysis.direct_logit_attribution(trace, model, 2, distractor=4, position=3)
    split = analysis.direct_logit_attribution(trace, model, 2, distractor=4, position=3, neurons_of=-2)
    assert len(split.components) == len(whole.components) - 1 + 4 * 8 + 1
    assert split.components.count(Component("mlp_bias", 1)) == 1
    assert split.by_sublayer() == pytest.approx(whole.by_sublayer(), abs=1e-5)
    assert list(whole.by_sublayer()) == [
        "embed",
        "pos_embed",
        "L0 attn_out",
        "L0 mlp_out",
        "L1 attn_out",
        "L1 mlp_out",
        "L2 attn_out",
        "L2 mlp_out",
        "ln_final_bias",
    ]


def test_the_sum_holds_at_gpt2_width():
    model = make_model(n_embd=768, n_head=12, n_layer=2, vocab_size=100)
    trace = record(model, IDS)
    parts = analysis.direct_logit_attribution(trace, model, 2, distractor=4, neurons_of=1)
    assert parts.check.error <= 1e-4 * max(1, abs(parts.logit))


def test_shares_norms_and_cosines_are_those_of_the_writes():
    model = make_model()
    trace = record(model, IDS)
    writes = analysis.residual_writes(trace, model)
    expected = reference_writes(trace, model)
    final = trace["resid_post", -1].double().numpy()
    assert [component.label for component in writes.components] == list(expected)
    assert np.allclose(writes.share.sum(0), 1, atol=1e-5)
    for row, (label, write) in enumerate(expected.items()):
        assert np.allclose(writes.norm[row], np.sqrt((write**2).sum(-1)), rtol=1e-4)
        assert np.allclose(writes.share[row], (write * final).sum(-1) / (final**2).sum(-1), atol=1e-5)
        if label in ("embed", "pos_embed"):
            assert np.isnan(writes.cosine[row]).all()
            continue
        found = trace["resid_mid" if "mlp" in label else "resid_pre", int(label[1])].double().numpy()
        lengths = np.sqrt((write**2).sum(-1) * (found**2).sum(-1))
        assert np.allclose(writes.cosine[row], (write * found).sum(-1) / lengths, atol=1e-5)


def test_promoted_tokens_are_the_extremes_of_a_split_of_the_logits():
    model = make_model(bias=False)
    trace = record(model, IDS)
    every = analysis.promoted_tokens(trace, model, position=4, top=11)
    total = np.zeros(11)
    for ids, values in zip(every.promoted_ids, every.promoted, strict=True):
        assert (np.diff(values) <= 0).all()
        total[ids] += values
    logits = trace["logits"][4].double().numpy()
    assert np.allclose(total, logits - logits.mean(), atol=1e-4)
    two = analysis.promoted_tokens(trace, model, position=4, top=2)
    assert (two.promoted_ids == every.promoted_ids[:, :2]).all()
    assert (two.suppressed_ids == every.promoted_ids[:, ::-1][:, :2]).all()
    assert (two.suppressed == every.promoted[:, ::-1][:, :2]).all()
    parts = analysis.direct_logit_attribution(trace, model, 2, distractor=4, position=4)
    at = {int(token): place for place, token in enumerate(every.promoted_ids[3])}
    assert every.promoted[3, at[2]] - every.promoted[3, at[4]] == pytest.approx(parts.values[3], abs=1e-6)


def test_promoted_tokens_of_another_model_of_that_shape_are_refused():
    model, other = make_model(), make_model()
    with torch.no_grad():
        other.transformer.h[0].attn.c_proj.weight.mul_(1.5)
    assert analysis.promoted_tokens(record(model, IDS), model).check.passed
    with pytest.raises(ValueError, match=r"must add up to the recorded logit minus the mean"):
        analysis.promoted_tokens(record(model, IDS), other)


@pytest.mark.parametrize("name", ["pattern", "pattern.0", "blocks.1.attn.hook_pattern", "ln_final_scale"])
def test_gradient_x_input_refuses_what_has_no_width_in_any_spelling(name):
    trace = record(make_model(), IDS, grad=True)
    with pytest.raises(UnknownNameError, match=r"sums over the width of a vector"):
        analysis.gradient_x_input(trace, name)


def test_gradient_x_input_is_the_slope_of_a_scaled_embedding():
    model = make_model().double()

    def difference(logits):
        return logits[-1, 3] - logits[-1, 4]

    measured = analysis.gradient_x_input(record(model, IDS, grad=difference))
    step = 1e-6
    for pos in range(len(IDS)):

        def scale(module, inputs, value, pos=pos):
            value = value.clone()
            value[:, pos] *= 1 + step
            return value

        handle = model.embed.register_forward_hook(scale)
        try:
            nudged = float(difference(record(model, IDS)["logits"]))
        finally:
            handle.remove()
        slope = (nudged - float(difference(record(model, IDS)["logits"]))) / step
        assert measured[pos] == pytest.approx(slope, rel=1e-3, abs=1e-5)


def test_gradient_x_input_of_heads_has_their_axes_and_refuses_what_has_no_width():
    trace = record(make_model(), IDS, grad=True)
    assert analysis.gradient_x_input(trace, "z").shape == (3, 2, 8)
    with pytest.raises(UnknownNameError, match=r"sums over the width of a vector, but 'pattern' has axes"):
        analysis.gradient_x_input(trace, "pattern")
    with pytest.raises(UnknownNameError, match=r"holds no gradients\. Record it with grad=True"):
        analysis.gradient_x_input(record(make_model(), IDS))


def test_an_ablated_head_is_a_zero_and_the_sum_still_holds():
    model = make_model()
    handle = model.hook_points["z", 1].register_forward_hook(
        lambda module, inputs, z: z * torch.tensor([0.0, 1.0])[:, None, None]
    )
    try:
        trace = record(model, IDS)
    finally:
        handle.remove()
    assert trace["z"].shape[0] == 3  # the edited layer was recorded, the others are derived
    parts = analysis.direct_logit_attribution(trace, model, 2)
    assert parts.values[parts.components.index(Component("head", 1, 0))] == 0
    assert parts.check.passed


def test_an_edit_that_is_no_term_is_refused():
    model = make_model()
    handle = model.hook_points["resid_mid", 1].register_forward_hook(
        lambda module, inputs, value: value + 5 * value**2
    )
    try:
        trace = record(model, IDS)
    finally:
        handle.remove()
    with pytest.raises(
        ValueError, match=r"must add up to the recorded logit, .* Edits were active at \[\('resid_mid', 1\)\]"
    ):
        analysis.direct_logit_attribution(trace, model, 2)
    with pytest.raises(ValueError, match=r"must add up to the residual stream \(share 1\)"):
        analysis.residual_writes(trace, model)


def test_changed_weights_are_noticed():
    model = make_model()
    trace = record(model, IDS)
    with torch.no_grad():
        model.transformer.h[2].attn.c_proj.weight.mul_(1.1)
    with pytest.raises(ValueError, match=r"Pass the model that made the trace, with the same weights"):
        analysis.direct_logit_attribution(trace, model, 2)


def test_what_was_not_recorded_is_named():
    model = make_model()
    trace = record(model, IDS, names=["embed", "pos_embed", "z", "logits"], layers=[0, 2])
    with pytest.raises(
        UnknownNameError, match=r"attribution needs z\.1, mlp_out\.0, .*ln_final_scale, not in this trace"
    ):
        analysis.direct_logit_attribution(trace, model, 2)
    with pytest.raises(
        UnknownNameError,
        match=r"needs all 2 heads, but this trace holds heads \[1\]\. Record it without heads=",
    ):
        analysis.residual_writes(record(model, IDS, heads=1), model)
    with pytest.raises(
        UnknownNameError, match=r"position 3 was not recorded; this trace holds positions \[5\]"
    ):
        analysis.promoted_tokens(record(model, IDS, positions=5), model, position=3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (dict(target=11), r"target must be a token id from 0 to 10, not 11\. Encode the word"),
        (dict(target=-1), r"target must be a token id from 0 to 10, not -1"),
        (dict(target=1, distractor=99), r"distractor must be a token id from 0 to 10, not 99"),
        (dict(target=1, position=8), r"There is no position 8"),
        (dict(target=1, neurons_of=3), r"There is no layer 3"),
    ],
)
def test_wrong_arguments_get_a_sentence(arguments, sentence):
    model = make_model()
    with pytest.raises(ValueError, match=sentence):
        analysis.direct_logit_attribution(record(model, IDS), model, **arguments)


def test_top_must_be_within_the_vocabulary():
    model = make_model()
    with pytest.raises(ValueError, match=r"top must be 1 to 11 \(vocab_size\), not 0"):
        analysis.promoted_tokens(record(model, IDS), model, top=0)
