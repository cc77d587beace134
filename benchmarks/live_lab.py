"""A training in a real JupyterLab whose board a real browser draws: what that costs it, and how soon a click is seen.

    python -m benchmarks.live_lab [--steps 200] [--clicks 20] [--subshells on|off]

The default model on python-docs, one thread, server, kernel and browser on the same cores. Speeds are tokens per second
of the same training in the same kernel, first without a board, then with one that the browser draws. A click is handled
when the run's status has changed in the kernel, and seen when the frame after the board said so was painted. Subshells
are JupyterLab's: with "off" every message of a widget waits for the kernel's main thread.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from browser import servers
from browser.servers import Lab, running_jupyter

from benchmarks.live import p95

CONFIG = """import json, pathlib, threading, time
import gptviz as gv
from gptviz.corpora import load_text_data
data = load_text_data("python-docs", "char", progress=False)
def config(steps):
    return gv.TrainConfig(corpus=data, max_iters=steps, threads=1, eval_interval=steps)
def tell(name, value):
    pathlib.Path(name + ".tmp").write_text(json.dumps(value))
    pathlib.Path(name + ".tmp").rename(name)
"""
ALONE = """run = gv.train(config({steps}), background=True)
threading.Thread(target=lambda: tell("alone.json", run.wait().summary()["tokens_per_second"])).start()"""
WATCHED = """run = gv.train(config({steps}), background=True)
threading.Thread(target=lambda: tell("watched.json", run.wait().summary()["tokens_per_second"])).start()
gv.watch(run)"""
CLICKED = """run = gv.train(config(10**6), background=True)
def follow():
    seen = []
    while run.status in ("running", "paused"):
        if not seen or seen[-1][1] != run.status:
            seen.append([time.time(), run.status])
            tell("seen.json", seen)
        time.sleep(0.001)
threading.Thread(target=follow, daemon=True).start()
gv.watch(run)"""
CLICK = """async (words) => {
  const frame = () => new Promise(requestAnimationFrame);
  const of = (name) => document.querySelector(`.gv-panel-controls ${name}`);
  const at = Date.now(), start = performance.now();
  of('button[data-name=pause]').click();
  while (!of('.gv-stage').getAttribute('aria-label').startsWith(words)) await frame();
  await frame();
  return [at / 1000, (performance.now() - start) / 1000]; }"""


def cells(page: Any, lab: Lab, name: str, *more: str) -> None:
    """Opens a notebook of its own and runs it."""
    page.goto(lab.write(name, CONFIG, *more))
    lab.run_all(page)


def told(lab: Lab, name: str, seconds: float = 400.0) -> Any:
    """What the kernel wrote."""
    path, deadline = lab.folder / name, time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"The kernel should have written {name} within {seconds:g} s and did not.")
        time.sleep(0.1)
    return json.loads(path.read_text())


def clicks(page: Any, lab: Lab, count: int) -> tuple[list[float], list[float]]:
    """Seconds from each click to the status in the kernel, and to the painted board."""
    page.wait_for_selector(".gv-panel-controls button[data-name=pause]", timeout=60_000)
    page.wait_for_function("document.querySelectorAll('.gv-panel-heads').length > 0", timeout=60_000)
    page.wait_for_timeout(2000)
    handled, seen = [], []
    for i in range(count):
        words, status = ("training", "running") if i % 2 else ("paused", "paused")
        at, painted = page.evaluate(CLICK, words)
        changes = [when for when, what in told(lab, "seen.json") if what == status and when >= at - 0.002]
        handled.append(max(0.0, changes[0] - at))
        seen.append(painted)
        page.wait_for_timeout(400)
    return handled, seen


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--clicks", type=int, default=20)
    parser.add_argument("--subshells", choices=("on", "off"), default="on")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "/usr/bin/chromium")
    options = parser.parse_args()
    if options.subshells == "off":
        servers.SETTINGS["apputils-extension/kernels-settings"] = {"commsOverSubshells": "disabled"}
    with (tempfile.TemporaryDirectory() as home, running_jupyter(Path(home)) as lab, sync_playwright() as playwright):
        browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        if options.steps:
            cells(page, lab, "alone.ipynb", ALONE.format(steps=options.steps))
            alone = told(lab, "alone.json")
            cells(page, lab, "watched.ipynb", WATCHED.format(steps=options.steps))
            watched = told(lab, "watched.json")
            print(f"  no board       {alone:8,.0f} tokens/s")
            print(f"  board drawn    {watched:8,.0f} tokens/s   {alone / watched:.2f} times as long (allowed: 2)")
        if options.clicks:
            cells(page, lab, "clicked.ipynb", CLICKED)
            print(f"  subshells {options.subshells}")
            handled, seen = clicks(page, lab, options.clicks)
            for name, values, allowed in (("click to handled", handled, 200), ("click to painted", seen, 400)):
                print(f"  {name}  median, p95  {1e3 * statistics.median(values):4.0f}, {1e3 * p95(values):4.0f} ms   "
                      f"allowed {allowed} ms")
        browser.close()


if __name__ == "__main__":
    main()
