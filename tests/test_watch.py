"""The board of a recorded run: every view moves with the step, and what stands still is made once."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from gptviz.dashboards import watch
from gptviz.dashboards.over_steps import MOST, recorded_over_steps
from gptviz.dashboards.watch import curve_view
from gptviz.model import GPT, GPTConfig
from gptviz.runs import open_run
from gptviz.runs.cadence import thinned
from gptviz.tasks import load_task
from gptviz.tokenizers import CharTokenizer
from gptviz.training import Recorder
from gptviz.views.film import film_view
from gptviz.views.guesses import UNJUDGED, guesses_view

OTHER = "CCBBAACAA"  # nine tokens, none a probe


@pytest.fixture(scope="module")
def run():
    return open_run("sorter")


@pytest.fixture
def board(run):
    return watch(run)


def kinds(views):
    return [view.kind for view in views]


def one(views, kind):
    return next(view for view in views if view.kind == kind)


def test_a_recorded_probe_needs_no_torch():
    code = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
from gptviz.dashboards import watch
board = watch("sorter")
page = board.payload()
print(len(page["frames"]), sum(len(view.get("details", {})) for view in page["views"]))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told.stdout.split() == ["10", "9"], told.stderr


def test_another_text_is_shown_with_what_needs_the_weights(board, run):
    assert kinds(board.views) == ["attention", "tokens", "head_curves", "training", "guesses", "film"]
    for step in (10, 600):
        views = board.source(step, OTHER)
        assert kinds(views) == ["attention", "tokens", "head_curves", "training", "film", "next", "lens", "writes"]
        trace = run.record(OTHER, step=step)
        expected = torch.log_softmax(trace["logits"], -1)[torch.arange(8), trace.ids[1:]]
        np.testing.assert_allclose(-one(views, "tokens").arrays["loss"][1:], expected.numpy(), atol=1e-5)
        assert all(check.passed for view in views for check in view.checks)
    early, late = (one(board.source(step, OTHER), "lens").arrays["top_probs"] for step in (10, 600))
    assert np.abs(early - late).max() > 0.1


def test_chosen_views_move_with_the_recorded_probe_too(run):
    board = watch(run, views=["lens", "text"])
    assert kinds(board.views) == ["attention", "tokens", "head_curves", "training", "guesses", "film", "lens"]
    np.testing.assert_array_equal(board.views[0].arrays["pattern"], run.snapshot(600).pattern)
    lens = [one(board.source(step, board.text), "lens").arrays["top_probs"] for step in (0, 600)]
    assert np.abs(lens[0] - lens[1]).max() > 0.1


def test_unknown_and_editing_views_are_refused(run):
    with pytest.raises(ValueError, match=r"views of watch\(\) must be some of heads.*given were edits"):
        watch(run, views=["edits"])


def test_a_frame_repeats_nothing_that_stands_still(board):
    sent = []
    board.send = lambda content, buffers=None: sent.append(content)
    for step in (0, 10):
        board._received(board, {"ask": "frame", "step": step, "text": board.text, "id": "1"}, [])
    still = [[view is None for view in one["frame"]["views"]] for one in sent]
    assert still == [[False, False, True, True, True, True]] * 2


def test_a_page_holds_the_film_of_every_head_once(board):
    page = board.payload()
    film = one_payload(page["views"], "film")
    assert set(film["details"]) == {f"{layer},{head}" for layer in range(3) for head in range(3)}
    assert all(frame["views"][5] is None for frame in page["frames"])
    assert "details" not in one_payload(board.payload(budget=1)["views"], "film") or not one_payload(
        board.payload(budget=1)["views"], "film")["details"]


def one_payload(views, kind):
    return next(view for view in views if view["kind"] == kind)


def test_the_film_shows_each_steps_head(board, run):
    for text, pattern in ((board.text, lambda step: run.snapshot(step).attention()),
                          (OTHER, lambda step: run.record(OTHER, step=step)["pattern"].numpy())):
        film = one(board.source(600, text), "film")
        tiles = film.detail_of(layer=2, head=1).arrays["tiles"]
        assert film.content["steps"] == run.steps
        for i, step in enumerate(run.steps):
            np.testing.assert_allclose((tiles[i] / 255.0) ** 2, pattern(step)[2, 1], atol=0.005)


def test_pictures_that_are_not_finite_say_so():
    p = np.tril(np.full((2, 3, 3), 0.5))
    p[1, 2] = np.nan  # of the second picture the last row
    found = film_view([0, 1], 1, 1, 3, lambda layer, head: p).detail_of(layer=0, head=0).arrays
    assert found["broken"].tolist() == [[0, 0, 0], [0, 0, 1]]
    assert found["tiles"][1, 2].tolist() == [0, 0, 0]


def test_a_run_that_diverged_has_a_film_without_attention(tmp_path):
    model = GPT(GPTConfig(8, 3, 1, 2, 8))
    with Recorder(model, CharTokenizer.from_characters("ABC"), ["CABBAC"], tmp_path / "run") as recorder:
        recorder.step(0, loss=2.0)
        model.transformer.wte.weight.data[0, 0] = float("nan")
        recorder.step(1, loss=float("nan"))
    film = one(watch(recorder.run).views, "film").detail_of(layer=0, head=0)
    assert film.arrays["broken"].tolist() == [[0] * 6, [1] * 6]  # a NaN among later keys spoils a row, too


def test_the_tokens_that_a_task_only_gives_are_marked(board, run):
    """A sorter is trained on its answer alone: of the letters before it no loss was taken."""
    for text in (board.text, OTHER):
        shown = one(board.source(600, text), "tokens")
        assert shown.content["given"] == 6
        assert shown.subtitle.endswith("trained on the answer alone, from position 6 on")
    _, y = load_task("sort").batch("train", 1, 11, np.random.default_rng(0))
    assert (y[0] == -1).tolist() == [position + 1 < 6 for position in range(11)]


def test_without_a_task_every_token_is_trained(tmp_path):
    model = GPT(GPTConfig(8, 3, 1, 2, 8))
    with Recorder(model, CharTokenizer.from_characters("ABC"), ["CABBAC"], tmp_path / "run") as recorder:
        recorder.step(0, loss=2.0)
    assert "given" not in one(watch(recorder.run).views, "tokens").content


def test_the_film_of_a_text_is_made_once(board):
    films = [one(board.source(step, OTHER), "film") for step in (0, 10)]
    assert films[0] is films[1]
    assert json.dumps(films[0].payload()["content"])  # how the browser knows it again


def test_guesses_are_those_of_the_weights_and_judged_by_the_task(board, run):
    guesses, task = one(board.views, "guesses"), load_task("sort")
    ids = np.array(run.info["probes"][0]["ids"])
    assert guesses.content["prompt"] == run.probes[0][:6]
    assert "".join(guesses.content["answer"]) == task.answer(run.probes[0][:6])
    for row, step in enumerate(run.steps):
        top = run.record(ids.tolist(), step=step)["logits"].argmax(-1).numpy()[5:]
        words = np.array(guesses.labels["word"])[guesses.arrays["guess"][row]]
        assert words.tolist() == [run.tokenizer.visible(int(token)) for token in top]
        right = [task.correct([*ids[: at + 1], top[at - 5]])[-1] for at in range(5, 11)]
        np.testing.assert_array_equal(guesses.arrays["right"][row], right)
    assert guesses.arrays["right"][0].sum() < guesses.arrays["right"][-1].sum() == 6


def test_without_a_task_the_text_judges(tmp_path, run):
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    info = json.loads((copy / "run.json").read_text())
    info["data"] = {"kind": "text"}
    (copy / "run.json").write_text(json.dumps(info))
    guesses = recorded_over_steps(open_run(copy), 0)[0]
    snapshot = run.snapshot(600)
    assert guesses.content["judge"] == "the text"
    np.testing.assert_array_equal(guesses.arrays["right"][-1], snapshot.top_ids[:-1, 0] == snapshot.ids[1:])


@pytest.mark.parametrize(("name", "settings", "why"), [
    ("induction", {"n_symbols": 4, "n_positions": 48}, "Induction needs n_symbols 8 to 62"),  # as the task was at first
    ("reverse", {}, "A task is one of sort"),
])
def test_a_run_of_a_task_that_is_no_more_opens_without_a_judge(tmp_path, run, name, settings, why):
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    info = json.loads((copy / "run.json").read_text())
    info["data"] = {"kind": "task", "name": name, "settings": settings}
    (copy / "run.json").write_text(json.dumps(info))
    guesses = one(watch(copy).views, "guesses")
    assert f". Not judged: this gptviz cannot make the run's task ({why}" in guesses.subtitle
    assert guesses.subtitle.endswith(").")
    assert (guesses.arrays["right"] == UNJUDGED).all()
    shown = np.array(guesses.labels["word"])[guesses.arrays["guess"][-1]]
    assert shown.tolist() == [run.tokenizer.visible(int(token)) for token in run.snapshot(600).top_ids[:, 0]]


def test_a_damaged_snapshot_leaves_the_other_steps(tmp_path, run):
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    hurt = sorted((copy / "snap").iterdir())[1]
    hurt.write_bytes(hurt.read_bytes()[:40])
    guesses, film = recorded_over_steps(open_run(copy), 0)
    assert len(guesses.content["steps"]) == len(film.content["steps"]) == len(run.steps) - 1


def test_the_tree_of_continuations_uses_the_weights_of_the_shown_step(board, run):
    from gptviz.dashboards.next import alternatives

    for step in (0, 600):
        board.step = step
        grown = board.actions["continue"]({"ids": [2, 1, 0], "at": "root", "steps": 1})
        assert grown["options"]["tree"]["root"] == alternatives(*run.load(step), [2, 1, 0], 1)


def test_long_runs_are_thinned_to_their_ends():
    steps = list(range(0, 5000, 10))
    kept = thinned(steps, MOST)
    assert len(kept) == MOST
    assert kept[0] == 0
    assert kept[-1] == 4990
    assert thinned(steps[:MOST], MOST) == steps[:MOST]


def test_a_view_that_shows_some_steps_says_which(run, monkeypatch):
    through = recorded_over_steps(run, 0)
    assert all("evenly" not in view.subtitle for view in through)
    assert "each recorded step" in one(through, "film").subtitle
    monkeypatch.setattr("gptviz.dashboards.over_steps.MOST", 4)
    for view in recorded_over_steps(run, 0):
        assert "4 of 10 recorded steps, evenly in their order from 0 to 600" in view.subtitle
    monkeypatch.setattr(sys.modules["gptviz.dashboards.watch"], "N_POINTS", 20)  # the name is that of the function, too
    curve = curve_view(run)
    drawn, whole = len(curve.arrays["values_0"]), np.isfinite(run.metrics()["loss"]).sum()
    assert curve.content["thinned"] == f"{drawn} of {whole} points: the lowest and highest of each stretch"


def test_a_page_whose_frames_are_thinned_still_has_the_film_of_the_head_that_is_looked_at(run):
    board = watch(run)
    board.layer, board.head = 2, 1
    page = board.payload(budget=22_000)
    assert len(page["frames"]) < len(run.steps)
    assert next(iter(one_payload(page["views"], "film")["details"])) == "2,1"


def test_view_errors():
    with pytest.raises(ValueError, match=r"must rise; they are \[10, 0\]"):
        film_view([10, 0], 1, 1, 2, lambda layer, head: np.zeros((2, 2, 2), np.uint8))
    two = np.zeros((2, 3), int)
    with pytest.raises(ValueError, match=r"must each be \[1 steps, pos\]; they are \(2, 3\)"):
        guesses_view([0], ["a"], two, two.astype(float), np.full((2, 3), UNJUDGED))
