"""The stepper: a whole forward pass with its weights, source and questions, as one View of kind "stepper".

This text is the contract with the front end (`js/views/stepper.ts`). `View.payload()` gives, beside the usual keys:

**arrays** (all float32 unless said; little-endian; `axes` and `shape` travel with each). T tokens, L layers, H heads,
C d_model, D d_head, M d_mlp, K columns.

always
    columns [column] int32      Token ids, ascending: the part of the vocabulary that travels (all of a small one).
    embed, pos_embed, ln_final [pos d_model], ln_final_scale [pos], loss [pos] (NaN at 0)
    logits, probs [pos column]  What predicts the token after each position; probs at temperature 1.
    logit_max, exp_sum [pos]    Largest logit, and sum of exp(logit - largest), over the whole vocabulary.
    lens [layer pos column]     Logits read from resid_post of each layer.
    lens_top [layer pos] int32  The likeliest token (an id; it is in `columns`), and its probability `lens_prob`.
    head_writes [layer head pos]  Length of what each head adds to attn_out: |z_h W_O,h|.
    wte.weight [column d_model], lm_head.weight (the same; missing if `content.tied`: then use wte.weight),
    wpe.weight [pos d_model], ln_f.weight, ln_f.bias [d_model]
of each block, `content.inline` true: stacked, with a first axis "layer"; false: the detail of a layer, without it
    every tensor of `content.tensors` whose axes begin with "layer", but `lens` and `raw_scores`:
    resid_pre ln_1 attn_out resid_mid ln_2 mlp_out resid_post [pos d_model], ln_1_scale ln_2_scale [pos],
    q k v z [head pos d_head], scores pattern [head query key] (scores: -inf where masked), mlp_pre mlp_post [pos d_mlp]
    and the weights, rows first as torch keeps them: ln_1.weight, ln_1.bias, ln_2.weight, ln_2.bias [d_model],
    attn.c_attn.weight [out in] = [3C C] (q, then k, then v; each H blocks of D rows), attn.c_attn.bias [out],
    attn.c_proj.weight [C C] (columns: H blocks of D), mlp.c_fc.weight [M C], mlp.c_proj.weight [C M], their biases.
    Weights are missing where `content.weights` is false; biases where the model has none.

Not travelling: `ids` (in content) and `raw_scores` (= scores where key <= query, else q·k/√d_head from q and k).

**detail** (`detail_axes` ["layer"], only if not inline, or without weights): a View of kind "stepper" with the arrays
of one layer that are not inline. The browser asks for it as for every detail, {"kind": "stepper", "at": {"layer": 3}};
a page holds those that fit its budget under "details", by "0", "1", .... A layer that is not there is said to be left
out. In a page, the detail of the chosen layer may have its weights though `content.weights` is false.

**labels** `token`: the visible tokens, T. `column`: the visible form of each of `columns`.
**range** for each tensor of `content.tensors` with a colour: lowest and highest; symmetric about 0 unless `colour` is
"share" (0..1) or "size" (from 0).
**checks** `trace.check()` when built from a trace, and cells recomputed in float64.

**content** (JSON)
    version 1 · config: GPTConfig's fields · sizes: {axis: length} · ids: [T] · tied · inline · weights (see above)
    columns_all: whether `columns` is the whole vocabulary · eps: 1e-5 of LayerNorm · bound: allowed error of a receipt
    edited: [[name, layer or null]...], values that an intervention may have replaced (their receipt need not agree)
    left_out: sentences about what is not in the payload, [] for nothing
    label: what this pass is ("step 600"); "" for none · learned: what the model was trained to do, a sentence; "" for
        unknown · glossary: {word: its meaning}, for the first use of each word on a page and for the help
    stages: in order, [{id, number, title, sentence, equation: [[text, name]...], tensors: [names; the last is the
        result], reads: [ids of stages], ask, misconception, in_block, lines: [{scope, first, last}...], branch, shape,
        parameters: [{name, shape}...]}]. `name` in an equation is a tensor, a weight or "". `number` is 0..22 and is
        the one in a state string; stage "change" exists only if the board has a second view of kind "stepper".
        branch: "stream" | "attention" | "mlp", shape (of the result, without layer), parameters: for the overview
        drawing, which is: the stages that are not in_block and come before "resid_pre"; then n_layer times the
        in_block ones; then the rest.
    tensors: {name: {axes, shape, rule, sources, weight, bias, first_row, lines, colour: "signed"|"share"|"size"|"id"}}
        axes and shape with the layer first. `weight`, `bias`: names of arrays, "" for none.
    source: {"file": "gptviz/model.py", "text": ...}; `lines` count from 1, both ends inside. Found by parsing.
    questions: [{id, stage, at: {layer?, head?, query?, key?, pos?}, kind: "choice" | "number", text, choices: [...],
        answer: place in choices | number, tolerance, unit, feedback: [a sentence per choice] (of numbers: []),
        explanation}]. A number is right if |given - answer| <= tolerance.
    switches: {"available": [{id, stage, title, sentence, by: [] | ["layer"] | ["layer", "head"]}],
        "results": [{id, layer, head, code, changed, loss, true_loss, losses: [T, null at 0],
        next: [{token, word, prob}, the 3 likeliest], true_next: [...]}]}. Results that are not there can be had from
        a kernel (below). Losses are nats; null for NaN.
    units: {name: unit}

**Receipts.** A receipt is computed by the front end from the arrays above, as `gptviz.analysis.stepper.receipts` does
it: by `rule` of the tensor, result = outer((Σ a·b + bias) / divisor), in float64.
    given   a = ids[pos]
    lookup  a = weight[ids[pos] or, without sources, pos, d_model]
    carry   layer 0: embed + pos_embed; later: resid_post of the layer before (= resid_pre, if that is not loaded)
    sum     the cells of all sources
    scale   x = row of the source, n its length: outer √, a = x − mean, b = (x − mean)/n, bias = eps
    norm    a = [x/scale, −mean/scale], b = [w, w], bias. ln_final reads resid_post of the last layer.
    linear  a = the source at pos (z: all heads side by side), b = weight[first_row·C + head·D + column] (no head:
            weight[column]); first_row is 0 for q, 1 for k, 2 for v
    dot     a = q[head, query], b = k[head, key], divisor √D
    mask    a = [raw score, key > query ? −∞ : 0]
    softmax a = exp(s − largest), divisor Σ exp(s − largest), over the keys with s > −∞ (probs: logit_max, exp_sum)
    mix     a = pattern[head, query, keys], b = v[head, keys, column], keys 0..query and later ones with a share
    gelu    a = [x/2, x/2], b = [1, erf(x/√2)], or tanh(√(2/π)(x + 0.044715x³)) if config.activation is "gelu_tanh"
    loss    at pos: a = [logit_max, log exp_sum, −logit of ids[pos]] of position pos − 1; none at 0
    lens    a = LayerNorm(resid_post row, its own mean and scale)·ln_f, b = lm_head row of the token
error = |result − recorded| / max(largest |a·b| or |bias| over divisor, |recorded|, for norm: largest
|x|·|w|/(n·scale), an addend of the mean); right if <= bound.
Where weights or columns are missing, a live board's action "receipt" gives the same as JSON.

**Actions** of the live board (`gptviz.dashboards.step_through`; {"ask": "act", "name": ..., "value": ...}):
    receipt  value {"tensor", "index": [an index for each axis, layer first]} -> {"receipt": {cell: {tensor, index},
             rule, labels, a, b, bias, divisor, outer, result, recorded, error, bound, passed,
             steps: [[what, number]...], sources: [{name, index: [i or [first, end]...]}...], weights: [the same], text,
             note}};
             numbers that are not finite are text: "-inf", "nan".
    switch   value {"id", "layer", "head"} -> {"switch": a result as above}
Both are given `view`: 0 or 1, which of two passes; 0 if left out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32

from gptviz.analysis.stepper.forward_pass import ForwardPass
from gptviz.analysis.stepper.glossary import GLOSSARY
from gptviz.analysis.stepper.questions import questions
from gptviz.analysis.stepper.receipts import receipt
from gptviz.analysis.stepper.rules import EPS
from gptviz.analysis.stepper.source_lines import find_lines, model_source
from gptviz.analysis.stepper.stages import TENSORS, Stage, Tensor, stages_of
from gptviz.config import GPTConfig
from gptviz.naming import axis_sizes, human_bytes
from gptviz.views.view import BASE64, WHOLE_SHARE, Check, View

INLINE = 8_000_000  # bytes of all layers up to which they travel at once; beyond, a layer when it is looked at
LAYER_WEIGHTS = 4_000_000  # bytes of a layer's weights up to which they travel with its activations
VOCABULARY = 1_000  # tokens up to which all columns travel
TOP = 5  # likeliest tokens of each position whose columns always travel
LARGEST_LAYER = 32_000_000  # bytes of the tensors of one layer that a browser can be asked to hold
LARGEST_LENS = 1_000_000_000  # bytes of the logits of all layers while the view is made
CHECKED = 200  # cells that are recomputed for the check

WEIGHTS = ("ln_1.weight", "ln_1.bias", "attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight",
           "attn.c_proj.bias", "ln_2.weight", "ln_2.bias", "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight",
           "mlp.c_proj.bias")
ACTIVATIONS = tuple(name for name, about in TENSORS.items()
                    if about.axes[0] == "layer" and name not in ("lens", "raw_scores"))
BRANCHES = {"attention": ("ln_1", "qkv", "raw_scores", "mask", "pattern", "z", "attn_out"),
            "mlp": ("ln_2", "mlp_pre", "mlp_post", "mlp_out")}
BRANCH = {stage: branch for branch, stages in BRANCHES.items() for stage in stages}
COLOUR = {"pattern": "share", "probs": "share", "ids": "id"} | dict.fromkeys(
    ("ln_1_scale", "ln_2_scale", "ln_final_scale", "loss"), "size")


def stepper_view(
    forward: ForwardPass, *, visible: Callable[[int], str] = str, switches: Mapping[str, Any] | None = None,
    checks: Sequence[Check] = (), title: str = "Step", label: str = "", learned: str = "", inline: int = INLINE,
) -> View:
    """A forward pass to be walked through, with all that its receipts need; the module's text describes the payload.

    Args:
        forward: The pass with its weights.
        visible: The visible form of a token id.
        switches: {"available", "results"} as described above.
        checks: What was measured about the trace.
        title: The panel's title.
        label: What this pass is, where two stand side by side: "step 600".
        learned: What the model was trained to do, a sentence; "" where nobody knows.
        inline: Bytes of all layers' tensors and weights up to which they travel at once.

    Raises:
        ValueError: If the tensors of one layer are too large for a browser.

    Example:
        >>> from gptviz.analysis.stepper.recorded import recorded_pass
        >>> from gptviz.loading import load
        >>> from gptviz.trace import record
        >>> model, tokenizer = load("sorter")
        >>> view = stepper_view(recorded_pass(record(model, "CBABBC", tokenizer), model), visible=tokenizer.visible)
        >>> view.content["stages"][8]["id"], view.arrays["pattern"].shape
        ('pattern', (3, 3, 6, 6))
    """
    config = forward.config
    _refuse_long(forward)
    with_weights = config.n_layer * _weight_bytes(forward) <= inline or _weight_bytes(forward) <= LAYER_WEIGHTS
    at_once = config.n_layer * (_activation_bytes(forward) + _weight_bytes(forward) * with_weights) <= inline
    columns = shown_columns(forward)
    arrays, axes = _model_arrays(forward, columns)
    if at_once:
        stacked, named = _all_layers(forward, with_weights)
        arrays, axes = arrays | stacked, axes | named
    content = _content(forward, visible, switches) | {
        "inline": at_once, "weights": with_weights, "columns_all": len(columns) == config.vocab_size, "label": label,
        "learned": learned, "glossary": GLOSSARY,
        "left_out": left_out(forward, columns, at_once, with_weights, sum(array.nbytes for array in arrays.values()))}
    more: dict[str, Any] = {} if at_once and with_weights else dict(
        detail=lambda at: _layer_view(forward, at["layer"], title, not at_once, with_weights), detail_axes=("layer",),
        whole_detail=lambda at: _layer_view(forward, at["layer"], title, not at_once, True),
        detail_places=(range(config.n_layer),))
    return View("stepper", title, "the arrow keys, next and back, or a click in the model walk through the "
                "stages; a click on a number shows where it came from",
                arrays, axes, labels={"token": forward.tokens, "column": tuple(visible(int(one)) for one in columns)},
                units=content["units"], range=ranges(forward), checks=(*checks, recomputed(forward)), content=content,
                **more)


def _refuse_long(forward: ForwardPass) -> None:
    lens, layer = 4 * math.prod(forward.shape("lens")), _activation_bytes(forward)
    if layer > LARGEST_LAYER or lens > LARGEST_LENS:
        raise ValueError(
            f"The stepper shows every number: at most {human_bytes(LARGEST_LAYER)} for a layer and "
            f"{human_bytes(LARGEST_LENS)} for the logits of all layers, but {len(forward.ids)} tokens need "
            f"{human_bytes(layer)} and {human_bytes(lens)}. Record a shorter text.")


# --- arrays ---------------------------------------------------------------------------------------------------------


def shown_columns(forward: ForwardPass) -> Int32[np.ndarray, "column"]:
    """The token ids whose logits and embeddings travel: all of a small vocabulary, else the text's and likeliest."""
    size = forward.config.vocab_size
    if size <= VOCABULARY:
        return np.arange(size, dtype=np.int32)
    likely = np.argpartition(-forward.value("logits"), TOP, axis=-1)[:, :TOP]
    first = [forward.value("lens", layer).argmax(-1) for layer in range(forward.config.n_layer)]
    return np.unique(np.concatenate([likely.ravel(), *first, np.array(forward.ids)])).astype(np.int32)


def _model_arrays(forward: ForwardPass, columns: Int32[np.ndarray, "column"]) -> tuple[dict, dict]:
    """What belongs to no block, or to all of them at once."""
    arrays: dict[str, np.ndarray] = {"columns": columns}
    axes: dict[str, tuple[str, ...]] = {"columns": ("column",)}

    def put(name: str, array: np.ndarray, *names: str) -> None:
        arrays[name], axes[name] = np.ascontiguousarray(array), names

    for name in ("embed", "pos_embed", "ln_final", "ln_final_scale", "loss"):
        put(name, forward.value(name), *TENSORS[name].axes)
    logits = forward.value("logits")
    largest = logits.max(-1)
    put("logits", logits[:, columns], "pos", "column")
    put("probs", forward.value("probs")[:, columns], "pos", "column")
    put("logit_max", largest, "pos")
    put("exp_sum", _exp_sum(logits).astype(np.float32), "pos")
    layers = range(forward.config.n_layer)
    lens = [forward.value("lens", layer) for layer in layers]
    put("lens", np.stack([one[:, columns] for one in lens]), "layer", "pos", "column")
    put("lens_top", np.stack([one.argmax(-1) for one in lens]).astype(np.int32), "layer", "pos")
    put("lens_prob", np.stack([1 / _exp_sum(one) for one in lens]).astype(np.float32), "layer", "pos")
    put("head_writes", np.stack([head_writes(forward, layer) for layer in layers]), "layer", "head", "pos")
    put("wte.weight", forward.weight("wte.weight")[columns], "column", "d_model")
    if not forward.config.tie_weights:
        put("lm_head.weight", forward.weight("lm_head.weight")[columns], "column", "d_model")
    put("wpe.weight", forward.weight("wpe.weight")[: len(forward.ids)], "pos", "d_model")
    for name in ("ln_f.weight", "ln_f.bias")[: 1 + forward.config.bias]:
        put(name, forward.weight(name), "d_model")
    return arrays, axes


@np.errstate(invalid="ignore")  # infinite logits make NaN, as in the model
def _exp_sum(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    return np.exp(wide - wide.max(-1, keepdims=True)).sum(-1)


def head_writes(forward: ForwardPass, layer: int) -> Float32[np.ndarray, "head pos"]:
    """The length of what each head adds to attn_out at each position."""
    n_head, d_head = forward.config.n_head, forward.config.d_head
    weight = forward.weight("attn.c_proj.weight", layer).reshape(-1, n_head, d_head)
    z = forward.value("z", layer)
    return np.stack([np.linalg.norm(z[head] @ weight[:, head].T, axis=-1) for head in range(n_head)])


def _layer_arrays(forward: ForwardPass, layer: int, with_tensors: bool, with_weights: bool) -> tuple[dict, dict]:
    """The tensors of one block, and its weights."""
    arrays = {name: forward.value(name, layer) for name in ACTIVATIONS} if with_tensors else {}
    axes = {name: TENSORS[name].axes[1:] for name in arrays}
    for name in _weight_names(forward) if with_weights else ():
        arrays[name] = forward.weight(name, layer)
        axes[name] = ("out", "in") if arrays[name].ndim == 2 else ("out",)
    return arrays, axes


def _all_layers(forward: ForwardPass, with_weights: bool) -> tuple[dict, dict]:
    """The tensors and weights of all blocks, stacked."""
    found = [_layer_arrays(forward, layer, True, with_weights) for layer in range(forward.config.n_layer)]
    arrays = {name: np.stack([one[name] for one, _ in found]) for name in found[0][0]}
    return arrays, {name: ("layer", *axes) for name, axes in found[0][1].items()}


def _layer_view(forward: ForwardPass, layer: int, title: str, with_tensors: bool, with_weights: bool) -> View:
    arrays, axes = _layer_arrays(forward, layer, with_tensors, with_weights)
    return View("stepper", f"{title}, L{layer}", "", arrays, axes)


def _weight_names(forward: ForwardPass) -> list[str]:
    return [name for name in WEIGHTS if forward.config.bias or not name.endswith(".bias")]


def _weight_bytes(forward: ForwardPass) -> int:
    """Bytes of the parameters of one block."""
    width = forward.config.n_embd
    return 4 * (12 * width**2 + (13 if forward.config.bias else 2) * width)


def _activation_bytes(forward: ForwardPass) -> int:
    """Bytes of the tensors of one block."""
    return 4 * sum(math.prod(forward.shape(name)[1:]) for name in ACTIVATIONS)


ONE_SCALE = (("resid_pre", "resid_mid", "resid_post"), ("raw_scores", "scores"))
"""Tensors that hold the same numbers at times, side by side: the same number must have the same colour."""


def ranges(forward: ForwardPass) -> dict[str, tuple[float, float]]:
    """The ends of the colour scale of each tensor, over all layers."""
    found = {}
    for name, about in TENSORS.items():
        if COLOUR.get(name) == "id":
            continue
        layers = range(forward.config.n_layer) if about.axes[0] == "layer" else [None]
        values = (forward.value(name, layer) for layer in layers)
        top = max(float(np.abs(one, where=np.isfinite(one), out=np.zeros_like(one)).max()) for one in values)
        found[name] = {"share": (0.0, 1.0), "size": (0.0, top)}.get(COLOUR.get(name, ""), (-top, top))
    for together in ONE_SCALE:
        widest = max((found[name] for name in together), key=lambda ends: ends[1])
        found.update(dict.fromkeys(together, widest))
    return found


def recomputed(forward: ForwardPass, cells: int = CHECKED) -> Check:
    """The largest error of receipts of cells of all tensors, drawn by the text's own seed; edited places left out."""
    rng = np.random.default_rng(list(forward.ids))
    names = [name for name in TENSORS if name != "loss" or len(forward.ids) > 1]
    errors = [0.0]
    for i in range(cells):
        name = names[i % len(names)]
        index = [int(rng.integers(name == "loss", size)) for size in forward.shape(name)]
        address = (name, index[0] if TENSORS[name].axes[0] == "layer" else None)
        if address not in forward.edited:
            errors.append(receipt(forward, name, *index).error)
    return Check(f"{cells} numbers recomputed in float64", float(np.max(errors)), forward.bound)


def left_out(forward: ForwardPass, columns: np.ndarray, at_once: bool, with_weights: bool, nbytes: int) -> list[str]:
    """What the payload, of so many bytes, does not hold, and where it can be had."""
    config, found = forward.config, []
    if not at_once:
        tensors = config.n_layer * _activation_bytes(forward)
        beside = _weight_bytes(forward) * (config.n_layer if with_weights else 1)  # else of the chosen layer alone
        budget = math.ceil(BASE64 * (nbytes + tensors + beside) / 1e6)
        found.append(f"The tensors of the {config.n_layer} layers ({human_bytes(tensors)}) come one layer at a time; "
                     f"a page holds those that fit into it, all of them from gptviz.export_html(board, path, "
                     f"budget={budget}_000_000) upwards.")
    if not with_weights:
        weights = _weight_bytes(forward)
        detail = weights + (0 if at_once else _activation_bytes(forward))
        budget = math.ceil(BASE64 * (nbytes + detail / WHOLE_SHARE) / 1e6)
        found.append(f"The weights of a layer are {human_bytes(weights)}. A notebook asks the kernel for the "
                     f"arithmetic of matrix products and LayerNorm; a page has it for the layer that is chosen when it "
                     f"is exported, from gptviz.export_html(board, path, budget={budget}_000_000) upwards.")
    if len(columns) < config.vocab_size:
        found.append(f"{len(columns):,} of {config.vocab_size:,} tokens have logits and embeddings here: those of the "
                     f"text and the likeliest at every position and layer.".replace(",", " "))
    return found


# --- words ----------------------------------------------------------------------------------------------------------


def _content(forward: ForwardPass, visible: Callable[[int], str], switches: Mapping[str, Any] | None) -> dict[str, Any]:
    """Everything of the payload that is JSON."""
    config, source = forward.config, model_source()
    return {
        "version": 1, "config": asdict(config), "sizes": axis_sizes(config, len(forward.ids)), "ids": list(forward.ids),
        "tied": config.tie_weights, "eps": EPS, "bound": forward.bound,
        "edited": [list(address) for address in sorted(forward.edited, key=str)],
        "stages": [_stage(forward, number, stage, source) for number, stage in enumerate(stages_of(config))],
        "tensors": {name: _tensor(forward, name, about, source) for name, about in TENSORS.items()},
        "source": {"file": "gptviz/model.py", "text": source},
        "questions": [asdict(question) for question in questions(forward, visible)],
        "switches": dict(switches or {"available": [], "results": []}),
        "units": {"loss": "nats", "pattern": "share", "probs": "probability", "lens_prob": "probability"},
    }


def _stage(forward: ForwardPass, number: int, stage: Stage, source: str) -> dict[str, Any]:
    tensors = [TENSORS[name] for name in stage.tensors]
    shape = forward.shape(stage.tensors[-1]) if stage.tensors else ()
    parameters = dict.fromkeys(name for about in tensors for name in (about.weight, about.bias)
                               if name and (forward.config.bias or not name.endswith(".bias")))
    return asdict(stage) | {
        "number": number, "lines": _lines(tensors, source), "branch": BRANCH.get(stage.id, "stream"),
        "shape": list(shape[1:] if tensors and tensors[-1].axes[0] == "layer" else shape),
        "parameters": [{"name": name, "shape": list(parameter_shape(forward.config, name))} for name in parameters]}


def _tensor(forward: ForwardPass, name: str, about: Tensor, source: str) -> dict[str, Any]:
    return {"axes": list(about.axes), "shape": list(forward.shape(name)), "rule": about.rule,
            "sources": list(about.sources), "weight": about.weight, "bias": about.bias if forward.config.bias else "",
            "first_row": about.first_row, "lines": _lines([about], source), "colour": COLOUR.get(name, "signed")}


def _lines(tensors: Sequence[Tensor], source: str) -> list[dict[str, Any]]:
    """The lines of model.py that compute these, each once, in the order of the file."""
    found = {find_lines(anchor, source) for about in tensors for anchor in about.anchors}
    return [line._asdict() for line in sorted(found, key=lambda line: line.first)]


def parameter_shape(config: GPTConfig, name: str) -> tuple[int, ...]:
    """The shape of a parameter by its name inside the block or the model.

    Example:
        >>> from gptviz.config import GPTConfig
        >>> parameter_shape(GPTConfig(), "mlp.c_fc.weight")
        (3072, 768)
    """
    width = config.n_embd
    tables = {"wte.weight": config.vocab_size, "lm_head.weight": config.vocab_size, "wpe.weight": config.block_size,
              "attn.c_attn.weight": 3 * width, "attn.c_proj.weight": width, "mlp.c_fc.weight": 4 * width}
    vectors = {"attn.c_attn.bias": 3 * width, "mlp.c_fc.bias": 4 * width}
    if name == "mlp.c_proj.weight":
        return (width, 4 * width)
    return (tables[name], width) if name in tables else (vectors.get(name, width),)
