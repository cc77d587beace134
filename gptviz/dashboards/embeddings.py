"""The embedding tables of a model as points."""

from typing import Any

import numpy as np

from gptviz.analysis.projections import (
    available_maps,
    cosines,
    neighbours,
    nonlinear_map,
    principal_components,
)
from gptviz.dashboards.tensors import as_numpy, visible_of
from gptviz.views import View
from gptviz.views.embeddings import Points, embeddings_view, positions_view

MOST_TOKENS = 2000  # points of a large vocabulary
MOST_PLACES = 256  # along the side of the similarities of positions
MOST_MAPPED = 1000  # points up to which t-SNE and UMAP are tried: they take seconds


def embeddings_part(trace: Any, model: Any, tokenizer: Any = None) -> View:
    """Token and position embeddings of a model.

    Example:
        >>> from gptviz.loading import load
        >>> from gptviz.trace import record
        >>> model, tokenizer = load("sorter")
        >>> embeddings_part(record(model, "CAB", tokenizer), model, tokenizer).detail_of().labels["positions"][:3]
        ('0', '1', '2')
    """
    from gptviz.capture import unwrapped

    parts, visible = unwrapped(model).transformer, visible_of(tokenizer)
    shown = tokens_shown(trace.ids.cpu().numpy(), len(parts.wte.weight))
    index = {int(token): i for i, token in enumerate(shown)}
    places = np.array([index[int(token)] for token in trace.ids])

    def make() -> tuple[Points, Points]:
        positions = as_numpy(parts.wpe.weight)
        return (points_of(as_numpy(parts.wte.weight)[shown], [visible(int(token)) for token in shown]),
                points_of(positions, [str(place) for place in range(len(positions))]))

    total = len(parts.wte.weight)
    return embeddings_view(make, places, f"{len(shown):,} of {total:,} tokens" if len(shown) < total else "")


def positions_part(_trace: Any, model: Any, _tokenizer: Any = None) -> View:
    """How alike the position embeddings of a model are; of long ones every second, third and so on."""
    from gptviz.capture import unwrapped

    weights = unwrapped(model).transformer.wpe.weight

    return positions_view(lambda: positions_of(as_numpy(weights)))


def positions_of(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cosines of position embeddings, and the positions that they are of."""
    places = np.arange(0, len(weights), -(-len(weights) // MOST_PLACES))
    return cosines(weights[places]), places


def tokens_shown(ids: np.ndarray, n_vocab: int) -> np.ndarray:
    """All tokens of a small vocabulary; of a large one those of the text, and others at even distances.

    Example:
        >>> tokens_shown(np.array([7]), 9).tolist()
        [0, 1, 2, 3, 4, 5, 6, 7, 8]
    """
    if n_vocab <= MOST_TOKENS:
        return np.arange(n_vocab)
    own = np.unique(ids)
    others = np.setdiff1d(np.arange(0, n_vocab, n_vocab // MOST_TOKENS + 1), own)
    return np.sort(np.concatenate([own, others[: max(0, MOST_TOKENS - len(own))]]))


def points_of(vectors: np.ndarray, words: list[str], *, mapped: bool = True) -> Points:
    """Vectors as points; `mapped` also by t-SNE and UMAP, where they are installed and the points are few."""
    coordinates, share = principal_components(vectors)
    near, cosine = neighbours(vectors)
    few = mapped and 3 < len(vectors) <= MOST_MAPPED
    maps = {name: nonlinear_map(vectors, name) for name in available_maps()} if few else {}
    return Points(words, coordinates, share, near, cosine, maps)
