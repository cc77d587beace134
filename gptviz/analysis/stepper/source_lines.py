"""The lines of `model.py` that compute a tensor, found by parsing the source: an edit of it cannot leave them stale."""

import ast
import functools
from pathlib import Path
from typing import NamedTuple

from gptviz.analysis.stepper.stages import Anchor

MODEL = Path(__file__).resolve().parents[2] / "model.py"


class Lines(NamedTuple):
    """Lines of a file, both counted from 1 and inside."""

    scope: str
    first: int
    last: int


def model_source() -> str:
    """The text of `gptviz/model.py`."""
    return MODEL.read_text(encoding="utf-8")


@functools.lru_cache(maxsize=1024)
def find_lines(anchor: Anchor, source: str) -> Lines:
    r"""The statement of a function that holds an expression, or that calls something of this name.

    Args:
        anchor: The function ("Block.forward"; "" for any), and an expression as Python writes it ("embed + pos_embed")
            or the name of what is called ("self.c_attn").
        source: The text of the file.

    Raises:
        LookupError: If the function or the expression is gone, or two statements hold it.

    Example:
        >>> find_lines(Anchor("f", "g"), "def f(x):\n    y = g(x)\n    return y\n")
        Lines(scope='f', first=2, last=2)
    """
    found = [(scope, statement) for scope, function in _functions(source, anchor.scope)
             for statement in ast.walk(function)
             if isinstance(statement, ast.stmt) and _holds(statement, anchor.expression)]
    if len(found) != 1:
        raise LookupError(
            f"One statement of {anchor.scope or 'a function'} in model.py must hold {anchor.expression!r}, but "
            f"{len(found)} do. Change the anchor in gptviz/analysis/stepper/stages.py along with the model."
        )
    scope, statement = found[0]
    return Lines(scope, statement.lineno, statement.end_lineno or statement.lineno)


@functools.lru_cache(maxsize=4)
def _all_functions(source: str) -> tuple[tuple[str, ast.FunctionDef], ...]:
    """Every function and method of a file by its dotted name."""
    found = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            found.append((node.name, node))
        elif isinstance(node, ast.ClassDef):
            found += [(f"{node.name}.{one.name}", one) for one in node.body if isinstance(one, ast.FunctionDef)]
    return tuple(found)


def _functions(source: str, scope: str) -> list[tuple[str, ast.FunctionDef]]:
    """The function of a dotted name, or all of them."""
    found = [(name, function) for name, function in _all_functions(source) if scope in ("", name)]
    if not found:
        raise LookupError(f"model.py must define {scope}, but does not. "
                          f"Change the anchor in gptviz/analysis/stepper/stages.py along with the model.")
    return found


def _holds(statement: ast.stmt, expression: str) -> bool:
    """Whether a statement without its inner statements holds an expression, or a call of that name."""
    for node in _own_expressions(statement):
        called = node.func if isinstance(node, ast.Call) else None
        if ast.unparse(node) == expression or (called is not None and ast.unparse(called) == expression):
            return True
    return False


def _own_expressions(statement: ast.stmt) -> list[ast.expr]:
    """The calls and operations of a statement, not those of statements inside it."""
    found, waiting = [], [child for child in ast.iter_child_nodes(statement) if not isinstance(child, ast.stmt)]
    while waiting:
        node = waiting.pop()
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Call | ast.BinOp):
            found.append(node)
    return found
