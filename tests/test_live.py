"""A board on a training under way: what it sends, what its buttons do, and that it costs the training nothing."""

import contextlib
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from gptviz import widgets
from gptviz.corpora import TextData
from gptviz.dashboards import watch
from gptviz.dashboards.live import CURVE_POINTS, LOOK_SECONDS, ODD_POINTS
from gptviz.runs import Follower, open_run
from gptviz.training import TrainConfig, train
from gptviz.views.controls import controls_view, disabled_controls, readouts, short
from gptviz.views.training import drawn_points

GROWING = ("events", "head_curves", "distributions", "training", "controls")  # views that belong to every step
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
        self.board, self.dead = board, dead
        self.sent: list[tuple[dict, int]] = []  # content, and bytes of the buffers
        self.painted: list[int] = []  # how many messages had been sent when a push was said to be painted
        self._asked = 0
        board.send = self.take

    def take(self, content, buffers=None):
        self.sent.append((content, sum(map(len, buffers or []))))

    def contents(self, since=0):
        return [content for content, _ in self.sent[since:]]

    def paint(self):
        pushes = [content["push"] for content in self.contents() if "push" in content]
        if pushes and not self.dead and len(pushes) > len(self.painted):
            self.painted += [len(self.sent)] * (len(pushes) - len(self.painted))
            self.board._received(self.board, {"ack": pushes[-1]}, [])

    def ask(self, what, **fields):
        """Asks for something and gives the answer: the follower may have sent news before or after it."""
        self._asked += 1
        self.board._received(self.board, {"ask": what, "id": str(self._asked), **fields}, [])
        return next(content for content in self.contents() if content.get("id") == str(self._asked))

    def press(self, name, value=None):
        return self.ask("act", name=name, value=value)

    def until(self, condition, seconds=300.0):
        """Waits; the board is looked at between two of its messages, never within one."""
        deadline = time.monotonic() + seconds
        while True:
            with self.board.turn:
                if condition():
                    return
            assert time.monotonic() < deadline, "it did not happen"
            self.paint()
            time.sleep(0.02)

    def settle(self, run):
        """Pauses the run at a recorded step and waits until the board has it: everything before it is then there."""
        assert run.pause().wait(60)
        last = run.now["step"] + 1
        run.step()
        self.until(lambda: last in self.board.steps)


def words(board):
    return board.fresh["controls"].content


def wait_for(condition, seconds=300.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def live(data):
    """A training in the background with a board and a browser; stopped at the end."""
    runs = []

    def start(dead=False, on_step=None, probe=0, **changes):
        runs.append(train(small(data, **changes), background=True, on_step=on_step))
        return runs[-1], Browser(watch(runs[-1], probe), dead)

    yield start
    for run in runs:
        with contextlib.suppress(RuntimeWarning):  # it may have ended
            run.stop()
        wait_for(lambda run=run: not run.alive)  # close() would not wait for a busy machine
        run.close()


def test_the_board_grows_with_the_run_and_follows_the_last_step(live):
    run, browser = live()
    board = browser.board
    browser.until(lambda: len(board.steps) > 4 and words(board)["state"] == "training")
    browser.settle(run)
    assert [view.kind for view in board.views] == [
        "attention", "tokens", *GROWING, "guesses", "film", "lens", "embeddings", "positions"]
    assert words(board)["state"] == "paused"
    assert board.steps == run.steps
    assert board.step == board.steps[-1]
    standing = Follower(run).look()
    assert words(board)["readouts"][0] == ["trained to step", str(standing.step), "of 1000000"]
    heads = board.views[0].arrays["pattern"]
    assert heads.tobytes() == run.snapshot(board.step).pattern.tobytes()


def test_a_board_that_began_with_one_step_gets_a_slider_with_the_second(data):
    shown = threading.Event()
    run = train(small(data, record_steps=[0, 1, 10**6]), background=True, on_step=lambda *_: shown.wait(60))
    try:
        wait_for(lambda: run.steps == [0])
        browser = Browser(watch(run))
        board = browser.board
        assert board.steps == [0]
        shown.set()
        browser.until(lambda: len(board.steps) == 2)
        assert (board._payload["steps"], board._payload["selection"]["step"]) == ([0, 1], 1)
    finally:
        shown.set()
        run.close()


def test_what_grows_is_sent_only_when_something_was_recorded(live):
    run, browser = live(record_steps=[0, 10, 10**6])
    board = browser.board

    def curves(content):
        return [view for view in content.get("fresh", ()) if view["kind"] == "head_curves"]

    browser.until(lambda: "head_curves" in board.fresh and board.fresh["head_curves"].arrays["steps_0"][-1] == 10
                  and board.steps == [0, 10] and board._waiting is None)
    before = len(browser.sent)
    browser.until(lambda: sum("fresh" in content for content in browser.contents(before)) > 2)  # of losses and controls
    assert not any(map(curves, browser.contents(before)))
    before = len(browser.sent)
    browser.settle(run)
    browser.until(lambda: any(map(curves, browser.contents(before))))
    assert board.fresh["head_curves"].arrays["steps_0"].tolist() == run.steps == board.steps
    assert len(run.steps) == 3


def test_lens_and_embeddings_of_the_probe_are_those_of_the_shown_step(live):
    run, browser = live()
    board = browser.board
    browser.until(lambda: len(board.steps) > 5)
    browser.settle(run)
    for step in (board.steps[0], board.steps[-1]):
        answer = browser.ask("detail", kind="lens", step=step, text=board.text, at={"rows": 0})
        top = answer["detail"]["arrays"]["top_probs"]
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
    browser.settle(run)
    guesses = next(view for view in board.source(board.steps[-1], board.text) if view.kind == "guesses")
    assert guesses.content["steps"] == run.steps
    assert guesses.content["judge"] == "task sort"
    top = run.snapshot(run.steps[-1]).top_ids[5:11, 0]
    shown = np.array(guesses.labels["word"])[guesses.arrays["guess"][-1]]
    assert shown.tolist() == [run.tokenizer.visible(int(token)) for token in top]


def test_another_text_takes_the_probes_place_and_moves_with_the_steps(live):
    run, browser = live()
    board = browser.board
    browser.until(lambda: len(board.steps) > 3 and set(board.fresh) == set(GROWING))

    def ask(step, text):
        return browser.ask("frame", step=step, text=text)["frame"]

    frame, early = ask(board.steps[0], "lazy dog"), board.views[1].arrays["loss"]
    assert board.text == "lazy dog"
    kinds = [None if view is None else view["kind"] for view in frame["views"]]
    assert kinds == ["attention", "tokens", None, None, None, None, None, "next", "lens", "writes"]
    ask(board.steps[-1], "lazy dog")
    assert not np.array_equal(board.views[1].arrays["loss"], early, equal_nan=True)
    before = len(board.steps)
    browser.until(lambda: len(board.steps) > before)
    assert not [content for content in browser.contents() if content.get("frame", {}).get("text") not in
                (None, "lazy dog", run.probes[0])]
    newest = board.steps[-1]
    assert ask(newest, "lazy dog")["step"] == newest
    grown = browser.press("continue", {"ids": [0, 1], "at": "root", "steps": 1})
    assert "tree" in grown["options"]


def test_a_page_of_a_live_board_has_its_newest_curves(live):
    run, browser = live()
    board = browser.board
    browser.until(lambda: len(board.steps) > 4)
    browser.settle(run)
    page = board.payload(budget=3_000_000)
    curve = next(view for view in page["views"] if view["kind"] == "training")
    assert curve["arrays"]["steps_0"]["data"] == board.fresh["training"].arrays["steps_0"].tobytes()
    assert next(view for view in page["views"] if view["kind"] == "controls")["content"]["state"] == "paused"
    assert all(one["views"][5] is None for one in page["frames"])


def test_what_is_saved_when_the_training_has_ended_shows_its_end(data, monkeypatch):
    monkeypatch.setattr("gptviz.dashboards.live.LOOK_SECONDS", 30.0)  # a script saves before the follower looks again
    run = train(small(data, max_iters=30), background=True)
    board = watch(run)
    run.wait()
    page = board.payload()
    controls = next(view for view in page["views"] if view["kind"] == "controls")
    assert controls["content"]["state"] == "finished"
    assert page["steps"][-1] == page["selection"]["step"] == 30
    board.close()


def test_messages_are_few_small_and_acknowledged(live, monkeypatch):
    looks, look = [], Follower.look

    def timed(follower):
        looks.append((follower.run, time.monotonic()))
        return look(follower)

    monkeypatch.setattr(Follower, "look", timed)
    run, browser = live()
    browser.until(lambda: sum("push" in content for content in browser.contents()) > 8)
    run.close()
    sent = [(place, content["push"]) for place, content in enumerate(browser.contents()) if "push" in content]
    painted = [place >= shown for (place, _), shown in zip(sent[1:], browser.painted, strict=False)]
    patient = np.diff([at for _, at in sent]) >= widgets.PATIENCE
    assert np.all(painted | patient[: len(painted)])
    times = [at for looked_at, at in looks if looked_at is run]  # boards of earlier tests may look a last time
    assert len(sent) <= len(times)
    assert min(np.diff(times)) > 0.99 * LOOK_SECONDS  # a busy machine makes pauses longer, never shorter
    assert max(size for _, size in browser.sent) <= 300_000


def test_a_browser_that_never_answers_gets_a_message_every_two_seconds_at_most(live):
    run, browser = live(dead=True)
    browser.until(lambda: len(browser.sent) > 2)
    assert run.now["step"] > 0
    assert min(np.diff([content["push"] for content in browser.contents()])) >= widgets.PATIENCE


def test_a_reader_who_looks_back_is_not_pulled_forward(live):
    _, browser = live()
    board = browser.board
    board._received(board, {"ask": "hello"}, [])  # from here on only the reader moves
    browser.until(lambda: len(board.steps) > 3)
    board.step = 1
    before = len(board.steps)
    browser.until(lambda: len(board.steps) > before)
    assert board.step == 1
    with board.turn:  # or another step may be recorded in between
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
    browser.until(lambda: len(browser.board.steps) > 1 and set(browser.board.fresh) == set(GROWING))
    watched.set()  # the kinds of views are settled: what is new is sent, and not begun anew
    browser.until(lambda: any("ZeroDivisionError" in str(content) for content in browser.contents()))
    assert words(browser.board)["trouble"] == f"Failed at step {died[0]}: ZeroDivisionError: a mistake."
    assert words(browser.board)["state"] == "failed"


@pytest.mark.filterwarnings("ignore:The recorder is degraded")
def test_a_loss_that_is_not_finite_and_a_disk_that_refuses_are_told(live, monkeypatch):
    run, browser = live(learning_rate=1e30, min_lr=0.0, warmup_iters=0, grad_clip=0.0)
    browser.until(lambda: "The loss is not a finite number since step" in words(browser.board)["trouble"]
                  and ["train loss", "NaN", "nats"] in words(browser.board)["readouts"])

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
    browser.ask("frame", step=board.steps[-1], text="lazy dog")
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
        wait_for((tmp_path / "run" / "journal.jsonl").exists)
        browser = Browser(watch(tmp_path / "run"))
        board = browser.board
        browser.until(lambda: len(board.steps) > 2 and len(words(board)["readouts"]) > 2)
        assert words(board)["disabled"]["pause"] == "it trains in another process"
        assert "recording" not in words(board)["cost"]
        browser.press("stop")
        browser.until(lambda: words(board)["state"] == "stopped")
        assert process.wait(300) == 0
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
