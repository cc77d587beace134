"""Numbers from a finished trace, or from weights: pure functions that give named arrays.

Every result is a frozen dataclass of numpy arrays. Where a result claims to add up to something the model
computed, it carries the measured error as `check`, and the function raises if the claim is missed.

Names are loaded when they are first used: `gptviz.analysis.heads` reads recorded patterns where torch is not
installed.

Example:
    >>> from gptviz import analysis
    >>> analysis.pattern_scores.__module__
    'gptviz.analysis.heads'
"""

import importlib
from typing import TYPE_CHECKING

# Public name -> module that defines it.
_HOME = {
    "logit_lens": "lens",
    "direct_logit_attribution": "attribution",
    "residual_writes": "attribution",
    "promoted_tokens": "attribution",
    "gradient_x_input": "attribution",
    "score_decomposition": "decomposition",
    "pattern_scores": "heads",
    "pattern_scores_over": "heads",
    "head_scores": "survey",
    "repeated_random_text": "survey",
    "untrained_like": "survey",
    "qk_circuit": "circuits",
    "ov_circuit": "circuits",
    "copying_scores": "circuits",
    "composition_scores": "composition",
    "cka": "similarity",
    "layer_similarity": "similarity",
    "activation_patching": "patching",
    "path_patching": "patching",
    "logit_difference": "patching",
    "AtPosition": "patched_passes",
    "traces_over": "corpus",
    "Distribution": "statistics",
    "collect_statistics": "statistics",
    "mean_activations": "statistics",
    "trace_statistics": "statistics",
    "loss_by_position": "context",
    "in_context_score": "context",
    "top_examples": "examples",
    "Neuron": "examples",
    "HeadWrite": "examples",
}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:  # the same names for editors and type checkers; a test compares the two lists
    from gptviz.analysis.attribution import direct_logit_attribution as direct_logit_attribution
    from gptviz.analysis.attribution import gradient_x_input as gradient_x_input
    from gptviz.analysis.attribution import promoted_tokens as promoted_tokens
    from gptviz.analysis.attribution import residual_writes as residual_writes
    from gptviz.analysis.circuits import copying_scores as copying_scores
    from gptviz.analysis.circuits import ov_circuit as ov_circuit
    from gptviz.analysis.circuits import qk_circuit as qk_circuit
    from gptviz.analysis.composition import composition_scores as composition_scores
    from gptviz.analysis.context import in_context_score as in_context_score
    from gptviz.analysis.context import loss_by_position as loss_by_position
    from gptviz.analysis.corpus import traces_over as traces_over
    from gptviz.analysis.decomposition import score_decomposition as score_decomposition
    from gptviz.analysis.examples import HeadWrite as HeadWrite
    from gptviz.analysis.examples import Neuron as Neuron
    from gptviz.analysis.examples import top_examples as top_examples
    from gptviz.analysis.heads import pattern_scores as pattern_scores
    from gptviz.analysis.heads import pattern_scores_over as pattern_scores_over
    from gptviz.analysis.lens import logit_lens as logit_lens
    from gptviz.analysis.patched_passes import AtPosition as AtPosition
    from gptviz.analysis.patching import activation_patching as activation_patching
    from gptviz.analysis.patching import logit_difference as logit_difference
    from gptviz.analysis.patching import path_patching as path_patching
    from gptviz.analysis.similarity import cka as cka
    from gptviz.analysis.similarity import layer_similarity as layer_similarity
    from gptviz.analysis.statistics import Distribution as Distribution
    from gptviz.analysis.statistics import collect_statistics as collect_statistics
    from gptviz.analysis.statistics import mean_activations as mean_activations
    from gptviz.analysis.statistics import trace_statistics as trace_statistics
    from gptviz.analysis.survey import head_scores as head_scores
    from gptviz.analysis.survey import repeated_random_text as repeated_random_text
    from gptviz.analysis.survey import untrained_like as untrained_like


def __getattr__(name: str):
    """Import the module of a public name on first use and keep the value."""
    if name not in _HOME:
        import difflib  # needed only here

        near = difflib.get_close_matches(name, _HOME, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else f" There are: {', '.join(__all__)}."
        raise AttributeError(f"gptviz.analysis has no name {name!r}.{hint}")
    value = getattr(importlib.import_module(f"gptviz.analysis.{_HOME[name]}"), name)
    globals()[name] = value  # the next look-up no longer comes here
    return value


def __dir__() -> list[str]:
    return list(__all__)
