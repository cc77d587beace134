"""Hugging Face's GPT-2: folders, names in its cache or on its hub, and folders back."""

import json
import os
import re
from pathlib import Path, PurePath

from torch import Tensor

from gptviz.arguments import briefly, must_be, path_of
from gptviz.checkpoints.checkpoint import (
    Checkpoint,
    Outline,
    check_fit,
    config_from,
    drop_masks,
    fit_weights,
    is_mask,
    plain_names,
    shown,
)
from gptviz.checkpoints.documents import read_json
from gptviz.checkpoints.huggingface_tokenizer import read_tokenizer
from gptviz.checkpoints.ours import load_weights, read_outlines, save_weights
from gptviz.checkpoints.pickles import load_torch_weights, read_torch_file, tensor_outlines
from gptviz.missing import is_path, near, near_packaged, suggestion
from gptviz.model import GPT, GPTConfig
from gptviz.packaged import packaged_runs
from gptviz.spelling import spelling
from gptviz.whole_files import write_result

# Hugging Face's field -> ours, with GPT2Config's default for a config.json that leaves it out.
_SIZES = {
    "vocab_size": ("vocab_size", 50257), "n_positions": ("block_size", 1024), "n_embd": ("n_embd", 768),
    "n_layer": ("n_layer", 12), "n_head": ("n_head", 12),
}  # fmt: skip
_ALIASES = {
    "hidden_size": "n_embd", "max_position_embeddings": "n_positions", "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}  # fmt: skip
_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}
# What gptviz's model computes; with another value the same weights give other numbers.
_REQUIRED = {
    "model_type": "gpt2",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
    "quantization_config": None,
}
# GPT-2's Conv1D stores the transpose of nn.Linear's weight.
_CONV1D = (".attn.c_attn.weight", ".attn.c_proj.weight", ".mlp.c_fc.weight", ".mlp.c_proj.weight")
_DROPOUTS = ("embd_pdrop", "attn_pdrop", "resid_pdrop")
_WEIGHT_FILES = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"
)  # fmt: skip
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_ORGANISATION = "openai-community"  # where the plain names (gpt2, gpt2-medium, ...) have lived since 2024


def read_huggingface(folder: str | Path) -> Checkpoint:
    """Read a folder with `config.json` and GPT-2 weights: safetensors or `pytorch_model.bin`, whole or in shards.

    Raises:
        ValueError: it is another architecture, its weights do not fit its config, or a file is damaged.
    """
    folder = Path(folder)
    source = str(folder)
    config, notes = _config(read_json(folder / "config.json"), f"{folder / 'config.json'}")
    tied = config.tie_weights
    parts = _weight_files(folder)
    outlines = {path: _outlines(path) for path in parts}
    names = _names([name for part in outlines.values() for name in part], source)
    shapes = {names[n]: _turned(names[n], o) for part in outlines.values() for n, o in part.items()}
    shapes = {name: outline for name, outline in shapes.items() if not is_mask(name)}
    if tied and "lm_head.weight" not in shapes:
        shapes["lm_head.weight"] = shapes.get("transformer.wte.weight", Outline("", ()))
    check_fit(config, shapes, source)
    stored = {names[n]: w for path, part in outlines.items() for n, w in _load(path, part).items()}
    weights, mask_notes = drop_masks(stored, config.block_size, source)
    weights = {name: weight.T if name.endswith(_CONV1D) else weight for name, weight in weights.items()}
    tokenizer, tokenizer_notes = read_tokenizer(folder, config.vocab_size)
    return fit_weights(config, weights, source, tokenizer, notes + mask_notes + tokenizer_notes)


def save_huggingface(model: GPT, folder: str | Path) -> None:
    """Write a folder that `transformers.GPT2LMHeadModel.from_pretrained` loads.

    A model without biases gets biases of zero, which compute the same: GPT-2 has no such switch. The tokenizer is not
    written.

    Args:
        model: The model.
        folder: The folder to make; `config.json` and `model.safetensors` in it are replaced.

    Example:
        >>> model = GPT(GPTConfig(block_size=4, vocab_size=5, n_layer=1, n_head=1, n_embd=4))
        >>> save_huggingface(model, getfixture("tmp_path"))
        >>> read_huggingface(getfixture("tmp_path")).config == model.config
        True
    """
    must_be(model, GPT, "model", "Pass the GPT itself: of a wrapped one, its .module.")
    folder = path_of(folder)
    weights = model.state_dict()
    if model.config.tie_weights:
        del weights["lm_head.weight"]
    for name, weight in list(weights.items()):
        if name.endswith(_CONV1D):
            weights[name] = weight.T
        if not model.config.bias and name.startswith(("transformer.h.", "transformer.ln_f.")):
            weights[name.removesuffix("weight") + "bias"] = weight.new_zeros(weight.shape[0])
    config = json.dumps(_huggingface_config(model.config), indent=2).encode()
    save_weights(weights, folder / "model.safetensors", {"format": "pt"})
    write_result(folder / "config.json", config)


def find_huggingface(name: str) -> Path:
    """The folder of a model by its name on Hugging Face's hub: in the local cache, else downloaded by huggingface_hub.

    Args:
        name: `gpt2`, `distilgpt2`, `owner/model`.

    Raises:
        ValueError: it is no such name but a path, or nearly a packaged run's; or the model is not in the cache and
            cannot be downloaded.
    """
    nowhere = f"There is no file or folder {briefly(name)}"
    if is_path(name):
        raise ValueError(f"{nowhere}. {suggestion(Path(name))}")
    if not _REPOSITORY.fullmatch(name) or ".." in name:
        raise ValueError(
            f"{nowhere}, and it is no name on Hugging Face's hub, such as 'gpt2' or 'owner/model'. "
            f"{suggestion(Path(name))}"
        )
    for full in (name,) if "/" in name else (name, f"{_ORGANISATION}/{name}"):
        folder = _cached(full)
        if folder is not None:
            return folder
    if "/" not in name and near_packaged(name):  # "owner/sorter" is the owner's
        raise ValueError(f"{nowhere}. {suggestion(Path(name))}")
    return _download(name, nowhere)


def _config(fields: dict[str, object], source: str) -> tuple[GPTConfig, tuple[str, ...]]:
    """Our config for a config.json; refuses every field that would make the model compute something else."""
    for name, value in _REQUIRED.items():
        given = fields.get(name, value)
        if type(given) is not type(value) or given != value:
            raise ValueError(f"{source} must have {name} = {value!r}, as gptviz's model has, but has {shown(given)}.")
    for alias, name in _ALIASES.items():
        if fields.setdefault(name, fields.get(alias, _SIZES[name][1])) != fields.get(alias, fields[name]):
            raise ValueError(f"{source} gives {name} and {alias}, which are one, as different values.")
    activation = fields.get("activation_function", "gelu_new")
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise ValueError(
            f"{source} must have activation_function = one of {', '.join(_ACTIVATIONS)}, but has {shown(activation)}."
        )
    inner, width = fields.get("n_inner"), fields["n_embd"]
    if inner is not None and inner != 4 * (width if isinstance(width, int) else 0):
        raise ValueError(f"{source} must have n_inner = 4 * n_embd, or none, but has {shown(inner)}.")
    values = {ours: fields.get(name, default) for name, (ours, default) in _SIZES.items()}
    if fields.get("pruned_heads"):
        given = shown(fields["pruned_heads"])
        raise ValueError(f"{source} must have no pruned_heads, as gptviz's model has all of them, but has {given}.")
    dropouts = [fields.get(name, 0.1) for name in _DROPOUTS]
    for name, given in zip(_DROPOUTS, dropouts, strict=True):
        if isinstance(given, bool) or not isinstance(given, int | float):
            raise ValueError(f"{source} must give {name} as a number, the dropout there, not {shown(given)}.")
    same = dropouts.count(dropouts[0]) == 3
    three = ", ".join(map(shown, dropouts))
    note = f"Dropout is 0: config.json has three ({three}), gptviz's model has one for all places."
    values |= {
        "bias": True, "activation": _ACTIVATIONS[activation], "dropout": dropouts[0] if same else 0.0,
        "tie_weights": fields.get("tie_word_embeddings", True),
    }  # fmt: skip
    return config_from(values, source), () if same else (note,)


def _huggingface_config(config: GPTConfig) -> dict[str, object]:
    activation = {"gelu_tanh": "gelu_new", "gelu": "gelu"}[config.activation]
    sizes = {name: getattr(config, ours) for name, (ours, _) in _SIZES.items()}
    dropouts = dict.fromkeys(_DROPOUTS, config.dropout)
    required = {name: value for name, value in _REQUIRED.items() if value is not None}
    return {
        "architectures": ["GPT2LMHeadModel"], **required, **sizes, **dropouts, "activation_function": activation,
        "tie_word_embeddings": config.tie_weights, "bos_token_id": None, "eos_token_id": None,
    }  # fmt: skip


def _weight_files(folder: Path) -> list[Path]:
    """The files with weights: the first kind that is there, safetensors before pickle."""
    found = next((folder / name for name in _WEIGHT_FILES if (folder / name).is_file()), None)
    if found is None:
        raise ValueError(f"{folder} must hold one of {', '.join(_WEIGHT_FILES)}, but holds none of them.")
    if found.suffix != ".json":
        return [found]
    shards = read_json(found).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise ValueError(f"{found} must give the file of each weight as 'weight_map', but does not.")
    for name in shards.values():
        if PurePath(name).name != name or "\\" in name or not name.endswith((".safetensors", ".bin")):
            raise ValueError(f"{found} must name files of its own folder, but names {name[:80]!r}. It was not opened.")
    return [folder / name for name in sorted(set(shards.values()))]


def _outlines(path: Path) -> dict[str, Outline]:
    if path.suffix == ".safetensors":
        return read_outlines(path)[0]
    if not path.is_file():
        raise ValueError(f"{path} must be a file of weights, but there is no such file.")
    return tensor_outlines(*read_torch_file(path), str(path))


def _load(path: Path, outlines: dict[str, Outline]) -> dict[str, Tensor]:
    return load_weights(path)[0] if path.suffix == ".safetensors" else load_torch_weights(path, outlines)


def _names(stored: list[str], source: str) -> dict[str, str]:
    """Name in the files -> nanoGPT's name; GPT2Model's own files leave `transformer.` out."""
    if len(set(stored)) < len(stored):
        raise ValueError(f"{source} holds one weight in two of its files.")
    tops = ("transformer", "lm_head", "_orig_mod", "module")
    full = {name: name if name.split(".")[0] in tops else f"transformer.{name}" for name in stored}
    plain = plain_names(dict.fromkeys(full.values()), source)
    return {name: plain[long] for name, long in full.items()}


def _turned(name: str, outline: Outline) -> Outline:
    return Outline(outline.dtype, outline.shape[::-1]) if name.endswith(_CONV1D) else outline


def _cached(name: str) -> Path | None:
    """The newest snapshot of a model in Hugging Face's cache, whose layout huggingface_hub documents."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub")) / f"models--{name.replace('/', '--')}"
    reference = cache / "refs" / "main"
    if not reference.is_file():
        return None
    commit = reference.read_bytes()[:80].decode("ascii", "replace").strip()
    folder = cache / "snapshots" / commit
    whole = re.fullmatch(r"[0-9a-f]{40}", commit) and (folder / "config.json").is_file()
    return folder if whole and any((folder / file).is_file() for file in _WEIGHT_FILES) else None


def _download(name: str, nowhere: str) -> Path:
    full = name if "/" in name else f"{_ORGANISATION}/{name}"
    refused = f"{nowhere}, and as a model on Hugging Face's hub it is not in the cache on this machine"
    packaged = ", ".join(map(spelling().load, packaged_runs()))
    meant = near(Path(name))
    advice = meant or f"Packaged, so that no network is needed: {packaged}." if packaged else "Correct the name."
    try:
        import huggingface_hub
    except ImportError:
        raise ValueError(f"{refused}; to fetch it run: pip install huggingface_hub. {advice}") from None
    files = ["config.json", "vocab.json", "merges.txt", "model*.safetensors", "model.safetensors.index.json"]
    try:
        return Path(huggingface_hub.snapshot_download(full, allow_patterns=files))
    except Exception as reason:  # of requests, httpx or the hub, by version: in any case it is not here
        raise ValueError(f"{refused}, and {_why_not(reason)}. {advice}") from reason


def _why_not(reason: Exception) -> str:
    """Why the hub gave nothing, as a phrase; its errors come from several libraries and change their kinds."""
    kinds = {kind.__name__ for kind in type(reason).__mro__}
    if "GatedRepoError" in kinds:
        return "the hub gives it only to those whom its owner admits"
    if "RepositoryNotFoundError" in kinds:
        return "the hub has no model of that name for everybody"
    if kinds & {"LocalEntryNotFoundError", "ConnectionError", "TransportError", "TimeoutError"}:
        return "the hub cannot be reached"
    return f"the hub did not give it ({type(reason).__name__})"
