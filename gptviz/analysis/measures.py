"""Progress measures: a few numbers of a model, on texts that never change, cheap enough to take while it trains.

An observation is what one recorded step says about itself; `gptviz.analysis.events` reads a history of them without
torch. The scores are those of `gptviz.analysis.heads`, over texts whose targets were worked out once.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int
from torch import Tensor, nn

from gptviz.analysis.composition import k_composition, random_ratios
from gptviz.analysis.events import standing
from gptviz.analysis.heads import SHARES, score_targets
from gptviz.analysis.survey import SHORTEST, repeated_random_text
from gptviz.config import GPTConfig
from gptviz.interventions import ablate_head, intervene
from gptviz.model import GPT
from gptviz.trace import Trace, record, unwrapped

N_TEXTS = 2
LONGEST = 48  # tokens of a random text
N_NULL = 20  # shuffles of each random text: 97.5 % of them is near the largest
SHORTEST_PROBE = 16  # tokens: a shorter one has too few pairs to shuffle
MOST_PROBES = 2
N_FLIPS = 200
DEAD_BELOW = -3.0  # GELU gives less than 0.005 there, and passes hardly any gradient
DIGITS = 4  # of a number in an observation


class _Text(NamedTuple):
    """A random text, and the few cells of its pattern that each score and draw sums: one score after the other."""

    ids: list[int]
    cells: Int[np.ndarray, "target"]
    weights: Float32[np.ndarray, "target"]
    starts: Int[np.ndarray, "filled"]
    filled: Int[np.ndarray, "filled"]
    counts: Float[np.ndarray, "score draw"]

    def sums(self, pattern: Float[np.ndarray, "head cell"]) -> Float64[np.ndarray, "score_draw head"]:
        """The sum of pattern * target for each score and draw; some have no target at all."""
        sums = np.zeros((self.counts.size, len(pattern)))
        if len(self.filled):
            sums[self.filled] = np.add.reduceat(pattern[:, self.cells] * self.weights, self.starts, axis=1).T
        return sums


class ProgressMeasures:
    """The texts on which a model is measured again and again, and their targets.

    - Head scores: `previous_token`, `current_token`, `first_token`, `duplicate_token` and `induction` on two random
      texts with a repeat, each with the mean and the 97.5 % point of its null (texts shuffled, keys permuted).
    - Gain: how much lower the loss of the probe texts is than with the same texts cut into pairs of tokens and the
      pairs shuffled. Each scored token still follows its true predecessor: what is lost is what more than one token
      tells. Its null flips the signs of the differences.
    - Dead neurons: those whose `mlp_pre` is below -3 at every token of the random texts.

    Args:
        config: The model's configuration.
        probes: Token ids of the pinned texts; those of at least 16 tokens are used, two at most.
        seed: Of the random texts and the nulls.

    Example:
        >>> model = GPT(GPTConfig(block_size=16, vocab_size=9, n_layer=1, n_head=2, n_embd=8))
        >>> observation = ProgressMeasures(model.config).observe(model)
        >>> sorted(observation)
        ['d_mlp', 'dead', 'heads', 'null', 'null_high']
        >>> np.shape(observation["heads"]["induction"])
        (1, 2)
    """

    def __init__(self, config: GPTConfig, probes: Sequence[Sequence[int]] = (), seed: int = 0) -> None:
        rng = np.random.Generator(np.random.PCG64(seed))
        room = min(LONGEST, config.block_size)
        fits = room >= SHORTEST and config.vocab_size >= 2
        self.config = config
        self._texts = [self._text(config.vocab_size, room, rng) for _ in range(N_TEXTS if fits else 0)]
        long_enough = [list(probe) for probe in probes if len(probe) >= SHORTEST_PROBE]
        self._probes = long_enough[:MOST_PROBES]
        self._orders = [rng.permutation(len(probe) // 2) for probe in self._probes]
        n_pairs = sum(len(order) - 1 for order in self._orders)
        self._flips = rng.choice([-1.0, 1.0], (N_FLIPS, n_pairs))

    @staticmethod
    def _text(n_vocab: int, n_tokens: int, rng: np.random.Generator) -> _Text:
        ids = repeated_random_text(n_vocab, n_tokens, rng)
        targets, counts = score_targets(ids, N_NULL, rng)
        flat = targets[: len(SHARES)].reshape(-1, n_tokens * n_tokens)
        which, cells = np.nonzero(flat)
        filled, starts = np.unique(which, return_index=True)
        n_rows = counts[: len(SHARES)].sum(-1).astype(np.float64)
        return _Text(ids.tolist(), cells, flat[which, cells], starts, filled, n_rows)

    def observe(
        self,
        model: nn.Module,
        known: frozenset[tuple[int, int]] = frozenset(),
        losses: Sequence[Float[np.ndarray, "_pos"]] | None = None,
        *,
        gain: bool = True,
    ) -> dict[str, Any]:
        """Measures the model as it is now; its mode, gradients and the random state stay as they were.

        Args:
            model: A `GPT` of this configuration.
            known: Induction heads, as (layer, head), whose composition need not be measured again.
            losses: The loss of each probe by position, if it is known already.
            gain: Whether to measure the gain, which takes half the time.

        Returns:
            JSON values, numbers to four decimals, NaN as None: "heads", "null" and "null_high" by score, each
            `[layer head]`; "dead" `[layer]` neurons of "d_mlp"; "gain" if there are probes; "composition" of
            new induction heads.
        """
        inner = unwrapped(model)
        rows = [text.ids for text in self._texts] + (self._cut_probes() if gain else [])
        if not rows:
            return {}
        traces = record(inner, rows, names=("pattern", "mlp_pre", "loss"))
        random, cut = traces[: len(self._texts)], traces[len(self._texts) :]
        observation: dict[str, Any] = {}
        if random:
            silent = torch.stack([_silent(trace) for trace in random]).all(0)
            observation = {"dead": silent.sum(-1).tolist(), "d_mlp": silent.shape[-1], **self._heads(random)}
            new = sorted(standing(observation, "induction") - known)
            if found := [self._composition(inner, observation, reader) for reader in new]:
                observation["composition"] = found
        if cut:
            if losses is None:
                losses = [_loss(trace) for trace in record(inner, self._probes, names="loss")]
            observation["gain"] = self._gain(losses, [_loss(trace) for trace in cut])
        return observation

    def _heads(self, traces: Sequence[Any]) -> dict[str, Any]:
        """Value, mean and 97.5 % point of the null of each score; all rows of all texts count the same."""
        shape = (len(SHARES), N_NULL + 1, self.config.n_layer * self.config.n_head)
        sums, counts = np.zeros(shape), np.zeros(shape[:2])
        for text, trace in zip(self._texts, traces, strict=True):
            pattern = trace["pattern"].float().cpu().numpy().reshape(shape[2], -1)
            sums += text.sums(pattern).reshape(shape)
            counts += text.counts
        with np.errstate(invalid="ignore", divide="ignore"):
            scores = np.moveaxis(sums / counts[..., None], 1, 0)  # draw score head; draw 0 is the real text
        value, null = scores[0], scores[1:]
        parts = {"heads": value, "null": null.mean(0), "null_high": np.quantile(null, 0.975, axis=0)}
        heads = (self.config.n_layer, self.config.n_head)
        return {name: {score: plain(row.reshape(heads)) for score, row in zip(SHARES, part, strict=True)}
                for name, part in parts.items()}

    def _composition(self, model: GPT, observation: dict[str, Any], reader: tuple[int, int]) -> dict[str, Any]:
        """K-composition of an induction head with the previous-token heads below it, and the score without the best."""
        writers = sorted(head for head in standing(observation, "previous_token") if head[0] < reader[0])
        found: dict[str, Any] = {"head": list(reader), "writer": None}
        if not writers:
            return found
        scores = k_composition(model, reader[0], reader[1])
        best = max(writers, key=lambda head: scores[head])
        null = random_ratios(self.config.n_embd, self.config.n_embd // self.config.n_head, n_null=50)
        with intervene(model, ablate_head(*best), allow_unchanged=True):
            traces = record(model, [text.ids for text in self._texts], names="pattern", layers=reader[0])
        ablated = self._induction_of(traces, reader[1])
        return found | {"writer": list(best), "k": plain(scores[best]), "k_null_high": plain(np.quantile(null, 0.975)),
                        "ablated": plain(ablated)}

    def _induction_of(self, traces: list[Trace], head: int) -> float:
        """The induction score of one head of the one recorded layer, on the real texts."""
        at, total, rows = SHARES.index("induction") * (N_NULL + 1), 0.0, 0.0
        for text, trace in zip(self._texts, traces, strict=True):
            total += float(text.sums(trace["pattern"][0, head].float().cpu().numpy().reshape(1, -1))[at, 0])
            rows += text.counts[SHARES.index("induction"), 0]
        return total / rows

    def _cut_probes(self) -> list[list[int]]:
        """The probes with their pairs of tokens in another order; a last odd token stays at the end."""
        cut = []
        for ids, order in zip(self._probes, self._orders, strict=True):
            pairs = np.array(ids[: 2 * len(order)]).reshape(-1, 2)[order]
            cut.append([*pairs.ravel().tolist(), *ids[2 * len(order) :]])
        return cut

    def _gain(self, whole: Sequence[Float[np.ndarray, "_pos"]], cut: list[Float[np.ndarray, "_pos"]]) -> dict[str, Any]:
        """Mean loss of the second tokens of pairs, in the text and in the shuffled text; the null of the difference.

        The first pair of the shuffled text has nothing before it and is left out.
        """
        before, after = [], []
        for in_order, shuffled, order in zip(whole, cut, self._orders, strict=True):
            before.append(in_order[2 * order + 1][1:])
            after.append(shuffled[1 : 2 * len(order) : 2][1:])
        a, b = np.concatenate(before), np.concatenate(after)
        null_high = np.quantile(self._flips @ (b - a) / len(a), 0.975)
        return {"value": plain(np.mean(b - a)), "null_high": plain(null_high), "whole": plain(a.mean()),
                "pairs": plain(b.mean())}


def plain(values: Any) -> Any:
    """Numbers as nested lists of JSON values, to four decimals; what is not finite as None."""
    array = np.asarray(values, float)
    if array.ndim:
        return [plain(row) for row in array] if array.ndim > 1 else [_plain(value) for value in array.tolist()]
    return _plain(float(array))


def _plain(value: float) -> float | None:
    return round(value, DIGITS) if math.isfinite(value) else None


def _loss(trace: Trace) -> Float[np.ndarray, "_pos"]:
    return trace["loss"].double().cpu().numpy()


def _silent(trace: Trace) -> Bool[Tensor, "layer d_mlp"]:
    """Which neurons `[layer d_mlp]` stay below the threshold at every token."""
    return torch.stack([(trace["mlp_pre", layer] < DEAD_BELOW).all(0) for layer in trace.layers])
