"""The table behind the stepper: every tensor with its rule, every stage with its words. Data, without torch.

A `Tensor` says from what its cells are computed, by which of a dozen rules, and where `model.py` does it; a `Stage`
shows one or more tensors. Receipts, sources, questions and the drawing all read this table.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from gptviz.config import GPTConfig
from gptviz.naming import AXES


class Anchor(NamedTuple):
    """Where to find a line: a function of `model.py` ("": any) and an expression in it, or what it calls."""

    scope: str
    expression: str


@dataclass(frozen=True)
class Tensor:
    """How the cells of one tensor are computed.

    Attributes:
        axes: Names of its axes; "layer" comes first where every block has one.
        rule: How a cell is computed; `receipts.RULES` holds the arithmetic.
        sources: The tensors it is computed from.
        weight: Its parameter, by nanoGPT's name inside the block or the model.
        bias: Its bias, in models that have biases.
        first_row: For rows of a joint parameter: 0, 1 or 2 times d_model.
        anchors: Where `model.py` computes it.
    """

    axes: tuple[str, ...]
    rule: str
    sources: tuple[str, ...] = ()
    weight: str = ""
    bias: str = ""
    first_row: int = 0
    anchors: tuple[Anchor, ...] = ()


_NORM = (
    Anchor("LayerNorm.forward", "x.mean"),
    Anchor("LayerNorm.forward", "centred.square"),
    Anchor("LayerNorm.forward", "centred / scale[..., None] * self.weight"),
    Anchor("LayerNorm.forward", "x + self.bias"),
    Anchor("LayerNorm.forward", "torch.native_layer_norm"),  # the same in one kernel: this one ran
)
_ATTENTION, _BLOCK, _MODEL = "CausalSelfAttention.forward", "Block.forward", "GPT.forward"


def _norm(name: str, source: str, weight: str, anchor: Anchor) -> dict[str, Tensor]:
    """A LayerNorm: the scale it divides by, and what it gives."""
    return {
        f"{name}_scale": Tensor(AXES[f"{name}_scale"], "scale", (source,), anchors=(anchor, *_NORM)),
        name: Tensor(AXES[name], "norm", (source, f"{name}_scale"), f"{weight}.weight", f"{weight}.bias",
                     anchors=(anchor, *_NORM)),
    }


def _head_input(name: str, place: int) -> Tensor:
    """Queries, keys or values: a third of the rows of c_attn, shared out to the heads."""
    anchors = (Anchor(_ATTENTION, "self.c_attn"), Anchor(_ATTENTION, f"self.{name}"))
    return Tensor(AXES[name], "linear", ("ln_1",), "attn.c_attn.weight", "attn.c_attn.bias", place, anchors)


TENSORS: dict[str, Tensor] = {
    "ids": Tensor(("pos",), "given", anchors=(Anchor(_MODEL, "self.embedding"),)),
    "embed": Tensor(AXES["embed"], "lookup", ("ids",), "wte.weight",
                    anchors=(Anchor("GPT.embedding", "self.transformer.wte"),)),
    "pos_embed": Tensor(AXES["pos_embed"], "lookup", (), "wpe.weight",
                        anchors=(Anchor("GPT.embedding", "self.transformer.wpe"),)),
    "resid_pre": Tensor(AXES["resid_pre"], "carry", ("embed", "pos_embed"),
                        anchors=(Anchor("GPT.embedding", "embed + pos_embed"), Anchor(_BLOCK, "self.resid_pre"))),
    **_norm("ln_1", "resid_pre", "ln_1", Anchor(_BLOCK, "self.ln_1")),
    "q": _head_input("q", 0),
    "k": _head_input("k", 1),
    "v": _head_input("v", 2),
    "raw_scores": Tensor(AXES["scores"], "dot", ("q", "k"),
                         anchors=(Anchor("attention_scores", "torch.baddbmm"),)),
    "scores": Tensor(AXES["scores"], "mask", ("raw_scores",),
                     anchors=(Anchor("", "torch.full"), Anchor("attention_scores", "torch.baddbmm"))),
    "pattern": Tensor(AXES["pattern"], "softmax", ("scores",),
                      anchors=(Anchor("CausalSelfAttention.explicit_attention", "scores.softmax"),)),
    "z": Tensor(AXES["z"], "mix", ("pattern", "v"),
                anchors=(Anchor("CausalSelfAttention.explicit_attention", "self.attn_dropout(pattern)"),)),
    "attn_out": Tensor(AXES["attn_out"], "linear", ("z",), "attn.c_proj.weight", "attn.c_proj.bias",
                       anchors=(Anchor(_ATTENTION, "self.c_proj"),)),
    "resid_mid": Tensor(AXES["resid_mid"], "sum", ("resid_pre", "attn_out"),
                        anchors=(Anchor(_BLOCK, "self.resid_mid"),)),
    **_norm("ln_2", "resid_mid", "ln_2", Anchor(_BLOCK, "self.ln_2")),
    "mlp_pre": Tensor(AXES["mlp_pre"], "linear", ("ln_2",), "mlp.c_fc.weight", "mlp.c_fc.bias",
                      anchors=(Anchor("MLP.forward", "self.c_fc"),)),
    "mlp_post": Tensor(AXES["mlp_post"], "gelu", ("mlp_pre",), anchors=(Anchor("MLP.forward", "F.gelu"),)),
    "mlp_out": Tensor(AXES["mlp_out"], "linear", ("mlp_post",), "mlp.c_proj.weight", "mlp.c_proj.bias",
                      anchors=(Anchor("MLP.forward", "self.c_proj"),)),
    "resid_post": Tensor(AXES["resid_post"], "sum", ("resid_mid", "mlp_out"),
                         anchors=(Anchor(_BLOCK, "self.resid_post"),)),
    "lens": Tensor(("layer", "pos", "d_vocab"), "lens", ("resid_post",), "lm_head.weight",
                   anchors=(Anchor(_MODEL, "block"),)),
    **_norm("ln_final", "resid_post", "ln_f", Anchor("GPT.unembed", "self.transformer.ln_f")),
    "logits": Tensor(AXES["logits"], "linear", ("ln_final",), "lm_head.weight",
                     anchors=(Anchor("GPT.unembed", "self.lm_head"),)),
    "probs": Tensor(AXES["logits"], "softmax", ("logits",), anchors=(Anchor(_MODEL, "F.cross_entropy"),)),
    "loss": Tensor(AXES["loss"], "loss", ("logits", "ids"), anchors=(Anchor(_MODEL, "F.cross_entropy"),)),
}
"""Every tensor of the stepper in the order of the computation: those of a trace (`naming.AXES`), and four more.

`ids`; `raw_scores`, the scores before the mask (as `scores` where the key is not later; computed elsewhere); `lens`,
the logits that the last LayerNorm and the unembedding read from the stream after each block; `probs`, softmax of the
logits.
"""

Part = tuple[str, str]
"""A piece of an equation: its text, and the tensor or parameter it stands for ("" for signs between them)."""


@dataclass(frozen=True)
class Stage:
    """One stop of the walk.

    Attributes:
        id: A word for links and code.
        title: A noun.
        sentence: What happens here.
        equation: Its pieces in order.
        tensors: What is shown; the last one is the result.
        reads: Ids of the stages that its numbers come from.
        ask: What to ask before the numbers are shown.
        misconception: What people often believe here, and what is so instead.
        in_block: Whether every block has this stage.
    """

    id: str
    title: str
    sentence: str
    equation: tuple[Part, ...]
    tensors: tuple[str, ...]
    reads: tuple[str, ...]
    ask: str
    misconception: str
    in_block: bool = True


def _equation(text: str) -> tuple[Part, ...]:
    """An equation from a text in which {name} or {name|as written} is tied to a tensor or parameter."""
    parts: list[Part] = []
    for i, piece in enumerate(text.replace("}", "{").split("{")):
        name, _, written = piece.partition("|")
        if piece:
            parts.append((written or name, name) if i % 2 else (piece, ""))
    return tuple(parts)


STAGES: tuple[Stage, ...] = (
    Stage("tokens", "Text to tokens",
          "The tokenizer cuts the text into tokens and gives each the number that it has in the vocabulary.",
          _equation("{ids} = tokenizer(text)"), ("ids",), (),
          "How many tokens is this text?",
          "A token need not be a word: it can be a character, a piece of a word, or a space.", False),
    Stage("embed", "Token embedding",
          "Each token's number picks one row of the table wte: the vector that stands for this token, wherever it is.",
          _equation("{embed} = {wte.weight|wte}[{ids}]"), ("embed",), ("tokens",),
          "Which two rows are equal?",
          "The embedding does not depend on the context: the same token always has the same row.", False),
    Stage("pos_embed", "Position embedding",
          "Each position has a vector of its own, the same for every text.",
          _equation("{pos_embed} = {wpe.weight|wpe}[0, 1, 2, …]"), ("pos_embed",), (),
          "The same token stands at two positions. Does the model get the same vector twice?",
          "Attention by itself does not know the order of the keys: the order comes in here.", False),
    Stage("resid_pre", "Residual stream",
          "The stream that enters a block: at first token plus position, later what the block before has left.",
          _equation("{resid_pre} = {embed} + {pos_embed}, later {resid_post} of the block before"),
          ("resid_pre",), ("embed", "pos_embed", "resid_post"),
          "What does a block get to read?",
          "Layers do not replace the stream, they add to it: the embedding is still in it at the end."),
    Stage("ln_1", "LayerNorm 1",
          "Each position's vector is centred and divided by its standard deviation, then scaled and shifted.",
          _equation("{ln_1} = ({resid_pre|x} − mean) / {ln_1_scale|√(variance + ε)} · {ln_1.weight|weight} + "
                    "{ln_1.bias|bias}"),
          ("ln_1_scale", "ln_1"), ("resid_pre",),
          "What are the mean and the standard deviation of a row before weight and bias?",
          "It normalises each position over the width, never over the tokens."),
    Stage("qkv", "Queries, keys, values",
          "Each head makes three short vectors of the same normalised stream: what it looks for (q), what it offers "
          "(k), and what it passes on (v).",
          _equation("{q}, {k}, {v} = {ln_1} · {attn.c_attn.weight|c_attnᵀ} + {attn.c_attn.bias|bias}, cut into heads"),
          ("q", "k", "v"), ("ln_1",),
          "Do two heads of a layer read different inputs?",
          "All heads of a layer read the same input; their weights differ."),
    Stage("raw_scores", "Scores before the mask",
          "Each query is multiplied with each key: the larger the product, the better they match.",
          _equation("{raw_scores} = {q} · {k|kᵀ} / √d_head"), ("raw_scores",), ("qkv",),
          "Which key wins?",
          "√d_head is not cosmetic: without it the scores grow with the width, and softmax picks one key only."),
    Stage("mask", "Causal mask",
          "A key that comes later than the query gets the score −∞: nobody looks into the future.",
          _equation("{scores} = {raw_scores} + mask"), ("scores",), ("raw_scores",),
          "How many keys may this query see?",
          "The mask acts before softmax, so that the remaining shares still sum to 1."),
    Stage("pattern", "Softmax",
          "Each row of scores becomes shares of attention: none negative, and together exactly 1.",
          _equation("{pattern} = softmax({scores}) = exp({scores}) / Σ exp({scores})"), ("pattern",), ("mask",),
          "Every score in a row grows by 3. What happens to the pattern?",
          "Attention is where a head reads from, not how important a token is for the answer."),
    Stage("z", "Weighted values",
          "Each query gets the mean of the values, weighted by its row of the pattern.",
          _equation("{z} = {pattern} · {v}"), ("z",), ("pattern", "qkv"),
          "Which value vector has the largest part in this one?",
          "Attention moves no tokens: it adds up value vectors."),
    Stage("attn_out", "Output of attention",
          "The heads' results are laid side by side and mixed back to the width of the stream.",
          _equation("{attn_out} = concat({z}) · {attn.c_proj.weight|c_projᵀ} + {attn.c_proj.bias|bias}"),
          ("attn_out",), ("z",),
          "Which head writes most at this position?",
          "The heads do not vote: what each writes is added up."),
    Stage("resid_mid", "Residual add",
          "What attention wrote is added to the stream.",
          _equation("{resid_mid} = {resid_pre} + {attn_out}"), ("resid_mid",), ("resid_pre", "attn_out"),
          "How much of the old stream is left?",
          "Nothing is overwritten: to delete something, a layer must write its negative."),
    Stage("ln_2", "LayerNorm 2",
          "The stream is normalised again, position by position, for the MLP.",
          _equation("{ln_2} = ({resid_mid|x} − mean) / {ln_2_scale|√(variance + ε)} · {ln_2.weight|weight} + "
                    "{ln_2.bias|bias}"),
          ("ln_2_scale", "ln_2"), ("resid_mid",),
          "Which position is divided by the largest number?",
          "The stream itself stays as it is: only what the MLP reads is normalised."),
    Stage("mlp_pre", "MLP, up",
          "Each position by itself is compared with four times as many directions as the stream is wide.",
          _equation("{mlp_pre} = {ln_2} · {mlp.c_fc.weight|c_fcᵀ} + {mlp.c_fc.bias|bias}"), ("mlp_pre",), ("ln_2",),
          "Which position can the MLP read at position 3?",
          "The MLP does not mix positions: it reads one at a time."),
    Stage("mlp_post", "MLP, GELU",
          "A smooth threshold: large numbers pass, negative ones come out near zero.",
          _equation("{mlp_post} = GELU({mlp_pre|x}) = {mlp_pre|x} / 2 · (1 + erf({mlp_pre|x} / √2))"),
          ("mlp_post",), ("mlp_pre",),
          "Which share of the neurons is on?",
          "GELU is not zero below zero: a small negative number remains."),
    Stage("mlp_out", "MLP, down",
          "Every neuron that is on writes its direction; the sum has the width of the stream.",
          _equation("{mlp_out} = {mlp_post} · {mlp.c_proj.weight|c_projᵀ} + {mlp.c_proj.bias|bias}"),
          ("mlp_out",), ("mlp_post",),
          "Which neuron contributes most to a cell?",
          "A neuron that is on need not matter here: its weight decides, too."),
    Stage("resid_post", "Residual add",
          "What the MLP wrote is added to the stream, which leaves the block.",
          _equation("{resid_post} = {resid_mid} + {mlp_out}"), ("resid_post",), ("resid_mid", "mlp_out"),
          "Which writes more at this position, attention or the MLP?",
          "The block has no output of its own: it gives the stream, with two sums more in it."),
    Stage("blocks", "Blocks, read early",
          "The last LayerNorm and the unembedding, applied after each block: what the model would say here.",
          _equation("{lens} = unembed({resid_post})"), ("lens",), ("resid_post",),
          "After which block does the final answer stand first?",
          "A layer does not predict the next token: reading it early shows what the last layers could use.", False),
    Stage("ln_final", "Last LayerNorm",
          "The stream that leaves the last block is normalised once more.",
          _equation("{ln_final} = ({resid_post|x} − mean) / {ln_final_scale|√(variance + ε)} · {ln_f.weight|weight} + "
                    "{ln_f.bias|bias}"),
          ("ln_final_scale", "ln_final"), ("resid_post",),
          "What is the mean of a row before weight and bias?",
          "It is no softmax: the numbers are neither positive nor do they sum to 1.", False),
    Stage("logits", "Unembedding",
          "The normalised stream is multiplied with one row for each token of the vocabulary: a score for every token.",
          _equation("{logits} = {ln_final} · {lm_head.weight|lm_headᵀ}"), ("logits",), ("ln_final",),
          "Which token gets the largest logit at the last position?",
          "Every position predicts a next token at once, not only the last one.", False),
    Stage("probs", "Next token",
          "Softmax makes probabilities of the logits, here at temperature 1; one token is drawn from them.",
          _equation("{probs} = softmax({logits} / temperature)"), ("probs",), ("logits",),
          "How likely is the likeliest token?",
          "The model outputs no word but a probability for every token; the choice is made outside of it.", False),
    Stage("loss", "Loss per token",
          "Minus the logarithm of the probability that the token which really came had been given.",
          _equation("{loss} = −log {probs}[next token] = log Σ exp({logits}) − {logits}[{ids|next token}]"),
          ("loss",), ("logits", "tokens"),
          "Which token is hardest?",
          "The loss is a number for every token. Training prints a mean of those that it learns from: of a task, the "
          "answer's alone.", False),
    Stage("change", "What changed",
          "The same tensors of another step, text or edit, beside these.",
          _equation("change = this pass − the other pass"), (), (),
          "Which tensor changed most?",
          "A weight can change much while no output does.", False),
)
"""All stages in order. "change" is shown only where there are two passes."""

_TANH = _equation("{mlp_post} = GELU({mlp_pre|x}) ≈ {mlp_pre|x} / 2 · (1 + tanh(√(2/π) · ({mlp_pre|x} + "
                  "0.044715 {mlp_pre|x}³)))")


def stages_of(config: GPTConfig) -> tuple[Stage, ...]:
    """The stages of a model, with the equations of its own GELU and without biases that it has not.

    Example:
        >>> stage = next(stage for stage in stages_of(GPTConfig(bias=False)) if stage.id == "mlp_pre")
        >>> "".join(text for text, _ in stage.equation)
        'mlp_pre = ln_2 · c_fcᵀ'
    """
    found = []
    for stage in STAGES:
        equation = _TANH if stage.id == "mlp_post" and config.activation == "gelu_tanh" else stage.equation
        found.append(replace(stage, equation=equation if config.bias else _without_bias(equation)))
    return tuple(found)


def _without_bias(equation: tuple[Part, ...]) -> tuple[Part, ...]:
    """An equation without its bias and the plus before it."""
    kept: list[Part] = []
    for text, name in equation:
        if not name.endswith(".bias"):
            kept.append((text, name))
            continue
        kept.pop()
    return tuple(kept)
