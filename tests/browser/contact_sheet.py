"""Draw the board in light and dark, narrow and wide, with a few and with many tokens: pictures to look at.

    python tests/browser/contact_sheet.py OUT [--chromium PATH]
"""

import argparse
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from playwright.sync_api import sync_playwright

from browser.synthetic import board, story
from gptviz.export import export_html


def boards(folder: Path) -> dict[str, Path]:
    """The pages of the sheet."""
    locked = dict(layer=1, head=0, query=11, key=2)
    made = {
        "story": board(title="storyteller", **locked),
        "eight": board(8, layer=1, head=0),
        "characters": board(tokens=list("When·Ada·opened·the·red·door,·Tom·laughed.⏎When·Ada·opened·the·r"), layer=1,
                            head=0),
        "large": board(500, 12, 12, steps=[3000], layer=0, head=2, tokens=story(500), title="gpt2"),
    }
    return {name: export_html(one, folder / f"{name}.html") for name, one in made.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--chromium", default=shutil.which("chromium") or "/usr/bin/chromium")
    parser.add_argument("--only", default="")
    parser.add_argument("--widths", default="600,1000,1400,1600")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    pages = boards(args.out)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=["--no-sandbox"])
        for name, path in pages.items():
            if args.only and args.only not in name:
                continue
            for width in map(int, args.widths.split(",")):
                for scheme in ("light", "dark"):
                    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
                    page.on("console", lambda message: message.type == "error" and print("console:", message.text))
                    page.on("pageerror", lambda error: print("error:", error))
                    page.goto(path.resolve().as_uri())
                    page.wait_for_selector(".gv-board[data-drawn]")
                    page.wait_for_timeout(100)
                    page.screenshot(path=args.out / f"{name}-{width}-{scheme}.png", full_page=True)
                    page.close()
        browser.close()


if __name__ == "__main__":
    main()
