"""Seconds from running a cell to a drawn board of 12 x 12 heads, in a real JupyterLab.

    python -m benchmarks.lab --tokens 64 128 512

The attention is made in a cell before. Counted: the kernel's work, the message, and drawing, until the frame after the
last panel was painted.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from browser.servers import PANEL, Lab, running_jupyter

NOTEBOOK = "window.jupyterapp.shell.currentWidget.content"
MAKE = """import numpy as np
from browser import synthetic
from gptviz.views import attention_view, tokens_view
from gptviz.widgets import Board
tokens = synthetic.story({n})
attention = list(synthetic.pattern(12, 12, tokens))
loss = np.linspace(0, 6, {n}, dtype=np.float32)"""
SHOW = "Board([attention_view(attention, tokens), tokens_view(loss, tokens)])"
# Runs the active cell and waits for the frame after the board said that it was drawn.
TIME = f"""async () => {{
  const frame = () => new Promise(requestAnimationFrame);
  {NOTEBOOK}.activeCellIndex = 1;
  const start = performance.now();
  window.jupyterapp.commands.execute('notebook:run-cell');
  while (!document.querySelector('.gv-board[data-drawn]')) await frame();
  await frame();
  return (performance.now() - start) / 1000; }}"""
CLEAR = "window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')"


def measure(page: Any, lab: Lab, n_tokens: int, rounds: int) -> list[float]:
    """Seconds of each round; the first is the first board of the page."""
    page.goto(lab.write(f"tokens{n_tokens}.ipynb", MAKE.format(n=n_tokens), SHOW))
    page.wait_for_function(f"() => {PANEL}?.sessionContext?.session?.kernel?.status === 'idle'", timeout=90_000)
    page.evaluate(f"async () => {{ await {PANEL}.context.ready; await {PANEL}.revealed; }}")
    page.evaluate(f"async () => {{ {NOTEBOOK}.activeCellIndex = 0; "
                  "await window.jupyterapp.commands.execute('notebook:run-cell'); }")
    seconds = []
    for _ in range(rounds):
        seconds.append(page.evaluate(TIME))
        page.evaluate(CLEAR)
        page.wait_for_function("() => !document.querySelector('.gv-board')")
    return seconds


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 128, 512])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chromium", default=shutil.which("chromium") or "/usr/bin/chromium")
    options = parser.parse_args()
    with (tempfile.TemporaryDirectory() as home, running_jupyter(Path(home)) as lab, sync_playwright() as playwright):
        browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        for n_tokens in options.tokens:
            first, *rest = measure(page, lab, n_tokens, options.rounds)
            print(f"{n_tokens:5} tokens: first {first:.2f} s, then median {statistics.median(rest):.2f} s "
                  f"({min(rest):.2f} to {max(rest):.2f})", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
