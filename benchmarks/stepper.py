"""How long a stage change of the stepper takes in a browser: key press to drawn page and next frame.

    python -m benchmarks.stepper                  # exported pages: the packaged sorter, 4 x 4 x 128, GPT-2's size
    python -m benchmarks.stepper --notebook       # the same boards in a JupyterLab
    python -m benchmarks.stepper --page step.html # a page that you have exported

Each press is also told in processor time of the page's main thread, for machines that do other things, too.
Measured inside the page: from the moment a right arrow is dispatched until the board says that it has drawn the new
place, and from there until the next frame began. 60 presses, which walk over all stages of two or more layers.
Models have random weights, but the sorter; the text has 11 tokens for the sorter and 32 for the others. How long a
press takes follows from the sizes, not from the weights: a trained model of the same size is measured by --page.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

PRESSES = 60
WHAT = ("press to next frame", "of it drawing", "processor, with 300 ms of animation")

# Presses once and waits until the new place is drawn and a frame later begins: milliseconds, and those spent drawing.
PRESS = """async () => {
  const board = document.querySelector('.gv-stepper'), stage = board.querySelector('.gv-stage-box');
  await new Promise(done => setTimeout(done, 300));  // the last animation is over
  const drawn = new Promise(done => new MutationObserver((_, watch) => { watch.disconnect(); done(performance.now()); })
    .observe(board, {attributeFilter: ['data-drawn']}));
  const own = board.stepper.draw;
  let spent = 0;
  board.stepper.draw = function () {
    const begun = performance.now();
    own.call(this);
    spent += performance.now() - begun;
  };
  const start = performance.now();
  stage.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true, cancelable: true}));
  await drawn;
  await new Promise(requestAnimationFrame);
  delete board.stepper.draw;
  return [performance.now() - start, spent];
}"""
AT_END = "document.querySelector('.gv-stepper').dataset.drawn.includes('stage 21 ')"  # the loss is the last stage

SORTER = """model, tokenizer = gv.load("sorter")
board = gv.step_through(gv.record(model, "CBABBCABBBC", tokenizer), model, tokenizer)"""
RANDOM = """torch.manual_seed(0)
model = gv.GPT(gv.GPTConfig({sizes})).eval()
board = gv.step_through(gv.record(model, torch.randint(0, model.config.vocab_size, (32,))), model)"""
BOARDS = {
    "sorter": SORTER,
    "4x4x128": RANDOM.format(sizes="n_layer=4, n_head=4, n_embd=128, vocab_size=65, block_size=64"),
    "gpt2": RANDOM.format(sizes=""),
}


def board_of(source: str) -> object:
    """The board that a cell of source makes."""
    import gptviz

    names: dict = {"gv": gptviz, "torch": torch}
    exec(source, names)  # noqa: S102 - the same text is a cell of a notebook
    return names["board"]


def presses(page: object, count: int) -> list[tuple[float, ...]]:
    """Milliseconds of each press, and of drawing in it."""
    page.wait_for_selector(".gv-stepper[data-drawn]")
    page.locator(".gv-stage-box").focus()
    page.keyboard.press("Home")
    page.wait_for_timeout(500)
    inside = page.context.new_cdp_session(page)
    inside.send("Performance.enable", {"timeDomain": "threadTicks"})
    times = []
    for _ in range(count):
        if page.evaluate(AT_END):
            page.keyboard.press("Home")
        before = _processor(inside)
        pressed = page.evaluate(PRESS)
        times.append((*pressed, _processor(inside) - before))
    return times


def _processor(inside: object) -> float:
    """Milliseconds of processor time that the page's main thread has used: what other programs do is not in it."""
    metrics = {one["name"]: one["value"] for one in inside.send("Performance.getMetrics")["metrics"]}
    return 1000 * metrics["TaskDuration"]


def report(name: str, times: list[tuple[float, ...]]) -> None:
    for what, found in zip(WHAT, zip(*times, strict=True), strict=True):
        p95 = statistics.quantiles(found, n=20)[-1]
        print(f"{name:8} {what:36} median {statistics.median(found):6.1f} ms   p95 {p95:6.1f} ms   "
              f"largest {max(found):6.1f} ms", flush=True)


def exported(name: str, open_page: Callable, folder: Path, count: int) -> list[tuple[float, ...]]:
    from gptviz.export import export_html

    path = folder / f"{name}.html"
    export_html(board_of(BOARDS[name]), path)
    return presses(open_page(path.as_uri()), count)


def in_notebook(name: str, open_page: Callable, lab: object, count: int) -> list[tuple[float, ...]]:
    page = open_page(lab.write(f"{name}.ipynb", f"import torch\nimport gptviz as gv\n{BOARDS[name]}\nboard"))
    lab.run_all(page)
    return presses(page, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--notebook", action="store_true", help="in JupyterLab instead of exported pages")
    parser.add_argument("--page", type=Path, help="measure this exported page only")
    parser.add_argument("--presses", type=int, default=PRESSES)
    parser.add_argument("--boards", nargs="+", choices=BOARDS, default=list(BOARDS))
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from browser.conftest import FLAGS
    from browser.servers import running_jupyter
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)

        def open_page(url: str):
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.goto(url)
            return page

        if arguments.page:
            opened = open_page(arguments.page.resolve().as_uri())
            report(arguments.page.stem[:8], presses(opened, arguments.presses))
        elif arguments.notebook:
            with running_jupyter(Path(folder)) as lab:
                for name in arguments.boards:
                    report(name, in_notebook(name, open_page, lab, arguments.presses))
        else:
            for name in arguments.boards:
                report(name, exported(name, open_page, Path(folder), arguments.presses))
        browser.close()


if __name__ == "__main__":
    main()
