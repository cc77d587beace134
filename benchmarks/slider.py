"""How soon the slider repaints all views of a recorded run, in a real JupyterLab: from the key to the painted frame.

    python -m benchmarks.slider [--moves 45] [--run FOLDER]

The kernel's part alone is in `benchmarks.time_machine`. The run is nanoGPT's CPU recipe on python-docs (4 layers, 4
heads, width 128), trained here for 200 steps and recorded as by default, or one that is there already. First its own
probe, then a text that it never saw: its weights are read and run at each step.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from browser.servers import running_jupyter

from benchmarks.live import p95
from gptviz.runs import open_run
from gptviz.training import TrainConfig, train

NEW_TEXT = "The method returns a list of all keys that were given"
CELL = """import gptviz as gv
gv.watch(gv.open_run({run!r}))"""
MOVE = """async (key) => {
  const root = document.querySelector('.gv-board'), slider = root.querySelector('[role=slider]');
  const before = Number(root.dataset.drawn), start = performance.now();
  const drawn = new Promise((then) => new MutationObserver((_, observer) => {
    if (Number(root.dataset.drawn) > before) { observer.disconnect(); then(); }
  }).observe(root, {attributes: true, attributeFilter: ['data-drawn']}));
  slider.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
  await drawn; // told as soon as it is drawn: a loop over frames would look only in the next one
  await new Promise(requestAnimationFrame); // begins when that frame is painted
  return performance.now() - start; }"""


def moves(page: Any, count: int, n_steps: int) -> list[float]:
    """Milliseconds of each move from the last step towards the first: each one to a step that was not shown before."""
    page.locator(".gv-board [role=slider]").press("End")
    page.wait_for_timeout(1000)
    found = []
    for _ in range(min(count, n_steps - 1)):
        found.append(page.evaluate(MOVE, "ArrowLeft"))
        page.wait_for_timeout(150)
    return found


def report(name: str, found: list[float], allowed: int) -> None:
    numbers = ", ".join(f"{one:4.0f}" for one in (statistics.median(found), p95(found), max(found)))
    print(f"  {name:15}  median, p95, largest  {numbers} ms   allowed {allowed} ms", flush=True)


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moves", type=int, default=45)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--chromium", default=shutil.which("chromium") or "/usr/bin/chromium")
    options = parser.parse_args()
    with (tempfile.TemporaryDirectory() as home, running_jupyter(Path(home)) as lab, sync_playwright() as playwright):
        folder = options.run or Path(home) / "run"
        if not options.run:
            train(TrainConfig(corpus="python-docs", max_iters=550, threads=1, out=str(folder)), progress=False).close()
        browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(lab.write("slider.ipynb", CELL.format(run=str(folder.resolve()))))
        lab.run_all(page)
        page.wait_for_selector(".gv-board[data-drawn]", timeout=60_000)
        page.wait_for_timeout(3000)
        n_steps = len(open_run(folder).steps)
        report("recorded probe", moves(page, options.moves, n_steps), 100)
        page.locator(".gv-board .gv-form .gv-text").fill(NEW_TEXT)
        page.keyboard.press("Enter")
        page.wait_for_timeout(3000)
        report("new text", moves(page, options.moves, n_steps), 250)
        browser.close()


if __name__ == "__main__":
    main()
