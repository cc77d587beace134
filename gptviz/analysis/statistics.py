"""Activations as statistics: moments, quantiles and histograms of any number of values in constant memory.

A `Distribution` keeps counts and sums, never values, and two of them merge into that of all their values.
Long runs keep these instead of tensors.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from gptviz.analysis.components import as_numpy
from gptviz.analysis.corpus import traces_over
from gptviz.arguments import must_be
from gptviz.naming import AXES, Address, resolve_names
from gptviz.trace import Trace, check_trace, unwrapped

RELATIVE_ERROR = 0.01
"""How far a quantile may be from the value of that rank, relative to it."""

SMALLEST = 1e-9
"""Smaller absolute values count as this large in quantiles and histograms (0 stays 0)."""

LARGEST = 1e9
"""Larger ones count as this large; the exact largest is in `maximum`."""

_GAMMA = (1 + RELATIVE_ERROR) / (
    1 - RELATIVE_ERROR
)  # bin i holds sizes from SMALLEST * gamma**(i-1) to SMALLEST * gamma**i
_N_SIZES = math.ceil(math.log(LARGEST / SMALLEST) / math.log(_GAMMA)) + 1
_SIZES = (
    SMALLEST * _GAMMA ** np.arange(_N_SIZES) * 2 / (_GAMMA + 1)
)  # as far from both ends of the bin, relatively
_CENTRES = np.concatenate([-_SIZES[::-1], [0.0], _SIZES])


@dataclass(frozen=True)
class Distribution:
    """What is kept of many numbers.

    Quantiles come from bins whose width grows with the value (DDSketch, Masson et al. 2019), so that they are
    right to 1 % at every size from 1e-9 to 1e9.

    Attributes:
        count: How many finite numbers there were.
        n_nan: How many were NaN; they are in nothing else.
        n_infinite: How many were infinite; likewise.
        mean: Their mean.
        m2: Sum of squared differences from the mean.
        m3: The same with the third power.
        m4: The same with the fourth.
        minimum: The smallest; infinity where there is none.
        maximum: The largest; minus infinity where there is none.
        bins: Counts of negative values from the largest size to the smallest, of zero, of positive ones.
    """

    count: int
    n_nan: int
    n_infinite: int
    mean: float
    m2: float
    m3: float
    m4: float
    minimum: float
    maximum: float
    bins: Int64[np.ndarray, "bin"]

    @classmethod
    def of(cls, values: Float[np.ndarray, "..."]) -> "Distribution":
        """The distribution of an array's values.

        Example:
            >>> distribution = Distribution.of(np.array([1.0, 2.0, 3.0, np.nan]))
            >>> distribution.mean, distribution.n_nan, round(distribution.quantile(0.5), 1)
            (2.0, 1, 2.0)
        """
        must_be(values, np.ndarray, "values", "Pass a numpy array, or np.array(values).")
        flat = values.reshape(-1).astype(np.float64)
        finite = flat[np.isfinite(flat)]
        n_nan = int(np.isnan(flat).sum())
        mean = float(finite.mean()) if finite.size else 0.0
        away = finite - mean
        m2, m3, m4 = (float((away**power).sum()) for power in (2, 3, 4))
        ends = (float(finite.min()), float(finite.max())) if finite.size else (math.inf, -math.inf)
        n_infinite = flat.size - finite.size - n_nan
        return cls(finite.size, n_nan, n_infinite, mean, m2, m3, m4, *ends, _binned(finite))

    def merge(self, other: "Distribution") -> "Distribution":
        """The distribution of both sets of numbers together (Pébay 2008).

        Example:
            >>> Distribution.of(np.array([1.0])).merge(Distribution.of(np.array([2.0, 6.0]))).mean
            3.0
        """
        must_be(other, Distribution, "other", "Pass a Distribution.")
        a, b = self.count, other.count
        n = a + b
        step = other.mean - self.mean
        if n == 0 or a == 0 or b == 0:
            first = other if a == 0 else self
            moments = (first.mean, first.m2, first.m3, first.m4)
        else:
            m2 = self.m2 + other.m2 + step**2 * a * b / n
            m3 = (
                self.m3
                + other.m3
                + step**3 * a * b * (a - b) / n**2
                + 3 * step * (a * other.m2 - b * self.m2) / n
            )
            m4 = (
                self.m4
                + other.m4
                + step**4 * a * b * (a * a - a * b + b * b) / n**3
                + 6 * step**2 * (a * a * other.m2 + b * b * self.m2) / n**2
                + 4 * step * (a * other.m3 - b * self.m3) / n
            )
            moments = (self.mean + step * b / n, m2, m3, m4)
        ends = (min(self.minimum, other.minimum), max(self.maximum, other.maximum))
        bad = (self.n_nan + other.n_nan, self.n_infinite + other.n_infinite)
        return Distribution(n, *bad, *moments, *ends, self.bins + other.bins)

    @property
    def std(self) -> float:
        """Standard deviation (of these numbers, not an estimate for more); NaN where there is none."""
        return math.sqrt(self.m2 / self.count) if self.count else math.nan

    @property
    def skewness(self) -> float:
        """0 for a symmetric distribution; NaN where all numbers are equal."""
        return self.m3 / self.count / self.std**3 if self.count and self.m2 > 0 else math.nan

    @property
    def kurtosis(self) -> float:
        """3 for a normal distribution, far more where a few values are huge; NaN where all are equal."""
        return self.m4 / self.count / self.std**4 if self.count and self.m2 > 0 else math.nan

    def quantile(self, share: float | int) -> float:
        """The value below which a share of the numbers lies, right to 1 % of itself; NaN where there is none.

        Raises:
            ValueError: the share is not 0 to 1.
        """
        if not isinstance(share, int | float) or not 0.0 <= share <= 1.0:
            raise ValueError(f"A quantile's share must be 0 to 1, not {share!r}.")
        if self.count == 0:
            return math.nan
        at = int(np.searchsorted(self.bins.cumsum(), 1 + math.floor(share * (self.count - 1))))
        return float(np.clip(_CENTRES[at], self.minimum, self.maximum))

    def histogram(self, edges: Float[np.ndarray, "edge"]) -> Int64[np.ndarray, "bar"]:
        """How many numbers lie between neighbouring edges, each number moved by at most 1 % of itself.

        Raises:
            ValueError: the edges do not rise.
        """
        must_be(edges, np.ndarray, "edges", "Pass a numpy array, or np.array(values).")
        if len(edges) < 2 or not (np.diff(edges) > 0).all():
            raise ValueError(f"The edges of a histogram must rise, at least two of them; got {edges}.")
        kept = self.bins > 0
        counts, _ = np.histogram(
            np.clip(_CENTRES[kept], self.minimum, self.maximum), bins=edges, weights=self.bins[kept]
        )
        return counts.astype(np.int64)


def collect_statistics(
    model: nn.Module,
    texts: Iterable[Any],
    tokenizer: Any = None,
    *,
    names: str | Iterable[str] | None = None,
    layers: Any = None,
    batch_size: int = 8,
    truncate: str | None = None,
) -> dict[Address, Distribution]:
    """The distribution of every activation over a corpus, by (name, layer); layer None outside the blocks.

    Cells above the diagonal of scores and pattern do not exist for the model and are left out, as is the loss
    of position 0. Memory does not grow with the corpus: one batch of activations and 33 kB per name and
    layer.

    Args:
        model: A `GPT`.
        texts: Texts or id lists; may be a generator.
        tokenizer: Turns texts into ids.
        names: What to look at, as in `record`; None for everything.
        layers: Only these layers.
        batch_size: How many texts run at once.
        truncate: "left" or "right" for texts longer than the block.

    Raises:
        ValueError: there is no text, or one does not fit.

    Example:
        >>> from gptviz.model import GPT, GPTConfig
        >>> model = GPT(GPTConfig(block_size=4, vocab_size=5, n_layer=1, n_head=2, n_embd=8))
        >>> found = collect_statistics(model, [[0, 1, 2], [3, 4]], names=["mlp_post", "pattern"])
        >>> found["mlp_post", 0].count, found["pattern", 0].count
        (160, 18)
    """
    found: dict[Address, Distribution] = {}
    traces = traces_over(
        model, texts, tokenizer, names=names, layers=layers, batch_size=batch_size, truncate=truncate
    )
    for trace in traces:
        for address, distribution in trace_statistics(trace).items():
            found[address] = found[address].merge(distribution) if address in found else distribution
    if not found:
        raise ValueError("There must be at least one text, but there is none.")
    return found


def trace_statistics(trace: Trace) -> dict[Address, Distribution]:
    """The distribution of every value recorded in one trace, by (name, layer); `merge` adds up several.

    Example:
        >>> from gptviz.model import GPT, GPTConfig
        >>> from gptviz.trace import record
        >>> trace = record(GPT(GPTConfig(block_size=4, vocab_size=5, n_layer=1, n_head=2, n_embd=8)), [0, 1, 2])
        >>> trace_statistics(trace)["loss", None].count
        2
    """
    check_trace(trace)
    addresses = resolve_names(trace.names, trace.config.n_layer, trace.layers)
    keys = {at: at[0] if at[1] is None else (at[0], at[1]) for at in addresses}
    return {at: Distribution.of(_existing(trace, at, trace[key])) for at, key in keys.items() if key in trace}


def mean_activations(
    model: nn.Module,
    texts: Iterable[Any],
    tokenizer: Any = None,
    *,
    names: str | Iterable[str] = "z",
    batch_size: int = 8,
    truncate: str | None = None,
) -> Mapping[str, Float64[np.ndarray, "..."]]:
    """The mean of activations over all tokens of a corpus: what mean ablation puts in an activation's place.

    Misleads at position 0, which in many models is unlike all others: it is in the mean, and the mean is not
    like it.

    Args:
        model: A `GPT`.
        texts: Texts or id lists; may be a generator. Memory does not grow with their number.
        tokenizer: Turns texts into ids.
        names: Names with an axis pos, as in `record`.
        batch_size: How many texts run at once.
        truncate: "left" or "right" for texts longer than the block.

    Returns:
        For each name an array with the axes of the name without pos: "z" gives [layer head d_head], and "z.1" the
        same with layer 1 alone.

    Raises:
        ValueError: there is no text, or a name has no axis pos.

    Example:
        >>> from gptviz.model import GPT, GPTConfig
        >>> model = GPT(GPTConfig(block_size=4, vocab_size=5, n_layer=1, n_head=2, n_embd=8))
        >>> mean_activations(model, [[0, 1, 2], [3, 4]])["z"].shape
        (1, 2, 4)
    """
    addresses = resolve_names(names, unwrapped(model).config.n_layer)
    asked = dict.fromkeys(name for name, _ in addresses)
    without = [name for name in asked if "pos" not in AXES[name] or name == "loss"]
    if without:
        raise ValueError(
            f"A mean over positions needs names with an axis pos, which {', '.join(without)} "
            "has not. Choose one such as z, mlp_post or resid_post."
        )
    wanted = [name if layer is None else f"{name}.{layer}" for name, layer in addresses]
    sums: dict[Address, np.ndarray] = {}
    n_tokens = 0
    for trace in traces_over(model, texts, tokenizer, names=wanted, batch_size=batch_size, truncate=truncate):
        n_tokens += len(trace)
        for (name, layer), spelled in zip(addresses, wanted, strict=True):
            axes = [axis for axis in AXES[name] if axis != "layer"]
            total = as_numpy(trace[spelled]).sum(axes.index("pos"))
            sums[name, layer] = sums[name, layer] + total if (name, layer) in sums else total
    if not n_tokens:
        raise ValueError("There must be at least one text, but there is none.")
    return _by_name({address: total / n_tokens for address, total in sums.items()})


def _by_name(values: Mapping[Address, Float64[np.ndarray, "..."]]) -> dict[str, Float64[np.ndarray, "..."]]:
    """One array for each name; that of a name with layers has them as its first axis."""
    names = dict.fromkeys(name for name, _ in values)
    layers = {name: [value for (of, _), value in values.items() if of == name] for name in names}
    return {name: np.stack(found) if AXES[name][0] == "layer" else found[0] for name, found in layers.items()}


def _binned(finite: Float64[np.ndarray, "value"]) -> Int64[np.ndarray, "bin"]:
    with np.errstate(divide="ignore"):  # zero goes to its own bin
        places = np.ceil(np.log(np.abs(finite) / SMALLEST) / math.log(_GAMMA))
    places = np.clip(places, 0, _N_SIZES - 1).astype(np.int64) + 1
    return np.bincount(_N_SIZES + np.sign(finite).astype(np.int64) * places, minlength=len(_CENTRES))


def _existing(trace: Trace, address: Address, value: Tensor) -> Float64[np.ndarray, "*any"]:
    """The values that exist for the model: no later keys, and a loss only where something came before."""
    array = as_numpy(value)
    if address[0] in ("scores", "pattern"):
        return array[:, np.arange(len(trace)) <= np.array(trace.positions)[:, None]]
    if address[0] == "loss":
        return array[np.array(trace.positions) > 0]
    return array
