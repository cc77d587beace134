"""What a head would do with any token, as tables; and which head reads what which other writes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from gptviz.views.view import View


@dataclass(frozen=True)
class Tables:
    """The circuits of one head.

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
    make: Callable[[int, int], Tables] | None, words: Sequence[str], n_layer: int, n_head: int, note: str = "",
    kept: int | None = None,
) -> View:
    """The QK and OV tables of the head that is looked at.

    Args:
        make: (layer, head) -> its tables; None where they would take too long, and then `note` says why.
        words: The visible forms of the tokens along each side.
        n_layer: Layers.
        n_head: Heads.
        note: Which tokens these are, where they are not all.
        kept: Heads that a page holds at most, where a table takes long.

    Example:
        >>> table = Tables(np.eye(2), np.eye(2), np.ones(2), np.ones(2))
        >>> circuits_view(lambda layer, head: table, ["a", "b"], 1, 1).detail_of(layer=0, head=0).arrays["qk"].shape
        (2, 2)
    """
    if make is None:
        return View("circuits", "Circuits", note, {}, {})
    axes = {"qk": ("query", "key"), "ov": ("source", "output"), "qk_values": ("rank",), "ov_values": ("rank",)}

    def detail(at: dict[str, int]) -> View:
        found = make(at["layer"], at["head"])
        return View("circuits", "Circuits", "", {name: getattr(found, name).astype(np.float32) for name in axes}, axes)

    subtitle = "what this head would do with any token, from its weights" + (f" · {note}" if note else "")
    return View("circuits", "Circuits", subtitle, {}, {}, labels={"word": tuple(words)}, detail=detail,
                detail_axes=("layer", "head"), detail_places=(range(n_layer), range(n_head)), kept_details=kept)


def composition_view(
    make: Callable[[], tuple[Float[np.ndarray, "kind layer head layer head"], float]], kept: int | None = None
) -> View:
    """The composition of every pair of heads, computed when the panel is unfolded.

    Args:
        make: Gives Q-, K- and V-composition [kind, from_layer, from_head, to_layer, to_head], NaN where the reader
            is not later; and the score below which 97.5 % of random matrices are.
        kept: 0 where it takes too long to be computed for a page.

    Example:
        >>> view = composition_view(lambda: (np.full((3, 2, 1, 2, 1), 0.5), 0.3))
        >>> view.detail_of().arrays["null_high"]
        array([0.3], dtype=float32)
    """
    def detail(_at: dict[str, int]) -> View:
        scores, high = make()
        axes = ("kind", "from_layer", "from_head", "to_layer", "to_head")
        return View("composition", "Composition", "", {"scores": scores.astype(np.float32),
                                                       "null_high": np.array([high], np.float32)},
                    {"scores": axes, "null_high": ("one",)}, range={"scores": (0.0, 1.0)})

    return View("composition", "Composition", "which head reads what an earlier one writes, from weights", {}, {},
                detail=detail, kept_details=kept)
