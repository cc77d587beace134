"""The payload of a board: a header, views in order, the reader's selection, and one frame per recorded step."""

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any

from gptviz.arguments import briefly
from gptviz.views.view import View

SCHEMA = 1
SELECTION = ("step", "layer", "head", "query", "key")


def board_payload(
    views: Sequence[View],
    *,
    name: str = "explore",
    title: str = "",
    facts: Sequence[str] = (),
    steps: Sequence[int] = (),
    selection: dict | None = None,
    text: str = "",
    limit: int | None = None,
    editable: bool = False,
    cost: str = "",
) -> dict:
    """All that a board shows at first, as one dict of JSON and raw bytes.

    Args:
        views: In the order of the page.
        name: What the board does: "explore", "watch".
        title: The model's or run's name.
        facts: Short facts about the model.
        steps: The recorded steps that the slider offers; none for a model without a record.
        selection: Any of step, layer, head, query, key.
        text: The text shown.
        limit: Tokens that the model reads at most.
        editable: Whether a kernel can show another text.
        cost: What it took, in words: "12 ms on CPU".

    Returns:
        {"schema", "name", "title", "facts", "steps", "selection", "text", "limit", "editable", "cost", "views"}.
    """
    chosen = dict.fromkeys(SELECTION) | (selection or {})
    return {"schema": SCHEMA, "name": name, "title": title, "facts": list(facts), "steps": [int(s) for s in steps],
            "selection": chosen, "text": text, "limit": limit, "editable": editable, "cost": cost,
            "views": [view.payload() for view in views]}


def detail_payload(views: Sequence[View], kind: str, at: dict[str, Any]) -> dict:
    """More of the view of a kind, where the reader looks: what the browser asked for.

    Raises:
        ValueError: If no such view has details, or a place is not one of its own.
    """
    view = next((one for one in views if one.kind == kind and one.detail), None)
    if view is None:
        raise ValueError(f"A detail belongs to a view that has some; {briefly(kind)} has none here. "
                         f"Ask one of {', '.join(one.kind for one in views if one.detail) or 'none'}.")
    return view.detail_of(**at).payload()


def frame_payload(step: int | None, views: Sequence[View], text: str = "", base: Sequence[View] = ()) -> dict:
    """The views of one step: what the browser puts in the place of the board's own.

    A view that is the very object in `base`, such as a loss curve, does not travel again: None stands for it.
    """
    same = [any(view is one for one in base) for view in views]
    return {"step": step, "text": text,
            "views": [None if known else view.payload() for view, known in zip(views, same, strict=True)]}


def split_bytes(payload: dict) -> tuple[dict, list[bytes]]:
    """A payload as JSON and a list of buffers, for a message: "data" becomes {"buffer": index}.

    Example:
        >>> split_bytes({"a": {"data": b"xy"}, "n": [1]})
        ({'a': {'data': {'buffer': 0}}, 'n': [1]}, [b'xy'])
    """
    buffers: list[bytes] = []

    def take(data: bytes) -> dict:
        buffers.append(data)
        return {"buffer": len(buffers) - 1}

    return _map_bytes(payload, take), buffers


def payload_json(payload: dict) -> str:
    r"""A payload as JSON text that can stand inside a <script> element: bytes in base64, no "<" left.

    Example:
        >>> payload_json({"token": "</script>", "data": b"xy"})
        '{"token":"\\u003c/script>","data":"eHk="}'
    """
    plain = _map_bytes(payload, lambda data: base64.b64encode(data).decode("ascii"))
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # "<" opens tags and comments; the two line separators end a line in some JavaScript parsers.
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _map_bytes(value: Any, change: Callable[[bytes], object]) -> Any:
    """A copy of nested dicts and lists with every bytes value changed."""
    if isinstance(value, bytes):
        return change(value)
    if isinstance(value, dict):
        return {key: _map_bytes(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map_bytes(item, change) for item in value]
    return value
