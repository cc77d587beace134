"""How weights, gradients and activations are spread over training: bands for each part and layer."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from gptviz.runs.cadence import thinned, thinned_words
from gptviz.views.view import View

MOST_NUMBERS = 24_000  # of a view: 96 kB
KINDS = ("weights", "gradients", "activations")
SUBTITLE = ("bands: 5–95 % and 25–75 % of the values, line: median · dots: lowest and highest, ticks at the edge "
            "where they lie beyond it")
WORDS = {
    "attn.c_attn": "makes queries, keys and values",
    "attn.c_proj": "mixes what the heads read",
    "mlp.c_fc": "into the MLP's hidden layer",
    "mlp.c_proj": "out of it",
    "wte": "token embeddings",
    "wpe": "position embeddings",
    "lm_head": "makes the logits",
    "attn_out": "what attention writes to the residual stream",
    "mlp_out": "what the MLP writes to it",
    "resid_post": "the stream after the block",
}
"""What the parts are, for readers who do not know their names."""

ALONE = ("wte", "wpe", "lm_head")  # parts outside the blocks


def distributions_view(
    steps: Int[np.ndarray, "step"], values: Mapping[str, Float[np.ndarray, "step row share"]]
) -> View:
    """Bands through training; of a long run evenly thinned steps.

    Args:
        steps: [step], rising.
        values: By kind and part, such as "weights/attn.c_attn": [step, row, share], a row for each layer, or one; the
            shares are lowest, 5, 25, 50, 75, 95 % and highest. NaN where nothing was measured.

    Raises:
        ValueError: A name is of no such kind, an array has not one row of seven numbers per step, or steps fall.

    Example:
        >>> rows = np.arange(14.0).reshape(2, 1, 7)
        >>> view = distributions_view(np.array([0, 10]), {"weights/wte": rows})
        >>> view.content["parts"]
        [{'kind': 'weights', 'name': 'wte', 'rows': 1, 'words': 'token embeddings'}]
    """
    if bool((np.diff(steps) <= 0).any()):
        raise ValueError(f"The steps of distributions must rise; they are {steps.tolist()}. Sort them, each once.")
    most = MOST_NUMBERS // max(1, sum(array[0].size for array in values.values() if len(array)))
    at = thinned(range(len(steps)), max(2, most))
    arrays: dict[str, np.ndarray] = {"steps": steps[at].astype(np.int32)}
    axes: dict[str, tuple[str, ...]] = {"steps": ("step",)}
    parts = []
    for i, (name, array) in enumerate(sorted(values.items(), key=_order)):
        kind, _, part = name.partition("/")
        if kind not in KINDS or array.ndim != 3 or array.shape[::2] != (len(steps), 7):
            raise ValueError(f"{name} must be kind/part with a kind of {', '.join(KINDS)}, and [{len(steps)} steps, "
                             f"row, 7 numbers]; it is {array.shape}. See Run.distributions.")
        arrays[f"part_{i}"], axes[f"part_{i}"] = array[at].astype(np.float32), ("step", "row", "share")
        parts.append({"kind": kind, "name": part, "rows": array.shape[1], "words": WORDS.get(part, "")})
    subtitle = " · ".join(filter(None, [SUBTITLE, thinned_words(arrays["steps"].tolist(), len(steps))]))
    return View("distributions", "Distributions through training", subtitle, arrays, axes, content={"parts": parts})


def _order(item: tuple[str, object]) -> tuple[int, int]:
    """Kinds in their order; the parts of a block before those that stand alone."""
    kind, _, part = item[0].partition("/")
    return KINDS.index(kind) if kind in KINDS else len(KINDS), part in ALONE


def distributions_in_words(view: View, _query: int) -> tuple[str, list[str], list[list[str]]]:
    """Median and middle nine tenths of every part and layer at the last step."""
    steps, rows = view.arrays["steps"], []
    for i, part in enumerate(view.content["parts"]):
        for row, (_, low, _, median, _, high, _) in enumerate(view.arrays[f"part_{i}"][-1].tolist()):
            rows.append([part["kind"], row_name(part, row), f"{median:.2g}", f"{low:.2g}", f"{high:.2g}"])
    return (f"{view.title}: {len(steps)} steps, the last {int(steps[-1]) if len(steps) else 0}.",
            ["of", "part", "median", "5 % below", "5 % above"], rows)


def row_name(part: Mapping[str, object], row: int) -> str:
    """"L1 mlp.c_fc" for a part of the blocks, "wte" for one that stands alone.

    Example:
        >>> row_name({"name": "mlp.c_fc"}, 1), row_name({"name": "wte"}, 0)
        ('L1 mlp.c_fc', 'wte')
    """
    return str(part["name"]) if part["name"] in ALONE else f"L{row} {part['name']}"
