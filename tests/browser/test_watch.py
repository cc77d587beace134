"""The board of a recorded run in a page: one slider moves every view, steps are compared and played."""

import re

import pytest

from gptviz.dashboards import report, watch
from gptviz.export import export_html
from gptviz.runs import open_run

pytestmark = pytest.mark.browser
VIEWS = ("heads", "head", "text", "after", "guesses", "loss", "curves")


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    return report("sorter", tmp_path_factory.mktemp("watch") / "report.html").as_uri()


@pytest.fixture
def board(open_page, reader, story):
    return reader(open_page(story, width=1600))


def press(board, key):
    board.slider().focus()
    board.page.keyboard.press(key)
    board.settle()


def test_one_slider_moves_every_view(board):
    seen = []
    for key in ("Home", "ArrowRight", "End"):
        press(board, key)
        seen.append([board.picture(view) for view in VIEWS])
    for at, view in enumerate(VIEWS):
        assert len({one[at] for one in seen}) >= (2 if view == "after" else 3), view
    assert board.step() == 600


def test_a_row_of_guesses_and_a_picture_of_the_film_lead_to_their_step(board):
    assert "Step 600: 6 of 6 guesses right, says task sort" in board.says("guesses")
    stage = board.stage("guesses")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    board.page.mouse.move(box["x"] + 80, box["y"] + 64 + 28 + 10)
    board.click()
    assert board.step() == 10
    assert "Step 10: 3 of 6 guesses right" in board.says("guesses")
    board.page.locator(".gv-panel-film .gv-fold").click()
    board.settle()
    assert "L0H0 at 10 steps; step 10 is shown. It changes most between steps" in board.says("film")
    before = board.picture("film")
    board.press("film", "]")
    assert board.says("film").startswith("L0H1")
    assert board.picture("film") != before
    box = board.stage("film").bounding_box()
    board.page.mouse.move(box["x"] + 30, box["y"] + 30)
    board.click()
    assert board.step() == 0


def test_a_report_tells_why_its_heads_are_not_sorted(board):
    before = board.picture("heads")
    board.press("heads", "s")
    assert board.page.locator(".gv-notice").inner_text().startswith("Not sorted: this board has no scores of the heads")
    assert board.picture("heads") == before


def test_what_a_page_left_out_is_a_sentence_and_no_grid_of_blanks(open_page, reader, tmp_path):
    shown = watch("sorter")
    some = reader(open_page(export_html(shown, tmp_path / "some.html", budget=22_000).as_uri(), width=1000))
    some.page.locator(".gv-panel-film .gv-fold").click()
    some.settle()
    assert "It changes most between steps" in some.says("film")
    some.press("film", "}")
    some.press("film", "}")
    assert re.match(r"The pictures of L2H0: left out of this page", some.says("film"))
    assert some.stage("film").bounding_box()["height"] < 40
    none = reader(open_page(export_html(shown, tmp_path / "none.html", budget=1).as_uri(), width=1000))
    panel = none.page.locator(".gv-panel-film")
    assert "the notebook shows it: one picture for each recorded step" in panel.inner_text()
    assert panel.locator(".gv-fold").is_hidden()
    assert none.stage("film").is_hidden()


def test_a_curve_leads_to_its_head_and_the_chart_to_a_step(board):
    board.page.get_by_label("show, curves").select_option("first_token")
    board.settle()
    found = re.match(r"Step 600: first (L\dH\d) (\d\.\d+)", board.says("curves"))
    run = open_run("sorter")
    highest = float(run.snapshot(600).statistics["first"].max())
    assert float(found[2]) == pytest.approx(highest, abs=0.005)
    stage = board.stage("curves")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    board.page.mouse.move(box["x"] + box["width"] - 136, box["y"] + 12 + 140 * (1 - highest))
    board.click()
    assert f"{found[1]} through training" in board.title("film")
    assert board.step() == 600
    board.page.mouse.move(box["x"] + 56, box["y"] + 12 + 140 * 0.02)
    board.click()
    assert board.step() == 0


def test_two_handles_show_what_changed(board):
    run = open_run("sorter")
    board.page.get_by_label("compare with step").select_option("20")
    board.settle()
    board.stage("head").focus()
    board.page.keyboard.press("End")
    before, after = (run.snapshot(step).attention()[0, 0, 10] for step in (20, 600))
    board.press("text", "End")
    assert "difference" in board.title("head")
    assert "goes from" in board.says("head")
    assert "compared with step 20" in board.slider().get_attribute("aria-label")
    change = run.snapshot(600).loss[10] - run.snapshot(20).loss[10]
    assert f"change of loss since step 20 {change:.4f}".replace("-", "\u2212") in board.says("text")
    assert abs(after - before).max() > 0.01
    box = board.slider().bounding_box()
    start = box["x"] + 10 + 2 / 9 * (box["width"] - 20)
    board.page.mouse.move(start, box["y"] + 16)
    board.page.mouse.down()
    board.page.mouse.move(box["x"] + 10, box["y"] + 16)
    board.page.mouse.up()
    board.settle()
    assert "compared with step 0" in board.slider().get_attribute("aria-label")
    assert board.step() == 600
    board.page.get_by_label("compare with step").select_option("")
    board.settle()
    assert "difference" not in board.title("head")
    assert "compared" not in board.slider().get_attribute("aria-label")


# What the play button and the slider show, each time that one of them changes; before `last` it is pressed again.
FOLLOW = """(last) => {
  const play = document.querySelector('.gv-play'), slider = document.querySelector('.gv-steps .gv-stage');
  window.seen = [];
  const look = () => {
    const step = slider.getAttribute('aria-valuenow'), plays = play.textContent.includes('Pause');
    window.seen.push(`${plays ? 'plays' : 'rests'} ${step}`);
    if (plays && Number(step) < last) play.click();
  };
  const all = { subtree: true, childList: true, attributes: true, characterData: true };
  new MutationObserver(look).observe(document.querySelector('.gv-board'), all);
}"""


def test_play_walks_to_the_last_step_and_stops(board):
    press(board, "End")
    board.page.keyboard.press("ArrowLeft")
    board.page.keyboard.press("ArrowLeft")
    board.settle()
    assert board.step() == 100
    board.slider().focus()
    board.page.evaluate(FOLLOW, 0)
    board.page.keyboard.press("Space")
    board.until(lambda: board.page.evaluate("window.seen.at(-1)") == "rests 600")
    assert [one for one in board.page.evaluate("window.seen") if one.startswith("plays")]
    board.page.evaluate(FOLLOW, 600)
    board.page.locator(".gv-play").click()
    board.until(lambda: board.page.evaluate("window.seen.at(-1)?.startsWith('rests')"))
    board.settle()
    assert board.step() < 600  # from the first step again
    assert "Play" in board.page.locator(".gv-play").inner_text()


def test_a_typed_text_brings_its_views_and_all_move_together(lab, open_page, reader):
    code = "import torch, gptviz as gv\nboard = gv.watch('sorter')\nboard"
    page = open_page(lab.write("watch.ipynb", code), offline=False)
    lab.run_all(page)
    board = reader(page, ".jp-OutputArea")
    page.wait_for_selector(".gv-panel-guesses")
    assert page.locator(".gv-panel-lens").count() == 0
    field = page.locator(".gv-text")
    field.fill("CCBBAACAA")
    field.press("Enter")
    page.wait_for_selector(".gv-panel-lens")
    assert page.locator(".gv-panel-guesses").count() == 0  # they are of the probe
    page.wait_for_function("() => document.querySelector('.gv-panel-lens .gv-stage').getAttribute('aria-label')?"
                           ".includes('Entropy')")
    board.settle()
    before = {view: board.picture(view) for view in ("heads", "text", "lens", "next")}
    board.slider().focus()
    page.keyboard.press("Home")
    board.until(lambda: all(board.picture(view) != picture for view, picture in before.items()))
    page.locator(".gv-panel-film .gv-fold").click()
    page.wait_for_function("() => document.querySelector('.gv-panel-film .gv-stage').getAttribute('aria-label')?"
                           ".includes('changes most')")
    page.get_by_label("compare with step").select_option("600")
    page.wait_for_function("() => document.querySelector('.gv-panel-head .gv-subtitle').textContent"
                           ".includes('difference')")
