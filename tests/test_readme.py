"""The code in the README and in the pages beside it, run as a reader would run it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gptviz.dashboards import parts

README = Path(__file__).resolve().parent.parent / "README.md"
PAGES = [README, README.parent / "docs" / "training.md", README.parent / "docs" / "stepper.md"]


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page, tmp_path):
    assert python_blocks(page), f"{page.name} shows no Python"
    script = tmp_path / "shown.py"
    script.write_text("\n".join(python_blocks(page)), encoding="utf-8")
    done = subprocess.run([sys.executable, "-W", "error", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_make_target_that_the_readme_names_exists():
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", README.read_text(encoding="utf-8"))) <= targets


def test_the_readme_says_where_the_report_lies_and_how_to_open_it():
    words = " ".join(README.read_text(encoding="utf-8").split())
    assert re.search(r"`report\.html` lies beside this README: open it in any browser", words)


def test_every_view_has_its_row_in_the_page_of_views():
    words = {"heads": "Heads", "circuits": "Circuits", "composition": "Composition", "embeddings": "Embeddings",
             "positions": "Positions", "edits": "Edits", "head_scores": "Head scores", "text": "Text", "next": "After",
             "lens": "Logit lens", "writes": "Residual writes", "querykey": "Query and key",
             "decomposition": "Score, split exactly"}
    assert set(parts()) == set(words), "a view came or went: docs/views.md and this table need it"
    page = (README.parent / "docs" / "views.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \*\*(.+?)\*\*", page, flags=re.MULTILINE)
    assert not [word for word in words.values() if not any(word in row for row in rows)]
