"""Figures and words of the parts of a board: edits, scores, embeddings, circuits."""

import numpy as np
import pytest
import torch

import gptviz as gv
from gptviz import figures
from gptviz.dashboards import explore
from gptviz.figures.circuits import strongest_pairs
from gptviz.tokenizers import CharTokenizer
from gptviz.views import attention_view, head_scores_view, summary
from gptviz.views.circuits import circuits_view

TEXT = "the <cat> sat $on$"
KINDS = ("attention", "head_scores", "edits", "embeddings", "positions", "circuits", "composition")


@pytest.fixture(scope="module")
def views():
    torch.manual_seed(0)
    tokenizer = CharTokenizer(TEXT)
    config = gv.GPTConfig(block_size=20, vocab_size=tokenizer.vocab_size, n_layer=2, n_head=2, n_embd=8)
    model = gv.GPT(config).eval()
    board = explore(gv.record(model, TEXT, tokenizer), model, tokenizer)
    board._said(board._act, {"name": "edit", "value": {"do": "mute", "layer": 0, "head": 1}})
    return {view.kind: view for view in board.views}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_part_is_saved_with_its_words_whole(views, kind, theme, tmp_path):
    path = figures.save(views[kind], tmp_path / f"{kind}.svg", theme=theme)
    assert path.stat().st_size > 5000
    drawn = figures.figure(views[kind], theme=theme)
    assert all(axes.get_facecolor() == drawn.get_facecolor() for axes in drawn.axes if axes.get_title(loc="left"))
    drawn.canvas.draw()  # a token with dollar signs is drawn, not parsed


def test_the_loss_bars_are_the_losses(views):
    drawn = figures.figure(views["edits"])
    bars = [patch.get_height() for patch in drawn.axes[0].patches]
    n = len(TEXT)
    np.testing.assert_allclose(bars[1:n], views["edits"].arrays["loss"][1:], rtol=1e-5)
    np.testing.assert_allclose(bars[n + 1 :], views["edits"].arrays["other_loss"][1:], rtol=1e-5)
    assert "ablate_head(0, 1)" in drawn.axes[0].get_title(loc="left")


def test_strongest_pairs_are_the_largest_above_the_null():
    scores = np.full((3, 2, 1, 2, 1), np.nan)
    scores[0, 0, 0, 1, 0], scores[2, 0, 0, 1, 0], scores[1, 0, 0, 1, 0] = 0.4, 0.9, 0.1
    assert strongest_pairs(scores, 0.2) == [(2, 0, 0, 1, 0), (0, 0, 0, 1, 0)]


def test_plotly_turns_points_and_keeps_tokens_as_text(views):
    drawn = figures.plotly(views["embeddings"], theme="dark")
    detail = views["embeddings"].detail_of()
    np.testing.assert_array_equal(drawn.data[0].z, detail.arrays["tokens_coordinates"][:, 2])
    assert "&lt;" in drawn.data[0].text
    assert figures.plotly(views["embeddings"], of="positions").data[0].text[3] == "3"


def test_what_cannot_be_drawn_says_so(views):
    with pytest.raises(ValueError, match="There is a plotly figure for"):
        figures.plotly(views["edits"])
    with pytest.raises(ValueError, match='"tokens" or "positions", not'):
        figures.plotly(views["embeddings"], of="heads")
    with pytest.raises(ValueError, match="theme must be one of"):
        figures.plotly(views["embeddings"], theme="blue")
    with pytest.raises(ValueError, match="There is no figure of these circuits: too many"):
        figures.figure(circuits_view(None, [], [], None, 1, "too many"))
    with pytest.raises(ValueError, match="There is no figure of head scores: none: a NaN"):
        figures.figure(head_scores_view(None, "a NaN"))


@pytest.mark.parametrize(("kind", "says"), [
    ("attention", "4 heads over 18 tokens: from ‘$’ (position 17)"), ("head_scores", "of 4 heads stand out"),
    ("edits", "Edits gv.ablate_head(0, 1): mean loss"), ("embeddings", "20 positions"),
    ("positions", "Positions: 20 compared"), ("circuits", "Circuits of L0H0 over"),
    ("composition", "of 12 pairs above"), ("composition", "(by chance about 0.3)"),
])
def test_every_part_has_a_sentence(views, kind, says):
    assert says in summary(views[kind])


def test_the_summary_of_attention_names_the_hardest_look():
    pattern = np.zeros((1, 2, 3, 3), np.float32)
    pattern[0, :, 0, 0], pattern[0, :, 1, 1], pattern[0, 0, 2, 1], pattern[0, 0, 2, 2] = 1, 1, 0.9, 0.1
    pattern[0, 1, 2] = 1 / 3
    words = summary(attention_view(pattern, ["a", "b", "c"]))
    assert words.splitlines()[0].endswith("L0H0 puts most on one key, 0.9000 on ‘b’.")
    assert words.splitlines()[2].split() == ["L0H0", "1", "b", "0.9000"]
