"""A full layer x head x position activation-patching sweep on z at 4x4x128, T64, against one forward pass per cell.

    python -m benchmarks patching          or: python -m benchmarks.patching

Target: at least 5 times faster than one forward pass per cell. The loop is given every advantage: one hook, no checks,
the logits of the last position only. Every cell of the sweep is compared with it.
"""

import numpy as np
import torch

from benchmarks.interleaved import compare, conditions
from gptviz.analysis.patching import activation_patching, logit_difference
from gptviz.interventions import intervene, patch
from gptviz.model import GPT, GPTConfig
from gptviz.trace import record

N_TOKENS = 64


def bare_loop(model: GPT, clean: torch.Tensor, corrupted: torch.Tensor, metric) -> np.ndarray:
    """One forward pass per cell, with nothing around it but the hook that patches."""
    config = model.config
    values = np.empty((config.n_layer, config.n_head, N_TOKENS))
    with torch.no_grad():
        z = record(model, clean, names="z")["z"]
        for layer, head, position in np.ndindex(values.shape):

            def put(module, args, output, layer=layer, head=head, position=position):
                output = output.clone()
                output[:, head, position] = z[layer, head, position]
                return output

            handle = model.hook_points["z", layer].register_forward_hook(put)
            values[layer, head, position] = metric(model(corrupted[None])[0])
            handle.remove()
    return values


def checked_loop(model: GPT, clean: torch.Tensor, corrupted: torch.Tensor, metric) -> np.ndarray:
    """One forward pass per cell under `intervene`, as a notebook would write it."""
    config = model.config
    trace = record(model, clean, names="z")
    values = np.empty((config.n_layer, config.n_head, N_TOKENS))
    for layer, head, position in np.ndindex(values.shape):
        with torch.no_grad(), intervene(model, patch(trace, "z", layer, head, position), allow_unchanged=True):
            values[layer, head, position] = metric(model(corrupted[None])[0])
    return values


def main() -> None:
    conditions()
    torch.manual_seed(0)
    model = GPT(GPTConfig(block_size=128, vocab_size=256, n_layer=4, n_head=4, n_embd=128)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4).add_(0.02 * torch.randn_like(parameter))
    clean, corrupted = torch.randint(256, (2, N_TOKENS))
    metric = logit_difference(3, 5)

    def everywhere(logits):  # the same metric, but the sweep cannot know that it reads one position only
        return logits[:, -1, 3] - logits[:, -1, 5]

    def sweep(metric=metric):
        return activation_patching(model, clean, corrupted, metric, names="z").values["z"]

    expected = bare_loop(model, clean, corrupted, metric)
    for found in (sweep(), sweep(everywhere), checked_loop(model, clean, corrupted, metric)):
        worst = np.abs(found - expected).max() / np.abs(expected).max()
        assert worst <= 1e-5, worst
        print(f"largest difference to the loop, relative to the largest value: {worst:.1e}")
    contestants = {
        "sweep": sweep,
        "sweep, metric of all positions": lambda: sweep(everywhere),
        "one forward per cell": lambda: bare_loop(model, clean, corrupted, metric),
        "one forward per cell, intervene": lambda: checked_loop(model, clean, corrupted, metric),
    }
    compare("1,024 cells of z, 4x4x128, T64, against the sweep", contestants, rounds=3)


if __name__ == "__main__":
    main()
