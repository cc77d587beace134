"""Make the pictures of the README from a recorded run: the boards as a browser draws them, in light and in dark.

    make demo && .venv/bin/python assets/make_pictures.py [RUN] [--text TEXT]

replaces explore-*.png, step-*.png and watch-*.png in assets/. Every board is opened as a reader opens it, with the
network cut; nothing in the pictures is drawn by hand. watch-*.png show the packaged sorter; the others of the
repository a model of nanoGPT's CPU recipe after 2,000 steps on tiny Shakespeare (`gptviz train corpus=input.txt
seed=1341 threads=1 out=runs/shakespeare`).
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, FloatRect, sync_playwright

from gptviz.dashboards import explore, step_through, watch
from gptviz.export import export_html
from gptviz.loading import load
from gptviz.runs import open_run
from gptviz.trace import Trace, record

ASSETS = Path(__file__).resolve().parent
WIDTH = 1400  # px
LARGEST = 400_000  # bytes a picture
TEXT = "First Citizen:\nFirst Ci"
MARGIN = 24  # px
PATTERN = 8  # stages after the first, in the walk of step_through
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
LAST = {"explore": ".gv-panel-lens", "step": ".gv-board", "watch": ".gv-panel-loss"}  # the board may go on below it


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the pictures of the README from a recorded run.")
    parser.add_argument("run", nargs="?", default="runs/demo", help="a recorded run; runs/demo by default")
    parser.add_argument("--text", default=TEXT, help="what the model reads in two of the pictures")
    parser.add_argument("--out", type=Path, default=ASSETS, help="the folder of the pictures")
    parser.add_argument("--width", type=int, default=WIDTH, help="of the window, in pixels")
    args = parser.parse_args()
    chromium = os.environ.get("GPTVIZ_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for page in pages(args.run, args.text, Path(folder)):
            for scheme in SCHEMES:
                photograph(browser, page, args.out / f"{page.stem}-{scheme}.png", args.width, scheme)
        browser.close()


def pages(path: str, text: str, folder: Path) -> Iterator[Path]:
    """The three boards, each as the page that `export_html` writes."""
    run = open_run(path)
    model, tokenizer = load(path)
    trace = record(model, text, tokenizer)
    boards = {"explore": explore(trace, model, tokenizer, title=run.name),
              "step": step_through(trace, model, tokenizer, title=run.name), "watch": watch("sorter")}
    for name, board in boards.items():
        if name != "watch":
            board.layer, board.head, board.query, board.key = sharpest(trace)
        yield export_html(board, folder / f"{name}.html")


def sharpest(trace: Trace) -> list[int]:
    """Layer, head, query and key of the largest attention that looks neither at itself nor at the token before."""
    far = trace["pattern"].tril(-2)
    far[..., : len(trace.tokens) // 2, :] = 0  # short rows are sharp without a reason
    place = int(far.argmax())
    return [place // far[0, 0].numel() // far.shape[1], place // far[0, 0].numel() % far.shape[1],
            place // far.shape[3] % far.shape[2], place % far.shape[3]]


def photograph(browser: Browser, board: Path, picture: Path, width: int, scheme: Literal["light", "dark"]) -> None:
    """A picture of the upper part of a board; the stepper's at the stage of the attention pattern."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page.goto(board.as_uri())
    page.wait_for_selector(".gv-board[data-drawn]")
    if board.stem == "step":
        page.locator(".gv-stage-box").focus()
        for _ in range(PATTERN):
            page.keyboard.press("ArrowRight")
        page.wait_for_timeout(1000)
    bottom = page.locator(LAST[board.stem]).last.evaluate("panel => panel.getBoundingClientRect().bottom + scrollY")
    size: FloatRect = {"x": 0, "y": 0, "width": width, "height": bottom + MARGIN}
    page.screenshot(path=picture, animations="disabled", full_page=True, clip=size)
    page.close()
    print(f"wrote {picture} ({picture.stat().st_size / 1e3:.0f} kB)")
    if picture.stat().st_size > LARGEST:
        raise SystemExit(f"A picture must have at most {LARGEST / 1e3:.0f} kB; {picture} has more. "
                         f"Use a smaller --width.")


if __name__ == "__main__":
    main()
