"""A GPT with nanoGPT's architecture, state-dict names and numbers, in which every intermediate value has a name.

Read from top to bottom; build order is reading order. Letters in the shape comments at the right margin:
b batch, t position (query and key are positions too), c width of the residual stream (`n_embd`, "d_model"),
h head, d width of one head (c / h), v vocabulary.

Each activation passes through a `HookPoint`, an identity module of that name. Nobody listens: the model is
nanoGPT's, with fused attention. Somebody listens to a layer's `scores` or `pattern`: that layer computes its
attention step by step, so that the two exist. Both ways agree to 1e-5 (float32).

Source of the architecture: Radford et al. 2019 (GPT-2) as written down in karpathy/nanoGPT, `model.py`.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn as nn
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from gptviz.config import ACTIVATIONS
from gptviz.config import GPTConfig as GPTConfig

Stream = Float[Tensor, "batch pos d_model"]
PerHead = Float[Tensor, "batch head pos d_head"]


class HookPoint(nn.Module):
    """An identity with a name: the place where one activation can be edited and read.

    Editors are forward hooks (`register_forward_hook`) and may return another value. Readers are callables in
    `listeners`; they run after every editor, so that they see what the rest of the model sees.
    """

    def __init__(self, name: str):
        super().__init__()
        self.name = name
        self.layer: int | None = None  # set by GPT for the points inside a block
        self.listeners: list[Callable[[Tensor], object]] = []

    @property
    def edited(self) -> bool:
        """Whether a torch hook is registered here, which may replace the value."""
        return bool(self._forward_hooks or self._forward_pre_hooks or self._backward_hooks or self._backward_pre_hooks)

    @property
    def heard(self) -> bool:
        """Whether anybody would see, or change, a value that passes here."""
        return bool(self.listeners) or self.edited

    def __call__(self, x: Tensor) -> Tensor:
        if self.edited:
            x = super().__call__(x)
        for listener in self.listeners and tuple(self.listeners):  # other threads come and go meanwhile
            listener(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return x

    def extra_repr(self) -> str:
        return self.name


class LayerNorm(nn.Module):
    """Subtract the mean and divide by the standard deviation over the width, then scale and shift. Bias optional."""

    eps = 1e-5

    def __init__(self, name: str, width: int, bias: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None
        self.scale = HookPoint(f"{name}_scale")
        self.normalised = HookPoint(name)

    def forward(self, x: Stream) -> Stream:
        if self.scale.edited:  # the edited scale must be the one divided by
            centred = x - x.mean(-1, keepdim=True)                           # b t c
            scale = self.scale((centred.square().mean(-1) + self.eps).sqrt())  # b t
            x = centred / scale[..., None] * self.weight
            return self.normalised(x if self.bias is None else x + self.bias)
        if self.scale.listeners:  # the same kernel as below; it returns 1 / scale as a by-product
            x, _, reciprocal = torch.native_layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
            self.scale(reciprocal.squeeze(-1).reciprocal())                  # b t
            return self.normalised(x)
        return self.normalised(F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps))


@lru_cache(maxsize=1)  # one for all layers, and usable by autograd:
@torch.inference_mode(False)
def causal_mask(n_tokens: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "query key"]:
    """0, and -inf where the key is later than the query."""
    return torch.full((n_tokens, n_tokens), -math.inf, dtype=dtype, device=device).triu_(1)


def attention_scores(q: PerHead, k: PerHead) -> Float[Tensor, "batch head query key"]:
    """Each query times each key: q k' / sqrt(d) + mask."""
    make = causal_mask if q.shape[2] <= 512 else causal_mask.__wrapped__  # longer: megabytes to keep, little to make
    mask, scale = make(q.shape[2], q.dtype, q.device), 1 / math.sqrt(q.shape[3])
    return torch.baddbmm(mask, q.flatten(0, 1), k.flatten(0, 1).mT, alpha=scale).view(*q.shape[:3], q.shape[2])


class CausalSelfAttention(nn.Module):
    """Each position reads earlier positions: softmax(q k' / sqrt(d)) v, per head, then mixed back to the width."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.attn_dropout, self.resid_dropout = nn.Dropout(config.dropout), nn.Dropout(config.dropout)
        self.n_head, self.d_head = config.n_head, config.d_head
        self.q, self.k, self.v = HookPoint("q"), HookPoint("k"), HookPoint("v")
        self.scores, self.pattern, self.z = HookPoint("scores"), HookPoint("pattern"), HookPoint("z")

    def forward(self, x: Stream) -> Stream:
        qkv = self.c_attn(x).unflatten(-1, (3, self.n_head, self.d_head))  # b t 3 h d
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)                 # einops would name these axes at 2 % of a step
        q, k, v = self.q(q), self.k(k), self.v(v)                      # b h t d
        if self.scores.heard or self.pattern.heard:
            z = self.explicit_attention(q, k, v)
        else:
            z = F.scaled_dot_product_attention(q, k, v, dropout_p=self.attn_dropout.p * self.training, is_causal=True)
        z = self.z(z).transpose(1, 2).flatten(2)                       # b h t d -> b t (h d)
        return self.resid_dropout(self.c_proj(z))                      # b t c

    def explicit_attention(self, q: PerHead, k: PerHead, v: PerHead) -> PerHead:
        """What `scaled_dot_product_attention` computes, one line per step."""
        scores = self.scores(attention_scores(q, k))                   # b h query key
        pattern = self.pattern(scores.softmax(dim=-1))                 # b h query key, each row sums to 1
        return (self.attn_dropout(pattern).flatten(0, 1) @ v.flatten(0, 1)).view(q.shape)  # b h query d


class MLP(nn.Module):
    """Each position by itself: four times wider, a smooth threshold, and back."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout, self.approximate = nn.Dropout(config.dropout), ACTIVATIONS[config.activation]
        self.mlp_pre, self.mlp_post = HookPoint("mlp_pre"), HookPoint("mlp_post")

    def forward(self, x: Stream) -> Stream:
        hidden = self.mlp_pre(self.c_fc(x))                            # b t 4c
        hidden = self.mlp_post(F.gelu(hidden, approximate=self.approximate))
        return self.dropout(self.c_proj(hidden))                       # b t c


class Block(nn.Module):
    """Two writes to the residual stream: what attention moved between positions, then what the MLP made of it."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.ln_1 = LayerNorm("ln_1", config.n_embd, bias=config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = LayerNorm("ln_2", config.n_embd, bias=config.bias)
        self.mlp = MLP(config)
        self.attn_out, self.mlp_out = HookPoint("attn_out"), HookPoint("mlp_out")
        self.resid_pre, self.resid_mid, self.resid_post = map(HookPoint, ("resid_pre", "resid_mid", "resid_post"))

    def forward(self, x: Stream) -> Stream:
        x = self.resid_pre(x)
        x = self.resid_mid(x + self.attn_out(self.attn(self.ln_1(x))))
        return self.resid_post(x + self.mlp_out(self.mlp(self.ln_2(x))))


class GPT(nn.Module):
    """Token and position embedding, `n_layer` blocks, a last LayerNorm, the unembedding.

    Modules, parameters and their initial values are nanoGPT's: the same seed gives the same weights.

    Example:
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=2, n_embd=8))
        >>> logits, loss = model(torch.tensor([[0, 1, 2]]))
        >>> tuple(logits.shape), loss
        ((1, 1, 5), None)
    """

    trained_on: dict[str, Any] | None = None  # what a run says of its data and step: for whoever shows the model

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        modules = dict(
            wte=nn.Embedding(config.vocab_size, config.n_embd),
            wpe=nn.Embedding(config.block_size, config.n_embd),
            drop=nn.Dropout(config.dropout),
            h=nn.ModuleList([Block(config) for _ in range(config.n_layer)]),
            ln_f=LayerNorm("ln_final", config.n_embd, bias=config.bias),
        )
        self.transformer: Any = nn.ModuleDict(modules)  # Any: type checkers take its parts for bare modules
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tie_weights:
            self.transformer.wte.weight = self.lm_head.weight
        self.embed, self.pos_embed, self.logits = HookPoint("embed"), HookPoint("pos_embed"), HookPoint("logits")
        self.apply(self._init_weights)
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):  # 2 * n_layer writes add up; GPT-2 shrinks each to keep the sum's size
                nn.init.normal_(parameter, mean=0.0, std=0.02 / math.sqrt(2 * config.n_layer))
        self.hook_points = self._name_hook_points()

    def embedding(self, idx: Int[Tensor, "batch pos"]) -> Stream:
        """The residual stream before the first block: token embedding plus position embedding."""
        batch, n_tokens = idx.shape
        if n_tokens > (limit := self.config.block_size):
            raise ValueError(f"The model reads at most {limit} tokens (block_size), not {n_tokens}. Shorten the text.")
        positions = torch.arange(n_tokens, device=idx.device)
        embed = self.embed(self.transformer.wte(idx))                                              # b t c
        pos_embed = self.pos_embed(self.transformer.wpe(positions).expand(batch, n_tokens, -1))    # b t c
        return self.transformer.drop(embed + pos_embed)

    def unembed(self, x: Stream) -> Float[Tensor, "batch pos d_vocab"]:
        """The logits of the next token at every given position of the residual stream."""
        return self.logits(self.lm_head(self.transformer.ln_f(x)))

    def forward(
        self, idx: Int[Tensor, "batch pos"], targets: Int[Tensor, "batch pos"] | None = None
    ) -> tuple[Float[Tensor, "batch position d_vocab"], Float[Tensor, ""] | None]:
        """Logits and loss, exactly as nanoGPT returns them.

        With `targets`, the token that follows each position (-1: none): the logits of all positions and their mean
        cross-entropy in nats. Without: the logits of the last position only, and None.
        """
        x = self.embedding(idx)
        for block in self.transformer.h:
            x = block(x)
        if targets is None:
            return self.unembed(x[:, [-1], :]), None
        logits = self.unembed(x)
        return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1), ignore_index=-1)

    @staticmethod
    def _init_weights(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def _name_hook_points(self) -> dict[tuple[str, int | None], HookPoint]:
        """Every hook point by (name, layer); the layer is None outside blocks."""
        for layer, block in enumerate(self.transformer.h):
            for module in block.modules():
                if isinstance(module, HookPoint):
                    module.layer = layer
        for module in self.modules():  # plain attributes: nn.Module takes 0.5 us to find a part, 73 times a pass
            vars(module).update(part for part in module.named_children() if isinstance(part[1], HookPoint))
        return {(point.name, point.layer): point for point in self.modules() if isinstance(point, HookPoint)}
