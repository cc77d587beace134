"""Payloads of small models with receipts of random cells, for the arithmetic of the exported page to be compared with.

    python tests/stepper_cells.py 2000 > cells.json       # from the repository's root

gives {"cases": [{"view": the payload of a view, bytes in base64, "receipts": [payloads of receipts]}...]}: every rule,
models with and without biases, tied and not, both GELUs, layers at once and one at a time (then under "details").
"""

import json
import sys

import numpy as np
from by_hand import IDS, VARIANTS, make_model

from gptviz.analysis.stepper.receipts import receipt
from gptviz.analysis.stepper.recorded import recorded_pass
from gptviz.analysis.stepper.stages import TENSORS
from gptviz.trace import record
from gptviz.views.board import payload_json
from gptviz.views.stepper import stepper_view


def case(variant: dict, count: int, inline: int, seed: int) -> dict:
    """One model's payload, and receipts of cells of all tensors in turn; the loss has none at position 0."""
    model = make_model(seed, **variant)
    forward, rng = recorded_pass(record(model, IDS), model), np.random.default_rng(seed)
    view = stepper_view(forward, inline=inline)
    receipts = []
    for i in range(count):
        name = list(TENSORS)[i % len(TENSORS)]
        index = [int(rng.integers(name == "loss", size)) for size in forward.shape(name)]
        receipts.append(receipt(forward, name, *index).payload())
    payload = view.payload() | ({"details": view.details({}, 1e9)} if view.detail else {})
    return {"view": payload, "receipts": receipts}


def cases(count: int) -> str:
    """`count` cells over all variants as JSON text."""
    each = -(-count // len(VARIANTS))
    made = [case(variant, each, 0 if seed % 2 else 8_000_000, seed) for seed, variant in enumerate(VARIANTS)]
    return payload_json({"cases": made})


if __name__ == "__main__":
    text = cases(int(sys.argv[1]))
    assert len(json.loads(text)["cases"]) == len(VARIANTS)
    sys.stdout.write(text)
