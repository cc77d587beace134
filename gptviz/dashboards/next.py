"""What the logits say: the text by loss, the next token's distribution, and tokens added on demand."""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from gptviz.analysis.predictions import Predictions, largest, log_softmax, predictions
from gptviz.arguments import briefly, whole_number
from gptviz.dashboards.tensors import as_numpy, named, visible_of
from gptviz.tasks import n_given
from gptviz.token_ids import check_ids
from gptviz.views import View, tokens_view
from gptviz.views.next import next_view
from gptviz.views.tokens import with_given

N_CHOICES = 5  # next tokens shown at a position, and alternatives of each step of a tree
GREEDY_STEPS = 4  # steps of a tree that one request adds
DEEPEST = 12  # steps of a tree


_known: WeakKeyDictionary[Any, Predictions] = WeakKeyDictionary()  # trace -> its predictions: two views need them


def _predictions_of(trace: Any) -> Predictions:
    if trace not in _known:
        _known[trace] = predictions(as_numpy(trace["logits"]), trace.ids.cpu().numpy(), N_CHOICES)
    return _known[trace]


def text_part(trace: Any, model: Any = None, tokenizer: Any = None) -> View:
    """Loss, rank, entropy and likeliest next tokens from the logits of a trace; which tokens its task only gives."""
    said = _predictions_of(trace)
    short, words = named(said.top_ids, visible_of(tokenizer))
    before = np.concatenate([[np.nan], said.entropy[:-1]])
    text = tokens_view(said.loss, trace.tokens, top_ids=short, top_probs=said.top_probs, words=words, rank=said.rank,
                       entropy=before)
    return with_given(text, n_given(getattr(model, "trained_on", None)))


def next_part(trace: Any, model: Any = None, tokenizer: Any = None) -> View:
    """The distribution after every position; with a model and its tokenizer, a tree that grows."""
    logits, ids, visible = as_numpy(trace["logits"]), trace.ids.cpu().numpy(), visible_of(tokenizer)
    said = _predictions_of(trace)
    short, words = named(said.top_ids, visible)
    return next_view(ids, trace.tokens, top_ids=short, top_probs=said.top_probs, words=words,
                     word_ids=np.unique(said.top_ids).tolist(), logits_of=lambda query: logits[query],
                     name_of=visible, continues=model is not None and tokenizer is not None)


def actions_of(model: Any, tokenizer: Any) -> dict[str, Callable[[Any], dict]]:
    """What a tree of continuations asks the kernel: "continue" it, or "use_text" of one of its paths.

    Example:
        >>> from gptviz.loading import load
        >>> grow = actions_of(*load("sorter"))["continue"]
        >>> answer = grow({"ids": [2, 1, 0, 1, 1, 2], "at": "root", "steps": 1})
        >>> [len(step) for step in answer["options"]["tree"]["root"]]
        [3]
    """
    def grow(value: Any) -> dict:
        ids, steps = _checked(value, model), min(whole_number(value.get("steps", GREEDY_STEPS), "steps", 1), DEEPEST)
        return {"options": {"tree": {str(value.get("at")): alternatives(model, tokenizer, ids, steps)}}}

    def use_text(value: Any) -> dict:
        return {"text": tokenizer.decode(_checked(value, model))}

    return {"continue": grow, "use_text": use_text}


def _checked(value: Any, model: Any) -> list[int]:
    """The ids of a request; also of a page that somebody changed."""
    if not isinstance(value, dict) or not value.get("ids"):
        raise ValueError(f"A continuation needs {{'ids': [...]}} with at least one token id; it was given "
                         f"{briefly(value)}.")
    return check_ids(value["ids"], model.config.vocab_size).tolist()


def alternatives(model: Any, tokenizer: Any, ids: list[int], steps: int) -> list[list[dict]]:
    """The likeliest next tokens at each of some steps, along the likeliest path; edits that are active take part.

    Args:
        model: A GPT.
        tokenizer: Its tokenizer.
        ids: The tokens so far; of more than `block_size` the model reads the last.
        steps: Number of steps.

    Returns:
        For each step its alternatives {"id", "word", "p"}, likeliest first.
    """
    import torch

    from gptviz.capture import unwrapped
    from gptviz.decoding import Decoder

    inner, visible = unwrapped(model), visible_of(tokenizer)
    found: list[list[dict]] = []

    def choose(logits: Any) -> Any:
        row = as_numpy(logits[0])
        best, log_p = largest(row, min(N_CHOICES, len(row))), log_softmax(row)
        found.append([{"id": int(one), "word": visible(int(one)), "p": float(np.exp(log_p[one]))}
                      for one in best])
        return logits.argmax(-1)

    decoder = Decoder(inner, [torch.tensor(ids[-inner.config.block_size :])], steps)
    for _ in range(steps):
        decoder.step(choose)
    return found
