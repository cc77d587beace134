"""For everybody: axe-core's rules on the exported pages, and pages that fit a small or enlarged window."""

from pathlib import Path

import pytest

from gptviz.dashboards import explore, report, step_through
from gptviz.export import export_html
from gptviz.loading import load
from gptviz.runs import open_run
from gptviz.trace import record

pytestmark = pytest.mark.browser
AXE = Path(__file__).parents[2] / "js" / "node_modules" / "axe-core" / "axe.min.js"
VIOLATIONS = """async () => (await axe.run(document, {resultTypes: ['violations']})).violations
    .map(one => [one.impact, one.id, one.nodes.map(node => node.html.slice(0, 200))])"""
UNFOLD = """() => { for (const button of document.querySelectorAll('.gv-fold[aria-expanded=false]'))
    if (button.offsetParent) button.click(); }"""
UNFOLDED = """() => ![...document.querySelectorAll('.gv-fold[aria-expanded=false]')]
    .some(button => button.offsetParent)"""


@pytest.fixture(scope="module")
def axe():
    if not AXE.is_file():
        pytest.skip(f"needs {AXE}; `make test-js` installs it where Node is")
    return AXE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages that people keep: of a text, of a training run, of one forward pass."""
    folder = tmp_path_factory.mktemp("pages")
    model, tokenizer = load("sorter")
    trace = record(model, "CBABBCAB", tokenizer)
    return {
        "explore": export_html(explore(trace, model, tokenizer, title="sorter"), folder / "explore.html"),
        "report": report(open_run("sorter"), folder / "report.html"),
        "stepper": export_html(step_through(trace, model, tokenizer), folder / "stepper.html"),
    }


def unfolded(page):
    """Every panel that starts folded, opened."""
    page.wait_for_selector("#gptviz-board canvas")
    page.evaluate(UNFOLD)
    page.wait_for_function(UNFOLDED)
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["explore", "report", "stepper"])
def test_axe_finds_nothing_serious(open_page, axe, pages, name, scheme):
    page = unfolded(open_page(pages[name].as_uri(), scheme=scheme, bypass_csp=True))
    page.evaluate(axe)
    found = page.evaluate(VIOLATIONS)
    assert [one for one in found if one[0] in ("serious", "critical")] == []
    assert "page-has-heading-one" not in [rule for _, rule, _ in found]


def test_axe_would_have_found_it(open_page, axe, pages):
    page = unfolded(open_page(pages["explore"].as_uri(), bypass_csp=True))
    page.evaluate("() => document.querySelector('.gv-panel-head .gv-stage').removeAttribute('aria-label')")
    page.evaluate(axe)
    assert ["serious", "role-img-alt"] in [one[:2] for one in page.evaluate(VIOLATIONS)]


@pytest.mark.parametrize("width", [512, 640, 1024])  # 1024 at 200 %, 1280 at 200 %, a small laptop
@pytest.mark.parametrize("name", ["explore", "report", "stepper"])
def test_nothing_is_wider_than_a_small_window(open_page, pages, name, width):
    page = unfolded(open_page(pages[name].as_uri(), width=width))
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
