"""Make the four pictures of docs/training.md: a live board in a real JupyterLab, at four moments of one training.

    .venv/bin/python assets/make_live_pictures.py [--steps 400] [--out assets]

writes live-begin.png, live-learning.png, live-paused.png and live-finished.png: nanoGPT's CPU recipe on Python's own
documentation, the notebook as a reader has it, drawn by the browser.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from browser.servers import running_jupyter
from PIL import Image
from playwright.sync_api import Page, sync_playwright

ASSETS = Path(__file__).resolve().parent
LARGEST = 250_000  # bytes a picture
CELL = """import gptviz as gv
run = gv.train(gv.TrainConfig(corpus="python-docs", max_iters={steps}, threads=1, out="runs/mine"), background=True)
gv.watch(run)"""
CONTROLS = ".gv-panel-controls .gv-stage"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", type=Path, default=ASSETS)
    args = parser.parse_args()
    chromium = os.environ.get("GPTVIZ_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with (tempfile.TemporaryDirectory() as home, running_jupyter(Path(home)) as lab, sync_playwright() as playwright):
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 960})
        page.goto(lab.write("training.ipynb", CELL.format(steps=args.steps)))
        lab.run_all(page)
        page.wait_for_selector(".gv-panel-heads", timeout=120_000)
        until(page, 8)
        take(page, args.out / "live-begin.png")
        until(page, args.steps // 8)
        take(page, args.out / "live-learning.png")
        until(page, args.steps // 2)
        press(page, "pause")
        page.wait_for_function(f"document.querySelector('{CONTROLS}').getAttribute('aria-label').startsWith('paused')")
        press(page, "tens")
        page.wait_for_timeout(3000)
        page.locator(".gv-steps .gv-stage").first.focus()
        for _ in range(6):
            page.keyboard.press("ArrowLeft")
        page.wait_for_selector(".gv-panel-controls button[data-name=follow]")
        take(page, args.out / "live-paused.png")
        press(page, "follow")
        press(page, "pause")
        page.wait_for_function(f"document.querySelector('{CONTROLS}').getAttribute('aria-label').startsWith('finished')",
                               timeout=600_000)
        take(page, args.out / "live-finished.png", ".gv-panel-events")
        browser.close()


def until(page: Page, step: int, seconds: float = 600.0) -> None:
    """Waits until the board says that so many steps are trained."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        said = re.search(r"trained to step (\d+)", page.locator(CONTROLS).get_attribute("aria-label") or "")
        if said and int(said[1]) >= step:
            return
        page.wait_for_timeout(50)
    raise TimeoutError(f"The training did not reach step {step} within {seconds:g} s.")


def press(page: Page, name: str) -> None:
    page.locator(f".gv-panel-controls button[data-name={name}]").click()


def take(page: Page, picture: Path, top: str = ".gv-board") -> None:
    """A picture of the window, with a part of the board at its top."""
    page.locator(top).first.evaluate("part => part.scrollIntoView({block: 'start'})")
    page.wait_for_timeout(600)
    page.screenshot(path=picture, animations="disabled")
    Image.open(picture).convert("RGB").save(picture, optimize=True)
    print(f"wrote {picture} ({picture.stat().st_size / 1e3:.0f} kB)")
    if picture.stat().st_size > LARGEST:
        raise SystemExit(f"A picture must have at most {LARGEST / 1e3:.0f} kB; {picture} has more.")


if __name__ == "__main__":
    main()
