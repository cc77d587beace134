import itertools
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import traitlets
from browser import synthetic
from ipywidgets import HBox, VBox, jslink

from gptviz.views import View, attention_view, training_view
from gptviz.widgets import Board


class Wire:
    """A board whose messages to the browser are kept: the transport is replaced, nothing of the board's."""

    def __init__(self, board: Board):
        self.board, self.sent = board, []
        board.send = lambda content, buffers=None: self.sent.append((content, buffers or []))

    def ask(self, **content):
        self.board._handle_custom_msg(content, [])
        return self.sent[-1] if self.sent else None


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock of the boards by which a test takes no time: on a busy machine their patience might end in the midst."""
    ticks = itertools.count(1000)
    monkeypatch.setattr("gptviz.widgets.time", SimpleNamespace(monotonic=lambda: next(ticks) / 1e6 + 1000))


@pytest.fixture
def wire():
    return Wire(synthetic.board(8, 2, 2))


def test_traits_are_observed_and_linked():
    board, other, seen = synthetic.board(8, 2, 2), synthetic.board(8, 2, 2), []
    board.observe(lambda change: seen.append((change.name, change.new)), ["layer", "head", "step"])
    traitlets.link((board, "head"), (other, "head"))
    board.layer, board.head, board.step = 1, 1, 400
    assert seen == [("layer", 1), ("head", 1), ("step", 400)]
    assert other.head == 1
    assert jslink((board, "step"), (other, "step")).source[1] == "step"


def test_board_sits_in_boxes():
    board = synthetic.board(8, 2, 2)
    assert HBox([VBox([board])]).children[0].children[0] is board


@pytest.mark.parametrize(("name", "value", "message"), [
    ("layer", 2, r"layer must be 0\.\.1, or None for no choice; it is 2"),
    ("head", -1, r"head must be 0\.\.1"),
    ("query", 8, r"query must be 0\.\.7"),
    ("step", 3, "Step 3 is not recorded; the nearest recorded step is 2"),
])
def test_choices_outside_are_refused(name, value, message):
    with pytest.raises(traitlets.TraitError, match=message):
        setattr(synthetic.board(8, 2, 2), name, value)


def test_construction_errors():
    view = attention_view(np.ones((1, 1, 1, 1), np.float32), ["a"])
    with pytest.raises(ValueError, match="at least one View"):
        Board([])
    with pytest.raises(TypeError, match="it was given str"):
        Board(["heads"])
    with pytest.raises(ValueError, match=r"need a source\(step, text\)"):
        Board([view], steps=[0, 1])
    with pytest.raises(ValueError, match="need a source"):
        Board([view], editable=True)


def test_browser_asks_for_a_frame(wire):
    content, buffers = wire.ask(ask="frame", step=400, text=wire.board.text, id="x-1")
    assert content["id"] == "x-1"
    assert content["frame"]["step"] == 400
    pattern = content["frame"]["views"][0]["arrays"]["pattern"]
    sent = np.frombuffer(buffers[pattern["data"]["buffer"]], "<f4").reshape(pattern["shape"])
    expected = synthetic.views(400, synthetic.story(8), 2, 2)[0].arrays["pattern"]
    np.testing.assert_array_equal(sent, expected)


def test_another_text_is_computed_and_shown(wire):
    wire.board.query = 7
    content, _ = wire.ask(ask="frame", step=400, text="abc", id="x-1")
    assert content["frame"]["views"][0]["labels"]["token"] == ["a", "b", "c"]
    assert (wire.board.text, wire.board.query) == ("abc", None)


def test_a_text_that_does_not_fit_is_a_sentence_and_changes_nothing(wire):
    before = wire.board.text
    content, _ = wire.ask(ask="frame", step=400, text="a" * 300, id="x-1")
    assert "reads at most 200 (block_size)" in content["error"]
    assert wire.board.text == before


def test_board_without_source_says_so():
    wire = Wire(Board([attention_view(np.ones((1, 1, 1, 1), np.float32), ["a"])]))
    assert "shows one step of one text" in wire.ask(ask="frame", step=0, text="b", id="1")[0]["error"]


def test_a_mistake_of_ours_is_answered_too(wire, capsys):
    def mistaken(step, text):
        raise KeyError("no such thing")

    wire.board.source = mistaken
    error = wire.ask(ask="frame", step=1, text=wire.board.text, id="1")[0]["error"]
    assert "gptviz made a mistake: KeyError: \"'no such thing'\". Please report it" in error
    assert "mistaken" in capsys.readouterr().err  # the traceback


def test_hello_says_whether_text_can_be_edited(wire):
    assert wire.ask(ask="hello")[0] == {"hello": True, "editable": True}


def test_latest_push_wins_and_waits_for_the_paint(wire):
    for step in (0, 1, 2):
        wire.board.show(synthetic.views(step, synthetic.story(8), 2, 2), step=step)
    assert [content["frame"]["step"] for content, _ in wire.sent] == [0]
    wire.ask(ack=wire.sent[-1][0]["push"])
    assert [content["frame"]["step"] for content, _ in wire.sent] == [0, 2]
    wire.ask(ack=2)
    assert len(wire.sent) == 2


def test_a_browser_that_never_answers_does_not_stop_the_next_push(wire, monkeypatch):
    wire.board.show(wire.board.views, step=0)
    wire.board._pushed -= 3  # three seconds later
    wire.board.show(wire.board.views, step=1)
    assert len(wire.sent) == 2


def test_a_board_that_begins_anew_forgets_what_waited(wire):
    for step in (0, 1):
        wire.board.show(synthetic.views(step, synthetic.story(8), 2, 2), step=step, steps=[0, 1])
    wire.board.begin(synthetic.views(2, synthetic.story(8), 2, 2)[:2], step=2, steps=[0, 1, 2])
    wire.ask(ack=wire.sent[-1][0]["push"])
    assert [content["frame"]["step"] for content, _ in wire.sent] == [0]
    wire.board.show(synthetic.views(2, synthetic.story(8), 2, 2)[:2], step=2)  # that one is free to go at once
    assert wire.sent[-1][0]["frame"]["step"] == 2


def test_a_frame_that_waits_does_not_follow_another_text(wire):
    board, probe = wire.board, wire.board.text
    for step in (0, 1):
        board.show(synthetic.views(step, synthetic.story(8), 2, 2), step=step, steps=[*board.steps, 5000 + step])
    push = wire.sent[-1][0]["push"]
    wire.ask(ask="frame", step=board.steps[0], text="abc", id="x-1")
    wire.ask(ack=push)
    assert [content["frame"]["text"] for content, _ in wire.sent if "frame" in content] == [probe, "abc"]
    assert wire.sent[-1][0]["steps"][-1] == 5001  # the news beside the frame came


def test_a_display_that_begins_anew_has_no_frame_of_the_payload_before(wire):
    for step in (0, 1):
        wire.board.show(synthetic.views(step, synthetic.story(8), 2, 2), step=step)
    wire.board.step = 400
    wire.board._begin_here()
    wire.ask(ack=wire.sent[-1][0]["push"])
    assert [content["frame"]["step"] for content, _ in wire.sent] == [0]


def growing_board():
    """A board as of a training: a curve belongs to every step, and a text view is the same object until it changes."""
    heads, lasting, curve = synthetic.views(0, synthetic.story(8), 2, 2)
    now = {"lasting": lasting}

    def source(step, text):
        return board.with_fresh([synthetic.views(step, synthetic.story(8), 2, 2)[0], now["lasting"]])

    board = Board([heads, lasting, curve], steps=[0, 1], step=0, source=source, text="".join(synthetic.story(8)))
    board.fresh = {"training": curve}
    return board, now


def test_a_page_leaves_what_a_frame_may_leave_out_to_the_browser_as_it_was():
    board, now = growing_board()
    wire = Wire(board)
    _, now["lasting"], curve = synthetic.views(700, synthetic.story(8), 2, 2)
    board.show(board.source(0, board.text)[:2], step=0, steps=[0, 1, 2], fresh=[curve])
    page = board.payload()
    assert page["views"][2]["arrays"]["steps_0"]["data"] == curve.arrays["steps_0"].tobytes()
    for step in (0, 1, 2):
        content, _ = wire.ask(ask="frame", step=step, text=board.text, id="x-1")
        sent = content["frame"]["views"]
        assert sent[0] is not None
        left_out = [i for i, view in enumerate(sent) if view is None]
        assert all(board.views[i].payload() == board._payload["views"][i] for i in left_out)


def free(lock):
    """Whether another thread could have a lock now."""
    got = []

    def take():
        got.append(lock.acquire(blocking=False))
        if got[0]:
            lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return got[0]


def test_a_greeting_and_a_page_are_made_in_turn(monkeypatch):
    board, _ = growing_board()
    source, seen = board.source, []
    board.source = lambda step, text: seen.append(free(board.turn)) or source(step, text)
    board.send = lambda content, buffers=None: seen.append(free(board.turn))
    assert free(board.turn)
    board._handle_custom_msg({"ask": "hello"}, [])
    board.payload()
    assert seen == [False] * 3  # the greeting, and the frames of two steps
    assert free(board.turn)


def test_page_payload_is_thinned_to_a_budget_and_says_so():
    board = synthetic.board(8, 2, 2, step=700)
    size = sum(view.nbytes for view in board.views)
    payload = board.payload(budget=6 * size)
    assert payload["steps"][0] == 0
    assert payload["steps"][-1] == 3000
    assert 700 in payload["steps"]
    assert payload["note"] == f"{len(payload['frames'])} of 17 steps, evenly in their order, to keep the page small"
    assert len(board.payload()["frames"]) == 17


def test_what_stands_still_is_counted_once_and_leaves_the_frames_their_room():
    """A page of many steps holds a curve once, however large it is: all steps fit beside it."""
    board = synthetic.board(8, 2, 2)
    curve = next(view for view in board.views if view.kind == "training")
    moving = sum(view.nbytes for view in board.views if view is not curve)
    steps = np.arange(20 * moving // 8)
    large = training_view({"train": (steps, np.ones(len(steps)))})
    source = board.source
    board.source = lambda step, text: [large if view.kind == "training" else view for view in source(step, text)]
    board.views = board.source(board.step, board.text)
    page = board.payload(budget=int((large.nbytes + 20 * moving) * 4 / 3))
    assert len(page["frames"]) == 17
    assert "note" not in page


def test_frames_of_a_page_whose_time_is_over_keep_the_first_detail_only(monkeypatch):
    monkeypatch.setattr("gptviz.widgets.PAGE_SECONDS", 0.0)
    monkeypatch.setattr("gptviz.views.attention.WHOLE", 10)  # heads are details
    board = synthetic.board(8, 2, 2, layer=1, head=0)
    details = [frame["views"][0]["details"] for frame in board.payload()["frames"]]
    assert len(details) == 17
    assert all(list(one) == ["1,0,0"] for one in details)


@pytest.mark.parametrize(("query", "first"), [(None, 68), (0, 0), (20, 0), (31, 0), (32, 16), (60, 44), (99, 68)])
def test_a_page_begins_with_the_rows_of_the_window_that_the_browser_opens(query, first, monkeypatch):
    monkeypatch.setattr("gptviz.views.attention.WHOLE", 10)
    monkeypatch.setattr("gptviz.views.attention.CHUNK", 100)
    monkeypatch.setattr("gptviz.views.attention.MARGIN", 0)  # one row to a block: the page says exactly where it began
    words = [str(at) for at in range(100)]
    pattern = np.tril(np.ones((1, 1, 100, 100), np.float32)) / np.arange(1, 101, dtype=np.float32)[:, None]
    payload = Board([attention_view(pattern, words)], query=query).payload()
    assert next(iter(payload["views"][0]["details"])) == f"0,0,{first}"


def pairs_view(n: int) -> View:
    """A view with a detail for each pair of tokens, of which a page holds one."""
    nothing = View("pairs", "Pairs, all", "", {"one": np.zeros(1, np.float32)}, {"one": ("one",)})
    return View("pairs", "Pairs, all", "", {}, {}, detail=lambda at: nothing, detail_axes=("query", "key"),
                detail_places=(range(n), range(n)), kept_details=1)


@pytest.mark.parametrize(("n", "pairs"), [(20, "400"), (2000, "4\u2009000\u2009000")])  # of 2000 the heads are details
@pytest.mark.parametrize(("chosen", "place"), [({}, "last,7"), ({"query": 9}, "9,7"), ({"query": 3, "key": 1}, "3,1"),
                                               ({"head": 1}, "last,0")])
def test_a_page_holds_the_pair_that_the_browser_looks_at_first(chosen, place, n, pairs):
    pattern = np.tril(np.full((1, 2, n, n), 0.5 / n, np.float32))
    pattern[0, 0, 8:, 7] = 0.5
    board = Board([attention_view(pattern, [str(at) for at in range(n)]), pairs_view(n)], **chosen)
    payload = board.payload()
    assert list(payload["views"][1]["details"]) == [place.replace("last", str(n - 1))]
    assert f"‘Pairs, all’ for 1 of {pairs} pairs of tokens" in payload["note"]
    assert payload["note"].endswith("; the notebook has the others")


def test_a_page_holds_the_text_chosen_in_python_in_every_view():
    board = synthetic.board(8, 2, 2)
    board.text = "abc"
    payload = board.payload()
    tokens = [view["labels"]["token"] for view in payload["views"] if "token" in view["labels"]]
    assert payload["text"] == "abc"
    assert tokens
    assert all(shown == ["a", "b", "c"] for shown in tokens)


def test_saved_picture_is_an_output_of_its_own(capsys, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *objects, **how: shown.append((objects, how)))
    board = synthetic.board(8, 2, 2, picture=lambda: b"\x89PNG" + bytes(100))
    board._ipython_display_()
    assert "application/vnd.jupyter.widget-view+json" in shown[0][0][0]
    assert shown[1][0][0].data.startswith(b"\x89PNG")
    assert len(board._picture) == 96


def test_a_display_begins_at_the_step_and_text_chosen_before_it(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *objects, **how: shown.append(objects))
    board = synthetic.board(8, 2, 2, picture=lambda: board.views[0].arrays["pattern"].tobytes())
    board.step = 0
    board._ipython_display_()
    expected = synthetic.views(0, synthetic.story(8), 2, 2)[0].arrays["pattern"].tobytes()
    assert board._payload["selection"]["step"] == 0
    assert board._payload["views"][0]["arrays"]["pattern"]["data"] == expected
    assert shown[1][0].data == expected
    Wire(board).ask(ask="frame", step=0, text="abc", id="x-1")
    board._ipython_display_()
    assert board._payload["text"] == "abc"
    assert board._payload["views"][0]["labels"]["token"] == ["a", "b", "c"]


def test_views_are_numpy_only():
    assert all(isinstance(view, View) for view in synthetic.board(8, 2, 2).views)


def test_the_invented_numbers_of_a_board_do_not_contradict_each_other():
    """What was expected, how surprising the token was and its rank are one distribution's at every step."""
    tokens = synthetic.story(18)
    for step in (0, 400, 3000):
        text = synthetic.views(step, tokens, 1, 1)[1]
        words, ids, probs = text.labels["word"], text.arrays["top_words"], text.arrays["top_probs"]
        assert (np.diff(probs) <= 0).all()
        for at, token in enumerate(tokens[1:]):
            rank, p = int(text.arrays["rank"][at + 1]), float(np.exp(-text.arrays["loss"][at + 1]))
            named = [words[one] for one in ids[at]]
            assert 1 <= rank <= len(synthetic.WORDS)
            assert (token in named) == (rank <= len(named))
            if token in named:
                assert rank == named.index(token) + 1
                assert p == pytest.approx(float(probs[at, rank - 1]), abs=1e-6)
            else:
                assert p <= probs[at, -1]
    assert "INVENTED NUMBERS, to show the layout" in synthetic.board(8, 2, 2)._payload["facts"]


def test_the_contact_sheet_draws_numbers_of_models_only():
    sheet = Path(synthetic.__file__).with_name("contact_sheet.py").read_text()
    assert "synthetic" not in sheet
