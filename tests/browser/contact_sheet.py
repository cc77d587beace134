"""Draw every view in light and dark, narrow and wide, with few and many tokens: pictures to look at, and a page of all.

    python tests/browser/contact_sheet.py OUT [--chromium PATH] [--only WORD] [--widths 1000,1600]     (make pictures)
"""

import argparse
import html
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from playwright.sync_api import sync_playwright

from browser.test_hostile import TEXT, hostile_model
from gptviz.dashboards import explore, step_through, watch
from gptviz.export import export_html
from gptviz.loading import load
from gptviz.model import GPT, GPTConfig
from gptviz.runs import open_run
from gptviz.tokenizers import CharTokenizer
from gptviz.trace import record
from gptviz.training import TrainConfig, train

UNFOLD = """() => { for (const button of document.querySelectorAll('.gv-fold[aria-expanded=false]'))
    if (button.offsetParent) button.click(); }"""


def boards() -> dict:
    """The pages of the sheet, by name."""
    model, tokenizer = load("sorter")
    trace = record(model, "CBABBCAB", tokenizer)
    return {
        "text": trained_on_text,
        "explore-8": lambda: explore(trace, model, tokenizer, title="sorter"),
        "explore-500": large,
        "compare": lambda: explore(trace, model, tokenizer, other=record(model, "ABABBCAB", tokenizer)),
        "hostile": hostile,
        "watch": lambda: watch(open_run("sorter")),
        "trained": trained,
        "step": lambda: step_through(trace, model, tokenizer),
        "heads-500": lambda: large(12, 12),
    }


def hostile():
    """Tokens that are markup, other scripts, bytes of a sign, or 10,000 signs long."""
    model, tokenizer = hostile_model()
    return explore(record(model, TEXT, tokenizer), model, tokenizer, title="hostile tokens")


def trained():
    """What a run of its own adds to `watch`: events, and the spread of weights, gradients and activations."""
    run = train(TrainConfig(task="induction", max_iters=200, seed=0, out=None), progress=False)
    return watch(run)


def trained_on_text():
    """A run that learned from Python's documentation for a quarter of a minute, at a sentence."""
    run = train(TrainConfig(corpus="python-docs", tokenizer="char", n_layer=2, n_head=4, n_embd=64, block_size=48,
                            batch_size=8, max_iters=800, learning_rate=4e-3, min_lr=4e-4, warmup_iters=30,
                            eval_interval=50, eval_iters=4, probes=["Return the number of items in the list."],
                            seed=0, out=None), progress=False)
    return watch(run)


def large(n_layer: int = 4, n_head: int = 4):
    """Every view of 500 tokens, by a model of random weights that are large enough for its heads to differ."""
    import torch

    torch.manual_seed(0)
    text = " ".join(__doc__.split())
    text = (text * (500 // len(text) + 1))[:500]
    tokenizer = CharTokenizer(text)
    model = GPT(GPTConfig(block_size=512, vocab_size=tokenizer.vocab_size, n_layer=n_layer, n_head=n_head,
                          n_embd=16 * n_head)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(12 if "c_attn.weight" in name else 3 if parameter.ndim == 2 else 1)
    return explore(record(model, text, tokenizer), model, tokenizer, title="RANDOM WEIGHTS, which learned nothing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--chromium", default=shutil.which("chromium") or "/usr/bin/chromium")
    parser.add_argument("--only", default="")
    parser.add_argument("--widths", default="1000,1600")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    pictures = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=["--no-sandbox"])
        for name, made in boards().items():
            if args.only in name:
                path = export_html(made(), args.out / f"{name}.html").resolve()
                for width in map(int, args.widths.split(",")):
                    pictures += [draw(browser, path, width, scheme) for scheme in ("light", "dark")]
        browser.close()
    sheet(args.out / "index.html", pictures)


def draw(browser, path: Path, width: int, scheme: str) -> Path:
    """The whole page as a picture, everything unfolded."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page.on("console", lambda message: message.type == "error" and print("console:", message.text))
    page.on("pageerror", lambda error: print("error:", error))
    page.goto(path.as_uri())
    page.wait_for_selector("#gptviz-board canvas")
    page.evaluate(UNFOLD)
    if page.locator("[data-name=compare]").count():  # two patterns: the change from one to the other
        page.locator("[data-name=compare]").select_option("difference")
    page.wait_for_timeout(400)
    picture = path.with_name(f"{path.stem}-{width}-{scheme}.png")
    page.screenshot(path=picture, full_page=True)
    page.close()
    return picture


def sheet(path: Path, pictures: list[Path]) -> None:
    """One page with all pictures, small; a click opens one."""
    figures = [f'<figure><a href="{one.name}"><img src="{one.name}" width="380" alt=""></a>'
               f"<figcaption>{html.escape(one.stem)}</figcaption></figure>" for one in pictures]
    style = "body{font:14px sans-serif}figure{display:inline-block;vertical-align:top;margin:8px}"
    path.write_text(f"<!doctype html><meta charset=utf-8><title>gptviz: every view</title><style>{style}</style>"
                    + "\n".join(figures), encoding="utf-8")
    print(f"{len(pictures)} pictures: {path}")


if __name__ == "__main__":
    main()
