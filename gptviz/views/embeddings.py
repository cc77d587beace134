"""What the model starts from: a vector for each token and each position, as points and as similarities."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from gptviz.views.view import View


@dataclass(frozen=True)
class Points:
    """Vectors as points of three dimensions.

    Args:
        words: What each is called: the visible token, or the position.
        coordinates: [point, 3], along the principal components.
        share: [3], of the variance along each.
        near: [point, k], the nearest others by cosine.
        cosine: [point, k], their cosines.
        maps: Further coordinates [point, 2] by name, "tsne" and "umap".
    """

    words: Sequence[str]
    coordinates: Float[np.ndarray, "point 3"]
    share: Float[np.ndarray, "3"]
    near: Int[np.ndarray, "point k"]
    cosine: Float[np.ndarray, "point k"]
    maps: Mapping[str, Float[np.ndarray, "point 2"]] = field(default_factory=dict)


def embeddings_view(
    make: Callable[[], tuple[Points, Points]], places: Int[np.ndarray, "pos"], note: str = ""
) -> View:
    """Token and position embeddings as points, computed when the panel is unfolded.

    Args:
        make: Gives the tokens and the positions.
        places: [pos], for each position of the text its token among the points, or -1.
        note: What is left out: "2,000 of 50,257 tokens".

    Example:
        >>> dots = Points(["a"], np.zeros((1, 3)), np.ones(3), np.zeros((1, 0), int), np.zeros((1, 0)))
        >>> embeddings_view(lambda: (dots, dots), np.array([0])).detail_of().labels["tokens"]
        ('a',)
    """
    def detail(_at: dict[str, int]) -> View:
        arrays: dict[str, np.ndarray] = {}
        axes: dict[str, tuple[str, ...]] = {}
        labels: dict[str, tuple[str, ...]] = {}
        for name, points in zip(("tokens", "positions"), make(), strict=True):
            found = {"coordinates": points.coordinates, "share": points.share, "near": points.near,
                     "cosine": points.cosine, **points.maps}
            for part, array in found.items():
                arrays[f"{name}_{part}"] = array.astype(np.int32 if part == "near" else np.float32)
                axes[f"{name}_{part}"] = ("component",) if part == "share" else ("point", "part")
            labels[name] = tuple(points.words)
        return View("embeddings", "Embeddings", "", arrays, axes, labels=labels)

    subtitle = "tokens and positions as vectors, before any layer" + (f" · {note}" if note else "")
    return View("embeddings", "Embeddings", subtitle, {"place": places.astype(np.int32)}, {"place": ("pos",)},
                detail=detail)


def positions_view(make: Callable[[], tuple[Float[np.ndarray, "place place"], Int[np.ndarray, "place"]]]) -> View:
    """The cosine of every pair of position embeddings, computed when the panel is unfolded.

    Args:
        make: Gives the cosines and the positions that they are of.

    Example:
        >>> positions_view(lambda: (np.eye(2), np.arange(2))).detail_of().arrays["cosine"].shape
        (2, 2)
    """
    def detail(_at: dict[str, int]) -> View:
        cosine, places = make()
        arrays = {"cosine": cosine.astype(np.float32), "places": places.astype(np.int32)}
        return View("positions", "Positions", "", arrays, {"cosine": ("place", "place"), "places": ("place",)},
                    range={"cosine": (-1.0, 1.0)})

    return View("positions", "Positions", "how alike the vectors of two positions are", {}, {}, detail=detail)
