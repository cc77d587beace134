"""What the package must never contain: ways to run code that arrives as data, and the network at display time."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PYTHON = sorted((REPOSITORY / "gptviz").rglob("*.py"))
FRONT_END = [
    *sorted(path for folder in ("", "views") for path in (REPOSITORY / "js" / folder).glob("*.ts")),
    *sorted((REPOSITORY / "gptviz" / "static").rglob("*.js")),
    *sorted((REPOSITORY / "gptviz" / "static").rglob("*.css")),
    *sorted((REPOSITORY / "gptviz" / "static").rglob("*.html")),
]

# Text from a prompt, a corpus or a run must reach the page as text, never as markup or code.
MARKUP = re.compile(
    r"\b(?:innerHTML|outerHTML|insertAdjacentHTML|createContextualFragment|DOMParser|srcdoc)\b|document\.write"
)
CODE = re.compile(r"\beval\s*\(|\bnew\s+Function\b")
REMOTE = re.compile(r"""(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s"'`)]*""", re.IGNORECASE)
# Names, not addresses: nothing is fetched from them.
NAMESPACES = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink", "http://www.w3.org/1999/xhtml"}

UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"}


def relative(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """Every call in a Python file with its dotted name."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", [*PYTHON, *FRONT_END], ids=relative)
def test_nothing_turns_text_into_markup(path):
    assert not MARKUP.findall(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FRONT_END, ids=relative)
def test_the_front_end_runs_no_text_as_code(path):
    assert not CODE.findall(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_no_code_is_run_from_data(path):
    for name, call in calls(path):
        assert name not in ("eval", "exec", "compile", "__import__", "os.system"), f"line {call.lineno}: {name}"
        shell = [keyword for keyword in call.keywords if keyword.arg == "shell"]
        assert not shell, f"line {call.lineno}: shell="


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_no_html_widget(path):
    for name, call in calls(path):
        assert name.split(".")[-1] not in ("HTML", "HTMLMath"), f"line {call.lineno}: {name} renders markup"


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_nothing_is_unpickled(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        assert not UNSAFE_MODULES & {name.split(".")[0] for name in names}, f"line {node.lineno}: {names}"
    for name, call in calls(path):
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name.split(".")[-2:] == ["torch", "load"]:
            assert options.get("weights_only") == "True", f"line {call.lineno}: torch.load without weights_only=True"
        if name.split(".")[-2:] in (["np", "load"], ["numpy", "load"]):
            assert options.get("allow_pickle", "False") == "False", f"line {call.lineno}: np.load with allow_pickle"


@pytest.mark.parametrize("path", FRONT_END, ids=relative)
def test_the_front_end_fetches_nothing(path):
    text = path.read_text(encoding="utf-8")
    assert not set(REMOTE.findall(text)) - NAMESPACES
    assert not re.search(r"\bXMLHttpRequest\b|\bfetch\s*\(|\bWebSocket\b|\bimport\s*\(|@import\b", text)
