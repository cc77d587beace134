"""Changing activations while the model runs, and proof that they changed.

An edit is a small frozen object that says what to replace, where and by what. `intervene` puts edits on a model for
the length of a `with` block:

    with intervene(model, ablate_head(1, 0), scale_head(2, 3, 0.5)) as report:
        trace = record(model, text, tokenizer)        # or generate, or model(ids)
    print(report)                                     # how often each edit fired, where, and how much it changed

Edits act in the order given, those of outer blocks first, and readers see what they leave. An edit that never fires,
or fires and changes nothing, is an error. An edit is also a line of Python (`repr`) and a line of JSON (`to_json`,
`Edit.from_json`).
"""

from gptviz.interventions.ablation import ablate_head, ablate_mlp, ablate_position, scale_head, steer
from gptviz.interventions.edit import Edit
from gptviz.interventions.intervene import Effect, IneffectiveEditError, Report, intervene
from gptviz.interventions.removal import without
from gptviz.interventions.replacement import freeze_ln, freeze_pattern, patch, set_pattern
from gptviz.interventions.transplant import transplant_head

__all__ = [
    "Edit",
    "Effect",
    "IneffectiveEditError",
    "Report",
    "ablate_head",
    "ablate_mlp",
    "ablate_position",
    "freeze_ln",
    "freeze_pattern",
    "intervene",
    "patch",
    "scale_head",
    "set_pattern",
    "steer",
    "transplant_head",
    "without",
]
