"""How often is a head of an untrained model outside the band of chance? The tables of docs/head-scores.md.

    python -m benchmarks.head_scores [--models 40]

No head of random weights knows anything, so that of every score 2.5 % of them should lie above the band. Beside the
band of `gptviz.analysis.heads` stands the one it had before, which events still use, with a margin: keys permuted
within each row, or the same attention beside shuffled texts.
"""

import argparse
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch

from gptviz.analysis import pattern_scores, repeated_random_text
from gptviz.analysis.events import standing
from gptviz.analysis.heads import SHARES, score_targets
from gptviz.analysis.measures import ProgressMeasures
from gptviz.corpora import TextData, load_text_data
from gptviz.model import GPT, GPTConfig
from gptviz.trace import record

N_LETTERS = 32  # of a random text
N_NULL = 100  # draws, as many as a board takes
LENGTHS = (12, 48, 256)
STRONG = {"c_attn.weight": 12.0, "": 3.0}  # what the initial weights are multiplied by

Ids = np.ndarray


def random_text(n_tokens: int, rng: np.random.Generator) -> Ids:
    return repeated_random_text(N_LETTERS, n_tokens, rng)


@lru_cache
def corpus() -> TextData:
    return load_text_data("python-docs", "char", progress=False)


def written_text(n_tokens: int, rng: np.random.Generator) -> Ids:
    """Letters of Python's documentation, numbered as they occur."""
    text = corpus().ids["train"]
    start = int(rng.integers(0, len(text) - n_tokens))
    return np.unique(np.asarray(text[start : start + n_tokens]), return_inverse=True)[1]


def repeated_text(n_tokens: int, rng: np.random.Generator) -> Ids:
    """A piece of such a text, a third as long, again and again."""
    piece = written_text(max(6, n_tokens // 3), rng)
    return np.tile(piece, n_tokens // len(piece) + 1)[:n_tokens]


def untrained(ids: Ids, seed: int, strong: bool) -> GPT:
    """Four layers of four heads; `strong` weights make attention as sharp as a trained model's."""
    torch.manual_seed(seed)
    n_vocab = max(N_LETTERS, int(ids.max()) + 1)
    model = GPT(GPTConfig(block_size=len(ids), vocab_size=n_vocab, n_layer=4, n_head=4, n_embd=64)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if strong and parameter.ndim == 2:
                parameter.mul_(next(factor for part, factor in STRONG.items() if name.endswith(part)))
    return model


def above(pattern: np.ndarray, ids: Ids, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Whether each head's score `[score head]` is above its band, as it is and as it was."""
    found = pattern_scores(pattern, ids, n_null=N_NULL, n_bootstrap=1)
    targets, counts = score_targets(ids, N_NULL, rng)
    sums = np.einsum("hqk,sdqk->sdh", pattern.reshape(-1, len(ids), len(ids)), targets[: len(SHARES)], optimize=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = sums / counts[: len(SHARES)].sum(-1)[..., None]
    n_scores = len(SHARES)
    now = (found.value > found.null_high)[:n_scores].reshape(n_scores, -1)
    return now, drawn[:, 0] > np.nanquantile(np.nan_to_num(drawn[:, 1:]), 0.975, axis=1)


def rows(n_models: int) -> None:
    texts: dict[str, Callable[[int, np.random.Generator], Ids]] = {
        "random, with a repeat": random_text, "written": written_text, "written, again and again": repeated_text}
    print("| text | tokens | weights |", " | ".join(SHARES), "| most for induction in a model |\n" + "|---" * 9 + "|")
    for name, text in texts.items():
        for n_tokens in LENGTHS:
            for strong in (False, True):
                seen = []
                for seed in range(n_models):
                    rng = np.random.default_rng(seed)
                    ids = text(n_tokens, rng)
                    pattern = record(untrained(ids, seed, strong), ids.tolist(), names="pattern")["pattern"].numpy()
                    seen.append(above(pattern, ids, rng))
                now, before = (100 * np.mean([one[i] for one in seen], axis=(0, 2)) for i in (0, 1))
                cells = [f"{a:.1f} ({b:.1f})" for a, b in zip(now, before, strict=True)]
                most = [max(one[i][SHARES.index("induction")].sum() for one in seen) for i in (0, 1)]
                weights = "strong" if strong else "initial"
                print(f"| {name} | {n_tokens} | {weights} | {' | '.join(cells)} | {most[0]} ({most[1]}) |", flush=True)


def knows(n_tokens: int, n_letters: int, rng: np.random.Generator) -> float:
    """How often a head that only does induction is above the band, on texts of so many different letters."""
    found = []
    for _ in range(40):
        ids = rng.integers(0, n_letters, n_tokens)
        after = np.array([[0 < k < q and ids[k - 1] == ids[q] for k in range(n_tokens)] for q in range(n_tokens)])
        pattern = np.where(after.any(1, keepdims=True), after, np.arange(n_tokens) == 0)
        score = pattern_scores((pattern / pattern.sum(1, keepdims=True))[None, None], ids, n_null=N_NULL)["induction"]
        found.append(float(score.value[0, 0] > score.null_high[0, 0]))
    return float(np.mean(found))


def events(n_models: int) -> None:
    """Head events of untrained models: none must stand out, whatever their band."""
    counts = dict.fromkeys(("previous_token", "induction", "first_token"), 0)
    for seed in range(n_models):
        model = untrained(np.arange(48), seed, strong=True)
        seen = ProgressMeasures(model.config, seed=seed).observe(model)
        for score in counts:
            counts[score] += len(standing(seen, score))
    print(f"\nOf {n_models * 16} heads with strong weights stand out, by the margin of the events: {counts}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows(options.models)
    shares = {n: knows(48, n, np.random.default_rng(0)) for n in (3, 5, 6, 8, 12, 16)}
    print("\nA head that only does induction, 48 tokens, is above the band on texts of so many different letters:",
          ", ".join(f"{n}: {100 * share:.0f} %" for n, share in shares.items()))
    events(options.models)


if __name__ == "__main__":
    main()
