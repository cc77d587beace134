"""A real Chromium, and real notebook servers: what leaves the machine or complains in the console fails the test."""

import math
import time
from urllib.parse import urlsplit

import pytest

from browser.servers import running_jupyter

playwright_api = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"]
PATIENCE = 300  # seconds for anything to happen: what is well takes a part of one, and a busy machine is no error
LOOPBACK = {"127.0.0.1", "localhost", None, ""}


@pytest.fixture(scope="session")
def browser(chromium):
    with playwright_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=FLAGS, timeout=1000 * PATIENCE)
        yield running
        running.close()


@pytest.fixture
def open_page(browser):
    """Open pages that must not fetch, complain or fail: `open_page(url, width=1400, scheme="light", offline=True)`.

    `but` are words of complaints that the page's server is known for.
    """
    contexts, wrong = [], []

    def open_one(url, *, width=1400, scheme="light", offline=True, but=(), **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=offline,
                                      service_workers="block", **options)
        contexts.append(context)
        context.set_default_timeout(1000 * PATIENCE)
        page = context.new_page()

        def complain(words):
            if not any(known in words for known in but):
                wrong.append(words)

        page.on("console", lambda said: said.type == "error" and complain(f"console: {said.text}"))
        page.on("pageerror", lambda error: complain(f"uncaught: {error}"))
        page.on("request", lambda request: _outside(request.url) and wrong.append(f"request: {request.url}"))
        page.goto(url)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert wrong == []


def _outside(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in LOOPBACK


class Reader:
    """A person in front of a board: looks at panels, moves a mouse, presses keys."""

    def __init__(self, page, root=""):
        self.page, self.root = page, root
        page.wait_for_selector(f"{root} .gv-board[data-drawn]".strip())

    def stage(self, panel):
        return self.page.locator(f"{self.root} .gv-panel-{panel} .gv-stage".strip()).first

    def says(self, panel):
        return self.stage(panel).get_attribute("aria-label")

    def title(self, panel):
        return self.page.locator(f"{self.root} .gv-panel-{panel} .gv-heading".strip()).first.inner_text()

    def settle(self):
        """Two frames: one to draw, one to be sure."""
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def until(self, condition, what="it did not happen"):
        """Wait for something that the page, its kernel or both of them do."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, what() if callable(what) else what
            self.page.wait_for_timeout(50)

    def point_at(self, panel, words, near=(0, 0)):
        """Move the mouse over a panel, from a place (in shares of its size) outwards, until it says words: where."""
        stage = self.stage(panel)
        stage.scroll_into_view_if_needed()
        box = stage.bounding_box()
        start = near[0] * box["width"], near[1] * box["height"]
        points = [(x, y) for y in range(5, int(box["height"]), 10) for x in range(5, int(box["width"]), 10)]

        def late(at):  # every third point of every third row is tried from further away: most targets are not tiny
            return math.dist(at, start) * (1 if at[0] % 30 == at[1] % 30 == 5 else 3)

        for x, y in sorted(points, key=late):
            self.page.mouse.move(box["x"] + x, box["y"] + y)
            self.settle()
            if words in self.says(panel):
                return box["x"] + x, box["y"] + y
        raise AssertionError(f"no point of {panel} says {words!r}; the last said {self.says(panel)!r}")

    def click(self):
        self.page.mouse.down()
        self.page.mouse.up()
        self.settle()

    def press(self, panel, key):
        self.stage(panel).focus()
        self.page.keyboard.press(key)
        self.settle()

    def slider(self):
        return self.page.locator(f"{self.root} .gv-steps .gv-stage".strip()).first

    def step(self):
        return int(self.slider().get_attribute("aria-valuenow"))

    def picture(self, panel):
        """The pixels of a panel's two canvases."""
        return self.stage(panel).evaluate("el => [...el.querySelectorAll('canvas')].map(c => c.toDataURL()).join(' ')")


@pytest.fixture
def reader():
    return Reader


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """A JupyterLab on a free loopback port, stopped with its kernels at the end."""
    pytest.importorskip("jupyterlab", reason="needs jupyterlab")
    with running_jupyter(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """The same of Notebook 7."""
    pytest.importorskip("notebook", reason="needs notebook")
    with running_jupyter(tmp_path_factory.mktemp("notebook"), app="notebook") as server:
        yield server
