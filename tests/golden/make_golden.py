"""Write the golden payload that Python's and TypeScript's tests both read: python tests/golden/make_golden.py"""

from pathlib import Path

import numpy as np

from gptviz.views import (
    attention_view,
    board_payload,
    distributions_view,
    head_curves_view,
    tokens_view,
    training_view,
)
from gptviz.views.board import payload_json
from gptviz.views.head_curves import Curves
from gptviz.views.lens import lens_view
from gptviz.views.next import next_view

HERE = Path(__file__).parent
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


def golden_predictions() -> dict:
    """A lens of two points, the next token with its logits, and a text with an array of the reader's own."""
    tokens, words = ["a", "·b", HOSTILE], ["a", "·b", HOSTILE, "x"]
    cells = np.array([[0.5, 0.6, np.nan], [0.8, 0.9, 0.4]])
    lens = lens_view(["embed", "L0"], tokens, top_ids=np.array([[[0], [1], [2]], [[1], [2], [3]]]), words=words,
                     top_probs=cells[..., None], entropy=1 - cells, kl_to_final=np.array([[7, 0, 0], [0, 0, 0.0]]),
                     true_rank=np.array([[3, 2, 0], [1, 1, 0]]), true_prob=cells / 2, n_vocab=4,
                     rank_of_top=np.array([[[1, 1, 1], [3, 2, 1]], [[2, 3, 2], [1, 1, 1]]]))
    logits = np.log(np.array([[0.5, 0.3, 0.1, 0.1], [0.2, 0.1, 0.6, 0.1], [0.1, 0.2, 0.3, 0.4]]))
    after = next_view(np.array([0, 1, 2]), tokens, top_ids=np.array([[0, 1], [2, 0], [3, 2]]), words=words,
                      top_probs=np.array([[0.5, 0.3], [0.6, 0.2], [0.4, 0.3]]), word_ids=range(4),
                      logits_of=lambda at: logits[at], name_of=lambda token: words[token], continues=True)
    text = tokens_view(np.array([np.nan, 1.2, 0.5]), tokens, entropy=np.array([np.nan, 1.1, 1.0]),
                       arrays={"tilt": np.array([-1, 0, 2])})
    payload = board_payload([text, after, lens], title="golden")
    payload["views"][1]["details"] = after.details({"query": 1}, 1e6)
    return payload


def golden_progress() -> dict:
    """Two scores of two heads at three steps, one with a null, and the bands of one part and of one layer."""
    steps, value = np.array([0, 5, 10]), np.array([[[0.1, 0.2]], [[0.1, np.nan]], [[0.1, 0.9]]])
    curves = head_curves_view([Curves("induction", steps, value, 0 * value + 0.25),
                               Curves("entropy", steps, 1 - value)])
    rows = np.array([[-4, -2, -1, 0, 1, 2, 8], [np.nan] * 7, [-8, -4, -2, 0.5, 2, 4, 16]], float)[:, None]
    bands = distributions_view(steps, {"weights/wte": rows, "gradients/mlp.c_fc": rows / 1e4})
    return board_payload([curves, bands], title="golden", steps=[0, 5, 10])


def write(name: str, payload: dict) -> None:
    (HERE / name).write_text(payload_json(payload) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write("board.json", golden_payload())
    write("predictions.json", golden_predictions())
    write("progress.json", golden_progress())
