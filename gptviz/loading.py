"""One door to every trained model: packaged, recorded, or somebody else's."""

import warnings
from pathlib import Path
from typing import Any

from gptviz.arguments import path_of
from gptviz.model import GPT
from gptviz.packaged import packaged_runs
from gptviz.runs import open_run
from gptviz.spelling import spelling


def load(name_or_path: str | Path, step: int | None = None, n_head: int | None = None) -> tuple[GPT, Any]:
    """A trained model in evaluation mode, and its tokenizer.

    Args:
        name_or_path: The name of a packaged run ("sorter"), a run directory, a safetensors file of gptviz's, nanoGPT's
            `ckpt.pt`, or a Hugging Face folder or name. A packaged run goes before a folder of the same name: write
            "./sorter" for that.
        step: For a run, the recorded training step; the last by default.
        n_head: For a state dict alone (minGPT's), which does not say it, the number of attention heads.

    Returns:
        (model, tokenizer); the tokenizer is None where the file does not bring one. What was left out, converted or
        assumed while reading somebody else's file is said as a warning.

    Raises:
        ValueError: If nothing of that name is found, it is damaged, or the step is not recorded.

    Example:
        >>> load("sorter", step=3)
        Traceback (most recent call last):
        ValueError: step must be a recorded one (see run.steps); 3 has no weights, the nearest are ...
    """
    path = path_of(name_or_path)
    if str(name_or_path) in packaged_runs() or (path / "run.json").exists():
        if n_head is not None:
            raise ValueError(f"n_head must be left out for a run, which says it; n_head={n_head!r} was given.")
        return open_run(name_or_path).load(step)
    if step is not None:
        raise ValueError(f"step must be left out unless a run is loaded; {name_or_path} is no run directory (it has no "
                         f"run.json), and {spelling().option('step', step)} was given.")
    from gptviz.checkpoints import build_model, read_checkpoint

    checkpoint = read_checkpoint(name_or_path, n_head)
    if checkpoint.notes:
        warnings.warn(f"{name_or_path}: {' '.join(checkpoint.notes)}", stacklevel=2)
    return build_model(checkpoint), checkpoint.tokenizer
