"""What to predict before a stage shows its numbers: questions about the learner's own text, answered from its numbers.

The same text through the same model gives the same questions: the position that is asked about is drawn by a seed made
of the ids. A question about a layer or a head is asked of each of them, so that one fits whatever is on screen.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from gptviz.analysis.predictions import softmax
from gptviz.analysis.stepper.forward_pass import ForwardPass
from gptviz.analysis.stepper.receipts import shown
from gptviz.glyphs import isolated

CHOICES = 4  # at most so many to choose from
EVERY_HEAD = 160  # heads up to which each has its own questions (0.5 kB each); of more, one of each layer has


@dataclass(frozen=True)
class Question:
    """One question with its answer.

    Attributes:
        id: Stage and number: "pattern-1".
        stage: The stage that answers it.
        at: Where to look: any of layer, head, query, key, pos.
        kind: "choice" or "number".
        text: The question.
        answer: Place of the right choice, or the number.
        explanation: Why, with the numbers.
        choices: What can be chosen.
        feedback: For each choice what is so about it.
        tolerance: How far a number may be off.
        unit: Of the number.
    """

    id: str
    stage: str
    at: dict[str, int]
    kind: str
    text: str
    answer: float | int
    explanation: str
    choices: tuple[str, ...] = ()
    feedback: tuple[str, ...] = ()
    tolerance: float | int = 0
    unit: str = ""

    def right(self, given: float | int) -> bool:
        """Whether a choice, or a number within the tolerance, is right."""
        return abs(given - self.answer) <= self.tolerance


@dataclass
class _Asker:
    """Collects questions of one pass; its random numbers depend on the ids and the stage alone."""

    forward: ForwardPass
    found: list[Question] = field(default_factory=list)

    def rng(self, stage: str) -> np.random.Generator:
        return np.random.default_rng([zlib.crc32(stage.encode()), *self.forward.ids])

    def position(self, stage: str) -> int:
        """A position in the later half of the text."""
        n = len(self.forward.ids)
        return int(self.rng(f"place {stage}").integers(n // 2, n))

    def layers(self) -> range:
        """All layers."""
        return range(self.forward.config.n_layer)

    def heads(self, stage: str) -> list[tuple[int, int]]:
        """All heads as (layer, head); of a model with many, one of each layer."""
        config = self.forward.config
        if config.n_layer * config.n_head <= EVERY_HEAD:
            return [(layer, head) for layer in self.layers() for head in range(config.n_head)]
        rng = self.rng(f"heads {stage}")
        return [(layer, int(rng.integers(config.n_head))) for layer in self.layers()]

    def number(self, stage: str, at: dict[str, int], text: str, answer: float | int, tolerance: float | int,
               explanation: str, unit: str = "") -> None:
        if not math.isfinite(answer):  # a diverged model: there is nothing to predict
            return
        self.found.append(Question(self._id(stage), stage, at, "number", text, answer, explanation,
                                   tolerance=tolerance, unit=unit))

    def choice(self, stage: str, at: dict[str, int], text: str, choices: Sequence[str], answer: int,
               feedback: Sequence[str], explanation: str) -> None:
        self.found.append(Question(self._id(stage), stage, at, "choice", text, answer, explanation, tuple(choices),
                                   tuple(feedback)))

    def largest(self, stage: str, at: dict[str, int], text: str, names: Sequence[str], values: np.ndarray, what: str,
                explanation: str) -> None:
        """Which of these has the largest value: the largest, the next, and others; nothing where two are equal."""
        order = np.argsort(-values, kind="stable")
        if len(order) < 2 or not values[order[0]] > values[order[1]]:
            return
        rng = self.rng(f"choices {stage}")
        others = rng.permutation(order[2:])[: CHOICES - 2]
        chosen = np.sort(np.concatenate([order[:2], others]))
        best = float(values[order[0]])
        feedback = [f"{names[i]}: {what} {shown(float(values[i]))}" + (", the largest." if i == order[0] else
                    f", {shown(best - float(values[i]))} less than {names[order[0]]}.") for i in chosen]
        answer = int(np.flatnonzero(chosen == order[0])[0])
        self.choice(stage, at, text, [str(names[i]) for i in chosen], answer, feedback, explanation)

    def _id(self, stage: str) -> str:
        return f"{stage}-{1 + sum(question.stage == stage for question in self.found)}"

    def token(self, position: int) -> str:
        return f"‘{isolated(self.forward.tokens[position])}’ at {position}"


@np.errstate(invalid="ignore")  # infinity makes NaN, and a question about it is left out or shows it
def questions(forward: ForwardPass, visible: Callable[[int], str] = str) -> list[Question]:
    """All questions about a forward pass, in the order of the stages.

    Args:
        forward: The pass.
        visible: The visible form of a token id.

    Returns:
        At least one question for most stages; a question whose answer would be a tie is left out.

    Example:
        >>> from gptviz.analysis.stepper.recorded import recorded_pass
        >>> from gptviz.loading import load
        >>> from gptviz.trace import record
        >>> model, tokenizer = load("sorter")
        >>> asked = questions(recorded_pass(record(model, "CBABBC", tokenizer), model), tokenizer.visible)
        >>> asked[0].text, asked[0].answer
        ('How many tokens does the model read?', 6)
    """
    asker = _Asker(forward)
    for ask in (_tokens, _embed, _positions, _ln_1, _qkv, _scores, _mask, _pattern, _z, _attn_out, _resid_mid, _ln_2,
                _mlp_pre, _mlp_post, _resid_post, _blocks, _ln_final):
        ask(asker)
    _logits(asker, visible)
    _probs(asker)
    _loss(asker)
    return asker.found


def _tokens(ask: _Asker) -> None:
    n = len(ask.forward.ids)
    ask.number("tokens", {}, "How many tokens does the model read?", n, 0,
               f"{n}: each box of the text is one token, and each has one number.")


def _repeated(ask: _Asker) -> tuple[int, int] | None:
    """Two positions with the same token, the last such pair."""
    ids = ask.forward.ids
    pairs = [(i, j) for j in range(len(ids)) for i in range(j) if ids[i] == ids[j]]
    return pairs[-1] if pairs else None


def _embed(ask: _Asker) -> None:
    pair, ids = _repeated(ask), ask.forward.ids
    if pair is None:
        return
    n = len(ids)
    wrong = [(i, j) for j in range(n) for i in range(j) if ids[i] != ids[j]]
    rng = ask.rng("embed")
    drawn = [wrong[i] for i in rng.permutation(len(wrong))[: CHOICES - 1]]
    if not drawn:
        return
    pairs = sorted([pair, *drawn])
    embed = ask.forward.value("embed").astype(np.float64)
    gaps = [float(np.linalg.norm(embed[i] - embed[j])) for i, j in pairs]
    ask.choice("embed", {"pos": pair[1]}, "Which two rows of the token embedding are equal?",
               [f"{ask.token(i)} and {ask.token(j)}" for i, j in pairs], pairs.index(pair),
               [f"These two rows are {gap:.4f} apart." for gap in gaps],
               "The same token picks the same row of the table, wherever it stands.")


def _positions(ask: _Asker) -> None:
    pair = _repeated(ask)
    if pair is None:
        return
    stream = ask.forward.value("resid_pre", 0).astype(np.float64)
    gap = float(np.linalg.norm(stream[pair[0]] - stream[pair[1]]))
    ask.choice("pos_embed", {"pos": pair[1]}, f"{ask.token(pair[0])} and {ask.token(pair[1])} are the same token. Does "
               f"the first block get the same vector for both?", ("yes", "no"), int(gap > 0),
               ("Their token embeddings are equal.", "Their position embeddings differ."),
               f"The two vectors are {gap:.4f} apart: the position has been added.")


def _normalised_row(ask: _Asker, stage: str, name: str, source: str, layer: int | None, read: int, pos: int) -> None:
    row = ask.forward.value(source, read)[pos].astype(np.float64)
    scale = float(ask.forward.value(f"{name}_scale", layer)[pos])
    at = {"pos": pos} if layer is None else {"layer": layer, "pos": pos}
    where = "" if layer is None else f" of L{layer}"
    parameters = "weight and bias" if ask.forward.config.bias else "weight"
    ask.number(stage, at, f"What is the mean of the row of {ask.token(pos)} in {stage}{where}, before the "
               f"{parameters}?",
               float((row - row.mean()).mean() / scale), 0.01,
               f"Before, the mean is {shown(float(row.mean()))}; it is taken away from each of the {len(row)} numbers, "
               f"so 0 is left.")
    ask.number(stage, at, f"And the standard deviation of the same row, that of {ask.token(pos)}?",
               float(row.std() / scale), 0.01,
               f"Before, it is {row.std():.4f}; each number is divided by {scale:.4f}, so "
               f"{row.std() / scale:.4f} is left.")


def _ln_1(ask: _Asker) -> None:
    pos = ask.position("ln_1")
    for layer in ask.layers():
        _normalised_row(ask, "ln_1", "ln_1", "resid_pre", layer, layer, pos)


def _ln_final(ask: _Asker) -> None:
    _normalised_row(ask, "ln_final", "ln_final", "resid_post", None, ask.forward.config.n_layer - 1,
                    len(ask.forward.ids) - 1)


def _qkv(ask: _Asker) -> None:
    config = ask.forward.config
    ask.number("qkv", {}, "How many numbers has the query of one token in one head?",
               config.d_head, 0, f"{config.n_embd} numbers of the stream are shared out to {config.n_head} heads: "
               f"{config.n_embd} / {config.n_head} = {config.d_head}.")


def _scores(ask: _Asker) -> None:
    query = ask.position("raw_scores")
    for layer, head in ask.heads("raw_scores"):
        scores = ask.forward.value("scores", layer)[head, query, : query + 1]
        ask.largest("raw_scores", {"layer": layer, "head": head, "query": query},
                    f"Head L{layer}H{head}: which key has the largest score for the query {ask.token(query)}, of those "
                    f"that are not later?", [ask.token(key) for key in range(query + 1)], scores, "score",
                    "The score is the product of the query with the key, divided by √d_head.")


def _mask(ask: _Asker) -> None:
    query = ask.position("mask")
    ask.number("mask", {"query": query}, f"How many keys may the query {ask.token(query)} see?", query + 1, 0,
               f"Itself and the {query} before it: {query + 1}. The scores of the other "
               f"{len(ask.forward.ids) - query - 1} are −∞.")


def _pattern(ask: _Asker) -> None:
    query = ask.position("pattern")
    for layer, head in ask.heads("pattern"):
        _pattern_row(ask, layer, head, query)


def _pattern_row(ask: _Asker, layer: int, head: int, query: int) -> None:
    at = {"layer": layer, "head": head, "query": query}
    scores = ask.forward.value("scores", layer)[head, query, : query + 1].astype(np.float64)
    row = softmax(scores)
    change = float(np.abs(softmax(scores + 3) - row).max())
    if not math.isfinite(change):
        return
    ask.choice("pattern", at, f"Head L{layer}H{head}: every score in the row of {ask.token(query)} grows by 3. What "
               f"happens to the pattern?",
               ("every share grows by 3", "nothing changes", "the largest share grows"), 1 if change < 1e-9 else 2,
               ("Shares sum to 1: they cannot all grow.",
                f"Recomputed: no share changes by more than {max(change, 1e-16):.0e}.",
                "exp(s + 3) = exp(s) · e³ for every score, the largest included."),
               "e³ is in the numerator and in the sum: it cancels. Softmax sees only differences.")
    key = int(row.argmax())
    ask.number("pattern", at | {"key": key}, f"What share of its attention does {ask.token(query)} give to "
               f"{ask.token(key)}, the key with the largest score?", float(row[key]), 0.1,
               f"exp of its score is {row[key]:.4f} of the sum of exp over the {query + 1} keys.")


def _z(ask: _Asker) -> None:
    query = ask.position("z")
    for layer, head in ask.heads("z"):
        pattern = ask.forward.value("pattern", layer)[head, query, : query + 1]
        sizes = pattern * np.linalg.norm(ask.forward.value("v", layer)[head, : query + 1], axis=-1)
        ask.largest("z", {"layer": layer, "head": head, "query": query},
                    f"Head L{layer}H{head}: whose value is the largest part of what {ask.token(query)} reads?",
                    [ask.token(key) for key in range(query + 1)], sizes, "share × length",
                    "The part of a key is its share of attention times the length of its value.")


def _attn_out(ask: _Asker) -> None:
    pos, config = ask.position("attn_out"), ask.forward.config
    for layer in ask.layers():
        weight = ask.forward.weight("attn.c_proj.weight", layer).reshape(-1, config.n_head, config.d_head)
        writes = np.einsum("hd,chd->hc", ask.forward.value("z", layer)[:, pos], weight)
        ask.largest("attn_out", {"layer": layer, "pos": pos}, f"Which head of L{layer} writes most at "
                    f"{ask.token(pos)}?", [f"L{layer}H{head}" for head in range(config.n_head)],
                    np.linalg.norm(writes, axis=-1), "length",
                    "The length of z of the head times its part of c_proj. Length is not importance: a later layer "
                    "may undo a write.")


def _resid_mid(ask: _Asker) -> None:
    pos = ask.position("resid_mid")
    for layer in ask.layers():
        before, after = (ask.forward.value(name, layer)[pos].astype(np.float64) for name in ("resid_pre", "resid_mid"))
        cosine = float(before @ after / max(1e-30, np.linalg.norm(before) * np.linalg.norm(after)))
        write, stream = np.linalg.norm(after - before), np.linalg.norm(before)
        ask.number("resid_mid", {"layer": layer, "pos": pos}, f"What is the cosine of the stream at {ask.token(pos)} "
                   f"before and after attention of L{layer} has written (1: the same direction)?", cosine, 0.1,
                   f"The write is {write:.4f} long, the stream {stream:.4f}: the cosine is {shown(cosine)}.")


def _ln_2(ask: _Asker) -> None:
    for layer in ask.layers():
        scale = ask.forward.value("ln_2_scale", layer)
        ask.largest("ln_2", {"layer": layer}, f"Which position is divided by the largest number in L{layer}?",
                    [ask.token(pos) for pos in range(len(scale))], scale, "standard deviation",
                    "Each position is divided by its own standard deviation, not by one of the text.")


def _mlp_pre(ask: _Asker) -> None:
    pos = ask.position("mlp_pre")
    ask.number("mlp_pre", {"pos": pos}, f"How many positions does the MLP read to compute what it gives at "
               f"{ask.token(pos)}?", 1, 0, "One: its own. Only attention moves something between positions.")


def _mlp_post(ask: _Asker) -> None:
    pos = ask.position("mlp_post")
    for layer in ask.layers():
        row = ask.forward.value("mlp_pre", layer)[pos]
        share = 100 * float((row > 0).mean())
        ask.number("mlp_post", {"layer": layer, "pos": pos}, f"What percentage of the {len(row)} neurons of L{layer} "
                   f"is above zero at {ask.token(pos)}?", share, 10,
                   f"{int((row > 0).sum())} of {len(row)}: {share:.1f} %.", "%")


def _resid_post(ask: _Asker) -> None:
    pos = ask.position("resid_post")
    for layer in ask.layers():
        sizes = np.array([np.linalg.norm(ask.forward.value(name, layer)[pos]) for name in ("attn_out", "mlp_out")])
        ask.largest("resid_post", {"layer": layer, "pos": pos}, f"Which writes more to the stream at {ask.token(pos)} "
                    f"in L{layer}?", ["attention", "the MLP"], sizes, "length", "Both writes are added to the stream.")


def _blocks(ask: _Asker) -> None:
    n_layer, pos = ask.forward.config.n_layer, len(ask.forward.ids) - 1
    if n_layer == 1:
        return
    tops = [int(ask.forward.value("lens", layer)[pos].argmax()) for layer in range(n_layer)]
    first = tops.index(tops[-1])
    ask.number("blocks", {"pos": pos}, f"After which layer (counted from 0) does the final answer at {ask.token(pos)} "
               f"first stand at the top?", first, 0,
               f"The stream after L{first}, read by the unembedding, has the final answer as its likeliest token.")


def _logits(ask: _Asker, visible: Callable[[int], str]) -> None:
    pos = len(ask.forward.ids) - 1
    logits = ask.forward.value("logits")[pos]
    top = np.argsort(-logits, kind="stable")[:CHOICES]
    top = top[np.argsort(top)]
    ask.largest("logits", {"pos": pos}, f"Which token has the largest logit after {ask.token(pos)}?",
                [f"‘{isolated(visible(int(token)))}’" for token in top], logits[top], "logit",
                "A logit is the product of the normalised stream with the token's row of the unembedding.")


def _probs(ask: _Asker) -> None:
    pos = len(ask.forward.ids) - 1
    best = float(ask.forward.value("probs")[pos].max())
    ask.number("probs", {"pos": pos}, f"How likely is the likeliest token after {ask.token(pos)}, in percent?",
               100 * best, 10, f"{100 * best:.1f} %. Drawing from the probabilities gives another token in "
               f"{100 - 100 * best:.1f} % of the cases.", "%")


def _loss(ask: _Asker) -> None:
    loss = ask.forward.value("loss")[1:]
    ask.largest("loss", {}, "Which token was hardest to predict?",
                [ask.token(pos) for pos in range(1, len(loss) + 1)], loss, "loss in nats",
                "The loss is −log of the probability that the model had given to this token.")
