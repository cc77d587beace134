"""Views of a recorded probe that need the weights of a step: loaded only when a reader unfolds or looks at them."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from gptviz.dashboards.embeddings import points_of, positions_of, tokens_shown
from gptviz.dashboards.lens import lens_of
from gptviz.dashboards.tensors import as_numpy, visible_of
from gptviz.views import View
from gptviz.views.embeddings import Points, embeddings_view, positions_view
from gptviz.views.lens import lens_view_in_blocks

Load = Callable[[int | None], tuple[Any, Any]]


def when_unfolded(run: Any, load: Load, step: int, probe: int) -> list[View]:
    """The logit lens, the embeddings and the positions of a probe at a recorded step.

    Nothing is computed here, so a live board can have them at every step: what no browser draws costs the training
    nothing.

    Args:
        run: A Run.
        load: Gives the model and the tokenizer of a step.
        step: A recorded step.
        probe: Which of its probe texts.
    """
    config, ids = run.config, np.array(run.info["probes"][probe]["ids"])
    visible = visible_of(run.tokenizer)

    @lru_cache(maxsize=1)
    def passed() -> tuple[Any, Any, Any]:
        from gptviz.trace import record

        model, tokenizer = load(step)
        return record(model, ids.tolist(), names=("resid_pre", "resid_post", "logits")), model, tokenizer

    shown = tokens_shown(ids, config.vocab_size)

    def embedded() -> tuple[Points, Points]:
        table, places = (as_numpy(part.weight) for part in (passed()[1].transformer.wte, passed()[1].transformer.wpe))
        return (points_of(table[shown], [visible(int(token)) for token in shown], mapped=False),
                points_of(places, [str(place) for place in range(len(places))], mapped=False))

    note = f"{len(shown):,} of {config.vocab_size:,} tokens" if len(shown) < config.vocab_size else ""
    points = ("embed", *(f"L{layer}" for layer in range(config.n_layer)))
    return [
        lens_view_in_blocks(points, [visible(int(token)) for token in ids], config.vocab_size,
                            lambda positions: lens_of(*passed(), positions)),
        embeddings_view(embedded, np.searchsorted(shown, ids), note),
        positions_view(lambda: positions_of(as_numpy(passed()[1].transformer.wpe.weight))),
    ]  # fmt: skip
