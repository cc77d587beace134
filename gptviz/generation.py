"""Text from a model: `generate` all at once, `stream` it token by token, or `generate_and_record` every step."""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gptviz.arguments import check_tokenizer, whole_number
from gptviz.capture import unwrapped
from gptviz.decoding import Decoder
from gptviz.model import GPT
from gptviz.prompts import token_rows
from gptviz.trace import record

MOST_TOKENS = 2**27
"""Of one request: a gigabyte of ids, months of waiting."""

LARGEST_SEED = 2**64
"""torch's generators take smaller ones; row i of a batch takes the seed + i."""


def generate(
    model: nn.Module,
    prompt: Any,
    max_new_tokens: int,
    *,
    tokenizer: Any = None,
    temperature: float | int = 1.0,
    top_k: int | None = None,
    top_p: float | int | None = None,
    seed: int | None = None,
    stop: Any = None,
) -> Any:
    """Continue a prompt, or several at once.

    Edits that are active (`intervene`) and whatever else is attached to a module take part: the modules then run
    over the whole text at every step, which is exact and slower. Otherwise keys and values are kept; the greedy
    tokens are the same. Dropout is off. Afterwards the model, its training mode and torch's random state are as
    they were. A batch is padded and the padding masked: each row continues as it would by itself.

    Args:
        model: A `GPT`; also compiled or wrapped for data parallelism (then its inner module runs).
        prompt: A text (needs `tokenizer`) or token ids; or a list of texts or of id lists, of any lengths. Of a
            prompt longer than `block_size` the model reads the end.
        max_new_tokens: Number of tokens to add, 0 or more.
        tokenizer: Turns the text into ids and back. With it, only ids that it knows are drawn (a model's
            vocabulary may be padded beyond them).
        temperature: Divides the logits. 0 takes the most likely token, 1 draws from the model's own distribution.
        top_k: Draw only from the k most likely tokens (and those as likely as the k-th).
        top_p: Draw only from the fewest most likely tokens that have at least this probability together, in
            (0, 1]; after `temperature` and `top_k`.
        seed: Makes the draws repeatable: row i of a batch draws what a single prompt draws with seed + i.
            None: different at every call.
        stop: A token id, a text (needs `tokenizer`), or a list of these. A row ends with the token that completes
            one of them.

    Returns:
        Prompt and continuation: a text for a text, a list of ids for ids, a list of these for a list.

    Raises:
        ValueError: a prompt is empty, an id or an option is out of range, or the logits are not finite.
        TypeError: a text without a tokenizer, or a prompt that is neither text nor ids.

    Example:
        >>> from gptviz.model import GPT, GPTConfig
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=2, n_embd=8))
        >>> len(generate(model, [0, 1, 2], 10, temperature=0))
        13
    """
    inner = unwrapped(model)
    rows, single, _ = token_rows(prompt, tokenizer, inner.config, truncate="left")
    run = _Run(inner, rows, max_new_tokens, tokenizer, Sampling(temperature, top_k, top_p), seed, stop)
    for _ in run.steps():
        pass
    prompts = [prompt] if single else prompt
    texts = [_joined(*pair, tokenizer) for pair in zip(prompts, run.continuations, strict=True)]
    return texts[0] if single else texts


def stream(
    model: nn.Module,
    prompt: Any,
    max_new_tokens: int,
    *,
    tokenizer: Any = None,
    temperature: float | int = 1.0,
    top_k: int | None = None,
    top_p: float | int | None = None,
    seed: int | None = None,
    stop: Any = None,
) -> Iterator[Any]:
    """The continuation of one prompt, token by token, each computed when it is asked for.

    The arguments are those of `generate` and are checked at once. Between two tokens the model is as it was before,
    and an iterator dropped half-way leaves nothing behind. Edits may come and go between tokens and act on the
    tokens after them; the weights must not change before the iterator ends.

    Returns:
        An iterator of token ids. For a text, of the pieces of text that they add: "" where a token ends within a
        character, so that the pieces join to the continuation.

    Raises:
        ValueError: as `generate`; or there is more than one prompt.
        TypeError: as `generate`.

    Example:
        >>> from gptviz.model import GPT, GPTConfig
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=2, n_embd=8))
        >>> new = stream(model, [0, 1, 2], 10, seed=0)
        >>> [0, 1, 2, next(new), next(new)] == generate(model, [0, 1, 2], 2, seed=0)
        True
    """
    inner = unwrapped(model)
    rows, single, _ = token_rows(prompt, tokenizer, inner.config, truncate="left")
    if not single:
        raise ValueError(
            f"A stream continues one prompt, but was given a list of {len(rows)}. Use generate for several."
        )
    run = _Run(inner, rows, max_new_tokens, tokenizer, Sampling(temperature, top_k, top_p), seed, stop)
    tokens = (step[0] for step in run.steps())
    return _pieces(tokens, tokenizer) if isinstance(prompt, str) else tokens


def generate_and_record(
    model: nn.Module,
    prompt: Any,
    max_new_tokens: int,
    *,
    tokenizer: Any = None,
    recording: Mapping[str, Any] | None = None,
    **sampling: Any,
) -> Any:
    """Continue a prompt and record what the model computed at every step of it.

    A causal model computes the same values for a position whatever follows it, so one pass over the finished text
    holds every step: the values at position i are those from which token i + 1 was chosen. Active edits apply to both.
    Of a text longer than `block_size` it is the last step's window, which a note says.

    Args:
        model: As for `generate`.
        prompt: As for `generate`.
        max_new_tokens: As for `generate`.
        tokenizer: As for `generate`.
        recording: Options of `record`: names, layers, dtype ...
        **sampling: Options of `generate`: temperature, top_k, top_p, seed, stop.

    Returns:
        A `Trace` of prompt and continuation; a list of them for a list of prompts.

    Raises:
        ValueError: as `generate` and `record`.
        TypeError: as `generate` and `record`.

    Example:
        >>> from gptviz.model import GPT, GPTConfig
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=2, n_embd=8))
        >>> len(generate_and_record(model, [0, 1, 2], 4, temperature=0, recording={"names": "pattern"}))
        7
    """
    rows, single, _ = token_rows(prompt, tokenizer, unwrapped(model).config, truncate="left")
    ids = generate(model, [row.tolist() for row in rows], max_new_tokens, tokenizer=tokenizer, **sampling)
    return record(model, ids[0] if single else ids, tokenizer, truncate="left", **(recording or {}))


def _joined(prompt: Any, continuation: list[int], tokenizer: Any) -> str | list[int]:
    if isinstance(prompt, str):
        return prompt + tokenizer.decode(continuation)
    return [int(token) for token in prompt] + continuation


def _pieces(tokens: Iterator[int], tokenizer: Any) -> Iterator[str]:
    """The text that each token adds; a token that ends within a character waits for the rest of it."""
    waiting: list[int] = []
    for token in tokens:
        waiting.append(token)
        text = tokenizer.decode(waiting)
        if text.endswith("\N{REPLACEMENT CHARACTER}"):
            yield ""
        else:
            yield text
            waiting = []
    if waiting:
        yield tokenizer.decode(waiting)


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen from logits; the fields are those of `generate`.

    Raises:
        ValueError: a field is outside its range.

    Example:
        >>> Sampling(top_k=1).filtered(torch.tensor([[1.0, 3.0, 2.0]]))
        tensor([[-inf, 3., -inf]])
    """

    temperature: float | int = 1.0
    top_k: int | None = None
    top_p: float | int | None = None

    def __post_init__(self) -> None:
        if not (_is_number(self.temperature) and 0 <= self.temperature < math.inf):
            given = repr(self.temperature)
            raise ValueError(f"temperature must be 0 (the most likely token) or a positive number, not {given}.")
        if self.top_k is not None:
            whole_number(self.top_k, "top_k", least=1)
        if self.top_p is not None and not (_is_number(self.top_p) and 0 < self.top_p <= 1):
            raise ValueError(f"top_p must be greater than 0 and at most 1, not {self.top_p!r}.")

    def choose(
        self, logits: Float[Tensor, "batch d_vocab"], generators: list[torch.Generator]
    ) -> Int[Tensor, "batch"]:
        """One token for each row, drawn with that row's own generator.

        Raises:
            ValueError: the largest logit of a row is NaN or infinite.
        """
        largest, most_likely = logits.max(dim=-1)
        if not all(map(math.isfinite, largest.tolist())):
            raise ValueError(
                "Logits must be finite for a token to be chosen, but the model's are not. Its weights, or an edit "
                "of its activations, hold NaN or infinity: look at a recording of the same text."
            )
        if self.temperature == 0:
            return most_likely
        # The largest becomes 0, so that a tiny temperature cannot overflow.
        logits = self.filtered((logits - largest[:, None]).float() / self.temperature)
        rows = zip(logits.softmax(dim=-1), generators, strict=True)
        return torch.cat([torch.multinomial(row, 1, generator=generator) for row, generator in rows])

    def filtered(self, logits: Float[Tensor, "batch d_vocab"]) -> Float[Tensor, "batch d_vocab"]:
        """The logits, with -inf where `top_k` or `top_p` exclude a token."""
        if self.top_k is not None:
            smallest = logits.topk(min(self.top_k, logits.shape[-1])).values[:, -1:]
            logits = logits.masked_fill(logits < smallest, -math.inf)
        if self.top_p is not None and self.top_p < 1:
            probabilities, order = logits.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
            reached = probabilities.cumsum(dim=-1) - probabilities >= self.top_p  # by the more likely ones alone
            logits = logits.masked_fill(reached.scatter(-1, order, reached), -math.inf)
        return logits


class _Run:
    """One checked request: the rows, how they grow, and when each of them ends."""

    def __init__(
        self,
        model: GPT,
        rows: list[Tensor],
        max_new_tokens: int,
        tokenizer: Any,
        sampling: Sampling,
        seed: int | None,
        stop: Any,
    ):
        max_new_tokens = whole_number(max_new_tokens, "max_new_tokens", most=MOST_TOKENS)
        seed = None if seed is None else whole_number(seed, "seed", most=LARGEST_SEED - len(rows))
        check_tokenizer(tokenizer, "encode", "decode", "vocab_size")
        self.model, self.rows, self.max_new_tokens = model, rows, max_new_tokens
        self.tokenizer, self.sampling, self.seed = tokenizer, sampling, seed
        self.stop_ids, self.stop_texts = _stops(stop, tokenizer, model.config.vocab_size)
        self.continuations: list[list[int]] = [[] for _ in rows]

    def steps(self) -> Iterator[list[int]]:
        """The newest token of every row, until all rows have ended; `continuations` grow with it."""
        generators = [torch.Generator(self.model.lm_head.weight.device) for _ in self.rows]
        for row, generator in enumerate(generators):
            generator.seed() if self.seed is None else generator.manual_seed(self.seed + row)
        n_known = None if self.tokenizer is None else self.tokenizer.vocab_size
        decoder = Decoder(self.model, self.rows, self.max_new_tokens)
        running = list(range(len(self.rows)))
        for _ in range(self.max_new_tokens):
            tokens = decoder.step(lambda logits: self.sampling.choose(logits[:, :n_known], generators))
            for row in running:
                self.continuations[row].append(tokens[row])
            yield tokens
            running = [row for row in running if not self._ended(self.continuations[row])]
            if not running:
                return

    def _ended(self, continuation: list[int]) -> bool:
        """Whether the newest token is a stop, or completes a stop text."""
        if continuation[-1] in self.stop_ids:
            return True
        # A token has at least one byte: a text that the newest one completes began at most so many tokens ago.
        return any(text in self.tokenizer.decode(continuation[-len(text.encode()) :]) for text in self.stop_texts)


def _stops(stop: Any, tokenizer: Any, vocab_size: int) -> tuple[set[int], list[str]]:
    """The ids and the texts at which a row ends."""
    if stop is None:
        return set(), []
    wanted = list(stop) if isinstance(stop, Collection) and not isinstance(stop, str) else [stop]
    texts = [one for one in wanted if isinstance(one, str)]
    if texts and tokenizer is None:
        raise TypeError(f"A stop text needs a tokenizer, but {texts[0]!r} has none. Pass tokenizer=, or token ids.")
    if "" in texts:
        raise ValueError("A stop text must have at least one character, but is empty.")
    ids = [one for one in wanted if not isinstance(one, str)]
    for one in ids:
        if isinstance(one, bool) or not isinstance(one, int) or not 0 <= one < vocab_size:
            raise ValueError(f"A stop id must be 0 to {vocab_size - 1} (vocab_size {vocab_size}), not {one!r}.")
    return set(ids), texts


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
