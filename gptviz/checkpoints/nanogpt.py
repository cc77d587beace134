"""nanoGPT's checkpoints (`ckpt.pt`, read and written) and vocabularies (`meta.pkl`), and minGPT's state dicts."""

import io
import re
from dataclasses import asdict
from pathlib import Path

import torch

from gptviz.arguments import must_be, path_of
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
from gptviz.checkpoints.documents import read_json, read_small
from gptviz.checkpoints.pickles import (
    DATA_LIMIT,
    load_torch_weights,
    pickled_data,
    read_torch_file,
    tensor_outlines,
)
from gptviz.model import GPT
from gptviz.spelling import spelling
from gptviz.tokenizers import BPETokenizer, CharTokenizer, Tokenizer
from gptviz.whole_files import write_result

_ARGUMENTS = ("n_layer", "n_head", "n_embd", "block_size", "bias", "vocab_size", "dropout")  # nanoGPT's model_args
_GPT2_DATASETS = ("openwebtext", "shakespeare")  # nanoGPT's folders that are tokenised by tiktoken
_DATASET = re.compile(r"\w[\w.-]{0,99}")  # the name of a folder, not a path that leads elsewhere
_GPT2_VOCAB = range(50257, 50304 + 1)  # nanoGPT pads it to a multiple of 64
# minGPT names its shapes; its files hold the shape, the heads apart. From mingpt/model.py.
_MINGPT_HEADS = {
    "openai-gpt": 12, "gpt2": 12, "gpt2-medium": 16, "gpt2-large": 20, "gpt2-xl": 25, "gopher-44m": 16,
    "gpt-mini": 6, "gpt-micro": 4, "gpt-nano": 3,
}  # fmt: skip


def read_pt(path: str | Path, n_head: int | None = None) -> Checkpoint:
    """Read a file of torch.save: nanoGPT's `ckpt.pt`, or a state dict alone, as minGPT saves it.

    Args:
        path: The file.
        n_head: For a state dict alone, which does not say how many heads its attention has.

    Raises:
        ValueError: it is another model's, does not fit its config, is damaged, or holds more than data.
    """
    path = Path(path)
    content, size = read_torch_file(path)
    if isinstance(content, dict) and {"model", "model_args"} <= content.keys():
        return _read_nanogpt(path, content, size)
    return _read_state_dict(path, content, size, n_head)


def save_nanogpt(model: GPT, path: str | Path) -> None:
    """Write a `ckpt.pt` that nanoGPT's `sample.py` loads.

    It holds no optimizer, so that nanoGPT can sample from it but not resume training.

    Args:
        model: A model that nanoGPT has: exact GELU, tied weights.
        path: The file to write or replace.

    Raises:
        ValueError: nanoGPT has no such model.

    Example:
        >>> from gptviz.model import GPTConfig
        >>> path = getfixture("tmp_path") / "ckpt.pt"
        >>> save_nanogpt(GPT(GPTConfig(block_size=4, vocab_size=5, n_layer=1, n_head=1, n_embd=4)), path)
        >>> read_pt(path).config.n_embd
        4
    """
    must_be(model, GPT, "model", "Pass the GPT itself: of a wrapped one, its .module.")
    config = asdict(model.config)
    for name, has in (("activation", "gelu"), ("tie_weights", True)):
        if config[name] != has:
            raise ValueError(
                f"nanoGPT's model has {name} = {has!r}, but this one {config[name]!r}. "
                "Use save_checkpoint, or save_huggingface."
            )
    content = {
        "model": {name: weight.detach().cpu() for name, weight in model.state_dict().items()},
        "model_args": {name: config[name] for name in _ARGUMENTS},
        "iter_num": 0,
        "best_val_loss": torch.tensor(float("inf")),
        "config": {},
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_result(path_of(path), buffer.getvalue())


def read_meta(path: str | Path) -> CharTokenizer:
    """The character vocabulary that nanoGPT's `prepare.py` wrote.

    Args:
        path: A `meta.pkl`: a pickled dict with `itos` (id to character) and `stoi` (character to id).

    Raises:
        ValueError: it is damaged, holds more than data, or the two do not belong together.
    """
    path = path_of(path)
    data = pickled_data(read_small(path, DATA_LIMIT), str(path))
    meta = data if isinstance(data, dict) else {}
    itos, stoi = meta.get("itos"), meta.get("stoi")
    if not isinstance(itos, dict) or not isinstance(stoi, dict):
        raise ValueError(f"{path} must hold the dicts 'itos' and 'stoi', as nanoGPT's prepare.py writes them.")
    characters = [c for c in map(itos.get, range(len(itos))) if isinstance(c, str) and len(c) == 1]
    if len(characters) < len(itos):
        raise ValueError(f"{path} must give one character for each id from 0 to {len(itos) - 1} in 'itos'.")
    if stoi != {c: i for i, c in enumerate(characters)}:
        raise ValueError(f"{path} must give each character the same id in 'stoi' as in 'itos'.")
    if (claim := meta.get("vocab_size", len(characters))) != len(characters):
        raise ValueError(
            f"{path} must hold as many characters as its vocab_size says, {shown(claim)}, but holds {len(characters)}."
        )
    return CharTokenizer.from_characters("".join(characters))


def _read_nanogpt(path: Path, content: dict, size: int) -> Checkpoint:
    source = str(path)
    stored = content["model"]
    outlines = tensor_outlines(stored, size, source)
    names = plain_names(outlines, source)
    outlines = {names[name]: outline for name, outline in outlines.items()}
    arguments = content["model_args"]
    if not isinstance(arguments, dict) or not all(isinstance(name, str) for name in arguments):
        raise ValueError(f"{source} must hold a dict of model_args.")
    arguments = {"bias": "transformer.ln_f.bias" in outlines, **arguments}  # nanoGPT's first files have none
    for name in ("n_layer", "n_head", "n_embd", "block_size", "vocab_size"):
        if name not in arguments:
            raise ValueError(f"{source} must give {name} in its model_args, but does not. It is not nanoGPT's.")
    config = config_from(arguments, f"{source} (model_args)")
    check_fit(config, _without_masks(outlines), source)
    loaded = load_torch_weights(path, names, field="model")
    weights, notes = drop_masks({names[n]: w for n, w in loaded.items()}, config.block_size, source)
    if not torch.equal(weights["lm_head.weight"], weights["transformer.wte.weight"]):
        config = config_from({**arguments, "tie_weights": False}, source)
        notes += ("lm_head.weight differs from transformer.wte.weight, unlike nanoGPT's: read as weights not tied.",)
    tokenizer, tokenizer_notes = _find_tokenizer(path, content.get("config"), config.vocab_size)
    return fit_weights(config, weights, source, tokenizer, notes + tokenizer_notes)


def _read_state_dict(path: Path, content: object, size: int, n_head: int | None) -> Checkpoint:
    """MinGPT's file, or nanoGPT's `model.state_dict()`; minGPT does not tie the unembedding, nanoGPT does."""
    source = str(path)
    outlines = tensor_outlines(content, size, source)
    names = plain_names(outlines, source)
    outlines = _without_masks({names[name]: outline for name, outline in outlines.items()})
    notes = ()
    if n_head is None:
        n_head, notes = _mingpt_heads(path)
    sizes = _sizes(outlines, source) | {"n_head": n_head}
    config = config_from(sizes, source)
    check_fit(config, outlines, source)
    loaded = load_torch_weights(path, names)
    weights, mask_notes = drop_masks({names[n]: w for n, w in loaded.items()}, config.block_size, source)
    tied = torch.equal(weights["lm_head.weight"], weights["transformer.wte.weight"])
    whose = "nanoGPT's (tied weights, exact GELU)" if tied else "minGPT's (weights not tied, GELU by tanh)"
    config = config_from({**sizes, "tie_weights": tied, "activation": "gelu" if tied else "gelu_tanh"}, source)
    notes += (f"A state dict without a config, read as {whose}, with n_head = {n_head}.",)
    tokenizer, tokenizer_notes = _find_tokenizer(path, None, config.vocab_size)
    return fit_weights(config, weights, source, tokenizer, notes + mask_notes + tokenizer_notes)


def _sizes(outlines: dict[str, Outline], source: str) -> dict[str, object]:
    """The config's fields that the shapes of the weights tell."""
    tables = []
    for name in ("transformer.wte.weight", "transformer.wpe.weight"):
        if name not in outlines or len(outlines[name].shape) != 2:
            raise ValueError(
                f"{source} must be nanoGPT's ckpt.pt (with 'model' and 'model_args') or a state dict with {name!r} "
                f"of two axes, but holds {', '.join(sorted(outlines)[:3])}, ..."
            )
        tables.append(outlines[name].shape)
    (vocab_size, n_embd), (block_size, _) = tables
    blocks = {name.split(".")[2] for name in outlines if name.startswith("transformer.h.")}
    return {
        "vocab_size": vocab_size, "block_size": block_size, "n_embd": n_embd, "n_layer": len(blocks),
        "bias": "transformer.ln_f.bias" in outlines,
    }  # fmt: skip


def _mingpt_heads(path: Path) -> tuple[int, tuple[str, ...]]:
    """The number of heads from the `config.json` that minGPT writes beside its `model.pt`."""
    beside = path.with_name("config.json")
    if beside.is_file():
        model = read_json(beside).get("model")
        model = model if isinstance(model, dict) else {}
        n_head = model.get("n_head") or _MINGPT_HEADS.get(str(model.get("model_type")))
        if type(n_head) is int:
            return n_head, (f"n_head = {n_head} was taken from {beside.name}.",)
    raise ValueError(
        f"{path} holds a state dict, which does not say how many attention heads the model has, and no number of heads "
        f"gives an error: the wrong one gives wrong attention. Pass {spelling().option('n_head')}."
    )


def _without_masks(outlines: dict[str, Outline]) -> dict[str, Outline]:
    return {name: outline for name, outline in outlines.items() if not is_mask(name)}


def _find_tokenizer(path: Path, settings: object, vocab_size: int) -> tuple[Tokenizer | None, tuple[str, ...]]:
    """The tokenizer of a checkpoint: a meta.pkl beside it or in nanoGPT's data folder, else GPT-2's by its size."""
    dataset = settings.get("dataset") if isinstance(settings, dict) else None
    places = [path.with_name("meta.pkl")]
    if isinstance(dataset, str) and _DATASET.fullmatch(dataset):
        places.append(path.parent.parent / "data" / dataset / "meta.pkl")
    for place in places:
        if place.is_file():
            return read_meta(place), (f"The tokenizer was read from {place}.",)
    if vocab_size in _GPT2_VOCAB and (dataset in _GPT2_DATASETS or dataset is None):
        try:
            return BPETokenizer.gpt2(), (f"The tokenizer is GPT-2's, by the vocabulary of {vocab_size:,} tokens.",)
        except ConnectionError as reason:
            return None, (f"The tokenizer should be GPT-2's. {reason}",)
    return None, (f"No tokenizer: there is no {' or '.join(map(str, places))}.",)
