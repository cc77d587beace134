"""Figures: what is drawn are the view's numbers; text is literal; files are whole."""

import dataclasses
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from gptviz.figures import FOLDED, THEMES, figure, figure_of_all, picture, save
from gptviz.packing import pack_pattern
from gptviz.views import View, attention_view, tokens_view, training_view
from gptviz.views.attention import full_pattern, largest_of

JS = Path(__file__).parent.parent / "js"
COLOUR = JS / "colour.ts"


def causal_pattern(n_layer, n_head, n_tokens):
    weights = np.random.default_rng(0).random((n_layer, n_head, n_tokens, n_tokens)) * np.tri(n_tokens)
    return weights / weights.sum(-1, keepdims=True)


@pytest.mark.parametrize("n_tokens", [1, 8, 130])
def test_attention_cells_are_the_patterns_square_roots(n_tokens):
    pattern = causal_pattern(2, 3, n_tokens)
    view = attention_view(pattern, [f"t{i}" for i in range(n_tokens)])
    np.testing.assert_allclose(full_pattern(view), pattern, atol=0.005)
    large = figure(view, layer=1, head=2).axes[6]
    cells = large.images[0].get_array()
    shown = np.where(np.ma.getmaskarray(cells), 0, cells.filled(0))
    np.testing.assert_allclose(shown, np.sqrt(full_pattern(view)[1, 2]), atol=1e-6)
    assert large.get_xlabel() == "key (attended to) →"
    assert "query (attends) ↓" in [text.get_text() for text in large.texts]


def test_a_long_text_is_pooled_and_its_axes_count_tokens():
    n = 2500
    pattern = np.tril(np.full((1, 1, n, n), 1e-4, np.float32))
    pattern[0, 0, 2400, 1250] = 0.81
    large = figure(attention_view(pattern, [str(at) for at in range(n)])).axes[1]
    image = large.images[0]
    assert image.get_array().shape == (1024, 1024)
    assert image.get_extent() == [-0.5, n - 0.5, n - 0.5, -0.5]
    row, column = np.argwhere(image.get_array().filled(0) > 0.85)[0]
    assert (row * n // 1024, column * n // 1024) == (pytest.approx(2400, abs=2), pytest.approx(1250, abs=2))
    assert list(large.get_yticks())[-1] == 2457
    assert large.get_ylim() == (n - 0.5, -0.5)


def test_packed_patterns_are_drawn_too():
    pattern = causal_pattern(1, 1, 5)
    view = attention_view(pack_pattern(pattern), list("abcde"))
    np.testing.assert_allclose(full_pattern(view), pattern, atol=0.005)


def test_largest_of_is_the_largest_of_each_square():
    pattern = causal_pattern(1, 1, 7)[0, 0]
    pooled, edges = largest_of(pattern, 3), [0, 2, 4, 7]
    for i in range(3):
        for j in range(3):
            assert pooled[i, j] == pattern[edges[i] : edges[i + 1], edges[j] : edges[j + 1]].max()


def test_values_that_are_not_finite_have_their_own_glyph():
    pattern = causal_pattern(1, 1, 4)
    pattern[0, 0, 2, 1] = np.nan
    large = figure(attention_view(pattern, list("abcd"))).axes[1]
    crosses = [(float(x), float(y)) for line in large.lines for x, y in zip(*line.get_data(), strict=True)]
    assert crosses == [(1.0, 2.0)]
    losses = training_view({"train": (np.arange(3), np.array([2.0, np.nan, 1.0]))})
    assert "✕ not finite" in [text.get_text() for text in figure(losses).axes[0].texts]


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
@pytest.mark.parametrize("theme", sorted(THEMES))
def test_files_are_whole_and_the_same_every_time(tmp_path, ending, theme):
    tokens = ["$x$", "<img src=x onerror=alert(1)>", "_a_", "⏎", "\\xF0", "</script>", "·the", "x" * 300]
    view = attention_view(causal_pattern(2, 2, 8), tokens)
    path = save(view, tmp_path / f"heads.{ending}", theme=theme)
    assert path.read_bytes().startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending])
    assert path.read_bytes() == picture(view, ending, theme=theme)


def test_tokens_are_literal():
    view = tokens_view(np.array([np.nan, 1.0, 9.0], np.float32), ["$x$", "$\\frac{1}{2}$", "·a"])
    assert [text.get_text() for text in figure(view).axes[0].texts] == ["$x$", "$\\frac{1}{2}$", "·a", "▴"]
    picture(view)


def test_losses_that_no_colour_can_show_have_a_mark():
    def drawn(losses):
        shown = figure(tokens_view(np.array(losses, np.float32), ["a"] * len(losses)))
        marks = [text.get_text() for text in shown.axes[0].texts if text.get_text() in "✕▴"]
        dotted = [patch.get_linestyle() in (":", "dotted") for patch in shown.axes[0].patches]
        return marks, dotted, shown.axes[1].get_xlabel()

    marks, dotted, caption = drawn([np.nan, 1.0, np.nan, np.inf, 9.0, 6.0])
    assert (marks, dotted) == (["✕", "✕", "▴"], [True] + [False] * 5)
    assert caption == "nats (dotted outline: no token before it; ✕ not finite; ▴ above the scale)"
    assert drawn([np.nan, 1.0])[2] == "nats (dotted outline: no token before it)"
    assert drawn([0.5, 1.0]) == ([], [False, False], "nats")


def test_series_are_named_at_their_right_end_without_overlap():
    steps = np.arange(10)
    view = training_view({"train": (steps, 2.0 - 0.1 * steps), "validation": (steps, 2.01 - 0.1 * steps)})
    named = list(figure(view).axes[0].texts)
    assert [text.get_text() for text in named] == ["validation 1.11", "train 1.10"]
    assert named[0].xy[1] - named[1].xy[1] > 0.03


def test_colours_are_those_of_the_front_end():
    source = COLOUR.read_text(encoding="utf-8").upper()
    for palette in THEMES.values():
        for scale in (palette.sequential, palette.loss, palette.negative, palette.positive):
            assert " ".join(scale) in source, scale


def some_views(n_tokens=8):
    tokens, steps = [f"t{i}" for i in range(n_tokens)], np.arange(20)
    loss = np.linspace(0, 5, n_tokens, dtype=np.float32)
    return [attention_view(causal_pattern(2, 3, n_tokens), tokens), tokens_view(loss, tokens),
            training_view({"train": (steps, np.exp(-steps / 5))})]


def words_on(part):
    return [text.get_text() for text in part.findobj(Text)]


def test_views_together_are_those_alone_and_none_is_over_another():
    views, look = some_views(), dict(layer=1, head=2, query=5, key=3)
    whole, left_out = figure_of_all(views, heading="tiny $x$", **look)
    heading, *parts = whole.subfigs
    assert words_on(heading) == ["tiny $x$", "marked: head L1H2, query 5 ‘t5’, key 3 ‘t3’"]
    assert left_out == {}
    for view, part in zip(views, parts, strict=True):
        assert words_on(part) == words_on(figure(view, **look)), view.kind
        np.testing.assert_allclose(part.bbox.size / whole.dpi, figure(view, **look).get_size_inches(), rtol=1e-6)
    whole.draw_without_rendering()
    boxes = [part.get_tightbbox() for part in whole.subfigs]
    for one, other in combinations(boxes, 2):
        assert not one.overlaps(other)
    for box in boxes:
        assert whole.bbox.x0 <= box.x0 < box.x1 <= whole.bbox.x1
        assert whole.bbox.y0 <= box.y0 < box.y1 <= whole.bbox.y1


def test_a_chosen_query_and_key_are_marked_in_every_view():
    views = some_views()
    large = figure(views[0], layer=1, head=2, query=5, key=3).axes[6]
    boxes = [(patch.get_xy(), patch.get_width()) for patch in large.patches if isinstance(patch, Rectangle)]
    assert boxes == [((-0.5, 4.5), 6), ((2.5, 4.5), 1), ((2.5, 4.5), 1)]
    assert not [patch for patch in figure(views[0]).axes[6].patches if isinstance(patch, Rectangle)]
    assert len(figure(views[1], query=5, key=3).axes[0].patches) == len(figure(views[1]).axes[0].patches) + 2


def test_the_difference_of_two_patterns_is_drawn_where_a_board_opens_on_it():
    one, two = causal_pattern(2, 2, 6), causal_pattern(2, 2, 6)[:, ::-1]
    view = attention_view(one, list("abcdef"), other=two, compared=("clean", "ablated"))
    assert "L0H1 of clean" in words_on_titles(figure(view, head=1))
    shown = figure(dataclasses.replace(view, content={"options": {"head": {"compare": "difference"}}}), head=1)
    assert "L0H1 ablated − clean" in words_on_titles(shown)
    change = two[0, 1] - one[0, 1]
    cells = shown.axes[4].images[0]
    root = np.sign(change) * np.sqrt(np.abs(change) / np.abs(two - one).max())
    np.testing.assert_allclose(cells.get_array().filled(0), root, atol=1e-5)
    assert cells.get_clim() == (-1, 1)
    same = attention_view(one, list("abcdef"), other=one, compared=("clean", "ablated"))
    same = dataclasses.replace(same, content={"options": {"head": {"compare": "difference"}}, "unchanged": True})
    assert "L0H0 ablated − clean  no weight of any head differs" in words_on_titles(figure(same))
    whole, _ = figure_of_all([view], layer=0, head=1)
    compared = "comparing clean and ablated, all but the heads are of clean"
    assert words_on(whole.subfigs[0])[1] == f"marked: head L0H1 · {compared}"


def test_the_axes_of_a_difference_name_both_texts_where_they_differ():
    patterns = causal_pattern(1, 1, 3)
    view = attention_view(patterns, list("abc"), other=patterns, other_tokens=list("axc"))
    shown = dataclasses.replace(view, content={"options": {"head": {"compare": "difference"}}})
    for drawn, names in ((view, ["a", "b", "c"]), (shown, ["a", "b/x", "c"])):
        assert [label.get_text() for label in figure(drawn).axes[1].get_xticklabels()] == names
    with pytest.raises(ValueError, match="compared token by token, so both need as many; they have 3 and 2"):
        attention_view(patterns, list("abc"), other=patterns, other_tokens=list("ab"))


def words_on_titles(drawn):
    return [axes.get_title(loc="left") for axes in drawn.axes]


def test_the_views_that_a_picture_leaves_out_as_folded_begin_folded_on_the_board():
    found = [re.findall(r'kind: "(\w+)",[^\n]*folded: true', path.read_text(encoding="utf-8"))
             for path in (JS / "views").glob("*.ts")]
    assert sorted({kind for kinds in found for kind in kinds} - {"all"}) == sorted(FOLDED)


def test_bad_input(tmp_path):
    view = training_view({"train": (np.arange(2), np.ones(2))})
    with pytest.raises(ValueError, match="theme must be one of"):
        figure(view, theme="sepia")
    with pytest.raises(ValueError, match=r"ends in \.png, \.svg, \.pdf; 'a.gif' does not"):
        save(view, tmp_path / "a.gif")
    with pytest.raises(ValueError, match="folder of a picture must exist"):
        save(view, tmp_path / "none" / "a.png")
    with pytest.raises(ValueError, match="layers 0 to 0 and heads 0 to 0; L0H5"):
        figure(attention_view(causal_pattern(1, 1, 2), ["a", "b"]), head=5)
    for drawn in (lambda one, **at: figure(one, **at), lambda one, **at: figure_of_all([view, one], **at)):
        for name, at in (("query", 8), ("key", 8), ("query", -1)):
            with pytest.raises(ValueError, match=rf"{name} must be a position of the text, 0 to 7; {at} was given"):
                drawn(some_views()[1], **{name: at})
    with pytest.raises(ValueError, match="not for a view of kind 'other'"):
        figure(View("other", "t", "", {}, {}))
