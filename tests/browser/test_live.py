"""A training in a real JupyterLab: a reader pauses it, steps it, goes on and stops it while it trains."""

import json

import playwright.sync_api
import pytest

pytestmark = pytest.mark.browser

TRAIN = """
import json, pathlib, threading, time
import gptviz as gv
run = gv.train(gv.TrainConfig(task="sort", n_layer=2, n_head=2, n_embd=32, max_iters=10**6, lr_decay_iters=2000,
                              threads=1), background=True)
def note():
    while True:
        standing = {"status": run.status, "step": run.now.get("step", 0), "steps": run.steps, "lr": run.now.get("lr")}
        pathlib.Path("live.tmp").write_text(json.dumps(standing))
        pathlib.Path("live.tmp").rename("live.json")
        time.sleep(0.05)
threading.Thread(target=note, daemon=True).start()
board = gv.watch(run)
board
"""

# A machine under load: what a text needs takes longer than steps are apart; and the page begins anew while one types.
SLOW = TRAIN.replace("live.", "text.") + """
quick, probe = board.source, board.text
def slowly(step, text):
    if text != probe:
        time.sleep(2.5)
    return quick(step, text)
board.source = slowly
def begin():
    while not pathlib.Path("begin").exists():
        time.sleep(0.05)
    with board.turn:
        board.begin(quick(board.steps[-1], probe), step=board.steps[-1], steps=board.steps)
threading.Thread(target=begin, daemon=True).start()
board
"""


class Kernel:
    """What the kernel says of its run, a few times a second."""

    def __init__(self, lab, board, name="live"):
        self.path, self.board = lab.folder / f"{name}.json", board

    def now(self):
        return json.loads(self.path.read_text()) if self.path.exists() else {"status": "", "step": 0, "steps": []}

    def until(self, condition, what):
        said = []
        self.board.until(lambda: condition(said.append(self.now()) or said[-1]), lambda: f"{what}; it has {said[-1]}")
        return said[-1]


def press(page, name):
    page.locator(f".gv-panel-controls button[data-name={name}]").click()


def says(page, words):
    page.wait_for_function("words => document.querySelector('.gv-panel-controls .gv-stage')"
                           "?.getAttribute('aria-label')?.includes(words)", arg=words)


def appears(page, selector):
    try:
        page.wait_for_selector(selector)
    except playwright.sync_api.TimeoutError:
        board = page.locator(".gv-board").first
        raise AssertionError(f"{selector} did not appear; the board is {board.get_attribute('class')}, its field holds "
                             f"{page.locator('.gv-text').input_value()!r}, and it says: {board.inner_text()}") from None


def test_a_reader_pauses_steps_resumes_and_stops_a_training(lab, open_page, reader):
    page = open_page(lab.write("live.ipynb", TRAIN), offline=False)
    lab.run_all(page)  # the cell has returned although the training goes on
    board = reader(page, ".jp-OutputArea")
    kernel = Kernel(lab, board)
    kernel.until(lambda now: len(now["steps"]) > 3, "it does not train")
    page.wait_for_selector(".gv-panel-heads")
    says(page, "training")
    assert page.locator(".gv-panel-controls button[data-name=step]").is_disabled()
    assert page.get_by_text("Pause to step by hand").first.is_visible()
    before = board.step()
    page.wait_for_function("step => Number(document.querySelector('.gv-steps .gv-stage')"
                           "?.getAttribute('aria-valuenow')) > step", arg=before)

    press(page, "pause")
    at = kernel.until(lambda now: now["status"] == "paused", "it was not paused")["step"]
    says(page, "paused")
    press(page, "step")
    kernel.until(lambda now: now["step"] == at + 1 and at + 1 in now["steps"], "it was not stepped")
    page.wait_for_function("step => document.querySelector('.gv-steps .gv-stage')"
                           "?.getAttribute('aria-valuenow') === String(step)", arg=at + 1)
    field = page.locator(".gv-panel-controls input[data-name=rate]")
    field.fill("0.25")
    field.press("Enter")
    page.locator(".gv-panel-controls button[data-name=tens]").focus()
    page.keyboard.press("Enter")
    assert kernel.until(lambda now: now["step"] == at + 11, "ten steps were not done")["lr"] == 0.25

    board.slider().focus()
    page.keyboard.press("Home")
    page.locator(".gv-panel-controls button[data-name=follow]").wait_for()
    press(page, "pause")  # now it says Resume
    kernel.until(lambda now: now["status"] == "running" and now["step"] > at + 11, "it did not go on")
    assert board.step() == 0  # who looks back is not pulled forward
    press(page, "follow")
    page.wait_for_function("document.querySelector('.gv-steps .gv-stage')?.getAttribute('aria-valuenow') !== '0'")
    press(page, "stop")
    kernel.until(lambda now: now["status"] == "stopped", "it was not stopped")
    says(page, "stopped")
    assert page.locator(".gv-panel-controls button[data-name=pause]").is_disabled()


def test_another_text_takes_the_probes_place_while_it_trains(lab, open_page, reader):
    page = open_page(lab.write("text.ipynb", SLOW), offline=False)
    lab.run_all(page)  # the kernel of another notebook goes on noting into its own file
    board = reader(page, ".jp-OutputArea")
    kernel = Kernel(lab, board, "text")
    kernel.until(lambda now: len(now["steps"]) > 3 and now["status"] == "running", "it does not train")
    page.wait_for_selector(".gv-panel-curves")
    page.wait_for_function("() => document.querySelector('.gv-panel-lens .gv-stage')?.getAttribute('aria-label')"
                           "?.includes('Entropy')")  # of the probe, from the weights of the step
    field = page.locator(".gv-text")
    field.fill("CABBAC")
    old = field.element_handle()
    (lab.folder / "begin").touch()
    page.wait_for_function("old => !old.isConnected", arg=old)
    assert field.input_value() == "CABBAC"  # what is typed stays, and the caret in it
    page.keyboard.press("Enter")
    appears(page, ".gv-panel-writes")
    before = board.step()
    page.wait_for_function("step => Number(document.querySelector('.gv-steps .gv-stage')"
                           "?.getAttribute('aria-valuenow')) > step", arg=before)
    assert page.locator(".gv-count").first.inner_text().startswith("6 of")
    press(page, "stop")
    kernel.until(lambda now: now["status"] == "stopped", "it was not stopped")


DIE = """
import threading
import gptviz as gv
watched = threading.Event()
def on_step(step, loss):
    if step == 20:
        watched.wait()
        raise ZeroDivisionError("a mistake")
run = gv.train(gv.TrainConfig(task="sort", n_layer=1, n_head=1, n_embd=8, max_iters=100, threads=1), background=True,
               on_step=on_step)
board = gv.watch(run)
watched.set()
board
"""


def test_a_training_that_dies_says_so_on_the_board(lab, open_page, reader):
    page = open_page(lab.write("die.ipynb", DIE), offline=False)
    lab.run_all(page)
    reader(page, ".jp-OutputArea")
    says(page, "Failed at step 20: ZeroDivisionError: a mistake.")
