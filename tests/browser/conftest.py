"""A real Chromium and a real JupyterLab: what leaves the machine or complains in the console fails the test."""

import contextlib
import json
import math
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

playwright_api = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"]
LOOPBACK = {"127.0.0.1", "localhost", None, ""}


@pytest.fixture(scope="session")
def browser(chromium):
    with playwright_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def open_page(browser):
    """Open pages that must not fetch, complain or fail: `open_page(url, width=1400, scheme="light", offline=True)`."""
    contexts, wrong = [], []

    def open_one(url, *, width=1400, scheme="light", offline=True, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=offline,
                                      service_workers="block", **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: said.type == "error" and wrong.append(f"console: {said.text}"))
        page.on("pageerror", lambda error: wrong.append(f"uncaught: {error}"))
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

    def point_at(self, panel, words, near=(0, 0)):
        """Move the mouse over a panel, from a place (in shares of its size) outwards, until it says the words."""
        stage = self.stage(panel)
        stage.scroll_into_view_if_needed()
        box = stage.bounding_box()
        start = near[0] * box["width"], near[1] * box["height"]
        points = [(x, y) for y in range(5, int(box["height"]), 10) for x in range(5, int(box["width"]), 10)]
        for x, y in sorted(points, key=lambda at: math.dist(at, start)):
            self.page.mouse.move(box["x"] + x, box["y"] + y)
            self.settle()
            if words in self.says(panel):
                return
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


# --- JupyterLab ---------------------------------------------------------------------------------------------

SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none", "scrollPastEnd": False},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
PANEL = "window.jupyterapp?.shell?.currentWidget"


class Lab:
    """A running JupyterLab whose notebooks lie in `folder`."""

    def __init__(self, url: str, token: str, folder: Path):
        self.url, self.token, self.folder = url, token, folder

    def write(self, name: str, *cells: str) -> str:
        """A notebook of code cells; returns its address."""
        empty = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
        made = [empty | {"id": f"c{i}", "source": cell} for i, cell in enumerate(cells)]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
        (self.folder / name).write_text(json.dumps(notebook))
        return f"{self.url}/doc/tree/{name}?token={self.token}"

    @staticmethod
    def run_all(page) -> None:
        """Wait for the kernel, run all cells, and pass on a cell's error."""
        page.wait_for_function(f"() => {PANEL}?.sessionContext?.session?.kernel?.status === 'idle'", timeout=60_000)
        page.evaluate(f"async () => {{ await {PANEL}.context.ready; await {PANEL}.revealed; "
                      "await window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
        page.wait_for_function(f"() => {PANEL}.sessionContext.session.kernel.status === 'idle'", timeout=60_000)
        cells = page.evaluate(f"{PANEL}.content.model.toJSON().cells")
        errors = [output for cell in cells for output in cell.get("outputs", []) if output["output_type"] == "error"]
        assert errors == []


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """A JupyterLab on a free loopback port, stopped with its kernels at the end."""
    pytest.importorskip("jupyterlab", reason="needs jupyterlab")
    home = tmp_path_factory.mktemp("lab")
    folder = home / "notebooks"
    folder.mkdir()
    for name, value in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    here = Path(__file__).parent
    env = os.environ | {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "OMP_NUM_THREADS": "1",
                        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
                        "JUPYTER_CONFIG_DIR": str(home / "config"), "IPYTHONDIR": str(home / "ipython"),
                        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
                        "PYTHONPATH": os.pathsep.join([str(here.parent), str(here.parent.parent)])}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}",
               "--ServerApp.port_retries=0", "--allow-root", f"--IdentityProvider.token={token}",
               f"--ServerApp.root_dir={folder}", "--expose-app-in-browser", "--LabApp.extension_manager=readonly"]
    with (home / "server.log").open("w+") as log:
        server = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_for(f"http://127.0.0.1:{port}/api/status?token={token}", server, home / "server.log")
            yield Lab(f"http://127.0.0.1:{port}", token, folder)
        finally:
            server.terminate()  # a clean stop also stops the kernels
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(timeout=20)
            server.kill()
            server.wait()


def _wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            if server.poll() is not None:
                break
            time.sleep(0.1)
    raise RuntimeError("Jupyter did not start:\n" + log.read_text()[-3000:])
