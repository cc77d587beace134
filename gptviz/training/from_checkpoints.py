"""A run directory made of checkpoints that another training left behind."""

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from gptviz.checkpoints import build_model, read_checkpoint
from gptviz.checkpoints.pickles import read_torch_file
from gptviz.runs import Run, RunWriter
from gptviz.training.recorder import Recorder, encode_probes, run_info

_STATE = "trainer_state.json"
_LOSSES = {"loss": "loss", "eval_loss": "val_loss", "learning_rate": "lr", "grad_norm": "grad_norm"}


class Found(NamedTuple):
    """A checkpoint and the step that it was written at."""

    step: int
    path: Path


def record_checkpoints(folder: Path, probes: Sequence[str | Sequence[int]], out: Path, tokenizer: Any) -> Run:
    """See `Recorder.from_checkpoints`."""
    found = find_checkpoints(folder)
    first = read_checkpoint(found[0].path)
    tokenizer = tokenizer if tokenizer is not None else first.tokenizer
    model = build_model(first)
    ids = encode_probes(probes, tokenizer, model)
    info = run_info(model, tokenizer, ids, checkpoints=str(folder))
    writer = RunWriter.create(out, info, max_iters=max(1, found[-1].step))
    recorder = Recorder.over(model, ids, writer, [one.step for one in found])
    with recorder:
        rows = _scalars(found)
        for one in found:
            for step in sorted(step for step in rows if step < one.step):
                recorder.log(step, **rows.pop(step))
            checkpoint = read_checkpoint(one.path)
            if checkpoint.config != first.config:
                raise ValueError(f"The checkpoints of a run must be one model's; {one.path} has {checkpoint.config}, "
                                 f"{found[0].path} has {first.config}. Move one of them into another folder.")
            recorder.model = build_model(checkpoint)
            recorder.capture(one.step)
            recorder.log(one.step, **rows.pop(one.step, {}))
            writer.flush()  # no training waits here: nothing is dropped
        for step in sorted(rows):
            recorder.log(step, **rows[step])
    return recorder.run


def find_checkpoints(folder: Path) -> list[Found]:
    """The checkpoints of a folder in the order of their steps.

    Raises:
        ValueError: There is none, one without a step, or two of one step.
    """
    if not folder.is_dir():
        raise ValueError(f"Checkpoints are looked for in a folder; {folder} is none.")
    paths = [path for path in sorted(folder.iterdir())
             if path.suffix in (".pt", ".safetensors") or (path / "config.json").is_file()]
    if not paths:
        raise ValueError(f"{folder} must hold checkpoints (.pt, .safetensors, or folders with a config.json); it holds "
                         "none.")
    found = sorted(Found(_step_of(path), path) for path in paths)
    for one, other in pairwise(found):
        if one.step == other.step:
            raise ValueError(f"Each checkpoint must have a step of its own; {one.path.name} and {other.path.name} are "
                             f"both of step {one.step}. Move one of them away.")
    return found


def _step_of(path: Path) -> int:
    """The number at the end of a name, else what the checkpoint says."""
    if number := re.search(r"(\d+)(\.\w+)?$", path.name):
        return int(number[1])
    said = None
    if path.is_dir() and (path / _STATE).is_file():
        said = _trainer_state(path).get("global_step")
    elif path.suffix == ".pt":
        content, _ = read_torch_file(path)
        said = content.get("iter_num") if isinstance(content, dict) else None
    if not isinstance(said, int):
        raise ValueError(f"The step of a checkpoint must be the number at the end of its name, or in it; {path} has "
                         "neither. Rename it: ckpt_500.pt, checkpoint-500.")
    return said


def _scalars(found: list[Found]) -> dict[int, dict[str, float]]:
    """The losses that the newest Trainer state lists, by step, and nanoGPT's best validation loss so far."""
    rows: dict[int, dict[str, float]] = {}
    for step, path in found:
        if path.is_dir() and (path / _STATE).is_file():
            for entry in _trainer_state(path).get("log_history", []):
                known = {ours: float(entry[theirs]) for theirs, ours in _LOSSES.items() if theirs in entry}
                if known and isinstance(entry.get("step"), int):
                    rows.setdefault(entry["step"], {}).update(known)
        elif path.suffix == ".pt":
            content, _ = read_torch_file(path)
            best = content.get("best_val_loss") if isinstance(content, dict) else None
            if isinstance(best, float):  # a tensor in some files; its value is not worth loading them
                rows[step] = {"best_val_loss": best}
    return rows


def _trainer_state(folder: Path) -> dict[str, Any]:
    try:
        state = json.loads((folder / _STATE).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{folder / _STATE} must be JSON, as Trainer writes it, but is not ({error}).") from error
    return state if isinstance(state, dict) else {}
