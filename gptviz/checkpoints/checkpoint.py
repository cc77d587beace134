"""Weights with the config they belong to: the check that they fit, and the model they make.

Every reader in this folder ends here. The check needs only names, types and shapes, so it runs before the weights are
read and before any model is built: a file that does not fit costs neither time nor memory.
"""

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

from gptviz.arguments import check_tokenizer, must_be
from gptviz.model import GPT, GPTConfig
from gptviz.tokenizers import Tokenizer

FLOATS = ("float32", "float16", "bfloat16", "float64")
_REPR = reprlib.Repr()
_REPR.maxstring = 80
shown = _REPR.repr  # for a message: hostile values nest a million deep and are a gigabyte long
_LARGEST = 2**31 - 1  # of any size in a config: keeps arithmetic with hostile numbers cheap


class Outline(NamedTuple):
    """What a file says about a tensor before the tensor is read."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A trained model at rest: float32 weights under nanoGPT's names that were found to fit the config.

    Args:
        config: The shape of the model.
        state_dict: Name to tensor, `lm_head.weight` included; the same tensor as `transformer.wte.weight` when tied.
        tokenizer: The tokenizer the model was trained with, if the file or its neighbours hold one.
        notes: Sentences about what was left out, converted or assumed while reading.
    """

    config: GPTConfig
    state_dict: dict[str, Tensor] = field(repr=False)
    tokenizer: Tokenizer | None = None
    notes: tuple[str, ...] = ()


def config_from(values: Mapping[str, Any], source: str) -> GPTConfig:
    """A GPTConfig from values that a file holds, whatever they are.

    Raises:
        ValueError: a field is unknown, of the wrong type or out of range.
    """
    types: dict[str, Any] = {f.name: f.type for f in fields(GPTConfig)}
    for name, value in values.items():
        if name not in types:
            raise ValueError(
                f"{source} sets {shown(name)}, which gptviz's model does not have. It reads "
                f"{', '.join(types)}; a model with other switches computes something else."
            )
        wanted = (float, int) if types[name] is float else (types[name],)
        if type(value) not in wanted or (type(value) is int and abs(value) > _LARGEST):
            limit = f" of at most {_LARGEST}" if types[name] is int else ""
            raise ValueError(f"{source} must give {name} as {types[name].__name__}{limit}, not {shown(value)}.")
    try:
        return GPTConfig(**values)
    except ValueError as reason:
        raise ValueError(f"{source} holds a config that is none: {reason}") from reason


def expected_shapes(config: GPTConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight of a model, as nanoGPT's `state_dict()` has them.

    Example:
        >>> expected_shapes(GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=1, n_embd=4))["lm_head.weight"]
        (5, 4)
    """
    width = config.n_embd
    block = {
        "ln_1.weight": (width,), "ln_1.bias": (width,),
        "attn.c_attn.weight": (3 * width, width), "attn.c_attn.bias": (3 * width,),
        "attn.c_proj.weight": (width, width), "attn.c_proj.bias": (width,),
        "ln_2.weight": (width,), "ln_2.bias": (width,),
        "mlp.c_fc.weight": (4 * width, width), "mlp.c_fc.bias": (4 * width,),
        "mlp.c_proj.weight": (width, 4 * width), "mlp.c_proj.bias": (width,),
    }  # fmt: skip
    vocab_size, block_size = config.vocab_size, config.block_size
    shapes = {"transformer.wte.weight": (vocab_size, width), "transformer.wpe.weight": (block_size, width)}
    shapes |= {f"transformer.h.{n}.{name}": shape for n in range(config.n_layer) for name, shape in block.items()}
    shapes |= {"transformer.ln_f.weight": (width,), "transformer.ln_f.bias": (width,)}
    shapes |= {"lm_head.weight": (vocab_size, width)}
    return {name: shape for name, shape in shapes.items() if config.bias or not name.endswith(".bias")}


def check_fit(config: GPTConfig, outlines: Mapping[str, Outline], source: str) -> None:
    """Refuse weights that a model of this config does not have, lacks, or has in another shape.

    Args:
        config: The shape of the model.
        outlines: Type and shape of each weight, under nanoGPT's names.
        source: What to call the file in a message.

    Raises:
        ValueError: names the first weight that does not fit, with both shapes.
    """
    n_layer = len({name.split(".")[2] for name in outlines if name.startswith("transformer.h.")})
    if n_layer != config.n_layer:  # first, because the list of expected names grows with n_layer
        raise ValueError(
            f"{source} must hold n_layer = {config.n_layer} blocks, as its config says, but holds {n_layer}. "
            "The config is another model's or the file is incomplete."
        )
    expected = expected_shapes(config)
    missing = [name for name in expected if name not in outlines]
    if missing:
        raise ValueError(
            f"{source} lacks {missing[0]!r}, which its config needs with shape {expected[missing[0]]}"
            f"{_and_more(missing)}. The file is incomplete or the config is another model's."
        )
    extra = [name for name in outlines if name not in expected]
    if extra:
        raise ValueError(
            f"{source} holds {shown(extra[0])} of shape {shown(outlines[extra[0]].shape)}, which a model of its config "
            f"does not have{_and_more(extra)}. The config is another model's, or the model is not a GPT-2."
        )
    for name, (dtype, shape) in outlines.items():
        if shape != expected[name]:
            raise ValueError(
                f"{source} holds {name!r} with shape {shown(shape)}, but its config needs {expected[name]}. "
                "The config is another model's or the file is damaged."
            )
        if dtype not in FLOATS:
            raise ValueError(f"{source} holds {name!r} as {dtype}; weights must be one of {', '.join(FLOATS)}.")


def fit_weights(
    config: GPTConfig,
    weights: Mapping[str, Tensor],
    source: str = "the checkpoint",
    tokenizer: Tokenizer | None = None,
    notes: tuple[str, ...] = (),
) -> Checkpoint:
    """Check weights against a config and make a Checkpoint of them.

    Weights become float32, the type that a model is built in. When the config ties the unembedding to the token
    embedding, `lm_head.weight` may be left out.

    Args:
        config: The shape of the model.
        weights: Name to tensor, under nanoGPT's names.
        source: What to call the weights in a message.
        tokenizer: The tokenizer that belongs to them.
        notes: What the reader has to say about them.

    Returns:
        The checkpoint; its tensors share no memory with each other, the tied pair apart.

    Raises:
        ValueError: a weight is missing, extra, of another shape, not floating-point or not finite; a tied pair differs.

    Example:
        >>> model = GPT(GPTConfig(block_size=4, vocab_size=5, n_layer=1, n_head=1, n_embd=4))
        >>> fit_weights(model.config, model.state_dict()).notes
        ()
    """
    must_be(config, GPTConfig, "config", "Pass the shape of the model.")
    must_be(weights, Mapping, "weights", "Pass a mapping from names to tensors.")
    weights = dict(weights)
    for name, weight in weights.items():
        must_be(weight, Tensor, f"The weight {name!r}", "Pass a mapping from names to tensors.")
    check_tokenizer(tokenizer, "vocab_size")
    if config.tie_weights and "transformer.wte.weight" in weights:
        weights.setdefault("lm_head.weight", weights["transformer.wte.weight"])
    check_fit(config, outlines_of(weights), source)
    if tokenizer is not None and tokenizer.vocab_size > config.vocab_size:
        raise ValueError(
            f"The tokenizer of {source} has {tokenizer.vocab_size} tokens, but the model only {config.vocab_size} "
            "(vocab_size). It belongs to another model."
        )
    converted = sorted({str(w.dtype).removeprefix("torch.") for w in weights.values()} - {"float32"})
    if converted:
        notes += (f"The weights were stored as {', '.join(converted)} and are used as float32.",)
    unembedding = weights.pop("lm_head.weight") if config.tie_weights else None
    ordered = [name for name in expected_shapes(config) if name in weights]  # so that a message names the first
    checked = {name: _float32(name, weights[name], source) for name in ordered}
    if unembedding is not None:
        if not torch.equal(unembedding.float().cpu(), checked["transformer.wte.weight"]):
            raise ValueError(
                f"{source} holds 'lm_head.weight' and 'transformer.wte.weight' with different values, "
                "but its config ties them to one."
            )
        checked["lm_head.weight"] = checked["transformer.wte.weight"]
    return Checkpoint(config, checked, tokenizer, notes)


def build_model(checkpoint: Checkpoint) -> GPT:
    """The model of a checkpoint, in eval mode. Draws no random numbers, and copies no weights.

    Example:
        >>> model = GPT(GPTConfig(block_size=4, vocab_size=5, n_layer=1, n_head=1, n_embd=4))
        >>> build_model(fit_weights(model.config, model.state_dict())).training
        False
    """
    must_be(checkpoint, Checkpoint, "checkpoint", "Pass what read_checkpoint or fit_weights returned.")
    with torch.device("meta"), _NoInitialValues():
        model = GPT(checkpoint.config)
    model.load_state_dict(checkpoint.state_dict, assign=True)
    if checkpoint.config.tie_weights:  # assign=True made two parameters of one tensor
        model.transformer["wte"].weight = model.lm_head.weight
    return model.eval()


def outlines_of(weights: Mapping[str, Tensor]) -> dict[str, Outline]:
    """Type and shape of tensors in memory, as a reader finds them in a file."""
    return {name: Outline(str(w.dtype).removeprefix("torch."), tuple(w.shape)) for name, w in weights.items()}


def plain_names(names: Mapping[str, object], source: str) -> dict[str, str]:
    """Name in the file -> nanoGPT's name: without the parts that torch.compile and DistributedDataParallel add.

    Raises:
        ValueError: two names in the file are the same weight.
    """
    plain = {name: ".".join(p for p in name.split(".") if p not in ("_orig_mod", "module")) for name in names}
    first: dict[str, str] = {}
    for name, short in plain.items():
        if first.setdefault(short, name) != name:
            raise ValueError(
                f"{source} holds one weight twice, as {shown(first[short])} and as {shown(name)}."
            )
    return plain


def is_mask(name: str) -> bool:
    """Whether a name is a buffer of older GPT-2 code that holds the causal mask, which is no weight.

    The mask is `attn.bias`: parameters of attention are called `c_attn.bias` and `c_proj.bias`.
    """
    return name.endswith((".attn.bias", ".attn.masked_bias"))


def drop_masks(
    weights: Mapping[str, Tensor], block_size: int, source: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Weights without mask buffers, and the note that says so.

    Raises:
        ValueError: a mask is not the causal mask, so that the model computed something else.
    """
    masks = [name for name in weights if is_mask(name)]
    for name in masks:
        mask = weights[name]
        if name.endswith(".attn.bias") and not _is_causal(mask, block_size):
            raise ValueError(
                f"{source} holds the attention mask {shown(name)} with shape {tuple(mask.shape)}, which is not "
                f"the causal mask of shape (1, 1, {block_size}, {block_size}). gptviz's model looks back only."
            )
    kept = {name: weight for name, weight in weights.items() if name not in masks}
    note = f"Ignored {len(masks)} mask buffers ({', '.join(masks[:2])}, ...): the model makes its causal mask itself."
    return kept, (note,) if masks else ()


class _NoInitialValues(TorchFunctionMode):
    """Leaves new parameters unfilled: they are replaced at once, and to fill meta tensors costs 1.3 s of imports."""

    def __torch_function__(self, function: Callable, types, args=(), kwargs=None):
        if function in (init.normal_, init.uniform_, init.kaiming_uniform_):
            return None  # callers go on with the tensor they passed
        return function(*args, **(kwargs or {}))


def _float32(name: str, weight: Tensor, source: str) -> Tensor:
    """The weight in memory of its own as float32, every value finite."""
    copy = weight.detach().to(device="cpu", dtype=torch.float32, memory_format=torch.contiguous_format, copy=True)
    finite = torch.isfinite(copy)
    if not finite.all():
        first = (~finite).nonzero()[0].tolist()
        raise ValueError(
            f"{source} holds {name!r} with {int((~finite).sum())} values that are not finite (NaN, infinite or too "
            f"large for float32), the first at {first}. The training diverged or the file is damaged: take an earlier."
        )
    return copy


def _is_causal(mask: Tensor, block_size: int) -> bool:
    if mask.dim() != 4 or mask.shape[:2] != (1, 1) or mask.shape[2] != mask.shape[3] or mask.shape[2] < block_size:
        return False
    causal = torch.ones(mask.shape[2:], dtype=torch.bool).tril()
    return torch.equal(mask[0, 0].bool(), causal)


def _and_more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
