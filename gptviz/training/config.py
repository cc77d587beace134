"""What a training run is made of: TrainConfig, with nanoGPT's names and its recipe for a CPU as defaults."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gptviz.corpora import DataSource
from gptviz.model import GPTConfig
from gptviz.spelling import spelling

DEVICES = ("auto", "cpu", "cuda", "mps")
ON_NAN = ("continue", "stop")
TEXT_BLOCK_SIZE = 64
LARGEST_SEED = 2**63 - 1  # that torch takes
MOST_THREADS = 1024  # torch asks the system for all of them at once, and where it refuses the process dies


@dataclass(frozen=True)
class TrainConfig:
    """One training run. The defaults are nanoGPT's recipe for a CPU: four layers, four heads, width 128, 2,000 steps.

    Args:
        corpus: Text to learn: a name ("python-docs"), a file, a folder, a URL, or a `TextData`. Give this or `task`.
        task: Synthetic data with known answers: a name ("sort") or a task.
        tokenizer: For a corpus: "char", "byte", "bpe" (trained on the corpus) or "gpt2".
        probes: Texts to look at while training; None takes two passages of the validation split, () none.
        out: The run directory, new or empty. None keeps the run "in memory": in a temporary folder that is deleted
            with the returned Run.
        seed: For the initial weights, the order of the data and dropout.
        device: "auto", "cpu", "cuda" or "mps".
        threads: CPU threads: a number, or "auto" to measure at the start and give way to busy neighbours.
        record: Whether to keep weights and probes of the steps of `gptviz.runs.schedule`; False keeps the scalars and
            the last step only.
        record_steps: Keep these steps instead.
        max_megabytes: Size that the run directory should not pass: fewer optimizer states and then fewer steps are kept
            (10^6 bytes; steps in `record_steps` are all kept).
        mirror: A folder at any URL that fsspec knows (s3://..., gs://..., file:///...), where a copy of the run
            directory is kept up while it trains. Where that fails, it is said and tried again; training goes on. The
            run does not keep the URL: name it again in `resume(mirror=...)`.
        on_nan: What a loss or a norm of the gradient that is not finite does: "continue" (it is recorded and flagged)
            or "stop", before the update, so that the last weights are the ones from before it. Without `grad_clip`
            the norm is not computed, and only the loss counts.
        n_layer: Number of blocks.
        n_head: Attention heads per block.
        n_embd: Width of the residual stream.
        block_size: Positions the model reads; None means 64 for text and what a task needs.
        dropout: Probability of dropping a value while training.
        bias: Whether Linear and LayerNorm have a bias.
        activation: "gelu" or "gelu_tanh".
        tie_weights: Whether the unembedding is the token embedding.
        batch_size: Sequences per step.
        max_iters: Number of steps.
        learning_rate: Largest learning rate.
        min_lr: Learning rate at and after `lr_decay_iters`.
        warmup_iters: Steps over which the learning rate rises from 0.
        lr_decay_iters: Step at which the cosine reaches `min_lr`; None means `max_iters`.
        weight_decay: AdamW's decay of matrices and embeddings.
        beta1: AdamW's decay rate of the first moment.
        beta2: AdamW's decay rate of the second moment.
        grad_clip: Largest norm of the gradient; 0 does not clip.
        eval_interval: Steps between estimates of the validation loss.
        eval_iters: Batches per estimate, the same ones every time.

    Raises:
        ValueError: A field is outside its range, or not exactly one of `corpus` and `task` is given.

    Example:
        >>> TrainConfig(corpus="python-docs").lr_decay_iters
        2000
        >>> TrainConfig(corpus="python-docs", batch_size=0)
        Traceback (most recent call last):
        ValueError: batch_size must be a whole number of at least 1; 0 was given.
    """

    corpus: str | os.PathLike[str] | DataSource | None = None
    task: str | DataSource | None = None
    tokenizer: str = "char"
    probes: Sequence[str] | None = None
    out: str | os.PathLike[str] | None = None
    seed: int = 1337
    device: str = "auto"
    threads: int | str = "auto"
    record: bool = True
    record_steps: Sequence[int] | None = None
    max_megabytes: int = 2000
    mirror: str | None = None
    on_nan: str = "continue"
    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 128
    block_size: int | None = None
    dropout: float = 0.0
    bias: bool = False
    activation: str = "gelu"
    tie_weights: bool = True
    batch_size: int = 12
    max_iters: int = 2000
    learning_rate: float = 1e-3
    min_lr: float = 1e-4
    warmup_iters: int = 100
    lr_decay_iters: int | None = None
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    grad_clip: float = 1.0
    eval_interval: int = 250
    eval_iters: int = 20

    def __post_init__(self) -> None:
        for name in ("corpus", "out"):  # a Path is welcome
            if isinstance(getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fspath(getattr(self, name)))
        for name in ("probes", "record_steps"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _tuple(name, getattr(self, name)))
        for name, (check, rule) in _RULES.items():
            value = getattr(self, name)
            if not check(value):
                raise ValueError(f"{name} must be {rule}; {value!r} was given.")
        self._check_together()
        self.model_config(vocab_size=1, block_size=self.block_size or TEXT_BLOCK_SIZE)
        if self.lr_decay_iters is None:
            object.__setattr__(self, "lr_decay_iters", self.max_iters)

    def model_config(self, vocab_size: int, block_size: int) -> GPTConfig:
        """The model's configuration for data with this vocabulary."""
        names = ("n_layer", "n_head", "n_embd", "dropout", "bias", "activation", "tie_weights")
        return GPTConfig(block_size, vocab_size, **{name: getattr(self, name) for name in names})

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; data that was given as an object is described (its spec is kept beside)."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        described = {name: repr(fields[name]) for name in ("corpus", "task") if isinstance(fields[name], DataSource)}
        return fields | described | {"mirror": None}  # a run that is passed on must not say where to write

    def _check_together(self) -> None:
        if (self.corpus is None) == (self.task is None):
            given = "neither" if self.corpus is None else f"corpus={self.corpus!r} and task={self.task!r}"
            raise ValueError(f"Exactly one of corpus and task must be given; {given} was. "
                             f"For example {spelling().setting('corpus', 'python-docs')} or "
                             f"{spelling().setting('task', 'sort')}.")
        if self.min_lr > self.learning_rate:
            raise ValueError(f"min_lr must be at most learning_rate ({self.learning_rate!r}); {self.min_lr!r} was "
                             "given.")
        if self.record_steps and max(self.record_steps) > self.max_iters:
            raise ValueError(f"record_steps must be at most max_iters ({self.max_iters}); "
                             f"{max(self.record_steps)} was given.")


def _tuple(name: str, value: Any) -> tuple:
    if isinstance(value, str):
        raise ValueError(f"{name} must be a list; the text {value!r} was given. Put it into brackets: [{value!r}].")
    if not isinstance(value, Iterable):
        raise ValueError(f"{name} must be a list; {value!r} was given. Put it into brackets: [{value!r}].")
    return tuple(value)


def _whole(at_least: int, at_most: int | None = None) -> tuple[Callable[[Any], bool], str]:
    def check(value: Any) -> bool:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole and at_least <= value and (at_most is None or value <= at_most)

    rule = f"of at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
    return check, f"a whole number {rule}"


def _number(low: float, high: float, rule: str) -> tuple[Callable[[Any], bool], str]:
    def check(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and low <= value < high

    return check, rule


def _optional(rule: tuple[Callable[[Any], bool], str]) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value is None or rule[0](value), f"{rule[1]}, or None"


def _one_of(names: tuple[str, ...]) -> tuple[Callable[[Any], bool], str]:
    return lambda value: isinstance(value, str) and value in names, "one of " + ", ".join(map(repr, names))


_THREADS = _whole(1, MOST_THREADS)
_TRUTH = (lambda value: isinstance(value, bool), "True or False")
_TEXT = (lambda value: isinstance(value, str) and value != "", "a text that is not empty")
_DATA = (lambda value: _TEXT[0](value) or isinstance(value, DataSource), "a name or a data source")
_POSITIVE = _number(0.0, float("inf"), "a finite number of at least 0")
_SHARE = _number(0.0, 1.0, "at least 0 and less than 1")

_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "corpus": _optional(_DATA),
    "task": _optional(_DATA),
    "out": _optional(_TEXT),
    "tokenizer": _one_of(("char", "byte", "bpe", "gpt2")),
    "probes": _optional((lambda probes: all(map(_TEXT[0], probes)), "texts, none of them empty")),
    "seed": _whole(0, LARGEST_SEED),
    "device": _one_of(DEVICES),
    "threads": (lambda value: _one_of(("auto",))[0](value) or _THREADS[0](value), f'"auto" or {_THREADS[1]}'),
    "record": _TRUTH,
    "record_steps": _optional((lambda steps: all(map(_whole(0)[0], steps)), "steps, whole numbers of at least 0")),
    "max_megabytes": _whole(1),
    "mirror": _optional(_TEXT),
    "on_nan": _one_of(ON_NAN),
    "block_size": _optional(_whole(1)),
    "dropout": _SHARE,
    "bias": _TRUTH,
    "tie_weights": _TRUTH,
    "batch_size": _whole(1),
    "max_iters": _whole(1),
    "learning_rate": _POSITIVE,
    "min_lr": _POSITIVE,
    "warmup_iters": _whole(0),
    "lr_decay_iters": _optional(_whole(0)),
    "weight_decay": _POSITIVE,
    "beta1": _SHARE,
    "beta2": _SHARE,
    "grad_clip": _POSITIVE,
    "eval_interval": _whole(1),
    "eval_iters": _whole(1),
}  # fmt: skip
