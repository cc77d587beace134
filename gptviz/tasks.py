"""Synthetic data with known right answers: small enough to train in seconds, exact enough to be proved learned.

A task is a data source like a text (`gptviz.corpora.DataSource`): it draws fresh examples at every step. Besides, it
can say which tokens are right (`correct`) and how much of it a model has learned (`accuracy`). Nothing here knows
torch: a model comes in as a function from ids to logits.
"""

import difflib
import inspect
import itertools
import string
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import Any, Protocol, SupportsIndex, runtime_checkable
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from gptviz.arguments import must_be, whole_number
from gptviz.token_ids import check_ids
from gptviz.tokenizers import CharTokenizer

MAX_PROMPTS = 1_000_000
MOST_POSITIONS = 2**16
# One prompt in this many is kept for validation (minGPT's share for sorting).
VAL_SHARE = 4
_ROWS_AT_ONCE = 1024

# ids [n, pos] -> logits [n, pos or 1, vocab]; only the last position is read where one token is asked for.
LogitsFunction = Callable[[np.ndarray], np.ndarray]


@runtime_checkable
class Task(Protocol):
    """What every task can do; it is a `gptviz.corpora.DataSource`, too."""

    tokenizer: CharTokenizer
    n_positions: int

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        ...

    def batch(
        self, split: str, batch_size: int, block_size: int, rng: np.random.Generator
    ) -> tuple[Int64[np.ndarray, "batch pos"], Int64[np.ndarray, "batch pos"]]:
        """Inputs and targets, `n_positions` long; the model's block must be that long or longer."""
        ...

    def accuracy(self, logits_fn: LogitsFunction) -> float:
        """How much is right, 0 to 1."""
        ...

    def correct(self, ids: Iterable[SupportsIndex]) -> Float32[np.ndarray, "pos"]:
        """For each token of a text: 1 right, 0 wrong, NaN where there is no right one."""
        ...

    def spec(self) -> dict[str, Any]:
        """JSON for `task_from_spec`."""
        ...


class _AnswerTask:
    """A prompt of fixed length and the one right answer to it; all prompts are known, one in four is never trained on.

    A subclass gives the prompts in a fixed order and computes answers.
    """

    name: str
    tokenizer: CharTokenizer

    def __init__(self, prompts: UInt8[np.ndarray, "example prompt_pos"], settings: dict[str, Any]):
        self.prompts = prompts
        self.answers = self._answer(prompts)
        self.prompt_length, self.answer_length = prompts.shape[1], self.answers.shape[1]
        self.n_positions = self.prompt_length + self.answer_length - 1
        self._settings = settings
        in_val = _hash(np.arange(len(prompts))) % VAL_SHARE == 0
        self.rows = {"all": np.arange(len(prompts)), "train": np.flatnonzero(~in_val), "val": np.flatnonzero(in_val)}

    def _answer(self, prompts: UInt8[np.ndarray, "example prompt_pos"]) -> UInt8[np.ndarray, "example answer_pos"]:
        raise NotImplementedError

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return self.tokenizer.vocab_size

    def batch(
        self, split: str, batch_size: int, block_size: int, rng: np.random.Generator
    ) -> tuple[Int64[np.ndarray, "batch pos"], Int64[np.ndarray, "batch pos"]]:
        """Random prompts with their answers; only the answer's tokens are targets, the others are -1.

        Args:
            split: "train" or "val": no prompt is in both.
            batch_size: number of examples.
            block_size: of the model; must be `n_positions` or more.
            rng: where the prompts are drawn from.

        Raises:
            ValueError: if there is no such split or the block is too short.
        """
        _check_batch(self, split, block_size, rng)
        rows = rng.choice(self.rows[split], size=whole_number(batch_size, "batch_size", least=1))
        sequences = np.concatenate([self.prompts[rows], self.answers[rows]], axis=1).astype(np.int64)
        x, y = sequences[:, :-1], sequences[:, 1:].copy()
        y[:, : self.prompt_length - 1] = -1
        return x, y

    def answer(self, prompt: str) -> str:
        """The right answer to a prompt.

        Raises:
            ValueError: if it is not a prompt of this task.
        """
        ids = self.tokenizer.encode(prompt)
        if len(ids) != self.prompt_length:
            raise ValueError(
                f"A prompt of task {self.name!r} has {self.prompt_length} tokens, such as"
                f" {self.tokenizer.decode(self.prompts[-1])!r}; got {prompt!r} with {len(ids)}."
            )
        return self.tokenizer.decode(self._answer(np.array([ids], dtype=np.uint8))[0])

    def accuracy(self, logits_fn: LogitsFunction, split: str = "all") -> float:
        """The share of prompts whose whole answer is right when the likeliest token is taken each time.

        Args:
            logits_fn: ids [n, pos] -> logits [n, pos, vocab] (or of the last position only, [n, 1, vocab]).
            split: "all", "train" or "val": every prompt of it is asked.

        Raises:
            ValueError: if there is no such split, or the logits are not finite or have another shape.
        """
        _check_function(logits_fn)
        if not isinstance(split, str) or split not in self.rows:
            raise ValueError(f'A split is "all", "train" or "val"; got {split!r}. Pass one of them.')
        n_right = 0
        for start in range(0, len(self.rows[split]), _ROWS_AT_ONCE):
            rows = self.rows[split][start : start + _ROWS_AT_ONCE]
            answers = self._greedy(logits_fn, self.prompts[rows].astype(np.int64))
            n_right += int((answers == self.answers[rows]).all(axis=1).sum())
        return n_right / len(self.rows[split])

    def _greedy(
        self, logits_fn: LogitsFunction, ids: Int64[np.ndarray, "example pos"]
    ) -> Int64[np.ndarray, "example answer_pos"]:
        for _ in range(self.answer_length):
            logits = _checked_logits(logits_fn(ids), len(ids), self.vocab_size)
            ids = np.concatenate([ids, logits[:, -1].argmax(-1)[:, None]], axis=1)
        return ids[:, self.prompt_length :]

    def correct(self, ids: Iterable[SupportsIndex]) -> Float32[np.ndarray, "pos"]:
        """Which tokens of a text are right: 1 right, 0 wrong, NaN in the prompt.

        Args:
            ids: a prompt and as much of an answer as there is.

        Raises:
            ValueError: if the text is longer than prompt and answer, or its prompt is none of this task.
        """
        ids = check_ids(ids, self.vocab_size)
        verdict = np.full(len(ids), np.nan, dtype=np.float32)
        n_given = len(ids) - self.prompt_length
        if n_given > self.answer_length:
            raise ValueError(
                f"Task {self.name!r} has {self.n_positions + 1} tokens, prompt and answer; got {len(ids)}."
                " Pass one example."
            )
        if n_given > 0:
            right = self._answer(ids[None, : self.prompt_length].astype(np.uint8))[0]
            verdict[self.prompt_length :] = ids[self.prompt_length :] == right[:n_given]
        return verdict

    def spec(self) -> dict[str, Any]:
        """JSON for `task_from_spec`."""
        return _spec(self.name, self._settings)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in self._settings.items())})"


class SortTask(_AnswerTask):
    """minGPT's sorting task: a few letters, then the same letters in order.

    The loss is on the answer only. Which prompts are for validation is fixed (minGPT's choice changes with Python's
    hash seed). minGPT throws away half of the prompts with many different letters; with its own six letters of three
    there are none, and here nothing is thrown away.

    Args:
        length: letters in a prompt.
        n_symbols: number of different letters, 2 to 26.

    Raises:
        ValueError: if a setting is out of range or there are more than a million prompts.

    Example:
        >>> task = SortTask()
        >>> task.answer("CBABBC"), len(task.prompts), task.n_positions
        ('ABBBCC', 729, 11)
    """

    name = "sort"
    about = "sort {length} letters: the answer, the same letters in order, follows the input"

    def __init__(self, length: int = 6, n_symbols: int = 3):
        length, n_symbols = whole_number(length, "length"), whole_number(n_symbols, "n_symbols")
        # 2 ** 20 prompts are too many already; a huge power would take for ever to compute.
        if not 1 <= length < 20 or not 2 <= n_symbols <= 26 or n_symbols**length > MAX_PROMPTS:
            raise ValueError(
                "Sorting needs length 1 or more, n_symbols 2 to 26, and at most a million prompts (n_symbols **"
                f" length); got length={length}, n_symbols={n_symbols}. Make one of them smaller."
            )
        self.tokenizer = CharTokenizer(string.ascii_uppercase[:n_symbols])
        prompts = np.indices((n_symbols,) * length, dtype=np.uint8).reshape(length, -1).T
        super().__init__(prompts, {"length": length, "n_symbols": n_symbols})

    def _answer(self, prompts: UInt8[np.ndarray, "example prompt_pos"]) -> UInt8[np.ndarray, "example answer_pos"]:
        return np.sort(prompts, axis=1)


class AdditionTask(_AnswerTask):
    """Addition of two numbers, the digits of the sum from the last to the first (so that a carry is known in time).

    Args:
        n_digits: digits of each number, 1 to 3; shorter numbers have leading zeros.

    Raises:
        ValueError: if `n_digits` is out of range.

    Example:
        >>> AdditionTask().answer("85+50=")
        '531'
    """

    name = "addition"
    about = "add two numbers (digits: {n_digits}): the sum, its last digit first, follows the “=”"

    def __init__(self, n_digits: int = 2):
        n_digits = whole_number(n_digits, "n_digits")
        if not 1 <= n_digits <= 3:
            raise ValueError(f"Addition needs n_digits 1 to 3 (3: a million prompts); got {n_digits}. Pass 1, 2 or 3.")
        self.tokenizer = CharTokenizer.from_characters("0123456789+=")
        self.n_digits = n_digits
        a, b = np.divmod(np.arange(100**n_digits), 10**n_digits)
        plus, equals = (np.full((len(a), 1), sign, dtype=np.uint8) for sign in (10, 11))
        prompts = np.concatenate([_digits(a, n_digits), plus, _digits(b, n_digits), equals], axis=1)
        super().__init__(prompts, {"n_digits": n_digits})

    def _answer(self, prompts: UInt8[np.ndarray, "example prompt_pos"]) -> UInt8[np.ndarray, "example answer_pos"]:
        n = self.n_digits
        numbers = np.stack([prompts[:, :n], prompts[:, n + 1 : -1]]).astype(np.int64)
        signs = (prompts[:, n] == 10) & (prompts[:, -1] == 11)
        if not signs.all() or numbers.max() > 9:
            wrong = prompts[np.flatnonzero(~signs | (numbers > 9).any(axis=(0, 2)))[0]]
            raise ValueError(
                f"A prompt of task 'addition' is {n} digits, +, {n} digits, =; got"
                f" {self.tokenizer.decode(wrong)!r}. Write it as {self.tokenizer.decode(self.prompts[-1])!r}."
            )
        sums = (numbers @ 10 ** np.arange(n - 1, -1, -1)).sum(axis=0)
        return _digits(sums, n + 1)[:, ::-1]


class InductionTask:
    """Each text puts 8 to 16 letters of its own onto a ring: after a letter mostly comes the next one of the ring.

    4 times in 5, that is; else comes any letter of the ring. A ring is random and holds for one text, so what comes
    next stands in the text alone: after the earlier copies of the letter now read. They come at random distances, and
    one letter decides, so that neither a fixed distance nor a longer match helps. A two-layer model learns it in a
    sudden jump, a one-layer model only learns which letters a text has: `docs/induction.md`.

    Args:
        n_symbols: number of different letters, 8 to 62.
        n_positions: tokens that the model reads, 8 to 65,536.

    Raises:
        ValueError: if a setting is out of range.

    Example:
        >>> task = InductionTask()
        >>> sequences, determined = task.sample(2, np.random.default_rng(0))
        >>> sequences.shape, determined.shape
        ((2, 49), (2, 48))
    """

    name = "induction"
    about = "go on with a text of letters on a ring of its own: after a letter mostly comes what came after it before"
    ring = (8, 16)  # letters; a text of fewer letters than the alphabet rewards copying before the ring is known
    follows = 0.8

    def __init__(self, n_symbols: int = 32, n_positions: int = 48):
        n_symbols, n_positions = whole_number(n_symbols, "n_symbols"), whole_number(n_positions, "n_positions")
        if not self.ring[0] <= n_symbols <= 62 or not 8 <= n_positions <= MOST_POSITIONS:
            raise ValueError(
                f"Induction needs n_symbols {self.ring[0]} to 62 and n_positions 8 to {MOST_POSITIONS}; got"
                f" n_symbols={n_symbols}, n_positions={n_positions}. Pass numbers of these ranges."
            )
        letters = string.ascii_uppercase + string.ascii_lowercase + string.digits
        self.tokenizer = CharTokenizer.from_characters(letters[:n_symbols])
        self.n_positions = n_positions

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return self.tokenizer.vocab_size

    def sample(
        self, n: int, rng: np.random.Generator
    ) -> tuple[Int64[np.ndarray, "example token"], Bool[np.ndarray, "example pos"]]:
        """Random sequences, one token longer than the model reads, and which of their targets the text determines.

        Position t predicts token t + 1. It is determined if it is the ring's next letter and followed the letter at t
        before.
        """
        n, n_tokens = whole_number(n, "The number of sequences", least=1), self.n_positions + 1
        size = rng.integers(self.ring[0], min(self.ring[1], self.vocab_size) + 1, size=(n, 1))
        rings = rng.permuted(np.tile(np.arange(self.vocab_size), (n, 1)), axis=1)  # the first `size` letters of each
        jumps = rng.random((n, n_tokens)) >= self.follows
        jumps[:, 0] = True
        token = np.arange(n_tokens)
        last_jump = np.maximum.accumulate(np.where(jumps, token, 0), axis=1)
        landed = np.take_along_axis(rng.integers(0, size, size=(n, n_tokens)), last_jump, axis=1)
        place = (landed + token - last_jump) % size  # on the ring
        return np.take_along_axis(rings, place, axis=1), _seen_before(place, size)

    def batch(
        self, split: str, batch_size: int, block_size: int, rng: np.random.Generator
    ) -> tuple[Int64[np.ndarray, "batch pos"], Int64[np.ndarray, "batch pos"]]:
        """Fresh random sequences; the target of every position is the next token. The splits differ by chance alone.

        Raises:
            ValueError: if there is no such split or the block is shorter than `n_positions`.
        """
        _check_batch(self, split, block_size, rng)
        ids, _ = self.sample(batch_size, rng)
        return ids[:, :-1], ids[:, 1:]

    def accuracy(self, logits_fn: LogitsFunction, n: int = 512, seed: int = 0) -> float:
        """The share of determined tokens that are the likeliest, in `n` sequences drawn from `seed`.

        Args:
            logits_fn: ids [n, pos] -> logits [n, pos, vocab], all positions.
            n: number of sequences.
            seed: of the sequences; the same seed asks the same questions.

        Raises:
            ValueError: if the logits are not finite or have another shape.
        """
        _check_function(logits_fn)
        ids, determined = self.sample(n, np.random.default_rng(seed))
        logits = _checked_logits(logits_fn(ids[:, :-1]), n, self.vocab_size, self.n_positions)
        return float((logits.argmax(-1) == ids[:, 1:])[determined].mean())

    def correct(self, ids: Iterable[SupportsIndex]) -> Float32[np.ndarray, "pos"]:
        """Which tokens go on as the text did before: 1 right, 0 wrong, NaN after a letter that nothing followed yet.

        Right is what followed the letter most often so far, the first of equals: a text alone does not say its ring.
        One token in five is free and mostly judged wrong.

        Args:
            ids: a text of any length.
        """
        ids = check_ids(ids, self.vocab_size)
        verdict = np.full(len(ids), np.nan, dtype=np.float32)
        followed: dict[int, Counter[int]] = {}
        for i, (before, token) in enumerate(itertools.pairwise(ids.tolist()), start=1):
            counts = followed.setdefault(before, Counter())
            if counts:
                verdict[i] = token == counts.most_common(1)[0][0]
            counts[token] += 1
        return verdict

    def spec(self) -> dict[str, Any]:
        """JSON for `task_from_spec`."""
        return _spec(self.name, {"n_symbols": self.vocab_size, "n_positions": self.n_positions})

    def __repr__(self) -> str:
        return f"InductionTask(n_symbols={self.vocab_size}, n_positions={self.n_positions})"


def _seen_before(
    place: Int64[np.ndarray, "example token"], size: Int64[np.ndarray, "example 1"]
) -> Bool[np.ndarray, "example pos"]:
    """Which steps from a token to the next go to the next place on the ring, as an earlier step from there did."""
    before, after = place[:, :-1], place[:, 1:]
    steps = ((before + 1) % size == after)[..., None] & (before[..., None] == np.arange(size.max()))
    return (steps & (np.cumsum(steps, axis=1) > 1)).any(-1)


# --- by name ------------------------------------------------------------------------------------------------

TASKS: dict[str, Callable[..., Task]] = {task.name: task for task in (SortTask, InductionTask, AdditionTask)}
_ABOUT = {task.name: task.about for task in (SortTask, InductionTask, AdditionTask)}


def load_task(name: str, **settings: Any) -> Task:
    """Make a task by its name.

    Args:
        name: a key of `TASKS`.
        **settings: what the task's class takes.

    Raises:
        ValueError: if there is no such task, or it has no such setting.

    Example:
        >>> load_task("sort", length=4)
        SortTask(length=4, n_symbols=3)
    """
    if name not in TASKS:
        near = difflib.get_close_matches(str(name), TASKS, n=1)
        raise ValueError(
            f"A task is one of {', '.join(TASKS)}; got {name!r}." + (f" Did you mean {near[0]!r}?" if near else "")
        )
    known = list(inspect.signature(TASKS[name]).parameters)
    for key, value in settings.items():
        if key not in known or type(value) is not int:
            raise ValueError(
                f"The settings of task {name!r} are whole numbers called {', '.join(known)}; got {key}={value!r}."
            )
    return TASKS[name](**settings)


def task_from_spec(spec: dict[str, Any]) -> Task:
    """Make the task that ``task.spec()`` described.

    Raises:
        ValueError: if it describes none.

    Example:
        >>> task_from_spec(SortTask(length=4).spec())
        SortTask(length=4, n_symbols=3)
    """
    settings = spec.get("settings") if isinstance(spec, dict) else None
    if not isinstance(settings, dict) or spec.get("kind") != "task":
        raise ValueError(f'A task\'s spec has "kind": "task", "name" and "settings"; got {str(spec)[:80]}.')
    return load_task(str(spec.get("name")), **settings)


def learned(spec: Any) -> str:
    """What a model learns from the data that a spec describes, as a sentence; "" where that says nothing.

    Example:
        >>> learned(SortTask(length=4).spec())
        'This model was trained to sort 4 letters: the answer, the same letters in order, follows the input.'
        >>> learned({"kind": "text", "corpus": "python-docs"})
        'This model was trained to go on with the text of python-docs.'
        >>> learned({"kind": "text", "corpus": "python-docs", "step": 0})
        'This model is not trained yet. Its run trains it to go on with the text of python-docs.'
        >>> learned({"kind": "text", "corpus": None})
        ''
    """
    does = _does(spec) if isinstance(spec, dict) else ""
    if does and spec.get("step") == 0:
        return f"This model is not trained yet. Its run trains it to {does}."
    return does and f"This model was trained to {does}."


def n_given(spec: Any) -> int:
    """How many tokens at the beginning of a text the data only gives, so that no loss was ever taken on them.

    Example:
        >>> n_given(SortTask(length=4).spec()), n_given({"kind": "text", "corpus": "python-docs"})
        (4, 0)
    """
    try:
        return getattr(task_from_spec(spec), "prompt_length", 0) if isinstance(spec, dict) else 0
    except ValueError:  # no task, or one that cannot be made any more
        return 0


def _does(spec: dict[str, Any]) -> str:
    if spec.get("kind") == "text" and spec.get("corpus"):
        path = urlsplit(str(spec["corpus"])).path  # of a URL not its query, which may hold a key
        return f"go on with the text of {PurePath(path).name}"
    try:
        settings = task_from_spec(spec).spec()["settings"]
    except ValueError:  # no task, or one that cannot be made any more
        return ""
    return _ABOUT.get(spec["name"], "").format(**settings)


def _spec(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "task", "name": name, "settings": dict(settings)}


# --- what tasks share ---------------------------------------------------------------------------------------


def _hash(rows: np.ndarray) -> np.ndarray:
    """SplitMix64's mixer: a split that looks random and is the same on every machine."""
    mixed = rows.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def _digits(numbers: np.ndarray, n_digits: int) -> np.ndarray:
    return (numbers[:, None] // 10 ** np.arange(n_digits - 1, -1, -1) % 10).astype(np.uint8)


def _check_batch(task: Task, split: str, block_size: int, rng: np.random.Generator) -> None:
    if split not in ("train", "val"):
        raise ValueError(f'A split is "train" or "val"; got {split!r}. Pass one of them.')
    must_be(rng, np.random.Generator, "rng", "Pass numpy.random.default_rng(seed).")
    if whole_number(block_size, "block_size", least=1) < task.n_positions:
        raise ValueError(
            f"{task!r} needs a model that reads {task.n_positions} tokens; its block_size is {block_size}. Pass"
            f" block_size={task.n_positions} or more."
        )


def _check_function(logits_fn: object) -> None:
    if not callable(logits_fn):
        raise TypeError(f"logits_fn must be a function from ids to logits, not {type(logits_fn).__name__}.")


def _checked_logits(logits: Any, n: int, vocab_size: int, n_positions: int | None = None) -> np.ndarray:
    """Whatever array came back, as numpy; NaN would otherwise be counted as an answer."""
    logits = np.asarray(logits)
    fits = logits.ndim == 3 and logits.shape[0] == n and logits.shape[2] >= vocab_size
    if not fits or (n_positions and logits.shape[1] != n_positions):
        raise ValueError(
            f"Logits must have the shape [{n}, {n_positions or 'pos'}, {vocab_size}] (example, pos, vocab); got"
            f" {list(logits.shape)}. Pass a function that gives the model's logits of every position."
        )
    if np.isnan(logits).any():
        raise ValueError("Logits must be numbers; got NaN. The model's weights or its input are broken.")
    return logits[:, :, :vocab_size]
