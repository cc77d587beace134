"""What a head would do with any token, as tables; and which head reads what which other writes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from gptviz.views.view import View


@dataclass(frozen=True)
class Scales:
    """What LayerNorm divides the stream by, at each position of a text.

    Args:
        ln_1: [layer, pos], before the heads of each layer.
        ln_final: [pos], before the unembedding.

    Example:
        >>> scales = Scales(np.array([[0.1, 0.2, 0.9]], np.float32), np.array([2.0, 2.0, 4.0], np.float32))
        >>> round(scales.typical_qk(0), 6), round(scales.typical_ov(0), 6)
        (0.04, 0.4)
    """

    ln_1: Float[np.ndarray, "layer pos"]
    ln_final: Float[np.ndarray, "pos"]

    def typical(self) -> Float[np.ndarray, "layer"]:
        """The median scale of each layer."""
        return np.array([_median(layer) for layer in self.ln_1])

    def typical_final(self) -> float:
        """The median scale before the unembedding."""
        return _median(self.ln_final)

    def typical_qk(self, layer: int) -> float:
        """What a score is divided by: the scale of the query's position times that of the key's."""
        return _median(self.ln_1[layer]) ** 2

    def typical_ov(self, layer: int) -> float:
        """What a logit is divided by: the scale where the head reads times that where it is read."""
        return _median(self.ln_1[layer]) * self.typical_final()


def _median(scales: Float[np.ndarray, "pos"]) -> float:
    """Of the finite ones; NaN where there are none."""
    finite = scales[np.isfinite(scales)]
    return float(np.median(finite)) if len(finite) else float("nan")


@dataclass(frozen=True)
class Tables:
    """The circuits of one head, divided by the typical LayerNorm scales.

    Args:
        qk: [query, key], what a pair of tokens adds to the score.
        ov: [source, output], what attending to a token adds to each logit.
        qk_values: The singular values of the whole QK circuit, largest first.
        ov_values: Those of the OV circuit.
    """

    qk: Float[np.ndarray, "token token"]
    ov: Float[np.ndarray, "token token"]
    qk_values: Float[np.ndarray, "rank"]
    ov_values: Float[np.ndarray, "rank"]


def circuits_view(
    make: Callable[[int, int], Tables] | None, words: Sequence[str], place: Sequence[int], scales: Scales | None,
    n_head: int, note: str = "", kept: int | None = None,
) -> View:
    """The QK and OV tables of the head that is looked at.

    Args:
        make: (layer, head) -> its tables; None where they would take too long, and then `note` says why.
        words: The visible forms of the tokens along each side.
        place: Of each position of the text, which of them it holds; -1 where none.
        scales: Those of the text, whose medians `make` divided by.
        n_head: Heads per layer.
        note: Which tokens these are, where they are not all.
        kept: Heads that a page holds at most, where a table takes long.

    Example:
        >>> table = Tables(np.eye(2), np.eye(2), np.ones(2), np.ones(2))
        >>> scales = Scales(np.ones((1, 3), np.float32), np.ones(3, np.float32))
        >>> view = circuits_view(lambda layer, head: table, ["a", "b"], [0, 1, 1], scales, 1)
        >>> view.detail_of(layer=0, head=0).arrays["qk"].shape
        (2, 2)
    """
    if make is None or scales is None:
        return View("circuits", "Circuits", note, {}, {})
    axes = {"qk": ("query", "key"), "ov": ("source", "output"), "qk_values": ("rank",), "ov_values": ("rank",)}

    def detail(at: dict[str, int]) -> View:
        found = make(at["layer"], at["head"])
        return View("circuits", "Circuits", "", {name: getattr(found, name).astype(np.float32) for name in axes}, axes)

    subtitle = "what this head would do with any token, from its weights" + (f" · {note}" if note else "")
    arrays = {"scale": scales.ln_1, "typical": scales.typical().astype(np.float32),
              "typical_final": np.array([scales.typical_final()], np.float32), "place": np.array(place, np.int32)}
    return View("circuits", "Circuits", subtitle, arrays,
                {"scale": ("layer", "pos"), "typical": ("layer",), "typical_final": ("one",), "place": ("pos",)},
                labels={"word": tuple(words)}, detail=detail, detail_axes=("layer", "head"),
                detail_places=(range(len(scales.ln_1)), range(n_head)), kept_details=kept)


@dataclass(frozen=True)
class Composition:
    """How strongly heads read what earlier ones write, and what chance gives.

    Args:
        scores: [kind, from_layer, from_head, to_layer, to_head], kinds Q, K, V; NaN where the reader is not later.
        null_high: 97.5 % of random matrices are below.
        null_strongest: In 95 % of models of random weights all pairs are below.
    """

    scores: Float[np.ndarray, "kind layer head layer head"]
    null_high: float
    null_strongest: float


def composition_view(make: Callable[[], Composition], kept: int | None = None) -> View:
    """The composition of every pair of heads, computed when the panel is unfolded.

    Args:
        make: Gives Q-, K- and V-composition and what chance gives.
        kept: 0 where it takes too long to be computed for a page.

    Example:
        >>> view = composition_view(lambda: Composition(np.full((3, 2, 1, 2, 1), 0.5), 0.3, 0.4))
        >>> view.detail_of().arrays["null_high"]
        array([0.3], dtype=float32)
    """
    def detail(_at: dict[str, int]) -> View:
        found = make()
        axes = {"scores": ("kind", "from_layer", "from_head", "to_layer", "to_head"),
                "null_high": ("one",), "null_strongest": ("one",)}
        arrays = {name: np.atleast_1d(np.asarray(getattr(found, name), np.float32)) for name in axes}
        return View("composition", "Composition", "", arrays, axes, range={"scores": (0.0, 1.0)})

    return View("composition", "Composition", "which head reads what an earlier one writes, from weights", {}, {},
                detail=detail, kept_details=kept)
