"""Loss by position and top examples, against recording every text by itself."""

import numpy as np
import pytest
import torch
from by_hand import IDS, make_model
from torch import nn

from gptviz import analysis
from gptviz.analysis.context import LossByPosition
from gptviz.tokenizers import CharTokenizer
from gptviz.trace import record

TEXTS = [IDS, [1], [2, 3, 3], [7, 7, 7, 7, 7], [0, 10], [4, 9, 2, 2, 8, 1]]


def test_loss_by_position_is_the_mean_over_the_texts_that_reach_it():
    model = make_model()
    curve = analysis.loss_by_position(model, iter(TEXTS), batch_size=2)
    losses = [record(model, text)["loss"].numpy() for text in TEXTS]
    assert curve.mean.shape == (12,)
    for pos in range(12):
        there = np.array([loss[pos] for loss in losses if pos and pos < len(loss)])
        assert curve.count[pos] == len(there)
        if len(there):
            assert curve.mean[pos] == pytest.approx(there.mean(), rel=1e-5)
        else:
            assert np.isnan(curve.mean[pos])
        if len(there) > 1:
            assert curve.standard_error[pos] == pytest.approx(
                there.std(ddof=1) / np.sqrt(len(there)), rel=1e-4
            )
        else:
            assert np.isnan(curve.standard_error[pos])


def test_in_context_score_is_late_minus_early():
    curve = LossByPosition(np.array([np.nan, 4.0, 3.0, 1.5]), np.full(4, np.nan), np.array([0, 2, 2, 1]))
    assert analysis.in_context_score(curve, 1, 2) == -1.0
    with pytest.raises(
        ValueError, match=r"All texts must reach position 3, but 2 reach position 1 and only 1 reach 3"
    ):
        analysis.in_context_score(curve, 1, 3)
    for early, late in ((0, 2), (2, 2), (1, 4)):
        with pytest.raises(ValueError, match=r"1 <= early < late <= 3, but early is"):
            analysis.in_context_score(curve, early, late)


@pytest.mark.parametrize(
    "unit", [analysis.Neuron(1, 17), analysis.HeadWrite(2, 1), analysis.HeadWrite(-1, 0)], ids=str
)
def test_top_examples_are_those_of_a_sort(unit):
    model = make_model()
    found = analysis.top_examples(model, iter(TEXTS), None, unit, k=3, batch_size=2)
    every = []
    for index, text in enumerate(TEXTS):
        trace = record(model, text)
        if isinstance(unit, analysis.Neuron):
            activity = trace["mlp_post", unit.layer][:, unit.neuron].numpy()
        else:  # the write of a head is what is missing when the other heads' rows of c_proj are zero
            z = trace["z", unit.layer] * torch.eye(2)[unit.head][:, None, None]
            weight = model.transformer.h[unit.layer].attn.c_proj.weight
            activity = (
                nn.functional.linear(z.transpose(0, 1).flatten(1).float(), weight)
                .norm(dim=-1)
                .detach()
                .numpy()
            )
        every.append((activity.max(), index, activity))
    every.sort(key=lambda entry: -entry[0])
    assert [example.text_index for example in found] == [index for _, index, _ in every[:3]]
    for example, (value, _, activity) in zip(found, every[:3], strict=True):
        assert example.value == pytest.approx(value, rel=1e-4)
        assert example.position == activity.argmax()
        assert np.allclose(example.activity, activity, rtol=1e-3, atol=1e-4)
        assert len(example.tokens) == len(activity)


def test_equal_values_keep_the_earlier_text_and_tokens_are_visible():
    model = make_model()
    tokenizer = CharTokenizer("abcdefghij ")
    found = analysis.top_examples(model, ["a b", "a b", "a b"], tokenizer, analysis.Neuron(0, 0), k=2)
    assert [example.text_index for example in found] == [0, 1]
    assert found[0].tokens == ("a", "·", "b")


def test_mistakes_get_a_sentence():
    model = make_model()
    for unit, sentence in (
        (analysis.Neuron(3, 0), r"There is no layer 3"),
        (analysis.Neuron(0, 32), r"There is no neuron 32"),
        (analysis.HeadWrite(0, 2), r"There is no head 2"),
    ):
        with pytest.raises(ValueError, match=sentence):
            analysis.top_examples(model, TEXTS, None, unit)
    with pytest.raises(ValueError, match=r"k must be a whole number of at least 1, not 0"):
        analysis.top_examples(model, TEXTS, None, analysis.Neuron(0, 0), k=0)
    with pytest.raises(ValueError, match=r"There must be at least one text"):
        analysis.top_examples(model, [], None, analysis.Neuron(0, 0))
    with pytest.raises(ValueError, match=r"There must be at least one text"):
        analysis.loss_by_position(model, [])
    model.transformer.wte.weight.data[3] = float("nan")
    with pytest.raises(ValueError, match=r"Activity must be a number to be ranked, but is NaN in text 0"):
        analysis.top_examples(model, TEXTS, None, analysis.Neuron(0, 0))
