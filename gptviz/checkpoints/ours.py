"""gptviz's own format: one safetensors file with the config, and the tokenizer if there is one, in its header."""

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from gptviz.arguments import check_tokenizer, must_be, path_of
from gptviz.checkpoints.checkpoint import Checkpoint, Outline, check_fit, config_from, fit_weights, shown
from gptviz.checkpoints.documents import LIMIT, parse_json
from gptviz.model import GPT
from gptviz.tokenizers import Tokenizer, tokenizer_from_json
from gptviz.whole_files import write_result

VERSION = "1"
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def save_checkpoint(model: GPT, path: str | Path, tokenizer: Tokenizer | None = None) -> None:
    """Write a model, and its tokenizer, to one safetensors file that `read_checkpoint` and `gv.load` read.

    The file appears under its name only when it is complete.

    Args:
        model: The model; on any device, of any floating-point type.
        path: The file to write; by convention `*.safetensors`.
        tokenizer: The tokenizer it was trained with.

    Example:
        >>> from gptviz.model import GPTConfig
        >>> folder = getfixture("tmp_path")
        >>> model = GPT(GPTConfig(block_size=4, vocab_size=5, n_layer=1, n_head=1, n_embd=4))
        >>> save_checkpoint(model, folder / "model.safetensors")
        >>> read_ours(folder / "model.safetensors").config == model.config
        True
    """
    must_be(model, GPT, "model", "Pass the GPT itself: of a wrapped one, its .module.")
    check_tokenizer(tokenizer, "to_json")
    config = {name: getattr(model.config, name) for name in model.config.__dataclass_fields__}
    metadata = {"format": "gptviz", "version": VERSION, "config": json.dumps(config)}
    if tokenizer is not None:
        metadata["tokenizer"] = json.dumps(tokenizer.to_json())
    weights = model.state_dict()
    if model.config.tie_weights:
        del weights["lm_head.weight"]  # safetensors holds no tensor under two names
    save_weights(weights, path, metadata)


def read_ours(path: str | Path) -> Checkpoint:
    """Read what `save_checkpoint` wrote.

    Raises:
        ValueError: the file is damaged, of a newer version, or its weights do not fit its config.
    """
    outlines, metadata = read_outlines(path)
    if metadata.get("format") != "gptviz" or "config" not in metadata:
        raise ValueError(
            f"{path} must name its config in its header, as gptviz's own files do, but does not. For a run's weights "
            "open the run directory; for a Hugging Face model open the folder that holds config.json."
        )
    if metadata.get("version") != VERSION:
        given = shown(metadata.get("version"))
        raise ValueError(f"{path} is of version {given}; this gptviz reads {VERSION!r}. Update gptviz.")
    config = config_from(parse_json(metadata["config"], f"the config of {path}"), str(path))
    if config.tie_weights and "lm_head.weight" not in outlines:
        outlines["lm_head.weight"] = outlines.get("transformer.wte.weight", Outline("float32", ()))
    check_fit(config, outlines, str(path))
    tokenizer = None
    if "tokenizer" in metadata:
        tokenizer = tokenizer_from_json(parse_json(metadata["tokenizer"], f"the tokenizer of {path}"))
    return fit_weights(config, load_weights(path)[0], str(path), tokenizer)


def save_weights(weights: Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to a safetensors file: completely, or not at all.

    Args:
        weights: Name to tensor. No two may share memory: leave out `lm_head.weight` of a tied model.
        path: The file to write or replace.
        metadata: Strings for the header.
    """
    path = path_of(path)
    must_be(weights, Mapping, "weights", "Pass a mapping from names to tensors.")
    for name, text in (metadata or {}).items():
        must_be(text, str, f"metadata {name!r}", "Write it as JSON: json.dumps(value).")
    for name, weight in weights.items():
        must_be(name, str, "The name of a weight", "Pass a mapping from names to tensors.")
        must_be(weight, Tensor, f"The weight {name!r}", "Pass a mapping from names to tensors.")
    detached = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    data = safetensors.torch.save(detached, metadata=dict(metadata or {}))
    write_result(path, data)


def load_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Every tensor of a safetensors file and the strings of its header.

    Reads with pread, not mmap: a file that is cut short while it is open is an error, not a signal that ends Python.

    Raises:
        ValueError: the file is not safetensors, or damaged.
    """
    read_outlines(path)
    try:
        with safetensors.safe_open(path, framework="pt", backend="pread") as file:
            return file.get_tensors(), file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as reason:
        raise ValueError(_damaged(path, reason)) from reason


def read_outlines(path: str | Path) -> tuple[dict[str, Outline], dict[str, str]]:
    """Type and shape of every tensor of a safetensors file and the strings of its header; reads no tensor.

    Raises:
        ValueError: the file is not safetensors, or damaged.
    """
    _read_header(path_of(path))
    try:
        with safetensors.safe_open(path, framework="pt", backend="pread") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}
            outlines = {name: Outline(_dtype(s.get_dtype()), tuple(s.get_shape())) for name, s in slices.items()}
            return outlines, file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as reason:
        raise ValueError(_damaged(path, reason)) from reason


def _read_header(path: Path) -> None:
    """Refuse a header that safetensors would read in another way than its writer meant, or at a cost.

    The library checks offsets against the file's length, but takes the last of two equal keys, and headers of 100 MB.
    """
    if not path.is_file():
        raise ValueError(f"{path} must be a safetensors file, but there is no such file.")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(LIMIT, path.stat().st_size):
            claim = f"its header claims {length:,} bytes, the file has {path.stat().st_size:,}"
            raise ValueError(_damaged(path, claim))
        header = file.read(length)
    parse_json(header, f"the header of {path}")


def _dtype(name: str) -> str:
    return _DTYPES.get(name, name)


def _damaged(path: str | Path, reason: object) -> str:
    return f"{path} is not a whole safetensors file: {str(reason)[:300]}. Copy it again from where it came."
