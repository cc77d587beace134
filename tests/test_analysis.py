"""The names of gptviz.analysis: a lazy table, the same for editors."""

import ast
from pathlib import Path

import pytest

from gptviz import analysis


@pytest.mark.parametrize("name", sorted(analysis._HOME))
def test_every_name_loads_and_is_documented(name):
    value = getattr(analysis, name)
    assert value.__module__ == f"gptviz.analysis.{analysis._HOME[name]}"
    assert (value.__doc__ or "").strip()


def test_the_names_for_editors_are_the_names_of_the_table():
    for_editors = {
        alias.name: node.module.removeprefix("gptviz.analysis.")
        for branch in ast.parse(Path(analysis.__file__).read_text(encoding="utf-8")).body
        if isinstance(branch, ast.If)
        for node in ast.walk(branch)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert for_editors == analysis._HOME
    assert dir(analysis) == sorted(analysis._HOME)


def test_an_unknown_name_suggests_the_nearest_or_lists_all():
    with pytest.raises(AttributeError, match=r"no name 'logitlens'\. Did you mean logit_lens\?"):
        _ = analysis.logitlens  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(AttributeError, match=r"no name 'xyzzy'\. There are: .*Distribution, HeadWrite,"):
        _ = analysis.xyzzy  # pyright: ignore[reportAttributeAccessIssue]
