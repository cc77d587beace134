"""What a browser asks of a board, checked before any work: the page may not be ours, or may be damaged."""

from typing import Any

from gptviz.arguments import briefly, whole_number
from gptviz.token_ids import check_text

ASKS = ("hello", "frame", "detail", "act")


def kind_of(content: Any) -> str:
    """What a message asks for; "" for an acknowledgement.

    Raises:
        ValueError: It asks for nothing that a board knows.

    Example:
        >>> kind_of({"ask": "frame"}), kind_of({"ack": "a-1"})
        ('frame', '')
    """
    ask = content.get("ask") if isinstance(content, dict) else None
    if isinstance(ask, str) and ask in ASKS:
        return ask
    if isinstance(content, dict) and "ack" in content:
        return ""
    raise ValueError(f"A message to a board must ask for one of {', '.join(ASKS)}; it was {briefly(content)}. "
                     "Reload the page.")


def text_of(content: dict, shown: str, editable: bool) -> str:
    """The text that a message is about.

    Raises:
        ValueError: The board shows another one, and only that.
    """
    text = content.get("text", shown)
    check_text(text)
    if text != shown and not editable:
        raise ValueError(f"This board shows one text; another, {briefly(text)}, was asked for. "
                         "Make a board with a model and its tokenizer to type your own.")
    return text


def step_of(content: dict, steps: Any) -> int | None:
    """The step that a message is about.

    Raises:
        ValueError: It is none of the recorded ones.
    """
    step = content.get("step")
    if step is None or whole_number(step, "step") in steps:
        return step
    known = f"one of {len(steps)} from {steps[0]} to {steps[-1]}" if steps else "left out: this board has no steps"
    raise ValueError(f"step must be {known}; it is {briefly(step)}. All of them are in board.steps.")


def fields_of(value: Any, what: str) -> dict:
    """The named values of a request.

    Raises:
        TypeError: They have no names.
    """
    if not isinstance(value, dict):
        raise TypeError(f"{what} must come as named values, {{name: value}}; it was {briefly(value)}. "
                        "Reload the page.")
    return value


def number_of(fields: dict, name: str, default: float | int | None = None) -> float:
    """A finite number of a request.

    Raises:
        ValueError: It is missing, no number, or not finite.
    """
    value = fields.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise ValueError(f"{name} must be a finite number; it is {briefly(value)}. Choose one.")
    return float(value)


def index_of(fields: dict, name: str, size: int) -> int:
    """A place of a request, 0 to size - 1.

    Raises:
        ValueError: It is missing, or not there.
    """
    value = fields.get(name)
    place = value if isinstance(value, int) and not isinstance(value, bool) else -1
    if not 0 <= place < size:
        raise ValueError(f"There is no {name} {briefly(value)}: it must be 0 to {size - 1}. Choose one.")
    return place
