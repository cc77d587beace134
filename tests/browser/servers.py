"""Notebook servers on loopback ports of their own, with settings of their own, stopped with their kernels."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none", "scrollPastEnd": False},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
PANEL = "window.jupyterapp?.shell?.currentWidget"


class Lab:
    """A running JupyterLab, or Notebook 7, whose notebooks lie in `folder`."""

    def __init__(self, url: str, token: str, folder: Path, tree: str = "doc/tree"):
        self.url, self.token, self.folder, self.tree = url, token, folder, tree

    def write(self, name: str, *cells: str) -> str:
        """A notebook of code cells; returns its address."""
        empty = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
        made = [empty | {"id": f"c{i}", "source": cell} for i, cell in enumerate(cells)]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
        (self.folder / name).write_text(json.dumps(notebook))
        return self.address(name)

    def address(self, name: str) -> str:
        return f"{self.url}/{self.tree}/{name}?token={self.token}"

    @staticmethod
    def run_all(page) -> None:
        """Wait for the kernel, run all cells, and pass on a cell's error."""
        page.wait_for_function(f"() => {PANEL}?.sessionContext?.session?.kernel?.status === 'idle'", timeout=300_000)
        page.evaluate(f"async () => {{ await {PANEL}.context.ready; await {PANEL}.revealed; "
                      "await window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
        page.wait_for_function(f"() => {PANEL}.sessionContext.session.kernel.status === 'idle'", timeout=300_000)
        cells = page.evaluate(f"{PANEL}.content.model.toJSON().cells")
        errors = [output for cell in cells for output in cell.get("outputs", []) if output["output_type"] == "error"]
        assert errors == []


@contextlib.contextmanager
def running_jupyter(home: Path, app: str = "lab") -> Iterator[Lab]:
    """A JupyterLab ("lab") or Notebook 7 ("notebook") on a free port, whose files are all in `home`."""
    folder = home / "notebooks"
    folder.mkdir()
    for name, value in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    port, token = free_port(), secrets.token_hex(16)
    places = {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
              "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "IPYTHONDIR": "ipython",
              "JUPYTER_RUNTIME_DIR": "runtime"}
    module, own = {"lab": ("jupyterlab", ["--LabApp.extension_manager=readonly"]), "notebook": ("notebook", [])}[app]
    command = [sys.executable, "-m", module, "--no-browser", "--ip=127.0.0.1", f"--port={port}",
               "--ServerApp.port_retries=0", "--allow-root", f"--IdentityProvider.token={token}",
               f"--ServerApp.root_dir={folder}", "--expose-app-in-browser", *own]
    url = f"http://127.0.0.1:{port}"
    settings = {name: str(home / at) for name, at in places.items()}
    with served(command, f"{url}/api/status?token={token}", folder, settings, home / "server.log"):
        yield Lab(url, token, folder, {"lab": "doc/tree", "notebook": "notebooks"}[app])


@contextlib.contextmanager
def served(command: Sequence[str], url: str, folder: Path, settings: dict[str, str], log: Path) -> Iterator[None]:
    """A server that finds gptviz and the tests' own modules, from the moment that `url` answers."""
    here = Path(__file__).parent
    env = os.environ | {"OMP_NUM_THREADS": "1",
                        "PYTHONPATH": os.pathsep.join([str(here.parent), str(here.parent.parent)])} | settings
    with log.open("w+") as out:
        server = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=subprocess.STDOUT)
        try:
            _wait_for(url, server, log)
            yield
        finally:
            server.send_signal(signal.SIGTERM)  # a clean stop also stops the kernels
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(timeout=120)
            server.kill()
            server.wait()


def free_port() -> int:
    """A port that nobody uses, of those that are not given to whoever asks for any: it stays free until it is used."""
    while True:
        port = 10_000 + secrets.randbelow(20_000)  # not `random`, which two test processes seed alike
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


def _wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=10).close()
            return
        except OSError:
            if server.poll() is not None:
                break
            time.sleep(0.1)
    raise RuntimeError("The server did not start:\n" + log.read_text()[-3000:])
