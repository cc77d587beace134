"""Models at rest: gptviz's files, nanoGPT's, minGPT's and Hugging Face's GPT-2, read and (but minGPT's) written.

Nothing in a file can run: weights come through safetensors or `torch.load(weights_only=True)`, and a pickle is first
read by an interpreter that cannot call anything. A file that does not fit is refused with a sentence before a model is
built. See SECURITY.md for what that promises.
"""

from pathlib import Path

from gptviz.arguments import path_of
from gptviz.checkpoints.checkpoint import Checkpoint, build_model, fit_weights, shown
from gptviz.checkpoints.huggingface import find_huggingface, read_huggingface, save_huggingface
from gptviz.checkpoints.nanogpt import read_meta, read_pt, save_nanogpt
from gptviz.checkpoints.ours import load_weights, read_ours, save_checkpoint, save_weights
from gptviz.missing import few, names_in
from gptviz.spelling import spelling

__all__ = [
    "Checkpoint",
    "build_model",
    "fit_weights",
    "load_weights",
    "read_checkpoint",
    "read_meta",
    "save_checkpoint",
    "save_huggingface",
    "save_nanogpt",
    "save_weights",
]


def read_checkpoint(name_or_path: str | Path, n_head: int | None = None) -> Checkpoint:
    """Read any checkpoint; what a file is, its first bytes decide, not its name.

    Args:
        name_or_path: gptviz's safetensors file, nanoGPT's `ckpt.pt`, a state dict of minGPT, a Hugging Face folder, or
            a name on Hugging Face's hub (`gpt2`), looked for in its cache first.
        n_head: The number of attention heads, for a state dict alone, which does not say it. A file that says it
            must say the same.

    Returns:
        Float32 weights that fit their config. `build_model` makes the model of them.

    Raises:
        ValueError: it is none of these, or damaged, or does not fit, or would run code; the sentence says which.

    Example:
        >>> from gptviz.model import GPT, GPTConfig
        >>> path = getfixture("tmp_path") / "model.safetensors"
        >>> save_checkpoint(GPT(GPTConfig(block_size=4, vocab_size=5, n_layer=1, n_head=1, n_embd=4)), path)
        >>> build_model(read_checkpoint(path)).config.vocab_size
        5
    """
    checkpoint = _read(path_of(name_or_path), str(name_or_path), n_head)
    if n_head is not None and checkpoint.config.n_head != n_head:
        raise ValueError(
            f"{name_or_path} says that the model has {checkpoint.config.n_head} attention heads; n_head = "
            f"{shown(n_head)} was given. Leave n_head out: it is for files that do not say it."
        )
    return checkpoint


def _read(path: Path, name: str, n_head: int | None) -> Checkpoint:
    if path.is_dir():
        if not (path / "config.json").exists():
            raise ValueError(_not_a_model(path))
        return read_huggingface(path)
    if not path.is_file():
        if path.exists():
            raise ValueError(f"{path} must be a file or a folder, but is a pipe or a device. It was not opened.")
        return read_huggingface(find_huggingface(name))
    with path.open("rb") as file:
        start = file.read(9)
    if start.startswith(b"PK\x03\x04"):
        return read_pt(path, n_head)
    if start[8:9] == b"{":
        return read_ours(path)
    if start.startswith(b"\x80"):
        raise ValueError(
            f"{path} must be a zip archive, as torch.save has written since 1.6, but is a bare pickle. It was not "
            "opened. If you trust it: torch.save(torch.load(path, weights_only=True), new_path)."
        )
    raise ValueError(f"{path} must be a safetensors file or one of torch.save, but its first bytes are {start[:8]!r}.")


def _not_a_model(folder: Path) -> str:
    """What a folder must hold to be loaded, what this one holds, and what may have been meant."""
    names = names_in(folder)
    if names is None:
        return f"A folder must be readable to be loaded; {folder} is not. Correct the path."
    runs = [name for name in names if (folder / name / "run.json").is_file()]
    files = [name for name in names if name.endswith((".safetensors", ".pt", ".pth"))]
    meant = next(iter(runs + files), None)
    advice = "Correct the path." if meant is None else f"Perhaps {spelling().load(folder / meant)} was meant."
    return (f"A folder to load must be a run directory (it holds run.json) or a Hugging Face model's (config.json "
            f"beside the weights); {folder} is neither, it holds {few(names)}. {advice}")
