"""Vectors as points on a page: principal components, t-SNE, UMAP; and which vectors point the same way.

numpy only, but for t-SNE and UMAP, which need scikit-learn and umap-learn.
"""

import importlib.util

import numpy as np
from jaxtyping import Float, Float64, Int64

LARGEST = 5000
"""Vectors that neighbours are looked for among: all pairs are compared."""


def principal_components(
    vectors: Float[np.ndarray, "vector d_model"], n: int = 3
) -> tuple[Float64[np.ndarray, "vector n"], Float64[np.ndarray, "n"]]:
    """The coordinates of centred vectors along their `n` directions of largest variance, and its share along each.

    The sign of a direction is chosen so that its largest coordinate is positive: the same vectors give the same
    picture. Missing directions are 0. A vector that is not finite is at
    NaN; the others are where they would be without it.

    Misleads where the shares are small: points that lie together here may be far apart in the rest of the space.

    Example:
        >>> points, share = principal_components(np.array([[0.0, 0], [2, 0], [4, 0]]), 2)
        >>> points.round(6).tolist(), share.tolist()
        ([[-2.0, 0.0], [0.0, 0.0], [2.0, 0.0]], [1.0, 0.0])
    """
    finite = np.isfinite(vectors).all(1)
    if not finite.all():
        points, share = np.full((len(vectors), n), np.nan), np.full(n, np.nan)
        if finite.any():
            points[finite], share = principal_components(vectors[finite], n)
        return points, share
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    points, share = np.zeros((len(vectors), n)), np.zeros(n)
    found = min(n, len(s))
    points[:, :found] = u[:, :found] * s[:found]
    flip = np.sign(points[np.abs(points).argmax(0), np.arange(n)])
    total = (s**2).sum()
    share[:found] = s[:found] ** 2 / total if total else 0
    return points * np.where(flip == 0, 1, flip), share


def neighbours(
    vectors: Float[np.ndarray, "vector d_model"], k: int = 8
) -> tuple[Int64[np.ndarray, "vector k"], Float64[np.ndarray, "vector k"]]:
    """For each vector the `k` others of the largest cosine, nearest first, and the cosines.

    Raises:
        ValueError: there are more than `LARGEST` vectors.

    Example:
        >>> near, cosine = neighbours(np.array([[1.0, 0], [2, 0.1], [0, 1]]), 1)
        >>> near.ravel().tolist(), cosine.ravel().round(3).tolist()
        ([1, 0, 1], [0.999, 0.999, 0.05])
    """
    if len(vectors) > LARGEST:
        raise ValueError(f"Neighbours are looked for among at most {LARGEST} vectors; there are {len(vectors)}. "
                         f"Choose some.")
    cosine = cosines(vectors)
    np.fill_diagonal(cosine, -np.inf)
    near = np.argsort(-cosine, axis=1, kind="stable")[:, : min(k, len(vectors) - 1)]
    return near, np.take_along_axis(cosine, near, 1)


def cosines(vectors: Float[np.ndarray, "vector d_model"]) -> Float64[np.ndarray, "vector vector"]:
    """The cosine of every pair of vectors; 0 with a vector of zeros.

    Example:
        >>> cosines(np.array([[1.0, 0], [0, 2]]))
        array([[1., 0.],
               [0., 1.]])
    """
    length = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    unit = vectors / np.where(length == 0, 1, length)
    return unit @ unit.T


def available_maps() -> list[str]:
    """Which of "tsne" and "umap" can be computed here: those whose packages are installed.

    Example:
        >>> set(available_maps()) <= {"tsne", "umap"}
        True
    """
    packages = {"tsne": "sklearn", "umap": "umap"}
    return [name for name, package in packages.items() if importlib.util.find_spec(package)]


def nonlinear_map(
    vectors: Float[np.ndarray, "vector d_model"], method: str, seed: int = 0
) -> Float64[np.ndarray, "vector 2"]:
    """Two coordinates by t-SNE (scikit-learn) or UMAP (umap-learn), cosine distances, a fixed seed.

    Misleads about distances between groups and about their sizes; only who is near whom is kept.

    Raises:
        ValueError: there is no such method, or its package is not installed.
    """
    packages = {"tsne": "scikit-learn", "umap": "umap-learn"}
    if method not in available_maps():
        raise ValueError(f"A map must be one of {', '.join(packages)}, with its package installed; {method!r} is not. "
                         f"pip install {packages.get(method, 'scikit-learn')}")
    n = len(vectors)
    if method == "tsne":
        from sklearn.manifold import TSNE  # pyright: ignore[reportMissingImports]

        wide = max(1.0, min(30.0, (n - 1) / 3))
        made = TSNE(n_components=2, metric="cosine", init="random", perplexity=wide, random_state=seed)
    else:
        from umap import UMAP  # pyright: ignore[reportMissingImports]

        made = UMAP(n_components=2, metric="cosine", n_neighbors=max(2, min(15, n - 1)), random_state=seed)
    return np.asarray(made.fit_transform(vectors.astype(np.float64)), np.float64)
