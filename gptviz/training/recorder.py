"""Recording while a model learns: its weights at chosen steps, its scalars at every step, and a few pinned texts.

The model does not know: a probe runs in evaluation mode without gradients and leaves training mode and random state
as they were, so a recorded run is bit-identical to an unrecorded one.
"""

import math
import warnings
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gptviz.analysis.distributions import distributions
from gptviz.analysis.events import Detector, loss_bins
from gptviz.analysis.measures import ProgressMeasures
from gptviz.arguments import briefly, span
from gptviz.model import GPT
from gptviz.naming import AXES
from gptviz.packing import pack_pattern
from gptviz.runs import SCHEMA_VERSION, NotARun, Run, RunWriter
from gptviz.runs.cadence import POWERS
from gptviz.token_ids import check_ids
from gptviz.trace import Trace, record, unwrapped
from gptviz.training.optimization import array
from gptviz.training.twin import Twin, inside

TOP_K = 10
SNAPSHOT_NAMES = ("resid_pre", "resid_post", "pattern", "attn_out", "mlp_out", "logits", "loss")
LARGEST_STEP = 10**10 - 1  # files are named by ten digits
EVERY = 100  # how often a loop of unknown length is recorded after step 512


class Recorder:
    """Records any training loop into a run directory.

    Call `step(i, loss=...)` once per step, with the model as it is after i updates (so `step(0)` before the first),
    and `close()` at the end. `train` does the same.

    Events (a previous-token head is born, an induction head forms, ...) are found at the recorded steps, after step 512
    at most once in a fiftieth of the run, and written with their evidence: `run.events`.

    Args:
        model: A `GPT`, also compiled or wrapped. Or nanoGPT's `GPT`, or Hugging Face's `GPT2LMHeadModel`: their weights
            are copied into a `GPT` at each recorded step, which is what is recorded (`gptviz.training.twin`).
        tokenizer: Its tokenizer; None if the probes are ids.
        probes: Texts (or lists of ids) to look at, each at most `block_size` tokens.
        out: The run directory, new or empty.
        steps: Record the weights at these steps; by default at 0, 1, 2, 4 ... 512 and then every hundredth.
        mirror: A URL that fsspec knows, where a copy of the run directory is kept up.

    Attributes:
        run: The run, readable while it is recorded.

    Raises:
        ValueError: A probe is too long or unknown to the tokenizer, or `out` is not empty.
        OSError: `out` cannot be written.

    Example:
        >>> import tempfile
        >>> from gptviz.model import GPTConfig
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=1, n_embd=4))
        >>> folder = tempfile.TemporaryDirectory()
        >>> with Recorder(model, None, [[0, 1, 2]], folder.name) as recorder:
        ...     recorder.step(0, loss=1.61)
        >>> recorder.run.steps, recorder.run.snapshot(0).pattern.shape
        ([0], (1, 1, 6))
        >>> folder.cleanup()
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        probes: Sequence[str | Sequence[int]],
        out: str | Path,
        *,
        steps: Collection[int] | None = None,
        mirror: str | None = None,
    ) -> None:
        twin = None if isinstance(inside(model), GPT) else Twin(model, [0, 1])
        gpt = twin.gpt if twin else model
        ids = encode_probes(probes, tokenizer, unwrapped(gpt))
        writer = RunWriter.create(Path(out), run_info(gpt, tokenizer, ids), max_iters=EVERY**2, mirror=mirror)
        self._attach(gpt, ids, writer, steps)
        self._twin = twin

    @classmethod
    def over(
        cls, model: nn.Module, probes: list[list[int]], writer: RunWriter, steps: Collection[int] | None
    ) -> "Recorder":
        """A recorder over a run directory that is open already."""
        recorder = cls.__new__(cls)
        recorder._attach(model, probes, writer, steps)
        return recorder

    @classmethod
    def from_checkpoints(
        cls, folder: str | Path, *, probes: Sequence[str | Sequence[int]] = (), out: str | Path, tokenizer: Any = None
    ) -> Run:
        """Makes a run directory of a folder of checkpoints, without training anything and without the network.

        Every checkpoint becomes a recorded step, so that any text can be looked at, at any of them. The step is the
        number at the end of a name (`ckpt_500.pt`, `checkpoint-500/`), else what the file says (nanoGPT's `iter_num`,
        the `trainer_state.json` of Hugging Face's Trainer). What the files say of losses becomes the loss curve.

        Args:
            folder: Holds nanoGPT's `.pt` files, gptviz's safetensors, or Hugging Face folders.
            probes: Texts (or lists of ids) to look at.
            out: The run directory, new or empty.
            tokenizer: The tokenizer, if the checkpoints do not bring theirs.

        Raises:
            ValueError: There is no checkpoint, two of one step, one without a step, or they are not one model's.

        Example:
            >>> from gptviz.checkpoints import save_nanogpt
            >>> from gptviz.config import GPTConfig
            >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=1, n_embd=4))
            >>> folder = getfixture("tmp_path")
            >>> save_nanogpt(model, folder / "ckpts" / "ckpt_0.pt")
            >>> save_nanogpt(model, folder / "ckpts" / "ckpt_250.pt")
            >>> Recorder.from_checkpoints(folder / "ckpts", probes=[[0, 1, 2]], out=folder / "run").steps
            [0, 250]
        """
        from gptviz.training.from_checkpoints import record_checkpoints

        return record_checkpoints(Path(folder), probes, Path(out), tokenizer)

    def _attach(
        self, model: nn.Module, probes: list[list[int]], writer: RunWriter, steps: Collection[int] | None
    ) -> None:
        self.model, self.writer = model, writer
        self.run = Run(writer.folder)
        self._twin: Twin | None = None
        self._probes = probes
        self._steps = None if steps is None else frozenset(steps)
        self._measures = ProgressMeasures(unwrapped(model).config, probes) if steps is None or self._steps else None
        self._detector = Detector()
        for observation in self.run.observations:  # of a run that goes on
            self._detector.take(observation)
        self._losses: list[tuple[int, float]] = []  # since the last recorded step
        self._unsent: list[dict[str, Any]] = []
        self._seen = max((one["step"] for one in self.run.observations), default=-1)
        self._warned = self._saw_nonfinite = False
        self._told_of_mirror: set[type[Exception]] = set()  # the kinds of trouble that were told
        self._last = -1

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: type | None, *rest: object) -> None:
        self.close("finished" if kind is None else "failed")

    def due(self, step: int) -> bool:
        """Whether the weights are recorded at this step."""
        if self._steps is not None:
            return step in self._steps
        return step % EVERY == 0 if step > 512 else step & (step - 1) == 0

    def step(self, step: int, *, loss: float | None = None, **scalars: Any) -> None:
        """Records step number `step`: the scalars always, weights and probes when they are due.

        Args:
            step: How many updates the model has had; more than at the last call.
            loss: The training loss, nats per token.
            **scalars: More numbers of this step (lr=, grad_norm=, val_loss= ...).

        Raises:
            ValueError: `step` is not a whole number of at least 0 or not greater than the last one, or the recorder is
                closed.
        """
        if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step <= LARGEST_STEP:
            raise ValueError(f"A step must be a whole number from 0 to {LARGEST_STEP}; {step!r} was given.")
        if self.writer.state == "closed":
            raise ValueError(f"A closed recorder records nothing more; step {step} was given after close(). "
                             "Close it at the end, or make another with a new out=.")
        if step <= self._last:
            raise ValueError(f"Steps must increase; {step} was given after step {self._last}. Call step() once per "
                             "step, or record another training into a Recorder with a new out=.")
        for name, value in (scalars if loss is None else {"loss": loss, **scalars}).items():
            try:
                float(value)
            except (TypeError, ValueError, RuntimeError, OverflowError):
                raise ValueError(f"{name} must be one number; {briefly(value)} was given at step {step}. Pass its "
                                 f"mean, or leave it out.") from None
        self._last = step
        if self.due(step):
            self.capture(step)
        self.log(step, **scalars if loss is None else {"loss": loss, **scalars})
        if loss is not None and not math.isfinite(loss) and not self._saw_nonfinite:
            self._saw_nonfinite = True
            texts = [torch.tensor(ids) for ids in self._probes]
            if self._twin:
                self._twin.refresh()
            self.writer.event(step, "nonfinite_loss", **nonfinite_details(loss, *first_nonfinite(self.model, texts)))

    def capture(
        self, step: int, training_state: dict[str, Any] | None = None, *, end: dict[str, Any] | None = None
    ) -> None:
        """Copies the weights and runs the probes now; the disk is the writer's business.

        Args:
            step: How many updates the model has had.
            training_state: "optimizer" arrays and a "state" of JSON values, to make this a resume point.
            end: A journal record that ends the run; such a capture is never dropped.
        """
        if self._twin:
            self._twin.refresh()
        traces = record(self.model, self._probes, names=SNAPSHOT_NAMES, dtype=torch.float32) if self._probes else []
        contents: dict[str, Any] = {"snapshot": snapshot_arrays(traces)} if traces else {}
        contents |= {"weights": weight_arrays(self.model), **(training_state or {})}
        records = [*self._unsent, *self._observed(step, traces), *([end] if end else [])]
        queued = self.writer.commit(step, contents, records, final=end is not None)
        self._unsent = [] if queued else records
        self._warn_once()

    def log(self, step: int, **scalars: float) -> None:
        """Records the scalars of a step; NaN and infinities are kept and flagged."""
        if "loss" in scalars:
            self._losses.append((step, float(scalars["loss"])))
        self.writer.log({"step": step, **{name: float(value) for name, value in scalars.items()}})

    def _observed(self, step: int, traces: list[Trace]) -> list[dict[str, Any]]:
        """Journal records of what the model is like now, and of the events that this shows."""
        late = step > POWERS[-1] and step - self._seen < self.writer.max_iters / 50  # observing costs half a capture
        if self._measures is None or step <= self._seen or late:
            return []
        self._seen = step
        known = frozenset(self._detector.found["induction_head"])
        losses = [array(trace["loss"]) for trace in traces]
        seen = self._measures.observe(self.model, known, losses, gain=not self._detector.past_bigrams)
        bins = loss_bins([step for step, _ in self._losses], [loss for _, loss in self._losses])
        self._losses = []
        spread = distributions(unwrapped(self.model), traces)
        observation = {"kind": "observation", "step": step, "losses": bins, "distributions": spread, **seen}
        return [observation, *(event.record() for event in self._detector.take(observation))]

    def close(self, reason: str = "finished", **details: Any) -> bool:
        """Writes what is left and gives the run directory back; idempotent.

        Returns:
            Whether all of it is on the disk.
        """
        if self.writer.state != "closed":
            records = [*self._unsent, end_record(reason, self.writer, **details)]
            self.writer.commit(0, {}, records, final=True)
        return self.finish()

    def finish(self) -> bool:
        """Waits for the disk and gives the run directory back, without a word of how the run ended."""
        saved = self.writer.close()
        self._warn_once()
        return saved

    def _warn_once(self) -> None:
        error = self.writer.replica and self.writer.replica.error
        if self.writer.replica and error and type(error) not in self._told_of_mirror:
            self._told_of_mirror.add(type(error))
            then = "; nothing is copied" if isinstance(error, NotARun) else (
                "; the copy is tried again, and is whole once that works")
            warnings.warn(
                f"The mirror is behind: {self.writer.replica.url} fails ({error}). Training and recording go on "
                f"here{then}.",
                RuntimeWarning,
                stacklevel=4,
            )
        if self.writer.error and not self._warned:
            self._warned = True
            warnings.warn(
                f"The recorder is degraded: {self.writer.folder} cannot be written ({self.writer.error}). Training "
                "goes on; recording is tried again, and what does not fit into memory meanwhile is dropped.",
                RuntimeWarning,
                stacklevel=4,
            )


def encode_probes(probes: Sequence[str | Sequence[int]], tokenizer: Any, model: GPT) -> list[list[int]]:
    """The ids of the probe texts.

    Raises:
        ValueError: A probe is empty, too long, or a text although there is no tokenizer.
    """
    if isinstance(probes, str):
        raise ValueError(f"probes must be a list; the text {probes!r} was given. Put it into brackets: [{probes!r}].")
    encoded = []
    for number, probe in enumerate(probes):
        if isinstance(probe, str) and tokenizer is None:
            raise ValueError(f"Probe {number} is a text and needs a tokenizer; None was given. Pass token ids instead.")
        ids = tokenizer.encode(probe) if isinstance(probe, str) else check_ids(
            probe, model.config.vocab_size).tolist()
        if not 1 <= len(ids) <= model.config.block_size:
            most = model.config.block_size
            raise ValueError(f"A probe must have {span(1, most)} token{'s' * (most > 1)} (block_size); probe {number} "
                             f"has {len(ids)}. {'Shorten' if ids else 'Lengthen'} it.")
        encoded.append(ids)
    return encoded


def run_info(model: nn.Module, tokenizer: Any, probes: list[list[int]], **more: Any) -> dict[str, Any]:
    """The content of run.json."""
    import dataclasses

    texts = [tokenizer.decode(ids) if tokenizer else " ".join(map(str, ids)) for ids in probes]
    return {
        "schema_version": SCHEMA_VERSION,
        "model": dataclasses.asdict(unwrapped(model).config),
        "tokenizer": None if tokenizer is None else tokenizer.to_json(),
        "probes": [{"text": text, "ids": ids} for text, ids in zip(texts, probes, strict=True)],
        **more,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("torch", "numpy", "safetensors")},
    }


def end_record(reason: str, writer: RunWriter, **details: Any) -> dict[str, Any]:
    """The journal record that says how a run ended."""
    health = {"dropped": writer.dropped, "longest_wait": writer.longest_wait}
    return {"kind": "end", "reason": reason, "recorder": health, **details}


def weight_arrays(model: nn.Module) -> dict[str, np.ndarray]:
    """Copies of the parameters by nanoGPT's names; one that has two names (a tied head) is kept under the first."""
    seen: dict[int, str] = {}
    for name, tensor in unwrapped(model).state_dict().items():
        seen.setdefault(tensor.data_ptr(), name)
    state = unwrapped(model).state_dict()
    return {name: array(state[name]) for name in seen.values()}


def snapshot_arrays(traces: list[Trace]) -> dict[str, np.ndarray]:
    """What a snapshot keeps of all probes."""
    return {f"probe{number}.{name}": value for number, trace in enumerate(traces)
            for name, value in probe_arrays(trace).items()}


def probe_arrays(trace: Trace) -> dict[str, np.ndarray]:
    """What a snapshot keeps of a probe: attention as bytes, and numbers computed from floats before that."""
    probabilities = trace["logits"].softmax(-1)
    top = probabilities.topk(min(TOP_K, probabilities.shape[-1]))
    residual = torch.cat([trace["resid_pre", 0][None], trace["resid_post"]])
    return {
        **pattern_arrays(trace["pattern"]),
        "loss": array(trace["loss"]),
        "top_ids": array(top.indices.int()),
        "top_probs": array(top.values),
        "resid_norm": array(residual.norm(dim=-1)),
        "attn_out_norm": array(trace["attn_out"].norm(dim=-1)),
        "mlp_out_norm": array(trace["mlp_out"].norm(dim=-1)),
    }


def pattern_arrays(pattern: Float[Tensor, "layer head query key"]) -> dict[str, np.ndarray]:
    """The pattern as bytes and three scores of each head; rows that are not finite are zeroed and listed."""
    finite = pattern.isfinite().all(-1)                                                    # layer head query
    arrays = {
        "pattern": pack_pattern(array(pattern.where(finite[..., None], 0.0))),
        "entropy": array(row_entropy(pattern)),
        "previous": array(pattern.diagonal(-1, -2, -1).mean(-1)),
        "first": array(pattern[..., 1:, 0].mean(-1)),
    }
    return arrays if finite.all() else {**arrays, "nonfinite": array((~finite).to(torch.uint8))}


def row_entropy(pattern: Float[Tensor, "layer head query key"]) -> Float[Tensor, "layer head"]:
    """Mean entropy of the rows after the first, each divided by ln(query + 1): 1 means evenly spread attention."""
    rows = -torch.special.xlogy(pattern, pattern).sum(-1)[..., 1:]                         # layer head query-1
    largest = torch.arange(2, pattern.shape[-1] + 1, device=pattern.device).log()
    return (rows / largest).mean(-1)


def nonfinite_details(loss: float, first: str, layer: int | None) -> dict[str, Any]:
    """What the journal says of a loss that is not finite."""
    place = first if layer is None else f"{first} of layer {layer}"
    return {"loss": loss, "first": first, "layer": layer,
            "evidence": f"The loss is {loss}. In the order of the computation it shows first in {place}.",
            "false_if": f"It would be false if a forward pass over the same batch gave finite numbers in {place}."}


def first_nonfinite(model: nn.Module, x: Iterable[Int[Tensor, "_pos"]]) -> tuple[str, int | None]:
    """Where NaN or infinity first shows in a forward pass over each text: (parameter or activation, layer)."""
    for name, parameter in unwrapped(model).named_parameters():
        if not parameter.isfinite().all():
            return name, None
    for ids in x:
        trace = record(model, ids)
        for layer in (*trace.layers, None):
            for name in _names_of(trace, layer):
                value = trace[name, layer] if layer is not None else trace[name]
                if not value.isfinite().all():
                    return name, layer
    return "loss", None


def _names_of(trace: Trace, layer: int | None) -> Iterable[str]:
    """The recorded names in the order of the computation; scores are -inf above the diagonal, loss NaN at 0."""
    per_layer = layer is not None
    return [n for n in trace.names if (AXES[n][0] == "layer") == per_layer and n not in ("scores", "loss")]
