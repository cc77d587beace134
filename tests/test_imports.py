"""The house plan as a test: which module may import which."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "gptviz"

# Imports point down, or sideways without a circle. A folder is one room.
FLOORS = {
    7: {"cli", "__main__"},
    6: {"dashboards"},
    5: {"widgets", "export", "exercises"},
    4: {"views", "figures"},
    3: {"training"},
    2: {"analysis", "runs", "loading"},
    1: {
        "trace", "description", "prompts", "interventions", "checkpoints", "generation", "decoding",
        "capture", "derivation",  # one recorded pass; what need not be kept of it
    },
    0: {
        "model", "config",
        "naming",  # the words of a trace
        "arguments",  # wrong kinds of things, in a sentence
        "spelling",  # options that a sentence advises, for Python and for the shell
        "requests",  # what a browser asks
        "tokenizers", "byte_pairs", "glyphs", "token_ids",
        "corpora", "texts", "token_files", "tasks",
        "packing", "packaged", "whole_files",
        "missing",  # what may have been meant by a name that leads nowhere
    },
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}

# The one import that points up: Run.resume() continues the training that wrote the run.
UPWARD = {("runs", "training")}

FORBIDDEN_NAMES = {"utils", "util", "common", "base", "manager", "helpers", "helper", "misc"}

# Rooms a reader can use where torch or a notebook is not installed.
WITHOUT = {
    "views": ("torch", "ipywidgets", "anywidget"),
    "figures": ("torch", "ipywidgets", "anywidget"),
    "runs": ("torch", "ipywidgets", "anywidget"),
    "tokenizers": ("torch", "ipywidgets", "anywidget"),
    "packing": ("torch", "ipywidgets", "anywidget"),
    "packaged": ("torch", "ipywidgets", "anywidget"),
    "trace": ("ipywidgets", "anywidget"),
    "interventions": ("ipywidgets", "anywidget"),
    "analysis": ("ipywidgets", "anywidget"),
    "training": ("ipywidgets", "anywidget"),
}


def modules() -> dict[str, Path]:
    """Dotted name inside the package (analysis.heads) -> file; without the package root."""
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            names[name] = path
    return names


def imported(path: Path) -> list[str]:
    """Every module that a file imports, deferred imports included; `from gptviz import x` as gptviz.x."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively; write from gptviz.module import name"
            package_root = node.module == "gptviz"
            found += [f"gptviz.{alias.name}" for alias in node.names] if package_root else [str(node.module)]
    return found


def own_imports(path: Path) -> list[str]:
    """The gptviz modules that a file imports, without the leading gptviz."""
    return [name.removeprefix("gptviz.") for name in imported(path) if name.split(".")[0] == "gptviz"]


def room_of(module: str) -> str:
    return module.split(".")[0]


MODULES = modules()


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_floor(module):
    assert room_of(module) in FLOOR, f"{module} has no floor: add it to FLOORS and to the plan, or put it in a room"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    room = room_of(module)
    upward = [
        name
        for name in own_imports(MODULES[module])
        if FLOOR[room_of(name)] > FLOOR[room] and (room, room_of(name)) not in UPWARD
    ]
    assert not upward, f"{module} (floor {FLOOR[room]}) imports from above: {upward}"


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_the_package_root(module):
    names = own_imports(MODULES[module])
    assert "gptviz" not in names
    assert all(room_of(name) in FLOOR for name in names), f"{module}: {names}"


def test_rooms_do_not_import_in_a_circle():
    graph: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        room = room_of(module)
        others = {room_of(name) for name in own_imports(path)} - {room}
        graph.setdefault(room, set()).update(other for other in others if (room, other) not in UPWARD)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(f"rooms import in a circle: {circle.args[1]}")


@pytest.mark.parametrize("module", MODULES)
def test_no_module_has_an_empty_name(module):
    assert not FORBIDDEN_NAMES & set(module.split(".")), f"{module}: name it after the question it answers"


@pytest.mark.parametrize("room", sorted(WITHOUT))
def test_a_room_loads_without_what_it_does_not_need(room):
    names = [module for module in MODULES if room_of(module) == room]
    if not names:
        pytest.skip(f"gptviz.{room} does not exist")
    code = (
        "import importlib, sys\n"
        f"for name in {names}: importlib.import_module('gptviz.' + name)\n"
        f"print([name for name in {WITHOUT[room]} if name in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
