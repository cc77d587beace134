"""Boards of invented numbers: attention that looks like attention, so that pictures and tests need no model."""

import numpy as np

from gptviz.views import attention_view, tokens_view, training_view
from gptviz.widgets import Board

STORY = ["When", "·Ada", "·opened", "·the", "·red", "·door", ",", "·Tom", "·laughed", ".", "·When", "·Ada", "·opened",
         "·the", "·red", "·door", ",", "·Tom"]
STEPS = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 400, 512, 700, 1000, 1400, 2000, 3000]
WORDS = [*dict.fromkeys(STORY), "·was", "·had", "·and", "·a", "·he", "⏎"]


def story(n_tokens: int) -> list[str]:
    """The story's tokens, repeated to a length."""
    return (STORY * (n_tokens // len(STORY) + 1))[:n_tokens]


def pattern(n_layer: int, n_head: int, tokens: list[str], learned: float = 1.0, seed: int = 0) -> np.ndarray:
    """[layer, head, query, key]: local, first-token, previous-token, repeat and broad heads in turn."""
    rng, n = np.random.default_rng(seed), len(tokens)
    q, k = np.mgrid[:n, :n]
    ids = np.unique(tokens, return_inverse=True)[1]
    after_same = np.zeros((n, n))
    after_same[:, 1:] = (ids[:, None] == ids[None, :]) [:, :-1]
    kinds = [-0.4 * (q - k), 6.0 * (k == 0), 7.0 * (q - k == 1) + 4.0 * ((q == 0) & (k == 0)), 0.0 * q,
             7.0 * after_same + 3.0 * (k == 0), 6.0 * (q == k)]
    heads = []
    for index in range(n_layer * n_head):
        scores = learned * kinds[(index * 7 + index // n_head) % len(kinds)] + 0.5 * rng.standard_normal((n, n))
        scores = np.where(k <= q, scores, -np.inf)
        p = np.exp(scores - scores.max(axis=-1, keepdims=True))
        heads.append(p / p.sum(axis=-1, keepdims=True))
    return np.array(heads, np.float32).reshape(n_layer, n_head, n, n)


def loss_curve(steps: np.ndarray) -> np.ndarray:
    """A plateau and a fall, as when copying is learned."""
    return 4.2 - 1.6 * (1 - np.exp(-steps / 60)) - 1.1 / (1 + np.exp(-(steps - 700) / 90))


def predictions(tokens: list[str], learned: float) -> dict:
    """What a model would say of the next token at each position: one distribution, and all else is read off it."""
    words, n = [*WORDS, *sorted(set(tokens) - set(WORDS))], len(tokens)
    follows = np.array([words.index(token) for token in [*tokens[1:], tokens[0]]])
    seen = np.array([token in tokens[: i + 1] for i, token in enumerate([*tokens[1:], tokens[0]])])
    logits = np.random.default_rng(1).standard_normal((n, len(words)))
    logits[np.arange(n), follows] += learned * np.where(seen, 7.0, 1.0)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    true = p[np.arange(n), follows]
    order = np.argsort(-p, axis=1)[:, :5]
    return {"loss": np.concatenate([[np.nan], -np.log(true[:-1])]).astype(np.float32),
            "rank": np.concatenate([[0], 1 + (p > true[:, None]).sum(axis=1)[:-1]]).astype(np.int32),
            "top_ids": order, "top_probs": np.take_along_axis(p, order, axis=1), "words": words}


def views(step: int, tokens: list[str], n_layer: int, n_head: int) -> list:
    """The three views of a step."""
    learned = float(np.clip(np.log1p(step) / np.log1p(3000), 0, 1))
    all_steps, few = np.arange(0, 3001, 10), np.array(STEPS)
    train = loss_curve(all_steps) + 0.08 * np.random.default_rng(2).standard_normal(len(all_steps))
    curve = training_view({"train": (all_steps, train), "validation": (few, loss_curve(few) + 0.1)})
    said = predictions(tokens, learned)
    return [attention_view(pattern(n_layer, n_head, tokens, learned), tokens),
            tokens_view(said.pop("loss"), tokens, **said), curve]


def board(n_tokens: int = 18, n_layer: int = 4, n_head: int = 4, *, steps=STEPS, tokens: list[str] | None = None,
          title: str = "storyteller", **more) -> Board:
    """A board whose source invents the numbers of any step."""
    tokens = tokens or story(n_tokens)

    def source(step, text):
        shown = tokens if text == "".join(tokens) else list(text)
        if len(shown) > 200:
            raise ValueError(f"Text has {len(shown)} tokens but the model reads at most 200 (block_size). Shorten it.")
        return views(step, shown, n_layer, n_head)

    facts = ["INVENTED NUMBERS, to show the layout", f"{n_layer} layers × {n_head} heads", "d_model 128"]
    more = {"text": "".join(tokens), "limit": 200, "editable": True, "cost": "12 ms on CPU"} | more
    shown = views(steps[-1], tokens, n_layer, n_head)
    return Board(shown, title=title, facts=facts, steps=steps, source=source, **more)
