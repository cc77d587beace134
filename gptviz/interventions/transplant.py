"""A head from another model, or from another step of the same one, put in place of a head for as long as wanted."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from gptviz.interventions.edit import Edit, Note, Reached, call
from gptviz.model import GPT
from gptviz.naming import UnknownNameError, index_within
from gptviz.trace import unwrapped


@dataclass(frozen=True, eq=False, repr=False)
class Transplant(Edit):
    """The weights of one head: rows of `c_attn` (`qkv` [3*d_head d_model], `bias`) and columns of `c_proj` (`out`)."""

    kind: ClassVar[str] = "transplant"

    layer: int
    head: int
    from_layer: int | None
    from_head: int | None
    qkv: Tensor
    bias: Tensor | None
    out: Tensor

    def __repr__(self) -> str:
        place = [str(self.layer), str(self.head), "from_model"]
        return call("transplant_head", *place, from_layer=self.from_layer, from_head=self.from_head)

    def sites(self, model: GPT) -> list[Any]:
        config = model.config
        index_within(self.layer, config.n_layer, "layer")
        index_within(self.head, config.n_head, "head")
        shapes = (tuple(self.qkv.shape), tuple(self.out.shape))
        expected = ((3 * config.d_head, config.n_embd), (config.n_embd, config.d_head))
        if shapes != expected:
            raise ValueError(
                f"{self!r} brings weights of shapes {shapes}, but this model's heads have {expected}. "
                "Both models must have the same n_embd and n_head."
            )
        return []

    def attach(self, model: GPT, note: Note) -> list[RemovableHandle]:
        """Hooks on the two Linear layers, so that everything after them, edits included, meets the other head.

        Others that do nothing mark what these layers give as edited, so that a trace says so.
        """
        layer = index_within(self.layer, model.config.n_layer, "layer")
        attention = model.transformer.h[layer].attn
        head = index_within(self.head, model.config.n_head, "head")
        hooks = attention.c_proj._forward_hooks.values()
        earlier = [hook.edit.out for hook in hooks if isinstance(hook, _Out) and hook.head == head]
        out = _Out(self, head, earlier[-1] if earlier else None, note)
        return [
            attention.c_attn.register_forward_hook(_In(self, head, note)),
            attention.c_proj.register_forward_hook(out),
            *(model.hook_points[name, layer].register_forward_hook(_as_it_is) for name in ("q", "k", "v", "attn_out")),
        ]


class _In:
    """After `c_attn`: the head's queries, keys and values by the other weights."""

    def __init__(self, edit: Transplant, head: int, note: Note):
        self.edit, self.head, self.note = edit, head, note

    def __call__(self, linear: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        x, edit = args[0], self.edit
        bias = None if edit.bias is None else edit.bias.to(x)
        new = F.linear(x, edit.qkv.to(x), bias).unflatten(-1, (3, -1))      # b t qkv d
        edited = output.unflatten(-1, (3, -1, new.shape[-1])).clone()       # b t qkv h d
        old = edited[..., self.head, :].clone()
        edited[..., self.head, :] = new.to(output)
        self.note(old, new.to(old), _everywhere(x))
        return edited.flatten(-3)


class _Out:
    """After `c_proj`: the head's write by the other weights instead of the ones that were used."""

    def __init__(self, edit: Transplant, head: int, replaced: Tensor | None, note: Note):
        self.edit, self.head, self.note = edit, head, note
        self.replaced = replaced
        """The weights of an earlier transplant of this head; None where the model's own were used."""

    def __call__(self, linear: nn.Linear, args: tuple[Tensor], output: Tensor) -> Tensor:
        own = self.edit.out.to(output)
        width = own.shape[1]
        columns = slice(self.head * width, (self.head + 1) * width)
        used = linear.weight[:, columns] if self.replaced is None else self.replaced.to(output)
        edited = output + F.linear(args[0][..., columns], own - used)       # b t c
        self.note(output, edited, _everywhere(output))
        return edited


def transplant_head(
    layer: int, head: int, from_model: nn.Module, from_layer: int | None = None, from_head: int | None = None
) -> Transplant:
    """Use the weights of another model's head: its queries, keys, values and the columns of `c_proj` that are its own.

    The model's parameters are not touched: the two Linear layers give what they would give with the other weights.

    Args:
        layer: The block whose head is replaced, from 0; negative counts from the last.
        head: The replaced head.
        from_model: A `GPT` with the same `n_embd` and `n_head`, for example the same run at another step. Its weights
            are copied now.
        from_layer: The block that the other head comes from; None for the same.
        from_head: The other head; None for the same.

    Raises:
        UnknownNameError: the other model has no such layer or head.

    Example:
        >>> from gptviz.interventions import intervene
        >>> from gptviz.loading import load
        >>> from gptviz.trace import record
        >>> (trained, tokenizer), (untrained, _) = load("sorter"), load("sorter", step=0)
        >>> with intervene(trained, transplant_head(2, 0, untrained)) as report:
        ...     trace = record(trained, "CBABBCABBBC", tokenizer)
        >>> report[0].changed
        True
    """
    donor = unwrapped(from_model)
    config = donor.config
    try:
        source = index_within(layer if from_layer is None else from_layer, config.n_layer, "layer")
        number = index_within(head if from_head is None else from_head, config.n_head, "head")
    except UnknownNameError as error:
        raise UnknownNameError(f"{error} It is from_model that has {config.n_layer} layers of {config.n_head} heads; "
                               "say which of them with from_layer= and from_head=.") from error
    attention = donor.transformer.h[source].attn
    weight, bias = attention.c_attn.weight.detach(), attention.c_attn.bias
    qkv = weight.unflatten(0, (3, config.n_head, -1))[:, number].flatten(0, 1).clone()
    bias = None if bias is None else bias.detach().view(3, config.n_head, -1)[:, number].flatten().clone()
    out = attention.c_proj.weight.detach()[:, number * config.d_head : (number + 1) * config.d_head].clone()
    return Transplant(layer, head, from_layer, from_head, qkv, bias, out)


def _as_it_is(point: nn.Module, args: tuple[Tensor], value: Tensor) -> None:
    """Leaves the value as it is."""


def _everywhere(x: Tensor) -> Reached:
    positions = list(range(x.shape[1]))
    return Reached(positions, positions, positions)
