"""A board on a training under way: what it sends, what its buttons do, and that it costs the training nothing."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from gptviz.corpora import TextData
from gptviz.dashboards import watch
from gptviz.dashboards.live import CURVE_POINTS, ODD_POINTS
from gptviz.runs import Follower, open_run
from gptviz.training import TrainConfig, train
from gptviz.views.controls import controls_view, disabled_controls, readouts, short
from gptviz.views.training import drawn_points

TEXT = "the quick brown fox jumps over the lazy dog; pack my box with five dozen jugs. " * 30


@pytest.fixture(scope="module")
def data():
    return TextData.from_text(TEXT)


def small(data, **changes) -> TrainConfig:
    fields = dict(corpus=data, n_layer=2, n_head=2, n_embd=16, block_size=16, batch_size=4, max_iters=10**6,
                  lr_decay_iters=1000, warmup_iters=5, eval_interval=20, eval_iters=2, threads=1, probes=["the quick"])
    return TrainConfig(**fields | changes)


class Browser:
    """The other end of a board's line: keeps what was sent, and says that it was painted unless it is dead."""

    def __init__(self, board, dead=False):
        self.board, self.dead, self.sent = board, dead, []
        board.send = self.take

    def take(self, content, buffers=None):
        self.sent.append((time.monotonic(), content, sum(map(len, buffers or []))))

    def paint(self):
        if not self.dead and self.sent and "push" in self.sent[-1][1]:
            self.board._received(self.board, {"ack": self.sent[-1][1]["push"]}, [])

    def press(self, name, value=None):
        self.board._received(self.board, {"ask": "act", "name": name, "value": value}, [])
        return self.sent[-1][1]

    def until(self, condition, seconds=60.0):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not happen"
            self.paint()
            time.sleep(0.02)


def words(board):
    return board.fresh["controls"].content


@pytest.fixture
def live(data):
    """A training in the background with a board and a browser; stopped at the end."""
    runs = []

    def start(dead=False, on_step=None, probe=0, **changes):
        runs.append(train(small(data, **changes), background=True, on_step=on_step))
        return runs[-1], Browser(watch(runs[-1], probe), dead)

    yield start
    for run in runs:
        run.close()


def test_the_board_grows_with_the_run_and_follows_the_last_step(live):
    run, browser = live()
    board = browser.board
    browser.until(lambda: len(board.steps) > 4)
    assert [view.kind for view in board.views] == [
        "attention", "tokens", "events", "head_curves", "distributions", "training", "controls", "guesses", "film",
        "lens", "embeddings", "positions"]
    assert board.step == board.steps[-1]
    assert words(board)["state"] == "training"
    run.pause().wait(60)
    browser.until(lambda: words(board)["state"] == "paused" and board.steps == run.steps)
    standing = Follower(run).look()
    assert words(board)["readouts"][0] == ["trained to step", str(standing.step), "of 1000000"]
    heads = board.views[0].arrays["pattern"]
    assert heads.tobytes() == run.snapshot(board.step).pattern.tobytes()


def test_a_board_that_began_with_one_step_gets_a_slider_with_the_second(live):
    _, browser = live(record_steps=[0, 200, 10**6])
    board = browser.board
    assert len(board.steps) <= 1
    browser.until(lambda: len(board.steps) == 2)
    assert (board._payload["steps"], board._payload["selection"]["step"]) == ([0, 200], 200)


def test_what_grows_is_sent_only_when_something_was_recorded(live):
    run, browser = live()
    board = browser.board
    browser.until(lambda: len(board.steps) > 4)
    run.pause().wait(60)
    browser.until(lambda: words(board)["state"] == "paused" and board.steps == run.steps)
    curves, before = board.fresh["head_curves"], len(browser.sent)
    assert curves.arrays["steps_0"].tolist() == run.steps
    run.set_learning_rate(1e-4)
    run.step(1).wait(60)
    browser.until(lambda: board.steps == run.steps and len(browser.sent) > before)
    grown = [view["kind"] for _, content, _ in browser.sent[before:] for view in content.get("fresh", ())]
    assert "head_curves" in grown
    assert board.fresh["head_curves"].arrays["steps_0"].tolist() == run.steps
    quiet = [{view["kind"] for view in content.get("fresh", ())} for _, content, _ in browser.sent
             if content.get("fresh") and "steps" not in content]
    assert all("head_curves" not in kinds for kinds in quiet)


def test_lens_and_embeddings_of_the_probe_are_those_of_the_shown_step(live):
    run, browser = live()
    board = browser.board
    browser.until(lambda: len(board.steps) > 5)
    run.pause().wait(60)
    browser.until(lambda: words(board)["state"] == "paused")
    for step in (board.steps[0], board.steps[-1]):
        asked = {"ask": "detail", "id": "1", "kind": "lens", "step": step, "text": board.text, "at": {"rows": 0}}
        board._received(board, asked, [])
        top = browser.sent[-1][1]["detail"]["arrays"]["top_probs"]
        shown = run.record(run.probes[0], step=step)["logits"].softmax(-1).amax(-1)
        assert top["shape"][:2] == [3, len(shown)]
        view = next(view for view in board.source(step, board.text) if view.kind == "lens").detail_of(rows=0)
        np.testing.assert_allclose(view.arrays["top_probs"][-1, :, 0], shown.numpy(), atol=1e-5)
    places = next(view for view in board.source(1, board.text) if view.kind == "positions")
    weights = run.weights(1)["transformer.wpe.weight"]
    unit = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    np.testing.assert_allclose(places.detail_of().arrays["cosine"], unit @ unit.T, atol=1e-5)


def test_guesses_of_a_task_grow_and_are_judged_while_it_trains(live):
    run, browser = live(corpus=None, task="sort", block_size=None, probes=["CABBACAABBCC"[:11]], n_embd=8)
    board = browser.board
    browser.until(lambda: len(board.steps) > 5)
    run.pause().wait(60)
    browser.until(lambda: words(board)["state"] == "paused" and board.steps == run.steps)
    guesses = next(view for view in board.source(board.steps[-1], board.text) if view.kind == "guesses")
    assert guesses.content["steps"] == run.steps
    assert guesses.content["judge"] == "task sort"
    top = run.snapshot(run.steps[-1]).top_ids[5:11, 0]
    shown = np.array(guesses.labels["word"])[guesses.arrays["guess"][-1]]
    assert shown.tolist() == [run.tokenizer.visible(int(token)) for token in top]


def test_another_text_takes_the_probes_place_and_moves_with_the_steps(live):
    run, browser = live()
    board = browser.board
    browser.until(lambda: len(board.steps) > 3)

    def ask(step, text):
        board._received(board, {"ask": "frame", "id": "1", "step": step, "text": text}, [])
        return browser.sent[-1][1]["frame"]

    frame, early = ask(board.steps[0], "lazy dog"), board.views[1].arrays["loss"]
    assert board.text == "lazy dog"
    kinds = [None if view is None else view["kind"] for view in frame["views"]]
    assert kinds == ["attention", "tokens", None, None, None, None, None, "next", "lens", "writes"]
    ask(board.steps[-1], "lazy dog")
    assert not np.array_equal(board.views[1].arrays["loss"], early, equal_nan=True)
    before = len(board.steps)
    browser.until(lambda: len(board.steps) > before)
    assert not [content for _, content, _ in browser.sent if content.get("frame", {}).get("text") not in
                (None, "lazy dog", run.probes[0])]
    assert ask(board.steps[-1], "lazy dog")["step"] == board.steps[-1]
    grown = browser.press("continue", {"ids": [0, 1], "at": "root", "steps": 1})
    assert "tree" in grown["options"]


def test_a_page_of_a_live_board_has_its_newest_curves(live):
    run, browser = live()
    board = browser.board
    browser.until(lambda: len(board.steps) > 4)
    run.pause().wait(60)
    browser.until(lambda: words(board)["state"] == "paused" and board.steps == run.steps)
    page = board.payload(budget=3_000_000)
    curve = next(view for view in page["views"] if view["kind"] == "training")
    assert curve["arrays"]["steps_0"]["data"] == board.fresh["training"].arrays["steps_0"].tobytes()
    assert next(view for view in page["views"] if view["kind"] == "controls")["content"]["state"] == "paused"
    assert all(one["views"][5] is None for one in page["frames"])


def test_messages_are_few_small_and_acknowledged(live):
    _, browser = live()
    browser.until(lambda: len(browser.sent) > 8)
    times = np.array([at for at, _, _ in browser.sent])
    assert np.diff(times).min() > 0.1
    assert len(times) / (times[-1] - times[0]) < 5
    assert max(size for _, _, size in browser.sent) <= 300_000


def test_a_browser_that_never_answers_gets_a_message_every_two_seconds_at_most(live):
    run, browser = live(dead=True)
    time.sleep(5)
    assert len([content for _, content, _ in browser.sent if "push" in content]) <= 4
    assert run.now["step"] > 0


def test_a_reader_who_looks_back_is_not_pulled_forward(live):
    _, browser = live()
    board = browser.board
    board._received(board, {"ask": "hello"}, [])
    browser.until(lambda: len(board.steps) > 3)
    board.step = 1
    before = len(board.steps)
    browser.until(lambda: len(board.steps) > before)
    assert board.step == 1
    browser.press("follow")
    assert board.step == board.steps[-1]


def test_buttons_ask_the_training_and_answer_with_its_state(live):
    run, browser = live()
    board = browser.board
    browser.until(lambda: run.now.get("step", 0) > 2)
    assert browser.press("step")["error"].startswith("Only a paused training can be stepped by hand")
    browser.press("pause")
    browser.until(lambda: run.status == "paused")
    at = run.now["step"]
    browser.press("step", 3)
    browser.until(lambda: at + 3 in board.steps)
    browser.press("record")
    browser.press("rate", " 0.5 ")
    browser.press("step", 1)
    browser.until(lambda: run.now["step"] == at + 4)
    assert run.now["lr"] == 0.5
    assert browser.press("rate", "fast")["error"].startswith("A learning rate must be a number such as 0.001")
    browser.press("rate", "")
    browser.press("pause")
    browser.until(lambda: run.status == "running" and run.now["step"] > at + 4)
    assert run.now["lr"] != 0.5
    browser.press("stop")
    run.wait(60)
    browser.until(lambda: words(board)["state"] == "stopped")
    assert set(words(board)["disabled"].values()) == {"the training has ended"}
    assert "this one is over" in browser.press("pause")["error"]


def test_a_thread_that_dies_is_told_on_the_board(live):
    watched, died = threading.Event(), []

    def on_step(step, loss):
        if watched.is_set():
            died.append(step)
            raise ZeroDivisionError("a mistake")

    _, browser = live(on_step=on_step)
    browser.until(lambda: len(browser.sent) > 2)  # the kinds of views are settled: what is new is sent, not begun anew
    watched.set()
    browser.until(lambda: any("ZeroDivisionError" in str(content) for _, content, _ in browser.sent))
    assert words(browser.board)["trouble"] == f"Failed at step {died[0]}: ZeroDivisionError: a mistake."
    assert words(browser.board)["state"] == "failed"


@pytest.mark.filterwarnings("ignore:The recorder is degraded")
def test_a_loss_that_is_not_finite_and_a_disk_that_refuses_are_told(live, monkeypatch):
    run, browser = live(learning_rate=1e30, min_lr=0.0, warmup_iters=0, grad_clip=0.0)
    browser.until(lambda: "The loss is not a finite number since step" in words(browser.board)["trouble"])
    assert ["train loss", "NaN", "nats"] in words(browser.board)["readouts"]

    def refuse(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gptviz.runs.writer.write_whole", refuse)
    run.pause().wait(60)
    run.step()
    browser.until(lambda: "The disk refuses what is recorded" in words(browser.board)["trouble"])
    monkeypatch.undo()


def test_another_text_is_looked_at_while_it_trains(live):
    _, browser = live()
    board = browser.board
    browser.until(lambda: len(board.steps) > 2)
    board._received(board, {"ask": "frame", "id": 1, "step": board.steps[-1], "text": "lazy dog"}, [])
    assert board.text == "lazy dog"
    assert "".join(board.views[1].labels["token"]) == "lazy·dog"
    before = len(board.steps)
    browser.until(lambda: len(board.steps) > before)
    assert board.text == "lazy dog"


def test_the_losses_are_the_same_with_a_board(data, live):
    calm = train(small(data, max_iters=40), progress=False)
    run, browser = live(max_iters=40)
    browser.until(lambda: not run.alive)
    assert run.metrics()["loss"].tobytes() == calm.metrics()["loss"].tobytes()
    assert all(run.weights()[name].tobytes() == value.tobytes() for name, value in calm.weights().items())
    calm.close()


def test_a_run_of_another_process_is_followed_and_can_be_stopped(tmp_path):
    code = ("from gptviz.training import TrainConfig, train; train(TrainConfig(task='sort', n_layer=1, n_head=1, "
            f"n_embd=8, max_iters=10**6, threads=1, out={str(tmp_path / 'run')!r}), progress=False)")
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "run" / "journal.jsonl").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        browser = Browser(watch(tmp_path / "run"))
        board = browser.board
        browser.until(lambda: len(board.steps) > 2 and len(words(board)["readouts"]) > 2)
        assert words(board)["disabled"]["pause"] == "it trains in another process"
        assert "recording" not in words(board)["cost"]
        browser.press("stop")
        browser.until(lambda: words(board)["state"] == "stopped")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_a_follower_sees_a_resumed_run_from_where_it_goes_on(data, tmp_path):
    config = small(data, max_iters=20, out=tmp_path / "run", record_steps=[0, 10, 20])
    run = train(config, progress=False)
    follower = Follower(run)
    follower.look()
    assert follower.curve("train")[0].tolist() == list(range(20))
    run.resume(step=10, max_iters=14, progress=False)
    assert follower.look().step == 14
    steps, values = follower.curve("train")
    assert steps.tolist() == list(range(14))
    assert values.tobytes() == open_run(run.path).metrics()["loss"][:14].tobytes()


def test_a_long_live_curve_keeps_its_extremes():
    steps, values = np.arange(50_000), np.sin(np.arange(50_000.0))
    values[777], values[1234] = 9.0, np.nan
    kept = drawn_points(values, CURVE_POINTS, most_odd=ODD_POINTS)
    at, shown = steps[kept], values[kept]
    assert len(at) <= CURVE_POINTS + 3
    assert 777 in at
    assert 1234 in at
    assert (at[0], at[-1]) == (0, 49_999)
    assert shown.max() != shown.max() or np.nanmax(shown) == 9.0


def test_words_of_the_controls():
    assert disabled_controls("paused", here=True) == {}
    assert disabled_controls("training", here=False)["rate"] == "it trains in another process"
    assert "stop" not in disabled_controls("training", here=False)
    assert readouts(3, 9, {}) == [("trained to step", "3", "of 9")]
    assert [short(value) for value in (np.inf, -np.inf, np.nan)] == ["∞", "−∞", "NaN"]
    assert controls_view("training", []).payload()["content"]["trouble"] == ""
