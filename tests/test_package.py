"""The package root: public names that load when they are used."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import gptviz

HEAVY = ("torch", "numpy", "matplotlib", "ipywidgets", "anywidget", "plotly", "accelerate")


def test_importing_the_package_loads_nothing_heavy():
    code = f"import sys, gptviz; print([name for name in {HEAVY} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


@pytest.mark.parametrize("name", sorted(gptviz._HOME))
def test_every_public_name_loads(name):
    value = getattr(gptviz, name)
    assert value is getattr(gptviz, name)
    if name != "analysis":
        assert value is getattr(importlib.import_module(gptviz._HOME[name]), name)


def test_every_public_name_is_documented():
    undocumented = [name for name in gptviz._HOME if not (getattr(gptviz, name).__doc__ or "").strip()]
    assert not undocumented


def test_dir_lists_the_public_names():
    assert set(dir(gptviz)) == {"__version__", *gptviz._HOME}


def test_the_names_for_editors_are_the_names_of_the_table():
    for_editors = {
        alias.name: node.module if alias.name != "analysis" else "gptviz.analysis"
        for branch in ast.parse(Path(gptviz.__file__).read_text(encoding="utf-8")).body
        if isinstance(branch, ast.If)
        for node in ast.walk(branch)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert for_editors == gptviz._HOME


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(AttributeError, match=r"gptviz has no name 'recrod'\. Did you mean gptviz\.record\?"):
        _ = gptviz.recrod  # pyright: ignore[reportAttributeAccessIssue]


def test_a_name_near_to_none_lists_all():
    with pytest.raises(AttributeError, match=r"no name 'xyzzy'\. Public names: GPT, GPTConfig, Recorder, Run,"):
        _ = gptviz.xyzzy  # pyright: ignore[reportAttributeAccessIssue]
