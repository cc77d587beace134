"""Make the pictures of the README: the report of a run, as a browser draws it, in light and in dark.

    make demo && .venv/bin/python assets/make_pictures.py        (replaces assets/report-light.png and report-dark.png)

The board is opened as a reader opens it, with the network cut; nothing in the picture is drawn by hand.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from gptviz.dashboards import report

ASSETS = Path(__file__).resolve().parent
WIDTH = 1400  # px
LARGEST = 400_000  # bytes a picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", nargs="?", default="runs/demo", help="a recorded run; runs/demo by default")
    parser.add_argument("--out", type=Path, default=ASSETS, help="the folder of the pictures")
    parser.add_argument("--width", type=int, default=WIDTH, help="of the window, in pixels")
    args = parser.parse_args()
    chromium = os.environ.get("GPTVIZ_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = report(args.run, Path(folder) / "report.html")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            photograph(browser, page.as_uri(), args.out / f"report-{scheme}.png", args.width, scheme)
        browser.close()


def photograph(browser: Browser, url: str, path: Path, width: int, scheme: str) -> None:
    """A picture of the whole board, as it opens."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page.goto(url)
    page.wait_for_selector(".gv-board[data-drawn]")
    page.screenshot(path=path, full_page=True, animations="disabled")
    page.close()
    print(f"wrote {path} ({path.stat().st_size / 1e3:.0f} kB)")
    if path.stat().st_size > LARGEST:
        raise SystemExit(f"A picture must have at most {LARGEST / 1e3:.0f} kB; {path} has more. Use a smaller --width.")


if __name__ == "__main__":
    main()
