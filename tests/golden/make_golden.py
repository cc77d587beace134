"""Write the golden payload that Python's and TypeScript's tests both read: python tests/golden/make_golden.py"""

from pathlib import Path

import numpy as np

from gptviz.views import attention_view, board_payload, tokens_view, training_view
from gptviz.views.board import payload_json

HOSTILE = '<img src=x onerror="document.title=1">'


def golden_views() -> list:
    """Three tokens, one layer, two heads: small enough to check by hand."""
    tokens = ["a", "·b", HOSTILE]
    pattern = np.array([[[[1, 0, 0], [0.25, 0.75, 0], [0, 0.5, 0.5]], [[1, 0, 0], [1, 0, 0], [0.2, 0.2, 0.6]]]])
    text = tokens_view(np.array([np.nan, 0.5, 7.0]), tokens, top_ids=np.array([[1, 0], [4, 1], [0, 1]]),
                       top_probs=np.array([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5]]), words=["a", "·b", "x", "y", HOSTILE],
                       rank=np.array([0, 1, 2]))
    curve = training_view({"train": (np.array([0, 5, 10]), np.array([3.0, np.nan, 1.0])),
                           "validation": (np.array([0, 10]), np.array([3.5, 1.5]))})
    return [attention_view(pattern.astype(np.float32), tokens), text, curve]


def golden_payload() -> dict:
    return board_payload(golden_views(), title="golden", facts=["1 layer × 2 heads"], steps=[0, 10],
                         selection={"step": 10, "head": 1}, text="a b", limit=8)


if __name__ == "__main__":
    Path(__file__).with_name("board.json").write_text(payload_json(golden_payload()) + "\n", encoding="utf-8")
