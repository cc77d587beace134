"""Two runs beside each other: what differs in how they were made, in their losses and in their heads. Without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64


@dataclass(frozen=True)
class Difference:
    """One thing in which two runs differ.

    Attributes:
        kind: "config", "loss" or "head".
        name: Which field, scalar or head.
        a: Its value in the first run.
        b: Its value in the second.
        size: How much: of a loss the difference in nats, of a head the share of attention that lies elsewhere, 0 to 1;
            NaN for a field of the config, which is said first.
    """

    kind: str
    name: str
    a: Any
    b: Any
    size: float

    def sentence(self) -> str:
        """What differs, in words.

        Example:
            >>> Difference("loss", "val_loss", 1.5, 1.25, 0.25).sentence()
            'val_loss: 1.5 and 1.25 (0.25 apart)'
        """
        values = f"{_shown(self.a)} and {_shown(self.b)}"
        return f"{self.name}: {values}" + ("" if np.isnan(self.size) else f" ({self.size:.3g} apart)")


def head_distances(
    a: Float[np.ndarray, "layer head_a query key"], b: Float[np.ndarray, "layer head_b query key"]
) -> Float64[np.ndarray, "layer head_a head_b"]:
    """How differently two heads of a layer attend on one text: the share of attention that lies elsewhere, 0 to 1.

    The mean over rows of half the sum of |a - b| over keys (the total variation distance); row 0, which has one key, is
    left out.

    Example:
        >>> look = np.eye(3)[None, None]
        >>> head_distances(look, look)
        array([[[0.]]])
    """
    a, b = (np.asarray(pattern, np.float64)[:, :, 1:] for pattern in (a, b))
    return np.stack([
        np.stack([0.5 * np.abs(one - of_b).sum(-1).mean(-1) for one in of_a]) for of_a, of_b in zip(a, b, strict=True)
    ])  # fmt: skip


def match_heads(
    a: Float[np.ndarray, "layer head query key"], b: Float[np.ndarray, "layer_b head_b query_b key_b"]
) -> Int64[np.ndarray, "layer head"]:
    """Which head of `b` behaves like each head of `a`: within each layer, the pairing with the least total distance.

    Heads have no order: two seeds grow the same head under another number. Only heads of one layer are paired, each
    once; a head of a kind that the other run has not is paired with what is left (see `head_distances` for how far).

    Raises:
        ValueError: The patterns have other shapes, or are not finite.

    Example:
        >>> rows = np.tril(np.ones((4, 4))) / np.arange(1, 5)[:, None]
        >>> two = np.stack([np.eye(4), rows])[None]
        >>> match_heads(two, two[:, ::-1])
        array([[1, 0]])
    """
    if a.shape != b.shape:
        raise ValueError(f"Heads are matched on one text, in models of the same shape; the patterns are {a.shape} and "
                         f"{b.shape}. Compare runs with the same layers, heads and probe text.")
    distances = head_distances(a, b)
    if not np.isfinite(distances).all():
        raise ValueError("Heads are matched by finite patterns; these hold a NaN. Choose an earlier step.")
    return np.stack([cheapest_pairing(layer) for layer in distances])


def cheapest_pairing(costs: Float64[np.ndarray, "n n"]) -> Int64[np.ndarray, "n"]:
    """For each row its own column, so that the sum of the costs is the least (the Hungarian method).

    Rows enter one after the other; each takes the cheapest way through columns that are taken already, whose rows move
    on (Jonker and Volgenant 1987, with potentials that keep all reduced costs at least 0).

    Example:
        >>> cheapest_pairing(np.array([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]]))
        array([1, 0, 2])
    """
    n = len(costs)
    of_row, of_column = np.zeros(n + 1), np.zeros(n + 1)  # potentials; index 0 is a column of its own
    row_of = np.zeros(n + 1, np.int64)
    for row in range(1, n + 1):
        row_of[0], column = row, 0
        least, before, seen = np.full(n + 1, np.inf), np.zeros(n + 1, np.int64), np.zeros(n + 1, bool)
        while row_of[column]:
            seen[column] = True
            at = row_of[column]
            reduced = costs[at - 1] - of_row[at] - of_column[1:]
            better = ~seen[1:] & (reduced < least[1:])
            least[1:][better], before[1:][better] = reduced[better], column
            nearest = int(np.where(seen, np.inf, least)[1:].argmin()) + 1
            step = least[nearest]
            of_row[row_of[seen]] += step
            of_column[seen] -= step
            least[~seen] -= step
            column = nearest
        while column:  # the rows on the way move on
            row_of[column], column = row_of[before[column]], before[column]
    pairing = np.zeros(n, np.int64)
    pairing[row_of[1:] - 1] = np.arange(n)
    return pairing


def common_steps(a: Any, b: Any) -> list[int]:
    """The steps recorded in both runs.

    Raises:
        ValueError: There is none.
    """
    steps = sorted(set(a.steps) & set(b.steps))
    if not steps:
        raise ValueError(f"Runs are compared at steps recorded in both; {a.path} has {_span(a.steps)} and {b.path} has "
                         f"{_span(b.steps)}. Record both with the same record_steps.")
    return steps


def common_probe(a: Any, b: Any) -> tuple[int, int]:
    """The number of the first probe text that both runs have, in each of them.

    Raises:
        ValueError: They share none.
    """
    ids = [[probe["ids"] for probe in run.info["probes"]] for run in (a, b)]
    for number, probe in enumerate(ids[0]):
        if probe in ids[1]:
            return number, ids[1].index(probe)
    raise ValueError(f"Runs are compared on a probe text that both recorded; {a.path} and {b.path} share none. Train "
                     "both with the same probes=[...].")


def differences(a: Any, b: Any, step: int | None = None) -> list[Difference]:
    """What differs most between two runs: fields of their configs, then losses and matched heads by size.

    Args:
        a: A `Run`.
        b: Another.
        step: A step recorded in both; the last one by default.

    Example:
        >>> from gptviz.runs import open_run
        >>> [one.kind for one in differences(open_run("sorter"), open_run("sorter"))]
        []
    """
    step = common_steps(a, b)[-1] if step is None else step
    configs = [flat_config(run) for run in (a, b)]
    found = [Difference("config", name, configs[0].get(name), configs[1].get(name), float("nan"))
             for name in sorted({*configs[0], *configs[1]}) if configs[0].get(name) != configs[1].get(name)]
    measured = _loss_differences(a, b, step) + head_differences(a, b, step)
    return found + sorted((one for one in measured if one.size > 0), key=lambda one: -one.size)


def flat_config(run: Any) -> dict[str, Any]:
    """How a run was made: the model's fields and those of its training, without where it was written."""
    fields = {**run.info["model"], **run.info.get("train", {})}
    return {name: value for name, value in fields.items() if name != "out"}


def head_differences(a: Any, b: Any, step: int) -> list[Difference]:
    """Each head of `a` with the head of `b` that behaves like it on a shared probe; none for other shapes."""
    patterns = shared_patterns(a, b, step)
    if patterns is None:
        return []
    matched, distances = match_heads(*patterns), head_distances(*patterns)
    return [
        Difference("head", f"L{layer}H{head}", f"L{layer}H{head}", f"L{layer}H{other}",
                   float(distances[layer, head, other]))
        for layer, row in enumerate(matched) for head, other in enumerate(row.tolist())
    ]  # fmt: skip


def shared_patterns(a: Any, b: Any, step: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The recorded patterns of both runs on the first probe they share; None if they cannot be matched."""
    first, second = common_probe(a, b)
    patterns = a.snapshot(step, first).attention(), b.snapshot(step, second).attention()
    fits = patterns[0].shape == patterns[1].shape and all(np.isfinite(pattern).all() for pattern in patterns)
    return patterns if fits else None


def _loss_differences(a: Any, b: Any, step: int) -> list[Difference]:
    """The newest finite value of each loss up to the step."""
    values = [_until(run.metrics(), step) for run in (a, b)]
    return [Difference("loss", name, values[0][name], values[1][name], abs(values[0][name] - values[1][name]))
            for name in ("loss", "val_loss", "accuracy") if name in values[0] and name in values[1]]


def _until(metrics: Mapping[str, np.ndarray], step: int) -> dict[str, float]:
    before = metrics["step"] <= step
    finite = {name: column[before & np.isfinite(column)] for name, column in metrics.items()
              if name in ("loss", "val_loss", "accuracy")}
    return {name: float(column[-1]) for name, column in finite.items() if len(column)}


def _span(steps: list[int]) -> str:
    return f"{len(steps)} steps from {steps[0]} to {steps[-1]}" if steps else "none"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
