"""What a head attends to, in numbers: scores of patterns, each with its null and its confidence interval.

numpy only: recorded patterns are scored where torch is not installed.

Every score is a mean over the rows (queries) of a pattern in which it means anything:

| score | of a row, query i | its band of chance |
|---|---|---|
| previous_token | attention to key i-1 | the same attention, at another distance |
| current_token | attention to key i | the same |
| first_token | attention to key 0, rows i >= 8 | the same attention, to another key |
| duplicate_token | attention to earlier keys with the query's own token | signs flipped, token by token |
| induction | attention to keys just after an earlier copy of that token | the same |
| distance | mean of i - key under the attention, in tokens | the same |
| entropy | entropy of the attention / ln(number of keys) | 1, no band |

The null of a score is what even attention gives in the same rows. Around it lies the band of a head that is not even
but means nothing by it. Such a head still has tastes, which hold for many rows at once: it likes a distance, a key,
or what follows a token. So a place is compared with other places, all rows together; of the rest each token's excess
over even attention, summed over its rows, counts as often with the one sign as with the other. Rows are not shuffled
one by one, and neither is the text: that would make tastes look like skill (docs/head-scores.md).

Row 0 has one key to attend to and is never counted. Dividing the entropy by ln of the row's own number of
keys, and not of the text's length, makes uniform causal attention exactly 1.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int, Int64

from gptviz.arguments import must_be, several, whole_number

SCORES = (
    "previous_token",
    "current_token",
    "first_token",
    "duplicate_token",
    "induction",
    "distance",
    "entropy",
)
"""Names of the scores, in the order of every score axis."""

SHARES = SCORES[:5]
"""The scores that are shares of attention, 0 to 1; `HeadScores.labels` chooses among them."""

FIRST_TOKEN_FROM = 8
"""Earlier rows have so few keys that the first one gets much attention by chance."""

LEAST_MASS = 0.01
"""With the sink removed, a row with less attention left is skipped: it would be rounding, magnified."""

BAND = (0.025, 0.975)

NEAR = 24
"""Other distances and keys are drawn from at least so many, and from half of a longer text."""

PLACES = slice(0, 3)
"""The scores of SCORES that are attention to one place of each row."""


class HeadScore(NamedTuple):
    """One score of all heads, each array `[layer head]`; see `HeadScores`."""

    value: Float64[np.ndarray, "layer head"]
    null: Float64[np.ndarray, "layer head"]
    null_low: Float64[np.ndarray, "layer head"]
    null_high: Float64[np.ndarray, "layer head"]
    low: Float64[np.ndarray, "layer head"]
    high: Float64[np.ndarray, "layer head"]
    n_rows: Int64[np.ndarray, "layer head"]


@dataclass(frozen=True)
class HeadScores:
    """All scores of all heads. NaN where no row of the text allows a score.

    Attributes:
        names: The score axis.
        value: Mean over the rows that count.
        null: What even attention gives in the same rows.
        null_low: Lower end of the band of chance: 2.5 % of `n_null` draws are below. It holds `null`.
        null_high: Upper end; for entropy both are 1.
        low: Lower end of the 95 % bootstrap interval of `value`.
        high: Upper end.
        n_rows: How many rows count.
        without_sink: Whether key 0 was dropped and the rest of each row renormalised.
        resampled: What the bootstrap drew: "row" of the one text, or "text".
    """

    names: tuple[str, ...]
    value: Float64[np.ndarray, "score layer head"]
    null: Float64[np.ndarray, "score layer head"]
    null_low: Float64[np.ndarray, "score layer head"]
    null_high: Float64[np.ndarray, "score layer head"]
    low: Float64[np.ndarray, "score layer head"]
    high: Float64[np.ndarray, "score layer head"]
    n_rows: Int64[np.ndarray, "score layer head"]
    without_sink: bool
    resampled: str

    def __getitem__(self, name: str) -> HeadScore:
        """One score by name.

        Raises:
            ValueError: there is no such score.
        """
        if name not in self.names:
            raise ValueError(f"A head score must be one of {', '.join(self.names)}, not {name!r}.")
        at = self.names.index(name)
        return HeadScore(*(getattr(self, field)[at] for field in HeadScore._fields))

    def labels(self, least: float = 0.3) -> tuple[tuple[str, ...], ...]:
        """For each layer and head the score that stands out most from its null, or "" where none does.

        A score stands out if its interval lies above the null band and (value - null) / (1 - null) is at
        least `least`. The name says where the head looks on this text; it does not say what the head does.
        """
        excess = np.full((len(SHARES), *self.value.shape[1:]), -np.inf)
        for row, name in enumerate(SHARES):
            score = self[name]
            with np.errstate(invalid="ignore", divide="ignore"):
                share = (score.value - score.null) / (1 - score.null)
                excess[row] = np.where((score.low > score.null_high) & (share >= least), share, -np.inf)
        best = excess.argmax(0)
        found = np.isfinite(excess.max(0))
        return tuple(
            tuple(
                SHARES[best[at]] if found[at] else ""
                for at in [(layer, head) for head in range(best.shape[1])]
            )
            for layer in range(best.shape[0])
        )


def pattern_scores(
    pattern: Float[np.ndarray, "layer head query key"],
    ids: Int[np.ndarray, "pos"],
    *,
    without_sink: bool = False,
    n_null: int = 100,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> HeadScores:
    """Score the heads on one text; the interval comes from resampling its rows.

    Misleads in six ways. Rows of one text are not independent, so the interval speaks of this text only:
    score several with `pattern_scores_over`. A text of four different tokens has too few to tell an induction
    head from one that happens to like what follows them: seldom is one above the band. A fixed distance between
    repeats lets a head that merely looks a fixed distance back score as induction: repeats must come at random
    distances (`repeated_random_text`). Many heads rest on the first token when they have nothing to do: a high
    first_token may hide what else a head does, which `without_sink` brings out. Among hundreds of heads some
    leave a 95 % band by chance. And where a head looks is not what it does: ablate it.

    Args:
        pattern: Attention after the softmax, whole and causal; unpacked bytes will do, rows are renormalised.
        ids: Token ids of the text.
        without_sink: Drop key 0 and renormalise each row over the other keys.
        n_null: Draws from the null; at least 1.
        n_bootstrap: Resamplings; at least 1.
        seed: Of the null and the bootstrap.

    Raises:
        ValueError: the pattern is not finite, causal, square, or of the length of the text.

    Example:
        >>> previous = np.eye(6, k=-1)
        >>> previous[0, 0] = 1
        >>> scores = pattern_scores(previous[None, None], np.array([0, 1, 2, 0, 1, 2]))
        >>> scores["previous_token"].value, round(float(scores["previous_token"].null[0, 0]), 2)
        (array([[1.]]), 0.29)
        >>> scores.labels()
        (('previous_token',),)
    """
    return pattern_scores_over(
        [(pattern, ids)], without_sink=without_sink, n_null=n_null, n_bootstrap=n_bootstrap, seed=seed
    )


def pattern_scores_over(
    texts: Iterable[tuple[Float[np.ndarray, "layer head _query _key"], Int[np.ndarray, "_pos"]]],
    *,
    without_sink: bool = False,
    n_null: int = 100,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> HeadScores:
    """Score the heads on several texts, each (pattern, ids); the interval comes from resampling whole texts.

    All rows of all texts count the same. With fewer than about ten texts the interval is too narrow. Patterns
    are used one after the other, so that `texts` may make them as it goes. For the rest see `pattern_scores`.

    Raises:
        ValueError: there is no text, a pattern is not one, or its text has another length.

    Example:
        >>> even = np.tril(np.ones((4, 4))) / np.arange(1, 5)[:, None]
        >>> scores = pattern_scores_over([(even[None, None], np.arange(4)), (even[None, None], np.arange(4))])
        >>> scores["entropy"].value.round(6), scores.resampled
        (array([[1.]]), 'text')
    """
    for name, number in (("n_null", n_null), ("n_bootstrap", n_bootstrap)):
        whole_number(number, name, least=1)
    whole_number(seed, "seed")
    rng = np.random.Generator(np.random.PCG64(seed))
    measured = []
    for text in several(texts, "texts"):
        if not isinstance(text, tuple) or len(text) != 2:
            raise TypeError(f"A text to score must be (pattern, ids), two numpy arrays, not {type(text).__name__}.")
        measured.append(_measure(*text, without_sink, n_null, rng))
    if not measured:
        raise ValueError("There must be at least one text to score, but there is none.")
    shapes = {text.shape for text in measured}
    if len(shapes) > 1:
        raise ValueError(
            f"All patterns must have the same layers and heads, but there are {sorted(shapes)}. "
            "Score the texts of one model at a time."
        )
    return _summarise(measured, without_sink, n_null, n_bootstrap, rng)


class _Measured(NamedTuple):
    """One text: its rows, what even attention gives in them, and of each draw the excess at other places."""

    shape: tuple[int, int]
    ids: Int[np.ndarray, "_query"]
    rows: Float64[np.ndarray, "score head _query"]
    even: Float64[np.ndarray, "score head _query"]
    elsewhere: Float64[np.ndarray, "draw place head"]


def _measure(
    pattern: Float[np.ndarray, "layer head query key"],
    ids: Int[np.ndarray, "pos"],
    without_sink: bool,
    n_null: int,
    rng: np.random.Generator,
) -> _Measured:
    for what, array in (("pattern", pattern), ("ids", ids)):
        must_be(array, np.ndarray, what, "Pass a numpy array; of a trace: trace['pattern'].numpy(), trace.ids.numpy().")
    _check_pattern(pattern, ids)
    n_layer, n_head, n_tokens, _ = pattern.shape
    first_key, n_heads = int(without_sink), n_layer * n_head
    rows = np.full((len(SCORES), n_heads, n_tokens), np.nan)
    even = np.full((len(SCORES), n_tokens), np.nan)
    elsewhere = np.zeros((n_null, PLACES.stop, n_heads))
    places = _other_places(n_tokens, first_key, n_null, rng)
    for query in range(1 + first_key, n_tokens):  # a row with one key says nothing
        row = _normalised(pattern[:, :, query, first_key : query + 1].reshape(n_heads, -1), without_sink)
        targets, counts = (part[:, 0] for part in _targets(ids[None], query, first_key, rng))
        rows[:-1, :, query] = np.where(counts[:, None], targets @ row.T, np.nan)  # entropy is missing
        even[:-1, query] = np.where(counts, targets.mean(-1), np.nan)
        there = np.moveaxis(row[:, places[:, :, query] - first_key], 0, -1) - 1 / row.shape[-1]  # draw place head
        elsewhere += np.nan_to_num(there) * counts[PLACES, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            rows[-1, :, query] = -np.where(row == 0, 0.0, row * np.log(row)).sum(-1) / np.log(row.shape[-1])
    even[-1] = 1.0
    return _Measured((n_layer, n_head), ids, rows, np.where(np.isnan(rows), np.nan, even[:, None]), elsewhere)


def _other_places(
    n_tokens: int, first_key: int, n_null: int, rng: np.random.Generator
) -> Int64[np.ndarray, "draw place query"]:
    """For the scores of PLACES keys at a distance, or one key, that is another one; any key of rows that lack it."""
    near = min(n_tokens - 1, max(NEAR, n_tokens // 2))  # a distance or key that few rows have says little
    queries, others = np.arange(n_tokens), rng.integers(0, max(1, near), (n_null, PLACES.stop, 1))
    others += others >= [[1], [0], [0]]  # not the score's own distance or key
    keys = np.where([[True], [True], [False]], queries - others, others)
    some = first_key + (rng.random(keys.shape) * (queries + 1 - first_key)).astype(np.int64)
    return np.where((keys >= first_key) & (keys <= queries), keys, some)


def score_targets(
    ids: Int[np.ndarray, "pos"], n_null: int, rng: np.random.Generator
) -> tuple[Float32[np.ndarray, "score draw query key"], Bool[np.ndarray, "score draw query"]]:
    """What every cell of a text's pattern counts for in each score but entropy, and which rows count.

    For a text whose patterns are scored again and again. A score is the sum of pattern * targets over the cells,
    divided by the number of rows that count; draw 0 is the real text. The others are a null: the keys of each row
    permuted, or the text shuffled, above which heads with tastes lie too often (docs/head-scores.md).
    """
    n_tokens = len(ids)
    texts = np.stack([ids, *(rng.permutation(ids) for _ in range(n_null))])
    targets = np.zeros((len(SCORES) - 1, n_null + 1, n_tokens, n_tokens), np.float32)
    counts = np.zeros((len(SCORES) - 1, n_null + 1, n_tokens), bool)
    for query in range(1, n_tokens):
        row, counts[:, :, query] = _targets(texts, query, 0, rng)
        targets[:, :, query, : query + 1] = row * counts[:, :, query, None]
    return targets, counts


def _normalised(row: Float[np.ndarray, "head key"], without_sink: bool) -> Float64[np.ndarray, "head key"]:
    """A row as float64 that sums to 1; NaN where nearly all attention was on the removed sink."""
    row = row.astype(np.float64)
    mass = row.sum(-1, keepdims=True)
    return row / (np.where(mass < LEAST_MASS, np.nan, mass) if without_sink else mass)


def _targets(
    texts: Int[np.ndarray, "draw pos"], query: int, first_key: int, rng: np.random.Generator
) -> tuple[Float64[np.ndarray, "score draw key"], Bool[np.ndarray, "score draw"]]:
    """What each key counts for in each score but entropy, and in which draws this row counts; draw 0 is real."""
    keys = np.arange(first_key, query + 1)
    n_draws, n_keys = len(texts), len(keys)
    places = np.tile(np.arange(n_keys), (n_draws, 1))
    places[1:] = rng.permuted(places[1:], axis=1)  # of each key, in each draw
    moved = keys[places]
    same = texts[:, : query + 1] == texts[:, [query]]
    same[:, query] = False
    after = np.zeros_like(same)
    after[:, 1:query] = same[:, : query - 1]  # the query itself, after a doubled token, does not count
    same, after = same[:, first_key:], after[:, first_key:]
    always, far = np.ones(n_draws, bool), np.full(n_draws, query >= FIRST_TOKEN_FROM and first_key == 0)
    targets = [moved == query - 1, moved == query, moved == 0, same, after, query - moved]  # as in SCORES
    counts = [always, always, far, same.any(-1), after.any(-1), always]
    return np.stack(targets).astype(np.float64), np.stack(counts)


def _summarise(
    measured: list[_Measured], without_sink: bool, n_null: int, n_bootstrap: int, rng: np.random.Generator
) -> HeadScores:
    shape = (len(SCORES), *measured[0].shape)
    if len(measured) == 1:
        units = np.moveaxis(measured[0].rows, -1, 0)  # query score head
        sums, counts = np.nan_to_num(units), np.isfinite(units).astype(np.float64)
    else:
        sums = np.stack([np.nan_to_num(text.rows).sum(-1) for text in measured])  # text score head
        counts = np.stack([np.isfinite(text.rows).sum(-1) for text in measured]).astype(np.float64)
    draws = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=n_bootstrap).astype(np.float64)
    resampled = _ratio(np.tensordot(draws, sums, 1), np.tensordot(draws, counts, 1))
    null = _ratio(np.sum([np.nansum(text.even, axis=-1) for text in measured], axis=0), counts.sum(0))
    away = _ratio(_draws(measured, n_null, rng), np.broadcast_to(counts.sum(0), (n_null, *null.shape)))
    null_low, null_high = (null + end for end in _band(away, "weibull"))  # a new value lies above in 2.5 % of cases
    band = (np.minimum(null_low, null), np.maximum(null_high, null))
    arrays = [_ratio(sums.sum(0), counts.sum(0)), null, *band, *_band(resampled)]
    value, null, null_low, null_high, low, high = (array.reshape(shape) for array in arrays)
    n_rows = counts.sum(0).astype(np.int64).reshape(shape)
    unit = "row" if len(measured) == 1 else "text"
    return HeadScores(SCORES, value, null, null_low, null_high, low, high, n_rows, without_sink, unit)


def _draws(measured: list[_Measured], n_null: int, rng: np.random.Generator) -> Float64[np.ndarray, "draw score head"]:
    """Sums over the rows of what chance adds to even attention: signs flipped by token, or the same at other places.

    A token has one sign in all texts: a head that likes what follows it does so everywhere.
    """
    tokens = np.unique(np.concatenate([text.ids for text in measured]))
    excess = np.zeros((len(tokens), *measured[0].rows.shape[:2]))  # token score head
    for text in measured:
        np.add.at(excess, np.searchsorted(tokens, text.ids), np.moveaxis(np.nan_to_num(text.rows - text.even), -1, 0))
    draws = np.tensordot(rng.choice([-1.0, 1.0], (n_null, len(tokens))), excess, 1)
    draws[:, PLACES] = np.sum([text.elsewhere for text in measured], axis=0)
    draws[:, SCORES.index("entropy")] = 0.0
    return draws


def _ratio(sums: Float[np.ndarray, "*any"], counts: Float[np.ndarray, "*any"]) -> Float64[np.ndarray, "*any"]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums / np.where(counts == 0, np.nan, counts)


def _band(draws: Float[np.ndarray, "draw *any"], method: Any = "linear") -> Iterator[Float64[np.ndarray, "*any"]]:
    """Both ends of the 95 % band of the draws; NaN where there is none (nanquantile would warn)."""
    nothing = ~np.isfinite(draws).any(0)
    filled = np.where(nothing, 0.0, draws)
    for end in np.nanquantile(filled, BAND, axis=0, method=method):
        yield np.where(nothing, np.nan, end)


def _check_pattern(pattern: Float[np.ndarray, "layer head query key"], ids: Int[np.ndarray, "pos"]) -> None:
    if pattern.ndim != 4:
        raise ValueError(f"A pattern must be an array [layer head query key], not of shape {pattern.shape}.")
    n_query, n_key = pattern.shape[2:]
    if not n_query == n_key == len(ids):
        raise ValueError(
            f"A pattern must have a query and a key for each of the {len(ids)} tokens; "
            f"it has {n_query} queries and {n_key} keys. Record it without positions=, and pass the ids of the "
            "same text."
        )
    if not np.isfinite(pattern).all():
        raise ValueError(
            "A pattern must be finite to be scored, but holds a NaN or infinity. "
            "Look at `scores` for the first place where it arises."
        )
    future = np.triu(np.ones((n_query, n_key), bool), 1)
    error = float(np.abs(pattern.sum(-1, dtype=np.float64) - 1).max())
    if error > 0.1 or (pattern[..., future] != 0).any() or (pattern < 0).any():
        raise ValueError(
            "Each row of a pattern must hold shares of attention that sum to 1, and 0 for later keys; "
            f"here a row misses 1 by {error:.2g}, or a later key or a negative value is in it. "
            "Pass the pattern after the mask and the softmax."
        )
