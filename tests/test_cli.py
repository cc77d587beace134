"""The command line, as a person types it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gptviz.cli import _program as program
from gptviz.cli import app, parse_settings
from gptviz.loading import load
from gptviz.packaged import packaged_runs
from gptviz.runs import open_run
from gptviz.spelling import Shell, Spelling
from gptviz.trace import record
from gptviz.training import Recorder

SMALL = ["n_layer=1", "n_head=2", "n_embd=8", "threads=1", "eval_interval=5", "eval_iters=1"]


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def sorter(tmp_path):
    """A copy of the packaged run that a test may damage."""
    return Path(shutil.copytree(packaged_runs()["sorter"], tmp_path / "sorter"))


def test_inspect_prints_every_token_and_writes_what_is_asked(tmp_path):
    page, picture = tmp_path / "page.html", tmp_path / "heads.png"
    done = run("inspect", "sorter", "CBABBCABBBC", "--step", 600, "--html", page, "--png", picture)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].split() == ["pos", "token", "loss", "rank", "expected", "next", "(probability)"]
    expected = [line.split()[-2] for line in lines[6:12]]
    assert "".join(expected) == "ABBBCC"  # what the model expects after the prompt is the sorted letters
    assert "</html>" in page.read_text(encoding="utf-8")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_inspect_at_an_earlier_step_is_another_model():
    assert run("inspect", "sorter", "CBABBC", "--step", 0).output != run("inspect", "sorter", "CBABBC").output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["inspect", "sorter", "hello"], "'h'"),
        (["inspect", "sorter", ""], "empty"),
        (["inspect", "sorter", "ABCABCABCABCABC"], "reads at most 11 (block_size)"),
        (["inspect", "sorter", "ABC", "--step", "7"], "step must be a recorded one"),
        (["inspect", "no/such/run", "ABC"], "no/such/run"),
        (["export", "sorter", "picture.gif"], ".png, .svg, .pdf"),
        (["export", "sorter", "no/such/folder/report.html"], "folder"),
        (["train", "corpus"], "A setting must be field=value"),
        (["train", "max_iter=3"], "A setting must be field=value"),
        (["train", "max_iters=many"], "max_iters must be a number"),
        (["train", "bias=perhaps", "task=sort"], "bias must be true or false"),
        (["train", "record_steps=1,2", "task=sort"], "record_steps must be whole numbers with | between them"),
        (["train", "max_iters=3"], "Exactly one of corpus and task"),
        (["train", "--resume", "n_layer=2"], "--resume takes out=RUN"),
        (["verify", "no/such/run"], "run"),
        (["inspect", "runs/nope", "ABC"], "There is no file or folder 'runs/nope'"),
        (["inspect", "x" * 5000, "ABC"], "A path must be at most 4095 bytes long"),
        (["inspect", "sorter", "ABC", "--truncate", "up"], 'truncate must be "left" or "right", not'),
        (["inspect", "sort", "ABC"], "Did you mean the packaged run 'sorter'?"),
        (["train", "task=sort", "n_embd=1000000", "n_head=1", "out=none"], "this machine has not enough (1"),
    ],
)
def test_mistakes_are_one_sentence(words, sentence):
    done = run(*words)
    assert done.exit_code == 1
    assert sentence in done.output
    assert "Traceback" not in done.output
    assert not PYTHON.search(done.output), done.output


PYTHON = re.compile(r"gv\.|\brun\.(?!json)\w|open_run\(|\bNone\b|=['\"]")
"""What only Python takes. A sentence that has no other way says so: `n_head= in Python`."""


def test_a_sentence_spells_what_was_typed(tmp_path, sorter):
    said = run("inspect", "sorter", "ABC" * 9).output
    assert said.endswith("(block_size). Shorten it or pass --truncate left.\n")
    assert "pass truncate=" not in said
    with pytest.raises(ValueError, match='pass truncate="left"'):  # and Python hears Python again
        record(*load("sorter")[:1], list(range(3)) * 9)
    (tmp_path / "taken").touch()
    assert "Choose another --out, or make it" in run("demo", "--out", tmp_path / "taken" / "run", "--steps", 1).output
    assert "Choose another out=, or make it" in run("train", "task=sort", f"out={tmp_path / 'taken' / 'run'}").output
    taken = run("train", "task=sort", f"out={sorter}", *SMALL).output.replace("\n", "")
    assert f"go on with {program()} train --resume out={sorter}, or delete" in taken
    over = run("train", "--resume", f"out={sorter}").output
    assert not PYTHON.search(over), over
    (sorter / "ckpt" / "0000000600.safetensors").unlink()
    assert f"{program()} verify {sorter} lists every damaged file" in run("inspect", sorter, "ABC").output


def test_a_warning_is_told_once_in_a_sentence(sorter):
    journal = sorter / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: len(lines) // 2]))
    done = subprocess.run([sys.executable, "-m", "gptviz", "inspect", sorter, "ABC"], capture_output=True, text=True,
                          timeout=600)
    told = done.stderr.splitlines()
    assert told
    assert all(line.startswith("gptviz: ") for line in told), told
    assert len(told) == len(set(told))


def test_every_advice_has_a_spelling_for_the_shell():
    said = {name for name in vars(Spelling) if not name.startswith("_")}
    assert said <= set(vars(Shell))


def test_inspect_cuts_a_long_text_where_it_is_told_to():
    long = "ABC" + "CBABBCABBBC"
    left, right = (run("inspect", "sorter", long, "--truncate", side).output for side in ("left", "right"))
    assert left.startswith("3 of 14 tokens were cut off at the left.\n")
    assert left.split("\n", 1)[1] == run("inspect", "sorter", long[3:]).output
    assert right.split("\n", 1)[1] == run("inspect", "sorter", long[:11]).output


def test_export_writes_all_steps_or_one_picture(tmp_path):
    assert run("export", "sorter", tmp_path / "report.html").exit_code == 0
    assert (tmp_path / "report.html").stat().st_size > 50_000
    first, last = tmp_path / "first.svg", tmp_path / "last.svg"
    assert run("export", "sorter", first, "--step", 0).exit_code == 0
    assert run("export", "sorter", last, "--probe", 1).exit_code == 0
    assert first.read_bytes() != last.read_bytes()


@pytest.mark.parametrize("name", ["report.html", "heads.png"])
def test_a_run_without_a_step_is_one_sentence(tmp_path, name):
    model, tokenizer = load("sorter")
    Recorder(model, tokenizer, ["ABC"], tmp_path / "run").close()
    done = run("export", tmp_path / "run", tmp_path / name)
    assert done.exit_code == 1
    assert "run has no recorded step" in done.output


def test_verify_names_what_is_damaged(sorter):
    assert "every committed file is whole" in run("verify", sorter).output
    weights = sorted((sorter / "ckpt").glob("*.safetensors"))[1]
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(bytes(damaged))
    done = run("verify", sorter)
    assert done.exit_code == 1
    assert weights.name in done.output
    shutil.rmtree(sorter / "metrics")
    lost = run("verify", sorter).output
    assert "000000.jsonl is missing: the losses and other scalars in it are lost" in lost.replace("\n", "")


def test_train_and_go_on(tmp_path):
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question. " * 20, encoding="utf-8")
    out = tmp_path / "run"
    done = run("train", f"corpus={tmp_path / 'text.txt'}", f"out={out}", "max_iters=6", "block_size=8", *SMALL)
    assert done.exit_code == 0, done.output
    assert "finished at step 6" in done.output
    done = run("train", "--resume", f"out={out}", "max_iters=9")
    assert done.exit_code == 0, done.output
    assert open_run(out).steps[-1] == 9


def test_a_run_that_stopped_at_nan_is_not_offered_to_go_on(tmp_path):
    done = run("train", "task=sort", f"out={tmp_path / 'run'}", "learning_rate=1e30", "min_lr=0", "warmup_iters=0",
               "max_iters=30", "on_nan=stop", "n_layer=1", "n_head=1", "n_embd=8", "threads=1", "eval_iters=1")
    assert done.exit_code == 0, done.output
    assert ": stopped at step " in done.output
    assert "resume" not in done.output


def test_settings_have_the_types_of_their_fields():
    assert parse_settings(["bias=true", "learning_rate=1e-3", "threads=auto", "record_steps=0|5", "--max_iters=7"]) == {
        "bias": True,
        "learning_rate": 1e-3,
        "threads": "auto",
        "record_steps": (0, 5),
        "max_iters": 7,
    }


def test_doctor_finds_this_machine_fit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("doctor")
    assert done.exit_code == 0, done.output
    assert done.output.count("✓") == 6


def test_doctor_names_what_is_wrong(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    done = run("doctor")
    monkeypatch.chdir(tmp_path)
    assert done.exit_code == 1
    assert "✕ writing" in done.output


def test_demo_can_be_interrupted_gone_on_with_and_repeated(tmp_path):
    """The real program in a process of its own: Ctrl-C, again, and once more."""
    command = [sys.executable, "-m", "gptviz", "demo", "--steps", "12"]
    environment = dict(os.environ, PYTHONUNBUFFERED="1")
    started = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 600
    while not list((tmp_path / "runs/demo/ckpt").glob("*1.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    started.send_signal(signal.SIGINT)
    output, errors = (stream.decode() for stream in started.communicate(timeout=600))
    status = open_run(tmp_path / "runs/demo").status
    assert status in ("stopped", "interrupted", "finished"), (status, output, errors)
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1200)
    assert again.returncode == 0, again.stderr
    for name in ("report.html", "attention.png", "attention.svg"):
        assert (tmp_path / name).stat().st_size > 10_000
    for said in ("A sample:", "finished at step 12", "on disk:", "tokens/s"):
        assert said in again.stdout
    assert json.loads((tmp_path / "runs/demo/run.json").read_text())["train"]["max_iters"] == 12
