"""Boards that come and go: a kernel in which a thousand were opened and closed holds no more than before."""

import gc
import json
import sys

import comm
import pytest
from browser import synthetic
from ipywidgets import Layout
from ipywidgets.widgets.widget import _instances

from gptviz.widgets import Board

CYCLES = """
import gc, json, sys
sys.path[:0] = {path!r}
import comm, psutil
from browser import synthetic
from IPython.display import display
from ipywidgets.widgets.widget import _instances
from gptviz.widgets import Board

views = synthetic.views(0, synthetic.story(18), 4, 4)

def cycle(times):
    for _ in range(times):
        board = Board(views, text="a")
        board.observe(print, "head")
        display(board)
        board.head = None
        board.close()

def held():
    gc.collect()
    return dict(widgets=len(_instances), comms=len(comm.get_comm_manager().comms), objects=len(gc.get_objects()),
                memory=psutil.Process().memory_info().rss)
"""
BATCH = 50  # boards of one cell: a kernel that says much at once drops what its reader is too slow for


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """A real IPython kernel: `run(code)` gives the messages that a notebook would have seen."""
    from jupyter_client.manager import start_new_kernel

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    manager, client = start_new_kernel(startup_timeout=300, kernel_name="python3")

    def run(code):
        seen = []
        reply = client.execute_interactive(code, timeout=600, output_hook=seen.append)
        assert reply["content"]["status"] == "ok", reply["content"]
        return [one for one in seen if one["msg_type"] not in ("status", "execute_input")]

    yield run
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_a_thousand_boards_leave_nothing_in_a_kernel(kernel):
    kernel(CYCLES.format(path=sys.path))

    def cycle(times):
        return [one for _ in range(times // BATCH) for one in kernel(f"cycle({BATCH})")]

    def held():
        return json.loads(kernel("print(json.dumps(held()))")[-1]["content"]["text"])

    cycle(100)  # what is made once
    before = held()
    messages = cycle(1000)
    after = held()
    assert (after["widgets"], after["comms"]) == (before["widgets"], before["comms"]) == (0, 0)
    assert after["objects"] - before["objects"] < 300  # one more for each board would be 1000
    assert after["memory"] - before["memory"] < 30e6  # a board sends 17 kB and holds as much again
    opened, closed = ({one["content"]["comm_id"] for one in messages if one["msg_type"] == kind}
                      for kind in ("comm_open", "comm_close"))
    assert len(opened) == 2000  # a board and its layout each
    assert opened == closed


def test_explored_models_keep_no_hook_and_no_board(fixed_seeds):
    from gptviz.dashboards import explore
    from gptviz.loading import load
    from gptviz.trace import record

    model, tokenizer = load("sorter")
    trace = record(model, "CBABBC", tokenizer)
    before = len(_instances), len(comm.get_comm_manager().comms)
    counts = []
    for _ in range(3):
        explore(trace, model, tokenizer).close()
        gc.collect()
        counts.append(sum(type(one) is Board for one in gc.get_objects()))
    assert (len(_instances), len(comm.get_comm_manager().comms)) == before
    assert counts[-1] <= counts[0]
    assert not any(point.heard for point in model.modules() if hasattr(point, "heard"))


def test_a_layout_of_the_readers_own_outlives_the_board():
    layout = Layout(width="50%")
    board = synthetic.board(8, 2, 2)
    own = board.layout
    Board(board.views, layout=layout).close()
    assert layout.comm is not None
    board.close()
    assert own.comm is None
    board.close()  # twice is no mistake
    layout.close()
