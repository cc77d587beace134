"""The circuits of a model's heads, from its weights."""

from typing import Any

import numpy as np

from gptviz.analysis.circuits import ov_circuit, qk_circuit
from gptviz.analysis.composition import composition_scores
from gptviz.dashboards.tensors import as_numpy, visible_of
from gptviz.views import View
from gptviz.views.circuits import Composition, Scales, Tables, circuits_view, composition_view

WHOLE_VOCABULARY = 128  # tokens up to which a table is of all of them
LARGEST_VOCABULARY = 5000  # beyond, the tables of one head take a second
HEADS_OF_A_PAGE = 16  # whose tables a page holds where the vocabulary is large
QUICK_HEADS = 64  # up to which a page holds the composition: of 144 heads of GPT-2 it takes 20 s
OF_THE_TEXT = 64  # tokens of a table otherwise: the text's own
NAMES = ("ln_1_scale", "ln_final_scale")


def circuits_part(trace: Any, model: Any, tokenizer: Any = None) -> View:
    """QK and OV tables of every head: of all tokens, or of those of the text where there are many.

    The tables of `gv.analysis` are per unit of the LayerNorm scales. Here they are divided by the typical scales
    of the text, the medians over its positions, so that they can be compared with scores and logits.

    Example:
        >>> from gptviz.loading import load
        >>> from gptviz.trace import record
        >>> model, tokenizer = load("sorter")
        >>> view = circuits_part(record(model, "CAB", tokenizer), model, tokenizer)
        >>> view.detail_of(layer=0, head=0).arrays["ov"].shape
        (3, 3)
    """
    config = trace.config
    if config.vocab_size > LARGEST_VOCABULARY:
        note = f"tables are for at most {LARGEST_VOCABULARY:,} tokens; gv.analysis.qk_circuit gives the rows of more"
        return circuits_view(None, [], [], None, config.n_head, note)
    whole = config.vocab_size <= WHOLE_VOCABULARY
    ids = trace.ids.cpu().numpy()
    shown = np.arange(config.vocab_size) if whole else np.unique(ids)[:OF_THE_TEXT]
    visible = visible_of(tokenizer)
    scales = Scales(as_numpy(trace["ln_1_scale"]), as_numpy(trace["ln_final_scale"]))

    def make(layer: int, head: int) -> Tables:
        qk, ov = qk_circuit(model, layer, head), ov_circuit(model, layer, head)
        by = scales.typical_qk(layer), scales.typical_ov(layer)
        tables = [circuit.left[shown] @ circuit.right[:, shown] / scale
                  for circuit, scale in zip((qk, ov), by, strict=True)]
        return Tables(tables[0], tables[1], qk.svd()[1] / by[0], ov.svd()[1] / by[1])

    note = "" if whole else f"{len(shown)} of the text's tokens"
    words = [visible(int(token)) for token in shown]
    place = np.where(np.isin(ids, shown), np.searchsorted(shown, ids), -1).tolist()
    return circuits_view(make, words, place, scales, config.n_head, note, None if whole else HEADS_OF_A_PAGE)


def composition_part(trace: Any, model: Any, _tokenizer: Any = None) -> View:
    """Q-, K- and V-composition of every pair of heads."""
    def make() -> Composition:
        found = composition_scores(model)
        return Composition(np.stack([found.q, found.k, found.v]), found.null_high, found.null_strongest)

    many = trace.config.n_layer * trace.config.n_head > QUICK_HEADS
    return composition_view(make, 0 if many else None)
