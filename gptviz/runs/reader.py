"""Reading a run directory: any step, any recorded probe, without torch; the model itself with torch.

Nothing here writes, except that `stop` leaves a request. Any number of readers may follow a run while it trains.
"""

import json
import shutil
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Shaped, UInt8

from gptviz.arguments import path_of, span, whole_number
from gptviz.missing import suggestion
from gptviz.packaged import packaged_runs
from gptviz.packing import restore_pattern
from gptviz.runs import lock
from gptviz.runs.faults import CorruptSnapshot, NotARun
from gptviz.runs.files import Arrays, read_arrays, read_committed, read_state, step_of
from gptviz.runs.history import History, Scalars, spread_over_steps
from gptviz.runs.journal import Record
from gptviz.spelling import spelling

SCHEMA_VERSION = 1
STOP = "STOP"
UNLISTED = "unlisted"  # holds files whose lines were lost, since the run was resumed without them
WHY_UNLISTED = "has lost lines, or belongs to a copy that was not finished or was made while the run trained"
_LARGEST_HEADER = 1 << 26  # run.json holds a vocabulary at most


@dataclass(frozen=True)
class Snapshot:
    """What a probe text looked like inside the model at one training step; numpy only.

    Attributes:
        step: Training step: this many updates were done.
        probe: Which of the run's probe texts.
        ids: Token ids, `[pos]`.
        tokens: The visible form of each token.
        pattern: Attention after softmax, the lower triangle as bytes of 255 * sqrt(p): `gptviz.packing`.
        loss: -log p(token at pos given those before it) in nats; NaN at position 0.
        top_ids: The most probable next tokens, best first.
        top_probs: Their probabilities.
        statistics: Further arrays, computed from floats: resid_norm `[layer+1 pos]`, attn_out_norm and mlp_out_norm
            `[layer pos]`, and `[layer head]` entropy (of a row of the pattern, divided by the largest possible),
            previous (attention to the token before), first (attention to the first token).
        nonfinite: Rows of the pattern that held NaN or infinities (their bytes are 0), or None if none did.
    """

    step: int
    probe: int
    ids: Int32[np.ndarray, "pos"]
    tokens: tuple[str, ...]
    pattern: UInt8[np.ndarray, "layer head cell"]
    loss: Float32[np.ndarray, "pos"]
    top_ids: Int32[np.ndarray, "pos k"]
    top_probs: Float32[np.ndarray, "pos k"]
    statistics: dict[str, np.ndarray]
    nonfinite: Shaped[np.ndarray, "layer head query"] | None = None

    def attention(self) -> Float32[np.ndarray, "layer head query key"]:
        """The pattern as probabilities, rows summing to 1, each value one that its byte stands for.

        As a rule exact to 0.004 (0.0002 where p < 0.002); NaN in rows that were not finite.
        """
        pattern = restore_pattern(self.pattern, len(self.ids))
        if self.nonfinite is not None:
            pattern[self.nonfinite.astype(bool)] = np.nan
        return pattern


@dataclass(frozen=True)
class Problem:
    """One thing that `Run.verify` found wrong."""

    path: Path
    reason: str
    step: int | None = None

    def __str__(self) -> str:
        at = "" if self.step is None else f" (step {self.step})"
        return f"{self.path}{at} {self.reason}"


def open_run(name_or_path: str | Path) -> "Run":
    """Opens a run directory, or a run that comes with gptviz, for reading.

    Warns if the last line of its record is torn, which a killed process leaves, or if lines of it are lost.

    Args:
        name_or_path: A run directory, or the name of a packaged run.

    Raises:
        NotARun: If it is neither, or was written by a newer version.

    Example:
        >>> open_run("no/such/run")
        Traceback (most recent call last):
        gptviz.runs.faults.NotARun: A run directory holds a run.json; no/such/run does not exist. ...
    """
    packaged = packaged_runs()
    run = Run(packaged.get(str(name_or_path), path_of(name_or_path)))
    for damage in filter(None, (run.torn, run.cut)):
        warnings.warn(damage, RuntimeWarning, stacklevel=2)
    return run


class Run:
    """A recorded training run. Its steps, scalars and probes are read with numpy alone; models need torch.

    Args:
        path: The run directory.

    Attributes:
        path: The run directory.
        info: The content of run.json.
        config: The model's configuration, with the fields of `GPTConfig` as attributes.
        probes: The pinned probe texts.

    Raises:
        NotARun: If the folder is not a run directory, or one of a newer version.

    Example:
        >>> run = open_run("sorter")
        >>> run.steps
        [0, 10, 20, 30, 40, 50, 75, 100, 200, 600]
        >>> run.snapshot(600).attention().shape
        (3, 3, 11, 11)
        >>> run.record("CBABBC", step=10)["pattern"].shape
        torch.Size([3, 3, 6, 6])
    """

    def __init__(self, path: str | Path, *, temporary: bool = False) -> None:
        self.path = path_of(path)
        # A run kept "in memory" is a temporary folder that goes when the Run does.
        self._delete = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True) if temporary else None
        self.info = read_info(self.path)
        self.config = SimpleNamespace(**self.info["model"])
        self.probes: list[str] = [probe["text"] for probe in self.info["probes"]]
        self._history = History(self.path)
        self._scalars = Scalars(self.path)

    def __repr__(self) -> str:
        steps = self.steps
        span = f"{len(steps)} recorded steps, 0 to {steps[-1]}" if steps else "no recorded step"
        return f"Run({str(self.path)!r}): {self.status}, {span}"

    @property
    def name(self) -> str:
        """The folder's name; of a run in memory, whose folder has none worth reading, what it learns."""
        config = self.info.get("train", {})
        learns = str(config.get("corpus") or config.get("task") or "")
        return learns if self._delete and learns else self.path.name

    # --- what was recorded ------------------------------------------------------------------------------------

    @property
    def steps(self) -> list[int]:
        """The steps whose weights are recorded, ascending; follows a run that is still training."""
        self._history.poll()
        return list(self._history.files("weights"))

    @property
    def resume_steps(self) -> list[int]:
        """The steps from which training can go on exactly."""
        self._history.poll()
        return self._history.resume_steps()

    @property
    def events(self) -> list[Record]:
        """What happened at a step: {"step", "name", ...}.

        What was found in the model also has a score, its null, the threshold, a sentence of evidence and one of what
        would make it false: `gptviz.analysis.events.Event`.
        """
        self._history.poll()
        return list(self._history.events)

    @property
    def observations(self) -> list[Record]:
        """What recorded steps measured about the model, by step: see `ProgressMeasures.observe`."""
        self._history.poll()
        return [self._history.observations[step] for step in sorted(self._history.observations)]

    def head_scores(self) -> dict[str, np.ndarray]:
        """The heads over training, on a few random texts with a repeat; without torch.

        Returns:
            "step" `[n]`, each score (previous_token, current_token, first_token, duplicate_token, induction) as
            `[n layer head]`, and the 97.5 % point of its null under "null_high/" and its name; {} where nothing was
            measured.

        Example:
            >>> open_run("sorter").head_scores()
            {}
        """
        seen = [one for one in self.observations if "heads" in one]
        names = seen[0]["heads"] if seen else ()
        scores = {name: np.array([one["heads"][name] for one in seen], float) for name in names}
        highs = {f"null_high/{name}": np.array([one["null_high"][name] for one in seen], float) for name in scores}
        return {"step": np.array([one["step"] for one in seen]), **scores, **highs} if seen else {}

    def distributions(self) -> dict[str, np.ndarray]:
        """How weights, gradients and activations were spread at the recorded steps; without torch.

        Returns:
            "step" `[n]`, and by kind and part ("weights/attn.c_attn", "gradients/wte", "activations/mlp_out", ...)
            `[n row share]`: a row for each layer, or one; the lowest value, 5, 25, 50, 75 and 95 % of them, and the
            highest (`gptviz.analysis.distributions`). NaN where nothing was measured; {} for a run recorded without.

        Example:
            >>> open_run("sorter").distributions()
            {}
        """
        return spread_over_steps(self.observations)

    @property
    def status(self) -> str:
        """Whether it is "running", or how it ended: "finished", "interrupted", "stopped", "failed", "killed".

        "gone" if its run directory was deleted or moved.
        """
        if not (self.path / "run.json").exists():
            return "gone"
        if lock.holder(self.path):
            return "running"
        self._history.poll()
        return self._history.end["reason"] if self._history.end else "killed"

    @property
    def outcome(self) -> str:
        """How it stands, in a sentence: that it trains, or where and why it ended.

        Example:
            >>> open_run("sorter").outcome
            'Finished at step 600.'
        """
        status, end = self.status, self._history.end or {}
        at = f" at step {end['step']}" if "step" in end else ""
        if status == "failed":
            return f"Failed{at}: {end.get('error') or 'no reason was recorded'}."
        if status == "gone":
            return f"Its run directory is gone: {self.path} was deleted or moved. What was read of it is still shown."
        if status == "killed":
            return self.cut or f"Its process was killed after step {max(self.steps, default=0)}."
        cause = f": {end['cause']}" if "cause" in end else ""
        return f"{status.capitalize()}{at}{cause}."

    @property
    def torn(self) -> str:
        """A sentence if the last line of the journal was never finished, and nobody is writing it; else "".

        Example:
            >>> open_run("sorter").torn
            ''
        """
        self._history.poll()
        lines = self._history.lines
        if not lines.torn or lock.holder(self.path):
            return ""
        self._history.poll()  # whoever was writing that line may have finished it, and the run, meanwhile
        if not lines.torn:
            return ""
        whole = "" if self.cut else " Nothing that was committed is lost, and the run can be read and resumed."
        return (f"The last line of {lines.path} is torn (the process that wrote it was killed); its {lines.torn} bytes "
                f"are passed over.{whole}")

    @property
    def cut(self) -> str:
        """A sentence if files lie in the folder at rest that only lost lines of the journal can have listed; else "".

        Example:
            >>> open_run("sorter").cut
            ''
        """
        unlisted = self._history.unlisted()
        return "" if not unlisted or lock.holder(self.path) else lost_lines(self._history.lines.path, unlisted)

    @property
    def now(self) -> dict[str, Any]:
        """What only the process that trains knows at this moment; nothing for a run that another process writes."""
        return {}

    @property
    def nbytes(self) -> int:
        """Bytes of the run directory that count."""
        self._history.poll()
        return sum(self._sizes().values())

    @cached_property
    def tokenizer(self) -> Any:
        """The run's tokenizer (a `gptviz.tokenizers.Tokenizer`), or None if it was recorded without one."""
        from gptviz.tokenizers import tokenizer_from_json

        saved = self.info["tokenizer"]
        return None if saved is None else tokenizer_from_json(saved)

    def metrics(self) -> dict[str, np.ndarray]:
        """The scalars of every step, as columns of equal length.

        Returns:
            "step" (int64, strictly ascending), "nonfinite" (bool: the row holds a NaN or infinity that training
            produced) and one float64 column for each scalar; NaN also where a scalar was not measured.
        """
        ordered = self._rows()
        names = sorted({name for row in ordered for name in row} - {"step", "nonfinite"})
        columns = {name: np.array([row.get(name, np.nan) for row in ordered], dtype=np.float64) for name in names}
        return {
            "step": np.array([row["step"] for row in ordered], dtype=np.int64),
            **columns,
            "nonfinite": np.array(["nonfinite" in row for row in ordered], dtype=bool),
        }

    def nonfinite_steps(self, name: str) -> list[int]:
        """The steps at which this scalar came out as NaN or infinity (elsewhere a NaN in `metrics` was not measured).

        Example:
            >>> open_run("sorter").nonfinite_steps("val_loss")
            []
        """
        return [row["step"] for row in self._rows() if name in row.get("nonfinite", ())]

    def snapshot(self, step: int, probe: int = 0) -> Snapshot:
        """What probe text number `probe` looked like at a recorded step; without torch.

        Raises:
            ValueError: If there is no such probe, or the step has no snapshot.
            CorruptSnapshot: If the file is damaged.
        """
        if not isinstance(probe, int) or not 0 <= probe < len(self.probes):
            see = spelling().in_python(" (see run.probes)")
            raise ValueError(f"probe must be {span(0, len(self.probes) - 1)}{see}; {probe} was given.")
        arrays = read_arrays(self.path, self._recorded("snapshot", step))
        prefix = f"probe{probe}."
        fields = {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
        return self._snapshot(step, probe, fields)

    def weights(self, step: int | None = None) -> Arrays:
        """The model's parameters at a recorded step (the last by default) by nanoGPT's names; without torch.

        Raises:
            ValueError: If the step is not recorded.
            CorruptSnapshot: If the file is damaged.
        """
        arrays = read_arrays(self.path, self._recorded("weights", self._step(step)))
        if self.info["model"].get("tie_weights") and "lm_head.weight" not in arrays:
            arrays["lm_head.weight"] = arrays["transformer.wte.weight"]
        return arrays

    def resume_state(self, step: int | None = None) -> tuple[int, Arrays, Arrays, Record]:
        """What training needs to go on exactly: (step, weights, optimizer and random states, counters).

        Args:
            step: One of `resume_steps`; the newest undamaged one by default.

        Raises:
            ValueError: If there is no such resume point.
            CorruptSnapshot: If the named one is damaged.
        """
        if step is not None:
            return self._resume_state(step)
        for candidate in reversed(self.resume_steps):
            try:
                return self._resume_state(candidate)
            except CorruptSnapshot:
                continue
        weights = spelling().in_python(", or load the weights of a step with run.load(step)")
        raise ValueError(f"{self.path} holds no whole resume point (weights, optimizer and state of one step). "
                         f"Train again{weights}.")

    # --- torch ------------------------------------------------------------------------------------------------

    def load(self, step: int | None = None) -> tuple[Any, Any]:
        """The model at a recorded step, in evaluation mode, and its tokenizer.

        Args:
            step: One of `steps`; the last by default.

        Returns:
            (GPT, tokenizer), independent of this Run and of other calls.

        Raises:
            ValueError: If the step is not recorded, or its weights are not finite (those can be had by `weights`).
            CorruptSnapshot: If its file is damaged.
        """
        import torch

        from gptviz.checkpoints import build_model, fit_weights
        from gptviz.model import GPTConfig

        step = self._step(step)
        weights = {name: torch.from_numpy(array) for name, array in self.weights(step).items()}
        source = f"Step {step} of the run {self.path}"
        model = build_model(fit_weights(GPTConfig(**self.info["model"]), weights, source))
        model.trained_on = {**self.info.get("data", {}), "step": step}
        return model, self.tokenizer

    def record(self, text: Any, step: int | None = None, **options: Any) -> Any:
        """The trace of any text through the model as it was at a recorded step.

        Args:
            text: A text or token ids.
            step: One of `steps`; the last by default.
            **options: As for `gptviz.record` (names=, layers=, ...).

        Returns:
            A `Trace`.
        """
        from gptviz.trace import record

        model, tokenizer = self.load(step)
        return record(model, text, tokenizer, **options)

    def resume(
        self,
        max_iters: int | None = None,
        *,
        step: int | None = None,
        threads: int | str | None = None,
        mirror: str | None = None,
        background: bool = False,
        progress: bool = True,
        on_step: Callable[[int, float], None] | None = None,
    ) -> "Run":
        """Goes on training from the newest resume point, bit-exactly on the CPU.

        This continues a run that has ended. A run that trains in the background and was paused goes on with
        `resume()` too, without arguments.

        Args:
            max_iters: Train up to this step instead of the one the run was started with. The learning rate keeps
                its schedule (lr_decay_iters), so that the steps up to the old end stay the same.
            step: One of `resume_steps` to go on from; what was recorded after it no longer counts.
            threads: CPU threads, or "auto" to measure anew; as many as before by default. Another number rounds
                differently: the run is then no longer the same to the bit.
            mirror: Where a copy is kept up, as in `TrainConfig`; the run itself does not say.
            background: Whether to return a run that trains in a thread, as `gptviz.train` does.
            progress: Whether to show a progress bar.
            on_step: Called after each step with the step and its loss.

        Raises:
            RunLocked: If another process is writing to the run.
            ValueError: If there is nothing to resume from, or the run was not made by `train`.
        """
        from gptviz.training import resume

        max_iters = None if max_iters is None else whole_number(max_iters, "max_iters", least=1)
        return resume(self, max_iters, step=step, threads=threads, mirror=mirror, background=background,
                      progress=progress, on_step=on_step)

    # --- care -------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Asks the process that trains this run, whichever it is, to stop cleanly after its current step.

        Raises:
            ValueError: If nobody trains it.
            OSError: If the run directory cannot be written.

        Example:
            >>> open_run("sorter").stop()
            Traceback (most recent call last):
            ValueError: Only a run that is training can be stopped; ...sorter is not. Finished at step 600.
        """
        owner = lock.holder(self.path)
        if owner is None:
            raise ValueError(f"Only a run that is training can be stopped; {self.path} is not. {self.outcome}")
        try:
            (self.path / STOP).touch()
        except OSError as error:
            raise type(error)(
                f"A run is stopped by a file {STOP} in its run directory, which must be writable; {self.path} is not "
                f"({error.strerror or error}). Stop it where it trains (process {owner['pid']} on {owner['host']}): "
                "Ctrl-C there ends it cleanly."
            ) from error

    def verify(self) -> list[Problem]:
        """Reads every committed file and line and lists what is damaged; an empty list means all is whole."""
        self._history.poll()
        self._scalars.rows(self._history.segments)
        journal = self._history.lines
        found = [Problem(journal.path, f"has a damaged line at byte {offset}") for offset in journal.corrupt]
        if self.cut:
            found.append(Problem(journal.path, self.cut.removeprefix(f"{journal.path} ")))
        found += [Problem(path, f"has a damaged line at byte {offset}") for path, offset in self._scalars.corrupt]
        if not lock.holder(self.path):  # a run that has just begun has written none yet
            missing = self._scalars.missing(self._history.segments)
            found += [Problem(path, "is missing: the losses and other scalars in it are lost") for path in missing]
        for record in list(self._history.live.values()):
            try:
                read_committed(self.path, record)
            except CorruptSnapshot as error:
                found.append(Problem(error.path, error.reason, error.step))
        return found

    def summary(self) -> dict[str, Any]:
        """The run in numbers: status, steps, last losses, seconds by activity, bytes on disk by kind.

        Returns:
            "cause" is what made it stop by itself, or "".
            "loss" and "val_loss" are the newest that were measured: NaN if that is what came out, None if none was.
            "seconds" maps data, forward_backward, optimizer, eval, recording, paused and other to seconds of the newest
            segment; "bytes" maps weights, optimizer, state, snapshot, metrics and journal to bytes.
        """
        rows = self._rows()
        last = {name: _newest(rows, name) for name in ("loss", "val_loss")}
        end = self._history.end or {}
        return {
            "path": str(self.path),
            "status": self.status,
            "steps": len(self.steps),
            "last_step": max(self.steps, default=None),
            **last,
            "tokens_per_second": end.get("tokens_per_second"),
            "threads": end.get("threads"),
            "seconds": end.get("seconds", {}),
            "recorder": end.get("recorder", {}),
            "cause": end.get("cause", ""),
            "bytes": self._sizes(),
            "events": len(self.events),
        }

    def close(self) -> None:
        """Deletes the folder of a run that was kept in memory (out=None); otherwise nothing."""
        if self._delete is not None:
            self._delete()

    def _rows(self) -> list[Record]:
        """The scalars by step."""
        self._history.poll()
        rows: dict[int, Record] = {}
        for row in self._scalars.rows(self._history.segments):
            rows.setdefault(row["step"], {}).update(row)
        return [rows[step] for step in sorted(rows)]

    def _recorded(self, kind: str, step: int) -> Record:
        self._history.poll()
        files = self._history.files(kind)
        if not isinstance(step, int) or isinstance(step, bool):
            raise TypeError(f"step must be a whole number, one of run.steps, not {step!r}.")
        if step not in files:
            near = sorted(files, key=lambda other: abs(other - step))[:3]
            hint = f"the nearest are {', '.join(map(str, sorted(near)))}" if near else "none are recorded yet"
            see = spelling().in_python(" (see run.steps)")
            raise ValueError(f"step must be a recorded one{see}; {step} has no {kind}, {hint}.")
        return files[step]

    def _step(self, step: int | None) -> int:
        if step is not None:
            return step
        steps = self.steps
        if not steps:
            raise ValueError(f"{self.path} has no recorded step yet. Wait for the first, or train again.")
        return steps[-1]

    def _snapshot(self, step: int, probe: int, fields: Arrays) -> Snapshot:
        from gptviz.tokenizers import visible_tokens

        ids = np.array(self.info["probes"][probe]["ids"], dtype=np.int32)
        tokens = tuple(visible_tokens(self.tokenizer, ids) if self.tokenizer else map(str, ids))
        main = {name: fields.pop(name) for name in ("pattern", "loss", "top_ids", "top_probs")}
        nonfinite = fields.pop("nonfinite", None)
        return Snapshot(step, probe, ids, tokens, **main, statistics=fields, nonfinite=nonfinite)

    def _resume_state(self, step: int) -> tuple[int, Arrays, Arrays, Record]:
        if step not in self.resume_steps:
            known = ", ".join(map(str, self.resume_steps)) or "there are none"
            raise ValueError(f"step must be one of run.resume_steps ({known}); {step} was given.")
        optimizer = read_arrays(self.path, self._recorded("optimizer", step))
        state = read_state(self.path, self._recorded("state", step))
        return step, self.weights(step), optimizer, state

    def _sizes(self) -> dict[str, int]:
        sizes: dict[str, int] = dict.fromkeys(("weights", "optimizer", "state", "snapshot"), 0)
        for record in list(self._history.live.values()):
            sizes[record["kind"]] += record["bytes"]
        sizes["metrics"] = sum(map(_size, self._scalars.folder.glob("*.jsonl")))
        sizes["journal"] = _size(self._history.lines.path)
        return sizes


def files_of_steps(names: list[str]) -> str:
    """Which files a sentence is about, by their steps.

    Example:
        >>> files_of_steps(["ckpt/0000000120.safetensors", "ckpt/0000000140.safetensors"])
        'files of the 2 steps 120 to 140'
    """
    steps = sorted(set(map(step_of, names)))
    return f"files of the {len(steps)} steps {steps[0]} to {steps[-1]}"


def lost_lines(journal: Path, unlisted: list[str]) -> str:
    """What files tell of a journal that does not list them."""
    return (f"{journal} {WHY_UNLISTED}: {files_of_steps(unlisted)} lie beside it that it does not list, and how "
            f"the run went on after its last line is not known. Restore it from a copy; or resume the run from what is "
            f"listed, which keeps these files in {journal.parent / UNLISTED}.")


def read_info(path: Path) -> dict[str, Any]:
    """The content of run.json, checked as far as a reader depends on it.

    Raises:
        NotARun: If there is none, it is damaged, or a newer version wrote it.
    """
    file = path / "run.json"
    if not path.exists():
        raise NotARun(f"A run directory holds a run.json; {path} does not exist. {suggestion(path)} {_known_runs()}")
    if not file.is_file():
        raise NotARun(f"A run directory holds a run.json; {path} has none. Give the folder that training wrote to "
                      f"({spelling().setting('out')}). {_known_runs()}")
    if file.stat().st_size > _LARGEST_HEADER:
        raise NotARun(f"run.json must be smaller than {_LARGEST_HEADER >> 20} MB; {file} is not a file gptviz wrote.")
    try:
        info = json.loads(file.read_bytes())
        version = info["schema_version"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise NotARun(f"run.json must be what gptviz wrote; {file} is damaged ({error!r}). Restore it.") from error
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise NotARun(f"{path} was written by a newer gptviz (run format {version}); this one reads formats up to "
                      f"{SCHEMA_VERSION}. Upgrade gptviz.")
    if not isinstance(info.get("model"), dict) or not isinstance(info.get("probes"), list) or "tokenizer" not in info:
        raise NotARun(f"run.json must have model, tokenizer and probes; {file} lacks one of them. Restore it.")
    return info


def _size(path: Path) -> int:
    """Bytes of a file; 0 if somebody has deleted it."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _known_runs() -> str:
    names = ", ".join(packaged_runs())
    return f"Packaged runs: {names}." if names else ""


def _newest(rows: list[Record], name: str) -> float | None:
    """The newest value of a scalar that was measured, NaN too."""
    return next((float(row[name]) for row in reversed(rows) if name in row), None)
