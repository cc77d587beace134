"""Attention of 12 x 12 heads in a browser: gptviz beside BertViz and CircuitsVis, in one run.

    python -m benchmarks.viewers --peers FOLDER --fetch     # once: packages of the peers from PyPI and npm into FOLDER
    python -m benchmarks.viewers --peers FOLDER --tokens 64 128 256 512

Each viewer gets the same random attention and tokens, in a fresh Chromium without a network; what a page would fetch
from a CDN is answered from FOLDER. Measured: the page's bytes; time to make it in Python; time from navigation until
nothing in the page changes any more (a last change of the document, then a frame); growth of the renderers' own
memory over a blank page; and the 95th percentile of the time between two frames while the mouse moves over it.
A viewer that is not drawn after --limit seconds, or whose page passes --most bytes, is reported as such.
"""

import argparse
import contextlib
import importlib
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

PACKAGES = ("bertviz==1.4.1", "circuitsvis==1.43.3", "importlib_metadata==8.5.0", "zipp")
SCRIPTS = {"require.min.js": ("requirejs@2.3.6", "package/require.js"),
           "d3.min.js": ("d3@5.7.0", "package/dist/d3.min.js"),
           "jquery.min.js": ("jquery@2.1.4", "package/dist/jquery.min.js")}
N_LAYER = N_HEAD = 12

# Notes when the document last changed, and how long frames take while somebody asks for it.
WATCH = """
window.lastChange = performance.now(); window.gaps = [];
new MutationObserver(() => { window.lastChange = performance.now(); })
  .observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
window.countFrames = () => { let before = performance.now(); window.gaps = [];
  const frame = now => { window.gaps.push(now - before); before = now; window.frames = requestAnimationFrame(frame); };
  window.frames = requestAnimationFrame(frame); };
"""


# What must be in the document once it is drawn: elements, and how many of them at least.
CHECKS = {
    "gptviz": (".gv-board[data-drawn] canvas", 4),
    "bertviz model_view": ("svg line", N_LAYER * N_HEAD * 64),
    "bertviz head_view": ("svg line", N_HEAD * 64),
    "circuitsvis attention_heads": ("img, canvas", N_LAYER * N_HEAD),
}


@dataclass(frozen=True)
class Shown:
    """What one viewer made of one attention, and how the browser took it."""

    seconds_to_make: float
    n_bytes: int
    seconds_to_draw: float
    memory: float
    hover_gap: float

    def __str__(self) -> str:
        return (f"made {self.seconds_to_make:7.2f} s  {self.n_bytes / 1e6:8.2f} MB  "
                f"drawn {self.seconds_to_draw:7.2f} s  "
                f"memory +{self.memory / 1e6:6.0f} MB  hover p95 {1000 * self.hover_gap:6.0f} ms")


def random_attention(n_tokens: int) -> tuple[list[torch.Tensor], list[str]]:
    """Causal attention, one [1, head, query, key] per layer, and tokens."""
    generator = torch.Generator().manual_seed(n_tokens)
    mask = torch.full((n_tokens, n_tokens), -torch.inf).triu(1)
    layers = [(2 * torch.randn(1, N_HEAD, n_tokens, n_tokens, generator=generator) + mask).softmax(-1)
              for _ in range(N_LAYER)]
    return layers, [f"tok{i}" for i in range(n_tokens)]


def gptviz_page(layers: list[torch.Tensor], tokens: list[str]) -> str:
    """The page of a board of heads and text, with its labels, callout and links."""
    from gptviz.export import page_html
    from gptviz.views import attention_view, tokens_view
    from gptviz.widgets import Board

    losses = np.linspace(0, 6, len(tokens), dtype=np.float32)
    board = Board([attention_view([layer[0].numpy() for layer in layers], tokens), tokens_view(losses, tokens)])
    return page_html(board.payload(budget=2_000_000), "gptviz")


def bertviz_page(view: str, layers: list[torch.Tensor], tokens: list[str]) -> str:
    html = getattr(importlib.import_module("bertviz"), view)(layers, tokens, html_action="return")
    return f"<!doctype html><html><body>{html.data}</body></html>"


def circuitsvis_page(layers: list[torch.Tensor], tokens: list[str]) -> str:
    heads = torch.cat([layer[0] for layer in layers])
    html = importlib.import_module("circuitsvis.attention").attention_heads(heads, tokens)
    return f"<!doctype html><html><body>{html.local_src}</body></html>"


VIEWERS: dict[str, Callable[[list[torch.Tensor], list[str]], str]] = {
    "gptviz": gptviz_page,
    "bertviz model_view": lambda layers, tokens: bertviz_page("model_view", layers, tokens),
    "bertviz head_view": lambda layers, tokens: bertviz_page("head_view", layers, tokens),
    "circuitsvis attention_heads": circuitsvis_page,
}


def measure(playwright: Any, options: argparse.Namespace, name: str, n_tokens: int) -> Shown | str:
    """One viewer in a browser of its own; or the sentence that says what stopped it."""
    layers, tokens = random_attention(n_tokens)
    start = time.perf_counter()
    page_text = VIEWERS[name](layers, tokens)
    made, file = time.perf_counter() - start, options.peers / "page.html"
    what = f"page of {len(page_text) / 1e6:.0f} MB, made in {made:.1f} s"
    if len(page_text) > options.most:
        return f"{what}: not opened (--most {options.most / 1e6:.0f} MB)"
    file.write_text(page_text, encoding="utf-8")
    browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox", "--disable-gpu"])
    guard = Guard(options.limit, options.memory)
    try:
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        context.route(lambda url: url.startswith("http"), lambda route: answer(route, options.peers))
        page = context.new_page()
        page.set_default_timeout(1000 * options.limit)
        before = renderer_memory()
        page.add_init_script(WATCH)
        guard.start()
        page.goto(file.as_uri(), timeout=1000 * options.limit)
        drawn = drawn_after(page, *CHECKS[name])
        memory = renderer_memory() - before
        return Shown(made, len(page_text.encode()), drawn, memory, hover(page))
    except Exception as error:  # a page that crashes or hangs is a result
        return f"{what}: {guard.reason or type(error).__name__}, at most {guard.peak / 1e6:.0f} MB of memory"
    finally:
        guard.done.set()
        browser.close()


class Guard(threading.Thread):
    """Ends the renderers of a page that takes too long or too much memory: a hanging page answers no time-out."""

    def __init__(self, limit: float, memory: float) -> None:
        super().__init__(daemon=True)
        self.limit, self.memory, self.done = limit, memory, threading.Event()
        self.reason, self.peak = "", 0

    def run(self) -> None:
        start = time.perf_counter()
        while not self.done.wait(0.5):
            self.peak = max(self.peak, renderer_memory())
            if time.perf_counter() - start > self.limit:
                self.reason = f"> {self.limit:.0f} s"
            elif self.peak > self.memory:
                self.reason = f"> {self.memory / 1e9:.0f} GB after {time.perf_counter() - start:.0f} s"
            if self.reason:
                for process in renderers():
                    process.kill()
                return


def answer(route: Any, folder: Path) -> None:
    """A script that a page would fetch from a CDN, from the folder."""
    file = folder / Path(route.request.url.split("?")[0]).name
    route.fulfill(path=file) if file.exists() else route.abort()


def drawn_after(page: Any, selector: str, least: int) -> float:
    """Seconds from the navigation to the last change of the document, which holds its parts and rests for 1.5 s."""
    look = f"""() => new Promise(done => requestAnimationFrame(now =>
        done([now, window.lastChange, document.querySelectorAll('{selector}').length])))"""
    while True:  # the guard ends a page that never comes to rest
        now, last, found = page.evaluate(look)
        if found >= least and now - last > 1500:
            return last / 1000
        time.sleep(0.1)


def renderers() -> list[psutil.Process]:
    """This process's Chromium renderers."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "--type=renderer" in " ".join(child.cmdline()):
                found.append(child)
    return found


def renderer_memory() -> int:
    """Bytes of memory that the renderers have for themselves, without what they share with other processes."""
    total = 0
    for renderer in renderers():
        with contextlib.suppress(psutil.Error):
            total += renderer.memory_full_info().uss
    return total


def hover(page: Any) -> float:
    """95th percentile of the seconds between two frames while the mouse crosses the page 80 times."""
    page.evaluate("window.countFrames()")
    for i in range(80):
        page.mouse.move(80 + 12 * (i % 60), 150 + 8 * i)
    gaps = page.evaluate("() => { cancelAnimationFrame(window.frames); return window.gaps; }")
    return statistics.quantiles(gaps[1:], n=20)[-1] / 1000 if len(gaps) > 20 else max(gaps) / 1000


def fetch(folder: Path) -> None:
    """Put the peers' packages and the scripts of their pages into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    target = ["--no-deps", "--quiet", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "install", *target, *PACKAGES], check=True)
    for name, (package, inside) in SCRIPTS.items():
        subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        packed = next(folder.glob(f"{package.split('@')[0]}-*.tgz"))
        text = subprocess.run(["tar", "-xOf", str(packed), inside], check=True, capture_output=True).stdout
        (folder / name).write_bytes(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", type=Path, required=True, help="folder with the peers' packages")
    parser.add_argument("--fetch", action="store_true", help="fill the folder first")
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=120, help="seconds after which a page counts as hanging")
    parser.add_argument("--memory", type=float, default=8e9, help="bytes of the renderers after which a page is ended")
    parser.add_argument("--most", type=float, default=1.2e9, help="bytes of a page that is still opened")
    parser.add_argument("--chromium", default="chromium")
    parser.add_argument("--viewers", nargs="+", default=list(VIEWERS), choices=list(VIEWERS))
    options = parser.parse_args()
    if options.fetch:
        fetch(options.peers)
    sys.path.insert(0, str(options.peers.resolve()))
    import shutil

    from playwright.sync_api import sync_playwright

    options.chromium = shutil.which(options.chromium) or options.chromium
    with sync_playwright() as playwright:
        for n_tokens in options.tokens:
            print(f"{n_tokens} tokens, {N_LAYER} x {N_HEAD} heads", flush=True)
            report(playwright, options, n_tokens)


def report(playwright: Any, options: argparse.Namespace, n_tokens: int) -> None:
    """The viewers in turn, round after round, and the median of each."""
    found: dict[str, list[Shown]] = {name: [] for name in options.viewers}
    stopped: dict[str, str] = {}
    for _ in range(options.rounds):
        for name in options.viewers:
            shown = stopped.get(name) or measure(playwright, options, name, n_tokens)
            if isinstance(shown, str):
                stopped[name] = shown
            else:
                found[name].append(shown)
    for name, all_shown in found.items():
        if not all_shown:
            print(f"  {name:28} {stopped[name]}", flush=True)
            continue
        middle = {field: statistics.median(getattr(one, field) for one in all_shown) for field in Shown.__annotations__}
        print(f"  {name:28} {Shown(**middle)}", flush=True)


if __name__ == "__main__":
    main()
