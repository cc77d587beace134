"""One door to every trained model: packaged, recorded, or somebody else's."""

from pathlib import Path
from typing import Any

from gptviz.model import GPT
from gptviz.packaged import packaged_runs
from gptviz.runs import open_run


def load(name_or_path: str | Path, step: int | None = None) -> tuple[GPT, Any]:
    """A trained model in evaluation mode, and its tokenizer.

    Args:
        name_or_path: The name of a packaged run ("sorter"), a run directory, a safetensors file of gptviz's, nanoGPT's
            `ckpt.pt`, or a Hugging Face folder or name. A packaged run goes before a folder of the same name: write
            "./sorter" for that.
        step: For a run, the recorded training step; the last by default.

    Returns:
        (model, tokenizer); the tokenizer is None where the file does not bring one.

    Raises:
        ValueError: If nothing of that name is found, it is damaged, or the step is not recorded.

    Example:
        >>> load("sorter", step=3)
        Traceback (most recent call last):
        ValueError: step must be a recorded one (see run.steps); 3 has no weights, the nearest are ...
    """
    if str(name_or_path) in packaged_runs() or (Path(name_or_path) / "run.json").exists():
        return open_run(name_or_path).load(step)
    if step is not None:
        raise ValueError(f"step must be left out unless a run is loaded; {name_or_path} is no run directory (it has no "
                         f"run.json), and step={step} was given.")
    from gptviz.checkpoints import build_model, read_checkpoint

    checkpoint = read_checkpoint(name_or_path)
    return build_model(checkpoint), checkpoint.tokenizer
