"""The documents say what is: links lead somewhere, the glossary lists the names that exist."""

import re
from pathlib import Path

import pytest

from gptviz.model import GPT, GPTConfig
from gptviz.trace import AXES, record

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *REPOSITORY.glob("js/*.md"),
                    *(REPOSITORY / "assets").rglob("*.md"), *REPOSITORY.glob("benchmarks/*.md")])
GLOSSARY = (REPOSITORY / "docs" / "glossary.md").read_text(encoding="utf-8")


def prose(path: Path) -> str:
    """A document without its code."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(path: Path) -> set[str]:
    """The headings of a document as GitHub links to them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def table_rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading of the glossary, without its head."""
    section = re.split(r"^## ", GLOSSARY, flags=re.MULTILINE)
    lines = next(part for part in section if part.startswith(heading)).splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_every_link_leads_somewhere(document):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if re.match(r"[a-z]+:", target):
            continue  # another site: not asked, the tests run offline
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists(), f"{target} does not exist"
        if anchor:
            assert anchor in anchors(path), f"{target}: no such heading"


def test_the_glossary_lists_the_names_and_axes_of_the_trace():
    listed = {}
    for names, _, axes in table_rows("Activations"):
        listed |= {name: tuple(axes.split()) for name in re.findall(r"`(\w+)`", names)}
    assert listed == {name: tuple(axes) for name, axes in AXES.items()}


@pytest.mark.parametrize(("spelling", "name"), [row[:2] for row in table_rows("TransformerLens")])
def test_every_spelling_of_transformerlens_in_the_glossary_is_accepted(spelling, name):
    model = GPT(GPTConfig(block_size=4, vocab_size=3, n_layer=2, n_head=2, n_embd=4))
    trace = record(model, [0, 1, 2], names=[spelling.strip("`").replace("L", "1", 1)])
    assert list(trace.names) == [name.strip("`")]
