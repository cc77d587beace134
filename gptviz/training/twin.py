"""Models of other people's code, recorded through a GPT that takes over their weights at each recorded step."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gptviz.config import GPTConfig
from gptviz.model import GPT

_SIZES = {  # ours -> what GPT2Config calls it beside
    "block_size": "n_positions", "vocab_size": "vocab_size",
    "n_layer": "n_layer", "n_head": "n_head", "n_embd": "n_embd",
}  # fmt: skip
_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}
_CONV1D = (".attn.c_attn.weight", ".attn.c_proj.weight", ".mlp.c_fc.weight", ".mlp.c_proj.weight")  # stored transposed
_WRAPPERS = ("_orig_mod", "module")


class Twin:
    """A `GPT` with the weights of another model: nanoGPT's `GPT`, or Hugging Face's `GPT2LMHeadModel`.

    The other model is called once, at the start, in evaluation mode, to see that both compute the same. Afterwards only
    its weights are read: `refresh` copies them. A twin takes the memory of the weights once more.

    Args:
        model: The other model; its `config` and its `state_dict()` are read.
        ids: Token ids to compare the two on.

    Attributes:
        gpt: A GPT, in evaluation mode, on the other model's device.

    Raises:
        TypeError: It is neither nanoGPT's nor Hugging Face's GPT-2.
        ValueError: It computes something else than a `GPT` of the same weights.
    """

    def __init__(self, model: nn.Module, ids: Sequence[int]) -> None:
        self._model = inside(model)
        fields, activations = _described(self._model)
        weight = next(self._model.parameters())
        text = torch.tensor([list(ids)], device=weight.device)
        candidates = {name: self._empty({**fields, "activation": name}, weight.device) for name in activations}
        expected, errors = _last_logits(self._model, text), {}
        for name, self.gpt in candidates.items():
            errors[name] = float((_last_logits(self.refresh(), text) - expected).abs().max())
        best = min(activations, key=lambda name: errors[name])
        self.gpt = candidates[best]
        bound = (1e-3 if weight.dtype == torch.float32 else 0.1) * max(1.0, float(expected.abs().max()))
        if not errors[best] <= bound:
            raise ValueError(
                f"A model to record must compute what a GPT of its weights computes; the logits of "
                f"{type(self._model).__name__} differ by {errors[best]:.1e}. It has other switches than nanoGPT and "
                "GPT-2: train gptviz's GPT, or bring its weights into one."
            )

    @torch.no_grad()
    def refresh(self) -> GPT:
        """Copies the weights as they are now and gives that GPT."""
        weights = self._model.state_dict()
        transposed = _CONV1D if _is_huggingface(self._model) else ()
        for name, parameter in self.gpt.state_dict().items():
            parameter.copy_(weights[name].T if name.endswith(transposed) else weights[name])
        return self.gpt

    def _empty(self, fields: dict[str, Any], device: torch.device) -> GPT:
        """A GPT whose weights are about to be replaced; the random state stays as it was."""
        with torch.random.fork_rng(devices=[]):
            gpt = GPT(GPTConfig(**fields)).to(device).eval()
        theirs, ours = self._model.state_dict(), gpt.state_dict()
        transposed = _CONV1D if _is_huggingface(self._model) else ()
        for name, value in ours.items():
            shape = tuple(theirs[name].shape) if name in theirs else None
            wanted = tuple(value.T.shape) if name.endswith(transposed) else tuple(value.shape)
            if shape != wanted:
                raise TypeError(
                    f"A model to record must have nanoGPT's weights; {type(self._model).__name__} has {name} with "
                    f"shape {shape}, not {wanted}. Use gptviz's GPT, nanoGPT's or transformers' GPT2LMHeadModel."
                )
        return gpt


def inside(model: nn.Module) -> nn.Module:
    """The module inside what torch.compile and data parallelism put around it."""
    while any(isinstance(getattr(model, name, None), nn.Module) for name in _WRAPPERS):
        model = next(part for name in _WRAPPERS if isinstance(part := getattr(model, name, None), nn.Module))
    return model


def _is_huggingface(model: nn.Module) -> bool:
    return getattr(getattr(model, "config", None), "model_type", None) == "gpt2"


def _described(model: nn.Module) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields of a GPTConfig, and the activations that it may have: nanoGPT's config does not name it."""
    config = getattr(model, "config", None)
    fields = {ours: getattr(config, ours, getattr(config, theirs, None)) for ours, theirs in _SIZES.items()}
    missing = [name for name, value in fields.items() if not isinstance(value, int)]
    weights = model.state_dict()
    if missing or "transformer.wte.weight" not in weights or "lm_head.weight" not in weights:
        raise TypeError(
            f"A model to record must be gptviz's GPT, nanoGPT's or transformers' GPT2LMHeadModel (also compiled or "
            f"wrapped), not {type(model).__name__}. Its config must have {', '.join(_SIZES)}."
        )
    tied = weights["lm_head.weight"].data_ptr() == weights["transformer.wte.weight"].data_ptr()
    fields |= {"bias": "transformer.ln_f.bias" in weights, "tie_weights": tied,
               "dropout": float(getattr(config, "dropout", getattr(config, "resid_pdrop", 0.0)))}
    named = _ACTIVATIONS.get(str(getattr(config, "activation_function", "")))
    return fields, (named,) if named else ("gelu", "gelu_tanh")


@torch.no_grad()
def _last_logits(model: nn.Module, text: Tensor) -> Float[Tensor, "vocab"]:
    """The logits of the last position in evaluation mode; every module's mode is afterwards as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        out = model(text)
    finally:
        for module, mode in modes:
            module.training = mode
    logits = out.logits if hasattr(out, "logits") else out[0]
    return logits[0, -1].float()
