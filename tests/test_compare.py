"""Comparing two runs: the pairing of heads, and the board."""

from itertools import permutations

import numpy as np
import pytest
import torch

from gptviz.analysis.comparison import (
    cheapest_pairing,
    common_probe,
    common_steps,
    differences,
    head_distances,
    match_heads,
)
from gptviz.dashboards import compare
from gptviz.dashboards.explore import facts as explore_facts
from gptviz.export import export_html
from gptviz.loading import load
from gptviz.model import GPT, GPTConfig
from gptviz.tokenizers import CharTokenizer
from gptviz.trace import record
from gptviz.training import Recorder

TOKENIZER = CharTokenizer.from_characters("abcdefgh")


def recorded(out, *, seed=0, order=None, steps=(0, 4), probes=("abcdefgh",), config=None):
    """A run of a model whose heads attend differently; with `order`, the same model with its heads renumbered."""
    torch.manual_seed(seed)
    model = GPT(config or GPTConfig(16, 8, 2, 4, 16))
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.5)
    if order is not None:
        with torch.no_grad():
            for block in model.transformer.h:
                for name, axis in (("c_attn", 0), ("c_proj", 1)):
                    weight = getattr(block.attn, name).weight
                    parts = weight.unflatten(axis, (-1, 4, 4))
                    weight.copy_(parts.index_select(axis + 1, torch.tensor(order)).flatten(axis, axis + 2))
                    if name == "c_attn" and block.attn.c_attn.bias is not None:
                        bias = block.attn.c_attn.bias
                        bias.copy_(bias.unflatten(0, (3, 4, 4))[:, order].flatten())
    with Recorder(model, TOKENIZER, list(probes), out, steps=steps) as recorder:
        for step in range(max(steps) + 1):
            recorder.step(step, loss=2.0 - 0.1 * step + seed)
    return recorder.run


def random_patterns(rng, n=4):
    return rng.dirichlet(np.ones(6), (2, n, 6))


@pytest.mark.parametrize("seed", range(20))
def test_the_pairing_is_the_cheapest_of_all(seed):
    rng = np.random.default_rng(seed)
    costs = rng.random((5, 5)) if seed % 2 else rng.integers(0, 3, (5, 5)).astype(float)
    found = cheapest_pairing(costs)
    assert sorted(found.tolist()) == list(range(5))
    best = min(sum(costs[i, j] for i, j in enumerate(order)) for order in permutations(range(5)))
    assert costs[np.arange(5), found].sum() == pytest.approx(best)


def test_renumbered_heads_are_found_again():
    rng = np.random.default_rng(0)
    a = random_patterns(rng)
    assert match_heads(a, a[:, [2, 0, 3, 1]]).tolist() == [[1, 3, 0, 2]] * 2


def test_the_distance_is_the_attention_that_lies_elsewhere():
    a, b = np.zeros((1, 1, 3, 3)), np.zeros((1, 1, 3, 3))
    a[..., 0, 0] = b[..., 0, 0] = 1
    a[..., 1, 0], b[..., 1, 1] = 1, 1
    a[..., 2, 0], b[..., 2, :] = 1, [0.5, 0.25, 0.25]
    assert head_distances(a, b)[0, 0, 0] == 0.75


def test_patterns_that_cannot_be_matched_are_refused():
    a = random_patterns(np.random.default_rng(0))
    with pytest.raises(ValueError, match="models of the same shape"):
        match_heads(a, a[:, :3])
    a[0, 0, 3] = np.nan
    with pytest.raises(ValueError, match="hold a NaN"):
        match_heads(a, a)


def test_a_model_with_renumbered_heads_differs_in_no_head(tmp_path):
    a, b = recorded(tmp_path / "a"), recorded(tmp_path / "b", order=[3, 1, 0, 2])
    found = differences(a, b)
    assert all(one.kind == "head" for one in found)
    assert all(one.size < 0.005 for one in found)
    assert [one.b for one in found if one.a == "L0H0"] in ([], ["L0H2"])


def test_what_differs_is_said_settings_first(tmp_path):
    a = recorded(tmp_path / "a")
    b = recorded(tmp_path / "b", seed=1, config=GPTConfig(16, 8, 2, 4, 16, activation="gelu_tanh"))
    found = differences(a, b)
    assert (found[0].kind, found[0].name, found[0].a, found[0].b) == ("config", "activation", "gelu", "gelu_tanh")
    sizes = [one.size for one in found[1:]]
    assert sizes == sorted(sizes, reverse=True)
    loss = next(one for one in found if one.kind == "loss")
    assert loss.sentence() == "loss: 1.6 and 2.6 (1 apart)"
    assert len([one for one in found if one.kind == "head"]) == 8


def test_the_board_has_one_slider_and_both_runs(tmp_path):
    a = recorded(tmp_path / "a", steps=(0, 2, 4))
    recorded(tmp_path / "b", seed=1, steps=(0, 3, 4))
    board = compare(a, tmp_path / "b")
    assert (board.steps, board.step) == ([0, 4], 4)
    heads, _, listed, curves = board.views
    assert heads.labels["compared"] == ("a", "b")
    assert all(check.passed for check in heads.checks)
    assert curves.labels["series"] == ("a train", "b train")
    assert {row["kind"] for row in listed.content["rows"]} == {"loss", "head"}
    path = export_html(board, tmp_path / "compare.html")
    assert "What differs most" in path.read_text(encoding="utf-8")


def test_two_models_of_other_widths_each_have_their_facts(tmp_path):
    a = recorded(tmp_path / "a")
    b = recorded(tmp_path / "b", config=GPTConfig(16, 8, 2, 4, 16, bias=False))
    facts = compare(a, b)._payload["facts"]
    assert [fact.split(":")[0] for fact in facts] == ["a", "b"]
    assert compare(a, recorded(tmp_path / "c"))._payload["facts"] == explore_facts(a.config)


def test_runs_that_share_nothing_say_so(tmp_path):
    a = recorded(tmp_path / "a")
    with pytest.raises(ValueError, match="steps recorded in both"):
        common_steps(a, recorded(tmp_path / "b", steps=(1,)))
    with pytest.raises(ValueError, match="share none"):
        common_probe(a, recorded(tmp_path / "c", probes=("hgfe",)))
    with pytest.raises(ValueError, match=r"2 x 4 and .* 1 x 4"):
        compare(a, recorded(tmp_path / "d", config=GPTConfig(16, 8, 1, 4, 16)))


def test_two_traces_are_sent_to_explore():
    model, tokenizer = load("sorter")
    trace = record(model, "CBABBC", tokenizer)
    with pytest.raises(TypeError, match=r"it was given a Trace.*other=second_trace"):
        compare(trace, trace)
