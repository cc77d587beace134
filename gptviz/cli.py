"""The command line: train a demo, train your own, look inside, keep a picture, check a machine or a run.

Every command is a thin line to a public function; mistakes print one sentence and end with code 1.
"""

import contextlib
import dataclasses
import functools
import importlib.metadata
import importlib.util
import inspect as signatures
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from gptviz.spelling import Shell, spelled

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

RunName = Annotated[str, typer.Argument(help="A run directory, the name of a packaged run, or a checkpoint.")]
Step = Annotated[int | None, typer.Option(help="A recorded training step; the last by default.")]
Out = Annotated[Path, typer.Option(help="The run directory to write.")]


def _in_a_sentence(command: Callable[..., None]) -> Callable[..., None]:
    """A user's mistake is a sentence on standard error, not a traceback."""

    @functools.wraps(command)
    def told(*args: Any, **options: Any) -> None:
        try:
            with spelled(_as_typed(command)), _warnings_in_sentences():
                command(*args, **options)
        except (ValueError, TypeError, OSError) as error:
            print(f"gptviz: {error}", file=sys.stderr)
            raise typer.Exit(1) from error
        except (MemoryError, RuntimeError) as error:
            if not (wanted := _out_of_memory(error)):
                raise
            print(f"gptviz: There must be memory for the model and what it computes; this machine has not enough"
                  f"{wanted}. Choose a smaller model, batch_size or block_size, or a shorter text.", file=sys.stderr)
            raise typer.Exit(1) from error

    return told


@contextlib.contextmanager
def _warnings_in_sentences() -> Iterator[None]:
    """A warning is a sentence on standard error, told once, without the line of our source that gave it."""
    told: set[str] = set()

    def tell(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in told:
            told.add(str(message))
            print(f"gptviz: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = tell
        yield


def _as_typed(command: Callable[..., None]) -> Shell:
    """How sentences spell what this command takes: `--out` of `demo`, `out=` of `train`."""
    return Shell(signatures.signature(command).parameters, _program())


def _out_of_memory(error: Exception) -> str:
    """What was asked for, if an error says that memory ran out: torch's CPU allocator says so in a RuntimeError."""
    words = str(error)
    asked = re.search(r"allocate ([\d.]+) (bytes|[KMGTP]iB)", words)
    if isinstance(error, MemoryError) or "allocate memory" in words or "out of memory" in words:
        return f" ({asked[1]} {asked[2]} in one piece were asked for)" if asked else " of it"
    return ""


@app.command()
@_in_a_sentence
def demo(
    steps: Annotated[int, typer.Option(help="Training steps.", min=1)] = 2000,
    out: Out = Path("runs/demo"),
) -> None:
    """Train nanoGPT's CPU recipe on Python's own documentation and leave a report that opens offline."""
    from gptviz.training import TrainConfig

    run = _demo_run(TrainConfig(corpus="python-docs", max_iters=steps, out=str(out)))
    if run.status == "finished":
        _keep_pictures(run)
        _print_sample(run)
    _print_account(run)
    print(f"Look inside:  {_program()} lab")


@app.command()
@_in_a_sentence
def train(
    settings: Annotated[
        list[str], typer.Argument(help="Fields of TrainConfig: corpus=my.txt max_iters=500 ...")
    ],
    resume: Annotated[bool, typer.Option(help="Go on with the run in out=.")] = False,
) -> None:
    """Train a model and record how it learns: gptviz train corpus=my.txt out=runs/mine max_iters=500."""
    from gptviz.runs import open_run
    from gptviz.training import TrainConfig
    from gptviz.training import train as train_model
    from gptviz.training.ranks import is_first_process

    fields = parse_settings(settings)
    if resume:
        if set(fields) - {"out", "max_iters"} or "out" not in fields:
            raise ValueError(
                "--resume takes out=RUN and, to train longer, max_iters=N; all else is in the run."
            )
        run = open_run(fields["out"]).resume(fields.get("max_iters"))
    else:
        run = train_model(TrainConfig(**fields))
    if is_first_process():
        _print_account(run)


@app.command()
@_in_a_sentence
def inspect(
    run: RunName,
    text: Annotated[str, typer.Argument(help="Any text of at most block_size tokens.")],
    step: Step = None,
    html: Annotated[Path | None, typer.Option(help="Write a page that opens offline.")] = None,
    png: Annotated[
        Path | None, typer.Option(help="Write a picture of the heads (.png, .svg or .pdf).")
    ] = None,
    truncate: Annotated[
        str | None, typer.Option(help="left or right: drop tokens there of a text longer than block_size.")
    ] = None,
) -> None:
    """Run a text through a model, at any training step, and print what it expected at each token."""
    from gptviz.dashboards import explore
    from gptviz.export import export_html
    from gptviz.figures import save
    from gptviz.loading import load
    from gptviz.trace import record

    model, tokenizer = load(run, step)
    if tokenizer is None:
        raise ValueError(
            f"{run} brings no tokenizer, so a text cannot be read. In Python, gptviz.record takes token ids."
        )
    trace = record(model, text, tokenizer, truncate=truncate)
    for note in trace.notes:
        print(note)
    print(summarise(trace, tokenizer))
    board = explore(trace, model, tokenizer, title=str(run)) if html or png else None
    if board is not None and html:
        export_html(board, html)
    if board is not None and png:
        print(f"wrote {save(board.views[0], png)}")


@app.command()
@_in_a_sentence
def export(
    run: RunName,
    out: Annotated[Path, typer.Argument(help="report.html, or a picture: .png, .svg, .pdf.")],
    step: Step = None,
    probe: Annotated[int, typer.Option(help="Which of the run's probe texts.")] = 0,
) -> None:
    """Keep a recorded run: all its steps as one offline page, or the heads of one step as a picture."""
    from gptviz.dashboards import report, snapshot_views
    from gptviz.figures import save
    from gptviz.runs import open_run

    opened = open_run(run)
    if out.suffix.lower() == ".html":
        report(opened, out, probe)
    else:
        if not (steps := opened.steps):
            raise ValueError(f"{run} has no recorded step yet. Wait for the first.")
        shown = snapshot_views(opened, steps[-1] if step is None else step, probe)[0]
        print(f"wrote {save(shown, out)}")


@app.command()
@_in_a_sentence
def lab(folder: Annotated[Path, typer.Argument(help="Where the notebooks are.")] = Path("notebooks")) -> None:
    """Open JupyterLab on the notebooks."""
    if importlib.util.find_spec("jupyterlab") is None:
        raise ValueError("JupyterLab must be installed; it is not. Run: pip install 'gptviz[lab]'.")
    where = folder if folder.is_dir() else Path()
    raise typer.Exit(subprocess.call([sys.executable, "-m", "jupyterlab", str(where)]))  # noqa: S603 - our own words


@app.command()
@_in_a_sentence
def verify(run: RunName) -> None:
    """Read every committed file of a run and name what is damaged."""
    from gptviz.runs import open_run

    problems = open_run(run).verify()
    for problem in problems:
        print(problem)
    if problems:
        raise typer.Exit(1)
    print(f"{run}: every committed file is whole.")


@app.command()
def doctor() -> None:
    """Check this machine: versions, memory, cores, the widget, write permission, two seconds of training."""
    passed = True
    for name, check in CHECKS.items():
        try:
            mark, said = "✓", check()
        except Exception as error:  # whatever fails is what the doctor is asked about
            mark, said, passed = "✕", f"{type(error).__name__}: {error}", False
        print(f"{mark} {name:10} {said}")
    if not passed:
        raise typer.Exit(1)


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """`["max_iters=500", "bias=true"]` as fields of TrainConfig with their types.

    Raises:
        ValueError: no `=`, a field that TrainConfig does not have, or a value of another type.

    Example:
        >>> parse_settings(["corpus=my.txt", "max_iters=500", "probes=one|two"])
        {'corpus': 'my.txt', 'max_iters': 500, 'probes': ('one', 'two')}
    """
    from gptviz.training import TrainConfig

    known = {field.name: str(field.type) for field in dataclasses.fields(TrainConfig)}
    fields = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        name = name.removeprefix("--")
        if not equals or name not in known:
            raise ValueError(
                f"A setting must be field=value with a field of TrainConfig ({', '.join(known)}), "
                f"not {setting!r}."
            )
        fields[name] = _typed(name, value, known[name])
    return fields


def _typed(name: str, value: str, kind: str) -> Any:
    if "bool" in kind:
        if value.lower() not in ("true", "false"):
            raise ValueError(f"{name} must be true or false, not {value!r}.")
        return value.lower() == "true"
    if "Sequence" in kind:
        parts = tuple(part for part in value.split("|") if part)
        if "int" not in kind:
            return parts
        if not all(part.strip().isdecimal() for part in parts):
            raise ValueError(f"{name} must be whole numbers with | between them, such as 10|20, not {value!r}.")
        return tuple(int(part) for part in parts)
    for number, word in ((int, "int"), (float, "float")):
        if word in kind:
            with contextlib.suppress(ValueError):
                return number(value)
    if "str" in kind:
        return value
    raise ValueError(f"{name} must be a number, not {value!r}.")


def summarise(trace: Any, tokenizer: Any) -> str:
    """A trace as a table: each token with its loss and rank, and what was expected after it.

    Args:
        trace: A trace with the logits of all positions.
        tokenizer: Names the expected tokens.
    """
    from gptviz.analysis.predictions import predictions
    from gptviz.dashboards.tensors import visible_of

    said = predictions(trace["logits"].float().cpu().numpy(), trace.ids.cpu().numpy(), 1)
    visible = visible_of(tokenizer)
    width = min(max(map(len, trace.tokens)), 24)
    lines = [f"{'pos':>4}  {'token':{width}}  {'loss':>7}  {'rank':>4}  expected next (probability)"]
    for at, token in enumerate(trace.tokens):
        rank = str(said.rank[at]) if said.rank[at] else ""
        shown = "" if math.isnan(said.loss[at]) else f"{said.loss[at]:.4f}"
        following = f"{visible(int(said.top_ids[at, 0]))} ({said.top_probs[at, 0]:.4f})"
        lines.append(f"{at:4}  {token[:width]:{width}}  {shown:>7}  {rank:>4}  {following}")
    if len(trace) > 1:
        lines.append(f"mean loss {said.loss[1:].mean():.4f} nats per token")
    return "\n".join(lines)


# --- the demo ---------------------------------------------------------------------------------------------------


def _demo_run(config: Any) -> Any:
    """Train, or go on with the same demo that was stopped; another run in its place is moved aside, not deleted."""
    from gptviz.runs import open_run
    from gptviz.training import train as train_model

    out = Path(config.out)
    if (out / "run.json").exists():
        run = open_run(out)
        same = run.info.get("train", {}).get("max_iters") == config.max_iters
        if same and run.status != "finished" and run.resume_steps:
            print(f"Going on with {out} after step {run.resume_steps[-1]}.")
            return run.resume()
        aside = next(
            path for n in range(1, 10_000) if not (path := out.with_name(f"{out.name}.{n}")).exists()
        )
        out.rename(aside)
        print(f"The run that was in {out} is now {aside}.")
    return train_model(config)


def _keep_pictures(run: Any) -> None:
    from gptviz.dashboards import report, snapshot_views
    from gptviz.figures import save

    report(run, "report.html")
    heads = snapshot_views(run, run.steps[-1], 0)[0]
    for name in ("attention.png", "attention.svg"):
        print(f"wrote {save(heads, name)}")


def _print_sample(run: Any) -> None:
    from gptviz.generation import generate

    model, tokenizer = run.load()
    sample = generate(model, "\n", 300, tokenizer=tokenizer, temperature=0.8, seed=1337)
    print("\nA sample:\n" + "\n".join("    " + line for line in sample.strip().splitlines()) + "\n")


def _print_account(run: Any) -> None:
    """Losses, speed, where the time went, what is on disk."""
    account = run.summary()
    losses = [
        f"{name} {account[key]:.4f}"
        for name, key in (("training", "loss"), ("validation", "val_loss"))
        if account[key] is not None
    ]
    print(
        f"{run.path}: {account['status']} at step {account['last_step']}, loss {', '.join(losses)} nats per token"
    )
    if account["seconds"]:
        total = sum(account["seconds"].values())
        parts = ", ".join(f"{name.replace('_', '/')} {100 * s / total:.0f} %"
                          for name, s in account["seconds"].items() if s >= 0.005 * total)  # fmt: skip
        speed = f"{account['tokens_per_second'] or 0:,.0f} tokens/s on {account['threads']} thread(s)"
        print(f"{total:.0f} s, {speed}: {parts}")
    sizes = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in account["bytes"].items() if size)
    print(f"on disk: {account['steps']} recorded steps: {sizes}")
    if account["status"] == "killed":  # the end of a run that this process itself trained could not be written
        print(f"NOT everything of {run.path} is on the disk: what is says the last recorded step was "
              f"{account['last_step']}. Make room, then go on from there.", file=sys.stderr)
        raise typer.Exit(1)
    if account["status"] != "finished" and not account["cause"]:  # what stopped it would come out again
        print(f"Go on:  {_program()} train --resume out={run.path}")


def _program() -> str:
    """How this program is called from here: `make` installs it into a folder that is on nobody's PATH."""
    return ".venv/bin/gptviz" if Path(".venv/bin/gptviz").exists() else "gptviz"


# --- the doctor -------------------------------------------------------------------------------------------------


def _check_versions() -> str:
    names = ("torch", "numpy", "anywidget", "ipywidgets", "jupyterlab", "matplotlib")
    found = []
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return f"Python {platform.python_version()}, " + ", ".join(found)


def _check_memory() -> str:
    pages = (
        os.sysconf("SC_AVPHYS_PAGES")
        if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names
        else 0
    )
    free = pages * os.sysconf("SC_PAGE_SIZE") if pages else 0
    if free and free < 1e9:
        raise OSError(
            f"at least 1 GB of free memory is needed; {free / 1e9:.1f} GB is free. Close other programs."
        )
    return f"{free / 1e9:.1f} GB free" if free else "not known on this system"


def _check_cores() -> str:
    return f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"


def _check_widget() -> str:
    import numpy as np

    from gptviz.export import page_html
    from gptviz.views import attention_view
    from gptviz.widgets import Board

    board = Board([attention_view(np.tril(np.ones((1, 1, 2, 2))) / np.array([[1.0], [2.0]]), ["a", "b"])])
    size = len(page_html(board.payload(), "doctor"))
    board.close()
    return f"a board and its page of {size / 1e3:.0f} kB were made; look at one with `gptviz lab`"


def _check_writing() -> str:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        Path(folder, "probe").write_bytes(b"x" * 4096)
    return f"{Path.cwd()}, {shutil.disk_usage('.').free / 1e9:.1f} GB free"


def _check_training() -> str:
    from gptviz.training import TrainConfig
    from gptviz.training import train as train_model

    begin = time.perf_counter()
    config = TrainConfig(
        task="sort", n_layer=1, n_head=2, n_embd=16, max_iters=200, eval_interval=200, record=False
    )
    run = train_model(config, progress=False)
    account = run.summary()
    run.close()
    return f"200 steps of a small model in {time.perf_counter() - begin:.1f} s, loss {account['loss']:.2f}"


CHECKS = {
    "versions": _check_versions,
    "memory": _check_memory,
    "cores": _check_cores,
    "widget": _check_widget,
    "writing": _check_writing,
    "training": _check_training,
}
